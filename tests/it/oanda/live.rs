//! Sessions against a fake venue over a real socket, with everything that goes wrong there.

use std::time::{Duration, Instant};

use serde_json::Value;
use tapedeck::intake::{Intake, Resume};
use tapedeck::sources::oanda::KIND;
use tapedeck::sources::{Session, Setup};
use tapedeck_market::{Body, Event, Flags, GapCause, Order, SmolStr, UnixNanos};
use tapedeck_testkit::FakeOanda;
use tapedeck_testkit::oanda::{ACCOUNT, Handle, TOKEN};

use crate::kraken::desk::{Desk, PATIENCE, events_of, is_live};
use crate::tls::Authority;

const THREE: &str = "instruments = ['EUR_USD', 'USD/JPY', 'GBPUSD']";

pub(super) fn sessions(fake: &Handle, table: &str) -> Vec<Session> {
    let credentials =
        if table.contains("token") { String::new() } else { format!("token = '{TOKEN}'\naccount = '{ACCOUNT}'") };
    let table = format!("url = '{}'\n{credentials}\n{table}", fake.url());
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table")
}

pub(super) fn prices(fake: &Handle, table: &str) -> Desk {
    Desk::at("oanda", sessions(fake, table).remove(0), Resume::default())
}

fn account(fake: &Handle, resume: Resume) -> Desk {
    Desk::at("oanda", sessions(fake, THREE).remove(1), resume)
}

async fn fake(rate: u32) -> Handle {
    FakeOanda::builder().rate(rate).heartbeat(Duration::from_millis(200)).start().await.expect("a fake venue")
}

fn fault(fake: &Handle, text: &str) {
    fake.inject(text.parse().expect("a fault"));
}

fn is_quote(event: &Event) -> bool {
    matches!(event.body, Body::Quote(_))
}

/// Instrument, time, best bid and ask as texts: of an event.
fn of_event(event: &Event) -> Option<[String; 4]> {
    let Body::Quote(quote) = &event.body else { return None };
    let text = |price: Option<tapedeck_market::Price>| price.map_or_else(String::new, |price| price.to_string());
    Some([event.symbol.to_string(), event.ts_event?.to_string(), text(quote.bid), text(quote.ask)])
}

/// The same of a line, read by another reader.
fn of_line(line: &str) -> [String; 4] {
    let value: Value = serde_json::from_str(line).expect("a line");
    let prices = |side: &str| -> Vec<String> {
        value[side]
            .as_array()
            .expect("levels")
            .iter()
            .map(|level| level["price"].as_str().expect("a price").into())
            .collect()
    };
    let number = |text: &String| text.parse::<f64>().expect("a number");
    let bid = prices("bids").into_iter().max_by(|a, b| number(a).total_cmp(&number(b)));
    let ask = prices("asks").into_iter().min_by(|a, b| number(a).total_cmp(&number(b)));
    let text = |key: &str| value[key].as_str().expect("a text").to_owned();
    [text("instrument"), text("time"), bid.unwrap_or_default(), ask.unwrap_or_default()]
}

fn notes(desk: &Desk) -> Vec<(&'static str, u64)> {
    let mut notes: Vec<_> = desk.counters.notes.lock().expect("not poisoned").iter().map(|(k, v)| (*k, *v)).collect();
    notes.sort_unstable();
    notes
}

fn rejects(desk: &Desk) -> Vec<(&'static str, u64)> {
    let reasons = desk.counters.reject_reasons.lock().expect("not poisoned");
    let mut reasons: Vec<_> = reasons.iter().map(|(k, v)| (*k, *v)).collect();
    reasons.sort_unstable();
    reasons
}

