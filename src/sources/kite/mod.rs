//! Zerodha Kite: the binary ticker, and own orders that come with it.
//!
//! ```text
//! config · file · query ─► symbols ─► list (the venue's, of the day) ─► tokens
//!                                                                         │
//! login ──────────────────────────────► socket ─► session ─► frame ─► outlet
//!                                                    │        └ segment: digits of prices
//!                                                    └ hours: when silence is strange       text: own orders
//! ```
//!
//! A table makes a session for each 3,000 instruments: `NAME`, `NAME/2`, `NAME/3`. They share the login and the list.

mod check;
mod config;
pub mod frame;
mod history;
pub mod hours;
pub mod list;
pub mod login;
pub mod rest;
mod segment;
mod session;
pub mod symbols;
pub mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use tapedeck_market::{Body, Event, Raw, SmolStr, UnixNanos};
use tokio_tungstenite::tungstenite;

pub use self::config::Config;
use self::config::{A_CONNECTION, Checked};
use self::list::{Cache, Listed};
use self::login::Login;
use self::rest::Rest;
pub use self::segment::Divisors;
use self::session::{Everybody, Feed, Member, Memory};
use super::history::History;
use super::reread::Reread;
use super::socket::Socket;
use super::{Kind, Outlet, Session, Setup, Source, Waiting};
use crate::sinks::postgres;

pub const KIND: Kind = Kind {
    name: "kite",
    about: "Zerodha Kite: ticker of NSE, BSE and MCX with five levels, own orders, over WebSocket",
    build,
    schema: || schemars::schema_for!(Config),
    history: Some(history),
    reread: Some(reread),
};

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let checked = Config::from_table(setup.table.clone())?;
    let connections = checked.connections();
    let shared = Shared::new(checked, &setup);
    let session = |ordinal: usize| {
        let name = match ordinal {
            0 => setup.name.clone(),
            _ => SmolStr::from(format!("{}/{}", setup.name, ordinal + 1)),
        };
        let source = Connection { shared: shared.clone(), ordinal, memory: Memory::default() };
        Session { name, venue: SmolStr::new_static("kite"), source: Box::new(source) }
    };
    Ok((0..connections).map(session).collect())
}

fn history(setup: Setup) -> anyhow::Result<Box<dyn History>> {
    let checked = Config::from_table(setup.table.clone())?;
    let ctx = frame::Ctx { source: setup.name.clone(), venue: SmolStr::new_static("kite") };
    Ok(Box::new(history::Minutes::new(Shared::new(checked, &setup), ctx)))
}

fn reread(setup: Setup) -> anyhow::Result<Box<dyn Reread>> {
    let checked = Config::from_table(setup.table)?;
    let ctx = frame::Ctx { source: setup.name, venue: SmolStr::new_static("kite") };
    let wanted = checked.config.wanted();
    Ok(Box::new(Recorded(frame::Reader { ctx, divisors: checked.divisors, wanted, symbols: HashMap::default() })))
}

/// Whether no exchange of a table's instruments trades at that moment, as far as the table says whose they are.
#[must_use]
pub fn is_closed(table: &toml::Table, at: UnixNanos) -> bool {
    let Ok(mut checked) = Config::from_table(table.clone()) else { return false };
    if checked.config.symbols_from_db.is_some() {
        return false;
    }
    let Checked { hours, instruments, .. } = &mut checked;
    instruments.iter().all(|instrument| match instrument {
        symbols::Instrument::Name { exchange, .. } => hours.session(exchange).is_some() && !hours.is_open(exchange, at),
        symbols::Instrument::Token(_) => false,
    })
}

/// Recorded frames of the ticker.
struct Recorded(frame::Reader);

impl Reread for Recorded {
    fn learn(&mut self, instrument: &Event) {
        let Body::Instrument(listed) = &instrument.body else { return };
        let token = listed.aliases.iter().find(|(scheme, _)| scheme == session::TOKEN);
        if let Some(token) = token.and_then(|(_, token)| token.parse().ok()) {
            self.0.symbols.insert(token, instrument.symbol.clone());
        }
    }

    fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, frame::ParseError> {
        if raw.format == "text" {
            return Ok(match text::parse(&raw.frame, ts_recv, &self.0.ctx)? {
                text::Text::Order(order) => vec![*order],
                _ => Vec::new(),
            });
        }
        let read = self.0.read(&raw.frame, ts_recv)?;
        Ok(read.events)
    }
}

/// What the connections of a table have in common.
#[derive(Debug)]
struct Shared {
    checked: Checked,
    login: Login,
    cache: Cache,
    /// What the database named last.
    of_db: Mutex<Option<Vec<symbols::Instrument>>>,
}

/// The wanted instruments as the venue's list has them.
struct Resolved {
    members: Vec<Member>,
    unknown: Vec<String>,
}

impl Resolved {
    /// Those of a connection.
    fn members(&self, ordinal: usize) -> Vec<Member> {
        self.members.chunks(A_CONNECTION).nth(ordinal).unwrap_or_default().to_vec()
    }
}

impl Shared {
    fn new(checked: Checked, setup: &Setup) -> Arc<Shared> {
        let login = Login::new(&checked.config, &setup.dir, &setup.name);
        let cache = Cache::new(&setup.dir, &checked.config.rest_url());
        Arc::new(Shared { checked, login, cache, of_db: Mutex::default() })
    }

