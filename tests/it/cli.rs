//! The command line as scripts meet it: output, errors, exit codes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::{Deck, tapedeck, until};

fn run(dir: &Path, args: &[&str]) -> Output {
    tapedeck().args(args).current_dir(dir).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

/// A short demo, long enough for every subscription to be live on a busy machine.
fn demo(home: &Path) -> Output {
    run(home, &["demo", "--plain", "--for", "4s", "--rate", "100", "-q"])
}

/// A folder with a tape of a short demo in `demo/`: each test has a copy of one.
fn recorded() -> tempfile::TempDir {
    static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let home = tempfile::tempdir().unwrap();
        let done = demo(home.path());
        assert!(done.status.success(), "{}", err(&done));
        let packed = Command::new("tar").arg("-C").arg(home.path()).args(["-Sc", "demo"]).output().unwrap();
        assert!(packed.status.success(), "{}", err(&packed));
        packed.stdout
    });
    let home = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar").arg("-C").arg(home.path()).arg("-Sx").stdin(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&PACKED).unwrap();
    assert!(tar.wait().unwrap().success());
    home
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let home = tempfile::tempdir().unwrap();
    let help = run(home.path(), &["--help"]);
    assert!(help.status.success());
    let text = out(&help);
    assert!(text.contains("Exit codes:"), "{text}");
    for verb in
        ["demo", "run", "status", "init", "check", "tail", "gaps", "cursors", "tape", "simulate", "kinds", "doctor"]
    {
        assert!(text.contains(&format!("  {verb} ")), "{verb} is not listed");
        let help = run(home.path(), &[verb, "--help"]);
        assert!(help.status.success() && out(&help).contains(&format!("tapedeck {verb}")), "{verb}: {}", out(&help));
        let page = run(home.path(), &["man", verb]);
        assert!(page.status.success() && out(&page).contains(".TH"), "{verb} has no page");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&run(home.path(), &["completions", shell])).contains("tapedeck"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_or_config_ends_with_2() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("bad.toml"), "[source.k]\nkind = 'kraken'\npair = 'x'\n").unwrap();
    for args in [
        &["tial"][..],
        &["tail", "--from", "yesterday"],
        &["tail", "--kind", "trde"],
        &["run", "-c", "bad.toml"],
        &["run", "-c", "none.toml"],
        &["check"],
        &["config", "show", "--set", "tape.dri=x"],
        &["kinds", "karken"],
        &["run", "--only", "x", "--set", "source.k.kind=kraken", "--set", "source.k.pairs=*"],
    ] {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{args:?}: nothing but results goes to standard output");
    }
    let said = err(&run(home.path(), &["run", "-c", "bad.toml"]));
    for part in ["tapedeck: [source.k] unknown key `pair`", "bad.toml:3:1", "did you mean `pairs`?"] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

#[test]
fn where_there_is_no_tape_the_code_is_4() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["tail", "--until", "now"][..],
        &["gaps"],
        &["cursors", "list"],
        &["tape", "info"],
        &["tape", "verify"],
        &["status"],
    ] {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", err(&output));
        assert!(err(&output).contains("tape"), "{args:?}: {}", err(&output));
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "looking leaves nothing behind");
}

#[test]
fn tail_prints_the_tape_once_in_order_and_by_filter() {
    let home = recorded();
    let all = run(home.path(), &["tail", "--dir", "demo", "--json", "--from", "begin", "--until", "now"]);
    assert!(all.status.success(), "{}", err(&all));
    let lines: Vec<Value> = out(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=lines.len() as u64).collect::<Vec<_>>(), "dense, from 1");
    for line in &lines {
        assert!(line["kind"].is_string() && line["ts_recv"].is_i64() && line["source"].is_string(), "{line}");
    }
    let trades = run(home.path(), &["tail", "--dir", "demo", "--json", "--kind", "trade", "--until", "now"]);
    let want: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "trade").collect();
    let got: Vec<Value> = out(&trades).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(got.iter().collect::<Vec<_>>(), want);
    assert!(got.iter().all(|trade| trade["price"].is_string() && trade["size"].is_string()));
    let few = run(
        home.path(),
        &["tail", "--dir", "demo", "--json", "-n", "3", "--source", "kra*", "--until", "now", "--from", "begin"],
    );
    assert_eq!(few.status.code(), Some(2), "a beginning and a number of last lines exclude each other");
    let few = run(home.path(), &["tail", "--dir", "demo", "--json", "--from", "5", "--until", "7"]);
    assert_eq!(out(&few).lines().count(), 3);
    let few = run(home.path(), &["tail", "--dir", "demo", "--from", "5", "--count", "2"]);
    assert_eq!(out(&few).lines().count(), 2);
    let never = run(home.path(), &["tail", "--dir", "demo", "--until", "99999999"]);
    assert_eq!(never.status.code(), Some(4), "{}", err(&never));
}

