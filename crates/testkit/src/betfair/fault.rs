//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use crate::script::{self, BadFault, Grammar, Words};

/// The grammar of faults, as `simulate betfair --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first subscription. Without `at` a fault
holds from the start, or strikes with the first subscription.

  of the connection (all that are subscribed)
    cut [in-line]             reset the connection, in the middle of a line when asked
    end [in-line]             the orderly end, in the middle of a line when asked
    half-open [for TIME]      write nothing any more, and keep the socket
    drip N                    write the next N bytes one by one
    oversized N               one line of N KiB without an end
    hang-up CODE              say FAILURE with that code, and close
    garbage KIND              json: cut off; utf8: invalid; array; empty: blank lines; number: one
                              that fits no type; type: a message of another stream; segment: the
                              beginning of a message that has no end
  of the data
    big N                     the image of a market of N KiB
    image MARKET              it is sent again, whole (* for all)
    moved MARKET              it moves to another event: sent twice, as it was and with a higher version
    poison MARKET             it has a number that fits no type, in images too, until `heal`
    quiet MARKET [for TIME]   nothing is sent of it
    segments N                images come in N pieces (1 ends it)
    behind [for TIME]         messages say 503: the venue's own feed is behind
    con                       the next message says that it was conflated
    late                      a message of a subscription that was replaced
    time KIND                 the next message's time is zero, absurd (2200), missing or text
    field                     the next message has fields of a later protocol
    conflate MS               subscriptions are granted another conflation
    clock +TIME|-TIME         the venue's clock is off
  of requests
    refuse CODE [xN]          the next N authentications and subscriptions (default: all) are
                              answered so: INVALID_APP_KEY, SUBSCRIPTION_LIMIT_EXCEEDED …
    forget                    clocks are not known any more: INVALID_CLOCK
    session-dead              every session has expired
    login STATUS [xN]         the next N logins (default: all) are refused so, in words such as
                              INVALID_USERNAME_OR_PASSWORD or by an HTTP status such as 503
  heal                        end every fault";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut { in_line: bool },
    End { in_line: bool },
    HalfOpen { lasts: Option<Duration> },
    Drip { bytes: usize },
    Oversized { kib: usize },
    HangUp { code: String },
    Garbage(Garbage),
    Big { kib: usize },
    Image { market: String },
    Moved { market: String },
    Poison { market: String },
    Quiet { market: String, lasts: Option<Duration> },
    Segments { pieces: usize },
    Behind { lasts: Option<Duration> },
    Conflated,
    Late,
    Odd(Odd),
    Conflate { ms: u64 },
    Clock { off_ns: i64 },
    Refuse { code: String, times: Option<u32> },
    Forget,
    SessionDead,
    Login { status: String, times: Option<u32> },
    Heal,
}

impl Fault {
    /// Whether it strikes once at whoever is subscribed, so that it needs somebody to be.
    #[must_use]
    pub const fn needs_a_connection(&self) -> bool {
        matches!(
            self,
            Fault::Cut { .. }
                | Fault::End { .. }
                | Fault::HalfOpen { .. }
                | Fault::Drip { .. }
                | Fault::Oversized { .. }
                | Fault::HangUp { .. }
                | Fault::Garbage(_)
                | Fault::Big { .. }
                | Fault::Image { .. }
                | Fault::Moved { .. }
                | Fault::Poison { .. }
                | Fault::Late
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
    /// A number beyond any integer or decimal type.
    Number,
    OtherType,
    /// The first piece of a message, and never another one.
    Segment,
}

impl Garbage {
    /// The line, with its end.
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = match self {
            Garbage::NotJson => br#"{"op":"mcm","mc":[{"id":"1.24"#.to_vec(),
            Garbage::InvalidUtf8 => b"{\"op\":\"mcm\",\"clk\":\"\xff\xfe\"}".to_vec(),
            Garbage::Array => b"[1,2,3]".to_vec(),
            Garbage::Empty => b"\r\n \n".to_vec(),
            Garbage::Number => br#"{"op":"mcm","pt":1743511672980,"mc":[{"id":"1.2","rc":[{"id":7,"atb":[[123456789012345678901234567890.1,1]]}]}]}"#.to_vec(),
            Garbage::Segment => br#"{"op":"mcm","id":2,"segmentType":"SEG_START","mc":[{"id":"1.2","rc":[{"id":7,"ltp":2}]}]}"#.to_vec(),
            Garbage::OtherType => br#"{"op":"rcm","id":2,"clk":12,"rc":[{"id":"28587288.1650"}]}"#.to_vec(),
        };
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// What is odd about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    ZeroTime,
    AbsurdTime,
    NoTime,
    TextTime,
    Fields,
}

/// A fault with its time, which counts from the first subscription.
pub type Scheduled = script::Scheduled<Fault>;

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        script::fault(text)
    }
}

