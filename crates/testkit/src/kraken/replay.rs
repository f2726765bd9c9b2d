//! Recorded frames, served as they were: byte for byte, at their own pace.
//!
//! ```text
//!  {"channel":"status",…}         on connecting
//!  {"method":"subscribe",…}       as the ack of that subscription, with the request's id put in
//!  {"channel":"book",…}           in their order, when everything recorded is subscribed
//!  {"channel":"heartbeat"}
//! ```
//!
//! The pace is that of the timestamps in the data; a line without one follows at once. A symbol
//! that is subscribed again has found the recording broken: it is acknowledged, and the replay ends.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::{Channel, Frame, Item, Key};
use super::hub::{Hub, Out};
use super::log::Delivery;
use super::market::Listed;
use super::text::parse_time;

/// A recording waits so long for the rest of its subscriptions.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(1);

/// Frames that one recorded frame becomes by faults, at most: itself, twice, and one held before it.
const MOST_DUE: usize = 3;

/// How fast recorded frames go out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times the original.
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.trim_end_matches(['x', 'X']).parse() {
            Ok(times) if times > 0.0 && times < 1e6 => Ok(Speed::Times(times)),
            _ => Err(format!("`{text}` is no speed: a factor such as 1 or 2.5, or max")),
        }
    }
}

/// A file of frames.
#[derive(Debug)]
pub(crate) struct Recording {
    status: Option<Arc<Frame>>,
    subscriptions: Vec<Recorded>,
    frames: Vec<(Duration, Arc<Frame>)>,
}

/// A subscription that the recording has data of.
#[derive(Debug)]
struct Recorded {
    channel: Channel,
    symbol: String,
    /// Depth or interval, where the ack tells it.
    argument: Option<u32>,
    ack: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    channel: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    method: Option<&'a str>,
    result: Option<AckResult<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AckResult<'a> {
    channel: &'a str,
    #[serde(default)]
    symbol: &'a str,
    depth: Option<u32>,
    interval: Option<u32>,
}

#[derive(Deserialize)]
struct DataItem<'a> {
    #[serde(default)]
    symbol: &'a str,
    timestamp: Option<&'a str>,
    trade_id: Option<u64>,
    checksum: Option<u32>,
}

impl Recording {
    /// Reads a file of one frame a line, plain or gzipped, and the pairs that it is about.
    ///
    /// # Errors
    /// It cannot be read, or holds no data of any pair.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Vec<Listed>)> {
        let mut bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text)?;
            bytes = text;
        }
        let mut recording = Recording { status: None, subscriptions: Vec::new(), frames: Vec::new() };
        let mut listed: Vec<Listed> = Vec::new();
        let (mut first_ns, mut at) = (None, Duration::ZERO);
        let lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        for line in lines.filter(|line| !line.is_empty()) {
            let parsed: Option<Line<'_>> = serde_json::from_slice(line).ok();
            let (frame, stamp_ns) = parsed.as_ref().map_or_else(
                || (Frame::new(Channel::Status, "update", line, Vec::new()), None),
                |parsed| data_frame(line, parsed),
            );
            if let Some(parsed) = &parsed {
                if recording.note_ack(line, parsed) {
                    continue;
                }
                if parsed.channel == Some("status") && recording.status.is_none() && recording.frames.is_empty() {
                    recording.status = Some(Arc::new(frame));
                    continue;
                }
            }
            for item in &frame.items {
                recording.note_data(frame.channel, &item.symbol);
                if !listed.iter().any(|listed| listed.symbol == *item.symbol) {
                    listed.extend(list(&item.symbol, &line[item.at.clone()]));
                }
            }
            if let Some(stamp_ns) = stamp_ns {
                let since = stamp_ns - *first_ns.get_or_insert(stamp_ns);
                at = at.max(Duration::from_nanos(u64::try_from(since).unwrap_or(0)));
            }
            recording.frames.push((at, Arc::new(frame)));
        }
        anyhow::ensure!(!listed.is_empty(), "{} holds no data of any pair", path.display());
        Ok((recording, listed))
    }

    fn note_ack(&mut self, line: &[u8], parsed: &Line<'_>) -> bool {
        let (Some("subscribe"), Some(result)) = (parsed.method, &parsed.result) else { return false };
        let (Some(channel), Ok(ack)) = (Channel::from_name(result.channel), std::str::from_utf8(line)) else {
            return false;
        };
        let (argument, symbol) = (result.depth.or(result.interval), result.symbol.to_owned());
        self.subscriptions.push(Recorded { channel, symbol, argument, ack: Some(ack.to_owned()) });
        true
    }

    fn note_data(&mut self, channel: Channel, symbol: &str) {
        if !self.subscriptions.iter().any(|known| known.channel == channel && known.symbol == symbol) {
            self.subscriptions.push(Recorded { channel, symbol: symbol.to_owned(), argument: None, ack: None });
        }
    }

    pub(crate) fn status(&self) -> Option<&Arc<Frame>> {
        self.status.as_ref()
    }
}

