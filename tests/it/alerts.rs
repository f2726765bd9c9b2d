//! Alerts of a running deck, told to a real webhook and a real command: each rule fired and resolved by its cause.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;
use tapedeck_testkit::kraken::{FakeKraken, Fault, Handle, Target};

use crate::deck::{blocking, source};
use crate::disk::SmallDisk;
use crate::influx::Desk;
use crate::servers::Influx1;
use crate::support::{Deck, free_offset, tapedeck, until};

/// A webhook; it answers 200 unless told otherwise.
struct Hook {
    port: u16,
    heard: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Hook {
    fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (heard, answers) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<VecDeque<u16>>>::default());
        let hook = Hook { port: listener.local_addr().unwrap().port(), heard: heard.clone(), answers: answers.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let Some(body) = body_of(&mut stream) else { continue };
                let code = answers.lock().unwrap().pop_front().unwrap_or(200);
                if code == 200 {
                    heard.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                }
                let _ = write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
        });
        hook
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/SECRETPATH", self.port)
    }

    fn all(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// How often it was told that.
    fn told(&self, alert: &str, state: &str) -> usize {
        self.all().iter().filter(|one| one["alert"] == alert && one["state"] == state).count()
    }

    fn until(&self, alert: &str, state: &str) -> Value {
        let fits = |one: &Value| one["alert"] == alert && one["state"] == state;
        until(&format!("{alert} {state}"), || self.all().into_iter().rfind(fits))
    }
}