impl Grammar for Fault {
    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        fn word(words: &mut Words<'_>, what: &str) -> Result<String, String> {
            words.next().map(str::to_owned).ok_or_else(|| format!("{what} is missing"))
        }
        let market = "a market is missing, such as 1.240000001 or *";
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { in_line: words.flag("in-line") },
            "end" => Fault::End { in_line: words.flag("in-line") },
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "drip" => Fault::Drip { bytes: words.number(2_000)? },
            "oversized" => Fault::Oversized { kib: words.number(9_000)? },
            "hang-up" => Fault::HangUp { code: word(words, "a code such as TIMEOUT")? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("array") => Garbage::Array,
                Some("empty") => Garbage::Empty,
                Some("number") => Garbage::Number,
                Some("type") => Garbage::OtherType,
                Some("segment") => Garbage::Segment,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "big" => Fault::Big { kib: words.number(608)? },
            "image" => Fault::Image { market: words.next().ok_or(market)?.to_owned() },
            "moved" => Fault::Moved { market: words.next().ok_or(market)?.to_owned() },
            "poison" => Fault::Poison { market: words.next().ok_or(market)?.to_owned() },
            "quiet" => Fault::Quiet { market: words.next().ok_or(market)?.to_owned(), lasts: words.after("for")? },
            "segments" => Fault::Segments { pieces: words.number(3)? },
            "behind" => Fault::Behind { lasts: words.after("for")? },
            "con" => Fault::Conflated,
            "late" => Fault::Late,
            "time" => Fault::Odd(match words.next() {
                Some("zero") => Odd::ZeroTime,
                Some("absurd") => Odd::AbsurdTime,
                Some("missing") => Odd::NoTime,
                Some("text") => Odd::TextTime,
                _ => return Err("expected zero, absurd, missing or text".to_owned()),
            }),
            "field" => Fault::Odd(Odd::Fields),
            "conflate" => Fault::Conflate { ms: words.number(180_000)? },
            "clock" => Fault::Clock { off_ns: words.offset()? },
            "refuse" => Fault::Refuse { code: word(words, "a code such as INVALID_APP_KEY")?, times: words.times()? },
            "forget" => Fault::Forget,
            "session-dead" => Fault::SessionDead,
            "login" => Fault::Login {
                status: word(words, "a status such as INVALID_USERNAME_OR_PASSWORD")?,
                times: words.times()?,
            },
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
        let secs = |s| Some(Duration::from_secs(s));
        for (text, want) in [
            ("cut in-line", Fault::Cut { in_line: true }),
            ("end", Fault::End { in_line: false }),
            ("half-open for 3s", Fault::HalfOpen { lasts: secs(3) }),
            ("drip 70", Fault::Drip { bytes: 70 }),
            ("oversized", Fault::Oversized { kib: 9_000 }),
            ("hang-up TIMEOUT", Fault::HangUp { code: "TIMEOUT".into() }),
            ("garbage type", Fault::Garbage(Garbage::OtherType)),
            ("big 608", Fault::Big { kib: 608 }),
            ("image *", Fault::Image { market: "*".into() }),
            ("moved 1.2", Fault::Moved { market: "1.2".into() }),
            ("poison 1.2", Fault::Poison { market: "1.2".into() }),
            ("quiet 1.2 for 3s", Fault::Quiet { market: "1.2".into(), lasts: secs(3) }),
            ("segments 4", Fault::Segments { pieces: 4 }),
            ("behind for 3s", Fault::Behind { lasts: secs(3) }),
            ("con", Fault::Conflated),
            ("late", Fault::Late),
            ("time zero", Fault::Odd(Odd::ZeroTime)),
            ("field", Fault::Odd(Odd::Fields)),
            ("conflate 50", Fault::Conflate { ms: 50 }),
            ("clock -1h", Fault::Clock { off_ns: -3_600_000_000_000 }),
            ("refuse INVALID_APP_KEY x2", Fault::Refuse { code: "INVALID_APP_KEY".into(), times: Some(2) }),
            ("forget", Fault::Forget),
            ("session-dead", Fault::SessionDead),
            ("login 503", Fault::Login { status: "503".into(), times: None }),
            ("heal", Fault::Heal),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_says_why() {
        for (text, why) in [
            ("", "no fault is named"),
            ("explode", "no fault is called `explode`"),
            ("image", "a market is missing, such as 1.240000001 or *"),
            ("refuse", "a code such as INVALID_APP_KEY is missing"),
            ("cut twice", "`twice` is not understood here"),
        ] {
            assert_eq!(text.parse::<Scheduled>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