/// The frame of a line, with the time it was sent.
fn data_frame(line: &[u8], parsed: &Line<'_>) -> (Frame, Option<i64>) {
    let channel = parsed.channel.and_then(Channel::from_name).unwrap_or(Channel::Status);
    let kind = if parsed.kind == Some("snapshot") { "snapshot" } else { "update" };
    let texts: Vec<&RawValue> = parsed
        .data
        .and_then(|data| serde_json::from_str(data.get()).ok())
        .filter(|_| channel != Channel::Status)
        .unwrap_or_default();
    let mut last_ns = None;
    let items = texts.into_iter().filter_map(|text| {
        let item: DataItem<'_> = serde_json::from_str(text.get()).ok()?;
        last_ns = item.timestamp.and_then(parse_time).max(last_ns);
        // The item borrows from the line: its place is the distance between the two.
        let from = text.get().as_ptr() as usize - line.as_ptr() as usize;
        let key = item.trade_id.map(Key::Trade).or(item.checksum.map(Key::Checksum)).unwrap_or(Key::None);
        Some(Item { symbol: item.symbol.into(), key, at: from..from + text.get().len() })
    });
    let items = items.collect();
    (Frame::new(channel, kind, line, items), last_ns)
}

/// Precisions of a pair, from the first numbers that are told of it.
fn list(symbol: &str, item: &[u8]) -> Option<Listed> {
    let item = std::str::from_utf8(item).ok()?;
    let number = |names: &[&str]| {
        let rest = names.iter().find_map(|name| item.split_once(&format!("\"{name}\":")))?.1;
        rest.split([',', '}']).next().map(|number| number.trim().to_owned())
    };
    let decimals = |number: &str| u8::try_from(number.split_once('.').map_or(0, |(_, part)| part.len())).ok();
    let (price, qty) = (number(&["price", "last", "close"])?, number(&["qty", "bid_qty", "volume"])?);
    let anchor = price.replace('.', "").parse().ok().filter(|&ticks: &i64| ticks > 1_000).unwrap_or(100_000);
    Some(Listed { symbol: symbol.into(), price_decimals: decimals(&price)?, qty_decimals: decimals(&qty)?, anchor })
}

/// The replay to one connection.
#[derive(Debug)]
pub(crate) struct Playing {
    /// Subscribed so far, as indices of [`Recording::subscriptions`].
    subscribed: Vec<usize>,
    complete: Arc<Notify>,
    begun: bool,
    end: CancellationToken,
}

/// What a recording says to a subscription.
pub(crate) enum Answer {
    /// The recorded ack; `again` when it was subscribed before on this connection.
    Ack { text: Option<String>, again: bool },
    /// Recorded with another depth or interval.
    Refused,
    /// Not in the recording.
    Unknown,
}

impl Hub {
    /// Begins or ends the replay to a connection as a subscription wants it.
    pub(crate) fn ask_recording(&mut self, conn: u64, channel: Channel, symbol: &str, argument: u32) -> Answer {
        let Some((recording, _)) = &self.recording else { return Answer::Unknown };
        let known = recording.subscriptions.iter().enumerate();
        let Some((at, known)) = known.into_iter().find(|(_, known)| known.channel == channel && known.symbol == symbol)
        else {
            return Answer::Unknown;
        };
        if known.argument.is_some_and(|recorded| recorded != argument) {
            return Answer::Refused;
        }
        let (text, all) = (known.ack.clone(), recording.subscriptions.len());
        let playing = self.playing.entry(conn).or_insert_with(|| Playing {
            subscribed: Vec::new(),
            complete: Arc::default(),
            begun: false,
            end: CancellationToken::new(),
        });
        if playing.subscribed.contains(&at) {
            playing.end.cancel();
            return Answer::Ack { text, again: true };
        }
        playing.subscribed.push(at);
        if playing.subscribed.len() == all {
            playing.complete.notify_one();
        }
        Answer::Ack { text, again: false }
    }

