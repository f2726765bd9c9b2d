//! One connection: introduced, subscribed, then read until it is lost.
//!
//! ```text
//! connection ─► authentication ─► subscription (with the clocks of the tape) ─► SUB_IMAGE or RESUB_DELTA ─► changes
//!                    │                  └ INVALID_CLOCK: once more, without clocks
//!                    └ the session is none any more: forgotten, and another login
//! ```
//!
//! What one read brings is one append, with the clocks behind it as a `Position`; heartbeats alone move it once a second.
//! A market is live with its image, or with the first message after a subscription that went on where the tape ends.

mod pulse;
mod unreadable;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use ring::digest;
use serde_json::json;
use tapedeck_market::{Body, Event, GapCause, Position, Raw, SmolStr, Status, UnixNanos, is_absurd};

use self::pulse::Pulses;
use super::config::{ChannelName, Config};
use super::line::{self, ChangeType, Changes, Ctx, LINE_BYTES, Message, parse};
use super::login::{Login, Session};
use super::markets::{Joiner, LOST_PIECES, Markets};
use super::stream::{LIMIT, Stream};
use crate::sources::masking::without_values;
use crate::sources::split::Piece;
use crate::sources::{Outlet, Waiting};

/// How often the connection is looked after, and clocks that came alone are put on the tape.
const LOOK: Duration = Duration::from_millis(250);
const POSITION: Duration = Duration::from_secs(1);
/// When handing over what was read held us up for longer than this, silence was ours.
const DEAF: Duration = Duration::from_secs(1);
/// Heartbeats that may be late before the connection is dead; one is lost easily, and the floor is for slow machines.
const BEATS: u32 = 2;
const DEAD_FLOOR: Duration = Duration::from_secs(2);
/// Events of one append.
const AN_APPEND: usize = 4_096;
/// Names of unknown fields that are remembered, so that each is told once.
const FIELDS: usize = 256;
/// Ids of the requests of a connection.
const AUTHENTICATION: i64 = 1;
const SUBSCRIPTION: i64 = 2;
/// Names the account in messages of orders.
const ACCOUNT: &[&str] = &["accountId"];

pub(super) const ODDS: SmolStr = SmolStr::new_static("odds");
pub(super) const ORDERS: SmolStr = SmolStr::new_static("orders");

/// What outlives a session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    markets: Markets,
    pulses: Pulses,
    fields: HashSet<SmolStr>,
    /// What was said of the subscription last, so that it is said once.
    told: Vec<String>,
}

pub(super) struct Feed<'a> {
    config: &'a Config,
    login: &'a Login,
    memory: &'a mut Memory,
    out: &'a Outlet,
    channel: ChannelName,
    ctx: Ctx,
    session: Session,
    /// What tells this subscription from another: the venue goes on only with the same.
    mark: String,
    /// Id of the subscription whose messages are taken.
    request: i64,
    joiner: Joiner,
    /// Between heartbeats, as they are granted; `None` before the first message.
    beat: Option<Duration>,
    live: HashSet<SmolStr>,
    /// Markets whose image could not be read: nothing of them is recorded until one can.
    left_out: HashSet<SmolStr>,
    /// Up to here nothing is missing.
    whole_at: UnixNanos,
    /// The venue said that its own feed is behind.
    behind: bool,
    initial_clk: Option<SmolStr>,
    clk: Option<SmolStr>,
    /// Clocks that are not on the tape yet.
    moved: bool,
    position_at: Instant,
    append: Vec<Event>,
}

