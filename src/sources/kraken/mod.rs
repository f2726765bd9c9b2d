//! Kraken: WebSocket v2, REST beside it, and the old v1 array format of recordings.
//!
//! ```text
//!                     ┌ scan ─┐ the venue's key order
//! socket ─► session ─►┤       ├─► message ─► books · sequence · candles ─► outlet
//!              │      └ parse ┘ any order
//!            subs: what is wanted, asked, live        v1: arrays, from files
//! ```
//!
//! A table makes up to three sessions: the public socket, the polled tickers (`ticker = "rest"`), and the own
//! orders (`executions`), which wait for a key while the rest runs.

#[cfg(test)]
mod agreement;
pub mod books;
pub(super) mod candles;
mod check;
mod config;
mod history;
pub mod message;
pub mod names;
pub mod parse;
mod private;
mod rest;
mod scan;
pub(super) mod sequence;
mod session;
mod subs;
pub mod v1;

use std::collections::HashMap;

use anyhow::Context as _;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use tapedeck_market::{Event, Raw, SmolStr, UnixNanos};

use self::config::ChannelName;
pub use self::config::Config;
use self::message::{Ctx, Message};
use self::names::Names;
use self::rest::{Rest, TickerPoll};
use self::session::{Feed, Memory, Role};
use super::history::History;
use super::parsed::ParseError;
use super::reread::Reread;
use super::socket::Socket;
use super::{Kind, Outlet, Session, Setup, Source, Waiting};

pub const KIND: Kind = Kind {
    name: "kraken",
    about: "Kraken spot: trades, tickers, books, candles and own orders over WebSocket v2, tickers over REST",
    build,
    schema: || schemars::schema_for!(Config),
    history: Some(history),
    reread: Some(reread),
};

fn history(setup: Setup) -> anyhow::Result<Box<dyn History>> {
    let config = Config::from_table(setup.table)?;
    let ctx = Ctx { source: setup.name, venue: SmolStr::new_static("kraken") };
    Ok(Box::new(history::Trades::new(&config, ctx)?))
}

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Config::from_table(setup.table)?;
    let venue = SmolStr::new_static("kraken");
    let session = |name: SmolStr, source: Box<dyn Source>| Session { name, venue: venue.clone(), source };
    let mut sessions = Vec::new();
    if config.channels() != [ChannelName::Executions] {
        let public = Public { config: config.clone(), memory: Memory::default() };
        sessions.push(session(setup.name.clone(), Box::new(public)));
    }
    if config.polls_tickers() {
        let poll = TickerPoll { config: config.clone(), names: Names::default(), said: HashMap::new() };
        sessions.push(session(SmolStr::from(format!("{}/rest", setup.name)), Box::new(poll)));
    }
    if config.records(ChannelName::Executions) {
        let name = if sessions.is_empty() { setup.name } else { SmolStr::from(format!("{}/private", setup.name)) };
        sessions.push(session(name, Box::new(Private { config, memory: Memory::default() })));
    }
    Ok(sessions)
}

fn reread(setup: Setup) -> anyhow::Result<Box<dyn Reread>> {
    Config::from_table(setup.table)?;
    Ok(Box::new(Recorded(Ctx { source: setup.name, venue: SmolStr::new_static("kraken") })))
}

/// Recorded frames of the WebSocket.
struct Recorded(Ctx);

impl Reread for Recorded {
    fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, ParseError> {
        match parse::parse(&raw.frame, ts_recv, &self.0)? {
            Message::Events(events) => Ok(events),
            _ => Ok(Vec::new()),
        }
    }
}

/// The public socket.
struct Public {
    config: Config,
    memory: Memory,
}

impl Public {
    /// A configured name that no rule can read needs the asset list before anything can be asked for.
    fn needs_names(&self) -> bool {
        let unknown = |pair: &String| !pair.contains('*') && names::modern(pair).is_none();
        self.memory.names.is_empty() && self.config.pairs.iter().any(unknown)
    }
}

#[async_trait]
impl Source for Public {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        if self.needs_names() {
            let rest = Rest::new(self.config.rest_url())?;
            self.memory.names = rest.names().await.context("reading the asset list for old names")?;
        }
        let socket = Socket::connect(&self.config.url).await?;
        let url = self.config.rest_url();
        let names = self.memory.names.is_empty().then(|| async move { Rest::new(url)?.names().await }.boxed());
        let mut feed = Feed::new(&self.config, &mut self.memory, out, socket, Role::Public, names);
        let ended = feed.run().await;
        feed.end();
        ended
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::public(&self.config, &mut self.memory.names).await
    }
}

/// The socket of own orders.
struct Private {
    config: Config,
    memory: Memory,
}

impl Private {
    async fn token(&self) -> anyhow::Result<crate::config::Secret> {
        let (Some(key), Some(secret)) = (&self.config.api_key, &self.config.api_secret) else {
            return Err(Waiting("no credentials: set KRAKEN_API_KEY and KRAKEN_API_SECRET".to_owned()).into());
        };
        Rest::new(self.config.rest_url())?.token(key, secret).await
    }
}

#[async_trait]
impl Source for Private {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let token = self.token().await?;
        let socket = Socket::connect(self.config.private_url()).await?;
        let mut feed = Feed::new(&self.config, &mut self.memory, out, socket, Role::Private(token), None);
        let ended = feed.run().await;
        feed.end();
        ended
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let token = self.token().await?;
        check::private(&self.config, token).await
    }
}
