//! The contract of the tape, one line of it after the other, each with a test that breaks it on purpose.

mod append;
mod follow;
mod golden;
mod keep;
mod recovery;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::{Disk, Storage};
use crate::{Allocation, Entry, Hole, Item, Log, Opening, Options, Reader, Start};

/// A tape in a folder of its own.
struct Bench {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    options: Options,
    _folder: tempfile::TempDir,
}

/// What a reader gave: payloads as text, or holes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Record(u64, String),
    Hole(u64, u64),
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Bench {
            storage: Arc::new(Disk),
            dir: folder.path().join("tape"),
            options: Options { allocation: Allocation::Inline, segment_bytes: 64 * 1024, ..Options::default() },
            _folder: folder,
        }
    }

    fn open(&self) -> (Log, Opening) {
        Log::open(Arc::clone(&self.storage), &self.dir, self.options.clone()).unwrap()
    }

    /// Opens, appends each text as an append of its own, commits, and dies without closing.
    fn with(self, texts: &[&str]) -> Self {
        let (mut log, _) = self.open();
        for text in texts {
            append(&mut log, &[text]);
        }
        log.commit().unwrap();
        self
    }

    fn reader(&self, start: Start) -> Reader {
        Reader::open(Arc::clone(&self.storage), &self.dir, start).unwrap()
    }

    fn read(&self, start: Start) -> Vec<Got> {
        drain(&mut self.reader(start))
    }

    fn segment_path(&self, id: u64) -> PathBuf {
        self.dir.join(crate::segment::file_name(id))
    }
}

fn append(log: &mut Log, texts: &[&str]) -> u64 {
    let entries: Vec<Entry<'_>> =
        texts.iter().map(|text| Entry { ts_recv: 1_000 + log.next_seq() as i64, payload: text.as_bytes() }).collect();
    log.append(&entries, &mut Vec::new).unwrap()
}

fn drain(reader: &mut Reader) -> Vec<Got> {
    let mut got = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        got.push(match item {
            Item::Record(record) => Got::Record(record.seq, String::from_utf8(record.payload.to_vec()).unwrap()),
            Item::Hole(Hole { from_seq, to_seq }) => Got::Hole(from_seq, to_seq),
        });
    }
    got
}

/// Records with these texts, their seqs from `first` on.
fn records(first: u64, texts: &[&str]) -> Vec<Got> {
    (first..).zip(texts).map(|(seq, text)| Got::Record(seq, (*text).to_owned())).collect()
}

fn flip(path: &Path, byte: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[byte as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
