//! From records to messages: a function of the records alone, so that the answer to a request is what was published.
//!
//! ```text
//! record ─► known state (prices, books, names) ─► draft ─┬─► message (seq, prev)
//!                                                        └─► waits for the end of its slot, if its topic has a pace
//! ```
//!
//! - A topic with a pace (books: 100 ms; `conflate`) is divided into slots of receive time. At the end of a slot the newest
//!   draft of each instrument goes out, in the order of their seqs. So each topic's seqs rise, and where a slot ends is
//!   told by the records, not by a clock. Only where nothing more comes is a slot ended by [`Engine::quiet`].
//! - `prev` is the seq before it on that topic, whether or not anybody was there to see it.
//! - Where reading begins in the middle, what the checkpoint holds is the state; nothing is published for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tapedeck_market::{
    Body, Book, BookUpdate, Event, Flags, GapState, Instrument, Level, Price, SmolStr, Ticker, UnixNanos, wire,
};

use super::registry;
use super::topic::{Make, route};
use crate::config::{Bus, Decimals, Form};

/// A book is sent once in this time, however often it changes.
const DEPTH_SLOT_NS: i64 = 100_000_000;
/// A record may be on its way through the recorder when its slot ends: only so much later is the slot ended without one.
const QUIET_NS: i64 = 100_000_000;
/// A clock that was set back by more than this is believed; less is sources overtaking one another.
const STEP_BACK_NS: i64 = 10_000_000_000;
/// Levels a side of a depth message.
const LEVELS_MAX: usize = 1_000;
/// Topics that are known; points of more names than this are dropped and counted.
const TOPICS_MAX: usize = 20_000;

/// An instrument: venue and symbol.
type Key = (SmolStr, SmolStr);

/// What is sent about an instrument.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Tick(Box<Ticker>),
    Depth { bids: Vec<Level>, asks: Vec<Level> },
    Body(Box<Body>),
}

/// A message without its form.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub topic: SmolStr,
    pub seq: u64,
    /// The seq before it on this topic; 0 = there is none.
    pub prev: u64,
    pub source: SmolStr,
    pub venue: SmolStr,
    pub symbol: SmolStr,
    /// The venue's old name of it, for the forms that print that.
    pub old_name: SmolStr,
    /// The same of each instrument that a derived price goes through.
    pub old_legs: Vec<SmolStr>,
    pub ts_event: Option<UnixNanos>,
    pub ts_recv: UnixNanos,
    pub flags: Flags,
    pub content: Content,
}

/// How a topic is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub enabled: bool,
    pub form: Form,
    pub decimals: Decimals,
    /// Length of a slot; `None` = at once.
    pub slot_ns: Option<i64>,
}

impl Manner {
    /// As the config says for a topic.
    #[must_use]
    pub fn of(bus: &Bus, topic: &str) -> Manner {
        let settings = registry::settings(bus, topic).cloned().unwrap_or_default();
        let conflate = settings.conflate.map(|pace| i64::try_from(pace.0.as_nanos()).unwrap_or(i64::MAX));
        let depth = (topic == "kr_depth" || topic.starts_with("depth.")).then_some(DEPTH_SLOT_NS);
        Manner {
            enabled: settings.enabled,
            form: settings.form,
            decimals: settings.decimals,
            slot_ns: conflate.max(depth).filter(|slot| *slot > 0),
        }
    }
}

/// A topic's place.
#[derive(Debug)]
struct Topic {
    manner: Manner,
    last_seq: u64,
    /// The slot of what waits.
    slot: i64,
    waiting: BTreeMap<u64, Message>,
    /// Where an instrument's draft waits.
    by_key: HashMap<Key, u64>,
}

/// The state behind the messages.
#[derive(Debug)]
pub struct Engine {
    bus: Arc<Bus>,
    /// Nothing else is made, when a request asks for one topic only.
    only: Option<SmolStr>,
    ticks: HashMap<Key, Ticker>,
    books: HashMap<Key, Book>,
    old_names: HashMap<Key, SmolStr>,
    topics: HashMap<SmolStr, Topic>,
    /// Topics with drafts that wait.
    paced: Vec<SmolStr>,
    /// The greatest receive time seen.
    clock: i64,
    /// What is not known of a topic lies at or below this seq.
    unknown_until: u64,
    dropped: u64,
}

