//! What a venue can still tell of the past: asked for when the ledger has a hole.

use async_trait::async_trait;
use tapedeck_market::{Decimal, Event, Gap, SmolStr, UnixNanos};

pub use super::parsed::ParseError;
use super::parsed::reason;

/// A hole of the ledger that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Hole {
    /// The symbol; the venue and the source are those of the history.
    pub symbol: SmolStr,
    pub gap: Gap,
    /// The ids of the trades on both sides, which are on the tape; what is missing lies between them.
    pub between: (Option<u64>, Option<u64>),
}

impl Hole {
    /// Nothing that is missing is earlier, or later.
    #[must_use]
    pub fn span(&self) -> (UnixNanos, UnixNanos) {
        (self.gap.from, self.gap.to.unwrap_or(self.gap.from).max(self.gap.from))
    }

    /// Whether a trade with this id lies in the hole, as far as ids tell.
    #[must_use]
    pub fn may_miss(&self, id: u64) -> bool {
        let (after, before) = self.between;
        after.is_none_or(|after| id > after) && before.is_none_or(|before| id < before)
    }

    /// The same of which so many events are still missing.
    #[must_use]
    pub fn lacking(&self, missing: u64) -> Hole {
        Hole { gap: Gap { missing: Some(missing), ..self.gap.clone() }, ..self.clone() }
    }

    /// How many ids lie in it, where both sides are known.
    #[must_use]
    pub fn ids(&self) -> Option<u64> {
        let (after, before) = (self.between.0?, self.between.1?);
        Some(before.saturating_sub(after).saturating_sub(1))
    }
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Of the venue's time, oldest first; none of them was on an earlier page.
    pub events: Vec<Event>,
    /// Rows that hold a number which does not fit: they are kept as they came, and cost no others anything.
    pub refused: Vec<Refused>,
    /// Where to go on, in the history's own words; `None`: that was all.
    pub next: Option<SmolStr>,
}

/// A row of the venue's that cannot be an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub row: String,
    pub error: ParseError,
}

/// What became of the rows of a page.
pub(super) fn sorted<T>(
    rows: impl Iterator<Item = anyhow::Result<Result<T, Refused>>>,
) -> anyhow::Result<(Vec<T>, Vec<Refused>)> {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for row in rows {
        match row? {
            Ok(row) => good.push(row),
            Err(row) => refused.push(row),
        }
    }
    Ok((good, refused))
}

/// A price or an amount that must fit, of the row that it stands in.
pub(super) fn fits(name: &str, number: &str, row: &dyn Fn() -> String) -> Result<Decimal, Refused> {
    Decimal::parse(number.as_bytes()).map_err(|error| Refused {
        row: row(),
        error: ParseError::new(reason::NUMBER, format_args!("{name}: {error}")),
    })
}

/// Whether a hole can be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// With what, for people: `trades`, `candles of 5 s`; whether the venue numbers it, so that what is missing is counted.
    Fillable { with: &'static str, numbered: bool },
    /// Why not.
    Lost(&'static str),
}

/// The requests for the past of one source.
#[async_trait]
pub trait History: Send {
    /// What can be had for a hole; no request.
    fn outlook(&self, hole: &Hole) -> Outlook;

    /// The part of a hole that begins at `at`, or with its beginning. Paced so that the venue is not hurt. The events
    /// are those that the venue has in the hole; the recorder leaves out the trades that are on the tape.
    ///
    /// # Errors
    /// [`super::Waiting`] where only a person can help, [`Gone`] where the venue will never have it; else it is asked again.
    async fn page(&mut self, hole: &Hole, at: Option<&str>) -> anyhow::Result<Page>;
}

/// The venue says that it does not have what is asked for, and never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Gone(pub String);

/// The venue does not have it yet: a candle that is still running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the venue's last candle of it is not over")]
pub struct NotYet;

/// After a candle's end the venue may take so long to have it, in ns.
const CANDLE_LATE_NS: i64 = 3_000_000_000;

/// Whether a candle that ends then can be asked for.
///
/// # Errors
/// Not yet.
pub(super) fn is_over(end: UnixNanos) -> Result<(), NotYet> {
    if UnixNanos::now() >= UnixNanos(end.0.saturating_add(CANDLE_LATE_NS)) { Ok(()) } else { Err(NotYet) }
}
