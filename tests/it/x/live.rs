//! Sessions against a fake venue over a real socket, with everything that goes wrong there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tapedeck::intake::{Intake, Resume};
use tapedeck::sources::x::KIND;
use tapedeck::sources::{Session, Setup};
use tapedeck_market::{Body, Event, Flags, Post, SmolStr};
use tapedeck_testkit::FakeX;
use tapedeck_testkit::kraken::Speed;
use tapedeck_testkit::x::{Handle, Sent, TOKEN};

use super::lines::scored;
use crate::kraken::desk::{Desk, PATIENCE, is_live};
use crate::support::until_async;
use crate::tls::Authority;

const TWO: &str =
    "[[rules]]\ntag = 'btc'\nvalue = '(bitcoin OR $BTC) lang:en'\n[[rules]]\ntag = 'eth'\nvalue = 'ether'\n";

fn session(url: &str, table: &str) -> Session {
    let token = if table.contains("bearer_token") { String::new() } else { format!("bearer_token = '{TOKEN}'") };
    let table = format!("url = '{url}'\n{token}\n{table}");
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table").remove(0)
}

fn desk(fake: &Handle, table: &str) -> Desk {
    Desk::at("x", session(&fake.url(), table), Resume::default())
}

async fn fake(rate: u32) -> Handle {
    FakeX::builder().rate(rate).keep_alive(Duration::from_millis(100)).start().await.expect("a fake venue")
}

fn fault(fake: &Handle, text: &str) {
    fake.inject(text.parse().expect("a fault"));
}

fn is_post(event: &Event) -> bool {
    matches!(event.body, Body::Post(_))
}

