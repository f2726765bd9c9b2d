//! A config as it is put together: tables with values, comments and places for secrets, printed at the end.

use std::fmt::Write as _;
use std::path::PathBuf;

use toml::Value;

use super::{File, Imported, Left, Options, SecretKey, Taken};
use crate::config::Secret;
use crate::config::names::{OLD_NAMES, Target};
use crate::config::secret::secrets_of_urls;

/// The order of tables in the file: as data flows.
const ORDER: [&str; 14] = [
    "tape",
    "source",
    "candles",
    "synthetic",
    "bus",
    "store",
    "sink",
    "sync",
    "heartbeat",
    "grafana",
    "log",
    "http",
    "deck",
    "server",
];
/// What stands above a config of a deck, and of the sync alone.
const DECK: &str = "#
#   tapedeck check            is all of this right, and does everything answer?
#   tapedeck up               all in the background; tapedeck run: in the foreground
#   tapedeck validate full    does data flow, from the venues to the stores?
";
const SYNC: &str = "#
#   tapedeck sync check       do both sides answer, and fit together?
#   tapedeck sync init        make the collections
#   tapedeck sync run         bring everything over; tapedeck sync watch: and follow
";
/// Lines of comments are broken behind so many characters.
const WIDTH: usize = 110;

#[derive(Debug)]
pub(super) struct Draft {
    tables: Vec<Table>,
    taken: Vec<Taken>,
    left: Vec<Left>,
    secrets: Vec<SecretKey>,
    folder: Option<PathBuf>,
    /// The file that is being read.
    file: String,
}

#[derive(Debug)]
struct Table {
    /// `sink.influx`
    path: String,
    lines: Vec<Line>,
    /// Why the whole table is only a comment.
    off: Option<String>,
}

#[derive(Debug)]
enum Line {
    Comment(String),
    Value {
        key: String,
        value: Value,
        from: String,
        /// Why it is only a comment.
        off: Option<String>,
    },
    /// By its number among the secrets.
    Secret(usize),
}

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    User,
    /// The trial, which needs the secrets that will be in files: this text is printed nowhere.
    Trial,
}

impl Draft {
    pub(super) fn new(options: &Options) -> Draft {
        Draft {
            tables: Vec::new(),
            taken: Vec::new(),
            left: Vec::new(),
            secrets: Vec::new(),
            folder: options.secrets.clone(),
            file: String::new(),
        }
    }

    /// From now on it is this file's keys.
    pub(super) fn begin(&mut self, file: &str) {
        file.clone_into(&mut self.file);
    }

    fn table(&mut self, path: &str) -> &mut Table {
        let at = match self.tables.iter().position(|table| table.path == path) {
            Some(at) => at,
            None => {
                self.tables.push(Table { path: path.to_owned(), lines: Vec::new(), off: None });
                self.tables.len() - 1
            }
        };
        &mut self.tables[at]
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.tables.iter().any(|table| table.path == path)
    }

    /// Tables below a section, `source` or `sink`.
    pub(super) fn any_below(&self, section: &str) -> bool {
        let prefix = format!("{section}.");
        self.tables.iter().any(|table| table.path.starts_with(&prefix) && table.off.is_none())
    }

    /// A value that was set.
    pub(super) fn get(&self, path: &str, key: &str) -> Option<&Value> {
        let table = self.tables.iter().find(|table| table.path == path)?;
        table.lines.iter().find_map(|line| match line {
            Line::Value { key: known, value, off: None, .. } if known == key => Some(value),
            _ => None,
        })
    }

    /// Makes a table that says something by being there.
    pub(super) fn make(&mut self, path: &str) {
        self.table(path);
    }

    /// The table of a source, named like its kind.
    pub(super) fn source(&mut self, kind: &str) {
        self.kind("source", kind, kind);
    }

    pub(super) fn kind(&mut self, stage: &str, name: &str, kind: &str) {
        let path = format!("{stage}.{name}");
        if !self.has(&path) {
            let value = Value::from(kind);
            let line = Line::Value { key: "kind".to_owned(), value, from: String::new(), off: None };
            self.table(&path).lines.push(line);
        }
    }

    pub(super) fn comment(&mut self, path: &str, text: &str) {
        let text = one_line(text);
        let table = self.table(path);
        if !table.lines.iter().any(|line| matches!(line, Line::Comment(known) if *known == text)) {
            table.lines.push(Line::Comment(text));
        }
    }

    /// Sets a key; what an earlier file said stays. A value with a login in it is no value but a secret.
    pub(super) fn set(&mut self, path: &str, key: &str, value: impl Into<Value>, from: &str) {
        let value = value.into();
        if let Value::String(text) = &value
            && !secrets_of_urls(text).is_empty()
        {
            let reason = format!(
                "holds a login: write the address into {path}.{key} without it, and give user and password by their own keys"
            );
            return self.leave(from, reason);
        }
        if matches!(&value, Value::String(text) if text.contains(char::is_control)) {
            return self.leave(from, "holds characters that no setting has, such as a line break");
        }
        match self.get(path, key) {
            Some(known) if *known == value => {}
            Some(_) => return self.leave(from, format!("{path}.{key} is said by an earlier key, which counts")),
            None => {
                let line = Line::Value { key: key.to_owned(), value, from: one_line(from), off: None };
                self.table(path).lines.push(line);
            }
        }
        self.took(from, path, key);
    }

