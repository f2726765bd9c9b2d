//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use super::frames::Channel;
use super::text::parse_time;

/// The grammar of faults, as `simulate kraken --help` prints it.
pub const GRAMMAR: &str = "\
Faults, for --fault and as the lines of a --script file (# begins a comment):

  [at TIME] [every TIME] FAULT      or      FAULT [at TIME] [every TIME]

TIME is 250ms, 2.5s, 3m, 1h or 2d; `at` counts from the first subscription of a client. Without
`at`, faults of the data and of requests hold from the start, the others strike at the first
subscription. SYMBOL is a pair, or * for any; CHANNEL is ticker, trade, book, ohlc, instrument or
executions, and all of them when left out.

  of the connection (all that are open)
    cut [mid-frame]           reset the connection, in the middle of a frame when asked
    close [CODE [REASON]]     a close frame (default 1001), then the end
    half-open [for TIME]      neither read nor write any more, and keep the socket
    slow-drip [for TIME]      write one byte at a time
    burst N                   N messages at once
    oversized N               one text frame of N MiB
    garbage KIND              json: cut off in the middle; utf8: invalid; binary: a binary frame;
                              empty; channel: an unknown one; field: unknown ones; number: some
                              that fit no type
  of the data
    stall SYMBOL [CHANNEL] [for TIME]
                              keep its data back, until TIME or the next subscription
    corrupt SYMBOL [xN]       alter one level of the next N book messages under the true checksum
    drop [SYMBOL] [K]         lose the K-th next trade (default 1)
    duplicate [SYMBOL] [xN]   send the next N trade messages twice
    reorder [SYMBOL] [xN]     send the next N trade messages after their successors
    clock READING [for TIME]  timestamps are absurd: 1970, +2d, -1h, 2014-01-01T00:00:00Z
    list PAIR, delist PAIR    the venue takes a pair up, or no longer trades it
  of requests
    refuse SYMBOL [CHANNEL] [xN] [: REASON]
                              refuse the next N subscriptions (default: all)
    silence SYMBOL [CHANNEL] [xN]
                              acknowledge the next N subscriptions (default: all), send nothing
    token refuse|expire       issue no token; or let all that were issued expire
    rate-limit N              answer more than N requests a second with \"Exceeded msg rate\"
    status STATE              online, maintenance, cancel_only or post_only, told to everybody
  heal                        end every fault";

/// One thing that goes wrong. Written as in [`GRAMMAR`].
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Cut { mid_frame: bool },
    Close { code: u16, reason: String },
    HalfOpen { lasts: Option<Duration> },
    SlowDrip { lasts: Option<Duration> },
    Burst { messages: u32 },
    Oversized { mib: usize },
    Garbage(Garbage),
    Stall { target: Target, lasts: Option<Duration> },
    Corrupt { target: Target, times: u32 },
    Drop { target: Target, nth: u32 },
    Duplicate { target: Target, times: u32 },
    Reorder { target: Target, times: u32 },
    Clock { reading: Reading, lasts: Option<Duration> },
    Refuse { target: Target, times: Option<u32>, reason: Option<String> },
    Silence { target: Target, times: Option<u32> },
    TokenRefused,
    TokensExpire,
    RateLimit { per_second: u32 },
    System(String),
    List(String),
    Delist(String),
    Heal,
}

impl Fault {
    /// Whether it strikes once at whoever is connected, so that it needs somebody to be.
    #[must_use]
    pub const fn needs_a_connection(&self) -> bool {
        matches!(
            self,
            Fault::Cut { .. }
                | Fault::Close { .. }
                | Fault::HalfOpen { .. }
                | Fault::SlowDrip { .. }
                | Fault::Burst { .. }
                | Fault::Oversized { .. }
                | Fault::Garbage(_)
        )
    }
}

/// Frames that no client should stumble over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    NotJson,
    InvalidUtf8,
    Binary,
    Empty,
    UnknownChannel,
    UnknownFields,
    /// Numbers beyond any integer or decimal type.
    Numbers,
}

