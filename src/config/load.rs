//! Finding the layers of a config, laying them over each other, and checking the whole.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tapedeck_market::SmolStr;
use toml::Value;

use super::names::{OLD_NAMES, OldName, Target};
use super::problem::{Problem, Problems};
use super::schema::{FILE_SUFFIX, Node, STAGES, check_keys, coerce};
use super::secret::{HIDDEN, looks_secret, may_be_secret, secrets_of_urls, secrets_within};
use super::suggest::nearest;
use super::tree::{Origin, Tree};
use super::types::{Config, KindTable};
use crate::service::SERVICES;
use crate::sources::{KINDS, Session, Setup};

/// The config file of the current folder.
pub const DEFAULT_FILE: &str = "tapedeck.toml";
/// What begins the names of our own environment variables.
const ENV_PREFIX: &str = "TAPEDECK__";
/// A larger config file, or secret, is a mistake: `-c recording.json`.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where to look for a config, as the command line says it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `-c FILE`. Without it: `./tapedeck.toml`, then the user's config folder, then defaults.
    pub file: Option<PathBuf>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
}

/// Everything a config is made of, so that [`resolve`] is a function of its arguments.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The file's name for messages, and its text.
    pub file: Option<(String, String)>,
    pub set: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The `.env` file and what it says.
    pub dotenv: Option<(PathBuf, BTreeMap<String, String>)>,
    /// Credentials handed over by systemd, by name.
    pub credentials: BTreeMap<String, String>,
    /// Reads a `<key>_file`.
    pub read_secret: fn(&Path) -> io::Result<SecretText>,
}

/// What a `<key>_file` holds.
#[derive(Clone)]
pub struct SecretText {
    pub text: String,
    /// Others on this machine may read it too.
    pub open_to_others: bool,
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretText").field("open_to_others", &self.open_to_others).finish_non_exhaustive()
    }
}

impl Default for Inputs {
    /// No layer at all; files named inside are not opened.
    fn default() -> Self {
        Inputs {
            file: None,
            set: Vec::new(),
            env: BTreeMap::new(),
            dotenv: None,
            credentials: BTreeMap::new(),
            read_secret: |_| Err(io::Error::new(io::ErrorKind::Unsupported, "files are not read here")),
        }
    }
}

/// A config, and what is worth saying about it.
#[derive(Clone)]
pub struct Loaded {
    pub config: Config,
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
    /// Every value with its origin.
    pub tree: Tree,
    pub notes: Vec<Note>,
    /// Values that must appear in no output.
    pub secrets: Vec<String>,
    /// The file's name and text, for messages.
    text: Option<(String, String)>,
}

/// Counts, no values: the tree holds secrets.
impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("file", &self.file)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

/// Something a person should know about a config that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// It should be mended, not only known.
    pub warn: bool,
    pub text: String,
}

impl Note {
    fn info(text: String) -> Self {
        Note { warn: false, text }
    }
    fn warn(text: String) -> Self {
        Note { warn: true, text }
    }
}

