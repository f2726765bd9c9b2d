//! No secret leaves: planted in every place that a config takes one, and looked for in all that a deck prints, writes and serves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::heartbeat::Ear;
use crate::servers::{Mosquitto, fresh_name};
use crate::support::{Deck, free_port, tapedeck, until};
use crate::up::Home;

/// In every secret that may be any text.
const MARK: &str = "LEAK";
/// In the ones that may not: an account of OANDA.
const DIGITS: &str = "7770777";
/// A key of CURVE.
const CURVE: &str = "LEAK0Z.tQqM8Tl%dVkIJ3fXc7n&vW{0HsPb>LEAK";
const CURVE_PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

/// Nothing listens at any of these addresses: each of them is told in an error.
fn config(http: u16, broker: u16, topic: &str, port_offset: u16) -> String {
    format!(
        r#"
[http]
listen = "127.0.0.1:{http}"
[log]
level = "trace"
per_service = true
[tape]
[bus]
port_offset = {port_offset}
[source.kraken]
kind = "kraken"
pairs = ["BTC/USD"]
channels = ["trade"]
url = "ws://LEAKuser:LEAKpassword@127.0.0.1:9/v2?token=LEAKquery"
private_url = "ws://LEAKuser:LEAKp%%40ss@127.0.0.1:9/private"
rest_url = "http://LEAKuser:LEAKrest@127.0.0.1:9/0?apikey=LEAKrestkey"
api_key = "LEAKkrakenkey"
api_secret = "LEAKkrakensecretAA=="
[source.binance]
kind = "binance"
symbols = ["BTCUSDT"]
url = "ws://LEAKbinance:LEAKws@127.0.0.1:9"
rest_url = "http://LEAKbinance:LEAKhttp@127.0.0.1:9"
api_key_file = "binance.key"
[source.oanda]
kind = "oanda"
instruments = ["EUR_USD"]
channels = ["quote", "transactions"]
url = "http://LEAKoanda:LEAKurl@127.0.0.1:9"
token = "LEAKoandatoken"
account = "101-004-{DIGITS}-001"
[source.kite]
kind = "kite"
instruments = [256265]
url = "ws://127.0.0.1:9"
api_key = "LEAKkitekey"
[source.betfair]
kind = "betfair"
event_types = ["7"]
url = "tcp://127.0.0.1:9"
login_url = "http://LEAKbf:LEAKlogin@127.0.0.1:9/login?x=LEAKbfquery"
username = "somebody"
app_key = "LEAKappkey"
[source.x]
kind = "x"
url = "http://LEAKx:LEAKxurl@127.0.0.1:9"
[[source.x.rules]]
tag = "btc"
value = "bitcoin"
[source.zmq]
kind = "zmq"
connect = ["tcp://127.0.0.1:9"]
server_key = "{CURVE_PUBLIC}"
public_key = "{CURVE_PUBLIC}"
secret_key = "{CURVE}"
[source.points]
kind = "http"
token = "LEAKhttptoken"
user = "me"
password = "LEAKhttppassword"
influx = "http://LEAKfront:LEAKfrontpw@127.0.0.1:9"
influx_user = "me"
influx_password = "LEAKinfluxfront"
influx_token = "LEAKfronttoken"
[sink.influx]
kind = "influx"
url = "http://LEAKin:LEAKinpw@127.0.0.1:9/?token=LEAKinquery"
username = "me"
[sink.influx2]
kind = "influx"
dialect = 2
org = "o"
url = "http://127.0.0.1:9/?auth=LEAKin2query"
token = "LEAKinfluxtoken"
[sink.questdb]
kind = "questdb"
url = "http://LEAKq:LEAKqpw@127.0.0.1:9/"
token = "LEAKquesttoken"
[sink.postgres]
kind = "postgres"
dsn = "postgres://LEAKpg:LEAKp%23g@127.0.0.1:9/db?application_name=x"
[sink.pairs]
kind = "postgres"
dsn = "host=127.0.0.1 port=9 user=me password=LEAKpairs dbname=db"
[heartbeat]
broker = "127.0.0.1:{broker}"
topic = "{topic}"
every = "1s"
protocol = "5"
[sync]
[sync.source]
url = "postgresql://LEAKsync:LEAKsyncpw@127.0.0.1:9/qdb"
[sync.target]
url = "http://127.0.0.1:9/?token=LEAKpbquery"
email = "me@example.com"
[sync.table.wig80_historical]
preset = "wig80_historical"
[server.db]
ready = "http http://LEAKready:LEAKreadypw@127.0.0.1:9/?token=LEAKreadyquery"
[server.db.env]
DB_PASSWORD = "LEAKenvpassword"
SOME_KEY = "LEAKenvkey"
ANY = "LEAKenvany"
"#
    )
}

