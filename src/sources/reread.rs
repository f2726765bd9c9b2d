//! A recorded frame, read again by today's parser.

use tapedeck_market::{Event, Raw, UnixNanos};

pub use super::parsed::ParseError;

/// The parser of a source, without its session.
pub trait Reread: Send {
    /// Learns what the session knew of instruments when it read the frames that follow.
    fn learn(&mut self, _instrument: &Event) {}

    /// The market data of a frame: trades, quotes, tickers, books, odds, orders, posts.
    ///
    /// # Errors
    /// It cannot be understood today either.
    fn frame(&mut self, raw: &Raw, ts_recv: UnixNanos) -> Result<Vec<Event>, ParseError>;
}
