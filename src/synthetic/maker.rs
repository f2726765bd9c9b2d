//! From records to quotes: which record is a price of which pair, and what is said of it.

use std::collections::BTreeMap;

use tapedeck_market::{
    Body, Book, BookUpdate, CandleInput, Event, Flags, GapState, Price, SmolStr, Synthetic, UnixNanos,
};

use super::chain::{Bounds, Chain, Crosses, Outcome, Top, coin};
use super::said::{Ahead, mark};
use super::state;
use crate::candles::concerns;
use crate::config::Globs;
use crate::recorder::{SUBSCRIPTION, detail};

/// Name of the source of derived quotes, and of their reader.
pub const SYNTHETIC: &str = "synthetic";
/// Symbol of what is derived of tickers and quotes, as the predecessors called it in their database.
pub const TICK_SYMBOL: &str = "KR_EURUSD";
/// Symbol of what is derived of books.
pub const DEPTH_SYMBOL: &str = "KR_EURUSD_DEPTH";
/// Books that are kept; what lies beyond derives nothing.
const BOOKS_AT_MOST: usize = 20_000;

/// When a quote derived of books is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// When one of its spreads is below zero.
    #[default]
    Spread,
    Always,
    /// Books are not looked at.
    Never,
}

/// What is wanted of derived quotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub venue: SmolStr,
    pub sources: Globs,
    pub symbols: Globs,
    pub bounds: Bounds,
    pub depth: Depth,
}

impl Recipe {
    fn wants(&self, event: &Event) -> bool {
        self.sources.fit(&event.source) && self.symbols.fit(&event.symbol)
    }
}

/// What became of prices, since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ticks: u64,
    pub depths: u64,
    /// Derived of books, with no spread below zero.
    pub calm: u64,
    pub held: u64,
    pub unchanged: u64,
    pub stale: u64,
    pub outside: u64,
    pub unfit: u64,
}

/// Makes the derived quotes of a tape.
#[derive(Clone, Debug)]
pub struct Maker {
    pub(super) recipe: Recipe,
    pub(super) tick: Chain,
    pub(super) depth: Chain,
    /// By source and symbol: two sources of one pair have two books.
    pub(super) books: BTreeMap<(SmolStr, SmolStr), Book>,
    pub(super) ahead: Ahead,
    counts: Counts,
    /// With the receive time of the record that each was made of.
    said: Vec<(UnixNanos, Event)>,
}

impl Maker {
    #[must_use]
    pub fn new(recipe: Recipe) -> Self {
        Maker {
            recipe,
            tick: Chain::default(),
            depth: Chain::default(),
            books: BTreeMap::new(),
            ahead: Ahead::default(),
            counts: Counts::default(),
            said: Vec::new(),
        }
    }

    /// Goes on from a state, and says behind which record. `None`: it is damaged.
    ///
    /// What was known under another recipe is forgotten, but for books, which nobody sends again: a recipe holds from
    /// where it was changed.
    #[must_use]
    pub fn resume(recipe: Recipe, state: &[u8]) -> Option<(Self, u64)> {
        let mut maker = Maker::new(recipe);
        let seq = state::decode(state, &mut maker)?;
        Some((maker, seq))
    }

    /// The state behind the record `seq`. Everything said must have been taken.
    #[must_use]
    pub fn state(&self, seq: u64) -> Vec<u8> {
        state::encode(seq, self)
    }

    /// Takes a record of the tape, in order.
    pub fn record(&mut self, event: &Event) {
        if event.flags.contains(Flags::DERIVED) {
            if event.source == SYNTHETIC && matches!(event.body, Body::Synthetic(_)) {
                self.ahead.read(mark(event));
            }
            return;
        }
        match &event.body {
            Body::Gap(gap) if gap.state == GapState::Open => self.lost(event, &gap.channel),
            Body::Status(status) if status.topic == SUBSCRIPTION && status.state == "ended" => {
                self.lost(event, &detail(status, "channel"));
            }
            // What history brings is older than what is known.
            _ if event.venue != self.recipe.venue || event.flags.contains(Flags::BACKFILLED) => {}
            Body::Quote(quote) => self.quoted(event, quote.bid, quote.ask),
            Body::Ticker(ticker) if ticker.bid.is_some() || ticker.ask.is_some() => {
                self.quoted(event, ticker.bid, ticker.ask);
            }
            Body::Book(update) => self.book(event, update),
            _ => {}
        }
    }

    /// What a segment begins with: books, because only their changes come after it.
    pub fn checkpoint(&mut self, event: &Event) {
        if let Body::Book(update) = &event.body
            && event.venue == self.recipe.venue
        {
            self.keep(event, update);
        }
    }

