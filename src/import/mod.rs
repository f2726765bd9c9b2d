//! The predecessors' settings as a config of ours: from texts to a text, with a reason for every key that stays behind.
//!
//! ```text
//! file ─► which kind (`kind`) ─► its keys (`keys`) ─► tables and values (`draft`) ─► what is needed beside (`complete`)
//!                                                                                  ─► tried as a config ─► TOML
//! ```
//!
//! - Every key of every file is either taken or left with its reason: `keys` counts them.
//! - No secret is in the text, in a comment, or in a reason: a secret is known by its name and by its place alone.
//! - What comes out is a config that loads, and whose sources and sinks can be built: what the config refuses is taken out
//!   again, with the refusal as the reason.

mod complete;
mod draft;
mod environment;
mod integration;
mod keys;
mod kind;
mod python;
mod settings;
mod sync;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::config::Secret;
use draft::Draft;
pub use draft::grouped;
pub use kind::Kind;

/// A file to import.
#[derive(Clone, Debug)]
pub struct File {
    /// As the user wrote it.
    pub path: PathBuf,
    pub text: String,
    pub kind: Kind,
}

/// What is said beside the files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Symbols for the broker, which its service took from the command line.
    pub symbols: Vec<String>,
    /// Folder for the secrets; without it they are named, and written nowhere.
    pub secrets: Option<PathBuf>,
}

/// A config, and what became of every key.
#[derive(Debug, Serialize)]
pub struct Imported {
    pub toml: String,
    pub taken: Vec<Taken>,
    pub left: Vec<Left>,
    pub secrets: Vec<SecretKey>,
    /// Whether a deck has something to record; without, it is a config of `tapedeck sync` alone.
    pub records: bool,
}

/// A key that became one of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    pub from: String,
    /// As `sink.influx.host`.
    pub to: String,
}

/// A key that did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub file: String,
    pub key: String,
    pub reason: String,
}

/// A secret, by name and place.
#[derive(Debug, Serialize)]
pub struct SecretKey {
    pub from: String,
    /// As `sink.influx.password`.
    pub to: String,
    /// The environment variable that gives it.
    pub variable: String,
    /// The file that holds it, where there is a folder for secrets.
    pub file: Option<PathBuf>,
    #[serde(skip)]
    pub value: Secret,
}

/// Imports files, earlier ones first: of two that say different things the first one counts.
///
/// # Errors
/// A file that is not of its kind.
pub fn import(files: &[File], options: &Options) -> anyhow::Result<Imported> {
    let mut draft = Draft::new(options);
    for file in files {
        draft.begin(&shown(&file.path));
        let read = match file.kind {
            Kind::Integration => integration::read(&file.text, &mut draft),
            Kind::Settings => settings::read(&file.path, &file.text, &mut draft),
            Kind::Sync => sync::read(&file.path, &file.text, &mut draft),
            Kind::Env => environment::read(&file.text, &mut draft),
            Kind::Symbols => symbols(&file.path, &file.text, &mut draft),
        };
        read.with_context(|| format!("reading {} as {}", shown(&file.path), file.kind.name()))?;
    }
    if !options.symbols.is_empty() {
        draft.begin("--symbols");
        let names = options.symbols.iter().map(|name| toml::Value::from(name.as_str())).collect::<Vec<_>>();
        draft.source("kite");
        draft.set("source.kite", "instruments", names, "--symbols");
    }
    complete::complete(&mut draft);
    trial::take_out_what_is_refused(&mut draft);
    Ok(draft.finish(files))
}

/// A list of instruments stays a file: the source reads it as it is.
fn symbols(path: &Path, text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    let count = crate::sources::listed::file(path)?.len();
    draft.source("kite");
    draft.comment("source.kite", &format!("{count} instruments, read at each start."));
    draft.set("source.kite", "instruments_file", path.display().to_string(), "the list");
    if let Some(serde_json::Value::Object(object)) = keys::value_of(path, text) {
        for (key, _) in object.iter().filter(|(_, value)| !value.is_array()) {
            draft.leave(key, "is no list: of this file only lists of instruments are read");
        }
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