impl Engine {
    #[must_use]
    pub fn new(bus: Arc<Bus>, only: Option<SmolStr>) -> Engine {
        Engine {
            bus,
            only,
            ticks: HashMap::new(),
            books: HashMap::new(),
            old_names: HashMap::new(),
            topics: HashMap::new(),
            paced: Vec::new(),
            clock: i64::MIN,
            unknown_until: 0,
            dropped: 0,
        }
    }

    /// Takes over what a checkpoint says: encoded events.
    pub fn restore(&mut self, checkpoint: &[Vec<u8>]) {
        for event in checkpoint.iter().filter_map(|encoded| wire::decode(encoded).ok()) {
            self.learn(&event);
        }
    }

    /// Takes over how far a topic was published, unless more is known.
    pub fn restore_last(&mut self, topic: &str, seq: u64) {
        if let Some(topic) = self.topic(&SmolStr::new(topic)) {
            topic.last_seq = topic.last_seq.max(seq);
        }
    }

    /// Records up to that seq were passed over unread: any topic may have one among them. A subscriber then asks once too
    /// often, where it would miss something without knowing.
    pub fn passed_over(&mut self, until: u64) {
        self.unknown_until = until;
        self.topics.values_mut().for_each(|topic| topic.last_seq = topic.last_seq.max(until));
    }

    /// Takes a record; hands out what is to be sent now.
    pub fn apply(&mut self, seq: u64, event: Event, out: &mut Vec<Message>) {
        let now = event.ts_recv.0;
        if now > self.clock || self.clock.saturating_sub(now) > STEP_BACK_NS {
            self.clock = now;
        }
        self.end_slots(out);
        self.learn(&event);
        let mut routes: [Option<(SmolStr, Make)>; 2] = [None, None];
        let mut count = 0;
        route(&event, |topic, make| {
            if let Some(place) = routes.get_mut(count) {
                *place = Some((topic, make));
            }
            count += 1;
        });
        let mut event = Some(event);
        let [first, second] = routes;
        // The one that takes the event itself comes last.
        for (topic, make) in [second, first].into_iter().flatten() {
            self.publish(seq, topic, make, &mut event, out);
        }
    }

    /// Nothing has come for a while, and it is `now`: ends the slots that are over.
    pub fn quiet(&mut self, now: i64, out: &mut Vec<Message>) {
        if self.paced.is_empty() {
            return;
        }
        for name in self.paced.clone() {
            let Some(topic) = self.topics.get(&name) else { continue };
            let Some(length) = topic.manner.slot_ns else { continue };
            let end = topic.slot.saturating_add(1).saturating_mul(length);
            if now >= end.saturating_add(QUIET_NS) {
                self.clock = self.clock.max(end);
            }
        }
        self.end_slots(out);
    }

    /// Ends all slots: nothing more will come.
    pub fn finish(&mut self, out: &mut Vec<Message>) {
        for name in std::mem::take(&mut self.paced) {
            self.flush(&name, out);
        }
    }

