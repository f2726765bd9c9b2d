//! Every file of `examples/`, the file of `init`, and `.env.example` are what they say they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tapedeck::config::names::{Form, OLD_NAMES};
use tapedeck::config::schema::{self, STAGES};
use tapedeck::config::{Inputs, Loaded, resolve};

use crate::support::tapedeck;

fn repo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(repo().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    files
}

/// Loads a file and builds its sources, as `run` does before it starts anything.
fn problems_of(path: &Path) -> Option<String> {
    // As `main` does, for the clients of sinks.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = std::fs::read_to_string(path).unwrap();
    let inputs = Inputs { file: Some((path.display().to_string(), text)), ..Inputs::default() };
    let build = |loaded: Loaded| {
        // What syncs records nothing.
        let syncs = loaded.config.sync.is_some() && loaded.config.sources.is_empty();
        if syncs { Ok(()) } else { loaded.build(&[]).map(drop) }
    };
    resolve(&inputs).and_then(build).err().map(|problems| problems.to_string())
}

#[test]
fn every_example_is_a_config_whose_sources_can_be_built() {
    let files = examples();
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        assert_eq!(problems_of(&path), None, "{}", path.display());
    }
}

#[test]
fn what_init_writes_passes_check() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| tapedeck().args(args).current_dir(home.path()).output().unwrap();
    let init = run(&["init"]);
    assert!(init.status.success(), "{init:?}");
    assert_eq!(problems_of(&home.path().join("tapedeck.toml")), None);
    // Not the ports of a deck that may run here.
    let elsewhere = format!("bus.port_offset={}", crate::support::free_offset());
    let free = ["--set", "http.listen=off", "--set", "store.sql_listen=off", "--set", &elsewhere];
    let check = run(&[["check", "--offline"].as_slice(), &free].concat());
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let again = run(&["init"]);
    assert_eq!(again.status.code(), Some(2), "a file that is there is not replaced");
    assert!(run(&["init", "--force"]).status.success());
}

#[test]
fn the_defaults_that_init_shows_as_comments_are_the_defaults() {
    let home = tempfile::tempdir().unwrap();
    let show = |text: &str| {
        let path = home.path().join("tapedeck.toml");
        std::fs::write(&path, text).unwrap();
        let out = tapedeck().args(["config", "show", "--json", "-c"]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let shown: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
        let value =
            |one: &serde_json::Value| (one["table"].to_string() + "." + &one["key"].to_string(), one["value"].clone());
        shown.iter().map(value).collect::<std::collections::BTreeMap<_, _>>()
    };
    let template = tapedeck().args(["init", "-"]).output().unwrap();
    let template = String::from_utf8(template.stdout).unwrap();
    let plain = show(&template);
    // A commented line `# key = value` becomes a setting; keys without a default of that value are left out.
    let no_default = ["keep", "api_key_file", "api_secret_file", "dir", "channels"];
    let opened: Vec<String> = template
        .lines()
        .map(|line| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
            Some((key, _)) if !key.contains(' ') && !no_default.contains(&key) => line[2..].to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    assert!(opened.iter().filter(|line| !line.starts_with('#')).count() > 15, "the comments were found");
    assert_eq!(show(&opened.join("\n")), plain);
}

#[test]
fn the_environment_example_has_every_name_and_no_other() {
    let text = std::fs::read_to_string(repo().join(".env.example")).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "nothing in it is switched on");
    let shown: Vec<(&str, &str)> = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once('=')).collect();
    let names: BTreeSet<&str> =
        shown.iter().map(|(name, _)| *name).filter(|name| !name.starts_with("TAPEDECK__")).collect();
    let known: BTreeSet<&str> = OLD_NAMES.iter().map(|row| row.name).collect();
    assert_eq!(names, known);
    for row in OLD_NAMES {
        let (_, value) = shown.iter().find(|(name, _)| *name == row.name).unwrap();
        assert!(value.is_empty() || row.form.read(value).is_ok(), "{} = {value}", row.name);
        assert!(value.is_empty() || row.form != Form::Text || !row.secret || row.name == "PG_CONN_STR", "{}", row.name);
    }
}

#[test]
fn the_reference_of_the_config_is_what_the_code_says() {
    let (path, text) = (repo().join("docs/keys.md"), tapedeck::config::reference::document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(file == text, "docs/keys.md is not what the code says: UPDATE_GOLDEN=1 writes it anew");
    for kind in STAGES.into_iter().flat_map(schema::kinds) {
        assert!(text.contains(&format!("`kind = \"{}\"`", kind.name)), "{}", kind.name);
    }
}

#[test]
fn the_documentation_of_the_config_has_every_key() {
    let text = std::fs::read_to_string(repo().join("docs/configuration.md")).unwrap();
    let sections = schema::whole()["properties"].as_object().unwrap();
    for (section, _) in sections.iter().filter(|(name, _)| *name != "source") {
        let node = schema::Node::at(&Default::default(), &[section]).unwrap();
        for key in node.keys() {
            assert!(text.contains(&format!("| `{key}` |")), "[{section}] {key} is not in docs/configuration.md");
        }
    }
    for row in OLD_NAMES {
        assert!(text.contains(&format!("`{}`", row.name)), "{} is not in docs/configuration.md", row.name);
    }
}