#[tokio::test]
async fn every_price_that_was_sent_is_emitted_once_and_in_order() {
    let fake = fake(400).await;
    let mut desk = prices(&fake, THREE);
    desk.until_events("quotes", 600, is_quote).await;
    // Before its end, or the log might be asked for what it no longer gets.
    let shared = fake.log();
    assert!(shared.len() >= 600);
    fault(&fake, "cut");
    desk.drain().await;
    let got: Vec<[String; 4]> = desk.events().filter_map(of_event).collect();
    let want: Vec<[String; 4]> = fake.log().iter().map(|sent| of_line(&sent.text)).collect();
    assert!(want.starts_with(&got), "{} of {} sent", got.len(), want.len());
    assert!(got.iter().any(|one| one[0] == "USD_JPY") && got.iter().any(|one| one[0] == "GBP_USD"));
    let instruments = desk.events().filter(|event| matches!(event.body, Body::Instrument(_))).count();
    assert_eq!(instruments, 3);
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. } | Intake::Holes { .. })), 0);
    assert_eq!((notes(&desk), rejects(&desk)), (vec![], vec![]));
}

#[tokio::test]
async fn an_instrument_is_live_before_its_first_price_which_is_a_snapshot() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, &format!("{THREE}\nchannels = ['quote', 'book']"));
    desk.until_events("quotes", 50, is_quote).await;
    let (mut live, mut seen) = (Vec::new(), Vec::new());
    for message in &desk.said {
        if let Intake::Live { symbol, channel, .. } = message {
            live.push((symbol.clone(), channel.clone()));
        }
        for event in events_of(message).iter().filter(|event| is_quote(event)) {
            let first = !seen.contains(&event.symbol);
            seen.push(event.symbol.clone());
            assert_eq!(event.flags.contains(Flags::SNAPSHOT), first, "{event:?}");
            for channel in ["quote", "book"] {
                assert!(
                    live.contains(&(event.symbol.clone(), channel.into())),
                    "{} {channel} before live",
                    event.symbol
                );
            }
        }
    }
    assert!(
        desk.events().any(|event| matches!(&event.body, Body::Book(book) if book.snapshot && book.bids.len() == 3))
    );
}

#[tokio::test]
async fn times_may_come_as_seconds() {
    let fake = fake(200).await;
    let mut desk = prices(&fake, &format!("{THREE}\ntime_format = 'unix'"));
    desk.until_events("quotes", 50, is_quote).await;
    let seconds = fake.log().iter().all(|sent| {
        let value: Value = serde_json::from_str(&sent.text).expect("a line");
        value["time"].as_str().expect("a time").parse::<f64>().is_ok()
    });
    assert!(seconds, "the venue was asked for them");
    let now = UnixNanos::now();
    let near = |event: &Event| event.ts_event.is_some_and(|time| now.saturating_since(time) < Duration::from_secs(60));
    assert!(desk.events().filter(|event| is_quote(event)).all(near));
    assert_eq!(notes(&desk), []);
}

#[tokio::test]
async fn garbage_is_kept_counted_and_survived() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, THREE);
    desk.until_events("quotes", 10, is_quote).await;
    for garbage in ["json", "utf8", "array", "empty", "number", "type"] {
        fault(&fake, &format!("garbage {garbage}"));
    }
    fault(&fake, "oversized 3000");
    desk.until_events("what was kept", 6, |event| matches!(event.body, Body::Raw(_))).await;
    desk.until_events("quotes after it", 50, is_quote).await;
    assert_eq!(rejects(&desk), [("line too long", 1), ("not a message", 3), ("number refused", 1)]);
    assert_eq!(notes(&desk), [("unknown type", 1)]);
    let kept = desk.events().filter_map(|event| match &event.body {
        Body::Raw(raw) => Some(raw.frame.len()),
        _ => None,
    });
    assert!(kept.max() <= Some(64 * 1024), "a huge line is kept by its beginning");
    assert_eq!(fake.opened(), 1);
}

