//! What the recorder knows: the gap ledger, the last values, the books, the trade ids.
//!
//! All of it follows from the tape: [`State::apply`] is the only way in, for records as they are
//! written and for those read back at start. A checkpoint is the same knowledge written as ordinary
//! events at the start of a segment, so that reading may start there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tapedeck_market::{Body, Book, Event, Flags, Gap, GapCause, GapState, Kind, SmolStr, Status, UnixNanos, wire};

use super::seen::Seen;

/// Symbols of a source that are tracked; what lies beyond is recorded, but has no last value and no gap of its own.
const SYMBOLS_PER_SOURCE: usize = 50_000;
/// A venue time that lies further back than this is another clock's, not a long way.
const LONGEST_WAY: Duration = Duration::from_secs(60);
/// So far back from a source's last bytes the newest record's venue time counts, whatever those bytes were.
const UNCERTAIN: Duration = Duration::from_secs(2);
/// `Status` events with this topic say that a subscription began or ended.
pub(crate) const SUBSCRIPTION: &str = "subscription";
/// `Status` events with this topic, in checkpoints only, carry the trade ids seen.
const TRADE_IDS: &str = "trade_ids";

/// The recorder's knowledge.
#[derive(Debug, Default)]
pub(crate) struct State {
    sources: BTreeMap<SmolStr, SourceState>,
    /// Trade ids by venue and symbol: sources of one venue share them.
    seen: HashMap<SmolStr, HashMap<SmolStr, Seen>>,
    /// Holes in trade ids that a late arrival may still fill.
    id_holes: Vec<IdHole>,
    last_recv: Option<UnixNanos>,
}

#[derive(Debug, Default)]
struct SourceState {
    venue: SmolStr,
    /// Receive time of its last record.
    last_recv: Option<UnixNanos>,
    /// Venue time and receive time of the record with the highest venue time.
    newest: Option<(UnixNanos, UnixNanos)>,
    positions: BTreeMap<SmolStr, (SmolStr, Vec<u8>)>,
    symbols: HashMap<SmolStr, SymbolState>,
}

#[derive(Debug, Default)]
struct SymbolState {
    /// Few a symbol, so a list.
    channels: Vec<(SmolStr, Subscription)>,
    instrument: Vec<u8>,
    /// Encoded last trade, quote, ticker.
    last: [Vec<u8>; 3],
    book: Option<KeptBook>,
}

#[derive(Debug, Default)]
struct Subscription {
    live: bool,
    gap: Option<Gap>,
    /// When its last gap began, and when that was over.
    last_gap: Option<(UnixNanos, UnixNanos)>,
}

#[derive(Debug)]
struct KeptBook {
    book: Book,
    depth: Option<u32>,
    ts_event: Option<UnixNanos>,
    ts_recv: UnixNanos,
}

#[derive(Debug)]
struct IdHole {
    event: Event,
    from: u64,
    to: u64,
}

/// Counts of one source, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerCounts {
    pub subscriptions: usize,
    pub live: usize,
    pub gaps_open: usize,
    /// Of them, by the cause's name: how many, and since when the oldest is open.
    pub open_by_cause: BTreeMap<&'static str, (usize, UnixNanos)>,
}