/// Variables, real ones and of `.env`, that name secrets.
const ENV: [(&str, &str); 4] = [
    ("X_BEARER_TOKEN", "LEAKxtoken"),
    ("BETFAIR_PASSWORD", "LEAKbetfair"),
    ("TAPEDECK__SINK__INFLUX__PASSWORD", "LEAKinfluxpassword"),
    ("GRAFANA_PASSWORD", "LEAKgrafana"),
];
const DOTENV: &str = "KITE_API_SECRET=LEAKkitesecret\nKITE_ACCESS_TOKEN=LEAKkiteaccess\nMQTT_USERNAME=anybody\n\
                      MQTT_PASSWORD=LEAKmqtt\nADMIN_PASSWORD=LEAKadmin\nTAPEDECK__SOURCE__BETFAIR__CA_FILE=\n\
                      GRAFANA_API_KEY=LEAKgrafanakey\n";

/// A folder with all of it.
fn planted(broker: u16, topic: &str) -> (tempfile::TempDir, u16) {
    let (home, http) = (tempfile::tempdir().unwrap(), free_port());
    let config = config(http, broker, topic, crate::support::free_offset()).replace("%%", "%");
    std::fs::write(home.path().join("tapedeck.toml"), config.replace("[tape]\n", "[tape]\ndir = 'tape'\n")).unwrap();
    let dotenv = DOTENV.replace("TAPEDECK__SOURCE__BETFAIR__CA_FILE=\n", "");
    std::fs::write(home.path().join(".env"), dotenv).unwrap();
    std::fs::write(home.path().join("binance.key"), "LEAKbinancekey\n").unwrap();
    (home, http)
}

fn deck(home: &Path) -> Deck {
    let (config, dir) = (home.join("tapedeck.toml"), home.join("tape"));
    let mut command = tapedeck();
    command.args(["run", "--plain", "-c"]).arg(&config).current_dir(home).envs(ENV);
    Deck::of(command, &config, &dir)
}

/// What a verb says, on both its outputs.
fn said(home: &Path, args: &[&str]) -> String {
    let out = tapedeck().args(args).current_dir(home).envs(ENV).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// The words around the first secret of a text.
fn leak(text: &str) -> Option<&str> {
    let at = text.find(MARK).or_else(|| text.find(DIGITS))?;
    let near = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
    Some(&text[near(at.saturating_sub(150))..near((at + 60).min(text.len()))])
}

#[track_caller]
fn clean(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what} says nothing");
    assert_eq!(leak(text), None, "{what} tells a secret");
}

/// Every file below a folder that the test did not write itself, and no keys.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    const OURS: [&str; 3] = ["tapedeck.toml", ".env", "binance.key"];
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(&path, found);
        } else if entry.file_type().unwrap().is_file() && !OURS.contains(&name.as_str()) && !name.ends_with("_secret") {
            found.push(path);
        }
    }
}

