//! What was said and lies further on on the tape: after a crash the same records say it again, and it must not stand there
//! twice.
//!
//! An output stands on the tape behind the record that it was made of, so at any moment some lie ahead of the reader. A state
//! says how many ([`Ahead`]): after a restart these are nothing that will be made again. All others that lie ahead will be,
//! and are left out then, by what they say. What says the same at the same time of the venue twice stands there twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use tapedeck_market::{Event, Flags, UnixNanos, wire};

/// Outputs that lie ahead of the reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ahead {
    /// Made or made again, and not yet read back.
    pub(super) known: u64,
    /// Seen ahead at the start: those that belong to records before the state …
    older: u64,
    /// … and those that will be made again, by what they say, with how often.
    again: HashMap<u64, u32>,
}

impl Ahead {
    /// Goes on with so many that lie ahead.
    pub(super) fn resumed(known: u64) -> Self {
        Ahead { known, older: known, again: HashMap::new() }
    }

    /// One more is on its way to the tape, or was found there.
    pub(super) fn made(&mut self) {
        self.known += 1;
    }

    /// An output lies ahead, at the start.
    pub(super) fn saw(&mut self, mark: u64) {
        if self.older > 0 {
            self.older -= 1;
        } else {
            *self.again.entry(mark).or_default() += 1;
        }
    }

    /// Whether one that was made lies ahead already.
    pub(super) fn is_there(&mut self, mark: u64) -> bool {
        take(&mut self.again, mark)
    }

    /// The reader came to an output.
    pub(super) fn read(&mut self, mark: u64) {
        // What lay ahead and was not made again was made of records that are gone, or by another recipe.
        if !take(&mut self.again, mark) {
            self.known = self.known.saturating_sub(1);
        }
    }

    /// Everything that lay ahead was read.
    pub(super) fn caught_up(&mut self) {
        (self.older, self.again) = (0, HashMap::new());
    }
}

fn take(marks: &mut HashMap<u64, u32>, mark: u64) -> bool {
    let Some(count) = marks.get_mut(&mark) else { return false };
    *count -= 1;
    if *count == 0 {
        marks.remove(&mark);
    }
    true
}

/// A number of all that an output says; when it was written down is none of it.
pub(super) fn mark(output: &Event) -> u64 {
    let said = Event { ts_recv: UnixNanos::EPOCH, flags: Flags::DERIVED, ..output.clone() };
    let mut bytes = Vec::with_capacity(256);
    wire::encode(&said, &mut bytes);
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_records_before_the_state_is_not_waited_for() {
        // Two were said of records before the state, two of records behind it; then the crash.
        let mut ahead = Ahead::resumed(2);
        [1, 2, 3, 3].into_iter().for_each(|mark| ahead.saw(mark));
        assert!(!ahead.is_there(1), "made of a later record, it is another one that says the same");
        ahead.made();
        for mark in [3, 3] {
            assert!(ahead.is_there(mark));
            ahead.made();
        }
        assert!(!ahead.is_there(3), "twice, and no third time");
        assert_eq!(ahead.known, 5);
        [1, 2, 3, 3, 1].into_iter().for_each(|mark| ahead.read(mark));
        assert_eq!(ahead, Ahead::default());
    }

    #[test]
    fn what_is_not_made_again_does_not_count_when_it_is_read() {
        let mut ahead = Ahead::resumed(0);
        ahead.saw(7);
        ahead.made();
        ahead.read(7);
        assert_eq!(ahead.known, 1, "what is on its way is still ahead");
    }
}
