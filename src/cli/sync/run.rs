//! `tapedeck sync run`: everything that is new, once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Set, Since, Tables, stop_at_signal};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::work::Work;
use crate::sync::pass::{How, Pass, Shop, Table};
use crate::sync::source::Source;
use crate::sync::watch::{self, Open};
use crate::sync::{Class, Trouble};

const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Bring over what is new, and end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// At most so many rows of each table
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// `now`: leave out what is there already, where nothing was synced yet; `beginning`: no more
    #[arg(long)]
    from: Option<Since>,
    /// Say what would be written and taken away, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Show queries, transforms and requests
    #[arg(long)]
    debug: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a table.
struct Outcome {
    name: String,
    collection: String,
    result: Result<Pass, Trouble>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let mut global = global.clone();
        global.verbose += if self.debug { 3 } else { 0 };
        global.start_quiet_logs()?;
        let set = Set::load(&global)?;
        let tables = set.tables(&self.tables)?;
        let began = Instant::now();
        let outcomes = super::super::block_on(async {
            let stop = stop_at_signal()?;
            let seen = Arc::new(AtomicU64::new(0));
            let counted = seen.clone();
            let told = Arc::new(move |_: &str, figures: crate::sync::state::Figures, _: u64| {
                counted.fetch_add(figures.seen, Ordering::Relaxed);
            });
            let shop = set.shops(told, stop)?;
            let how = How { limit: self.limit, dry: self.dry_run, from: self.from.map(Into::into) };
            let turns = Arc::new(Semaphore::new(set.manner.concurrency));
            let all = Arc::new(AtomicU64::new(0));
            let mut running = JoinSet::new();
            for (name, settings) in &tables {
                let table = set.table(name, settings);
                let task = Once {
                    open: set.open(),
                    shop: shop(settings),
                    base: set.base.clone(),
                    how,
                    retries: set.config.retries,
                    retry: set.manner.retry,
                    all: all.clone(),
                };
                let turns = turns.clone();
                running.spawn(async move {
                    let _turn = turns.acquire_owned().await;
                    task.run(table).await
                });
            }
            let mut work = Work::new();
            let mut outcomes = Vec::new();
            while !running.is_empty() {
                tokio::select! {
                    done = running.join_next() => outcomes.extend(done.transpose()?),
                    () = tokio::time::sleep(DRAW_EVERY) => {}
                }
                let all = all.load(Ordering::Relaxed);
                work.tell("rows", seen.load(Ordering::Relaxed), (all > 0).then_some(all));
            }
            work.end();
            outcomes.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(outcomes)
        })?;
        self.print(&outcomes, began.elapsed(), out)?;
        out.flush()?;
        let failed = outcomes.iter().any(|outcome| outcome.result.is_err());
        if failed { Err(End::Found.into()) } else { Ok(()) }
    }

    fn print(&self, outcomes: &[Outcome], took: Duration, out: &mut Out) -> anyhow::Result<()> {
        if self.json {
            return out.json(&json(outcomes, took));
        }
        let mut rows = Vec::new();
        for Outcome { name, collection, result } in outcomes {
            let row = match result {
                Ok(pass) => {
                    let figures = pass.figures;
                    let numbers =
                        [figures.seen, figures.sent, figures.unchanged, pass.failed, pass.gone, figures.removed];
                    let mut row = vec![name.clone(), collection.clone()];
                    row.extend(numbers.map(|number| number.to_string()));
                    row
                }
                Err(_) => vec![name.clone(), collection.clone(), "failed, see below".to_owned()],
            };
            rows.push(row);
        }
        let sent = if self.dry_run { "WOULD SEND" } else { "SENT" };
        out.table(&["TABLE", "COLLECTION", "ROWS", sent, "UNCHANGED", "REFUSED", "GONE", "TAKEN AWAY"], &rows)?;
        for Outcome { name, result, .. } in outcomes {
            match result {
                Ok(pass) => {
                    for note in &pass.notes {
                        out.line(format!("{name}: {note}"))?;
                    }
                    if pass.failed > 0 {
                        out.line(format!("{name}: {} refused; tapedeck sync dead --table {name}", pass.failed))?;
                    }
                    if pass.cut && !self.dry_run {
                        out.line(format!("{name}: ended before its end; run again to go on"))?;
                    }
                }
                Err(trouble) => out.line(format!("{name}: {trouble}"))?,
            }
        }
        Ok(())
    }
}

