//! `tapedeck check`: tries the venue without recording, and says what to do about what does not work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tapedeck_market::{Body, SmolStr, UnixNanos};
use tokio::time::timeout_at;

use super::config::{Config, covers};
use super::message::{Ctx, Message};
use super::names::{Names, modern};
use super::parse::parse;
use super::rest::Rest;
use super::session::channels;
use super::subs::{Channel, Subs};
use crate::config::Secret;
use crate::sources::liveness::Rhythm;
use crate::sources::socket::{Frame, Socket};

/// Everything is answered within this, or it is not.
const LIMIT: Duration = Duration::from_secs(10);
/// A clock that is wrong by more than this makes candles wrong.
const SKEW: Duration = Duration::from_secs(1);
/// Names in a message for people.
const SHOWN: usize = 5;

/// Subscribes what the table asks for.
pub(super) async fn public(config: &Config, names: &mut Names) -> anyhow::Result<String> {
    if config.pairs.iter().any(|pair| !pair.contains('*') && modern(pair).is_none()) {
        let rest = Rest::new(config.rest_url())?;
        *names = rest.names().await.context("reading the asset list for old names")?;
    }
    let mut trial = Trial::connect(&config.url, Subs::new(config.book_depth, None, Instant::now())).await?;
    trial.want(Channel::Instrument, SmolStr::default());
    for pair in config.pairs.iter().filter(|pair| !pair.contains('*')) {
        let symbol = names.symbol(pair);
        channels(config).into_iter().for_each(|channel| trial.want(channel, symbol.clone()));
    }
    trial.run().await?;
    let patterns: Vec<_> = config.pairs.iter().filter(|pair| pair.contains('*')).collect();
    let covered = trial.listed.iter().filter(|symbol| patterns.iter().any(|pattern| covers(pattern, symbol))).count();
    ensure!(patterns.is_empty() || covered > 0, "no pair of the venue's list is covered by {patterns:?}");
    let mut report = trial.report().await?;
    if !patterns.is_empty() {
        report.push_str(&format!(", {covered} listed pairs covered by patterns"));
    }
    Ok(report)
}

/// Subscribes the own orders.
pub(super) async fn private(config: &Config, token: Secret) -> anyhow::Result<String> {
    let subs = Subs::new(config.book_depth, Some(token), Instant::now());
    let mut trial = Trial::connect(config.private_url(), subs).await?;
    trial.want(Channel::Executions, SmolStr::default());
    trial.run().await?;
    trial.report().await
}

struct Trial {
    socket: Socket,
    subs: Subs,
    asked: BTreeSet<(Channel, SmolStr)>,
    acked: BTreeSet<(Channel, SmolStr)>,
    refused: Vec<String>,
    listed: BTreeSet<SmolStr>,
    /// Venue's clock and ours, at its first answer.
    clocks: Option<(UnixNanos, UnixNanos)>,
}

impl Trial {
    async fn connect(url: &str, subs: Subs) -> anyhow::Result<Trial> {
        let socket = Socket::connect(url).await.context("is the network up, and `url` right?")?;
        let (asked, acked, listed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Ok(Trial { socket, subs, asked, acked, refused: Vec::new(), listed, clocks: None })
    }

    fn want(&mut self, channel: Channel, symbol: SmolStr) {
        self.asked.insert((channel, symbol.clone()));
        self.subs.want(channel, symbol, Rhythm::default(), Instant::now());
    }

    /// Until all is answered, or the time is over.
    async fn run(&mut self) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + LIMIT;
        while self.acked.len() + self.refused.len() < self.asked.len() || self.wants_list() {
            for text in self.subs.next(Instant::now()) {
                self.socket.send(text).await?;
            }
            let due = self.subs.due_at().map_or(until, |due| until.min(due.into()));
            match timeout_at(due, self.socket.next()).await {
                Ok(frame) => self.take(frame?),
                Err(_) if tokio::time::Instant::now() >= until => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn wants_list(&self) -> bool {
        self.acked.contains(&(Channel::Instrument, SmolStr::default())) && self.listed.is_empty()
    }

    fn take(&mut self, frame: Frame) {
        let Some(bytes) = frame.data() else { return };
        let (now, ts_recv) = (Instant::now(), UnixNanos::now());
        let ctx = Ctx { source: SmolStr::new_static("check"), venue: SmolStr::new_static("kraken") };
        match parse(&bytes, ts_recv, &ctx) {
            Ok(Message::Ack(ack)) => {
                if let Some(time_out) = ack.time_out {
                    self.clocks.get_or_insert((time_out, ts_recv));
                }
                self.acked.extend(self.subs.acked(&ack, now));
            }
            Ok(Message::Refusal(refusal)) => {
                let symbols = self.subs.refused(&refusal, now);
                let what =
                    |(channel, symbol): (Channel, SmolStr)| format!("{} {symbol}: {}", channel.name(), refusal.error);
                self.refused.extend(symbols.into_iter().map(what));
            }
            Ok(Message::RateExceeded) => self.subs.rate_exceeded(now),
            Ok(Message::Events(events)) => {
                let pairs = events.into_iter().filter(|event| matches!(event.body, Body::Instrument(_)));
                self.listed.extend(pairs.map(|event| event.symbol));
            }
            _ => {}
        }
        // A refusal that names no symbol is found by asking again one by one.
        self.subs.look(now, false);
    }

    async fn report(self) -> anyhow::Result<String> {
        self.socket.close().await;
        let silent: Vec<String> = self
            .asked
            .iter()
            .filter(|key| !self.acked.contains(*key))
            .map(|(channel, symbol)| format!("{} {symbol}", channel.name()))
            .collect();
        if !self.refused.is_empty() {
            bail!("refused by the venue: {}; correct `pairs`, `channels` or `book_depth`", some(&self.refused));
        }
        if !silent.is_empty() {
            bail!("no answer within {} s to: {}", LIMIT.as_secs(), some(&silent));
        }
        let mut report = format!("{} subscriptions acked", self.acked.len());
        if let Some((venue, ours)) = self.clocks {
            let skew = venue.saturating_since(ours).max(ours.saturating_since(venue));
            ensure!(
                skew <= SKEW,
                "the clock differs from the venue's by {} ms (network included): is NTP running?",
                skew.as_millis()
            );
            report.push_str(&format!(", clock within {} ms of the venue's", skew.as_millis()));
        }
        Ok(report)
    }
}

fn some(items: &[String]) -> String {
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN { format!("{shown} and {} more", items.len() - SHOWN) } else { shown }
}
