//! Changes on their way to the target: in batches as large as it allows, made smaller where it is slow or refuses.
//!
//! ```text
//! changes ─► the last of each id ─► pieces (≤ 200, ≤ the target's own limits) ─► confirmed
//!                                      │ too slow: halves from now on, larger again after a while
//!                                      └ refused: [those before it] [it alone: refused, or not] [those behind it]
//! ```
//!
//! A batch is there as a whole or not at all, and the same change twice is one: so whatever breaks off, or is dropped, is
//! mended by sending again what was not confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::target::Change;
use super::{Class, Id, Trouble};

/// Changes of a batch: more are no faster, and less often too slow.
pub const MOST: usize = 200;
/// Bytes of a batch: what is held twice, here and there.
const BYTES: usize = 4 << 20;
/// Full batches that must go well before they are made larger again.
const CALM: u32 = 16;
/// No answer for so long is taken as: it was too much.
const LONG: Duration = Duration::from_secs(5);

/// A way into the target.
#[async_trait]
pub trait Lane: Send + Sync {
    /// What one request may hold.
    ///
    /// # Errors
    /// It is not reached, or does not accept us.
    async fn room(&self, collection: &str) -> Result<Room, Trouble>;

    /// Appends one change as a part of a request.
    fn encode(&self, collection: &str, change: &Change, out: &mut Vec<u8>) -> Encoded;

    /// Sends parts: all are there afterwards, or none.
    ///
    /// # Errors
    /// What is not about these parts. The same may be sent again.
    async fn send(&self, collection: &str, parts: &[&[u8]]) -> Result<Verdict, Trouble>;
}

#[async_trait]
impl<L: Lane> Lane for Arc<L> {
    async fn room(&self, collection: &str) -> Result<Room, Trouble> {
        L::room(self, collection).await
    }

    fn encode(&self, collection: &str, change: &Change, out: &mut Vec<u8>) -> Encoded {
        L::encode(self, collection, change, out)
    }

    async fn send(&self, collection: &str, parts: &[&[u8]]) -> Result<Verdict, Trouble> {
        L::send(self, collection, parts).await
    }
}

/// What one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub changes: usize,
    /// Of parts, with one byte between them.
    pub bytes: usize,
}

/// How a change goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// With others.
    Shared,
    /// In a request of its own.
    Alone,
    /// Not at all, and why.
    Refused(String),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stored,
    /// One of them is refused, in the target's words; nothing is stored.
    Refused {
        place: Option<usize>,
        words: String,
    },
    /// There is no such record.
    Missing {
        place: usize,
        words: String,
    },
    /// It took longer than the target allows.
    TooSlow {
        words: String,
    },
    TooMany {
        most: usize,
    },
    TooLarge {
        words: String,
    },
    /// It failed, and the target does not say why: no record is at fault until that is known.
    Unexplained {
        words: String,
        fix: &'static str,
    },
}

/// What became of one change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known: send it again.
    #[default]
    Open,
    /// It is so at the target.
    Confirmed,
    /// A later change of the same call is about the same record, and was sent in its place.
    Replaced,
    /// It will never be taken as it is, in the target's words.
    Refused(String),
}

/// What became of the changes of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// One for each change, in the order in which they were given.
    pub fates: Vec<Fate>,
    pub requests: u64,
    /// Bodies of requests, as sent.
    pub bytes: u64,
}

impl Written {
    /// How many are so at the target.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        self.fates.iter().filter(|fate| **fate == Fate::Confirmed).count()
    }

    /// Places of those that will never be taken, with the target's words.
    pub fn refused(&self) -> impl Iterator<Item = (usize, &str)> {
        self.fates.iter().enumerate().filter_map(|(place, fate)| match fate {
            Fate::Refused(words) => Some((place, words.as_str())),
            Fate::Open | Fate::Confirmed | Fate::Replaced => None,
        })
    }
}

/// A call that broke off, and what had been done until then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{trouble}")]
pub struct Broken {
    pub written: Written,
    pub trouble: Trouble,
}

/// Writes changes, and remembers how much the target takes at once. One for each lane and table.
#[derive(Debug)]
pub struct Writer<L> {
    lane: L,
    /// At most so many.
    most: usize,
    /// How many now.
    size: usize,
    /// Full batches that went well since the size was last changed.
    calm: u32,
    pause: Duration,
}

impl<L: Lane> Writer<L> {
    pub fn new(lane: L) -> Self {
        Writer { lane, most: MOST, size: MOST, calm: 0, pause: Duration::ZERO }
    }

