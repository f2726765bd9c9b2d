//! What is wrong with a config, where it stands, and what to do about it.

use std::fmt;

use super::schema::{self, STAGES};
use super::secret::{HIDDEN, looks_secret, mask_urls};
use super::tree::{Origin, Spot};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key it is about, e.g. `["source", "kraken", "pair"]`; empty = the whole file.
    pub path: Vec<String>,
    /// A sentence without the place: `unknown key`.
    pub message: String,
    /// What to do, when that is known: `did you mean pairs?`
    pub help: Option<String>,
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// The place in the file to point at.
    pub spot: Option<Spot>,
    /// The value that stands there can be no secret: its key is known to hold none.
    pub plain: bool,
}

/// Everything that is wrong with a config: all of it is found before anything starts.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Problems {
    pub list: Vec<Problem>,
    /// Name and text of the file, to show the lines meant.
    pub file: Option<(String, String)>,
    /// Values that no message may show.
    pub secrets: Vec<String>,
}

/// As people see it: file and secrets stay inside.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problems({:?})", self.to_string())
    }
}

impl Problem {
    #[must_use]
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Problem { path, message: message.into(), help: None, origin: None, spot: None, plain: false }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn from(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    #[must_use]
    pub fn at(mut self, spot: Option<Spot>) -> Self {
        self.spot = spot;
        self
    }

    /// Whether the line that it points at may be shown with its value.
    #[must_use]
    pub fn plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// The table and its key, `[source.kraken] pairs`, as far as there are any.
    fn subject(&self) -> String {
        let named = |table: &String| STAGES.contains(&table.as_str()) || table == "alert";
        match self.path.as_slice() {
            [] => String::new(),
            [table] => format!("[{table}] "),
            [table, key] if !named(table) => format!("[{table}] {key}: "),
            [stage, name] => format!("[{stage}.{name}] "),
            [stage, name, key @ ..] if named(stage) => {
                format!("[{stage}.{name}] {}: ", key.join("."))
            }
            [table, key @ ..] => format!("[{table}] {}: ", key.join(".")),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, all: &Problems) -> fmt::Result {
        write!(f, "{}{}", self.subject(), all.without_secrets(&self.message))?;
        let help = self.help.as_deref().map(|help| all.without_secrets(help));
        if let (Some(spot), Some((name, text))) = (self.spot, &all.file) {
            let line = shown(text.lines().nth(spot.line - 1).unwrap_or_default(), self.plain);
            let number = spot.line.to_string();
            let gutter = " ".repeat(number.len());
            write!(f, "\n{gutter}--> {name}:{}:{}", spot.line, spot.column)?;
            write!(f, "\n{gutter} |\n{number} | {line}")?;
            let room = line.chars().count().saturating_sub(spot.column - 1).max(1);
            let (indent, carets) = (" ".repeat(spot.column - 1), "^".repeat(spot.width.clamp(1, room)));
            write!(f, "\n{gutter} | {indent}{carets}")?;
            if let Some(help) = help {
                write!(f, "\n{gutter} = {help}")?;
            }
            return Ok(());
        }
        if let Some(origin) = &self.origin {
            write!(f, "\n --> {origin}")?;
        }
        if let Some(help) = help {
            write!(f, "\n  = {help}")?;
        }
        Ok(())
    }
}

/// What of a line can be no secret: headers and keys; of values only those of keys that are known to hold none, and
/// never a comment, which may be an old value.
fn shown(line: &str, plain: bool) -> String {
    let line = without_comment(line);
    if let Some(header) = header(line) {
        return header.to_owned();
    }
    let Some((key, value)) = line.split_once('=') else { return "…".to_owned() };
    let name = key.trim().rsplit('.').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    match () {
        () if looks_secret(name) || (!plain && schema::is_secret_anywhere(name)) => format!("{key}= {HIDDEN}"),
        // Tables on one line have keys of their own.
        () if value.contains('{') || !(plain || schema::is_plain_everywhere(name)) => format!("{key}= …"),
        () => mask_urls(line),
    }
}

/// The line up to a `#` that stands in no text.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

/// `[table]`, or the beginning of one.
fn header(line: &str) -> Option<&str> {
    let text = line.trim_start();
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._-[]".contains(c);
    (text.starts_with('[') && text.chars().all(plain)).then_some(line)
}

impl Problems {
    /// `Err` when there is a problem.
    ///
    /// # Errors
    /// All of them.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.list.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The same, and one more sentence behind them.
    #[must_use]
    pub fn and(mut self, said: &str) -> Problems {
        self.list.push(Problem::new(&[], said));
        self
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text = mask_urls(text);
        for secret in self.secrets.iter().filter(|secret| secret.len() >= crate::logs::MIN_SECRET_BYTES) {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            problem.write(f, self)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems { list: vec![problem], ..Problems::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(problem: Problem, text: &str) -> String {
        let file = Some(("tapedeck.toml".to_owned(), text.to_owned()));
        Problems { list: vec![problem], file, ..Problems::default() }.to_string()
    }

    #[test]
    fn a_problem_points_at_its_key() {
        let text = "[source.kraken]\nkind = \"kraken\"\npair = [\"BTC/USD\"]\n";
        let problem = Problem::new(&["source", "kraken", "pair"], "unknown key")
            .help("did you mean `pairs`?")
            .at(Some(Spot { line: 3, column: 1, width: 4 }));
        let want = "[source.kraken] pair: unknown key\n \
                    --> tapedeck.toml:3:1\n  \
                    |\n\
                    3 | pair = …\n  \
                    | ^^^^\n  \
                    = did you mean `pairs`?";
        assert_eq!(told(problem, text), want);
    }

    #[test]
    fn only_what_can_be_no_secret_is_shown_of_a_line() {
        for (line, plain, want) in [
            ("api_secret = 'hunter2'", true, "api_secret = ***"),
            ("source.k.app_key = 'hunter2'", false, "source.k.app_key = ***"),
            ("account = 'hunter2", false, "account = ***"),
            ("secret_kee = 'hunter2'", false, "secret_kee = …"),
            ("k = { url = 'x', api_secret = 'hunter2' }", true, "k = …"),
            ("pairs = ['BTC/USD']", true, "pairs = ['BTC/USD']"),
            ("pairs = ['A#B'] # api_key = 'hunter2'", true, "pairs = ['A#B']"),
            (r##"pairs = ["\"#"] # hunter2"##, true, r##"pairs = ["\"#"]"##),
            ("[source.k] # hunter2", false, "[source.k]"),
            ("[[a b", false, "[[a b"),
            ("['hunter2', 'x']", false, "…"),
            ("hunter2", true, "…"),
            ("url = 'ws://u:hunter2@h'", true, "url = 'ws://***@h'"),
            ("book_depth = 1x", false, "book_depth = 1x"),
        ] {
            assert_eq!(shown(line, plain), want, "{line}");
        }
    }

    #[test]
    fn a_message_loses_the_secrets_of_the_config_and_of_urls() {
        let problem = Problem::new(&["sink", "x"], "`hunter2` at http://u:pw@h/").help("not hunter2");
        let problems = Problems { list: vec![problem], secrets: vec!["hunter2".to_owned()], ..Problems::default() };
        assert_eq!(problems.to_string(), "[sink.x] `***` at http://***@h/\n  = not ***");
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