impl State {
    /// Takes over one record: written now, or read back.
    pub(crate) fn apply(&mut self, event: &Event, encoded: &[u8]) {
        // What was fetched says nothing of when the feed was heard.
        let heard = !event.flags.contains(Flags::BACKFILLED);
        if heard {
            self.last_recv = self.last_recv.max(Some(event.ts_recv));
        }
        if let Some(source) = self.sources.get_mut(&event.source) {
            if heard {
                source.last_recv = source.last_recv.max(Some(event.ts_recv));
            }
            let fetched = event.flags.contains(Flags::BACKFILLED) || event.flags.contains(Flags::ABSURD_TIME);
            if let Some(ts_event) = event.ts_event.filter(|_| !fetched)
                && source.newest.is_none_or(|(newest, _)| ts_event > newest)
            {
                source.newest = Some((ts_event, event.ts_recv));
            }
        }
        match &event.body {
            Body::Trade(trade) => {
                if let Some(id) = &trade.id
                    && let Some(seen) = self.seen_of(&event.venue, &event.symbol)
                {
                    seen.insert(id);
                }
                if heard {
                    self.keep_last(event, 0, encoded);
                }
            }
            Body::Post(post) => {
                // Of the venue, whatever rule it came by: an id is one post.
                if let Some(seen) = self.seen_of(&event.venue, &SmolStr::default()) {
                    seen.insert_name(&post.id);
                }
            }
            Body::Quote(_) => self.keep_last(event, 1, encoded),
            Body::Ticker(_) => self.keep_last(event, 2, encoded),
            Body::Book(update) => {
                let Some(symbol) = self.symbol_mut(event) else { return };
                if update.snapshot {
                    let depth = update.depth.and_then(|depth| usize::try_from(depth).ok());
                    let (ts_event, ts_recv) = (event.ts_event, event.ts_recv);
                    let mut kept = KeptBook { book: Book::new(depth), depth: update.depth, ts_event, ts_recv };
                    kept.book.apply(update);
                    symbol.book = Some(kept);
                } else if let Some(kept) = &mut symbol.book {
                    kept.book.apply(update);
                    (kept.ts_event, kept.ts_recv) = (event.ts_event, event.ts_recv);
                }
            }
            Body::Instrument(_) => {
                if let Some(symbol) = self.symbol_mut(event) {
                    replace(&mut symbol.instrument, encoded);
                }
            }
            Body::Position(position) => {
                let source = self.source_mut(event);
                source.positions.insert(position.key.clone(), (position.value.clone(), encoded.to_vec()));
            }
            Body::Status(status) if status.topic == SUBSCRIPTION => self.apply_subscription(event, status),
            Body::Status(status) if status.topic == TRADE_IDS => {
                if let Some(seen) = self.seen_of(&event.venue, &event.symbol) {
                    seen.extend_from_text(&status.state);
                }
            }
            Body::Gap(gap) => self.apply_gap(event, gap),
            _ => {}
        }
    }

    fn apply_subscription(&mut self, event: &Event, status: &Status) {
        let channel = detail(status, "channel");
        let Some(symbol) = self.symbol_mut(event) else { return };
        if status.state == "ended" {
            symbol.channels.retain(|(name, _)| *name != channel);
            if channel == "book" {
                symbol.book = None;
            }
        } else {
            symbol.channel_mut(&channel).live = true;
        }
    }

    fn apply_gap(&mut self, event: &Event, gap: &Gap) {
        if gap.state == GapState::Repaired || gap.state == GapState::Unrepairable {
            self.id_holes.retain(|hole| gap_id(&hole.event) != Some(gap.id));
            return;
        }
        let Some(symbol) = self.symbol_mut(event) else { return };
        let subscription = symbol.channel_mut(&gap.channel);
        match gap.state {
            GapState::Open if subscription.gap.is_some() => {}
            GapState::Open => {
                subscription.live = false;
                subscription.gap = Some(gap.clone());
                if gap.channel == "book" || gap.channel.is_empty() {
                    symbol.book = None;
                }
            }
            // A hole that was over when it was found leaves a longer gap, opened before it, as it is.
            _ if subscription.gap.as_ref().is_none_or(|open| open.id == gap.id) => {
                subscription.live = true;
                subscription.gap = None;
                subscription.last_gap = gap.to.map(|to| (gap.from, to));
            }
            _ => {}
        }
    }

    /// Whether the trade or the post is on the tape already. Looks without remembering: an id counts as seen only
    /// once its record is appended, or a checkpoint could claim what a crash then takes away.
    pub(crate) fn is_on_tape(&self, event: &Event) -> bool {
        let seen = |symbol| self.seen.get(&event.venue).and_then(|symbols| symbols.get(symbol));
        match &event.body {
            Body::Trade(trade) => {
                trade.id.as_ref().is_some_and(|id| seen(event.symbol.as_str()).is_some_and(|seen| seen.contains(id)))
            }
            Body::Post(post) => seen("").is_some_and(|seen| seen.contains_name(&post.id)),
            _ => false,
        }
    }

