//! What was said in an earlier life, found on the tape: after a crash the same records say it again, and it must not stand
//! there twice.
//!
//! Of each bucket the highest revision holds, so only that one is compared. While the records of the earlier life are worked
//! on again, what is said of a bucket that has a statement ahead on the tape is held back; at the end of them the last word
//! on it is compared with the one on the tape, and written, with the next revision, only where they differ. So a word of
//! the middle, which the earlier life did not say because it was interrupted, never becomes the last one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tapedeck_market::{Body, Candle, CandleFlags, Event, SmolStr};

/// Statements on the tape.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// The highest revision of each bucket, by hash: a long tape has many of them.
    said: HashMap<u64, Word>,
    /// Buckets whose next revision does not follow from the records alone.
    numbered: HashSet<Bucket>,
    /// Last words that differ, so far, from those on the tape.
    held: HashMap<u64, Event>,
}

/// Venue, symbol, interval, start.
pub(super) type Bucket = (SmolStr, SmolStr, i64, i64);

#[derive(Clone, Copy, Debug)]
struct Word {
    revision: u32,
    content: u32,
    /// Ticks it was made of.
    trades: u32,
    partial: bool,
}

impl Before {
    /// A statement of its own that lies on the tape.
    pub(super) fn saw(&mut self, output: &Event) {
        let (Some(bucket), Some(word)) = (hash_of_bucket(output), word(output)) else { return };
        if self.said.get(&bucket).is_none_or(|known| known.revision <= word.revision) {
            self.said.insert(bucket, word);
        }
        if let Body::Candle(candle) = &output.body
            && (word.revision > 0 || word.partial)
        {
            let (venue, symbol) = (output.venue.clone(), output.symbol.clone());
            self.numbered.insert((venue, symbol, candle.interval_ns, candle.start.0));
        }
    }

    /// Gives the statement back if nothing is said of its bucket on the tape.
    pub(super) fn fresh(&mut self, output: Event) -> Option<Event> {
        let (Some(bucket), Some(word)) = (hash_of_bucket(&output), word(&output)) else { return Some(output) };
        let Some(known) = self.said.get(&bucket) else { return Some(output) };
        // Made of a tape whose beginning is gone: it knows less than what was said when that was there.
        let knows_less = word.partial && !known.partial && word.trades <= known.trades;
        if known.content == word.content || knows_less {
            self.held.remove(&bucket);
        } else {
            self.held.insert(bucket, output);
        }
        None
    }

    /// Everything ahead was read: the words that differ, in order, and the last revision of each bucket that has one.
    pub(super) fn settle(self) -> (Vec<Event>, Vec<(Bucket, u32)>) {
        let Before { said, mut numbered, held } = self;
        let mut differing = Vec::with_capacity(held.len());
        let mut last: HashMap<Bucket, u32> = HashMap::new();
        for (hash, mut output) in held {
            let revision = said.get(&hash).map_or(0, |known| known.revision + 1);
            if let Body::Candle(candle) = &mut output.body {
                candle.revision = revision;
                let bucket = (output.venue.clone(), output.symbol.clone(), candle.interval_ns, candle.start.0);
                last.insert(bucket.clone(), revision);
                numbered.remove(&bucket);
            }
            differing.push(output);
        }
        differing.sort_by(|a, b| (a.ts_event, &a.symbol).cmp(&(b.ts_event, &b.symbol)));
        for bucket in numbered {
            let hash = hash_of(&bucket.0, &bucket.1, bucket.2, bucket.3);
            if let Some(known) = said.get(&hash) {
                last.insert(bucket, known.revision);
            }
        }
        (differing, last.into_iter().collect())
    }
}

/// Two buckets that fall together cost a statement in sixteen quintillions.
fn hash_of(venue: &str, symbol: &str, interval_ns: i64, start: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (venue, symbol, interval_ns, start).hash(&mut hasher);
    hasher.finish()
}

fn hash_of_bucket(output: &Event) -> Option<u64> {
    match &output.body {
        Body::Candle(candle) => Some(hash_of(&output.venue, &output.symbol, candle.interval_ns, candle.start.0)),
        // That a bucket cannot be revised is said of it once.
        Body::Status(status) if status.state == super::maker::UNREVISABLE => {
            let mut hasher = DefaultHasher::new();
            (&output.venue, &output.symbol, &status.detail, super::maker::UNREVISABLE).hash(&mut hasher);
            Some(hasher.finish())
        }
        _ => None,
    }
}

/// Everything a statement says but for its number.
fn word(output: &Event) -> Option<Word> {
    let Body::Candle(candle) = &output.body else {
        return Some(Word { revision: 0, content: 0, trades: 0, partial: false });
    };
    let Candle { interval_ns: _, start: _, open, high, low, close, volume, vwap, trades, flags, revision, input } =
        &**candle;
    let mut hasher = DefaultHasher::new();
    (open, high, low, close, vwap, trades).hash(&mut hasher);
    (volume.map(|volume| volume.to_string()), flags.0 & !CandleFlags::REVISED.0, input).hash(&mut hasher);
    Some(Word {
        revision: *revision,
        content: (hasher.finish() >> 32) as u32,
        trades: u32::try_from(trades.unwrap_or(0)).unwrap_or(u32::MAX),
        partial: flags.contains(CandleFlags::PARTIAL),
    })
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{CandleInput, Flags, Price, UnixNanos};

    use super::*;

    fn said(start: i64, close: &str, revision: u32, flags: CandleFlags) -> Event {
        let price: Price = close.parse().unwrap();
        Event {
            source: "candles".into(),
            venue: "v".into(),
            symbol: "S".into(),
            ts_event: Some(UnixNanos(start)),
            ts_recv: UnixNanos(0),
            flags: Flags::DERIVED,
            origin: None,
            body: Body::Candle(Box::new(Candle {
                interval_ns: 1,
                start: UnixNanos(start),
                open: price,
                high: price,
                low: price,
                close: price,
                volume: None,
                vwap: None,
                trades: Some(1),
                flags,
                revision,
                input: CandleInput::Trades,
            })),
        }
    }

    #[test]
    fn only_last_words_that_differ_are_written_and_get_the_next_number() {
        let complete = CandleFlags::COMPLETE;
        let mut before = Before::default();
        // Stopped while open, then closed, then revised.
        before.saw(&said(1, "1", 0, CandleFlags::PARTIAL));
        before.saw(&said(1, "2", 1, complete));
        before.saw(&said(1, "3", 2, complete));
        before.saw(&said(2, "5", 0, complete));
        before.saw(&said(3, "7", 0, complete));
        // The same records, without the stop, and with a word of the middle that nobody had heard.
        assert_eq!(before.fresh(said(1, "2", 0, complete)), None);
        assert_eq!(before.fresh(said(1, "2.5", 1, complete)), None);
        assert_eq!(before.fresh(said(1, "3", 2, complete)), None);
        assert_eq!(before.fresh(said(2, "6", 0, complete)), None);
        assert_eq!(before.fresh(said(3, "8", 0, CandleFlags::PARTIAL)), None, "it knows less");
        let new = said(4, "9", 0, complete);
        assert_eq!(before.fresh(new.clone()), Some(new), "nothing was said of it");
        let (differing, mut last) = before.settle();
        assert_eq!(differing, [said(2, "6", 1, complete)]);
        last.sort();
        let bucket = |start| ("v".into(), "S".into(), 1, start);
        assert_eq!(last, [(bucket(1), 2), (bucket(2), 1)]);
    }
}
