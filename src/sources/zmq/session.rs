//! One session: a child with the sockets, and what its records mean for the tape.
//!
//! A publisher acknowledges nothing, so a subscription is what was heard: a symbol on a topic. It is live from
//! its first message; when its publisher goes away it is lost from the last message on, and live again when the connection
//! stands. A topic that flowed and falls silent on a standing connection is stalled.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use tapedeck_market::{Body, Event, Flags, GapCause, SmolStr, UnixNanos, Uuid};
use tapedeck_tape::storage::{Disk, Storage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::Reject;
use super::config::Config;
use super::decode::{Decoded, Decoder};
use super::wire::{self, RECORD_BYTES, Said, What};
use crate::child;
use crate::feed;
use crate::sources::liveness::Rhythm;
use crate::sources::{Outlet, Source, Waiting};

/// Bytes of the child's output that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often topics are looked at for silence.
const LOOK: Duration = Duration::from_secs(1);
/// Subscriptions that have gaps of their own; what lies beyond is recorded all the same.
const SUBSCRIPTIONS: usize = 50_000;
/// Topics whose rhythm is known.
const TOPICS: usize = 10_000;
/// `tapedeck check`: a publisher that is there answers within this …
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// … and this long it is listened to.
const LISTEN: Duration = Duration::from_secs(2);

/// A symbol on a topic.
type Subscription = (SmolStr, SmolStr);

/// The source.
pub(super) struct Zmq {
    config: Config,
    dir: PathBuf,
    /// Which address a subscription was heard from, over all sessions.
    owners: HashMap<Subscription, u16>,
}

impl Zmq {
    pub(super) fn new(config: Config, dir: PathBuf) -> Zmq {
        Zmq { config, dir, owners: HashMap::new() }
    }

    /// Whose bus must not be recorded.
    fn own_tape(&self) -> Option<Uuid> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        tapedeck_tape::tools::id(&storage, &self.dir).ok().filter(|id| !id.is_nil())
    }
}

#[async_trait]
impl Source for Zmq {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let own_tape = self.own_tape();
        let mut sockets = Sockets::start(&self.config).await?;
        let decoder = Decoder::new(self.config.clone(), own_tape);
        let mut feed = Feed::new(&self.config, &mut self.owners, decoder, out);
        feed.end_unwanted().await?;
        let stderr = sockets.stderr.take();
        let words = async {
            if let Some(stderr) = stderr {
                let source = out.source();
                child::lines(BufReader::new(stderr), |line| {
                    tracing::warn!(source = %source, "{}", String::from_utf8_lossy(line));
                })
                .await;
            }
            std::future::pending::<()>().await;
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let listening = async {
            loop {
                tokio::select! {
                    said = sockets.next() => feed.take(said?).await?,
                    _ = look.tick() => feed.look(Instant::now()).await?,
                }
            }
        };
        tokio::select! {
            ended = listening => ended,
            () = words => Ok(()),
        }
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let mut trial = Trial::new(&self.config, self.own_tape());
        let mut sockets = Sockets::start(&self.config).await?;
        let end = tokio::time::Instant::now() + CONNECT_LIMIT;
        while !trial.is_connected() {
            match tokio::time::timeout_at(end, sockets.next()).await {
                Ok(said) => trial.take(said?)?,
                Err(_) => break,
            }
        }
        trial.must_be_connected()?;
        let end = tokio::time::Instant::now() + LISTEN;
        while let Ok(said) = tokio::time::timeout_at(end, sockets.next()).await {
            trial.take(said?)?;
        }
        Ok(trial.report())
    }
}

/// The child process that holds the sockets; it dies with this.
struct Sockets {
    process: tokio::process::Child,
    /// Its end of file ends the child.
    _stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    read: BytesMut,
}

impl Sockets {
    async fn start(config: &Config) -> anyhow::Result<Sockets> {
        let asked = feed::Config {
            connect: config.connect.clone(),
            prefixes: prefixes(config),
            high_water: config.high_water,
            server_key: config.server_key.clone(),
            public_key: config.public_key.clone(),
            secret_key: config.secret_key.as_ref().map(|key| key.expose().to_owned()),
        };
        let line = format!("{}\n", serde_json::to_string(&asked).context("writing the child's config")?);
        let mut process = tokio::process::Command::new(child::this_program()?)
            .arg("feed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting the process that holds the sockets")?;
        let parts = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(mut stdin), Some(stdout), stderr) = parts else { bail!("the process has no pipes") };
        stdin.write_all(line.as_bytes()).await.context("giving the process its config")?;
        Ok(Sockets { process, _stdin: stdin, stdout, stderr, read: BytesMut::with_capacity(CHUNK_BYTES) })
    }

    /// The next record. Cancel safe.
    async fn next(&mut self) -> anyhow::Result<Said> {
        loop {
            if let Some(said) = take_record(&mut self.read)? {
                return Ok(said);
            }
            self.read.reserve(CHUNK_BYTES);
            if self.stdout.read_buf(&mut self.read).await.context("reading from the sockets' process")? == 0 {
                let ended = tokio::time::timeout(Duration::from_secs(1), self.process.wait()).await;
                let how =
                    ended.ok().and_then(Result::ok).map_or("ended".to_owned(), |status| format!("ended with {status}"));
                bail!("the process that holds the sockets {how}");
            }
        }
    }
}

