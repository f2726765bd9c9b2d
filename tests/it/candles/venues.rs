//! Against candles that venues, and other programs, made of the same ticks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tapedeck_market::{Body, Candle, CandleInput, Decimal, Record, Ticker};

use super::{Bucket, HOUR, MINUTE, SECOND, event, latest, make, numbered, quote, recipe, trade};

/// The text of a recording; `None`, said aloud, where there are none.
pub(crate) fn recording(name: &str) -> Option<String> {
    use std::io::Read as _;
    let Some(folder) = std::env::var_os("TAPEDECK_FIXTURES") else {
        crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
        return None;
    };
    let bytes = std::fs::read(PathBuf::from(folder).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    if !name.ends_with(".gz") {
        return Some(String::from_utf8(bytes).unwrap());
    }
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    Some(text)
}

/// The last statements of one interval, by start.
fn of_interval(all: &BTreeMap<Bucket, Candle>, symbol: &str, interval_ns: i64) -> BTreeMap<i64, Candle> {
    let wanted = |((name, interval, start), candle): (&Bucket, &Candle)| {
        (name == symbol && *interval == interval_ns).then(|| (*start, candle.clone()))
    };
    all.iter().filter_map(wanted).collect()
}

fn prices(candle: &Candle) -> [Decimal; 4] {
    [candle.open, candle.high, candle.low, candle.close].map(|price| price.0)
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Quotes of a day: ms since midnight, perhaps with a fraction, bid, ask.
fn oanda_quotes(text: &str, midnight: i64, symbol: &str) -> Vec<Record> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let (whole, fraction) = fields[0].split_once('.').unwrap_or((fields[0], ""));
        let fraction: i64 = format!("{fraction:0<6}")[..6].parse().unwrap();
        let ts = midnight + whole.parse::<i64>().unwrap() * 1_000_000 + fraction;
        event("oanda", symbol, ts, ts + 60_000_000, quote(fields[1], fields[2]))
    };
    numbered(text.lines().filter(|line| !line.is_empty()).map(row).collect())
}

/// Makes candles of the records of `symbol`, and compares them with the vendor's own of a file's day; how many, and how
/// many of them minutes.
pub(crate) fn same_as_oandas_own(records: &[Record], symbol: &str, file: &str, day: &str) -> (usize, usize) {
    let midnight: jiff::civil::Date = day.parse().unwrap();
    let midnight = midnight.to_zoned(TimeZone::UTC).unwrap().timestamp().as_nanosecond();
    let midnight = i64::try_from(midnight).unwrap();
    let (mut compared, mut minutes) = (0, 0);
    let of = |input| latest(&make(&recipe(&[SECOND, MINUTE], input, "utc"), records));
    let (bids, asks) = (of(CandleInput::Bid), of(CandleInput::Ask));
    for (interval_ns, name) in [(SECOND, "second"), (MINUTE, "minute")] {
        let bids = of_interval(&bids, symbol, interval_ns);
        let asks = of_interval(&asks, symbol, interval_ns);
        let vendor = recording(&format!("oanda/ticks/oanda_{file}_{name}_{day}.csv.gz")).unwrap();
        let mut rows = 0;
        for line in vendor.lines().filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split(',').collect();
            let start = midnight + fields[0].parse::<i64>().unwrap() * 1_000_000;
            let four = |from: usize| [0, 1, 2, 3].map(|at| decimal(fields[from + at]));
            assert_eq!(prices(&bids[&start]), four(1), "{symbol} {day} {name} bid: {line}");
            assert_eq!(prices(&asks[&start]), four(6), "{symbol} {day} {name} ask: {line}");
            rows += 1;
        }
        assert_eq!((bids.len(), asks.len()), (rows, rows), "{symbol} {day} {name}: no candle without a quote");
        compared += rows;
        minutes += if name == "minute" { rows } else { 0 };
    }
    (compared, minutes)
}

#[test]
fn oandas_own_minutes_and_seconds_come_out_of_its_quotes() {
    let days = [
        ("eurusd", "20140501", "2014-05-01T00:00:00Z"),
        ("eurusd", "20140502", "2014-05-02T00:00:00Z"),
        ("eurusd", "20140504", "2014-05-04T00:00:00Z"),
        ("xauusd", "20140504", "2014-05-04T00:00:00Z"),
    ];
    let (mut compared, mut minutes) = (0, 0);
    for (symbol, day, midnight) in days {
        let Some(ticks) = recording(&format!("oanda/ticks/oanda_{symbol}_tick_{day}.csv.gz")) else { return };
        let midnight: jiff::Timestamp = midnight.parse().unwrap();
        let midnight = i64::try_from(midnight.as_nanosecond()).unwrap();
        let records = oanda_quotes(&ticks, midnight, symbol);
        let of_day = same_as_oandas_own(&records, symbol, symbol, day);
        (compared, minutes) = (compared + of_day.0, minutes + of_day.1);
    }
    println!("{compared} of OANDA's own candles, {minutes} minutes, bid and ask");
    // Each of them twice: bid and ask.
    assert_eq!((compared, minutes), (35_641, 2_862));
}

