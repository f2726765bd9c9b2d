//! `tapedeck health`: servers, deck, ports, rate and the share of time that was recorded.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tapedeck_tape::storage::Disk;
use tapedeck_testkit::FakeKraken;

use crate::deck::{blocking, source};
use crate::support::{Deck, free_offset, free_port, tapedeck, until};
use crate::up::{Home, kill, web};
use crate::validate::{finding, wrong};

fn health(home: &Home, args: &[&str]) -> (Option<i32>, Value) {
    let said = home.say(&[&["health", "--json"], args].concat());
    (said.code, said.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_green_while_all_is_up_and_names_what_is_not() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap();
    let (web_port, http) = (free_port(), free_port());
    let config = format!(
        "{}[bus]\nport_offset = {}\n[http]\nlisten = '127.0.0.1:{http}'\n{}",
        source(&venue),
        free_offset(),
        web("web", web_port)
    );
    let handle = tokio::runtime::Handle::current();
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        let green = until("a green look", || Some(health(&home, &[])).filter(|(code, _)| *code == Some(0)));
        for what in
            ["supervisor", "server.web", "deck", "disk", "source.kraken", "ports.bus", "ports.http", "ingestion"]
        {
            assert_eq!(finding(&green.1, what)["result"], "good", "{:#}", green.1);
        }
        let share = &finding(&green.1, "availability.kraken")["figures"];
        assert!(share["hour"].as_f64() > Some(0.0) && share["day"].as_f64() > Some(0.0), "{:#}", green.1);

        // Watched: each look has the rate since the last.
        let said = home.say(&["health", "monitor", "--every", "200ms", "--count", "2", "--json"]);
        let looks: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(looks.len(), 2, "{said:?}");
        assert_eq!(looks[1]["looks"], 2);
        assert!(finding(&looks[1], "ingestion")["figures"]["rate"].is_f64(), "{said:?}");
        assert!(home.ok(&["health", "check"]).out.contains("well, "));

        // A server that does not answer.
        let web = home.identity("web");
        kill(&web, Signal::STOP);
        let (code, red) = health(&home, &[]);
        assert!(code == Some(1) && wrong(&red).contains(&"server.web"), "{red:#}");
        assert!(finding(&red, "server.web")["next"].as_str().unwrap().contains("tapedeck restart web"), "{red:#}");
        kill(&web, Signal::CONT);
        until("green again", || (health(&home, &[]).0 == Some(0)).then_some(()));
        assert_eq!(health(&home, &["--min-free", "900 TB"]).0, Some(1));

        // A venue that is gone: its source is lost, and less of the hour was recorded.
        handle.block_on(venue.stop());
        let red = until("a lost source", || {
            let (_, answer) = health(&home, &[]);
            let share = finding(&answer, "availability.kraken")["figures"]["hour"].as_f64()?;
            (wrong(&answer).contains(&"source.kraken") && share < 1.0).then_some(answer)
        });
        assert!(wrong(&red).iter().all(|what| what.starts_with("source.")), "{red:#}");

        // No supervisor, no deck.
        let (deck, supervisor) = (home.identity("deck"), home.supervisor());
        kill(&supervisor, Signal::KILL);
        until("its end", || (!supervisor.lives()).then_some(()));
        let (_, red) = health(&home, &[]);
        assert!(wrong(&red).contains(&"supervisor"), "{red:#}");
        home.ok(&["down"]);
        until("the end of the deck", || (!deck.lives()).then_some(()));
        let (code, red) = health(&home, &[]);
        assert!(code == Some(1) && wrong(&red).contains(&"deck"), "{red:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_never_recorded_anything_has_no_share_of_the_hour() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "{}[source.gone]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n\
         [source.kite]\nkind = 'kite'\ninstruments = ['NSE:INFY']\n[http]\nlisten = '127.0.0.1:{}'\n",
        source(&venue),
        free_port()
    );
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("events", |status| status.events > 100);
        let look = || -> Value {
            let out = tapedeck().args(["health", "--json", "-c"]).arg(&deck.config).output().unwrap();
            serde_json::from_slice(&out.stdout).unwrap()
        };
        let answer = until("a share of the one that records, and one that waits", || {
            let answer = look();
            let waits = finding(&answer, "availability.kite")["result"] == "unknown";
            (waits && finding(&answer, "availability.kraken")["figures"]["hour"].is_f64()).then_some(answer)
        });
        for (name, result) in [("gone", "warn"), ("kite", "unknown")] {
            let found = finding(&answer, &format!("availability.{name}"));
            assert!(found["text"] == "nothing recorded yet" && found["result"] == result, "{found:#}");
            assert!(found["figures"]["hour"].is_null() && found["figures"]["day"].is_null(), "{found:#}");
        }
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_up_is_not_behind_though_its_cursor_is_saved_now_and_then() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(500).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let bus = format!("[bus]\nport_offset = {}\n[candles]\nintervals = ['1s']\n", free_offset());
    let config = format!("{bus}{}", source(&venue));
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        for name in ["bus", "candles"] {
            until("a reader at the end whose cursor lies behind", || {
                let status = deck.status();
                let reader = status.readers.iter().find(|reader| reader.name == name)?;
                // Read behind the status: what it says was not yet saved then.
                let saved = tapedeck_tape::cursors::list(&Disk, &deck.dir).ok()?;
                let saved = saved.iter().find(|cursor| cursor.name == name)?.seq;
                (reader.seq > saved + reader.lag_records + 100).then_some(())
            });
        }
        let said = tapedeck().args(["status", "-c"]).arg(&deck.config).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let of = |name: &str| said.lines().find(|line| line.starts_with(&format!("reader {name} "))).map(str::to_owned);
        assert!(of("bus").is_some_and(|line| line.ends_with(" records behind")), "{said}");
        deck.stop();
    })
    .await;
}

