//! Recorded frames from files: the same parsers, the same books, no network.
//!
//! ```text
//! {"channel":"book",…}                              a frame a line, as the venue sent it
//! 1618678134.213106: [992,{"b":[…]},"book-10",…]    with the moment it was received (cryptofeed's recordings)
//! {"op":"mcm",…}                                    Betfair's historic files, and recordings of its stream
//! wss://… <- …                                      anything else: the recorder's own notes, skipped
//! ```
//!
//! `.gz` and `.bz2` are unpacked. Events carry the flag `replayed`; with a receive time in the line they carry
//! that, else the present. Every append ends with a `Position` (the line), so that a restart goes on behind
//! it; what lies before is read once more, without a word, to have the books again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tapedeck_market::{Body, Event, Flags, GapCause, Position, SmolStr, UnixNanos};

use super::betfair::line as betfair;
use super::betfair::markets::{Joiner, Markets};
use super::kraken::books::{Books, Policy, Verdict};
use super::kraken::candles::Candles;
use super::kraken::message::{Ctx, Message, ParseError};
use super::kraken::sequence::TradeIds;
use super::kraken::{parse, v1};
use super::x;
use super::{Finished, Kind, Outlet, Session, Setup, Source};

mod lines;

pub const KIND: Kind = Kind {
    name: "file",
    about: "recorded frames from files: Kraken WebSocket v2 and v1, Betfair, lines of X; plain, .gz or .bz2",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: None,
};

/// Lines of one append at full speed: one Position for all of them.
const LINES_AN_APPEND: usize = 64;

const BOOK: SmolStr = SmolStr::new_static("book");
const TRADE: SmolStr = SmolStr::new_static("trade");

/// `[source.NAME]` with `kind = "file"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files to read, one after the other; relative to the working folder. No default.
    pub paths: Vec<PathBuf>,
    /// `kraken-v2` (WebSocket v2), `kraken-v1` (the array format), `betfair` (historic files and recordings of the
    /// stream) or `x` (lines of the filtered stream, scored as they would be live). Default: `kraken-v2`.
    #[serde(default)]
    pub format: Format,
    /// `"max"`, or how many times faster than recorded: `1.0` keeps the original timing. Default: `"max"`.
    #[serde(default)]
    pub speed: Speed,
    /// At the end of the last file, wait for more lines. Not for `.gz` and `.bz2`. Default: `false`.
    #[serde(default)]
    pub follow: bool,
    /// Levels a side of the recorded books, where the recording does not tell. Default: 10.
    #[serde(default = "book_depth")]
    pub book_depth: u32,
    /// `strict`, `warn` or `off`, as for `kind = "kraken"`. Default: `strict`.
    #[serde(default)]
    pub checksum: Policy,
}

/// What the frames are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    KrakenV2,
    KrakenV1,
    Betfair,
    X,
}

impl Format {
    fn venue(self) -> SmolStr {
        SmolStr::new_static(match self {
            Format::KrakenV2 | Format::KrakenV1 => "kraken",
            Format::Betfair => "betfair",
            Format::X => "x",
        })
    }
}

/// How fast the recording is played.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Speed {
    Word(Fastest),
    Times(f64),
}

impl Default for Speed {
    fn default() -> Self {
        Speed::Word(Fastest::Max)
    }
}

/// The word for "as fast as it goes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fastest {
    Max,
}

fn book_depth() -> u32 {
    10
}

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config: Config = toml::Value::Table(setup.table).try_into()?;
    ensure!(!config.paths.is_empty(), "paths is empty: name at least one file");
    if let Speed::Times(times) = config.speed {
        ensure!(times.is_finite() && times > 0.0, "speed = {times} must be above zero, or \"max\"");
    }
    let follows_packed = config.follow && config.paths.last().is_some_and(|path| !lines::is_plain(path));
    ensure!(!follows_packed, "follow: a packed file does not grow by lines");
    let venue = config.format.venue();
    Ok(vec![Session { name: setup.name, venue, source: Box::new(Replay { config }) }])
}

struct Replay {
    config: Config,
}

#[async_trait]
impl Source for Replay {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let mut player = Player::new(&self.config, out);
        let last = self.config.paths.len() - 1;
        for (at, path) in self.config.paths.iter().enumerate() {
            player.play(path, self.config.follow && at == last).await.with_context(|| format!("{}", path.display()))?;
        }
        Err(Finished.into())
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let (mut frames, mut rejected) = (0_u64, 0_u64);
        for path in &self.config.paths {
            let mut reader = Reader::new(self.config.format);
            let mut lines = lines::open(path, false).with_context(|| format!("{}", path.display()))?;
            while let Some(line) = lines.recv().await.transpose().with_context(|| format!("{}", path.display()))? {
                frames += 1;
                let ctx = Ctx { source: SmolStr::new_static("check"), venue: self.config.format.venue() };
                rejected += u64::from(reader.read(&line.frame, UnixNanos::now(), &ctx).is_err());
            }
        }
        ensure!(frames > 0, "no line holds a frame; is `format` right?");
        ensure!(rejected < frames, "none of {frames} frames can be read; is `format` right?");
        Ok(format!("{frames} frames, {rejected} of them unreadable"))
    }
}

