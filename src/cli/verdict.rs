//! What a look at a running system found: a line for each thing, and for each fault what to do next.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::out::{Mark, Out};
use crate::logs::redact_text;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    /// `topic.kraken_tick`, `sink.influx`, `source.oanda` …
    pub(super) what: String,
    /// `unknown` is what waits for a person or for a market to open: no fault.
    pub(super) result: Mark,
    pub(super) text: String,
    /// The next step, where there is one to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// Its figures.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) figures: Map<String, Value>,
}

impl Verdict {
    pub(super) fn new(what: impl Into<String>, result: Mark, text: impl Into<String>) -> Verdict {
        Verdict { what: what.into(), result, text: redact_text(&text.into()), next: None, figures: Map::new() }
    }

    pub(super) fn good(what: impl Into<String>, text: impl Into<String>) -> Verdict {
        Verdict::new(what, Mark::Good, text)
    }

    pub(super) fn warn(what: impl Into<String>, text: impl Into<String>, next: impl Into<String>) -> Verdict {
        Verdict::new(what, Mark::Warn, text).next(next)
    }

    pub(super) fn bad(what: impl Into<String>, text: impl Into<String>, next: impl Into<String>) -> Verdict {
        Verdict::new(what, Mark::Bad, text).next(next)
    }

    /// Something waits, and nothing is broken.
    pub(super) fn waits(what: impl Into<String>, text: impl Into<String>, next: impl Into<String>) -> Verdict {
        Verdict::new(what, Mark::Unknown, text).next(next)
    }

    pub(super) fn next(mut self, next: impl Into<String>) -> Verdict {
        self.next = Some(next.into()).filter(|next| !next.is_empty());
        self
    }

    pub(super) fn figure(mut self, name: &str, value: impl Into<Value>) -> Verdict {
        self.figures.insert(name.to_owned(), value.into());
        self
    }
}

/// Whether there is no fault.
pub(super) fn is_well(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| verdict.result != Mark::Bad)
}

/// Prints faults and what is well, then what waits, then how many of each there are.
pub(super) fn print(verdicts: &[Verdict], out: &mut Out) -> anyhow::Result<()> {
    let width = verdicts.iter().map(|verdict| verdict.what.chars().count()).max().unwrap_or(0);
    let line = |verdict: &Verdict, out: &mut Out| {
        out.line(format!("{} {:<width$}  {}", out.mark(verdict.result), verdict.what, verdict.text))?;
        match &verdict.next {
            Some(next) => out.line(format!("  {:<width$}  → {next}", "")),
            None => Ok(()),
        }
    };
    let (waiting, judged): (Vec<&Verdict>, Vec<&Verdict>) =
        verdicts.iter().partition(|verdict| verdict.result == Mark::Unknown);
    for verdict in judged {
        line(verdict, out)?;
    }
    if !waiting.is_empty() {
        out.line("waiting, and no fault:")?;
        for verdict in waiting {
            line(verdict, out)?;
        }
    }
    let count = |mark| verdicts.iter().filter(|verdict| verdict.result == mark).count();
    let (good, warn, bad, waits) = (count(Mark::Good), count(Mark::Warn), count(Mark::Bad), count(Mark::Unknown));
    let mark = out.mark(if bad > 0 { Mark::Bad } else { Mark::Good });
    out.line(format!("{mark} {good} well, {warn} to look at, {bad} wrong, {waits} waiting"))
}
