//! The documents: every command that they show exists, and the first five minutes are done as they stand there.

mod symptoms;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::deck::blocking;
use crate::support::{free_offset, free_port};

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(repo().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    docs.chain([repo().join("README.md")]).collect()
}

/// The lines of the blocks of a document that are for a shell.
fn shell(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut within = false;
    for line in text.lines() {
        match line.trim_start() {
            fence if fence.starts_with("```") => within = !within && fence == "```sh",
            _ if within => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// The words of a command of ours on a line, without what a shell does with it.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let rest = line.strip_prefix("tapedeck ")?;
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut quoted = false;
    for c in rest.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
            (None, '#' | '|' | '>' | '<' | '&' | ';') if word.is_empty() => break,
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() || quoted {
                    words.push(std::mem::take(&mut word));
                    quoted = false;
                }
            }
            (None, c) => word.push(c),
        }
    }
    if !word.is_empty() || quoted {
        words.push(word);
    }
    // `2>&1`, cut before its arrow.
    if rest.contains("2>") && words.last().is_some_and(|last| last == "2") {
        words.pop();
    }
    Some(words)
}

#[test]
fn every_command_that_is_shown_exists_with_its_flags() {
    let mut seen = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in shell(&text) {
            let Some(words) = words(&line) else { continue };
            seen += 1;
            if let Err(error) = tapedeck::cli::parses(&words) {
                panic!("{}: {line}\n{error}", path.display());
            }
        }
    }
    assert!(seen > 60, "{seen} commands");
}

/// Commands within a line, as tables have them; `…` stands for any.
fn spans(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.filter(|part| part.starts_with("tapedeck ") && !part.contains('…')).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_guides_exists_in_tables_and_screens_too() {
    let mut seen = 0;
    for name in ["migration", "operations"] {
        let text = std::fs::read_to_string(repo().join(format!("docs/{name}.md"))).unwrap();
        let screens = text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned);
        let lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with("```")).flat_map(spans).chain(screens).collect();
        for line in lines {
            let Some(words) = words(&line) else { continue };
            seen += 1;
            // A verb by itself is a name: there must be one, and what it wants is not said.
            let is_name = words.iter().all(|word| !word.starts_with('-'));
            let help = [words.as_slice(), &["--help".to_owned()]].concat();
            if let Err(error) = tapedeck::cli::parses(&words)
                && !(is_name && tapedeck::cli::parses(&help).is_ok())
            {
                panic!("{name}: {line}\n{error}");
            }
        }
    }
    assert!(seen > 120, "{seen} commands");
}

/// Where a step fails nothing may go on running.
const CLEAN: &str = "set +e; tapedeck down >/dev/null 2>&1; kill $(jobs -p) 2>/dev/null; true";

/// The text with another behind the line that begins so.
fn after(text: &str, begins: &str, more: &str) -> String {
    assert!(text.lines().any(|line| line.starts_with(begins)), "{begins}: {text}");
    let add = |line: &str| if line.starts_with(begins) { format!("{line}{more}") } else { line.to_owned() };
    text.lines().map(add).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_five_minutes_are_as_they_are_written() {
    let text = std::fs::read_to_string(repo().join("docs/quickstart.md")).unwrap();
    let (venue, http) = (free_port(), free_port());
    let script = shell(&text).join("\n").replace(":8080", &format!(":{venue}")).replace(":7373", &format!(":{http}"));
    // Whoever types it is slower: the venue listens by the next line, and has sent its books.
    let listens = format!("\nuntil (exec 3<>/dev/tcp/127.0.0.1/{venue}) 2> /dev/null; do sleep 0.05; done");
    let script = after(&script, "tapedeck simulate", &listens);
    let script = after(&script, "tapedeck up", "\nuntil tapedeck book BTC/USD > /dev/null 2>&1; do sleep 0.05; done");
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tapedeck")).parent().unwrap().to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let folder = home.path().to_owned();
    let out = blocking(move || {
        Command::new("bash")
            // As a person would type it: jobs have numbers.
            .args(["-c", &format!("set -eum -o pipefail\ntrap '{CLEAN}' EXIT\n{script}")])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &folder)
            .env("TAPEDECK__HTTP__LISTEN", format!("127.0.0.1:{http}"))
            .env("TAPEDECK__BUS__PORT_OFFSET", free_offset().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    })
    .await;
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}\n{errors}");
    for word in ["up after", "kraken_tick", "down", "deck stopped"] {
        assert!(said.contains(word) || errors.contains(word), "{word}: {said}\n{errors}");
    }
    let trades = std::fs::read_to_string(home.path().join("trades.jsonl")).unwrap();
    assert!(trades.lines().count() > 10, "{trades}");
}
