//! The bus with real clients: pyzmq and msgpack, as people's subscribers use them, against a deck and a fake venue.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapedeck::bus::registry::{EVERYTHING, REQUESTS};
use tapedeck::bus::{Encoder, Engine, Message};
use tapedeck::config::{Bus, Decimals, Form};
use tapedeck_market::{Body, GapCause, Uuid};
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use crate::support::{Deck, free_offset, gaps, python, records, tapedeck, until};

/// A topic, its port, and how it is sent.
type Case = (&'static str, u16, Form, Decimals);

struct Bench {
    home: tempfile::TempDir,
    offset: u16,
    python: PathBuf,
    config: String,
}

/// `None`: there is no Python here, and the test says that it skipped.
fn bench(venue: &Handle, bus: &str) -> Option<Bench> {
    bench_of(venue, &["BTC/USD", "ETH/USD"], bus)
}

fn bench_of(venue: &Handle, pairs: &[&str], bus: &str) -> Option<Bench> {
    let offset = free_offset();
    let source = format!(
        "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = {pairs:?}\n",
        venue.ws_url(),
        venue.rest_url()
    );
    let config = format!("{source}\n[bus]\nport_offset = {offset}\n{bus}");
    Some(Bench { home: tempfile::tempdir().unwrap(), offset, python: python()?, config })
}

impl Bench {
    fn start(&self) -> Deck {
        Deck::start(self.home.path(), &self.config)
    }

    fn tape(&self) -> PathBuf {
        self.home.path().join("tape")
    }

    fn address(&self, port: u16) -> String {
        format!("tcp://127.0.0.1:{}", port + self.offset)
    }

    fn client(&self, args: &[&str]) -> Client {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/bus_client.py");
        let mut child = Command::new(&self.python)
            .arg(script)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let (to_test, lines) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = to_test.send(serde_json::from_str(&line).unwrap());
            }
        });
        Client { child, stdin, lines }
    }

    /// What a request is answered: messages, and the end marker.
    fn ask(&self, request: &Value) -> (Vec<Value>, Value) {
        let client = self.client(&["ask", &self.address(REQUESTS), &request.to_string()]);
        let mut messages = Vec::new();
        loop {
            let line = client.line();
            if line.get("head").is_some() {
                return (messages, line);
            }
            messages.push(line);
        }
    }

    /// What a topic says at each seq of the tape; of a book at each of its changes.
    fn expected(&self, topic: &str) -> BTreeMap<u64, Message> {
        let mut engine = Engine::new(Arc::new(Bus::default()), Some(topic.into()));
        let mut out = Vec::new();
        for record in records(&self.tape()) {
            engine.apply(record.seq, record.event, &mut out);
            engine.finish(&mut out);
        }
        out.into_iter().map(|message| (message.seq, message)).collect()
    }

    fn tape_id(&self) -> Uuid {
        let disk: Arc<dyn tapedeck_tape::storage::Storage> = Arc::new(tapedeck_tape::storage::Disk);
        tapedeck_tape::tools::id(&disk, &self.tape()).unwrap()
    }
}

struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Client {
    fn line(&self) -> Value {
        self.lines.recv_timeout(Duration::from_secs(90)).expect("the client says something")
    }

    fn go_on(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn venue(rate: u32) -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(rate).start().await.unwrap()
}

/// A deck is a process: what waits for it must not hold up the venue's tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn publishes(deck: &Deck) -> u64 {
    deck.until("a bus that publishes", |status| {
        status.services.iter().any(|service| service.state == "running" && service.detail.contains_key("messages"))
    });
    figure(deck, "pid")
}

