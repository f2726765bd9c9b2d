//! The tape, played again: the same records in the same order, with the same waits between them, or faster.
//!
//! ```text
//! tape ─► Playback (range, filter) ─► Player (pace, pause, seek) ─► Target: stdout · a venue · the bus
//! ```
//!
//! What is played bears the flag `replayed` and its own `seq`. The pace is that of `ts_recv`: what arrived together goes out
//! together, and a clock that was set back on the day costs no wait. A target that is slower than the pace holds it up, and
//! the player then catches up; nothing is left out.

pub mod bus;
pub mod pace;
pub mod playback;
pub mod player;
pub mod venue;

pub use pace::{Pace, Speed};
pub use playback::{Playback, Range};
pub use player::{Command, Player, Progress, Summary, Target};
