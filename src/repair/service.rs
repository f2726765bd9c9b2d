//! Filling: beside a running deck for as long as it runs, or once, until nothing is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::{GapState, SmolStr, UnixNanos};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Cursor, Item, Reader, Start, Tail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::filler::{Behind, Filler, Step};
use super::ledger::Ledger;
use crate::config::{Config, KindTable};
use crate::intake::Outlet;
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Shown, Stage};
use crate::sources::history::NotYet;
use crate::sources::{self, KINDS, Waiting};

/// A feed that has just gone on still delivers what it sends at its beginning.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the tape is looked at when nothing is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After a failed request, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// While the last candle of a hole still runs, or the venue's past is behind its feed.
const RUNS: Duration = Duration::from_secs(5);
/// Records that are read before others get their turn.
const SLICE: usize = 20_000;
/// A cursor is moved this often.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Fills the holes of the sources that say `repair = true`.
pub const KIND: ServiceKind = ServiceKind {
    name: "repair",
    stage: Stage::Derive,
    holds: Holds::Nothing,
    section: |config| {
        let tables: toml::Table =
            wanted(config).map(|source| (source.name.to_string(), source.table.clone().into())).collect();
        (!tables.is_empty()).then(|| tables.into())
    },
    build: |setup: &Setup| {
        let tasks = wanted(&setup.config).map(|source| Task::of(source, &setup.dir)).collect::<anyhow::Result<_>>()?;
        Ok(Box::new(Repair { tasks }))
    },
};

fn wanted(config: &Config) -> impl Iterator<Item = &KindTable> {
    config.sources.iter().filter(|source| source.table.get("repair").and_then(toml::Value::as_bool) == Some(true))
}

/// What a source needs to be filled.
#[derive(Clone, Debug)]
pub struct Task {
    kind: &'static sources::Kind,
    pub name: SmolStr,
    table: toml::Table,
    dir: PathBuf,
}

/// What was done, and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Holes that are over and have no last word.
    pub left: u64,
    pub repaired: u64,
    pub unrepairable: u64,
    /// Events that the venues gave.
    pub fetched: u64,
}

impl Task {
    /// # Errors
    /// Nothing that such a source records has a past.
    pub fn of(source: &KindTable, dir: &std::path::Path) -> anyhow::Result<Task> {
        let kind = KINDS.iter().find(|kind| kind.name == source.kind && kind.history.is_some());
        let kind = kind.with_context(|| {
            let able = KINDS.iter().filter(|kind| kind.history.is_some()).map(|kind| kind.name).collect::<Vec<_>>();
            format!("[source.{}]: nothing is kept for `{}`; for {} it is", source.name, source.kind, able.join(", "))
        })?;
        Ok(Task { kind, name: source.name.clone(), table: source.table.clone(), dir: dir.to_owned() })
    }

    /// What asks the venue.
    ///
    /// # Errors
    /// The table is wrong, or credentials are missing.
    pub fn history(&self) -> anyhow::Result<Box<dyn sources::history::History>> {
        let setup = sources::Setup { name: self.name.clone(), table: self.table.clone(), dir: self.dir.clone() };
        let history = self.kind.history.with_context(|| format!("`{}` keeps no past", self.kind.name))?;
        history(setup)
    }
}

struct Repair {
    tasks: Vec<Task>,
}

