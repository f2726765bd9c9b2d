use std::sync::Arc;

use tapedeck_market::{Flags, Gap, GapCause, UnixNanos};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Log, Options, Start};

use super::*;

fn event(body: Body) -> Event {
    Event {
        source: "s".into(),
        venue: "v".into(),
        symbol: "BTC/USD".into(),
        ts_event: None,
        ts_recv: UnixNanos(1),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn level(price: &str, size: &str) -> Level {
    Level { price: price.parse().unwrap(), size: size.parse().unwrap(), orders: None }
}

fn change(bids: &[(&str, &str)]) -> BookUpdate {
    BookUpdate { bids: bids.iter().map(|(price, size)| level(price, size)).collect(), ..BookUpdate::default() }
}

fn snapshot(bids: &[(&str, &str)]) -> BookUpdate {
    BookUpdate { snapshot: true, depth: Some(10), ..change(bids) }
}

fn gap(symbol: &str, channel: &str, state: GapState) -> Event {
    let gap = Gap {
        id: 1,
        state,
        cause: GapCause::Checksum,
        channel: channel.into(),
        from: UnixNanos(1),
        to: None,
        missing: None,
        detail: "".into(),
    };
    Event { symbol: symbol.into(), ..event(Body::Gap(Box::new(gap))) }
}

/// Prices of the bids that are given.
fn bids(given: Option<BookUpdate>) -> Option<Vec<String>> {
    given.map(|update| update.bids.iter().map(|level| level.price.to_string()).collect())
}

fn follow(books: &mut Books, update: BookUpdate) -> Option<Vec<String>> {
    bids(books.follow(&event(Body::Book(update))))
}

#[test]
fn the_best_levels_are_given_when_they_change_and_only_then() {
    let mut books = Books::of(2);
    assert_eq!(follow(&mut books, change(&[("9", "1")])), None, "no snapshot yet");
    let first = books.follow(&event(Body::Book(snapshot(&[("5", "1"), ("4", "1"), ("3", "1")])))).unwrap();
    assert_eq!((first.snapshot, first.depth, first.bids.len()), (true, Some(2), 2), "whole by itself");
    assert_eq!(follow(&mut books, change(&[("3", "2")])), None, "below the best two");
    assert_eq!(follow(&mut books, change(&[("4", "0")])).unwrap(), ["5", "3"]);
    assert_eq!(follow(&mut books, change(&[("3", "0")])).unwrap(), ["5"]);
    let shallow = BookUpdate { depth: Some(1), ..snapshot(&[("5", "1")]) };
    let given = books.follow(&event(Body::Book(shallow))).unwrap();
    assert_eq!(given.depth, Some(1), "what lies deeper than the subscription is not known");
}

#[test]
fn a_gap_makes_a_book_unknown_until_its_snapshot() {
    for opens in
        [gap("BTC/USD", "book", GapState::Open), gap("BTC/USD", "", GapState::Open), gap("", "", GapState::Open)]
    {
        let mut books = Books::of(5);
        follow(&mut books, snapshot(&[("5", "1")]));
        books.follow(&gap("ETH/USD", "book", GapState::Open));
        books.follow(&gap("BTC/USD", "trade", GapState::Open));
        books.follow(&gap("BTC/USD", "book", GapState::Closed));
        assert!(follow(&mut books, change(&[("6", "1")])).is_some(), "none of these is a gap of this book");
        books.follow(&opens);
        assert_eq!(follow(&mut books, change(&[("7", "1")])), None);
        assert_eq!(follow(&mut books, snapshot(&[("8", "1")])).unwrap(), ["8"]);
    }
}

#[test]
fn a_book_that_is_not_the_venues_is_never_given() {
    let kraken = |books: &mut Books, update: BookUpdate| {
        bids(books.follow(&Event { venue: "kraken".into(), ..event(Body::Book(update)) }))
    };
    let mut sum = Book::new(Some(10));
    let mut books = Books::of(5);
    sum.apply(&snapshot(&[("5.0", "1.0")]));
    let checked = |update, sum: &Book| BookUpdate { checksum: Some(sum.kraken_checksum()), ..update };
    assert!(kraken(&mut books, checked(snapshot(&[("5.0", "1.0")]), &sum)).is_some());
    let wrong = BookUpdate { checksum: Some(1), ..change(&[("6.0", "1.0")]) };
    assert_eq!(kraken(&mut books, wrong), None);
    sum.apply(&change(&[("6.0", "1.0")]));
    // Nothing changes, but what is there was not said yet.
    let again = checked(change(&[("4.0", "0")]), &sum);
    assert_eq!(kraken(&mut books, again.clone()).unwrap(), ["6.0", "5.0"]);
    assert_eq!(kraken(&mut books, again), None);
}

#[test]
fn what_was_known_before_a_seq_is_read_from_its_segment() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { allocation: Allocation::None, segment_bytes: 64 << 10, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(Disk), home.path(), options).unwrap();
    // As the recorder does: a segment begins with the books as they stand.
    let mut whole = Book::new(Some(10));
    let encoded = |event: &Event| {
        let mut payload = Vec::new();
        wire::encode(event, &mut payload);
        payload
    };
    let mut expected = Vec::new();
    let mut straight = Books::of(3);
    for n in 0..3_000_u32 {
        let update = match n {
            0 => snapshot(&[("100", "1")]),
            2_000 => BookUpdate { snapshot: true, ..whole.snapshot() },
            _ => change(&[(&(90 + n % 20).to_string(), &(n % 3).to_string())]),
        };
        let state = encoded(&event(Body::Book(whole.snapshot())));
        whole.apply(&update);
        let event = event(Body::Book(update));
        expected.push(straight.follow(&event));
        let payload = encoded(&event);
        log.append(&[Entry { ts_recv: 1, payload: &payload }], &mut || {
            if n == 0 { Vec::new() } else { vec![state.clone()] }
        })
        .unwrap();
    }
    log.sync().unwrap();
    for from in [1, 2, 700, 1_999, 2_000, 2_001, 2_999, 3_000] {
        let open = |start| Reader::open_with(Arc::new(Disk), home.path(), start, log.tail()).unwrap();
        let mut books = Books::before(3, open(Start::Segment(from)), from).unwrap();
        let mut reader = open(Start::Seq(from));
        while let Some(Item::Record(raw)) = reader.next().unwrap() {
            let given = books.follow(&wire::decode(raw.payload).unwrap());
            assert_eq!(given, expected[raw.seq as usize - 1], "{} from {from}", raw.seq);
        }
    }
    assert!(std::fs::read_dir(home.path()).unwrap().count() > 3, "several segments");
}
