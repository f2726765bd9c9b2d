//! Sessions against a fake venue over a real socket, with everything that goes wrong there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tapedeck::intake::{Counters, Intake, Outlet, Resume};
use tapedeck::sources::betfair::KIND;
use tapedeck::sources::{Again, Session, Setup, Waiting};
use tapedeck_market::odds::Market;
use tapedeck_market::{Body, Event, Flags, GapCause, LevelPriceSize, Order, PriceSize, SmolStr};
use tapedeck_testkit::FakeBetfair;
use tapedeck_testkit::betfair::{APP_KEY, Handle, PASSWORD, USERNAME};
use tapedeck_testkit::kraken::Speed;
use tokio::sync::mpsc;

use super::recorded::{RECORDINGS, Rebuilt, agreeing, fixture, oracle};
use crate::kraken::desk::{Desk, PATIENCE, events_of, is_live};
use crate::tls::Authority;

/// Everything, so that all eight ladders come.
const ALL: &str = "fields = ['EX_BEST_OFFERS', 'EX_BEST_OFFERS_DISP', 'EX_ALL_OFFERS', 'EX_TRADED', 'EX_TRADED_VOL', 'EX_LTP', 'EX_MARKET_DEF', 'SP_TRADED', 'SP_PROJECTED']";
const ANY: &str = "event_types = ['7']\nheartbeat = '500ms'";

pub(super) fn sessions(fake: &Handle, table: &str) -> Vec<Session> {
    let credentials = if table.contains("password") {
        String::new()
    } else {
        format!("app_key = '{APP_KEY}'\nusername = '{USERNAME}'\npassword = '{PASSWORD}'")
    };
    let table = format!("url = '{}'\nlogin_url = '{}'\n{credentials}\n{table}", fake.url(), fake.login_url());
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table")
}

fn odds(fake: &Handle, table: &str, resume: Resume) -> Desk {
    Desk::at("betfair", sessions(fake, &format!("channels = ['odds']\n{table}")).remove(0), resume)
}

fn orders(fake: &Handle, resume: Resume) -> Desk {
    Desk::at("betfair", sessions(fake, "channels = ['orders']\nheartbeat = '500ms'").remove(0), resume)
}

async fn fake(rate: u32) -> Handle {
    FakeBetfair::builder().rate(rate).start().await.expect("a fake venue")
}

fn fault(fake: &Handle, text: &str) {
    fake.inject(text.parse().expect("a fault"));
}

fn is_odds(event: &Event) -> bool {
    matches!(&event.body, Body::Odds(odds) if odds.selection != 0)
}

fn notes(desk: &Desk) -> BTreeMap<&'static str, u64> {
    desk.counters.notes.lock().expect("not poisoned").iter().map(|(k, v)| (*k, *v)).collect()
}

fn rejects(desk: &Desk) -> BTreeMap<&'static str, u64> {
    desk.counters.reject_reasons.lock().expect("not poisoned").iter().map(|(k, v)| (*k, *v)).collect()
}

/// The ladders of a market in the fake's words.
pub(super) fn text_of(market: &Market) -> String {
    let by_price = |ladder: &[PriceSize]| -> Vec<Vec<f64>> {
        let mut rungs: Vec<Vec<f64>> =
            ladder.iter().map(|rung| vec![rung.price.0.to_f64(), rung.size.0.to_f64()]).collect();
        rungs.sort_by(|a, b| a[0].total_cmp(&b[0]));
        rungs
    };
    let by_level = |ladder: &[LevelPriceSize]| -> Vec<Vec<f64>> {
        ladder.iter().map(|rung| vec![f64::from(rung.level), rung.price.0.to_f64(), rung.size.0.to_f64()]).collect()
    };
    let line = |runner: &tapedeck_market::odds::Runner| {
        format!(
            "{} {} atb{:?} atl{:?} trd{:?} spb{:?} spl{:?} batb{:?} batl{:?} bdatb{:?} bdatl{:?} ltp {:?} tv {:?}\n",
            runner.selection,
            runner.handicap.to_f64(),
            by_price(&runner.available_to_back),
            by_price(&runner.available_to_lay),
            by_price(&runner.traded),
            by_price(&runner.sp_back),
            by_price(&runner.sp_lay),
            by_level(&runner.best_to_back),
            by_level(&runner.best_to_lay),
            by_level(&runner.best_display_to_back),
            by_level(&runner.best_display_to_lay),
            runner.last.map(|last| last.0.to_f64()),
            runner.volume.map(|volume| volume.0.to_f64()),
        )
    };
    market.runners().iter().map(line).collect()
}

