//! `tapedeck validate`: green on live data with real stores, red for each single fault, with the next step.

mod bus;

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapedeck_testkit::kraken::FakeKraken;

use crate::deck::{blocking, source};
use crate::servers::{Influx1, Postgres, Questdb};
use crate::support::{Deck, free_offset, tapedeck, until};

/// Code and answer of `validate … --json`.
pub(crate) fn validate(config: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = tapedeck();
    command.arg("validate").args(args).args(["--json", "-c"]).arg(config);
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let answer = serde_json::from_str(&text);
    (
        out.status.code(),
        answer.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&out.stderr))),
    )
}

/// What is wrong, by name; each has its next step.
pub(crate) fn wrong(answer: &Value) -> Vec<&str> {
    let bad = answer["findings"].as_array().unwrap().iter().filter(|one| one["result"] == "bad");
    bad.map(|one| {
        assert!(one["next"].as_str().is_some_and(|next| !next.is_empty()), "no next step: {one}");
        one["what"].as_str().unwrap()
    })
    .collect()
}

pub(crate) fn finding<'a>(answer: &'a Value, what: &str) -> &'a Value {
    let found = answer["findings"].as_array().unwrap().iter().find(|one| one["what"] == what);
    found.unwrap_or_else(|| panic!("no {what}: {answer:#}"))
}

/// Looks until nothing is wrong.
pub(crate) fn until_green(config: &Path, args: &[&str]) -> Value {
    let look = || Some(validate(config, args)).filter(|(code, answer)| *code == Some(0) && wrong(answer).is_empty());
    until("a green validation", || look().map(|(_, answer)| answer))
}

/// Looks until something is wrong, and that is what was meant.
fn until_red(config: &Path, args: &[&str], what: &str) -> Value {
    until(what, || {
        let (code, answer) = validate(config, args);
        let red = wrong(&answer).contains(&what);
        assert_eq!(code, Some(i32::from(!wrong(&answer).is_empty())), "{answer:#}");
        red.then_some(answer)
    })
}

