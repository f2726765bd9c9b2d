//! Sessions against a fake venue over a real WebSocket, with everything that goes wrong there.

use std::time::Duration;

use tapedeck::intake::{Hole, Intake, Resume};
use tapedeck_market::{Body, Flags, GapCause, SmolStr, UnixNanos};
use tapedeck_testkit::kraken::{FakeKraken, Handle, Sent};

use super::desk::{Desk, PATIENCE, acks, acks_of, events_of, fault, is_live, sessions};

const THREE: [&str; 3] = ["BTC/USD", "ETH/USD", "SOL/USD"];
const PAIRS: &str = "pairs = ['BTC/USD', 'ETH/USD', 'SOL/USD']";

async fn fake(rate: u32) -> Handle {
    FakeKraken::builder().pairs(THREE).seed(7).rate(rate).start().await.expect("a fake venue")
}

#[tokio::test]
async fn a_burst_of_more_frames_than_are_taken_in_a_row_loses_none() {
    let fake = fake(0).await;
    let mut desk = Desk::run(&fake, &format!("{PAIRS}\nchannels = ['book']"));
    desk.until_events("snapshots", 3, |event| matches!(event.body, Body::Book(_))).await;
    fake.inject(fault("burst 30000"));
    desk.until_events("the burst", 10_000, |event| matches!(event.body, Body::Book(_))).await;
    let log = fake.log();
    fake.stop().await;
    desk.drain().await;
    let got: Vec<u32> = desk
        .events()
        .filter_map(|event| match &event.body {
            Body::Book(update) => update.checksum,
            _ => None,
        })
        .collect();
    let want: Vec<u32> = log.entries().iter().filter_map(|sent| sent.checksum).collect();
    let same = got.iter().zip(&want).take_while(|(got, want)| got == want).count();
    assert!(same == got.len(), "{same} of {} are those that were sent (sent {})", got.len(), want.len());
}

#[tokio::test]
async fn everything_the_venue_sent_is_emitted_once_and_in_order() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, &format!("{PAIRS}\nchannels = ['trade', 'ticker', 'book', 'ohlc']"));
    desk.until_events("books", 300, |event| matches!(event.body, Body::Book(_))).await;
    desk.until_events("trades", 20, |event| matches!(event.body, Body::Trade(_))).await;
    let log = fake.log();
    fake.stop().await;
    let ended = desk.drain().await;
    assert!(ended.contains("closed") || ended.contains("reading"), "{ended}");

    for symbol in THREE {
        let sent = |channel: &str| {
            let of = move |sent: &&Sent| sent.channel == channel && &*sent.symbol == symbol && sent.delivered.is_sent();
            let data = |sent: &&Sent| sent.kind == "snapshot" || sent.kind == "update";
            log.entries().iter().filter(of).filter(data).cloned().collect::<Vec<_>>()
        };
        let got: Vec<u64> = desk
            .events()
            .filter(|event| event.symbol == symbol)
            .filter_map(|event| match &event.body {
                Body::Trade(trade) => trade.id.as_ref().and_then(|id| id.parse().ok()),
                _ => None,
            })
            .collect();
        let want: Vec<u64> = sent("trade").iter().filter_map(|sent| sent.trade_id).collect();
        // The last frames may have been cut off with the socket.
        assert!(got.len() >= 10 && want.starts_with(&got), "{symbol}: {got:?} is not the beginning of {want:?}");

        let got: Vec<u32> = desk
            .events()
            .filter(|event| event.symbol == symbol)
            .filter_map(|event| match &event.body {
                Body::Book(update) => update.checksum,
                _ => None,
            })
            .collect();
        let want: Vec<u32> = sent("book").iter().filter_map(|sent| sent.checksum).collect();
        let same = got.iter().zip(&want).take_while(|(got, want)| got == want).count();
        assert!(got.len() > 10 && same == got.len(), "{symbol}: {same} of {} (sent {})", got.len(), want.len());
    }
    assert_eq!(desk.count(|m| matches!(m, Intake::Lost { .. } | Intake::Holes { .. })), 0, "{}", desk.summary());
    for kind in ["candle", "instrument", "status", "ticker"] {
        assert!(desk.events().any(|event| event.body.kind().name() == kind), "no {kind}");
    }
}

#[tokio::test]
async fn a_subscription_is_live_before_its_first_event() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, PAIRS);
    desk.until_events("updates", 50, |event| !event.flags.contains(Flags::SNAPSHOT)).await;
    let mut live = Vec::new();
    for message in &desk.said {
        if let Intake::Live { symbol, channel, .. } = message {
            live.push((symbol.clone(), channel.clone()));
        }
        for event in events_of(message) {
            let channel = match event.body {
                Body::Trade(_) => "trade",
                Body::Ticker(_) => "ticker",
                Body::Book(_) => "book",
                _ => continue,
            };
            assert!(live.contains(&(event.symbol.clone(), channel.into())), "{} {channel} before live", event.symbol);
        }
    }
}

