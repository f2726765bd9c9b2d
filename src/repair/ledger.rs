//! Which holes there are, read from the tape.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use tapedeck_market::{Body, CandleInput, Event, Flags, Gap, GapState, Kind, SmolStr, UnixNanos, wire};

use crate::intake::ids_named;
use crate::sources::history::Hole;

/// The channel whose events have ids, as the gap ledger names it.
const TRADES: &str = "trade";
/// Candles that are remembered; of more the rest may come twice.
const CANDLES: usize = 200_000;

/// A hole with the record that opened it.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Of the record that opened it.
    pub seq: u64,
    /// The last record of it.
    pub event: Event,
    pub hole: Hole,
}

/// The holes of one source.
#[derive(Debug)]
pub struct Ledger {
    source: SmolStr,
    /// Only holes that overlap with this span.
    span: (UnixNanos, UnixNanos),
    open: BTreeMap<u64, Noted>,
    over: BTreeMap<u64, Noted>,
    /// The last trade id of each symbol.
    last_ids: HashMap<SmolStr, u64>,
    /// Holes that wait for the next trade of their symbol.
    awaiting: HashMap<SmolStr, Vec<u64>>,
    /// Candles that were fetched already: two holes may lie in one.
    candles: HashSet<(SmolStr, i64, CandleInput)>,
    /// Holes that cannot be filled just now, until when they rest, and for how long the next time.
    resting: HashMap<u64, (Instant, Duration)>,
}

impl Ledger {
    #[must_use]
    pub fn new(source: SmolStr, span: (UnixNanos, UnixNanos)) -> Ledger {
        Ledger {
            source,
            span,
            open: BTreeMap::new(),
            over: BTreeMap::new(),
            last_ids: HashMap::new(),
            awaiting: HashMap::new(),
            candles: HashSet::new(),
            resting: HashMap::new(),
        }
    }

    /// Takes one record as it stands on the tape; what cannot be read is none of this version.
    pub fn take_payload(&mut self, seq: u64, payload: &[u8]) {
        if matches!(wire::kind(payload), Ok(Kind::GAP | Kind::TRADE | Kind::CANDLE))
            && let Ok(event) = wire::decode(payload)
        {
            self.take(seq, &event);
        }
    }

    /// Takes what was known when the tape's reading begins: the last trades, which lie before the first hole.
    pub fn take_known(&mut self, payload: &[u8]) {
        if matches!(wire::kind(payload), Ok(Kind::TRADE))
            && let Ok(event) = wire::decode(payload)
        {
            self.take(0, &event);
        }
    }

    /// Takes one record.
    pub fn take(&mut self, seq: u64, event: &Event) {
        if !self.is_own(&event.source) {
            return;
        }
        match &event.body {
            Body::Gap(gap) => self.gap(seq, event, gap),
            Body::Trade(trade) if !event.flags.contains(Flags::BACKFILLED) => {
                if let Some(id) = trade.id.as_ref().and_then(|id| id.parse().ok()) {
                    self.trade(&event.symbol, id);
                }
            }
            Body::Candle(candle) if event.flags.contains(Flags::BACKFILLED) && self.candles.len() < CANDLES => {
                self.candles.insert((event.symbol.clone(), candle.start.0, candle.input));
            }
            _ => {}
        }
    }

    /// Whether a candle was fetched for another hole.
    #[must_use]
    pub fn is_known(&self, event: &Event) -> bool {
        match &event.body {
            Body::Candle(candle) => self.candles.contains(&(event.symbol.clone(), candle.start.0, candle.input)),
            _ => false,
        }
    }

