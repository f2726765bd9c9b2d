//! `tapedeck health`: is everything up, and how much of the time was it?

mod availability;
mod outside;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tapedeck_market::SmolStr;

use crate::cli::Global;
use crate::cli::check::ask_stores;
use crate::cli::exit::End;
use crate::cli::out::{self, Mark, Out};
use crate::cli::reading;
use crate::cli::validate::deck;
use crate::cli::verdict::{Verdict, is_well, print};
use crate::config::units::{ByteSize, Interval};
use crate::config::{Config, KindTable};
use crate::status::Status;
use availability::{Availability, DAY, HOUR};

/// A source that was whole for less of the last hour is something to look at.
const SHARE_WANTED: f64 = 0.99;

const EXAMPLES: &str = "\
Examples:
  tapedeck health                  servers, deck, ports, rate, stores, and how much of the last hour and day was recorded
  tapedeck health monitor          again every 30 s, until Ctrl-C
  tapedeck health --watch --every 10s --json

What waits for credentials is shown apart: it is no fault.

Exit codes: 0 all is well, 1 something is wrong, 2 the config or the command line, 4 there is neither a deck nor a tape.";

/// Is everything up: servers, deck, ports, rate, stores; and how much of the time was it?
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Once, or again and again
    #[arg(value_enum, default_value = "check")]
    what: What,
    /// As `monitor`
    #[arg(long)]
    watch: bool,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "30s")]
    every: Interval,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Less room than this on the tape's disk is a fault
    #[arg(long, value_name = "SIZE", default_value = "1 GiB")]
    min_free: ByteSize,
    /// Print JSON: one object a look
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Look once
    Check,
    /// Look every 30 seconds
    Monitor,
}

/// What the last look saw, for rates and for the share of looks that found all well.
#[derive(Debug, Default)]
struct Before {
    looks: u64,
    well: u64,
    events: Option<(Instant, u64)>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = Arc::new(global.load()?.config);
        let goes_on = self.watch || self.what == What::Monitor;
        if goes_on {
            out::end_with_reader()?;
        }
        let mut before = Before::default();
        loop {
            let begun = Instant::now();
            let verdicts = super::block_on(look(&config, self.min_free, &mut before))?;
            let well = is_well(&verdicts);
            before.looks += 1;
            before.well += u64::from(well);
            if self.json {
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let (looks, looks_well) = (before.looks, before.well);
                out.json(&json!({ "ok": well, "took_ms": took_ms, "looks": looks, "looks_well": looks_well, "findings": verdicts }))?;
            } else {
                if goes_on {
                    let share = before.well as f64 / before.looks as f64 * 100.0;
                    out.line(format!(
                        "--- {}: {} of {} looks well ({share:.1} %)",
                        tapedeck_market::UnixNanos::now(),
                        before.well,
                        before.looks
                    ))?;
                }
                print(&verdicts, out)?;
            }
            out.flush()?;
            if !goes_on || self.count.is_some_and(|count| before.looks >= count) {
                return if well { Ok(()) } else { Err(End::Found.into()) };
            }
            std::thread::sleep(self.every.0.saturating_sub(begun.elapsed()));
        }
    }
}