    /// What the table, its file and its database name. The first connection alone asks the database again: what the others
    /// have would otherwise move from one to another unseen.
    async fn wanted(&self, first: bool) -> anyhow::Result<Vec<symbols::Instrument>> {
        let config = &self.checked.config;
        let mut wanted = self.checked.instruments.clone();
        let (Some(query), Some(dsn)) = (&config.symbols_from_db, &config.symbols_dsn) else { return Ok(wanted) };
        let last = || self.of_db.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last().clone();
        let named = match known {
            Some(known) if !first => known,
            known => match postgres::symbols(dsn.expose(), query).await {
                Ok(names) => {
                    let named: anyhow::Result<Vec<_>> =
                        names.iter().map(|name| symbols::instrument(name, &config.exchange)).collect();
                    let named = named.context("symbols_from_db").map_err(|error| Waiting(format!("{error:#}")))?;
                    // What was there keeps its place, and so its connection.
                    let mut kept: Vec<_> = known.unwrap_or_default();
                    kept.retain(|one| named.contains(one));
                    kept.extend(named);
                    let kept = config::once(kept);
                    *last() = Some(kept.clone());
                    kept
                }
                // A name that was good a minute ago is better than no data.
                Err(error) => known.ok_or(error.context("symbols_from_db"))?,
            },
        };
        wanted.extend(named);
        let wanted = config::once(wanted);
        config::limited(&wanted).map_err(|error| Waiting(format!("symbols_from_db: {error}")))?;
        if wanted.is_empty() {
            return Err(Waiting("symbols_from_db names no instrument".to_owned()).into());
        }
        Ok(wanted)
    }

    /// Looks the instruments up in the list of the day.
    async fn resolve(&self, first: bool) -> anyhow::Result<Resolved> {
        let rest = Rest::new(self.checked.config.rest_url())?;
        let wanted = self.wanted(first).await?;
        let list = self.cache.list(&rest, UnixNanos::now()).await?;
        // Some ten MiB are read through: not where others wait for their turn.
        let resolved = tokio::task::spawn_blocking(move || list::resolve(&list, &wanted)).await;
        let resolved = resolved.context("reading the list of instruments")??;
        let mode = |token: u32, listed: Option<&Listed>| {
            let name = listed.and_then(|listed| symbols::instrument(&listed.symbol, "").ok());
            let by_name = || name.and_then(|name| self.checked.mode(&name));
            let by_token = self.checked.mode(&symbols::Instrument::Token(token));
            by_token.or_else(by_name).unwrap_or(self.checked.config.mode)
        };
        let member =
            |(token, listed): (u32, Option<Listed>)| Member { mode: mode(token, listed.as_ref()), token, listed };
        Ok(Resolved { members: resolved.tokens.into_iter().map(member).collect(), unknown: resolved.unknown })
    }

    /// The address with key and token: never shown.
    fn socket_url(&self, session: &login::Session) -> String {
        let (key, token) = (session.api_key.expose(), session.access_token.expose());
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("api_key", key)
            .append_pair("access_token", token)
            .finish();
        format!("{}?{query}", self.checked.config.url)
    }
}

/// Whether the venue refused the upgrade because of the token.
fn is_refusal(error: &anyhow::Error) -> bool {
    let refused = |error: &tungstenite::Error| matches!(error, tungstenite::Error::Http(response) if matches!(response.status().as_u16(), 401 | 403));
    error.downcast_ref().is_some_and(refused)
}

/// One of the connections of a table.
struct Connection {
    shared: Arc<Shared>,
    ordinal: usize,
    memory: Memory,
}

#[async_trait]
impl Source for Connection {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        // First: whoever waits for a login asks the venue for nothing.
        let session = shared.login.session(UnixNanos::now())?;
        let resolved = shared.resolve(self.ordinal == 0).await?;
        if !resolved.unknown.is_empty() && self.ordinal == 0 {
            let unknown = resolved.unknown.join(", ");
            tracing::warn!(source = %out.source(), unknown, "the venue's list has no such instruments");
        }
        if resolved.members.is_empty() {
            let unknown = resolved.unknown.join(", ");
            return Err(Waiting(format!("the venue's list has none of `instruments`: {unknown}")).into());
        }
        let named =
            |member: &Member| (session::symbol(member.token, member.listed.as_ref()), (member.token, member.mode));
        let everybody: Everybody = resolved.members.iter().map(named).collect();
        let members = resolved.members(self.ordinal);
        if members.is_empty() {
            // Names and tokens of the same instruments, or few from a database: other connections have them all.
            for (symbol, channel) in &out.resume().subscriptions {
                out.unsubscribed(symbol.clone(), channel.clone()).await?;
            }
            return Err(Waiting("other connections have every instrument".to_owned()).into());
        }
        let socket = match Socket::connect(&shared.socket_url(&session)).await {
            Ok(socket) => socket,
            Err(error) if is_refusal(&error) => {
                shared.login.refuse(&session);
                // Says what to do; or goes on at once where another token is there.
                shared.login.session(UnixNanos::now())?;
                return Err(error.context("the access token is refused, trying the other one"));
            }
            Err(error) => return Err(error),
        };
        let listed: Vec<Listed> = members.iter().filter_map(|member| member.listed.clone()).collect();
        let first = self.ordinal == 0;
        let mut feed = Feed::new(&shared.checked, &mut self.memory, out, socket, members, &everybody, first);
        let ended = match feed.introduce(&listed).await {
            Ok(()) => feed.run().await,
            Err(error) => Err(error),
        };
        feed.end();
        ended
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        check::run(&self.shared, self.ordinal).await
    }
}
