//! A deck's archive and tape, opened to be read once: no lock, no thread, nothing written beside them.
//!
//! ```text
//! archive files of committed ranges ─┐
//!                                    ├─► one snapshot, for as long as the query takes
//! tape, from there to its end ───────┘   (in memory; in temporary files when it is much)
//! ```
//!
//! A store that runs may commit a range while the folder is listed. How far it had committed is therefore read
//! before and after, and the listing is done again when that has changed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File as DiskFile};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetMetaData;
use serde::Deserialize;
use tapedeck_archive::{Rows, Table as Kind, schema};
use tapedeck_market::{Body, Event, Flags, Raw, Record, SmolStr, TapeEvent, TapeNote, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::Storage;
use tapedeck_tape::{Item, Reader, Start, tools};

use crate::snapshot::{File, Held, Snapshot, Source, Table};

/// Rows of one batch of the tape's tail.
const BATCH_ROWS: usize = 32_768;
/// What the tail of one table may take of memory; beyond it the rows go to a temporary file.
const TAIL_BYTES: usize = 256 << 20;
/// A store commits once in minutes: a listing that was overtaken this often is something else.
const LISTINGS: usize = 5;
/// Where an archive says which symbols a file has.
const SYMBOLS_KEY: &str = "tapedeck.symbols";

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct Place {
    /// The deck's folder, which holds the tape.
    pub tape: PathBuf,
    pub archive: PathBuf,
    /// For what does not fit into memory. Must exist.
    pub temporary: PathBuf,
}

/// Archive and tape as they were when they were opened.
#[derive(Debug)]
pub struct Opened {
    snapshot: Arc<Snapshot>,
}

impl Opened {
    /// Reads the tables that are wanted, up to the tape's durable end.
    ///
    /// # Errors
    /// There is neither a tape nor an archive, or one of them cannot be read.
    pub fn read(place: &Place, storage: &Arc<dyn Storage>, wanted: &HashSet<Kind>) -> anyhow::Result<Opened> {
        let tape_id = match tools::id(storage, &place.tape) {
            Ok(tape_id) => Some(tape_id),
            // An archive may outlive its tape.
            Err(tapedeck_tape::Error::NoTape { .. }) if place.archive.is_dir() => None,
            Err(error) => return Err(error).with_context(|| format!("reading the tape in {}", place.tape.display())),
        };
        let (committed, mut tables) = archived(place, tape_id, wanted)?;
        if let Some(tape_id) = tape_id {
            let start = committed.map_or(Start::Begin, |committed| Start::Seq(committed + 1));
            let mut reader = Reader::open(Arc::clone(storage), &place.tape, start)
                .with_context(|| format!("reading the tape in {}", place.tape.display()))?;
            let mut tails: BTreeMap<Kind, Tail> =
                wanted.iter().map(|kind| (*kind, Tail::new(*kind, tape_id, &place.temporary))).collect();
            read_tape(&mut reader, &mut tails)?;
            for (kind, tail) in tails {
                let (files, batches) = tail.finish()?;
                let table = tables.entry(kind.name()).or_default();
                Arc::make_mut(&mut table.files).extend(files);
                table.tail = Arc::new(batches);
            }
        }
        Ok(Opened { snapshot: Arc::new(Snapshot { tables, held: None::<Held> }) })
    }
}

impl Source for Opened {
    fn tables(&self) -> Vec<(&'static str, SchemaRef)> {
        Kind::ALL.into_iter().map(|table| (table.name(), schema(table))).collect()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }
}

/// Every record up to the durable end at the beginning, in the table it belongs to.
fn read_tape(reader: &mut Reader, tails: &mut BTreeMap<Kind, Tail>) -> anyhow::Result<()> {
    let end = reader.durable_seq();
    let mut last_recv = 0;
    while reader.seq() <= end {
        let record = match reader.next().context("reading the tape")? {
            None => break,
            Some(Item::Record(raw)) => {
                last_recv = raw.ts_recv;
                let event = wire::decode(raw.payload).unwrap_or_else(|_| {
                    let raw_body = Raw { format: SmolStr::new_static("undecodable"), frame: raw.payload.to_vec() };
                    own(raw.ts_recv, Body::Raw(raw_body))
                });
                Record { seq: raw.seq, event }
            }
            Some(Item::Hole(hole)) => {
                let detail = SmolStr::new_static("these records cannot be read: damaged, or removed by retention");
                let (from_seq, to_seq) = (Some(hole.from_seq), Some(hole.to_seq));
                let note = TapeNote { what: TapeEvent::Hole, from_seq, to_seq, bytes: 0, detail };
                Record { seq: hole.from_seq, event: own(last_recv, Body::Tape(Box::new(note))) }
            }
        };
        if let Some(tail) = tails.get_mut(&Kind::of(&record.event.body)) {
            tail.push(&record)?;
        }
    }
    Ok(())
}

/// An event of ours that is not on the tape.
fn own(ts_recv: i64, body: Body) -> Event {
    Event {
        source: SmolStr::new_static("tapedeck"),
        venue: SmolStr::new_static("tapedeck"),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv: UnixNanos(ts_recv),
        flags: Flags::DERIVED,
        origin: None,
        body,
    }
}

/// The rows of one table that are in no file of the archive.
struct Tail {
    rows: Rows,
    batches: Vec<RecordBatch>,
    bytes: usize,
    files: Vec<File>,
    kind: Kind,
    temporary: PathBuf,
}

impl Tail {
    fn new(kind: Kind, tape_id: Uuid, temporary: &Path) -> Self {
        let rows = Rows::new(kind, tape_id);
        Tail { rows, batches: Vec::new(), bytes: 0, files: Vec::new(), kind, temporary: temporary.to_owned() }
    }

    fn push(&mut self, record: &Record) -> anyhow::Result<()> {
        self.rows.push(record);
        if self.rows.len() >= BATCH_ROWS {
            self.close_batch();
            if self.bytes >= TAIL_BYTES {
                self.put_aside()?;
            }
        }
        Ok(())
    }

    fn close_batch(&mut self) {
        let batch = self.rows.finish();
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Rows that are too many for memory, as a file of the query's own.
    fn put_aside(&mut self) -> anyhow::Result<()> {
        let path = self.temporary.join(format!("{}-{}.parquet", self.kind, self.files.len()));
        let file = DiskFile::create(&path).with_context(|| format!("making {}", path.display()))?;
        let mut writer = ArrowWriter::try_new(file, schema(self.kind), None).context("writing a temporary file")?;
        for batch in self.batches.drain(..) {
            writer.write(&batch).context("writing a temporary file")?;
        }
        let metadata = writer.close().context("writing a temporary file")?;
        self.files.push(file_of(path, &metadata, self.kind)?);
        self.bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<(Vec<File>, Vec<RecordBatch>)> {
        if !self.rows.is_empty() {
            self.close_batch();
        }
        Ok((self.files, self.batches))
    }
}

#[derive(Deserialize)]
struct State {
    committed: u64,
}

/// How far the archive holds this tape; `None` when it never did.
fn committed(archive: &Path, tape_id: Option<Uuid>) -> anyhow::Result<Option<u64>> {
    let Some(tape_id) = tape_id else { return Ok(None) };
    let path = archive.join(".state").join(tape_id.to_string());
    match fs::read(&path) {
        Ok(text) => {
            let state: State = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
            Ok(Some(state.committed))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

type Tables = BTreeMap<&'static str, Table>;

/// The files of the archive, and up to where they hold this tape.
fn archived(place: &Place, tape_id: Option<Uuid>, wanted: &HashSet<Kind>) -> anyhow::Result<(Option<u64>, Tables)> {
    for _ in 0..LISTINGS {
        let before = committed(&place.archive, tape_id)?;
        let listed = list(&place.archive, tape_id, before, wanted);
        if committed(&place.archive, tape_id)? != before {
            continue;
        }
        match listed {
            Ok(tables) => return Ok((before, tables)),
            // A day was compacted meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    bail!("the archive in {} changes faster than it can be listed", place.archive.display())
}

fn is_gone(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn list(
    archive: &Path,
    tape_id: Option<Uuid>,
    committed: Option<u64>,
    wanted: &HashSet<Kind>,
) -> anyhow::Result<Tables> {
    let mut tables = Tables::new();
    for kind in wanted {
        let mut files = Vec::new();
        for day in names(&archive.join(kind.name()))?.into_iter().filter(|name| name.starts_with("date=")) {
            let dir = archive.join(kind.name()).join(day);
            for name in names(&dir)? {
                let Some((of, from_seq)) = parse_name(&name) else { continue };
                // A range that is not finished yet, or was not when its store was killed: the tape has its records.
                if Some(of) == tape_id && committed.is_none_or(|committed| from_seq > committed) {
                    continue;
                }
                files.push(open(dir.join(name), *kind)?);
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        tables.insert(kind.name(), Table { files: Arc::new(files), tail: Arc::default() });
    }
    Ok(tables)
}

/// What a folder holds; nothing when there is none.
fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    entries.map(|entry| Ok(entry.with_context(reading)?.file_name().to_string_lossy().into_owned())).collect()
}

/// `<tape id>-<from seq>-<to seq>.parquet`
fn parse_name(name: &str) -> Option<(Uuid, u64)> {
    let mut parts = name.strip_suffix(".parquet")?.rsplitn(3, '-');
    let _to_seq: u64 = parts.next()?.parse().ok()?;
    let from_seq = parts.next()?.parse().ok()?;
    Some((Uuid::parse_str(parts.next()?).ok()?, from_seq))
}

fn open(path: PathBuf, kind: Kind) -> anyhow::Result<File> {
    let reading = || format!("reading {}", path.display());
    let file = DiskFile::open(&path).with_context(reading)?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).with_context(reading)?;
    file_of(path, metadata.metadata(), kind)
}

fn file_of(path: PathBuf, metadata: &ParquetMetaData, kind: Kind) -> anyhow::Result<File> {
    let statistics = DFParquetMetadata::statistics_from_parquet_metadata(metadata, &schema(kind))
        .with_context(|| format!("reading {}", path.display()))?;
    let pairs = metadata.file_metadata().key_value_metadata();
    let listed = pairs.into_iter().flatten().find(|pair| pair.key == SYMBOLS_KEY);
    let symbols = listed.and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok());
    let len_bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
    let path = std::path::absolute(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(File { path, len_bytes, statistics: Arc::new(statistics), symbols })
}
