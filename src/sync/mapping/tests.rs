use proptest::prelude::*;
use serde_json::json;

use super::super::presets::Preset;
use super::super::{Column, Schema, Type};
use super::*;

fn schema(columns: &[(&str, Type)]) -> Schema {
    let column = |(name, kind): &(&str, Type)| Column {
        name: (*name).into(),
        kind: *kind,
        native: "".into(),
        upsert_key: matches!(*name, "ts" | "symbol"),
    };
    let time = columns.iter().position(|(name, _)| *name == "ts");
    Schema { columns: columns.iter().map(column).collect(), time }
}

fn stocks() -> Schema {
    let micros = Type::Time { nanos: false };
    let doubles = ["open", "high", "low", "close"].map(|name| (name, Type::Double));
    let figures = ["macd", "rsi", "bb_upper", "bb_lower"].map(|name| (name, Type::Double));
    schema(&[&[("ts", micros), ("symbol", Type::Text)], &doubles[..], &[("volume", Type::Int)], &figures[..]].concat())
}

/// 2026-01-02T00:00:00Z.
const DAY: i64 = 1_767_312_000_000_000_000;

fn stock(symbol: &str, [open, high, low, close]: [f64; 4], volume: i64) -> Vec<Value> {
    let mut row = vec![Value::Time(DAY), Value::Text(symbol.into())];
    row.extend([open, high, low, close].map(Value::Double));
    row.extend([Value::Int(volume), Value::Double(0.5), Value::Null, Value::Double(3.0), Value::Null]);
    row
}

fn mapping(settings: &str, schema: &Schema) -> anyhow::Result<Mapping> {
    Mapping::new("t", &toml::from_str(settings).expect("settings"), schema, Path::new("/nowhere"))
}

#[test]
fn a_row_of_the_predecessors_prices_becomes_its_document() {
    let mapping =
        Mapping::new("wig80_historical", &Preset::Wig80Historical.settings(), &stocks(), Path::new("")).expect("made");
    assert_eq!(mapping.collection, "stock_data");
    assert_eq!(mapping.key_fields(), Some(vec!["timestamp".into(), "symbol".into()]));
    let document = mapping.document(&stock("PKN", [60.5, 61.0, 60.0, 60.75], 1_234)).expect("a document");
    assert_eq!(
        serde_json::Value::Object(document.body),
        json!({
            "symbol": "PKN", "timestamp": "2026-01-02T00:00:00.000000Z", "open_price": 60.5, "high_price": 61,
            "low_price": 60, "close_price": 60.75, "volume": 1234, "macd": 0.5, "rsi": null, "bb_upper": 3, "bb_lower": null,
        })
    );
    assert_eq!(document.time_ns, DAY);
}

#[test]
fn a_row_that_breaks_a_rule_is_refused_with_the_rule_and_the_values() {
    let mapping =
        Mapping::new("wig80_historical", &Preset::Wig80Historical.settings(), &stocks(), Path::new("")).expect("made");
    let good = [10.0, 11.0, 9.0, 10.5];
    let cases = [
        (stock("", good, 1), "symbol is required"),
        (stock("A", [0.0, 11.0, 9.0, 10.5], 1), "open is not above 0"),
        (stock("A", [10.0, 9.5, 9.0, 10.5], 1), "not high >= low && high >= open && high >= close"),
        (stock("A", [10.0, 11.0, 10.2, 10.5], 1), "not low <= open && low <= close"),
        (stock("A", good, -1), "volume is below 0"),
        (stock("A", [10.0, f64::INFINITY, 9.0, 10.5], 1), "high is no number"),
    ];
    for (row, rule) in cases {
        assert_eq!(mapping.document(&row).expect_err(rule).rule, rule);
    }
    let mut row = stock("A", good, 1);
    row[5] = Value::Null;
    assert_eq!(mapping.document(&row).expect_err("no close").reason, "close is required: NULL");
}

