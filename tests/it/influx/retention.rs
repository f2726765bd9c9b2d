//! Policies, questions and checks, by the verbs of the command line against real servers.

use std::time::Duration;

use tapedeck_market::{Body, Event, Flags, Quote, Record, UnixNanos};
use tapedeck_testkit::kraken::FakeKraken;

use super::*;
use crate::deck::{blocking, source};

/// A config with a sink, and verbs run on it.
struct Shell {
    home: tempfile::TempDir,
}

impl Shell {
    fn new(sink: &str) -> Shell {
        let shell = Shell { home: tempfile::tempdir().unwrap() };
        shell.set(sink);
        shell
    }

    fn set(&self, sink: &str) {
        let dir = self.home.path().join("tape");
        let http = crate::support::free_port();
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:{http}\"\n[tape]\ndir = {dir:?}\n[source.p]\nkind = \"http\"\n[sink.influx]\nkind = \"influx\"\n{sink}\n"
        );
        std::fs::write(self.home.path().join("tapedeck.toml"), text).unwrap();
    }

    /// Exit code, what it printed as JSON, and what it said.
    fn run(&self, args: &[&str]) -> (i32, Value, String) {
        let config = self.home.path().join("tapedeck.toml");
        let out = tapedeck().args(args).arg("--json").arg("-c").arg(config).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap_or_default(), said)
    }

    /// The rows of a verb that must succeed.
    fn rows(&self, args: &[&str]) -> Vec<Value> {
        let (code, found, said) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {said}");
        found.as_array().unwrap_or_else(|| panic!("{args:?}: {found} {said}")).clone()
    }
}

fn done(rows: &[Value]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row["policy"].as_str().unwrap(), row["done"].as_str().unwrap())).collect()
}

#[test]
fn policies_are_made_altered_listed_counted_and_what_is_too_old_goes() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let base = format!("url = \"{}\"\ndatabase = \"{database}\"\n", server.url());
    let mine = "[sink.influx.policies.mine]\nduration = \"20d\"\nshard = \"1d\"\nevents = [\"order\"]\n";
    let shell = Shell::new(&format!("{base}{mine}"));
    server.query("", &format!("CREATE RETENTION POLICY high_frequency ON {database} DURATION 3d REPLICATION 1"));
    let made = shell.rows(&["retention", "create"]);
    let names = [("mine", "made"), ("default", "made"), ("high_frequency", "altered"), ("long_term", "made")];
    assert_eq!(done(&made), names);
    assert!(done(&shell.rows(&["retention", "create"])).iter().all(|(_, done)| *done == "was as wanted"));

    let shown = server.query("", &format!("SHOW RETENTION POLICIES ON {database}"));
    let shown: BTreeMap<&str, (&str, &str, bool)> = shown["series"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row[0].as_str().unwrap(), (row[1].as_str().unwrap(), row[2].as_str().unwrap(), row[4].as_bool().unwrap()))
        })
        .collect();
    assert_eq!(shown["default"], ("720h0m0s", "24h0m0s", true));
    assert_eq!(shown["high_frequency"], ("168h0m0s", "6h0m0s", false));
    assert_eq!(shown["long_term"], ("8760h0m0s", "720h0m0s", false));
    assert_eq!(shown["mine"], ("480h0m0s", "24h0m0s", false));
    let listed = shell.rows(&["retention", "list"]);
    let of = |name: &str| listed.iter().find(|row| row["policy"] == name).unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!((&of("high_frequency")["keeps"], &of("high_frequency")["shard"]), (&"7d".into(), &"6h".into()));
    assert_eq!((&of("long_term")["events"], &of("mine")["events"]), (&"candle".into(), &"order".into()));
    assert_eq!((&of("autogen")["keeps"], &of("default")["default"]), (&"for ever".into(), &true.into()));

    // Ten days old, in a policy that then keeps less.
    let now = UnixNanos::now();
    let old = now - Duration::from_secs(10 * 86_400);
    let written = crate::servers::asking::post(
        server.port(),
        &format!("/write?db={database}&rp=mine"),
        &[],
        &format!("m v=1 {}\nm v=2 {}\n", old.0, now.0),
    );
    assert_eq!(written.status, 204, "{written:?}");
    let stats = shell.rows(&["retention", "stats"]);
    let counted = stats.iter().find(|row| row["policy"] == "mine" && row["measurement"] == "m");
    assert_eq!(counted.unwrap()["points"], 2, "{stats:?}");
    assert!(shell.rows(&["retention", "cleanup"]).is_empty());
    shell.set(&format!("{base}{}", mine.replace("20d", "2d")));
    let altered = shell.rows(&["retention", "create"]);
    assert!(done(&altered).contains(&("mine", "altered")));
    let old = shell.rows(&["retention", "cleanup"]);
    assert_eq!((old.len(), &old[0]["policy"], &old[0]["removed"]), (1, &"mine".into(), &false.into()), "{old:?}");
    let count = format!("SELECT COUNT(v) FROM \"{database}\".mine.m");
    assert_eq!(server.query(&database, &count)["series"][0]["values"][0][1], 2, "a dry run removes nothing");
    let gone = shell.rows(&["retention", "cleanup", "--yes"]);
    assert_eq!((gone.len(), &gone[0]["removed"]), (1, &true.into()));
    assert_eq!(server.query(&database, &count)["series"][0]["values"][0][1], 1, "what is younger stays");
    assert!(shell.rows(&["retention", "cleanup"]).is_empty());
    assert_eq!(shell.rows(&["retention", "cleanup", "--older-than", "1h"]).len(), 0, "its shard has not ended");
}

