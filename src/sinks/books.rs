//! The books behind the changes on the tape, for a store that wants each state of a book and not what changed.
//!
//! ```text
//! snapshot, changes, gaps ─► books ─► a record of the best levels, where they are known and have changed
//! ```
//!
//! What is given is a function of the tape: a record is the same whenever it is read, and whole by itself, so that it can
//! be sent again alone. Where a book is not known (before its snapshot, in a gap, behind a hole) nothing is said of it.

use std::collections::HashMap;

use tapedeck_market::{Body, Book, BookUpdate, Event, GapState, Level, SmolStr, wire};
use tapedeck_tape::{Error, Item, Reader};

/// What a gap of a book calls what is missing; an empty channel is everything.
const CHANNEL: &str = "book";
/// Books that are followed at once, far above what a deck records.
const BOOKS_MAX: usize = 20_000;

/// The books of a stretch of the tape.
#[derive(Debug)]
pub(super) struct Books {
    /// Levels a side that are given.
    levels: usize,
    /// By source and symbol; only those that are known to be whole.
    known: HashMap<(SmolStr, SmolStr), Known>,
}

#[derive(Debug)]
struct Known {
    book: Book,
    /// The best levels now are not those of the last record that was given.
    unsaid: bool,
}

impl Books {
    pub(super) fn of(levels: usize) -> Books {
        Books { levels, known: HashMap::new() }
    }

    /// As they stood before that seq: from the state that its segment begins with, and the changes since. The reader stands at
    /// [`Start::Segment`](tapedeck_tape::Start::Segment) of it.
    pub(super) fn before(levels: usize, mut reader: Reader, seq: u64) -> Result<Books, Error> {
        let mut books = Books::of(levels);
        for event in reader.checkpoint().iter().filter_map(|payload| wire::decode(payload).ok()) {
            books.follow(&event);
        }
        while reader.seq() < seq {
            match reader.next()? {
                None => break,
                Some(Item::Hole(_)) => books.forget_all(),
                // What a later version wrote changes no book that this one knows.
                Some(Item::Record(raw)) => drop(wire::decode(raw.payload).map(|event| books.follow(&event))),
            }
        }
        Ok(books)
    }

    /// Nothing is known any more: records are missing.
    pub(super) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// Takes an event in. The best levels after it, if it changed them.
    pub(super) fn follow(&mut self, event: &Event) -> Option<BookUpdate> {
        match &event.body {
            Body::Book(update) => self.update(event, update),
            Body::Gap(gap) if gap.state == GapState::Open && (gap.channel.is_empty() || gap.channel == CHANNEL) => {
                if event.symbol.is_empty() {
                    self.known.retain(|(source, _), _| *source != event.source);
                } else {
                    self.known.remove(&(event.source.clone(), event.symbol.clone()));
                }
                None
            }
            _ => None,
        }
    }

    fn update(&mut self, event: &Event, update: &BookUpdate) -> Option<BookUpdate> {
        let key = (event.source.clone(), event.symbol.clone());
        if update.snapshot && !self.known.contains_key(&key) && self.known.len() < BOOKS_MAX {
            self.known.insert(key.clone(), Known { book: Book::default(), unsaid: true });
        }
        let levels = self.levels;
        let known = self.known.get_mut(&key)?;
        let before = [best(known.book.bids(), levels).to_vec(), best(known.book.asks(), levels).to_vec()];
        known.book.apply(update);
        let (bids, asks) = (best(known.book.bids(), levels), best(known.book.asks(), levels));
        known.unsaid |= update.snapshot || before[0] != bids || before[1] != asks;
        // The record that shows the break stands before the gap that it opens. Where the venue is not to be believed
        // (`checksum = "warn"`, `"off"`), what agrees is still right.
        let agrees = |theirs: u32| event.venue != "kraken" || known.book.kraken_checksum() == theirs;
        if !known.unsaid || !update.checksum.is_none_or(agrees) {
            return None;
        }
        let depth = known.book.depth().unwrap_or(usize::MAX).min(levels);
        let view = BookUpdate {
            snapshot: true,
            bids: bids.to_vec(),
            asks: asks.to_vec(),
            checksum: None,
            depth: u32::try_from(depth).ok(),
        };
        known.unsaid = false;
        Some(view)
    }
}

/// The event as the store wants it: in the place of a change of a book, its best levels. `None`: they have not changed.
pub(super) fn whole(mut event: Event, books: &mut Option<Books>) -> Option<Event> {
    if let Some(books) = books {
        let best = books.follow(&event);
        if let Body::Book(update) = &mut event.body {
            *update = best?;
        }
    }
    Some(event)
}

fn best(side: &[Level], levels: usize) -> &[Level] {
    &side[..side.len().min(levels)]
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
