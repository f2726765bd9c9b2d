//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::script::{self, BadFault, Grammar, Words};

/// The grammar of faults, as `simulate binance --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first connection. Without `at` a fault
holds from the start, or strikes with the first connection.

  of the connection
    cut [mid-frame]           reset the connection, in the middle of a frame when asked
    half-open [for TIME]      write nothing any more, and keep the socket
    garbage KIND              json: cut off; utf8: invalid; array; shape: no numbers; number: some
                              that fit no type; type: of a stream that was not asked for
  of the data (SYMBOL, or * for all)
    skip SYMBOL [xN]          the next N updates of its book never come (default: 1)
    lose SYMBOL [xN]          the next N trades never come (default: 1)
    stall SYMBOL [for TIME]   nothing of it comes
    old [xN]                  the next N books that are asked for are as they are now
    clock +TIME|-TIME         the venue's clock is off
  of requests
    refuse STATUS [xN]        the next N requests (default: all) are answered so: 403, 418, 429, 451
                              or any of 5xx
  heal                        end every fault";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut { mid_frame: bool },
    HalfOpen { lasts: Option<Duration> },
    Garbage(Garbage),
    Skip { symbol: String, times: u32 },
    Lose { symbol: String, times: u32 },
    Stall { symbol: String, lasts: Option<Duration> },
    Old { times: u32 },
    Clock { off_ns: i64 },
    Refuse { status: u16, times: Option<u32> },
    Heal,
}

impl Fault {
    /// Whether it strikes once at whoever is connected, so that it needs somebody to be.
    #[must_use]
    pub const fn needs_a_connection(&self) -> bool {
        matches!(self, Fault::Cut { .. } | Fault::HalfOpen { .. } | Fault::Garbage(_))
    }
}

/// Frames that no client should stumble over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    NotJson,
    InvalidUtf8,
    Array,
    Shape,
    Numbers,
    UnknownType,
}

/// A fault with its time, which counts from the first connection.
pub type Scheduled = script::Scheduled<Fault>;

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        script::fault(text)
    }
}

impl Grammar for Fault {
    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        fn symbol(words: &mut Words<'_>) -> Result<String, String> {
            words.next().map(str::to_owned).ok_or_else(|| "a symbol is missing, such as BTCUSDT or *".to_owned())
        }
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { mid_frame: words.flag("mid-frame") },
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("array") => Garbage::Array,
                Some("shape") => Garbage::Shape,
                Some("number") => Garbage::Numbers,
                Some("type") => Garbage::UnknownType,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "skip" => Fault::Skip { symbol: symbol(words)?, times: words.times()?.unwrap_or(1) },
            "lose" => Fault::Lose { symbol: symbol(words)?, times: words.times()?.unwrap_or(1) },
            "stall" => Fault::Stall { symbol: symbol(words)?, lasts: words.after("for")? },
            "old" => Fault::Old { times: words.times()?.unwrap_or(1) },
            "clock" => Fault::Clock { off_ns: words.offset()? },
            "refuse" => {
                let status = words.number(503)?;
                if !(400..600).contains(&status) {
                    return Err(format!("{status} is no refusal"));
                }
                Fault::Refuse { status, times: words.times()? }
            }
            "heal" => Fault::Heal,
            other => return Err(format!("no fault is called `{other}`")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_grammar_is_read() {
        let symbol = || "BTCUSDT".to_owned();
        for (text, want) in [
            ("cut mid-frame", Fault::Cut { mid_frame: true }),
            ("half-open for 3s", Fault::HalfOpen { lasts: Some(Duration::from_secs(3)) }),
            ("garbage number", Fault::Garbage(Garbage::Numbers)),
            ("skip BTCUSDT", Fault::Skip { symbol: symbol(), times: 1 }),
            ("lose BTCUSDT x3", Fault::Lose { symbol: symbol(), times: 3 }),
            ("stall BTCUSDT for 3s", Fault::Stall { symbol: symbol(), lasts: Some(Duration::from_secs(3)) }),
            ("old x2", Fault::Old { times: 2 }),
            ("clock -1h", Fault::Clock { off_ns: -3_600_000_000_000 }),
            ("refuse 429 x1", Fault::Refuse { status: 429, times: Some(1) }),
            ("heal", Fault::Heal),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for (text, why) in [
            ("skip", "a symbol is missing, such as BTCUSDT or *"),
            ("refuse 200", "200 is no refusal"),
            ("explode", "no fault is called `explode`"),
        ] {
            assert_eq!(text.parse::<Scheduled>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
