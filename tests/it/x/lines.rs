//! Lines, given to the parser directly.

use proptest::prelude::*;
use serde_json::{Value, json};
use tapedeck::sources::split::{Piece, Splitter};
use tapedeck::sources::x::line::{Ctx, Line, Message, Problem, parse, parse_any_order};
use tapedeck::sources::x::sentiment::{self, TEXT_BYTES};
use tapedeck_market::{Body, Decimal, Flags, Post, Sentiment, UnixNanos, wire};

use crate::candles::venues::recording;

/// A day behind the newest of the samples.
const AT: UnixNanos = UnixNanos(1_785_000_000_000_000_000);

fn ctx() -> Ctx {
    Ctx { source: "x".into(), venue: "x".into() }
}

fn line(text: &str) -> Line {
    match parse(text.as_bytes(), AT, &ctx()) {
        Ok(Message::Post(line)) => line,
        other => panic!("{text}: {other:?}"),
    }
}

fn post(line: &Line) -> &Post {
    match &line.event.body {
        Body::Post(post) => post,
        other => panic!("{other:?}"),
    }
}

/// A text scored by vaderSentiment 3.3.2.
pub(super) struct Scored {
    pub(super) text: String,
    /// Compound, positive, neutral, negative.
    scores: [f64; 4],
}

impl Scored {
    /// What is not as the oracle has it.
    pub(super) fn differs(&self, sentiment: Option<Sentiment>) -> Option<String> {
        let sentiment = sentiment.unwrap();
        let Sentiment { compound, positive, neutral, negative } = sentiment;
        let ours =
            [compound, positive, neutral, negative].map(|score: Decimal| score.to_string().parse::<f64>().unwrap());
        (ours != self.scores).then(|| format!("{:?}: {ours:?}, and the package has {:?}", self.text, self.scores))
    }
}

/// The texts of the oracle.
pub(super) fn scored() -> Option<Vec<Scored>> {
    let mut all = Vec::new();
    for name in ["tweets_1_2100", "readme_sentences"] {
        for row in recording(&format!("x_vader/{name}.vader332.jsonl.gz"))?.lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            let scores = ["compound", "pos", "neu", "neg"].map(|name| row[name].as_f64().unwrap());
            all.push(Scored { text: row["text"].as_str().unwrap().to_owned(), scores });
        }
    }
    Some(all)
}

#[test]
fn every_scored_text_gets_the_scores_of_the_python_package() {
    let Some(texts) = scored() else { return };
    assert_eq!(texts.len(), 2_116);
    for (at, scored) in texts.iter().enumerate() {
        // As the venue sends it: with entities, and escapes of another writer.
        let entities = scored.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let text = json!({ "data": { "id": at.to_string(), "text": entities } }).to_string();
        let line = line(&text);
        assert_eq!(post(&line).text, scored.text);
        assert_eq!(post(&line).sentiment, None, "a field of its own step");
        assert_eq!(scored.differs(sentiment::score(&post(&line).text)), None);
    }
}

#[test]
fn the_longest_post_is_scored_soon_and_a_longer_text_not_at_all() {
    for word in ["but ", "not good ", "a", "!? ", "🚀", "I but NOT happy "] {
        let text = word.repeat(TEXT_BYTES / word.len());
        let began = std::time::Instant::now();
        assert!(sentiment::score(&text).is_some());
        assert!(began.elapsed().as_secs() < 5, "{word}: {:?}", began.elapsed());
    }
    assert_eq!(sentiment::score(&"x".repeat(TEXT_BYTES + 1)), None);
}