#[test]
fn coarser_candles_of_quotes_are_those_of_pandas() {
    for (symbol, day) in
        [("eurusd", "20140501"), ("eurusd", "20140502"), ("eurusd", "20140504"), ("xauusd", "20140504")]
    {
        let Some(ticks) = recording(&format!("oanda/ticks/oanda_{symbol}_tick_{day}.csv.gz")) else { return };
        let midnight: jiff::civil::Date = day.parse().unwrap();
        let midnight = midnight.to_zoned(TimeZone::UTC).unwrap().timestamp().as_nanosecond();
        let records = oanda_quotes(&ticks, i64::try_from(midnight).unwrap(), symbol);
        let intervals = [(5 * MINUTE, "5min"), (15 * MINUTE, "15min"), (HOUR, "1h")];
        let of = |input| latest(&make(&recipe(&intervals.map(|(ns, _)| ns), input, "utc"), &records));
        let (bids, asks) = (of(CandleInput::Bid), of(CandleInput::Ask));
        for (interval_ns, name) in intervals {
            let (bids, asks) = (of_interval(&bids, symbol, interval_ns), of_interval(&asks, symbol, interval_ns));
            let want = recording(&format!("oanda/ticks/oanda_{symbol}_pandas_{name}_{day}.csv.gz")).unwrap();
            let mut rows = 0;
            for line in want.lines().skip(1).filter(|line| !line.is_empty()) {
                let fields: Vec<&str> = line.split(',').collect();
                let start = fields[0].parse::<i64>().unwrap() * 1_000_000;
                let four = |from: usize| [0, 1, 2, 3].map(|at| decimal(fields[from + at]));
                assert_eq!(prices(&bids[&start]), four(1), "{symbol} {day} {name} bid: {line}");
                assert_eq!(prices(&asks[&start]), four(5), "{symbol} {day} {name} ask: {line}");
                assert_eq!(bids[&start].trades.unwrap().to_string(), fields[9], "{line}");
                rows += 1;
            }
            assert!(rows > 0);
            assert_eq!(bids.len(), rows);
        }
    }
}

#[test]
fn krakens_recorded_trades_make_the_hours_that_were_computed_of_them() {
    let Some(text) = recording("kraken/rest_trades_18pairs_201601.json.gz") else { return };
    let oracle = recording("kraken/rest_trades_18pairs_201601.oracle.json").unwrap();
    let oracle: serde_json::Value = serde_json::from_str(&oracle).unwrap();
    // Numbers by their text: a float would lose digits of the time.
    type Row<'a> = Vec<&'a serde_json::value::RawValue>;
    let pairs: BTreeMap<String, BTreeMap<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
    let raw: BTreeMap<String, BTreeMap<String, &serde_json::value::RawValue>> = serde_json::from_str(&text).unwrap();
    let (mut trades, mut hours) = (0, 0);
    for (pair, inner) in &pairs {
        let Some(rows) = inner.get(pair).and_then(serde_json::Value::as_array) else { continue };
        let raw: Vec<Row<'_>> = serde_json::from_str(raw[pair][pair].get()).unwrap();
        let mut events = Vec::new();
        for (row, raw) in rows.iter().zip(&raw) {
            let ts = tapedeck_market::UnixNanos::parse_epoch_secs(raw[2].get().as_bytes()).unwrap().0;
            let body = trade(row[0].as_str().unwrap(), row[1].as_str().unwrap());
            events.push(event("kraken", pair, ts, ts + 50_000_000, body));
        }
        let want = &oracle[pair];
        assert_eq!(events.len() as u64, want["trades"].as_u64().unwrap(), "{pair}");
        if events.is_empty() {
            continue;
        }
        trades += events.len();
        let all =
            of_interval(&latest(&make(&recipe(&[HOUR], CandleInput::Trades, "utc"), &numbered(events))), pair, HOUR);
        assert_eq!(all.len() as u64, want["hours"].as_u64().unwrap(), "{pair}");
        hours += all.len();
        let volume = all.values().map(|candle| candle.volume.unwrap()).reduce(|a, b| a.checked_add(b).unwrap());
        assert_eq!(volume.unwrap().to_string(), want["volume"].as_str().unwrap(), "{pair}");
        for (which, candle) in [("first_hour", all.values().next()), ("last_hour", all.values().next_back())] {
            let (want, candle) = (want[which].as_array().unwrap(), candle.unwrap());
            assert_eq!(candle.start.0, want[0].as_i64().unwrap() * SECOND, "{pair} {which}");
            for (at, got) in prices(candle).into_iter().enumerate() {
                assert_eq!(got.to_f64(), want[1 + at].as_f64().unwrap(), "{pair} {which} {at}");
            }
            // The oracle's sum went through floats.
            let volume: f64 = candle.volume.unwrap().to_string().parse().unwrap();
            assert!((volume - want[5].as_f64().unwrap()).abs() < 1e-6, "{pair} {which}: {volume}");
            assert_eq!(candle.trades.unwrap() as f64, want[6].as_f64().unwrap(), "{pair} {which}");
        }
    }
    println!("{trades} trades, {hours} hours");
    assert_eq!(trades, 7_840);
}

