//! Which of the predecessors wrote a file, by what is in it.

use std::path::Path;

use serde_json::Value;

use super::keys;
use crate::config::names::OLD_NAMES;

/// A kind of file that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// `integration_config.json` of the integrated system
    Integration,
    /// `NAME=value` of any of them: `.env`
    Env,
    /// Settings of an InfluxDB, as JSON or YAML: `db/config.json`
    Settings,
    /// Settings of the sync from QuestDB to PocketBase: JSON, YAML or the constants of its Python file
    Sync,
    /// A list of instruments: text, CSV, JSON or YAML
    Symbols,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Integration => "integration",
            Kind::Env => "env",
            Kind::Settings => "settings",
            Kind::Sync => "sync",
            Kind::Symbols => "symbols",
        }
    }

    /// The kind of a file; `None`: none that is known.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Option<Kind> {
        if let Some(value) = keys::value_of(path, text) {
            return of_value(&value);
        }
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let named = |line: &str| {
            let (name, _) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            Some(name.trim().to_owned())
        };
        match ending.as_str() {
            "csv" => return Some(Kind::Symbols),
            "py" => return super::sync::is_assigned_in(text).then_some(Kind::Sync),
            _ => {}
        }
        let is_variable = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        let variables: Vec<String> = lines().filter_map(named).filter(is_variable).collect();
        if variables.iter().any(|name| OLD_NAMES.iter().any(|row| row.name == name)) {
            return Some(Kind::Env);
        }
        if lines().filter_map(named).any(|name| super::sync::knows(&name)) {
            return Some(Kind::Sync);
        }
        if !variables.is_empty() {
            return Some(Kind::Env);
        }
        // One name a line, and nothing else.
        let symbol = |line: &str| {
            let name = line.split('#').next().unwrap_or_default().trim();
            name.len() <= 64
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '&' | '_' | '/' | '.' | ' '))
        };
        (lines().next().is_some() && lines().all(symbol)).then_some(Kind::Symbols)
    }
}

fn of_value(value: &Value) -> Option<Kind> {
    let object = match value {
        Value::Array(list) => return (!list.is_empty()).then_some(Kind::Symbols),
        Value::Object(object) => object,
        _ => return None,
    };
    let has = |key: &str| object.contains_key(key);
    if ["publishers", "subscribers", "startup_sequence"].iter().any(|key| has(key)) {
        return Some(Kind::Integration);
    }
    if object.keys().any(|key| super::sync::tells(key)) {
        return Some(Kind::Sync);
    }
    if has("influxdb") || super::settings::KEYS.iter().filter(|(key, ..)| has(key)).count() >= 2 {
        return Some(Kind::Settings);
    }
    object.values().any(Value::is_array).then_some(Kind::Symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        for (name, text, kind) in [
            ("a.json", r#"{"publishers": [], "system": {}}"#, Some(Kind::Integration)),
            ("anything", r#"{"host": "db", "port": 8086}"#, Some(Kind::Settings)),
            ("a.yaml", "influxdb:\n  host: db\n", Some(Kind::Settings)),
            ("a.json", r#"{"questdb_path": "x.db", "batch_size": 1000}"#, Some(Kind::Sync)),
            ("sync.py", "import x\nQUESTDB_PATH = \"x.db\"\nclass A:\n  pass\n", Some(Kind::Sync)),
            ("sync.py", "QUESTDB_PATH: str = \\\n    os.getenv(\"QUESTDB_PATH\")\n", Some(Kind::Sync)),
            (".env", "# words\nexport KITE_API_KEY=x\nOTHER=1\n", Some(Kind::Env)),
            (".env", "SOMETHING=1\n", Some(Kind::Env)),
            ("nifty.txt", "# fifty\nINFY\nM&M # cars\nNSE:TCS\n", Some(Kind::Symbols)),
            ("a.csv", "symbol,exchange\nINFY,NSE\n", Some(Kind::Symbols)),
            ("a.json", r#"["INFY", 408065]"#, Some(Kind::Symbols)),
            ("a.json", r#"{"nifty": ["INFY"]}"#, Some(Kind::Symbols)),
            ("a.json", "{}", None),
            ("a.py", "print('hello')\n", None),
            ("a.toml", "[tape]\ndir = \"x\"\n", None),
            ("empty", "", None),
        ] {
            assert_eq!(Kind::of(Path::new(name), text), kind, "{name}: {text}");
        }
    }
}
