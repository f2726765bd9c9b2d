//! Whole decks beside a fake OANDA: killed, cut off, refused, and searched for secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tapedeck_market::{Body, GapCause, GapState};
use tapedeck_testkit::FakeOanda;
use tapedeck_testkit::oanda::{ACCOUNT, Handle, TOKEN};

use super::live::id_in;
use crate::deck::blocking;
use crate::kill::{Dice, seed};
use crate::support::{Deck, free_offset, gaps, records, tapedeck, until};

const SUBSCRIPTIONS: usize = 4;

async fn venue() -> Handle {
    FakeOanda::builder().rate(100).heartbeat(Duration::from_millis(200)).start().await.unwrap()
}

fn source(url: &str, token: &str) -> String {
    format!(
        "[source.oanda]\nkind = \"oanda\"\nurl = {url:?}\ntoken = {token:?}\naccount = {ACCOUNT:?}\ninstruments = [\"EUR_USD\", \"USD_JPY\", \"GBP_USD\"]\n"
    )
}

fn live(deck: &Deck) {
    deck.until("every subscription", |status| {
        status.sources.first().is_some_and(|source| source.live == SUBSCRIPTIONS)
    });
}

/// Ids of the transactions of a tape, in its order.
fn ids(dir: &Path) -> Vec<u64> {
    let id = |body: &Body| match body {
        Body::Order(order) => id_in(order),
        _ => None,
    };
    records(dir).iter().filter_map(|record| id(&record.event.body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_is_lost_or_doubled_however_often_the_deck_is_killed() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue().await));
    let (config, stop) = (source(&venue.url(), TOKEN), Arc::new(AtomicBool::new(false)));
    let (busy, path) = (venue.clone(), home.path().to_owned());
    let over = stop.clone();
    let (mut dice, kills) = (Dice(seed()), 6);
    let deck = blocking({
        let (path, config) = (path.clone(), config.clone());
        move || {
            let deck = Deck::start(&path, &config);
            live(&deck);
            deck
        }
    })
    .await;
    let first = *busy.transactions().last().unwrap_or(&2_311) + 1;
    let account = tokio::spawn({
        let busy = busy.clone();
        async move {
            while !over.load(Ordering::Relaxed) {
                busy.transact(1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut deck = Some(deck);
    for _ in 0..kills {
        let wait = Duration::from_millis(dice.below(1_500));
        tokio::time::sleep(wait).await;
        let (old, path, config) = (deck.take().unwrap(), path.clone(), config.clone());
        deck = Some(
            blocking(move || {
                old.signal(Signal::KILL);
                let _ = old.wait();
                Deck::start(&path, &config)
            })
            .await,
        );
    }
    let deck = deck.unwrap();
    let deck = blocking(move || {
        live(&deck);
        deck
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    account.await.unwrap();
    let want = venue.transactions();
    let dir = path.join("tape");
    blocking(move || {
        until("the last transaction", || (ids(&dir).last() == want.last()).then_some(()));
        assert_eq!(want.first(), Some(&first));
        assert_eq!(ids(&dir), want, "each once, in order, over {kills} kills");
        let down = gaps(&records(&dir)).into_iter().filter(|(_, gap)| gap.cause == GapCause::Down);
        assert!(down.filter(|(_, gap)| gap.channel == "transactions").count() >= 2, "and the pauses are in the ledger");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_in_the_ledger_and_over_when_the_venue_is_back() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let (config, path) = (source(&venue.url(), TOKEN), home.path().to_owned());
    let deck = blocking(move || {
        let deck = Deck::start(&path, &config);
        live(&deck);
        deck
    })
    .await;
    let mut deck = Some(deck);
    for (at, fault) in ["cut", "end in-line", "cut in-line"].into_iter().enumerate() {
        venue.inject(fault.parse().unwrap());
        let running = deck.take().unwrap();
        deck = Some(
            blocking(move || {
                let closed = running.until_closed(GapCause::Session, (at + 1) * SUBSCRIPTIONS);
                assert!(closed.iter().all(|(_, gap)| gap.to.is_none_or(|to| to >= gap.from)), "{closed:#?}");
                live(&running);
                running
            })
            .await,
        );
    }
    // While the venue refuses, nothing is asked for faster than it allows.
    venue.inject("refuse 503".parse().unwrap());
    venue.inject("cut".parse().unwrap());
    let deck = deck.unwrap();
    let deck = blocking(move || {
        deck.until("the refusal", |status| status.sources.iter().any(|source| source.state.contains("503")));
        deck
    })
    .await;
    venue.inject("heal".parse().unwrap());
    blocking(move || {
        let closed = deck.until_closed(GapCause::Session, 4 * SUBSCRIPTIONS);
        live(&deck);
        assert!(closed.iter().any(|(_, gap)| gap.state == GapState::Closed));
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_said_once_and_the_right_one_taken_up_on_reload() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let (url, path) = (venue.url(), home.path().to_owned());
    blocking(move || {
        let deck = Deck::start(&path, &source(&url, "wrong-token-4711"));
        let waits = |source: &tapedeck::status::Source| source.state.starts_with("waiting: OANDA refuses the token");
        let status = deck.until("both sessions to wait", |s| s.sources.len() == 2 && s.sources.iter().all(waits));
        assert!(!format!("{status:?}").contains("wrong-token-4711"));
        let said = deck.log().matches("OANDA refuses the token").count();
        assert_eq!(said, 2, "once a session: {}", deck.log());
        let config = std::fs::read_to_string(&deck.config).unwrap();
        std::fs::write(&deck.config, config.replace("wrong-token-4711", TOKEN)).unwrap();
        deck.signal(Signal::HUP);
        live(&deck);
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_ticks_and_orders_under_the_old_topics() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue().await));
    let (offset, path) = (free_offset(), home.path().to_owned());
    let bus = format!("[bus]\nport_offset = {offset}\n[bus.topics.oanda_tick]\nform = \"soh\"\n");
    let config = format!("{}{bus}", source(&venue.url(), TOKEN));
    let fake = venue.clone();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        let context = zmq::Context::new();
        let subscribe = |port: u16, topic: &str| {
            let socket = context.socket(zmq::SUB).unwrap();
            socket.connect(&format!("tcp://127.0.0.1:{}", port + offset)).unwrap();
            socket.set_subscribe(topic.as_bytes()).unwrap();
            socket.set_rcvtimeo(50).unwrap();
            socket
        };
        let (ticks, second, orders) =
            (subscribe(5562, "oanda_tick"), subscribe(5556, "oanda_tick"), subscribe(5563, "oanda_orders"));
        live(&deck);
        for socket in [&ticks, &second] {
            let tick = until("a tick", || socket.recv_bytes(0).ok());
            let tick = String::from_utf8(tick).unwrap();
            let fields: Vec<&str> = tick.strip_prefix("oanda_tick ").unwrap().split('\u{1}').collect();
            let [instrument, time, bid, ask] = fields.as_slice() else { panic!("{tick}") };
            assert!(instrument.len() == 7 && time.len() == 30 && time.ends_with('Z'), "{tick}");
            assert!(bid.parse::<f64>().unwrap() < ask.parse::<f64>().unwrap(), "{tick}");
        }
        let order = until("an order", || {
            fake.transact(1);
            orders.recv_multipart(0).ok()
        });
        assert_eq!(order[0], b"oanda_orders");
        let text = String::from_utf8_lossy(&order[1]);
        assert!(text.contains("action") && text.contains("raw"), "{text}");
        assert!(!text.contains(ACCOUNT), "{text}");
        deck.stop();
    })
    .await;
}

/// Every file below a folder.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_token_nor_account_is_ever_written_or_shown() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue().await));
    let (config, path) = (source(&venue.url(), TOKEN), home.path().to_owned());
    let config = format!("[log]\nlevel = \"trace\"\n[tape]\ncompress = false\n{config}keep_raw = true\n");
    let fake = venue.clone();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        live(&deck);
        fake.transact(40);
        for garbage in ["json", "utf8", "type", "number"] {
            fake.inject(format!("garbage {garbage}").parse().unwrap());
        }
        until("transactions", || (ids(&deck.dir).len() >= 40).then_some(()));
        fake.inject("cut in-line".parse().unwrap());
        deck.until_closed(GapCause::Session, SUBSCRIPTIONS);
        fake.inject("refuse 403 x2".parse().unwrap());
        fake.inject("cut".parse().unwrap());
        deck.until("the refusal", |status| {
            status.sources.iter().any(|source| source.state.contains("403") || source.state.contains("waiting"))
        });
        let home = deck.config.parent().unwrap().to_owned();
        let mut shown = vec![format!("{:?}", deck.status())];
        for args in [
            &["status"][..],
            &["config", "show"],
            &["check", "--json"],
            &["tape", "dump"],
            &["gaps"],
            &["tail", "--until", "now"],
        ] {
            let out = tapedeck().args(args).arg("-c").arg(&deck.config).current_dir(&home).output().unwrap();
            shown.push(format!(
                "{args:?}: {}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            ));
        }
        deck.stop();
        for text in shown {
            assert!(!text.contains(TOKEN) && !text.contains(ACCOUNT), "{text}");
        }
        let mut found = Vec::new();
        files(&home, &mut found);
        found.retain(|path| !path.ends_with("tapedeck.toml"));
        assert!(found.len() >= 3, "{found:?}");
        for path in found {
            let bytes = std::fs::read(&path).unwrap();
            for secret in [TOKEN, ACCOUNT] {
                let there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!there, "{} holds a secret", path.display());
            }
        }
    })
    .await;
}