#[tokio::test]
async fn odd_times_and_new_fields_are_counted_and_the_prices_recorded() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, "instruments = ['EUR_USD']");
    desk.until_events("quotes", 5, is_quote).await;
    for odd in ["time zero", "time absurd", "time missing", "time text", "field", "field"] {
        fault(&fake, odd);
    }
    // They come one a price, in this order.
    desk.until_events("the line with a new field", 1, |event| matches!(event.body, Body::Raw(_))).await;
    desk.until_events("quotes after it", 10, is_quote).await;
    assert_eq!(notes(&desk), [("absurd time", 2), ("no time", 1), ("unreadable time", 1)]);
    assert_eq!(rejects(&desk), []);
    let quotes: Vec<&Event> = desk.events().filter(|event| is_quote(event)).collect();
    assert_eq!(quotes.iter().filter(|quote| quote.flags.contains(Flags::ABSURD_TIME)).count(), 2);
    assert_eq!(quotes.iter().filter(|quote| quote.ts_event.is_none()).count(), 2);
    let raw: Vec<String> = desk
        .events()
        .filter_map(|event| match &event.body {
            Body::Raw(raw) => Some(String::from_utf8_lossy(&raw.frame).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(raw.len(), 1, "a field is new once: {raw:?}");
    assert!(raw[0].contains("moonPhase"));
}

#[tokio::test]
async fn a_price_that_nobody_can_trade_at_is_said_and_no_stall() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, "instruments = ['EUR_USD']");
    let until = Instant::now() + Duration::from_secs(6);
    desk.until("six seconds of prices", |_| Instant::now() >= until).await;
    fault(&fake, "untradeable EUR_USD");
    desk.until_events("the end of trading", 1, |event| {
        matches!(&event.body, Body::Status(status) if status.state == "not tradeable") && event.symbol == "EUR_USD"
    })
    .await;
    fault(&fake, "stall EUR_USD");
    let until = Instant::now() + Duration::from_secs(14);
    let beats = desk.counters.last_heard.load(std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep_until(until.into()).await;
    assert!(desk.counters.last_heard.load(std::sync::atomic::Ordering::Relaxed) > beats, "heartbeats go on");
    assert_eq!(fake.opened(), 1, "nobody was asked, and nothing was subscribed again");
    assert!(!fake.requests().iter().any(|path| path.ends_with("/pricing")), "{:?}", fake.requests());
}

#[tokio::test]
async fn prices_that_stall_under_heartbeats_are_found_by_asking_for_them() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, "instruments = ['EUR_USD', 'USD_JPY']");
    let until = Instant::now() + Duration::from_secs(6);
    desk.until("six seconds of prices", |_| Instant::now() >= until).await;
    fault(&fake, "stall USD_JPY");
    let lost = desk.until("the stall", |message| matches!(message, Intake::Lost { .. })).await;
    let Intake::Lost { symbol, channel, cause, .. } = lost else { panic!("{lost:?}") };
    assert_eq!((symbol.as_deref(), channel.as_deref(), *cause), (Some("USD_JPY"), Some("quote"), GapCause::Stall));
    assert!(desk.drain().await.contains("prices of USD_JPY stalled"));
}

#[tokio::test]
async fn a_market_that_is_quiet_is_asked_about_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("quiet_eurusd_tick_20260105.csv");
    let rows: String = (0..70).map(|n| format!("{},1.0823{},1.0825\n", n * 100, n % 10)).collect();
    std::fs::write(&path, rows).expect("a recording");
    let fake = FakeOanda::builder().frames(path, tapedeck_testkit::kraken::Speed::Times(1.0));
    let fake = fake.heartbeat(Duration::from_millis(200)).start().await.expect("a fake venue");
    let mut desk = prices(&fake, "instruments = ['EUR_USD']");
    desk.until_events("all prices", 70, is_quote).await;
    let until = Instant::now() + PATIENCE;
    while !fake.requests().iter().any(|path| path.ends_with("/pricing")) {
        assert!(Instant::now() < until, "nobody asked: {:?}", fake.requests());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((fake.opened(), fake.streams()), (1, 1), "the session goes on");
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 0);
}

