//! `tapedeck sync status`: how far each table is.

use serde_json::{Value, json};
use tapedeck_market::UnixNanos;

use super::usage::Usage;
use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::paused::Paused;
use crate::sync::state::{State, TableState, rate, success_ratio};

/// Show how far each table is, and what was refused
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let set = Set::load(global)?;
        let Some(state) = State::look(&set.folder)? else {
            let text = format!("nothing was synced yet: there is no state in {}", set.folder.display());
            return Err(End::Absent(text).into());
        };
        let wanted = |table: &TableState| self.tables.names.is_empty() || self.tables.names.contains(&table.name);
        let tables: Vec<TableState> = state.tables()?.into_iter().filter(wanted).collect();
        let running = State::is_taken(&set.folder);
        let paused = Paused::read(&set.folder);
        let usage = State::taken_by(&set.folder).and_then(Usage::of);
        let now = UnixNanos::now();
        if self.json {
            return out.json(&json(&tables, &paused, running, usage, now));
        }
        out.line(match usage {
            Some(usage) => {
                format!("a sync is running: {:.0} MiB, {:.1} % of a core", usage.memory_mib, usage.cpu_percent)
            }
            None if running => "a sync is running".to_owned(),
            None => "no sync is running".to_owned(),
        })?;
        let rows: Vec<Vec<String>> = tables
            .iter()
            .map(|table| {
                let age = |at: Option<UnixNanos>| {
                    at.map_or_else(|| "never".to_owned(), |at| format!("{:.0} s ago", seconds(now, at)))
                };
                vec![
                    table.name.clone(),
                    table.collection.clone(),
                    (table.synced + table.failed).to_string(),
                    table.synced.to_string(),
                    table.failed.to_string(),
                    table.total.unchanged.to_string(),
                    table.gone.to_string(),
                    format!("{:.0}/s", table.rate()),
                    format!("{:.2} %", table.success_ratio() * 100.0),
                    age(table.last),
                    age(table.good),
                ]
            })
            .collect();
        let headings = [
            "TABLE",
            "COLLECTION",
            "RECORDS",
            "SYNCED",
            "FAILED",
            "UNCHANGED",
            "GONE",
            "RATE",
            "SUCCESS",
            "LAST WRITE",
            "AS OF",
        ];
        out.table(&headings, &rows)?;
        for table in &tables {
            if paused.holds(&table.name) {
                out.line(format!("{}: waits, until `tapedeck sync pause --resume`", table.name))?;
            }
            if let Some(trouble) = &table.trouble {
                out.line(format!("{}: {trouble}", table.name))?;
            }
            if table.total.doubled > 0 {
                out.line(format!("{}: {} rows so far had the key of another row", table.name, table.total.doubled))?;
            }
            for (rule, count) in state.reasons(&table.name)?.into_iter().take(5) {
                out.line(format!("{}: {count} refused: {rule}", table.name))?;
            }
        }
        out.flush()
    }
}

fn seconds(now: UnixNanos, then: UnixNanos) -> f64 {
    (now.0 - then.0) as f64 / 1e9
}

/// In percent, as the predecessor had it.
pub(super) fn success_rate(synced: u64, failed: u64) -> f64 {
    success_ratio(synced, failed) * 100.0
}

/// With the predecessor's names where it had one.
fn json(tables: &[TableState], paused: &Paused, running: bool, usage: Option<Usage>, now: UnixNanos) -> Value {
    let sum = |of: &dyn Fn(&TableState) -> u64| tables.iter().map(of).sum::<u64>();
    let (synced, failed) = (sum(&|table| table.synced), sum(&|table| table.failed));
    let busy_ms = sum(&|table| table.total.busy_ms);
    let list: Vec<Value> = tables
        .iter()
        .map(|table| {
            json!({
                "table": table.name, "collection": table.collection,
                "total": table.synced + table.failed, "synced": table.synced, "failed": table.failed, "gone": table.gone,
                "processed": table.total.seen, "sent": table.total.sent, "unchanged": table.total.unchanged,
                "equal_keys": table.total.doubled, "taken_away": table.total.removed, "polls": table.polls,
                "lag_seconds": table.lag_seconds(now), "paused": paused.holds(&table.name),
                "newest": table.newest.map(|at| at.to_string()),
                "last_sync_time": table.last.map(|at| at.to_string()),
                "last_look": table.looked.map(|at| at.to_string()),
                "records_per_second": table.rate(),
                "success_rate": success_rate(table.synced, table.failed),
                "trouble": table.trouble,
            })
        })
        .collect();
    json!({
        "timestamp": now.to_string(),
        "tables": list,
        "statistics": {
            "total_records_processed": sum(&|table| table.total.seen),
            "records_synced": synced, "records_failed": failed,
            "sync_duration_seconds": busy_ms as f64 / 1e3,
            "records_per_second": rate(sum(&|table| table.total.seen), busy_ms),
            "success_rate": success_rate(synced, failed),
            "last_sync_time": tables.iter().filter_map(|table| table.last).max().map(|at| at.to_string()),
            "streaming_active": running, "is_running": running,
        },
        "resources": usage.map(|usage| json!({
            "memory_mb": usage.memory_mib, "cpu_percent": usage.cpu_percent, "cpu_seconds": usage.cpu_seconds,
        })),
    })
}
