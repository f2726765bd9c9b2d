//! Archiving beside polars: the same trades as Parquet with zstd, by one thread each, alternately.
//!
//! `cargo bench -p tapedeck-archive`, with `TAPEDECK_FIXTURES` set and a Python by `scripts/venv`; the recorded trades are what
//! the market is drawn from (`market.rs`). Prints rows a second of both, their ratio, and what a trade costs on the tape, in a
//! compressed segment, and in Parquet. `--files DIR` writes an archive of so many trades instead, for who wants to ask it
//! something: `DIR/archive` as old days lie there, and an empty tape beside it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tapedeck_archive::disk::RealDisk;
use tapedeck_archive::{Archiver, Day, Keep, Options, Rows, Table, to_parquet};
use tapedeck_market::*;
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Allocation, Entry, Log};

#[allow(dead_code, reason = "shared with a test that uses less of it")]
mod market;

use market::Market;

/// Trades, unless `--trades N` says otherwise.
const TRADES: usize = 1_000_000;
const ROUNDS: usize = 7;
const TAPE: Uuid = Uuid::from_u128(0x1f0c_9a52_7f1e_4d2b_8c11_5a0e_66b3_94d7);
/// 2026-07-19T00:00Z: the trades below take two hours.
const START_NS: i64 = 1_784_419_200_000_000_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // `cargo test --benches` calls it too.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let count = option("--trades").map_or(Ok(TRADES), |count| count.parse())?;
    let recording = market::recording().ok_or("TAPEDECK_FIXTURES is not set")?;
    if let Some(dir) = option("--files") {
        return files(Market::of(&recording, 140, START_NS, 7).take(count), Path::new(&dir));
    }
    let events = market::trades(&recording, count, 140, START_NS, 7);
    let records: Vec<Record> = events.into_iter().zip(1..).map(|(event, seq)| Record { seq, event }).collect();
    let dir = tempfile::tempdir()?;
    beside_polars(&records, dir.path())?;
    on_the_tape(&records, dir.path())?;
    Ok(())
}

/// Files as past days are compacted to: of one day each, of as many rows as go into one.
fn files(mut events: impl Iterator<Item = Event>, dir: &Path) -> Result<(), Failure> {
    const FILE_ROWS: usize = 400_000;
    Log::open(Arc::new(Disk), dir, tapedeck_tape::Options::default())?.0.close()?;
    let (mut rows, mut batches, mut day) = (Rows::new(Table::Trades, TAPE), Vec::new(), Day(0));
    let (mut from_seq, mut seq) = (1, 0);
    loop {
        let event = events.next();
        let next_day = event.as_ref().map_or(Day(i32::MAX), |event| Day::of(event.ts_recv.0));
        let held = batches.iter().map(RecordBatch::num_rows).sum::<usize>() + rows.len();
        if held > 0 && (next_day != day || held >= FILE_ROWS) {
            batches.push(rows.finish());
            let folder = dir.join("archive/trades").join(format!("date={day}"));
            std::fs::create_dir_all(&folder)?;
            let bytes = to_parquet(Table::Trades, &batches, TAPE, (from_seq, seq))?;
            std::fs::write(folder.join(format!("{TAPE}-{from_seq}-{seq}.parquet")), bytes)?;
            batches.clear();
            from_seq = seq + 1;
        }
        let Some(event) = event else { return Ok(()) };
        (seq, day) = (seq + 1, next_day);
        rows.push(&Record { seq, event });
        if rows.len() >= 16_384 {
            batches.push(rows.finish());
        }
    }
}

fn beside_polars(records: &[Record], dir: &Path) -> Result<(), Failure> {
    let count = records.len() as f64;
    let batches = rows(records);
    let ours = dir.join("ours.parquet");
    std::fs::write(&ours, to_parquet(Table::Trades, &batches, TAPE, (1, records.len() as u64))?)?;
    let mut polars = Polars::start(&ours, &dir.join("polars.parquet"))?;
    let (mut building, mut writing, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let batches = rows(records);
        building.push(begun.elapsed());
        let begun = Instant::now();
        std::fs::write(&ours, to_parquet(Table::Trades, &batches, TAPE, (1, records.len() as u64))?)?;
        writing.push(begun.elapsed());
        theirs.push(polars.write()?);
    }
    let ratios: Vec<f64> =
        theirs.iter().zip(&writing).map(|(theirs, ours)| theirs.as_secs_f64() / ours.as_secs_f64()).collect();
    let (our_bytes, their_bytes) = (size(&ours)?, polars.bytes);
    println!("records -> rows      {:>10.0} rows/s", rate(count, &building));
    println!("rows -> parquet      {:>10.0} rows/s, sorting included", rate(count, &writing));
    println!("polars, the same     {:>10.0} rows/s, sorted before", rate(count, &theirs));
    println!("ratio                {:>10.2} (target 0.7), rounds {ratios:.2?}", median(ratios.clone()));
    println!(
        "bytes                {our_bytes:>10} ours, {their_bytes} polars: {:.3} (target 1.05)",
        our_bytes as f64 / their_bytes as f64
    );
    println!("bytes a trade        {:>10.2} in one file (target 16)", our_bytes as f64 / count);
    Ok(())
}