/// What a line did besides its events.
#[derive(PartialEq)]
enum Did {
    Nothing,
    /// The first message of the subscription.
    Began,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        config: &'a Config,
        login: &'a Login,
        memory: &'a mut Memory,
        out: &'a Outlet,
        channel: ChannelName,
        session: Session,
    ) -> Feed<'a> {
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        Feed {
            config,
            login,
            memory,
            out,
            channel,
            ctx,
            session,
            mark: mark(config, channel),
            request: SUBSCRIPTION,
            joiner: Joiner::default(),
            beat: None,
            live: HashSet::new(),
            left_out: HashSet::new(),
            whole_at: UnixNanos::now(),
            behind: false,
            initial_clk: None,
            clk: None,
            moved: false,
            position_at: now(),
            append: Vec::new(),
        }
    }

    /// Runs until the connection is lost.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut stream = Stream::connect(self.config).await?;
        greet(&mut stream, &self.session, self.login).await?;
        self.subscribe(&mut stream).await?;
        let (login, session) = (self.login.clone(), self.session.clone());
        let mut renewal = std::pin::pin!(login.keep_alive(&session));
        // What came with the answer.
        self.take_all(&mut stream).await?;
        let mut last_bytes = now();
        loop {
            tokio::select! {
                biased;
                read = stream.read() => {
                    if let Err(error) = read {
                        return self.ended(stream.rest(), error).await;
                    }
                    let began = now();
                    self.take_all(&mut stream).await?;
                    // Waiting for the recorder is no silence of the venue's: the time runs from here.
                    last_bytes = now();
                    if last_bytes.saturating_duration_since(began) > DEAF {
                        self.memory.pulses.excuse(last_bytes);
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
                () = &mut renewal => {}
            }
            let silence = now().saturating_duration_since(last_bytes);
            // An image may be long in the making.
            let dead = self.beat.map_or(LIMIT, |beat| beat.saturating_mul(BEATS).max(DEAD_FLOOR));
            if silence >= dead {
                bail!("no heartbeat for {} ms", silence.as_millis());
            }
            self.look().await?;
            if self.moved && now().saturating_duration_since(self.position_at) >= POSITION {
                self.flush(UnixNanos::now()).await?;
            }
        }
    }

    /// Ends the session when an open market has fallen silent: one alone cannot be asked for, and whether the clocks of the
    /// others hold for it nobody knows, so the next session begins with images.
    async fn look(&mut self) -> anyhow::Result<()> {
        let silent = self.memory.pulses.silent(now());
        if silent.is_empty() {
            return Ok(());
        }
        self.forget_clocks().await?;
        for (market, silence) in &silent {
            let since = UnixNanos::now() - *silence;
            self.out.lost(Some(market.clone()), Some(ODDS), GapCause::Stall, since, "fell silent").await?;
        }
        let names: Vec<&str> = silent.iter().map(|(market, _)| market.as_str()).collect();
        bail!("nothing comes of {} on a live connection", names.join(", "))
    }

    /// Asks for what is wanted, from where the tape ends if the venue still knows.
    async fn subscribe(&mut self, stream: &mut Stream) -> anyhow::Result<()> {
        if let Some((initial, clk)) = self.resumable() {
            (self.initial_clk, self.clk) = (Some(initial), Some(clk));
            match self.ask(stream).await? {
                None => return Ok(()),
                Some(status) if status.code.as_deref() == Some("INVALID_CLOCK") && !status.closed => {
                    self.out.note("clock refused");
                    tracing::info!(source = %self.ctx.source, "the venue cannot go on where the tape ends: everything anew");
                    (self.initial_clk, self.clk) = (None, None);
                    self.request += 1;
                }
                Some(status) if status.code.as_deref() == Some("INVALID_CLOCK") => {
                    // It hung up: the next session must not ask with the same clocks.
                    self.out.note("clock refused");
                    self.position(UnixNanos::now(), "");
                    self.emit().await?;
                    bail!("the venue cannot go on where the tape ends: everything anew");
                }
                Some(status) => return Err(refusal(&status, &self.session, self.login).await),
            }
        }
        match self.ask(stream).await? {
            None => Ok(()),
            Some(status) => Err(refusal(&status, &self.session, self.login).await),
        }
    }

    /// Sends the subscription; `None` when it is granted.
    async fn ask(&mut self, stream: &mut Stream) -> anyhow::Result<Option<line::Status>> {
        let mut asked = self.config.subscription(self.channel);
        asked.insert("id".to_owned(), json!(self.request));
        if let (Some(initial), Some(clk)) = (&self.initial_clk, &self.clk) {
            asked.insert("initialClk".to_owned(), json!(initial.as_str()));
            asked.insert("clk".to_owned(), json!(clk.as_str()));
        }
        stream.send(&asked).await?;
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            while let Some(piece) = stream.cut() {
                let Piece::Line(bytes) = piece else { continue };
                if let Ok(Message::Status(status)) = parse(bytes, UnixNanos::now(), &self.ctx)
                    && (status.id.is_none() || status.id == Some(self.request))
                {
                    return Ok(Some(status).filter(|status| !status.success));
                }
            }
            let waited = || anyhow!("the subscription is not answered within {} s", LIMIT.as_secs());
            tokio::time::timeout_at(until, stream.read()).await.map_err(|_| waited())??;
        }
    }

    /// The clocks of this very subscription on the tape.
    fn resumable(&self) -> Option<(SmolStr, SmolStr)> {
        let position = self.out.resume().positions.get(&self.key())?;
        let mut parts = position.split(' ');
        let (mark, initial, clk) = (parts.next()?, parts.next()?, parts.next()?);
        (mark == self.mark).then(|| (initial.into(), clk.into()))
    }

    fn key(&self) -> SmolStr {
        SmolStr::new(format!("clock of {}", self.channel().as_str()))
    }

    fn channel(&self) -> SmolStr {
        if self.channel == ChannelName::Odds { ODDS } else { ORDERS }
    }

    /// Takes every line that is there.
    async fn take_all(&mut self, stream: &mut Stream) -> anyhow::Result<()> {
        let ts_recv = UnixNanos::now();
        while let Some(piece) = stream.cut() {
            match piece {
                Piece::Line(bytes) => {
                    self.out.heard(ts_recv, bytes.len());
                    self.take(bytes, ts_recv).await?;
                }
                Piece::TooLong(begun) => {
                    self.out.heard(ts_recv, begun.len());
                    let error = format!("more than {} MiB without an end", LINE_BYTES >> 20);
                    self.reject(begun, ts_recv, "line too long", &error).await?;
                    return self.begin_anew("line too long").await;
                }
            }
            if self.append.len() >= AN_APPEND {
                self.flush(ts_recv).await?;
            }
        }
        if !self.append.is_empty() || (self.moved && now().saturating_duration_since(self.position_at) >= POSITION) {
            self.flush(ts_recv).await?;
        }
        Ok(())
    }

    async fn take(&mut self, bytes: &[u8], ts_recv: UnixNanos) -> anyhow::Result<()> {
        if self.config.keep_raw {
            self.append.push(self.raw(bytes, ts_recv));
        }
        match parse(bytes, ts_recv, &self.ctx) {
            Ok(Message::Markets(changes)) if self.channel == ChannelName::Odds => {
                self.changes(changes, bytes, ts_recv).await
            }
            Ok(Message::Orders(changes)) if self.channel == ChannelName::Orders => {
                self.changes(changes, bytes, ts_recv).await
            }
            Ok(Message::Status(status)) if !status.success => Err(refusal(&status, &self.session, self.login).await),
            Ok(Message::Status(_) | Message::Connection { .. }) => Ok(()),
            // Of a later protocol, or of another stream: data all the same.
            Ok(_) => {
                self.out.note("unknown type");
                if !self.config.keep_raw {
                    self.append.push(self.raw(bytes, ts_recv));
                }
                Ok(())
            }
            Err(error) => self.unreadable(bytes, ts_recv, &error).await,
        }
    }

    async fn changes(&mut self, changes: Changes, bytes: &[u8], ts_recv: UnixNanos) -> anyhow::Result<()> {
        if changes.id.is_some_and(|id| id != self.request) {
            // A subscription that was replaced may still have something on its way.
            self.out.note("late message of another subscription");
            return Ok(());
        }
        let mut changes = match self.joiner.take(changes, bytes.len()) {
            Ok(Some(changes)) => changes,
            Ok(None) => return Ok(()),
            Err(error) => return self.begin_anew(&error.detail).await,
        };
        for _ in 0..self.memory.markets.judge(&mut changes) {
            self.out.note("older version of a market");
        }
        changes.odd.iter().for_each(|odd| self.out.note(odd));
        if let Some(lost) = changes.odd.iter().find(|odd| LOST_PIECES.contains(odd)) {
            return self.begin_anew(lost).await;
        }
        self.without_left_out(&mut changes);
        self.news(&changes.unknown, bytes, ts_recv);
        self.health(&changes, ts_recv);
        if self.channel == ChannelName::Odds {
            self.memory.pulses.take(&changes, now());
        }
        if self.begin(&changes, ts_recv).await? == Did::Began {
            self.compare(&changes);
        }
        if self.config.conflate.0.is_zero() && changes.events.iter().any(is_conflated) {
            self.out.note("conflated by the venue");
        }
        self.append.append(&mut changes.events);
        self.whole_at = match changes.published.filter(|at| !is_absurd(*at, ts_recv)) {
            Some(published) => published.min(ts_recv),
            None => ts_recv,
        };
        // Not before its events: a clock on the tape says that everything before it is there.
        if changes.initial_clk.is_some() {
            self.initial_clk = changes.initial_clk;
        }
        if changes.clk.is_some() && changes.clk != self.clk {
            self.clk = changes.clk;
            self.moved = true;
        }
        // Nothing more will come of a market that is closed: its silence is no gap.
        let closed = changes.heads.into_iter().filter(|head| head.closed).map(|head| head.market);
        for market in closed.filter(|market| self.live.remove(market)).collect::<Vec<_>>() {
            self.flush(ts_recv).await?;
            self.out.unsubscribed(market, ODDS).await?;
        }
        Ok(())
    }

    /// Says what is live with this message, and what the tape knows and nobody records any more.
    async fn begin(&mut self, changes: &Changes, ts_recv: UnixNanos) -> anyhow::Result<Did> {
        let first = matches!(changes.change_type, ChangeType::SubImage | ChangeType::ResubDelta);
        if self.channel == ChannelName::Orders {
            if self.live.insert(SmolStr::default()) {
                self.flush(ts_recv).await?;
                self.out.live(SmolStr::default(), ORDERS, ts_recv).await?;
                self.end_unwanted(|_| false).await?;
            }
            return Ok(if first { Did::Began } else { Did::Nothing });
        }
        let mut begun: Vec<SmolStr> = Vec::new();
        let mut last = None;
        for event in &changes.events {
            if last != Some(&event.symbol) && !self.live.contains(&event.symbol) && !begun.contains(&event.symbol) {
                begun.push(event.symbol.clone());
            }
            last = Some(&event.symbol);
        }
        let known = &self.out.resume().subscriptions;
        let known = known.iter().filter(|(_, channel)| *channel == ODDS).map(|(symbol, _)| symbol);
        if changes.change_type == ChangeType::ResubDelta {
            // Whatever has not changed meanwhile is not in the message, and is as it was.
            begun.extend(known.filter(|symbol| !begun.contains(symbol)).cloned().collect::<Vec<_>>());
        }
        if !begun.is_empty() {
            self.flush(ts_recv).await?;
        }
        for symbol in begun {
            if self.live.insert(symbol.clone()) {
                self.out.live(symbol, ODDS, ts_recv).await?;
            }
        }
        if changes.change_type == ChangeType::SubImage {
            let live = self.live.clone();
            let known = |symbol: &str| live.contains(symbol) || self.left_out.contains(symbol);
            self.end_unwanted(|symbol| known(symbol)).await?;
            let none = self.config.markets.iter().filter(|id| !known(id));
            let none: Vec<&str> = none.map(String::as_str).collect();
            if !none.is_empty() {
                self.tell(format!("the venue has no open market {}", none.join(", ")));
            }
            if live.is_empty() {
                self.out.counters().set_state("live: no market matches");
            }
        }
        Ok(if first { Did::Began } else { Did::Nothing })
    }

    /// What no session of this table records any more: its gaps would never close.
    async fn end_unwanted(&self, wanted: impl Fn(&SmolStr) -> bool) -> anyhow::Result<()> {
        for (symbol, channel) in &self.out.resume().subscriptions {
            let ours = *channel == self.channel();
            let nobodys = (*channel == ODDS && !self.config.records(ChannelName::Odds))
                || (*channel == ORDERS && !self.config.records(ChannelName::Orders));
            if nobodys || (ours && *channel == ODDS && !wanted(symbol)) {
                self.out.unsubscribed(symbol.clone(), channel.clone()).await?;
            }
        }
        Ok(())
    }

    /// Says where the venue does not do as it was asked.
    fn compare(&mut self, changes: &Changes) {
        let granted = changes.heartbeat_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        self.beat =
            Some(granted.map_or(self.config.heartbeat.0, |granted| granted.max(self.config.heartbeat.0).min(LIMIT)));
        for (what, asked, granted) in [
            ("conflate", self.config.conflate.0, changes.conflate_ms),
            ("heartbeat", self.config.heartbeat.0, changes.heartbeat_ms),
        ] {
            let asked = asked.as_millis();
            if let Some(granted) = granted.filter(|granted| u128::try_from(*granted) != Ok(asked)) {
                self.out.note("not as asked");
                self.tell(format!("{what}: {asked} ms were asked for, and the venue grants {granted} ms"));
            }
        }
    }

    fn tell(&mut self, words: String) {
        if !self.memory.told.contains(&words) {
            tracing::warn!(source = %self.ctx.source, "{words}");
            self.memory.told.push(words);
        }
    }

    /// The venue says of itself that it is behind, or no longer: that is for people, and no reason to connect again.
    fn health(&mut self, changes: &Changes, ts_recv: UnixNanos) {
        let behind = changes.status == Some(503);
        if behind {
            self.out.note("the venue's feed is behind");
        }
        if behind == self.behind {
            return;
        }
        self.behind = behind;
        self.out.counters().set_state(if behind { "live: the venue's feed is behind (503)" } else { "live" });
        let state = SmolStr::new_static(if behind { "behind" } else { "online" });
        let status = Status { topic: SmolStr::new_static("venue"), state, detail: Vec::new() };
        self.append.push(self.out.event(SmolStr::default(), changes.published, ts_recv, Body::Status(status)));
    }

    /// A field that is new to us: the line that has it is kept whole, once.
    fn news(&mut self, unknown: &[SmolStr], bytes: &[u8], ts_recv: UnixNanos) {
        let fields = &mut self.memory.fields;
        let mut news = unknown.to_vec();
        news.retain(|field| fields.len() < FIELDS && fields.insert(field.clone()));
        if !news.is_empty() {
            let fields = news.join(", ");
            tracing::info!(source = %self.ctx.source, fields, "messages have fields that are new to us");
            if !self.config.keep_raw {
                self.append.push(self.raw(bytes, ts_recv));
            }
        }
    }

    /// Emits what is held, with the clocks behind it.
    async fn flush(&mut self, ts_recv: UnixNanos) -> anyhow::Result<()> {
        // A clock says that everything before it is there.
        if self.moved && self.left_out.is_empty() {
            let (initial, clk) = (self.initial_clk.clone().unwrap_or_default(), self.clk.clone().unwrap_or_default());
            if !initial.is_empty() && !initial.contains(' ') && !clk.contains(' ') {
                let value = format!("{} {initial} {clk}", self.mark);
                self.position(ts_recv, &value);
            }
            (self.moved, self.position_at) = (false, now());
        }
        self.emit().await
    }

    fn position(&mut self, ts_recv: UnixNanos, value: &str) {
        let position = Position { key: self.key(), value: SmolStr::new(value) };
        self.append.push(self.out.event(SmolStr::default(), None, ts_recv, Body::Position(position)));
    }

    async fn emit(&mut self) -> anyhow::Result<()> {
        Ok(self.out.emit(std::mem::take(&mut self.append)).await?)
    }

    async fn reject(
        &mut self,
        bytes: &[u8],
        ts_recv: UnixNanos,
        reason: &'static str,
        error: &str,
    ) -> anyhow::Result<()> {
        self.flush(ts_recv).await?;
        let text = self.masked(bytes);
        Ok(self.out.reject(&text, ts_recv, reason, &self.session.mask(error)).await?)
    }

    fn raw(&self, bytes: &[u8], ts_recv: UnixNanos) -> Event {
        let body = Body::Raw(Raw { format: SmolStr::new_static("line"), frame: self.masked(bytes) });
        self.out.event(SmolStr::default(), None, ts_recv, body)
    }

    /// The bytes without key, token and the account's number, as they go to the tape.
    fn masked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = without_values(bytes, ACCOUNT);
        if self.session.is_private(&text) {
            text = self.session.mask(&String::from_utf8_lossy(&text)).into_bytes();
        }
        text
    }

    async fn ended(&mut self, rest: &[u8], error: anyhow::Error) -> anyhow::Result<()> {
        self.flush(UnixNanos::now()).await?;
        if !rest.is_empty() {
            self.reject(rest, UnixNanos::now(), "line cut off", "the stream ended inside it").await?;
        }
        Err(error)
    }
}

