//! Tapes of every released format stay readable.

use super::*;
use crate::tools;

/// Written by format version 1: an append of one record, one of two with a checkpoint before them, one of an empty payload.
const VERSION_1: [&[u8]; 2] = [
    include_bytes!("../../tests/golden/v1/00000000000000000001.seg"),
    include_bytes!("../../tests/golden/v1/00000000000000000001.zst"),
];

fn golden(name: &str, bytes: &[u8]) -> Bench {
    let bench = Bench::new();
    std::fs::create_dir_all(&bench.dir).unwrap();
    std::fs::write(bench.dir.join(name), bytes).unwrap();
    bench
}

fn write_golden(dir: &Path) {
    let mut bench = Bench::new();
    bench.options.compress = true;
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    let entries = [Entry { ts_recv: 1_002, payload: b"two" }, Entry { ts_recv: 1_003, payload: "drei ✓".as_bytes() }];
    log.checkpoint_due = true;
    log.append(&entries, &mut || vec![b"state".to_vec()]).unwrap();
    append(&mut log, &[""]);
    log.close().unwrap();
    std::fs::create_dir_all(dir).unwrap();
    std::fs::copy(bench.segment_path(1), dir.join(crate::segment::file_name(1))).unwrap();
    // The next opening compresses it.
    drop(bench.open());
    let packed = crate::segment::packed_name(1);
    std::fs::copy(bench.dir.join(&packed), dir.join(&packed)).unwrap();
}

#[test]
fn tapes_of_version_1_are_read() {
    // Not with the other golden files: a released format is written once.
    if std::env::var_os("TAPEDECK_WRITE_GOLDEN_TAPE").is_some() {
        write_golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1"));
    }
    for (name, bytes) in [crate::segment::file_name(1), crate::segment::packed_name(1)].iter().zip(VERSION_1) {
        let bench = golden(name, bytes);
        let expected = records(1, &["one", "two", "drei ✓", ""]);
        assert_eq!(bench.read(Start::Begin), expected, "{name}");
        let mut reader = bench.reader(Start::Begin);
        drain(&mut reader);
        assert_eq!(reader.checkpoint(), [b"state".to_vec()], "{name}");
        assert!(tools::verify(&bench.storage, &bench.dir, &mut |_| {}).unwrap().is_clean(), "{name}");
        let (mut log, opening) = bench.open();
        assert_eq!((opening.last_seq, opening.last_ts_recv, opening.incarnation), (4, Some(1_004), 2), "{name}");
        append(&mut log, &["more"]);
        log.commit().unwrap();
        assert_eq!(bench.read(Start::Begin), records(1, &["one", "two", "drei ✓", "", "more"]), "{name}");
    }
}
