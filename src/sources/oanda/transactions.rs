//! The stream of the account's transactions: each is on the tape once, in the order of the ids.
//!
//! ```text
//! stream opened ─► what is newer than the tape is fetched, flagged `backfilled` ─► live ─► stream
//!                    ▲ an id is left out, or a heartbeat names a newer one ────────────────┘
//! ```
//!
//! Subscribed first, filled then: what happens meanwhile comes twice and is taken once. The last id is a `Position`
//! in the append of its transaction, so that a restart goes on behind it.

use std::time::Duration;

use anyhow::{bail, ensure};
use tapedeck_market::{Body, Event, Flags, Position, Raw, SmolStr, UnixNanos};
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::config::Config;
use super::line::{Ctx, Message, parse};
use super::{TRANSACTIONS, masked};
use crate::sources::Outlet;
use crate::sources::liveness::DEAD;
use crate::sources::split::{Piece, Splitter};

/// Answers without the transaction that was named, half a second apart, before the session is given up.
const SHORT: u32 = 4;
const SHORTLY: Duration = Duration::from_millis(500);
/// Fetched transactions of one append.
const AN_APPEND: usize = 100;

pub(super) struct Feed<'a> {
    config: &'a Config,
    client: &'a Client,
    out: &'a Outlet,
    ctx: Ctx,
    key: SmolStr,
    /// The newest transaction on the tape.
    last: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(config: &'a Config, client: &'a Client, out: &'a Outlet) -> Feed<'a> {
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        let key = SmolStr::from(format!("transaction of {}", client.account_mark()));
        Feed { config, client, out, ctx, key, last: 0 }
    }

    /// Runs until the connection is lost.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut stream = self.client.open("transactions/stream", &[]).await?;
        let whole = self.catch_up().await?;
        let mut lines = Splitter::default();
        if whole {
            let how = "missed transactions fetched by their ids";
            self.out.live_and_filled(SmolStr::default(), TRANSACTIONS, UnixNanos::now(), how).await?;
        } else {
            self.out.live(SmolStr::default(), TRANSACTIONS, UnixNanos::now()).await?;
        }
        self.end_unwanted().await?;
        loop {
            // Waiting for the recorder is no silence of the venue's: the time runs from here.
            let Ok(chunk) = timeout(DEAD, stream.chunk()).await else {
                bail!("no bytes for {} s", DEAD.as_secs());
            };
            match chunk {
                Ok(Some(chunk)) => {
                    let ts_recv = UnixNanos::now();
                    lines.push(&chunk);
                    while let Some(piece) = lines.cut() {
                        self.piece(piece, ts_recv).await?;
                    }
                }
                ended => return super::ended(ended, lines.rest(), self.out, self.client).await,
            }
        }
    }

    /// Fetches what happened since the tape's last transaction, and says whether nothing is missing by now: of an account
    /// that the tape does not know nothing is fetched.
    async fn catch_up(&mut self) -> anyhow::Result<bool> {
        let newest = self.client.last_transaction().await?;
        match self.out.resume().positions.get(&self.key).and_then(|id| id.parse::<u64>().ok()) {
            Some(last) if last <= newest => {
                self.last = last;
                self.fill(newest).await?;
                Ok(true)
            }
            known => {
                if let Some(last) = known {
                    tracing::warn!(source = %self.ctx.source, last, newest, "the account's numbering began anew: nothing is fetched");
                }
                self.last = newest;
                self.out.emit(vec![self.position(UnixNanos::now())]).await?;
                Ok(false)
            }
        }
    }

    /// Fetches all transactions behind the last one, up to `newest`.
    async fn fill(&mut self, newest: u64) -> anyhow::Result<()> {
        let first = self.last;
        let (mut fetched, mut short) = (0_u64, 0);
        while self.last < newest {
            let page_end = newest.min(self.last + super::client::PAGE);
            let texts = self.client.transactions(self.last, newest).await?;
            let ts_recv = UnixNanos::now();
            let mut append = Vec::new();
            for text in texts {
                let text = masked(text.as_bytes(), self.client);
                match parse(&text, ts_recv, &self.ctx, false) {
                    Ok(Message::Transaction { id, mut event, odd_time }) if id > self.last => {
                        if let Some(odd) = odd_time {
                            self.out.note(odd);
                        }
                        event.flags = event.flags.with(Flags::BACKFILLED);
                        append.push(*event);
                        (self.last, fetched) = (id, fetched + 1);
                    }
                    Ok(Message::Transaction { .. }) => {}
                    Ok(_) => self.out.reject(&text, ts_recv, "no transaction", &"fetched").await?,
                    Err(error) => self.out.reject(&text, ts_recv, error.reason, &error).await?,
                }
                if append.len() >= AN_APPEND {
                    self.say(std::mem::take(&mut append), ts_recv).await?;
                }
            }
            if !append.is_empty() {
                self.say(append, ts_recv).await?;
            }
            if self.last < page_end && page_end < newest {
                // A range within the account's past that ends with ids which nobody has.
                self.last = page_end;
            } else if self.last < page_end {
                // Its requests may know later than its streams; to go on without would be to lose it.
                short += 1;
                ensure!(short < SHORT, "the venue names transaction {newest} and does not give it");
                sleep(SHORTLY).await;
            }
        }
        if fetched > 0 {
            tracing::info!(source = %self.ctx.source, fetched, behind = first, "missed transactions fetched");
        }
        Ok(())
    }

    /// Emits transactions with the position behind them.
    async fn say(&self, mut events: Vec<Event>, ts_recv: UnixNanos) -> anyhow::Result<()> {
        events.push(self.position(ts_recv));
        Ok(self.out.emit(events).await?)
    }

    fn position(&self, ts_recv: UnixNanos) -> Event {
        let position = Position { key: self.key.clone(), value: SmolStr::from(self.last.to_string()) };
        self.out.event(SmolStr::default(), None, ts_recv, Body::Position(position))
    }

    async fn piece(&mut self, piece: Piece<'_>, ts_recv: UnixNanos) -> anyhow::Result<()> {
        let bytes = match piece {
            Piece::Line(bytes) => bytes,
            Piece::TooLong(begun) => {
                self.out.heard(ts_recv, begun.len());
                return super::too_long(begun, ts_recv, self.out, self.client).await;
            }
        };
        self.out.heard(ts_recv, bytes.len());
        let text = masked(bytes, self.client);
        let raw = || {
            let body = Body::Raw(Raw { format: "line".into(), frame: text.to_vec() });
            self.out.event(SmolStr::default(), None, ts_recv, body)
        };
        let mut raw_kept = self.config.keep_raw.then(raw);
        match parse(&text, ts_recv, &self.ctx, false) {
            Ok(Message::Transaction { id, event, odd_time }) => {
                if id > self.last + 1 {
                    self.fill(id - 1).await?;
                }
                if id > self.last {
                    if let Some(odd) = odd_time {
                        self.out.note(odd);
                    }
                    self.last = id;
                    let events = raw_kept.take().into_iter().chain([*event]).collect();
                    return self.say(events, ts_recv).await;
                }
            }
            Ok(Message::Heartbeat { last_transaction, .. }) => {
                if let Some(newest) = last_transaction.filter(|newest| *newest > self.last) {
                    self.fill(newest).await?;
                }
            }
            Ok(_) => {
                self.out.note("unknown type");
                raw_kept.get_or_insert_with(raw);
            }
            Err(error) => self.out.reject(&text, ts_recv, error.reason, &error).await?,
        }
        Ok(self.out.emit(raw_kept.into_iter().collect()).await?)
    }

    /// What the tape knows of prices that no session of this table records any more: their gaps would never close.
    async fn end_unwanted(&self) -> anyhow::Result<()> {
        if self.config.records_prices() {
            // The session of prices does it, which knows them.
            return Ok(());
        }
        for (symbol, channel) in &self.out.resume().subscriptions {
            if *channel != TRANSACTIONS {
                self.out.unsubscribed(symbol.clone(), channel.clone()).await?;
            }
        }
        Ok(())
    }
}
