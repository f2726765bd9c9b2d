//! The tables: one a kind of event, so that each has columns of its own.

use std::fmt;
use std::str::FromStr;

use tapedeck_market::{Body, Kind};

/// A table of the archive, of SQL, and of stores that have tables. Every record of the tape is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Trades,
    Quotes,
    Tickers,
    Books,
    Candles,
    Odds,
    Orders,
    Posts,
    Points,
    Synthetics,
    Instruments,
    Positions,
    Status,
    Gaps,
    /// What the tape says about itself, and the holes a reader met.
    Tape,
    /// Frames as they came, bodies of a later version, and what could not be decoded.
    Raw,
}

/// How long a table's days are worth keeping: the predecessors' three retention policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Ticks. 30 days.
    Default,
    /// Books. 7 days.
    HighFrequency,
    /// Candles, own orders, and what explains the rest. 365 days.
    LongTerm,
}

impl Policy {
    pub const ALL: [Policy; 3] = [Policy::Default, Policy::HighFrequency, Policy::LongTerm];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Default => "default",
            Policy::HighFrequency => "high_frequency",
            Policy::LongTerm => "long_term",
        }
    }

    /// Days that are kept when nothing else is said.
    #[must_use]
    pub const fn days(self) -> u32 {
        match self {
            Policy::Default => 30,
            Policy::HighFrequency => 7,
            Policy::LongTerm => 365,
        }
    }
}

impl Table {
    pub const ALL: [Table; 16] = [
        Table::Trades,
        Table::Quotes,
        Table::Tickers,
        Table::Books,
        Table::Candles,
        Table::Odds,
        Table::Orders,
        Table::Posts,
        Table::Points,
        Table::Synthetics,
        Table::Instruments,
        Table::Positions,
        Table::Status,
        Table::Gaps,
        Table::Tape,
        Table::Raw,
    ];
    pub const COUNT: usize = Table::ALL.len();

    /// Its name in SQL, and of its folder in the archive.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Table::Trades => "trades",
            Table::Quotes => "quotes",
            Table::Tickers => "tickers",
            Table::Books => "books",
            Table::Candles => "candles",
            Table::Odds => "odds",
            Table::Orders => "orders",
            Table::Posts => "posts",
            Table::Points => "points",
            Table::Synthetics => "synthetics",
            Table::Instruments => "instruments",
            Table::Positions => "positions",
            Table::Status => "status",
            Table::Gaps => "gaps",
            Table::Tape => "tape",
            Table::Raw => "raw",
        }
    }

    /// What a row is, in a sentence.
    #[must_use]
    pub const fn doc(self) -> &'static str {
        match self {
            Table::Trades => "One execution at the venue.",
            Table::Quotes => "Best bid and ask; an empty side is NULL.",
            Table::Tickers => "The venue's own statistics, as it sent them; nothing is computed.",
            Table::Books => "A change of an order book, or all of it.",
            Table::Candles => "Open, high, low, close and volume over `[start, start + interval_ns)`.",
            Table::Odds => "One runner change of a betting exchange; `symbol` is the market id.",
            Table::Orders => "An own order, fill or account transaction.",
            Table::Posts => "A text of a social feed.",
            Table::Points => "Anything a user defines: a measurement with tags and fields.",
            Table::Synthetics => "A price derived through other instruments.",
            Table::Instruments => "What the venue lists under `symbol`.",
            Table::Positions => "Where a source would go on after a restart.",
            Table::Status => "A state of a venue, a source or this host.",
            Table::Gaps => "Known missing data: opened by one row, closed by another with the same `id`.",
            Table::Tape => "What the tape says about itself: starts, torn tails, holes.",
            Table::Raw => "A frame as it came (`keep_raw`), or a record of a later version.",
        }
    }

    /// The table of an event.
    #[must_use]
    pub const fn of(body: &Body) -> Table {
        match body {
            Body::Trade(_) => Table::Trades,
            Body::Quote(_) => Table::Quotes,
            Body::Ticker(_) => Table::Tickers,
            Body::Book(_) => Table::Books,
            Body::Candle(_) => Table::Candles,
            Body::Odds(_) => Table::Odds,
            Body::Order(_) => Table::Orders,
            Body::Post(_) => Table::Posts,
            Body::Point(_) => Table::Points,
            Body::Synthetic(_) => Table::Synthetics,
            Body::Instrument(_) => Table::Instruments,
            Body::Position(_) => Table::Positions,
            Body::Status(_) => Table::Status,
            Body::Gap(_) => Table::Gaps,
            Body::Tape(_) => Table::Tape,
            _ => Table::Raw,
        }
    }

    /// The table in which events of a kind are looked for.
    #[must_use]
    pub fn of_kind(kind: Kind) -> Table {
        let at = usize::from(kind.0).wrapping_sub(1);
        Table::ALL.get(at).copied().unwrap_or(Table::Raw)
    }

    #[must_use]
    pub const fn policy(self) -> Policy {
        match self {
            Table::Books => Policy::HighFrequency,
            Table::Candles | Table::Orders | Table::Instruments | Table::Status | Table::Gaps | Table::Tape => {
                Policy::LongTerm
            }
            _ => Policy::Default,
        }
    }

    /// The text column that rows are sorted by before `symbol` and `seq`, where there is one.
    pub const fn sorted_first_by(self) -> Option<&'static str> {
        match self {
            Table::Points => Some("name"),
            _ => None,
        }
    }

    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is not a table's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no table `{name}`; there are: {}", Table::ALL.map(Table::name).join(", "))]
pub struct UnknownTable {
    pub name: String,
}

impl FromStr for Table {
    type Err = UnknownTable;
    fn from_str(name: &str) -> Result<Self, UnknownTable> {
        Table::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| UnknownTable { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_table() {
        for (kind, name) in Kind::NAMES {
            let table = Table::of_kind(kind).name();
            let plural = [name.to_owned(), format!("{name}s")];
            assert!(plural.iter().any(|plural| plural == table), "{name} is in {table}");
        }
        assert_eq!(Table::of_kind(Kind(999)), Table::Raw);
        assert_eq!(Table::of_kind(Kind(0)), Table::Raw);
        assert_eq!("trades".parse(), Ok(Table::Trades));
        assert!("trade".parse::<Table>().is_err());
        assert!(Table::ALL.iter().enumerate().all(|(at, table)| table.index() == at));
    }
}