/// Finds and reads all layers, and checks the whole.
///
/// # Errors
/// Every problem there is, each with its place.
pub fn load(place: &Place) -> Result<Loaded, Problems> {
    let path = match &place.file {
        Some(file) => Some(file.clone()),
        None => usual_files().into_iter().find(|file| file.is_file()),
    };
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Problems::from(Problem::new(&[], format!("reading config {}: {error}", path.display())))
    };
    let file = match &path {
        Some(path) => {
            let text = read_capped(path).map_err(|error| unreadable(path, &error))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let dotenv = read_dotenv(path.as_deref()).map_err(|(path, error)| unreadable(&path, &error))?;
    let inputs = Inputs {
        file,
        set: place.set.clone(),
        env: std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        dotenv,
        credentials: read_credentials(),
        read_secret,
    };
    let mut loaded = resolve(&inputs)?;
    loaded.file = path;
    Ok(loaded)
}

/// The config that a text alone makes: no environment, no files. Total on any text.
///
/// # Errors
/// Every problem there is.
pub fn parse_text(text: &str) -> Result<Config, Problems> {
    let file = Some((DEFAULT_FILE.to_owned(), text.to_owned()));
    resolve(&Inputs { file, ..Inputs::default() }).map(|loaded| loaded.config)
}

/// Lays the layers over each other and checks the whole.
///
/// # Errors
/// Every problem there is, each with its place.
pub fn resolve(inputs: &Inputs) -> Result<Loaded, Problems> {
    let mut tree = match &inputs.file {
        Some((name, text)) => Tree::parse(name, text)?,
        None => Tree::default(),
    };
    let mut list = Vec::new();
    let mut notes = Vec::new();
    override_from_env(&mut tree, inputs, &mut list);
    override_from_sets(&mut tree, &inputs.set, &mut list);
    read_secret_files(&mut tree, inputs, &mut notes, &mut list);
    let mut secrets = fill_old_names(&mut tree, inputs, &mut notes, &mut list);
    list.extend(lend_dsn(&mut tree).err().map(|problem| *problem));
    check_keys(&tree, &mut list);
    let config = super::check::read(&tree, &mut list);
    super::check::check(&config, &tree, &mut notes, &mut list);
    let text = inputs.file.clone();
    secrets.extend(secret_values(&tree));
    let problems = Problems { list, file: text.clone(), secrets: secrets.clone() };
    problems.into_result(Loaded { config, file: None, tree, notes, secrets, text })
}

/// `TAPEDECK__TAPE__DIR=…` sets `tape.dir`.
fn override_from_env(tree: &mut Tree, inputs: &Inputs, problems: &mut Vec<Problem>) {
    let mut found: Vec<(Vec<String>, String, Origin)> = Vec::new();
    let mut take = |names: &mut dyn Iterator<Item = (&String, &String)>, origin: &dyn Fn(&str) -> Origin| {
        for (name, raw) in names {
            let path: Vec<String> = match name.strip_prefix(ENV_PREFIX) {
                Some(rest) => rest.split("__").map(str::to_owned).collect(),
                None => continue,
            };
            found.push((path, raw.clone(), origin(name)));
        }
    };
    // Lowest first: what is set later wins.
    if let Some((file, names)) = &inputs.dotenv {
        take(&mut names.iter(), &|name| Origin::DotEnv { name: name.to_owned(), file: file.clone() });
    }
    take(&mut inputs.env.iter(), &|name| Origin::Env(name.to_owned()));
    take(&mut inputs.credentials.iter(), &|name| Origin::Credential(name.to_owned()));
    // Other services' credentials lie there too: only names that begin with one of our tables are ours.
    let ours = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        // `server.key` is everybody's name for the key of a certificate; ours have the name of a server in between.
        let enough = if parts[0] == "server" { 3 } else { 2 };
        parts.len() >= enough && Node::at(&Tree::default(), &parts[..1]).is_some()
    };
    for (name, raw) in inputs.credentials.iter().filter(|(name, _)| ours(name)) {
        found.push((name.split('.').map(str::to_owned).collect(), raw.clone(), Origin::Credential(name.clone())));
    }
    // A table's kind decides what its other keys take, so kinds go first.
    found.sort_by_key(|(path, ..)| !path.last().is_some_and(|key| key.eq_ignore_ascii_case("kind")));
    for (path, raw, origin) in found {
        if path.iter().any(String::is_empty) {
            problems.push(Problem::new(&[], "this name has an empty part").from(Some(origin)));
            continue;
        }
        let mut spelled: Vec<String> = Vec::new();
        for key in &path {
            let key = tree.spelling(&spelled, key);
            spelled.push(key);
        }
        set_raw(tree, &spelled, &raw, origin, problems);
    }
}

fn override_from_sets(tree: &mut Tree, sets: &[String], problems: &mut Vec<Problem>) {
    let mut parsed = Vec::new();
    for set in sets {
        let Some((key, raw)) = set.split_once('=') else {
            problems.push(wrong_set(set, "has no `=`"));
            continue;
        };
        match parse_key(key) {
            Some(path) => parsed.push((path, raw)),
            None => problems.push(wrong_set(set, "does not begin with a key")),
        }
    }
    parsed.sort_by_key(|(path, _)| path.last().is_none_or(|key| key != "kind"));
    for (path, raw) in parsed {
        set_raw(tree, &path, raw.trim(), Origin::Set, problems);
    }
}

