//! Betfair Exchange Stream: ladders of runners, definitions of markets, and own orders, over a stream of lines.
//!
//! ```text
//! login (one session, kept in memory) ─► stream ─► split ─► line ─► markets ─► session ─► outlet
//!                                                            │         └ joins pieces, drops older versions
//!                                                            └ value, definition, order
//! ```
//!
//! A table makes two connections, `NAME` and `NAME/orders`: they fail each for itself, and share the login.

mod check;
mod config;
mod definition;
pub mod line;
mod login;
pub mod markets;
mod order;
mod session;
mod stream;
mod value;

use std::sync::Arc;

use async_trait::async_trait;
use tapedeck_market::SmolStr;

use self::config::ChannelName;
pub use self::config::Config;
use self::login::Login;
use self::session::{Feed, Memory};
use super::{Kind, Outlet, Session, Setup, Source};

pub const KIND: Kind = Kind {
    name: "betfair",
    about: "Betfair Exchange Stream: all eight ladders, definitions of markets, own orders",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: None,
};

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Arc::new(Config::from_table(setup.table)?);
    let login = Login::new(config.clone());
    let mut sessions = Vec::new();
    for channel in [ChannelName::Odds, ChannelName::Orders] {
        if !config.records(channel) {
            continue;
        }
        let name = match sessions.is_empty() {
            true => setup.name.clone(),
            false => SmolStr::from(format!("{}/orders", setup.name)),
        };
        let source = Connection { config: config.clone(), login: login.clone(), channel, memory: Memory::default() };
        sessions.push(Session { name, venue: SmolStr::new_static("betfair"), source: Box::new(source) });
    }
    Ok(sessions)
}

/// One of the connections of a table.
struct Connection {
    config: Arc<Config>,
    login: Login,
    channel: ChannelName,
    memory: Memory,
}

#[async_trait]
impl Source for Connection {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        // First: whoever waits for a login asks the venue for nothing.
        let session = self.login.session().await?;
        Feed::new(&self.config, &self.login, &mut self.memory, out, self.channel, session).run().await
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::run(&self.config, &self.login, self.channel).await
    }
}
