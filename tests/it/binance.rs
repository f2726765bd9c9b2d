//! Binance: frames through the parser, the rule of books, then a fake venue through sessions and a whole deck.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use serde_json::Value;
use tapedeck::intake::{Intake, Resume};
use tapedeck::sources::binance::KIND;
use tapedeck::sources::binance::frame::{Ctx, Depth, Message, Update, parse, parse_book};
use tapedeck::sources::{Session, Setup};
use tapedeck_market::{Body, Book, BookUpdate, Event, Flags, GapCause, Side, SmolStr, UnixNanos, wire};
use tapedeck_testkit::FakeBinance;
use tapedeck_testkit::binance::{Handle, KEY};

use crate::deck::blocking;
use crate::kraken::desk::{Desk, PATIENCE, events_of, is_live};
use crate::support::{Deck, until_async};

const AT: UnixNanos = UnixNanos(1_785_000_000_000_000_000);
fn ctx() -> Ctx {
    Ctx { source: "b".into(), venue: "binance".into() }
}

const THREE: &str = "symbols = ['BTCUSDT', 'ETHUSDT', 'ETHBTC']";

fn event(frame: &str) -> Event {
    match parse(frame.as_bytes(), AT, &ctx()) {
        Ok(Message::Trade(_, event) | Message::Quote(event) | Message::Depth(Update { event, .. })) => event,
        other => panic!("{frame}: {other:?}"),
    }
}

