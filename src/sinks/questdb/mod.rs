//! `[sink.NAME]` with `kind = "questdb"`: QuestDB, by line protocol over HTTP into tables that are made here.
//!
//! ```text
//! records ─► by table ─► schema (made, looked at) ─► rows · points (one line a record) ─► parcel ─► POST /write ─► stored, or which not
//!                                                                   watch (restarted? suspended?) ─► deliver again
//! ```
//!
//! A row's identity is its time, its instrument and its place on the tape, which the tables keep apart (`DEDUP UPSERT KEYS`): a batch
//! that comes twice is there once.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use tapedeck_market::{Body, Point, Record, Uuid};
use tapedeck_tables::Table;

use super::{Batch, Kind, Opened, Refusal, Reject, Setup, Sink, SinkError};

mod audit;
mod candles;
mod check;
mod client;
mod config;
mod line;
mod names;
mod parcel;
mod points;
mod rows;
mod schema;
mod watch;

use client::Client;
use config::Config;
use line::NoLine;
use names::folded;
use parcel::{Parcel, Sent};
use rows::{Layout, identity};
use schema::{Known, Wanted};
use watch::Watch;

pub(super) const KIND: Kind = Kind {
    name: "questdb",
    about: "QuestDB 9.2 or newer: a table a kind of event, by line protocol over HTTP",
    build: |setup: Setup| {
        let config = Config::from_table(setup.table)?;
        let watch = Watch::of(&setup.dir, &setup.name, config.rewind.0, config.resume);
        let client = Client::of(&config)?;
        Ok(Box::new(Questdb { client, config, watch, tables: HashMap::new(), layouts: HashMap::new() }))
    },
    schema: || schemars::schema_for!(Config),
};

/// Most tables of points: a client that makes up names must not make tables without end.
const POINT_TABLES_MAX: usize = 1_000;
/// A table that is another one each time it is looked at is somebody else's affair.
const TRIES: usize = 4;

struct Questdb {
    config: Config,
    client: Client,
    watch: Watch,
    /// By [`folded`] name: as they were when they were looked at last.
    tables: HashMap<String, Known>,
    layouts: HashMap<Table, Layout>,
}

/// Records of a batch, by the table they go to.
#[derive(Default)]
struct Sorted {
    own: BTreeMap<Table, Vec<usize>>,
    /// In the order in which their tables were first met: of two names that differ by case, the first has the table.
    points: Vec<(String, Vec<usize>)>,
}

#[async_trait]
impl Sink for Questdb {
    async fn open(&mut self, _tape: Uuid) -> Result<Opened, SinkError> {
        // Which tables are ours says, for those of points, only what is known of them: it is asked before it is forgotten.
        let looked = self.look().await;
        if !matches!(looked, Err(SinkError::Waiting(_))) {
            // What was there before an outage may not be there now.
            self.tables.clear();
            self.layouts.clear();
        }
        looked.map(|()| Opened::NoMark)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut sorted = self.sort(batch);
        if batch.late
            && let Some(candles) = sorted.own.get_mut(&Table::Candles)
        {
            candles::leave_out_older(&self.client, &self.config.prefix, batch.records, candles).await?;
        }
        let mut rejects = Vec::new();
        for (name, indices) in std::mem::take(&mut sorted.points) {
            let misfits = self.write_points(batch, &name, indices, &mut rejects).await?;
            sorted.own.entry(Table::Points).or_default().extend(misfits);
        }
        for (table, indices) in sorted.own {
            self.write_own(batch, table, &indices, &mut rejects).await?;
        }
        if let Some(oldest) = batch.records.iter().map(|record| record.event.ts_recv).min() {
            told(self.watch.confirmed(oldest));
        }
        if rejects.is_empty() { Ok(()) } else { Err(SinkError::Refused(Refusal { rejects, rest_stored: true })) }
    }

    async fn tend(&mut self) -> Result<(), SinkError> {
        self.look().await?;
        told(self.watch.keep());
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        check::check(&self.client, &self.config).await
    }

    fn audit(&mut self) -> Option<&mut dyn crate::sinks::audit::Audit> {
        Some(self)
    }
}

impl Questdb {
    async fn look(&mut self) -> Result<(), SinkError> {
        let Questdb { client, config, watch, tables, .. } = self;
        watch.look(client, |name| is_ours(&config.prefix, name) || tables.contains_key(&folded(name))).await
    }