    /// Begins to play to a connection that has just subscribed for the first time, after its ack.
    pub(crate) fn play(&mut self, conn: u64) {
        let (Some((recording, speed)), Some(playing)) = (&self.recording, self.playing.get_mut(&conn)) else { return };
        let Some(hub) = self.me.upgrade() else { return };
        let Some(client) = self.conns.get_mut(&conn) else { return };
        // Ended, it does not begin again on this connection.
        if client.playing || playing.begun {
            return;
        }
        (client.playing, playing.begun) = (true, true);
        let complete = Arc::clone(&playing.complete);
        let play = play(conn, client.out.clone(), Arc::clone(recording), *speed, complete, Arc::clone(&hub));
        let (played, gone) = (playing.end.clone(), client.end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = play => {}
                () = played.cancelled() => {}
                () = gone.cancelled() => {}
            }
            // From here on the connection has the fake's own heartbeats.
            if let Some(client) = hub.lock().unwrap_or_else(PoisonError::into_inner).conns.get_mut(&conn) {
                client.playing = false;
            }
        });
    }

    /// Which of the frames that a recorded frame becomes are due, after the faults.
    fn replayed(&mut self, conn: u64, frame: &Arc<Frame>) -> Vec<(Arc<Frame>, Delivery)> {
        let Some((recording, _)) = &self.recording else { return Vec::new() };
        if frame.items.is_empty() {
            return vec![(Arc::clone(frame), Delivery::Sent)];
        }
        let subscribed = self.playing.get(&conn).is_some_and(|playing| {
            let mut known = playing.subscribed.iter().map(|&at| &recording.subscriptions[at]);
            known.any(|known| {
                known.channel == frame.channel && frame.items.iter().any(|item| *item.symbol == *known.symbol)
            })
        });
        if !subscribed {
            return Vec::new();
        }
        let symbol = frame.symbol().to_owned();
        let silenced = self.market.find(&symbol).is_some_and(|pair| {
            let subs = self.routes[pair].of(frame.channel);
            subs.is_some_and(|subs| subs.iter().any(|sub| sub.conn == conn && sub.silenced))
        });
        if silenced {
            return vec![(Arc::clone(frame), Delivery::Silenced)];
        }
        let mut due = Vec::new();
        if frame.channel == Channel::Trade && frame.kind == "update" && self.active.drops_trade(&symbol) {
            due.push((Arc::clone(frame), Delivery::Dropped));
            return due;
        }
        let corrupt = frame.channel == Channel::Book && self.active.corrupts(&symbol);
        let altered = corrupt.then(|| alter_level(frame)).flatten();
        let delivery = if altered.is_some() { Delivery::Corrupted } else { Delivery::Sent };
        let frame = altered.unwrap_or_else(|| (**frame).clone());
        self.active.deliver(frame, delivery, &mut |frame, delivery| due.push((Arc::new(frame), delivery)));
        due
    }
}

async fn play(
    conn: u64,
    out: tokio::sync::mpsc::Sender<Out>,
    recording: Arc<Recording>,
    speed: Speed,
    complete: Arc<Notify>,
    hub: Arc<Mutex<Hub>>,
) {
    let _ = tokio::time::timeout(SUBSCRIBE_WAIT, complete.notified()).await;
    let begin = Instant::now();
    for (at, frame) in &recording.frames {
        if let Speed::Times(times) = speed {
            tokio::time::sleep_until(begin + at.div_f64(times)).await;
        }
        // Waits for a slow client: a recording has no market that would run away.
        let Ok(places) = out.reserve_many(MOST_DUE).await else { return };
        // Under the lock that ends a replay and acknowledges: nothing comes behind that ack.
        let mut hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
        if hub.playing.get(&conn).is_none_or(|playing| playing.end.is_cancelled()) {
            return;
        }
        for (place, (frame, delivery)) in places.zip(hub.replayed(conn, frame)) {
            place.send(Out::Frame(frame, delivery));
        }
    }
}

/// The frame with the last digit of its last size that is not zero changed.
fn alter_level(frame: &Frame) -> Option<Frame> {
    let mut payload = frame.payload().to_vec();
    let text = std::str::from_utf8(frame.payload()).ok()?;
    let sizes = text.rmatch_indices("\"qty\":").map(|(at, key)| at + key.len());
    let mut ends = sizes.filter_map(|from| {
        let len = text[from..].find([',', '}'])?;
        text[from..from + len].bytes().any(|byte| matches!(byte, b'1'..=b'9')).then_some(from + len - 1)
    });
    let digit = payload.get_mut(ends.next()?)?;
    *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
    Some(Frame::new(frame.channel, frame.kind, &payload, frame.items.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_factor_or_max() {
        for (text, want) in
            [("1", Some(Speed::Times(1.0))), ("2.5x", Some(Speed::Times(2.5))), ("max", Some(Speed::Max))]
        {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
        for text in ["0", "-1", "fast", "inf", "NaN"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