    /// Records are missing: what was known may no longer be so.
    pub fn hole(&mut self) {
        self.tick.forget_all();
        self.depth.forget_all();
        self.books.clear();
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Coins known of tickers, and of books.
    #[must_use]
    pub fn crosses(&self) -> [Crosses; 2] {
        [self.tick.known(), self.depth.known()]
    }

    /// What was said since the last call, as events received at `now`. What was made of records that are no longer new is
    /// flagged as backfilled: nobody should take it for the price of the moment.
    pub fn take_said(&mut self, now: UnixNanos) -> Vec<Event> {
        let max_age_ns = self.recipe.bounds.max_age_ns;
        let said = std::mem::take(&mut self.said).into_iter().map(|(received, mut event)| {
            event.ts_recv = now;
            if now.0.saturating_sub(received.0) > max_age_ns {
                event.flags = event.flags.with(Flags::BACKFILLED);
            }
            event
        });
        said.collect()
    }

    fn lost(&mut self, event: &Event, channel: &str) {
        if concerns(CandleInput::Bid, channel) {
            self.tick.forget(&event.source, &event.symbol);
        }
        if brings_books(channel) {
            self.depth.forget(&event.source, &event.symbol);
            self.books.retain(|(source, symbol), _| {
                *source != event.source || !(event.symbol.is_empty() || *symbol == event.symbol)
            });
        }
    }

    fn quoted(&mut self, event: &Event, bid: Option<Price>, ask: Option<Price>) {
        if coin(&event.symbol).is_none() || !self.recipe.wants(event) {
            return;
        }
        match (bid, ask) {
            (Some(bid), Some(ask)) => {
                let top = Top { source: event.source.clone(), time: time_of(event), bid, ask, sizes: None };
                let outcome = self.tick.told(&event.symbol, top, &self.recipe.bounds);
                self.came(event, outcome, TICK_SYMBOL);
            }
            // A side is empty: through this pair nothing can be traded.
            _ => self.tick.forget(&event.source, &event.symbol),
        }
    }

    fn book(&mut self, event: &Event, update: &BookUpdate) {
        let Some(book) = self.keep(event, update) else { return };
        let best = match book.best() {
            (Some(bid), Some(ask)) => Some((*bid, *ask)),
            _ => None,
        };
        if !self.recipe.wants(event) {
            return;
        }
        let Some((bid, ask)) = best else { return self.depth.forget(&event.source, &event.symbol) };
        let sizes = Some((bid.size, ask.size));
        let (source, time) = (event.source.clone(), time_of(event));
        let top = Top { source, time, bid: bid.price, ask: ask.price, sizes };
        let outcome = self.depth.told(&event.symbol, top, &self.recipe.bounds);
        self.came(event, outcome, DEPTH_SYMBOL);
    }

    /// The book after an update; `None`: it is not wanted, or was never seen whole.
    fn keep(&mut self, event: &Event, update: &BookUpdate) -> Option<&Book> {
        if self.recipe.depth == Depth::Never || coin(&event.symbol).is_none() {
            return None;
        }
        let key = (event.source.clone(), event.symbol.clone());
        if update.snapshot && (self.books.len() < BOOKS_AT_MOST || self.books.contains_key(&key)) {
            self.books.insert(key.clone(), Book::new(None));
        }
        let book = self.books.get_mut(&key)?;
        book.apply(update);
        Some(book)
    }

    fn came(&mut self, event: &Event, outcome: Outcome, symbol: &'static str) {
        let counts = &mut self.counts;
        let synthetic = match outcome {
            Outcome::Made(synthetic) => synthetic,
            Outcome::Held => return counts.held += 1,
            Outcome::Unchanged => return counts.unchanged += 1,
            Outcome::Alone => return,
            Outcome::Stale => return counts.stale += 1,
            Outcome::Outside => return counts.outside += 1,
            Outcome::Unfit => return counts.unfit += 1,
        };
        if symbol == TICK_SYMBOL {
            counts.ticks += 1;
        } else if self.recipe.depth == Depth::Always || is_crossed(&synthetic) {
            counts.depths += 1;
        } else {
            return counts.calm += 1;
        }
        self.ahead.made();
        let said = Event {
            source: SmolStr::new_static(SYNTHETIC),
            venue: event.venue.clone(),
            symbol: SmolStr::new_static(symbol),
            ts_event: Some(UnixNanos(time_of(event))),
            ts_recv: event.ts_recv,
            flags: Flags::DERIVED,
            origin: None,
            body: Body::Synthetic(Box::new(synthetic)),
        };
        self.said.push((event.ts_recv, said));
    }
}

/// The venue's time, where it told one that can be; else ours.
fn time_of(event: &Event) -> i64 {
    event.told().unwrap_or(event.ts_recv).0
}

/// The predecessors' condition: a bid above an ask, of this quote or of the one before.
fn is_crossed(Synthetic { legs: _, spread, spread_bid, spread_ask }: &Synthetic) -> bool {
    [spread, spread_bid, spread_ask].into_iter().flatten().any(|spread| spread.0.is_negative())
}

/// Whether a subscription of this channel may bring books.
fn brings_books(channel: &str) -> bool {
    const NO_BOOKS: [&str; 3] = ["trade", "trades", "ticker"];
    matches!(channel, "book" | "level3") || concerns(CandleInput::Trades, channel) && !NO_BOOKS.contains(&channel)
}
