//! What the engine answers, and that it answers of one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tapedeck_store::limits::Limits;

use crate::support::{Growing, ask, engine, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_tail_are_one_table() {
    let (engine, _spill) = engine(Growing::with(3, 1_000), Limits::default());
    for (sql, rows) in [
        ("select count(*) from trades", "4000"),
        ("select count(*), min(seq), max(seq) from trades where symbol = 'BTC/USD'", "1000|4|4000"),
        ("select price, size, symbol, id from trades where seq = 1", "62001.0100000000|0.0000000200|ETH/USD|1"),
        ("select seq from trades where price = 62001.01 order by seq limit 2", "1;1001"),
        ("select count(*) from quotes", "0"),
        ("select sum(price) from trades where seq <= 2", "124010.0300000000"),
        ("select ts_recv from trades where seq = 3", "2026-07-19T12:00:00.030"),
    ] {
        assert_eq!(shown(&ask(&engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))), rows, "{sql}");
    }
}

/// What a division of decimals needs in between has more than 38 digits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ratio_of_large_sums_is_a_number() {
    let (engine, _spill) = engine(Growing::with(3, 1_000), Limits::default());
    for (sql, rows) in [
        ("select sum(price * 1000000000) / sum(price) from trades".to_owned(), "1000000000.000000000000000000"),
        ("select sum(price * 1000000000) / sum(size) > 0 from trades".to_owned(), "true"),
        ("select 1 / 64000.5".to_owned(), "0.000015624877930641"),
        ("select 7 / 2".to_owned(), "3"),
        ("select 7.0 / 2, 7::double / 2".to_owned(), "3.500000000000000000|3.5"),
        ("select -price / 3 from trades where seq = 1".to_owned(), "-20667.003333333333333333"),
        ("select price / null from trades where seq = 1".to_owned(), ""),
    ] {
        assert_eq!(shown(&ask(&engine, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))), rows, "{sql}");
    }
    let error = ask(&engine, "select price / 0 from trades").await.unwrap_err();
    assert!(error.to_string().contains("Divide by zero"), "{error}");
    let grouped =
        "select symbol, sum(size * price) / sum(size) as vwap from trades group by symbol order by vwap / 2 limit 1";
    assert_eq!(shown(&ask(&engine, grouped).await.unwrap()).split('|').count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_helper_functions_agree_with_plain_sql() {
    let (engine, _spill) = engine(Growing::with(2, 4_500), Limits::default());
    let plain = "select date_bin(interval '1 minute', ts_event) as start, first_value(price order by seq), \
        max(price), min(price), last_value(price order by seq), sum(size)::numeric(28,10), count(*) \
        from trades where symbol = 'BTC/USD' group by 1 order by 1";
    let plain = shown(&ask(&engine, plain).await.unwrap());
    assert_eq!(plain.split(';').count(), 3, "{plain}");
    for helped in [
        "select time_bucket('1 minute', ts_event) as start, first(price, seq), max(price), min(price), \
         last(price, seq), sum(size)::numeric(28,10), count(*) from trades where symbol = 'BTC/USD' group by 1 order by 1",
        "select start, open, high, low, close, volume, trades from ohlc('BTC/USD', '1m') order by start",
        "select start, open, high, low, close, volume, trades \
         from ohlc('BTC/USD', '1 minute', '2026-07-19', '2026-07-20') order by start",
    ] {
        let rows = ask(&engine, helped).await.unwrap_or_else(|error| panic!("{helped}: {error}"));
        assert_eq!(shown(&rows), plain, "{helped}");
    }
    let from = "select count(*), min(start) from ohlc('BTC/USD', '1m', '2026-07-19T12:01:00')";
    assert_eq!(shown(&ask(&engine, from).await.unwrap()), "2|2026-07-19T12:01:00");
    let vwap = "select vwap from ohlc('BTC/USD', '1d')";
    let by_hand = "select (sum(price * size) / sum(size))::numeric(28,10) from trades where symbol = 'BTC/USD'";
    assert_eq!(shown(&ask(&engine, vwap).await.unwrap()), shown(&ask(&engine, by_hand).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_scans_of_a_statement_see_one_cut_while_the_store_grows() {
    let store = Growing::with(1, 500);
    let (engine, _spill) = engine(Arc::clone(&store) as _, Limits::default());
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        move || {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) && rounds < 4_000 {
                store.grow(7);
                rounds += 1;
                if rounds % 100 == 0 {
                    store.publish();
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let sql = "select (select count(*) from trades) - (select max(seq) from trades), a.n - b.n from \
        (select count(seq) as n from trades) a, (select max(seq) as n from trades where price > 0) b";
    let before = store.rows();
    for round in 0..120 {
        let rows = shown(&ask(&engine, sql).await.unwrap());
        assert_eq!(rows, "0|0", "round {round}");
    }
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(store.rows() > before + 100, "the store did not grow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_wanted_row_is_not_opened() {
    let store = Growing::with(2, 100);
    let (engine, _spill) = engine(Arc::clone(&store) as _, Limits::default());
    // Whoever opens a file now fails.
    for entry in std::fs::read_dir(store.dir()).unwrap() {
        std::fs::write(entry.unwrap().path(), "nothing").unwrap();
    }
    assert!(ask(&engine, "select seq from trades where symbol = 'BTC/USD'").await.is_err());
    let rows = ask(&engine, "select count(*) from trades where symbol = 'XRP/USD'").await.unwrap();
    assert_eq!(shown(&rows), "0");
    assert_eq!(shown(&ask(&engine, "select count(*) from trades").await.unwrap()), "300", "from the lists alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_make_much_of_little_is_refused() {
    let (engine, _spill) = engine(Growing::with(1, 100), Limits::default());
    for sql in [
        "select length(repeat('a', 1500000000))",
        "select length(lpad('a', 1500000000, 'b'))",
        "select length(rpad('a', 1500000000))",
        "select length(repeat(symbol, 100000000)) from trades",
        "select length(replace(repeat('a', 1000000), 'a', repeat('b', 1000000)))",
        "select array_length(array_repeat(1, 1000000000))",
    ] {
        let error = ask(&engine, sql).await.unwrap_err().to_string();
        assert!(error.contains("at most 1048576 a value"), "{sql}: {error}");
    }
    assert_eq!(shown(&ask(&engine, "select length(repeat('ab', 1000))").await.unwrap()), "2000");
    assert_eq!(shown(&ask(&engine, "select lpad('7', 3, '0')").await.unwrap()), "007");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_spill_have_an_end_and_the_engine_goes_on() {
    let limits = Limits { memory_bytes: 4 << 20, spill_bytes: 1 << 20, ..Limits::default() };
    let (engine, _spill) = engine(Growing::with(4, 50_000), limits);
    let error =
        ask(&engine, "select a.seq, b.id from trades a join trades b on a.seq = b.seq order by b.id, a.price").await;
    let error = error.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("resources exhausted"), "{error}");
    assert_eq!(shown(&ask(&engine, "select count(*) from trades").await.unwrap()), "250000");
}