fn get(port: u16, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Every source and service has tried what it does, and says why it cannot.
fn until_all_have_failed(deck: &Deck) {
    deck.until("errors of all", |status| {
        let sources = status.sources.iter().filter(|one| one.venue != "http");
        let tried =
            |state: &str| ["lost:", "waiting:", "failed:", "unavailable:"].iter().any(|word| state.starts_with(word));
        // What waits for messages of publishers that are away is not in error.
        let sources = sources.filter(|one| one.name != "zmq").map(|one| one.state.as_str());
        let services = status.services.iter().filter(|one| one.kind == "sink" || one.name == "sync");
        let all: Vec<&str> = sources.chain(services.map(|one| one.state.as_str())).collect();
        all.len() >= 11 && all.iter().all(|state| tried(state))
    });
}

#[test]
fn a_deck_with_secrets_everywhere_tells_none_of_them_to_anybody() {
    let (home, http) = planted(9, "secrets");
    clean("keys", &said(home.path(), &["keys", "server", "--set", "tape.dir=tape"]));
    let deck = deck(home.path());
    until_all_have_failed(&deck);
    for path in
        ["/metrics", "/status", "/livez", "/readyz", "/health", "/ping", "/query?q=SHOW+DATABASES", "/write?p=x"]
    {
        clean(path, &get(http, path));
    }
    for verb in [
        "status",
        "status --json",
        "config show",
        "config show --json",
        "check",
        "check --json",
        "check --offline",
        "cursors list",
        "gaps",
        "gaps --json",
        "ports",
        "validate stores",
        "sync status",
        "sync check",
        "reconcile influx",
        "retention status",
        "keys list",
        "logs kraken",
        "restart kraken",
        "restart nobody",
        "instruments",
    ] {
        let args: Vec<&str> = verb.split(' ').collect();
        // A list may be empty.
        assert_eq!(leak(&said(home.path(), &args)), None, "{verb} tells a secret");
    }
    // The old config stays, and what is wrong with the new one is told without it.
    let path = home.path().join("tapedeck.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("app_key = \"LEAKappkey\"", "app_kee = \"LEAKappkey\"")).unwrap();
    deck.signal(rustix::process::Signal::HUP);
    until("the refusal", || deck.log().contains("app_kee").then_some(()));
    std::fs::write(&path, text).unwrap();
    clean("the deck's own output", &(deck.log() + &deck.stop()));
    let mut found = Vec::new();
    files(home.path(), &mut found);
    let names: BTreeSet<String> =
        found.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    for name in ["tapedeck.log", "kraken.log", "influx.log"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for path in found {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert_eq!(leak(&text), None, "{} holds a secret", path.display());
    }
}

#[test]
fn a_broker_is_told_no_secret() {
    let Some(broker) = Mosquitto::shared() else { return };
    let topic = fresh_name("secrets");
    let (home, _) = planted(broker.port(), &topic);
    let ear = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
    let deck = deck(home.path());
    until_all_have_failed(&deck);
    for (place, word) in [("source/kraken", "lost"), ("sink/influx", "unavailable")] {
        ear.until(place, |heard| heard.topic.contains(place) && heard.payload.contains(word));
    }
    ear.until("a beat", |heard| heard.topic.ends_with("/heartbeat"));
    deck.stop();
    let all = ear.all();
    assert!(all.len() > 10, "{all:?}");
    for heard in all {
        assert_eq!(leak(&format!("{} {}", heard.topic, heard.payload)), None);
    }
}

#[test]
fn what_runs_beside_the_deck_tells_no_secret_either() {
    let home = Home::new(
        "[deck]\nlimit = '3s'\n[server.loud]\ncommand = ['sh', '-c', 'echo with $DB_PASSWORD at $DB_URL; exit 78']\n\
         [server.loud.env]\nDB_PASSWORD = 'LEAKenv'\nDB_URL = 'http://u:LEAKurl@h/?q=LEAKquery'\n\
         [source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://u:LEAKws@127.0.0.1:9'\n",
    );
    for verb in ["up", "status", "status --json", "logs loud", "logs supervisor", "config show", "down"] {
        let args: Vec<&str> = verb.split(' ').collect();
        let said = home.say(&args);
        clean(verb, &(said.out + &said.err));
    }
    // Its own file is what it wrote itself.
    let own = std::fs::read_to_string(home.table().log_of("loud")).unwrap();
    assert!(own.contains("with LEAKenv"), "{own}");
    let mut found = Vec::new();
    files(home.dir.path(), &mut found);
    found.retain(|path| *path != home.table().log_of("loud"));
    for path in found {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert_eq!(leak(&text), None, "{} holds a secret", path.display());
    }
}

#[test]
fn an_error_of_the_config_names_the_key_and_the_place_and_never_the_value() {
    let home = tempfile::tempdir().unwrap();
    let kraken = "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\n";
    let oanda = "[source.k]\nkind = 'oanda'\ninstruments = ['EUR_USD']\n";
    // What is wrong, the key that is named, and its line.
    for (text, key, line) in [
        (format!("{kraken}secret_key = 'LEAK'\n"), "secret_key", 4),
        (format!("{kraken}app_key = 'LEAK'\n"), "app_key", 4),
        (format!("{kraken}account = 'LEAK'\n"), "account", 4),
        (format!("{kraken}bearer = 'LEAK'\n"), "bearer", 4),
        (format!("{kraken}bearer = {{ url = 'x', me = 'LEAK' }}\n"), "bearer", 4),
        (format!("{kraken}bearer = 1 # = 'LEAK'\n"), "bearer", 4),
        (format!("{kraken}api_key = 7770777\n"), "api_key", 4),
        (format!("{kraken}api_secret = ['LEAK']\n"), "api_secret", 4),
        (format!("{kraken}book_depth = 17 # was api_key = 'LEAK'\n"), "book_depth", 4),
        (format!("{kraken}url = 'ftp://u:LEAK@h'\n"), "url", 4),
        (format!("{kraken}url = 'ftp://h?token=LEAK'\n"), "url", 4),
        (format!("{oanda}account = 7770777\n"), "account", 4),
        (format!("{oanda}token = 'LEAK LEAK'\n"), "token", 4),
        ("[source.k]\nkind = 'krakn'\nsecretive = 'LEAK'\n".to_owned(), "krakn", 2),
        ("[source]\nk = { kind = 'kraken', pairs = ['A/B'], app_key = 'LEAK' }\n".to_owned(), "app_key", 2),
        ("source.k.kind = 'kraken'\nsource.k.pairs = ['A/B']\nsource.k.app_key = 'LEAK'\n".to_owned(), "app_key", 3),
        ("app_key = 'LEAK'\n".to_owned(), "app_key", 1),
        ("[sink]\nx = 'LEAK'\n".to_owned(), "x", 2),
        ("[sink.p]\nkind = 'postgres'\ndsn = 'mysql://u:LEAK@h/LEAK'\n[source.k]\nkind = 'kraken'\npairs = ['A/B']\n".to_owned(), "dsn", 3),
        ("[sink.p]\nkind = 'postgres'\nds = 'LEAK'\n".to_owned(), "ds", 3),
        ("[heartbeat]\nbroker = 'mqtt://u:LEAK@h'\n".to_owned(), "broker", 2),
        ("[heartbeat]\nbroker = 'h'\npasswort = 'LEAK'\n".to_owned(), "passwort", 3),
        ("[sync.target]\nurl = 'ftp://u:LEAK@h'\n[sync.source]\nurl = 'sqlite:x'\n".to_owned(), "", 1),
        ("[server.s]\ncommand = ['x']\n[server.s.env]\nANY = 7770777\n".to_owned(), "ANY", 4),
        ("[http]\ntoken = 'LEAK'\n".to_owned(), "token", 2),
        // No TOML at all.
        ("[source.k]\napi_key = LEAK\n".to_owned(), "api_key", 2),
        ("[source.k]\nmy_key = 'LEAK\n".to_owned(), "my_key", 2),
        ("[source.k]\nmine = \"LE\\qAK LEAK\"\n".to_owned(), "mine", 2),
        ("[source.k]\nmine = [\n'LEAK\n]\n".to_owned(), "", 3),
        ("[source.k]\napi_key = 'LEAK'\napi_key = 'LEAK'\n".to_owned(), "api_key", 3),
    ] {
        std::fs::write(home.path().join("tapedeck.toml"), &text).unwrap();
        for verb in [["check", "--offline"].as_slice(), &["config", "show"], &["run", "--for", "1s"]] {
            let out = tapedeck().args(verb).current_dir(home.path()).output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            // The kinds look at their tables only where they are built.
            if out.status.success() && verb[0] == "config" {
                assert_eq!(leak(&String::from_utf8_lossy(&out.stdout)), None, "{text}");
                continue;
            }
            assert_eq!(out.status.code(), Some(2), "{verb:?}: {said}\n{text}");
            assert_eq!(leak(&said), None, "{verb:?}\n{text}");
            assert!(said.contains(key) && said.contains(&format!("tapedeck.toml:{line}:")), "{verb:?}: {said}\n{text}");
        }
    }
    for (args, env) in [
        (vec!["check", "--set", "source.k.api_key:LEAK"], ("A", "")),
        (vec!["check", "--set", "source.k.kind=kraken", "--set", "source.k.app_key=LEAK"], ("A", "")),
        (vec!["check"], ("TAPEDECK__SOURCE__K__APP_KEY", "LEAK")),
        (vec!["check"], ("TAPEDECK__HEARTBEAT__PASSWORT", "LEAK")),
        (vec!["check"], ("INFLUXDB_SSL", "maybe")),
    ] {
        std::fs::write(home.path().join("tapedeck.toml"), kraken).unwrap();
        let out = tapedeck().args(&args).current_dir(home.path()).envs([env]).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?} {env:?}");
        clean(&format!("{args:?}"), &String::from_utf8_lossy(&out.stderr));
    }
    // A `.env` that cannot be read is told by its place.
    std::fs::write(home.path().join(".env"), "KRAKEN_API_KEY='LEAK\nX=LEAK LEAK \"\n").unwrap();
    let out = tapedeck().args(["check", "--offline"]).current_dir(home.path()).output().unwrap();
    clean(".env", &String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_finding_that_cannot_be_told_apart_is_still_json() {
    let (home, _) = planted(9, "json");
    let out = said(home.path(), &["check", "--offline", "--json"]);
    let found: Value =
        serde_json::from_str(out.lines().next().unwrap()).unwrap_or_else(|error| panic!("{error}: {out}"));
    let shown = found["config"].as_array().unwrap();
    let of = |table: &str, key: &str| {
        shown.iter().find(|one| one["table"] == table && one["key"] == key).unwrap()["value"].clone()
    };
    for (table, key, value) in [
        ("source.kraken", "url", "ws://***@127.0.0.1:9/v2?token=***"),
        ("source.oanda", "account", "***"),
        ("sink.influx", "password", "***"),
        ("sync.source", "url", "***"),
        ("heartbeat", "password", "***"),
        ("server.db.env", "ANY", "***"),
    ] {
        assert_eq!(of(table, key), value, "{table} {key}");
    }
}
