//! What a session offers to requests: who may write, what a line becomes, and the way to the recorder.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;
use tapedeck_market::{Body, Event, Flags, Position, SmolStr, UnixNanos};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Config;
use crate::config::Secret;
use crate::intake::Outlet;
use crate::lineproto::Line;

/// Text of the points of one batch, about: a request is appended in pieces of this size, so that one of many megabytes
/// does not hold all of its events in memory, nor up the events of others.
pub const BATCH_BYTES: usize = 128 * 1024;
/// Kibibytes of bodies that all requests together may hold.
const BODIES_KIB: usize = 64 * 1024;
/// Databases whose names are remembered.
const DATABASES: usize = 1_000;
/// How a database stands among the source's positions on the tape.
const DATABASE_KEY: &str = "database ";
/// What the InfluxDB behind may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// And to say anything.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// One piece of a request.
#[derive(Debug)]
pub struct Batch {
    pub events: Vec<Event>,
    /// Text that they were.
    pub bytes: usize,
    pub ts_recv: UnixNanos,
    pub rejects: Vec<Reject>,
    /// Told when `events` are durable; dropped when they will not be.
    pub durable: oneshot::Sender<u64>,
}

/// A line that is not a point: kept as it came.
#[derive(Debug)]
pub struct Reject {
    pub line: Vec<u8>,
    pub reason: &'static str,
    pub words: String,
}

/// Open while a session runs.
#[derive(Debug)]
pub struct Door {
    config: Config,
    source: SmolStr,
    credentials: Credentials,
    upstream: Option<Upstream>,
    bodies: Arc<Semaphore>,
    databases: Mutex<BTreeSet<String>>,
    batches: mpsc::Sender<Batch>,
}

impl Door {
    pub(super) fn new(config: &Config, out: &Outlet, batches: mpsc::Sender<Batch>) -> anyhow::Result<Door> {
        let known = out.resume().positions.keys().filter_map(|key| key.strip_prefix(DATABASE_KEY).map(str::to_owned));
        // One request as large as the config allows must always find room.
        let room_kib = BODIES_KIB.max(2 * (config.max_body.0 as usize).div_ceil(1024));
        Ok(Door {
            config: config.clone(),
            source: out.source().clone(),
            credentials: config.credentials(),
            upstream: Upstream::of(config)?,
            bodies: Arc::new(Semaphore::new(room_kib)),
            databases: Mutex::new(known.take(DATABASES).collect()),
            batches,
        })
    }

    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The InfluxDB behind, if there is one.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Largest body, unpacked.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.config.max_body.0 as usize
    }

    /// Room for bodies, a permit a KiB.
    #[must_use]
    pub fn bodies(&self) -> &Arc<Semaphore> {
        &self.bodies
    }

    /// The event of a line, written to `database`.
    #[must_use]
    pub fn event(&self, line: Line, ts_event: UnixNanos, ts_recv: UnixNanos, database: &str) -> Event {
        let mut point = line.point;
        let tag = |key: &str| point.tags.iter().find(|(tag, _)| tag == key).map(|(_, value)| value.clone());
        let symbol = self.config.symbol_tags.iter().find_map(|key| tag(key)).unwrap_or_default();
        let venue = self.config.venue_tag.as_deref().and_then(tag).unwrap_or_else(|| self.config.venue.clone());
        if let Some(key) = &self.config.database_tag
            && !point.tags.iter().any(|(tag, _)| tag == key)
        {
            point.tags.push((key.into(), database.into()));
        }
        self.own(venue, symbol, Some(ts_event), ts_recv, Body::Point(Box::new(point)))
    }

    fn own(
        &self,
        venue: SmolStr,
        symbol: SmolStr,
        ts_event: Option<UnixNanos>,
        ts_recv: UnixNanos,
        body: Body,
    ) -> Event {
        Event { source: self.source.clone(), venue, symbol, ts_event, ts_recv, flags: Flags::NONE, origin: None, body }
    }

    /// Remembers a database: the event that keeps its name on the tape, when it is new.
    #[must_use]
    pub fn note_database(&self, name: &str, ts_recv: UnixNanos) -> Option<Event> {
        let mut known = self.known();
        if known.contains(name) || known.len() >= DATABASES {
            return None;
        }
        known.insert(name.to_owned());
        let position = Position { key: format!("{DATABASE_KEY}{name}").into(), value: SmolStr::new_static("created") };
        Some(self.own(self.config.venue.clone(), SmolStr::default(), None, ts_recv, Body::Position(position)))
    }

    /// Databases that were created or written to, as far as the tape tells.
    #[must_use]
    pub fn databases(&self) -> Vec<String> {
        self.known().iter().cloned().collect()
    }

    /// Hands over a piece of a request; waits while the recorder is behind.
    ///
    /// # Errors
    /// The session is over.
    pub async fn send(&self, batch: Batch) -> Result<(), crate::intake::Stopped> {
        self.batches.send(batch).await.map_err(|_| crate::intake::Stopped)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may write. Kept as digests, so that a comparison takes the same time whatever it is compared with.
#[derive(Debug, Default)]
pub struct Credentials {
    token: Option<Digest>,
    user: Option<(Digest, Digest)>,
}

/// What a request shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub token: Option<String>,
    pub user: Option<(String, String)>,
}

