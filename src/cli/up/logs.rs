//! `tapedeck logs`: what the deck, a server or the supervisor says.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::{self, Out};
use crate::cli::reading::Where;
use crate::logs::redact;
use crate::up::{DECK, Table, log};

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SUPERVISOR: &str = "supervisor";

const EXAMPLES: &str = "\
Examples:
  tapedeck logs                  the deck's last 20 lines
  tapedeck logs influx -n 100    of [server.influx]
  tapedeck logs kraken -f        the deck's lines about [source.kraken], and what comes
  tapedeck logs supervisor       what was started, ended and given up";

/// Show the last lines of the deck, a server, a source or sink, or the supervisor
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A server, `deck`, `supervisor`, or a source or service of the deck
    #[arg(default_value = DECK)]
    name: String,
    /// So many lines
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(crate) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        // The secrets of the config are hidden here too, where there is one.
        let loaded = global.load().ok();
        let dir = self.place.dir(global)?;
        let logs = loaded.as_ref().and_then(|loaded| loaded.config.log.folder(&dir));
        let (path, about) = find(&Table::of(&dir), &self.name, logs);
        let Some(path) = path else {
            return Err(End::Absent(format!("no log in {}: nothing was started there", dir.display())).into());
        };
        let wanted = |line: &str| about.as_ref().is_none_or(|name| mentions(line, name));
        let mut lines = log::last_lines(&path, 0, usize::MAX);
        lines.retain(|line| wanted(line));
        for line in &lines[lines.len().saturating_sub(self.lines)..] {
            out.line(line)?;
        }
        out.flush()?;
        if self.follow {
            out::end_with_reader()?;
            return follow(&path, wanted, out);
        }
        Ok(())
    }
}

/// The file of a name, and what its lines must be about where it is the deck's. `logs`: the folder of the deck's own files.
pub(crate) fn find(table: &Table, name: &str, logs: Option<PathBuf>) -> (Option<PathBuf>, Option<String>) {
    let own = match name.split_once('.') {
        Some(("source" | "sink", _)) => None,
        Some(("server", name)) => Some(table.log_of(name)),
        _ if name == SUPERVISOR => Some(table.supervisor_log()),
        _ => Some(table.log_of(name)),
    };
    if let Some(own) = own.filter(|own| own.exists()) {
        return (Some(own), None);
    }
    let common = logs.map(|folder| folder.join("tapedeck.log"));
    let file = [Some(table.log_of(DECK)), common].into_iter().flatten().find(|file| file.exists());
    let part = name.split_once('.').map_or(name, |(_, name)| name);
    (file, (name != DECK).then(|| part.to_owned()))
}

/// Whether a line of the deck's log names it: `source="kraken"`, `"sink":"influx"`, `service=bus`.
pub(crate) fn mentions(line: &str, name: &str) -> bool {
    ["source", "sink", "service"].iter().any(|field| {
        let plain = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}'));
        let mut plain = plain.filter_map(|word| word.split_once(['=', ':']));
        plain.any(|(key, value)| {
            key.trim_matches('"') == *field && value.trim_matches('"').split('/').next() == Some(name)
        })
    })
}

/// Prints what is added, for ever; a file that was emptied is read from its beginning.
fn follow(path: &Path, wanted: impl Fn(&str) -> bool, out: &mut Out) -> anyhow::Result<()> {
    let mut at = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut rest: Vec<u8> = Vec::new();
    loop {
        std::thread::sleep(LOOK_EVERY);
        let Ok(mut file) = File::open(path) else { continue };
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        if len < at {
            at = 0;
        }
        file.seek(SeekFrom::Start(at)).with_context(|| format!("reading {}", path.display()))?;
        at += file.take(1 << 20).read_to_end(&mut rest).with_context(|| format!("reading {}", path.display()))? as u64;
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        for line in String::from_utf8_lossy(&redact(&whole)).lines().filter(|line| wanted(line)) {
            out.line(line)?;
        }
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_what_its_fields_name() {
        assert!(mentions("2026 INFO session lost source=kraken error=\"x\"", "kraken"));
        assert!(mentions("INFO x source=kraken/private", "kraken"));
        assert!(mentions(r#"{"level":"INFO","sink":"influx","seq":7}"#, "influx"));
        assert!(!mentions("INFO kraken is a word", "kraken"));
        assert!(!mentions("INFO x source=kraken2", "kraken"));
    }
}
