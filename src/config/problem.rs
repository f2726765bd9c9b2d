//! What is wrong with a config, where it stands, and what to do about it.

use std::fmt;

use super::schema::STAGES;
use super::secret::{looks_secret, mask_urls};
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
}

/// Everything that is wrong with a config: all of it is found before anything starts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Problems {
    pub list: Vec<Problem>,
    /// Name and text of the file, to show the lines meant.
    pub file: Option<(String, String)>,
}

impl Problem {
    #[must_use]
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Problem { path, message: message.into(), help: None, origin: None, spot: None }
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

    /// The table and its key, `[source.kraken] pairs`, as far as there are any.
    fn subject(&self) -> String {
        match self.path.as_slice() {
            [] => String::new(),
            [table] => format!("[{table}] "),
            [table, key] if !STAGES.contains(&table.as_str()) => format!("[{table}] {key}: "),
            [stage, name] => format!("[{stage}.{name}] "),
            [stage, name, key @ ..] if STAGES.contains(&stage.as_str()) => {
                format!("[{stage}.{name}] {}: ", key.join("."))
            }
            [table, key @ ..] => format!("[{table}] {}: ", key.join(".")),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, file: Option<&(String, String)>) -> fmt::Result {
        write!(f, "{}{}", self.subject(), self.message)?;
        if let (Some(spot), Some((name, text))) = (self.spot, file) {
            let line = mask(text.lines().nth(spot.line - 1).unwrap_or_default());
            let number = spot.line.to_string();
            let gutter = " ".repeat(number.len());
            write!(f, "\n{gutter}--> {name}:{}:{}", spot.line, spot.column)?;
            write!(f, "\n{gutter} |\n{number} | {line}")?;
            let room = line.chars().count().saturating_sub(spot.column - 1).max(1);
            let (indent, carets) = (" ".repeat(spot.column - 1), "^".repeat(spot.width.clamp(1, room)));
            write!(f, "\n{gutter} | {indent}{carets}")?;
            if let Some(help) = &self.help {
                write!(f, "\n{gutter} = {help}")?;
            }
            return Ok(());
        }
        if let Some(origin) = &self.origin {
            write!(f, "\n --> {origin}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = {help}")?;
        }
        Ok(())
    }
}

/// The line without the secret that it may hold.
fn mask(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) if looks_secret(key.trim().trim_matches(['"', '\''])) => format!("{key}= ***"),
        // An inline table may hold one further in: then only the key in front is shown.
        Some((key, value)) if value.split(['{', ',', '=']).any(|word| looks_secret(word.trim())) => {
            format!("{key}= …")
        }
        _ => mask_urls(line),
    }
}

impl Problems {
    /// `Err` when there is a problem.
    ///
    /// # Errors
    /// All of them.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.list.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            problem.write(f, self.file.as_ref())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems { list: vec![problem], file: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_points_at_its_key() {
        let text = "[source.kraken]\nkind = \"kraken\"\npair = [\"BTC/USD\"]\n";
        let problem = Problem::new(&["source", "kraken", "pair"], "unknown key")
            .help("did you mean `pairs`?")
            .at(Some(Spot { line: 3, column: 1, width: 4 }));
        let problems = Problems { list: vec![problem], file: Some(("tapedeck.toml".to_owned(), text.to_owned())) };
        let want = "[source.kraken] pair: unknown key\n \
                    --> tapedeck.toml:3:1\n  \
                    |\n\
                    3 | pair = [\"BTC/USD\"]\n  \
                    | ^^^^\n  \
                    = did you mean `pairs`?";
        assert_eq!(problems.to_string(), want);
    }

    #[test]
    fn the_line_of_a_secret_is_not_shown() {
        assert_eq!(mask("api_secret = 'hunter2'"), "api_secret = ***");
        assert_eq!(mask("k = { url = 'x', api_secret = 'hunter2' }"), "k = …");
        assert_eq!(mask("pairs = ['BTC/USD']"), "pairs = ['BTC/USD']");
    }
}
