//! OANDA v20: prices and the account's transactions, each over a stream of lines, requests beside them.
//!
//! ```text
//! stream ─► split ─► line ─► pricing ──────► outlet        client: paced requests, refusals in words
//!                      │      └ asks for a price when one falls silent
//!                      └ order ─► transactions ─► outlet
//!                                  └ fetches what was missed
//! ```
//!
//! A table makes two sessions, `NAME` and `NAME/transactions`: the venue's two streams fail each for itself.

mod check;
mod client;
mod config;
mod history;
pub mod line;
mod order;
mod pricing;
mod scan;
mod transactions;

use std::borrow::Cow;
use std::time::Instant;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use tapedeck_market::{Event, Raw, SmolStr, UnixNanos};

use self::client::{Client, Gate};
use self::config::ChannelName;
pub use self::config::Config;
use self::line::{Ctx, Message, ParseError};
use self::pricing::Memory;
use super::history::History;
use super::reread::Reread;
use super::{Kind, Outlet, Session, Setup, Source, split};

pub const KIND: Kind = Kind {
    name: "oanda",
    about: "OANDA v20: prices, and the account's transactions, over HTTP streams",
    build,
    schema: || schemars::schema_for!(Config),
    history: Some(history),
    reread: Some(reread),
};

fn history(setup: Setup) -> anyhow::Result<Box<dyn History>> {
    let config = Config::from_table(setup.table)?;
    let ctx = Ctx { source: setup.name, venue: SmolStr::new_static("oanda") };
    Ok(Box::new(history::Candles::new(config, ctx)))
}

/// Channels as the gap ledger names them.
const QUOTE: SmolStr = SmolStr::new_static("quote");
const BOOK: SmolStr = SmolStr::new_static("book");
const TRANSACTIONS: SmolStr = SmolStr::new_static("transactions");

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Config::from_table(setup.table)?;
    let (venue, gate) = (SmolStr::new_static("oanda"), Gate::new());
    let session = |name: SmolStr, source: Box<dyn Source>| Session { name, venue: venue.clone(), source };
    let mut sessions = Vec::new();
    if config.records_prices() {
        let prices = Prices { config: config.clone(), gate: gate.clone(), memory: Memory::default() };
        sessions.push(session(setup.name.clone(), Box::new(prices)));
    }
    if config.records(ChannelName::Transactions) {
        let name = if sessions.is_empty() { setup.name } else { SmolStr::from(format!("{}/transactions", setup.name)) };
        sessions.push(session(name, Box::new(Account { config, gate })));
    }
    Ok(sessions)
}

fn reread(setup: Setup) -> anyhow::Result<Box<dyn Reread>> {
    let config = Config::from_table(setup.table)?;
    let ctx = Ctx { source: setup.name, venue: SmolStr::new_static("oanda") };
    Ok(Box::new(Recorded { ctx, book: config.records(ChannelName::Book) }))
}

/// Recorded lines of both streams.
struct Recorded {
    ctx: Ctx,
    book: bool,
}

impl Reread for Recorded {
    fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, ParseError> {
        Ok(match line::parse(&raw.frame, ts_recv, &self.ctx, self.book)? {
            Message::Price(price) => std::iter::once(price.quote).chain(price.book).collect(),
            Message::Transaction { event, .. } => vec![*event],
            _ => Vec::new(),
        })
    }
}

/// The stream of prices.
struct Prices {
    config: Config,
    gate: Gate,
    memory: Memory,
}

#[async_trait]
impl Source for Prices {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let client = Client::new(&self.config, &self.gate)?;
        pricing::Feed::new(&self.config, &client, &mut self.memory, out).run().await
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::prices(&self.config, &Client::new(&self.config, &self.gate)?).await
    }
}

/// The stream of transactions.
struct Account {
    config: Config,
    gate: Gate,
}

#[async_trait]
impl Source for Account {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let client = Client::new(&self.config, &self.gate)?;
        transactions::Feed::new(&self.config, &client, out).run().await
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::transactions(&Client::new(&self.config, &self.gate)?).await
    }
}

fn now() -> Instant {
    // Tokio's clock, so that tests own it.
    tokio::time::Instant::now().into_std()
}

/// The bytes without the account, as they go to the tape.
fn masked<'a>(bytes: &'a [u8], client: &Client) -> Cow<'a, [u8]> {
    if client.is_private(bytes) {
        Cow::Owned(client.mask(&String::from_utf8_lossy(bytes)).into_bytes())
    } else {
        Cow::Borrowed(bytes)
    }
}

/// Keeps the beginning of a line that is too long to be read.
async fn too_long(begun: &[u8], ts_recv: UnixNanos, out: &Outlet, client: &Client) -> anyhow::Result<()> {
    let error = format!("more than {} KiB without an end", split::LINE_BYTES >> 10);
    Ok(out.reject(&masked(begun, client), ts_recv, "line too long", &error).await?)
}

/// How a stream ended that delivers no more; what was left of a line is kept.
async fn ended<T>(
    chunk: Result<Option<T>, reqwest::Error>,
    rest: &[u8],
    out: &Outlet,
    client: &Client,
) -> anyhow::Result<()> {
    if !rest.is_empty() {
        out.reject(&masked(rest, client), UnixNanos::now(), "line cut off", &"the stream ended inside it").await?;
    }
    chunk.map_err(reqwest::Error::without_url).context("reading the stream")?;
    bail!("the venue closed the stream")
}
