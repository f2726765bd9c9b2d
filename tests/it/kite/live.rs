//! Sessions against a fake venue over a real socket, with everything that goes wrong there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tapedeck::intake::{Intake, Resume};
use tapedeck::sources::kite::KIND;
use tapedeck::sources::{Session, Setup};
use tapedeck_market::{Body, Event, Flags, GapCause, SmolStr};
use tapedeck_testkit::FakeKite;
use tapedeck_testkit::kite::{ACCESS_TOKEN, API_KEY, Handle, Mode, STRANGE_TOKEN};
use tokio_tungstenite::tungstenite::Message;

use super::frames::INFY;
use crate::kraken::desk::{Desk, PATIENCE, events_of, is_live};

/// The last one is written with another exchange.
const FOUR: &str = "instruments = ['INFY', 'NSE:TCS', 256265, 'MCX:CRUDEOIL26DECFUT']";

pub(super) fn sessions(fake: &Handle, dir: &Path, table: &str) -> Vec<Session> {
    let credentials = if table.contains("access_token") {
        String::new()
    } else {
        format!("api_key = '{API_KEY}'\naccess_token = '{ACCESS_TOKEN}'")
    };
    let table = format!("url = '{}'\n{credentials}\n{table}", fake.ws_url());
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: dir.to_owned() };
    (KIND.build)(setup).expect("a valid table")
}

fn desk(fake: &Handle, table: &str) -> Desk {
    let home = tempfile::tempdir().expect("a folder");
    Desk::at("kite", sessions(fake, home.path(), table).remove(0), Resume::default())
}

async fn fake(rate: u32) -> Handle {
    FakeKite::builder().rate(rate).heartbeat(Duration::from_millis(200)).start().await.expect("a fake venue")
}

fn fault(fake: &Handle, text: &str) {
    fake.inject(text.parse().expect("a fault"));
}

fn is_ticker(event: &Event) -> bool {
    matches!(event.body, Body::Ticker(_))
}

fn counts(of: &std::sync::Mutex<std::collections::HashMap<&'static str, u64>>) -> BTreeMap<&'static str, u64> {
    of.lock().expect("not poisoned").iter().map(|(reason, count)| (*reason, *count)).collect()
}

/// Token and last price in units, of a packet.
fn of_packet(packet: &[u8]) -> (u32, i64) {
    let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    (number(0), i64::from(number(4)))
}

/// The same of an event.
fn of_event(fake: &Handle, event: &Event) -> Option<(u32, i64)> {
    let Body::Ticker(ticker) = &event.body else { return None };
    let name = |listed: &tapedeck_testkit::kite::Listed| format!("{}:{}", listed.exchange, listed.symbol);
    let token = fake.listed().iter().find(|listed| event.symbol == name(listed))?.token;
    Some((token, ticker.last?.0.mantissa()))
}

#[tokio::test]
async fn every_packet_that_was_sent_is_emitted_once_and_in_order() {
    let fake = fake(400).await;
    let mut desk = desk(&fake, FOUR);
    desk.until_events("tickers", 600, is_ticker).await;
    fault(&fake, "cut");
    desk.drain().await;
    let got: Vec<(u32, i64)> = desk.events().filter_map(|event| of_event(&fake, event)).collect();
    let want: Vec<(u32, i64)> = fake.log().iter().map(|sent| of_packet(&sent.packet)).collect();
    assert!(want.starts_with(&got) && got.len() >= 600, "{} of {} sent", got.len(), want.len());
    let symbols: std::collections::BTreeSet<&str> = desk.events().map(|event| event.symbol.as_str()).collect();
    assert_eq!(
        symbols.into_iter().collect::<Vec<_>>(),
        ["MCX:CRUDEOIL26DECFUT", "NSE:INFY", "NSE:NIFTY 50", "NSE:TCS"]
    );
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. } | Intake::Holes { .. })), 0);
    assert_eq!((counts(&desk.counters.notes), counts(&desk.counters.reject_reasons)), Default::default());
    assert_eq!(fake.ignored(), 0, "tokens are numbers");
}

