//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::script::{self, BadFault, Grammar, Words};

/// The grammar of faults, as `simulate kite --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first connection. Without `at` a fault
holds from the start, or strikes with the first connection.

  of the connection (all that are open)
    cut [mid-frame]           reset the connection, in the middle of a frame when asked
    close                     the orderly end
    half-open [for TIME]      write nothing any more, and keep the socket
    length N                  a frame with a packet of N bytes (default: 164) between others
    count N                   a frame that promises N packets more than it holds
    garbage KIND              text: no JSON; binary: bytes at random; type: a text of a later protocol;
                              empty: a frame of no bytes
    error TEXT                the venue reports an error
    order                     something happens to an own order
  of the data
    stall SYMBOL [for TIME]   keep its packets back (* for all), while heartbeats go on
    time KIND                 the next packet's times are zero or absurd (2100)
    segment                   the next frame has a packet of a segment that nobody knows
    volume                    the next packet's running volume is lower than the one before
  of the login
    token-dead                the access token dies: all connections end, and it is refused
  of requests
    refuse STATUS [xN]        the next N requests and connections (default: all) are answered so
    clock +TIME|-TIME         the venue's clock is off
  heal                        end every fault but a dead token";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut { mid_frame: bool },
    Close,
    HalfOpen { lasts: Option<Duration> },
    Length { bytes: u16 },
    Count { more: u16 },
    Garbage(Garbage),
    Error { text: String },
    Order,
    Stall { symbol: String, lasts: Option<Duration> },
    Odd(Odd),
    TokenDead,
    Refuse { status: u16, times: Option<u32> },
    Clock { off_ns: i64 },
    Heal,
}

impl Fault {
    /// Whether it strikes once at whoever is connected, so that it needs somebody to be.
    #[must_use]
    pub const fn needs_a_connection(&self) -> bool {
        !matches!(
            self,
            Fault::Stall { .. }
                | Fault::Odd(_)
                | Fault::TokenDead
                | Fault::Refuse { .. }
                | Fault::Clock { .. }
                | Fault::Heal
        )
    }
}

/// Frames that no client should stumble over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    Text,
    Binary,
    Type,
    Empty,
}

/// What is odd about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    ZeroTime,
    AbsurdTime,
    Segment,
    Volume,
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
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { mid_frame: words.flag("mid-frame") },
            "close" => Fault::Close,
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "length" => Fault::Length { bytes: words.number(164)? },
            "count" => Fault::Count { more: words.number(1)? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("text") => Garbage::Text,
                Some("binary") => Garbage::Binary,
                Some("type") => Garbage::Type,
                Some("empty") => Garbage::Empty,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "error" => Fault::Error { text: words.rest() },
            "order" => Fault::Order,
            "stall" => {
                let symbol = words.next().ok_or("a symbol is missing, such as INFY or *")?.to_owned();
                Fault::Stall { symbol, lasts: words.after("for")? }
            }
            "time" => Fault::Odd(match words.next() {
                Some("zero") => Odd::ZeroTime,
                Some("absurd") => Odd::AbsurdTime,
                _ => return Err("expected zero or absurd".to_owned()),
            }),
            "segment" => Fault::Odd(Odd::Segment),
            "volume" => Fault::Odd(Odd::Volume),
            "token-dead" => Fault::TokenDead,
            "refuse" => {
                let status = words.number(503)?;
                if !(400..600).contains(&status) {
                    return Err(format!("{status} is no refusal"));
                }
                Fault::Refuse { status, times: words.times()? }
            }
            "clock" => Fault::Clock { off_ns: words.offset()? },
            "heal" => Fault::Heal,
            other => return Err(format!("no fault is called `{other}`")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse_script;

    #[test]
    fn every_fault_of_the_grammar_is_read() {
        let secs = |s| Some(Duration::from_secs(s));
        for (text, want) in [
            ("cut", Fault::Cut { mid_frame: false }),
            ("cut mid-frame", Fault::Cut { mid_frame: true }),
            ("close", Fault::Close),
            ("half-open for 3s", Fault::HalfOpen { lasts: secs(3) }),
            ("length", Fault::Length { bytes: 164 }),
            ("count 3", Fault::Count { more: 3 }),
            ("garbage binary", Fault::Garbage(Garbage::Binary)),
            ("error the sky falls", Fault::Error { text: "the sky falls".into() }),
            ("order", Fault::Order),
            ("stall INFY for 3s", Fault::Stall { symbol: "INFY".into(), lasts: secs(3) }),
            ("time zero", Fault::Odd(Odd::ZeroTime)),
            ("segment", Fault::Odd(Odd::Segment)),
            ("volume", Fault::Odd(Odd::Volume)),
            ("token-dead", Fault::TokenDead),
            ("refuse 403 x2", Fault::Refuse { status: 403, times: Some(2) }),
            ("clock -1h", Fault::Clock { off_ns: -3_600_000_000_000 }),
            ("heal", Fault::Heal),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        let faults =
            parse_script::<Fault>("# a bad day\nat 2.5s cut\n\nat 1s every 500ms order # again\n").expect("faults");
        assert_eq!(faults[1].every, Some(Duration::from_millis(500)));
        assert_eq!(faults[0].at, Some(Duration::from_millis(2_500)));
    }

    #[test]
    fn what_is_no_fault_says_why() {
        for (text, why) in [
            ("", "no fault is named"),
            ("explode", "no fault is called `explode`"),
            ("stall", "a symbol is missing, such as INFY or *"),
            ("cut twice", "`twice` is not understood here"),
            ("refuse 200", "200 is no refusal"),
            ("clock soon", "`soon` is no offset such as +2d or -1h"),
            ("at noon cut", "`noon` is no time such as 2.5s"),
        ] {
            assert_eq!(text.parse::<Scheduled>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
