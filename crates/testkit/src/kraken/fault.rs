//! What can be made to go wrong, and how it is written. The grammar is [`GRAMMAR`].

use std::str::FromStr;
use std::time::Duration;

use super::frames::Channel;
use super::text::parse_time;
use crate::script::{self, BadFault, Grammar, Words};

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

/// A fault with its time, which counts from the first subscription.
pub type Scheduled = script::Scheduled<Fault>;

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        script::fault(text)
    }
}

impl Grammar for Fault {
    const REASON_BEHIND: Option<&'static str> = Some("refuse");

    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        let name = words.next().ok_or("no fault is named")?;
        Ok(match name {
            "cut" => Fault::Cut { mid_frame: words.flag("mid-frame") },
            "close" => {
                let code = words.number(1_001)?;
                Fault::Close { code, reason: words.rest() }
            }
            "half-open" => Fault::HalfOpen { lasts: words.after("for")? },
            "slow-drip" => Fault::SlowDrip { lasts: words.after("for")? },
            "burst" => Fault::Burst { messages: words.number(1_000)? },
            "oversized" => Fault::Oversized { mib: words.number(17)? },
            "garbage" => Fault::Garbage(match words.next() {
                None | Some("json") => Garbage::NotJson,
                Some("utf8") => Garbage::InvalidUtf8,
                Some("binary") => Garbage::Binary,
                Some("empty") => Garbage::Empty,
                Some("channel") => Garbage::UnknownChannel,
                Some("field") => Garbage::UnknownFields,
                Some("number") => Garbage::Numbers,
                Some(other) => return Err(format!("no garbage is called `{other}`")),
            }),
            "stall" => Fault::Stall { target: target(words)?, lasts: words.after("for")? },
            "corrupt" => Fault::Corrupt { target: on(words, Channel::Book), times: words.times()?.unwrap_or(1) },
            "drop" => Fault::Drop { target: on(words, Channel::Trade), nth: words.number(1)? },
            "duplicate" => Fault::Duplicate { target: on(words, Channel::Trade), times: words.times()?.unwrap_or(1) },
            "reorder" => Fault::Reorder { target: on(words, Channel::Trade), times: words.times()?.unwrap_or(1) },
            "clock" => Fault::Clock { reading: reading(words)?, lasts: words.after("for")? },
            "refuse" => Fault::Refuse {
                target: target(words)?,
                times: words.times()?,
                reason: words.reason().map(str::to_owned),
            },
            "silence" | "ack-then-silence" => Fault::Silence { target: target(words)?, times: words.times()? },
            "token" => match words.next() {
                Some("refuse") => Fault::TokenRefused,
                Some("expire") => Fault::TokensExpire,
                _ => return Err("expected `token refuse` or `token expire`".into()),
            },
            "rate-limit" => Fault::RateLimit { per_second: words.number(5)? },
            "status" => match words.next() {
                Some(state @ ("online" | "maintenance" | "cancel_only" | "post_only")) => Fault::System(state.into()),
                _ => return Err("expected online, maintenance, cancel_only or post_only".into()),
            },
            "list" => Fault::List(pair(words)?),
            "delist" => Fault::Delist(pair(words)?),
            "maintenance" => Fault::System("maintenance".into()),
            "heal" => Fault::Heal,
            other => return Err(format!("no fault is called `{other}`")),
        })
    }
}

fn target(words: &mut Words<'_>) -> Result<Target, String> {
    let symbol = words.next().ok_or("a symbol is missing, such as BTC/USD or *")?.to_owned();
    let channel = words.next_if(|word| Channel::from_name(word).is_some()).and_then(Channel::from_name);
    Ok(Target { symbol, channel })
}

fn pair(words: &mut Words<'_>) -> Result<String, String> {
    let name = words.next().ok_or("a pair is missing, such as NEW/USD")?;
    if is_pair(name) { Ok(name.to_owned()) } else { Err(format!("`{name}` is no pair such as NEW/USD")) }
}

/// An optional symbol, of one channel.
fn on(words: &mut Words<'_>, channel: Channel) -> Target {
    let symbol = words.next_if(|word| word.contains('/') || word == "*").unwrap_or("*");
    Target { symbol: symbol.to_owned(), channel: Some(channel) }
}

fn reading(words: &mut Words<'_>) -> Result<Reading, String> {
    let word = words.next().ok_or("expected 1970, +2d, -1h or an instant")?;
    let reading = match word {
        "1970" => Some(Reading::Stopped(0)),
        _ if word.starts_with(['+', '-']) => script::offset(word).map(Reading::Off),
        _ => parse_time(word).map(Reading::Stopped),
    };
    reading.ok_or_else(|| format!("`{word}` is no clock reading such as 1970, +2d or 2014-01-01T00:00:00Z"))
}

/// Whether it is a name that the venue could give a pair: it stands in messages as it is.
pub(crate) fn is_pair(name: &str) -> bool {
    let is_asset = |asset: &str| !asset.is_empty() && asset.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.split_once('/').is_some_and(|(base, quote)| is_asset(base) && is_asset(quote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse_script;

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
        let faults =
            parse_script::<Fault>(script).map(|faults| faults.into_iter().map(|f| (f.at, f.every)).collect::<Vec<_>>());
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(faults.ok(), Some(vec![(ms(2_500), None), (ms(10_000), ms(500)), (None, None), (ms(5_000), None)]));
        let error = parse_script::<Fault>("cut\nat noon cut").map_err(|error| format!("{error:#}"));
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