#[test]
fn tail_ends_quietly_when_nobody_reads_it() {
    let home = recorded();
    let mut child = tapedeck()
        .args(["tail", "--dir", "demo", "--json", "--from", "begin"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"seq\":1,"), "{first}");
    drop(lines);
    // Something must still come for the end to be noticed: the next deck on the same tape.
    let status = until("the end of the tail", || {
        let again = demo(home.path());
        assert!(again.status.success(), "{}", err(&again));
        child.try_wait().unwrap()
    });
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn tail_follows_a_deck_that_starts_later() {
    let home = recorded();
    let info = json(&run(home.path(), &["tape", "info", "--dir", "demo", "--json"]));
    let next = info["last_seq"].as_u64().unwrap() + 1;
    let mut child = tapedeck()
        .args(["tail", "--dir", "demo", "--json", "--from", "now", "--count", "1"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may begin to look when the next deck is over.
    let status = until("the end of the tail", || {
        let again = demo(home.path());
        assert!(again.status.success(), "{}", err(&again));
        child.try_wait().unwrap()
    });
    assert!(status.success());
    let mut line = String::new();
    child.stdout.take().unwrap().read_to_string(&mut line).unwrap();
    let event: Value = serde_json::from_str(line.trim()).unwrap();
    assert!(event["seq"].as_u64().unwrap() >= next, "{event}");
}

#[test]
fn tape_info_and_verify_agree_with_what_was_recorded() {
    let home = recorded();
    let info = json(&run(home.path(), &["tape", "info", "--dir", "demo", "--json"]));
    assert_eq!(info["first_seq"], 1);
    assert_eq!(info["records"], info["last_seq"]);
    assert_eq!(info["mode"], "group");
    assert_eq!(info["holes"], Value::Array(vec![]));
    assert!(info["bytes"].as_u64().unwrap() > 0 && !info["segments"].as_array().unwrap().is_empty());
    let status = json(&run(home.path(), &["status", "--json", "--dir", "demo"]));
    for (field, of_info) in [("id", "tape_id"), ("bytes", "bytes"), ("mode", "mode"), ("last_seq", "last_seq")] {
        assert_eq!(status["tape"][field], info[of_info], "{field}: {status}");
    }
    let open = out(&run(home.path(), &["gaps", "--open", "--json", "--dir", "demo"])).lines().count();
    assert_eq!(status["gaps_open"], open, "{status}");
    let verify = run(home.path(), &["tape", "verify", "--dir", "demo", "--json"]);
    assert!(verify.status.success());
    assert_eq!(json(&verify)["records"], info["records"]);
    let dump = run(home.path(), &["tape", "dump", "--dir", "demo", "--json", "--until", "3"]);
    let dumped: Vec<Value> = out(&dump).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(dumped.iter().any(|line| line["event"]["seq"] == 3), "{dumped:?}");
    assert!(run(home.path(), &["tape", "repair", "--dir", "demo"]).status.success());
}

#[test]
fn damage_is_a_hole_in_tail_and_a_finding_of_verify() {
    let home = recorded();
    let dump = run(home.path(), &["tape", "dump", "--dir", "demo", "--json"]);
    let lines: Vec<Value> = out(&dump).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = lines.iter().find(|line| line["event"]["seq"] == 5).and_then(|line| line["position"].as_u64()).unwrap();
    let segment = std::fs::read_dir(home.path().join("demo"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from(at).unwrap() + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let tail = run(home.path(), &["tail", "--dir", "demo", "--json", "--from", "4", "--until", "6"]);
    let lines: Vec<Value> = out(&tail).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!((&lines[0]["seq"], &lines[2]["seq"]), (&4.into(), &6.into()));
    assert_eq!((&lines[1]["kind"], &lines[1]["what"]), (&"tape".into(), &"hole".into()));
    assert_eq!((&lines[1]["from_seq"], &lines[1]["to_seq"]), (&5.into(), &5.into()));
    let verify = run(home.path(), &["tape", "verify", "--dir", "demo", "--json"]);
    assert_eq!(verify.status.code(), Some(1), "{}", out(&verify));
    assert_eq!(json(&verify)["holes"][0]["from_seq"], 5);
}

#[test]
fn a_pause_between_two_decks_is_in_the_ledger() {
    let home = recorded();
    let last = run(home.path(), &["tail", "--dir", "demo", "--json", "-n", "1", "--until", "now"]);
    let last: Value = serde_json::from_str(out(&last).trim()).unwrap();
    assert!(demo(home.path()).status.success());
    let gaps = run(home.path(), &["gaps", "--dir", "demo", "--json"]);
    let gaps: Vec<Value> = out(&gaps).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let down: Vec<&Value> = gaps.iter().filter(|gap| gap["cause"] == "down").collect();
    assert!(!down.is_empty() && down.iter().all(|gap| gap["state"] == "closed"), "{gaps:?}");
    assert!(down.iter().all(|gap| gap["from"].as_i64() <= last["ts_recv"].as_i64()), "since {last}: {down:?}");
    for gap in &gaps {
        assert!(gap["id"].is_u64() && gap["from"].is_i64() && gap["source"].is_string(), "{gap}");
        assert!(gap["to"].is_null() || gap["to"].as_i64() >= gap["from"].as_i64(), "{gap}");
    }
}

#[test]
fn gaps_are_chosen_by_state_cause_symbol_and_time_and_counted() {
    let home = recorded();
    assert!(demo(home.path()).status.success());
    let list = |args: &[&str]| -> Vec<Value> {
        let output = run(home.path(), &[&["gaps", "--dir", "demo", "--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = list(&[]);
    let some = |wanted: &dyn Fn(&Value) -> bool| all.iter().filter(|gap| wanted(gap)).cloned().collect::<Vec<_>>();
    let first = &all[0];
    let moment = tapedeck_market::UnixNanos(first["to"].as_i64().unwrap()).to_string();
    assert_eq!(list(&["--closed"]), some(&|gap| gap["state"] == "closed"));
    assert_eq!(list(&["--cause", "down"]), some(&|gap| gap["cause"] == "down"));
    assert_eq!(list(&["--cause", "disk,overrun"]), some(&|_| false));
    assert_eq!(list(&["--symbol", "BTC/*"]), some(&|gap| gap["symbol"].as_str().unwrap().starts_with("BTC/")));
    assert_eq!(list(&["--since", &moment]), some(&|gap| gap["to"].as_i64() >= first["to"].as_i64()));
    assert_eq!(list(&["--until", &moment]), some(&|gap| gap["from"].as_i64() <= first["to"].as_i64()));
    assert_eq!(list(&["--since", "2100-01-01"]), some(&|gap| gap["state"] == "open"));

    let totals = list(&["--totals"]);
    let sum = |field: &str| totals.iter().map(|total| total[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("gaps"), all.len() as u64, "{totals:?}");
    let btc = totals.iter().find(|total| total["symbol"] == "BTC/USD").unwrap();
    let longest = some(&|gap| gap["symbol"] == "BTC/USD" && gap["state"] == "closed")
        .iter()
        .map(|gap| gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap())
        .max();
    assert!(btc["lost_ns"].as_u64() >= longest, "{btc}");
    let wrong = run(home.path(), &["gaps", "--cause", "dwon"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("did you mean `down`?"), "{}", err(&wrong));
}

#[test]
fn cursors_are_listed_and_dropped() {
    use tapedeck_tape::Cursor;
    use tapedeck_tape::storage::Disk;
    let home = recorded();
    let dir = home.path().join("demo");
    let info = json(&run(home.path(), &["tape", "info", "--dir", "demo", "--json"]));
    let id = info["tape_id"].as_str().unwrap().parse().unwrap();
    let mut cursor = Cursor::open(&Disk, &dir, "influx", id, info["last_seq"].as_u64().unwrap()).unwrap();
    cursor.commit(2, b"state").unwrap();
    let listed = json(&run(home.path(), &["cursors", "list", "--dir", "demo", "--json"]));
    let influx = listed.as_array().unwrap().iter().find(|reader| reader["name"] == "influx").unwrap();
    assert_eq!((&influx["seq"], &influx["state_bytes"]), (&2.into(), &5.into()));
    assert!(run(home.path(), &["cursors", "drop", "influx", "--dir", "demo"]).status.success());
    let none = run(home.path(), &["cursors", "drop", "influx", "--dir", "demo"]);
    assert_eq!(none.status.code(), Some(4), "{}", err(&none));
}

#[test]
fn doctor_looks_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let doctor = run(home.path(), &["doctor", "--json", "--set", "http.listen=off"]);
    let findings = json(&doctor);
    let looked: Vec<&str> =
        findings["findings"].as_array().unwrap().iter().filter_map(|one| one["what"].as_str()).collect();
    for what in ["disk", "sync", "room", "clock", "ntp", "files", "http"] {
        assert!(looked.contains(&what), "{what}: {looked:?}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_tape_that_a_deck_records_on_is_busy_for_others_with_3() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens there; the deck runs all the same.
    let source = "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n";
    let deck = Deck::start(home.path(), source);
    deck.until("running deck", |status| status.running);
    for args in [&["run", "--plain", "-q", "-c", "tapedeck.toml"][..], &["cursors", "drop", "x", "--dir", "tape"]] {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", err(&output));
    }
    let info = json(&run(home.path(), &["tape", "info", "--dir", "tape", "--json"]));
    assert_eq!((&info["running"], &info["mode"]), (&true.into(), &"group".into()), "looking is allowed");
    deck.stop();
}
