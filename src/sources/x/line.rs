//! A line of the filtered stream, in our words. Pure, and total on any bytes.
//!
//! ```text
//! {"data":{"id":"1578516068309794817","text":"5 &gt; 4","created_at":"2022-10-07T22:42:12.000Z","author_id":"78",
//!  "lang":"en","public_metrics":{"like_count":3},"edit_history_tweet_ids":["1578516068309794817"]},
//!  "includes":{"users":[{"id":"78","username":"tapedeck","location":"Berlin"}]},"matching_rules":[{"id":"1","tag":"btc"}]}
//! {"errors":[{"title":"operational-disconnect","disconnect_type":"OperationalDisconnect","detail":"…","type":"…"}]}
//! {"title":"ConnectionException","detail":"…","connection_issue":"TooManyConnections","type":"…"}
//! ```
//!
//! Fields come in any order, and any but id and text may be missing. `&`, `<` and `>` of a text come as entities: they
//! are decoded once, so that `&amp;lt;` is the text `&lt;` that somebody wrote.

use std::borrow::Cow;
use std::fmt;

use tapedeck_market::{Body, Event, Flags, Post, SmolStr, UnixNanos};

use super::scan;
pub use crate::sources::parsed::{Ctx, ParseError};
use crate::sources::parsed::{Fields, plain, reason};

/// Longest id: the venue's have 19 digits.
const ID_BYTES: usize = 64;
/// Tags of a post, at most; a post that matches more rules is about nothing.
const TOPICS: usize = 64;
/// Counts of a post, at most; the venue has six.
const METRICS: usize = 16;
/// Unknown fields of a line that are named; one is enough to keep the line as it came.
const UNKNOWN_FIELDS: usize = 16;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    Post(Line),
    /// The venue says that something is wrong, and sends nothing behind it.
    Problem(Problem),
    /// Of a later protocol: data that is kept as it came, not an error.
    Unknown,
}

/// A post, not scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub event: Event,
    /// What is odd about its time, in words to count by; the event is as good as it can be.
    pub odd_time: Option<&'static str>,
    /// Fields that this version does not know.
    pub unknown: Vec<SmolStr>,
}

/// What the venue says is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    pub title: String,
    pub detail: String,
    /// The last part of its type: `operational-disconnect`, `usage-capped`.
    kind: String,
    connection_issue: String,
}

