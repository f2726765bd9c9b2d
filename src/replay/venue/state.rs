//! What a venue knows at this moment of the recording: for whoever subscribes in the middle of it.

use std::collections::BTreeMap;

use tapedeck_market::{Body, Book, Event, SmolStr, UnixNanos};

use super::frames::{self, Channel};

/// Levels a side, where the recording does not tell.
const DEPTH: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Every symbol that was or will be played, with its entry in the venue's list.
    listed: BTreeMap<SmolStr, Option<String>>,
    books: BTreeMap<SmolStr, Known>,
    /// The frame of the last ticker.
    tickers: BTreeMap<SmolStr, String>,
}

#[derive(Debug)]
struct Known {
    book: Book,
    depth: u32,
    at: Option<UnixNanos>,
    /// A snapshot was seen: what changes came before it is not enough for a book.
    whole: bool,
}

/// Why there is nothing to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Symbol,
    Depth,
}

impl State {
    /// Forgets values, not what there is.
    pub(super) fn forget(&mut self) {
        self.tickers.clear();
        for known in self.books.values_mut() {
            known.book.clear();
            known.whole = false;
        }
    }

    /// Learns that there is such a symbol and channel, before anything of it is played.
    pub(super) fn expect(&mut self, event: &Event) {
        if Channel::of(&event.body).is_none() {
            return;
        }
        let listed = self.listed.entry(event.symbol.clone()).or_default();
        match &event.body {
            Body::Instrument(instrument) if listed.is_none() => *listed = Some(frames::pair(&event.symbol, instrument)),
            Body::Book(update) => {
                let depth = update.depth.unwrap_or(DEPTH);
                let known = || Known { book: Book::new(Some(depth as usize)), depth, at: None, whole: false };
                self.books.entry(event.symbol.clone()).or_insert_with(known);
            }
            _ => {}
        }
    }

    /// Takes an event that is, or was, played. `false`: the list of pairs already says so.
    pub(super) fn apply(&mut self, event: &Event) -> bool {
        self.expect(event);
        match &event.body {
            Body::Book(update) => {
                let Some(known) = self.books.get_mut(&event.symbol) else { return true };
                if let Some(depth) = update.depth.filter(|depth| *depth != known.depth) {
                    // Recorded at another depth from here on.
                    *known = Known { book: Book::new(Some(depth as usize)), depth, at: None, whole: false };
                }
                known.whole |= update.snapshot;
                if known.whole {
                    known.book.apply(update);
                }
                known.at = event.ts_event;
            }
            Body::Ticker(_) => drop(frames::frame(event).map(|frame| {
                let frame = frame.replacen("\"type\":\"update\"", "\"type\":\"snapshot\"", 1);
                self.tickers.insert(event.symbol.clone(), frame)
            })),
            Body::Instrument(instrument) => {
                let pair = Some(frames::pair(&event.symbol, instrument));
                let listed = self.listed.entry(event.symbol.clone()).or_default();
                let news = *listed != pair;
                *listed = pair;
                return news;
            }
            _ => {}
        }
        true
    }

    /// Whether a client may subscribe to this.
    pub(super) fn offers(&self, channel: Channel, symbol: &SmolStr, depth: Option<u32>) -> Result<(), Refused> {
        if !self.listed.contains_key(symbol) {
            return Err(Refused::Symbol);
        }
        let recorded = self.books.get(symbol).map_or(DEPTH, |known| known.depth);
        if channel == Channel::Book && depth.unwrap_or(DEPTH) != recorded {
            return Err(Refused::Depth);
        }
        Ok(())
    }

    pub(super) fn depth(&self, symbol: &str) -> Option<u32> {
        self.books.get(symbol).map(|known| known.depth)
    }

    /// What a subscription begins with, where something is known.
    pub(super) fn snapshot(&self, channel: Channel, symbol: &str) -> Option<String> {
        match channel {
            Channel::Ticker => self.tickers.get(symbol).cloned(),
            Channel::Book => {
                let known = self.books.get(symbol).filter(|known| known.whole)?;
                let checksum = known.book.kraken_checksum();
                Some(frames::book_snapshot(symbol, &known.book.snapshot(), checksum, known.at))
            }
            // What was traded before is not told again; the list has a frame of its own.
            Channel::Trade | Channel::Instrument => None,
        }
    }

    /// The venue's list of pairs.
    pub(super) fn list(&self) -> String {
        let unlisted = tapedeck_market::Instrument::default();
        let pairs = self.listed.iter().filter(|(symbol, _)| !symbol.is_empty());
        let pairs = pairs.map(|(symbol, pair)| pair.clone().unwrap_or_else(|| frames::pair(symbol, &unlisted)));
        frames::instruments("snapshot", pairs)
    }
}
