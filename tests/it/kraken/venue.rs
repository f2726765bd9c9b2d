//! What lies beside the public feed: recordings over a real WebSocket, REST tickers, own orders, old names.

use std::path::PathBuf;
use std::time::Duration;

use tapedeck::intake::{Intake, Resume};
use tapedeck_market::{Body, GapCause};
use tapedeck_testkit::kraken::{Credentials, FakeKraken, Handle, Speed};

use super::desk::{Desk, acks_of, fault, is_live, sessions};
use super::recordings::fixtures;
use crate::deck::blocking;
use crate::support::{Deck, free_offset, until};

async fn replayed(path: PathBuf) -> Handle {
    FakeKraken::builder().frames(path, Speed::Max).start().await.expect("a fake venue")
}

const BOOK: &str = "pairs = ['BTC/USD']\nchannels = ['book']\nbook_depth = 10";

#[tokio::test]
async fn the_recording_over_a_real_socket_agrees_1254_times() {
    let Some(dir) = fixtures() else { return };
    let fake = replayed(dir.join("ws_v2_book_btcusd_d10_20260719T1754.jsonl.gz")).await;
    let mut desk = Desk::run(&fake, BOOK);
    desk.until_events("the whole recording", 1_254, |event| matches!(event.body, Body::Book(_))).await;
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 0);
    assert_eq!(desk.count(|message| is_live(message, "BTC/USD", "book")), 1);
}

#[tokio::test]
async fn the_hole_of_a_recording_is_found_and_its_symbol_subscribed_again() {
    let Some(dir) = fixtures() else { return };
    let fake = replayed(dir.join("ws_v2_book_btcusd_d10_20260720T0339_with_hole.jsonl")).await;
    let mut desk = Desk::run(&fake, BOOK);
    desk.until("the break", |message| matches!(message, Intake::Lost { cause: GapCause::Checksum, .. })).await;
    let good = desk.events().filter(|event| matches!(event.body, Body::Book(_))).count();
    assert_eq!(good, 41, "whole until frame 51");
    while acks_of(&fake, "book", "BTC/USD") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The fake acks and ends the replay; what of it was on its way is inside the gap.
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 1);
}

#[tokio::test]
async fn polled_tickers_have_today_and_24_hours_apart_and_are_said_when_they_change() {
    let fake = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD", "SOL/USD"]).rate(200).start().await.expect("a fake");
    let table = format!("url = '{}'\npairs = ['XXBTZUSD', 'ETH/*']\nticker = 'rest'\npoll = '250ms'", fake.ws_url());
    let poll = sessions(&table).into_iter().nth(1).expect("two sessions");
    assert_eq!(poll.name, "k/rest");
    let mut desk = Desk::of(poll, Resume::default());
    desk.until_events("three polls", 6, |event| matches!(event.body, Body::Ticker(_))).await;
    let mut symbols: Vec<_> = desk.events().map(|event| event.symbol.as_str()).collect();
    symbols.sort_unstable();
    symbols.dedup();
    assert_eq!(symbols, ["BTC/USD", "ETH/USD"]);
    for event in desk.events() {
        let Body::Ticker(ticker) = &event.body else { panic!("{event:?}") };
        for stats in [&ticker.today, &ticker.day] {
            assert!(stats.volume.is_some() && stats.vwap.is_some() && stats.trades.is_some(), "{event:?}");
            assert!(stats.low.is_some() && stats.high.is_some(), "{event:?}");
        }
        assert!(ticker.bid_whole_lots.is_some() && ticker.ask_whole_lots.is_some() && ticker.today.open.is_some());
    }
    assert_eq!(desk.count(|message| matches!(message, Intake::Live { .. })), 2);
    // The public session does not ask for what is polled.
    let mut public = Desk::run(&fake, "pairs = ['XXBTZUSD']\nticker = 'rest'");
    public.until("trades", |message| is_live(message, "BTC/USD", "trade")).await;
    public.until("books", |message| is_live(message, "BTC/USD", "book")).await;
    assert_eq!(public.count(|message| is_live(message, "BTC/USD", "ticker")), 0);
}

