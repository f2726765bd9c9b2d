//! Names and texts that break things, through all three kinds of sink of one deck: read back equal, or refused with a reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use tapedeck::config::KindTable;
use tapedeck::sinks::postgres::{Store, Table};
use tapedeck_market::{Body, Event, Flags, Point, Record, SmolStr, Trade, UnixNanos, Value, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Log, Options};

use crate::questdb::{applied, dataset, reading};
use crate::servers::{Influx1, Postgres, Questdb, fresh_name};
use crate::support::{Deck, free_address};

/// 2026-07-19, and odd: no digits of it are taken for the seq.
const NOON: i64 = 1_784_462_400_123_456_789;

fn hostile() -> Vec<String> {
    let texts = [
        "say \"hi\"",
        "o'clock",
        "a,b, c=d",
        "two\nlines\r\n\tand a tab",
        "nul\0inside",
        "🙂👩\u{200d}🚀 é \u{202e}x",
        "'); DROP TABLE tapedeck.trades; --",
        "\"; DROP DATABASE \"x\"; --",
        "#comment",
        "ends with a backslash\\",
        "\\, \\= \\\" \\n \\N \\.",
        "../../etc/passwd",
        "%s{}$1${x}`id`",
        " ",
    ];
    let mut all: Vec<String> = texts.map(str::to_owned).into();
    all.push("x".repeat(64 * 1024));
    all.push("é".repeat(32 * 1024));
    all
}

/// Each text in every place that a client or a venue can put it.
fn records() -> Vec<Record> {
    let mut records = Vec::new();
    let mut add = |symbol: &str, body: Body| {
        let seq = records.len() as u64 + 1;
        let time = UnixNanos(NOON + i64::try_from(seq).unwrap() * 1_002);
        let event = Event {
            source: "test".into(),
            venue: "test".into(),
            symbol: symbol.into(),
            ts_event: Some(time),
            ts_recv: time,
            flags: Flags::NONE,
            origin: None,
            body,
        };
        records.push(Record { seq, event });
    };
    for text in hostile() {
        let text = SmolStr::from(text);
        let point = |name: &SmolStr, tag: (&SmolStr, &SmolStr), field: (&SmolStr, Value)| {
            let tags = vec![(tag.0.clone(), tag.1.clone())];
            Body::Point(Box::new(Point { name: name.clone(), tags, fields: vec![(field.0.clone(), field.1)] }))
        };
        let (name, tag, field, x) = ("plain".into(), "host".into(), "v".into(), "x".into());
        let one = || Value::Int(1);
        add("", point(&text, (&tag, &x), (&field, one())));
        add("", point(&name, (&text, &x), (&field, one())));
        add("", point(&name, (&tag, &text), (&field, one())));
        add("", point(&name, (&tag, &x), (&text, one())));
        add("", point(&name, (&tag, &x), (&"text".into(), Value::Text(text.clone()))));
        let trade =
            Trade { price: "1.5".parse().unwrap(), size: "2".parse().unwrap(), side: None, id: Some(text.clone()) };
        add(&text, Body::Trade(trade));
    }
    records
}

/// Writes a tape before a deck runs on it.
pub(crate) fn write(dir: &Path, records: &[Record]) {
    std::fs::create_dir_all(dir).unwrap();
    let options = Options { allocation: Allocation::None, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(Disk), dir, options).unwrap();
    for record in records {
        let mut payload = Vec::new();
        wire::encode(&record.event, &mut payload);
        log.append(&[Entry { ts_recv: record.event.ts_recv.0, payload: &payload }], &mut Vec::new).unwrap();
    }
    log.commit().unwrap();
}

/// A name and what stands under it, as a store gives it back.
type Told = (String, BTreeMap<String, String>);

/// What a record says: of a point all of it, of a trade symbol and id.
fn told(record: &Record) -> Told {
    let text = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    match &record.event.body {
        Body::Point(point) => {
            let tags = point.tags.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            let fields = point.fields.iter().map(|(key, value)| (key.to_string(), text(value)));
            (point.name.to_string(), tags.chain(fields).collect())
        }
        Body::Trade(trade) => (
            "trade".to_owned(),
            [("symbol", &record.event.symbol), ("id", trade.id.as_ref().unwrap())]
                .map(|(key, value)| (key.to_owned(), value.to_string()))
                .into(),
        ),
        other => panic!("{other:?}"),
    }
}

