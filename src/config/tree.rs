//! The config before it has a type: values by path, each with the place it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::problem::{Problem, Problems};
use super::schema::is_plain;

/// A place in the config file, for people: lines and columns from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
    /// Characters to underline.
    pub width: usize,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The config file.
    File { file: String, line: usize },
    /// `--set`.
    Set,
    /// A variable of the real environment.
    Env(String),
    /// A variable of a `.env` file.
    DotEnv { name: String, file: PathBuf },
    /// A credential handed over by systemd.
    Credential(String),
    /// A file that holds one secret, named by the `<key>_file` key.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Set => f.write_str("--set"),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::DotEnv { name, file } => write!(f, "{} {name}", file.display()),
            Origin::Credential(name) => write!(f, "credential {name}"),
            Origin::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

/// What is known about the place of a value.
#[derive(Clone, Debug)]
struct Found {
    origin: Origin,
    key: Option<Spot>,
    value: Option<Spot>,
}

/// Values by path, and their origins.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Table,
    found: BTreeMap<Vec<String>, Found>,
}

impl Tree {
    /// Reads the config file's text. `file` is its name for messages.
    ///
    /// # Errors
    /// Everything that is not TOML about it.
    pub fn parse(file: &str, text: &str) -> Result<Tree, Problems> {
        let lines = Lines::new(text);
        let problems = |errors: Vec<toml::de::Error>| Problems {
            list: errors
                .into_iter()
                .map(|error| {
                    let spot = error.span().map(|span| lines.spot(span));
                    Problem::new(&[], error.message()).at(spot)
                })
                .collect(),
            file: Some((file.to_owned(), text.to_owned())),
            secrets: Vec::new(),
        };
        // Twice: once for the values, once for their places.
        let (spanned, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(problems(errors));
        }
        let root = toml::from_str::<Table>(text).map_err(|error| problems(vec![error]))?;
        let mut tree = Tree { root, found: BTreeMap::new() };
        tree.note(file, &lines, &mut Vec::new(), spanned.get_ref());
        Ok(tree)
    }

    fn note(&mut self, file: &str, lines: &Lines<'_>, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let spot = lines.spot(key.span());
            let origin = Origin::File { file: file.to_owned(), line: spot.line };
            self.found.insert(path.clone(), Found { origin, key: Some(spot), value: Some(lines.spot(value.span())) });
            if let DeValue::Table(inner) = value.get_ref() {
                self.note(file, lines, path, inner);
            }
            path.pop();
        }
    }

    #[must_use]
    pub fn root(&self) -> &Table {
        &self.root
    }

    #[must_use]
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(*first)?, |value, key| value.as_table()?.get(*key))
    }

    /// Sets a value over whatever stands there.
    ///
    /// # Errors
    /// A key on the way is no table.
    pub fn set(&mut self, path: &[String], value: Value, origin: Origin) -> Result<(), Box<Problem>> {
        let Some((last, tables)) = path.split_last() else { return Ok(()) };
        let mut table = &mut self.root;
        for (depth, key) in tables.iter().enumerate() {
            let entry = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else {
                let path: Vec<&str> = path[..=depth].iter().map(String::as_str).collect();
                let message = format!("`{key}` is a value, not a table");
                return Err(Box::new(Problem::new(&path, message).from(Some(origin))));
            };
            table = inner;
        }
        table.insert(last.clone(), value);
        self.found.retain(|known, _| !known.starts_with(path));
        self.found.insert(path.to_vec(), Found { origin, key: None, value: None });
        Ok(())
    }

    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, tables) = path.split_last()?;
        let mut table = &mut self.root;
        for key in tables {
            table = table.get_mut(*key)?.as_table_mut()?;
        }
        table.remove(*last)
    }

    /// The key as the file spells it: environment variables know neither case nor dashes.
    #[must_use]
    pub fn spelling(&self, parent: &[String], key: &str) -> String {
        let parent: Vec<&str> = parent.iter().map(String::as_str).collect();
        let table = if parent.is_empty() { Some(&self.root) } else { self.get(&parent).and_then(Value::as_table) };
        let plain = |text: &str| text.replace('-', "_").to_lowercase();
        table
            .and_then(|table| table.keys().find(|known| plain(known) == plain(key)))
            .map_or_else(|| key.to_lowercase(), Clone::clone)
    }

    /// Where the value at `path`, or the nearest table around it, came from.
    #[must_use]
    pub fn origin(&self, path: &[&str]) -> Option<&Origin> {
        self.nearest(path).map(|(found, _)| &found.origin)
    }

    /// Where the value at exactly this path came from.
    #[must_use]
    pub fn own_origin(&self, path: &[&str]) -> Option<&Origin> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        self.found.get(&path).map(|found| &found.origin)
    }

    /// Line of the file that the value at exactly this path begins on.
    #[must_use]
    pub fn line(&self, path: &[&str]) -> Option<usize> {
        match self.own_origin(path) {
            Some(Origin::File { line, .. }) => Some(*line),
            _ => None,
        }
    }

    /// A problem with the key at `path`: points at its name.
    #[must_use]
    pub fn key_problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let Some((found, len)) = self.nearest(path) else { return Problem::new(path, message) };
        let plain = is_plain(self, &path[..len]);
        Problem::new(path, message).from(Some(found.origin.clone())).at(found.key).plain(plain)
    }

    /// A problem with the value at `path`: points at it, or at the name of the table that lacks it.
    #[must_use]
    pub fn value_problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let Some((found, len)) = self.nearest(path) else { return Problem::new(path, message) };
        let spot = if len == path.len() { found.value } else { found.key };
        let plain = is_plain(self, &path[..len]);
        Problem::new(path, message).from(Some(found.origin.clone())).at(spot).plain(plain)
    }

    /// The value, or the nearest table around it, and how much of the path leads there.
    fn nearest(&self, path: &[&str]) -> Option<(&Found, usize)> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        (1..=path.len()).rev().find_map(|len| Some((self.found.get(&path[..len])?, len)))
    }
}