/// The value behind the `=` may be a secret: only the key is shown.
fn wrong_set(set: &str, what: &str) -> Problem {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "._- \"".contains(c));
    let key = set.split(ends).next().unwrap_or_default();
    Problem::new(&[], format!("--set {key} {what}"))
        .help("write it as in --set tape.dir=/data/tape or --set 'source.kraken.pairs=[\"BTC/USD\"]'")
}

/// `a.b."c d"` → its parts, by TOML's own rules.
fn parse_key(key: &str) -> Option<Vec<String>> {
    if key.contains(['\n', '#', '=', '[', '{']) {
        return None;
    }
    let mut value = Value::Table(toml::from_str(&format!("{key} = 0")).ok()?);
    let mut path = Vec::new();
    while let Value::Table(table) = value {
        let (key, inner) = table.into_iter().next()?;
        path.push(key);
        value = inner;
    }
    Some(path)
}

fn set_raw(tree: &mut Tree, path: &[String], raw: &str, origin: Origin, problems: &mut Vec<Problem>) {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    let value = coerce(raw, Node::at(tree, &keys));
    problems.extend(tree.set(path, value, origin).err().map(|problem| *problem));
}

/// Replaces each `<key>_file` of a secret by what the file holds.
fn read_secret_files(tree: &mut Tree, inputs: &Inputs, notes: &mut Vec<Note>, problems: &mut Vec<Problem>) {
    for table in tables(tree) {
        let path: Vec<&str> = table.iter().map(String::as_str).collect();
        let Some(node) = Node::at(tree, &path) else { continue };
        for key in node.secrets() {
            let by_file = format!("{key}{FILE_SUFFIX}");
            let file_path: Vec<&str> = path.iter().copied().chain([by_file.as_str()]).collect();
            let Some(Value::String(file)) = tree.get(&file_path).cloned() else { continue };
            let key_path: Vec<&str> = path.iter().copied().chain([key]).collect();
            if tree.get(&key_path).is_some() {
                problems.push(tree.key_problem(&file_path, format!("`{key}` is given twice, once here by file")));
                continue;
            }
            match (inputs.read_secret)(Path::new(&file)) {
                Ok(secret) => {
                    if secret.open_to_others {
                        notes.push(Note::warn(format!("{file}: others on this machine may read it; chmod 600 it")));
                    }
                    let owned: Vec<String> = key_path.iter().map(|key| (*key).to_owned()).collect();
                    let value = Value::String(secret.text.trim_end_matches(['\n', '\r']).to_owned());
                    // The table exists: the key beside it was just read from it.
                    let set = tree.set(&owned, value, Origin::SecretFile(PathBuf::from(&file)));
                    problems.extend(set.err().map(|problem| *problem));
                    tree.remove(&file_path);
                }
                Err(error) => problems.push(tree.value_problem(&file_path, format!("reading {file}: {error}"))),
            }
        }
    }
}

/// Every table that has a schema: the sections, each source, and each sink.
fn tables(tree: &Tree) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (section, value) in tree.root() {
        match value.as_table() {
            Some(named) if STAGES.contains(&section.as_str()) => {
                found.extend(named.keys().map(|name| vec![section.clone(), name.clone()]));
            }
            Some(table) => {
                found.push(vec![section.clone()]);
                // One level more: [sync.source], [sync.target].
                for (name, inner) in table {
                    let Some(inner) = inner.as_table() else { continue };
                    found.push(vec![section.clone(), name.clone()]);
                    // And one more for [server.NAME.env], whose variables may be passwords.
                    let deeper = inner.iter().filter(|(_, value)| value.is_table());
                    found.extend(deeper.map(|(key, _)| vec![section.clone(), name.clone(), key.clone()]));
                }
            }
            None => {}
        }
    }
    found
}

/// Every value of a key that holds a secret, and what URLs hold of them, wherever it stands.
fn secret_values(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    add_secrets(tree, &mut Vec::new(), tree.root(), &mut found);
    found
}

fn add_secrets<'a>(tree: &Tree, path: &mut Vec<&'a str>, table: &'a toml::Table, found: &mut Vec<String>) {
    let node = Node::at(tree, path);
    for (key, value) in table {
        path.push(key);
        // A variable of a server is hidden everywhere by its name only: `8086` and `true` are values, too.
        let named = node.is_some_and(|node| node.keys().contains(&key.as_str()));
        let secret = Node::at(tree, path).is_some_and(|node| node.is_secret(key)) && (named || may_be_secret(key));
        add_secret(tree, path, value, secret || looks_secret(key), found);
        path.pop();
    }
}

