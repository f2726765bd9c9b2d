//! X: posts of the filtered stream, scored by VADER; the account's rules are kept as the config has them.
//!
//! ```text
//! rules (GET, POST) ─► stream ─► split ─► line (scan, or any order) ─► sentiment ─► outlet
//!                        └ how it ended ─► pause: how long the venue is left alone
//! ```
//!
//! One connection a token, so a table is one session.

mod check;
mod client;
mod config;
pub mod line;
mod pause;
mod rules;
mod scan;
pub mod sentiment;
mod stream;

use std::collections::HashSet;

use async_trait::async_trait;
use tapedeck_market::{Event, Raw, SmolStr, UnixNanos};
use tokio::time::Instant;

use self::client::Client;
pub use self::config::Config;
use self::pause::Pauses;
use super::reread::Reread;
use super::{Again, Kind, Outlet, Session, Setup, Source};

pub const KIND: Kind = Kind {
    name: "x",
    about: "X: posts that match your rules, over the filtered stream, with VADER sentiment",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: Some(reread),
};

fn reread(setup: Setup) -> anyhow::Result<Box<dyn Reread>> {
    let config = Config::from_table(setup.table)?;
    let ctx = line::Ctx { source: setup.name, venue: SmolStr::new_static("x") };
    Ok(Box::new(Recorded { ctx, sentiment: config.sentiment }))
}

/// Recorded lines of the stream.
struct Recorded {
    ctx: line::Ctx,
    sentiment: bool,
}

impl Reread for Recorded {
    fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, line::ParseError> {
        let line::Message::Post(post) = line::parse(&raw.frame, ts_recv, &self.ctx)? else { return Ok(Vec::new()) };
        let mut event = post.event;
        if self.sentiment {
            sentiment::score_post(&mut event);
        }
        Ok(vec![event])
    }
}

/// The channel as the gap ledger names it.
const POST: SmolStr = SmolStr::new_static("post");

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Config::from_table(setup.table)?;
    let source = X { config, pauses: Pauses::default(), memory: Memory::default() };
    Ok(vec![Session { name: setup.name, venue: SmolStr::new_static("x"), source: Box::new(source) }])
}

struct X {
    config: Config,
    pauses: Pauses,
    memory: Memory,
}

/// What outlives a session.
#[derive(Debug, Default)]
struct Memory {
    /// Unknown fields, so that each is told once.
    fields: HashSet<SmolStr>,
    /// Rules that the venue refuses, as they were told last.
    told: Vec<String>,
}

#[async_trait]
impl Source for X {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let client = Client::new(&self.config)?;
        let mut opened = None;
        let Err(end) = stream::run(&self.config, &client, &mut self.memory, out, &mut opened).await;
        let lived = opened.map_or_else(Default::default, |opened: Instant| opened.elapsed());
        let pause = self.pauses.after(&end, lived);
        Err(end.error.context(Again(pause)))
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::check(&self.config, &Client::new(&self.config)?).await
    }
}