/// Takes a whole record from the front.
fn take_record(read: &mut BytesMut) -> anyhow::Result<Option<Said>> {
    let Some(head) = read.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*head) as usize;
    ensure!(len <= RECORD_BYTES, "the sockets' process says {len} bytes at once");
    if read.len() < 4 + len {
        return Ok(None);
    }
    read.advance(4);
    let record = read.split_to(len);
    wire::read(&record).map(Some).context("the sockets' process says what cannot be understood")
}

/// What is subscribed: a prefix for each topic, and those of what is sent without one.
fn prefixes(config: &Config) -> Vec<String> {
    let names = config.names();
    if names.is_empty() {
        return vec![String::new()];
    }
    let mut prefixes: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    if names.iter().any(|name| matches!(*name, "kraken_tick" | "kr_depth")) {
        prefixes.extend(["\"{".to_owned(), "{".to_owned()]);
    }
    // A deck's bus says with it whose tape it is, before any data does.
    prefixes.push("heartbeat".to_owned());
    prefixes
}

/// An address of the config.
struct Endpoint {
    connected: bool,
    last_heard: Option<UnixNanos>,
    /// What was heard from it.
    own: HashSet<Subscription>,
}

struct Topic {
    rhythm: Rhythm,
    last_heard: UnixNanos,
    stalled: bool,
}

/// Turns records into events, and says what they mean for their subscriptions.
struct Feed<'a> {
    config: &'a Config,
    owners: &'a mut HashMap<Subscription, u16>,
    decoder: Decoder,
    out: &'a Outlet,
    endpoints: Vec<Endpoint>,
    topics: HashMap<SmolStr, Topic>,
    live: HashSet<Subscription>,
    /// What the tape knows and nobody has said yet in this process.
    resumed: Vec<Subscription>,
}

