//! `[sink.NAME]` with `kind = "postgres"`: a table a kind of event, written once by COPY.
//!
//! ```text
//! records ─► rows of a table and day (binary) ─► BEGIN · mark · COPY … · candles · COMMIT ─► stored, once
//! ```
//!
//! - The mark of what was delivered is moved in the transaction of the rows: after any crash it says exactly what is there.
//! - Rows go straight into the partition of their day. Where some are there already, because the mark was lost, or records are
//!   sent again on purpose, the batch goes through a temporary table, and what is there stays as it is.
//! - Errors are told apart by SQLSTATE (`failure`); a table or column that is missing is made again when the store is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use tapedeck_market::{Body, Candle, Event, Flags, Record, Status, UnixNanos, Uuid};

use super::audit::Row;
use super::grafana::{Asks, Source};
use super::{Batch, Fate, Kind, Opened, Question, Refusal, Reject, Setup, Sink, SinkError};

mod audit;
mod candles;
mod config;
mod copy;
mod days;
pub(crate) mod dsn;
mod failure;
mod grafana;
mod layout;
mod numeric;
mod read;
mod schema;
mod session;
mod store;
pub(crate) mod tls;

use candles::Merged;
use config::Config;
use copy::Rows;
use dsn::Target;
use layout::Day;
use session::{Part, Parts, Session, Trouble};
pub use store::{CandleCount, Store, symbols};
#[doc(no_inline)]
pub use tapedeck_tables::Table;

pub(super) const KIND: Kind = Kind {
    name: "postgres",
    about: "PostgreSQL: a table a kind of event, each record once; also candles for Trading-V2",
    build: |setup: Setup| {
        let (config, target) = Config::from_table(setup.table)?;
        hide_password(&target);
        // A file of certificates that cannot be read is found out before anything starts.
        tls::connector(&target)?;
        Ok(Box::new(Postgres {
            name: setup.name.to_string(),
            config,
            target,
            session: None,
            careful: false,
            doomed: BTreeMap::new(),
        }))
    },
    schema: || schemars::schema_for!(Config),
};

/// The whole `dsn` is hidden as a secret; its password may be told by others, alone.
fn hide_password(target: &Target) {
    if let Some(password) = target.config.get_password().and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        crate::logs::hide(password);
    }
}

struct Postgres {
    name: String,
    config: Config,
    target: Target,
    /// `None` while the server is away, and while a batch is being written: one that is dropped half-way takes its connection along.
    session: Option<Session>,
    /// Rows may be there already.
    careful: bool,
    /// Rows that go with the record of that seq, when it is written.
    doomed: BTreeMap<u64, Row>,
}

#[async_trait]
impl Sink for Postgres {
    async fn open(&mut self, tape: Uuid) -> Result<Opened, SinkError> {
        self.session = None;
        let opening = Session::open(&self.config, &self.target, &self.name, tape);
        let session = in_time(self.config.timeout.0, opening).await??;
        let opened = session.mark().map_or(Opened::Empty, |mark| Opened::Mark(mark.clone()));
        self.session = Some(session);
        Ok(opened)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let Some(mut session) = self.session.take().filter(|session| session.tape() == batch.tape) else {
            return Err(SinkError::Unavailable(anyhow!("not connected")));
        };
        let limit = self.config.timeout.0;
        let written = in_time(limit, self.deliver(&mut session, batch)).await?;
        let error = match written {
            Ok(()) => {
                self.session = Some(session);
                return Ok(());
            }
            Err(error) => error,
        };
        // Where the connection is whole the next batch may follow at once.
        if matches!(in_time(limit, session.rollback()).await, Ok(true)) {
            self.session = Some(session);
        }
        // One record alone is not too much: the server was slow.
        Err(match error {
            SinkError::TooMuch(words) if batch.records.len() == 1 => SinkError::Unavailable(anyhow!(words)),
            error => error,
        })
    }

    async fn tend(&mut self) -> Result<(), SinkError> {
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let tended = in_time(self.config.timeout.0, session.tend()).await?;
        // After an error the server is opened again, on a connection of its own.
        tended?;
        self.session = Some(session);
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        let plain = |error: SinkError| anyhow!("{error}");
        let store = Store::connect(&self.config, &self.target, &self.name).await?;
        found.push(store.hello().await?);
        found.push(format!("databases: {}", store.databases().await?.join(", ")));
        let tape = Uuid::new_v4();
        let mut session = Session::open(&self.config, &self.target, &self.name, tape).await.map_err(plain)?;
        found.push(format!("schema `{}` is there", self.config.schema));
        let probe = [probe()];
        let parts = self.parts(&mut session, tape, &probe, &BTreeSet::new()).await.map_err(plain)?;
        let read = session.try_out(&parts, Table::Status).await.map_err(plain)?;
        anyhow::ensure!(read == Some((tape, probe[0].clone())), "what was written is not read back: {read:?}");
        found.push("written and read back".to_owned());
        Ok(found)
    }