impl Problem {
    /// Reads the first problem of an answer or a line.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Problem> {
        Problem::of(&serde_json::from_slice(bytes).ok()?)
    }

    fn of(fields: &Fields<'_>) -> Option<Problem> {
        let inner = fields.object("disconnect").or_else(|| fields.objects("errors").next());
        let fields = inner.as_ref().unwrap_or(fields);
        // What the venue says goes to logs: in short, and in one line.
        let text = |name: &str| {
            let text = fields.text(name).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(300).collect::<String>()
        };
        let kind = text("type").rsplit('/').next().unwrap_or_default().to_owned();
        let title = [text("title"), text("reason"), text("message")].into_iter().find(|text| !text.is_empty());
        let problem =
            Problem { title: title?, detail: text("detail"), kind, connection_issue: text("connection_issue") };
        Some(problem)
    }

    #[must_use]
    pub fn is_too_many_connections(&self) -> bool {
        self.connection_issue == "TooManyConnections" || self.detail.contains("maximum allowed connection limit")
    }

    #[must_use]
    pub fn is_usage_cap(&self) -> bool {
        self.kind == "usage-capped" || self.title == "UsageCapExceeded"
    }

    #[must_use]
    pub fn is_no_rules(&self) -> bool {
        self.connection_issue == "RuleConfigurationIssue"
    }

    #[must_use]
    pub fn is_rule_cap(&self) -> bool {
        self.kind == "rule-cap" || self.title == "RulesCapExceeded" || self.title == "RuleLengthExceeded"
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if self.detail.is_empty() || self.detail == self.title { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Reads a line.
///
/// # Errors
/// It is no object of the venue's, or a post without id or text.
pub fn parse(line: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    let text = std::str::from_utf8(line).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    match scan::scan(text) {
        Some(parts) => parts.into_line(ts_recv, ctx).map(Message::Post),
        None => parse_any_order(text, ts_recv, ctx),
    }
}

/// As [`parse`], whatever the line looks like.
///
/// # Errors
/// As [`parse`].
pub fn parse_any_order(text: &str, ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let Some(data) = fields.object("data") else {
        return Ok(Problem::of(&fields).map_or(Message::Unknown, Message::Problem));
    };
    let mut parts = Parts {
        id: data.text("id").or_else(|| digits(data.get("id")?.get())),
        text: data.text("text"),
        time: data.text("created_at"),
        untimed: data.get("created_at").is_some(),
        lang: data.text("lang"),
        author_id: data.text("author_id"),
        ..Parts::default()
    };
    // The whole text of a long post; `text` is its beginning.
    if let Some(whole) = data.object("note_tweet").and_then(|note| note.text("text")) {
        parts.text = Some(whole);
    }
    if let Some(ids) = data.get("edit_history_tweet_ids") {
        let ids: Vec<Cow<'_, str>> =
            serde_json::from_str::<Vec<String>>(ids.get()).unwrap_or_default().into_iter().map(Cow::Owned).collect();
        parts.history = ids;
    }
    let count = |fields: &Fields<'_>, name: &str| fields.get(name).and_then(|raw| plain(raw).parse::<i64>().ok());
    if let Some(metrics) = data.object("public_metrics") {
        for name in metrics.names().filter(|name| is_name(name)) {
            let times = metrics.names().filter(|other| *other == name).count();
            if let Some(count) = count(&metrics, name).filter(|_| times == 1) {
                parts.metrics.push((SmolStr::new(name), count));
            }
        }
    }
    let includes = fields.object("includes");
    let author = parts.author_id.as_deref().unwrap_or_default();
    let mut users = includes.iter().flat_map(|includes| includes.objects("users"));
    if let Some(user) = users.find(|user| user.text("id").as_deref() == Some(author)) {
        parts.username = user.text("username");
        parts.location = user.text("location");
        if let Some(metrics) = user.object("public_metrics") {
            parts.followers = count(&metrics, "followers_count");
            parts.posts = count(&metrics, "tweet_count");
        }
    }
    if let Some(place) = data.object("geo").and_then(|geo| geo.text("place_id")) {
        let mut places = includes.iter().flat_map(|includes| includes.objects("places"));
        let place = places.find(|other| other.text("id").as_deref() == Some(&*place));
        parts.location = place.and_then(|place| place.text("full_name")).or(parts.location);
    }
    parts.tags = fields.objects("matching_rules").filter_map(|rule| rule.text("tag")).collect();
    let mut line = parts.into_line(ts_recv, ctx)?;
    let of_line = fields.names().filter(|name| !KNOWN.contains(name));
    let of_data = data.names().filter(|name| !KNOWN_OF_DATA.contains(name));
    line.unknown = of_line.chain(of_data).take(UNKNOWN_FIELDS).map(SmolStr::from).collect();
    Ok(Message::Post(line))
}

/// Fields of a line that this version reads, or knows and leaves out.
const KNOWN: [&str; 4] = ["data", "includes", "matching_rules", "errors"];
const KNOWN_OF_DATA: [&str; 10] = [
    "id",
    "text",
    "created_at",
    "author_id",
    "lang",
    "public_metrics",
    "edit_history_tweet_ids",
    "note_tweet",
    "geo",
    "edit_controls",
];

/// What a line tells of a post, by either reader.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) time: Option<Cow<'a, str>>,
    /// There is a time that is no text.
    pub(super) untimed: bool,
    pub(super) lang: Option<Cow<'a, str>>,
    pub(super) author_id: Option<Cow<'a, str>>,
    pub(super) username: Option<Cow<'a, str>>,
    pub(super) location: Option<Cow<'a, str>>,
    pub(super) followers: Option<i64>,
    pub(super) posts: Option<i64>,
    /// Ids of the post as it was edited, oldest first.
    pub(super) history: Vec<Cow<'a, str>>,
    pub(super) metrics: Vec<(SmolStr, i64)>,
    pub(super) tags: Vec<Cow<'a, str>>,
}

impl Parts<'_> {
    fn into_line(self, ts_recv: UnixNanos, ctx: &Ctx) -> Result<Line, ParseError> {
        let id = self
            .id
            .filter(|id| !id.is_empty() && id.len() <= ID_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        let id = id.ok_or_else(|| ParseError::new(reason::SHAPE, "a post without id"))?;
        let text = self.text.ok_or_else(|| ParseError::new(reason::SHAPE, "a post without text"))?;
        let time = self.time.as_deref().and_then(|time| UnixNanos::parse_rfc3339(time.as_bytes()));
        let unread = match (time, self.time.is_some() || self.untimed) {
            (None, true) => Some("unreadable time"),
            (None, false) => Some("no time"),
            _ => None,
        };
        let before = self.history.iter().take_while(|other| **other != id).last();
        let edit_of = before.filter(|before| before.len() <= ID_BYTES).map(SmolStr::new);
        let mut topics: Vec<SmolStr> = self.tags.iter().filter(|tag| !tag.is_empty()).map(SmolStr::new).collect();
        if topics.len() > 1 {
            topics.sort_unstable();
            topics.dedup();
            topics.truncate(TOPICS);
        }
        let mut metrics = self.metrics;
        metrics.truncate(METRICS);
        metrics.extend(self.followers.map(|count| (SmolStr::new_static("followers_count"), count)));
        metrics.extend(self.posts.map(|count| (SmolStr::new_static("tweet_count"), count)));
        let post = Post {
            id: SmolStr::new(&id),
            author: self.username.or(self.author_id).map(SmolStr::from),
            text: decoded(&text),
            lang: self.lang.map(SmolStr::from),
            location: self.location.filter(|place| !place.is_empty()).map(SmolStr::from),
            sentiment: None,
            metrics,
            edit_of,
            topics,
        };
        let symbol = post.topics.first().cloned().unwrap_or_default();
        let event = ctx.event(symbol, time, ts_recv, Flags::NONE, Body::Post(Box::new(post)));
        let odd_time = unread.or_else(|| event.flags.contains(Flags::ABSURD_TIME).then_some("absurd time"));
        Ok(Line { event, odd_time, unknown: Vec::new() })
    }
}

/// A number that is an id.
fn digits(text: &str) -> Option<Cow<'_, str>> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(Cow::Borrowed(text))
}