#[test]
fn a_bucket_of_2_x_is_a_policy() {
    let Some(server) = Influx2::shared() else { return };
    let bucket = server.fresh_database();
    let sink = |more: &str| {
        format!(
            "url = \"{}\"\ndatabase = \"{bucket}\"\norg = \"{}\"\ntoken = \"{}\"\n{more}",
            server.url(),
            server.org(),
            server.token()
        )
    };
    let shell = Shell::new(&sink(""));
    assert_eq!(
        done(&shell.rows(&["retention", "create"])),
        [("default", "made"), ("high_frequency", "made"), ("long_term", "made")]
    );
    assert!(done(&shell.rows(&["retention", "create"])).iter().all(|(_, done)| *done == "was as wanted"));
    let listed = shell.rows(&["retention", "list"]);
    let of = |name: &str| listed.iter().find(|row| row["policy"] == name).unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!((&of("default")["keeps"], &of("default")["shard"]), (&"30d".into(), &"1d".into()));

    let (now, old) = (UnixNanos::now(), UnixNanos::now() - Duration::from_secs(5 * 86_400));
    let lines = format!("m v=1 {}\nm v=2 {}\n", old.0, now.0);
    assert_eq!(server.write(&format!("{bucket}/default"), &lines).status, 204);
    let stats = shell.rows(&["retention", "stats"]);
    assert!(
        stats.iter().any(|row| row["policy"] == "default" && row["measurement"] == "m" && row["points"] == 2),
        "{stats:?}"
    );
    let wanted = ["retention", "cleanup", "--older-than", "2d"];
    let old = shell.rows(&wanted);
    assert_eq!((old.len(), &old[0]["points"], &old[0]["removed"]), (1, &1.into(), &false.into()), "{old:?}");
    shell.rows(&[&wanted[..], &["--yes"]].concat());
    assert!(shell.rows(&wanted).is_empty(), "it is gone");

    let (code, found, said) = shell.run(&["validate", "stores"]);
    assert_eq!(code, 0, "{said}");
    let texts = found["findings"].to_string();
    assert!(texts.contains("written and read back") && texts.contains(&format!("{bucket}/long_term")), "{texts}");
    assert!(texts.contains("ticks go to `default`, and a reader that names no policy looks into `autogen`"), "{texts}");
    let (code, found, _) = {
        shell.set(&sink("").replace(server.token(), "wrong"));
        shell.run(&["validate", "stores"])
    };
    assert_eq!((code, &found["ok"]), (1, &false.into()));
    assert!(found["findings"][0]["text"].as_str().unwrap().contains("refused (401"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_books_and_candles_go_to_policies_of_their_own_and_can_be_asked_for() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(300).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let sink = format!("url = \"{}\"\ndatabase = \"{database}\"\nbatch_wait = \"50ms\"", server.url());
        let shell = Shell::new(&sink);
        shell.rows(&["retention", "create"]);
        let config = format!("{venue_table}[candles]\nintervals = [\"1s\"]\n[sink.influx]\nkind = \"influx\"\n{sink}\n");
        let deck = Deck::start(shell.home.path(), &config);
        for (policy, measurement, field) in
            [("default", "kraken_tick", "bid"), ("default", "kraken_trade", "price"), ("high_frequency", "kraken_depth", "bid_price"), ("long_term", "candle", "close")]
        {
            until(&format!("{measurement} in {policy}"), || {
                let statement = format!("SELECT COUNT({field}) FROM \"{database}\".\"{policy}\".{measurement}");
                server.query(&database, &statement)["series"][0]["values"][0][1].as_i64().filter(|count| *count > 0)
            });
        }
        deck.stop();
        for policy in ["autogen", "long_term"] {
            let elsewhere = server.query(&database, &format!("SELECT COUNT(bid) FROM \"{database}\".\"{policy}\".kraken_tick"));
            assert!(elsewhere["series"].is_null(), "{policy}: {elsewhere}");
        }
        // Not the deck's config: the shell has one with the same sink.
        shell.set(&sink);
        let latest = shell.rows(&["latest"]);
        let symbols: Vec<&str> = latest.iter().map(|row| row["instrument"].as_str().unwrap()).collect();
        assert_eq!(symbols, ["BTC/USD", "ETH/USD"]);
        let newest = server.query(&database, &format!("SELECT bid, seq FROM \"{database}\".\"default\".kraken_tick WHERE pair = 'BTC/USD' ORDER BY time DESC LIMIT 1"));
        assert_eq!(latest[0]["seq"], newest["series"][0]["values"][0][2], "{latest:?}");
        assert_eq!(shell.rows(&["latest", "XXBTZUSD"]), [latest[0].clone()], "by its old name");
        let (code, _, said) = shell.run(&["latest", "NO/SUCH"]);
        assert_eq!(code, 4, "{said}");

        let of_tape = shell.run(&["candles", "ETH/USD", "1s"]);
        assert_eq!(of_tape.0, 0, "{}", of_tape.2);
        let config = shell.home.path().join("tapedeck.toml");
        let candles = |more: &[&str]| {
            let out = tapedeck().args(["candles", "ETH/USD", "1s", "--json"]).args(more).arg("-c").arg(&config).output().unwrap();
            let lines: Vec<Value> = String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            lines.iter().map(|line| line["close"].as_str().map_or_else(|| line["close"].as_f64(), |text| text.parse().ok())).collect::<Vec<_>>()
        };
        let (tape, store) = (candles(&[]), candles(&["--sink", "influx"]));
        assert!(!tape.is_empty());
        assert_eq!(tape, store);

        let (code, found, said) = shell.run(&["check", "influx"]);
        assert_eq!(code, 0, "{said}");
        assert!(!found["findings"].to_string().contains("a reader that names no policy"), "default is the default: {found}");
        server.query("", &format!("ALTER RETENTION POLICY autogen ON {database} DEFAULT"));
        let (_, found, _) = shell.run(&["check", "influx"]);
        let warned = found["findings"].as_array().unwrap().iter().any(|one| {
            one["result"] == "warn" && one["text"].as_str().unwrap().contains("a reader that names no policy looks into `autogen`")
        });
        assert!(warned, "{found}");
    })
    .await;
}