/// Waits for the venue's first line and says who we are.
pub(super) async fn greet(stream: &mut Stream, session: &Session, login: &Login) -> anyhow::Result<()> {
    let ctx = Ctx { source: SmolStr::default(), venue: SmolStr::default() };
    let until = tokio::time::Instant::now() + LIMIT;
    let mut asked = false;
    loop {
        while let Some(piece) = stream.cut() {
            let Piece::Line(bytes) = piece else { continue };
            match parse(bytes, UnixNanos::now(), &ctx) {
                Ok(Message::Connection { .. }) if !asked => {
                    asked = true;
                    let request = json!({
                        "op": "authentication",
                        "id": AUTHENTICATION,
                        "appKey": session.app_key.expose(),
                        "session": session.token.expose(),
                    });
                    if let serde_json::Value::Object(request) = request {
                        stream.send(&request).await?;
                    }
                    break;
                }
                Ok(Message::Status(status)) if status.success && asked => return Ok(()),
                Ok(Message::Status(status)) if !status.success => return Err(refusal(&status, session, login).await),
                _ => {}
            }
        }
        let what = if asked { "who we are" } else { "the connection" };
        let waited = || anyhow!("the venue says nothing to {what} within {} s", LIMIT.as_secs());
        tokio::time::timeout_at(until, stream.read()).await.map_err(|_| waited())??;
    }
}