#[tokio::test]
async fn a_broken_book_is_subscribed_again_alone() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, PAIRS);
    for symbol in THREE {
        desk.until("books", |message| is_live(message, symbol, "book")).await;
    }
    fake.inject(fault("corrupt ETH/USD x1"));
    let lost = desk.until("a break", |message| matches!(message, Intake::Lost { .. })).await;
    let Intake::Lost { symbol, channel, cause, detail, .. } = lost else { panic!("{lost:?}") };
    assert_eq!((symbol.as_deref(), channel.as_deref()), (Some("ETH/USD"), Some("book")));
    assert_eq!(*cause, GapCause::Checksum);
    assert!(detail.contains("checksum"), "{detail}");
    desk.until("the new book", |message| is_live(message, "ETH/USD", "book")).await;
    desk.until_events("updates after it", 20, |event| event.symbol == "ETH/USD").await;
    let again: Vec<_> = acks(&fake.log().entries()).into_iter().filter(|(_, count)| *count > 1).collect();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(acks_of(&fake, "book", "ETH/USD"), 2);
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 1);
    assert_eq!(fake.sessions(), 1);
}

#[tokio::test]
async fn a_refused_pair_does_not_hold_up_the_others() {
    let fake = fake(300).await;
    fake.inject(fault("refuse ETH/USD : Currency pair not supported ETH/USD"));
    let mut desk = Desk::run(&fake, PAIRS);
    let mut live = 0;
    desk.until("the other two", |message| {
        live += usize::from(matches!(message, Intake::Live { symbol, .. } if !symbol.is_empty()));
        live == 6
    })
    .await;
    let mut refused = desk.count(|message| matches!(message, Intake::Unsubscribed { .. }));
    if refused < 3 {
        desk.until("three refusals", |message| {
            refused += usize::from(matches!(message, Intake::Unsubscribed { symbol, .. } if symbol == "ETH/USD"));
            refused == 3
        })
        .await;
    }
    assert!(desk.events().all(|event| event.symbol != "ETH/USD" || matches!(event.body, Body::Instrument(_))));
}

#[tokio::test]
async fn a_trade_lost_on_the_way_is_a_hole_that_knows_its_size() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, PAIRS);
    desk.until_events("trades", 10, |e| matches!(e.body, Body::Trade(_)) && !e.flags.contains(Flags::SNAPSHOT)).await;
    fake.inject(fault("drop BTC/USD 1"));
    let hole = desk.until("a hole", |message| matches!(message, Intake::Holes { .. })).await;
    let Intake::Holes { holes, events } = hole else { panic!("{hole:?}") };
    let [Hole { symbol, channel, cause, from, to, missing, detail, .. }] = holes.as_slice() else {
        panic!("{holes:?}")
    };
    assert!(events.iter().any(|event| matches!(event.body, Body::Trade(_))), "with the frame that showed it");
    assert_eq!((symbol.as_str(), channel.as_str(), *cause), ("BTC/USD", "trade", GapCause::Sequence));
    assert!(missing.is_some_and(|missing| missing >= 1) && from < to, "{detail}");
}

#[tokio::test]
async fn a_new_session_goes_on_from_the_ids_on_the_tape() {
    let fake = fake(300).await;
    let resume =
        Resume { last_trades: [(SmolStr::from("BTC/USD"), (3, UnixNanos::now()))].into(), ..Resume::default() };
    let mut desk = Desk::resume(&fake, PAIRS, resume);
    let hole = desk.until("a hole", |message| matches!(message, Intake::Holes { .. })).await;
    let Intake::Holes { holes, .. } = hole else { panic!("{hole:?}") };
    let Hole { symbol, detail, .. } = &holes[0];
    assert_eq!(symbol, "BTC/USD");
    assert!(detail.starts_with("trade ids 4 to "), "{detail}");
}

#[tokio::test]
async fn an_acked_subscription_that_stays_silent_is_found_and_asked_for_again() {
    let fake = fake(300).await;
    fake.inject(fault("silence ETH/USD ticker x1"));
    let mut desk = Desk::run(&fake, PAIRS);
    let lost = desk.until("the silence", |message| matches!(message, Intake::Lost { .. })).await;
    let Intake::Lost { symbol, channel, cause, .. } = lost else { panic!("{lost:?}") };
    assert_eq!((symbol.as_deref(), channel.as_deref()), (Some("ETH/USD"), Some("ticker")));
    assert_eq!(*cause, GapCause::Stall);
    desk.until("its return", |message| is_live(message, "ETH/USD", "ticker")).await;
    desk.until_events("tickers", 2, |e| e.symbol == "ETH/USD" && matches!(e.body, Body::Ticker(_))).await;
    assert_eq!(fake.sessions(), 1);
}

