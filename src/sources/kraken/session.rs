//! One connection to Kraken: subscribes, listens, and says of each subscription whether it is whole.
//!
//! The loop has one order: what is due is sent, then frames are taken as long as any is ready, then each
//! subscription is looked after. A frame is one emit. What a frame says about its subscription (an
//! ack, a snapshot, a broken checksum, a jump of ids) goes to the recorder *before* the frame's
//! events, so that they stand on the right side of the gap.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tapedeck_market::{Body, Event, GapCause, Instrument, Raw, SmolStr, UnixNanos};

use super::books::{Books, Verdict};
use super::candles::Candles;
use super::config::{ChannelName, Config, TickerFrom, covers};
use super::message::{Ack, Ctx, Message, Refusal};
use super::names::Names;
use super::parse::parse;
use super::sequence::{SYMBOLS, TradeIds};
use super::subs::{Channel, Finding, Key, Subs};
use crate::config::Secret;
use crate::intake::Hole;
use crate::sources::Outlet;
use crate::sources::liveness::{DEAD, Rhythm};
use crate::sources::socket::{Frame, Socket};

/// How often subscriptions are looked after.
const LOOK: Duration = Duration::from_millis(500);
/// A silent socket is asked whether it is there: half of [`DEAD`].
const PING_AFTER: Duration = Duration::from_secs(5);
/// A busy connection is asked as often, to know how far the venue is.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// Frames taken in a row before timers and requests get their turn.
const FRAMES_IN_A_ROW: u32 = 1_024;
/// When taking frames stopped us for longer than this, silence was ours.
const DEAF: Duration = Duration::from_secs(1);
/// Bytes of a frame that are kept as it came: no frame of data is larger, and a record of the tape has an end.
const RAW_BYTES: usize = 1 << 20;
/// Different warnings that are remembered, so that each is logged once.
const WARNINGS: usize = 256;

/// What outlives a session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ids: TradeIds,
    candles: Candles,
    rhythms: HashMap<Key, Rhythm>,
    instruments: HashMap<SmolStr, Instrument>,
    pub(super) names: Names,
    warned: HashSet<String>,
}

/// Which half of the venue a session talks to.
#[derive(Debug)]
pub(super) enum Role {
    Public,
    /// With the token of this connection.
    Private(Secret),
}

pub(super) struct Feed<'a> {
    config: &'a Config,
    memory: &'a mut Memory,
    out: &'a Outlet,
    ctx: Ctx,
    socket: Socket,
    subs: Subs,
    books: Books,
    /// The asset list, while it is on its way.
    names: Option<BoxFuture<'a, anyhow::Result<Names>>>,
    /// The symbols of the venue's list, delisted ones left out, once it is there.
    listed: Option<HashSet<SmolStr>>,
    /// Whether the venue trades as usual: while it does not, silence is no stall.
    open: bool,
    last_bytes: Instant,
    pinged: bool,
    /// When the last ping was sent, and whether it is answered.
    asked: Option<(Instant, bool)>,
}

