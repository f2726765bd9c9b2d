//! A deck's metrics and alert rules through a real Grafana that had something of its own, and where somebody changes things.

use serde_json::{Value, json};

use super::metered::{Metered, venue};
use super::panels::queries;
use super::real::{Web, changes};
use crate::deck::blocking;
use crate::servers::Grafana;
use crate::support::{tapedeck, until};

const RULES: &str = "/api/v1/provisioning/alert-rules";
const GROUP: &str = "/api/v1/provisioning/folder/somebodys/rule-groups/tapedeck";

/// What became of everything, by its uid.
fn states(all: &[Value]) -> Vec<(&str, &str)> {
    all.iter().map(|one| (one["uid"].as_str().unwrap(), one["state"].as_str().unwrap())).collect()
}

impl Web<'_> {
    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status}: {answer}");
        answer
    }

    fn get(&self, path: &str) -> Value {
        self.done("GET", path, &Value::Null)
    }

    /// A rule as Grafana has looked at it: what it is, and what fires.
    fn seen(&self, title: &str) -> Option<Value> {
        let all = self.get("/api/prometheus/grafana/api/v1/rules");
        let groups = all["data"]["groups"].as_array()?;
        let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.find(|rule| rule["name"] == title).cloned()
    }

    /// A token of a new service account.
    fn token(&self, role: &str) -> String {
        let made = self.done("POST", "/api/serviceaccounts", &json!({ "name": role, "role": role }));
        let path = format!("/api/serviceaccounts/{}/tokens", made["id"]);
        self.done("POST", &path, &json!({ "name": role }))["key"].as_str().unwrap().to_owned()
    }
}