impl Credentials {
    pub(super) fn new(token: Option<&str>, user: Option<(&str, &str)>) -> Credentials {
        let user = user.map(|(user, password)| (hash(user), hash(password)));
        Credentials { token: token.map(hash), user }
    }

    /// Whether anybody may write who reaches the port.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.user.is_none()
    }

    /// Whether this may write: the token, alone or as a password (as 2.x and 3 take it), or the user with the password.
    #[must_use]
    pub fn admit(&self, offer: &Offer) -> bool {
        let same = |ours: &Digest, theirs: &str| ours.as_ref().ct_eq(hash(theirs).as_ref());
        let mut admitted = subtle::Choice::from(u8::from(self.is_open()));
        if let (Some(ours), Some(theirs)) = (&self.token, &offer.token) {
            admitted |= same(ours, theirs);
        }
        if let Some((user, password)) = &offer.user {
            if let Some(token) = &self.token {
                admitted |= same(token, password);
            }
            if let Some((our_user, our_password)) = &self.user {
                admitted |= same(our_user, user) & same(our_password, password);
            }
        }
        admitted.into()
    }
}

fn hash(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

/// The InfluxDB that queries are passed on to.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: reqwest::Client,
    base: reqwest::Url,
    user: Option<(String, Secret)>,
    token: Option<Secret>,
}

impl Upstream {
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Upstream>> {
        let Some(url) = &config.influx else { return Ok(None) };
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(READ_LIMIT)
            // Credentials go where the config says, nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("preparing requests to InfluxDB")?;
        let base = reqwest::Url::parse(url).context("influx: write a URL such as http://127.0.0.1:8086")?;
        let user = config.influx_user.clone().zip(config.influx_password.clone());
        Ok(Some(Upstream { client, base, user, token: config.influx_token.clone() }))
    }

    /// Whether it has credentials of its own, so that those of a request are not passed on.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.user.is_some() || self.token.is_some() || !self.base.username().is_empty()
    }

    /// A request to one of its paths, with the credentials that the config has for it.
    pub fn request(&self, method: reqwest::Method, path: &str, query: Option<&str>) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_query(query);
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let request = self.client.request(method, url);
        match (&self.user, &self.token) {
            (_, Some(token)) => request.header(reqwest::header::AUTHORIZATION, format!("Token {}", token.expose())),
            (Some((user, password)), None) => request.basic_auth(user, Some(password.expose())),
            (None, None) => request,
        }
    }

    /// # Errors
    /// It does not answer, or not as an InfluxDB.
    pub async fn ping(&self) -> anyhow::Result<()> {
        let answer =
            self.request(reqwest::Method::GET, "ping", None).send().await.map_err(reqwest::Error::without_url)?;
        ensure!(answer.status().is_success(), "it answers {} to /ping", answer.status());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(token: &str, user: Option<(&str, &str)>) -> Offer {
        let token = (!token.is_empty()).then(|| token.to_owned());
        Offer { token, user: user.map(|(user, password)| (user.to_owned(), password.to_owned())) }
    }

    #[test]
    fn who_shows_the_token_or_user_and_password_is_admitted() {
        let both = Credentials::new(Some("t0k"), Some(("me", "pw")));
        for (offer, admitted) in [
            (offer("t0k", None), true),
            (offer("", Some(("me", "pw"))), true),
            (offer("", Some(("anybody", "t0k"))), true),
            (offer("wrong", Some(("me", "pw"))), true),
            (Offer::default(), false),
            (offer("", Some(("me", "t0"))), false),
            (offer("", Some(("you", "pw"))), false),
            (offer("pw", None), false),
            (offer("t0k ", None), false),
        ] {
            assert_eq!(both.admit(&offer), admitted, "{offer:?}");
        }
        assert!(Credentials::default().admit(&Offer::default()));
        assert!(!Credentials::new(Some("t"), None).admit(&offer("", Some(("", "")))));
    }
}