fn posts(desk: &Desk) -> Vec<(&Event, &Post)> {
    fn post(event: &Event) -> Option<&Post> {
        if let Body::Post(post) = &event.body { Some(post) } else { None }
    }
    desk.events().filter_map(|event| Some((event, post(event)?))).collect()
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

/// How the session ends, with the wait that the venue is due.
async fn ended(desk: &mut Desk) -> String {
    tokio::time::timeout(PATIENCE, desk.drain()).await.expect("an end")
}

fn same(sent: &Sent, (event, post): &(&Event, &Post)) {
    assert_eq!((post.id.as_str(), post.text.as_str()), (sent.id.as_str(), sent.text.as_str()));
    assert_eq!((event.symbol.as_str(), post.topics.as_slice()), (sent.tag.as_str(), &[SmolStr::new(&sent.tag)][..]));
    assert_eq!((post.author.as_deref(), post.edit_of.as_deref()), (Some(&*sent.author), sent.edit_of.as_deref()));
    assert!(event.ts_event.is_some() && post.sentiment.is_some() && post.lang.as_deref() == Some("en"), "{post:?}");
}

#[tokio::test]
async fn every_post_comes_once_in_order_under_the_tags_of_its_rules() {
    let fake = fake(400).await;
    let mut desk = desk(&fake, TWO);
    desk.until_events("posts", 300, is_post).await;
    fault(&fake, "cut");
    let end = ended(&mut desk).await;
    assert!(end.starts_with("again in 250ms: reading the stream"), "{end}");
    let (got, sent) = (posts(&desk), fake.log());
    assert!(sent.len() >= got.len() && got.len() >= 300);
    sent.iter().zip(&got).for_each(|(sent, got)| same(sent, got));
    for tag in ["btc", "eth"] {
        assert!(got.iter().any(|(event, _)| event.symbol == tag));
        assert_eq!(desk.count(|message| is_live(message, tag, "post")), 1);
    }
    assert_eq!((notes(&desk), rejects(&desk)), (vec![], vec![]));
}

#[tokio::test]
async fn the_scores_of_the_oracle_come_out_of_its_texts_over_the_socket() {
    let Some(texts) = scored() else { return };
    let folder = std::path::PathBuf::from(std::env::var_os("TAPEDECK_FIXTURES").expect("as above")).join("x_vader");
    let fake = ["tweets_1_2100", "readme_sentences"]
        .iter()
        .fold(FakeX::builder(), |fake, name| fake.frames(folder.join(format!("{name}.vader332.jsonl.gz")), Speed::Max))
        .start()
        .await
        .expect("a fake venue");
    let mut desk = desk(&fake, TWO);
    desk.until_events("every text", texts.len(), is_post).await;
    let got = posts(&desk);
    assert_eq!(got.len(), 2_116);
    for (scored, (_, post)) in texts.iter().zip(&got) {
        assert_eq!(post.text, scored.text);
        assert_eq!(scored.differs(post.sentiment), None);
    }
}

#[tokio::test]
async fn recorded_lines_with_their_keep_alives_and_their_end_are_played_over_the_socket() {
    let Some(folder) = std::env::var_os("TAPEDECK_FIXTURES") else {
        return crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
    };
    let path = std::path::PathBuf::from(folder).join("x_vader/filtered_stream_sample.bin");
    let want = std::fs::read_to_string(&path).expect("the sample").matches("{\"data\"").count();
    let fake = FakeX::builder().frames(path, Speed::Max).start().await.expect("a fake venue");
    let mut desk = desk(&fake, TWO);
    let end = ended(&mut desk).await;
    assert_eq!(posts(&desk).len(), want);
    assert_eq!(
        end,
        "again in 0s: the venue ended the stream: operational-disconnect: This stream has been disconnected for operational reasons."
    );
    assert_eq!(desk.events().filter(|event| matches!(event.body, Body::Raw(_))).count(), 1, "what it said is kept");
}

#[tokio::test]
async fn a_recording_is_replayed_from_a_file_without_the_venue() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("posts.jsonl");
    let line = |id: u32| {
        format!(
            r#"{{"data":{{"id":"{id}","text":"I love it &lt;3","created_at":"2026-01-05T10:00:0{id}.000Z"}},"matching_rules":[{{"id":"1","tag":"btc"}}]}}"#
        )
    };
    let text = format!(
        "{}\r\n\r\n{}\r\n1767607200.5: {}\r\n{{\"errors\":[{{\"title\":\"operational-disconnect\"}}]}}\r\n",
        line(1),
        line(2),
        line(3)
    );
    std::fs::write(&path, text).expect("written");
    let table = format!("paths = [{path:?}]\nformat = 'x'");
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: home.path().into() };
    let mut session = (tapedeck::sources::file::KIND.build)(setup).expect("a table").remove(0);
    assert_eq!(session.venue, "x");
    assert_eq!(session.source.check().await.expect("readable"), "4 frames, 0 of them unreadable");
    let mut desk = Desk::at("x", session, Resume::default());
    assert_eq!(ended(&mut desk).await, "everything is delivered");
    let got = posts(&desk);
    assert_eq!(got.iter().map(|(_, post)| post.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    for (event, post) in &got {
        assert!(event.flags.contains(Flags::REPLAYED));
        assert_eq!(
            (post.text.as_str(), post.sentiment.map(|it| it.compound.to_string())),
            ("I love it <3", Some("0.7964".to_owned()))
        );
    }
    assert_eq!(got[2].0.ts_recv.0, 1_767_607_200_500_000_000, "the recorded moment");
    assert_eq!(desk.count(|message| is_live(message, "btc", "post")), 1);
}

#[tokio::test]
async fn rules_become_those_of_the_config_before_the_stream_is_opened() {
    let fake = FakeX::builder()
        .rule("ether", Some("eth"))
        .rule("doge", Some("old"))
        .rule("(bitcoin OR $BTC) lang:en", Some("other name"))
        .start()
        .await
        .expect("a fake venue");
    let rules = || fake.rules().into_iter().map(|rule| (rule.tag.unwrap_or_default(), rule.value)).collect::<Vec<_>>();
    let report = session(&fake.url(), TWO).source.check().await.expect("all is well");
    assert_eq!(
        report,
        "1 rules are there as the config has them; tapedeck run would add 1 and delete 2 (the first: `doge`)"
    );
    assert_eq!(rules().len(), 3, "check changes nothing");
    until_async("the end of the check's stream", || !fake.is_open()).await;
    let mut one = desk(&fake, &format!("sync = 'add'\n{TWO}"));
    one.until("live", |message| is_live(message, "old", "post")).await;
    let want = |of: &[(&str, &str)]| {
        of.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    let bitcoin = ("btc", "(bitcoin OR $BTC) lang:en");
    assert_eq!(rules(), want(&[("eth", "ether"), ("old", "doge"), bitcoin]));
    drop(one);
    until_async("its end", || !fake.is_open()).await;
    let mut two = desk(&fake, TWO);
    two.until("live", |message| is_live(message, "eth", "post")).await;
    assert_eq!(rules(), want(&[("eth", "ether"), bitcoin]));
    drop(two);
    until_async("its end", || !fake.is_open()).await;
    let mut three = desk(&fake, "sync = 'off'\nrules = []");
    three.until("live", |message| is_live(message, "eth", "post")).await;
    assert_eq!(rules(), want(&[("eth", "ether"), bitcoin]));
}

#[tokio::test]
async fn a_wrong_rule_does_not_keep_the_others_out() {
    let fake = fake(100).await;
    let table = format!("{TWO}[[rules]]\ntag = 'bad'\nvalue = '(never closed'\n");
    let mut wrong = desk(&fake, &table);
    wrong.until_events("posts", 5, is_post).await;
    assert_eq!(fake.rules().len(), 2);
    assert_eq!(wrong.count(|message| is_live(message, "bad", "post")), 0);
    let said = session(&fake.url(), &table).source.check().await.expect_err("a wrong rule");
    assert_eq!(
        format!("{said:#}"),
        "X refuses 1 of the rules; correct `(never closed`: missing ')' at '<EOF>' (at position 1)"
    );
    drop(wrong);
    until_async("its end", || !fake.is_open()).await;
    let mut all_wrong = desk(&fake, "[[rules]]\ntag = 'bad'\nvalue = '(never closed'\n");
    let end = ended(&mut all_wrong).await;
    assert!(end.contains("again in 5s: waiting: X refuses every rule: `(never closed`: missing ')'"), "{end}");
}

#[tokio::test]
async fn subscriptions_that_are_no_longer_wanted_are_ended() {
    let fake = fake(100).await;
    let subscriptions = vec![("btc".into(), "post".into()), ("gone".into(), "post".into())];
    let resume = Resume { subscriptions, ..Resume::default() };
    let mut desk = Desk::at("x", session(&fake.url(), TWO), resume);
    desk.until_events("posts", 2, is_post).await;
    let ended =
        |symbol: &str| desk.count(|message| matches!(message, Intake::Unsubscribed { symbol: it, .. } if it == symbol));
    assert_eq!((ended("gone"), ended("btc")), (1, 0));
}

#[tokio::test]
async fn keep_alives_keep_a_silent_stream_and_their_end_ends_it() {
    let fake = fake(0).await;
    let mut desk = desk(&fake, &format!("silence = '3s'\n{TWO}"));
    desk.until("live", |message| is_live(message, "eth", "post")).await;
    let heard = desk.counters.frames.load(Ordering::Relaxed);
    let counters = desk.counters.clone();
    // Twice as long as may pass without a byte.
    until_async("keep-alives", || counters.frames.load(Ordering::Relaxed) > heard + 60).await;
    assert!(fake.is_open() && desk.counters.last_heard.load(Ordering::Relaxed) > 0);
    fault(&fake, "half-open");
    let end = ended(&mut desk).await;
    assert_eq!(end, "again in 250ms: not even a keep-alive for 3s");
}

#[tokio::test]
async fn how_a_stream_ends_says_how_long_the_venue_is_left_alone() {
    let fake = fake(50).await;
    for (text, says) in [
        ("cut in-line", "again in 250ms: reading the stream"),
        ("end", "again in 0s: the venue closed the stream"),
        ("end in-line", "again in 0s: the venue closed the stream"),
        ("disconnect", "again in 0s: the venue ended the stream: operational-disconnect"),
        ("disconnect old", "again in 0s: the venue ended the stream: admin logout"),
        ("disconnect connections", "again in 1m: the venue ended the stream: ConnectionException"),
        ("disconnect usage", "again in 1m: waiting: the posts of this billing period are used up (UsageCapExceeded"),
    ] {
        let mut desk = desk(&fake, TWO);
        desk.until_events("a post", 1, is_post).await;
        fault(&fake, text);
        let end = ended(&mut desk).await;
        assert!(end.starts_with(says), "{text}: {end}");
        let cut_off = if text == "end in-line" { vec![("line cut off", 1)] } else { Vec::new() };
        if text != "cut in-line" {
            assert_eq!(rejects(&desk), cut_off, "{text}");
        }
        until_async("the end of the stream", || !fake.is_open()).await;
    }
    for (text, says) in [
        ("refuse 503 x1", "again in 5s: X says 503 Service Unavailable: Refused: The venue was told to refuse this."),
        ("refuse 401 x1", "again in 5s: waiting: X refuses the bearer token"),
        ("refuse 403 x1", "again in 5s: waiting: the token's app may not use the filtered stream"),
        ("refuse 429 x1", "again in 1m: X says 429, too many requests"),
        ("limit 600s", "again in 10m"),
        ("connections x1", "again in 1m: another connection of this token is open (ConnectionException"),
        ("usage x1", "again in 1m: waiting: the posts of this billing period are used up"),
    ] {
        fault(&fake, text);
        let end = ended(&mut desk(&fake, TWO)).await;
        assert!(end.starts_with(says) || (says.len() < 14 && end.starts_with("again in 9m59")), "{text}: {end}");
        assert!(!end.contains(TOKEN), "{end}");
    }
    let addr = fake.addr;
    fake.stop().await;
    let mut nobody = Desk::at("x", session(&format!("http://{addr}"), TWO), Resume::default());
    let end = ended(&mut nobody).await;
    assert!(end.starts_with("again in 250ms: asking for the rules"), "{end}");
}

/// Disconnects again and again: the same source, session after session.
#[tokio::test]
async fn waits_of_one_source_grow_over_its_sessions() {
    let fake = fake(0).await;
    let mut session = session(&fake.url(), TWO);
    let (to_recorder, mut intake) = tokio::sync::mpsc::channel(64);
    let out = tapedeck::intake::Outlet::new(
        "k".into(),
        "x".into(),
        to_recorder,
        std::sync::Arc::default(),
        std::sync::Arc::default(),
    );
    let mut waits = Vec::new();
    for _ in 0..4 {
        let opened = fake.opened();
        let run = session.source.run(&out);
        let strike = async {
            until_async("the stream", || fake.opened() > opened).await;
            fault(&fake, "disconnect");
            while intake.try_recv().is_ok() {}
        };
        let (end, ()) = tokio::join!(run, strike);
        let end = format!("{:#}", end.expect_err("an end"));
        waits.push(end.split(':').next().unwrap_or_default().to_owned());
        until_async("the end of the stream", || !fake.is_open()).await;
    }
    assert_eq!(waits, ["again in 0s", "again in 5s", "again in 10s", "again in 20s"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_kept_counted_and_ends_nothing() {
    let fake = fake(100).await;
    let mut desk = desk(&fake, TWO);
    desk.until_events("posts", 3, is_post).await;
    for text in [
        "garbage json",
        "garbage utf8",
        "garbage array",
        "garbage empty",
        "garbage shape",
        "garbage type",
        "oversized 1500",
        "field",
    ] {
        fault(&fake, text);
    }
    desk.until_events(
        "an unknown field's line",
        2,
        |event| matches!(&event.body, Body::Raw(raw) if raw.format == "line"),
    )
    .await;
    desk.until_events("posts behind it", 5, is_post).await;
    assert_eq!(rejects(&desk), [("line too long", 1), ("not a message", 3), ("unexpected shape", 1)]);
    assert_eq!(notes(&desk), [("unknown type", 1)]);
    for text in ["time zero", "time absurd", "time missing", "time text", "time number"] {
        fault(&fake, text);
    }
    let counters = desk.counters.clone();
    let all = || counters.notes.lock().expect("not poisoned").values().sum::<u64>() >= 6;
    desk.until("odd times", |_| all()).await;
    assert_eq!(notes(&desk), [("absurd time", 2), ("no time", 1), ("unknown type", 1), ("unreadable time", 2)]);
    let got = posts(&desk);
    assert_eq!(got.iter().filter(|(event, _)| event.flags.contains(Flags::ABSURD_TIME)).count(), 2);
    let sent = fake.log();
    let ids: Vec<&str> = sent.iter().map(|sent| sent.id.as_str()).collect();
    assert!(got.iter().zip(&ids).all(|((_, post), id)| post.id.as_str() == *id), "none is left out");
}

#[tokio::test]
async fn an_edit_names_the_post_before_it() {
    let fake = fake(0).await;
    let mut desk = desk(&fake, TWO);
    desk.until("live", |message| is_live(message, "eth", "post")).await;
    fake.post("I hate it");
    fault(&fake, "edit");
    fake.post("I love it");
    desk.until_events("both", 2, is_post).await;
    let (got, sent) = (posts(&desk), fake.log());
    assert_eq!(got[1].1.edit_of.as_deref(), Some(sent[0].id.as_str()));
    sent.iter().zip(&got).for_each(|(sent, got)| same(sent, got));
}

#[tokio::test]
async fn check_tells_apart_what_can_be_wrong() {
    let fake = fake(10).await;
    let says = async |url: &str, table: &str| match session(url, table).source.check().await {
        Ok(report) => panic!("{table}: {report}"),
        Err(error) => format!("{error:#}"),
    };
    let url = fake.url();
    let report = session(&url, TWO).source.check().await.expect("all is well");
    assert_eq!(report, "0 rules are there as the config has them; tapedeck run would add 2 and delete 0");
    assert!(
        says(&url, &format!("bearer_token = 'wrong'\n{TWO}"))
            .await
            .contains("X refuses the bearer token (Unauthorized)")
    );
    assert!(says(&url, "rules = []").await.contains("no rules: name some"));
    let mut running = desk(&fake, TWO);
    running.until("live", |message| is_live(message, "eth", "post")).await;
    assert!(says(&url, TWO).await.contains("another connection of this token is open"));
    drop(running);
    until_async("its end", || !fake.is_open()).await;
    fault(&fake, "limit 90s");
    assert!(says(&url, TWO).await.contains("429, too many requests"));
    for (clock, way) in [("clock -1h", "ahead of"), ("clock +1h", "behind")] {
        fault(&fake, clock);
        let said = says(&url, TWO).await;
        assert!(said.ends_with(&format!(" s {way} the venue's: is NTP running?")), "{said}");
    }
    fault(&fake, "heal");
    let many: String = (0..1_000).map(|n| format!("[[rules]]\ntag = 'm'\nvalue = 'm{n}'\n")).collect();
    let said = says(&url, &format!("sync = 'add'\n{many}")).await;
    assert!(said.starts_with("the account would have 1002 rules, and 1000 are allowed"), "{said}");
    let end = ended(&mut desk(&fake, &format!("sync = 'add'\n{many}"))).await;
    assert!(end.starts_with("again in 5s: waiting: the account may not have that many rules"), "{end}");
    let addr = fake.addr;
    fake.stop().await;
    let said = says(&format!("http://{addr}"), TWO).await;
    assert!(said.contains("is the network up"), "{said}");
    let setup = Setup { name: "k".into(), table: TWO.parse().expect("toml"), dir: std::env::temp_dir() };
    let error = (KIND.build)(setup).expect("a table").remove(0).source.check().await.expect_err("no token");
    assert_eq!(format!("{error:#}"), "waiting: no credentials: set X_BEARER_TOKEN");
}

#[tokio::test]
async fn the_stream_is_encrypted_and_the_venues_certificate_is_checked() {
    let (Some(ours), Some(theirs)) = (Authority::new(), Authority::new()) else { return };
    let (cert, key) = ours.issue("IP:127.0.0.1", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let fake = FakeX::builder().tls(cert, key).start().await.expect("a fake venue");
    let table = |authority: &Authority| format!("ca_file = {:?}\n{TWO}", authority.path("ca.pem"));
    let mut desk = desk(&fake, &table(&ours));
    desk.until_events("posts", 5, is_post).await;
    fault(&fake, "cut in-line");
    assert!(ended(&mut desk).await.contains("reading the stream"));
    for table in [table(&theirs), TWO.to_owned()] {
        let end = ended(&mut self::desk(&fake, &table)).await;
        assert!(end.contains("certificate"), "a token goes to nobody else: {end}");
    }
    assert_eq!(fake.opened(), 1);
}
