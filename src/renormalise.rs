//! Old days read again: the raw frames of a tape through today's parser, and what differs.
//!
//! ```text
//! tape ─► raw frame · the events that were made of it ─► today's parser ─► the events it makes now ─► a new tape
//!                         └───────────── compared ───────────────────────────────┘
//! ```
//!
//! A frame and its events stand together: the frame first, the events behind it, all of one source and receive time. What
//! was no event of a frame, such as a gap, is taken over as it stands.

use std::collections::{BTreeMap, HashMap};

use tapedeck_market::{Body, BookUpdate, Event, Kind, Raw, SmolStr};

use crate::recorder::seen::Seen;
use crate::sources::reread::Reread;

/// What is compared: what a frame says of the market. The rest also depends on the session.
const COMPARED: [Kind; 7] = [Kind::TRADE, Kind::QUOTE, Kind::TICKER, Kind::BOOK, Kind::ODDS, Kind::ORDER, Kind::POST];
/// Differences that are kept as examples.
const EXAMPLES: usize = 20;

/// How a frame's events differ now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Made now, and not then.
    Added,
    /// Made then, and not now.
    Removed,
    /// Another content of the same kind and symbol.
    Changed,
}

impl Change {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        }
    }
}

/// A difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Of the frame's record.
    pub seq: u64,
    pub change: Change,
    pub then: Option<Event>,
    pub now: Option<Event>,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub frames: u64,
    /// Frames that could not be read then, and can be now.
    pub readable_now: u64,
    /// Frames that cannot be read today.
    pub unreadable: u64,
    /// Frames of sources that have no parser here.
    pub foreign: u64,
    /// Events that are as they were.
    pub equal: u64,
    /// By kind and change.
    pub changes: BTreeMap<(&'static str, &'static str), u64>,
    /// The first ones.
    pub examples: Vec<Difference>,
}

/// One record of the old tape.
#[derive(Clone, Debug)]
pub struct Noted {
    pub seq: u64,
    pub event: Event,
}

/// Reads frames again. Fed with records in their order, it gives the records of the new tape.
pub struct Renormaliser {
    parsers: HashMap<SmolStr, Box<dyn Reread>>,
    outcome: Outcome,
    /// Records of one source and receive time that begin with a frame.
    group: Vec<Noted>,
    /// Trades that are on the tape: what a venue sends again is recorded once.
    trades: HashMap<Place, Seen>,
    /// The last prices of each symbol: a session need not record what says the same again.
    prices: HashMap<(Place, Kind), Event>,
}

/// Venue and symbol.
type Place = (SmolStr, SmolStr);