impl<'a> Feed<'a> {
    fn new(
        config: &'a Config,
        owners: &'a mut HashMap<Subscription, u16>,
        decoder: Decoder,
        out: &'a Outlet,
    ) -> Feed<'a> {
        let endpoint = |at: usize| Endpoint {
            connected: false,
            last_heard: None,
            own: owners.iter().filter(|(_, owner)| usize::from(**owner) == at).map(|(sub, _)| sub.clone()).collect(),
        };
        let endpoints = (0..config.connect.len()).map(endpoint).collect();
        let resumed = out.resume().subscriptions.iter().filter(|sub| !owners.contains_key(*sub)).cloned().collect();
        let (topics, live) = (HashMap::new(), HashSet::new());
        Feed { config, owners, decoder, out, endpoints, topics, live, resumed }
    }

    /// Subscriptions that the tape knows and the config does not want any more: their gaps would never close.
    async fn end_unwanted(&mut self) -> anyhow::Result<()> {
        let names = self.config.names();
        let unwanted = |topic: &str| !names.is_empty() && !names.contains(&topic);
        for (symbol, topic) in self.out.resume().subscriptions.clone() {
            if unwanted(&topic) {
                self.out.unsubscribed(symbol, topic).await?;
            }
        }
        self.resumed.retain(|(_, topic)| !unwanted(topic));
        self.owners.retain(|(_, topic), _| !unwanted(topic));
        Ok(())
    }

    async fn take(&mut self, said: Said) -> anyhow::Result<()> {
        let at = usize::from(said.endpoint);
        ensure!(at < self.endpoints.len(), "a record of an address that nobody named");
        let when = UnixNanos(said.at_ns);
        match said.what {
            What::Connected => self.connected(at, when).await,
            What::Gone => self.gone(at, when).await,
            What::Message(frames) => self.message(at, when, &frames).await,
            What::TooLarge(bytes) => {
                self.out.heard(when, usize::try_from(bytes).unwrap_or(usize::MAX));
                let said = format!("a message of {bytes} bytes or many frames");
                Ok(self.out.reject(said.as_bytes(), when, "too large", &said).await?)
            }
            What::Words(words) => {
                let address = &self.config.connect[at];
                tracing::warn!(source = %self.out.source(), address, "{words}");
                Ok(())
            }
        }
    }

    async fn connected(&mut self, at: usize, when: UnixNanos) -> anyhow::Result<()> {
        self.endpoints[at].connected = true;
        let mut back: Vec<Subscription> = self.endpoints[at].own.iter().cloned().collect();
        // Nobody knows whose they were: they are whole again when everybody is there.
        if self.endpoints.iter().all(|endpoint| endpoint.connected) {
            back.append(&mut self.resumed);
        }
        for sub in back {
            self.say_live(sub, when).await?;
        }
        // Until the first message there is nothing to be live.
        self.out.counters().set_state(if self.live.is_empty() { "connected" } else { "live" });
        Ok(())
    }

    async fn say_live(&mut self, sub: Subscription, when: UnixNanos) -> anyhow::Result<()> {
        if self.live.insert(sub.clone()) {
            self.out.live(sub.0, sub.1, when).await?;
        }
        Ok(())
    }

    async fn gone(&mut self, at: usize, when: UnixNanos) -> anyhow::Result<()> {
        let endpoint = &mut self.endpoints[at];
        if !std::mem::replace(&mut endpoint.connected, false) {
            return Ok(());
        }
        let since = endpoint.last_heard.unwrap_or(when);
        let lost: Vec<Subscription> = endpoint.own.iter().filter(|sub| self.live.contains(*sub)).cloned().collect();
        let address = &self.config.connect[at];
        tracing::warn!(source = %self.out.source(), address, subscriptions = lost.len(), "publisher gone, connecting again");
        for sub in lost {
            self.live.remove(&sub);
            // Its silence is the publisher's: it is no stall.
            if let Some(topic) = self.topics.get_mut(&sub.1) {
                topic.rhythm.resumed(Instant::now());
            }
            let detail = format!("{address} went away");
            self.out.lost(Some(sub.0), Some(sub.1), GapCause::Session, since, detail).await?;
        }
        if self.endpoints.iter().all(|endpoint| !endpoint.connected) {
            self.out.counters().set_state("lost: no publisher answers");
        }
        Ok(())
    }

    async fn message(&mut self, at: usize, when: UnixNanos, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        self.out.heard(when, frames.iter().map(|frame| frame.len()).sum());
        self.endpoints[at].last_heard = Some(when);
        let Decoded { topic, events, rejects, own } = self.decoder.decode(&frames);
        if own {
            let address = &self.config.connect[at];
            return Err(Waiting(format!("{address} is the bus of this very deck: take it out of `connect`")).into());
        }
        self.reject(&frames, when, &rejects).await?;
        self.heard_topic(&topic, when).await?;
        let mut append = Vec::with_capacity(events.len());
        for (made, origin) in events {
            self.heard_from(at, (made.symbol.clone(), topic.clone()), when).await?;
            append.push(Event {
                source: self.out.source().clone(),
                venue: made.venue,
                symbol: made.symbol,
                ts_event: made.ts_event,
                ts_recv: when,
                flags: Flags::NONE,
                origin,
                body: made.body,
            });
        }
        Ok(self.out.emit(append).await?)
    }

    /// The message is kept once, however many parts of it could not be read.
    async fn reject(&self, frames: &[&[u8]], when: UnixNanos, rejects: &[Reject]) -> anyhow::Result<()> {
        for (number, reject) in rejects.iter().enumerate() {
            let kept = if number == 0 { frames.join(&b' ') } else { reject.text.clone().into_bytes() };
            self.out.reject(&kept, when, reject.reason, reject).await?;
        }
        Ok(())
    }

    async fn heard_topic(&mut self, topic: &SmolStr, when: UnixNanos) -> anyhow::Result<()> {
        if topic.is_empty() || (self.topics.len() >= TOPICS && !self.topics.contains_key(topic)) {
            return Ok(());
        }
        let entry = self.topics.entry(topic.clone()).or_insert_with(|| Topic {
            rhythm: Rhythm::default(),
            last_heard: when,
            stalled: false,
        });
        entry.last_heard = when;
        if std::mem::replace(&mut entry.stalled, false) {
            entry.rhythm.resumed(Instant::now());
            for sub in self.of_topic(topic) {
                self.say_live(sub, when).await?;
            }
        } else {
            entry.rhythm.heard(Instant::now());
        }
        Ok(())
    }

    /// Subscriptions of a topic at publishers that are there.
    fn of_topic(&self, topic: &str) -> Vec<Subscription> {
        let connected = self.endpoints.iter().filter(|endpoint| endpoint.connected);
        connected.flat_map(|endpoint| &endpoint.own).filter(|(_, name)| name == topic).cloned().collect()
    }

    /// Data came: its subscription is live, and belongs to this address.
    async fn heard_from(&mut self, at: usize, sub: Subscription, when: UnixNanos) -> anyhow::Result<()> {
        if !self.endpoints[at].own.contains(&sub) {
            if self.owners.len() >= SUBSCRIPTIONS && !self.owners.contains_key(&sub) {
                return Ok(());
            }
            // The number of addresses is capped far below.
            if let Some(before) = self.owners.insert(sub.clone(), at as u16)
                && let Some(endpoint) = self.endpoints.get_mut(usize::from(before))
            {
                endpoint.own.remove(&sub);
            }
            self.endpoints[at].own.insert(sub.clone());
            self.resumed.retain(|known| *known != sub);
        }
        self.say_live(sub, when).await
    }

    /// Looks for topics that flowed and fell silent.
    async fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        let mut silent = Vec::new();
        for (name, topic) in &mut self.topics {
            if !topic.stalled
                && let Some(silence) = topic.rhythm.stalled(now)
            {
                silent.push((name.clone(), topic.last_heard, silence));
            }
        }
        for (name, since, silence) in silent {
            let subs = self.of_topic(&name);
            if subs.is_empty() {
                continue;
            }
            tracing::warn!(source = %self.out.source(), topic = %name, silence_s = silence.as_secs(), "topic fell silent");
            if let Some(topic) = self.topics.get_mut(&name) {
                topic.stalled = true;
            }
            for sub in subs {
                self.live.remove(&sub);
                let detail = format!("{name} is silent for {} s", silence.as_secs());
                self.out.lost(Some(sub.0), Some(sub.1), GapCause::Stall, since, detail).await?;
            }
        }
        Ok(())
    }
}

