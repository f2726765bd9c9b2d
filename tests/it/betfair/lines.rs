//! Single lines, given to the parser directly.

use proptest::prelude::*;
use tapedeck::sources::betfair::line::{ChangeType, Message, Segment, parse};
use tapedeck::sources::betfair::markets::{Joiner, Markets};
use tapedeck_market::odds::Market;
use tapedeck_market::{Body, Decimal, Event, Flags, Odds, Order, Side, SmolStr, wire};

use super::recorded::{AT, changes, ctx, fixture, text};

fn message(line: &str) -> Message {
    parse(line.as_bytes(), AT, &ctx()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn odds(event: &Event) -> &Odds {
    match &event.body {
        Body::Odds(odds) => odds,
        other => panic!("{other:?}"),
    }
}

fn order(event: &Event) -> &Order {
    match &event.body {
        Body::Order(order) => order,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_sample_is_read_and_none_is_odd() {
    let Some(dir) = fixture("messages") else { return };
    let (mut lines, mut events) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let (name, text) = (path.file_name().unwrap().to_string_lossy().into_owned(), text(&path));
        let values: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().expect("JSON");
        // Some files are a list of messages, and one holds a market's definition alone.
        let messages = values.into_iter().flat_map(|value| match value {
            serde_json::Value::Array(all) => all,
            one => vec![one],
        });
        for value in messages {
            let line = value.to_string();
            lines += 1;
            match message(&line) {
                Message::Markets(changes) | Message::Orders(changes) => {
                    let odd: Vec<&str> = changes.odd.iter().copied().filter(|odd| *odd != "no time").collect();
                    assert!(odd.is_empty(), "{name}: {odd:?}");
                    assert_eq!(changes.clk.as_deref(), value["clk"].as_str(), "{name}");
                    events += changes.events.len();
                    let rc: usize = value["mc"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|mc| mc["rc"].as_array().map_or(0, Vec::len))
                        .sum();
                    let runners = changes
                        .events
                        .iter()
                        .filter(|event| matches!(&event.body, Body::Odds(odds) if odds.selection != 0));
                    assert_eq!(runners.count(), rc, "{name}");
                    for event in &changes.events {
                        let mut encoded = Vec::new();
                        wire::encode(event, &mut encoded);
                        assert_eq!(&wire::decode(&encoded).expect(&name), event, "{name}");
                    }
                }
                Message::Status(status) => assert_eq!(status.success, value["statusCode"] == "SUCCESS", "{name}"),
                Message::Connection { id } => assert_eq!(value["connectionId"], id.as_str(), "{name}"),
                _ => assert!(
                    name.starts_with("requests_") || name.contains("rcm") || name.contains("definition"),
                    "{name}"
                ),
            }
        }
    }
    println!("{lines} messages, {events} events");
    assert!(lines >= 62, "{lines}");
}

#[test]
fn an_image_begins_the_market_anew_then_defines_it_then_lists_its_runners() {
    let line = r#"{"op":"mcm","id":2,"initialClk":"i","clk":"c","conflateMs":120,"heartbeatMs":5000,"pt":1743511672980,"ct":"SUB_IMAGE","mc":[
        {"img":true,"tv":12.50,"con":true,"rc":[{"id":7,"hc":-0.25,"atb":[[11.5,55.61],[10,1]],"batl":[[0,12,3.4]],"ltp":12,"spn":"NaN","spf":"Infinity"},{"id":"7","hc":0.25}],
         "marketDefinition":{"version":5,"status":"OPEN","eventId":"31","marketTime":"2021-07-30T05:44:00.000Z","runners":[]},"id":"1.2"}]}"#;
    let Message::Markets(changes) = message(&line.replace('\n', "")) else { panic!() };
    assert_eq!((changes.id, changes.change_type, changes.segment), (Some(2), ChangeType::SubImage, None));
    assert_eq!((changes.initial_clk.as_deref(), changes.clk.as_deref()), (Some("i"), Some("c")));
    assert_eq!((changes.heartbeat_ms, changes.conflate_ms), (Some(5_000), Some(120)));
    let [begins, defines, first, second] = &changes.events[..] else { panic!("{:#?}", changes.events) };
    assert!(changes.events.iter().all(|event| event.flags == Flags::SNAPSHOT && event.symbol == "1.2"));
    assert_eq!(begins.ts_event.map(|ts| ts.0), Some(1_743_511_672_980_000_000));
    let begins = odds(begins);
    assert_eq!((begins.selection, begins.image, begins.conflated), (0, true, true));
    assert_eq!(begins.market_volume.unwrap().to_string(), "12.50", "digit for digit");
    assert!(
        matches!(&defines.body, Body::Instrument(it) if it.status.as_deref() == Some("OPEN") && it.aliases.contains(&("event".into(), "31".into())))
    );
    let first = odds(first);
    assert_eq!((first.selection, first.handicap.to_string().as_str(), first.image), (7, "-0.25", true));
    assert_eq!((first.last.unwrap().to_string().as_str(), first.sp_near, first.sp_far), ("12", None, None));
    assert_eq!(first.available_to_back.len(), 2);
    assert_eq!((first.best_to_lay[0].level, first.best_to_lay[0].size.to_string().as_str()), (0, "3.4"));
    assert_eq!(odds(second).handicap.to_string(), "0.25", "another runner");
    assert_eq!((changes.heads[0].version, changes.heads[0].image), (Some(5), true));
    assert_eq!((changes.odd, changes.unknown), (vec![], vec![]));
}

#[test]
fn what_is_new_is_counted_and_costs_nothing() {
    let line = r#"{"op":"mcm","id":2,"moon":1,"clk":"c","pt":1743511672980,"mc":[{"id":"1.2","tide":[{"a":null}],"rc":[{"id":7,"atb":[[2,3,"more"]],"sun":{}}]}]}"#;
    let Message::Markets(changes) = message(line) else { panic!() };
    assert_eq!(changes.unknown, ["moon", "tide", "sun"].map(SmolStr::new));
    assert_eq!(odds(&changes.events[0]).available_to_back.len(), 1);
    assert_eq!(message(r#"{"op":"rcm","id":2,"clk":12,"rc":[]}"#), Message::Unknown);
    assert_eq!(message("{}"), Message::Unknown);
}

#[test]
fn odd_times_and_values_are_counted_and_the_change_is_kept() {
    for (pt, odd, ts) in [
        ("0", "absurd time", Some(0)),
        ("7258118400000", "absurd time", Some(7_258_118_400_000_000_000)),
        ("\"soon\"", "unreadable time", None),
        ("9223372036854775807", "unreadable time", None),
        ("null", "no time", None),
    ] {
        let changes = changes(&format!(
            r#"{{"op":"mcm","id":2,"clk":"c","pt":{pt},"mc":[{{"id":"1.2","rc":[{{"id":7,"ltp":2}}]}}]}}"#
        ));
        assert_eq!((changes.odd.as_slice(), changes.events[0].ts_event.map(|ts| ts.0)), (&[odd][..], ts), "{pt}");
    }
    let changes = changes(
        r#"{"op":"mcm","pt":1743511672980,"mc":[{"id":"1.2","tv":12345678901234567890,"rc":[{"id":7,"tv":1e999,"ltp":2.5},{"ltp":3}]}]}"#,
    );
    assert_eq!(changes.odd, ["last value refused", "last value refused", "runner without an id"]);
    assert_eq!(
        (odds(&changes.events[0]).volume, odds(&changes.events[0]).last.unwrap().to_string().as_str()),
        (None, "2.5")
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    for (line, reason) in [
        ("", "not a message"),
        ("[]", "unexpected shape"),
        ("{\"op\":\"mcm\"", "not a message"),
        (r#"{"op":"mcm","mc":[{"rc":[]}]}"#, "unexpected shape"),
        (r#"{"op":"mcm","mc":[{"id":"1.2","rc":[{"id":7,"atb":[[2]]}]}]}"#, "unexpected shape"),
        (r#"{"op":"mcm","mc":[{"id":"1.2","rc":[{"id":7,"atb":[[2,12345678901234567890]]}]}]}"#, "unexpected shape"),
        (r#"{"op":"mcm","mc":[{"id":"1.2","rc":[{"id":7,"batb":[[0.5,2,3]]}]}]}"#, "unexpected shape"),
        (r#"{"op":"ocm","oc":[{"orc":[]}]}"#, "unexpected shape"),
    ] {
        let error = parse(line.as_bytes(), AT, &ctx()).expect_err(line);
        assert_eq!(error.reason, reason, "{line}: {error}");
    }
    let many = format!(r#"{{"op":"mcm","mc":[{}]}}"#, r#"{"id":"1"},"#.repeat(200_000));
    assert!(parse(many.as_bytes(), AT, &ctx()).is_err());
}

#[test]
fn orders_keep_their_own_text_and_never_the_account() {
    let line = r#"{"op":"ocm","id":3,"clk":"c","pt":1566480793554,"oc":[{"accountId":1234567,"fullImage":true,"id":"1.16","closed":true,"orc":[
        {"fullImage":true,"id":7017905,"hc":8.5,"uo":[{"id":"175706685825","p":2,"s":2.50,"side":"L","status":"EC","pt":"L","ot":"LOC","avp":1.9,"sm":2,"rfo":"mine","lsrc":"BSP"}],"mb":[[2,2]]},
        {"id":5,"uo":[{"id":"9","p":3,"s":1,"side":"B","status":"E","ot":"L","sm":0}]}]}]}"#;
    let Message::Orders(changes) = message(&line.replace('\n', "")) else { panic!() };
    let actions: Vec<&str> = changes.events.iter().map(|event| order(event).action.as_str()).collect();
    assert_eq!(actions, ["image", "complete", "matched", "executable", "matched", "closed"]);
    let own = order(&changes.events[1]);
    assert_eq!(
        (own.id.as_deref(), own.client_id.as_deref(), own.side),
        (Some("175706685825"), Some("mine"), Some(Side::Sell))
    );
    assert_eq!(
        (own.order_type.as_deref(), own.status.as_deref(), own.reason.as_deref()),
        (Some("limit_on_close"), Some("EC"), Some("BSP"))
    );
    let texts = [
        own.price.unwrap().to_string(),
        own.size.unwrap().to_string(),
        own.filled.unwrap().to_string(),
        own.avg_price.unwrap().to_string(),
    ];
    assert_eq!(texts, ["2", "2.50", "2", "1.9"]);
    let raw: serde_json::Value = serde_json::from_str(own.raw.as_ref().unwrap()).expect("JSON");
    assert_eq!(
        (raw["id"].as_i64(), raw["hc"].as_f64(), raw["uo"][0]["avp"].as_f64()),
        (Some(7_017_905), Some(8.5), Some(1.9))
    );
    let matched: serde_json::Value =
        serde_json::from_str(order(&changes.events[2]).raw.as_ref().unwrap()).expect("JSON");
    assert_eq!(matched["mb"][0][0], 2);
    assert!(!format!("{changes:?}").contains("1234567"));
}

#[test]
fn of_a_market_that_moved_the_higher_version_is_kept_in_either_order() {
    let image = |version: u32, price: &str| {
        format!(
            r#"{{"id":"1.2","img":true,"marketDefinition":{{"version":{version}}},"rc":[{{"id":7,"atb":[[{price},1]]}}]}}"#
        )
    };
    for pair in [[image(5, "2"), image(6, "3")], [image(6, "3"), image(5, "2")]] {
        let mut changes = changes(&format!(r#"{{"op":"mcm","pt":1743511672980,"mc":[{}]}}"#, pair.join(",")));
        let stale = Markets::default().judge(&mut changes);
        let mut market = Market::default();
        changes.events.iter().for_each(|event| {
            if let Body::Odds(odds) = &event.body {
                market.apply(odds)
            }
        });
        let back = &market.runner(7, Decimal::ZERO).unwrap().available_to_back;
        assert_eq!(back.iter().map(|rung| rung.price.to_string()).collect::<Vec<_>>(), ["3"], "{stale}");
    }
}

#[test]
fn pieces_of_a_message_are_one_message() {
    let piece = |segment: &str, clk: &str, runner: u32| {
        changes(&format!(
            r#"{{"op":"mcm","id":2,"ct":"SUB_IMAGE","segmentType":"{segment}",{clk}"pt":1743511672980,"mc":[{{"id":"1.2","img":true,"rc":[{{"id":{runner},"ltp":2}}]}}]}}"#
        ))
    };
    let mut joiner = Joiner::default();
    assert_eq!(joiner.take(piece("SEG_START", "", 1), 10), Ok(None));
    assert_eq!(joiner.take(piece("SEG", "", 2), 10), Ok(None));
    assert_eq!(joiner.take(piece("SEG", "", 2), 10), Ok(None));
    let mut whole = joiner.take(piece("SEG_END", r#""initialClk":"i","clk":"c","#, 3), 10).unwrap().expect("whole");
    assert_eq!(
        (whole.change_type, whole.clk.as_deref(), whole.initial_clk.as_deref()),
        (ChangeType::SubImage, Some("c"), Some("i"))
    );
    assert_eq!(Markets::default().judge(&mut whole), 0);
    let mut market = Market::default();
    whole.events.iter().for_each(|event| market.apply(odds(event)));
    assert_eq!(market.runners().iter().map(|runner| runner.selection).collect::<Vec<_>>(), [1, 2, 3]);
    // One that has no end, and one that has no beginning.
    assert_eq!(joiner.take(piece("SEG_START", "", 1), 10), Ok(None));
    assert_eq!(changes(r#"{"op":"mcm","segmentType":"SEG"}"#).segment, Some(Segment::Middle));
    let other = changes(r#"{"op":"mcm","clk":"d"}"#);
    assert_eq!(joiner.take(other, 10).unwrap().expect("itself").odd, ["message without an end"]);
    assert_eq!(joiner.take(piece("SEG_END", "", 3), 10).unwrap().expect("itself").odd, ["message without a beginning"]);
    // What never ends is given up.
    assert_eq!(joiner.take(piece("SEG_START", "", 1), 8 << 20), Ok(None));
    let given_up = (0..20).find_map(|_| joiner.take(piece("SEG", "", 2), 8 << 20).err());
    assert!(given_up.is_some_and(|error| error.detail.contains("64 MiB")));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, AT, &ctx());
    }

    #[test]
    fn a_damaged_line_gives_an_answer(at in 0_usize..400, with in any::<u8>(), cut in 0_usize..400) {
        let mut line = br#"{"op":"mcm","id":1,"clk":"ALsBAPoBAPcB","pt":1627622274806,"mc":[{"id":"1.185781277","rc":[{"atb":[[9.4,0],[9.2,1.8]],"trd":[[9.4,2.81]],"batb":[[9,5,107.04],[0,9.2,1.8]],"tv":25.16,"id":40364043}],"tv":325.57}]}"#.to_vec();
        let at = at % line.len();
        line[at] = with;
        line.truncate(cut.max(1));
        let _ = parse(&line, AT, &ctx());
    }
}