    /// At most so many changes in a request; the target may allow fewer.
    #[must_use]
    pub fn batches_of(mut self, most: usize) -> Self {
        self.most = most.max(1);
        self.size = self.most;
        self
    }

    /// Waits so long between two requests, to leave others their turn.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How many changes a request has now.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes changes of one collection, in their order, but for those of one record, of which only the last is sent.
    ///
    /// # Errors
    /// [`Broken`]: the target is away, wants a rest, or must be set up by a person; what it says was confirmed is.
    ///
    /// Dropping the future is harmless: what was sent may be there or not, and sending all of it again comes to the same.
    pub async fn write(&mut self, collection: &str, changes: &[Change]) -> Result<Written, Broken> {
        let mut call = Call::new(collection, changes);
        match self.write_all(&mut call).await {
            Ok(()) => Ok(call.written),
            Err(trouble) => Err(Broken { written: call.written, trouble }),
        }
    }

    async fn write_all(&mut self, call: &mut Call<'_>) -> Result<(), Trouble> {
        if call.order.is_empty() {
            return Ok(());
        }
        let room = self.lane.room(call.collection).await?;
        let (mut most, mut bytes) = (self.most.min(room.changes.max(1)), BYTES.min(room.bytes));
        self.size = self.size.min(most);
        // Smaller for a while where one of them is refused: the others are then sent less often.
        let mut near = self.size;
        // Stretches of `call.order` that are still to be sent, the next one last.
        let mut rest = vec![(0, call.order.len())];
        while let Some((from, to)) = rest.pop() {
            let piece = self.piece(call, from, to, near.min(self.size), (bytes, room.bytes));
            let end = from + piece.len;
            if piece.parts.is_empty() {
                rest.extend((end < to).then_some((end, to)));
                continue;
            }
            let alone = piece.parts.len() == 1;
            match self.send(call, &piece).await? {
                Verdict::Stored => {
                    call.settle(&piece.parts, Fate::Confirmed);
                    self.went_well(piece.parts.len(), most);
                    near = (near * 2).min(self.size);
                    rest.extend((end < to).then_some((end, to)));
                }
                Verdict::Refused { words, .. } | Verdict::TooLarge { words } if alone => {
                    call.settle(&piece.parts, Fate::Refused(words));
                    rest.extend((end < to).then_some((end, to)));
                }
                Verdict::Refused { place: Some(place), .. } => {
                    near = (near / 2).max(1);
                    // What is before it was right; it may be refused only beside them; the rest was not looked at.
                    let at = piece.parts.get(place).map_or(from, |part| part.place);
                    rest.extend([(at + 1, to), (at, at + 1), (from, at)].into_iter().filter(|(from, to)| from < to));
                }
                Verdict::Refused { place: None, .. } => {
                    near = (piece.parts.len() / 2).max(1);
                    rest.push((from, to));
                }
                Verdict::Missing { place, words } => {
                    let at = piece.parts.get(place).map_or(from, |part| part.place);
                    if !matches!(call.changes[call.order[at]], Change::Delete(_)) {
                        let trouble = Trouble::new(Class::Authentication, format!("updating a record: {words}"));
                        return Err(trouble.fix("the collection's update rule may not let us"));
                    }
                    near = (near / 2).max(1);
                    call.written.fates[call.order[at]] = Fate::Confirmed;
                    rest.extend([(at + 1, to), (from, at)].into_iter().filter(|(from, to)| from < to));
                }
                Verdict::TooSlow { words } if alone => {
                    return Err(Trouble::new(Class::Server, format!("writing one record: {words}"))
                        .fix("it took longer than batches may there: raise their timeout, or look what keeps its database busy"));
                }
                Verdict::TooSlow { .. } => {
                    self.smaller(piece.parts.len() / 2);
                    near = near.min(self.size);
                    rest.push((from, to));
                }
                Verdict::TooMany { most } if alone => {
                    return Err(Trouble::new(
                        Class::Setup,
                        format!("one request is more than the {most} that it allows"),
                    ));
                }
                Verdict::TooMany { most: allowed } => {
                    most = allowed.clamp(1, piece.parts.len() - 1);
                    self.smaller(most);
                    near = near.min(self.size);
                    rest.push((from, to));
                }
                Verdict::TooLarge { .. } => {
                    bytes = (piece.bytes.len() / 2).max(1);
                    rest.push((from, to));
                }
                Verdict::Unexplained { words, fix } if alone => {
                    let id = call.changes[call.order[piece.parts[0].place]].id();
                    return Err(Trouble::new(Class::Server, format!("writing record {id}: {words}")).fix(fix));
                }
                Verdict::Unexplained { .. } => {
                    near = (piece.parts.len() / 2).max(1);
                    rest.push((from, to));
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, call: &mut Call<'_>, piece: &Piece) -> Result<Verdict, Trouble> {
        if call.written.requests > 0 && !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        let parts: Vec<&[u8]> = piece.parts.iter().map(|part| &piece.bytes[part.from..part.to]).collect();
        call.written.requests += 1;
        call.written.bytes += piece.bytes.len() as u64;
        let began = Instant::now();
        let sent = self.lane.send(call.collection, &parts).await;
        let silent = sent.as_ref().is_err_and(|trouble| trouble.class == Class::Connection) && began.elapsed() >= LONG;
        if silent {
            self.smaller(parts.len() / 2);
        }
        tracing::debug!(
            collection = call.collection,
            changes = parts.len(),
            bytes = piece.bytes.len(),
            ms = began.elapsed().as_millis(),
            verdict = ?sent,
            "wrote a batch"
        );
        sent
    }

    /// The next changes of a stretch that go together; those that cannot be sent at all are refused on the way. `bytes`: of
    /// changes that go together, and of one.
    fn piece(&self, call: &mut Call<'_>, from: usize, to: usize, most: usize, bytes: (usize, usize)) -> Piece {
        let (mut piece, (bytes, room)) = (Piece::default(), bytes);
        for place in from..to {
            if piece.parts.len() >= most {
                break;
            }
            let begin = piece.bytes.len();
            let how = self.lane.encode(call.collection, &call.changes[call.order[place]], &mut piece.bytes);
            let len = piece.bytes.len() - begin;
            let how = match how {
                // Not left to the target, which may close the connection over it instead of saying so.
                Encoded::Shared if len > room => Encoded::Refused(format!(
                    "it has {len} bytes, more than the {room} that the target takes in one request"
                )),
                how => how,
            };
            match how {
                Encoded::Refused(words) => {
                    piece.bytes.truncate(begin);
                    call.written.fates[call.order[place]] = Fate::Refused(words);
                    piece.len += 1;
                    continue;
                }
                // With what is between parts.
                how if !piece.parts.is_empty()
                    && (how == Encoded::Alone || piece.bytes.len() + piece.parts.len() > bytes) =>
                {
                    piece.bytes.truncate(begin);
                    break;
                }
                how => {
                    piece.parts.push(Part { place, from: begin, to: piece.bytes.len() });
                    piece.len += 1;
                    if how == Encoded::Alone {
                        break;
                    }
                }
            }
        }
        piece
    }

    fn smaller(&mut self, size: usize) {
        self.size = size.max(1);
        self.calm = 0;
    }

    fn went_well(&mut self, sent: usize, most: usize) {
        if sent < self.size || self.size >= most {
            return;
        }
        self.calm += 1;
        if self.calm >= CALM {
            self.size = (self.size * 2).min(most);
            self.calm = 0;
        }
    }
}

/// One call of [`Writer::write`].
struct Call<'a> {
    collection: &'a str,
    changes: &'a [Change],
    /// Places of the changes that are sent: of each record the last.
    order: Vec<usize>,
    written: Written,
}

impl<'a> Call<'a> {
    fn new(collection: &'a str, changes: &'a [Change]) -> Self {
        let last: HashMap<Id, usize> = changes.iter().enumerate().map(|(place, change)| (change.id(), place)).collect();
        let mut fates = vec![Fate::Open; changes.len()];
        let mut order = Vec::with_capacity(last.len());
        for (place, change) in changes.iter().enumerate() {
            if last.get(&change.id()) == Some(&place) {
                order.push(place);
            } else {
                fates[place] = Fate::Replaced;
            }
        }
        Call { collection, changes, order, written: Written { fates, ..Written::default() } }
    }

    fn settle(&mut self, parts: &[Part], fate: Fate) {
        for part in parts {
            self.written.fates[self.order[part.place]].clone_from(&fate);
        }
    }
}

/// Changes of one request.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Places of the order that it takes up, with those that are refused without being sent.
    len: usize,
}

/// A change of a piece: its place in the order, its bytes.
struct Part {
    place: usize,
    from: usize,
    to: usize,
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