impl std::fmt::Debug for Renormaliser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renormaliser").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl Renormaliser {
    /// `parsers`: of each source, by the name of its table.
    #[must_use]
    pub fn new(parsers: HashMap<SmolStr, Box<dyn Reread>>) -> Renormaliser {
        Renormaliser {
            parsers,
            outcome: Outcome::default(),
            group: Vec::new(),
            trades: HashMap::new(),
            prices: HashMap::new(),
        }
    }

    /// Learns from a record before the span: names, and trades that are there.
    pub fn before(&mut self, event: &Event) {
        self.learn(event);
    }

    /// Takes the next record; gives what is to be recorded by now.
    pub fn take(&mut self, seq: u64, event: Event) -> Vec<Event> {
        let joins = self
            .group
            .first()
            .is_some_and(|first| first.event.source == event.source && first.event.ts_recv == event.ts_recv);
        if joins {
            self.group.push(Noted { seq, event });
            return Vec::new();
        }
        let mut out = self.finish();
        if is_frame(&event) {
            self.group.push(Noted { seq, event });
        } else {
            self.learn(&event);
            out.push(event);
        }
        out
    }

    /// The end of the span: what is still held.
    pub fn finish(&mut self) -> Vec<Event> {
        let group = std::mem::take(&mut self.group);
        let Some(first) = group.first() else { return Vec::new() };
        let (seq, source) = (first.seq, first.event.source.clone());
        let (frames, then): (Vec<Noted>, Vec<Noted>) = group.into_iter().partition(|noted| is_frame(&noted.event));
        let mut out = Vec::new();
        let mut now = Vec::new();
        let mut read_all = true;
        for frame in &frames {
            self.outcome.frames += 1;
            let Body::Raw(raw) = &frame.event.body else { continue };
            let rejected = raw.format == REJECTED;
            match self.parser(&source).map(|parser| parser.frame(raw, frame.event.ts_recv)) {
                None => {
                    self.outcome.foreign += 1;
                    read_all = false;
                }
                Some(Ok(events)) => {
                    self.outcome.readable_now += u64::from(rejected && !events.is_empty());
                    now.extend(events.into_iter().filter(|event| COMPARED.contains(&event.body.kind())));
                }
                Some(Err(_)) => {
                    self.outcome.unreadable += 1;
                    read_all = rejected && read_all;
                }
            }
        }
        out.extend(frames.into_iter().map(|noted| noted.event));
        // What today's parser cannot read stays as it was read then.
        let then: Vec<Event> = then.into_iter().map(|noted| noted.event).collect();
        if !read_all {
            then.iter().for_each(|event| self.learn(event));
            out.extend(then);
            return out;
        }
        now.retain(|event| then.iter().any(|old| same(old, event)) || !self.is_known(event));
        now.dedup_by(|next, event| same(event, next) && matches!(next.body, Body::Quote(_) | Body::Ticker(_)));
        self.compare(seq, &then, &now);
        let all = in_place(then, now);
        all.iter().for_each(|event| self.learn(event));
        out.extend(all);
        out
    }

    /// What came out; call [`Renormaliser::finish`] first.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// A table's further connections, `NAME/2`, have its parser.
    fn parser(&mut self, source: &str) -> Option<&mut Box<dyn Reread>> {
        let table = source.split('/').next().unwrap_or(source);
        self.parsers.get_mut(table)
    }

    fn learn(&mut self, event: &Event) {
        match &event.body {
            Body::Instrument(_) => {
                if let Some(parser) = self.parser(&event.source.clone()) {
                    parser.learn(event);
                }
            }
            Body::Trade(trade) => {
                if let Some(id) = &trade.id {
                    self.trades.entry(place(event)).or_default().insert(id);
                }
            }
            Body::Quote(_) | Body::Ticker(_) => {
                self.prices.insert((place(event), event.body.kind()), event.clone());
            }
            _ => {}
        }
    }

    /// Whether the tape has said it already.
    fn is_known(&self, event: &Event) -> bool {
        let place = place(event);
        match &event.body {
            Body::Trade(trade) => {
                let id = trade.id.as_ref();
                id.is_some_and(|id| self.trades.get(&place).is_some_and(|ids| ids.contains(id)))
            }
            // What a stream begins with may be what was said before it, in fewer words.
            Body::Quote(_) | Body::Ticker(_) => {
                let last = self.prices.get(&(place, event.body.kind()));
                last.is_some_and(|last| {
                    same(last, event) || (event.ts_event.is_some() && last.ts_event == event.ts_event)
                })
            }
            _ => false,
        }
    }

    fn compare(&mut self, seq: u64, then: &[Event], now: &[Event]) {
        let mut left: Vec<&Event> = then.iter().filter(|event| COMPARED.contains(&event.body.kind())).collect();
        let mut fresh = Vec::new();
        for event in now {
            match left.iter().position(|old| same(old, event)) {
                Some(at) => {
                    left.remove(at);
                    self.outcome.equal += 1;
                }
                None => fresh.push(event),
            }
        }
        for event in fresh {
            let alike = |old: &&Event| old.body.kind() == event.body.kind() && old.symbol == event.symbol;
            match left.iter().position(alike) {
                Some(at) => {
                    let old = left.remove(at);
                    self.note(seq, Change::Changed, Some(old), Some(event));
                }
                None => self.note(seq, Change::Added, None, Some(event)),
            }
        }
        for old in left {
            self.note(seq, Change::Removed, Some(old), None);
        }
    }

    fn note(&mut self, seq: u64, change: Change, then: Option<&Event>, now: Option<&Event>) {
        let kind = then.or(now).map_or(Kind::RAW, |event| event.body.kind());
        let name = Kind::NAMES.iter().find(|(known, _)| *known == kind).map_or("unknown", |(_, name)| name);
        *self.outcome.changes.entry((name, change.name())).or_default() += 1;
        if self.outcome.examples.len() < EXAMPLES {
            self.outcome.examples.push(Difference { seq, change, then: then.cloned(), now: now.cloned() });
        }
    }
}

const REJECTED: &str = "rejected";

fn is_frame(event: &Event) -> bool {
    matches!(&event.body, Body::Raw(Raw { format, .. }) if format != "oversized")
}

/// Today's events where those of then stood, and what else stood between them; what is new stands at the end. What is as
/// it was keeps the flags that its session gave it.
fn in_place(then: Vec<Event>, now: Vec<Event>) -> Vec<Event> {
    let depths: HashMap<SmolStr, u32> = then
        .iter()
        .filter_map(|old| match &old.body {
            Body::Book(update) => Some((old.symbol.clone(), update.depth?)),
            _ => None,
        })
        .collect();
    let mut now: Vec<Option<Event>> = now.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(then.len());
    let mut replaced = Vec::new();
    for old in then {
        let known = now.iter().position(|event| event.as_ref().is_some_and(|event| same(&old, event)));
        match known {
            _ if !COMPARED.contains(&old.body.kind()) => out.push(old),
            Some(at) => {
                now[at] = None;
                out.push(old);
            }
            None => replaced.push((out.len() + replaced.len(), old)),
        }
    }
    for (at, old) in replaced {
        let alike = |event: &Event| event.body.kind() == old.body.kind() && event.symbol == old.symbol;
        let found = now.iter_mut().find(|event| event.as_ref().is_some_and(alike));
        if let Some(event) = found.and_then(Option::take) {
            out.insert(at.min(out.len()), event);
        }
    }
    out.extend(now.into_iter().flatten());
    for event in &mut out {
        if let Body::Book(update) = &mut event.body {
            update.depth = update.depth.or(depths.get(&event.symbol).copied());
        }
    }
    out
}