fn figure(deck: &Deck, name: &str) -> u64 {
    deck.status().services.first().and_then(|bus| bus.detail.get(name)?.as_u64()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `seq` and `prev` of a message, by name or by position.
fn place(data: &Value) -> Option<(u64, u64)> {
    let (seq, prev) = match data {
        Value::Array(fields) => (fields.get(10)?, fields.get(11)?),
        map => (map.get("seq")?, map.get("prev")?),
    };
    Some((seq.as_u64()?, prev.as_u64()?))
}

fn seqs_in(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_in_every_form_what_is_on_the_tape() {
    let venue = venue(300).await;
    let forms = "[bus.topics.trade]\nform = \"json\"\ndecimals = \"text\"\n[bus.topics.kr_depth]\nform = \"array\"\n\
        [bus.topics.kraken_tick]\nform = \"kraken\"\n";
    let legacy = "[bus.topics.kraken_tick]\nform = \"soh\"\n";
    let benches = (bench(&venue, forms), bench(&venue, ""), bench(&venue, legacy));
    let (Some(mixed), Some(plain_bench), Some(legacy_bench)) = benches else { return };
    blocking(move || {
        let wanted = |bench: &Bench, topic: &str, port: u16, form: Form, decimals: Decimals| {
            let client = bench.client(&["subscribe", &bench.address(port), topic, "40"]);
            assert_eq!(client.line()["ready"], true);
            (client, topic.to_owned(), form, decimals)
        };
        let check = |bench: &Bench, clients: Vec<(Client, String, Form, Decimals)>, heard: Vec<Vec<Value>>| {
            let encoder = Encoder::new(bench.tape_id(), false);
            for ((_, topic, form, decimals), heard) in clients.iter().zip(heard) {
                let expected = bench.expected(topic);
                let encode = |message: &Message| hex(encoder.clone().encode(message, topic, *form, *decimals).payload);
                let mut last = None;
                for message in &heard {
                    let payload = message["payload"].as_str().unwrap();
                    assert_eq!(message["topic"].as_str(), Some(topic.as_str()));
                    assert_eq!(message["frames"].as_u64(), Some(if *form == Form::Soh { 1 } else { 2 }));
                    let Some((seq, prev)) = place(&message["data"]) else {
                        // The legacy text has no place on the tape.
                        assert!(expected.values().any(|known| encode(known) == payload), "the tape has no {message}");
                        continue;
                    };
                    let known = Message { prev, ..expected[&seq].clone() };
                    assert_eq!(payload, encode(&known), "{topic} as {form:?}: {message}");
                    assert!(last.is_none_or(|last| last == prev), "{topic} as {form:?}: a hole before {message}");
                    last = Some(seq);
                }
            }
        };
        let cases: [(&Bench, &[Case]); 3] = [
            (
                &mixed,
                &[
                    ("trade.kraken", 5568, Form::Json, Decimals::Text),
                    ("kr_depth", 5557, Form::Array, Decimals::Float),
                    ("kraken_tick", 5558, Form::Kraken, Decimals::Float),
                ],
            ),
            (
                &plain_bench,
                &[
                    ("kraken_tick", 5558, Form::Map, Decimals::Float),
                    ("kr_depth", 5560, Form::Map, Decimals::Float),
                    ("trade.kraken", EVERYTHING, Form::Map, Decimals::Float),
                ],
            ),
            (&legacy_bench, &[("kraken_tick", 5558, Form::Soh, Decimals::Float)]),
        ];
        for (bench, topics) in cases {
            let deck = bench.start();
            publishes(&deck);
            let clients: Vec<_> = topics
                .iter()
                .map(|(topic, port, form, decimals)| wanted(bench, topic, *port, *form, *decimals))
                .collect();
            let heard: Vec<Vec<Value>> =
                clients.iter().map(|(client, ..)| (0..40).map(|_| client.line()).collect()).collect();
            // The bus says how it stands once a second.
            until("counted messages", || (figure(&deck, "messages") > 0).then_some(()));
            deck.stop();
            check(bench, clients, heard);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eur_usd_through_crypto_is_heard_on_the_ports_of_the_old_documents() {
    let pairs = ["BTC/USD", "BTC/EUR", "ETH/USD", "ETH/EUR"];
    let venue = FakeKraken::builder().pairs(pairs).rate(500).start().await.unwrap();
    let maps = bench_of(&venue, &pairs, "[synthetic]\ndepth = \"always\"\n");
    let texts =
        "[bus.topics.kr_eurusd_tick]\nform = \"soh\"\n[bus.topics.kr_eurusd_depth]\nform = \"soh\"\n[synthetic]\n";
    let (Some(maps), Some(texts)) = (maps, bench_of(&venue, &pairs, texts)) else { return };
    blocking(move || {
        for (bench, form) in [(&maps, Form::Map), (&texts, Form::Soh)] {
            let deck = bench.start();
            publishes(&deck);
            let topics = [("kr_eurusd_tick", 5559, 9), ("kr_eurusd_tick", 5560, 9), ("kr_eurusd_depth", 5566, 17)];
            let clients = topics.map(|(topic, port, _)| {
                let client = bench.client(&["subscribe", &bench.address(port), topic, "1000000"]);
                assert_eq!(client.line()["ready"], true);
                client
            });
            // Where the depth waits for a spread below zero it is rare: the coins have one price here, and drift apart slowly.
            let count = |fields| if form == Form::Soh && fields == 17 { 2 } else { 20 };
            let heard: Vec<Vec<Value>> = clients
                .iter()
                .zip(topics)
                .map(|(client, (_, _, fields))| (0..count(fields)).map(|_| client.line()).collect())
                .collect();
            drop(clients);
            deck.stop();
            let encoder = Encoder::new(bench.tape_id(), false);
            for ((topic, _, fields), heard) in topics.iter().zip(heard) {
                let expected: BTreeMap<String, (u64, u64)> = bench
                    .expected(topic)
                    .into_values()
                    .map(|message| {
                        (
                            hex(encoder.clone().encode(&message, topic, form, Decimals::Float).payload),
                            (message.prev, message.seq),
                        )
                    })
                    .collect();
                assert!(expected.len() >= heard.len(), "{topic}");
                let mut last: Option<u64> = None;
                for message in &heard {
                    let place = expected.get(message["payload"].as_str().unwrap());
                    let (prev, seq) = *place.unwrap_or_else(|| panic!("the tape has no {message}"));
                    if form == Form::Map {
                        assert!(last.is_none_or(|last| last == prev), "a hole before {message}");
                        assert_eq!(message["data"]["legs"].as_array().map(Vec::len), Some(2));
                    } else {
                        let told: Vec<&str> =
                            message["data"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
                        assert_eq!(told.len(), *fields, "{message}");
                        let names = ["XXBTZUSD", "XXBTZEUR", "XETHZUSD", "XETHZEUR"];
                        let (t1, numbers): (Vec<_>, Vec<_>) =
                            told.iter().partition(|field| field.parse::<f64>().is_err());
                        assert!(t1.len() == 2 && t1.iter().all(|name| names.contains(name)), "{message}");
                        assert_eq!(numbers.len(), fields - 2);
                        if *topic == "kr_eurusd_depth" {
                            assert!(told[14..].iter().any(|spread| spread.starts_with('-')), "{message}");
                        }
                    }
                    last = Some(seq);
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_was_killed_asks_for_what_it_missed_and_ends_with_none_missing() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "") else { return };
    blocking(move || {
        let deck = bench.start();
        publishes(&deck);
        let (address, requests) = (bench.address(5558), bench.address(REQUESTS));
        let file = bench.home.path().join("seqs");
        let args = ["keep", &address, &requests, "kraken_tick", file.to_str().unwrap()];
        let client = bench.client(&args);
        until("some ticks", || (seqs_in(&file).len() > 50).then_some(()));
        client.kill();
        let kept = *seqs_in(&file).last().unwrap();
        deck.until("more of the tape", |status| status.tape.durable_seq > kept + 300);
        let client = bench.client(&args);
        let missed = client.line();
        assert!(missed["missed"].as_u64().unwrap() > 10, "{missed}");
        until("ticks after the hole", || (*seqs_in(&file).last()? > missed["before"].as_u64()? + 50).then_some(()));
        client.kill();
        deck.stop();
        let seqs = seqs_in(&file);
        let (first, last) = (seqs[0], *seqs.last().unwrap());
        let expected: Vec<u64> =
            bench.expected("kraken_tick").into_keys().filter(|seq| (first..=last).contains(seq)).collect();
        assert_eq!(seqs, expected, "none is missing, none is twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_loses_only_its_own_messages_and_can_ask_for_them() {
    let venue = venue(2_000).await;
    let Some(bench) = bench(&venue, "high_water = 5000\n") else { return };
    blocking(move || {
        let deck = bench.start();
        publishes(&deck);
        let (address, requests) = (bench.address(5558), bench.address(REQUESTS));
        let mut slow = bench.client(&["slow", &address, &requests, "kraken_tick"]);
        assert!(slow.line()["first"].as_u64().is_some());
        let fast_file = bench.home.path().join("fast");
        let fast = bench.client(&["keep", &address, &requests, "kraken_tick", fast_file.to_str().unwrap()]);
        // More than the slow one's queue and the system's buffers hold.
        let begun = figure(&deck, "bytes");
        deck.until("a full queue", |status| {
            status.services[0].detail["bytes"].as_u64().unwrap_or_default() > begun + 6_000_000
        });
        slow.go_on();
        let end = slow.line();
        assert!(end["missed"].as_u64().unwrap() > 0, "it missed some");
        let seqs: Vec<u64> = end["seqs"].as_array().unwrap().iter().map(|seq| seq.as_u64().unwrap()).collect();
        until("the fast reader", || (seqs_in(&fast_file).len() > 1_000).then_some(()));
        fast.kill();
        deck.stop();
        let expected = bench.expected("kraken_tick");
        let between = |first, last| expected.range(first..=last).map(|(seq, _)| *seq).collect::<Vec<u64>>();
        assert_eq!(seqs, between(seqs[0], *seqs.last().unwrap()), "what it missed it got by asking");
        let fast_seqs = seqs_in(&fast_file);
        assert_eq!(fast_seqs, between(fast_seqs[0], *fast_seqs.last().unwrap()), "nobody else lost anything");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_killed_comes_back_and_its_subscribers_fill_the_hole() {
    let venue = venue(400).await;
    let Some(bench) = bench(&venue, "") else { return };
    let log = venue.log();
    blocking(move || {
        let deck = bench.start();
        let mut pid = publishes(&deck);
        let (address, requests) = (bench.address(5568), bench.address(REQUESTS));
        let file = bench.home.path().join("seqs");
        let client = bench.client(&["keep", &address, &requests, "trade.kraken", file.to_str().unwrap()]);
        until("some trades", || (seqs_in(&file).len() > 10).then_some(()));
        for signal in [Signal::KILL, Signal::ABORT] {
            let before = *seqs_in(&file).last().unwrap();
            kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
            let status = deck.until("another process", |status| {
                let bus = &status.services[0];
                bus.state == "running" && bus.detail["pid"].as_u64().is_some_and(|now| now != pid)
            });
            assert!(status.services[0].restarts > 0);
            pid = status.services[0].detail["pid"].as_u64().unwrap();
            let back = status.tape.durable_seq;
            until("trades again", || (*seqs_in(&file).last()? > back.max(before)).then_some(()));
        }
        client.kill();
        deck.stop();
        let seqs = seqs_in(&file);
        let (first, last) = (seqs[0], *seqs.last().unwrap());
        let expected: Vec<u64> =
            bench.expected("trade.kraken").into_keys().filter(|seq| (first..=last).contains(seq)).collect();
        assert_eq!(seqs, expected, "the hole was seen and filled");

        let all = records(&bench.tape());
        assert!(!gaps(&all).iter().any(|(_, gap)| gap.cause == GapCause::Session), "the recording was not touched");
        let on_tape: std::collections::HashSet<(String, String)> = all
            .iter()
            .filter_map(|record| match &record.event.body {
                Body::Trade(trade) => Some((record.event.symbol.to_string(), trade.id.as_ref()?.to_string())),
                _ => None,
            })
            .collect();
        // What was under way when the deck ended is not on the tape: all before the newest of each symbol is.
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for (symbol, id) in &on_tape {
            let (newest, id) = (newest.entry(symbol).or_default(), id.parse().unwrap());
            *newest = (*newest).max(id);
        }
        let sent = log.entries().into_iter().filter(|sent| sent.channel == "trade" && sent.delivered.is_sent());
        let mut count = 0;
        for sent in sent.filter(|sent| sent.acked) {
            let Some(id) = sent.trade_id else { continue };
            if newest.get(&*sent.symbol).is_none_or(|newest| id > *newest) {
                continue;
            }
            count += 1;
            assert!(
                on_tape.contains(&(sent.symbol.to_string(), id.to_string())),
                "{} {id} is not on the tape",
                sent.symbol
            );
        }
        assert!(count > 20, "{count} trades");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_joins_late_is_told_the_last_values_and_errors_are_said() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "aliases = true\n") else { return };
    blocking(move || {
        let deck = bench.start();
        publishes(&deck);
        let (messages, end) = until("both instruments", || {
            let (messages, end) = bench.ask(&serde_json::json!(["last", "kraken_tick", 9]));
            (messages.len() == 2).then_some((messages, end))
        });
        assert_eq!((&end["head"], &end["end"]["count"], &end["end"]["id"]), (&"end".into(), &2.into(), &9.into()));
        // An alias is answered under the name that was asked for.
        let (depth, _) = until("a book", || {
            let (messages, end) = bench.ask(&serde_json::json!(["last", "kraken_depth"]));
            (!messages.is_empty()).then_some((messages, end))
        });
        assert_eq!(depth[0]["topic"], "kraken_depth");
        let alias = bench.client(&["subscribe", &bench.address(5560), "kraken_depth", "1"]);
        assert_eq!(alias.line()["ready"], true);
        assert_eq!(alias.line()["topic"], "kraken_depth");
        let from = messages[0]["data"]["seq"].as_u64().unwrap();
        let (range, end) = bench.ask(&serde_json::json!(["kraken_tick", from, from]));
        assert_eq!(range.len(), 1, "{end}");
        assert_eq!(range[0]["payload"], messages[0]["payload"], "byte for byte");
        for (request, said) in [
            (serde_json::json!(["nothing", 1, 2, "x"]), "there is no topic `nothing`"),
            (serde_json::json!(["gap", 5, 2]), "is no range"),
            (serde_json::json!({"what": 1}), "ask with [topic, from_seq, to_seq]"),
        ] {
            let (none, end) = bench.ask(&request);
            assert!(none.is_empty());
            assert_eq!(end["head"], "error");
            assert!(end["end"]["error"].as_str().unwrap().contains(said), "{end}");
        }
        let expected = {
            deck.stop();
            bench.expected("kraken_tick")
        };
        let mut encoder = Encoder::new(bench.tape_id(), false);
        for message in &messages {
            let seq = message["data"]["seq"].as_u64().unwrap();
            let payload = encoder.encode(&expected[&seq], "kraken_tick", Form::Map, Decimals::Float).payload;
            assert_eq!(message["payload"].as_str(), Some(hex(payload).as_str()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_others_reach_needs_keys_and_lets_in_only_those_it_knows() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "listen = \"0.0.0.0\"\n") else { return };
    blocking(move || {
        let deck = bench.start();
        until("the refusal", || deck.log().contains("there are no keys").then_some(()));
        let keys = |args: &[&str]| -> Value {
            let out = tapedeck().arg("keys").args(args).arg("--json").arg("--dir").arg(bench.tape()).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            serde_json::from_slice(&out.stdout).unwrap()
        };
        let known = keys(&["new", "known"]);
        let stranger = keys(&["new", "stranger"]);
        let certificate = |made: &Value| made["clients"][0]["secret_file"].as_str().unwrap().to_owned();
        let stranger_file = bench.home.path().join("stranger.key_secret");
        std::fs::copy(certificate(&stranger), &stranger_file).unwrap();
        assert_eq!(keys(&["drop", "stranger"])["clients"].as_array().unwrap().len(), 1);
        publishes(&deck);
        let server = known["server"].as_str().unwrap();
        let address = bench.address(5558);
        let refused = bench.client(&["curve", &address, "kraken_tick", server, stranger_file.to_str().unwrap()]);
        assert_eq!(refused.line()["ready"], true);
        let open = bench.client(&["subscribe", &address, "kraken_tick", "1"]);
        assert_eq!(open.line()["ready"], true);
        let welcome = bench.client(&["curve", &address, "kraken_tick", server, &certificate(&known)]);
        assert_eq!(welcome.line()["ready"], true);
        assert_eq!(welcome.line()["topic"], "kraken_tick");
        deck.until("a refused client", |status| {
            status.services[0].detail.get("refused_clients").and_then(Value::as_u64).is_some_and(|count| count > 0)
        });
        assert!(refused.lines.try_recv().is_err(), "a key that is not known hears nothing");
        assert!(open.lines.try_recv().is_err(), "nor does one without a key");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_refused_by_name_and_served_when_it_is_free() {
    let venue = venue(100).await;
    let Some(bench) = bench(&venue, "") else { return };
    blocking(move || {
        let taken = TcpListener::bind(("127.0.0.1", 5561 + bench.offset)).unwrap();
        let deck = bench.start();
        let said = format!("pid {}", std::process::id());
        let status = deck.until("the refusal", |status| {
            status.services.first().is_some_and(|bus| bus.state.contains(&said) || deck.log().contains(&said))
        });
        assert!(deck.log().contains("(kraken_orders) is taken by"), "{status:?}\n{}", deck.log());
        deck.until("recording all the same", |status| status.events > 50);
        let listed = tapedeck()
            .args(["ports", "--json", "--set", &format!("bus.port_offset={}", bench.offset), "-c", "/dev/null"])
            .output()
            .unwrap();
        let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
        let row = listed.iter().find(|row| row["service"] == "kraken_orders_pub").unwrap();
        assert!(row["state"].as_str().unwrap().contains(&said), "{row}");
        drop(taken);
        publishes(&deck);
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tap_prints_what_it_hears() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "[bus.topics.kraken_tick]\nform = \"soh\"\n") else { return };
    blocking(move || {
        let deck = bench.start();
        publishes(&deck);
        let tap = |args: &[&str]| {
            let out = tapedeck().arg("tap").args(args).arg("-c").arg(&deck.config).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        let heard = tap(&["trade.kraken", "--json", "--count", "2"]);
        let first: Value = serde_json::from_str(heard.lines().next().unwrap()).unwrap();
        assert_eq!((&first["topic"], heard.lines().count()), (&"trade.kraken".into(), 2));
        assert!(first["price"].as_f64().is_some(), "{first}");
        assert!(tap(&["kraken_tick", "--count", "1"]).contains("USD"), "the legacy text");
        let wrong = tapedeck().args(["tap", "kraken_tik", "-c", "/dev/null"]).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `kraken_tick`?"));
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_documentation_prints_what_it_hears() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "") else { return };
    blocking(move || {
        let deck = bench.start();
        publishes(&deck);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bus/subscribe.py");
        let port = (5558 + bench.offset).to_string();
        let out = Command::new(&bench.python).arg(script).args(["kraken_tick", &port, "5"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let said = String::from_utf8(out.stdout).unwrap();
        assert_eq!(said.lines().filter(|line| line.contains("'instrument'")).count(), 5, "{said}");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_the_bus_says_the_same_again_and_marks_it() {
    let venue = venue(300).await;
    let Some(bench) = bench(&venue, "") else { return };
    blocking(move || {
        let deck = bench.start();
        deck.until("a tape", |status| status.tape.durable_seq > 500);
        // The deck's bus has these ports.
        let offset = format!("bus.port_offset={}", bench.offset);
        let replay = |speed: &str, offset: &str| {
            let mut replay = tapedeck();
            replay.args(["replay", "--to", "bus", "--speed", speed, "--set", offset, "-c", "/dev/null", "--dir"]);
            replay.arg(bench.tape());
            replay
        };
        publishes(&deck);
        let refused = replay("max", &offset).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("--listen 127.0.0.2"), "{said}");
        deck.stop();

        let other = free_offset();
        let mut playing = replay("20", &format!("bus.port_offset={other}")).spawn().unwrap();
        let client = bench.client(&["subscribe", &format!("tcp://127.0.0.1:{}", 5568 + other), "trade.kraken", "30"]);
        assert_eq!(client.line()["ready"], true);
        let heard: Vec<Value> = (0..30).map(|_| client.line()["data"].clone()).collect();
        playing.kill().unwrap();
        playing.wait().unwrap();
        let expected = bench.expected("trade.kraken");
        let first = heard[0]["seq"].as_u64().unwrap();
        let seqs: Vec<u64> = heard.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        let wanted: Vec<u64> = expected.range(first..).map(|(seq, _)| *seq).take(30).collect();
        assert_eq!(seqs, wanted, "in order, none missing");
        assert!(heard.iter().all(|message| message["replayed"] == true), "{:?}", heard[0]);
    })
    .await;
}
