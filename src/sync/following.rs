//! All tables of a config followed together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tapedeck_market::UnixNanos;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Trouble;
use super::config::{Config, Manner};
use super::mapping::Settings;
use super::pass::{How, Pass, Shop, Table};
use super::pocketbase::{Client, PocketBase};
use super::state::{State, TableState};
use super::verify;
use super::watch::{Follow, Open, Pace, Told};

/// How often it is looked whether it is time to compare both sides.
const CLOCK: Duration = Duration::from_secs(5);
/// What differs is looked at again after two looks for what is new, or so long.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the resources of the process are said.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Tables that are followed, and what they share.
pub struct Following {
    config: Config,
    base: PathBuf,
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    client: Arc<Client>,
    /// What is told of each table, for status and metrics.
    pub shown: Arc<Said>,
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Following {
    /// Opens the folder; nobody else may have it.
    ///
    /// # Errors
    /// [`super::state::Taken`], or a key of the config that is wrong.
    pub fn new(config: Config, folder: PathBuf, base: PathBuf) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new(State::open(&folder)?));
        let client = Arc::new(Client::new(&config.target).context("[sync.target]")?);
        Ok(Following { config, base, folder, state, client, shown: Arc::default() })
    }

    /// Follows tables until `stop`.
    ///
    /// # Errors
    /// A key of the config that is wrong.
    pub async fn run(&self, tables: Vec<(String, Settings)>, how: How, stop: CancellationToken) -> anyhow::Result<()> {
        let manner = self.config.manner();
        let verify_at = self.config.verify_time()?;
        let source = self.config.source.clone();
        let open: Open = Arc::new(move || source.open());
        let shop = |settings: &Settings| Shop {
            state: self.state.clone(),
            target: Arc::new(target(&self.client, &manner, settings)),
            ends: self.config.ends(&self.client),
            told: Arc::new(|_, _, _| {}),
            stop: stop.clone(),
        };
        let turns = Arc::new(Semaphore::new(manner.concurrency));
        let mut running = JoinSet::new();
        for (name, settings) in &tables {
            let poll = settings.poll.map_or(manner.poll, |poll| poll.0);
            let follow = Follow {
                table: Table::new(name, settings.clone()),
                open: open.clone(),
                shop: shop(settings),
                base: self.base.clone(),
                folder: self.folder.clone(),
                pace: Pace { poll, wait: manner.retry },
                how,
                turns: turns.clone(),
                told: self.shown.clone(),
            };
            running.spawn(follow.run());
        }
        let comparing = async {
            let Some(at) = verify_at else { return std::future::pending().await };
            let now = || jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
            // Who is started after that time waits for tomorrow's.
            let mut last = (now().time() >= at).then(|| now().date());
            loop {
                tokio::time::sleep(CLOCK).await;
                let now = now();
                if now.time() >= at && last != Some(now.date()) {
                    last = Some(now.date());
                    self.compare(&tables, &shop, &open, &turns).await;
                }
            }
        };
        let saying = async {
            loop {
                tokio::time::sleep(SAY_EVERY).await;
                self.say();
            }
        };
        let ended = async {
            while let Some(done) = running.join_next().await {
                if let Err(error) = done {
                    tracing::error!("a table is followed no more, and nothing of it is lost: {error}");
                }
            }
        };
        tokio::select! {
            () = ended => Ok(()),
            () = comparing => Ok(()),
            () = saying => Ok(()),
        }
    }

    /// Both sides beside each other, told in the log.
    async fn compare(
        &self,
        tables: &[(String, Settings)],
        shop: &(dyn Fn(&Settings) -> Shop + Sync),
        open: &Open,
        turns: &Semaphore,
    ) {
        let manner = self.config.manner();
        for (name, settings) in tables {
            let Ok(mut source) = open() else { return };
            let mut table = Table::new(name, settings.clone());
            // Of today rows may be on their way; older ones may be while the comparison is made, so that it is made twice.
            let how = verify::How { before_ns: Some(midnight()), ..verify::How::default() };
            let shop = shop(settings);
            let mut found = verify::verify(&mut table, source.as_mut(), &shop, &self.base, how).await;
            if found.as_ref().is_ok_and(|found| !found.is_same()) {
                let poll = settings.poll.map_or(manner.poll, |poll| poll.0);
                tokio::time::sleep((2 * poll).max(AGAIN)).await;
                let how = verify::How { repair: self.config.verify_repair, alone: self.config.verify_repair, ..how };
                // What is put right must not be older than what a look sends meanwhile: nobody looks then.
                let all = if how.repair { u32::try_from(manner.concurrency).unwrap_or(u32::MAX) } else { 0 };
                let Ok(_turns) = turns.acquire_many(all).await else { return };
                found = verify::verify(&mut table, source.as_mut(), &shop, &self.base, how).await;
            }
            match found {
                Ok(found) if found.is_same() => {
                    tracing::info!(table = %name, rows = found.rows, "both sides are the same")
                }
                Ok(found) if self.config.verify_repair => tracing::warn!(
                    table = %name, missing = found.missing, different = found.different, surplus = found.surplus, gone = found.gone,
                    repaired = found.repaired, not_repaired = found.not_repaired, "both sides differed; written again"
                ),
                Ok(found) => tracing::warn!(
                    table = %name, missing = found.missing, different = found.different, surplus = found.surplus,
                    "both sides differ; `verify_repair = true` puts it right, or `tapedeck sync verify --repair --table {name}` \
                     while nobody follows it"
                ),
                Err(trouble) => tracing::warn!(table = %name, "comparing both sides: {trouble}"),
            }
        }
    }

    /// The tables as they are remembered, where that can be read.
    #[must_use]
    pub fn states(&self) -> Option<Vec<TableState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).tables().ok()
    }

    /// What is known of all tables together, where the state can be read.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        let mut figures = Figures::default();
        for table in self.states()? {
            figures.processed += table.total.seen;
            figures.synced += table.synced;
            figures.failed += table.failed;
            figures.gone += table.gone;
        }
        Some(figures)
    }

    /// The monitoring record: what was done, and what the process uses.
    fn say(&self) {
        let Some(Figures { processed, synced, failed, .. }) = self.figures() else { return };
        let all = (synced + failed).max(1);
        tracing::info!(
            total_records_processed = processed,
            records_synced = synced,
            records_failed = failed,
            success_rate = (synced as f64 * 10_000.0 / all as f64).round() / 100.0,
            memory_mib = crate::status::rss_bytes() >> 20,
            cpu_seconds = cpu_seconds(),
            streaming_active = true,
            "sync"
        );
    }
}