#[tokio::test]
async fn an_instrument_is_live_before_its_first_packet_which_is_a_snapshot() {
    let fake = fake(100).await;
    let mut desk = desk(&fake, FOUR);
    desk.until_events("tickers", 60, is_ticker).await;
    let (mut live, mut seen) = (Vec::new(), Vec::new());
    for message in &desk.said {
        if let Intake::Live { symbol, channel, .. } = message {
            live.push((symbol.clone(), channel.clone()));
        }
        for event in events_of(message).iter().filter(|event| is_ticker(event)) {
            let first = !seen.contains(&event.symbol);
            seen.push(event.symbol.clone());
            assert_eq!(event.flags.contains(Flags::SNAPSHOT), first, "{event:?}");
            // An index has no book.
            let channels = if event.symbol == "NSE:NIFTY 50" { &["ticker"][..] } else { &["ticker", "quote", "book"] };
            for &channel in channels {
                assert!(live.contains(&(event.symbol.clone(), channel.into())), "{} {channel}", event.symbol);
            }
        }
    }
    let listed: Vec<_> = desk
        .events()
        .filter_map(|event| match &event.body {
            Body::Instrument(instrument) => Some((event.symbol.clone(), instrument.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(listed.len(), 4);
    let (_, infy) = listed.iter().find(|(symbol, _)| symbol == "NSE:INFY").expect("listed");
    assert!(infy.aliases.contains(&("token".into(), "408065".into())), "{infy:?}");
    assert!(infy.aliases.contains(&("name".into(), "INFY, as a name".into())), "{infy:?}");
    assert_eq!(infy.session.as_deref(), Some("09:15-15:30 Asia/Kolkata Mon-Fri"));
    assert_eq!(fake.requests(), ["GET /instruments"]);
}

#[tokio::test]
async fn each_instrument_is_asked_for_in_its_mode() {
    let fake = fake(200).await;
    let mut desk = desk(&fake, &format!("{FOUR}\nmode = 'quote'\nmodes = {{ 'NSE:TCS' = 'ltp', INFY = 'full' }}"));
    desk.until_events("tickers", 100, is_ticker).await;
    let modes = fake.subscribed().remove(0);
    let want = [(INFY, Mode::Full), (256_265, Mode::Quote), (2_953_217, Mode::Ltp), (109_134_599, Mode::Quote)];
    assert_eq!(modes, want.into());
    // The venue's own mode is quote, and holds until another one is asked for.
    let last = desk.events().filter(|event| event.symbol == "NSE:TCS" && is_ticker(event)).last().expect("a ticker");
    assert!(matches!(&last.body, Body::Ticker(ticker) if ticker.today.volume.is_none()), "{last:?}");
    assert_eq!(desk.count(|message| is_live(message, "NSE:TCS", "book")), 0);
}

#[tokio::test]
async fn the_list_of_the_day_is_fetched_once_and_an_older_one_stands_in() {
    let fake = fake(100).await;
    let home = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let mut desk = Desk::at("kite", sessions(&fake, home.path(), FOUR).remove(0), Resume::default());
        desk.until_events("tickers", 5, is_ticker).await;
    }
    assert_eq!(fake.requests(), ["GET /instruments"]);
    let folder = home.path().join("kite");
    let lists = || -> Vec<std::path::PathBuf> {
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
    };
    let [today] = lists().try_into().expect("one file");
    let name = today.file_name().expect("a name").to_string_lossy().into_owned();
    let old = folder.join(format!("{}2020-01-01.csv", &name[..name.len() - "2026-01-01.csv".len()]));
    std::fs::rename(&today, &old).expect("renamed");
    fault(&fake, "refuse 503 x1");
    let mut desk = Desk::at("kite", sessions(&fake, home.path(), FOUR).remove(0), Resume::default());
    desk.until_events("tickers", 5, is_ticker).await;
    assert_eq!((fake.requests().len(), lists()), (2, vec![old]));
    let mut desk = Desk::at("kite", sessions(&fake, home.path(), FOUR).remove(0), Resume::default());
    desk.until_events("tickers", 5, is_ticker).await;
    assert_eq!((fake.requests().len(), lists()), (3, vec![today]), "and the new one takes its place");
}

#[tokio::test]
async fn more_instruments_than_a_connection_carries_take_several() {
    let fake = FakeKite::builder().instruments(6_500).rate(2_000).start().await.expect("a fake venue");
    let tokens: Vec<String> = fake.listed().iter().map(|listed| listed.token.to_string()).collect();
    let home = tempfile::tempdir().expect("a folder");
    let sessions =
        sessions(&fake, home.path(), &format!("instruments = [{}]\nchannels = ['ticker', 'orders']", tokens.join(",")));
    let names: Vec<String> = sessions.iter().map(|session| session.name.to_string()).collect();
    assert_eq!(names, ["k", "k/2", "k/3"]);
    let mut desks: Vec<Desk> =
        sessions.into_iter().map(|session| Desk::at("kite", session, Resume::default())).collect();
    for (desk, many) in desks.iter_mut().zip([3_000, 3_000, 500]) {
        let mut live = 0;
        desk.until("every subscription", |message| {
            live += usize::from(matches!(message, Intake::Live { channel, .. } if channel == "ticker"));
            live == many
        })
        .await;
    }
    let mut sizes: Vec<usize> = fake.subscribed().iter().map(BTreeMap::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [500, 3_000, 3_000]);
    fault(&fake, "order");
    desks[0].until_events("the order", 1, |event| matches!(event.body, Body::Order(_))).await;
    let next = |event: &Event| is_ticker(event);
    for desk in &mut desks[1..] {
        desk.until_events("more", 50, next).await;
        assert!(!desk.events().any(|event| matches!(event.body, Body::Order(_))), "of one connection only");
    }
    assert_eq!(fake.requests(), ["GET /instruments"], "they share the list");
}

#[tokio::test]
async fn what_no_client_should_stumble_over_is_counted_and_the_session_goes_on() {
    let fake = fake(100).await;
    let mut desk = desk(&fake, FOUR);
    desk.until_events("tickers", 20, is_ticker).await;
    for text in [
        "length 164",
        "length 164",
        "count 3",
        "garbage text",
        "garbage type",
        "garbage empty",
        "error no such token",
        "order",
        "segment",
    ] {
        fault(&fake, text);
        desk.until_events("more", 5, is_ticker).await;
    }
    for odd in ["time zero", "time absurd"] {
        fault(&fake, odd);
        desk.until_events("an absurd time", 1, |event| is_ticker(event) && event.flags.contains(Flags::ABSURD_TIME))
            .await;
    }
    fault(&fake, "volume");
    desk.until_events("more", 100, is_ticker).await;
    let notes = counts(&desk.counters.notes);
    let want = [
        ("unknown packet length", 2),
        ("unknown type", 1),
        ("the venue reports an error", 1),
        ("unknown segment", 1),
        ("time zero", 1),
        ("time absurd", 1),
    ];
    for (reason, count) in want {
        assert_eq!(notes.get(reason), Some(&count), "{reason}: {notes:?}");
    }
    let want = [("frame cut short", 1), ("not a message", 1), ("unexpected shape", 1)];
    assert_eq!(counts(&desk.counters.reject_reasons), want.into());
    let raw = |format: &str| {
        desk.events().filter(|event| matches!(&event.body, Body::Raw(raw) if raw.format == format)).count()
    };
    assert_eq!((raw("rejected"), raw("binary"), raw("text")), (3, 1, 1), "what is new is kept once");
    assert!(desk.events().any(|event| event.symbol == STRANGE_TOKEN.to_string().as_str()), "recorded all the same");
    let order = desk.events().find_map(|event| match &event.body {
        Body::Order(order) => Some(format!("{} {order:?}", event.symbol)),
        _ => None,
    });
    let order = order.expect("an order");
    assert!(order.starts_with("NSE:SBIN") && order.contains("470.05") && !order.contains("AB1234"), "{order}");
    // Bytes at random: the session lives, or its socket was not one any more.
    fault(&fake, "garbage binary");
    desk.until_events("more", 5, is_ticker).await;
}

#[tokio::test]
async fn a_silent_subscription_is_asked_for_again_alone() {
    let fake = fake(400).await;
    let always = "sessions = { NSE = '00:00 UTC' }\ninstruments = ['INFY', 'TCS', 'RELIANCE']";
    let mut desk = desk(&fake, always);
    // A rhythm is known after five seconds.
    let known = tokio::time::Instant::now() + Duration::from_secs(7);
    while tokio::time::Instant::now() < known {
        desk.until_events("packets", 20, is_ticker).await;
    }
    let asked = fake.asked().len();
    fault(&fake, "stall INFY");
    desk.until("the stall", |message| matches!(message, Intake::Lost { cause: GapCause::Stall, .. })).await;
    fault(&fake, "heal");
    desk.until("it to be live again", |message| is_live(message, "NSE:INFY", "ticker")).await;
    let lost = desk.said.iter().filter_map(|message| match message {
        Intake::Lost { symbol: Some(symbol), channel: Some(channel), .. } => Some(format!("{symbol} {channel}")),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), ["NSE:INFY ticker", "NSE:INFY quote", "NSE:INFY book"], "no other one");
    let again: Vec<(String, Vec<u32>)> =
        fake.asked()[asked..].iter().map(|asked| (asked.what.clone(), asked.tokens.clone())).collect();
    assert!(again.starts_with(&[("subscribe".into(), vec![INFY]), ("full".into(), vec![INFY])]), "{again:?}");
    assert_eq!(fake.opened(), 1);
}

#[tokio::test]
async fn a_closed_market_is_no_stall_and_a_dead_socket_is_found() {
    let fake = fake(400).await;
    // Nobody trades on any day of the week but one, and that is not today.
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    let other =
        if today == jiff::civil::Weekday::Wednesday || today == jiff::civil::Weekday::Thursday { "Mon" } else { "Wed" };
    let mut desk =
        desk(&fake, &format!("sessions = {{ NSE = '12:00-12:01 UTC {other}' }}\ninstruments = ['INFY', 'TCS']"));
    let known = tokio::time::Instant::now() + Duration::from_secs(6);
    while tokio::time::Instant::now() < known {
        desk.until_events("packets", 20, is_ticker).await;
    }
    fault(&fake, "stall *");
    let beats = desk.counters.frames.load(std::sync::atomic::Ordering::Relaxed);
    // Sixty heartbeats of 200 ms are twelve seconds of silence.
    tokio::time::timeout(PATIENCE, async {
        while desk.counters.frames.load(std::sync::atomic::Ordering::Relaxed) < beats + 65 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("heartbeats");
    fault(&fake, "half-open");
    let said = desk.drain().await;
    assert!(said.starts_with("no bytes for 1"), "{said}");
    assert_eq!(desk.count(|message| matches!(message, Intake::Lost { .. })), 0);
}

#[tokio::test]
async fn a_session_ends_with_its_connection_however_that_ends() {
    let fake = fake(100).await;
    for (text, says) in [
        ("cut", "reading the feed"),
        ("cut mid-frame", "reading the feed"),
        ("close", "the venue closed the connection"),
    ] {
        let mut desk = desk(&fake, FOUR);
        desk.until_events("tickers", 5, is_ticker).await;
        fault(&fake, text);
        let said = desk.drain().await;
        assert!(said.starts_with(says) || said.contains("closed the connection"), "{text}: {said}");
        assert!(!said.contains(ACCESS_TOKEN) && !said.contains(API_KEY), "{said}");
    }
}

#[tokio::test]
async fn a_refused_token_is_offered_once_and_never_shown() {
    let fake = fake(100).await;
    let home = tempfile::tempdir().expect("a folder");
    let table = format!("{FOUR}\napi_key = '{API_KEY}'\naccess_token = 'yesterdays'");
    let mut session = sessions(&fake, home.path(), &table).remove(0);
    let (to_recorder, _intake) = tokio::sync::mpsc::channel(64);
    let counters = std::sync::Arc::default();
    let out = tapedeck::sources::Outlet::new("k".into(), "kite".into(), to_recorder, counters, Default::default());
    for _ in 0..3 {
        let error = session.source.run(&out).await.expect_err("refused");
        assert!(error.is::<tapedeck::sources::Waiting>(), "{error:#}");
        let said = format!("{error:#} {error:?}");
        assert!(said.contains("new login needed") && said.contains("tapedeck login"), "{said}");
        assert!(!said.contains("yesterdays") && !said.contains(API_KEY), "{said}");
    }
    assert_eq!((fake.refused(), fake.opened()), (1, 0), "the venue was asked once");
    // Another refusal is no matter of the token.
    fault(&fake, "refuse 503 x1");
    let mut session = sessions(&fake, home.path(), FOUR).remove(0);
    let error = session.source.run(&out).await.expect_err("refused");
    let said = format!("{error:#} {error:?}");
    assert!(!error.is::<tapedeck::sources::Waiting>() && said.contains("503"), "{said}");
    assert!(!said.contains(ACCESS_TOKEN) && !said.contains(API_KEY), "{said}");
}

#[tokio::test]
async fn the_fake_ignores_tokens_that_are_texts_as_the_venue_does() {
    let fake = fake(100).await;
    let url = format!("{}/?api_key={API_KEY}&access_token={ACCESS_TOKEN}", fake.ws_url());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("connected");
    socket.send(Message::text(r#"{"a":"subscribe","v":["408065"]}"#)).await.expect("sent");
    for _ in 0..5 {
        let frame = socket.next().await.expect("open").expect("a frame").into_data();
        assert_eq!(frame.len(), 1, "heartbeats alone");
    }
    assert_eq!(fake.ignored(), 1);
    socket.send(Message::text(r#"{"a":"subscribe","v":[408065]}"#)).await.expect("sent");
    let mut lengths = Vec::new();
    while lengths.len() < 3 {
        let frame = socket.next().await.expect("open").expect("a frame").into_data();
        if frame.len() > 1 {
            lengths.push(frame.len());
        }
    }
    assert_eq!(lengths, [48; 3], "in the venue's own mode, quote");
}

#[tokio::test]
async fn check_tells_apart_what_can_be_wrong() {
    let fake = fake(100).await;
    let home = tempfile::tempdir().expect("a folder");
    let report = sessions(&fake, home.path(), FOUR).remove(0).source.check().await.expect("all is well");
    assert!(report.starts_with("4 instruments answer, clock within "), "{report}");
    let says = async |table: &str| {
        let error = sessions(&fake, home.path(), table).remove(0).source.check().await.expect_err(table);
        let said = format!("{error:#}");
        assert!(!said.contains(ACCESS_TOKEN) && !said.contains(API_KEY), "{said}");
        said
    };
    let said = says("instruments = ['INFI', 'TCS']").await;
    assert!(said.contains("no NSE:INFI (did you mean NSE:INFY?); correct `instruments`"), "{said}");
    let said = says(&format!("{FOUR}\napi_key = '{API_KEY}'\naccess_token = 'nonsense'")).await;
    assert!(said.contains("expired: run `tapedeck login`") && said.contains("TokenException"), "{said}");
    let said = says(&format!("{FOUR}\n# access_token")).await;
    assert!(said.contains("set KITE_API_KEY"), "{said}");
    let report = sessions(&fake, home.path(), "instruments = ['INFY', 4711]").remove(0).source.check().await;
    assert!(report.expect("one answers").contains("1 of 2 instruments answer"), "4711 is nobody's");
    fault(&fake, "stall *");
    let said = says("instruments = ['INFY']").await;
    assert!(said.contains("none of 1 instruments answers"), "{said}");
    fault(&fake, "heal");
    fault(&fake, "clock -1h");
    assert!(says(FOUR).await.contains("is NTP running?"));
    let addr = fake.addr;
    fake.stop().await;
    let table = format!("url = 'ws://{addr}'\napi_key = '{API_KEY}'\naccess_token = '{ACCESS_TOKEN}'\n{FOUR}");
    let setup = Setup { name: SmolStr::from("k"), table: table.parse().expect("toml"), dir: home.path().to_owned() };
    let error = (KIND.build)(setup).expect("a table").remove(0).source.check().await.expect_err("nobody is there");
    assert!(format!("{error:#}").contains("is the network up"), "{error:#}");
}