#[test]
fn what_a_number_there_cannot_hold_is_refused_and_a_text_keeps_it() {
    let table = schema(&[("ts", Type::Time { nanos: true }), ("wide", Type::Int), ("exact", Type::Decimal)]);
    let row = |wide: i64, exact: &str| vec![Value::Time(DAY + 7), Value::Int(wide), Value::Decimal(exact.into())];
    let plain =
        mapping("key = [\"ts\"]\n[columns]\nwide = \"wide\"\nexact = { from = \"exact\", as = \"number\" }", &table);
    let plain = plain.expect("made");
    assert!(plain.document(&row(1 << 53, "0.1")).is_ok());
    let wide = plain.document(&row((1 << 53) + 1, "0.1")).expect_err("too wide");
    assert!(wide.reason.contains("9007199254740993 does not fit a number exactly"), "{}", wide.reason);
    assert!(plain.document(&row(1, "0.10000000000000000001")).is_err());
    let text = mapping("key = [\"ts\"]", &table).expect("made");
    let body = text.document(&row(1, "0.10000000000000000001")).expect("kept").body;
    assert_eq!(body["exact"], json!("0.10000000000000000001"));
    assert_eq!(body["ts"], json!("2026-01-02T00:00:00.000000007Z"));
    let date = mapping("key = [\"ts\"]\n[columns]\nat = { from = \"ts\", as = \"date\" }", &table).expect("made");
    let fine = date.document(&row(1, "1")).expect_err("finer than a date");
    assert!(fine.reason.contains("finer than the millisecond"), "{}", fine.reason);
    let whole = date.document(&[Value::Time(DAY + 1_000_000), Value::Int(1), Value::Null]).expect("a date");
    assert_eq!(whole.body["at"], json!("2026-01-02 00:00:00.001Z"));
}

#[test]
fn an_absent_number_is_never_a_zero_unless_that_is_said() {
    let table = schema(&[("ts", Type::Time { nanos: false }), ("price", Type::Double)]);
    let row = [Value::Time(DAY), Value::Null];
    let usual = mapping("key = [\"ts\"]", &table).expect("made").document(&row).expect_err("no value");
    assert_eq!(usual.reason, "price has no value");
    let cases = [(r#"as = "json""#, json!(null)), (r#"null = "zero""#, json!(0)), (r#"as = "text""#, json!(""))];
    for (said, wanted) in cases {
        let settings = format!("key = [\"ts\"]\n[columns]\nprice = {{ from = \"price\", {said} }}");
        let document = mapping(&settings, &table).expect("made").document(&row).expect("a document");
        assert_eq!(document.body["price"], wanted, "{said}");
    }
    let refused = mapping("key = [\"ts\"]\n[columns]\nprice = { from = \"price\", null = \"empty\" }", &table);
    assert!(format!("{:#}", refused.expect_err("no such number")).contains("as = \"json\""));
}

#[test]
fn constants_expressions_and_lookups_make_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("companies.csv"),
        "\u{feff}ticker, name ,sector\nPKN,Orlen SA,Energy\n\"KGH\",\"KGHM, Lubin\",Mining\n",
    )
    .expect("written");
    let settings = r#"
        key = ["ts", "symbol"]
        [columns]
        exchange = { value = "GPW" }
        range = { expr = "high - low" }
        label = { expr = "volume > 1000 ? symbol + '!' : symbol", as = "text" }
        company_name = { from = "symbol", lookup = "companies.csv", by = "ticker", take = "name", else = "Unknown Company" }
        sector = { from = "symbol", lookup = "companies.csv", by = "ticker", take = "sector" }
    "#;
    let settings: Settings = toml::from_str(settings).expect("settings");
    let mapping = Mapping::new("t", &settings, &stocks(), folder.path()).expect("made");
    let body = mapping.document(&stock("KGH", [10.0, 11.5, 9.0, 10.5], 2_000)).expect("a document").body;
    let wanted =
        json!({"exchange": "GPW", "range": 2.5, "label": "KGH!", "company_name": "KGHM, Lubin", "sector": "Mining"});
    assert_eq!(serde_json::Value::Object(body), wanted);
    let unknown = mapping.document(&stock("ZAP", [10.0, 11.5, 9.0, 10.5], 1)).expect_err("no sector");
    assert!(unknown.reason.contains("\"ZAP\" is not in"), "{}", unknown.reason);
}

