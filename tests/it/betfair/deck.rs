//! Whole decks beside a fake Betfair: killed, cut off, and searched for secrets.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use tapedeck_market::odds::Market;
use tapedeck_market::{Body, GapCause, SmolStr};
use tapedeck_testkit::FakeBetfair;
use tapedeck_testkit::betfair::{APP_KEY, Handle, PASSWORD, USERNAME};

use super::live::text_of;
use crate::deck::blocking;
use crate::kill::{Dice, seed};
use crate::support::{Deck, free_address, free_offset, gaps, records, tapedeck, until};

const MARKETS: usize = 3;

fn source(url: &str, login: &str) -> String {
    format!(
        "[source.betfair]\nkind = \"betfair\"\nurl = {url:?}\nlogin_url = {login:?}\napp_key = {APP_KEY:?}\nusername = {USERNAME:?}\npassword = {PASSWORD:?}\nevent_types = [\"7\"]\nheartbeat = \"500ms\"\nfields = ['EX_BEST_OFFERS', 'EX_BEST_OFFERS_DISP', 'EX_ALL_OFFERS', 'EX_TRADED', 'EX_TRADED_VOL', 'EX_LTP', 'EX_MARKET_DEF', 'SP_TRADED', 'SP_PROJECTED']\n"
    )
}

fn of(fake: &Handle) -> String {
    source(&fake.url(), &fake.login_url())
}

fn live(deck: &Deck) {
    deck.until("every subscription", |status| status.sources.first().is_some_and(|source| source.live == MARKETS + 1));
}

/// The ladders that the tape of a folder makes, by market.
fn ladders(dir: &Path) -> BTreeMap<String, String> {
    let mut markets = BTreeMap::<SmolStr, Market>::new();
    for record in records(dir) {
        if let Body::Odds(odds) = &record.event.body {
            markets.entry(record.event.symbol.clone()).or_default().apply(odds);
        }
    }
    markets.iter().map(|(id, market)| (id.to_string(), text_of(market))).collect()
}

/// Ids and last states of own orders on the tape.
fn orders(dir: &Path) -> BTreeMap<String, String> {
    let mut orders = BTreeMap::new();
    for record in records(dir) {
        if let Body::Order(order) = record.event.body
            && let (Some(id), Some(status)) = (order.id, order.status)
        {
            orders.insert(id.to_string(), status.to_string());
        }
    }
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tape_has_the_venues_ladders_and_orders_however_often_the_deck_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let fake = Arc::new(FakeBetfair::builder().rate(200).start().await.unwrap());
    let (config, path) = (of(&fake), home.path().to_owned());
    let mut dice = Dice(seed());
    blocking(move || {
        let mut deck = Deck::start(&path, &config);
        live(&deck);
        for _ in 0..5 {
            fake.order(3);
            std::thread::sleep(std::time::Duration::from_millis(dice.below(800)));
            deck.signal(Signal::KILL);
            let _ = deck.wait();
            fake.order(2);
            deck = Deck::start(&path, &config);
            live(&deck);
        }
        fake.stand_still(true);
        let want: BTreeMap<String, String> =
            fake.markets().into_iter().map(|id| (id.clone(), fake.ladders(&id))).collect();
        until("the venue's ladders on the tape", || (ladders(&deck.dir) == want).then_some(()));
        let want: BTreeMap<String, String> = fake.orders().into_iter().collect();
        until("the venue's orders on the tape", || (orders(&deck.dir) == want).then_some(()));
        // It went on where it was: after the first start nothing began anew.
        let all = records(&deck.dir);
        let images = all
            .iter()
            .filter(|record| matches!(&record.event.body, Body::Odds(odds) if odds.selection == 0 && odds.image));
        assert_eq!(images.count(), MARKETS);
        assert!(fake.log().iter().filter(|sent| sent.kind == "resub").count() >= 5);
        let down = gaps(&all).into_iter().filter(|(_, gap)| gap.cause == GapCause::Down && gap.channel == "odds");
        assert!(down.count() >= 2 * MARKETS, "and the pauses are in the ledger");
        deck.stop();
    })
    .await;
}

/// A fake venue as a process of its own, which can be killed.
struct Simulation(Child);