/// A table's own way into the target: how much goes at once is its own.
#[must_use]
pub fn target(client: &Arc<Client>, manner: &Manner, settings: &Settings) -> PocketBase {
    let batch = settings.batch.map_or(manner.batch, |batch| batch as usize);
    PocketBase::new(client.clone()).batches_of(batch).pause(manner.pause)
}

/// All tables together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows that were looked at, ever.
    pub processed: u64,
    pub synced: u64,
    pub failed: u64,
    pub gone: u64,
}

/// Beginning of the day, UTC.
fn midnight() -> i64 {
    const DAY_NS: i64 = 86_400_000_000_000;
    UnixNanos::now().0.div_euclid(DAY_NS) * DAY_NS
}

/// Of this process, until now.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + (time.tv_nsec as f64 / 1e7).round() / 100.0
}

/// What is told of the tables: the log, and figures for status and metrics.
#[derive(Debug, Default)]
pub struct Said {
    tables: Mutex<Map<String, Value>>,
}

impl Said {
    /// Figures by table.
    #[must_use]
    pub fn tables(&self) -> Map<String, Value> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, table: &str, value: Value) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), value);
    }
}

impl Told for Said {
    fn passed(&self, table: &str, pass: &Pass) {
        let figures = pass.figures;
        for note in &pass.notes {
            tracing::warn!(table, "{note}");
        }
        if figures.sent + figures.removed + pass.failed > 0 {
            tracing::info!(
                table, rows = figures.seen, sent = figures.sent, unchanged = figures.unchanged, refused = pass.failed,
                taken_away = figures.removed, by = ?pass.by, "synced"
            );
        } else {
            tracing::debug!(table, rows = figures.seen, by = ?pass.by, "nothing new");
        }
        let now = UnixNanos::now().to_string();
        self.put(table, json!({"state": "running", "rows": figures.seen, "sent": figures.sent, "looked": now}));
    }

    fn failed(&self, table: &str, trouble: &Trouble, wait: Duration) {
        tracing::warn!(table, class = trouble.class.as_str(), wait_ms = wait.as_millis() as u64, "{trouble}");
        self.put(table, json!({"state": "waiting", "trouble": trouble.to_string(), "class": trouble.class.as_str()}));
    }
}
