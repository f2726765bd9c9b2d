//! The subscriptions of a session: what is wanted, asked, acked, live, refused, and when to ask next.
//!
//! ```text
//! due ──ask──► asked ──ack──► acked ──snapshot──► live        a stall or a broken book: back to due,
//!  ▲             │ no answer, transient refusal     │          asked for by unsubscribe + subscribe
//!  └──wait───────┴──────────────────────────────────┘          permanent refusal: forgotten, unless it was live before
//! ```
//!
//! Requests are chunks of symbols of one channel, sent at a pace that halves whenever the venue says that it is
//! too fast. One answer comes per symbol; a refusal need not name its symbol, so the symbols of a chunk that
//! remain without an ack are asked for again one by one, where the request says whose answer it is.
//!
//! Pure: the caller sends, and hands in the time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::json;
use tapedeck_market::SmolStr;

use super::message::{Ack, Method, Refusal};
use crate::config::Secret;
use crate::sources::liveness::{ANSWER, Rhythm};

/// Symbols a request: 1,434 pairs are then 15 requests a channel.
const CHUNK: usize = 100;
/// Wait between two requests, until the venue complains.
const PACE: Duration = Duration::from_millis(50);
/// The slowest pace: the venue forgives faster than this.
const SLOWEST_PACE: Duration = Duration::from_secs(5);
/// Waits before a subscription is asked for again grow from the first to the second.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// First wait after a permanent refusal of what was live before: words can be wrong about for how long.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// After "Exceeded msg rate" nothing is asked for this long.
const RATE_PAUSE: Duration = Duration::from_secs(5);

/// What a subscription is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Channel {
    Instrument,
    Executions,
    Trade,
    Ticker,
    Book,
    /// Minutes.
    Ohlc(u32),
}

impl Channel {
    /// As the gap ledger names it.
    pub(super) fn name(self) -> SmolStr {
        match self {
            Channel::Ohlc(minutes) => SmolStr::from(format!("ohlc-{minutes}")),
            other => SmolStr::new_static(other.venue_name()),
        }
    }

    fn venue_name(self) -> &'static str {
        match self {
            Channel::Instrument => "instrument",
            Channel::Executions => "executions",
            Channel::Trade => "trade",
            Channel::Ticker => "ticker",
            Channel::Book => "book",
            Channel::Ohlc(_) => "ohlc",
        }
    }

    /// The channel of an ack; an `ohlc` ack tells its interval.
    pub(super) fn of(ack: &Ack) -> Option<Channel> {
        Some(match ack.channel.as_str() {
            "instrument" => Channel::Instrument,
            "executions" => Channel::Executions,
            "trade" => Channel::Trade,
            "ticker" => Channel::Ticker,
            "book" => Channel::Book,
            "ohlc" => Channel::Ohlc(ack.interval.unwrap_or(1)),
            _ => return None,
        })
    }

    /// Whether it has a rhythm that can fall silent: prices have, lists and own orders have not.
    fn flows(self) -> bool {
        !matches!(self, Channel::Instrument | Channel::Executions)
    }
}

/// A subscription's name; the symbol is empty for channels without one.
pub(super) type Key = (Channel, SmolStr);

#[derive(Debug)]
pub(super) struct Sub {
    state: State,
    /// The venue may still hold the old subscription: unsubscribe first.
    again: bool,
    /// To be asked for alone, so that its answer is known by the request.
    alone: bool,
    /// Refused for good, and asked for again all the same.
    refused: bool,
    /// Times in a row that it had to be asked for again.
    tries: u32,
    /// Nothing was traded for a day, so that no history is owed.
    untraded: bool,
    pub(super) rhythm: Rhythm,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Due(Instant),
    Asked(Instant),
    /// Acked then; its snapshot is still owed.
    Acked(Instant),
    Live,
}

#[derive(Debug)]
struct Request {
    channel: Channel,
    method: Method,
    symbols: Vec<SmolStr>,
    asked: Instant,
}

/// Why a subscription is asked for again, and what must be said about it.
#[derive(Debug, PartialEq)]
pub(super) enum Finding {
    /// Asked for, and no ack came.
    Unanswered(Key),
    /// Acked, and its first data never came: it was never whole in this session.
    Owing(Key, Duration),
    /// Was flowing, and fell silent for this long.
    Stalled(Key, Duration),
}