impl Simulation {
    fn start(listen: &str, login: &str) -> Simulation {
        let args = ["simulate", "betfair", "--rate", "100", "--listen", listen, "--login-listen", login];
        let mut child = tapedeck().args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Simulation(child)
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_venue_that_was_killed_and_forgot_everything_is_recorded_anew() {
    let home = tempfile::tempdir().unwrap();
    let (listen, login) = (free_address().to_string(), free_address().to_string());
    let first = Simulation::start(&listen, &login);
    let deck = Deck::start(home.path(), &source(&format!("tcp://{listen}"), &format!("http://{login}")));
    live(&deck);
    drop(first);
    deck.until("the loss", |status| {
        status.sources.iter().all(|source| source.live == 0 || source.state.contains("lost"))
    });
    let _second = Simulation::start(&listen, &login);
    // It knows neither the session nor the clocks.
    let closed = deck.until_closed(GapCause::Session, MARKETS + 1);
    assert!(closed.iter().all(|(_, gap)| gap.to.is_none_or(|to| to >= gap.from)), "{closed:#?}");
    live(&deck);
    let images = records(&deck.dir)
        .iter()
        .filter(|record| matches!(&record.event.body, Body::Odds(odds) if odds.selection == 0 && odds.image))
        .count();
    assert_eq!(images, 2 * MARKETS);
    deck.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_runner_changes_under_their_topic() {
    let (home, fake) = (tempfile::tempdir().unwrap(), FakeBetfair::builder().rate(100).start().await.unwrap());
    let (offset, path) = (free_offset(), home.path().to_owned());
    let config = format!("{}[bus]\nport_offset = {offset}\n", of(&fake));
    blocking(move || {
        let deck = Deck::start(&path, &config);
        let context = zmq::Context::new();
        let socket = context.socket(zmq::SUB).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{}", 5564 + offset)).unwrap();
        socket.set_subscribe(b"betfair_stream").unwrap();
        socket.set_rcvtimeo(50).unwrap();
        live(&deck);
        let parts = until("a change", || socket.recv_multipart(0).ok());
        assert_eq!(parts[0], b"betfair_stream");
        let text = String::from_utf8_lossy(&parts[1]);
        assert!(text.contains("selection") && text.contains("handicap"), "{text}");
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
async fn neither_key_nor_password_nor_session_is_ever_written_or_shown() {
    let (home, fake) =
        (tempfile::tempdir().unwrap(), Arc::new(FakeBetfair::builder().rate(100).start().await.unwrap()));
    let path = home.path().to_owned();
    let config = format!("[log]\nlevel = \"trace\"\n[tape]\ncompress = false\n{}keep_raw = true\n", of(&fake));
    blocking(move || {
        let deck = Deck::start(&path, &config);
        live(&deck);
        let mut secrets = vec![APP_KEY.to_owned(), PASSWORD.to_owned(), "4711471147".to_owned()];
        secrets.extend(fake.sessions());
        fake.order(5);
        for text in ["field", "refuse TOO_MANY_REQUESTS x2", "cut in-line"] {
            fake.inject(text.parse().unwrap());
        }
        deck.until_closed(GapCause::Session, MARKETS + 1);
        live(&deck);
        for (text, times) in [("garbage json", 1), ("garbage utf8", 2)] {
            fake.inject(text.parse().unwrap());
            deck.until_closed(GapCause::Drop, times * (MARKETS + 1));
            live(&deck);
        }
        fake.inject("session-dead".parse().unwrap());
        fake.inject("cut".parse().unwrap());
        until("another login", || (!fake.sessions().is_empty()).then_some(()));
        secrets.extend(fake.sessions());
        live(&deck);
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
            let text =
                [&out.stdout[..], &out.stderr[..]].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
            shown.push(format!("{args:?}: {text}"));
        }
        deck.stop();
        secrets.extend(fake.sessions());
        for text in shown {
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
        }
        let mut found = Vec::new();
        files(&home, &mut found);
        found.retain(|path| !path.ends_with("tapedeck.toml"));
        assert!(found.len() >= 3, "{found:?}");
        for path in found {
            let bytes = std::fs::read(&path).unwrap();
            for secret in &secrets {
                let there = memchr::memmem::find(&bytes, secret.as_bytes()).is_some();
                assert!(!there, "{} holds {secret}", path.display());
            }
        }
    })
    .await;
}