/// Byte offsets to lines and columns.
struct Lines<'a> {
    text: &'a str,
    /// Offsets at which lines begin.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn spot(&self, span: Range<usize>) -> Spot {
        let start = floor_char(self.text, span.start);
        let line = self.starts.partition_point(|begin| *begin <= start).max(1);
        let begin = self.starts[line - 1];
        let line_end = self.starts.get(line).map_or(self.text.len(), |next| next - 1).max(start);
        let end = floor_char(self.text, span.end).clamp(start, line_end);
        let column = self.text[begin..start].chars().count() + 1;
        Spot { line, column, width: self.text[start..end].chars().count().max(1) }
    }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree = Tree::parse("t.toml", "[tape]\ndir = \"x\"\n\n[source.k]\nkind = \"kraken\"\n").unwrap();
        let at = |path: &[&str]| tree.origin(path).map(ToString::to_string);
        assert_eq!(at(&["tape", "dir"]).as_deref(), Some("t.toml:2"));
        assert_eq!(at(&["source", "k", "kind"]).as_deref(), Some("t.toml:5"));
        assert_eq!(at(&["source", "k", "absent"]).as_deref(), Some("t.toml:4"), "the table's own line");
        assert_eq!(at(&["http", "listen"]), None);
    }

    #[test]
    fn what_is_set_later_wins_and_says_so() {
        let mut tree = Tree::parse("t.toml", "[tape]\nkeep = { age = \"1d\", bytes = \"1 GB\" }\n").unwrap();
        tree.set(&path("tape.keep"), Value::from("30d"), Origin::Set).unwrap();
        assert_eq!(tree.get(&["tape", "keep"]), Some(&Value::from("30d")));
        assert_eq!(tree.own_origin(&["tape", "keep", "age"]), None, "what stood below is forgotten");
        let error = tree.set(&path("tape.keep.age"), Value::from("1d"), Origin::Set).unwrap_err();
        assert_eq!(error.message, "`keep` is a value, not a table");
    }

    #[test]
    fn broken_text_is_pointed_at() {
        let problems = Tree::parse("t.toml", "[tape]\ndir = \n").unwrap_err();
        let text = problems.to_string();
        assert!(text.contains("t.toml:2:"), "{text}");
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let lines = Lines::new("ä = 1\nöö = 2\n");
        assert_eq!(lines.spot(7..11), Spot { line: 2, column: 1, width: 2 });
        assert_eq!(lines.spot(8..11).column, 1, "an offset inside a character is its start");
    }
}
