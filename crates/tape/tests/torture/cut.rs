//! A segment cut at every byte: by its length, by zeros from there on, by noise from there on. The appends that are whole before the
//! cut are there, nothing else is, and the tape goes on behind them.

use std::path::{Path, PathBuf};
use std::thread;

use tapedeck_tape::model::{Model, Rng};
use tapedeck_tape::{Allocation, Item, Log, Options, Reader, Start};

use crate::rig::{self, Made, Rig, Verdict, chain, dir, ensure};

const SEGMENT_BYTES: u64 = 16 * 1024;

/// A tape of one segment, and what is in it.
struct Tape {
    rig: Rig,
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where each append ends, and its last seq.
    ends: Vec<(u64, u64)>,
    records: Vec<Made>,
}

fn tape() -> Tape {
    let options = Options { segment_bytes: SEGMENT_BYTES, allocation: Allocation::Inline, ..Options::default() };
    let mut rig = Rig::new(Model::new(1), options);
    let mut log = rig.reopen().unwrap().unwrap();
    let path = rig::files(&rig.model, ".seg").remove(0);
    let (mut rng, mut records, mut ends) = (Rng::new(5), Vec::new(), Vec::new());
    for lens in [&[300][..], &[0], &[17, 400, 9], &[1500], &[80, 80], &[3000, 1], &[60], &[700, 5, 0, 33]] {
        let append: Vec<Made> = lens.iter().map(|len| Made::new(rng.bits(), *len)).collect();
        rig::append(&mut log, &append).unwrap();
        log.commit().unwrap();
        records.extend(append);
        ends.push((log.tail().durable().position, records.len() as u64));
    }
    rig.model = rig.model.fork();
    let bytes = rig.model.bytes(&path).unwrap();
    assert_eq!(bytes.len() as u64, SEGMENT_BYTES, "the file was made ahead");
    Tape { rig, path, bytes, ends, records }
}

impl Tape {
    /// The last seq that is whole in a damaged copy of the segment.
    fn whole(&self, damaged: &[u8]) -> u64 {
        let same = self.bytes.iter().zip(damaged).take_while(|(a, b)| a == b).count() as u64;
        self.ends.iter().rev().find(|(end, _)| *end <= same).map_or(0, |(_, last_seq)| *last_seq)
    }

    fn check(&self, damaged: &[u8]) -> Verdict {
        let whole = self.whole(damaged);
        let mut rig = self.rig.on(self.rig.model.fork());
        rig.model.put(&self.path, damaged);
        let (mut log, opening) = open(&rig)?;
        ensure!(opening == whole, "{opening} is the last seq, and {whole} the last that is whole");
        self.check_records(&rig, &log, whole)?;
        let seq = rig::append(&mut log, &[Made::new(9, 90)]).map_err(|error| chain(&error))?;
        ensure!(seq == whole + 1, "the tape goes on at {seq} after {whole}");
        log.sync().map_err(|error| chain(&error))?;
        rig.model = rig.model.crash(whole);
        let (log, last_seq) = open(&rig)?;
        ensure!(last_seq == seq, "{last_seq} is the last seq of the next life, not {seq}");
        self.check_records(&rig, &log, whole)
    }

    fn check_records(&self, rig: &Rig, log: &Log, whole: u64) -> Verdict {
        let mut reader =
            Reader::open_with(rig.storage(), &dir(), Start::Begin, log.tail()).map_err(|error| chain(&error))?;
        for (seq, made) in (1..=whole).zip(&self.records) {
            match reader.next().map_err(|error| chain(&error))? {
                Some(Item::Record(record)) if record.seq == seq && record.payload == made.payload() => {}
                other => return Err(format!("{other:?} came instead of {seq}")),
            }
        }
        Ok(())
    }
}

fn open(rig: &Rig) -> Result<(Log, u64), String> {
    let (log, opening) = Log::open(rig.storage(), &dir(), rig.options.clone()).map_err(|error| chain(&error))?;
    ensure!(opening.holes.is_empty(), "holes: {:?}", opening.holes);
    Ok((log, opening.last_seq))
}

/// Cuts at every byte, on all processors.
fn cut_everywhere(damage: impl Fn(&[u8], usize) -> Vec<u8> + Sync) {
    let tape = tape();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let verdict: Verdict = thread::scope(|scope| {
        let (tape, damage) = (&tape, &damage);
        let cut = move |first: usize| {
            (first..=tape.bytes.len()).step_by(threads).try_for_each(|at| {
                tape.check(&damage(&tape.bytes, at)).map_err(|what| format!("cut at byte {at}: {what}"))
            })
        };
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || cut(first))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    });
    if let Err(what) = verdict {
        panic!("{what}");
    }
}

#[test]
fn a_segment_that_ends_at_any_byte_gives_back_its_whole_appends() {
    cut_everywhere(|bytes, at| bytes[..at].to_vec());
}

#[test]
fn a_segment_that_is_zero_from_any_byte_on_gives_back_its_whole_appends() {
    cut_everywhere(|bytes, at| [&bytes[..at], &vec![0; bytes.len() - at]].concat());
}

#[test]
fn a_segment_that_is_noise_from_any_byte_on_gives_back_its_whole_appends() {
    cut_everywhere(|bytes, at| {
        let mut damaged = bytes.to_vec();
        Rng::new(at as u64).fill(&mut damaged[at..]);
        damaged
    });
}

#[test]
fn a_sealed_segment_cut_at_any_byte_leaves_a_hole_and_the_next_segment_is_served() {
    let tape = tape();
    let last = tape.records.len() as u64;
    let mut rig = tape.rig.on(tape.rig.model.fork());
    let (mut log, _) = open(&rig).unwrap();
    let behind = Made::new(9, 90);
    rig::append(&mut log, &[behind]).unwrap();
    log.close().unwrap();
    rig.model = rig.model.fork();
    let sealed = rig.model.bytes(&tape.path).unwrap();
    for at in 0..sealed.len() {
        let read = read_cut(&rig, &tape.path, &sealed[..at]).unwrap_or_else(|what| panic!("cut at byte {at}: {what}"));
        assert_eq!(read.behind, Some(last + 1), "cut at byte {at}");
        assert_eq!(read.payload, behind.payload(), "cut at byte {at}");
        let counted = read.records + read.missing;
        // A segment of which nothing is left was the first one: nobody can know that it ever was.
        assert!(
            counted == last || (read.records == 0 && counted == 0),
            "cut at byte {at}: {counted} of {last} accounted for"
        );
    }
}

#[derive(Default)]
struct Read {
    records: u64,
    missing: u64,
    behind: Option<u64>,
    payload: Vec<u8>,
}

fn read_cut(rig: &Rig, path: &Path, bytes: &[u8]) -> Result<Read, String> {
    rig.model.put(path, bytes);
    let mut reader = Reader::open(rig.storage(), &dir(), Start::Begin).map_err(|error| chain(&error))?;
    let mut read = Read::default();
    while let Some(item) = reader.next().map_err(|error| chain(&error))? {
        match item {
            Item::Hole(hole) => read.missing += hole.to_seq - hole.from_seq + 1,
            Item::Record(record) => {
                read.records += u64::from(read.behind.is_some());
                read.behind = Some(record.seq);
                read.payload = record.payload.to_vec();
            }
        }
    }
    Ok(read)
}