    /// Whether something waits for the end of its slot.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.paced.is_empty()
    }

    /// The topics with the seq last published on each.
    pub fn last_seqs(&self) -> impl Iterator<Item = (&SmolStr, u64)> {
        self.topics.iter().filter(|(_, topic)| topic.last_seq > 0).map(|(name, topic)| (name, topic.last_seq))
    }

    #[must_use]
    pub fn last_seq(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |topic| topic.last_seq)
    }

    /// Events of topics that were one too many.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How a topic is sent.
    pub fn manner(&mut self, topic: &SmolStr) -> Option<Manner> {
        self.topic(topic).map(|topic| topic.manner)
    }

    fn topic(&mut self, name: &SmolStr) -> Option<&mut Topic> {
        if !self.topics.contains_key(name) {
            if self.topics.len() >= TOPICS_MAX {
                return None;
            }
            let manner = Manner::of(&self.bus, name);
            let topic = Topic {
                manner,
                last_seq: self.unknown_until,
                slot: 0,
                waiting: BTreeMap::new(),
                by_key: HashMap::new(),
            };
            self.topics.insert(name.clone(), topic);
        }
        self.topics.get_mut(name)
    }

    /// What an event changes in what is known.
    fn learn(&mut self, event: &Event) {
        let key = || (event.venue.clone(), event.symbol.clone());
        match &event.body {
            Body::Trade(trade) if !event.flags.contains(Flags::BACKFILLED) => {
                let tick = self.ticks.entry(key()).or_default();
                (tick.last, tick.last_size) = (Some(trade.price), Some(trade.size));
            }
            Body::Quote(quote) => {
                let tick = self.ticks.entry(key()).or_default();
                (tick.bid, tick.bid_size) = (quote.bid, quote.bid_size);
                (tick.ask, tick.ask_size) = (quote.ask, quote.ask_size);
                // They belonged to the price before.
                (tick.bid_whole_lots, tick.ask_whole_lots) = (None, None);
            }
            Body::Ticker(ticker) => merge(self.ticks.entry(key()).or_default(), ticker),
            Body::Book(update) => {
                if update.snapshot {
                    let mut book = Book::new(None);
                    book.apply(update);
                    self.books.insert(key(), book);
                } else if let Some(book) = self.books.get_mut(&key()) {
                    book.apply(update);
                }
            }
            Body::Instrument(instrument) => self.learn_name(key(), instrument),
            Body::Gap(gap) if gap.state == GapState::Open && (gap.channel == "book" || gap.channel.is_empty()) => {
                self.forget_book(&key());
            }
            Body::Status(status)
                if status.topic == "subscription"
                    && status.state == "ended"
                    && status.detail.iter().any(|(name, value)| name == "channel" && value == "book") =>
            {
                self.forget_book(&key());
            }
            _ => {}
        }
    }

    fn learn_name(&mut self, key: Key, instrument: &Instrument) {
        let old = instrument.aliases.iter().find(|(scheme, _)| scheme == "rest");
        if let Some((_, name)) = old {
            self.old_names.insert(key, name.clone());
        }
    }

    fn old_legs(&self, venue: &SmolStr, content: &Content) -> Vec<SmolStr> {
        let Content::Body(body) = content else { return Vec::new() };
        let Body::Synthetic(synthetic) = &**body else { return Vec::new() };
        let old = |name: &SmolStr| self.old_names.get(&(venue.clone(), name.clone())).unwrap_or(name).clone();
        synthetic.legs.iter().map(|leg| old(&leg.instrument)).collect()
    }

    /// A book that is no longer known to be right is not sent any more.
    fn forget_book(&mut self, key: &Key) {
        if self.books.remove(key).is_none() {
            return;
        }
        for name in &self.paced {
            if let Some(topic) = self.topics.get_mut(name)
                && (name == "kr_depth" || name.starts_with("depth."))
                && let Some(seq) = topic.by_key.remove(key)
            {
                topic.waiting.remove(&seq);
            }
        }
    }

    fn publish(&mut self, seq: u64, name: SmolStr, make: Make, event: &mut Option<Event>, out: &mut Vec<Message>) {
        if self.only.as_ref().is_some_and(|only| *only != name) {
            return;
        }
        let Some(Event { source, venue, symbol, ts_event, ts_recv, flags, .. }) = event.as_ref() else { return };
        let key = (venue.clone(), symbol.clone());
        if make == Make::Depth && !self.books.contains_key(&key) {
            return;
        }
        let (source, ts_event, ts_recv, flags) = (source.clone(), *ts_event, *ts_recv, *flags);
        let clock = self.clock;
        let Some(topic) = self.topic(&name) else {
            self.dropped += 1;
            return;
        };
        if !topic.manner.enabled {
            return;
        }
        let slot_ns = topic.manner.slot_ns;
        let content = match make {
            Make::Tick => Content::Tick(Box::new(self.ticks.get(&key).cloned().unwrap_or_default())),
            // Filled in when it is sent.
            Make::Depth => Content::Depth { bids: Vec::new(), asks: Vec::new() },
            Make::Body => match event.take() {
                Some(event) => Content::Body(Box::new(event.body)),
                None => return,
            },
        };
        let old_name = self.old_names.get(&key).unwrap_or(&key.1).clone();
        let old_legs = self.old_legs(&key.0, &content);
        let message = Message {
            topic: name.clone(),
            seq,
            prev: 0,
            source,
            venue: key.0.clone(),
            symbol: key.1.clone(),
            old_name,
            old_legs,
            ts_event,
            ts_recv,
            flags,
            content,
        };
        let Some(slot_ns) = slot_ns else { return self.send(message, out) };
        let Some(topic) = self.topics.get_mut(&name) else { return };
        if topic.waiting.is_empty() {
            topic.slot = clock.div_euclid(slot_ns);
            self.paced.push(name);
        }
        if let Some(before) = topic.by_key.insert(key, seq) {
            topic.waiting.remove(&before);
        }
        topic.waiting.insert(seq, message);
    }

    /// Sends what waited for the end of a slot that is over.
    fn end_slots(&mut self, out: &mut Vec<Message>) {
        let mut at = 0;
        while let Some(name) = self.paced.get(at) {
            let over = self.topics.get(name).is_none_or(|topic| {
                topic.waiting.is_empty()
                    || topic.manner.slot_ns.is_none_or(|length| self.clock.div_euclid(length) != topic.slot)
            });
            if over {
                let name = self.paced.swap_remove(at);
                self.flush(&name, out);
            } else {
                at += 1;
            }
        }
    }

    fn flush(&mut self, name: &SmolStr, out: &mut Vec<Message>) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        topic.by_key.clear();
        for (_, message) in std::mem::take(&mut topic.waiting) {
            self.send(message, out);
        }
    }

    fn send(&mut self, mut message: Message, out: &mut Vec<Message>) {
        if let Content::Depth { bids, asks } = &mut message.content {
            let key = (message.venue.clone(), message.symbol.clone());
            let Some(book) = self.books.get(&key) else { return };
            *bids = book.bids().iter().take(LEVELS_MAX).copied().collect();
            *asks = book.asks().iter().take(LEVELS_MAX).copied().collect();
        }
        if let Some(topic) = self.topics.get_mut(&message.topic) {
            message.prev = topic.last_seq;
            topic.last_seq = message.seq;
        }
        out.push(message);
    }
}

