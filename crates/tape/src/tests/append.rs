use super::*;

#[test]
fn what_is_committed_is_read_back_in_order() {
    let bench = Bench::new().with(&["one", "two", "three"]);
    assert_eq!(bench.read(Start::Begin), records(1, &["one", "two", "three"]));
    assert_eq!(bench.read(Start::Seq(2)), records(2, &["two", "three"]));
    assert_eq!(bench.read(Start::Time(1_003)), records(3, &["three"]));
    assert_eq!(bench.read(Start::End), []);
}

#[test]
fn readers_see_only_what_is_committed() {
    let bench = Bench::new();
    let (mut log, opening) = bench.open();
    assert!(opening.new);
    let mut here = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    let mut there = bench.reader(Start::Begin);
    append(&mut log, &["one"]);
    assert_eq!((drain(&mut here), drain(&mut there)), (vec![], vec![]));
    assert_eq!(log.commit().unwrap(), 1);
    let one = records(1, &["one"]);
    assert_eq!((drain(&mut here), drain(&mut there)), (one.clone(), one));
}

#[test]
fn a_tape_goes_on_where_it_was_over_any_number_of_openings() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    for nth in 0..5_u64 {
        let (mut log, opening) = bench.open();
        assert_eq!((opening.incarnation, opening.last_seq, opening.torn), (nth + 1, nth, None));
        assert_eq!(opening.last_ts_recv, (nth > 0).then_some(1_000 + nth as i64));
        let text = nth.to_string();
        append(&mut log, &[&text]);
        log.commit().unwrap();
        expected.push(Got::Record(nth + 1, text));
        if nth % 2 == 0 {
            log.close().unwrap();
        }
    }
    assert_eq!(bench.read(Start::Begin), expected);
}

#[test]
fn a_log_rolls_from_segment_to_segment() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    let text = "x".repeat(1000);
    for _ in 0..500 {
        append(&mut log, &[&text]);
    }
    log.commit().unwrap();
    let mut reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    let got = drain(&mut reader);
    assert_eq!(got.len(), 500);
    assert!(got.iter().enumerate().all(|(nth, got)| *got == Got::Record(nth as u64 + 1, text.clone())));
    assert!(log.segment.id > 7, "{}", log.segment.id);
}