    /// The subscription is delivering: the records that say so, if they are news.
    pub(crate) fn live(&self, template: &Event, channel: &SmolStr) -> Option<Body> {
        let known = self.subscription(&template.source, &template.symbol, channel);
        match known {
            Some(Subscription { gap: Some(gap), .. }) => {
                let closed = Gap { state: GapState::Closed, to: Some(template.ts_recv), ..gap.clone() };
                Some(Body::Gap(Box::new(closed)))
            }
            Some(Subscription { live: true, .. }) => None,
            _ => Some(subscription_status("live", channel)),
        }
    }

    /// Subscriptions of a source that are live, or all known ones when `only_live` is false, as (symbol, channel), in order.
    pub(crate) fn subscriptions(
        &self,
        source: &str,
        symbol: Option<&SmolStr>,
        channel: Option<&SmolStr>,
        only_live: bool,
    ) -> Vec<(SmolStr, SmolStr)> {
        let Some(source) = self.sources.get(source) else { return Vec::new() };
        let mut found: Vec<_> = source
            .symbols
            .iter()
            .filter(|(name, _)| symbol.is_none_or(|wanted| wanted == *name))
            .flat_map(|(name, state)| state.channels.iter().map(move |(channel, sub)| (name, channel, sub)))
            .filter(|(_, name, sub)| channel.is_none_or(|wanted| wanted == *name) && (sub.live || !only_live))
            .map(|(name, channel, _)| (name.clone(), channel.clone()))
            .collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn is_live(&self, source: &str, symbol: &SmolStr, channel: &SmolStr) -> bool {
        self.subscription(source, symbol, channel).is_some_and(|sub| sub.live)
    }

    /// Where a gap begins whose source had its last bytes at `since`. What is missing was sent after them, but may
    /// bear a venue time before them: they had lain in a socket, behind a busy process, and so had it. So the gap
    /// begins earlier by what the newest record took to get here, or with that record where it is not long ago.
    pub(crate) fn whole_until(&self, source: &str, since: UnixNanos) -> UnixNanos {
        let newest = self.sources.get(source).and_then(|source| source.newest);
        let Some((ts_event, ts_recv)) = newest else { return since };
        let took = ts_recv.saturating_since(ts_event);
        if took > LONGEST_WAY {
            return since;
        }
        let by_pace = since - took;
        if since.saturating_since(ts_event) <= UNCERTAIN { by_pace.min(ts_event) } else { by_pace }
    }

    /// Where a hole in trade ids begins: at the trade before it, or with an outage since, up to which all was whole.
    pub(crate) fn hole_begins(&self, source: &str, symbol: &SmolStr, channel: &SmolStr, from: UnixNanos) -> UnixNanos {
        let last_gap = self.subscription(source, symbol, channel).and_then(|sub| sub.last_gap);
        last_gap.filter(|(_, over)| *over > from).map_or(from, |(began, _)| began.max(from))
    }

    /// Whether a gap of the subscription is open.
    pub(crate) fn has_open_gap(&self, source: &str, symbol: &SmolStr, channel: &SmolStr) -> bool {
        self.subscription(source, symbol, channel).is_some_and(|sub| sub.gap.is_some())
    }

    /// Remembers a hole in trade ids, so that late arrivals can fill it. Of many the oldest are forgotten: they stay holes.
    pub(crate) fn watch_id_hole(&mut self, closed: &Event, (from, to): (u64, u64)) {
        const WATCHED: usize = 1_024;
        if self.id_holes.len() == WATCHED {
            self.id_holes.remove(0);
        }
        self.id_holes.push(IdHole { event: closed.clone(), from, to });
    }

    /// Holes in trade ids that are filled by now, as the events that say so.
    pub(crate) fn filled_id_holes(&mut self, now: UnixNanos) -> Vec<Event> {
        if self.id_holes.is_empty() {
            return Vec::new();
        }
        let seen = &self.seen;
        let mut filled = Vec::new();
        self.id_holes.retain(|hole| {
            let ids = seen.get(&hole.event.venue).and_then(|symbols| symbols.get(&hole.event.symbol));
            if !ids.is_some_and(|ids| ids.covers(hole.from, hole.to)) {
                return true;
            }
            if let Body::Gap(gap) = &hole.event.body {
                let repaired = Gap { state: GapState::Repaired, missing: Some(0), ..(**gap).clone() };
                filled.push(Event { ts_recv: now, body: Body::Gap(Box::new(repaired)), ..hole.event.clone() });
            }
            false
        });
        filled
    }

    /// Names and venues of the sources that the tape knows.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&SmolStr, &SmolStr)> {
        self.sources.iter().map(|(name, source)| (name, &source.venue))
    }

