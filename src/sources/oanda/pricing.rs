//! The stream of prices: one connection, all instruments.
//!
//! A subscription is live with its first price, which the venue sends at once; one that has none is live with the
//! first heartbeat. Prices that stop while heartbeats go on are looked into: the venue is asked for the price it has, and
//! only where that is a newer one than ours has the stream stalled. A quiet market is not asked about twice in a minute.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use tapedeck_market::{Body, Event, Flags, GapCause, Instrument, Raw, SmolStr, Status, UnixNanos};

use super::client::Client;
use super::config::{ChannelName, Config, symbol};
use super::line::{Ctx, Line, Message, parse};
use super::{masked, now};
use crate::config::suggest::nearest;
use crate::sources::liveness::{DEAD, Rhythm};
use crate::sources::split::{Piece, Splitter};
use crate::sources::{Outlet, Waiting};

/// How often subscriptions are looked after.
const LOOK: Duration = Duration::from_millis(500);
/// When handing over what was read held us up for longer than this, silence was ours.
const DEAF: Duration = Duration::from_secs(1);
/// A venue that could not be asked about a silence is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// By so much the venue's price must be newer than ours: the newest one may be on its way.
const NEWER: Duration = Duration::from_secs(2);
/// Names of unknown fields that are remembered, so that each is told once.
const FIELDS: usize = 256;

/// What outlives a session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rhythms: HashMap<SmolStr, Rhythm>,
    instruments: HashMap<SmolStr, Instrument>,
    /// Venue time of the last price, and whether it was tradeable.
    last: HashMap<SmolStr, (Option<UnixNanos>, Option<bool>)>,
    fields: HashSet<SmolStr>,
    /// Instruments that the venue does not have, as they were told last.
    told: Vec<String>,
    /// The venue could not be asked: not before then.
    ask_at: Option<Instant>,
}

impl Memory {
    /// Instruments that are silent, strangely so; of those that cannot be traded, or were not heard yet, nothing is.
    fn silent(&mut self, subs: &HashMap<SmolStr, bool>, now: Instant) -> Vec<(SmolStr, Duration)> {
        let mut silent = Vec::new();
        for (symbol, rhythm) in &mut self.rhythms {
            let tradeable = self.last.get(symbol).is_none_or(|(_, tradeable)| *tradeable != Some(false));
            if !tradeable || subs.get(symbol) != Some(&true) {
                // A week-end is nothing that a rhythm has to learn.
                rhythm.resumed(now);
            } else if self.ask_at.is_none_or(|at| now >= at) {
                silent.extend(rhythm.silent(now).map(|silence| (symbol.clone(), silence)));
            }
        }
        silent
    }

    /// The venue was asked about these, and answered or not.
    fn asked(&mut self, silent: &[(SmolStr, Duration)], answered: bool, now: Instant) {
        self.ask_at = (!answered).then(|| now + ASK_AGAIN);
        for (symbol, silence) in silent.iter().filter(|_| answered) {
            if let Some(rhythm) = self.rhythms.get_mut(symbol) {
                rhythm.known(now, *silence);
            }
        }
    }
}

/// The instruments to subscribe, and what is wrong with the others.
pub(super) fn wanted(config: &Config, listed: &[(SmolStr, Instrument)]) -> (Vec<SmolStr>, Vec<String>) {
    let names = || listed.iter().map(|(name, _)| name);
    let (mut wanted, mut unknown) = (Vec::new(), Vec::new());
    for written in &config.instruments {
        if written == "*" {
            wanted.extend(names().cloned());
            continue;
        }
        let name = symbol(written);
        match names().find(|listed| **listed == name) {
            Some(name) => wanted.push(name.clone()),
            None => unknown.push(match nearest(&name, names().map(SmolStr::as_str)) {
                Some(near) => format!("{written} (did you mean {near}?)"),
                None => written.clone(),
            }),
        }
    }
    wanted.sort();
    wanted.dedup();
    (wanted, unknown)
}