#[test]
fn krakens_downloadable_history_makes_the_hours_of_pandas() {
    let Some(text) = recording("kraken/trades_csv_bcheur_2023q1.csv") else { return };
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let ts = fields[0].parse::<i64>().unwrap() * SECOND;
        event("kraken", "BCH/EUR", ts, ts + 50_000_000, trade(fields[1], fields[2]))
    };
    let records = numbered(text.lines().map(row).collect());
    let all = of_interval(&latest(&make(&recipe(&[HOUR], CandleInput::Trades, "utc"), &records)), "BCH/EUR", HOUR);
    let want = recording("kraken/trades_csv_bcheur_2023q1.pandas_1h.csv").unwrap();
    let mut rows = 0;
    for line in want.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let candle = &all[&(fields[0].parse::<i64>().unwrap() * SECOND)];
        let digits =
            |candle: &Candle| [candle.open, candle.high, candle.low, candle.close].map(|price| price.to_string());
        assert_eq!(digits(candle).as_slice(), &fields[1..5], "{line}");
        assert_eq!(candle.volume.unwrap().to_string(), fields[5], "{line}");
        assert_eq!(candle.trades.unwrap().to_string(), fields[6], "{line}");
        rows += 1;
    }
    assert_eq!((rows, all.len()), (21, 21));
}

#[test]
fn indian_ticks_with_all_their_dirt_make_minutes_whose_volume_is_what_was_traded() {
    for (name, day) in [("INFY", "20210415"), ("RELIANCE", "20210503"), ("NIFTY_BANK", "20210430")] {
        let Some(text) = recording(&format!("kite/nse_ticks/{name}_{day}.csv.gz")) else { return };
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let mut now = 0;
        let mut highest = Decimal::ZERO;
        let mut first = None;
        let date = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        let mut events = Vec::new();
        for line in text.lines().skip(1).filter(|line| line.starts_with(&date)) {
            let fields: Vec<&str> = line.split(',').collect();
            let local: DateTime = fields[0].replace(' ', "T").parse().unwrap();
            let ts = i64::try_from(local.to_zoned(zone.clone()).unwrap().timestamp().as_nanosecond()).unwrap();
            // They arrived in this order, about when they happened.
            now = now.max(ts + 300_000_000);
            let mut ticker = Ticker { last: Some(fields[1].parse().unwrap()), ..Ticker::default() };
            ticker.today.volume = Some(fields[2].parse().unwrap());
            highest = highest.max(decimal(fields[2]));
            first.get_or_insert(decimal(fields[2]));
            events.push(event("kite", name, ts, now, Body::Ticker(Box::new(ticker))));
        }
        let records = numbered(events);
        let recipe = recipe(&[MINUTE, HOUR], CandleInput::Trades, "09:15 Asia/Kolkata");
        let all = latest(&make(&recipe, &records));
        let minutes = of_interval(&all, name, MINUTE);
        let want = recording(&format!("kite/nse_ticks/{name}_{day}.pandas_1min.csv.gz")).unwrap();
        let mut rows = 0;
        for line in want.lines().skip(1).filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split(',').collect();
            let candle = &minutes[&(fields[0].parse::<i64>().unwrap() * SECOND)];
            assert_eq!(prices(candle), [1, 2, 3, 4].map(|at| decimal(fields[at])), "{name}: {line}");
            assert_eq!(candle.trades.unwrap().to_string(), fields[5], "{name}: {line}");
            rows += 1;
        }
        assert_eq!(rows, minutes.len(), "{name}");
        // Whatever the total did on its way, what was traded is where it came to, and no volume is negative.
        let traded: i128 = minutes.values().map(|candle| candle.volume.unwrap().mantissa).sum();
        assert!(minutes.values().all(|candle| candle.volume.unwrap().mantissa >= 0));
        assert_eq!(traded, i128::from(highest.mantissa() - first.unwrap().mantissa()), "{name}");
        // Hours of a session that begins at 09:15 begin there, too: 03:45 UTC.
        let hours = of_interval(&all, name, HOUR);
        assert!(hours.keys().all(|start| start.rem_euclid(HOUR) == 45 * MINUTE), "{name}");
    }
}