    /// Receive time of a source's last record.
    pub(crate) fn last_recv_of(&self, source: &str) -> Option<UnixNanos> {
        self.sources.get(source)?.last_recv
    }

    /// Receive time of the last record.
    pub(crate) fn last_recv(&self) -> Option<UnixNanos> {
        self.last_recv
    }

    /// What a source needs to go on.
    pub(crate) fn resume(&self, source: &str) -> crate::intake::Resume {
        let mut resume = crate::intake::Resume::default();
        let Some(state) = self.sources.get(source) else { return resume };
        resume.positions = state.positions.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        resume.subscriptions = self.subscriptions(source, None, None, false);
        if let Some(symbols) = self.seen.get(&state.venue) {
            resume.last_trades = symbols
                .iter()
                .filter_map(|(symbol, seen)| {
                    // Known by its id alone, from a source of another name: what lies before is in that one's ledger.
                    let at = state.symbols.get(symbol).and_then(SymbolState::last_traded).or(self.last_recv);
                    Some((symbol.clone(), (seen.last()?, at.unwrap_or_else(UnixNanos::now))))
                })
                .collect();
        }
        resume
    }

    pub(crate) fn counts(&self) -> BTreeMap<SmolStr, LedgerCounts> {
        let count = |source: &SourceState| {
            let mut counts = LedgerCounts::default();
            for (_, sub) in source.symbols.values().flat_map(|symbol| &symbol.channels) {
                counts.subscriptions += 1;
                counts.live += usize::from(sub.live);
                if let Some(gap) = &sub.gap {
                    counts.gaps_open += 1;
                    let (count, since) = counts.open_by_cause.entry(gap.cause.name()).or_insert((0, gap.from));
                    (*count, *since) = (*count + 1, gap.from.min(*since));
                }
            }
            counts
        };
        self.sources.iter().map(|(name, source)| (name.clone(), count(source))).collect()
    }

    /// Everything as encoded events, for the start of a segment.
    pub(crate) fn checkpoint(&self, now: UnixNanos) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for (name, source) in &self.sources {
            // That somebody asks for the state is nothing that was received.
            let heard = source.last_recv.unwrap_or(now);
            out.extend(source.positions.values().map(|(_, encoded)| encoded.clone()));
            let mut symbols: Vec<_> = source.symbols.iter().collect();
            symbols.sort_unstable_by_key(|(symbol, _)| *symbol);
            for (symbol, state) in symbols {
                let event = |ts_event, ts_recv, body| Event {
                    source: name.clone(),
                    venue: source.venue.clone(),
                    symbol: symbol.clone(),
                    ts_event,
                    ts_recv,
                    flags: Flags::SNAPSHOT,
                    origin: None,
                    body,
                };
                state.checkpoint(&event, heard, &mut out);
            }
        }
        for (venue, symbols) in &self.seen {
            for (symbol, seen) in symbols {
                let status = Status { topic: TRADE_IDS.into(), state: seen.to_text().into(), detail: Vec::new() };
                out.push(encode(&Event {
                    source: SmolStr::default(),
                    venue: venue.clone(),
                    symbol: symbol.clone(),
                    ts_event: None,
                    ts_recv: self.last_recv.unwrap_or(now),
                    flags: Flags::SNAPSHOT,
                    origin: None,
                    body: Body::Status(status),
                }));
            }
        }
        out
    }

    fn subscription(&self, source: &str, symbol: &SmolStr, channel: &SmolStr) -> Option<&Subscription> {
        let channels = &self.sources.get(source)?.symbols.get(symbol)?.channels;
        channels.iter().find(|(name, _)| name == channel).map(|(_, sub)| sub)
    }

    fn source_mut(&mut self, event: &Event) -> &mut SourceState {
        if !self.sources.contains_key(&event.source) {
            let (venue, last_recv) = (event.venue.clone(), Some(event.ts_recv));
            let fresh = SourceState { venue, last_recv, ..SourceState::default() };
            self.sources.insert(event.source.clone(), fresh);
        }
        self.sources.entry(event.source.clone()).or_default()
    }

    fn symbol_mut(&mut self, event: &Event) -> Option<&mut SymbolState> {
        let source = self.source_mut(event);
        if !source.symbols.contains_key(&event.symbol) {
            if source.symbols.len() >= SYMBOLS_PER_SOURCE {
                return None;
            }
            source.symbols.insert(event.symbol.clone(), SymbolState::default());
        }
        source.symbols.get_mut(&event.symbol)
    }

    /// `None` for a symbol beyond the bound: its trades are recorded, but not known again.
    fn seen_of(&mut self, venue: &SmolStr, symbol: &SmolStr) -> Option<&mut Seen> {
        if !self.seen.contains_key(venue) {
            self.seen.insert(venue.clone(), HashMap::new());
        }
        let symbols = self.seen.get_mut(venue)?;
        if !symbols.contains_key(symbol) {
            if symbols.len() >= SYMBOLS_PER_SOURCE {
                return None;
            }
            symbols.insert(symbol.clone(), Seen::default());
        }
        symbols.get_mut(symbol)
    }

    fn keep_last(&mut self, event: &Event, place: usize, encoded: &[u8]) {
        if let Some(symbol) = self.symbol_mut(event) {
            replace(&mut symbol.last[place], encoded);
        }
    }
}

