//! What a trade costs.

use tapedeck_archive::{Table, batch, to_parquet};
use tapedeck_market::*;

use crate::market;
use crate::rig::NOON;

/// The target of the bench, on files of one range: larger ones cost less.
const BYTES_A_TRADE_MAX: f64 = 16.0;

#[test]
fn a_trade_costs_no_more_than_sixteen_bytes() {
    let Some(path) = market::recording() else {
        crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
        return;
    };
    let tape_id = Uuid::from_u128(0x1f0c_9a52_7f1e_4d2b_8c11_5a0e_66b3_94d7);
    let events = market::trades(&path, 100_000, 200, NOON, 7);
    let records: Vec<Record> = events.into_iter().zip(1..).map(|(event, seq)| Record { seq, event }).collect();
    let rows = batch(Table::Trades, tape_id, &records);
    let bytes = to_parquet(Table::Trades, &[rows], tape_id, (1, 100_000)).unwrap();
    if let Some(path) = std::env::var_os("TAPEDECK_KEEP_PARQUET") {
        std::fs::write(path, &bytes).unwrap();
    }
    let each = bytes.len() as f64 / records.len() as f64;
    println!("{each:.2} bytes a trade");
    assert!(each <= BYTES_A_TRADE_MAX, "{each:.2} bytes a trade");
}
