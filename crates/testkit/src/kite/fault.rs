//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::kraken::duration;

/// The grammar of faults, as `simulate kite --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT

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

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Since the first connection; `None`: as soon as it can strike.
    pub at: Option<Duration>,
    pub every: Option<Duration>,
    pub fault: Fault,
}

impl From<Fault> for Scheduled {
    fn from(fault: Fault) -> Self {
        Scheduled { at: None, every: None, fault }
    }
}

/// Why a fault cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault `{text}`: {why}")]
pub struct BadFault {
    pub text: String,
    pub why: String,
}

impl FromStr for Scheduled {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.reverse();
        let bad = |why: String| BadFault { text: text.trim().to_owned(), why };
        let at = after(&mut words, "at").map_err(bad)?;
        let every = after(&mut words, "every").map_err(bad)?;
        let fault = fault(&mut words).map_err(bad)?;
        match words.pop() {
            Some(word) => Err(bad(format!("`{word}` is not understood here"))),
            None => Ok(Scheduled { at, every, fault }),
        }
    }
}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        Scheduled::from_str(text).map(|scheduled| scheduled.fault)
    }
}

/// Reads a script: one fault a line.
///
/// # Errors
/// The first line that is no fault, with its number.
pub fn parse_script(text: &str) -> anyhow::Result<Vec<Scheduled>> {
    use anyhow::Context as _;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("").trim()));
    let faults = lines.filter(|(_, line)| !line.is_empty());
    faults.map(|(at, line)| line.parse().with_context(|| format!("line {at}"))).collect()
}

/// A time behind a keyword; the words stand last first.
fn after(words: &mut Vec<&str>, keyword: &str) -> Result<Option<Duration>, String> {
    if words.last() != Some(&keyword) {
        return Ok(None);
    }
    words.pop();
    let word = words.pop().ok_or_else(|| format!("`{keyword}` needs a time"))?;
    duration(word).map(Some).ok_or_else(|| format!("`{word}` is no time such as 2.5s"))
}

fn fault(words: &mut Vec<&str>) -> Result<Fault, String> {
    fn number(words: &mut Vec<&str>, default: u16) -> Result<u16, String> {
        let Some(word) = words.pop() else { return Ok(default) };
        word.parse().map_err(|_| format!("`{word}` is no number that fits here"))
    }
    let name = words.pop().ok_or("no fault is named")?;
    Ok(match name {
        "cut" => {
            let mid_frame = words.last() == Some(&"mid-frame");
            if mid_frame {
                words.pop();
            }
            Fault::Cut { mid_frame }
        }
        "close" => Fault::Close,
        "half-open" => Fault::HalfOpen { lasts: after(words, "for")? },
        "length" => Fault::Length { bytes: number(words, 164)? },
        "count" => Fault::Count { more: number(words, 1)? },
        "garbage" => Fault::Garbage(match words.pop() {
            None | Some("text") => Garbage::Text,
            Some("binary") => Garbage::Binary,
            Some("type") => Garbage::Type,
            Some("empty") => Garbage::Empty,
            Some(other) => return Err(format!("no garbage is called `{other}`")),
        }),
        "error" => {
            let text: Vec<&str> = words.drain(..).rev().collect();
            Fault::Error { text: text.join(" ") }
        }
        "order" => Fault::Order,
        "stall" => {
            let symbol = words.pop().ok_or("a symbol is missing, such as INFY or *")?.to_owned();
            Fault::Stall { symbol, lasts: after(words, "for")? }
        }
        "time" => Fault::Odd(match words.pop() {
            Some("zero") => Odd::ZeroTime,
            Some("absurd") => Odd::AbsurdTime,
            _ => return Err("expected zero or absurd".to_owned()),
        }),
        "segment" => Fault::Odd(Odd::Segment),
        "volume" => Fault::Odd(Odd::Volume),
        "token-dead" => Fault::TokenDead,
        "refuse" => {
            let status = number(words, 503)?;
            if !(400..600).contains(&status) {
                return Err(format!("{status} is no refusal"));
            }
            let times = match words.last().and_then(|word| word.strip_prefix('x')) {
                Some(count) => Some(count.parse().map_err(|_| format!("`x{count}` is no count such as x3"))?),
                None => None,
            };
            if times.is_some() {
                words.pop();
            }
            Fault::Refuse { status, times }
        }
        "clock" => {
            let word = words.pop().ok_or("expected +2d or -1h")?;
            let off = word.get(1..).and_then(duration).and_then(|off| i64::try_from(off.as_nanos()).ok());
            match (word.chars().next(), off) {
                (Some('+'), Some(ns)) => Fault::Clock { off_ns: ns },
                (Some('-'), Some(ns)) => Fault::Clock { off_ns: -ns },
                _ => return Err(format!("`{word}` is no offset such as +2d or -1h")),
            }
        }
        "heal" => Fault::Heal,
        other => return Err(format!("no fault is called `{other}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let faults = parse_script("# a bad day\nat 2.5s cut\n\nat 1s every 500ms order # again\n").expect("faults");
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
            assert_eq!(text.parse::<Fault>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
