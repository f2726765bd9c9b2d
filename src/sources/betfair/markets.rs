//! What is known of the markets of a stream, and what it says about the next message.
//!
//! A market that moved to another event is sent twice, once as it was: the higher `version` is right, in whatever
//! order they come. Pieces of one message are joined before anything of them is taken, and then the halves of one
//! market are one image.

use std::collections::{HashMap, HashSet};

use tapedeck_market::{Body, Decimal, SmolStr};

use super::line::{ChangeType, Changes, ParseError, Segment};
use crate::sources::parsed::reason;

/// Pieces of one message, together: an image of 200 markets is 608 kB.
const JOINED_BYTES: usize = 64 << 20;
/// Markets that are remembered; a subscription has 200 at once, and a day some thousands.
const MARKETS: usize = 100_000;

/// What is odd about a message that shows that pieces of one never came.
pub const LOST_PIECES: [&str; 2] = [NO_END, NO_BEGINNING];
const NO_END: &str = "message without an end";
const NO_BEGINNING: &str = "message without a beginning";

/// Versions of markets by their ids.
#[derive(Debug, Default)]
pub struct Markets {
    versions: HashMap<SmolStr, i64>,
}

impl Markets {
    /// Takes the events of older versions out of a message; how many markets of it that were.
    pub fn judge(&mut self, changes: &mut Changes) -> usize {
        if changes.heads.len() > 1 {
            one_image_each(changes);
        }
        let mut stale = Vec::new();
        for head in &changes.heads {
            let Some(version) = head.version else { continue };
            match self.versions.get_mut(&head.market) {
                // The moved market's other half has a definition of its own, and both are whole.
                Some(known) if version < *known => stale.push(head.from..head.to),
                Some(known) => *known = version,
                None => {
                    if self.versions.len() >= MARKETS {
                        self.versions.clear();
                    }
                    self.versions.insert(head.market.clone(), version);
                }
            }
        }
        if !stale.is_empty() {
            let mut at = 0;
            changes.events.retain(|_| {
                let kept = !stale.iter().any(|range| range.contains(&at));
                at += 1;
                kept
            });
        }
        stale.len()
    }
}

/// Of a market's image: its version, and the runners of it that have begun.
type Begun = (Option<i64>, HashSet<(i64, Decimal)>);

/// An image that comes in several parts begins the market once, with the first of them, and so each of its runners.
fn one_image_each(changes: &mut Changes) {
    let mut begun: HashMap<&SmolStr, Begun> = HashMap::new();
    for head in changes.heads.iter().filter(|head| head.image) {
        let (version, runners) = begun.entry(&head.market).or_insert_with(|| (head.version, HashSet::new()));
        if head.version.is_some() && head.version != *version {
            // Another version is another image.
            *version = head.version;
            runners.clear();
        }
        for event in changes.events.get_mut(head.from..head.to).into_iter().flatten() {
            if let Body::Odds(odds) = &mut event.body {
                odds.image &= runners.insert((odds.selection, odds.handicap));
            }
        }
    }
}

/// Puts the pieces of a message together.
#[derive(Debug, Default)]
pub struct Joiner {
    begun: Option<Changes>,
    bytes: usize,
}

impl Joiner {
    /// Takes a message; gives it back, or the whole that it was the last piece of.
    ///
    /// # Errors
    /// The pieces become more than any message is.
    pub fn take(&mut self, mut changes: Changes, len_bytes: usize) -> Result<Option<Changes>, ParseError> {
        match changes.segment {
            // Whatever was begun before has no end.
            None => {
                if self.begun.take().is_some() {
                    changes.odd.push(NO_END);
                }
                Ok(Some(changes))
            }
            Some(Segment::Start) => {
                if self.begun.replace(changes).is_some()
                    && let Some(begun) = &mut self.begun
                {
                    begun.odd.push(NO_END);
                }
                self.bytes = len_bytes;
                Ok(None)
            }
            Some(piece) => {
                let Some(mut begun) = self.begun.take() else {
                    changes.odd.push(NO_BEGINNING);
                    return Ok(Some(changes));
                };
                self.bytes += len_bytes;
                if self.bytes > JOINED_BYTES {
                    let detail = format_args!("pieces of one message of more than {} MiB", JOINED_BYTES >> 20);
                    return Err(ParseError::new(reason::SHAPE, detail));
                }
                join(&mut begun, changes);
                if piece == Segment::End {
                    begun.segment = None;
                    return Ok(Some(begun));
                }
                self.begun = Some(begun);
                Ok(None)
            }
        }
    }
}

fn join(begun: &mut Changes, piece: Changes) {
    let behind = begun.events.len();
    let (mut events, mut heads) = (piece.events, piece.heads);
    for head in &mut heads {
        (head.from, head.to) = (head.from + behind, head.to + behind);
    }
    begun.events.append(&mut events);
    begun.heads.append(&mut heads);
    begun.odd.extend(piece.odd);
    begun.unknown.extend(piece.unknown);
    begun.initial_clk = piece.initial_clk.or(begun.initial_clk.take());
    begun.clk = piece.clk.or(begun.clk.take());
    begun.heartbeat_ms = begun.heartbeat_ms.or(piece.heartbeat_ms);
    begun.conflate_ms = begun.conflate_ms.or(piece.conflate_ms);
    begun.status = piece.status.or(begun.status);
    begun.published = piece.published.or(begun.published);
    if begun.change_type == ChangeType::Update {
        begun.change_type = piece.change_type;
    }
}