/// What a ticker tells replaces what was known; what it does not tell stays.
fn merge(known: &mut Ticker, told: &Ticker) {
    macro_rules! take {
        ($($field:ident),+) => { $( if told.$field.is_some() { known.$field = told.$field; } )+ };
    }
    // A venue that tells the price alone does not mean the old one's volume.
    let moved = |old: Option<Price>, new: Option<Price>| new.is_some() && new != old;
    if moved(known.bid, told.bid) {
        (known.bid_size, known.bid_whole_lots) = (None, None);
    }
    if moved(known.ask, told.ask) {
        (known.ask_size, known.ask_whole_lots) = (None, None);
    }
    if moved(known.last, told.last) {
        known.last_size = None;
    }
    take!(last, last_size, bid, bid_size, bid_whole_lots, ask, ask_size, ask_whole_lots);
    take!(prev_close, change, change_pct, avg_price, buy_size, sell_size, oi, oi_high, oi_low, last_trade_time);
    for (known, told) in [(&mut known.today, &told.today), (&mut known.day, &told.day)] {
        macro_rules! take_stats {
            ($($field:ident),+) => { $( if told.$field.is_some() { known.$field = told.$field; } )+ };
        }
        take_stats!(open, high, low, volume, vwap, trades);
    }
}

/// A book as one event, for the form that prints events.
#[must_use]
pub(crate) fn snapshot(bids: &[Level], asks: &[Level]) -> Body {
    let (bids, asks) = (bids.to_vec(), asks.to_vec());
    Body::Book(BookUpdate { snapshot: true, bids, asks, checksum: None, depth: None })
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
