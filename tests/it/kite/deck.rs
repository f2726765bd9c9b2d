//! Whole decks beside a fake Kite: cut off, without a login, and searched for secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapedeck_market::{Body, GapCause, GapState};
use tapedeck_testkit::FakeKite;
use tapedeck_testkit::kite::{ACCESS_TOKEN, API_KEY, API_SECRET, Handle, Mode, REQUEST_TOKEN};

use super::frames::INFY;
use crate::deck::blocking;
use crate::support::{Deck, free_offset, records, tapedeck, until};

/// Ticker, quote and book of two; ticker of the third; own orders.
const SUBSCRIPTIONS: usize = 8;

async fn venue() -> Handle {
    FakeKite::builder().rate(100).start().await.unwrap()
}

fn source(url: &str) -> String {
    format!(
        "[source.kite]\nkind = \"kite\"\nurl = {url:?}\napi_key = {API_KEY:?}\napi_secret = {API_SECRET:?}\naccess_token = {ACCESS_TOKEN:?}\ninstruments = [\"INFY\", 738561, \"TCS\"]\nmodes = {{ TCS = \"ltp\" }}\n"
    )
}

fn live(deck: &Deck) {
    deck.until("every subscription", |status| {
        status.sources.first().is_some_and(|source| source.live == SUBSCRIPTIONS)
    });
}

async fn started(home: &Path, config: String) -> Deck {
    let home = home.to_owned();
    blocking(move || {
        let deck = Deck::start(&home, &config);
        live(&deck);
        deck
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_loss_is_in_the_ledger_and_what_was_asked_for_is_asked_for_again_with_its_mode() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let mut deck = Some(started(home.path(), source(&venue.ws_url())).await);
    for (at, fault) in ["cut", "cut mid-frame", "close"].into_iter().enumerate() {
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
        let modes = venue.subscribed();
        let want = [(INFY, Mode::Full), (738_561, Mode::Full), (2_953_217, Mode::Ltp)];
        assert_eq!(modes, [BTreeMap::from(want)], "after {fault}");
    }
    assert_eq!(venue.opened(), 4);
    assert_eq!(venue.requests(), ["GET /instruments"]);
    blocking(move || deck.unwrap().stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_token_waits_for_a_login_which_is_taken_up_without_a_restart() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue().await));
    let deck = started(home.path(), source(&venue.ws_url())).await;
    venue.inject("token-dead".parse().unwrap());
    let fake = venue.clone();
    blocking(move || {
        let waits = |source: &tapedeck::status::Source| source.state.starts_with("waiting: new login needed");
        deck.until("a login to be asked for", |status| status.sources.iter().all(waits));
        assert_eq!(deck.log().matches("new login needed").count(), 1, "{}", deck.log());
        let login = |args: &[&str]| {
            let home = deck.config.parent().unwrap();
            tapedeck().args(["login", "kite", "-c"]).arg(&deck.config).args(args).current_dir(home).output().unwrap()
        };
        let refused = login(&["--request-token", "nonsense"]);
        let said = format!("{refused:?}");
        assert!(!refused.status.success() && said.contains("Token is invalid or has expired"), "{said}");
        assert!(!said.contains("nonsense") && !said.contains(API_SECRET), "{said}");
        let done = login(&["--request-token", REQUEST_TOKEN]);
        assert!(done.status.success(), "{done:?}");
        live(&deck);
        assert_eq!((fake.refused(), fake.opened()), (1, 2), "the dead token was offered once");
        let closed = deck.until_closed(GapCause::Session, SUBSCRIPTIONS);
        assert!(closed.iter().any(|(_, gap)| gap.state == GapState::Closed));
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_ticks_under_the_old_topic() {
    let (home, venue, offset) = (tempfile::tempdir().unwrap(), venue().await, free_offset());
    let config =
        format!("{}[bus]\nport_offset = {offset}\n[bus.topics.kite_tick]\nform = \"json\"\n", source(&venue.ws_url()));
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        let context = zmq::Context::new();
        let socket = context.socket(zmq::SUB).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{}", 5_567 + offset)).unwrap();
        socket.set_subscribe(b"kite_tick").unwrap();
        socket.set_rcvtimeo(50).unwrap();
        live(&deck);
        let tick = until("a tick of a stock", || {
            let parts = socket.recv_multipart(0).ok()?;
            let tick: serde_json::Value = serde_json::from_slice(&parts[1]).expect("JSON");
            (tick["instrument"] == "NSE:INFY" && !tick["bid"].is_null()).then_some(tick)
        });
        for key in ["bid", "ask", "bid_size", "ask_size", "last", "volume_today", "avg_price", "prev_close"] {
            assert!(tick[key].is_number(), "no {key}: {tick}");
        }
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
async fn neither_key_nor_token_nor_account_is_ever_written_or_shown() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue().await));
    let config = source(&venue.ws_url());
    let config = format!("[log]\nlevel = \"trace\"\n[tape]\ncompress = false\n{config}keep_raw = true\n");
    let deck = started(home.path(), config).await;
    let fake = venue.clone();
    blocking(move || {
        for fault in ["order", "garbage text", "garbage type", "error a token is wrong", "count 2"] {
            fake.inject(fault.parse().unwrap());
        }
        until("an order", || {
            records(&deck.dir).iter().any(|record| matches!(record.event.body, Body::Order(_))).then_some(())
        });
        fake.inject("cut mid-frame".parse().unwrap());
        deck.until_closed(GapCause::Session, SUBSCRIPTIONS);
        fake.inject("token-dead".parse().unwrap());
        deck.until("the refusal", |status| status.sources.iter().any(|source| source.state.contains("new login")));
        let home = deck.config.parent().unwrap().to_owned();
        let mut shown = vec![format!("{:?}", deck.status())];
        for args in [
            &["status"][..],
            &["config", "show"],
            &["check", "--json"],
            &["tape", "dump"],
            &["gaps"],
            &["tail", "--until", "now"],
            &["login", "kite", "--request-token", REQUEST_TOKEN],
        ] {
            let out = tapedeck().args(args).arg("-c").arg(&deck.config).current_dir(&home).output().unwrap();
            let said =
                (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
            shown.push(format!("{args:?}: {said:?}"));
        }
        let logged_in = shown.last().unwrap();
        assert!(logged_in.contains("logged in as Person"), "{logged_in}");
        live(&deck);
        deck.stop();
        let kept = std::fs::read_to_string(home.join("tape/kite/kite.login")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        let newer = kept["access_token"].as_str().unwrap().to_owned();
        let secrets = [API_KEY, API_SECRET, ACCESS_TOKEN, newer.as_str(), "AB1234"];
        for text in shown {
            // The verb's own arguments are printed by this test, not by the program.
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
        }
        let mut found = Vec::new();
        files(&home, &mut found);
        found.retain(|path| !path.ends_with("tapedeck.toml") && !path.ends_with("kite.login"));
        assert!(found.len() >= 4, "{found:?}");
        for path in found {
            let bytes = std::fs::read(&path).unwrap();
            for secret in secrets {
                let there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!there, "{} holds a secret", path.display());
            }
        }
    })
    .await;
}