#[test]
fn recorded_lines_are_read_and_their_texts_decoded() {
    let Some(text) = recording("x_vader/filtered_stream_sample.bin") else { return };
    let (mut posts, mut problems) = (0, 0);
    // Cut between all bytes: the same lines.
    let mut splitter = Splitter::default();
    for byte in text.as_bytes() {
        splitter.push(&[*byte]);
        while let Some(piece) = splitter.cut() {
            let Piece::Line(bytes) = piece else { panic!("{piece:?}") };
            let want: Value = serde_json::from_slice(bytes).unwrap();
            match parse(bytes, AT, &ctx()).unwrap() {
                Message::Post(line) => {
                    let post = post(&line);
                    assert_eq!(post.id, want["data"]["id"].as_str().unwrap());
                    assert_eq!(post.text, want["data"]["text"].as_str().unwrap(), "no entity stands in these");
                    assert_eq!(
                        (line.event.symbol.as_str(), post.topics.as_slice()),
                        ("tapedeck", &["tapedeck".into()][..])
                    );
                    assert_eq!(
                        (line.event.ts_event, line.odd_time, post.edit_of.clone()),
                        (None, Some("no time"), None)
                    );
                    posts += 1;
                }
                Message::Problem(problem) => {
                    assert_eq!(problem.title, "operational-disconnect");
                    problems += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(posts >= 10, "{posts}");
    assert_eq!(problems, 1);
    // Every recorded post object, as a line of the stream.
    let recorded: Value = serde_json::from_str(&recording("x_vader/tweets_v2_recorded.json").unwrap()).unwrap();
    let mut objects = 0;
    for answer in recorded.as_array().unwrap() {
        let answer = &answer["response"];
        let list = answer["data"].as_array().cloned().unwrap_or_else(|| vec![answer["data"].clone()]);
        for data in list.into_iter().filter(|data| data["id"].is_string() && data["text"].is_string()) {
            let text = json!({ "data": data, "includes": answer["includes"], "matching_rules": [] }).to_string();
            let line = line(&text);
            assert_eq!(post(&line).id, data["id"].as_str().unwrap());
            assert_eq!(post(&line).author.is_some(), data["author_id"].is_string());
            assert_eq!(line.event.ts_event.is_some(), data["created_at"].is_string(), "{data}");
            objects += 1;
        }
    }
    assert_eq!(objects, 15);
}

#[test]
fn reported_errors_are_told_apart() {
    let Some(text) = recording("x_vader/stream_errors.jsonl") else { return };
    let problems: Vec<Problem> = text
        .lines()
        .map(|line| match parse(line.as_bytes(), AT, &ctx()) {
            Ok(Message::Problem(problem)) => problem,
            other => panic!("{line}: {other:?}"),
        })
        .collect();
    let told: Vec<(bool, String)> =
        problems.iter().map(|problem| (problem.is_too_many_connections(), problem.to_string())).collect();
    assert_eq!(
        told,
        [
            (false, "operational-disconnect: This stream has been disconnected for operational reasons.".to_owned()),
            (true, "ConnectionException: This stream is currently at the maximum allowed connection limit.".to_owned()),
        ]
    );
    let old = parse(br#"{"disconnect":{"code":7,"stream_name":"x","reason":"admin logout"}}"#, AT, &ctx());
    assert!(matches!(&old, Ok(Message::Problem(problem)) if problem.title == "admin logout"), "{old:?}");
    // Beside a post an error says what of it is missing, not that the stream ends.
    let partial = line(r#"{"data":{"id":"1","text":"x"},"errors":[{"title":"Not Found Error","detail":"user"}]}"#);
    assert_eq!(post(&partial).text, "x");
}

const WHOLE: &str = r#"{"data":{"author_id":"78","created_at":"2026-01-05T10:00:00.123Z","edit_history_tweet_ids":["11","12"],"id":"12","lang":"en","public_metrics":{"retweet_count":1,"like_count":20},"text":"R&amp;D \u2014 \"5 &gt; 4\"\n&amp;lt;"},"includes":{"users":[{"id":"77","username":"other"},{"id":"78","location":"Berlin","name":"N","public_metrics":{"followers_count":7,"listed_count":1,"tweet_count":9},"username":"writer"}]},"matching_rules":[{"id":"2","tag":"eth"},{"id":"1","tag":"btc"},{"id":"3","tag":"btc"}]}"#;

#[test]
fn a_post_has_all_that_the_line_tells() {
    let line = line(WHOLE);
    let want = Post {
        id: "12".into(),
        author: Some("writer".into()),
        text: "R&D — \"5 > 4\"\n&lt;".into(),
        lang: Some("en".into()),
        location: Some("Berlin".into()),
        topics: vec!["btc".into(), "eth".into()],
        sentiment: None,
        metrics: vec![
            ("retweet_count".into(), 1),
            ("like_count".into(), 20),
            ("followers_count".into(), 7),
            ("tweet_count".into(), 9),
        ],
        edit_of: Some("11".into()),
    };
    assert_eq!(post(&line), &want);
    assert_eq!(line.event.symbol, "btc");
    assert_eq!(line.event.ts_event.unwrap().to_string(), "2026-01-05T10:00:00.123000000Z");
    assert_eq!((line.odd_time, line.unknown.len()), (None, 0));
}

#[test]
fn fields_come_in_any_order_with_blanks_missing_doubled_and_of_other_types() {
    let blanks = WHOLE.replace("\":", "\" :\t").replace(",\"", " , \"");
    assert_eq!(line(&blanks), line(WHOLE));
    let (data, behind) = WHOLE.split_once(",\"includes\"").unwrap();
    let (includes, rules) = behind.split_once(",\"matching_rules\"").unwrap();
    let turned = format!("{{\"matching_rules\"{},\"includes\"{includes},{}}}", &rules[..rules.len() - 1], &data[1..]);
    assert_eq!(line(&turned), line(WHOLE));
    let odd = line(
        r#"{"moon":1,"data":{"geo":{"place_id":"p"},"id":1234567890123456789,"lang":7,"public_metrics":{"like_count":"many","reply_count":1.5,"view_count":"12"},"text":"x","edit_history_tweet_ids":"none","author_id":"5","phase":{}},"includes":{"users":"none","places":[{"id":"p","full_name":"Rio"}]},"matching_rules":[{"tag":null},7,{"id":"1"},{"tag":"t"}]}"#,
    );
    let want = Post {
        id: "1234567890123456789".into(),
        author: Some("5".into()),
        text: "x".into(),
        location: Some("Rio".into()),
        topics: vec!["t".into()],
        metrics: vec![("view_count".into(), 12)],
        ..Post::default()
    };
    assert_eq!(post(&odd), &want);
    assert_eq!(odd.unknown, ["moon", "phase"]);
    let long =
        line(r#"{"data":{"id":"1","text":"the beginning…","note_tweet":{"text":"the beginning &amp; the end"}}}"#);
    assert_eq!(post(&long).text, "the beginning & the end");
    let doubled = line(r#"{"data":{"id":"1","id":"2","text":"a","text":"b"}}"#);
    assert_eq!((post(&doubled).id.as_str(), post(&doubled).text.as_str()), ("2", "b"), "as JavaScript would have it");
    assert_eq!(parse(br#"{"quantum":1}"#, AT, &ctx()), Ok(Message::Unknown));
}

#[test]
fn odd_times_are_kept_and_said() {
    for (time, ts_event, odd) in [
        (r#""created_at":"2022-10-07T22:42:12.000Z","#, Some("2022-10-07T22:42:12.000000000Z"), None),
        (r#""created_at":"1970-01-01T00:00:00.000Z","#, Some("1970-01-01T00:00:00.000000000Z"), Some("absurd time")),
        (r#""created_at":"2200-01-01T00:00:00.000Z","#, Some("2200-01-01T00:00:00.000000000Z"), Some("absurd time")),
        (r#""created_at":"soon","#, None, Some("unreadable time")),
        (r#""created_at":1234,"#, None, Some("unreadable time")),
        ("", None, Some("no time")),
    ] {
        let line = line(&format!(r#"{{"data":{{{time}"id":"1","text":"x"}}}}"#));
        assert_eq!(line.event.ts_event.map(|time| time.to_string()).as_deref(), ts_event, "{time}");
        assert_eq!(line.odd_time, odd, "{time}");
        assert_eq!(line.event.flags.contains(Flags::ABSURD_TIME), odd == Some("absurd time"), "{time}");
    }
}

#[test]
fn what_cannot_be_understood_says_why() {
    for (line, reason) in [
        ("", "not a message"),
        ("[1,2]", "not a message"),
        (r#"{"data":{"id":"1","text":"#, "not a message"),
        (r#"{"data":{"text":"x"}}"#, "unexpected shape"),
        (r#"{"data":{"id":"","text":"x"}}"#, "unexpected shape"),
        (r#"{"data":{"id":"1 2","text":"x"}}"#, "unexpected shape"),
        (r#"{"data":{"id":"1"}}"#, "unexpected shape"),
        (r#"{"data":{"id":"1","text":7}}"#, "unexpected shape"),
    ] {
        match parse(line.as_bytes(), AT, &ctx()) {
            Err(error) => assert_eq!(error.reason, reason, "{line}: {error}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// Something like a line, and far from it.
fn any_line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,8}",
        Just("a\\u00e9\\ud83d\\ude00\\n\\\"".to_owned()),
        Just("\\ud83d".to_owned()),
        Just("&amp;&lt;".to_owned()),
        "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,12}Z?",
    ];
    let text = prop_oneof![3 => word.clone().prop_map(|word| format!("\"{word}\"")), 1 => word.prop_map(|text| serde_json::to_string(&text).unwrap())];
    let number = prop_oneof![
        Just("1"),
        Just("0"),
        Just("-1"),
        Just("01"),
        Just("1.5"),
        Just("9999999999999999999"),
        Just("true")
    ];
    let key = proptest::sample::select(
        &[
            "id",
            "text",
            "created_at",
            "lang",
            "author_id",
            "name",
            "username",
            "location",
            "tag",
            "x",
            "like_count",
            "tweet_count",
            "followers_count",
            "a b",
        ][..],
    );
    let flat =
        proptest::collection::vec((key, prop_oneof![4 => text.clone(), 1 => number.prop_map(str::to_owned)]), 0..6);
    let object = flat.prop_map(|fields| {
        let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    let list = proptest::collection::vec(prop_oneof![object.clone(), text.clone()], 0..4)
        .prop_map(|all| format!("[{}]", all.join(",")));
    let data = (object.clone(), object.clone(), list.clone(), any::<u8>(), text.clone(), text).prop_map(
        |(own, metrics, ids, which, id, words)| {
            let mut fields =
                vec![own[1..own.len() - 1].to_owned(), format!("\"id\":{id}"), format!("\"text\":{words}")];
            if which & 1 == 1 {
                fields.push(format!("\"public_metrics\":{metrics}"));
            }
            if which & 2 == 2 {
                fields.push(format!("\"edit_history_tweet_ids\":{ids}"));
            }
            fields.retain(|field| !field.is_empty());
            fields.rotate_left(usize::from(which >> 2) % 3);
            format!("{{{}}}", fields.join(","))
        },
    );
    let whole = (data, list.clone(), list, any::<u8>()).prop_map(|(data, users, rules, which)| {
        let mut fields = vec![format!("\"data\":{data}")];
        if which & 1 == 1 {
            fields.push(format!("\"includes\":{{\"users\":{users}}}"));
        }
        if which & 2 == 2 {
            fields.push(format!("\"matching_rules\":{rules}"));
        }
        if which & 12 == 12 {
            fields.push(format!("\"data\":{}", data.clone()));
        }
        format!("{{{}}}", fields.join(","))
    });
    prop_oneof![8 => whole, 1 => object, 1 => "\\PC{0,40}"]
}

proptest! {
    #[test]
    fn both_readers_agree_no_line_panics_and_what_is_understood_survives_the_tape(text in any_line(), cut in 0_usize..400) {
        let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        for text in [&text[..], &text[..cut]] {
            let found = parse(text.as_bytes(), AT, &ctx());
            match (&found, parse_any_order(text, AT, &ctx())) {
                // The fast reader knows every field it passes.
                (Ok(Message::Post(ours)), Ok(Message::Post(theirs))) => prop_assert_eq!(ours, &theirs),
                (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err(), "{}: {:?} {:?}", text, ours, theirs),
            }
            if let Ok(Message::Post(line)) = found {
                let mut bytes = Vec::new();
                wire::encode(&line.event, &mut bytes);
                prop_assert_eq!(wire::decode(&bytes).unwrap(), line.event);
                prop_assert!(bytes.len() <= (text.len() + 1) * 64, "{} bytes of {}", bytes.len(), text.len());
            }
        }
    }
}
