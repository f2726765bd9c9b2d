//! Books and old measurements in a real InfluxDB, against recordings whose books others have computed.

use super::*;
use crate::kraken::recordings::text;

/// Plays a recording into a fresh database and returns when all of it is delivered.
fn delivered(recording: &std::path::Path, format: &str, keys: &str) -> Option<(&'static Influx1, String)> {
    let server = Influx1::shared()?;
    let database = server.fresh_database();
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "[source.kraken]\nkind = \"file\"\npaths = [{:?}]\nformat = \"{format}\"\n\
         [sink.influx]\nkind = \"influx\"\nurl = \"{}\"\ndatabase = \"{database}\"\n{keys}\n",
        recording.to_str().unwrap(),
        server.url()
    );
    let deck = Deck::start(home.path(), &config);
    until("the recording to be delivered", || {
        let source = deck.status().sources.iter().any(|source| source.state == "finished");
        (source && is_done(&deck)).then_some(())
    });
    assert_eq!(detail(&deck, "dead_letters"), 0);
    deck.stop();
    Some((server, database))
}

/// The venue's time, in ns.
fn venue_time(text: &str) -> i64 {
    tapedeck::config::units::parse_instant(text).unwrap().0
}

/// The book that the store shows at that time: the last word on each level.
fn book_at(server: &Influx1, database: &str, ts_event: i64) -> [Vec<(f64, f64)>; 2] {
    let statement = format!("SELECT * FROM kraken_depth WHERE ts_event_ns <= {ts_event}");
    let answer = server.query(database, &statement);
    let series = &answer["series"][0];
    let columns: Vec<&str> = series["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let mut levels: BTreeMap<usize, &Value> = BTreeMap::new();
    for row in series["values"].as_array().unwrap() {
        assert_eq!((&row[at("pair")], &row[at("exchange")]), (&"BTC/USD".into(), &"kraken".into()));
        levels.insert(row[at("level")].as_str().unwrap().parse().unwrap(), row);
    }
    let side = |price: &str, size: &str| {
        levels.values().map(|row| (row[at(price)].as_f64().unwrap(), row[at(size)].as_f64().unwrap())).collect()
    };
    [side("bid_price", "bid_size"), side("ask_price", "ask_size")]
}

fn wanted(checkpoint: &Value, side: &str, levels: usize) -> Vec<(f64, f64)> {
    let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let side = checkpoint["books"]["BTC/USD"][side].as_array().unwrap();
    side.iter().take(levels).map(|level| (number(&level[0]), number(&level[1]))).collect()
}

#[test]
fn the_books_of_a_recording_are_those_of_the_store() {
    let Some(dir) = fixtures() else { return };
    let name = "ws_v2_book_btcusd_d10_20260719T1754";
    let Some((server, database)) = delivered(&dir.join(format!("{name}.jsonl.gz")), "kraken-v2", "book_levels = 10")
    else {
        return;
    };
    let oracle: Value = serde_json::from_str(&text(&dir.join(format!("{name}.oracle.json")))).unwrap();
    let checkpoints = oracle["checkpoints"].as_array().unwrap();
    let mut compared = 0;
    for checkpoint in checkpoints {
        let time = venue_time(checkpoint["venue_time"].as_str().unwrap());
        let [bids, asks] = book_at(server, &database, time);
        assert_eq!(bids, wanted(checkpoint, "bids", 10), "{}", checkpoint["venue_time"]);
        assert_eq!(asks, wanted(checkpoint, "asks", 10), "{}", checkpoint["venue_time"]);
        compared += 1;
    }
    assert!(compared >= 3, "{compared} books compared");
}

#[test]
fn behind_a_broken_checksum_no_level_is_written() {
    let Some(dir) = fixtures() else { return };
    let name = "ws_v2_book_btcusd_d10_20260720T0339_with_hole";
    let Some((server, database)) = delivered(&dir.join(format!("{name}.jsonl")), "kraken-v2", "book_levels = 3") else {
        return;
    };
    let oracle: Value = serde_json::from_str(&text(&dir.join(format!("{name}.oracle.json")))).unwrap();
    let first = &oracle["checkpoints"][0];
    let [bids, asks] = book_at(server, &database, venue_time(first["venue_time"].as_str().unwrap()));
    assert_eq!((bids, asks), (wanted(first, "bids", 3), wanted(first, "asks", 3)), "the best three");
    // The frame that shows the break, and what follows: the recording has no snapshot behind it.
    let frames = text(&dir.join(format!("{name}.jsonl")));
    let bad = frames.lines().nth(oracle["first_bad_message"].as_u64().unwrap() as usize - 1).unwrap();
    let bad: Value = serde_json::from_str(bad).unwrap();
    let from = venue_time(bad["data"][0]["timestamp"].as_str().unwrap());
    let behind = server.query(&database, &format!("SELECT bid_price FROM kraken_depth WHERE ts_event_ns >= {from}"));
    assert!(behind["series"].is_null(), "{behind}");
    let gap = server.query(&database, "SELECT state FROM gap WHERE cause = 'checksum'");
    assert_eq!(gap["series"][0]["values"][0][1], "open", "{gap}");
}

#[test]
fn the_old_measurement_is_written_beside_the_declared_one() {
    let Some(dir) = fixtures() else { return };
    let recording = dir.join("ws_v1_ticker_10pairs_20210417.txt.gz");
    for (form, fields) in [("bridge", 4), ("nbpy", 19)] {
        let keys = format!("legacy_tick = \"{form}\"");
        let Some((server, database)) = delivered(&recording, "kraken-v1", &keys) else { return };
        let counted = |statement: &str| {
            let answer = server.query(&database, statement);
            answer["series"][0]["values"][0][1].as_i64().unwrap_or_else(|| panic!("{answer}"))
        };
        let (bid, declared) =
            (if form == "bridge" { "bid" } else { "bid_price" }, "SELECT COUNT(bid) FROM kraken_tick");
        assert_eq!(counted(&format!("SELECT COUNT({bid}) FROM tick")), counted(declared));
        let keys = server.query(&database, "SHOW FIELD KEYS FROM tick");
        assert_eq!(keys["series"][0]["values"].as_array().unwrap().len(), fields, "{keys}");
        let tags = server.query(&database, "SHOW SERIES FROM tick WHERE base_ccy = 'XMR' AND term_ccy = 'USD'");
        let series = tags["series"][0]["values"][0][0].as_str().unwrap();
        assert_eq!(series, "tick,base_ccy=XMR,instrument=XXMRZUSD,term_ccy=USD");
        let (old, new) = (
            server.query(&database, &format!("SELECT SUM({bid}) FROM tick WHERE instrument = 'XXMRZUSD'")),
            server.query(&database, "SELECT SUM(bid) FROM kraken_tick WHERE pair = 'XMR/USD'"),
        );
        assert_eq!(old["series"][0]["values"], new["series"][0]["values"], "the right bid");
    }
}

#[test]
fn every_pair_of_the_asset_list_has_its_old_name_by_rule() {
    use tapedeck::sources::kraken::names::{modern, rest_key};
    let Some(dir) = fixtures() else { return };
    let list: Value = serde_json::from_str(&text(&dir.join("rest_assetpairs_20210417.json.gz"))).unwrap();
    let pairs = list.get("result").unwrap_or(&list).as_object().unwrap();
    let mut compared = 0;
    for (key, pair) in pairs.iter().filter(|(key, _)| !key.ends_with(".d")) {
        let Some(wsname) = pair["wsname"].as_str() else { continue };
        assert_eq!(rest_key(&modern(wsname).unwrap()), key.as_str(), "{wsname}");
        compared += 1;
    }
    assert!(compared > 250, "{compared} pairs");
}
