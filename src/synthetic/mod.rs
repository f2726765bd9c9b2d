//! EUR/USD through crypto: what a coin costs in dollars, divided by what it costs in euros.
//!
//! ```text
//! tape ─► maker ─┬─ tickers, quotes ─► chain ─► KR_EURUSD        (topic kr_eurusd_tick)    ─► recorder ─► tape
//!                └─ books ───────────► chain ─► KR_EURUSD_DEPTH  (topic kr_eurusd_depth)
//!
//! bid = X/USD bid ÷ X/EUR ask       ask = X/USD ask ÷ X/EUR bid       five decimals, to the nearest, ties to even
//! t0  = the quote before, through whatever coin        t1 = this one; its instrument is the pair that moved
//! spread = ask1 - bid1       spread_bid = ask0 - bid1       spread_ask = ask1 - bid0       of the printed decimals
//! ```
//!
//! Invariants:
//! - What is said is a function of the records: at any batching and from any restart the same quotes come out, each once.
//! - A quote stands on two prices that are known, of times not further apart than `max_age`; so do the two quotes that are
//!   compared. A gap of a pair makes its price unknown, and takes back a `t0` that went through it.
//! - The quotient is exact until it is rounded: no number goes through a float.
//! - A quote is said when it is another one than that coin's last; the first one has no `t0` and is kept for the next.

mod chain;
mod maker;
mod rate;
mod said;
mod service;
mod state;

pub use chain::{Bounds, Crosses};
pub use maker::{Counts, DEPTH_SYMBOL, Depth, Maker, Recipe, SYNTHETIC, TICK_SYMBOL};
pub use service::KIND;