async fn look(config: &Arc<Config>, floor: ByteSize, before: &mut Before) -> anyhow::Result<Vec<Verdict>> {
    let dir = &config.tape.dir;
    let status = deck::status(config).await;
    let there = tapedeck_tape::tools::id(&crate::cli::reading::disk(), dir).is_ok();
    if status.is_none() && !there {
        if let Some(refused) = reading::may_not_read(dir, "health") {
            return Err(refused);
        }
        if config.servers.is_empty() {
            return Err(reading::nothing_there(dir, "health"));
        }
    }
    let tables: Vec<&KindTable> = config.sinks.iter().collect();
    let (runs, folder) = (status.is_some(), dir.clone());
    let sources: Vec<SmolStr> = config.sources.iter().map(|source| source.name.clone()).collect();
    let ledger =
        tokio::task::spawn_blocking(move || if there { Availability::of(&folder, runs, &sources) } else { Ok(None) });
    let (servers, ports, stores, ledger) = tokio::join!(
        outside::servers(config),
        outside::ports(config, status.as_ref()),
        ask_stores(&tables, dir),
        ledger
    );
    let mut verdicts = outside::supervisor(config);
    verdicts.extend(servers);
    verdicts.extend(deck::look(config, status.as_ref(), floor));
    verdicts.extend(ports);
    verdicts.extend(status.as_ref().map(|status| rate(status, before)));
    verdicts.extend(stores.into_iter().map(|finding| {
        let bad = finding.result == Mark::Bad;
        let next = if bad {
            format!("tapedeck validate stores {}", finding.what.trim_start_matches("sink."))
        } else {
            String::new()
        };
        Verdict::new(finding.what, finding.result, finding.text).next(next)
    }));
    match ledger {
        Ok(Ok(Some(availability))) => verdicts.extend(shares(config, status.as_ref(), &availability)),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => verdicts.push(Verdict::bad("availability", format!("{error:#}"), "tapedeck tape verify")),
        Err(error) => verdicts.push(Verdict::bad("availability", format!("reading the ledger failed: {error}"), "")),
    }
    Ok(verdicts)
}

/// How fast data comes in: over the time since the last look, or as the deck has it.
fn rate(status: &Status, before: &mut Before) -> Verdict {
    let now = Instant::now();
    let since = before.events.replace((now, status.events));
    let over = since.and_then(|(at, events)| {
        let span = now.duration_since(at).as_secs_f64();
        (span > 0.0).then(|| status.events.saturating_sub(events) as f64 / span)
    });
    let rate = over.unwrap_or(status.rate);
    let text = format!("{rate:.1} events/s, {} in all", status.events);
    let live = status.sources.iter().any(|source| source.state == "live");
    let verdict = if rate == 0.0 && live && over.is_some() {
        Verdict::warn(
            "ingestion",
            format!("{text}: nothing came since the last look"),
            "tapedeck validate zmq; tapedeck check",
        )
    } else {
        Verdict::good("ingestion", text)
    };
    verdict.figure("rate", rate).figure("events", status.events)
}

/// Of each source the share of time without an open gap.
fn shares(config: &Config, status: Option<&Status>, availability: &Availability) -> Vec<Verdict> {
    let of = |source: &KindTable| {
        let what = format!("availability.{}", source.name);
        let share = |span: Duration| availability.share(&source.name, span);
        let unheard = availability.is_unheard(&source.name);
        let never = unheard && availability.is_of_all();
        let (hour, day) = if never { (None, None) } else { (share(HOUR), share(DAY)) };
        let shown = |share: Option<f64>| {
            share.map_or_else(|| "not read (too many records)".to_owned(), |share| format!("{:.3} %", share * 100.0))
        };
        let young = if availability.begins_within(DAY) { " (as far as the tape goes)" } else { "" };
        // A quiet source was there all the same.
        let quiet = if unheard { "; nothing came in that time" } else { "" };
        let text = match never {
            true => "nothing recorded yet".to_owned(),
            false => format!("{} of the last hour, {} of the last day{young}{quiet}", shown(hour), shown(day)),
        };
        let waits = status.is_some_and(|status| {
            status
                .sources
                .iter()
                .any(|run| run.name.split('/').next() == Some(&source.name) && run.state.starts_with("waiting"))
        });
        let next = format!("tapedeck gaps --totals --since 1d --source {}", source.name);
        let verdict = if waits {
            Verdict::waits(what, text, format!("tapedeck check {}", source.name))
        } else if never {
            Verdict::warn(what, text, format!("tapedeck check {}", source.name))
        } else if hour.is_some_and(|hour| hour < SHARE_WANTED) {
            Verdict::warn(what, text, next)
        } else {
            Verdict::good(what, text)
        };
        verdict.figure("hour", hour).figure("day", day)
    };
    config.sources.iter().map(of).collect()
}
