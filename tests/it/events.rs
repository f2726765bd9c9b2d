//! Events as JSON and as lines for people, on one event of every kind.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;
use tapedeck::describe::describe;
use tapedeck::json::event_json;
use tapedeck_market::{Body, Event, Flags, Kind, Point, UnixNanos, Value, wire};

/// The events that freeze the wire format: one of every kind, every field set.
fn samples() -> Vec<Event> {
    let lines = include_str!("../../crates/market/tests/golden/schema1.txt").lines();
    let hex = lines.map(|line| line.split_once(' ').expect("kind and bytes").1);
    hex.map(|hex| {
        let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(pair).collect();
        wire::decode(&bytes).expect("a golden event")
    })
    .collect()
}

fn json_line(seq: Option<u64>, event: &Event) -> String {
    let mut line = Vec::new();
    event_json(seq, event, &mut line);
    String::from_utf8(line).expect("JSON is UTF-8")
}

fn parsed(event: &Event) -> serde_json::Map<String, Json> {
    let line = json_line(None, event);
    match serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")) {
        Json::Object(object) => object,
        other => panic!("{other}"),
    }
}

/// Compares with a file beside the tests; `UPDATE_GOLDEN=1` writes it.
fn assert_golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("making the folder");
        std::fs::write(&path, got).expect("writing the golden file");
    }
    let want = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(got, want, "{name}");
}

#[test]
fn the_json_of_every_kind_stays() {
    let lines: Vec<String> = (1..).zip(samples()).map(|(seq, event)| json_line(Some(seq), &event) + "\n").collect();
    assert_golden("schema1.ndjson", &lines.concat());
}

#[test]
fn the_line_for_people_shows_every_kind() {
    let lines: Vec<String> = samples().iter().map(|event| describe(event) + "\n").collect();
    assert_golden("schema1.txt", &lines.concat());
}

#[test]
fn every_kind_has_fields_of_its_own() {
    let common = ["source", "venue", "symbol", "kind", "ts_event", "ts_recv", "flags", "origin"];
    let mut kinds = BTreeSet::new();
    for event in samples() {
        let object = parsed(&event);
        assert!(object.keys().any(|key| !common.contains(&key.as_str())), "{object:?}");
        kinds.insert(object["kind"].as_str().expect("a kind").to_owned());
    }
    for (_, name) in Kind::NAMES {
        assert!(kinds.contains(name), "{name}");
    }
}

/// The names in backticks in the first column of the tables under a heading.
fn documented(docs: &str, heading: &str) -> BTreeSet<String> {
    let section = docs.split("\n## ").find(|section| section.starts_with(&format!("{heading}\n")));
    let section = section.unwrap_or_else(|| panic!("docs/events.md has no heading for {heading}"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" |").next().unwrap_or_default());
    cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_field_is_documented_and_every_documented_field_exists() {
    let docs = include_str!("../../docs/events.md");
    let intro = docs.split("\n## ").next().expect("an introduction");
    let code = include_str!("../../src/json/mod.rs");
    for event in samples() {
        let kind = event.body.kind().name();
        let fields = documented(docs, kind);
        for key in parsed(&event).keys() {
            assert!(
                fields.contains(key) || intro.contains(&format!("| `{key}` |")),
                "{key} of {kind} is not documented"
            );
        }
        for field in &fields {
            assert!(code.contains(&format!("(\"{field}\", ")), "{field} of {kind} does not exist");
        }
    }
}

#[test]
fn every_word_of_an_enum_is_documented() {
    use tapedeck_market::{CandleFlags, CandleInput, GapCause, GapState, TapeEvent};
    let docs = include_str!("../../docs/events.md");
    let words = Flags::NAMES.map(|(_, name)| name).into_iter().chain(CandleFlags::NAMES.map(|(_, name)| name));
    let words = words.chain(CandleInput::NAMES.map(|(_, name)| name)).chain(GapState::NAMES.map(|(_, name)| name));
    for word in words.chain(GapCause::NAMES.map(|(_, name)| name)).chain(TapeEvent::NAMES.map(|(_, name)| name)) {
        assert!(docs.contains(&format!("`{word}`")), "{word}");
    }
}

fn point(text: &str, float: f64) -> Event {
    Event {
        source: "desk".into(),
        venue: "http".into(),
        symbol: text.into(),
        ts_event: None,
        ts_recv: UnixNanos(1),
        flags: Flags::NONE,
        origin: None,
        body: Body::Point(Box::new(Point {
            name: "p".into(),
            tags: vec![(text.into(), text.into())],
            fields: vec![("float".into(), Value::Float(float))],
        })),
    }
}

#[test]
fn doubles_that_json_has_no_word_for_are_texts() {
    for (float, word) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        assert_eq!(parsed(&point("", float))["fields"]["float"], word);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_and_any_double_come_back_from_json(text: String, float: f64) {
        let object = parsed(&point(&text, float));
        proptest::prop_assert_eq!(object["symbol"].as_str(), Some(text.as_str()));
        proptest::prop_assert_eq!(object["tags"][&text].as_str(), Some(text.as_str()));
        // By the standard library: serde_json reads doubles to the last bit only by a feature that is off here.
        let line = json_line(None, &point("", float));
        let digits = line.split_once("\"float\":").and_then(|(_, rest)| rest.strip_suffix("}}")).expect("the field");
        proptest::prop_assert_eq!(digits.parse::<f64>().expect("a number").to_bits(), float.to_bits());
    }

    #[test]
    fn no_text_of_a_venue_reaches_the_terminal_raw(text: String) {
        let event = point(&text, 0.5);
        let line = describe(&event);
        proptest::prop_assert!(!line.contains(char::is_control), "{:?}", line);
        proptest::prop_assert!(!json_line(None, &event).bytes().any(|b| b < 0x20 || b == 0x7f));
    }
}
