//! The books of a session, each checked against the venue's checksums.
//!
//! Kraken numbers no updates: the checksum is its only statement about what we should hold, and it
//! covers the ten best levels. A book that disagrees is dropped, for that symbol alone, until the next
//! snapshot; what arrives in between is still worth recording, inside the gap.

use std::collections::HashMap;
use std::time::Duration;

use tapedeck_market::{Book, BookUpdate, SmolStr, UnixNanos};

use super::sequence::SYMBOLS;

/// First wait before a book is asked for again after a second break; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A book that keeps breaking is not worth more than one snapshot a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A book that was whole for this long has a clean record again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What to do about a checksum that does not match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Drop the book, mark the gap, resubscribe that symbol.
    #[default]
    Strict,
    /// Log the first of a row and go on with the book as it is.
    Warn,
    /// Do not even compute it.
    Off,
}

/// What an update did to its book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A snapshot: the book is whole from here on.
    Fresh,
    /// The book agrees with the venue (or the venue sent nothing to compare with).
    Whole,
    /// The book is not the venue's and is dropped. It was last whole at `since`.
    Broken { since: UnixNanos, ours: u32, theirs: u32, pause: Duration },
    /// As `Broken`, where the policy is only to say so.
    Suspect { ours: u32, theirs: u32 },
    /// A change of a book that we do not hold: before its snapshot, or after a break.
    Adrift,
}

/// The books of one feed, by symbol.
#[derive(Debug)]
pub struct Books {
    /// Levels a side, as subscribed, where a snapshot does not say.
    depth: u32,
    policy: Policy,
    kept: HashMap<SmolStr, Kept>,
}

#[derive(Debug)]
struct Kept {
    /// `None` after a break.
    book: Option<Book>,
    /// When the book was last the venue's, by the earlier of its clock and ours.
    whole_at: UnixNanos,
    /// Breaks in a row, each soon after the one before.
    breaks: u32,
    broken_at: Option<UnixNanos>,
    /// The last checksum did not match (`warn` tells the first of a row only).
    suspect: bool,
}

impl Books {
    #[must_use]
    pub fn new(depth: u32, policy: Policy) -> Self {
        Books { depth, policy, kept: HashMap::new() }
    }

    /// Applies an update of that time, as [`tapedeck_market::Event::earliest`] has it, and compares checksums.
    pub fn apply(&mut self, symbol: &SmolStr, update: &BookUpdate, at: UnixNanos) -> Verdict {
        if update.snapshot {
            if self.kept.len() >= SYMBOLS && !self.kept.contains_key(symbol) {
                return Verdict::Adrift;
            }
            let kept = self.kept.entry(symbol.clone()).or_insert_with(|| Kept {
                book: None,
                whole_at: at,
                breaks: 0,
                broken_at: None,
                suspect: false,
            });
            kept.book = Some(Book::new(Some(update.depth.unwrap_or(self.depth) as usize)));
        }
        let Some(kept) = self.kept.get_mut(symbol) else {
            return Verdict::Adrift;
        };
        let Some(book) = &mut kept.book else {
            return Verdict::Adrift;
        };
        book.apply(update);
        let theirs = update.checksum.filter(|_| self.policy != Policy::Off);
        if let Some(theirs) = theirs {
            let ours = book.kraken_checksum();
            if ours != theirs {
                return kept.mismatch(self.policy, ours, theirs, at);
            }
        }
        kept.suspect = false;
        kept.whole_at = at;
        if update.snapshot { Verdict::Fresh } else { Verdict::Whole }
    }

    /// The book of a symbol, while it is whole.
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<&Book> {
        self.kept.get(symbol).and_then(|kept| kept.book.as_ref())
    }

    /// Forgets the levels but not the record of breaks: what was known ends with the subscription.
    pub fn drop_book(&mut self, symbol: &str) {
        if let Some(kept) = self.kept.get_mut(symbol) {
            kept.book = None;
        }
    }

    /// Forgets the levels of every book: the session is over.
    pub fn drop_all(&mut self) {
        for kept in self.kept.values_mut() {
            kept.book = None;
        }
    }

    /// Forgets a symbol that is no longer wanted.
    pub fn forget(&mut self, symbol: &str) {
        self.kept.remove(symbol);
    }
}

impl Kept {
    fn mismatch(&mut self, policy: Policy, ours: u32, theirs: u32, at: UnixNanos) -> Verdict {
        if policy == Policy::Warn {
            let first = !self.suspect;
            self.suspect = true;
            return if first { Verdict::Suspect { ours, theirs } } else { Verdict::Whole };
        }
        self.book = None;
        let again = self.broken_at.is_some_and(|before| at.saturating_since(before) < FORGIVEN_AFTER);
        self.breaks = if again { self.breaks.saturating_add(1) } else { 1 };
        self.broken_at = Some(at);
        // The first break is asked for again at once: most are one lost message.
        let pause = match self.breaks {
            1 => Duration::ZERO,
            n => FIRST_PAUSE.saturating_mul(1 << (n - 2).min(6)).min(LONGEST_PAUSE),
        };
        Verdict::Broken { since: self.whole_at, ours, theirs, pause }
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Level, Price, Size};