/// What `tapedeck check` hears.
struct Trial<'a> {
    config: &'a Config,
    decoder: Decoder,
    connected: Vec<bool>,
    words: Vec<String>,
    messages: u64,
    rejected: u64,
    topics: HashSet<SmolStr>,
}

impl<'a> Trial<'a> {
    fn new(config: &'a Config, own_tape: Option<Uuid>) -> Trial<'a> {
        Trial {
            config,
            decoder: Decoder::new(config.clone(), own_tape),
            connected: vec![false; config.connect.len()],
            words: Vec::new(),
            messages: 0,
            rejected: 0,
            topics: HashSet::new(),
        }
    }

    fn take(&mut self, said: Said) -> anyhow::Result<()> {
        let at = usize::from(said.endpoint).min(self.connected.len() - 1);
        match said.what {
            What::Connected => self.connected[at] = true,
            What::Gone => self.connected[at] = false,
            What::Words(words) => self.words.push(format!("{}: {words}", self.config.connect[at])),
            What::TooLarge(_) => self.rejected += 1,
            What::Message(frames) => {
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                let decoded = self.decoder.decode(&frames);
                let address = &self.config.connect[at];
                ensure!(!decoded.own, "{address} is the bus of this very deck: take it out of `connect`");
                self.messages += 1;
                self.rejected += u64::from(!decoded.rejects.is_empty());
                if decoded.events.iter().any(|(made, _)| !matches!(made.body, Body::Unknown(_))) {
                    self.topics.insert(decoded.topic);
                }
            }
        }
        Ok(())
    }

    fn is_connected(&self) -> bool {
        self.connected.iter().all(|connected| *connected)
    }

    fn must_be_connected(&self) -> anyhow::Result<()> {
        let silent = self.config.connect.iter().zip(&self.connected).filter(|(_, connected)| !**connected);
        let silent: Vec<&str> = silent.map(|(address, _)| address.as_str()).collect();
        let words = if self.words.is_empty() { String::new() } else { format!(" ({})", self.words.join("; ")) };
        ensure!(silent.is_empty(), "nobody answers at {}{words}: is the publisher running there?", silent.join(", "));
        Ok(())
    }

    fn report(self) -> String {
        let mut topics: Vec<&str> = self.topics.iter().map(SmolStr::as_str).collect();
        topics.sort_unstable();
        let heard = if topics.is_empty() { "no topic yet".to_owned() } else { topics.join(", ") };
        let (publishers, messages, rejected) = (self.connected.len(), self.messages, self.rejected);
        format!("{publishers} publishers answer; heard {heard} ({messages} messages, {rejected} unreadable)")
    }
}
