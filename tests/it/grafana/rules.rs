//! Alert rules by the API: made, put right, left alone where they are somebody's, and left out where they cannot be brought.

use serde_json::{Value, json};

use super::api::{config, run, states, validated};
use super::fake::{Fake, TOKEN};
use crate::deck::blocking;

const DOWN: &str = "tapedeck-TapedeckDown";
const LOW: &str = "tapedeck-TapedeckDiskLow";

/// What became of the rules, and what is said of it.
fn alerts(out: &str) -> (String, String) {
    let json: Value = serde_json::from_str(out).unwrap();
    let all: Vec<&Value> = json["changes"].as_array().unwrap().iter().filter(|one| one["what"] == "alerts").collect();
    assert_eq!(all.len(), 1, "{json}");
    let text = |key: &str| all[0][key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("note"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alert_rules_are_put_right_and_those_of_others_stay() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    let theirs = json!({ "uid": "metrics", "name": "tapedeck metrics", "type": "prometheus" });
    grafana.kept.lock().unwrap().sources.insert("tapedeck metrics".to_owned(), theirs);
    let path = config(home.path(), &format!("to = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\n", grafana.url));
    blocking(move || {
        states(&run(&path, &["setup", "--json"]));
        let mut kept = grafana.kept.lock().unwrap();
        assert_eq!(kept.paces["tapedeck"], 30);
        for rule in kept.rules.values() {
            assert_eq!((&rule["folderUID"], &rule["ruleGroup"]), (&json!("tapedeck"), &json!("tapedeck")), "{rule}");
            assert_eq!(rule["data"][0]["datasourceUid"], "metrics", "the data source that is there");
            assert_eq!(rule["provenance"], "", "it can be changed in Grafana's pages");
        }
        // Somebody lets one rest and says whom it is for, and has one of their own in the group.
        kept.rules.get_mut(LOW).unwrap()["isPaused"] = json!(true);
        kept.rules.get_mut(LOW).unwrap()["labels"]["team"] = json!("night");
        let mut mine = kept.rules[DOWN].clone();
        mine["uid"] = json!("mine");
        kept.rules.insert("mine".to_owned(), mine.clone());
        kept.writes.clear();
        drop(kept);
        let (state, note) = alerts(&run(&path, &["setup", "--json"]).out);
        assert_eq!((state.as_str(), note.as_str()), ("unchanged", ""));
        assert!(validated(&path).0);
        assert!(grafana.kept.lock().unwrap().writes.is_empty());
        {
            let mut kept = grafana.kept.lock().unwrap();
            kept.rules.get_mut(LOW).unwrap()["data"][0]["model"]["expr"] = json!("vector(0) > 1");
            kept.rules.remove(DOWN);
            let mut old = mine.clone();
            old["uid"] = json!("tapedeck-TapedeckNoMore");
            old["title"] = json!("TapedeckNoMore");
            kept.rules.insert("tapedeck-TapedeckNoMore".to_owned(), old);
            kept.paces.insert("tapedeck".to_owned(), 300);
        }
        let (well, said) = validated(&path);
        assert!(!well && said.contains("TapedeckDiskLow was different in data"), "{said}");
        assert!(grafana.kept.lock().unwrap().writes.is_empty(), "a look changes nothing");
        let (state, note) = alerts(&run(&path, &["setup", "--json"]).out);
        assert_eq!(state, "updated");
        for words in [
            "TapedeckDiskLow was different in data",
            "missing: TapedeckDown",
            "TapedeckNoMore is no rule any more",
            "every 300 s",
        ] {
            assert!(note.contains(words), "{note}");
        }
        let kept = grafana.kept.lock().unwrap();
        let low = &kept.rules[LOW];
        assert!(low["data"][0]["model"]["expr"].as_str().unwrap().contains("tapedeck_disk_free_bytes"), "{low}");
        assert_eq!((&low["isPaused"], &low["labels"]["team"]), (&json!(true), &json!("night")), "theirs to say");
        assert_eq!(kept.rules["mine"], mine);
        assert!(kept.rules.contains_key(DOWN) && !kept.rules.contains_key("tapedeck-TapedeckNoMore"));
        assert_eq!(kept.paces["tapedeck"], 30);
        drop(kept);
        let (state, _) = alerts(&run(&path, &["setup", "--json"]).out);
        assert_eq!(state, "unchanged");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alert_rules_that_cannot_be_brought_are_left_out_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    let path = config(home.path(), &format!("to = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\n", grafana.url));
    blocking(move || {
        for (code, words) in [
            (404, "this Grafana has no API for them, being too old or its alerting switched off"),
            (403, "403 Forbidden: You'll need additional permissions; alert rules need the role Admin"),
        ] {
            grafana.kept.lock().unwrap().rules_refused = Some(code);
            let said = run(&path, &["setup", "--json"]);
            let (state, note) = alerts(&said.out);
            assert!(said.ok && state == "left out" && note.contains(words) && note.contains("--to files"), "{note}");
            let (well, said) = validated(&path);
            assert!(well && said.contains(words), "what may not be looked at is no fault: {said}");
        }
        let mut kept = grafana.kept.lock().unwrap();
        assert!(kept.rules.is_empty() && kept.dashboards.contains_key("pipeline"), "the rest is there");
        kept.rules_refused = None;
        drop(kept);
        states(&run(&path, &["setup", "--json"]));
        let set = |key: &str, value: Value| grafana.kept.lock().unwrap().rules.get_mut(DOWN).unwrap()[key] = value;
        // One of a file, and one that a program made by the API.
        set("for", json!("1h"));
        set("provenance", json!("file"));
        let said = run(&path, &["setup"]);
        assert!(!said.ok && said.err.contains("it differs in for, and comes from a file"), "{}", said.err);
        assert!(validated(&path).1.contains("it differs in for, and comes from a file"));
        set("provenance", json!("api"));
        assert_eq!(alerts(&run(&path, &["setup", "--json"]).out).0, "updated");
        assert_eq!(grafana.kept.lock().unwrap().rules[DOWN]["for"], "1m");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_that_title_is_used_and_ours_is_renamed() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    grafana.kept.lock().unwrap().folders.push(json!({ "uid": "theirs", "title": "Desk" }));
    let table = |folder: &str| format!("to = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\nfolder = '{folder}'\n", grafana.url);
    let (desk, other, renamed) = (table("Desk"), table("Other"), table("Renamed"));
    blocking(move || {
        states(&run(&config(home.path(), &desk), &["setup", "--json"]));
        let kept = || grafana.kept.lock().unwrap();
        assert_eq!(kept().dashboards["candles"]["folder"], "theirs");
        assert_eq!(kept().rules[DOWN]["folderUID"], "theirs");
        let moved = states(&run(&config(home.path(), &other), &["setup", "--json"]));
        assert!(moved.contains(&("tapedeck".to_owned(), "created".to_owned())), "{moved:?}");
        assert_eq!(kept().dashboards["candles"]["folder"], "tapedeck");
        assert_eq!(kept().rules[DOWN]["folderUID"], "tapedeck");
        states(&run(&config(home.path(), &renamed), &["setup", "--json"]));
        let folders = [json!({ "uid": "theirs", "title": "Desk" }), json!({ "uid": "tapedeck", "title": "Renamed" })];
        assert_eq!(kept().folders, folders);
    })
    .await;
}