fn plain(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn in_influx(server: &Influx1, database: &str, record: &Record) -> Option<Told> {
    let time = record.event.ts_event.unwrap().0;
    let found = server.query(database, &format!("SELECT * FROM /.*/ WHERE time = {time} GROUP BY *"));
    let series = found["series"].as_array()?;
    assert_eq!(series.len(), 1, "{found}");
    let (columns, values) = (series[0]["columns"].as_array()?, series[0]["values"][0].as_array()?);
    let fields =
        columns.iter().zip(values).skip(1).filter_map(|(key, value)| Some((key.as_str()?.to_owned(), plain(value)?)));
    // A tag that others of the measurement have is empty.
    let tags = series[0]["tags"].as_object().into_iter().flatten();
    let tags = tags
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .filter(|(_, value)| !value.is_empty());
    let mut all: BTreeMap<String, String> = tags.chain(fields).collect();
    let name = series[0]["name"].as_str()?.to_owned();
    if matches!(record.event.body, Body::Point(_)) {
        return Some((name, all));
    }
    let mut take = |key: &str| all.remove(key).unwrap_or_default();
    Some((
        "trade".to_owned(),
        [("symbol", take("instrument")), ("id", take("id"))].map(|(key, value)| (key.to_owned(), value)).into(),
    ))
}

fn in_postgres(dsn: &str) -> BTreeMap<u64, Told> {
    let table =
        KindTable { name: "pg".into(), kind: "postgres".into(), table: format!("dsn = {dsn:?}").parse().unwrap() };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (from, to) = (UnixNanos(NOON), UnixNanos(NOON + 3_600_000_000_000));
    runtime.block_on(async {
        let store = Store::of(&table).await.unwrap();
        let mut all = BTreeMap::new();
        for table in [Table::Points, Table::Trades] {
            let records = store.records(table, from, to).await.unwrap();
            all.extend(records.iter().map(|(_, record)| (record.seq, told(record))));
        }
        all
    })
}

fn in_questdb(server: &Questdb, prefix: &str) -> BTreeMap<u64, Told> {
    const OURS: [&str; 6] = ["ts", "seq", "tape_id", "ts_recv", "exact", "guard"];
    let mut all = BTreeMap::new();
    let (_, tables) =
        dataset(server, &format!("SELECT table_name FROM tables() WHERE table_name LIKE '{prefix}%'")).unwrap();
    for table in tables {
        let table = table[0].as_str().unwrap();
        applied(server, table);
        let name = table.strip_prefix(prefix).unwrap();
        if matches!(name, "points" | "trades") {
            let table = if name == "points" { Table::Points } else { Table::Trades };
            all.extend(reading::records(server, table, prefix).iter().map(|record| (record.seq, told(record))));
            continue;
        }
        let (columns, rows) = dataset(server, &format!("SELECT * FROM \"{table}\"")).unwrap();
        for row in rows {
            let cells = columns.iter().zip(&row);
            let seq = cells.clone().find(|(column, _)| *column == "seq").unwrap().1.as_u64().unwrap();
            let cells = cells.filter(|(column, _)| !OURS.contains(&column.as_str()));
            let told = cells.filter_map(|(column, value)| Some((column.clone(), plain(value)?))).collect();
            all.insert(seq, (name.to_owned(), told));
        }
    }
    all
}

#[test]
fn hostile_names_go_through_all_stores_and_come_back_equal_or_are_refused_with_a_reason() {
    let (Some(influx), Some(postgres), Some(quest)) = (Influx1::shared(), Postgres::shared(), Questdb::shared()) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let records = records();
    let tape = home.path().join("tape");
    write(&tape, &records);
    let (database, sql, prefix) = (influx.fresh_database(), postgres.fresh_database(), fresh_name("hostile_"));
    let events = "events = [\"point\", \"trade\"]\nbatch_wait = \"20ms\"";
    // A deck without a source does not start.
    let config = format!(
        "[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n\
         [sink.influx]\nkind = \"influx\"\nurl = \"{}\"\ndatabase = \"{database}\"\n{events}\n\
         [sink.pg]\nkind = \"postgres\"\ndsn = \"{}\"\n{events}\n\
         [sink.quest]\nkind = \"questdb\"\nurl = \"{}\"\nprefix = \"{prefix}\"\n{events}\n",
        free_address(),
        influx.url(),
        sql.dsn,
        quest.url()
    );
    let deck = Deck::start(home.path(), &config);
    deck.until("delivery of all", |status| {
        let done = |name: &str| {
            let sink = status.services.iter().find(|service| service.name == name)?;
            (sink.state == "running" && sink.detail.get("lag_records")?.as_u64()? == 0).then_some(())
        };
        ["influx", "pg", "quest"].iter().all(|name| done(name).is_some())
    });
    deck.stop();
    let (in_postgres, in_questdb) = (in_postgres(&sql.dsn), in_questdb(quest, &prefix));
    for (sink, least) in [("influx", 60), ("pg", 90), ("quest", 80)] {
        let letters = tapedeck::sinks::dead_letters(&tapedeck::sinks::dead_letters_folder(&tape, sink)).unwrap();
        let refused: BTreeMap<u64, String> = letters.into_iter().map(|letter| (letter.seq, letter.words)).collect();
        let mut equal = 0;
        for record in &records {
            let held = match sink {
                "influx" => in_influx(influx, &database, record),
                "pg" => in_postgres.get(&record.seq).cloned(),
                _ => in_questdb.get(&record.seq).cloned(),
            };
            let short = |told: &Told| format!("{told:?}").chars().take(300).collect::<String>();
            match (held, refused.get(&record.seq)) {
                (Some(held), None) => {
                    let want = told(record);
                    assert_eq!(short(&held), short(&want), "{sink}, record {}", record.seq);
                    assert!(held == want, "{sink}, record {}: the ends differ", record.seq);
                    equal += 1;
                }
                (None, Some(words)) => assert!(words.len() > 10, "{sink}: {words}"),
                (held, words) => panic!("{sink}: {} is {held:?} and {words:?}", short(&told(record))),
            }
        }
        eprintln!("{sink}: {equal} of {} read back equal, {} refused with a reason", records.len(), refused.len());
        assert!(equal >= least, "{sink}: {refused:?}");
    }
}
