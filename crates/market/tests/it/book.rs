use std::collections::BTreeMap;

use proptest::prelude::*;
use tapedeck_market::{Book, BookUpdate, Decimal, Level, Price, Size};

fn level(price: &str, size: &str) -> Level {
    Level { price: price.parse().expect("a price"), size: size.parse().expect("a size"), orders: None }
}

fn delta(bids: &[(&str, &str)], asks: &[(&str, &str)]) -> BookUpdate {
    let levels = |side: &[(&str, &str)]| side.iter().map(|(price, size)| level(price, size)).collect();
    BookUpdate { bids: levels(bids), asks: levels(asks), ..BookUpdate::default() }
}

fn prices(side: &[Level]) -> Vec<String> {
    side.iter().map(|level| level.price.to_string()).collect()
}

#[test]
fn sides_are_best_first() {
    let mut book = Book::new(None);
    book.apply(&delta(&[("9", "1"), ("11", "1"), ("10", "1")], &[("14", "1"), ("12", "1"), ("13", "1")]));
    assert_eq!(prices(book.bids()), ["11", "10", "9"]);
    assert_eq!(prices(book.asks()), ["12", "13", "14"]);
    assert_eq!(book.best(), (Some(&level("11", "1")), Some(&level("12", "1"))));
}

#[test]
fn the_same_price_twice_counts_in_the_order_sent() {
    let mut book = Book::new(None);
    book.apply(&delta(&[("10.0", "1"), ("10.0", "2")], &[("11.0", "3"), ("11.0", "0.0")]));
    assert_eq!(book.bids(), [level("10.0", "2")]);
    assert!(book.asks().is_empty(), "{:?}", book.asks());
}

#[test]
fn a_level_beyond_the_depth_counts_until_the_update_is_over() {
    let mut book = Book::new(Some(2));
    book.apply(&delta(&[("10", "1"), ("9", "1")], &[]));
    book.apply(&delta(&[("8", "1"), ("10", "0")], &[]));
    assert_eq!(prices(book.bids()), ["9", "8"]);
    book.apply(&delta(&[("7", "1")], &[]));
    assert_eq!(prices(book.bids()), ["9", "8"], "7 lies beyond the depth");
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut book = Book::new(Some(10));
    book.apply(&delta(&[("10", "1")], &[]));
    book.apply(&delta(&[("9", "0.00000000")], &[("11", "0")]));
    assert_eq!(book.bids(), [level("10", "1")]);
    assert!(book.asks().is_empty());
}

#[test]
fn a_snapshot_replaces_everything_and_may_set_the_depth() {
    let mut book = Book::new(None);
    book.apply(&delta(&[("10", "1")], &[("11", "1")]));
    let snapshot = BookUpdate { snapshot: true, depth: Some(1), ..delta(&[("9", "1"), ("8", "1")], &[]) };
    book.apply(&snapshot);
    assert_eq!(prices(book.bids()), ["9"]);
    assert!(book.asks().is_empty());
    assert_eq!(book.depth(), Some(1));

    let mut copy = Book::default();
    copy.apply(&book.snapshot());
    assert_eq!(copy, book);
}

#[test]
fn a_price_with_other_digits_is_the_same_level_with_the_new_digits() {
    let mut book = Book::new(None);
    book.apply(&delta(&[("10.0", "1")], &[]));
    book.apply(&delta(&[("10.00", "1.0")], &[]));
    assert_eq!(prices(book.bids()), ["10.00"]);
}

#[test]
fn a_bid_at_an_ask_crosses_the_book() {
    let mut book = Book::new(None);
    book.apply(&delta(&[("10", "1")], &[("10.1", "1")]));
    assert!(!book.is_crossed());
    book.apply(&delta(&[("10.1", "1")], &[]));
    assert!(book.is_crossed());
}

#[test]
fn the_checksum_takes_asks_then_bids_without_points_and_leading_zeros() {
    let mut book = Book::new(Some(10));
    book.apply(&delta(
        &[("0.05000", "0.00000500"), ("0.04995", "3.00000000")],
        &[("0.05005", "0.00000500"), ("0.05010", "0.00000500"), ("0.05015", "12.0"), ("100", "7.50")],
    ));
    // CRC-32 of that text by zlib.
    assert_eq!(checksum_text(&book), "50055005010500501512010075050005004995300000000");
    assert_eq!(book.kraken_checksum(), 3_632_686_336);
}

#[test]
fn an_empty_book_has_the_checksum_of_nothing() {
    assert_eq!(Book::default().kraken_checksum(), crc32fast::hash(b""));
}

/// The text that Kraken's rule describes, by way of text alone.
fn checksum_text(book: &Book) -> String {
    let mut text = String::new();
    for level in book.asks().iter().take(10).chain(book.bids().iter().take(10)) {
        for number in [level.price.to_string(), level.size.to_string()] {
            text.push_str(number.replace('.', "").trim_start_matches('0'));
        }
    }
    text
}

/// A book without a thought for speed: maps by price, cut after each update.
#[derive(Default)]
struct Naive {
    bids: BTreeMap<Decimal, Level>,
    asks: BTreeMap<Decimal, Level>,
}

impl Naive {
    fn apply(&mut self, update: &BookUpdate, depth: Option<usize>) {
        if update.snapshot {
            *self = Naive::default();
        }
        for (side, levels) in [(&mut self.bids, &update.bids), (&mut self.asks, &update.asks)] {
            for level in levels {
                side.remove(&level.price.0);
                if !level.size.0.is_zero() {
                    side.insert(level.price.0, *level);
                }
            }
        }
        while depth.is_some_and(|depth| self.bids.len() > depth) {
            self.bids.pop_first();
        }
        while depth.is_some_and(|depth| self.asks.len() > depth) {
            self.asks.pop_last();
        }
    }
}

/// Few prices, written with one to three digits behind the point, so that they meet often.
fn levels() -> impl Strategy<Value = Vec<Level>> {
    let level = (1_i64..40, 0_u8..3, prop_oneof![Just(0_i64), 1_i64..1_000]).prop_map(|(price, zeros, size)| Level {
        price: Price(Decimal::new(price * 10_i64.pow(u32::from(zeros)), 1 + zeros).expect("a price")),
        size: Size(Decimal::new(size, 4).expect("a size")),
        orders: None,
    });
    proptest::collection::vec(level, 0..12)
}

fn update() -> impl Strategy<Value = BookUpdate> {
    (proptest::bool::weighted(0.1), levels(), levels()).prop_map(|(snapshot, bids, asks)| BookUpdate {
        snapshot,
        bids,
        asks,
        ..BookUpdate::default()
    })
}

proptest! {
    #[test]
    fn a_naive_book_agrees(
        depth in proptest::option::of(1_usize..15),
        updates in proptest::collection::vec(update(), 1..40),
    ) {
        let mut book = Book::new(depth);
        let mut naive = Naive::default();
        for update in &updates {
            book.apply(update);
            naive.apply(update, depth);
            let bids: Vec<&Level> = naive.bids.values().rev().collect();
            let asks: Vec<&Level> = naive.asks.values().collect();
            prop_assert_eq!(format!("{:?}", book.bids()), format!("{:?}", bids));
            prop_assert_eq!(format!("{:?}", book.asks()), format!("{:?}", asks));
            prop_assert_eq!(book.kraken_checksum(), crc32fast::hash(checksum_text(&book).as_bytes()));
            for level in book.bids() {
                prop_assert_eq!(book.bid_at(level.price), Some(level));
            }
            for level in book.asks() {
                prop_assert_eq!(book.ask_at(level.price), Some(level));
            }
        }
    }
}
