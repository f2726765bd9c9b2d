//! Whole decks beside a fake X: cut off, refused, doubled, and searched for the token.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tapedeck_market::{Body, GapCause};
use tapedeck_testkit::FakeX;
use tapedeck_testkit::x::{Handle, TOKEN};

use crate::deck::blocking;
use crate::support::{Deck, free_offset, records, tapedeck, until};

async fn venue(rate: u32) -> Handle {
    FakeX::builder().rate(rate).keep_alive(Duration::from_millis(200)).start().await.unwrap()
}

fn source(url: &str, token: &str) -> String {
    let rules = "[[source.x.rules]]\ntag = \"btc\"\nvalue = \"bitcoin\"\n[[source.x.rules]]\ntag = \"eth\"\nvalue = \"ether\"\n";
    format!("[source.x]\nkind = \"x\"\nurl = {url:?}\nbearer_token = {token:?}\nkeep_raw = true\n{rules}")
}

fn live(deck: &Deck) {
    deck.until("both tags", |status| status.sources.first().is_some_and(|source| source.live == 2));
}

/// Ids of the posts of a tape, in its order.
fn ids(dir: &Path) -> Vec<String> {
    let id = |body: &Body| if let Body::Post(post) = body { Some(post.id.to_string()) } else { None };
    records(dir).iter().filter_map(|record| id(&record.event.body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_on_the_tape_once_and_each_loss_in_the_ledger() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue(0).await));
    let (config, path) = (source(&venue.url(), TOKEN), home.path().to_owned());
    let fake = venue.clone();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        live(&deck);
        for n in 0..20 {
            fake.inject("duplicate".parse().unwrap());
            fake.post(&format!("post {n}"));
        }
        let dir = deck.dir.clone();
        let all = |count: usize| until("the posts", || (ids(&dir).len() >= count).then_some(()));
        all(20);
        for (at, fault) in ["cut in-line", "end", "cut"].into_iter().enumerate() {
            let opened = fake.opened();
            fake.inject(fault.parse().unwrap());
            until("the next stream", || (fake.opened() > opened && fake.is_open()).then_some(()));
            deck.until_closed(GapCause::Session, 2 * (at + 1));
            live(&deck);
            fake.post("behind the loss");
            all(21 + at);
        }
        let sent: Vec<String> = fake.log().into_iter().map(|sent| sent.id).collect();
        assert_eq!(ids(&dir), sent, "each once, in order");
        let raw = records(&dir).iter().filter(|record| matches!(record.event.body, Body::Raw(_))).count();
        assert!(raw >= 40, "both lines of each were heard: {raw}");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_said_once_and_the_right_one_taken_up_on_reload() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue(20).await);
    let (url, path) = (venue.url(), home.path().to_owned());
    blocking(move || {
        let deck = Deck::start(&path, &source(&url, "wrong-token-4711"));
        let waits = |source: &tapedeck::status::Source| source.state.starts_with("waiting: X refuses the bearer token");
        let status = deck.until("the session to wait", |status| status.sources.iter().any(waits));
        assert!(!format!("{status:?}").contains("wrong-token-4711"));
        assert_eq!(deck.log().matches("X refuses the bearer token").count(), 1, "{}", deck.log());
        let config = std::fs::read_to_string(&deck.config).unwrap();
        std::fs::write(&deck.config, config.replace("wrong-token-4711", TOKEN)).unwrap();
        deck.signal(Signal::HUP);
        live(&deck);
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_scored_posts_and_the_token_is_nowhere() {
    let (home, venue) = (tempfile::tempdir().unwrap(), Arc::new(venue(0).await));
    let (offset, path) = (free_offset(), home.path().to_owned());
    let bus = format!("[bus]\nport_offset = {offset}\n[bus.topics.twitter_sentiment]\nform = \"json\"\n");
    let config = format!("[log]\nlevel = \"trace\"\n[tape]\ncompress = false\n{}{bus}", source(&venue.url(), TOKEN));
    let fake = venue.clone();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        let context = zmq::Context::new();
        let socket = context.socket(zmq::SUB).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{}", 5565 + offset)).unwrap();
        socket.set_subscribe(b"twitter_sentiment").unwrap();
        socket.set_rcvtimeo(50).unwrap();
        live(&deck);
        let message = until("a post", || {
            fake.post("VADER is VERY SMART, handsome, and FUNNY & so on!!!");
            socket.recv_multipart(0).ok()
        });
        let post: serde_json::Value = serde_json::from_slice(&message[1]).unwrap();
        assert_eq!(post["text"], "VADER is VERY SMART, handsome, and FUNNY & so on!!!");
        assert_eq!(post["sentiment"]["compound"].as_f64(), Some(0.9342));
        for fault in ["garbage json", "refuse 403 x1", "cut"] {
            fake.inject(fault.parse().unwrap());
        }
        deck.until("the refusal", |status| status.sources.iter().any(|source| source.state.starts_with("waiting")));
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
        assert!(shown.iter().all(|text| !text.contains(TOKEN)), "{shown:#?}");
        let mut found = BTreeSet::new();
        files(&home, &mut found);
        found.retain(|path| !path.ends_with("tapedeck.toml"));
        assert!(found.len() >= 3, "{found:?}");
        for path in found {
            let bytes = std::fs::read(&path).unwrap();
            let there = bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
            assert!(!there, "{} holds the token", path.display());
        }
    })
    .await;
}

/// Every file below a folder.
fn files(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path);
        }
    }
}