#[async_trait]
impl Service for Repair {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let out = desk.out.clone().context("there is no way to the recorder")?;
        let mut running = JoinSet::new();
        desk.shown.set_state("running");
        let all = Arc::new(Mutex::new(BTreeMap::new()));
        for task in self.tasks.clone() {
            let (tape, dir, out) = (desk.tape.clone(), desk.dir.clone(), out.clone());
            let (shown, stop, all) = (desk.shown.clone(), stop.clone(), all.clone());
            running.spawn(async move {
                let mut filling = Filling::follow(&task, &dir, tape)?;
                filling
                    .run(&task, &out, &stop, &mut |figures, state| show(&shown, &all, &task.name, figures, state))
                    .await
            });
        }
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// All figures of a source under its name; the sums of all sources beside them, for metrics.
fn show(shown: &Shown, all: &Mutex<BTreeMap<SmolStr, Figures>>, source: &SmolStr, figures: Figures, state: &str) {
    let of = |figures: Figures| {
        let Figures { left, repaired, unrepairable, fetched } = figures;
        [("left", left), ("repaired", repaired), ("unrepairable", unrepairable), ("fetched", fetched)]
    };
    let mut own: Map<String, Value> =
        of(figures).into_iter().map(|(key, number)| (key.to_owned(), number.into())).collect();
    own.insert("state".to_owned(), state.into());
    shown.set(source, own);
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(source.clone(), figures);
    let mut sums = Figures::default();
    for figures in all.values() {
        sums.left += figures.left;
        sums.repaired += figures.repaired;
        sums.unrepairable += figures.unrepairable;
        sums.fetched += figures.fetched;
    }
    of(sums).into_iter().for_each(|(key, number)| shown.set(key, number));
}

/// Fills the holes of a source within a span, once, and tells how it goes.
///
/// # Errors
/// The venue does not answer again and again, only a person can help, or the tape cannot be read or written.
pub async fn fill(
    task: &Task,
    span: (UnixNanos, UnixNanos),
    tape: Arc<Tail>,
    out: &Outlet,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Figures, &str) + Send),
) -> anyhow::Result<Figures> {
    let mut filling = Filling::once(task, &task.dir, span, tape)?;
    filling.run(task, out, stop, tell).await?;
    Ok(filling.figures)
}

/// The work on one source.
struct Filling {
    reader: Reader,
    ledger: Ledger,
    tape: Arc<Tail>,
    /// Where a later start begins; nowhere when it is done once.
    cursor: Option<Cursor>,
    committed: Instant,
    figures: Figures,
}