    fn answers(&self) -> bool {
        true
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<super::Table> {
        Store::connect(&self.config, &self.target, &self.name).await?.answer(question).await
    }

    fn note(&self) -> Option<String> {
        self.session.as_ref()?.note()
    }

    async fn grafana(&mut self) -> anyhow::Result<Option<(Source, Asks)>> {
        Ok(self.data_source())
    }

    fn audit(&mut self) -> Option<&mut dyn crate::sinks::audit::Audit> {
        Some(self)
    }
}

impl Postgres {
    async fn deliver(&mut self, session: &mut Session, batch: &Batch<'_>) -> Result<(), SinkError> {
        let parts = self.parts(session, batch.tape, batch.records, batch.parted).await?;
        let seq = batch.records.last().map(|record| record.seq);
        let doomed: Vec<&Row> = batch.records.iter().filter_map(|record| self.doomed.get(&record.seq)).collect();
        if !self.careful {
            match session.write(&parts, &doomed, batch.mark, seq, false).await {
                Ok(_) => return Ok(()),
                Err(Trouble::Sink(error)) => return Err(error),
                Err(Trouble::Merged(words)) => return Err(unmerged(batch, words)),
                Err(Trouble::Duplicate(words)) => {
                    tracing::info!(sink = self.name, words, "rows are there already: they are left as they are");
                    if !session.rollback().await {
                        return Err(SinkError::Unavailable(anyhow!("the connection was closed")));
                    }
                    self.careful = true;
                }
            }
        }
        match session.write(&parts, &doomed, batch.mark, seq, true).await {
            Ok(there) => {
                self.careful = there > 0;
                Ok(())
            }
            Err(Trouble::Sink(error)) => Err(error),
            Err(Trouble::Merged(words)) => Err(unmerged(batch, words)),
            Err(Trouble::Duplicate(words)) => Err(SinkError::BatchRefused(words)),
        }
    }

    /// The rows of a batch by table and day. What a merged table cannot hold is left out of that one alone.
    async fn parts(
        &self,
        session: &mut Session,
        tape: Uuid,
        records: &[Record],
        parted: &BTreeSet<u64>,
    ) -> Result<Parts, SinkError> {
        let merges = self.find_merged(session, records).await?;
        let (mut rejects, mut left_out) = (Vec::new(), candles::LeftOut::default());
        let mut rows: BTreeMap<(usize, Day), (Table, Rows)> = BTreeMap::new();
        let mut own = Rows::new(Table::Candles);
        let newest = candles::newest(records, candle_of);
        for (index, record) in records.iter().enumerate() {
            let event = &record.event;
            let table = Table::of(&event.body);
            // Where it was first recorded is who it is, also when it came another way.
            let (tape, seq) = event.origin.map_or((tape, record.seq), |origin| (origin.tape, origin.seq));
            let pushed = match candle_of(record) {
                Some(_) if newest.binary_search(&index).is_err() => Ok(()),
                Some(candle) => {
                    if parted.contains(&record.seq) {
                        left_out.push(tape, seq);
                    } else if let Err(words) = self.fits(session, event, candle) {
                        rejects.push(Reject { fate: Fate::Part, ..Reject::new(index, words) });
                        continue;
                    }
                    own.push(tape, seq, event)
                }
                None => {
                    let key = (table.index(), Day::of(event.ts_recv));
                    rows.entry(key).or_insert_with(|| (table, Rows::new(table))).1.push(tape, seq, event)
                }
            };
            if let Err(words) = pushed {
                rejects.push(Reject::new(index, words));
            }
        }
        if !rejects.is_empty() {
            return Err(SinkError::Refused(Refusal { rejects, rest_stored: false }));
        }
        let parts = rows.into_iter().map(|((_, day), (table, rows))| {
            let count = rows.count;
            Part { table, day, count, rows: rows.finish() }
        });
        let candles = (own.count > 0).then(|| candles::Batch { rows: own.finish(), merges, left_out });
        Ok(Parts { rows: parts.collect(), candles })
    }

    /// The merged tables that candles of the batch go to, each looked at once a connection.
    async fn find_merged(
        &self,
        session: &mut Session,
        records: &[Record],
    ) -> Result<Vec<(i64, Vec<String>)>, SinkError> {
        let mut wanted: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for record in records {
            let Some(minutes) = candle_of(record).and_then(candles::minutes) else { continue };
            let venue = record.event.venue.as_str();
            if self.config.merges(venue) {
                let venues = wanted.entry(minutes).or_default();
                if !venues.iter().any(|known| known == venue) {
                    venues.push(venue.to_owned());
                }
            }
        }
        for minutes in wanted.keys() {
            if !session.merged.contains_key(minutes) {
                let merged = Merged::find(&session.client, &self.config, *minutes).await?;
                session.merged.insert(*minutes, merged);
            }
        }
        Ok(wanted.into_iter().collect())
    }

    /// Whether the merged table of a candle, if it has one, can hold it.
    fn fits(&self, session: &Session, event: &Event, candle: &Candle) -> Result<(), String> {
        let merged = candles::minutes(candle).and_then(|minutes| session.merged.get(&minutes));
        match merged {
            Some(merged) if self.config.merges(&event.venue) => merged.fits(candle),
            _ => Ok(()),
        }
    }
}

/// A merged table refused a row: of a batch it is found by halves, of one record it is that row alone which is left out.
fn unmerged(batch: &Batch<'_>, words: String) -> SinkError {
    if batch.records.len() > 1 {
        return SinkError::BatchRefused(words);
    }
    let rejects = vec![Reject { fate: Fate::Part, ..Reject::new(0, words) }];
    SinkError::Refused(Refusal { rejects, rest_stored: false })
}

fn candle_of(record: &Record) -> Option<&Candle> {
    match &record.event.body {
        Body::Candle(candle) => Some(candle),
        _ => None,
    }
}

/// A record to try a store with.
fn probe() -> Record {
    let now = UnixNanos::now();
    let body = Body::Status(Status { topic: "check".into(), state: "trying".into(), detail: Vec::new() });
    let event = Event {
        source: "check".into(),
        venue: "tapedeck".into(),
        symbol: "".into(),
        ts_event: Some(now),
        ts_recv: now,
        flags: Flags::NONE,
        origin: None,
        body,
    };
    Record { seq: 1, event }
}

/// The answer, or that there was none in time: a server may hang with its connections open.
async fn in_time<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, SinkError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| SinkError::Unavailable(anyhow!("no answer in {} s", limit.as_secs_f64())))
}