/// The body of one request.
fn body_of(stream: &mut std::net::TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    assert!(head.starts_with("post /hook/secretpath ") && head.contains("content-type: application/json"), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn rule(name: &str, hook: &Hook, keys: &str) -> String {
    format!("[alert.{name}]\nwebhook = '{}'\n{keys}\n", hook.url())
}

async fn venue(listen: &str) -> Handle {
    let builder = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).listen(listen.parse().unwrap());
    builder.start().await.unwrap()
}

fn live(deck: &Deck) {
    deck.until("a live source", |status| status.sources.iter().any(|source| source.live >= 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_goes_and_comes_is_told_once_each_way_over_a_restart() {
    let first = venue("127.0.0.1:0").await;
    let address = first.ws_url().trim_start_matches("ws://").split('/').next().unwrap().to_owned();
    let (hook, home) = (Hook::start(), tempfile::tempdir().unwrap());
    let path = home.path().to_owned();
    let config = source(&first)
        + &rule("quiet", &hook, "when = 'silent'\nsource = 'kraken'\nafter = '2s'")
        + &rule("hole", &hook, "when = 'gap'\nafter = '1s'")
        + &rule("books", &hook, "when = 'checksum'\nsource = 'kraken'\nafter = '3s'");
    let deck = blocking(move || {
        let deck = Deck::start(&path, &config);
        live(&deck);
        deck
    })
    .await;
    first.inject(Fault::Corrupt { target: Target { symbol: "*".into(), channel: None }, times: 1 });
    let hook = blocking(move || {
        let broken = hook.until("books", "firing");
        assert_eq!(
            (broken["subject"].as_str(), broken["when"].as_str()),
            (Some("kraken"), Some("checksum")),
            "{broken}"
        );
        assert!(broken["value"].as_f64() >= Some(1.0), "{broken}");
        hook.until("books", "resolved");
        hook
    })
    .await;
    first.stop().await;
    let (deck, hook) = blocking(move || {
        let quiet = hook.until("quiet", "firing");
        let text = quiet["text"].as_str().unwrap();
        assert!(text.contains("quiet: kraken: silent for") && quiet["content"] == quiet["text"], "{quiet}");
        assert!(quiet["unit"] == "seconds" && quiet["limit"] == 2.0 && quiet["count"] == 1, "{quiet}");
        assert!(quiet["since"].as_str() <= quiet["at"].as_str() && quiet["version"] == env!("CARGO_PKG_VERSION"));
        hook.until("hole", "firing");
        // What arrived is remembered before the deck ends.
        let told = |deck: &Deck| {
            let out = tapedeck().args(["alerts", "--json", "-c"]).arg(&deck.config).output().unwrap();
            let lines: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
            let of = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap()["firing"].clone();
            (of("quiet")[0]["told"].is_string() && of("hole")[0]["told"].is_string()).then(|| of("quiet"))
        };
        let firing = until("the file", || told(&deck));
        assert_eq!(firing[0]["subject"], "kraken", "{firing}");
        let (config, dir) = (deck.config.clone(), deck.dir.clone());
        let counts = |hook: &Hook| {
            [("quiet", "firing"), ("hole", "firing"), ("quiet", "resolved"), ("hole", "resolved")]
                .map(|(name, state)| hook.told(name, state))
        };
        let before = counts(&hook);
        deck.signal(Signal::KILL);
        deck.wait();
        let deck = Deck::run(&config, &dir, &[]);
        // Looked at again, and long enough to fire anew if it were forgotten.
        deck.until("a deck that looks", |status| status.uptime_s >= 4);
        assert_eq!(counts(&hook), before, "{:?}", hook.all());
        (deck, hook)
    })
    .await;
    let second = venue(&address).await;
    blocking(move || {
        let over = hook.until("quiet", "resolved");
        assert!(over["text"].as_str().unwrap().contains("quiet: kraken is well again, after "), "{over}");
        hook.until("hole", "resolved");
        assert!(!deck.log().contains("SECRETPATH"), "{}", deck.log());
        deck.stop();
    })
    .await;
    second.stop().await;
}

#[test]
fn a_store_that_falls_behind_or_refuses_is_told_by_a_command_with_variables() {
    let Some(influx) = Influx1::private() else { return };
    let hook = Hook::start();
    let folder = tempfile::tempdir().unwrap();
    let (script, said) = (folder.path().join("tell"), folder.path().join("said"));
    let text = format!(
        "#!/bin/sh\nread -r body\nprintf '%s|%s|%s|%s|%s|%s\\n' \"$TAPEDECK_ALERT_NAME\" \"$TAPEDECK_ALERT_STATE\" \
         \"$TAPEDECK_ALERT_SUBJECT\" \"$TAPEDECK_ALERT_UNIT\" \"$1\" \"$body\" >> {}\n",
        said.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = format!("command = ['{}', 'an argument']\n", script.display());
    let desk = Desk::new(&format!(
        "url = '{}'\ndatabase = 'alerts'\n{}{}",
        influx.url(),
        rule("late", &hook, &format!("when = 'behind'\nsink = 'influx'\nafter = '2s'\n{command}")),
        rule("refused", &hook, "when = 'rejects'\nsink = 'influx'"),
    ));
    let deck = desk.start();
    desk.post("m v=1 1");
    deck.until("a delivery", |status| {
        let influx = status.services.iter().find(|one| one.name == "influx");
        let seq = influx.and_then(|one| one.detail.get("seq")?.as_u64());
        seq.is_some() && seq >= Some(status.tape.durable_seq)
    });
    // A text where there is a number: the store will never take it.
    desk.post("m v=\"x\" 2");
    let refused = hook.until("refused", "firing");
    assert!(refused["value"] == 1.0 && refused["unit"] == "records", "{refused}");
    let letters = desk.deadletter(&["list", "--json"]);
    let dropped = desk.deadletter(&["drop", "influx", "--seq", &letters[0]["seq"].to_string(), "--json"]);
    assert_eq!(dropped["dropped"], 1, "{letters}: {dropped}");
    hook.until("refused", "resolved");
    influx.kill();
    desk.post("m v=2 3");
    hook.until("late", "firing");
    influx.restart();
    hook.until("late", "resolved");
    let lines = until("both words of the command", || {
        let lines: Vec<String> =
            std::fs::read_to_string(&said).unwrap_or_default().lines().map(str::to_owned).collect();
        (lines.len() >= 2).then_some(lines)
    });
    for (line, state) in lines.iter().zip(["firing", "resolved"]) {
        let start = format!("late|{state}|influx|seconds|an argument|{{");
        assert!(line.starts_with(&start), "{line}");
        let body: Value = serde_json::from_str(&line[start.len() - 1..]).unwrap();
        assert_eq!(body["state"], state);
    }
    deck.stop();
}

#[test]
fn a_service_that_does_not_come_up_is_told_until_it_does() {
    let (hook, home, offset) = (Hook::start(), tempfile::tempdir().unwrap(), free_offset());
    let taken = TcpListener::bind(("127.0.0.1", 5558 + offset)).unwrap();
    let config = format!(
        "[bus]\nport_offset = {offset}\n[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n{}",
        rule("down", &hook, "when = 'failed'\nservice = 'bus'\nafter = '1s'")
    );
    let deck = Deck::start(home.path(), &config);
    let down = hook.until("down", "firing");
    assert!(down["subject"] == "bus" && down["text"].as_str().unwrap().contains("started anew"), "{down}");
    drop(taken);
    hook.until("down", "resolved");
    deck.stop();
}

#[test]
fn little_space_is_told_until_there_is_more() {
    let Some(disk) = SmallDisk::new("200m") else { return };
    let hook = Hook::start();
    let config = format!(
        "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n[tape]\nsegment = '1 MiB'\n{}",
        rule("space", &hook, "when = 'disk'\nfree = '20 MB'")
    );
    let deck = Deck::start(disk.path(), &config);
    deck.until("a deck", |status| status.running && status.tape.disk_free_bytes > 20_000_000);
    let filler = disk.path().join("filler");
    let free = deck.status().tape.disk_free_bytes;
    std::fs::write(&filler, vec![0; usize::try_from(free - 10_000_000).unwrap()]).unwrap();
    let space = hook.until("space", "firing");
    assert!(space["unit"] == "bytes" && space["value"].as_f64() < Some(20e6), "{space}");
    std::fs::remove_file(&filler).unwrap();
    hook.until("space", "resolved");
    deck.stop();
}

#[test]
fn whoever_does_not_take_it_is_tried_again_and_holds_nothing_up() {
    let (hook, home) = (Hook::start(), tempfile::tempdir().unwrap());
    hook.answers.lock().unwrap().extend([500, 503, 200, 404]);
    let mark = home.path().join("child");
    // Its own child would live on if only the shell were ended.
    let hangs = format!("command = ['sh', '-c', 'sleep 1000 & echo $! > {}; wait']\nlimit = '1s'", mark.display());
    let always = "when = 'disk'\nfree = '1000 TB'";
    let config = format!(
        "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n{}[alert.hangs]\n{always}\n{hangs}\n\
         [alert.missing]\n{always}\ncommand = ['/nowhere/tell']\n",
        rule("flaky", &hook, always)
    );
    let deck = Deck::start(home.path(), &config);
    hook.until("flaky", "firing");
    let figures = |name: &str| {
        let status = deck.status();
        let alerts = status.services.iter().find(|one| one.name == "alerts");
        alerts.and_then(|one| one.detail.get(name)?.as_u64()).unwrap_or(0)
    };
    until("failures", || (figures("failures") >= 4 && figures("lost") >= 1).then_some(()));
    assert_eq!(figures("firing"), 3);
    let child: u32 = until("the child", || std::fs::read_to_string(&mark).ok()?.trim().parse().ok());
    // A new try may have written another one since: each of them ends.
    until("its end", || (!Path::new(&format!("/proc/{child}")).exists() || is_dead(child)).then_some(()));
    let log = deck.log();
    assert!(
        log.contains("was not done within 1s and was ended") && log.contains("/nowhere/tell cannot be started"),
        "{log}"
    );
    assert!(log.contains("the webhook answers 500") && !log.contains("SECRETPATH"), "{log}");
    assert!(deck.status().running);
    // The end does not wait for a command either.
    deck.stop();
    assert_eq!(hook.told("flaky", "firing"), 1);
}

fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn a_test_is_sent_without_a_deck_and_check_says_what_is_wrong_with_a_rule() {
    let (hook, home) = (Hook::start(), tempfile::tempdir().unwrap());
    let source = "[http]\nlisten = 'off'\n[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\n";
    let write = |rules: &str| std::fs::write(home.path().join("tapedeck.toml"), format!("{source}{rules}")).unwrap();
    let said = |args: &[&str]| {
        let out = tapedeck().args(args).current_dir(home.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout) + &text(&out.stderr))
    };
    write("");
    assert_eq!(said(&["alerts"]).0, Some(4), "there are none");
    write(&rule("quiet", &hook, "when = 'silent'\nsource = 'k'\ncommand = ['true']"));
    let (code, text) = said(&["alerts", "test", "quiet"]);
    assert!(code == Some(0) && text.contains("webhook  taken") && text.contains("command  taken"), "{code:?} {text}");
    let told = hook.until("quiet", "test");
    assert!(told["subject"] == "k" && told["text"].as_str().unwrap().contains("nothing is wrong"), "{told}");
    hook.answers.lock().unwrap().push_back(404);
    let (code, text) = said(&["alerts", "test", "quiet", "--json"]);
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (code, line["told"][0]["ok"].as_bool(), line["told"][1]["ok"].as_bool()),
        (Some(1), Some(false), Some(true))
    );
    assert!(line["told"][0]["error"].as_str().unwrap().contains("404") && !text.contains("SECRETPATH"), "{text}");
    let (code, text) = said(&["alerts", "test", "quite"]);
    assert!(code == Some(2) && text.contains("did you mean `quiet`?"), "{code:?} {text}");
    let (code, text) = said(&["check", "--offline"]);
    assert!(code == Some(0) && text.contains("silent tells webhook 127.0.0.1, command true"), "{code:?} {text}");
    assert!(!text.contains("SECRETPATH"), "{text}");
    for (rules, words) in [
        (rule("a", &hook, "when = 'silent'\nsource = 'kk'"), "[alert.a] source: there is no source `kk`"),
        (rule("a", &hook, "when = 'behind'\nsink = 'sink'"), "[alert.a] sink: there is no sink `sink`"),
        (rule("a", &hook, "when = 'failed'\nservice = 'deck'"), "[alert.a] service: never fires"),
        (rule("a", &hook, "when = 'failed'\nservice = 'deck'"), "`TapedeckDown`"),
        (rule("a", &hook, "when = 'silentt'"), "[alert.a] when: unknown variant `silentt`"),
        (rule("a", &hook, "when = 'silent'\nsink = 'k'"), "[alert.a] sink: is of no use for \"silent\""),
        (rule("a", &hook, "when = 'silent'\nafterr = '1s'"), "did you mean `after`?"),
        ("[alert.a]\nwhen = 'silent'\n".to_owned(), "nobody is told: give it a `webhook` or a `command`"),
        ("[alert.a]\nwhen = 'silent'\nwebhook = 'SECRETPATH'\n".to_owned(), "[alert.a] webhook: write a URL"),
        ("[alert.a]\nwhen = 'silent'\ncommand = ['/nowhere/tell']\n".to_owned(), "/nowhere/tell is not there"),
    ] {
        write(&rules);
        let (code, text) = said(&["check", "--offline"]);
        assert!(code != Some(0) && text.contains(words) && !text.contains("SECRETPATH"), "{code:?} {rules}\n{text}");
    }
}
