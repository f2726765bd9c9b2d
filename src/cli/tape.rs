//! `tapedeck tape`: the tape as it lies on the disk.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use tapedeck_market::UnixNanos;
use tapedeck_tape::tools::{self, Damage, Dumped, Progress, Report};
use tapedeck_tape::{Hole, RawRecord, RecordKind};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};
use crate::config::units::about_bytes;
use crate::describe::describe;
use crate::json::event_json;

const EXAMPLES: &str = "\
Examples:
  tapedeck tape info                  what is on it
  tapedeck tape verify                is every byte what was written?
  tapedeck tape dump --from 1000      records with their places in the files
  tapedeck tape repair                secure what damage there is

All but `repair` only read, and are safe while a deck records.";

/// Look at the tape's files: info, verify, repair, dump
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Tell what is on the tape: records, bytes, segments, holes
    Info(Common),
    /// Check every byte; the exit code is 1 when something is damaged or missing
    Verify(Common),
    /// Set damaged bytes of sealed segments aside, restore headers, remove leftovers
    ///
    /// Records are never rewritten: a hole stays a hole, and the damaged bytes are kept as evidence.
    Repair(Common),
    /// Print every record with its place in the files, also checkpoints, damage and holes
    Dump {
        /// Begin with this seq
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        from: u64,
        /// End with this seq
        #[arg(long, value_name = "SEQ")]
        until: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let (What::Info(common) | What::Verify(common) | What::Repair(common) | What::Dump { common, .. }) = &self.what;
        let (dir, json) = (common.place.dir(global)?, common.json);
        match self.what {
            What::Info(_) => info(global, &dir, json, out),
            What::Verify(_) => verify(&dir, json, out),
            What::Repair(_) => repair(&dir, json, out),
            What::Dump { from, until, .. } => dump(&dir, from, until.unwrap_or(u64::MAX), json, out),
        }
        .with_context(|| format!("looking at the tape in {}", dir.display()))
    }
}

fn info(global: &Global, dir: &Path, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let info = tools::info(&reading::disk(), dir)?;
    // Without a writer nothing is being confirmed; then it is how the config wants the next one to.
    let running = info.mode.is_some();
    let mode = match info.mode {
        Some(mode) => Some(mode.name()),
        None => global.load().ok().map(|loaded| loaded.config.tape.mode.name()),
    };
    if json {
        let segments: Vec<_> = info
            .segments
            .iter()
            .map(|segment| {
                json!({
                    "id": segment.id, "first_seq": segment.first_seq, "last_seq": segment.last_seq,
                    "records": segment.records, "bytes": segment.bytes, "created": segment.created_ns,
                    "incarnation": segment.incarnation, "compressed": segment.compressed,
                    "checkpoint": segment.checkpoint,
                })
            })
            .collect();
        let quarantined: Vec<_> =
            info.quarantined.iter().map(|(path, bytes)| json!({ "file": path, "bytes": bytes })).collect();
        return out.json(&json!({
            "dir": dir, "tape_id": info.tape_id.to_string(), "incarnation": info.incarnation,
            "first_seq": info.first_seq, "last_seq": info.last_seq, "records": info.records, "bytes": info.bytes,
            "segments": segments, "holes": holes_json(&info.holes), "mode": mode, "running": running,
            "quarantined": quarantined,
        }));
    }
    let last =
        if info.records == 0 { "no records".to_owned() } else { format!("{} to {}", info.first_seq, info.last_seq) };
    out.line(format!("tape     {} in {}", info.tape_id, dir.display()))?;
    out.line(format!("records  {} ({last}), {}", info.records, about_bytes(info.bytes)))?;
    let writer = if running { "a deck is recording" } else { "no deck is recording" };
    out.line(format!("mode     {}, {writer}, opened {} times", mode.unwrap_or("unknown"), info.incarnation))?;
    print_holes(&info.holes, out)?;
    for (path, bytes) in &info.quarantined {
        out.line(format!("set aside {} ({})", path.display(), about_bytes(*bytes)))?;
    }
    out.line("")?;
    let rows: Vec<Vec<String>> = info
        .segments
        .iter()
        .map(|segment| {
            let created = UnixNanos(segment.created_ns).to_string();
            vec![
                segment.id.to_string(),
                segment.first_seq.to_string(),
                segment.records.to_string(),
                about_bytes(segment.bytes),
                created.get(..19).unwrap_or(&created).to_owned(),
                if segment.compressed { "compressed" } else { "" }.to_owned(),
            ]
        })
        .collect();
    out.table(&["SEGMENT ", "FIRST SEQ ", "RECORDS ", "BYTES ", "BEGUN", ""], &rows)
}

fn verify(dir: &Path, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let mut shown = Bar::new();
    let report = tools::verify(&reading::disk(), dir, &mut |progress| shown.draw(progress))?;
    shown.clear();
    let clean = report.is_clean();
    if json {
        let damages: Vec<_> = report.damages.iter().map(damage_json).collect();
        out.json(&json!({
            "ok": clean, "segments": report.segments, "records": report.records, "bytes": report.bytes,
            "damages": damages, "holes": holes_json(&report.holes), "damaged_headers": report.damaged_headers,
        }))?;
    } else {
        print_report(&report, out)?;
    }
    out.flush()?;
    if clean { Ok(()) } else { Err(End::Found.into()) }
}

