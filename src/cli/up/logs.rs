//! `tapedeck logs`: what the deck, a server or the supervisor says.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::{self, Out};
use crate::cli::reading::Where;
use crate::config::Config;
use crate::config::suggest::nearest;
use crate::logs::redact;
use crate::up::{DECK, Table, log};

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SUPERVISOR: &str = "supervisor";
/// The fields of a line of the deck's log that say what it is about.
const FIELDS: [&str; 3] = ["source", "sink", "service"];

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
        let config = loaded.as_ref().map(|loaded| &loaded.config);
        let table = Table::of(&dir);
        let (path, about) = find(&table, &self.name, logs);
        let Some(path) = path else {
            if !table.list().is_empty() {
                is_known(about.as_ref().unwrap_or(&self.name), &known(&dir, config, &[]))?;
            }
            return Err(End::Absent(format!("no log in {}: nothing was started there", dir.display())).into());
        };
        let wanted = |line: &str| about.as_ref().is_none_or(|name| mentions(line, name));
        let all = log::last_lines(&path, 0, usize::MAX);
        let lines: Vec<&String> = all.iter().filter(|line| wanted(line)).collect();
        if lines.is_empty() {
            if let Some(name) = &about {
                is_known(name, &known(&dir, config, &all))?;
            }
            eprintln!("no lines of `{}` in {} yet", self.name, path.display());
        }
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

/// Every name that has lines, or may come to have some: of the process table, the config, the deck that runs, and the log itself.
fn known(dir: &Path, config: Option<&Config>, lines: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [DECK, SUPERVISOR].map(str::to_owned).into();
    names.extend(Table::of(dir).list().into_iter().map(|entry| entry.name));
    if let Some(config) = config {
        names.extend(super::parts(config).into_iter().map(str::to_owned));
        names.extend(config.servers.iter().map(|named| named.name.to_string()));
    }
    // A deck that does not answer adds none.
    names.extend(crate::cli::block_on(async { Ok(super::restart::inside(dir).await) }).unwrap_or_default());
    names.extend(lines.iter().flat_map(|line| named(line)).map(str::to_owned));
    names
}

fn is_known(name: &str, known: &BTreeSet<String>) -> anyhow::Result<()> {
    if known.contains(name) {
        return Ok(());
    }
    let near = nearest(name, known.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let all: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(End::Absent(format!("nothing is called `{name}` here; {near}There are: {}", all.join(", "))).into())
}

/// Whether a line of the deck's log names it: `source="kraken"`, `"sink":"influx"`, `service=bus`.
pub(crate) fn mentions(line: &str, name: &str) -> bool {
    named(line).any(|one| one == name)
}

/// What a line of the deck's log is about.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}'));
    let fields = words.filter_map(|word| word.split_once(['=', ':']));
    let ours = fields.filter(|(key, _)| FIELDS.contains(&key.trim_matches('"')));
    ours.filter_map(|(_, value)| value.trim_matches('"').split('/').next())
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