impl SymbolState {
    /// When its last trade was: by the venue's clock, or ours where that says earlier.
    fn last_traded(&self) -> Option<UnixNanos> {
        wire::decode(&self.last[0]).ok().map(|trade| trade.earliest())
    }

    fn channel_mut(&mut self, channel: &SmolStr) -> &mut Subscription {
        let at = match self.channels.iter().position(|(name, _)| name == channel) {
            Some(at) => at,
            None => {
                self.channels.push((channel.clone(), Subscription::default()));
                self.channels.len() - 1
            }
        };
        &mut self.channels[at].1
    }

    fn checkpoint(
        &self,
        event: &dyn Fn(Option<UnixNanos>, UnixNanos, Body) -> Event,
        heard: UnixNanos,
        out: &mut Vec<Vec<u8>>,
    ) {
        for (channel, sub) in &self.channels {
            if sub.live {
                out.push(encode(&event(None, heard, subscription_status("live", channel))));
            }
            if let Some(gap) = &sub.gap {
                out.push(encode(&event(None, gap.from, Body::Gap(Box::new(gap.clone())))));
            }
        }
        let kept = [&self.instrument, &self.last[0], &self.last[1], &self.last[2]];
        out.extend(kept.into_iter().filter(|encoded| !encoded.is_empty()).cloned());
        if let Some(kept) = &self.book {
            let mut snapshot = kept.book.snapshot();
            snapshot.depth = kept.depth;
            out.push(encode(&event(kept.ts_event, kept.ts_recv, Body::Book(snapshot))));
        }
    }
}

/// The event that begins or ends a subscription.
pub(crate) fn subscription_status(state: &'static str, channel: &SmolStr) -> Body {
    Body::Status(Status {
        topic: SmolStr::new_static(SUBSCRIPTION),
        state: SmolStr::new_static(state),
        detail: vec![(SmolStr::new_static("channel"), channel.clone())],
    })
}

/// One of the details of a status; empty when it does not have it.
pub(crate) fn detail(status: &Status, key: &str) -> SmolStr {
    status.detail.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn gap_id(event: &Event) -> Option<u64> {
    match &event.body {
        Body::Gap(gap) => Some(gap.id),
        _ => None,
    }
}

fn encode(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    wire::encode(event, &mut out);
    out
}

fn replace(kept: &mut Vec<u8>, encoded: &[u8]) {
    kept.clear();
    kept.extend_from_slice(encoded);
}

/// Kinds that go first when disk space runs short: depth before statistics, trades never.
pub(crate) const SHED_FIRST: [Kind; 3] = [Kind::RAW, Kind::BOOK, Kind::TICKER];
/// The channels they come by.
pub(crate) const SHED_CHANNELS: [&str; 2] = ["book", "ticker"];

/// A gap that begins now.
pub(crate) fn open_gap(id: u64, cause: GapCause, channel: SmolStr, from: UnixNanos, detail: SmolStr) -> Gap {
    Gap { id, state: GapState::Open, cause, channel, from, to: None, missing: None, detail }
}