    fn sort(&self, batch: &Batch<'_>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (index, record) in batch.records.iter().enumerate() {
            let own_table = match &record.event.body {
                Body::Point(point) => points::table_of(point, &self.config.prefix),
                _ => None,
            };
            match own_table {
                Some(name) => {
                    let place = *places.entry(name).or_insert_with_key(|name| {
                        sorted.points.push((name.clone(), Vec::new()));
                        sorted.points.len() - 1
                    });
                    sorted.points[place].1.push(index);
                }
                None => sorted.own.entry(Table::of(&record.event.body)).or_default().push(index),
            }
        }
        sorted
    }

    /// Writes records to the table of their kind.
    async fn write_own(
        &mut self,
        batch: &Batch<'_>,
        table: Table,
        indices: &[usize],
        rejects: &mut Vec<Reject>,
    ) -> Result<(), SinkError> {
        if indices.is_empty() {
            return Ok(());
        }
        let wanted = Wanted::of(table, &self.config.prefix, self.config.numbers);
        let (mut certain, mut words) = (false, String::new());
        for _ in 0..TRIES {
            if !self.layouts.contains_key(&table) {
                let known = schema::ensure(&self.client, &wanted).await?;
                self.layouts.insert(table, Layout::of(table, &known));
                self.tables.insert(folded(&wanted.name), known);
            }
            let Some(layout) = self.layouts.get(&table) else { continue };
            let mut refused = Vec::new();
            let parcel = gather(batch, indices, &mut refused, |text, exact, tape, seq, record| {
                layout.line(text, exact, tape, seq, &record.event)
            });
            match parcel.send(&self.client, certain).await? {
                Sent::Stored(more) => {
                    rejects.extend(refused);
                    rejects.extend(more);
                    return Ok(());
                }
                Sent::Doubtful(said) => {
                    words = said.words;
                    certain = self.is_as_it_was(&wanted.name).await?;
                    if !certain {
                        self.layouts.remove(&table);
                    }
                }
            }
        }
        Err(unsteady(&wanted.name, &words))
    }

    /// Writes points to the table of their measurement. Gives back those that only the table `points` can hold.
    async fn write_points(
        &mut self,
        batch: &Batch<'_>,
        name: &str,
        mut indices: Vec<usize>,
        rejects: &mut Vec<Reject>,
    ) -> Result<Vec<usize>, SinkError> {
        let key = folded(name);
        let mut misfits = Vec::new();
        let (mut certain, mut words) = (false, String::new());
        for _ in 0..TRIES {
            let wanted = points::wanted(name.to_owned(), indices.iter().filter_map(|&at| point(batch, at)));
            if !self.tables.contains_key(&key) {
                if let Some(known) = schema::look(&self.client, name).await? {
                    self.tables.insert(key.clone(), known);
                } else if self.tables.len() >= POINT_TABLES_MAX {
                    return Ok(indices);
                }
            }
            let known = self.tables.get(&key);
            if known.is_some_and(|known| known.name != name) || points::too_many(&wanted, known) {
                misfits.append(&mut indices);
                return Ok(misfits);
            }
            let lacking = points::lacking(&wanted, known);
            if known.is_none_or(|known| lacking.columns.iter().any(|(column, _)| known.type_of(column).is_none())) {
                let made = schema::ensure(&self.client, &lacking).await?;
                self.tables.insert(key.clone(), made);
            }
            let Some(known) = self.tables.get(&key) else { continue };
            if let Some(words) = known.trouble(&points::lacking(&wanted, Some(known))) {
                return Err(SinkError::Waiting(anyhow::anyhow!(words)));
            }
            let mut layout = points::Layout::of(known);
            let alike = |at: &usize| point(batch, *at).is_some_and(|point| layout.is_spelled_alike(point));
            let (good, other): (Vec<usize>, Vec<usize>) = indices.into_iter().partition(alike);
            misfits.extend(other);
            indices = good;
            let mut refused = Vec::new();
            let parcel = gather(batch, &indices, &mut refused, |text, exact, tape, seq, record| {
                let Body::Point(point) = &record.event.body else { return Ok(()) };
                layout.line(text, exact, tape, seq, record, point)
            });
            match parcel.send(&self.client, certain).await? {
                Sent::Stored(more) => {
                    rejects.extend(refused);
                    rejects.extend(more);
                    return Ok(misfits);
                }
                Sent::Doubtful(said) => {
                    words = said.words;
                    certain = self.is_as_it_was(name).await?;
                    if !certain {
                        self.tables.remove(&key);
                    }
                }
            }
        }
        Err(unsteady(name, &words))
    }

    /// Whether a table is what it was when it was looked at last.
    async fn is_as_it_was(&self, name: &str) -> Result<bool, SinkError> {
        Ok(schema::look(&self.client, name).await?.as_ref() == self.tables.get(&folded(name)))
    }
}

/// The lines of some records of a batch.
fn gather(
    batch: &Batch<'_>,
    indices: &[usize],
    rejects: &mut Vec<Reject>,
    mut write: impl FnMut(&mut Vec<u8>, &mut Vec<u8>, &str, u64, &Record) -> Result<(), NoLine>,
) -> Parcel {
    let mut parcel = Parcel::default();
    let mut exact = Vec::new();
    let here = batch.tape.to_string();
    for &index in indices {
        let record = &batch.records[index];
        let (tape, seq) = identity(batch.tape, record);
        let there = (tape != batch.tape).then(|| tape.to_string());
        let start = parcel.text.len();
        match write(&mut parcel.text, &mut exact, there.as_deref().unwrap_or(&here), seq, record) {
            Ok(()) => parcel.lines.push((start, index)),
            Err(error) => rejects.push(Reject::new(index, error.to_string())),
        }
    }
    parcel
}

fn point<'a>(batch: &Batch<'a>, index: usize) -> Option<&'a Point> {
    match &batch.records[index].event.body {
        Body::Point(point) => Some(point),
        _ => None,
    }
}

fn told(kept: anyhow::Result<()>) {
    if let Err(error) = kept {
        tracing::warn!(error = format!("{error:#}"), "what is known of the server is not kept");
    }
}

/// Whether a table has one of our names.
fn is_ours(prefix: &str, name: &str) -> bool {
    let name = folded(name);
    name.strip_prefix(&folded(prefix)).is_some_and(|rest| Table::ALL.iter().any(|table| table.name() == rest))
}

fn unsteady(name: &str, words: &str) -> SinkError {
    SinkError::Unavailable(anyhow::anyhow!("table `{name}` is another one each time it is looked at: {words}"))
}
