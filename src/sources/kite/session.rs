//! One connection: at most 3,000 instruments, each live with its first packet.
//!
//! The venue acknowledges nothing. What is subscribed answers with its last state, and what does not answer is asked
//! for again; a token that stays silent never becomes live, and is named once. A subscription that falls silent while its
//! exchange trades is judged by its own rhythm, and asked for again alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use tapedeck_market::{Body, Event, Flags, GapCause, Instrument, Raw, SmolStr, UnixNanos};

use super::config::{ChannelName, Checked, Mode};
use super::frame::{Ctx, Reader};
use super::hours::Hours;
use super::list::Listed;
use super::segment::is_index;
use super::text::{self, Text};
use crate::sources::Outlet;
use crate::sources::liveness::{DEAD, Rhythm};
use crate::sources::socket::{Frame, Socket};

/// How often subscriptions are looked after.
const LOOK: Duration = Duration::from_millis(500);
/// A silent socket is asked whether it is there: the venue's own clients do it this often.
const PING_AFTER: Duration = Duration::from_millis(2_500);
/// What has not answered for this long is asked for again.
const ANSWER: Duration = Duration::from_secs(10);
/// Frames taken in a row before timers get their turn.
const FRAMES_IN_A_ROW: u32 = 1_024;
/// When taking frames stopped us for longer than this, silence was ours.
const DEAF: Duration = Duration::from_secs(1);
/// Tokens of one request: its text then has some 5 KB.
const TOKENS_AT_ONCE: usize = 500;
/// Lengths of packets that are remembered, so that the first frame with each is kept.
const LENGTHS: usize = 64;
/// Names in a line of the log.
const SHOWN: usize = 10;
/// Bytes of a frame that are kept as it came: one of 3,000 full packets has 558,002.
const RAW_BYTES: usize = 1 << 20;

/// The scheme of an instrument's number among its names.
pub(super) const TOKEN: &str = "token";
/// Channels as the gap ledger names them.
pub(super) const TICKER: SmolStr = SmolStr::new_static("ticker");
const QUOTE: SmolStr = SmolStr::new_static("quote");
const BOOK: SmolStr = SmolStr::new_static("book");
const ORDERS: SmolStr = SmolStr::new_static("orders");

/// What outlives a session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rhythms: HashMap<u32, Rhythm>,
    instruments: HashMap<SmolStr, Instrument>,
    lengths: HashSet<u16>,
    /// Tokens that never answered, as they were told last.
    silent: Vec<SmolStr>,
}

/// A subscription.
#[derive(Debug)]
struct Sub {
    symbol: SmolStr,
    /// Empty for a token that the list does not have.
    exchange: SmolStr,
    mode: Mode,
    rhythm: Rhythm,
    heard: bool,
    asked: Instant,
}

/// Token and mode by symbol.
pub(super) type Everybody = HashMap<SmolStr, (u32, Mode)>;

/// An instrument of this connection.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) token: u32,
    pub(super) listed: Option<Listed>,
    pub(super) mode: Mode,
}

pub(super) struct Feed<'a> {
    memory: &'a mut Memory,
    out: &'a Outlet,
    checked: &'a Checked,
    hours: Hours,
    reader: Reader,
    socket: Socket,
    subs: HashMap<u32, Sub>,
    /// The first connection of the table also records own orders, which come over every one of them.
    first: bool,
    /// Everything that the table wants, over all its connections.
    everybody: &'a Everybody,
    last_bytes: Instant,
    pinged: bool,
    told: bool,
}

fn now() -> Instant {
    // Tokio's clock, so that tests own it.
    tokio::time::Instant::now().into_std()
}

/// Symbol of an instrument on the tape.
pub(super) fn symbol(token: u32, listed: Option<&Listed>) -> SmolStr {
    listed.map_or_else(|| SmolStr::new(token.to_string()), |listed| listed.symbol.clone())
}

