//! `tapedeck import`: the predecessors' files as they were, in; a config that loads, starts and validates, out.

mod files;
mod runs;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tapedeck::config::{Inputs, resolve};

use crate::support::tapedeck;

/// A folder with their files.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new(files: &[(&str, &str)]) -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        for (name, text) in files {
            std::fs::write(desk.path(name), text).unwrap();
        }
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tapedeck();
        command.args(args).current_dir(self.0.path());
        command
    }

    /// Code, standard output, standard error.
    pub(crate) fn say(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let out = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    }

    /// The answer of `import … --json --dry-run`.
    pub(crate) fn import(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.say(&[&["import"], args, &["--json", "--dry-run"]].concat());
        assert_eq!(code, Some(0), "{args:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }
}

/// Whether a config loads, and its sources and sinks can be built, as `run` does before it starts anything.
fn is_a_config(toml: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let inputs = Inputs { file: Some(("imported".to_owned(), toml.to_owned())), ..Inputs::default() };
    let loaded = resolve(&inputs).unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
    if !loaded.config.sources.is_empty() {
        loaded.build(&[]).unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
    }
}

/// Every value of a document, by its path; a list of plain values is one.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                paths(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (at, value) in list.iter().enumerate() {
                paths(value, &format!("{path}[{at}]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn names<'a>(answer: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    answer[list].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}
