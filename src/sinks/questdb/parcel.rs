//! Lines of one table on their way: sent in one request, and in smaller ones where the server refuses some of them.
//!
//! The server refuses a whole request for its first bad line and names that one. So what stands before it is sent alone, the line is
//! given up, and the rest goes on in pieces that grow again; where no line is named, the piece is cut in halves.

use bytes::Bytes;

use super::client::{Client, Words, Written};
use crate::sinks::{Reject, SinkError};

/// The shortest piece after a bad line: where there is one, there are often more.
const PIECE_LINES: usize = 16;

/// Lines of one table, and of which records they are.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub text: Vec<u8>,
    /// Where each line begins, and its record's place in the batch.
    pub lines: Vec<(usize, usize)>,
}

/// What became of a parcel.
#[derive(Debug)]
pub(super) enum Sent {
    /// All of it is stored but for these.
    Stored(Vec<Reject>),
    /// Something was refused, before anything is said about its records: the table may not be what it was.
    Doubtful(Words),
}

impl Parcel {
    /// Sends it. With `certain` the table is known to be as it should: what is refused is the records' fault.
    ///
    /// # Errors
    /// The server is away, refuses us, or wants less at once.
    pub(super) async fn send(self, client: &Client, certain: bool) -> Result<Sent, SinkError> {
        let Parcel { text, lines } = self;
        let (text, count) = (Bytes::from(text), lines.len());
        let start = |line: usize| lines.get(line).map_or(text.len(), |(start, _)| *start);
        let mut rejects = Vec::new();
        let (mut from, mut piece) = (0, count);
        while from < count {
            let to = (from + piece).min(count);
            let words = match client.write(text.slice(start(from)..start(to))).await? {
                Written::Stored => {
                    (from, piece) = (to, piece.saturating_mul(2));
                    continue;
                }
                Written::Refused(words) if !certain => return Ok(Sent::Doubtful(words)),
                // Its own failure, with a table that is right: as it may be when its disk is full.
                Written::Refused(words) if words.internal => {
                    return Err(SinkError::Unavailable(anyhow::anyhow!("{}", words.words)));
                }
                Written::Refused(words) => words,
            };
            let bad = words.line.filter(|line| from + line < to).or((to - from == 1).then_some(0));
            match bad {
                Some(0) => {
                    rejects.push(Reject::new(lines[from].1, words.words));
                    from += 1;
                    piece = (piece / 2).max(PIECE_LINES);
                }
                Some(good) => piece = good,
                None => piece = ((to - from) / 2).max(1),
            }
        }
        Ok(Sent::Stored(rejects))
    }
}