/// Turns lines into events, in the course of one session.
struct Player<'a> {
    out: &'a Outlet,
    ctx: Ctx,
    reader: Reader,
    books: Books,
    ids: TradeIds,
    candles: Candles,
    /// Levels a side, as the recorded ack told.
    depth: u32,
    live: HashSet<(SmolStr, SmolStr)>,
    pace: Pace,
    /// What goes into the next append, of the lines up to `line` of the file that `key` names.
    append: Vec<Event>,
    lines: usize,
    line: u64,
    key: SmolStr,
}

impl<'a> Player<'a> {
    fn new(config: &Config, out: &'a Outlet) -> Player<'a> {
        Player {
            out,
            ctx: Ctx { source: out.source().clone(), venue: out.venue().clone() },
            reader: Reader::new(config.format),
            books: Books::new(config.book_depth, config.checksum),
            // Ids of the recording follow each other; what the tape ended with has nothing to do with them.
            ids: TradeIds::default(),
            candles: Candles::default(),
            depth: config.book_depth,
            live: HashSet::new(),
            pace: Pace::new(config.speed),
            append: Vec::new(),
            lines: 0,
            line: 0,
            key: SmolStr::default(),
        }
    }

    async fn play(&mut self, path: &Path, follow: bool) -> anyhow::Result<()> {
        self.key = SmolStr::from(format!("file {}", path.display()));
        let done = self.out.resume().positions.get(&self.key).and_then(|line| line.parse().ok()).unwrap_or(0_u64);
        let mut lines = lines::open(path, follow)?;
        while let Some(line) = lines.recv().await.transpose()? {
            let ts_recv = line.received.unwrap_or_else(UnixNanos::now);
            match self.reader.read(&line.frame, ts_recv, &self.ctx) {
                Ok(Message::Events(events)) if line.number <= done => self.remember(&events, ts_recv),
                Ok(Message::Events(events)) => {
                    let recorded = line.received.or_else(|| events.first().and_then(|event| event.ts_event));
                    self.pace.wait(recorded).await;
                    self.out.heard(ts_recv, line.frame.len());
                    self.judge(events, ts_recv).await?;
                    (self.line, self.lines) = (line.number, self.lines + 1);
                }
                Ok(Message::Ack(ack)) => self.depth = ack.depth.unwrap_or(self.depth),
                Ok(_) => {}
                Err(error) if line.number > done => {
                    self.out.reject(&line.frame, ts_recv, error.reason, &error).await?;
                }
                Err(_) => {}
            }
            // At a recorded pace each line is said at once; at full speed as many as have been read.
            if self.pace.times.is_some() || self.lines >= LINES_AN_APPEND || lines.is_empty() {
                self.say().await?;
            }
        }
        self.say().await
    }

    /// Emits what is held, with the position behind it.
    async fn say(&mut self) -> anyhow::Result<()> {
        self.lines = 0;
        let Some(last) = self.append.last() else {
            return Ok(());
        };
        let position = Position { key: self.key.clone(), value: SmolStr::from(self.line.to_string()) };
        let position = self.out.event(SmolStr::default(), None, last.ts_recv, Body::Position(position));
        let mut append = std::mem::take(&mut self.append);
        append.push(position);
        Ok(self.out.emit(append).await?)
    }

    /// Takes a frame that an earlier run has said already.
    fn remember(&mut self, events: &[Event], ts_recv: UnixNanos) {
        for event in events {
            match &event.body {
                Body::Book(update) => drop(self.books.apply(&event.symbol, update, ts_recv)),
                Body::Trade(trade) => drop(self.jump(&event.symbol, trade.id.as_deref(), ts_recv)),
                Body::Candle(_) => drop(self.candles.news(vec![event.clone()])),
                _ => {}
            }
        }
    }

    /// Adds a frame's events to the next append, and says first what they say about their subscription.
    async fn judge(&mut self, mut events: Vec<Event>, ts_recv: UnixNanos) -> anyhow::Result<()> {
        for event in &mut events {
            event.flags = event.flags.with(Flags::REPLAYED);
            let channel = match &mut event.body {
                Body::Book(update) => {
                    update.depth.get_or_insert(self.depth);
                    match self.books.apply(&event.symbol, update, ts_recv) {
                        // Whole without a snapshot: it lay before the line that this run began at.
                        Verdict::Fresh | Verdict::Whole => {
                            let symbol = event.symbol.clone();
                            self.delivers(symbol, BOOK, ts_recv).await?;
                        }
                        Verdict::Broken { since, ours, theirs, .. } => {
                            self.say().await?;
                            let detail = format!("checksum {ours} is not the venue's {theirs}");
                            let (symbol, channel) = (Some(event.symbol.clone()), Some(BOOK));
                            self.live.remove(&(event.symbol.clone(), BOOK));
                            self.out.lost(symbol, channel, GapCause::Checksum, since, detail).await?;
                        }
                        Verdict::Suspect { ours, theirs } => {
                            tracing::warn!(source = %self.ctx.source, symbol = %event.symbol, ours, theirs, "book disagrees with the recorded checksum");
                        }
                        Verdict::Adrift => {}
                    }
                    continue;
                }
                Body::Trade(trade) => {
                    if let Some((from, missing, detail)) = self.jump(&event.symbol, trade.id.as_deref(), ts_recv) {
                        self.say().await?;
                        let (symbol, channel) = (event.symbol.clone(), TRADE);
                        self.out
                            .hole(symbol, channel, GapCause::Sequence, from, ts_recv, Some(missing), detail)
                            .await?;
                    }
                    TRADE
                }
                Body::Post(_) => SmolStr::new_static("post"),
                Body::Ticker(_) => SmolStr::new_static("ticker"),
                Body::Quote(_) => SmolStr::new_static("quote"),
                Body::Odds(_) => SmolStr::new_static("odds"),
                Body::Order(_) => SmolStr::new_static("orders"),
                Body::Candle(candle) => SmolStr::from(format!("ohlc-{}", candle.interval_ns / 60_000_000_000)),
                _ => continue,
            };
            self.delivers(event.symbol.clone(), channel, ts_recv).await?;
        }
        let events = self.candles.news(events);
        self.append.extend(events);
        Ok(())
    }

    fn jump(&mut self, symbol: &SmolStr, id: Option<&str>, ts_recv: UnixNanos) -> Option<(UnixNanos, u64, String)> {
        let jump = self.ids.take(symbol, id?.parse().ok()?, ts_recv)?;
        Some((jump.from, jump.missing, format!("trade ids {} to {} never came", jump.before + 1, jump.after - 1)))
    }

    /// Says once of each subscription that it delivers.
    async fn delivers(&mut self, symbol: SmolStr, channel: SmolStr, ts_recv: UnixNanos) -> anyhow::Result<()> {
        if self.live.insert((symbol.clone(), channel.clone())) {
            self.say().await?;
            self.out.live(symbol, channel, ts_recv).await?;
        }
        Ok(())
    }
}

/// Plays a recording at a multiple of its own pace.
struct Pace {
    /// `None`: as fast as it goes.
    times: Option<f64>,
    /// When it began, here and in the recording.
    start: Option<(tokio::time::Instant, UnixNanos)>,
}

impl Pace {
    fn new(speed: Speed) -> Pace {
        let times = if let Speed::Times(times) = speed { Some(times) } else { None };
        Pace { times, start: None }
    }