impl Metered {
    fn setup(&self) -> Vec<Value> {
        let done = self.filled.run(&["grafana", "setup", "--json"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        changes(&done.stdout)
    }

    fn validated(&self) -> (bool, String) {
        let done = self.filled.run(&["validate", "grafana"]);
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_and_alert_rules_by_way_of_a_real_grafana() {
    let venue = venue().await;
    blocking(move || {
        let Some(grafana) = Grafana::private() else { return };
        let web = Web(&grafana);
        web.done(
            "POST",
            "/api/datasources",
            &json!({ "uid": "theirs", "name": "InfluxDB", "type": "influxdb", "access": "proxy", "url": "http://127.0.0.1:9",
                "database": "tick", "isDefault": true }),
        );
        web.done("POST", "/api/folders", &json!({ "uid": "somebodys", "title": "tapedeck" }));
        let to = format!("to = 'api'\nurl = '{}'\nusername = 'admin'\npassword = 'tapedeck-password'", grafana.url());
        let Some(metered) = Metered::start(&venue, &to) else { return };

        let first = metered.setup();
        let of = states(&first);
        for (uid, state) in [("theirs", "updated"), ("somebodys", "unchanged"), ("tapedeck", "created"), ("pipeline", "created")] {
            assert!(of.contains(&(uid, state)), "{uid} {state}: {of:?}");
        }
        let board = web.get("/api/dashboards/uid/kraken_tick");
        assert_eq!(board["dashboard"]["panels"][0]["datasource"]["uid"], "theirs", "the source that was there");
        assert_eq!(board["dashboard"]["refresh"], "5s");
        assert_eq!(board["meta"]["folderUid"], "somebodys", "the folder that was there");
        for change in metered.setup() {
            assert_eq!(change["state"], "unchanged", "{change}");
        }
        let (well, said) = metered.validated();
        assert!(well, "{said}");

        every_panel_has_values(&web);
        rules_are_looked_at_and_one_fires(&web);
        what_somebody_changes_is_put_right(&web, &metered);
        tokens_may_do_what_their_role_may(&web, &metered);
    })
    .await;
}

fn every_panel_has_values(web: &Web<'_>) {
    let board = web.get("/api/dashboards/uid/pipeline")["dashboard"].clone();
    let asked = queries(&board);
    assert!(asked.len() > 20, "{asked:?}");
    for (title, target) in asked {
        until(&format!("values of {title}: {target}"), || web.rows(&target).ok().filter(|rows| !rows.is_empty()));
    }
}

fn rules_are_looked_at_and_one_fires(web: &Web<'_>) {
    // As often as Grafana can; `setup` puts that right below.
    web.done("PUT", GROUP, &json!({ "interval": 10 }));
    let group = web.get(GROUP);
    let titles: Vec<&str> =
        group["rules"].as_array().unwrap().iter().filter_map(|rule| rule["title"].as_str()).collect();
    assert!(titles.len() >= 12, "{titles:?}");
    let fires =
        until("a rule that fires", || web.seen("TapedeckChecksumBreaks").filter(|rule| rule["state"] == "firing"));
    let alert = &fires["alerts"][0];
    assert_eq!(
        (&alert["labels"]["source"], &alert["labels"]["severity"]),
        (&json!("kraken"), &json!("warn")),
        "{fires}"
    );
    let said = alert["annotations"]["summary"].as_str().unwrap();
    let number = said
        .strip_prefix("kraken: ")
        .and_then(|rest| rest.strip_suffix(" books in 5 minutes that did not match the checksum"));
    assert!(number.is_some_and(|text| text.parse::<f64>().is_ok()), "{said}");
    for title in titles {
        let rule = until("a rule that was looked at", || {
            web.seen(title).filter(|rule| rule["lastEvaluation"] != "0001-01-01T00:00:00Z")
        });
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    // Nothing of that: a series that is not there is no alert.
    assert_eq!(web.seen("TapedeckTapeDamaged").unwrap()["state"], "inactive");
}

fn what_somebody_changes_is_put_right(web: &Web<'_>, metered: &Metered) {
    let rule = |uid: &str| web.get(&format!("{RULES}/{uid}"));
    assert!(rule("tapedeck-TapedeckDown")["provenance"].as_str().unwrap_or_default().is_empty(), "it can be changed");
    let mut low = rule("tapedeck-TapedeckDiskLow");
    low["data"][0]["model"]["expr"] = json!("vector(0) > 1");
    low["isPaused"] = json!(true);
    low["labels"]["team"] = json!("night");
    web.done("PUT", &format!("{RULES}/tapedeck-TapedeckDiskLow"), &low);
    web.done("DELETE", &format!("{RULES}/tapedeck-TapedeckDown"), &Value::Null);
    let mut mine = rule("tapedeck-TapedeckGapOpen");
    mine["uid"] = json!("mine");
    mine["id"] = json!(0);
    mine["title"] = json!("Mine");
    web.done("POST", RULES, &mine);
    let mine = rule("mine");
    let mut board = web.get("/api/dashboards/uid/pipeline")["dashboard"].clone();
    board["panels"] = json!([]);
    web.done("POST", "/api/dashboards/db", &json!({ "dashboard": board, "folderUid": "somebodys", "overwrite": true }));
    let mut source = web.get("/api/datasources/uid/theirs");
    source["url"] = json!("http://127.0.0.1:9");
    web.done("PUT", "/api/datasources/uid/theirs", &source);

    let (well, said) = metered.validated();
    assert!(!well, "{said}");
    for words in [
        "InfluxDB differs in url",
        "pipeline differs",
        "TapedeckDiskLow was different in data",
        "missing: TapedeckDown",
        "every 10 s",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let mended = metered.setup();
    let different: Vec<&str> =
        states(&mended).into_iter().filter(|(_, state)| *state == "updated").map(|(uid, _)| uid).collect();
    assert_eq!(different, ["theirs", "pipeline", "tapedeck"], "{mended:?}");
    let low = rule("tapedeck-TapedeckDiskLow");
    assert!(low["data"][0]["model"]["expr"].as_str().unwrap().contains("tapedeck_disk_free_bytes"), "{low}");
    assert_eq!((&low["isPaused"], &low["labels"]["team"]), (&json!(true), &json!("night")), "theirs to say");
    assert_eq!(web.get(GROUP)["interval"], 30);
    rule("tapedeck-TapedeckDown");
    let mut left = rule("mine");
    // How often its group is looked at is of all of it.
    left["updated"] = mine["updated"].clone();
    assert_eq!(left, mine);
    for change in metered.setup() {
        assert_eq!(change["state"], "unchanged", "{change}");
    }
    let (well, said) = metered.validated();
    assert!(well, "{said}");
}

fn tokens_may_do_what_their_role_may(web: &Web<'_>, metered: &Metered) {
    let text = std::fs::read_to_string(&metered.filled.config).unwrap();
    let login = "username = 'admin'\npassword = 'tapedeck-password'";
    assert!(text.contains(login));
    let run = |role: &str, what: &str| {
        let path = metered.filled.home.path().join("token.toml");
        std::fs::write(&path, text.replace(login, &format!("token = '{}'", web.token(role)))).unwrap();
        tapedeck().args(["grafana", what, "--json", "-c"]).arg(&path).output().unwrap()
    };
    let admin = run("Admin", "setup");
    assert!(admin.status.success(), "{}", String::from_utf8_lossy(&admin.stderr));
    for change in changes(&admin.stdout) {
        assert_eq!(change["state"], "unchanged", "{change}");
    }
    let editor = run("Editor", "dashboards");
    assert!(editor.status.success(), "{}", String::from_utf8_lossy(&editor.stderr));
    for change in changes(&editor.stdout) {
        match change["what"].as_str().unwrap() {
            "alerts" => {
                let note = change["note"].as_str().unwrap();
                assert!(change["state"] == "left out" && note.contains("alert rules need the role Admin"), "{change}");
            }
            _ => assert_eq!(change["state"], "unchanged", "{change}"),
        }
    }
    let mut source = web.get("/api/datasources/uid/theirs");
    source["url"] = json!("http://127.0.0.1:9");
    web.done("PUT", "/api/datasources/uid/theirs", &source);
    let viewer = run("Viewer", "setup");
    let said = String::from_utf8_lossy(&viewer.stderr);
    assert!(!viewer.status.success() && said.contains("needs the role Admin to make data sources"), "{said}");
}
