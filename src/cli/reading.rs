//! What every verb that reads the tape needs: the folder, the filters, the places to start and end.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tapedeck_market::{Body, Event, Flags, Kind, Raw, SmolStr, TapeEvent, TapeNote, UnixNanos, wire};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Hole, RawRecord, Reader, Start};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::config::suggest::nearest;
use crate::config::units::{parse_duration, parse_instant};
use crate::config::{Problems, fits};

/// Where the tape is.
#[derive(Clone, Debug, Args)]
pub(super) struct Where {
    /// Folder of the tape, in place of `[tape] dir`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Where {
    /// The tape's folder: as said here, else as the config says.
    pub(super) fn dir(&self, global: &Global) -> anyhow::Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(global.load().map_err(told_where)?.config.tape.dir),
        }
    }
}

/// A config that cannot be read is in nobody's way who knows where the tape is.
fn told_where(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Problems>() {
        Ok(problems) => problems.and("this verb needs no config where it is told the tape's folder: --dir DIR").into(),
        Err(error) => error,
    }
}

/// The end of a verb that found neither a deck nor a tape.
pub(super) fn nothing_there(dir: &Path, verb: &str) -> anyhow::Error {
    may_not_read(dir, verb).unwrap_or_else(|| {
        End::Absent(format!("no tape in {} and no deck runs there: tapedeck run", dir.display())).into()
    })
}

/// The end of a verb that may not look whether there is a deck or a tape, as another user than the unit's.
pub(super) fn may_not_read(dir: &Path, verb: &str) -> Option<anyhow::Error> {
    let error = std::fs::read_dir(dir).err()?;
    refused(error.kind(), dir, verb)
}

fn refused(kind: std::io::ErrorKind, dir: &Path, verb: &str) -> Option<anyhow::Error> {
    let words = || anyhow::anyhow!("{} may not be read by this user: sudo tapedeck {verb}", dir.display());
    (kind == std::io::ErrorKind::PermissionDenied).then(words)
}

/// The real disk, as the tape's tools take it.
pub(super) fn disk() -> Arc<dyn Storage> {
    Arc::new(Disk)
}

/// Opens a reader in this process, next to whatever deck records.
pub(super) fn reader(dir: &std::path::Path, start: Start) -> anyhow::Result<Reader> {
    Reader::open(disk(), dir, start).with_context(|| format!("reading the tape in {}", dir.display()))
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Only these sources (names of config tables; `*` stands for any text)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    source: Vec<String>,
    /// Only these symbols, in the venue's spelling (`*` stands for any text)
    #[arg(long, value_name = "SYMBOL", value_delimiter = ',')]
    symbol: Vec<String>,
}

impl Filter {
    pub(super) fn wants(&self, source: &str, symbol: &str) -> bool {
        let any =
            |patterns: &[String], text: &str| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, text));
        any(&self.source, source) && any(&self.symbol, symbol)
    }
}

/// Reads `--kind`.
pub(super) fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| {
        let names = Kind::NAMES.map(|(_, name)| name);
        let near = nearest(text, names).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        format!("there is no such kind; {near}There are: {}", names.join(", "))
    })
}

/// A place on the tape, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Begin,
    Now,
    Seq(u64),
    Time(UnixNanos),
}

impl From {
    pub(super) fn start(self) -> Start {
        match self {
            From::Begin => Start::Begin,
            From::Now => Start::End,
            From::Seq(seq) => Start::Seq(seq),
            From::Time(time) => Start::Time(time.0),
        }
    }
}

impl FromStr for From {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "begin" => return Ok(From::Begin),
            "now" => return Ok(From::Now),
            _ => {}
        }
        if let Ok(seq) = text.parse() {
            return Ok(From::Seq(seq));
        }
        moment(text).map(From::Time)
    }
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// What is durable when the verb begins.
    Now,
    /// This record is the last one.
    Seq(u64),
}

impl FromStr for Until {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Until::Now),
            seq => seq.parse().map(Until::Seq).map_err(|_| "write `now` or the seq of a record".to_owned()),
        }
    }
}

/// A moment: RFC 3339, a date with or without a time (in UTC), or how long ago (`10m`).
pub(super) fn moment(text: &str) -> Result<UnixNanos, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(UnixNanos::now() - ago);
    }
    parse_instant(text).ok_or_else(|| {
        "write a seq, `begin`, `now`, a time such as 2026-07-19T17:54:39Z, or how long ago, such as 10m".to_owned()
    })
}

/// The event of a record. One that this version cannot read is shown as it lies there, not skipped.
pub(super) fn event(record: &RawRecord<'_>) -> Event {
    wire::decode(record.payload).unwrap_or_else(|error| {
        tracing::warn!(seq = record.seq, error = %error, "record cannot be understood, shown raw");
        let raw = Raw { format: SmolStr::new_static("undecodable"), frame: record.payload.to_vec() };
        own(UnixNanos(record.ts_recv), Body::Raw(raw))
    })
}

/// A hole as an event, so that it stands between the others where the records are missing.
pub(super) fn hole(hole: Hole, ts_recv: UnixNanos) -> Event {
    let detail = SmolStr::new_static("these records cannot be read: damaged, or removed by retention");
    let (from_seq, to_seq) = (Some(hole.from_seq), Some(hole.to_seq));
    own(ts_recv, Body::Tape(Box::new(TapeNote { what: TapeEvent::Hole, from_seq, to_seq, bytes: 0, detail })))
}

/// An event of ours that is not on the tape.
fn own(ts_recv: UnixNanos, body: Body) -> Event {
    Event {
        source: SmolStr::new_static("tapedeck"),
        venue: SmolStr::new_static("tapedeck"),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv,
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_may_not_be_read_is_not_an_empty_one() {
        use std::io::ErrorKind;
        let of = |kind| refused(kind, Path::new("/var/lib/tapedeck/tape"), "status").map(|error| error.to_string());
        assert_eq!(of(ErrorKind::NotFound), None);
        let words = of(ErrorKind::PermissionDenied).unwrap();
        assert_eq!(words, "/var/lib/tapedeck/tape may not be read by this user: sudo tapedeck status");
        let none = tempfile::tempdir().unwrap();
        assert!(may_not_read(none.path(), "status").is_none());
        let error = nothing_there(&none.path().join("none"), "status");
        assert_eq!(crate::cli::exit::code(&Err(error)), crate::cli::exit::ABSENT);
        assert_eq!(crate::cli::exit::code(&Err(anyhow::anyhow!(words))), crate::cli::exit::FAILED);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "BTC/USD", true),
            ("BTC/*", "BTC/USD", true),
            ("*/USD", "BTC/USD", true),
            ("*/USD", "BTC/USDT", false),
            ("B*C*D", "BTC/USD", true),
            ("ab*ba", "aba", false),
            ("BTC/USD", "BTC/USDT", false),
            ("", "x", false),
        ] {
            assert_eq!(super::fits(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_place_is_a_seq_a_word_or_a_moment() {
        assert_eq!("17".parse(), Ok(From::Seq(17)));
        assert_eq!("begin".parse(), Ok(From::Begin));
        let noon = From::Time(UnixNanos(1_784_462_400_000_000_000));
        for text in ["2026-07-19T12:00:00Z", "2026-07-19T14:00:00+02:00", "2026-07-19T12:00", "2026-07-19 12:00:00"] {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
        assert!(matches!("10m".parse(), Ok(From::Time(at)) if at < UnixNanos::now()));
        assert!("yesterday".parse::<From>().is_err());
    }
}