#[test]
fn every_fault_of_a_store_has_a_message_of_its_own() {
    let Some(server) = Influx1::private_with(&Options { settings: &["http.auth-enabled=true"], ..Options::default() })
    else {
        return;
    };
    let admin = ["-u", "admin:secret-pw"];
    query(server.url(), "", "CREATE USER admin WITH PASSWORD 'secret-pw' WITH ALL PRIVILEGES", &["-XPOST"]);
    for statement in ["CREATE DATABASE tick", "CREATE USER writer WITH PASSWORD 'w'", "GRANT WRITE ON tick TO writer"] {
        let done = query(server.url(), "", statement, &[&admin[..], &["-XPOST"]].concat());
        assert!(done["results"][0]["error"].is_null() && done["results"].is_array(), "{statement}: {done}");
    }
    let url = format!("url = \"{}\"\n", server.url());
    let told = |sink: &str| {
        let (code, found, said) = Shell::new(sink).run(&["validate", "stores"]);
        assert!(found["findings"].is_array(), "{sink}: {found} {said}");
        let texts: Vec<String> =
            found["findings"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect();
        (code, texts.join("\n"))
    };
    let (code, text) = told(&format!("{url}username = \"admin\"\npassword = \"secret-pw\""));
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("answers") && text.contains("databases: ") && text.contains("written and read back"),
        "{text}"
    );
    let (code, text) = told(&format!("{url}username = \"admin\"\npassword = \"wrong-pw\""));
    assert!(code == 1 && text.contains("refused (401") && !text.contains("wrong-pw"), "{code} {text}");
    let (code, text) = told("url = \"http://127.0.0.1:1\"");
    assert!(code == 1 && text.contains("connecting"), "{code} {text}");
    let (code, text) =
        told(&format!("{url}username = \"admin\"\npassword = \"secret-pw\"\nretention_policy = \"nowhere\""));
    assert!(code == 1 && text.contains("there is no retention policy `nowhere`"), "{code} {text}");
    for statement in ["CREATE USER owner WITH PASSWORD 'o'", "GRANT ALL ON tick TO owner"] {
        query(server.url(), "", statement, &[&admin[..], &["-XPOST"]].concat());
    }
    let (code, text) = told(&format!("{url}username = \"owner\"\npassword = \"o\""));
    assert!(code == 0 && text.contains("written and read back"), "no administrator is needed: {code} {text}");
    let (code, text) = told(&format!("{url}username = \"writer\"\npassword = \"w\""));
    assert!(code == 0 && text.contains("written, and not read back"), "{code} {text}");

    // Who may write and no more delivers.
    let desk = Desk::new(&format!("{url}username = \"writer\"\npassword = \"w\""));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the points", || (detail(&deck, "delivered") >= 10).then_some(()));
    query(server.url(), "", "REVOKE WRITE ON tick FROM writer", &[&admin[..], &["-XPOST"]].concat());
    desk.post(&lines("m", 10, 10));
    until("the refusal", || state(&deck).starts_with("waiting: refused (403").then_some(()));
    query(server.url(), "", "GRANT WRITE ON tick TO writer", &[&admin[..], &["-XPOST"]].concat());
    until("the rest", || (detail(&deck, "delivered") >= 20).then_some(()));
    assert_eq!(detail(&deck, "dead_letters"), 0);
    deck.stop();
}

