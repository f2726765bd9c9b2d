//! First loads, and second ones that must write nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Rig;
use super::stocks::{ALL, CORRELATIONS, INSIGHTS, STOCKS, TABLES, VALUATIONS, fill};
use crate::support::skipped;

#[test]
fn forty_thousand_records_are_there_once_every_bad_one_is_a_dead_letter_and_a_second_run_writes_nothing() {
    let Some(rig) = Rig::new(TABLES) else { return };
    let bad = fill(&rig);
    assert!((STOCKS / 10..STOCKS / 6).contains(&bad), "{bad}");
    let none = rig.try_sync(&["run"]);
    let said = String::from_utf8_lossy(&none.stdout).into_owned();
    assert!(!none.status.success() && said.contains("there is no collection `stock_data`"), "{said}");
    rig.sync(&["init"]);
    rig.sync(&["check"]);
    let first = rig.json(&["run"]);
    let good = ALL - bad;
    let statistics = &first["statistics"];
    assert_eq!(statistics["total_records_processed"], ALL);
    assert_eq!(statistics["records_synced"], good);
    assert_eq!(statistics["records_failed"], bad);
    assert_eq!(first["collections"]["stock_data"]["synced"], STOCKS - bad);
    let there = [
        ("stock_data", STOCKS - bad),
        ("ai_insights", INSIGHTS),
        ("market_correlations", CORRELATIONS),
        ("valuation_analysis", VALUATIONS),
    ];
    for (collection, count) in there {
        assert_eq!(rig.count(collection), count, "{collection}");
    }
    rig.sync(&["verify"]);
    let dead = rig.sync(&["dead", "--json", "--limit", "100000"]);
    assert_eq!(dead.lines().count() as u64, bad);
    let reasons = ["open is not above 0: 0", "close is required: NULL", "volume is below 0: -1", "not high >= low"];
    for reason in reasons {
        assert!(dead.contains(reason), "{reason}");
    }
    let status = rig.json(&["status"]);
    let rate = status["statistics"]["success_rate"].as_f64().unwrap();
    assert!((rate - good as f64 * 100.0 / ALL as f64).abs() < 1e-9, "rejects count: {status}");
    assert_eq!(status["statistics"]["is_running"], false);

    let batches = rig.batches(good.div_ceil(200));
    let second = rig.json(&["run"]);
    assert_eq!(second["statistics"]["total_records_processed"], 0, "{second}");
    // All of it read again, because nobody knows where something happened: not one is sent.
    rig.run("UPDATE wig80_historical SET rsi = rsi WHERE symbol = 'S01'");
    let third = rig.json(&["run"]);
    let stocks = &third["collections"]["stock_data"];
    assert_eq!((&stocks["total"], &stocks["sent"]), (&json!(STOCKS), &json!(0)), "{third}");
    assert_eq!(rig.batches(batches), batches, "by the target's own log");
}

type Day = (String, String, [f64; 4], i64);

/// Every row of the Warsaw stock exchange, equal to the last digit.
#[test]
fn daily_prices_of_the_stock_exchange_are_equal_to_the_last_digit() {
    let Some(fixtures) = std::env::var_os("TAPEDECK_FIXTURES") else {
        skipped("TAPEDECK_FIXTURES is not set: no recorded prices");
        return;
    };
    let mut table = "[sync.table.gpw]\n[sync.table.gpw.columns]\nts = { from = \"ts\", as = \"date\" }\n".to_owned();
    for name in ["symbol", "open", "high", "low", "close", "volume"] {
        table.push_str(&format!("{name} = \"{name}\"\n"));
    }
    let Some(rig) = Rig::new(&table) else { return };
    rig.run(
        "CREATE TABLE gpw (ts TIMESTAMP, symbol SYMBOL, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume LONG) \
         TIMESTAMP(ts) PARTITION BY YEAR WAL DEDUP UPSERT KEYS(ts, symbol)",
    );
    let mut wanted: Vec<Day> = Vec::new();
    for file in std::fs::read_dir(Path::new(&fixtures).join("gpw/daily")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(symbol) = name.strip_suffix("_d.csv") else { continue };
        let mut lines = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.trim().split(',').collect();
            let [day, open, high, low, close, volume] = fields[..] else { panic!("{line}") };
            let ns = day.parse::<jiff::civil::Date>().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
            let ns = ns.as_nanosecond();
            lines.push_str(&format!(
                "gpw,symbol={symbol} open={open},high={high},low={low},close={close},volume={volume}i {ns}\n"
            ));
            let prices = [open, high, low, close].map(|text| text.parse::<f64>().unwrap());
            wanted.push((symbol.to_owned(), format!("{day} 00:00:00.000Z"), prices, volume.parse().unwrap()));
        }
        rig.write(&lines);
    }
    assert!(wanted.len() >= 11_000, "{}", wanted.len());
    rig.sync(&["init"]);
    assert_eq!(rig.json(&["run"])["statistics"]["records_synced"], wanted.len());
    let order = |one: &Day, other: &Day| (&one.0, &one.1).cmp(&(&other.0, &other.1));
    wanted.sort_by(order);
    let mut symbols: Vec<String> = wanted.iter().map(|row| row.0.clone()).collect();
    symbols.dedup();
    let mut found: Vec<Day> = Vec::new();
    for symbol in symbols {
        for record in rig.records("gpw", &format!("symbol='{symbol}'")) {
            let prices = ["open", "high", "low", "close"].map(|name| record[name].as_f64().unwrap());
            let ts = record["ts"].as_str().unwrap().to_owned();
            found.push((symbol.clone(), ts, prices, record["volume"].as_i64().unwrap()));
        }
    }
    found.sort_by(order);
    assert_eq!(found.len(), wanted.len());
    assert!(found == wanted, "a price came over as another one");
    rig.sync(&["verify"]);
    assert_eq!(rig.json(&["run"])["statistics"]["total_records_processed"], 0);
}

/// What a person sees at a terminal: how many of how many, how fast, how long still.
#[test]
fn a_first_load_at_a_terminal_shows_a_bar_that_comes_to_its_end() {
    let Some(rig) = Rig::new("[sync.table.prices]\n") else { return };
    rig.run("CREATE TABLE prices (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, symbol)");
    let row = |n: u64| format!("prices,symbol=S price={n}.5 {}\n", 1_767_312_000_000_000_000 + n * 1_000_000_000);
    rig.write(&(0..6_000).map(row).collect::<String>());
    rig.sync(&["init"]);
    // A terminal of its own, as wide as people have them.
    let command = format!("stty cols 100; {:?} sync run -c {:?}", env!("CARGO_BIN_EXE_tapedeck"), rig.config());
    let seen = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    let shares: Vec<u64> = seen
        .split("/6,000")
        .filter_map(|before| before.rsplit([' ', '\u{2591}', 'm']).next()?.replace(',', "").parse().ok())
        .collect();
    assert!(
        shares.len() >= 2 && shares.is_sorted() && shares.iter().any(|share| (1..6_000).contains(share)),
        "{seen:?}"
    );
    assert!(seen.contains("/s "), "{seen:?}");
    assert_eq!(rig.count("prices"), 6_000);
}