/// Equal in what the frame said: flags are also the session's, and so is the depth of a book.
fn same(then: &Event, now: &Event) -> bool {
    let bodies = match (&then.body, &now.body) {
        (Body::Book(then), Body::Book(now)) => {
            let depth = now.depth.or(then.depth);
            *then == BookUpdate { depth, ..now.clone() }
        }
        (then, now) => then == now,
    };
    then.symbol == now.symbol && then.ts_event == now.ts_event && bodies
}

fn place(event: &Event) -> Place {
    (event.venue.clone(), event.symbol.clone())
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Flags, Price, Size, Trade, UnixNanos};

    use super::*;
    use crate::sources::reread::ParseError;

    /// Reads `SYMBOL PRICE ID;…`, and nothing else.
    struct Plain;

    impl Reread for Plain {
        fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, ParseError> {
            let text = String::from_utf8_lossy(&raw.frame).into_owned();
            let each = text.split(';').filter(|part| !part.is_empty()).map(|part| {
                let mut words = part.split(' ');
                let (symbol, price, id) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
                Some(trade(symbol, price, id, ts_recv.0))
            });
            each.collect::<Option<Vec<_>>>()
                .ok_or_else(|| ParseError { reason: "not a message", detail: "not ours".to_owned() })
        }
    }

    fn event(at: i64, body: Body) -> Event {
        Event {
            source: "s".into(),
            venue: "v".into(),
            symbol: SmolStr::default(),
            ts_event: None,
            ts_recv: UnixNanos(at),
            flags: Flags::NONE,
            origin: None,
            body,
        }
    }

    fn trade(symbol: &str, price: i64, id: &str, at: i64) -> Event {
        let number = |units| tapedeck_market::Decimal::new(units, 0).expect("small");
        let body = Trade { price: Price(number(price)), size: Size(number(1)), side: None, id: Some(id.into()) };
        Event { symbol: symbol.into(), ..event(at, Body::Trade(body)) }
    }

    fn raw(format: &str, text: &str, at: i64) -> Event {
        event(at, Body::Raw(Raw { format: format.into(), frame: text.as_bytes().to_vec() }))
    }

    fn run(records: Vec<Event>) -> (Vec<Event>, Outcome) {
        let parsers: HashMap<SmolStr, Box<dyn Reread>> =
            HashMap::from([("s".into(), Box::new(Plain) as Box<dyn Reread>)]);
        let mut work = Renormaliser::new(parsers);
        let mut out = Vec::new();
        for (seq, record) in (1..).zip(records) {
            out.extend(work.take(seq, record));
        }
        out.extend(work.finish());
        (out, work.outcome().clone())
    }

    #[test]
    fn what_is_read_as_before_stays_as_it_was_and_the_rest_is_told() {
        let kept = Event { flags: Flags::SNAPSHOT, ..trade("A", 10, "1", 5) };
        let records = vec![
            raw("text", "A 10 1;A 11 2", 5),
            kept.clone(),
            trade("A", 99, "2", 5),
            event(5, Body::Position(tapedeck_market::Position::default())),
            raw("rejected", "A 12 3", 6),
            raw("text", "garbage", 7),
            trade("A", 13, "4", 7),
            raw("text", "A 10 1", 8),
            raw("text", "", 9),
            trade("A", 14, "5", 9),
        ];
        let (out, outcome) = run(records);
        let prices: Vec<(i64, String)> = out
            .iter()
            .filter_map(|event| match &event.body {
                Body::Trade(trade) => Some((event.ts_recv.0, trade.price.to_string())),
                _ => None,
            })
            .collect();
        let want = [(5, "10"), (5, "11"), (6, "12"), (7, "13")].map(|(at, price)| (at, price.to_owned()));
        assert_eq!(prices, want, "corrected, found in what was refused, kept where it cannot be read, sent again once");
        assert_eq!(out[1], kept, "with the flags of its session");
        assert!(out.iter().any(|event| matches!(event.body, Body::Position(_))), "what is of no frame is taken over");
        let changes: Vec<_> = outcome.changes.into_iter().collect();
        let want = [(("trade", "added"), 1), (("trade", "changed"), 1), (("trade", "removed"), 1)];
        assert_eq!(changes, want);
        assert_eq!((outcome.frames, outcome.equal, outcome.readable_now, outcome.unreadable), (5, 1, 1, 1));
        let changed = outcome.examples.iter().find(|one| one.change == Change::Changed).expect("one");
        assert_eq!((changed.seq, changed.then.as_ref().map(|then| then.ts_recv.0)), (1, Some(5)));
    }

    #[test]
    fn frames_of_a_source_without_a_parser_are_taken_over() {
        let mut foreign = vec![raw("text", "x", 5), trade("A", 1, "1", 5)];
        foreign.iter_mut().for_each(|event| event.source = "other".into());
        let (out, outcome) = run(foreign.clone());
        assert_eq!((out, outcome.foreign), (foreign, 1));
    }
}