/// Listens until the ladders of every market are those of the fake, which stands still.
async fn until_equal(desk: &mut Desk, rebuilt: &mut BTreeMap<SmolStr, Market>, fake: &Handle) {
    fake.stand_still(true);
    let mut applied = 0;
    let mut last = String::new();
    let equal = tokio::time::timeout(PATIENCE, async {
        loop {
            for event in desk.events().skip(applied) {
                if let Body::Odds(odds) = &event.body {
                    rebuilt.entry(event.symbol.clone()).or_default().apply(odds);
                }
                applied += 1;
            }
            let differs = fake.markets().into_iter().find(|id| {
                let ours = rebuilt.get(id.as_str()).map(text_of).unwrap_or_default();
                last = format!("{id}: ours\n{ours}\ntheirs\n{}", fake.ladders(id));
                ours != fake.ladders(id)
            });
            if differs.is_none() {
                return;
            }
            match tokio::time::timeout(Duration::from_millis(200), desk.intake.recv()).await {
                Ok(Some(message)) => desk.said.push(message),
                Ok(None) => panic!("the session ended: {:#}", (&mut desk.task).await.expect("no panic")),
                Err(_) => {}
            }
        }
    });
    let equal = equal.await;
    let odd = (notes(desk), rejects(desk));
    assert!(equal.is_ok(), "never equal: {odd:?}\n{last}\n{}", desk.summary());
}