#[tokio::test]
async fn however_a_stream_ends_the_session_ends_with_it() {
    for (how, says, cut_off) in [
        ("cut", "reading the stream", 0),
        ("cut in-line", "reading the stream", 1),
        ("end", "the venue closed the stream", 0),
        ("end in-line", "the venue closed the stream", 1),
    ] {
        let fake = fake(100).await;
        let mut desk = prices(&fake, THREE);
        desk.until_events("quotes", 10, is_quote).await;
        fault(&fake, how);
        let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
        assert!(ended.contains(says), "{how}: {ended}");
        let lines = rejects(&desk).iter().filter(|(reason, _)| *reason == "line cut off").count();
        assert_eq!(lines, cut_off, "{how}: {:?}", rejects(&desk));
    }
}

#[tokio::test]
async fn a_stream_without_a_heartbeat_is_dead_after_ten_seconds() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, THREE);
    desk.until_events("quotes", 10, is_quote).await;
    fault(&fake, "half-open");
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("no bytes for 1"), "{ended}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, waits, says) in [
        (400, true, "correct the source's table"),
        (401, true, "set OANDA_ACCESS_TOKEN and reload; or is it one for environment = \"live\"?"),
        (403, true, "correct OANDA_ACCOUNT_ID"),
        (404, true, "OANDA knows no such account"),
        (429, false, "429 Too Many Requests"),
        (503, false, "503 Service Unavailable"),
    ] {
        let fake = fake(100).await;
        fault(&fake, &format!("refuse {status}"));
        let mut sessions = sessions(&fake, THREE);
        for mut desk in [sessions.remove(0), sessions.remove(0)].map(|one| Desk::at("oanda", one, Resume::default())) {
            let ended = desk.drain().await;
            assert!(ended.contains(says) && ended.starts_with("waiting: ") == waits, "{status}: {ended}");
        }
    }
}

#[tokio::test]
async fn without_credentials_it_waits_and_wrong_ones_are_named_without_showing_them() {
    let fake = fake(100).await;
    let table = |extra: &str| format!("{THREE}\n{extra}");
    for (extra, says) in [
        (format!("token = '{TOKEN}'"), "no credentials: set OANDA_ACCESS_TOKEN and OANDA_ACCOUNT_ID"),
        (format!("token = 'wrong-token-77'\naccount = '{ACCOUNT}'"), "OANDA refuses the token"),
        (format!("token = '{TOKEN}'\naccount = '101-004-9999999-009'"), "the token may not read this account"),
    ] {
        for session in sessions(&fake, &table(&extra)) {
            let ended = Desk::at("oanda", session, Resume::default()).drain().await;
            assert!(ended.starts_with("waiting: ") && ended.contains(says), "{ended}");
            for secret in [TOKEN, ACCOUNT, "wrong-token-77", "101-004-9999999-009"] {
                assert!(!ended.contains(secret), "{ended}");
            }
        }
    }
}

#[tokio::test]
async fn an_instrument_that_the_account_lacks_does_not_hold_up_the_others() {
    let fake = fake(100).await;
    let mut desk = prices(&fake, "instruments = ['EUR_USD', 'EUR_UDS']");
    desk.until_events("quotes", 10, is_quote).await;
    let ended = prices(&fake, "instruments = ['EUR_UDS']").drain().await;
    assert!(ended.starts_with("waiting: ") && ended.contains("EUR_UDS (did you mean EUR_USD?)"), "{ended}");
}