fn print_report(report: &Report, out: &mut Out) -> anyhow::Result<()> {
    let (segments, records) = (report.segments, report.records);
    out.line(format!("{records} records in {segments} segments, {}", about_bytes(report.bytes)))?;
    for damage in &report.damages {
        let (from, to) = (damage.bytes.start, damage.bytes.end);
        out.line(format!("damaged: segment {}, bytes {from} to {to}", damage.segment))?;
    }
    for id in &report.damaged_headers {
        out.line(format!("damaged: segment {id}, one copy of its header (`tapedeck tape repair` restores it)"))?;
    }
    print_holes(&report.holes, out)?;
    if report.is_clean() { out.line("every record is there, every byte is what was written") } else { Ok(()) }
}

fn repair(dir: &Path, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let done = tools::repair(&reading::disk(), dir)?;
    if json {
        return out.json(&json!({
            "quarantined": done.quarantined, "headers": done.headers, "removed": done.removed,
        }));
    }
    for path in &done.quarantined {
        out.line(format!("set damaged bytes aside: {}", path.display()))?;
    }
    for id in &done.headers {
        out.line(format!("restored the header of segment {id}"))?;
    }
    for path in &done.removed {
        out.line(format!("removed a leftover: {}", path.display()))?;
    }
    if done.quarantined.is_empty() && done.headers.is_empty() && done.removed.is_empty() {
        out.line("nothing to repair")?;
    }
    Ok(())
}

fn dump(dir: &Path, from: u64, until: u64, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let mut written = Ok(());
    tools::dump(&reading::disk(), dir, from, &mut |found| {
        if matches!(found, Dumped::Record { seq, .. } if seq > until) {
            return ControlFlow::Break(());
        }
        let line = if json { dumped_json(&found) } else { dumped_text(&found) };
        written = out.raw(&line);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written
}

fn dumped_text(found: &Dumped<'_>) -> Vec<u8> {
    let line = match found {
        Dumped::Record { segment, position, kind, seq, ts_recv, more, payload } => {
            let event = reading::event(&RawRecord { seq: *seq, ts_recv: *ts_recv, payload });
            let kind = if *kind == RecordKind::Checkpoint { "checkpoint " } else { "" };
            let more = if *more { "+" } else { " " };
            format!("{segment:>6}:{position:<10}{more}{seq:>9} {kind}{}", describe(&event))
        }
        Dumped::Damage(damage) => {
            let (from, to) = (damage.bytes.start, damage.bytes.end);
            format!("{:>6}:{from:<10} damaged up to byte {to}", damage.segment)
        }
        Dumped::Hole(hole) => format!("{:>6}:{:<10} hole: records {} to {}", "-", "-", hole.from_seq, hole.to_seq),
    };
    format!("{line}\n").into_bytes()
}

fn dumped_json(found: &Dumped<'_>) -> Vec<u8> {
    let mut line = match found {
        Dumped::Record { segment, position, kind, seq, ts_recv, more, payload } => {
            let record = if *kind == RecordKind::Checkpoint { "checkpoint" } else { "event" };
            let head = format!(
                "{{\"segment\":{segment},\"position\":{position},\"record\":\"{record}\",\"more\":{more},\"len_bytes\":{},\"event\":",
                payload.len()
            );
            let mut line = head.into_bytes();
            event_json(Some(*seq), &reading::event(&RawRecord { seq: *seq, ts_recv: *ts_recv, payload }), &mut line);
            line.push(b'}');
            line
        }
        Dumped::Damage(damage) => json!({ "damage": damage_json(damage) }).to_string().into_bytes(),
        Dumped::Hole(hole) => json!({ "hole": hole_json(hole) }).to_string().into_bytes(),
    };
    line.push(b'\n');
    line
}

fn damage_json(damage: &Damage) -> serde_json::Value {
    json!({ "segment": damage.segment, "from_byte": damage.bytes.start, "to_byte": damage.bytes.end })
}

fn hole_json(hole: &Hole) -> serde_json::Value {
    json!({ "from_seq": hole.from_seq, "to_seq": hole.to_seq })
}

fn holes_json(holes: &[Hole]) -> Vec<serde_json::Value> {
    holes.iter().map(hole_json).collect()
}

fn print_holes(holes: &[Hole], out: &mut Out) -> anyhow::Result<()> {
    holes.iter().try_for_each(|hole| out.line(format!("hole     records {} to {}", hole.from_seq, hole.to_seq)))
}

/// One line of progress on a terminal; nothing elsewhere.
struct Bar {
    terminal: bool,
}

impl Bar {
    fn new() -> Self {
        Bar { terminal: std::io::stderr().is_terminal() }
    }

    fn draw(&mut self, progress: Progress) {
        if self.terminal {
            let (done, all) = (progress.segments_done, progress.segments);
            let bytes = about_bytes(progress.bytes_done);
            // A console that is gone is no reason to stop the check.
            let _ = write!(std::io::stderr(), "\r\x1b[2Ksegment {done} of {all}, {bytes} read");
        }
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