/// What the tape would know after this.
fn resume_of(desk: &Desk) -> Resume {
    let mut resume = Resume::default();
    for event in desk.events() {
        if let Body::Position(position) = &event.body {
            resume.positions.insert(position.key.clone(), position.value.clone());
        }
    }
    for message in &desk.said {
        if let Intake::Live { symbol, channel, .. } = message {
            resume.subscriptions.push((symbol.clone(), channel.clone()));
        }
    }
    resume
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ladders_are_the_venues_over_tls_in_segments_and_byte_by_byte() {
    let Some(authority) = Authority::new() else { return };
    let (cert, key) = authority.issue("IP:127.0.0.1", &["rsa:2048"]);
    let fake = FakeBetfair::builder().rate(300).tls(cert, key).start().await.unwrap();
    fault(&fake, "segments 4");
    let table = format!("{ANY}\n{ALL}\nca_file = '{}'", authority.path("ca.pem").display());
    let mut desk = odds(&fake, &table, Resume::default());
    desk.until_events("changes", 300, is_odds).await;
    fault(&fake, "drip 4000");
    desk.until_events("more", 300, is_odds).await;
    until_equal(&mut desk, &mut BTreeMap::new(), &fake).await;
    assert_eq!((notes(&desk), rejects(&desk)), (BTreeMap::new(), BTreeMap::new()));
    let images =
        desk.events().filter(|event| matches!(&event.body, Body::Odds(odds) if odds.selection == 0 && odds.image));
    assert_eq!(images.count(), 3, "pieces of an image are one");
    assert_eq!(desk.count(|message| matches!(message, Intake::Live { .. })), 3);
    let first = desk.events().find(|event| is_odds(event)).unwrap();
    assert!(first.flags.contains(Flags::SNAPSHOT) || !first.flags.contains(Flags::REPLAYED));
    // Without the authority nothing is said to anybody.
    let mut alone = odds(&fake, ANY, Resume::default());
    let error = alone.drain().await;
    assert!(error.contains("login") || error.contains("encrypting"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recording_comes_over_the_socket_as_it_was() {
    let (mut told, mut same) = (0, 0);
    for name in RECORDINGS {
        let Some(path) = fixture(name) else { return };
        let want = oracle(&path);
        let fake = FakeBetfair::builder().frames(&path, Speed::Max).remember(false).start().await.unwrap();
        let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
        let changes = want["runner_changes"].as_u64().unwrap() as usize;
        desk.until_events(name, changes, is_odds).await;
        let definitions = want["market_definitions"].as_u64().unwrap() as usize;
        let seen = desk.events().filter(|event| matches!(event.body, Body::Instrument(_))).count();
        if seen < definitions {
            desk.until_events("the last definition", definitions - seen, |event| {
                matches!(event.body, Body::Instrument(_))
            })
            .await;
        }
        let mut rebuilt = Rebuilt::default();
        // A message at a time, as the venue meant it.
        let events: Vec<Event> =
            desk.events().filter(|event| !matches!(event.body, Body::Position(_))).cloned().collect();
        for event in &events {
            rebuilt.apply(event);
            if name.starts_with("live/") {
                let (states, equal) = agreeing(std::slice::from_ref(event), &rebuilt.markets["1.185781277"].0);
                (told, same) = (told + states, same + equal);
            }
        }
        rebuilt.assert_same(want["checkpoints"].as_array().unwrap().last().unwrap(), name);
        rebuilt.assert_settled(&want, name);
        assert_eq!(rejects(&desk), BTreeMap::new(), "{name}");
        let closed = want["final"].as_object().unwrap().values().all(|market| market["status"] == "CLOSED");
        if closed && desk.count(|message| matches!(message, Intake::Unsubscribed { .. })) == 0 {
            desk.until("the end of the market", |message| matches!(message, Intake::Unsubscribed { .. })).await;
        }
    }
    assert_eq!((same, told), (23_924, 23_929));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_goes_on_where_the_tape_ends() {
    let fake = fake(200).await;
    let mut rebuilt = BTreeMap::new();
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
    desk.until_events("changes", 100, is_odds).await;
    fault(&fake, "cut in-line");
    assert!(desk.drain().await.contains("closed"), "cut");
    for event in desk.events() {
        if let Body::Odds(odds) = &event.body {
            rebuilt.entry(event.symbol.clone()).or_insert_with(Market::default).apply(odds);
        }
    }
    let resume = resume_of(&desk);
    // Much happens meanwhile.
    let before = fake.ladders(&fake.markets()[0]);
    crate::support::until("changes that nobody hears", || (fake.ladders(&fake.markets()[0]) != before).then_some(()));
    let mut again = odds(&fake, &format!("{ANY}\n{ALL}"), resume.clone());
    again.until_events("changes", 20, is_odds).await;
    until_equal(&mut again, &mut rebuilt, &fake).await;
    assert!(fake.log().iter().any(|sent| sent.kind == "resub"), "{:?}", fake.requests());
    assert_eq!(again.count(|message| matches!(message, Intake::Live { .. })), 3, "also of what did not change");
    assert!(!again.events().any(|event| matches!(&event.body, Body::Odds(odds) if odds.image)), "nothing began anew");
    // Another filter is another subscription, and never asks with these clocks.
    let other = odds(&fake, &format!("markets = ['{}']\nheartbeat = '500ms'", fake.markets()[0]), resume);
    let mut other = other;
    other.until_events("an image", 1, |event| matches!(&event.body, Body::Odds(odds) if odds.image)).await;
    let unwanted = other.count(|message| matches!(message, Intake::Unsubscribed { .. }));
    let unwanted = if unwanted == 2 {
        2
    } else {
        other.until("the end of what is not wanted", |message| matches!(message, Intake::Unsubscribed { .. })).await;
        2
    };
    assert_eq!(unwanted, 2);
    assert!(!fake.requests().last().unwrap().contains("initialClk"), "{:?}", fake.requests());
}

#[tokio::test]
async fn clocks_that_the_venue_forgot_are_given_up_and_everything_comes_anew() {
    let fake = fake(100).await;
    let mut desk = odds(&fake, ANY, Resume::default());
    desk.until_events("changes", 20, is_odds).await;
    fault(&fake, "cut");
    desk.drain().await;
    let resume = resume_of(&desk);
    fault(&fake, "forget");
    let mut again = odds(&fake, ANY, resume);
    again
        .until_events("images", 3, |event| matches!(&event.body, Body::Odds(odds) if odds.selection == 0 && odds.image))
        .await;
    assert_eq!(notes(&again).get("clock refused"), Some(&1));
}

#[tokio::test]
async fn heartbeats_alone_move_the_clock_on_the_tape_but_rarely() {
    let fake = fake(0).await;
    let mut desk = odds(&fake, ANY, Resume::default());
    desk.until_events("positions", 3, |event| matches!(event.body, Body::Position(_))).await;
    let beats = fake.log().iter().filter(|sent| sent.kind == "heartbeat").count();
    let positions = desk.events().filter(|event| matches!(event.body, Body::Position(_))).count();
    assert!(beats > positions, "{beats} beats, {positions} positions");
}

#[tokio::test]
async fn silence_is_found_and_a_feed_that_is_behind_is_only_said() {
    let fake = fake(50).await;
    let mut desk = odds(&fake, ANY, Resume::default());
    desk.until_events("changes", 10, is_odds).await;
    fault(&fake, "behind for 600ms");
    let is = |state: &'static str| move |event: &Event| matches!(&event.body, Body::Status(status) if status.topic == "venue" && status.state == state);
    desk.until_events("behind", 1, is("behind")).await;
    assert_eq!(desk.counters.state(), "live: the venue's feed is behind (503)");
    desk.until_events("online", 1, is("online")).await;
    assert_eq!(fake.connects().len(), 1, "it is no reason to connect again");
    fault(&fake, "half-open");
    let error = desk.drain().await;
    let ms = error.strip_prefix("no heartbeat for ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(ms.is_some_and(|ms: u64| ms >= 2_000), "{error}");
}

#[tokio::test]
async fn whatever_is_odd_is_counted_and_the_rest_is_recorded() {
    let fake = fake(100).await;
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
    desk.until_events("changes", 10, is_odds).await;
    for text in [
        "time zero",
        "time absurd",
        "time missing",
        "time text",
        "field",
        "con",
        "late",
        "garbage empty",
        "garbage type",
    ] {
        fault(&fake, text);
    }
    desk.until_events("changes", 40, is_odds).await;
    for text in ["big 608", "image *"] {
        fault(&fake, text);
    }
    let moved = fake.markets()[1].clone();
    fault(&fake, &format!("moved {moved}"));
    desk.until_events("changes", 4_000, is_odds).await;
    until_equal(&mut desk, &mut BTreeMap::new(), &fake).await;
    let notes = notes(&desk);
    for (note, many) in [
        ("absurd time", 2),
        ("no time", 1),
        ("unreadable time", 1),
        ("conflated by the venue", 1),
        ("late message of another subscription", 1),
        ("unknown type", 1),
        ("older version of a market", 1),
    ] {
        assert_eq!(notes.get(note), Some(&many), "{note}: {notes:?}");
    }
    assert_eq!(rejects(&desk), BTreeMap::new());
    let raw = desk.events().filter(|event| matches!(&event.body, Body::Raw(raw) if raw.format == "line"));
    assert_eq!(raw.count(), 2, "the line with the new field, and the one of another type");
    assert!(desk.events().any(|event| event.flags.contains(Flags::ABSURD_TIME)));
    let definition = desk.events().filter(|event| event.symbol == moved).filter_map(|event| match &event.body {
        Body::Instrument(instrument) => instrument.aliases.iter().find(|(scheme, _)| scheme == "event").cloned(),
        _ => None,
    });
    assert_eq!(definition.last().unwrap().1, "99999999", "where it moved to");
}

/// The last position that was said.
fn clocks(desk: &Desk) -> Option<SmolStr> {
    let position = |event: &Event| if let Body::Position(it) = &event.body { Some(it.value.clone()) } else { None };
    desk.events().filter_map(position).last()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_gap_of_every_market_until_an_image() {
    let fake = fake(100).await;
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
    for (text, reason) in [
        ("garbage json", "not a message"),
        ("garbage utf8", "not a message"),
        ("garbage array", "unexpected shape"),
        ("garbage number", "unexpected shape"),
        ("oversized 9000", "line too long"),
        ("garbage segment", ""),
    ] {
        desk.until_events(text, 5, is_odds).await;
        fault(&fake, text);
        let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect(text);
        assert!(ended.contains("everything begins anew"), "{text}: {ended}");
        let lost = desk.count(|message| {
            matches!(message, Intake::Lost { symbol: None, channel: Some(channel), cause: GapCause::Drop, .. } if channel == "odds")
        });
        assert_eq!(lost, 1, "{text}");
        assert_eq!(clocks(&desk).as_deref(), Some(""), "{text}: nothing to go on from");
        let want = (!reason.is_empty()).then_some((reason, 1));
        assert_eq!(rejects(&desk), want.into_iter().collect(), "{text}: kept and counted");
        let images = fake.log().iter().filter(|sent| sent.kind == "image").count();
        desk = odds(&fake, &format!("{ANY}\n{ALL}"), resume_of(&desk));
        desk.until_events("an image", 5, is_odds).await;
        assert!(fake.log().iter().filter(|sent| sent.kind == "image").count() > images, "{text}: all of it anew");
    }
    until_equal(&mut desk, &mut BTreeMap::new(), &fake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_whose_image_cannot_be_read_costs_the_others_nothing() {
    let fake = fake(100).await;
    let (poisoned, others) = (fake.markets()[0].clone(), fake.markets()[1..].to_vec());
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
    desk.until_events("changes", 10, is_odds).await;
    fault(&fake, &format!("poison {poisoned}"));
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains("everything begins anew"), "{ended}");
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), resume_of(&desk));
    let is_of = |event: &Event, market: &str| is_odds(event) && event.symbol == market;
    for market in &others {
        desk.until_events("the others", 20, |event| is_of(event, market)).await;
    }
    assert!(!desk.events().any(|event| is_of(event, &poisoned)), "half of it would be a lie");
    let missing = |message: &Intake| matches!(message, Intake::Lost { symbol: Some(symbol), cause: GapCause::Drop, .. } if *symbol == poisoned);
    assert_eq!(desk.count(missing), 1);
    assert_eq!(clocks(&desk).as_deref(), Some(""), "no clock says that it is there");
    assert!(!desk.said.iter().any(|it| matches!(it, Intake::Unsubscribed { .. })), "its gap stays open");
    fault(&fake, "heal");
    fault(&fake, &format!("image {poisoned}"));
    desk.until("its image", |message| is_live(message, &poisoned, "odds")).await;
    until_equal(&mut desk, &mut BTreeMap::new(), &fake).await;
    assert!(rejects(&desk).get("unexpected shape") >= Some(&1));
    desk.until("clocks again", |message| {
        events_of(message).iter().any(|event| matches!(&event.body, Body::Position(it) if !it.value.is_empty()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_market_that_falls_silent_on_a_live_stream_is_a_stall_of_its_own() {
    let fake = fake(100).await;
    let quiet = fake.markets()[0].clone();
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), Resume::default());
    let began = std::time::Instant::now();
    desk.until("its rhythm", |_| began.elapsed() > Duration::from_secs(8)).await;
    fault(&fake, &format!("quiet {quiet}"));
    let ended = tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end");
    assert!(ended.contains(&format!("nothing comes of {quiet} on a live connection")), "{ended}");
    let stalls: Vec<_> = desk
        .said
        .iter()
        .filter_map(|it| match it {
            Intake::Lost { symbol, cause: GapCause::Stall, .. } => symbol.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(stalls, [quiet.as_str()]);
    fault(&fake, "heal");
    assert_eq!(clocks(&desk).as_deref(), Some(""), "an image brings what was missed");
    let mut desk = odds(&fake, &format!("{ANY}\n{ALL}"), resume_of(&desk));
    desk.until("it is live", |message| is_live(message, &quiet, "odds")).await;
    until_equal(&mut desk, &mut BTreeMap::new(), &fake).await;
}

#[tokio::test]
async fn a_login_that_fails_for_no_reason_of_ours_is_tried_again_later() {
    let fake = fake(50).await;
    let logins = || fake.requests().iter().filter(|path| *path == "/api/login").count();
    fault(&fake, "login INTERNAL_ERROR x1");
    let mut session = sessions(&fake, &format!("{ANY}\nchannels = ['odds']")).remove(0);
    for error in twice(&mut session).await {
        let pause = error.downcast_ref::<Again>().map(|again| again.0);
        assert!(!error.is::<Waiting>() && pause.is_some_and(|it| it <= Duration::from_secs(2)), "{error:#}");
    }
    assert_eq!(logins(), 1, "not before the pause is over");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut desk = Desk::at("betfair", session, Resume::default());
    desk.until_events("changes", 5, is_odds).await;
    assert_eq!(logins(), 2);
    fault(&fake, "login TEMPORARY_BAN_TOO_MANY_REQUESTS x1");
    let mut banned = sessions(&fake, &format!("{ANY}\nchannels = ['odds']")).remove(0);
    for error in twice(&mut banned).await {
        let pause = error.downcast_ref::<Again>().map(|again| again.0.as_secs());
        assert!(!error.is::<Waiting>() && pause.is_some_and(|secs| (1_100..=1_200).contains(&secs)), "{error:#}");
    }
    assert_eq!(logins(), 3);
}

#[tokio::test]
async fn what_is_granted_is_compared_with_what_was_asked() {
    let fake = fake(50).await;
    fault(&fake, "conflate 50");
    let mut desk = odds(&fake, ANY, Resume::default());
    desk.until_events("changes", 10, is_odds).await;
    assert_eq!(notes(&desk).get("not as asked"), Some(&1));
}

/// Runs a session twice; what became of it.
async fn twice(session: &mut Session) -> [anyhow::Error; 2] {
    let (to_recorder, mut intake) = mpsc::channel(4_096);
    let out = Outlet::new("k".into(), "betfair".into(), to_recorder, Arc::new(Counters::default()), Arc::default());
    let drain = tokio::spawn(async move { while intake.recv().await.is_some() {} });
    let first = session.source.run(&out).await.expect_err("refused");
    let second = session.source.run(&out).await.expect_err("refused");
    drop(out);
    drain.await.unwrap();
    [first, second]
}

#[tokio::test]
async fn a_login_that_is_refused_is_never_tried_again() {
    let fake = fake(50).await;
    for (table, says) in [
        (
            format!("app_key = '{APP_KEY}'\nusername = '{USERNAME}'\npassword = 'wrong-4711'"),
            "INVALID_USERNAME_OR_PASSWORD",
        ),
        (
            format!("app_key = 'wrong-4711'\nusername = '{USERNAME}'\npassword = '{PASSWORD}'"),
            "correct BETFAIR_APP_KEY",
        ),
    ] {
        let logins = || fake.requests().iter().filter(|path| *path == "/api/login").count();
        let before = logins();
        let mut session = sessions(&fake, &format!("{ANY}\nchannels = ['odds']\n{table}")).remove(0);
        for error in twice(&mut session).await {
            let shown = format!("{error:#}");
            assert!(error.is::<Waiting>() && shown.contains(says) && !shown.contains("4711"), "{shown}");
        }
        assert_eq!(logins() - before, 1);
    }
    let mut none = sessions(&fake, &format!("{ANY}\napp_key = 'x'\nusername = 'password'")).remove(0);
    let [error, _] = twice(&mut none).await;
    assert!(format!("{error}").contains("waiting: no credentials: set BETFAIR_APP_KEY"), "{error}");
}

#[tokio::test]
async fn each_refusal_says_what_to_do_and_shows_no_secret() {
    let fake = fake(50).await;
    for (code, waits, says) in [
        ("INVALID_APP_KEY", true, "correct BETFAIR_APP_KEY and reload"),
        ("NOT_AUTHORIZED", true, "may not use the stream"),
        ("SUBSCRIPTION_LIMIT_EXCEEDED", true, "narrow the filter"),
        ("INVALID_INPUT", true, "correct the source's table"),
        ("INVALID_SESSION_INFORMATION", false, "the next try logs in anew"),
        ("MAX_CONNECTION_LIMIT_EXCEEDED", false, "close another one"),
        ("TIMEOUT", false, "Betfair says TIMEOUT"),
    ] {
        fault(&fake, &format!("refuse {code} x1"));
        let mut desk = odds(&fake, ANY, Resume::default());
        let error = desk.drain().await;
        assert!(error.contains(says) && error.starts_with("waiting") == waits, "{code}: {error}");
        assert!(
            !error.contains(APP_KEY) && !fake.sessions().iter().any(|token| error.contains(token.as_str())),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_session_that_expired_is_replaced_and_one_that_lives_is_kept_alive() {
    let fake = fake(50).await;
    let mut desk = odds(&fake, &format!("{ANY}\nkeep_alive = '1s'"), Resume::default());
    desk.until("a renewal", |_| fake.requests().iter().any(|path| path == "/api/keepAlive")).await;
    let mut session = sessions(&fake, &format!("channels = ['odds']\n{ANY}")).remove(0);
    let (to_recorder, mut intake) = mpsc::channel(4_096);
    let out = Outlet::new("k".into(), "betfair".into(), to_recorder, Arc::new(Counters::default()), Arc::default());
    let run = async {
        for (wait, says) in [("cut", "closed"), ("cut", "logs in anew")] {
            let ended = session.source.run(&out).await.expect_err(wait);
            assert!(format!("{ended:#}").contains(says), "{ended:#}");
            fault(&fake, "session-dead");
        }
        let _ = session.source.run(&out).await;
    };
    let hear = async {
        let mut lives = 0;
        while let Some(message) = intake.recv().await {
            if is_live(&message, &fake.markets()[0], "odds") {
                lives += 1;
                if lives == 2 {
                    return;
                }
                fault(&fake, "cut");
            }
        }
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! { () = run => panic!("ended"), () = hear => {} }
    })
    .await
    .expect("live again");
}

#[tokio::test]
async fn own_orders_are_recorded_and_go_on_where_the_tape_ends() {
    let fake = fake(0).await;
    fake.order(3);
    let order = |event: &Event| match &event.body {
        Body::Order(order) => Some((**order).clone()),
        _ => None,
    };
    let states = |desk: &Desk| -> BTreeMap<String, String> {
        let own = desk
            .events()
            .filter_map(order)
            .filter_map(|order: Order| Some((order.id?.to_string(), order.status?.to_string())));
        own.collect()
    };
    let mut desk = orders(&fake, Resume::default());
    desk.until("the subscription", |message| is_live(message, "", "orders")).await;
    desk.until_events("the image", 2, |event| order(event).is_some_and(|order| order.id.is_some())).await;
    fake.order(4);
    desk.until_events("changes", 4, |event| order(event).is_some_and(|order| order.id.is_some())).await;
    assert_eq!(states(&desk), fake.orders().into_iter().collect());
    desk.until_events("the clock behind them", 1, |event| matches!(event.body, Body::Position(_))).await;
    fault(&fake, "cut");
    desk.drain().await;
    assert!(!desk.events().any(|event| format!("{event:?}").contains("4711471147")), "the account's number");
    let mut known = states(&desk);
    fake.order(3);
    let mut again = orders(&fake, resume_of(&desk));
    again.until_events("what was missed", 2, |event| order(event).is_some_and(|order| order.id.is_some())).await;
    known.extend(states(&again));
    assert_eq!(known, fake.orders().into_iter().collect());
    assert!(fake.log().iter().any(|sent| sent.kind == "resub"));
    assert!(!again.events().any(|event| event.flags.contains(Flags::SNAPSHOT)));
}

#[tokio::test]
async fn a_certificate_logs_in_and_without_it_the_venue_says_so() {
    let Some(authority) = Authority::new() else { return };
    let (cert, key) = authority.issue("IP:127.0.0.1", &["rsa:2048"]);
    let (server_cert, server_key) = (authority.path("server.pem"), authority.path("server.key"));
    std::fs::rename(&cert, &server_cert).unwrap();
    std::fs::rename(&key, &server_key).unwrap();
    let (cert, key) = authority.issue("DNS:client", &["rsa:2048"]);
    let ca = authority.path("ca.pem");
    let fake = FakeBetfair::builder().tls(&server_cert, &server_key).client_ca(&ca).start().await.unwrap();
    let table = format!("{ANY}\nca_file = '{}'", ca.display());
    let with = format!("{table}\ncert_file = '{}'\ncert_key_file = '{}'", cert.display(), key.display());
    let mut desk = odds(&fake, &with, Resume::default());
    desk.until_events("changes", 5, is_odds).await;
    assert!(fake.requests().iter().any(|path| path == "/api/certlogin"), "{:?}", fake.requests());
    // Any certificate is not one.
    let wrong = format!("{table}\ncert_file = '{}'\ncert_key_file = '{}'", ca.display(), key.display());
    let error = odds(&fake, &wrong, Resume::default()).drain().await;
    assert!(!error.is_empty() && !error.contains(PASSWORD), "{error}");
}

#[tokio::test]
async fn check_tells_what_is_wrong_from_what_is_wrong_elsewhere() {
    let fake = fake(50).await;
    let check =
        async |table: &str| sessions(&fake, &format!("channels = ['odds']\n{table}")).remove(0).source.check().await;
    let good = check(ANY).await.expect("good");
    assert!(good.starts_with("3 markets, clock within "), "{good}");
    let wrong = check("markets = ['1.7']").await.expect_err("unknown");
    assert!(format!("{wrong:#}").contains("no open market 1.7"), "{wrong:#}");
    for (text, says) in [
        ("clock +10s", "the clock differs from the venue's by "),
        ("refuse SUBSCRIPTION_LIMIT_EXCEEDED x1", "narrow the filter"),
        ("refuse INVALID_APP_KEY x1", "correct BETFAIR_APP_KEY"),
        ("refuse INVALID_SESSION_INFORMATION x1", "the session has expired"),
        ("login INVALID_USERNAME_OR_PASSWORD x1", "correct BETFAIR_USERNAME and BETFAIR_PASSWORD"),
        ("login 503 x1", "Betfair answers 503"),
    ] {
        fault(&fake, text);
        let error = format!("{:#}", check(ANY).await.expect_err(text));
        assert!(error.contains(says), "{text}: {error}");
        fault(&fake, "heal");
    }
    let nobody = format!("{ANY}\nurl = 'tcp://127.0.0.1:1'");
    let table = format!(
        "login_url = '{}'\napp_key = '{APP_KEY}'\nusername = '{USERNAME}'\npassword = '{PASSWORD}'\nchannels = ['odds']\n{nobody}",
        fake.login_url()
    );
    let setup = Setup { name: "k".into(), table: table.parse().unwrap(), dir: std::env::temp_dir() };
    let error = (KIND.build)(setup).unwrap().remove(0).source.check().await.expect_err("nobody is there");
    assert!(format!("{error:#}").starts_with("is the network up, and `url` right?"), "{error:#}");
    let own = sessions(&fake, "channels = ['orders']").remove(0).source.check().await.expect("good");
    assert!(own.starts_with("own orders can be read"), "{own}");
}