    /// A table's further connections are called `NAME/2` and the like.
    fn is_own(&self, source: &str) -> bool {
        source.strip_prefix(self.source.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn gap(&mut self, seq: u64, event: &Event, gap: &Gap) {
        match gap.state {
            GapState::Open => {
                let between = match ids_named(gap) {
                    Some((first, last)) => (first.checked_sub(1), last.checked_add(1)),
                    None if gap.channel == TRADES => (self.last_ids.get(&event.symbol).copied(), None),
                    None => (None, None),
                };
                let hole = Hole { symbol: event.symbol.clone(), gap: gap.clone(), between };
                self.open.insert(gap.id, Noted { seq, event: event.clone(), hole });
            }
            GapState::Closed => {
                let opened = self.open.remove(&gap.id);
                let outside = gap.from > self.span.1 || gap.to.is_some_and(|to| to < self.span.0);
                if outside {
                    return;
                }
                let between = opened.as_ref().map_or((None, None), |opened| opened.hole.between);
                if between.1.is_none() && between.0.is_some() {
                    self.awaiting.entry(event.symbol.clone()).or_default().push(gap.id);
                }
                let hole = Hole { symbol: event.symbol.clone(), gap: gap.clone(), between };
                let seq = opened.map_or(seq, |opened| opened.seq);
                self.over.insert(gap.id, Noted { seq, event: event.clone(), hole });
            }
            GapState::Repaired | GapState::Unrepairable => {
                self.open.remove(&gap.id);
                self.done(gap.id);
            }
        }
    }

    fn trade(&mut self, symbol: &SmolStr, id: u64) {
        let last = self.last_ids.entry(symbol.clone()).or_insert(id);
        *last = id.max(*last);
        let Some(waiting) = self.awaiting.get_mut(symbol) else { return };
        waiting.retain(|gap| {
            let Some(noted) = self.over.get_mut(gap) else { return false };
            let news = noted.hole.between.0.is_some_and(|after| id > after);
            if news {
                noted.hole.between.1 = Some(id);
            }
            !news
        });
        if waiting.is_empty() {
            self.awaiting.remove(symbol);
        }
    }

    /// The oldest hole that was over by then, and does not rest.
    #[must_use]
    pub fn next(&self, settled: UnixNanos, now: Instant) -> Option<&Noted> {
        let rests = |noted: &Noted| self.resting.get(&noted.hole.gap.id).is_some_and(|(until, _)| now < *until);
        self.over.values().find(|noted| noted.event.ts_recv <= settled && !rests(noted))
    }

    /// Lets a hole rest, each time twice as long up to `longest`; says for how long.
    pub fn rest(&mut self, id: u64, now: Instant, first: Duration, longest: Duration) -> Duration {
        let pause = self.resting.get(&id).map_or(first, |(_, last)| (*last * 2).min(longest));
        self.resting.insert(id, (now + pause, pause));
        pause
    }

    /// How many are over and have no last word.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.over.len() as u64
    }

    /// All holes that are over, oldest first.
    pub fn over(&self) -> impl Iterator<Item = &Noted> {
        self.over.values()
    }

    /// The hole has its last word, or is given up for now.
    pub fn done(&mut self, id: u64) {
        self.over.remove(&id);
        self.resting.remove(&id);
    }

    /// The record with which reading must begin to find them all again.
    #[must_use]
    pub fn begins(&self) -> Option<u64> {
        self.open.values().chain(self.over.values()).map(|noted| noted.seq).min()
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{GapCause, Price, Size, Trade};

    use super::*;

    const ALL: (UnixNanos, UnixNanos) = (UnixNanos(i64::MIN), UnixNanos(i64::MAX));

    fn event(symbol: &str, at: i64, body: Body) -> Event {
        Event {
            source: "k".into(),
            venue: "kraken".into(),
            symbol: symbol.into(),
            ts_event: None,
            ts_recv: UnixNanos::from_secs(at),
            flags: Flags::NONE,
            origin: None,
            body,
        }
    }

    fn gap(id: u64, state: GapState, detail: &str) -> Body {
        let to = (state != GapState::Open).then_some(UnixNanos::from_secs(20));
        Body::Gap(Box::new(Gap {
            id,
            state,
            cause: if detail.starts_with("trade ids") { GapCause::Sequence } else { GapCause::Session },
            channel: "trade".into(),
            from: UnixNanos::from_secs(10),
            to,
            missing: None,
            detail: detail.into(),
        }))
    }

    fn trade(id: u64) -> Body {
        let zero: tapedeck_market::Decimal = "1".parse().expect("a number");
        Body::Trade(Trade { price: Price(zero), size: Size(zero), side: None, id: Some(id.to_string().into()) })
    }

    #[test]
    fn a_hole_lies_between_the_trades_that_are_there() {
        let mut ledger = Ledger::new("k".into(), ALL);
        ledger.take(1, &event("A", 9, trade(100)));
        ledger.take(2, &event("B", 9, trade(7)));
        ledger.take(3, &event("A", 10, gap(3, GapState::Open, "cut")));
        assert!(ledger.next(UnixNanos(i64::MAX), Instant::now()).is_none(), "it is not over");
        ledger.take(4, &event("A", 20, gap(3, GapState::Closed, "cut")));
        ledger.take(5, &event("B", 21, trade(8)));
        ledger.take(6, &event("A", 21, trade(99)));
        assert_eq!(ledger.next(UnixNanos(i64::MAX), Instant::now()).expect("over").hole.between, (Some(100), None));
        ledger.take(7, &event("A", 21, trade(151)));
        ledger.take(8, &event("A", 22, trade(152)));
        let noted = ledger.next(UnixNanos(i64::MAX), Instant::now()).expect("over");
        assert_eq!((noted.hole.between, noted.hole.ids(), noted.seq), ((Some(100), Some(151)), Some(50), 3));
        assert!(!noted.hole.may_miss(100) && noted.hole.may_miss(101) && !noted.hole.may_miss(151));
        assert!(ledger.next(UnixNanos::from_secs(19), Instant::now()).is_none(), "it has just begun to go on");
        assert_eq!(ledger.begins(), Some(3));
        ledger.take(9, &event("A", 30, gap(3, GapState::Repaired, "cut")));
        assert!(ledger.next(UnixNanos(i64::MAX), Instant::now()).is_none() && ledger.begins().is_none());
    }

    #[test]
    fn a_hole_begins_behind_the_trade_that_the_checkpoint_knows() {
        let mut ledger = Ledger::new("k".into(), ALL);
        for known in [event("A", 9, trade(100)), event("A", 5, gap(1, GapState::Open, ""))] {
            let mut payload = Vec::new();
            wire::encode(&known, &mut payload);
            ledger.take_known(&payload);
        }
        assert_eq!(ledger.begins(), None, "a gap of the checkpoint stands on the tape itself");
        ledger.take(3, &event("A", 10, gap(3, GapState::Open, "down")));
        ledger.take(4, &event("A", 20, gap(3, GapState::Closed, "down")));
        ledger.take(5, &event("A", 21, trade(104)));
        assert_eq!(ledger.over().next().and_then(|noted| noted.hole.ids()), Some(3));
    }

    #[test]
    fn a_hole_in_the_numbering_names_its_ids_and_other_sources_are_no_matter() {
        let mut ledger = Ledger::new("k".into(), ALL);
        let detail = "trade ids 101 to 104 never came";
        ledger.take(1, &event("A", 9, trade(50)));
        ledger.take(2, &event("A", 10, gap(2, GapState::Open, detail)));
        ledger.take(3, &event("A", 20, gap(2, GapState::Closed, detail)));
        ledger.take(4, &Event { source: "other".into(), ..event("A", 10, gap(4, GapState::Closed, "")) });
        let noted = ledger.over().collect::<Vec<_>>();
        assert_eq!(noted.len(), 1);
        assert_eq!(noted[0].hole.between, (Some(100), Some(105)));
    }

    #[test]
    fn only_the_asked_for_span_counts() {
        for (span, count) in [((0, 9), 0), ((0, 10), 1), ((15, 16), 1), ((20, 90), 1), ((21, 90), 0)] {
            let mut ledger = Ledger::new("k".into(), (UnixNanos::from_secs(span.0), UnixNanos::from_secs(span.1)));
            ledger.take(1, &event("A", 10, gap(1, GapState::Open, "")));
            ledger.take(2, &event("A", 20, gap(1, GapState::Closed, "")));
            assert_eq!(ledger.over().count(), count, "{span:?}");
        }
    }

    #[test]
    fn a_hole_that_cannot_be_filled_just_now_does_not_hold_up_the_others() {
        let mut ledger = Ledger::new("k".into(), ALL);
        for id in [1, 2] {
            ledger.take(id, &event("A", 10, gap(id, GapState::Open, "")));
            ledger.take(id, &event("A", 20, gap(id, GapState::Closed, "")));
        }
        let (all, now, second) = (UnixNanos(i64::MAX), Instant::now(), Duration::from_secs(1));
        let next = |ledger: &Ledger, at: Instant| ledger.next(all, at).map(|noted| noted.hole.gap.id);
        assert_eq!(next(&ledger, now), Some(1));
        assert_eq!(ledger.rest(1, now, second, second * 3), second);
        assert_eq!((next(&ledger, now), next(&ledger, now + second)), (Some(2), Some(1)));
        assert_eq!(ledger.rest(1, now, second, second * 3), second * 2);
        assert_eq!(ledger.rest(1, now, second, second * 3), second * 3);
        ledger.done(2);
        assert_eq!((next(&ledger, now), ledger.left(), ledger.begins()), (None, 1, Some(1)));
    }
}