/// Whether a name of the venue's may become a name of ours: then it has no blank, quote or break.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= ID_BYTES && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The text that somebody wrote: entities decoded, once, from left to right.
fn decoded(text: &str) -> SmolStr {
    let Some(first) = memchr::memchr(b'&', text.as_bytes()) else { return SmolStr::new(text) };
    let mut out = String::with_capacity(text.len());
    let (before, mut rest) = text.split_at(first);
    out.push_str(before);
    while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = entity(rest);
        let (c, len) = entity.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[len..];
    }
    out.push_str(rest);
    SmolStr::from(out)
}

/// The entity that a text begins with, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    /// `&#x10FFFF;`
    const LONGEST: usize = 10;
    let end = text.bytes().take(LONGEST).position(|b| b == b';')?;
    let name = &text[1..end];
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']);
            let (digits, radix) = hex.map_or((number, 10), |hex| (hex, 16));
            let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
            char::from_u32(u32::from_str_radix(digits, radix).ok().filter(|_| plain)?)?
        }
    };
    Some((c, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_decoded_exactly_once() {
        for (text, want) in [
            ("5 &gt; 4 &amp;&amp; 3 &lt; 4", "5 > 4 && 3 < 4"),
            ("&amp;lt;b&amp;gt; &amp;amp;", "&lt;b&gt; &amp;"),
            ("AT&T & co;", "AT&T & co;"),
            ("&quot;&apos;&#39;&#x1F680;&#128640;", "\"''🚀🚀"),
            ("&#xD800; &#; &#x; &#+5; &unknown; &", "&#xD800; &#; &#x; &#+5; &unknown; &"),
            ("é&é;&amp", "é&é;&amp"),
        ] {
            assert_eq!(decoded(text), want, "{text}");
        }
    }
}