/// What a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `*`: any.
    pub symbol: String,
    /// `None`: any.
    pub channel: Option<Channel>,
}

impl Target {
    #[must_use]
    pub fn matches(&self, channel: Channel, symbol: &str) -> bool {
        (self.symbol == "*" || self.symbol == symbol) && self.channel.is_none_or(|own| own == channel)
    }
}

/// What the venue's clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Always this instant, ns since 1970.
    Stopped(i64),
    /// Off by so many ns.
    Off(i64),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// Since the first subscription; `None`: as soon as it can strike.
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
        let mut words = Words::new(text);
        let scheduled = words.scheduled().and_then(|scheduled| words.end().map(|()| scheduled));
        scheduled.map_err(|why| BadFault { text: text.trim().to_owned(), why })
    }
}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut words = Words::new(text);
        let fault = words.fault().and_then(|fault| words.end().map(|()| fault));
        fault.map_err(|why| BadFault { text: text.trim().to_owned(), why })
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

/// The words of a fault, from left to right.
struct Words<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
    /// What follows the first colon that stands behind a word: the reason of a refusal.
    reason: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        // Only a refusal has a reason; an instant has colons of its own.
        let has_reason = text.split_whitespace().any(|word| word == "refuse");
        let (head, reason) = match text.split_once(':') {
            Some((head, reason)) if has_reason => (head, Some(reason.trim())),
            _ => (text, None),
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        Words { words: words.into_iter().peekable(), reason }
    }

    fn scheduled(&mut self) -> Result<Scheduled, String> {
        let before = (self.after("at")?, self.after("every")?);
        let fault = self.fault()?;
        let (at, every) = (before.0.or(self.after("at")?), before.1.or(self.after("every")?));
        Ok(Scheduled { at, every, fault })
    }

    fn fault(&mut self) -> Result<Fault, String> {
        let name = self.words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { mid_frame: self.words.next_if_eq(&"mid-frame").is_some() },
            "close" => {
                let code = self.number(1_001)?;
                Fault::Close { code, reason: self.words.by_ref().collect::<Vec<_>>().join(" ") }
            }
            "half-open" => Fault::HalfOpen { lasts: self.after("for")? },
            "slow-drip" => Fault::SlowDrip { lasts: self.after("for")? },
            "burst" => Fault::Burst { messages: self.number(1_000)? },
            "oversized" => Fault::Oversized { mib: self.number(17)? },
            "garbage" => Fault::Garbage(match self.words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("binary") => Garbage::Binary,
                Some("empty") => Garbage::Empty,
                Some("channel") => Garbage::UnknownChannel,
                Some("field") => Garbage::UnknownFields,
                Some("number") => Garbage::Numbers,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "stall" => Fault::Stall { target: self.target()?, lasts: self.after("for")? },
            "corrupt" => Fault::Corrupt { target: self.on(Channel::Book), times: self.times()?.unwrap_or(1) },
            "drop" => Fault::Drop { target: self.on(Channel::Trade), nth: self.number(1)? },
            "duplicate" => Fault::Duplicate { target: self.on(Channel::Trade), times: self.times()?.unwrap_or(1) },
            "reorder" => Fault::Reorder { target: self.on(Channel::Trade), times: self.times()?.unwrap_or(1) },
            "clock" => Fault::Clock { reading: self.reading()?, lasts: self.after("for")? },
            "refuse" => Fault::Refuse {
                target: self.target()?,
                times: self.times()?,
                reason: self.reason.take().map(str::to_owned),
            },
            "silence" | "ack-then-silence" => Fault::Silence { target: self.target()?, times: self.times()? },
            "token" => match self.words.next() {
                Some("refuse") => Fault::TokenRefused,
                Some("expire") => Fault::TokensExpire,
                _ => return Err("expected `token refuse` or `token expire`".into()),
            },
            "rate-limit" => Fault::RateLimit { per_second: self.number(5)? },
            "status" => match self.words.next() {
                Some(state @ ("online" | "maintenance" | "cancel_only" | "post_only")) => Fault::System(state.into()),
                _ => return Err("expected online, maintenance, cancel_only or post_only".into()),
            },
            "list" => Fault::List(self.pair()?),
            "delist" => Fault::Delist(self.pair()?),
            "maintenance" => Fault::System("maintenance".into()),
            "heal" => Fault::Heal,
            other => return Err(format!("no fault is called `{other}`")),
        })
    }

    fn end(&mut self) -> Result<(), String> {
        match self.words.next() {
            Some(word) => Err(format!("`{word}` is not understood here")),
            None if self.reason.is_some() => Err("only a refusal has a reason".into()),
            None => Ok(()),
        }
    }

    fn after(&mut self, keyword: &str) -> Result<Option<Duration>, String> {
        match self.words.next_if_eq(&keyword) {
            None => Ok(None),
            Some(_) => {
                let word = self.words.next().ok_or_else(|| format!("`{keyword}` needs a time"))?;
                duration(word).map(Some).ok_or_else(|| format!("`{word}` is no time such as 2.5s"))
            }
        }
    }

    fn target(&mut self) -> Result<Target, String> {
        let symbol = self.words.next().ok_or("a symbol is missing, such as BTC/USD or *")?.to_owned();
        let channel = self.words.peek().and_then(|word| Channel::from_name(word));
        if channel.is_some() {
            self.words.next();
        }
        Ok(Target { symbol, channel })
    }

    fn pair(&mut self) -> Result<String, String> {
        let name = self.words.next().ok_or("a pair is missing, such as NEW/USD")?;
        if is_pair(name) { Ok(name.to_owned()) } else { Err(format!("`{name}` is no pair such as NEW/USD")) }
    }

    /// An optional symbol, of one channel.
    fn on(&mut self, channel: Channel) -> Target {
        let symbol = self.words.next_if(|word| word.contains('/') || *word == "*").unwrap_or("*");
        Target { symbol: symbol.to_owned(), channel: Some(channel) }
    }

    fn times(&mut self) -> Result<Option<u32>, String> {
        let Some(word) = self.words.next_if(|word| word.starts_with('x')) else { return Ok(None) };
        word[1..].parse().map(Some).map_err(|_| format!("`{word}` is no count such as x3"))
    }

    fn number<T: FromStr>(&mut self, default: T) -> Result<T, String> {
        let Some(word) = self.words.next() else { return Ok(default) };
        word.parse().map_err(|_| format!("`{word}` is no number that fits here"))
    }

    fn reading(&mut self) -> Result<Reading, String> {
        let word = self.words.next().ok_or("expected 1970, +2d, -1h or an instant")?;
        let off = |text: &str| duration(text).and_then(|off| i64::try_from(off.as_nanos()).ok());
        let reading = match word.split_at_checked(1) {
            _ if word == "1970" => Some(Reading::Stopped(0)),
            Some(("+", rest)) => off(rest).map(Reading::Off),
            Some(("-", rest)) => off(rest).map(|ns| Reading::Off(-ns)),
            _ => parse_time(word).map(Reading::Stopped),
        };
        reading.ok_or_else(|| format!("`{word}` is no clock reading such as 1970, +2d or 2014-01-01T00:00:00Z"))
    }
}