    async fn wait(&mut self, recorded: Option<UnixNanos>) {
        let (Some(times), Some(recorded)) = (self.times, recorded) else {
            return;
        };
        let (began, first) = *self.start.get_or_insert_with(|| (tokio::time::Instant::now(), recorded));
        let played = Duration::try_from_secs_f64(recorded.saturating_since(first).as_secs_f64() / times);
        tokio::time::sleep_until(began + played.unwrap_or(Duration::ZERO)).await;
    }
}

/// Reads frames of one format, with what has to be known of those before.
struct Reader {
    format: Format,
    markets: Markets,
    joiner: Joiner,
}

impl Reader {
    fn new(format: Format) -> Reader {
        Reader { format, markets: Markets::default(), joiner: Joiner::default() }
    }

    fn read(&mut self, frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
        match self.format {
            Format::KrakenV2 => parse::parse(frame, ts_recv, ctx),
            Format::KrakenV1 => v1::parse(frame, ts_recv, ctx),
            Format::Betfair => match betfair::parse(frame, ts_recv, ctx)? {
                betfair::Message::Markets(changes) | betfair::Message::Orders(changes) => {
                    let Some(mut changes) = self.joiner.take(changes, frame.len())? else {
                        return Ok(Message::Unknown);
                    };
                    self.markets.judge(&mut changes);
                    Ok(Message::Events(changes.events))
                }
                _ => Ok(Message::Unknown),
            },
            Format::X => x::line::parse(frame, ts_recv, ctx).map(|message| match message {
                x::line::Message::Post(mut line) => {
                    x::sentiment::score_post(&mut line.event);
                    Message::Events(vec![line.event])
                }
                _ => Message::Unknown,
            }),
        }
    }
}
