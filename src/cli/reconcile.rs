//! `tapedeck reconcile`: does a store hold what the tape says?

use tapedeck_market::UnixNanos;

use super::work::Work;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::{Global, reading, stores};
use crate::sinks::audit::{self, Outcome, Progress, Scope, What};

/// Differences that are shown; `--json` has them all.
const SHOWN: usize = 20;

const EXAMPLES: &str = "\
Examples:
  tapedeck reconcile influx                          all that was delivered; 1 as exit code when something differs
  tapedeck reconcile influx --from 1d --repair       deliver again what is missing or differs
  tapedeck reconcile pg --from 2026-11-20 --to 2026-11-21 --json
  tapedeck reconcile pg --from 1d --rows             compare every row, texts too

Sums of each series and minute are compared first, and the rows only where these differ. It may run beside a deck;
--repair of PostgreSQL wants the deck stopped.";

/// Compare a store with the tape, row by row where sums differ, and repair it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The sink, by the name of its table
    sink: String,
    /// Only what was received at or after this: a time, or how long ago (1d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    from: Option<UnixNanos>,
    /// Only what was received before this
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    to: Option<UnixNanos>,
    /// Deliver again what is missing or differs, then compare once more
    #[arg(long)]
    repair: bool,
    /// Compare every row, also where the sums are the same: a text that was changed is in no sum
    #[arg(long)]
    rows: bool,
    /// Print JSON, with the differences (the first 10,000 of them)
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        let table = stores::named(&config, &self.sink)?;
        let scope =
            Scope { from: self.from, to: self.to, repair: self.repair, every_row: self.rows, only_these: false };
        let mut shown = Work::new();
        let mut tell = |progress: Progress| match progress {
            Progress::Reading(records) => shown.tell("reading the tape", records, None),
            Progress::Asking(done, all) => shown.tell("asking the store for sums", done, Some(all)),
            Progress::Looking(done, all) => shown.tell("comparing rows", done, Some(all)),
        };
        let found = super::block_on(audit::reconcile(table, &config.tape.dir, &scope, &mut tell));
        shown.end();
        let found = found?;
        if self.json {
            out.json(&found)?;
        } else {
            print(&self.sink, &found, out)?;
        }
        if found.is_clean() { Ok(()) } else { Err(End::Found.into()) }
    }
}

fn print(sink: &str, found: &Outcome, out: &mut Out) -> anyhow::Result<()> {
    let Outcome { rows, sums, first_seq, last_seq, .. } = found;
    if found.repaired > 0 {
        let refused = if found.refused > 0 { format!(", {} refused again", found.refused) } else { String::new() };
        out.line(format!("delivered again: {}{refused}", found.repaired))?;
    }
    if found.is_clean() {
        out.line(format!(
            "[sink.{sink}] holds what the tape says: {rows} rows of records {first_seq} to {last_seq}, in {sums} sums"
        ))?;
    } else {
        let Outcome { missing, different, extra, .. } = found;
        out.line(format!("[sink.{sink}] differs from the tape: {missing} missing, {different} different, {extra} too many, of {rows} rows of records {first_seq} to {last_seq}"))?;
        let line = |difference: &audit::Difference| {
            let what = match difference.what {
                What::Missing => "missing",
                What::Different => "different",
                What::Extra => "too many",
            };
            let seq = difference.seq.map(|seq| seq.to_string()).unwrap_or_default();
            let time = UnixNanos(difference.time).to_string();
            let (table, series) = (difference.table.to_string(), difference.series.clone());
            vec![what.to_owned(), seq, table, series, time, difference.detail.clone()]
        };
        let lines: Vec<Vec<String>> = found.differences.iter().take(SHOWN).map(line).collect();
        out.table(&["WHAT", "SEQ ", "TABLE", "SERIES", "TIME", "DETAIL"], &lines)?;
        let all = found.missing + found.different + found.extra;
        if all > lines.len() as u64 {
            out.line(format!("… and {} more: see --json", all - lines.len() as u64))?;
        }
        if found.repaired == 0 {
            out.line("--repair delivers again what is missing or different")?;
        }
    }
    let notes = [
        (found.collisions, "rows took the place of others of the same series and time: this store cannot keep both"),
        (found.dead, "records are dead letters: see `tapedeck deadletter list`"),
        (found.behind, "records are not delivered yet"),
        (found.unreadable, "records cannot be read from the tape any more"),
        (found.foreign, "rows beside them are not of this stretch of the tape"),
        (
            found.unlooked,
            "minutes of series that the store alone has were not looked into: rows of this tape may be among them",
        ),
    ];
    for (count, text) in notes.into_iter().filter(|(count, _)| *count > 0) {
        out.line(format!("{count} {text}"))?;
    }
    if let Some((one, other)) = found.collided.first() {
        out.line(format!("the first of them: record {one} gave way to {other}"))?;
    }
    Ok(())
}