/// Whether it is a name that the venue could give a pair: it stands in messages as it is.
pub(crate) fn is_pair(name: &str) -> bool {
    let is_asset = |asset: &str| !asset.is_empty() && asset.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.split_once('/').is_some_and(|(base, quote)| is_asset(base) && is_asset(quote))
}

/// Reads `250ms`, `2.5s`, `3m`, `1h`, `2d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit_ns: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    Some(Duration::from_nanos(whole.checked_mul(unit_ns)?.checked_add(unit_ns / 1_000 * part)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(symbol: &str, channel: Option<Channel>) -> Target {
        Target { symbol: symbol.into(), channel }
    }

    #[test]
    fn every_fault_of_the_grammar_is_read() {
        let secs = |s| Some(Duration::from_secs(s));
        let btc = || target("BTC/USD", None);
        let cases = [
            ("cut", Fault::Cut { mid_frame: false }),
            ("cut mid-frame", Fault::Cut { mid_frame: true }),
            ("close", Fault::Close { code: 1_001, reason: String::new() }),
            ("close 1013 try again later", Fault::Close { code: 1_013, reason: "try again later".into() }),
            ("half-open for 3s", Fault::HalfOpen { lasts: secs(3) }),
            ("slow-drip", Fault::SlowDrip { lasts: None }),
            ("burst 5000", Fault::Burst { messages: 5_000 }),
            ("oversized 20", Fault::Oversized { mib: 20 }),
            ("garbage utf8", Fault::Garbage(Garbage::InvalidUtf8)),
            ("stall BTC/USD", Fault::Stall { target: btc(), lasts: None }),
            (
                "stall * book for 1m",
                Fault::Stall { target: target("*", Some(Channel::Book)), lasts: Some(Duration::from_secs(60)) },
            ),
            ("corrupt BTC/USD x3", Fault::Corrupt { target: target("BTC/USD", Some(Channel::Book)), times: 3 }),
            ("drop 7", Fault::Drop { target: target("*", Some(Channel::Trade)), nth: 7 }),
            ("drop BTC/USD 2", Fault::Drop { target: target("BTC/USD", Some(Channel::Trade)), nth: 2 }),
            ("duplicate", Fault::Duplicate { target: target("*", Some(Channel::Trade)), times: 1 }),
            ("reorder BTC/USD", Fault::Reorder { target: target("BTC/USD", Some(Channel::Trade)), times: 1 }),
            ("clock 1970 for 1s", Fault::Clock { reading: Reading::Stopped(0), lasts: secs(1) }),
            ("clock +2d", Fault::Clock { reading: Reading::Off(172_800_000_000_000), lasts: None }),
            ("clock 1970-01-01T00:00:01Z", Fault::Clock { reading: Reading::Stopped(1_000_000_000), lasts: None }),
            (
                "refuse BTC/USD book x1: Subscription depth not supported",
                Fault::Refuse {
                    target: target("BTC/USD", Some(Channel::Book)),
                    times: Some(1),
                    reason: Some("Subscription depth not supported".into()),
                },
            ),
            ("refuse BTC/USD:because", Fault::Refuse { target: btc(), times: None, reason: Some("because".into()) }),
            ("silence BTC/USD x2", Fault::Silence { target: btc(), times: Some(2) }),
            ("token refuse", Fault::TokenRefused),
            ("rate-limit 3", Fault::RateLimit { per_second: 3 }),
            ("status maintenance", Fault::System("maintenance".into())),
            ("list NEW/USD", Fault::List("NEW/USD".into())),
            ("delist BTC/USD", Fault::Delist("BTC/USD".into())),
            ("heal", Fault::Heal),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_script_gives_each_fault_its_time() {
        let script =
            "# a bad day\nat 2.5s cut\n\nat 10s every 500ms garbage json # again\n corrupt BTC/USD\ncut at 5s\n";
        let faults = parse_script(script).map(|faults| faults.into_iter().map(|f| (f.at, f.every)).collect::<Vec<_>>());
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(faults.ok(), Some(vec![(ms(2_500), None), (ms(10_000), ms(500)), (None, None), (ms(5_000), None)]));
        let error = parse_script("cut\nat noon cut").map_err(|error| format!("{error:#}"));
        assert_eq!(error, Err("line 2: fault `at noon cut`: `noon` is no time such as 2.5s".into()));
    }

    #[test]
    fn what_is_no_fault_says_why() {
        for (text, why) in [
            ("", "no fault is named"),
            ("explode", "no fault is called `explode`"),
            ("stall", "a symbol is missing, such as BTC/USD or *"),
            ("cut twice", "`twice` is not understood here"),
            ("clock soon", "`soon` is no clock reading such as 1970, +2d or 2014-01-01T00:00:00Z"),
            ("corrupt BTC/USD xx", "`xx` is no count such as x3"),
        ] {
            assert_eq!(text.parse::<Fault>().map_err(|bad| bad.why), Err(why.into()), "{text}");
        }
    }
}
