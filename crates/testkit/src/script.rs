//! Faults with their times, as all fakes write them: the words are the venue's ([`Grammar`]), the rest is here.

use std::iter::Peekable;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;

/// The faults of a venue.
pub trait Grammar: Sized {
    /// The word of the fault behind which, after a colon, a text of any words may stand.
    const REASON_BEHIND: Option<&'static str> = None;

    /// Reads one; what is left over is refused by the caller.
    ///
    /// # Errors
    /// What is wrong, for people.
    fn read(words: &mut Words<'_>) -> Result<Self, String>;
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled<F> {
    /// Since the first client, as the venue's grammar says; `None`: as soon as it can strike.
    pub at: Option<Duration>,
    pub every: Option<Duration>,
    pub fault: F,
}

impl<F> From<F> for Scheduled<F> {
    fn from(fault: F) -> Self {
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

impl<F: Grammar> FromStr for Scheduled<F> {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        whole::<F, _>(text, |words| {
            let before = (words.after("at")?, words.after("every")?);
            let fault = F::read(words)?;
            let (at, every) = (before.0.or(words.after("at")?), before.1.or(words.after("every")?));
            Ok(Scheduled { at, every, fault })
        })
    }
}

/// Reads a fault that has no time.
///
/// # Errors
/// It is none, or something stands behind it.
pub(crate) fn fault<F: Grammar>(text: &str) -> Result<F, BadFault> {
    whole::<F, _>(text, F::read)
}

fn whole<F: Grammar, T>(text: &str, read: impl FnOnce(&mut Words<'_>) -> Result<T, String>) -> Result<T, BadFault> {
    let mut words = Words::new(text, F::REASON_BEHIND);
    let found = read(&mut words).and_then(|found| words.end().map(|()| found));
    found.map_err(|why| BadFault { text: text.trim().to_owned(), why })
}

/// Reads a script: one fault a line.
///
/// # Errors
/// The first line that is no fault, with its number.
pub fn parse_script<F: Grammar>(text: &str) -> anyhow::Result<Vec<Scheduled<F>>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("").trim()));
    let faults = lines.filter(|(_, line)| !line.is_empty());
    faults.map(|(at, line)| line.parse().with_context(|| format!("line {at}"))).collect()
}

/// The faults of a command line: those given one by one, then those of the script.
pub(crate) fn all<F: Grammar>(
    mut faults: Vec<Scheduled<F>>,
    script: Option<&Path>,
) -> anyhow::Result<Vec<Scheduled<F>>> {
    if let Some(path) = script {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(parse_script(&text).with_context(|| path.display().to_string())?);
    }
    Ok(faults)
}

/// The words of a fault, from left to right.
#[derive(Debug)]
pub struct Words<'a> {
    words: Peekable<std::vec::IntoIter<&'a str>>,
    reason: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str, reason_behind: Option<&str>) -> Self {
        // An instant has colons of its own.
        let has_reason = text.split_whitespace().any(|word| Some(word) == reason_behind);
        let (head, reason) = match text.split_once(':') {
            Some((head, reason)) if has_reason => (head, Some(reason.trim())),
            _ => (text, None),
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        Words { words: words.into_iter().peekable(), reason }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.words.next() {
            Some(word) => Err(format!("`{word}` is not understood here")),
            None if self.reason.is_some() => Err("only a refusal has a reason".into()),
            None => Ok(()),
        }
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    pub(crate) fn next_if(&mut self, wanted: impl FnOnce(&str) -> bool) -> Option<&'a str> {
        self.words.next_if(|word| wanted(word))
    }

    /// All that is left, with single spaces.
    pub(crate) fn rest(&mut self) -> String {
        self.words.by_ref().collect::<Vec<_>>().join(" ")
    }

    /// What stood behind the colon.
    pub(crate) fn reason(&mut self) -> Option<&'a str> {
        self.reason.take()
    }

    /// Whether that word comes next.
    pub(crate) fn flag(&mut self, keyword: &str) -> bool {
        self.words.next_if_eq(&keyword).is_some()
    }

    /// A time behind a keyword, where that comes next.
    pub(crate) fn after(&mut self, keyword: &str) -> Result<Option<Duration>, String> {
        if !self.flag(keyword) {
            return Ok(None);
        }
        let word = self.next().ok_or_else(|| format!("`{keyword}` needs a time"))?;
        duration(word).map(Some).ok_or_else(|| format!("`{word}` is no time such as 2.5s"))
    }

    /// `x3`, where that comes next.
    pub(crate) fn times(&mut self) -> Result<Option<u32>, String> {
        let Some(word) = self.next_if(|word| word.starts_with('x')) else { return Ok(None) };
        word[1..].parse().map(Some).map_err(|_| format!("`{word}` is no count such as x3"))
    }

    pub(crate) fn number<T: FromStr>(&mut self, default: T) -> Result<T, String> {
        let Some(word) = self.next() else { return Ok(default) };
        word.parse().map_err(|_| format!("`{word}` is no number that fits here"))
    }

    /// How far a clock is off, ns: `+2d`, `-1h`.
    pub(crate) fn offset(&mut self) -> Result<i64, String> {
        let word = self.next().ok_or("expected +2d or -1h")?;
        offset(word).ok_or_else(|| format!("`{word}` is no offset such as +2d or -1h"))
    }
}

/// Reads `+2d`, `-1h`: ns.
pub(crate) fn offset(text: &str) -> Option<i64> {
    let ns = |text: &str| duration(text).and_then(|off| i64::try_from(off.as_nanos()).ok());
    match text.split_at_checked(1)? {
        ("+", rest) => ns(rest),
        ("-", rest) => ns(rest).map(|ns| -ns),
        _ => None,
    }
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

/// A time of an option, which may not be nothing.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    duration(text).filter(|time| !time.is_zero()).ok_or_else(|| format!("`{text}` is no time such as 2.5s"))
}

/// A line on standard output; whoever closed it does not want it.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
