//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::script::{self, BadFault, Grammar, Words};

/// The grammar of faults, as `simulate oanda --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first stream that a client opens. Without
`at` a fault holds from the start, or strikes with the first stream.

  of the connection (all streams that are open)
    cut [in-line]             reset the connection, in the middle of a line when asked
    end [in-line]             the orderly end of the answer, in the middle of a line when asked
    half-open [for TIME]      write nothing any more, and keep the socket
    oversized N               one line of N KiB
    garbage KIND              json: cut off; utf8: invalid; array; empty: blank lines;
                              number: some that fit no type; type: one of a later protocol
  of the data
    stall INSTRUMENT [for TIME]
                              keep its prices back (* for all), while heartbeats go on
    untradeable INSTRUMENT    its prices say that nobody can trade; tradeable INSTRUMENT ends it
    time KIND                 the next price's time is zero, absurd (2200), missing or text
    field                     the next price has fields of a later protocol
    lose N                    the next N transactions do not come over the stream
    behind N                  the next N requests for transactions are answered without any
    clock +TIME|-TIME         the venue's clock is off
  of requests
    refuse STATUS [xN]        the next N requests (default: all) are answered so: 401, 403,
                              404, 429 or any of 5xx
  heal                        end every fault";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut { in_line: bool },
    End { in_line: bool },
    HalfOpen { lasts: Option<Duration> },
    Oversized { kib: usize },
    Garbage(Garbage),
    Stall { instrument: String, lasts: Option<Duration> },
    Tradeable { instrument: String, is: bool },
    Odd(Odd),
    Lose { transactions: u32 },
    Behind { answers: u32 },
    Clock { off_ns: i64 },
    Refuse { status: u16, times: Option<u32> },
    Heal,
}

impl Fault {
    /// Whether it strikes once at whoever is connected, so that it needs somebody to be.
    #[must_use]
    pub const fn needs_a_connection(&self) -> bool {
        matches!(
            self,
            Fault::Cut { .. }
                | Fault::End { .. }
                | Fault::HalfOpen { .. }
                | Fault::Oversized { .. }
                | Fault::Garbage(_)
        )
    }
}

/// Lines that no client should stumble over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    NotJson,
    InvalidUtf8,
    Array,
    Empty,
    /// Numbers beyond any integer or decimal type.
    Numbers,
    UnknownType,
}

/// What is odd about one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    ZeroTime,
    AbsurdTime,
    NoTime,
    TextTime,
    Fields,
}

/// A fault with its time, which counts from the first stream.
pub type Scheduled = script::Scheduled<Fault>;

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        script::fault(text)
    }
}

impl Grammar for Fault {
    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        fn instrument(words: &mut Words<'_>) -> Result<String, String> {
            words.next().map(str::to_owned).ok_or_else(|| "an instrument is missing, such as EUR_USD or *".to_owned())
        }
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { in_line: words.flag("in-line") },
            "end" => Fault::End { in_line: words.flag("in-line") },
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "oversized" => Fault::Oversized { kib: words.number(2_048)? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("array") => Garbage::Array,
                Some("empty") => Garbage::Empty,
                Some("number") => Garbage::Numbers,
                Some("type") => Garbage::UnknownType,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "stall" => Fault::Stall { instrument: instrument(words)?, lasts: words.after("for")? },
            "untradeable" | "tradeable" => Fault::Tradeable { instrument: instrument(words)?, is: name == "tradeable" },
            "time" => Fault::Odd(match words.next() {
                Some("zero") => Odd::ZeroTime,
                Some("absurd") => Odd::AbsurdTime,
                Some("missing") => Odd::NoTime,
                Some("text") => Odd::TextTime,
                _ => return Err("expected zero, absurd, missing or text".to_owned()),
            }),
            "field" => Fault::Odd(Odd::Fields),
            "lose" => Fault::Lose { transactions: words.number(1)? },
            "behind" => Fault::Behind { answers: words.number(1)? },
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
    use crate::script::parse_script;

    #[test]
    fn every_fault_of_the_grammar_is_read() {
        let secs = |s| Some(Duration::from_secs(s));
        for (text, want) in [
            ("cut", Fault::Cut { in_line: false }),
            ("cut in-line", Fault::Cut { in_line: true }),
            ("end in-line", Fault::End { in_line: true }),
            ("half-open for 3s", Fault::HalfOpen { lasts: secs(3) }),
            ("oversized 700", Fault::Oversized { kib: 700 }),
            ("garbage utf8", Fault::Garbage(Garbage::InvalidUtf8)),
            ("stall EUR_USD for 3s", Fault::Stall { instrument: "EUR_USD".into(), lasts: secs(3) }),
            ("untradeable EUR_USD", Fault::Tradeable { instrument: "EUR_USD".into(), is: false }),
            ("time zero", Fault::Odd(Odd::ZeroTime)),
            ("field", Fault::Odd(Odd::Fields)),
            ("lose 3", Fault::Lose { transactions: 3 }),
            ("behind 2", Fault::Behind { answers: 2 }),
            ("clock -1h", Fault::Clock { off_ns: -3_600_000_000_000 }),
            ("refuse 401 x2", Fault::Refuse { status: 401, times: Some(2) }),
            ("refuse 503", Fault::Refuse { status: 503, times: None }),
            ("heal", Fault::Heal),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        let faults = parse_script::<Fault>("# a bad day\nat 2.5s cut\n\nat 1s every 500ms garbage json # again\n")
            .expect("faults");
        assert_eq!(faults[1].every, Some(Duration::from_millis(500)));
        assert_eq!(faults[0].at, Some(Duration::from_millis(2_500)));
    }

    #[test]
    fn what_is_no_fault_says_why() {
        for (text, why) in [
            ("", "no fault is named"),
            ("explode", "no fault is called `explode`"),
            ("stall", "an instrument is missing, such as EUR_USD or *"),
            ("cut twice", "`twice` is not understood here"),
            ("clock soon", "`soon` is no offset such as +2d or -1h"),
            ("refuse 200", "200 is no refusal"),
            ("at noon cut", "`noon` is no time such as 2.5s"),
        ] {
            assert_eq!(text.parse::<Scheduled>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