#[derive(Debug)]
pub(super) struct Subs {
    subs: HashMap<Key, Sub>,
    /// Symbol and channel of what was live before, in this session or an earlier one.
    known: HashSet<(SmolStr, SmolStr)>,
    requests: HashMap<u64, Request>,
    next_req: u64,
    pace: Duration,
    not_before: Instant,
    book_depth: u32,
    /// For `executions`.
    token: Option<Secret>,
    /// When the next request is due, as of the last look; `stale` when that may have changed.
    due_at: Option<Instant>,
    stale: bool,
}

impl Subs {
    pub(super) fn new(book_depth: u32, token: Option<Secret>, now: Instant) -> Self {
        Subs {
            subs: HashMap::new(),
            known: HashSet::new(),
            requests: HashMap::new(),
            next_req: 1,
            pace: PACE,
            not_before: now,
            book_depth,
            token,
            due_at: None,
            stale: true,
        }
    }

    /// Takes over what was live in an earlier session, as (symbol, channel).
    pub(super) fn remember(&mut self, known: &[(SmolStr, SmolStr)]) {
        self.known.extend(known.iter().cloned());
    }

    /// Whether it is the private half of the venue that is asked.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What was refused for good and is asked for again all the same.
    pub(super) fn refused_keys(&self) -> impl Iterator<Item = &Key> {
        self.subs.iter().filter(|(_, sub)| sub.refused).map(|(key, _)| key)
    }

    /// Adds a subscription to be asked for; one that is there already stays as it is.
    pub(super) fn want(&mut self, channel: Channel, symbol: SmolStr, rhythm: Rhythm, now: Instant) {
        let (state, again, alone, refused, tries, untraded) = (State::Due(now), false, false, false, 0, false);
        let sub = Sub { state, again, alone, refused, tries, untraded, rhythm };
        self.subs.entry((channel, symbol)).or_insert(sub);
        self.stale = true;
    }

