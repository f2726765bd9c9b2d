//! Logs as the program writes them: files, JSON, and no secrets.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Deck, tapedeck, until};

#[test]
fn a_deck_logs_json_into_files_of_its_own_and_a_secret_into_none() {
    let home = tempfile::tempdir().unwrap();
    let secret = "c2VjcmV0LWZvci10aGUtdGVzdA==";
    // Nothing listens there: connecting fails, is logged, and is tried again.
    let config = format!(
        "[tape]\ndir = 'tape'\n[http]\nlisten = 'off'\n[log]\nformat = 'json'\nper_service = true\nlevel = 'debug'\n\
         [source.one]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9/{secret}'\n\
         api_key = 'the-key-of-the-test'\napi_secret = '{secret}'\n"
    );
    std::fs::write(home.path().join("tapedeck.toml"), config).unwrap();
    let run = tapedeck().args(["run", "--plain", "--for", "4s"]).current_dir(home.path()).output().unwrap();
    let console = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{console}");
    let logs = home.path().join("tape/logs");
    let common = std::fs::read_to_string(logs.join("tapedeck.log")).unwrap();
    // Each writer stamps the line when it formats it.
    let words = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_once(',').unwrap_or_default().1.to_owned()).collect()
    };
    assert_eq!(words(&common), words(&console), "the file has what the console has");
    assert!(!common.contains(secret), "{common}");
    let own = std::fs::read_to_string(logs.join("one.log")).unwrap();
    assert!(!own.is_empty() && own.lines().all(|line| common.contains(line)), "{own}");
    for line in common.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[test]
fn quiet_moves_the_level_and_files_can_be_switched_off() {
    let home = tempfile::tempdir().unwrap();
    let demo = |flag: &[&str]| {
        let args = ["demo", "--plain", "--for", "1s", "--rate", "50", "--set", "log.dir=off"];
        let output = tapedeck().args(args).args(flag).current_dir(home.path()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(demo(&[]).contains(" INFO "), "by default what changes is told");
    let quiet = demo(&["-q"]);
    assert!(!quiet.contains(" INFO "), "{quiet}");
    assert!(!home.path().join("demo/logs").exists(), "no files when they are off");
}

#[test]
fn the_level_of_a_running_deck_follows_its_config() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens there; the deck runs all the same.
    let source = "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n";
    let deck = Deck::start(home.path(), &format!("[log]\nlevel = 'error'\n{source}"));
    deck.until("running deck", |status| status.running);
    assert_eq!(deck.log(), "", "nothing a person should act on");
    let text = std::fs::read_to_string(&deck.config).unwrap();
    std::fs::write(&deck.config, text.replace("'error'", "'info'")).unwrap();
    deck.signal(Signal::HUP);
    until("the new level", || deck.log().contains("config read again").then_some(()));
    deck.stop();
}
