//! Signs of life on a real Mosquitto, as a client that is not ours reads them: `mosquitto_sub`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use crate::deck::{blocking, source};
use crate::servers::{Mosquitto, Options, fresh_name};
use crate::support::{Deck, tapedeck, until};
use crate::tls::Authority;

/// A message as the broker handed it over.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// It was kept for whoever comes later.
    retained: bool,
    qos: String,
    pub(crate) topic: String,
    pub(crate) payload: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A subscriber to everything below a topic; it ends when it is dropped.
pub(crate) struct Ear {
    child: Child,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Ear {
    pub(crate) fn at(port: u16, topic: &str, more: &[&str]) -> Ear {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-F", "%r %q %t %p"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut parts = line.splitn(4, ' ').map(str::to_owned);
                let mut part = || parts.next().unwrap_or_default();
                let (retained, qos, topic, payload) = (part() == "1", part(), part(), part());
                all.lock().unwrap().push(Heard { retained, qos, topic, payload });
            }
        });
        Ear { child, heard }
    }

    pub(crate) fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        until(what, || self.all().into_iter().find(|one| wanted(one)))
    }

    /// Waits for a JSON message of that topic.
    fn says(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> (Heard, Value) {
        let fits = |one: &Heard| one.topic == topic && wanted(&one.json());
        let heard = self.until(topic, fits);
        let value = heard.json();
        (heard, value)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn heartbeat(port: u16, topic: &str, more: &str) -> String {
    format!("[heartbeat]\nbroker = \"127.0.0.1:{port}\"\ntopic = \"{topic}\"\nevery = \"1s\"\n{more}\n")
}

fn state(deck: &Deck) -> String {
    let status = deck.status();
    let found = status.services.iter().find(|service| service.name == "heartbeat");
    found.map(|service| service.state.clone()).unwrap_or_default()
}

async fn venue() -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(500).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_says_how_it_is_and_the_broker_says_when_it_has_died() {
    let venue = venue().await;
    blocking(move || {
        let Some(broker) = Mosquitto::shared() else { return };
        for protocol in ["3.1.1", "5"] {
            let (home, topic) = (tempfile::tempdir().unwrap(), fresh_name("deck"));
            let more = format!("protocol = \"{protocol}\"");
            let config = heartbeat(broker.port(), &topic, &more) + &source(&venue);
            let (status, beat) = (format!("{topic}/status"), format!("{topic}/heartbeat"));
            let watching = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
            let deck = Deck::start(home.path(), &config);
            let (heard, first) = watching.says(&status, |value| value["state"] == "online");
            assert_eq!((heard.retained, heard.qos.as_str()), (false, "1"), "it was there already");
            // The second beat is the first with rates; a busy source is in it.
            let (heard, figures) = watching.says(&beat, |value| value["rates"]["kraken"].as_f64() > Some(1.0));
            assert_eq!((heard.retained, heard.qos.as_str()), (false, "1"), "{protocol}");
            assert_eq!(figures["interval_s"], 1);
            assert_eq!(figures["gaps_open"], 0, "{figures}");
            assert_eq!(figures["boot_id"], first["boot_id"]);
            assert!(figures["seq"].as_u64() >= Some(2) && figures["tape"]["bytes"].as_u64() > Some(0), "{figures}");
            watching.says(&format!("{topic}/source/kraken/status"), |value| value["state"] == "streaming");
            // Whoever comes later is told what holds.
            let later = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
            assert!(later.says(&status, |value| value["state"] == "online").0.retained);
            assert!(later.says(&format!("{topic}/source/kraken/status"), |_| true).0.retained);

            deck.signal(Signal::KILL);
            deck.wait();
            let (_, will) = watching.says(&status, |value| value["state"] == "offline");
            assert_eq!((&will["reason"], &will["boot_id"]), (&"lwt".into(), &first["boot_id"]), "{protocol}");
            let later = Ear::at(broker.port(), &status, &[]);
            assert!(later.says(&status, |value| value["state"] == "offline").0.retained);

            let deck = Deck::run(&home.path().join("tapedeck.toml"), &home.path().join("tape"), &[]);
            let again = |value: &Value| value["state"] == "online" && value["boot_id"] != first["boot_id"];
            watching.says(&status, again);
            deck.stop();
            watching.says(&status, |value| value["reason"] == "shutdown");
            let last = until("the last word", || watching.all().into_iter().rfind(|one| one.topic == status));
            assert_eq!(last.json()["reason"], "shutdown", "an end in order calls no will");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_killed_or_frozen_costs_the_feed_nothing() {
    let venue = venue().await;
    blocking(move || {
        let Some(broker) = Mosquitto::private() else { return };
        broker.stop();
        let (home, topic) = (tempfile::tempdir().unwrap(), fresh_name("deck"));
        let config = heartbeat(broker.port(), &topic, "keepalive = \"1s\"") + &source(&venue);
        let deck = Deck::start(home.path(), &config);
        let records_go_on = |what: &str| {
            let before = deck.status().events;
            let after = deck.until(what, |status| status.events > before + 500);
            assert_eq!((after.gaps_open, after.gaps.len()), (0, 0), "{what}: {:?}", after.gaps);
            after
        };
        deck.until("a live source", |status| status.sources.first().is_some_and(|source| source.state == "live"));
        until("trouble", || state(&deck).contains("Connection refused").then_some(()));
        records_go_on("a feed without a broker");
        for deed in ["kill", "pause", "stop"] {
            broker.restart();
            let ear = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
            // It keeps nothing over a restart: the deck says it again.
            ear.says(&format!("{topic}/status"), |value| value["state"] == "online");
            ear.says(&format!("{topic}/source/kraken/status"), |value| value["state"] == "streaming");
            until("a heartbeat", || (state(&deck) == "running").then_some(()));
            match deed {
                "kill" => broker.kill(),
                "pause" => broker.pause(),
                _ => broker.stop(),
            }
            until(&format!("trouble after {deed}"), || state(&deck).starts_with("waiting: ").then_some(()));
            let after = records_go_on(deed);
            let service = after.services.iter().find(|service| service.name == "heartbeat").unwrap();
            assert_eq!(service.restarts, 0, "it is no failure of the deck");
            if deed == "pause" {
                broker.resume();
            }
        }
        let told = deck.log().lines().filter(|line| line.contains("no heartbeat is sent")).count();
        assert!(told < 12, "not at every try: {}", deck.log());
        // Whoever reads the log afterwards sees when it was lost and when it was back.
        let change = |line: &str| {
            let words = [("no heartbeat is sent", "lost"), ("heartbeats are sent", "back")];
            words.into_iter().find(|(words, _)| line.contains(words)).map(|(_, change)| change)
        };
        let mut changes: Vec<&str> = deck.log().lines().filter_map(change).collect();
        changes.dedup();
        // A machine that stands still for two seconds is one more time lost and back.
        let ends = (changes.first(), changes.last());
        assert!(ends == (Some(&"lost"), Some(&"lost")) && changes.len() >= 7, "{changes:?}: {}", deck.log());
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_the_right_one_is_taken_without_a_restart_of_the_feed() {
    let venue = venue().await;
    blocking(move || {
        let settings = ["user=deck", "password=the-right-password"];
        let Some(broker) = Mosquitto::private_with(&Options { settings: &settings, ..Options::default() }) else {
            return;
        };
        for protocol in ["3.1.1", "5"] {
            let (home, topic) = (tempfile::tempdir().unwrap(), fresh_name("deck"));
            let secret = home.path().join("password");
            std::fs::write(&secret, "the-wrong-password\n").unwrap();
            let more = format!("username = \"deck\"\npassword_file = {secret:?}\nprotocol = \"{protocol}\"");
            let config = heartbeat(broker.port(), &topic, &more) + &source(&venue);
            let deck = Deck::start(home.path(), &config);
            let refused = "the broker refuses the user name or the password";
            until("the refusal", || state(&deck).contains(refused).then_some(()));
            let check = |path: &Path| {
                let out = tapedeck().args(["check", "heartbeat", "--json", "-c"]).arg(path).output().unwrap();
                let found: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"));
                let findings = found["findings"].as_array().unwrap();
                let of = findings.iter().find(|one| one["what"] == "heartbeat").unwrap_or_else(|| panic!("{found}"));
                (of["result"].clone(), of["text"].as_str().unwrap().to_owned())
            };
            let (result, text) = check(&deck.config);
            assert_eq!(result, "bad");
            assert!(text.contains(refused), "{text}");

            std::fs::write(&secret, "the-right-password\n").unwrap();
            deck.signal(Signal::HUP);
            until("a heartbeat", || (state(&deck) == "running").then_some(()));
            let ear = Ear::at(broker.port(), &format!("{topic}/#"), &["-u", "deck", "-P", "the-right-password"]);
            ear.says(&format!("{topic}/status"), |value| value["state"] == "online");
            let (result, text) = check(&deck.config);
            assert_eq!(result, "good", "{text}");
            assert!(text.contains(&format!("MQTT {protocol}")), "{text}");
            // The running deck keeps its connection while it is checked.
            assert_eq!(ear.all().iter().filter(|one| one.payload.contains("offline")).count(), 0);
            let status = deck.status();
            assert_eq!((status.gaps.len(), status.sources[0].sessions), (0, 1), "{:?}", status.sources);
            assert!(!deck.log().contains("-password"), "{}", deck.log());
            deck.stop();
        }
        let home = tempfile::tempdir().unwrap();
        let nobody = crate::support::free_port();
        let path = home.path().join("tapedeck.toml");
        std::fs::write(&path, heartbeat(nobody, "t", "") + &source(&venue)).unwrap();
        let args = ["check", "heartbeat", "--set", "http.listen=off", "-c"];
        let out = tapedeck().args(args).arg(&path).current_dir(&home).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!out.status.success() && text.contains("Connection refused"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_goes_encrypted_to_a_broker_that_is_trusted_and_to_no_other() {
    let venue = venue().await;
    blocking(move || {
        let (Some(ours), Some(theirs)) = (Authority::new(), Authority::new()) else { return };
        let (cert, key) = ours.issue("IP:127.0.0.1", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        let settings = [format!("cert={}", cert.display()), format!("key={}", key.display())];
        let settings = [settings[0].as_str(), settings[1].as_str()];
        let Some(broker) = Mosquitto::private_with(&Options { settings: &settings, ..Options::default() }) else {
            return;
        };
        for protocol in ["3.1.1", "5"] {
            let (home, topic) = (tempfile::tempdir().unwrap(), fresh_name("deck"));
            let with = |authority: &Authority| {
                let more = format!("tls = true\nca_file = {:?}\nprotocol = \"{protocol}\"", authority.path("ca.pem"));
                heartbeat(broker.tls_port(), &topic, &more) + &source(&venue)
            };
            let deck = Deck::start(home.path(), &with(&theirs));
            until("distrust", || state(&deck).contains("invalid peer certificate").then_some(()));
            deck.stop();
            let deck = Deck::start(home.path(), &with(&ours));
            let ear = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
            ear.says(&format!("{topic}/status"), |value| value["state"] == "online");
            ear.says(&format!("{topic}/heartbeat"), |value| value["seq"].as_u64() >= Some(2));
            deck.stop();
            ear.says(&format!("{topic}/status"), |value| value["reason"] == "shutdown");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_predecessors_subscriber_gets_its_payload_to_the_byte() {
    let venue = venue().await;
    blocking(move || {
        let Some(broker) = Mosquitto::private() else { return };
        let home = tempfile::tempdir().unwrap();
        let more = "legacy_topic = \"heartbeat/data_feed\"\n[candles]\nintervals = [\"1s\", \"5m\", \"15m\"]";
        let config = heartbeat(broker.port(), "t", more) + &source(&venue);
        let ear = Ear::at(broker.port(), "heartbeat/data_feed", &[]);
        let deck = Deck::start(home.path(), &config);
        let counted = |value: &Value| {
            let figures = &value["statistics"];
            figures["candle_count"].as_u64() > Some(0) && figures["active_candles_count"]["5min"].as_u64() >= Some(2)
        };
        let (heard, value) = ear.says("heartbeat/data_feed", counted);
        assert_eq!((heard.qos.as_str(), heard.retained), ("1", false));
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["broker", "service", "statistics", "status", "timestamp"]);
        assert_eq!(value["service"], "broker_data_feed");
        assert_eq!(value["status"], "active");
        assert_eq!(value["broker"], "Kite (Zerodha)");
        assert_eq!(value["statistics"]["intervals"], serde_json::json!([5, 15]));
        assert!(value["statistics"]["tick_count"].as_u64() > Some(10), "{value}");
        // What their code would have written of the same: keys in their order, spaces and all.
        let program = "import json, sys, datetime\n\
            text = sys.argv[1]\n\
            read = json.loads(text)\n\
            assert json.dumps(read) == text, json.dumps(read)\n\
            assert list(read) == ['timestamp', 'service', 'status', 'broker', 'statistics'], read\n\
            order = ['tick_count', 'candle_count', 'last_tick_time', 'intervals', 'active_candles_count']\n\
            assert list(read['statistics']) == order, read\n\
            for time in (read['timestamp'], read['statistics']['last_tick_time']):\n\
            \x20   parsed = datetime.datetime.fromisoformat(time)\n\
            \x20   assert parsed.isoformat() == time and parsed.tzinfo is None, time\n\
            \x20   assert abs((parsed - datetime.datetime.now()).total_seconds()) < 3600, time\n";
        let out = Command::new("python3").args(["-c", program, &heard.payload]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let late = Ear::at(broker.port(), "#", &[]);
        late.says("t/status", |_| true);
        assert!(late.all().iter().all(|one| !one.retained || one.topic != "heartbeat/data_feed"));
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_assistant_finds_sensors_whose_topics_speak() {
    let venue = venue().await;
    blocking(move || {
        let Some(broker) = Mosquitto::private() else { return };
        let home = tempfile::tempdir().unwrap();
        let config = heartbeat(broker.port(), "site/deck", "discovery = true") + &source(&venue);
        let deck = Deck::start(home.path(), &config);
        until("a heartbeat", || (state(&deck) == "running").then_some(()));
        let ear = Ear::at(broker.port(), "#", &[]);
        let rate = ear.until("a sensor", |one| one.topic == "homeassistant/sensor/site_deck/rate/config");
        assert!(rate.retained, "Home Assistant may start later");
        ear.says("site/deck/heartbeat", |_| true);
        ear.until("its source", |one| one.topic.ends_with("/source_kraken/config"));
        let sensors: Vec<Heard> = ear.all().into_iter().filter(|one| one.topic.ends_with("/config")).collect();
        assert!(sensors.len() >= 7, "{sensors:?}");
        let mut ids = std::collections::BTreeSet::new();
        for sensor in &sensors {
            let value = sensor.json();
            assert!(ids.insert(value["unique_id"].as_str().unwrap().to_owned()), "{value}");
            let state = value["state_topic"].as_str().unwrap();
            let said = ear.until(state, |one| one.topic == state).json();
            // `{{ value_json.tape.bytes }}` is a path into the message of that topic.
            let template = value["value_template"].as_str().unwrap();
            let path = template.trim_matches(['{', '}', ' ']).strip_prefix("value_json.").unwrap().replace('.', "/");
            assert!(said.pointer(&format!("/{path}")).is_some(), "{template}: {said}");
            assert_eq!(value["availability"][0]["topic"], "site/deck/status");
        }
        deck.stop();
        let off = ear.says("site/deck/status", |value| value["state"] == "offline").1;
        assert_eq!(off["reason"], "shutdown");
    })
    .await;
}

#[test]
fn the_predecessors_names_make_a_heartbeat_with_encryption_as_theirs_had() {
    let home = tempfile::tempdir().unwrap();
    let show = |names: &[(&str, &str)]| {
        let out = tapedeck().args(["config", "show", "--json"]).envs(names.iter().copied()).current_dir(&home).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let shown: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
        let ours = shown.into_iter().filter(|one| one["table"] == "heartbeat");
        ours.map(|one| format!("{}={}", one["key"].as_str().unwrap(), one["value"])).collect::<Vec<_>>()
    };
    let names = [("MQTT_BROKER", "x.hivemq.cloud"), ("MQTT_PASSWORD", "planted"), ("MQTT_USERNAME", "u")];
    let shown = show(&names);
    assert!(shown.contains(&"broker=\"mqtts://x.hivemq.cloud\"".to_owned()), "{shown:?}");
    assert!(shown.contains(&"password=\"***\"".to_owned()), "{shown:?}");
    let shown = show(&[("HEARTBEAT_INTERVAL", "60")]);
    assert_eq!(shown, ["every=\"60s\""], "no broker, and nothing is sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_predecessors_port_and_switch_for_encryption_lead_to_the_broker() {
    let venue = venue().await;
    blocking(move || {
        let Some(authority) = Authority::new() else { return };
        let (cert, key) = authority.issue("IP:127.0.0.1", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        let settings = [format!("cert={}", cert.display()), format!("key={}", key.display())];
        let settings = [settings[0].as_str(), settings[1].as_str()];
        let Some(broker) = Mosquitto::private_with(&Options { settings: &settings, ..Options::default() }) else {
            return;
        };
        // Theirs encrypted unless it was told not to; the last one has not been told.
        for (port, switch) in
            [(broker.port(), Some("false")), (broker.tls_port(), Some("true")), (broker.tls_port(), None)]
        {
            let (home, topic) = (tempfile::tempdir().unwrap(), fresh_name("deck"));
            let (path, dir) = (home.path().join("tapedeck.toml"), home.path().join("tape"));
            let config = format!(
                "[tape]\ndir = {dir:?}\n[http]\nlisten = 'off'\n[heartbeat]\ntopic = '{topic}'\nca_file = {:?}\n{}",
                authority.path("ca.pem"),
                source(&venue)
            );
            std::fs::write(&path, config).unwrap();
            let mut command = tapedeck();
            command.args(["run", "--plain", "-c"]).arg(&path);
            let port = port.to_string();
            command.envs([("MQTT_BROKER", "127.0.0.1"), ("MQTT_PORT", port.as_str()), ("HEARTBEAT_INTERVAL", "1")]);
            command.envs(switch.map(|switch| ("MQTT_USE_TLS", switch)));
            let deck = Deck::of(command, &path, &dir);
            let ear = Ear::at(broker.port(), &format!("{topic}/#"), &[]);
            ear.says(&format!("{topic}/heartbeat"), |value| value["seq"].as_u64() >= Some(2));
            let scheme = if switch == Some("false") { "mqtt" } else { "mqtts" };
            assert!(deck.log().contains(&format!("{scheme}://127.0.0.1:{port}")), "{}", deck.log());
            deck.stop();
        }
    })
    .await;
}
