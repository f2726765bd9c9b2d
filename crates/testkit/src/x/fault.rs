//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::script::{self, BadFault, Grammar, Words};

/// The grammar of faults, as `simulate x --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first stream that a client opens. Without
`at` a fault holds from the start, or strikes with the first stream.

  of the connection
    cut [in-line]             reset the connection, in the middle of a line when asked
    end [in-line]             the orderly end of the answer, in the middle of a line when asked
    half-open [for TIME]      write nothing any more, not even a keep-alive, and keep the socket
    disconnect [KIND]         an error object within the stream, then silence: operational (the
                              default), connections, usage, or old for the form of API 1.1
    oversized N               one line of N KiB
    garbage KIND              json: cut off; utf8: invalid; array; empty: blank lines;
                              shape: a post without id; type: a line of a later protocol
  of the posts
    duplicate                 the next post comes twice
    edit                      the next post is an edit of the one before it
    time KIND                 the next post's time is zero, absurd (2200), missing, text or number
    field                     the next post has fields of a later protocol, and others of odd types
    clock +TIME|-TIME         the venue's clock is off
  of requests
    refuse STATUS [xN]        the next N requests (default: all) are answered so: 401, 403, 429
                              or any of 5xx
    limit TIME                the next request is refused with 429 until TIME from now
    connections [xN]          the next N streams are refused: too many connections
    usage [xN]                the next N streams are refused: the posts are used up
  heal                        end every fault";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut { in_line: bool },
    End { in_line: bool },
    HalfOpen { lasts: Option<Duration> },
    Disconnect(Trouble),
    Oversized { kib: usize },
    Garbage(Garbage),
    Duplicate,
    Edit,
    Odd(Odd),
    Clock { off_ns: i64 },
    Refuse { status: u16, times: Option<u32> },
    Limit { lasts: Duration },
    Connections { times: Option<u32> },
    Usage { times: Option<u32> },
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
                | Fault::Disconnect(_)
                | Fault::Oversized { .. }
                | Fault::Garbage(_)
        )
    }
}

/// What an error object within the stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Operational,
    Connections,
    Usage,
    Old,
}

/// Lines that no client should stumble over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    NotJson,
    InvalidUtf8,
    Array,
    Empty,
    Shape,
    UnknownType,
}

/// What is odd about one post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    ZeroTime,
    AbsurdTime,
    NoTime,
    TextTime,
    NumberTime,
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
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { in_line: words.flag("in-line") },
            "end" => Fault::End { in_line: words.flag("in-line") },
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "disconnect" => {
                let kinds = ["operational", "connections", "usage", "old"];
                Fault::Disconnect(match words.next_if(|word| kinds.contains(&word)) {
                    Some("connections") => Trouble::Connections,
                    Some("usage") => Trouble::Usage,
                    Some("old") => Trouble::Old,
                    _ => Trouble::Operational,
                })
            }
            "oversized" => Fault::Oversized { kib: words.number(2_048)? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("array") => Garbage::Array,
                Some("empty") => Garbage::Empty,
                Some("shape") => Garbage::Shape,
                Some("type") => Garbage::UnknownType,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "duplicate" => Fault::Duplicate,
            "edit" => Fault::Edit,
            "time" => Fault::Odd(match words.next() {
                Some("zero") => Odd::ZeroTime,
                Some("absurd") => Odd::AbsurdTime,
                Some("missing") => Odd::NoTime,
                Some("text") => Odd::TextTime,
                Some("number") => Odd::NumberTime,
                _ => return Err("expected zero, absurd, missing, text or number".to_owned()),
            }),
            "field" => Fault::Odd(Odd::Fields),
            "clock" => Fault::Clock { off_ns: words.offset()? },
            "refuse" => {
                let status = words.number(503)?;
                if !(400..600).contains(&status) {
                    return Err(format!("{status} is no refusal"));
                }
                Fault::Refuse { status, times: words.times()? }
            }
            "limit" => {
                let word = words.next().ok_or("expected a time such as 90s")?;
                let lasts = script::duration(word).ok_or_else(|| format!("`{word}` is no time such as 90s"))?;
                Fault::Limit { lasts }
            }
            "connections" => Fault::Connections { times: words.times()? },
            "usage" => Fault::Usage { times: words.times()? },
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
        for (text, want) in [
            ("cut in-line", Fault::Cut { in_line: true }),
            ("end", Fault::End { in_line: false }),
            ("half-open for 3s", Fault::HalfOpen { lasts: Some(Duration::from_secs(3)) }),
            ("disconnect", Fault::Disconnect(Trouble::Operational)),
            ("disconnect old", Fault::Disconnect(Trouble::Old)),
            ("disconnect connections", Fault::Disconnect(Trouble::Connections)),
            ("oversized 700", Fault::Oversized { kib: 700 }),
            ("garbage shape", Fault::Garbage(Garbage::Shape)),
            ("duplicate", Fault::Duplicate),
            ("edit", Fault::Edit),
            ("time number", Fault::Odd(Odd::NumberTime)),
            ("field", Fault::Odd(Odd::Fields)),
            ("clock -1h", Fault::Clock { off_ns: -3_600_000_000_000 }),
            ("refuse 401 x2", Fault::Refuse { status: 401, times: Some(2) }),
            ("limit 90s", Fault::Limit { lasts: Duration::from_secs(90) }),
            ("connections x1", Fault::Connections { times: Some(1) }),
            ("usage", Fault::Usage { times: None }),
            ("heal", Fault::Heal),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        let scheduled: Scheduled = "at 2s every 5s disconnect".parse().expect("a fault");
        assert_eq!((scheduled.at, scheduled.every), (Some(Duration::from_secs(2)), Some(Duration::from_secs(5))));
        for (text, why) in [
            ("disconnect twice", "`twice` is not understood here"),
            ("limit soon", "`soon` is no time such as 90s"),
            ("explode", "no fault is called `explode`"),
        ] {
            assert_eq!(text.parse::<Scheduled>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