#[tokio::test]
async fn instruments_learn_their_old_names_from_the_asset_list() {
    let fake = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).start().await.expect("a fake venue");
    let mut desk = Desk::run(&fake, "pairs = ['XBT/USD']");
    let has_alias = |message: &Intake| {
        super::desk::events_of(message).iter().any(|event| {
            let Body::Instrument(instrument) = &event.body else { return false };
            event.symbol == "BTC/USD"
                && instrument.aliases.iter().any(|(scheme, text)| scheme == "rest" && text == "XXBTZUSD")
        })
    };
    desk.until("the old name", has_alias).await;
    assert!(desk.events().all(|event| event.symbol != "ETH/USD"), "only what is wanted is listed");
}

fn with_key(fake: &Handle, secret: &str) -> String {
    format!(
        "url = '{}'\npairs = ['*']\nchannels = ['executions']\napi_key = 'key-1'\napi_secret = '{secret}'",
        fake.ws_url()
    )
}

const SECRET: &str = "c2VjcmV0IG9mIGEgdGVzdA==";

async fn with_account() -> Handle {
    let credentials =
        Credentials { key: "key-1".to_owned(), secret: SECRET.to_owned(), token_life: Duration::from_secs(60) };
    FakeKraken::builder().rate(500).credentials(credentials).start().await.expect("a fake venue")
}

#[tokio::test]
async fn own_orders_arrive_with_a_token_of_their_connection() {
    let fake = with_account().await;
    let session = sessions(&with_key(&fake, SECRET)).remove(0);
    assert_eq!(session.name, "k", "the only session of the table has its name");
    let mut desk = Desk::of(session, Resume::default());
    desk.until("the ack", |message| is_live(message, "", "executions")).await;
    desk.until_events("orders", 5, |event| matches!(&event.body, Body::Order(order) if order.id.is_some())).await;
    let report = sessions(&with_key(&fake, SECRET)).remove(0).source.check().await.expect("all is well");
    assert!(report.starts_with("1 subscriptions acked"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_orders_reach_subscribers_under_the_old_topic() {
    let (home, fake, offset) = (tempfile::tempdir().unwrap(), with_account().await, free_offset());
    let bus = format!("[bus]\nport_offset = {offset}\n");
    let config = format!("{bus}[source.kraken]\nkind = 'kraken'\n{}\n", with_key(&fake, SECRET));
    blocking(move || {
        let deck = Deck::start(home.path(), &config);
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{}", 5561 + offset)).unwrap();
        socket.set_subscribe(b"kraken_orders").unwrap();
        socket.set_rcvtimeo(50).unwrap();
        let order = until("an order", || socket.recv_multipart(0).ok());
        assert_eq!(order[0], b"kraken_orders");
        let text = String::from_utf8_lossy(&order[1]);
        assert!(text.contains("order_id") || text.contains("action"), "{text}");
        deck.stop();
    })
    .await;
}

#[tokio::test]
async fn a_wrong_key_waits_for_a_person() {
    let fake = with_account().await;
    for secret in ["d3Jvbmc=", "not base64!"] {
        let session = sessions(&with_key(&fake, secret)).remove(0);
        let ended = Desk::of(session, Resume::default()).drain().await;
        assert!(ended.starts_with("waiting: "), "{ended}");
    }
    assert_eq!(fake.connections(), 0, "nothing was connected without a token");
}

#[tokio::test]
async fn a_token_that_is_refused_ends_the_session_and_a_fresh_one_works() {
    let fake = with_account().await;
    let mut session = sessions(&with_key(&fake, SECRET)).remove(0);
    fake.inject(fault("token refuse"));
    let error = format!("{:#}", session.source.check().await.expect_err("no token"));
    assert!(!error.is_empty());
    fake.inject(fault("heal"));
    session.source.check().await.expect("a fresh token");
}