fn now() -> Instant {
    // Tokio's clock, so that tests own it.
    tokio::time::Instant::now().into_std()
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        config: &'a Config,
        memory: &'a mut Memory,
        out: &'a Outlet,
        socket: Socket,
        role: Role,
        names: Option<BoxFuture<'a, anyhow::Result<Names>>>,
    ) -> Feed<'a> {
        let now = now();
        memory.ids.resume(&out.resume().last_trades);
        memory.candles.resume(&out.resume().positions);
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        let books = Books::new(config.book_depth, config.checksum);
        let (token, public) = match role {
            Role::Public => (None, true),
            Role::Private(token) => (Some(token), false),
        };
        let mut subs = Subs::new(config.book_depth, token, now);
        subs.remember(&out.resume().subscriptions);
        let (listed, open, last_bytes, pinged) = (None, true, now, false);
        let mut feed = Feed {
            config,
            memory,
            out,
            ctx,
            socket,
            subs,
            books,
            names,
            listed,
            open,
            last_bytes,
            pinged,
            asked: None,
        };
        if public {
            feed.subs.want(Channel::Instrument, SmolStr::default(), Rhythm::default(), now);
            for pair in config.pairs.iter().filter(|pair| !pair.contains('*')) {
                let symbol = feed.memory.names.symbol(pair);
                feed.want(&symbol, now);
            }
        } else {
            feed.subs.want(Channel::Executions, SmolStr::default(), Rhythm::default(), now);
        }
        feed
    }

    /// Runs until the connection is lost.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        if self.role_is_private() {
            // There is no list to wait for.
            self.end_unwanted().await?;
        }
        let mut next_look = now() + LOOK;
        loop {
            for text in self.subs.next(now()) {
                self.socket.send(text).await?;
            }
            let wake = self.subs.due_at().map_or(next_look, |due| due.min(next_look));
            tokio::select! {
                biased;
                frame = self.socket.next() => self.take(frame?).await?,
                names = arrived(&mut self.names) => self.learn_names(names).await?,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = now();
            if now >= next_look {
                next_look = now + LOOK;
                self.look(now).await?;
            }
        }
    }

    /// Keeps what the next session can use.
    pub(super) fn end(self) {
        self.memory.rhythms = self.subs.into_rhythms();
    }

    /// Takes a frame and all that are ready behind it.
    async fn take(&mut self, first: Frame) -> anyhow::Result<()> {
        let began = now();
        let mut frame = first;
        for left in (0..FRAMES_IN_A_ROW).rev() {
            let now = now();
            self.last_bytes = now;
            self.pinged = false;
            if let Some(bytes) = frame.data() {
                self.frame(&bytes, UnixNanos::now(), now).await?;
            }
            // What is taken out of the socket must be handled: behind the last one nothing is taken.
            match (left > 0).then(|| self.socket.ready()).flatten() {
                Some(next) => frame = next?,
                None => break,
            }
        }
        // The recorder held us up: what did not come meanwhile may lie in the socket.
        let now = now();
        if now.saturating_duration_since(began) > DEAF {
            self.subs.excuse(now);
            self.last_bytes = now;
        }
        Ok(())
    }

    async fn frame(&mut self, bytes: &Bytes, ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        self.out.heard(ts_recv, bytes.len());
        let raw = self.config.keep_raw.then(|| self.raw(bytes, ts_recv));
        match parse(bytes, ts_recv, &self.ctx) {
            Ok(Message::Events(events)) => return self.events(raw, events, ts_recv, now).await,
            Ok(Message::Ack(ack)) => self.ack(&ack, ts_recv, now).await?,
            Ok(Message::Refusal(refusal)) => self.refusal(&refusal, ts_recv, now).await?,
            Ok(Message::RateExceeded) => {
                tracing::warn!(source = %self.ctx.source, "the venue says we ask too fast, slowing down");
                self.subs.rate_exceeded(now);
            }
            Ok(Message::Pong { .. }) => {
                if let Some((sent, answered @ false)) = &mut self.asked {
                    *answered = true;
                    self.out.pinged(now.saturating_duration_since(*sent));
                }
            }
            Ok(Message::Heartbeat) => {}
            // Of a later protocol: data all the same.
            Ok(Message::Unknown) if raw.is_none() => self.out.emit(vec![self.raw(bytes, ts_recv)]).await?,
            Ok(Message::Unknown) => {}
            Err(error) => self.out.reject(bytes, ts_recv, error.reason, &error).await?,
        }
        Ok(self.out.emit(raw.into_iter().collect()).await?)
    }

    fn raw(&self, bytes: &Bytes, ts_recv: UnixNanos) -> Event {
        let body =
            Body::Raw(Raw { format: SmolStr::new_static("text"), frame: bytes[..bytes.len().min(RAW_BYTES)].to_vec() });
        self.out.event(SmolStr::default(), None, ts_recv, body)
    }

    /// A frame has one channel, so its first event tells what all of them are.
    async fn events(
        &mut self,
        raw: Option<Event>,
        mut events: Vec<Event>,
        ts_recv: UnixNanos,
        now: Instant,
    ) -> anyhow::Result<()> {
        let mut holes = Vec::new();
        match events.first().map(|event| &event.body) {
            Some(Body::Trade(_)) => holes = self.trades(&events, ts_recv, now).await?,
            Some(Body::Ticker(_)) => self.tickers(&events, ts_recv, now).await?,
            Some(Body::Book(_)) => self.book_updates(&mut events, ts_recv, now).await?,
            Some(Body::Candle(_)) => {
                self.each_heard(&events, ts_recv, now, |candle| match candle {
                    Body::Candle(c) => Channel::Ohlc(u32::try_from(c.interval_ns / 60_000_000_000).unwrap_or(0)),
                    _ => Channel::Ohlc(0),
                })
                .await?;
                events = self.memory.candles.news(events);
            }
            Some(Body::Instrument(_)) => {
                let whole = events.first().is_some_and(is_snapshot);
                events = self.listing(events, now).await?;
                if whole {
                    self.end_unlisted(now).await?;
                    self.end_unwanted().await?;
                }
            }
            Some(Body::Status(status)) => self.open = status.state == "online",
            _ => {}
        }
        if let Some(raw) = raw {
            events.insert(0, raw);
        }
        Ok(self.out.emit_behind(holes, events).await?)
    }

    /// Notes the trades of a frame; what its ids leave out.
    async fn trades(&mut self, events: &[Event], ts_recv: UnixNanos, now: Instant) -> anyhow::Result<Vec<Hole>> {
        self.each_heard(events, ts_recv, now, |_| Channel::Trade).await?;
        let id = |event: &'_ Event| match &event.body {
            Body::Trade(trade) => trade.id.as_ref().and_then(|id| id.parse::<u64>().ok()),
            _ => None,
        };
        let mut ids: Vec<_> = events.iter().filter_map(|e| id(e).map(|id| (id, &e.symbol, e.earliest()))).collect();
        // The order within a frame is the venue's business: only what a whole frame leaves out is missing.
        ids.sort_unstable();
        let mut holes = Vec::new();
        for (id, symbol, whole_at) in ids {
            if self.subs.get_mut(&(Channel::Trade, symbol.clone())).is_none() {
                continue;
            }
            if let Some(jump) = self.memory.ids.take(symbol, id, whole_at) {
                let ids = (jump.before + 1, jump.after - 1);
                holes.push(self.out.ids_missing(symbol.clone(), Channel::Trade.name(), jump.from, ts_recv, ids));
            }
        }
        Ok(holes)
    }

    async fn tickers(&mut self, events: &[Event], ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        self.each_heard(events, ts_recv, now, |_| Channel::Ticker).await?;
        for event in events {
            if let Body::Ticker(ticker) = &event.body
                && is_snapshot(event)
                && let Some(sub) = self.subs.get_mut(&(Channel::Trade, event.symbol.clone()))
            {
                sub.untraded(ticker.day.volume.is_none_or(|volume| volume.0.is_zero()));
            }
        }
        Ok(())
    }

    async fn book_updates(&mut self, events: &mut [Event], ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        for event in events {
            let (snapshot, whole_at) = (is_snapshot(event), event.earliest());
            let Body::Book(update) = &mut event.body else { continue };
            update.depth = Some(self.config.book_depth);
            let key = (Channel::Book, event.symbol.clone());
            // Of a symbol that was never asked for: recorded, but no book of ours.
            let Some(sub) = self.subs.get_mut(&key) else { continue };
            sub.heard(snapshot, now);
            let verdict = self.books.apply(&event.symbol, update, whole_at);
            match verdict {
                // A book is whole from its snapshot on, not from the ack.
                Verdict::Fresh => self.out.live(key.1, Channel::Book.name(), ts_recv).await?,
                Verdict::Whole | Verdict::Adrift => {}
                Verdict::Suspect { ours, theirs } => {
                    tracing::warn!(source = %self.ctx.source, symbol = %event.symbol, ours, theirs, "book disagrees with the venue's checksum");
                }
                Verdict::Broken { since, ours, theirs, pause } => {
                    let wait_ms = pause.as_millis() as u64;
                    tracing::warn!(source = %self.ctx.source, symbol = %event.symbol, ours, theirs, wait_ms, "book dropped, subscribing again");
                    self.subs.ask_again(&key, pause, now);
                    let (symbol, channel) = (Some(key.1), Some(Channel::Book.name()));
                    let detail = format!("checksum {ours} is not the venue's {theirs}");
                    self.out.lost(symbol, channel, GapCause::Checksum, since, detail).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes that each event's subscription delivers; a snapshot that overtook its ack counts as one.
    async fn each_heard(
        &mut self,
        events: &[Event],
        ts_recv: UnixNanos,
        now: Instant,
        channel: impl Fn(&Body) -> Channel,
    ) -> anyhow::Result<()> {
        for event in events {
            let key = (channel(&event.body), event.symbol.clone());
            if let Some(sub) = self.subs.get_mut(&key)
                && sub.heard(is_snapshot(event), now)
            {
                self.out.live(key.1, key.0.name(), ts_recv).await?;
            }
        }
        Ok(())
    }

    async fn ack(&mut self, ack: &Ack, ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        for warning in &ack.warnings {
            if self.memory.warned.len() < WARNINGS && self.memory.warned.insert(warning.clone()) {
                tracing::warn!(source = %self.ctx.source, channel = %ack.channel, warning, "the venue warns");
            }
        }
        match self.subs.acked(ack, now) {
            Some((Channel::Book, _)) | None => Ok(()),
            Some((channel, symbol)) => Ok(self.out.live(symbol, channel.name(), ts_recv).await?),
        }
    }

    async fn refusal(&mut self, refusal: &Refusal, ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        // The token is this connection's; another one needs another connection.
        if refusal.error.contains("ESession:Invalid session") {
            bail!("Kraken says {}", refusal.error);
        }
        for (channel, symbol) in self.subs.refused(refusal, now) {
            let key = (channel, symbol.clone());
            if self.subs.get_mut(&key).is_some() {
                if self.is_listed(&symbol) {
                    tracing::warn!(source = %self.ctx.source, %symbol, channel = %channel.name(), error = refusal.error, "subscription refused that was live before, asking again now and then");
                    let (symbol, channel) = (Some(symbol), Some(channel.name()));
                    let detail = format!("refused: {}", refusal.error);
                    self.out.lost(symbol, channel, GapCause::Session, ts_recv, detail).await?;
                    continue;
                }
                self.subs.drop_sub(&key, now);
            }
            tracing::warn!(source = %self.ctx.source, %symbol, channel = %channel.name(), error = refusal.error, "subscription refused for good");
            self.out.unsubscribed(symbol, channel.name()).await?;
        }
        Ok(())
    }

    /// Follows the venue's list, and passes on of it what is wanted and new.
    async fn listing(&mut self, events: Vec<Event>, now: Instant) -> anyhow::Result<Vec<Event>> {
        let mut news = Vec::new();
        if events.first().is_some_and(is_snapshot) {
            self.listed = Some(HashSet::new());
        }
        for mut event in events {
            let Body::Instrument(instrument) = &mut event.body else { continue };
            if let Some(listed) = &mut self.listed {
                if instrument.status.as_deref() == Some("delisted") {
                    listed.remove(&event.symbol);
                } else if listed.len() < SYMBOLS {
                    listed.insert(event.symbol.clone());
                }
            }
            if !self.wants(&event.symbol) {
                continue;
            }
            instrument.aliases = self.memory.names.aliases(&event.symbol).to_vec();
            if instrument.status.as_deref() == Some("delisted") {
                self.forget(&event.symbol, now).await?;
            } else {
                self.want(&event.symbol, now);
            }
            if self.memory.instruments.get(&event.symbol) != Some(&**instrument) {
                self.memory.instruments.insert(event.symbol.clone(), (**instrument).clone());
                news.push(event);
            }
        }
        Ok(news)
    }

    /// Whether the venue's list has the symbol, or may have it: of own orders, and before the list is there.
    fn is_listed(&self, symbol: &SmolStr) -> bool {
        symbol.is_empty() || self.listed.as_ref().is_none_or(|listed| listed.contains(symbol))
    }

    /// What was refused and waits for another try, while the list has come to say that there is nothing to wait for.
    async fn end_unlisted(&mut self, now: Instant) -> anyhow::Result<()> {
        let gone: Vec<Key> = self.subs.refused_keys().filter(|key| !self.is_listed(&key.1)).cloned().collect();
        for key in gone {
            self.subs.drop_sub(&key, now);
            self.out.unsubscribed(key.1, key.0.name()).await?;
        }
        Ok(())
    }

    /// What the tape knows and this session, whose part it is, does not want: its gap would never close.
    async fn end_unwanted(&mut self) -> anyhow::Result<()> {
        let wanted: HashSet<(SmolStr, SmolStr)> =
            self.subs.keys().map(|(channel, symbol)| (symbol.clone(), channel.name())).collect();
        for known in &self.out.resume().subscriptions {
            if !wanted.contains(known) && self.is_mine(&known.1) {
                self.out.unsubscribed(known.0.clone(), known.1.clone()).await?;
            }
        }
        Ok(())
    }

    /// Whether a channel is this session's part of the table; what no session records is the public one's, or the only one's.
    fn is_mine(&self, channel: &str) -> bool {
        let of_orders = channel == Channel::Executions.name() && self.config.records(ChannelName::Executions);
        if self.role_is_private() {
            return of_orders || self.config.channels() == [ChannelName::Executions];
        }
        let polled = channel == Channel::Ticker.name() && self.config.polls_tickers();
        !of_orders && !polled
    }

    fn role_is_private(&self) -> bool {
        self.subs.has_token()
    }

    fn wants(&self, symbol: &str) -> bool {
        let is = |pair: &String| {
            if pair.contains('*') { covers(pair, symbol) } else { self.memory.names.symbol(pair) == symbol }
        };
        self.config.pairs.iter().any(is)
    }

    fn want(&mut self, symbol: &SmolStr, now: Instant) {
        for channel in channels(self.config) {
            let key = (channel, symbol.clone());
            let rhythm = self.memory.rhythms.remove(&key).unwrap_or_default();
            self.subs.want(key.0, key.1, rhythm, now);
        }
    }

    async fn forget(&mut self, symbol: &SmolStr, now: Instant) -> anyhow::Result<()> {
        let keys: Vec<Key> = self.subs.keys().filter(|key| key.1 == *symbol).cloned().collect();
        for key in keys {
            if let Some(text) = self.subs.drop_sub(&key, now) {
                self.socket.send(text).await?;
            }
            self.out.unsubscribed(key.1, key.0.name()).await?;
        }
        self.books.forget(symbol);
        self.memory.ids.forget(symbol);
        Ok(())
    }

    /// The asset list is there: instruments are said once more, now with their other names.
    async fn learn_names(&mut self, names: anyhow::Result<Names>) -> anyhow::Result<()> {
        self.names = None;
        self.memory.names = match names {
            Ok(names) => names,
            Err(error) => {
                tracing::info!(source = %self.ctx.source, error = format!("{error:#}"), "no asset list, old names go by rule");
                return Ok(());
            }
        };
        let mut news = Vec::new();
        for (symbol, instrument) in &mut self.memory.instruments {
            let aliases = self.memory.names.aliases(symbol);
            if instrument.aliases != aliases {
                instrument.aliases = aliases.to_vec();
                let body = Body::Instrument(Box::new(instrument.clone()));
                news.push(self.out.event(symbol.clone(), None, UnixNanos::now(), body));
            }
        }
        news.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        Ok(self.out.emit(news).await?)
    }

    async fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        let silence = now.saturating_duration_since(self.last_bytes);
        if silence >= DEAD {
            bail!("no bytes for {} s", silence.as_secs());
        }
        let measured = self.asked.is_some_and(|(sent, _)| now.saturating_duration_since(sent) < MEASURE_EVERY);
        if (silence >= PING_AFTER && !self.pinged) || !measured {
            self.pinged = true;
            self.asked = Some((now, false));
            self.socket.send(r#"{"method":"ping","req_id":0}"#.to_owned()).await?;
        }
        let wall = UnixNanos::now();
        for finding in self.subs.look(now, self.open) {
            let (key, silence, what) = match finding {
                Finding::Unanswered((channel, symbol)) => {
                    tracing::warn!(source = %self.ctx.source, %symbol, channel = %channel.name(), "subscription unanswered, asking again");
                    continue;
                }
                Finding::Owing(key, silence) => (key, silence, "acked, and nothing came"),
                Finding::Stalled(key, silence) => (key, silence, "fell silent"),
            };
            let (channel, symbol) = (key.0.name(), key.1);
            let silence_ms = silence.as_millis() as u64;
            tracing::warn!(source = %self.ctx.source, %symbol, %channel, silence_ms, what, "subscribing again");
            if key.0 == Channel::Book {
                self.books.drop_book(&symbol);
            }
            self.out.lost(Some(symbol), Some(channel), GapCause::Stall, wall - silence, what).await?;
        }
        Ok(())
    }
}

/// The channels a pair is subscribed to over this socket.
pub(super) fn channels(config: &Config) -> Vec<Channel> {
    let mut channels = Vec::new();
    for name in config.channels() {
        match name {
            ChannelName::Trade => channels.push(Channel::Trade),
            ChannelName::Ticker if config.ticker == TickerFrom::V2 => channels.push(Channel::Ticker),
            ChannelName::Book => channels.push(Channel::Book),
            ChannelName::Ohlc => channels.extend(config.ohlc_minutes().into_iter().map(Channel::Ohlc)),
            ChannelName::Ticker | ChannelName::Instrument | ChannelName::Executions => {}
        }
    }
    channels
}

fn is_snapshot(event: &Event) -> bool {
    event.flags.contains(tapedeck_market::Flags::SNAPSHOT)
}

/// The asset list, once it is there; never, where none is on its way.
async fn arrived(names: &mut Option<BoxFuture<'_, anyhow::Result<Names>>>) -> anyhow::Result<Names> {
    match names {
        Some(names) => names.as_mut().await,
        None => std::future::pending().boxed().await,
    }
}
