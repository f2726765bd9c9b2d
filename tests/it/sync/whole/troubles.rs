//! What goes wrong, in the words that `tapedeck sync` has for it.

use serde_json::json;

use super::Rig;
use super::follow::{TABLE, make};

/// A rig with three rows that are not sent yet.
fn rig() -> Option<Rig> {
    let rig = Rig::new(TABLE)?;
    make(&rig);
    let line = |n: u64| format!("prices,symbol=S{n} price={n}.5 {}\n", 1_767_312_000_000_000_000 + n * 1_000);
    rig.write(&(0..3).map(line).collect::<String>());
    Some(rig)
}

/// A run that fails, and says so with these words; no secret is among its own.
#[track_caller]
fn says(rig: &Rig, args: &[&str], words: &[&str]) {
    let refused = rig.try_sync(&[&["run"], args].concat());
    let said = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(!said.contains("hush-hush") && !said.contains(rig.pocket.password()), "{said}");
}

#[test]
fn a_wrong_password_and_batches_that_are_off_are_told_with_what_to_do() {
    let Some(rig) = rig() else { return };
    says(
        &rig,
        &["--set", "sync.target.password=hush-hush"],
        &["logging in as", "Failed to authenticate. (400)", "check `email` and `password`"],
    );
    rig.pocket.call("PATCH", "/api/settings", &json!({"batch": {"enabled": false}}));
    says(&rig, &[], &["batches are switched off there", "`tapedeck sync init` offers to switch them on"]);
    rig.sync(&["init", "--allow-batches"]);
    rig.sync(&["run"]);
    assert_eq!(rig.count("prices"), 3);
}

#[test]
fn a_collection_or_a_field_that_is_missing_is_told_and_one_made_anew_gets_everything() {
    let Some(rig) = rig() else { return };
    rig.sync(&["run"]);
    let sent = |rig: &Rig| rig.json(&["run"])["collections"]["prices"]["sent"].clone();
    rig.pocket.call("DELETE", "/api/collections/prices", &json!(null));
    rig.write("prices,symbol=S9 price=9.5 1767312000000000000\n");
    says(&rig, &[], &["there is no collection `prices`", "`tapedeck sync init` makes it"]);
    rig.sync(&["init"]);
    // What was sent to the one that is gone says nothing of this one.
    let said = rig.sync(&["run"]);
    assert!(said.contains("collection prices was made anew") && said.contains("all rows are sent"), "{said}");
    assert_eq!(rig.count("prices"), 4);
    rig.sync(&["verify"]);
    assert_eq!(sent(&rig), 0);

    let there = rig.pocket.call("GET", "/api/collections/prices", &json!(null));
    let kept: Vec<_> = there["fields"].as_array().unwrap().iter().filter(|field| field["name"] != "price").collect();
    rig.pocket.call("PATCH", "/api/collections/prices", &json!({ "fields": kept }));
    rig.write("prices,symbol=S8 price=8.5 1767312000000000000\n");
    says(&rig, &[], &["`prices` has no field `price` (number), and would drop it without a word"]);
    rig.sync(&["init"]);
    let said = rig.sync(&["run"]);
    assert!(!said.contains("made anew"), "a field more makes no other collection: {said}");
    let differs = rig.try_sync(&["verify"]);
    assert_eq!(differs.status.code(), Some(1), "the other records have lost theirs");
    rig.sync(&["verify", "--repair"]);
    rig.sync(&["verify"]);
    assert_eq!((rig.count("prices"), sent(&rig)), (5, json!(0)));
}

#[test]
fn a_key_that_somebody_else_has_taken_is_a_dead_letter_in_the_servers_words() {
    let Some(rig) = rig() else { return };
    let theirs = json!({"id": "madebyanother00", "symbol": "S1", "price": 7, "ts": "2026-01-02T00:00:00.000001Z"});
    rig.pocket.call("POST", "/api/collections/prices/records", &theirs);
    let said = rig.json(&["run"]);
    let prices = &said["collections"]["prices"];
    assert_eq!((&prices["synced"], &prices["failed"]), (&json!(2), &json!(1)), "{said}");
    let dead = rig.sync(&["dead"]);
    assert!(dead.contains("Value must be unique."), "{dead}");
    assert_eq!(rig.count("prices"), 3);
}

#[test]
fn too_many_requests_of_nobody_are_told_and_waited_out() {
    let Some(rig) = rig() else { return };
    let open = json!({"createRule": "", "updateRule": ""});
    rig.pocket.call("PATCH", "/api/collections/prices", &open);
    let rules = json!([{"label": "/api/batch", "audience": "", "duration": 3600, "maxRequests": 1}]);
    rig.pocket.call("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": true, "rules": rules}}));
    let config = std::fs::read_to_string(rig.config()).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("email") && !line.starts_with("password"));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(rig.config(), config.replace("[sync]\n", "[sync]\nbatch = 1\nretries = 1\n")).unwrap();
    says(&rig, &[], &["Too Many Requests. (429)", "log in as a superuser", "Rate limits"]);
    assert_eq!(rig.count("prices"), 1, "one request was allowed");
    rig.pocket.call("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": false}}));
    rig.sync(&["run"]);
    assert_eq!(rig.count("prices"), 3);
}

/// The predecessor's names in place of `[sync.source]` and `[sync.target]`.
#[test]
fn old_names_of_the_environment_are_enough_for_both_ends() {
    let Some(rig) = rig() else { return };
    let config = std::fs::read_to_string(rig.config()).unwrap();
    let tape = config.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(rig.config(), tape + TABLE).unwrap();
    let mut command = rig.command(&["run", "--debug"]);
    command.env("QUESTDB_HOST", "127.0.0.1").env("QUESTDB_PORT", rig.quest.sql_port().to_string());
    command.env("POCKETBASE_URL", rig.pocket.url()).env("ADMIN_EMAIL", rig.pocket.email());
    command.env("POCKETBASE_ADMIN_PASSWORD", rig.pocket.password());
    let output = command.output().unwrap();
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{log}");
    assert_eq!(rig.count("prices"), 3);
    // What `--debug` shows: queries, what each row becomes, requests. No secrets.
    for word in ["asked the source", "SELECT", "mapped a row", "String(\"S1\")", "asked the target", "/batch"] {
        assert!(log.contains(word) || log.contains(word.trim_start_matches('/')), "no `{word}` in: {log}");
    }
    assert!(!log.contains(rig.pocket.password()), "{log}");
}