#[tokio::test]
async fn a_symbol_that_flowed_and_stalled_is_found_and_asked_for_again() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, &format!("{PAIRS}\nchannels = ['book']"));
    let until = std::time::Instant::now() + Duration::from_secs(7);
    desk.until("seven seconds of books", |_| std::time::Instant::now() >= until).await;
    fake.inject(fault("stall BTC/USD"));
    let lost = desk.until("the stall", |message| matches!(message, Intake::Lost { .. })).await;
    let Intake::Lost { symbol, channel, cause, .. } = lost else { panic!("{lost:?}") };
    assert_eq!((symbol.as_deref(), channel.as_deref()), (Some("BTC/USD"), Some("book")));
    assert_eq!(*cause, GapCause::Stall);
    desk.until("its return", |message| is_live(message, "BTC/USD", "book")).await;
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 1);
}

#[tokio::test]
async fn a_half_open_socket_ends_the_session() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, PAIRS);
    desk.until_events("events", 10, |_| true).await;
    fake.inject(fault("half-open"));
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("no bytes for 1"), "{ended}");
}

#[tokio::test]
async fn garbage_is_kept_counted_and_survived() {
    let fake = fake(300).await;
    let mut desk = Desk::run(&fake, PAIRS);
    desk.until_events("events", 10, |_| true).await;
    for garbage in ["json", "binary", "empty", "channel", "field", "number"] {
        fake.inject(fault(&format!("garbage {garbage}")));
    }
    desk.until_events("kept frames", 3, |event| matches!(event.body, Body::Raw(_))).await;
    desk.until_events("events after it", 100, |_| true).await;
    assert_eq!(fake.sessions(), 1);
}

#[tokio::test]
async fn every_pair_of_the_venue_is_followed() {
    let fake = FakeKraken::builder().pairs(1_434).rate(2_000).remember(false).start().await.expect("a fake venue");
    let mut desk = Desk::run(&fake, "pairs = ['*']");
    let mut live = 0;
    desk.until("all subscriptions", |message| {
        live += usize::from(matches!(message, Intake::Live { .. }));
        live == 1 + 2 * 1_434
    })
    .await;
    assert_eq!(desk.count(|message| matches!(message, Intake::Unsubscribed { .. } | Intake::Lost { .. })), 0);
    assert!(desk.events().all(|event| !matches!(event.body, Body::Book(_))), "books only when asked for");
    let instruments = desk.events().filter(|event| matches!(event.body, Body::Instrument(_))).count();
    assert!(instruments >= 1_434, "{instruments}");
}

#[tokio::test]
async fn asking_too_fast_is_slowed_down_and_still_answered() {
    let fake = FakeKraken::builder().pairs(400).rate(200).remember(false).start().await.expect("a fake venue");
    fake.inject(fault("rate-limit 5"));
    let mut desk = Desk::run(&fake, "pairs = ['*']");
    let mut live = std::collections::BTreeSet::new();
    desk.until("all subscriptions", |message| {
        if let Intake::Live { symbol, channel, .. } = message {
            live.insert((symbol.clone(), channel.clone()));
        }
        live.len() == 1 + 2 * 400
    })
    .await;
}

#[tokio::test]
async fn own_orders_wait_for_a_key_while_the_rest_runs() {
    let sessions = sessions("pairs = ['BTC/USD']\nchannels = ['trade', 'executions']");
    let names: Vec<_> = sessions.iter().map(|session| session.name.as_str()).collect();
    assert_eq!(names, ["k", "k/private"]);
    let private = sessions.into_iter().nth(1).expect("two sessions");
    let ended = Desk::of(private, Resume::default()).drain().await;
    assert_eq!(ended, "waiting: no credentials: set KRAKEN_API_KEY and KRAKEN_API_SECRET");
}

#[tokio::test]
async fn check_says_what_was_acked_and_what_to_mend() {
    let fake = fake(100).await;
    let mut good = sessions(&format!("url = '{}'\n{PAIRS}", fake.ws_url())).remove(0);
    let report = good.source.check().await.expect("all is well");
    assert!(report.starts_with("10 subscriptions acked"), "{report}");
    let mut bad = sessions(&format!("url = '{}'\npairs = ['BTC/USD', 'NO/SUCH']", fake.ws_url())).remove(0);
    let error = format!("{:#}", bad.source.check().await.expect_err("a pair that is not listed"));
    assert!(error.contains("NO/SUCH") && error.contains("correct `pairs`"), "{error}");
}
