//! `tapedeck grafana`: to a running Grafana and to files, once and again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::fake::{Fake, TOKEN};
use crate::deck::blocking;
use crate::support::tapedeck;

const PASSWORD: &str = "pg$ecret";

pub(super) fn config(home: &Path, grafana: &str) -> std::path::PathBuf {
    let path = home.join("tapedeck.toml");
    let text = format!(
        "[source.kraken]\nkind = 'kraken'\npairs = ['BTC/USD']\n[candles]\n\
         [sink.pg]\nkind = 'postgres'\ndsn = 'postgres://u:{PASSWORD}@db.example/market?sslmode=verify-full'\n\
         [grafana]\nprometheus = 'http://127.0.0.1:9090'\n{grafana}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// What a run says, and how it ends.
pub(super) struct Said {
    pub(super) out: String,
    pub(super) err: String,
    pub(super) ok: bool,
}

pub(super) fn run(config: &Path, args: &[&str]) -> Said {
    let out = tapedeck().arg("grafana").args(args).arg("-c").arg(config).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { out: text(&out.stdout), err: text(&out.stderr), ok: out.status.success() }
}

/// Whether `validate grafana` finds no fault, and what it says.
pub(super) fn validated(config: &Path) -> (bool, String) {
    let out = tapedeck().args(["validate", "grafana", "-c"]).arg(config).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
}

pub(super) fn states(said: &Said) -> Vec<(String, String)> {
    assert!(said.ok, "{}", said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let text = |change: &Value, key: &str| change[key].as_str().unwrap().to_owned();
    json["changes"].as_array().unwrap().iter().map(|change| (text(change, "uid"), text(change, "state"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_twice_changes_nothing_and_what_somebody_has_changed_is_put_right() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    let path = config(home.path(), &format!("to = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\n", grafana.url));
    blocking(move || {
        let dry = states(&run(&path, &["setup", "--json", "--dry-run"]));
        assert!(grafana.kept.lock().unwrap().writes.is_empty(), "a dry run writes nothing");
        let first = states(&run(&path, &["setup", "--json"]));
        assert_eq!(dry, first);
        assert!(first.iter().all(|(_, state)| state == "created"), "{first:?}");
        for uid in
            ["kraken_tick", "kraken_depth", "kraken_orders", "kraken_trade", "candles", "data_quality", "pipeline"]
        {
            assert!(first.iter().any(|(one, _)| one == uid), "{uid}: {first:?}");
        }
        let writes = grafana.kept.lock().unwrap().writes.len();
        let rules = grafana.kept.lock().unwrap().rules.len();
        assert!(rules >= 12, "{rules} alert rules");
        assert_eq!(writes, first.len() + rules, "each once, and how often the rules are looked at");
        let again = states(&run(&path, &["setup", "--json"]));
        assert!(again.iter().all(|(_, state)| state == "unchanged"), "{again:?}");
        assert_eq!(grafana.kept.lock().unwrap().writes.len(), writes, "the second run writes nothing");
        assert!(validated(&path).0, "all is there");
        {
            let mut kept = grafana.kept.lock().unwrap();
            assert_eq!(kept.folders, [json!({ "uid": "tapedeck", "title": "tapedeck" })]);
            kept.sources.get_mut("PostgreSQL pg").unwrap()["url"] = json!("elsewhere:5432");
            kept.dashboards.get_mut("candles").unwrap()["dashboard"]["panels"] = json!([]);
            kept.dashboards.get_mut("pipeline").unwrap()["folder"] = json!("elsewhere");
            kept.writes.clear();
        }
        let (well, said) = validated(&path);
        assert!(!well && said.contains("PostgreSQL pg differs in url") && said.contains("candles differs"), "{said}");
        assert!(said.contains("pipeline differs"), "{said}");
        let mended = states(&run(&path, &["setup", "--json"]));
        let different: Vec<_> = mended.iter().filter(|(_, state)| state == "updated").map(|(uid, _)| uid).collect();
        assert_eq!(different, ["tapedeck-pg", "candles", "pipeline"]);
        assert_eq!(grafana.kept.lock().unwrap().sources["PostgreSQL pg"]["url"], "db.example:5432");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_there_is_used_under_its_own_uid() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    let theirs = json!({ "uid": "theirs", "name": "PostgreSQL pg", "type": "postgres", "isDefault": true });
    grafana.kept.lock().unwrap().sources.insert("PostgreSQL pg".to_owned(), theirs);
    let path = config(home.path(), &format!("to = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\n", grafana.url));
    blocking(move || {
        let said = states(&run(&path, &["setup", "--json"]));
        assert!(said.contains(&("theirs".to_owned(), "updated".to_owned())), "{said:?}");
        let mut kept = grafana.kept.lock().unwrap();
        let panel = &kept.dashboards["kraken_tick"]["dashboard"]["panels"][0];
        assert_eq!(panel["datasource"]["uid"], "theirs");
        assert_eq!(panel["targets"][0]["datasource"]["uid"], "theirs");
        assert_eq!(kept.sources["PostgreSQL pg"]["isDefault"], true, "whether it is the default is theirs to say");
        kept.sources.get_mut("PostgreSQL pg").unwrap()["type"] = json!("mysql");
        drop(kept);
        let said = run(&path, &["setup"]);
        assert!(!said.ok && said.err.contains("there is one of that name, of kind mysql: rename it"), "{}", said.err);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_the_fix() {
    let home = tempfile::tempdir().unwrap();
    let grafana = Fake::start().await;
    blocking(move || {
        for (table, words) in [
            (
                "token = 'wrong'",
                "Grafana answers 401 Unauthorized: Invalid API key; the token or password in [grafana] is not",
            ),
            ("", "Invalid API key; set [grafana] token, or username and password"),
        ] {
            let path = config(home.path(), &format!("to = 'api'\nurl = '{}'\n{table}\n", grafana.url));
            let said = run(&path, &["setup"]);
            assert!(!said.ok && said.err.contains(words), "{}", said.err);
            assert!(!said.err.contains(PASSWORD) && !said.err.contains("'wrong'"), "{}", said.err);
        }
        let nobody = format!("http://127.0.0.1:{}", crate::support::free_port());
        let path = config(home.path(), &format!("to = 'api'\nurl = '{nobody}'\n"));
        let said = run(&path, &["setup", "--wait", "1s"]);
        assert!(
            !said.ok && said.err.contains("no Grafana at") && said.err.contains("set [grafana] url"),
            "{}",
            said.err
        );
        let path = config(home.path(), "streams = ['kraken_ticks']\n");
        let said = run(&path, &["setup"]);
        assert!(!said.ok && said.err.contains("nothing is called `kraken_ticks`"), "{}", said.err);
    })
    .await;
}

#[test]
fn files_are_written_whole_once_and_what_is_not_wanted_any_more_goes() {
    let home = tempfile::tempdir().unwrap();
    let path = config(home.path(), "");
    let dir = home.path().join("grafana");
    let folder = dir.to_str().unwrap();
    let first = states(&run(&path, &["setup", "--dir", folder, "--json"]));
    assert!(first.iter().all(|(_, state)| state == "created"), "{first:?}");
    let secret = dir.join("provisioning/datasources/tapedeck.yaml");
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o640, "it has a password in it");
    let text = std::fs::read_to_string(&secret).unwrap();
    assert!(text.contains("pg$$ecret"), "a dollar sign stands twice, or Grafana takes it for a variable");
    // As YAML, which JSON is.
    let whole: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(whole["datasources"][0]["jsonData"]["sslmode"], "verify-full");
    assert_eq!(whole["datasources"][0]["isDefault"], true);
    let again = states(&run(&path, &["setup", "--dir", folder, "--json"]));
    assert!(again.iter().all(|(_, state)| state == "unchanged"), "{again:?}");
    let path = config(home.path(), "streams = ['oanda_tick']\n");
    let now = states(&run(&path, &["dashboards", "--dir", folder, "--json"]));
    assert!(now.contains(&("kraken_tick".to_owned(), "removed".to_owned())), "{now:?}");
    assert!(!dir.join("dashboards/tapedeck/kraken_tick.json").exists());
    assert!(dir.join("dashboards/tapedeck/oanda_tick.json").exists());
}