    use super::*;

    const BTC: SmolStr = SmolStr::new_static("BTC/USD");

    fn level(price: &str, size: &str) -> Level {
        Level {
            price: Price::parse(price.as_bytes()).unwrap(),
            size: Size::parse(size.as_bytes()).unwrap(),
            orders: None,
        }
    }

    /// A snapshot of one bid with its true checksum.
    fn snapshot(price: &str) -> BookUpdate {
        let mut update = BookUpdate { snapshot: true, bids: vec![level(price, "1.0")], ..BookUpdate::default() };
        let mut book = Book::new(Some(10));
        book.apply(&update);
        update.checksum = Some(book.kraken_checksum());
        update
    }

    fn wrong(price: &str) -> BookUpdate {
        BookUpdate { bids: vec![level(price, "2.0")], checksum: Some(1), ..BookUpdate::default() }
    }

    fn at(secs: i64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[test]
    fn a_broken_book_is_gone_until_its_snapshot_and_waits_longer_each_time() {
        let mut books = Books::new(10, Policy::Strict);
        assert_eq!(books.apply(&BTC, &wrong("1.0"), at(0)), Verdict::Adrift, "no snapshot yet");
        let mut pauses = Vec::new();
        for n in 0..9 {
            let now = 10 + n;
            assert_eq!(books.apply(&BTC, &snapshot("1.0"), at(now)), Verdict::Fresh);
            match books.apply(&BTC, &wrong("1.0"), at(now)) {
                Verdict::Broken { since, theirs: 1, pause, .. } => {
                    assert_eq!(since, at(now));
                    pauses.push(pause.as_secs());
                }
                other => panic!("{other:?}"),
            }
            assert!(books.get("BTC/USD").is_none());
            assert_eq!(books.apply(&BTC, &wrong("1.0"), at(now)), Verdict::Adrift, "one break is said once");
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        books.apply(&BTC, &snapshot("1.0"), at(500));
        let verdict = books.apply(&BTC, &wrong("1.0"), at(500));
        assert!(matches!(verdict, Verdict::Broken { pause: Duration::ZERO, .. }), "long forgiven: {verdict:?}");
    }

    #[test]
    fn one_broken_book_leaves_the_others_alone() {
        let eth = SmolStr::new_static("ETH/USD");
        let mut books = Books::new(10, Policy::Strict);
        books.apply(&BTC, &snapshot("1.0"), at(1));
        books.apply(&eth, &snapshot("2.0"), at(1));
        assert!(matches!(books.apply(&BTC, &wrong("1.0"), at(2)), Verdict::Broken { .. }));
        assert_eq!(books.get("ETH/USD").map(|book| book.bids().len()), Some(1));
    }

    #[test]
    fn a_lenient_policy_keeps_the_book_and_says_so_once_or_never() {
        let mut books = Books::new(10, Policy::Warn);
        books.apply(&BTC, &snapshot("1.0"), at(1));
        assert!(matches!(books.apply(&BTC, &wrong("1.1"), at(2)), Verdict::Suspect { theirs: 1, .. }));
        assert_eq!(books.apply(&BTC, &wrong("1.2"), at(3)), Verdict::Whole);
        let mut books = Books::new(10, Policy::Off);
        books.apply(&BTC, &snapshot("1.0"), at(1));
        assert_eq!(books.apply(&BTC, &wrong("1.1"), at(2)), Verdict::Whole);
        assert_eq!(books.get("BTC/USD").map(|book| book.bids().len()), Some(2));
    }

    #[test]
    fn made_up_symbols_take_no_more_room_than_there_is() {
        let mut books = Books::new(10, Policy::Off);
        let update = BookUpdate { snapshot: true, ..BookUpdate::default() };
        for n in 0..SYMBOLS {
            books.apply(&SmolStr::from(format!("{n}/USD")), &update, at(1));
        }
        assert_eq!(books.apply(&BTC, &update, at(1)), Verdict::Adrift);
        assert_eq!(books.apply(&SmolStr::from("7/USD"), &update, at(2)), Verdict::Fresh);
        assert_eq!(books.kept.len(), SYMBOLS);
    }

    #[test]
    fn a_snapshot_that_breaks_opens_no_book() {
        let mut books = Books::new(10, Policy::Strict);
        let verdict = books.apply(&BTC, &BookUpdate { checksum: Some(1), ..snapshot("1.0") }, at(1));
        assert!(matches!(verdict, Verdict::Broken { .. }), "{verdict:?}");
        assert!(books.get("BTC/USD").is_none());
    }
}