impl Filling {
    fn follow(task: &Task, dir: &std::path::Path, tape: Arc<Tail>) -> anyhow::Result<Filling> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let id = tapedeck_tape::tools::id(&storage, dir).context("reading the tape's id")?;
        let name = format!("repair.{}", task.name);
        let cursor = Cursor::open(&*storage, dir, &name, id, tape.seq()).context("opening the cursor")?;
        // Of the segment, with what was known when it began: the trades before a hole, too.
        let start = Start::Segment(cursor.seq().max(1));
        let span = (UnixNanos(i64::MIN), UnixNanos(i64::MAX));
        Filling::begin(task, dir, span, tape, start, Some(cursor))
    }

    fn once(
        task: &Task,
        dir: &std::path::Path,
        span: (UnixNanos, UnixNanos),
        tape: Arc<Tail>,
    ) -> anyhow::Result<Filling> {
        Filling::begin(task, dir, span, tape, Start::Segment(1), None)
    }

    fn begin(
        task: &Task,
        dir: &std::path::Path,
        span: (UnixNanos, UnixNanos),
        tape: Arc<Tail>,
        start: Start,
        cursor: Option<Cursor>,
    ) -> anyhow::Result<Filling> {
        let reader = Reader::open_with(Arc::new(Disk), dir, start, tape.clone()).context("reading the tape")?;
        let mut ledger = Ledger::new(task.name.clone(), span);
        reader.checkpoint().iter().for_each(|payload| ledger.take_known(payload));
        Ok(Filling { reader, ledger, tape, cursor, committed: Instant::now(), figures: Figures::default() })
    }

    async fn run(
        &mut self,
        task: &Task,
        out: &Outlet,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(Figures, &str) + Send),
    ) -> anyhow::Result<()> {
        let venue = SmolStr::new_static(task.kind.name);
        let own = out.of(task.name.clone(), venue);
        let mut filler: Option<Filler> = None;
        // Why the last hole that rests could not be filled.
        let mut trouble: Option<anyhow::Error> = None;
        while !stop.is_cancelled() {
            // Files are read: not where others wait for their turn.
            let at_end = tokio::task::block_in_place(|| self.read())?;
            self.figures.left = self.ledger.left();
            if !at_end {
                tell(self.figures, "reading the tape");
                continue;
            }
            let settled = if self.cursor.is_some() { UnixNanos::now() - SETTLE } else { UnixNanos(i64::MAX) };
            let Some(noted) = self.ledger.next(settled, Instant::now()).cloned() else {
                self.commit()?;
                if self.cursor.is_none() && self.figures.left == 0 {
                    return Ok(());
                }
                match &trouble {
                    Some(error) if self.figures.left > 0 => tell(self.figures, &format!("{error:#}")),
                    _ => tell(self.figures, "idle"),
                }
                wait(LOOK_EVERY, stop).await;
                continue;
            };
            let ledger = &self.ledger;
            let stepped = async {
                if filler.is_none() {
                    filler = Some(Filler::new(task.history()?, own.clone()).await?);
                }
                filler.as_mut().context("nobody to ask")?.step(&noted, |event| ledger.is_known(event)).await
            };
            let stepped = tokio::select! {
                stepped = stepped => stepped,
                // What was fetched and not recorded is fetched again.
                () = stop.cancelled() => return Ok(()),
            };
            match stepped {
                Ok(Step::Went { events }) => self.figures.fetched += events,
                Ok(Step::Done { events, state }) => {
                    self.figures.fetched += events;
                    *match state {
                        GapState::Repaired => &mut self.figures.repaired,
                        _ => &mut self.figures.unrepairable,
                    } += 1;
                    self.ledger.done(noted.hole.gap.id);
                    trouble = None;
                    self.commit()?;
                }
                Err(error) if error.is::<crate::intake::Stopped>() => return Err(error),
                // Nobody mends it while this waits.
                Err(error) if self.cursor.is_none() && error.is::<Waiting>() => return Err(error),
                Err(error) => {
                    // A candle that still runs is over soon, and a past that is behind comes: no failures of which one may tire.
                    let late = error.is::<NotYet>() || error.is::<Behind>();
                    let (first, longest) = if late { (RUNS, RUNS) } else { (FIRST_PAUSE, LONGEST_PAUSE) };
                    let pause = self.ledger.rest(noted.hole.gap.id, Instant::now(), first, longest);
                    if self.cursor.is_none() && pause >= LONGEST_PAUSE {
                        return Err(error);
                    }
                    if pause == FIRST_PAUSE && trouble.is_none() && !late {
                        tracing::warn!(source = %task.name, error = format!("{error:#}"), "the past is asked for again");
                    }
                    if error.is::<Waiting>() {
                        // Credentials are read anew.
                        filler = None;
                    }
                    trouble = Some(error);
                    // Others rest a moment too: it may be the venue that is away.
                    if !late {
                        wait(FIRST_PAUSE, stop).await;
                    }
                }
            }
            self.figures.left = self.ledger.left();
            tell(self.figures, "filling");
        }
        Ok(())
    }

    /// Reads a slice of what is there; says whether that was all.
    fn read(&mut self) -> anyhow::Result<bool> {
        if self.reader.seq() > self.tape.seq() {
            return Ok(true);
        }
        for _ in 0..SLICE {
            match self.reader.next().context("reading the tape")? {
                Some(Item::Record(record)) => self.ledger.take_payload(record.seq, record.payload),
                Some(Item::Hole(_)) => {}
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Moves the cursor up to the oldest hole that is not filled.
    fn commit(&mut self) -> anyhow::Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let read = self.reader.seq().saturating_sub(1);
        let seq = self.ledger.begins().map_or(read, |first| first.saturating_sub(1)).min(read);
        if seq > cursor.seq() && self.committed.elapsed() >= COMMIT_EVERY {
            self.committed = Instant::now();
            cursor.commit(seq, &[]).context("moving the cursor")?;
        }
        Ok(())
    }
}

async fn wait(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