/// A refusal in words, and [`Waiting`] where asking again does not help.
pub(super) async fn refusal(status: &line::Status, session: &Session, login: &Login) -> anyhow::Error {
    let code = status.code.as_deref().unwrap_or("no reason");
    let said = status.message.as_deref().unwrap_or_default();
    let said: String = session.mask(said).chars().filter(|c| !c.is_control()).take(200).collect();
    let said = if said.is_empty() { code.to_owned() } else { format!("{code}: {said}") };
    let waiting = match code {
        "NO_APP_KEY" | "INVALID_APP_KEY" => {
            format!("Betfair refuses the application key ({said}): correct BETFAIR_APP_KEY and reload")
        }
        "NOT_AUTHORIZED" => {
            format!("the application key may not use the stream ({said}): apply for it at the venue, then reload")
        }
        "SUBSCRIPTION_LIMIT_EXCEEDED" => {
            format!(
                "more markets match than one subscription may have ({said}): narrow the filter, or make a second table"
            )
        }
        "INVALID_INPUT" | "INVALID_REQUEST" => {
            format!("Betfair does not understand what is asked ({said}): correct the source's table")
        }
        "NO_SESSION" | "INVALID_SESSION_INFORMATION" => {
            login.forget(session).await;
            return anyhow!("the session has expired or was ended elsewhere ({said}): the next try logs in anew");
        }
        "MAX_CONNECTION_LIMIT_EXCEEDED" => {
            return anyhow!("too many streams of this application are open ({said}): close another one");
        }
        _ => return anyhow!("Betfair says {said}"),
    };
    if code.ends_with("APP_KEY") || code == "NOT_AUTHORIZED" {
        login.give_up(&waiting).await;
    }
    Waiting(waiting).into()
}

fn mark(config: &Config, channel: ChannelName) -> String {
    let asked = serde_json::Value::Object(config.subscription(channel)).to_string();
    let digest = digest::digest(&digest::SHA256, asked.as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_conflated(event: &Event) -> bool {
    matches!(&event.body, Body::Odds(odds) if odds.conflated)
}

fn now() -> Instant {
    // Tokio's clock, so that tests own it.
    tokio::time::Instant::now().into_std()
}