fn add_secret<'a>(tree: &Tree, path: &mut Vec<&'a str>, value: &'a Value, whole: bool, found: &mut Vec<String>) {
    match value {
        Value::Table(inner) => add_secrets(tree, path, inner, found),
        Value::Array(values) => values.iter().for_each(|value| add_secret(tree, path, value, whole, found)),
        Value::String(text) if whole => {
            found.push(text.clone());
            found.extend(secrets_within(text));
        }
        Value::String(text) => found.extend(secrets_of_urls(text)),
        // Digits without quotes are refused where a text is expected, and told.
        Value::Integer(_) | Value::Float(_) if whole => found.push(value.to_string()),
        _ => {}
    }
}

/// Lets the predecessors' names fill what is missing. Returns the secrets among their values.
fn fill_old_names(tree: &mut Tree, inputs: &Inputs, notes: &mut Vec<Note>, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut secrets = Vec::new();
    for row in OLD_NAMES {
        let Some((raw, origin)) = old_value(row, inputs) else { continue };
        if row.secret {
            secrets.push(raw.clone());
            secrets.extend(secrets_within(&raw));
        }
        let table = target_table(tree, row);
        if let Target::Part { section, .. } = row.table
            && tree.get(&[section]).is_none()
            && !parts_are_named(inputs)
        {
            // One that has a use elsewhere is no name in vain.
            if OLD_NAMES.iter().any(|other| other.name == row.name && other.table != row.table) {
                continue;
            }
            let target = row.table.describe();
            notes.push(Note::info(format!(
                "{} ({origin}) is not used: there is no [{section}] ({target} {})",
                row.name, row.key
            )));
            continue;
        }
        let value = match row.form.read(&raw) {
            Ok(value) => value,
            Err(expected) => {
                let shown = if row.secret { HIDDEN } else { &raw };
                problems
                    .push(Problem::new(&[], format!("{}: `{shown}` is not {expected}", row.name)).from(Some(origin)));
                continue;
            }
        };
        if let Some(missing) = missing_for_new(tree, row, &table, inputs) {
            let target = row.table.describe();
            notes.push(Note::info(format!(
                "{} ({origin}) is not used: there is no {target}, and one of its own would need `{missing}`",
                row.name
            )));
            continue;
        }
        let path: Vec<String> = table.iter().cloned().chain([row.key.to_owned()]).collect();
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(said) = tree.own_origin(&keys) {
            notes.push(Note::info(format!("{} ({origin}) is not used: {said} says {}", row.name, keys.join("."))));
            continue;
        }
        if let Target::Kind { kind, .. } = row.table {
            let kind_path: Vec<String> = table.iter().cloned().chain(["kind".to_owned()]).collect();
            let keys: Vec<&str> = kind_path.iter().map(String::as_str).collect();
            if tree.get(&keys).is_none() {
                problems.extend(tree.set(&kind_path, Value::from(kind), origin.clone()).err().map(|problem| *problem));
            }
        }
        problems.extend(tree.set(&path, value, origin).err().map(|problem| *problem));
    }
    secrets
}

/// Where symbols come from a database that is not named, it is the one that is written to.
fn lend_dsn(tree: &mut Tree) -> Result<(), Box<Problem>> {
    let of_kind = |name: &String| tree.get(&["sink", name, "kind"]).and_then(Value::as_str) == Some("postgres");
    let Some(sink) = names(tree, "sink").into_iter().find(of_kind) else { return Ok(()) };
    let dsn = ["sink", sink.as_str(), "dsn"];
    let (Some(value), Some(origin)) = (tree.get(&dsn).cloned(), tree.own_origin(&dsn).cloned()) else { return Ok(()) };
    for source in names(tree, "source") {
        if tree.get(&["source", &source, "kind"]).and_then(Value::as_str) != Some("kite") {
            continue;
        }
        let asks = tree.get(&["source", &source, "symbols_from_db"]).is_some();
        let told = ["symbols_dsn", "symbols_dsn_file"].iter().any(|key| tree.get(&["source", &source, key]).is_some());
        if asks && !told {
            let path = ["source", &source, "symbols_dsn"].map(str::to_owned);
            tree.set(&path, value.clone(), origin.clone())?;
        }
    }
    Ok(())
}