/// The requests for these instruments: to be sent, and what of each.
pub(super) fn requests(members: impl Iterator<Item = (u32, Mode)>) -> Vec<String> {
    let mut by_mode: BTreeMap<Mode, Vec<u32>> = BTreeMap::new();
    members.for_each(|(token, mode)| by_mode.entry(mode).or_default().push(token));
    let mut texts = Vec::new();
    for (mode, mut tokens) in by_mode {
        tokens.sort_unstable();
        for tokens in tokens.chunks(TOKENS_AT_ONCE) {
            // Numbers: tokens that are texts are ignored without a word.
            texts.push(serde_json::json!({ "a": "subscribe", "v": tokens }).to_string());
            texts.push(serde_json::json!({ "a": "mode", "v": [mode.name(), tokens] }).to_string());
        }
    }
    texts
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        checked: &'a Checked,
        memory: &'a mut Memory,
        out: &'a Outlet,
        socket: Socket,
        members: Vec<Member>,
        everybody: &'a Everybody,
        first: bool,
    ) -> Feed<'a> {
        let asked = now();
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        let mut reader = Reader {
            ctx,
            divisors: checked.divisors.clone(),
            wanted: checked.config.wanted(),
            symbols: HashMap::default(),
        };
        let mut subs = HashMap::new();
        for Member { token, listed, mode } in members {
            let symbol = symbol(token, listed.as_ref());
            reader.symbols.insert(token, symbol.clone());
            let rhythm = memory.rhythms.remove(&token).unwrap_or_default();
            let exchange = listed.map(|listed| listed.exchange).unwrap_or_default();
            subs.insert(token, Sub { symbol, exchange, mode, rhythm, heard: false, asked });
        }
        let (hours, last_bytes, pinged, told) = (checked.hours.clone(), asked, false, false);
        Feed { memory, out, checked, hours, reader, socket, subs, first, everybody, last_bytes, pinged, told }
    }

    /// Runs until the connection is lost.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        for text in requests(self.subs.iter().map(|(token, sub)| (*token, sub.mode))) {
            self.socket.send(text).await?;
        }
        if self.first {
            self.end_unwanted().await?;
        }
        if self.records_orders() {
            self.out.live(SmolStr::default(), ORDERS, UnixNanos::now()).await?;
        }
        let mut next_look = now() + LOOK;
        loop {
            tokio::select! {
                biased;
                frame = self.socket.next() => self.take(frame?).await?,
                () = tokio::time::sleep_until(next_look.into()) => {}
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
        self.memory.rhythms = self.subs.into_iter().map(|(token, sub)| (token, sub.rhythm)).collect();
    }

    /// Says what is known of the instruments, where it is news.
    pub(super) async fn introduce(&mut self, listed: &[Listed]) -> anyhow::Result<()> {
        let ts_recv = UnixNanos::now();
        let mut news = Vec::new();
        for listed in listed {
            let instrument = instrument(listed, self.hours.session(&listed.exchange));
            if self.memory.instruments.get(&listed.symbol) != Some(&instrument) {
                self.memory.instruments.insert(listed.symbol.clone(), instrument.clone());
                let body = Body::Instrument(Box::new(instrument));
                news.push(self.out.event(listed.symbol.clone(), None, ts_recv, body));
            }
        }
        Ok(self.out.emit(news).await?)
    }

    /// What the tape knows and no connection of the table wants: its gap would never close.
    async fn end_unwanted(&mut self) -> anyhow::Result<()> {
        for (symbol, channel) in &self.out.resume().subscriptions {
            let wanted = match self.everybody.get(symbol) {
                Some((token, mode)) => self.channels(*token, *mode).contains(channel),
                None => *channel == ORDERS && self.records_orders(),
            };
            if !wanted {
                self.out.unsubscribed(symbol.clone(), channel.clone()).await?;
            }
        }
        Ok(())
    }

    fn records(&self, channel: &str) -> bool {
        let wanted = self.reader.wanted;
        (channel == TICKER && wanted.ticker) || (channel == QUOTE && wanted.quote) || (channel == BOOK && wanted.book)
    }

    fn records_orders(&self) -> bool {
        self.first && self.checked.config.records(ChannelName::Orders)
    }

    /// The channels that an instrument of a mode has: an index has no book.
    fn channels(&self, token: u32, mode: Mode) -> Vec<SmolStr> {
        let all = if mode == Mode::Full && !is_index(token) { &[TICKER, QUOTE, BOOK][..] } else { &[TICKER][..] };
        all.iter().filter(|channel| self.records(channel)).cloned().collect()
    }

    /// Takes a frame and all that are ready behind it.
    async fn take(&mut self, first: Frame) -> anyhow::Result<()> {
        let began = now();
        let mut frame = first;
        for left in (0..FRAMES_IN_A_ROW).rev() {
            let now = now();
            (self.last_bytes, self.pinged) = (now, false);
            match frame {
                Frame::Binary(bytes) => self.packets(&bytes, UnixNanos::now(), now).await?,
                Frame::Text(bytes) => self.text(&bytes, UnixNanos::now()).await?,
                Frame::Control => {
                    if let Some(took) = self.socket.round_trip() {
                        self.out.pinged(took);
                    }
                }
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
            self.subs.values_mut().for_each(|sub| sub.rhythm.resumed(now));
            self.last_bytes = now;
        }
        Ok(())
    }

    async fn packets(&mut self, bytes: &Bytes, ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        self.out.heard(ts_recv, bytes.len());
        let mut read = match self.reader.read(bytes, ts_recv) {
            Ok(read) => read,
            Err(error) => return Ok(self.out.reject(bytes, ts_recv, error.reason, &error).await?),
        };
        read.odd.iter().for_each(|odd| self.out.note(odd));
        let mut keep = self.checked.config.keep_raw && bytes.len() > 1;
        for len in read.unknown_lengths {
            // A length that is new to us: the frame that has it is kept whole, once.
            if self.memory.lengths.len() < LENGTHS && self.memory.lengths.insert(len) {
                tracing::info!(source = %self.out.source(), bytes = len, "packets have a length that is new to us");
                keep = true;
            }
        }
        let mut at = 0;
        for (token, events) in read.packets {
            let events_at = at..at + usize::from(events);
            at = events_at.end;
            // What was never asked for is recorded, but nothing that is looked after.
            let Some(sub) = self.subs.get_mut(&token) else { continue };
            if sub.heard {
                sub.rhythm.heard(now);
                continue;
            }
            sub.heard = true;
            sub.rhythm.resumed(now);
            let (symbol, mode) = (sub.symbol.clone(), sub.mode);
            for channel in self.channels(token, mode) {
                self.out.live(symbol.clone(), channel, ts_recv).await?;
            }
            // The venue begins with the last state.
            for event in &mut read.events[events_at] {
                event.flags = event.flags.with(Flags::SNAPSHOT);
            }
        }
        if keep {
            read.events.insert(0, self.raw(bytes, "binary", ts_recv));
        }
        self.out.emit(read.events).await?;
        if let Some(error) = read.broken {
            self.out.reject(bytes, ts_recv, error.reason, &error).await?;
        }
        Ok(())
    }

    async fn text(&mut self, bytes: &Bytes, ts_recv: UnixNanos) -> anyhow::Result<()> {
        self.out.heard(ts_recv, bytes.len());
        let mut events = Vec::new();
        if self.checked.config.keep_raw {
            events.push(self.raw(&text::masked(bytes), "text", ts_recv));
        }
        match text::parse(bytes, ts_recv, &self.reader.ctx) {
            Ok(Text::Order(order)) if self.records_orders() => events.push(*order),
            Ok(Text::Order(_)) => {}
            Ok(Text::Error(said)) => {
                self.out.note("the venue reports an error");
                tracing::warn!(source = %self.out.source(), said, "the venue reports an error");
            }
            Ok(Text::Message(said)) => tracing::info!(source = %self.out.source(), said, "the venue says"),
            Ok(Text::Unknown) => {
                // Of a later protocol: data all the same.
                self.out.note("unknown type");
                if events.is_empty() {
                    events.push(self.raw(&text::masked(bytes), "text", ts_recv));
                }
            }
            Err(error) => self.out.reject(&text::masked(bytes), ts_recv, error.reason, &error).await?,
        }
        Ok(self.out.emit(events).await?)
    }

    fn raw(&self, bytes: &[u8], format: &'static str, ts_recv: UnixNanos) -> Event {
        let frame = bytes[..bytes.len().min(RAW_BYTES)].to_vec();
        let body = Body::Raw(Raw { format: SmolStr::new_static(format), frame });
        self.out.event(SmolStr::default(), None, ts_recv, body)
    }

    async fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        let silence = now.saturating_duration_since(self.last_bytes);
        if silence >= DEAD {
            bail!("no bytes for {} s", silence.as_secs());
        }
        if silence >= PING_AFTER && !self.pinged {
            self.pinged = true;
            self.socket.ping().await?;
        }
        let wall = UnixNanos::now();
        let mut open: HashMap<SmolStr, bool> = HashMap::new();
        let (mut again, mut stalled, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for (token, sub) in &mut self.subs {
            if !sub.heard {
                if now.saturating_duration_since(sub.asked) >= ANSWER {
                    sub.asked = now;
                    again.push((*token, sub.mode));
                    silent.push(sub.symbol.clone());
                }
                continue;
            }
            let open = match open.get(&sub.exchange) {
                Some(open) => *open,
                None => {
                    let is = self.hours.is_open(&sub.exchange, wall);
                    open.insert(sub.exchange.clone(), is);
                    is
                }
            };
            if let Some(silence) = sub.rhythm.stalled_while(open, now) {
                (sub.heard, sub.asked) = (false, now);
                again.push((*token, sub.mode));
                stalled.push((*token, sub.mode, sub.symbol.clone(), silence));
            }
        }
        silent.sort();
        if !silent.is_empty() && !self.told {
            self.told = true;
            if self.memory.silent != silent {
                let (count, shown) = (silent.len(), silent[..silent.len().min(SHOWN)].join(", "));
                tracing::warn!(source = %self.out.source(), count, shown, "nothing comes for these, asking again now and then");
                self.memory.silent = silent;
            }
        }
        for (token, mode, symbol, silence) in stalled {
            let silence_ms = silence.as_millis() as u64;
            tracing::warn!(source = %self.out.source(), %symbol, silence_ms, "fell silent, subscribing again");
            for channel in self.channels(token, mode) {
                let since = wall - silence;
                self.out.lost(Some(symbol.clone()), Some(channel), GapCause::Stall, since, "fell silent").await?;
            }
        }
        for text in requests(again.into_iter()) {
            self.socket.send(text).await?;
        }
        Ok(())
    }
}

fn instrument(listed: &Listed, session: Option<SmolStr>) -> Instrument {
    let mut aliases = vec![(SmolStr::new_static(TOKEN), SmolStr::new(listed.token.to_string()))];
    if let Some(symbol) = listed.symbol.split_once(':').map(|(_, symbol)| symbol) {
        aliases.push(("tradingsymbol".into(), symbol.into()));
    }
    for (scheme, text) in [("name", &listed.name), ("type", &listed.kind), ("expiry", &listed.expiry)] {
        aliases.extend(text.iter().map(|text| (SmolStr::new_static(scheme), text.clone())));
    }
    Instrument {
        aliases,
        price_increment: listed.tick_size,
        size_increment: listed.lot_size,
        session,
        ..Instrument::default()
    }
}