    /// Notes a key whose meaning is in what `path.key` says.
    pub(super) fn took(&mut self, from: &str, path: &str, key: &str) {
        let to = if key.is_empty() { path.to_owned() } else { format!("{path}.{key}") };
        let from = if from.is_empty() { return } else { one_line(from) };
        self.taken.push(Taken { from, to });
    }

    /// Sets what no file says, so that the table is whole.
    pub(super) fn default(&mut self, path: &str, key: &str, value: impl Into<Value>, why: &str) {
        if self.get(path, key).is_none() {
            if !why.is_empty() {
                self.comment(path, why);
            }
            let line = Line::Value { key: key.to_owned(), value: value.into(), from: String::new(), off: None };
            self.table(path).lines.push(line);
        }
    }

    /// A secret: its place is named, its value goes to a file of its own or nowhere.
    pub(super) fn secret(&mut self, path: &str, key: &str, value: &str, from: &str) {
        let to = format!("{path}.{key}");
        if self.secrets.iter().any(|known| known.to == to) {
            return self.leave(from, format!("{to} is said by an earlier key, which counts"));
        }
        let variable = variable(path, key, from);
        let file = self.folder.as_ref().map(|folder| folder.join(to.replace('.', "_")));
        let line = Line::Secret(self.secrets.len());
        self.secrets.push(SecretKey { from: one_line(from), to, variable, file, value: Secret::new(value) });
        self.table(path).lines.push(line);
    }

    /// Whether a secret of that place comes from a file.
    pub(super) fn keeps(&self, path: &str, key: &str) -> bool {
        let to = format!("{path}.{key}");
        self.secrets.iter().any(|secret| secret.to == to && secret.file.is_some())
    }

    /// Names a secret only, although there is a folder for it; `false`: none of that table that the words name is in one.
    pub(super) fn forget(&mut self, path: &str, words: &str) -> bool {
        let below = format!("{path}.");
        let named = |to: &str| to.starts_with(&below) && to.rsplit('.').next().is_some_and(|key| words.contains(key));
        match self.secrets.iter_mut().find(|secret| secret.file.is_some() && named(&secret.to)) {
            Some(secret) => {
                secret.file = None;
                true
            }
            None => false,
        }
    }

    pub(super) fn leave(&mut self, key: &str, reason: impl Into<String>) {
        let left = Left { file: self.file.clone(), key: one_line(key), reason: reason.into() };
        if !self.left.contains(&left) {
            self.left.push(left);
        }
    }

    /// Turns a table, and those below it, into comments; `false`: there is none.
    pub(super) fn switch_off(&mut self, path: &str, why: &str) -> bool {
        let below = format!("{path}.");
        let mut any = false;
        for table in &mut self.tables {
            if (table.path == path || table.path.starts_with(&below)) && table.off.is_none() {
                table.off = Some(one_line(why));
                any = true;
            }
        }
        any
    }

    /// As [`Draft::switch_off`], and the keys that are in those tables are left.
    pub(super) fn refuse_table(&mut self, path: &str, why: &str) -> bool {
        let any = self.switch_off(path, &format!("Not used: {why}"));
        if any {
            let below = format!("{path}.");
            self.give_back(|to| to == path || to.starts_with(&below), why);
        }
        any
    }

    /// Turns one value into a comment, and leaves the keys that said it; `false`: there is none that stands by that name.
    pub(super) fn refuse(&mut self, path: &str, key: &str, why: &str) -> bool {
        if self.hold(path, key, &format!("Not used: {why}")).is_none() {
            return false;
        }
        let place = format!("{path}.{key}");
        self.give_back(|to| to == place, why);
        true
    }

    /// What was taken to such places is left.
    fn give_back(&mut self, is_there: impl Fn(&str) -> bool, why: &str) {
        let all = std::mem::take(&mut self.taken);
        let (back, taken): (Vec<Taken>, Vec<Taken>) = all.into_iter().partition(|taken| is_there(&taken.to));
        self.taken = taken;
        for one in back {
            self.leave(&one.from, why);
        }
    }

    /// Turns one value into a comment, until somebody takes the `#` away. The key that it came from, empty: from none.
    pub(super) fn hold(&mut self, path: &str, key: &str, why: &str) -> Option<String> {
        let table = self.tables.iter_mut().find(|table| table.path == path)?;
        table.lines.iter_mut().find_map(|line| match line {
            Line::Value { key: known, off: off @ None, from, .. } if known == key && known != "kind" => {
                *off = Some(one_line(why));
                Some(from.clone())
            }
            _ => None,
        })
    }