fn on_the_tape(records: &[Record], dir: &Path) -> Result<(), Failure> {
    let count = records.len() as f64;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    for (name, compress, target) in [("tape", false, 110), ("compressed segments", true, 40)] {
        let tape = dir.join(name);
        let options = tapedeck_tape::Options { compress, allocation: Allocation::Inline, ..Default::default() };
        let (mut log, _) = Log::open(Arc::clone(&storage), &tape, options)?;
        for frame in records.chunks(64) {
            let payloads: Vec<Vec<u8>> = frame.iter().map(|record| encoded(&record.event)).collect();
            let entries: Vec<Entry<'_>> = frame
                .iter()
                .zip(&payloads)
                .map(|(record, payload)| Entry { ts_recv: record.event.ts_recv.0, payload })
                .collect();
            log.append(&entries, &mut Vec::new)?;
        }
        log.close()?;
        if compress {
            // The last segment is compressed when the tape is opened again.
            Log::open(
                Arc::clone(&storage),
                &tape,
                tapedeck_tape::Options { compress, allocation: Allocation::Inline, ..Default::default() },
            )?
            .0
            .close()?;
        }
        let wanted = if compress { "zst" } else { "seg" };
        let mut bytes = 0;
        for file in std::fs::read_dir(&tape)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == wanted) {
                bytes += size(&path)?;
            }
        }
        println!("bytes a trade        {:>10.2} in {name} (target {target})", bytes as f64 / count);
    }
    let begun = Instant::now();
    let options = Options { range_age: Duration::from_secs(3600), keep: Keep::everything(), ..Options::default() };
    let archive = dir.join("archive");
    let mut archiver = Archiver::open(&storage, &dir.join("tape"), None, Arc::new(RealDisk), &archive, options)?;
    archiver.catch_up()?;
    archiver.close_range()?;
    let took = begun.elapsed();
    let status = archiver.status();
    println!(
        "tape -> archive      {:>10.0} records/s, fsync included, {} files",
        count / took.as_secs_f64(),
        status.files
    );
    println!("bytes a trade        {:>10.2} in files of one range each (target 16)", status.bytes as f64 / count);
    Ok(())
}

fn rows(records: &[Record]) -> Vec<RecordBatch> {
    let mut rows = Rows::new(Table::Trades, TAPE);
    records
        .chunks(16_384)
        .map(|records| {
            records.iter().for_each(|record| rows.push(record));
            rows.finish()
        })
        .collect()
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode(event, &mut out);
    out
}

/// polars in a process of its own, told when to write.
struct Polars {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    bytes: u64,
}

impl Polars {
    fn start(data: &Path, out: &Path) -> Result<Polars, Failure> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = Command::new(here.join("../../scripts/venv")).output()?;
        let python = String::from_utf8(python.stdout)?;
        let mut child = Command::new(python.trim())
            .arg(here.join("benches/polars_write.py"))
            .args([data, out])
            .env("POLARS_MAX_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut polars = Polars { child, input, output, bytes: 0 };
        polars.write()?;
        Ok(polars)
    }

    fn write(&mut self) -> Result<Duration, Failure> {
        self.input.write_all(b"\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let (seconds, bytes) = line.trim().split_once(' ').ok_or("polars said nothing")?;
        self.bytes = bytes.parse()?;
        Ok(Duration::from_secs_f64(seconds.parse()?))
    }
}

impl Drop for Polars {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(path: &Path) -> std::io::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

fn rate(count: f64, times: &[Duration]) -> f64 {
    count / median(times.iter().map(Duration::as_secs_f64).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