/// What a name is set to; empty is how templates say "not set".
fn old_value(row: &OldName, inputs: &Inputs) -> Option<(String, Origin)> {
    let set = |value: &&String| !value.trim().is_empty();
    let name = row.name.to_owned();
    let credential = inputs.credentials.iter().find(|(known, _)| known.eq_ignore_ascii_case(row.name));
    if let Some((known, value)) = credential.filter(|(_, value)| set(value)) {
        return Some((value.clone(), Origin::Credential(known.clone())));
    }
    if let Some(value) = inputs.env.get(row.name).filter(set) {
        return Some((value.clone(), Origin::Env(name)));
    }
    let (file, names) = inputs.dotenv.as_ref()?;
    let value = names.get(row.name).filter(set)?;
    Some((value.clone(), Origin::DotEnv { name, file: file.clone() }))
}

/// Whether names say from where and to where the sync goes: either alone may be there for somebody else.
fn parts_are_named(inputs: &Inputs) -> bool {
    let named = |part: &str, keys: &[&str]| {
        OLD_NAMES.iter().any(|row| {
            matches!(row.table, Target::Part { part: known, .. } if known == part)
                && keys.contains(&row.key)
                && old_value(row, inputs).is_some()
        })
    };
    named("source", &["url", "host"]) && named("target", &["url"])
}

/// The table that a name fills: the first of its kind, or a new one. `None`: this version has no such table.
fn target_table(tree: &Tree, row: &OldName) -> Vec<String> {
    match row.table {
        Target::Section(section) => vec![section.to_owned()],
        Target::Part { section, part } => vec![section.to_owned(), part.to_owned()],
        Target::Kind { stage, kind } => {
            let named: Vec<String> = names(tree, stage);
            let of_kind = |name: &String| tree.get(&[stage, name, "kind"]).and_then(Value::as_str) == Some(kind);
            let name = named.iter().find(|name| of_kind(name)).cloned().unwrap_or_else(|| free_name(&named, kind));
            vec![stage.to_owned(), name]
        }
    }
}

/// A key that a new table would need and no name gives: then none is made, because it could only be wrong.
fn missing_for_new(tree: &Tree, row: &OldName, table: &[String], inputs: &Inputs) -> Option<&'static str> {
    let Target::Kind { stage, kind } = row.table else { return None };
    let path: Vec<&str> = table.iter().map(String::as_str).collect();
    if tree.get(&path).is_some() {
        return None;
    }
    let given = |key: &str| {
        OLD_NAMES.iter().any(|other| other.table == row.table && other.key == key && old_value(other, inputs).is_some())
    };
    Node::kind(stage, kind)?.required().into_iter().find(|key| !given(key))
}

fn free_name(taken: &[String], kind: &str) -> String {
    let numbered = (2..).map(|n| format!("{kind}-{n}"));
    std::iter::once(kind.to_owned())
        .chain(numbered)
        .find(|name| !taken.contains(name))
        // The numbers do not end before the names do.
        .unwrap_or_else(|| kind.to_owned())
}

/// Names of the tables of a stage, in the order of the file; others behind.
pub(super) fn names(tree: &Tree, stage: &str) -> Vec<String> {
    let Some(named) = tree.get(&[stage]).and_then(Value::as_table) else { return Vec::new() };
    let mut names: Vec<String> = named.keys().cloned().collect();
    names.sort_by_key(|name| tree.line(&[stage, name]).unwrap_or(usize::MAX));
    names
}