#[test]
fn what_is_older_than_its_policy_keeps_is_counted_and_is_no_dead_letter() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    server.query("", &format!("CREATE RETENTION POLICY short ON {database} DURATION 1d REPLICATION 1 DEFAULT"));
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    let fresh = |n: i64| format!("m v={n} {}\n", UnixNanos::now().0 + n);
    // Within the time by which clocks may differ: only the server says so.
    let edge = UnixNanos::now() - Duration::from_secs(86_400 + 600);
    let doubtful: String = (0..200).map(|n| format!("m v={n} {}\n", edge.0 + n)).collect();
    let conflict = format!("m v=\"text\" {}\n", UnixNanos::now().0);
    desk.post(&(lines("m", 0, 300) + &fresh(1) + &fresh(2)));
    until("the old ones", || (detail(&deck, "expired") == 300 && is_done(&deck)).then_some(()));
    desk.post(&(doubtful + &conflict));
    until("those at the edge", || (detail(&deck, "expired") == 500).then_some(()));
    until("the letter of the other one", || (detail(&deck, "dead_letters") == 1).then_some(()));
    assert_eq!(server.query(&database, "SELECT COUNT(v) FROM m")["series"][0]["values"][0][1], 2);
    assert!(detail(&deck, "requests") < 60, "they were not looked for one by one: {}", detail(&deck, "requests"));
    assert_eq!(detail(&deck, "refused"), 1);
    assert!(deck.log().contains("the retention policy (the default one) keeps 1d"), "{}", deck.log());
    deck.stop();
    let letters = desk.deadletter(&["list", "--json"]);
    assert!(letters[0]["words"].as_str().unwrap().contains("field type conflict"), "{letters}");
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
}