    pub(super) fn finish(self, files: &[File]) -> Imported {
        let mut toml = String::new();
        let names: Vec<String> = files.iter().map(|file| one_line(&super::shown(&file.path))).collect();
        remark(&mut toml, &format!("Made by `tapedeck import` from {}.", names.join(", ")));
        let records = self.any_below("source");
        toml.push_str(if records { DECK } else { SYNC });
        toml.push_str(&self.print(Reader::User));
        if !self.left.is_empty() {
            toml.push_str("\n# What has no place here:\n");
            for (file, reason, keys) in grouped(&self.left) {
                toml.push_str("#\n");
                remark(&mut toml, &format!("{file}: {}", keys.join(", ")));
                remark(&mut toml, &format!("    {reason}"));
            }
        }
        Imported { toml, taken: self.taken, left: self.left, secrets: self.secrets, records }
    }

    /// The tables as TOML.
    pub(super) fn print(&self, reader: Reader) -> String {
        let mut order: Vec<&Table> = self.tables.iter().collect();
        let rank = |table: &&Table| {
            let section = table.path.split('.').next().unwrap_or_default();
            ORDER.iter().position(|known| *known == section).unwrap_or(ORDER.len())
        };
        order.sort_by_key(rank);
        let mut text = String::new();
        for table in order.into_iter().filter(|table| table.off.is_none() || reader == Reader::User) {
            let mut body = String::new();
            self.print_table(table, reader, &mut body);
            text.push('\n');
            match &table.off {
                None => text.push_str(&body),
                Some(why) => {
                    remark(&mut text, why);
                    for line in body.lines() {
                        let _ = writeln!(text, "{}{line}", if line.starts_with('#') { "" } else { "# " });
                    }
                }
            }
        }
        text
    }

    fn print_table(&self, table: &Table, reader: Reader, text: &mut String) {
        let _ = writeln!(text, "[{}]", header(&table.path));
        for line in &table.lines {
            match line {
                Line::Comment(comment) => remark(text, comment),
                Line::Value { key, value, from, off } => {
                    let key = key_of(key);
                    if let Some(why) = off {
                        remark(text, why);
                        text.push_str("# ");
                    }
                    let origin = if from.is_empty() { String::new() } else { format!("    # {from}") };
                    let _ = writeln!(text, "{key} = {value}{origin}");
                }
                Line::Secret(at) => self.print_secret(&self.secrets[*at], reader, text),
            }
        }
    }

    fn print_secret(&self, secret: &SecretKey, reader: Reader, text: &mut String) {
        let key = secret.to.rsplit('.').next().unwrap_or_default();
        match (&secret.file, reader) {
            (Some(_), Reader::Trial) => {
                let _ = writeln!(text, "{key} = {}", Value::from(secret.value.expose()));
            }
            (Some(file), Reader::User) => {
                remark(text, &format!("The secret of {} is in a file that only its owner can read.", secret.from));
                let _ = writeln!(text, "{key}_file = {}", Value::from(file.display().to_string()));
            }
            (None, Reader::Trial) => {}
            (None, Reader::User) => {
                remark(text, &format!("{key}: a secret ({}), which is not in this file. One of:", secret.from));
                remark(
                    text,
                    &format!("  {}=… in the environment, or in `.env` beside this file (chmod 600)", secret.variable),
                );
                remark(text, &format!("  {key}_file = \"secrets/{}\"", secret.to.replace('.', "_")));
            }
        }
    }
}

/// The variable that fills a key: the predecessors' name where there is one.
pub(super) fn variable(path: &str, key: &str, from: &str) -> String {
    let of_table = |target: Target| match target {
        Target::Section(section) => path == section,
        Target::Part { section, part } => path == format!("{section}.{part}"),
        Target::Kind { stage, kind } => path == format!("{stage}.{kind}"),
    };
    let mut rows = OLD_NAMES.iter().filter(|row| row.key == key && of_table(row.table)).map(|row| row.name);
    let own = || format!("TAPEDECK__{}__{}", path.replace('.', "__"), key).to_uppercase();
    rows.clone().find(|name| *name == from).or_else(|| rows.next()).map_or_else(own, str::to_owned)
}

/// Left keys with the same reason together, in the order of the file.
#[must_use]
pub fn grouped(left: &[Left]) -> Vec<(&str, &str, Vec<&str>)> {
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for one in left {
        match groups.iter_mut().find(|(file, reason, _)| *file == one.file && *reason == one.reason) {
            Some((.., keys)) => keys.push(&one.key),
            None => groups.push((&one.file, &one.reason, vec![&one.key])),
        }
    }
    groups
}

/// A foreign text may hold anything: a line break would end the comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes a comment, broken into lines.
fn remark(text: &mut String, comment: &str) {
    let indent: String = comment.chars().take_while(|c| *c == ' ').collect();
    let mut line = String::new();
    for word in comment.split_whitespace() {
        if !line.is_empty() && line.chars().count() + word.chars().count() > WIDTH {
            let _ = writeln!(text, "# {indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "# {indent}{line}");
}

fn header(path: &str) -> String {
    path.split('.').map(key_of).collect::<Vec<_>>().join(".")
}

fn key_of(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}