/// The process of the deck's bus.
fn bus_of(deck: &Deck) -> Pid {
    let is_bus = |pid: u32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parent == Some(deck.pid()) && read("cmdline").split(|byte| *byte == 0).any(|word| word == b"bus")
    };
    let pids = || {
        let files = std::fs::read_dir("/proc").unwrap().flatten();
        files.filter_map(|file| file.file_name().to_str()?.parse::<u32>().ok()).find(|pid| is_bus(*pid))
    };
    Pid::from_raw(i32::try_from(until("the bus", pids)).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_with_three_real_stores_is_green_and_red_for_each_single_fault() {
    let (Some(influx), Some(postgres), Some(quest)) = (Influx1::private(), Postgres::shared(), Questdb::shared())
    else {
        return;
    };
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let (influx_db, pg) = (influx.fresh_database(), postgres.fresh_database());
        let role = crate::servers::fresh_name("role");
        postgres.psql(
            &pg.dsn,
            &format!("create role {role} login password 'right-pw'; grant all on database {} to {role}", pg.name),
        );
        let dsn = |password: &str| format!("postgresql://{role}:{password}@127.0.0.1:{}/{}", postgres.port(), pg.name);
        let prefix = format!("{}_", crate::servers::fresh_name("v"));
        let config = format!(
            "{venue_table}[bus]\nport_offset = {}\n\
             [sink.influx]\nkind = 'influx'\nbatch_wait = '20ms'\nurl = '{}'\ndatabase = '{influx_db}'\n\
             [sink.pg]\nkind = 'postgres'\nbatch_wait = '20ms'\ndsn = '{}'\n\
             [sink.quest]\nkind = 'questdb'\nbatch_wait = '20ms'\nurl = '{}'\nprefix = '{prefix}'\n\
             [source.kite]\nkind = 'kite'\ninstruments = ['NSE:INFY']\n",
            free_offset(),
            influx.url(),
            dsn("right-pw"),
            quest.url()
        );
        let deck = Deck::start(home.path(), &config);
        deck.until("data", |status| status.events > 500);
        let file = deck.config.clone();
        let full = ["full", "--for", "15s"];
        let green = until_green(&file, &full);
        eprintln!("validate full, two venues, three stores: {} ms", green["took_ms"]);
        let rows = |sink: &str| finding(&green, &format!("sink.{sink}.rows"))["figures"]["rows"].as_u64().unwrap();
        assert!(["influx", "pg", "quest"].iter().all(|sink| rows(sink) > 50), "{green:#}");
        let tick = &finding(&green, "topic.kraken_tick")["figures"];
        assert!(tick["messages"].as_u64() > Some(1) && tick["rate"].as_f64() > Some(0.0), "{green:#}");
        // Without its keys a source waits, and that is no fault.
        let waits = finding(&green, "source.kite");
        assert!(waits["result"] == "unknown" && waits["text"].as_str().unwrap().contains("waiting"), "{green:#}");

        // The bus.
        let bus = bus_of(&deck);
        kill_process(bus, Signal::STOP).unwrap();
        let red = until_red(&file, &["zmq", "--for", "3s"], "bus");
        assert_eq!(wrong(&red), ["bus"], "one fault, not one a topic");
        kill_process(bus, Signal::CONT).unwrap();
        until_green(&file, &full);

        // A topic: its venue keeps the books back.
        until("a silent topic", || {
            venue.inject("stall * book".parse().unwrap());
            let (_, answer) = validate(&file, &["zmq", "--for", "3s", "--silence", "1s"]);
            wrong(&answer).contains(&"topic.kr_depth").then_some(())
        });
        venue.inject("heal".parse().unwrap());
        until_green(&file, &full);

        // A store that is away, and one with another password.
        influx.kill();
        let red = until_red(&file, &["stores"], "sink.influx");
        assert_eq!(wrong(&red), ["sink.influx"]);
        influx.restart();
        until_green(&file, &full);
        let wrong_password = format!("sink.pg.dsn={:?}", dsn("wrong-pw"));
        let (code, red) = validate(&file, &["stores", "pg", "--set", &wrong_password]);
        assert!(code == Some(1) && wrong(&red) == ["sink.pg"], "{red:#}");
        assert!(red.to_string().contains("password") && !red.to_string().contains("wrong-pw"), "{red:#}");

        // A store that lost points.
        deck.until("ticks delivered", |status| status.events > 1_000);
        let lose = || influx.query(&influx_db, "DELETE FROM \"kraken_tick\"");
        // Those that were still on their way are lost by the next try.
        let red = until("sink.influx.rows to be red", || {
            lose();
            let (_, red) = validate(&file, &["influxdb", "influx"]);
            wrong(&red).contains(&"sink.influx.rows").then_some(red)
        });
        let lost = finding(&red, "sink.influx.rows");
        assert!(lost["figures"]["missing"].as_u64() > Some(0), "{red:#}");
        assert!(lost["next"].as_str().unwrap().contains("tapedeck reconcile influx"), "{red:#}");
        let repair = tapedeck().args(["reconcile", "influx", "--repair", "-c"]).arg(&file).output().unwrap();
        assert!(repair.status.code().is_some(), "{repair:?}");
        until_green(&file, &full);

        // The disk.
        until("the disk alone", || {
            let (code, red) = validate(&file, &["full", "--for", "15s", "--min-free", "900 TB"]);
            (code == Some(1) && wrong(&red) == ["disk"]).then_some(())
        });

        // The deck.
        deck.stop();
        let red = until_red(&file, &["full", "--for", "1s"], "deck");
        assert!(wrong(&red).contains(&"bus"), "{red:#}");
    })
    .await;
}

#[test]
fn what_is_not_there_is_said_with_a_code_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("tapedeck.toml");
    std::fs::write(&config, format!("[tape]\ndir = {:?}\n", home.path().join("tape"))).unwrap();
    let say = |args: &[&str]| {
        let out = tapedeck().arg("validate").args(args).arg("-c").arg(&config).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = say(&["stores"]);
    assert!(code == Some(4) && said.contains("no sink"), "{said}");
    let (code, said) = say(&["zmq"]);
    assert!(code == Some(4) && said.contains("no [bus]"), "{said}");
    let (code, _) = say(&["stores", "nothing"]);
    assert_eq!(code, Some(4));
    let out =
        tapedeck().args(["validate", "full", "--watch", "--count", "2", "--every", "10ms", "-c"]).arg(&config).output();
    let out = out.unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!((out.status.code(), text.matches("--- ").count()), (Some(1), 2), "{text}");
    assert!(text.contains("✗ deck") && text.contains("→ tapedeck up"), "{text}");
}