pub(super) struct Feed<'a> {
    config: &'a Config,
    client: &'a Client,
    memory: &'a mut Memory,
    out: &'a Outlet,
    ctx: Ctx,
    /// Wanted, with whether it has been heard in this session.
    subs: HashMap<SmolStr, bool>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(config: &'a Config, client: &'a Client, memory: &'a mut Memory, out: &'a Outlet) -> Feed<'a> {
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        Feed { config, client, memory, out, ctx, subs: HashMap::new() }
    }

    /// Runs until the connection is lost.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let symbols = self.list().await?;
        let query = [("instruments", symbols.as_str()), ("snapshot", "true")];
        let mut stream = self.client.open("pricing/stream", &query).await?;
        let mut lines = Splitter::default();
        let (mut last_bytes, mut next_look) = (now(), now() + LOOK);
        loop {
            tokio::select! {
                biased;
                chunk = stream.chunk() => match chunk {
                    Ok(Some(chunk)) => {
                        let ts_recv = UnixNanos::now();
                        lines.push(&chunk);
                        let began = now();
                        while let Some(piece) = lines.cut() {
                            self.piece(piece, ts_recv, began).await?;
                        }
                        last_bytes = now();
                        if last_bytes.saturating_duration_since(began) > DEAF {
                            self.excuse(last_bytes);
                        }
                    }
                    ended => return super::ended(ended, lines.rest(), self.out, self.client).await,
                },
                () = tokio::time::sleep_until(next_look.into()) => {}
            }
            let at = now();
            if at >= next_look {
                next_look = at + LOOK;
                let silence = at.saturating_duration_since(last_bytes);
                if silence >= DEAD {
                    bail!("no bytes for {} s", silence.as_secs());
                }
                if self.look(at).await? {
                    last_bytes = now();
                }
            }
        }
    }

    /// Learns what the venue has, says what is new of it, and what to subscribe, with commas.
    async fn list(&mut self) -> anyhow::Result<String> {
        let listed = self.client.instruments().await?;
        let (wanted, unknown) = wanted(self.config, &listed);
        if !unknown.is_empty() && self.memory.told != unknown {
            tracing::warn!(source = %self.ctx.source, instruments = unknown.join(", "), "this account has no such instruments");
        }
        if wanted.is_empty() {
            return Err(Waiting(format!("this account has none of `instruments`: {}", unknown.join(", "))).into());
        }
        self.memory.told = unknown;
        let ts_recv = UnixNanos::now();
        let mut news = Vec::new();
        for (name, instrument) in listed {
            if wanted.contains(&name) && self.memory.instruments.get(&name) != Some(&instrument) {
                self.memory.instruments.insert(name.clone(), instrument.clone());
                news.push(self.out.event(name, None, ts_recv, Body::Instrument(Box::new(instrument))));
            }
        }
        self.out.emit(news).await?;
        self.subs = wanted.iter().map(|name| (name.clone(), false)).collect();
        for (symbol, channel) in &self.out.resume().subscriptions {
            let ours = self.channels().iter().any(|own| own == channel) && self.subs.contains_key(symbol);
            let others = *channel == super::TRANSACTIONS && self.config.records(ChannelName::Transactions);
            if !ours && !others {
                self.out.unsubscribed(symbol.clone(), channel.clone()).await?;
            }
        }
        Ok(wanted.join(","))
    }

    fn channels(&self) -> Vec<SmolStr> {
        let names = [(ChannelName::Quote, super::QUOTE), (ChannelName::Book, super::BOOK)];
        names.into_iter().filter(|(name, _)| self.config.records(*name)).map(|(_, channel)| channel).collect()
    }

    async fn piece(&mut self, piece: Piece<'_>, ts_recv: UnixNanos, now: Instant) -> anyhow::Result<()> {
        let bytes = match piece {
            Piece::Line(bytes) => bytes,
            Piece::TooLong(begun) => {
                self.out.heard(ts_recv, begun.len());
                return super::too_long(begun, ts_recv, self.out, self.client).await;
            }
        };
        self.out.heard(ts_recv, bytes.len());
        match parse(bytes, ts_recv, &self.ctx, self.config.records(ChannelName::Book)) {
            Ok(Message::Price(line)) => {
                // A field that is new to us: the line that has it is kept whole, once.
                let fields = &mut self.memory.fields;
                let mut news = line.unknown.iter().filter(|_| fields.len() < FIELDS).cloned().collect::<Vec<_>>();
                news.retain(|field| fields.insert(field.clone()));
                if !news.is_empty() {
                    let fields = news.join(", ");
                    tracing::info!(source = %self.ctx.source, fields, "prices have fields that are new to us");
                }
                let raw = (self.config.keep_raw || !news.is_empty()).then(|| self.raw(bytes, ts_recv));
                return self.price(raw, line, ts_recv, now).await;
            }
            Ok(Message::Heartbeat { .. }) => {
                let silent: Vec<SmolStr> =
                    self.subs.iter().filter(|(_, heard)| !**heard).map(|(symbol, _)| symbol.clone()).collect();
                for symbol in silent {
                    self.live(&symbol, ts_recv).await?;
                }
                if self.config.keep_raw {
                    self.out.emit(vec![self.raw(bytes, ts_recv)]).await?;
                }
            }
            // Of a later protocol, or of the other stream: data all the same.
            Ok(_) => {
                self.out.note("unknown type");
                self.out.emit(vec![self.raw(bytes, ts_recv)]).await?;
            }
            Err(error) => {
                self.out
                    .reject(&masked(bytes, self.client), ts_recv, error.reason, &self.client.mask(&error.to_string()))
                    .await?;
            }
        }
        Ok(())
    }

    fn raw(&self, bytes: &[u8], ts_recv: UnixNanos) -> Event {
        let frame = masked(bytes, self.client).into_owned();
        self.out.event(SmolStr::default(), None, ts_recv, Body::Raw(Raw { format: "line".into(), frame }))
    }

    async fn live(&mut self, symbol: &SmolStr, ts_recv: UnixNanos) -> anyhow::Result<()> {
        self.subs.insert(symbol.clone(), true);
        for channel in self.channels() {
            self.out.live(symbol.clone(), channel, ts_recv).await?;
        }
        Ok(())
    }

    async fn price(
        &mut self,
        raw: Option<Event>,
        mut line: Line,
        ts_recv: UnixNanos,
        now: Instant,
    ) -> anyhow::Result<()> {
        let symbol = line.quote.symbol.clone();
        if let Some(odd) = line.odd_time {
            self.out.note(odd);
        }
        let mut events: Vec<Event> = raw.into_iter().collect();
        let mut known = false;
        // An instrument that was never asked for is recorded, but none that is looked after.
        if let Some(heard) = self.subs.get(&symbol).copied() {
            let (time, was) = self.memory.last.get(&symbol).copied().unwrap_or_default();
            self.memory.last.insert(symbol.clone(), (line.quote.ts_event, line.tradeable.or(was)));
            if heard {
                self.memory.rhythms.entry(symbol.clone()).or_default().heard(now);
            } else {
                self.live(&symbol, ts_recv).await?;
                self.memory.rhythms.entry(symbol.clone()).or_default().resumed(now);
                // What a stream begins with may be what the last one ended with.
                known = line.quote.ts_event.is_some() && line.quote.ts_event == time;
                line.quote.flags = line.quote.flags.with(Flags::SNAPSHOT);
                if let Some(book) = &mut line.book {
                    book.flags = book.flags.with(Flags::SNAPSHOT);
                }
            }
            if let Some(tradeable) = line.tradeable.filter(|is| Some(*is) != was) {
                let state = if tradeable { "tradeable" } else { "not tradeable" };
                let status = Status { topic: "instrument".into(), state: state.into(), detail: Vec::new() };
                events.push(self.out.event(symbol.clone(), line.quote.ts_event, ts_recv, Body::Status(status)));
                self.memory.rhythms.entry(symbol).or_default().resumed(now);
            }
        }
        if !known {
            if self.config.records(ChannelName::Quote) {
                events.push(line.quote);
            }
            events.extend(line.book);
        }
        Ok(self.out.emit(events).await?)
    }

    /// We did not listen until `now`: whatever was silent meanwhile is excused.
    fn excuse(&mut self, now: Instant) {
        self.memory.rhythms.values_mut().for_each(|rhythm| rhythm.resumed(now));
    }

    /// Looks after the instruments that can be traded; whether the venue was asked about one.
    async fn look(&mut self, now: Instant) -> anyhow::Result<bool> {
        let silent = self.memory.silent(&self.subs, now);
        if silent.is_empty() {
            return Ok(false);
        }
        let names: Vec<&str> = silent.iter().map(|(symbol, _)| symbol.as_str()).collect();
        let prices = self.client.prices(&names.join(",")).await;
        self.memory.asked(&silent, prices.is_ok(), now);
        let prices = match prices {
            Ok(prices) => prices,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::info!(source = %self.ctx.source, error, "prices fell silent, and the venue cannot be asked about them");
                return Ok(true);
            }
        };
        let wall = UnixNanos::now();
        let mut stalled = Vec::new();
        for text in prices {
            let Ok(Message::Price(line)) = parse(text.as_bytes(), wall, &self.ctx, false) else { continue };
            let symbol = line.quote.symbol.clone();
            let ours = self.memory.last.get(&symbol).and_then(|(time, _)| *time);
            let (Some(ours), Some(theirs)) = (ours, line.quote.ts_event) else { continue };
            let Some((_, silence)) = silent.iter().find(|(known, _)| *known == symbol) else { continue };
            if theirs.saturating_since(ours) > NEWER {
                tracing::warn!(source = %self.ctx.source, %symbol, silence_ms = silence.as_millis() as u64, "prices stalled on a live stream");
                for channel in self.channels() {
                    let since = wall - *silence;
                    self.out.lost(Some(symbol.clone()), Some(channel), GapCause::Stall, since, "fell silent").await?;
                }
                stalled.push(symbol);
            }
        }
        if !stalled.is_empty() {
            // One instrument alone cannot be subscribed again.
            bail!("prices of {} stalled", stalled.join(", "));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EUR: SmolStr = SmolStr::new_static("EUR_USD");

    /// Ten prices a second from then on, for so many seconds.
    fn speak(memory: &mut Memory, from: Instant, secs: u64) {
        for tenth in 0..=secs * 10 {
            memory.rhythms.entry(EUR).or_default().heard(from + Duration::from_millis(tenth * 100));
        }
    }

    /// Looks twice a second; when the first silence is strange, in seconds from then on.
    fn found(memory: &mut Memory, from: Instant, secs: u64) -> Option<u64> {
        let subs = HashMap::from([(EUR, true)]);
        let mut looks = (0..secs * 2).map(|half| (half / 2, from + Duration::from_millis(half * 500)));
        looks.find(|(_, at)| !memory.silent(&subs, *at).is_empty()).map(|(secs, _)| secs)
    }

    #[test]
    fn a_close_is_no_silence_and_after_it_one_is_found_as_soon_as_before() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        memory.last.insert(EUR, (None, Some(true)));
        speak(&mut memory, start, 600);
        let closed = start + Duration::from_secs(600);
        memory.last.insert(EUR, (None, Some(false)));
        assert_eq!(found(&mut memory, closed, 48 * 3_600), None, "nobody trades");
        let opened = closed + Duration::from_secs(48 * 3_600);
        memory.last.insert(EUR, (None, Some(true)));
        speak(&mut memory, opened, 60);
        assert_eq!(found(&mut memory, opened + Duration::from_secs(60), 60), Some(10));
    }

    #[test]
    fn a_venue_that_could_not_be_asked_is_asked_again_soon_and_one_that_answered_is_not() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let subs = HashMap::from([(EUR, true)]);
        speak(&mut memory, start, 600);
        let at = |secs: u64| start + Duration::from_secs(600 + secs);
        let silent = memory.silent(&subs, at(11));
        assert_eq!(silent.len(), 1);
        memory.asked(&silent, false, at(11));
        assert!(memory.silent(&subs, at(12)).is_empty(), "not at every look");
        let silent = memory.silent(&subs, at(17));
        assert_eq!(silent.len(), 1, "nothing was learned of it");
        memory.asked(&silent, true, at(17));
        assert!(memory.silent(&subs, at(30)).is_empty(), "it is quiet, as is known now");
        assert_eq!(memory.silent(&subs, at(55)).len(), 1);
    }
}