#[tokio::test]
async fn connections_are_made_at_the_venues_pace() {
    let fake = fake(100).await;
    let desks: Vec<Desk> =
        sessions(&fake, THREE).into_iter().map(|session| Desk::at("oanda", session, Resume::default())).collect();
    let until = Instant::now() + PATIENCE;
    while fake.streams() < 2 {
        assert!(Instant::now() < until, "{:?}", fake.requests());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connects = fake.connects();
    assert!(connects.len() >= 2, "{}", connects.len());
    for three in connects.windows(3) {
        // Two a second, less what a connection may take to be accepted; without a pace all come within milliseconds.
        assert!(three[2].duration_since(three[0]) > Duration::from_millis(500), "{connects:?}");
    }
    drop(desks);
}

/// The id of a transaction, read back from its text.
fn id_of(event: &Event) -> Option<u64> {
    let Body::Order(order) = &event.body else { return None };
    id_in(order)
}

pub(super) fn id_in(order: &Order) -> Option<u64> {
    let value: Value = serde_json::from_str(order.raw.as_deref()?).ok()?;
    value["id"].as_str()?.parse().ok()
}

/// The position that stands behind everything in the last message with one.
fn position(desk: &Desk) -> Option<u64> {
    let position = |event: &Event| match &event.body {
        Body::Position(position) => position.value.parse().ok(),
        _ => None,
    };
    desk.events().filter_map(position).last()
}

#[tokio::test]
async fn transactions_are_recorded_as_they_happen_and_those_that_were_left_out_are_fetched() {
    let fake = fake(10).await;
    let mut desk = account(&fake, Resume::default());
    desk.until("the stream", |message| is_live(message, "", "transactions")).await;
    assert_eq!(position(&desk), Some(2_311), "where it begins is on the tape");
    fake.transact(3);
    desk.until_events("three", 3, |event| id_of(event).is_some()).await;
    // The next one shows that two are missing; of the last one only a heartbeat tells.
    fault(&fake, "lose 2");
    fake.transact(3);
    desk.until_events("three more", 3, |event| id_of(event).is_some()).await;
    fault(&fake, "lose 1");
    fake.transact(1);
    desk.until_events("the last", 1, |event| id_of(event) == Some(2_318)).await;
    let got: Vec<(u64, bool)> =
        desk.events().filter_map(|e| Some((id_of(e)?, e.flags.contains(Flags::BACKFILLED)))).collect();
    let ids: Vec<u64> = got.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, fake.transactions(), "each once, in order");
    assert!(got[..3].iter().all(|(_, fetched)| !fetched), "{got:?}");
    assert!(got[3].1 && got[4].1 && got[6].1, "{got:?}");
    assert_eq!(position(&desk), Some(2_318));
    for message in &desk.said {
        let ids: Vec<u64> = events_of(message).iter().filter_map(id_of).collect();
        let last = events_of(message).last().map(|event| &event.body);
        let in_one_append =
            matches!(last, Some(Body::Position(p)) if Some(&p.value.parse::<u64>().unwrap()) == ids.last());
        assert!(ids.is_empty() || in_one_append, "{message:?}");
    }
    let text = format!("{:?}", desk.said);
    assert!(!text.contains(ACCOUNT) && text.contains("***"), "the account is not on the tape");
}

#[tokio::test]
async fn a_new_session_fetches_what_happened_since_the_tape() {
    let fake = fake(10).await;
    // More than one answer is asked for.
    fake.transact(1_200);
    let mut first = account(&fake, Resume::default());
    first.until("the stream", |message| is_live(message, "", "transactions")).await;
    let key = first.events().find_map(|event| match &event.body {
        Body::Position(position) => Some(position.key.clone()),
        _ => None,
    });
    let key = key.expect("a position");
    assert!(!key.contains("7654321"), "{key}");
    assert_eq!(position(&first), Some(3_511));
    let positions = [(key.clone(), SmolStr::from("2311"))].into();
    let mut desk = account(&fake, Resume { positions, ..Resume::default() });
    desk.until("the stream", |message| is_live(message, "", "transactions")).await;
    let ids: Vec<u64> = desk.events().filter_map(id_of).collect();
    assert_eq!(ids, fake.transactions(), "all of them, before it is live");
    assert!(desk.events().filter(|event| id_of(event).is_some()).all(|event| event.flags.contains(Flags::BACKFILLED)));
    let asked = |what: &str| fake.requests().iter().filter(|path| path.ends_with(what)).count();
    assert_eq!((asked("/idrange"), asked("/sinceid")), (2, 1), "{:?}", fake.requests());
    // A numbering that begins anew is no reason to wait for ever.
    let positions = [(key, SmolStr::from("999999"))].into();
    let mut desk = account(&fake, Resume { positions, ..Resume::default() });
    desk.until("the stream", |message| is_live(message, "", "transactions")).await;
    assert_eq!(position(&desk), Some(3_511));
}