/// A clock of the venue's that told 0, one that is 80 years ahead: neither is a point of 1970, nor the newest for good.
#[test]
fn a_time_that_cannot_be_one_is_no_time_of_a_point() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    server.query("", &format!("CREATE RETENTION POLICY month ON {database} DURATION 30d REPLICATION 1 DEFAULT"));
    let now = UnixNanos::now().0 - 10_000_000_000;
    let (home, year_2106) = (tempfile::tempdir().unwrap(), 4_294_967_295_000_000_000);
    let records: Vec<Record> = [(year_2106, "1"), (0, "2"), (now, "3")]
        .into_iter()
        .zip(1_i64..)
        .map(|((ts_event, bid), seq)| {
            let event = Event {
                source: "kite".into(),
                venue: "kite".into(),
                symbol: "TCS".into(),
                ts_event: Some(UnixNanos(ts_event)),
                ts_recv: UnixNanos(now + seq * 1_000_000_000),
                flags: Flags::NONE,
                origin: None,
                body: Body::Quote(Quote { bid: bid.parse().ok(), ..Quote::default() }),
            };
            Record { seq: seq.unsigned_abs(), event }
        })
        .collect();
    crate::hostile::write(&home.path().join("tape"), &records);
    let sink = format!("url = \"{}\"\ndatabase = \"{database}\"", server.url());
    let config = format!(
        "[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n[sink.influx]\nkind = \"influx\"\nlegacy_tick = \"bridge\"\n{sink}\n",
        free_address()
    );
    let deck = Deck::start(home.path(), &config);
    until("all ticks", || (detail(&deck, "delivered") >= 3 && is_done(&deck)).then_some(()));
    assert_eq!((detail(&deck, "dead_letters"), detail(&deck, "expired")), (0, 0));
    deck.stop();
    let found = rows(server.url(), &database, "SELECT bid, ts_event_ns FROM kite_tick");
    let held: BTreeMap<i64, (f64, i64)> = (found.iter())
        .map(|row| (row[0].as_i64().unwrap(), (row[1].as_f64().unwrap(), row[2].as_i64().unwrap())))
        .collect();
    let want = [
        (now + 1_000_000_000 - (now + 1_000_000_000) % 1_000 + 1, (1.0, year_2106)),
        (now + 2_000_000_000 - (now + 2_000_000_000) % 1_000 + 2, (2.0, 0)),
        (now - now % 1_000_000_000 + 3, (3.0, now)),
    ];
    assert_eq!(held, want.into(), "the venue's word stands beside");
    assert_eq!(rows(server.url(), &database, "SELECT COUNT(bid) FROM tick")[0][1], 3, "the old measurement too");
    let last = rows(server.url(), &database, "SELECT LAST(bid) FROM kite_tick");
    assert_eq!(last[0][1], 2.0, "what was received last of those whose time is ours");
    let out =
        tapedeck().args(["latest", "TCS", "--json", "-c"]).arg(home.path().join("tapedeck.toml")).output().unwrap();
    let latest: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"));
    assert_eq!(latest[0]["seq"], 2, "{latest}");
}

#[test]
fn a_policy_that_is_set_takes_everything() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let sink = format!("url = \"{}\"\ndatabase = \"{database}\"\nretention_policy = \"mine\"", server.url());
    let desk = Desk::new(&sink);
    let deck = desk.start();
    desk.post(&format!("m v=1 {}\n", UnixNanos::now().0));
    until("the missing policy to be named", || {
        state(&deck).starts_with("waiting: retention policy not found").then_some(())
    });
    Shell::new(&sink).rows(&["retention", "create"]);
    server.query("", &format!("CREATE RETENTION POLICY mine ON {database} DURATION 90d REPLICATION 1"));
    let count = format!("SELECT COUNT(v) FROM \"{database}\".mine.m");
    until("the point", || (server.query(&database, &count)["series"][0]["values"][0][1] == 1).then_some(()));
    deck.stop();
}
