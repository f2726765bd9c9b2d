//! `tapedeck sync status`: how far each table is.

use serde_json::{Value, json};
use tapedeck_market::UnixNanos;

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::state::{State, TableState};

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
        let now = UnixNanos::now();
        if self.json {
            return out.json(&json(&tables, running, now));
        }
        out.line(if running { "a sync is running" } else { "no sync is running" })?;
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
                    table.gone.to_string(),
                    format!("{:.2} %", success_rate(table.synced, table.failed)),
                    age(table.last),
                    age(table.looked),
                ]
            })
            .collect();
        let headings =
            ["TABLE", "COLLECTION", "RECORDS", "SYNCED", "FAILED", "GONE", "SUCCESS", "LAST WRITE", "LAST LOOK"];
        out.table(&headings, &rows)?;
        for table in &tables {
            if let Some(trouble) = &table.trouble {
                out.line(format!("{}: {trouble}", table.name))?;
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

/// What was refused counts against it.
pub(super) fn success_rate(synced: u64, failed: u64) -> f64 {
    let all = synced + failed;
    if all == 0 { 100.0 } else { synced as f64 * 100.0 / all as f64 }
}

/// With the predecessor's names where it had one.
pub(super) fn json(tables: &[TableState], running: bool, now: UnixNanos) -> Value {
    let sum = |of: &dyn Fn(&TableState) -> u64| tables.iter().map(of).sum::<u64>();
    let (synced, failed) = (sum(&|table| table.synced), sum(&|table| table.failed));
    let busy = sum(&|table| table.total.busy_ms) as f64 / 1e3;
    let rate = |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let list: Vec<Value> = tables
        .iter()
        .map(|table| {
            json!({
                "table": table.name, "collection": table.collection,
                "total": table.synced + table.failed, "synced": table.synced, "failed": table.failed, "gone": table.gone,
                "processed": table.total.seen, "sent": table.total.sent, "unchanged": table.total.unchanged,
                "taken_away": table.total.removed,
                "lag_seconds": table.looked.filter(|_| table.trouble.is_some()).map(|at| seconds(now, at)),
                "newest": table.newest.map(|at| at.to_string()),
                "last_sync_time": table.last.map(|at| at.to_string()),
                "last_look": table.looked.map(|at| at.to_string()),
                "records_per_second": rate(table.total.seen, table.total.busy_ms as f64 / 1e3),
                "success_rate": success_rate(table.synced, table.failed),
                "trouble": table.trouble,
            })
        })
        .collect();
    json!({
        "tables": list,
        "statistics": {
            "total_records_processed": sum(&|table| table.total.seen),
            "records_synced": synced, "records_failed": failed,
            "sync_duration_seconds": busy,
            "records_per_second": rate(sum(&|table| table.total.seen), busy),
            "success_rate": success_rate(synced, failed),
            "last_sync_time": tables.iter().filter_map(|table| table.last).max().map(|at| at.to_string()),
            "streaming_active": running, "is_running": running,
        },
    })
}