#[test]
fn without_deck_and_tape_there_is_nothing_to_look_at() {
    let home = tempfile::tempdir().unwrap();
    let dir = format!("tape.dir={}", home.path().join("none").display());
    let run = |args: &[&str]| tapedeck().args(args).args(["--set", &dir]).current_dir(home.path()).output().unwrap();
    assert_eq!(run(&["health"]).status.code(), Some(4));
    let said = run(&["doctor", "--json", "--set", "http.listen=off"]);
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answer["ok"], true, "{answer:#}");
    assert!(Path::new(home.path()).exists());
}

#[test]
fn the_doctor_looks_at_docker_and_at_the_ports_of_the_config_where_there_are_any() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, free) = (taken.local_addr().unwrap().port(), free_port());
    let home = Home::new(&format!(
        "{}{}[server.boxed]\ncompose = 'compose.yml'\nready = 'tcp 127.0.0.1:{free}'\n[bus]\nport_offset = {}\n",
        web("taken", port),
        web("free", free),
        free_offset()
    ));
    // A stand-in, so that the answer is known.
    let bin = home.path("bin");
    std::fs::create_dir(&bin).unwrap();
    crate::up::script(
        &bin.join("docker"),
        "#!/bin/sh\n[ \"$1\" = compose ] && { echo 2.40.3; exit 0; }\necho 'no daemon here' >&2; exit 1\n",
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let out = home.command(&["doctor", "--json"]).env("PATH", path).output().unwrap();
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    let of = |what: &str| {
        let found = answer["findings"].as_array().unwrap().iter().find(|one| one["what"] == what);
        let found = found.unwrap_or_else(|| panic!("no {what}: {answer:#}"));
        (found["result"].as_str().unwrap().to_owned(), found["text"].as_str().unwrap().to_owned())
    };
    assert_eq!(out.status.code(), Some(1));
    let (result, text) = of("server.taken");
    assert!(result == "bad" && text.contains("taken by"), "{text}");
    assert_eq!(of("server.free").0, "good");
    assert_eq!(of("bus").0, "good");
    assert_eq!(of("compose"), ("good".to_owned(), "2.40.3".to_owned()));
    let (result, text) = of("docker");
    assert!(result == "bad" && text.contains("no daemon here") && text.contains("[server.boxed]"), "{text}");
    assert!(of("server.boxed").1.contains("no compose file"));
}