#[test]
fn frames_become_events_with_every_digit() {
    let trade = event(
        r#"{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.00100000","q":"100","T":1672515782136,"m":true,"M":true,"new":{}}}"#,
    );
    let Body::Trade(it) = &trade.body else { panic!("{trade:?}") };
    assert_eq!((it.price.to_string(), it.size.to_string()), ("0.00100000".to_owned(), "100".to_owned()));
    assert_eq!((it.side, it.id.as_deref()), (Some(Side::Sell), Some("12345")), "the buyer was there first");
    assert_eq!(trade.ts_event.map(|at| at.to_string()).as_deref(), Some("2022-12-31T19:43:02.136000000Z"));
    let quote = event(
        r#"{"data":{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21","a":"25.36520000","A":"40.66"},"stream":"bnbusdt@bookTicker"}"#,
    );
    let Body::Quote(it) = &quote.body else { panic!("{quote:?}") };
    assert_eq!(it.bid.zip(it.ask).map(|(bid, ask)| format!("{bid} {ask}")).as_deref(), Some("25.35190000 25.36520000"));
    assert_eq!((quote.symbol.as_str(), quote.ts_event), ("BNBUSDT", None), "the venue tells no time");
    let depth = event(
        r#"{"stream":"bnbbtc@depth@100ms","data":{"e":"depthUpdate","E":0,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"],["0.0023","0"]],"a":[]}}"#,
    );
    let Body::Book(it) = &depth.body else { panic!("{depth:?}") };
    assert_eq!((it.snapshot, it.bids.len(), it.asks.len(), it.bids[1].size.0.is_zero()), (false, 2, 0, true));
    assert!(depth.flags.contains(Flags::ABSURD_TIME), "zero is no time");
    assert_eq!(parse(br#"{"stream":"bnbbtc@quantum","data":1}"#, AT, &ctx()), Ok(Message::Unknown));
    for (frame, reason) in [
        ("", "not a message"),
        ("[1]", "not a message"),
        (r#"{"stream":"a@trade","data":{"s":"A"}}"#, "unexpected shape"),
        (r#"{"stream":"a@bookTicker","data":{"s":"A","b":"NaN","B":"1","a":"1","A":"1"}}"#, "number refused"),
        (r#"{"stream":"a@depth@100ms","data":{"E":1,"s":"A","U":1,"u":2,"b":[["1"]],"a":[]}}"#, "unexpected shape"),
    ] {
        assert_eq!(parse(frame.as_bytes(), AT, &ctx()).map_err(|error| error.reason), Err(reason), "{frame}");
    }
}

fn update(first: u64, last: u64) -> Update {
    let body =
        Body::Book(BookUpdate { snapshot: false, bids: Vec::new(), asks: Vec::new(), checksum: None, depth: None });
    let ts_recv = UnixNanos(i64::try_from(last).unwrap());
    Update { first, last, event: ctx().event("A".into(), None, ts_recv, Flags::NONE, body) }
}

/// What a book says of updates around a snapshot: receive times stand for numbers.
fn numbers(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.ts_recv.0).collect()
}

#[test]
fn a_book_begins_and_goes_on_by_the_venues_rule() {
    // (held before the snapshot of 100, what is said then)
    for (held, said) in [
        (vec![], Some(vec![100])),
        (vec![(90, 95), (96, 100)], Some(vec![100])),
        (vec![(90, 95), (96, 103), (104, 110)], Some(vec![100, 103, 110])),
        (vec![(101, 103), (104, 110)], Some(vec![100, 103, 110])),
        // The snapshot is older than what is held, or something is missing in between.
        (vec![(102, 103)], None),
        (vec![(101, 103), (105, 110)], None),
    ] {
        let mut book = Depth::default();
        for (first, last) in &held {
            assert_eq!(book.take(update(*first, *last)), Ok(None), "nothing before the snapshot");
        }
        assert_eq!(book.begin(update(0, 100)).as_deref().map(numbers), said, "{held:?}");
        if said.is_none() {
            // Another snapshot, a newer one: what was held from there on is not lost.
            assert_eq!(book.begin(update(0, 104)).as_deref().map(numbers).map(|all| all[0]), Some(104), "{held:?}");
        }
    }
    let mut book = Depth::default();
    assert!(book.begin(update(0, 100)).is_some());
    assert_eq!(book.take(update(97, 100)), Ok(None), "it is in the snapshot");
    assert!(matches!(book.take(update(99, 102)), Ok(Some(_))), "the first one may overlap");
    assert!(matches!(book.take(update(103, 103)), Ok(Some(_))));
    assert_eq!(book.take(update(105, 106)), Err(UnixNanos(103)), "104 never came, and 103 was the last");
    assert_eq!(book.take(update(107, 107)), Ok(None), "no book until there is a snapshot");
    assert_eq!(book.begin(update(0, 105)).as_deref().map(numbers), Some(vec![105, 106, 107]));
}

proptest! {
    #[test]
    fn no_frame_panics_and_what_is_understood_survives_the_tape(
        kind in "(trade|bookTicker|depth@100ms|x)",
        keys in proptest::collection::vec((proptest::sample::select(&["s", "t", "p", "q", "T", "m", "b", "B", "a", "A", "E", "U", "u"][..]), "(\"[0-9.e-]{0,12}\"|[0-9]{1,20}|true|\\[\\]|\\[\\[\"1\",\"0\"\\]\\])"), 0..14),
        cut in 0_usize..300,
    ) {
        let fields: Vec<String> = keys.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        let text = format!(r#"{{"stream":"a@{kind}","data":{{{}}}}}"#, fields.join(","));
        for text in [&text[..], &text[..cut.min(text.len())]] {
            let _ = parse_book(&SmolStr::new("A"), text, AT, &ctx());
            if let Ok(Message::Trade(_, event) | Message::Quote(event) | Message::Depth(Update { event, .. })) = parse(text.as_bytes(), AT, &ctx()) {
                let mut bytes = Vec::new();
                wire::encode(&event, &mut bytes);
                prop_assert_eq!(wire::decode(&bytes).unwrap(), event);
            }
        }
    }
}

fn session(ws: &str, rest: &str, table: &str) -> Session {
    let table = format!("url = '{ws}'\nrest_url = '{rest}'\n{table}");
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table").remove(0)
}

fn desk(fake: &Handle) -> Desk {
    Desk::at("binance", session(&fake.ws_url(), &fake.rest_url(), THREE), Resume::default())
}

async fn fake(rate: u32) -> Handle {
    FakeBinance::builder().rate(rate).start().await.expect("a fake venue")
}

fn fault(fake: &Handle, text: &str) {
    fake.inject(text.parse().expect("a fault"));
}

/// Listens until each book is live, so often.
async fn books(desk: &mut Desk, times: usize) {
    let mut live = desk.count(is_book);
    if live < times {
        desk.until("the books", |message| {
            live += usize::from(is_book(message));
            live >= times
        })
        .await;
    }
}

fn is_book(message: &Intake) -> bool {
    matches!(message, Intake::Live { channel, .. } if channel == "book")
}

fn text(level: &Value) -> String {
    format!("{}@{}", level[0].as_str().unwrap(), level[1].as_str().unwrap())
}

/// The books that come out of the events, as the venue writes them.
fn rebuilt(desk: &Desk) -> BTreeMap<SmolStr, (Vec<String>, Vec<String>)> {
    let mut books = BTreeMap::<SmolStr, Book>::new();
    for event in desk.events() {
        if let Body::Book(update) = &event.body {
            let book = books.entry(event.symbol.clone()).or_insert_with(|| Book::new(None));
            if update.snapshot {
                book.clear();
            }
            book.apply(update);
        }
    }
    let side =
        |levels: &[tapedeck_market::Level]| levels.iter().map(|it| format!("{}@{}", it.price, it.size)).collect();
    books.into_iter().map(|(name, book)| (name, (side(book.bids()), side(book.asks())))).collect()
}

fn of_venue(fake: &Handle, name: &str) -> (Vec<String>, Vec<String>) {
    let book = fake.book(name).expect("a book");
    let side = |key: &str| book[key].as_array().unwrap().iter().map(text).collect();
    (side("bids"), side("asks"))
}

/// Waits until the books that come out are those of the venue, which has stopped.
async fn books_agree(desk: &mut Desk, fake: &Handle) {
    let want: BTreeMap<SmolStr, _> =
        ["BTCUSDT", "ETHUSDT", "ETHBTC"].iter().map(|name| (SmolStr::new(name), of_venue(fake, name))).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rebuilt(desk) != want {
        match tokio::time::timeout_at(deadline, desk.intake.recv()).await {
            Ok(Some(message)) => desk.said.push(message),
            _ => assert_eq!(rebuilt(desk), want),
        }
    }
}

fn trades(desk: &Desk) -> Vec<(String, u64)> {
    let id = |event: &Event| match &event.body {
        Body::Trade(trade) => Some((event.symbol.to_string(), trade.id.as_deref()?.parse().ok()?)),
        _ => None,
    };
    desk.events().filter_map(id).collect()
}

#[tokio::test]
async fn trades_come_in_order_and_books_are_those_of_the_venue() {
    let fake = fake(0).await;
    let mut desk = desk(&fake);
    // The market moves while books are asked for.
    for _ in 0..40 {
        fake.steps(10);
        tokio::task::yield_now().await;
    }
    books(&mut desk, 3).await;
    fake.steps(300);
    books_agree(&mut desk, &fake).await;
    let (got, all) = (trades(&desk), fake.trades());
    assert!(got.len() > 50 && all.ends_with(&got), "{} of {}", got.len(), all.len());
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. } | Intake::Holes { .. })), 0);
    for channel in ["trade", "quote", "book"] {
        assert_eq!(desk.count(|message| is_live(message, "ETHBTC", channel)), 1);
    }
    assert_eq!((desk.counters.rejects.load(Ordering::Relaxed), fake.opened()), (0, 1));
}

#[tokio::test]
async fn an_update_that_never_came_costs_one_book_until_its_next_snapshot() {
    let fake = fake(0).await;
    let mut desk = desk(&fake);
    books(&mut desk, 3).await;
    fault(&fake, "skip BTCUSDT");
    fake.steps(60);
    desk.until("the hole", |message| {
        matches!(message, Intake::Lost { symbol: Some(symbol), channel: Some(channel), cause: GapCause::Sequence, .. } if symbol == "BTCUSDT" && channel == "book")
    })
    .await;
    books(&mut desk, 4).await;
    fake.steps(60);
    books_agree(&mut desk, &fake).await;
    assert_eq!(desk.count(|message| is_live(message, "BTCUSDT", "book")), 2);
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 1, "the others went on");
    let asked = fake.requests().iter().filter(|path| path.contains("symbol=BTCUSDT")).count();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_book_that_is_older_than_the_stream_is_asked_for_again() {
    let fake = fake(0).await;
    fault(&fake, "old x4");
    fake.steps(50);
    let mut desk = desk(&fake);
    desk.until("the stream", |message| is_live(message, "ETHBTC", "quote")).await;
    // Held changes begin behind the old books.
    until_async("the connection", || fake.connections() == 1).await;
    fake.steps(50);
    books(&mut desk, 3).await;
    books_agree(&mut desk, &fake).await;
    assert!(fake.requests().len() >= 4, "{:?}", fake.requests());
}

#[tokio::test]
async fn trades_that_never_came_are_a_hole_with_their_numbers_also_between_sessions() {
    let fake = fake(0).await;
    let mut one = desk(&fake);
    books(&mut one, 3).await;
    fake.steps(60);
    one.until("a trade", |message| {
        events_of(message).iter().any(|event| event.symbol == "BTCUSDT" && matches!(event.body, Body::Trade(_)))
    })
    .await;
    fault(&fake, "lose BTCUSDT x3");
    fake.steps(200);
    let hole = one.until("the hole", |message| matches!(message, Intake::Holes { .. })).await;
    let Intake::Holes { holes, events } = hole else { panic!("{hole:?}") };
    let (first, last) = holes[0].ids.unwrap();
    assert_eq!((holes[0].symbol.as_str(), holes[0].missing, last - first), ("BTCUSDT", Some(3), 2));
    let Body::Trade(trade) = &events[0].body else { panic!("{events:?}") };
    assert_eq!(
        trade.id.as_deref(),
        Some((last + 1).to_string().as_str()),
        "in one append with the trade that shows it"
    );
    fault(&fake, "cut mid-frame");
    let ended = tokio::time::timeout(PATIENCE, one.drain()).await.expect("an end");
    assert!(ended.contains("reading the feed"), "{ended}");
    let known = trades(&one).into_iter().rev().find(|(name, _)| name == "BTCUSDT").unwrap().1;
    fake.steps(100);
    let last_trades = [(SmolStr::new("BTCUSDT"), (known, AT))].into();
    let resume = Resume { last_trades, subscriptions: vec![("GONE".into(), "book".into())], ..Resume::default() };
    let mut two = Desk::at("binance", session(&fake.ws_url(), &fake.rest_url(), THREE), resume);
    books(&mut two, 3).await;
    fake.steps(60);
    let hole = two.until("the hole", |message| matches!(message, Intake::Holes { .. })).await;
    let Intake::Holes { holes, .. } = hole else { panic!("{hole:?}") };
    assert_eq!(holes[0].ids.map(|(first, _)| first), Some(known + 1));
    assert_eq!(two.count(|message| matches!(message, Intake::Unsubscribed { symbol, .. } if symbol == "GONE")), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_kept_and_ends_nothing_but_broken_text() {
    let fake = fake(100).await;
    let mut desk = desk(&fake);
    books(&mut desk, 3).await;
    for text in ["garbage json", "garbage array", "garbage shape", "garbage number", "garbage type"] {
        fault(&fake, text);
    }
    let counters = desk.counters.clone();
    let note = || counters.notes.lock().expect("not poisoned").get("unknown type").copied();
    desk.until("all of it", |_| note() == Some(1)).await;
    let mut reasons: Vec<_> = counters.reject_reasons.lock().expect("not poisoned").clone().into_iter().collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [("not a message", 2), ("number refused", 1), ("unexpected shape", 1)]);
    desk.until_events("what follows", 20, |event| matches!(event.body, Body::Quote(_))).await;
    fault(&fake, "garbage utf8");
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("reading the feed"), "{ended}");
}

#[tokio::test]
async fn a_symbol_that_the_venue_does_not_have_costs_its_own_book_alone() {
    let fake = FakeBinance::builder().symbols(["BTCUSDT", "ETHUSDT"]).rate(100).start().await.expect("a fake venue");
    let mut desk = desk(&fake);
    books(&mut desk, 2).await;
    let gone = |message: &Intake| matches!(message, Intake::Unsubscribed { symbol, channel, .. } if symbol == "ETHBTC" && channel == "book");
    if desk.count(gone) == 0 {
        desk.until("the end of its book", gone).await;
    }
    for name in ["BTCUSDT", "ETHUSDT"] {
        desk.until_events("the others", 20, |event| event.symbol == name && matches!(event.body, Body::Book(_))).await;
    }
    let asked = fake.requests().iter().filter(|path| path.contains("symbol=ETHBTC")).count();
    assert_eq!((asked, fake.opened()), (1, 1), "{:?}", fake.requests());
    let (ws, rest) = (fake.ws_url(), fake.rest_url());
    let mut none = Desk::at("binance", session(&ws, &rest, "symbols = ['NOSUCH']"), Resume::default());
    let ended = none.drain().await;
    assert!(ended.starts_with("waiting: Binance does not take"), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_falls_silent_is_asked_for_again_alone_and_live_with_its_next_message() {
    let fake = fake(300).await;
    let mut desk = desk(&fake);
    books(&mut desk, 3).await;
    let began = std::time::Instant::now();
    desk.until("its rhythm", |_| began.elapsed() > std::time::Duration::from_secs(8)).await;
    fault(&fake, "stall BTCUSDT");
    let mut stalled = Vec::new();
    desk.until("the stall", |message| {
        if let Intake::Lost { symbol: Some(symbol), channel: Some(channel), cause: GapCause::Stall, .. } = message {
            stalled.push(format!("{symbol} {channel}"));
        }
        stalled.len() == 3
    })
    .await;
    stalled.sort();
    assert_eq!(stalled, ["BTCUSDT book", "BTCUSDT quote", "BTCUSDT trade"]);
    until_async("the streams again", || {
        let asked = fake.asked();
        let again = asked.iter().filter(|it| it["method"] == "SUBSCRIBE");
        let streams: Vec<Value> = again.flat_map(|it| it["params"].as_array().unwrap().clone()).collect();
        ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"]
            .iter()
            .all(|it| streams.contains(&Value::from(*it)))
    })
    .await;
    fault(&fake, "heal");
    let mut live = 0;
    desk.until("all three", |message| {
        live += ["trade", "quote", "book"].iter().filter(|channel| is_live(message, "BTCUSDT", channel)).count();
        live == 3
    })
    .await;
    assert_eq!((fake.opened(), desk.counters.rejects.load(Ordering::Relaxed)), (1, 0), "on the same connection");
}

#[tokio::test]
async fn check_tells_apart_what_can_be_wrong() {
    let fake = fake(10).await;
    let (ws, rest) = (fake.ws_url(), fake.rest_url());
    let says = async |table: &str| format!("{:#}", session(&ws, &rest, table).source.check().await.expect_err(table));
    let report = session(&ws, &rest, &format!("{THREE}\napi_key = '{KEY}'")).source.check().await.expect("all is well");
    assert!(report.starts_with("3 symbols, clock within "), "{report}");
    let said = says("symbols = ['BTCUSD']").await;
    assert!(
        said.starts_with("waiting: Binance does not take `depth?limit=1&symbol=BTCUSD`")
            && said.ends_with("correct `symbols`"),
        "{said}"
    );
    let said = says(&format!("{THREE}\napi_key = 'wrong-key-4711'")).await;
    assert!(said.contains("Binance refuses the key") && !said.contains("4711"), "{said}");
    fault(&fake, "refuse 429 x1");
    let said = says(THREE).await;
    assert!(said.contains("again in 7s: too many requests"), "{said}");
    fault(&fake, "refuse 451 x1");
    assert!(says(THREE).await.contains("serves nobody from here"));
    fault(&fake, "clock -1h");
    assert!(says(THREE).await.contains("is NTP running?"));
    fake.stop().await;
    assert!(says(THREE).await.contains("is the network up"));
    let wrong = |table: &str| {
        let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
        format!("{:#}", (KIND.build)(setup).expect_err(table))
    };
    assert!(wrong("symbols = []").contains("from one to 341"));
    assert!(wrong("symbols = ['BTC/USDT']").contains("`BTC/USDT` is no symbol such as BTCUSDT"));
    assert!(
        wrong("symbols = ['A']\nrest_url = 'http://proxy.example'")
            .contains("rest_url: url: a token goes to no other machine")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_loss_is_in_the_ledger_of_a_deck_and_no_trade_twice_on_its_tape() {
    let (home, venue) = (tempfile::tempdir().unwrap(), std::sync::Arc::new(fake(200).await));
    let config = format!(
        "[source.b]\nkind = \"binance\"\nurl = {:?}\nrest_url = {:?}\n{THREE}\n",
        venue.ws_url(),
        venue.rest_url()
    );
    let (path, fake) = (home.path().to_owned(), venue.clone());
    blocking(move || {
        let deck = Deck::start(&path, &config);
        let live =
            || deck.until("nine subscriptions", |status| status.sources.first().is_some_and(|source| source.live == 9));
        live();
        fake.inject("cut".parse().unwrap());
        deck.until_closed(GapCause::Session, 9);
        live();
        fake.inject("skip * x1".parse().unwrap());
        deck.until_closed(GapCause::Sequence, 1);
        live();
        let records = crate::support::records(&deck.dir);
        let mut ids: Vec<_> = records
            .iter()
            .filter_map(|record| {
                if let Body::Trade(trade) = &record.event.body {
                    Some((record.event.symbol.clone(), trade.id.clone()))
                } else {
                    None
                }
            })
            .collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert!(all > 20 && ids.len() == all, "{} of {all}", ids.len());
        deck.stop();
    })
    .await;
}