#[tokio::test]
async fn a_transaction_that_requests_do_not_know_yet_is_asked_for_again_and_never_skipped() {
    let fake = fake(10).await;
    let mut desk = account(&fake, Resume::default());
    desk.until("the stream", |message| is_live(message, "", "transactions")).await;
    fault(&fake, "behind 2");
    fault(&fake, "lose 1");
    fake.transact(1);
    desk.until_events("it", 1, |event| id_of(event) == Some(2_312)).await;
    fault(&fake, "behind 99");
    fault(&fake, "lose 1");
    fake.transact(1);
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("names transaction 2313 and does not give it"), "{ended}");
    assert_eq!(position(&desk), Some(2_312), "the next session asks for it");
}

#[tokio::test]
async fn check_tells_apart_what_can_be_wrong() {
    let fake = fake(100).await;
    for mut session in sessions(&fake, THREE) {
        let report = session.source.check().await.expect("all is well");
        assert!(report.contains("3 instruments") || report.contains("the newest is 2311"), "{report}");
    }
    let says = async |table: &str| {
        let error = sessions(&fake, table).remove(0).source.check().await.expect_err(table);
        format!("{error:#}")
    };
    let said = says("instruments = ['EUR_UDS']").await;
    assert!(said.contains("no instrument EUR_UDS (did you mean EUR_USD?); correct `instruments`"), "{said}");
    let said = says(&format!("instruments = ['*']\ntoken = 'nonsense'\naccount = '{ACCOUNT}'")).await;
    assert!(said.contains("OANDA refuses the token"), "{said}");
    let said = says(&format!("instruments = ['*']\ntoken = '{TOKEN}'\naccount = '101-004-1-1'")).await;
    assert!(said.contains("the token is good, but not for this account: it may read 1 others"), "{said}");
    fault(&fake, "clock -1h");
    let said = says("instruments = ['*']").await;
    assert!(said.contains("is NTP running?"), "{said}");
    let addr = fake.addr;
    fake.stop().await;
    let table = format!("url = 'http://{addr}'\ntoken = '{TOKEN}'\naccount = '{ACCOUNT}'\ninstruments = ['*']");
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    let error = (KIND.build)(setup).expect("a table").remove(0).source.check().await.expect_err("nobody is there");
    assert!(format!("{error:#}").contains("is the network up"), "{error:#}");
}

#[tokio::test]
async fn streams_are_encrypted_and_the_venues_certificate_is_checked() {
    let (Some(ours), Some(theirs)) = (Authority::new(), Authority::new()) else { return };
    let (cert, key) = ours.issue("IP:127.0.0.1", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let fake = FakeOanda::builder().tls(cert, key).heartbeat(Duration::from_millis(200)).start().await.expect("a fake");
    assert!(fake.url().starts_with("https://"));
    let table = |authority: &Authority| format!("{THREE}\nca_file = {:?}", authority.path("ca.pem"));
    let mut desk = prices(&fake, &table(&ours));
    desk.until_events("quotes", 20, is_quote).await;
    fault(&fake, "cut in-line");
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("reading the stream"), "{ended}");
    for table in [table(&theirs), THREE.to_owned()] {
        let ended = prices(&fake, &table).drain().await;
        assert!(ended.contains("certificate"), "a token goes to nobody else: {ended}");
    }
    assert_eq!(fake.opened(), 1);
}