#[test]
fn what_cannot_be_is_told_before_anything_is_read() {
    let cases = [
        ("key = [\"ts\", \"nothing\"]", "has no column `nothing`; it has ts, symbol"),
        ("[columns]\nid = \"symbol\"", "`id` is no name for a field"),
        ("[columns]\nx = { expr = \"high -\" }", "is no expression"),
        ("[columns]\nx = { expr = \"height\" }", "has no column `height`"),
        ("[columns]\nx = { from = \"symbol\", value = 1 }", "say one of"),
        (
            "[columns]\nx = { from = \"symbol\", lookup = \"no.csv\", take = \"name\" }",
            "/nowhere/no.csv cannot be read",
        ),
        ("rules = [{ matches = \"(\", of = [\"symbol\"] }]", "is no regular expression"),
    ];
    for (settings, wanted) in cases {
        let error = mapping(settings, &stocks()).expect_err(settings);
        assert!(format!("{error:#}").contains(wanted), "{settings}: {error:#}");
    }
    let mut bare = stocks();
    bare.columns = bare.columns.iter().cloned().map(|column| Column { upsert_key: false, ..column }).collect();
    assert!(format!("{:#}", mapping("", &bare).expect_err("no key")).contains("has no key"));
}

#[test]
fn names_of_columns_become_names_of_fields() {
    for (source, target) in
        [("price", "price"), ("id", "source_id"), ("best bid", "best_bid"), ("1m", "_1m"), ("ż", "_")]
    {
        assert_eq!(field::name_of(source), target);
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("no NaN", |number| !number.is_nan()).prop_map(Value::Double),
        "-?[0-9]{1,25}(\\.[0-9]{1,25})?".prop_map(Value::Decimal),
        ".{0,20}".prop_map(Value::Text),
        any::<i64>().prop_map(Value::Time),
    ]
}

proptest! {
    /// In any form, a value is kept as it is or refused: nothing becomes 0, infinite, or another number.
    #[test]
    fn a_number_that_is_kept_is_the_number_that_came(number in any::<i64>(), decimal in "-?[0-9]{1,20}(\\.[0-9]{1,20})?") {
        let table = schema(&[("ts", Type::Time { nanos: false }), ("n", Type::Int), ("d", Type::Decimal)]);
        let settings = "key = [\"ts\"]\n[columns]\nn = { from = \"n\", as = \"number\" }";
        let row = [Value::Time(DAY), Value::Int(number), Value::Decimal(decimal.clone())];
        if let Ok(document) = mapping(settings, &table).expect("made").document(&row) {
            prop_assert_eq!(document.body["n"].as_f64().map(|n| n as i128), Some(i128::from(number)));
        }
        let settings = "key = [\"ts\"]\n[columns]\nd = { from = \"d\", as = \"number\" }";
        if let Ok(document) = mapping(settings, &table).expect("made").document(&row) {
            let kept = document.body["d"].as_f64().expect("a number");
            let wanted: rust_decimal::Decimal = rust_decimal::Decimal::from_str_exact(&decimal).unwrap_or_default();
            let shown = rust_decimal::Decimal::from_str_exact(&format!("{kept}")).unwrap_or_default();
            prop_assert_eq!(shown, wanted);
        }
    }

    #[test]
    fn no_row_makes_it_fall_over(row in prop::collection::vec(value(), 0..12)) {
        for preset in Preset::ALL.into_iter().take(1) {
            let mapping = Mapping::new(preset.table(), &preset.settings(), &stocks(), Path::new("")).expect("made");
            let _ = mapping.document(&row);
            let _ = mapping.key_shown(&row);
        }
    }
}
