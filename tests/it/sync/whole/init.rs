//! Tables that the config does not have yet.

use serde_json::json;

use super::Rig;

#[test]
fn the_config_is_written_from_the_columns_of_a_table_and_then_used() {
    let Some(rig) = Rig::new("") else { return };
    rig.run(
        "CREATE TABLE quotes (ts TIMESTAMP_NS, symbol SYMBOL, bid DOUBLE, n LONG, note VARCHAR, exact DECIMAL(20, 4)) \
         TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, symbol)",
    );
    rig.run("INSERT INTO quotes VALUES (1767312000000000007, 'A', 1.5, 7, 'it''s', 0.1000m)");
    let before = std::fs::read_to_string(rig.config()).unwrap();
    let dry = rig.try_sync(&["init", "--table", "quotes", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(1), "there is something to do");
    let dry = String::from_utf8_lossy(&dry.stdout);
    assert!(dry.contains("the config would have:") && dry.contains("there is no collection `quotes`"), "{dry}");
    assert_eq!(std::fs::read_to_string(rig.config()).unwrap(), before);

    rig.sync(&["init", "--table", "quotes"]);
    let config = std::fs::read_to_string(rig.config()).unwrap();
    let written = config.strip_prefix(&before).unwrap();
    for line in [
        "[sync.table.\"quotes\"]",
        "key = [\"ts\", \"symbol\"]",
        "time = \"ts\"",
        "ts = { from = \"ts\", as = \"time\" }  # TIMESTAMP_NS",
        "bid = { from = \"bid\", as = \"number\" }  # DOUBLE, as = \"json\" where it may be NULL",
        "exact = { from = \"exact\", as = \"text\" }  # DECIMAL(20,4)",
    ] {
        assert!(written.contains(line), "no `{line}` in: {written}");
    }
    let there = rig.pocket.call("GET", "/api/collections/quotes", &json!(null));
    assert!(there["indexes"].to_string().contains("UNIQUE INDEX"), "{there}");
    rig.sync(&["run"]);
    let record = rig.records("quotes", "symbol='A'")[0].clone();
    assert_eq!((&record["ts"], &record["exact"]), (&json!("2026-01-02T00:00:00.000000007Z"), &json!("0.1000")));
    let check = rig.json(&["check", "--sample"]);
    for name in ["pocketbase_connection", "questdb_connection", "authentication", "data_access"] {
        assert_eq!(check[name], true, "{check}");
    }
    let sample = &check["samples"]["quotes"];
    assert!(sample["rows"][0].as_str().unwrap().contains("symbol=\"A\""), "{check}");
    assert_eq!(sample["the first becomes"]["body"]["exact"], "0.1000", "{check}");
    // Nothing is missing a second time, and a column that comes is told, because the mapping names those that it takes.
    let again = rig.sync(&["init"]);
    assert!(again.contains("quotes: collection quotes is as it must be"), "{again}");
    rig.run("ALTER TABLE quotes ADD COLUMN venue VARCHAR");
    let said = rig.sync(&["run"]);
    assert!(said.contains("its columns have changed; the mapping leaves out venue"), "{said}");
    rig.sync(&["verify"]);
}

/// Digits that no double has, within JSON, from one database into the other and back.
#[test]
fn json_keeps_every_digit_in_batches_and_in_bulk() {
    for mode in ["upsert", "bulk"] {
        let table = format!(
            "[sync.table.notes]\nmode = \"{mode}\"\n[sync.table.notes.columns]\nts = \"ts\"\n\
            symbol = \"symbol\"\nmeta = {{ from = \"meta\", as = \"json\" }}\n"
        );
        let Some(rig) = Rig::new(&table) else { return };
        rig.run(
            "CREATE TABLE notes (ts TIMESTAMP, symbol SYMBOL, meta VARCHAR) TIMESTAMP(ts) PARTITION BY DAY WAL \
             DEDUP UPSERT KEYS(ts, symbol)",
        );
        let wide = r#"{"n":12345678901234567890.1234567890,"a":[1.0,"x<y&z",null]}"#;
        for (n, text) in [wide, "[9007199254740993]", "\"1\"", "1.25", "true", "plain words", "0.10000000000000000001"]
            .iter()
            .enumerate()
        {
            rig.run(&format!("INSERT INTO notes VALUES ({}, 'S{n}', '{text}')", 1_767_312_000_000_000_i64 + n as i64));
        }
        rig.sync(&["init"]);
        let said = rig.json(&["run"]);
        assert_eq!(
            (&said["collections"]["notes"]["synced"], &said["collections"]["notes"]["failed"]),
            (&json!(6), &json!(1))
        );
        let dead = rig.sync(&["dead"]);
        assert!(dead.contains("does not fit a number exactly"), "{dead}");
        let found = rig.pocket.call("POST", "/api/sql", &json!({"query": "SELECT meta FROM notes ORDER BY symbol"}));
        let rows: Vec<&str> = found["rows"].as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(rows, [wide, "[9007199254740993]", "\"1\"", "1.25", "true", "\"plain words\""], "{mode}");
        rig.sync(&["verify"]);
    }
}