/// The predecessor's names: `{collection: {synced, total}}`, and the statistics of all.
fn json(outcomes: &[Outcome], took: Duration) -> Value {
    let mut collections = Map::new();
    let (mut total, mut synced, mut failed) = (0, 0, 0);
    for Outcome { name, collection, result } in outcomes {
        let said = match result {
            Ok(pass) => {
                let good = pass.synced();
                total += pass.figures.seen;
                synced += good;
                failed += pass.failed;
                json!({"table": name, "synced": good, "total": pass.figures.seen, "sent": pass.figures.sent,
                    "unchanged": pass.figures.unchanged, "equal_keys": pass.figures.doubled, "failed": pass.failed, "gone": pass.gone,
                    "taken_away": pass.figures.removed, "notes": pass.notes, "cut": pass.cut})
            }
            Err(trouble) => {
                json!({"table": name, "synced": 0, "total": 0, "error": trouble.to_string(), "class": trouble.class.as_str()})
            }
        };
        collections.insert(collection.clone(), said);
    }
    let seconds = took.as_secs_f64();
    json!({
        "collections": collections,
        "statistics": {
            "total_records_processed": total, "records_synced": synced, "records_failed": failed,
            "sync_duration_seconds": seconds,
            "records_per_second": if seconds > 0.0 { total as f64 / seconds } else { 0.0 },
            "success_rate": super::status::success_rate(synced, failed),
        },
    })
}

/// One table, until it is done or has failed too often.
struct Once {
    open: Open,
    shop: Shop,
    base: std::path::PathBuf,
    how: How,
    retries: u32,
    retry: Duration,
    /// Rows that there are to look at, as far as that is known.
    all: Arc<AtomicU64>,
}

impl Once {
    async fn run(self, mut table: Table) -> Outcome {
        let mut source: Option<Box<dyn Source>> = None;
        let mut failures = 0;
        self.count(&table).await;
        let result = loop {
            let before = table.broken.figures;
            // A look that broke off has used up some of what there may be.
            let limit = self.how.limit.map(|limit| limit.saturating_sub(before.seen));
            let how = How { limit, ..self.how };
            let looked = watch::look(&mut table, &mut source, &self.open, &self.shop, &self.base, how).await;
            if table.broken.figures.seen > before.seen {
                failures = 0;
            }
            match looked {
                Err(trouble) if trouble.passes() && failures < self.retries && !self.shop.stop.is_cancelled() => {
                    let wait = watch::waiting(&trouble, self.retry, failures);
                    failures += 1;
                    tracing::warn!(table = %table.name, attempt = failures, wait_ms = wait.as_millis() as u64, "{trouble}");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.shop.stop.cancelled() => {}
                    }
                }
                other => break other.map(|pass| pass.with(&table.broken)),
            }
        };
        watch::note(&self.shop, &table, result.as_ref().err());
        let collection = table.settings.collection_of(&table.name);
        let result = result.and_then(|pass| {
            if pass.cut && self.how.limit.is_none() {
                return Err(Trouble::new(Class::Own, "stopped; what was written stays, run again to go on"));
            }
            Ok(pass)
        });
        Outcome { name: table.name, collection, result }
    }

    /// How many rows there are, for the bar; nothing depends on it.
    async fn count(&self, table: &Table) {
        // Of a first load, or of what is left of one: what a later look reads nobody knows before.
        let span = {
            let state = self.shop.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(Some(span)) = state.first_load(&table.name) else { return };
            span
        };
        let Ok(mut source) = (self.open)() else { return };
        if let Ok(days) = source.days(&table.name, span).await {
            let rows: u64 = days.iter().map(|day| day.rows).sum();
            self.all.fetch_add(self.how.limit.map_or(rows, |limit| rows.min(limit)), Ordering::Relaxed);
        }
    }
}