impl Loaded {
    /// Builds the sources: each kind checks its own table. `only`: these names, else all.
    ///
    /// # Errors
    /// Every problem of every table, a name that no table has, or that there is no source at all.
    pub fn build(&self, only: &[String]) -> Result<Vec<Session>, Problems> {
        let mut problems = Problems { list: Vec::new(), file: self.text.clone(), secrets: self.secrets.clone() };
        let known: Vec<&str> = self.config.sources.iter().map(|source| source.name.as_str()).collect();
        let services = SERVICES.iter().filter(|kind| (kind.section)(&self.config).is_some()).map(|kind| kind.name);
        let sinks = self.config.sinks.iter().map(|sink| sink.name.as_str());
        let all: Vec<&str> = known.iter().copied().chain(sinks).chain(services).collect();
        for name in only.iter().filter(|name| !all.contains(&name.as_str())) {
            let help = match nearest(name, all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", all.join(", ")),
            };
            problems.list.push(Problem::new(&[], format!("there is no [source.{name}]")).help(help));
        }
        if known.is_empty() {
            problems.list.push(
                Problem::new(&[], "nothing to record: the config names no source")
                    .help("`tapedeck init` writes a config to begin with; `tapedeck demo` needs none"),
            );
        }
        let mut sessions = Vec::new();
        for source in &self.config.sources {
            if only.is_empty() || only.iter().any(|name| *name == source.name) {
                match self.build_one(source) {
                    Ok(built) => sessions.extend(built),
                    Err(problem) => problems.list.push(*problem),
                }
            }
        }
        for sink in &self.config.sinks {
            let path = ["sink", sink.name.as_str()];
            if SERVICES.iter().any(|kind| kind.name == sink.name) {
                let message = format!("`{}` is the name of a service of tapedeck: choose another", sink.name);
                problems.list.push(self.tree.key_problem(&path, message));
            } else if let Err(error) = crate::sinks::build(sink, &self.config.tape.dir) {
                problems.list.push(super::check::table_problem(&self.tree, &path, &error));
            }
        }
        problems.into_result(sessions)
    }

    fn build_one(&self, source: &KindTable) -> Result<Vec<Session>, Box<Problem>> {
        let path = ["source", source.name.as_str()];
        let Some(kind) = KINDS.iter().find(|kind| kind.name == source.kind) else {
            return Err(Box::new(self.tree.key_problem(&path, format!("there is no kind `{}`", source.kind))));
        };
        let setup = Setup { name: source.name.clone(), table: source.table.clone(), dir: self.config.tape.dir.clone() };
        (kind.build)(setup).map_err(|error| Box::new(super::check::table_problem(&self.tree, &path, &error)))
    }

    /// Sources whose tables differ between two configs, by name: changed, new and gone.
    #[must_use]
    pub fn changed_sources(&self, new: &Loaded) -> Vec<SmolStr> {
        let by_name = |loaded: &Loaded| -> HashMap<SmolStr, KindTable> {
            loaded.config.sources.iter().map(|source| (source.name.clone(), source.clone())).collect()
        };
        let (old, new) = (by_name(self), by_name(new));
        let mut names: Vec<SmolStr> =
            old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
        names.sort();
        names.dedup();
        names
    }
}

fn usual_files() -> Vec<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let user = home.map(|home| home.join("tapedeck").join(DEFAULT_FILE));
    std::iter::once(PathBuf::from(DEFAULT_FILE)).chain(user).collect()
}

/// The `.env` beside the config, or else the one of the current folder.
type DotEnv = Option<(PathBuf, BTreeMap<String, String>)>;

fn read_dotenv(config: Option<&Path>) -> Result<DotEnv, (PathBuf, dotenvy::Error)> {
    let beside = config.and_then(Path::parent).map(|dir| dir.join(".env"));
    let Some(path) = beside.into_iter().chain([PathBuf::from(".env")]).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let read = || dotenvy::from_path_iter(&path)?.collect::<Result<BTreeMap<_, _>, _>>();
    match read() {
        Ok(names) => Ok(Some((path, names))),
        // The parser's own message shows the line, which may hold a secret.
        Err(dotenvy::Error::LineParse(_, at)) => {
            let error = io::Error::new(io::ErrorKind::InvalidData, format!("a line cannot be read, near column {at}"));
            Err((path, dotenvy::Error::Io(error)))
        }
        Err(error) => Err((path, error)),
    }
}

/// Files of `$CREDENTIALS_DIRECTORY`, as systemd's `LoadCredential=` puts them there.
fn read_credentials() -> BTreeMap<String, String> {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return BTreeMap::new() };
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let text = read_capped(&entry.path()).ok()?;
            Some((entry.file_name().into_string().ok()?, text.trim_end_matches(['\n', '\r']).to_owned()))
        })
        .collect()
}

fn read_secret(path: &Path) -> io::Result<SecretText> {
    use std::os::unix::fs::PermissionsExt;
    let open_to_others = std::fs::metadata(path)?.permissions().mode() & 0o077 != 0;
    Ok(SecretText { text: read_capped(path)?, open_to_others })
}

fn read_capped(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 4 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