    /// Gives up a subscription; the text unsubscribes it where the venue may hold it.
    pub(super) fn drop_sub(&mut self, key: &Key, now: Instant) -> Option<String> {
        let sub = self.subs.remove(key)?;
        self.known.remove(&(key.1.clone(), key.0.name()));
        let held = sub.again || !matches!(sub.state, State::Due(_));
        held.then(|| self.request(Method::Unsubscribe, key.0, vec![key.1.clone()], now))
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Sub> {
        self.subs.get_mut(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.subs.keys()
    }

    /// Takes over the rhythms of the session before.
    pub(super) fn into_rhythms(self) -> HashMap<Key, Rhythm> {
        self.subs.into_iter().map(|(key, sub)| (key, sub.rhythm)).collect()
    }

    /// The next texts to send, at most one chunk; empty when nothing is due yet.
    pub(super) fn next(&mut self, now: Instant) -> Vec<String> {
        if self.due_at().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.stale = true;
        let is_due = |sub: &Sub| matches!(sub.state, State::Due(at) if at <= now);
        let mut due: Vec<&Key> = self.subs.iter().filter(|(_, sub)| is_due(sub)).map(|(key, _)| key).collect();
        due.sort_unstable();
        let Some(&first) = due.first() else {
            return Vec::new();
        };
        let (channel, again, alone) = (first.0, self.subs[first].again, self.subs[first].alone);
        let alike = |key: &&&Key| key.0 == channel && self.subs[**key].again == again && !self.subs[**key].alone;
        let symbols: Vec<SmolStr> = if alone {
            vec![first.1.clone()]
        } else {
            due.iter().filter(alike).take(CHUNK).map(|key| key.1.clone()).collect()
        };
        for symbol in &symbols {
            if let Some(sub) = self.subs.get_mut(&(channel, symbol.clone())) {
                sub.state = State::Asked(now);
                sub.again = true;
            }
        }
        let mut texts = Vec::with_capacity(2);
        if again {
            texts.push(self.request(Method::Unsubscribe, channel, symbols.clone(), now));
        }
        texts.push(self.request(Method::Subscribe, channel, symbols, now));
        self.not_before = now + self.pace;
        texts
    }

    /// When something is to be sent, where something waits to be.
    pub(super) fn due_at(&mut self) -> Option<Instant> {
        if self.stale {
            let due = |sub: &Sub| match sub.state {
                State::Due(at) => Some(at),
                _ => None,
            };
            self.due_at = self.subs.values().filter_map(due).min().map(|at| at.max(self.not_before));
            self.stale = false;
        }
        self.due_at
    }

    /// We did not listen until `now`: whatever was silent meanwhile is excused.
    pub(super) fn excuse(&mut self, now: Instant) {
        for sub in self.subs.values_mut() {
            sub.rhythm.resumed(now);
            if let State::Asked(at) | State::Acked(at) = &mut sub.state {
                *at = now;
            }
        }
        self.requests.values_mut().for_each(|request| request.asked = now);
    }

    fn request(&mut self, method: Method, channel: Channel, symbols: Vec<SmolStr>, now: Instant) -> String {
        let req_id = self.next_req;
        self.next_req += 1;
        let mut params = json!({ "channel": channel.venue_name() });
        if channel.flows() {
            params["symbol"] = symbols.iter().map(SmolStr::as_str).collect();
        }
        match channel {
            Channel::Book => params["depth"] = self.book_depth.into(),
            Channel::Ohlc(minutes) => params["interval"] = minutes.into(),
            Channel::Executions => {
                params["token"] = self.token.as_ref().map_or("", |token| token.expose()).into();
                if method == Method::Subscribe {
                    params["snap_orders"] = true.into();
                    params["snap_trades"] = true.into();
                }
            }
            _ => {}
        }
        if method == Method::Subscribe && channel != Channel::Executions {
            params["snapshot"] = true.into();
        }
        let name = if method == Method::Subscribe { "subscribe" } else { "unsubscribe" };
        let text = json!({ "method": name, "params": params, "req_id": req_id }).to_string();
        self.requests.insert(req_id, Request { channel, method, symbols, asked: now });
        text
    }

    /// Takes an ack; the subscription, when it is one that was waiting for it.
    pub(super) fn acked(&mut self, ack: &Ack, now: Instant) -> Option<Key> {
        let symbol = ack.symbol.clone().unwrap_or_default();
        if let Some(req) = ack.req_id
            && let Some(request) = self.requests.get_mut(&req)
        {
            request.symbols.retain(|asked| *asked != symbol);
            if request.symbols.is_empty() {
                self.requests.remove(&req);
            }
        }
        if ack.method != Method::Subscribe {
            return None;
        }
        let key = (Channel::of(ack)?, symbol);
        let sub = self.subs.get_mut(&key)?;
        // A late ack is one too: whatever was due again for want of it is not any more.
        if !matches!(sub.state, State::Asked(_) | State::Due(_)) {
            return None;
        }
        self.stale = true;
        sub.state = if key.0.flows() { State::Acked(now) } else { State::Live };
        sub.refused = false;
        sub.rhythm.resumed(now);
        self.known.insert((key.1.clone(), key.0.name()));
        Some(key)
    }

    /// Takes a refusal: the subscriptions that it refuses for good, now forgotten. Others are asked for again, and so,
    /// slowly, is what was refused for good but was live before: what it misses is a gap until it is not wanted.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant) -> Vec<Key> {
        self.stale = true;
        let Some(request) = refusal.req_id.and_then(|req| self.requests.get_mut(&req)) else {
            return Vec::new();
        };
        let (channel, subscribe) = (request.channel, request.method == Method::Subscribe);
        // One answer per symbol, and this one may not say whose it is: known only where there is one left.
        let symbol = match (&refusal.symbol, request.symbols.as_slice()) {
            (Some(symbol), _) => Some(symbol.clone()),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        let Some(symbol) = symbol else {
            if !subscribe {
                return Vec::new();
            }
            // Acks of the same request are still to come: look again when they have had time to.
            for symbol in request.symbols.clone() {
                if let Some(sub) = self.subs.get_mut(&(channel, symbol)) {
                    sub.alone = true;
                }
            }
            request.asked = now.checked_sub(ANSWER.saturating_sub(Duration::from_millis(500))).unwrap_or(now);
            return Vec::new();
        };
        request.symbols.retain(|asked| *asked != symbol);
        if request.symbols.is_empty()
            && let Some(req) = refusal.req_id
        {
            self.requests.remove(&req);
        }
        let key = (channel, symbol);
        match self.subs.get_mut(&key) {
            // An unsubscribe that finds nothing to end has reached its end.
            _ if !subscribe => Vec::new(),
            Some(sub) if is_permanent(&refusal.error) => {
                if self.known.contains(&(key.1.clone(), key.0.name())) {
                    (sub.refused, sub.alone) = (true, true);
                    sub.ask_again(REFUSED_WAIT, now);
                } else {
                    self.subs.remove(&key);
                }
                vec![key]
            }
            Some(sub) => {
                // "Already subscribed" too: unsubscribing first mends that.
                sub.ask_again(FIRST_WAIT, now);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// We asked too fast: half the pace, and what has no answer is asked for again.
    pub(super) fn rate_exceeded(&mut self, now: Instant) {
        self.stale = true;
        self.pace = (self.pace * 2).min(SLOWEST_PACE);
        self.not_before = now + RATE_PAUSE;
        for sub in self.subs.values_mut() {
            if matches!(sub.state, State::Asked(_)) {
                // Which of the requests were dropped is not said; those that were not are acked twice.
                sub.state = State::Due(self.not_before);
            }
        }
        self.requests.clear();
    }

    /// Asks for one subscription again after `wait`: its book broke, or it fell silent.
    pub(super) fn ask_again(&mut self, key: &Key, wait: Duration, now: Instant) {
        self.stale = true;
        if let Some(sub) = self.subs.get_mut(key) {
            sub.state = State::Due(now + wait);
            sub.again = true;
        }
    }

    /// Looks after every subscription. What is found is already due again. While the venue is not `open`,
    /// silence is no stall.
    pub(super) fn look(&mut self, now: Instant, open: bool) -> Vec<Finding> {
        self.stale = true;
        self.requests.retain(|_, request| now.saturating_duration_since(request.asked) < ANSWER * 2);
        let early: HashMap<Key, ()> = self
            .requests
            .values()
            .filter(|request| now.saturating_duration_since(request.asked) >= ANSWER)
            .flat_map(|request| request.symbols.iter().map(|symbol| ((request.channel, symbol.clone()), ())))
            .collect();
        let mut found = Vec::new();
        for (key, sub) in &mut self.subs {
            match sub.state {
                State::Asked(at) => {
                    let refused_in_chunk = sub.alone && early.contains_key(key);
                    if refused_in_chunk || now.saturating_duration_since(at) >= ANSWER {
                        if !refused_in_chunk {
                            found.push(Finding::Unanswered(key.clone()));
                        }
                        let wait = if refused_in_chunk { Duration::ZERO } else { FIRST_WAIT };
                        sub.ask_again(wait, now);
                    }
                }
                State::Acked(_) if sub.untraded => sub.state = State::Live,
                State::Acked(at) => {
                    let owing = now.saturating_duration_since(at);
                    if owing >= ANSWER {
                        found.push(Finding::Owing(key.clone(), owing));
                        sub.ask_again(FIRST_WAIT, now);
                    }
                }
                State::Live if open && key.0.flows() => {
                    if let Some(silence) = sub.rhythm.stalled(now) {
                        found.push(Finding::Stalled(key.clone(), silence));
                        sub.ask_again(Duration::ZERO, now);
                    }
                }
                State::Live | State::Due(_) => {}
            }
        }
        found
    }
}

impl Sub {
    /// Data of the subscription came. `true`: its snapshot came before its ack, and is as good as one.
    pub(super) fn heard(&mut self, snapshot: bool, now: Instant) -> bool {
        if !snapshot {
            self.rhythm.heard(now);
        }
        match self.state {
            State::Acked(_) => {
                self.state = State::Live;
                self.tries = 0;
                false
            }
            // Updates may still be of the old subscription; a snapshot can only be of the new one.
            State::Asked(_) if snapshot => {
                self.state = State::Live;
                self.tries = 0;
                true
            }
            _ => false,
        }
    }

    /// Of a trade subscription: the ticker says that nothing was traded for a day, so no history can come.
    pub(super) fn untraded(&mut self, untraded: bool) {
        self.untraded = untraded;
    }

    fn ask_again(&mut self, first: Duration, now: Instant) {
        let wait = first.saturating_mul(1 << self.tries.min(10)).min(LONGEST_WAIT);
        self.tries = self.tries.saturating_add(1);
        self.state = State::Due(now + wait);
        self.again = true;
    }
}

/// Whether asking again in the same words can never help.
fn is_permanent(error: &str) -> bool {
    const WORDS: [&str; 8] = [
        "not supported",
        "not in iso",
        "not found",
        "invalid argument",
        "malformed",
        "denied",
        "permission",
        "missing",
    ];
    let error = error.to_ascii_lowercase();
    WORDS.iter().any(|words| error.contains(words))
}

#[cfg(test)]
mod tests;
