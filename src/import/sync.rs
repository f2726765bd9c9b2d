//! Settings of the sync from QuestDB to PocketBase: JSON, YAML, or the constants and attributes of its Python file.

use std::path::Path;

use super::draft::{Draft, variable};
use super::keys::{self, Keys};
use super::python::{self, Assignment, Unread};
use crate::config::names::Form;
use crate::config::units::show_duration;

/// Nothing of it is shown: it may make a password.
const COMPUTED: &str =
    "is no text and no number that is written out here, and the program is not run: give the value itself";

/// How a value of theirs is read.
#[derive(Clone, Copy, Debug)]
enum How {
    As(Form),
    /// Seconds, also with a point.
    Seconds,
    Secret,
}

/// Their key in small letters, the table, our key, how.
const KEYS: &[(&str, &str, &str, How)] = &[
    ("questdb_path", "sync.source", "url", How::As(Form::SqliteFile)),
    ("pocketbase_url", "sync.target", "url", How::As(Form::Text)),
    ("admin_email", "sync.target", "email", How::As(Form::Text)),
    ("pocketbase_admin_email", "sync.target", "email", How::As(Form::Text)),
    ("admin_password", "sync.target", "password", How::Secret),
    ("pocketbase_admin_password", "sync.target", "password", How::Secret),
    ("batch_size", "sync", "batch", How::As(Form::Number)),
    ("max_retries", "sync", "retries", How::As(Form::Number)),
    ("retry_delay", "sync", "retry", How::Seconds),
    ("max_concurrent_transfers", "sync", "concurrency", How::As(Form::Number)),
    ("poll_interval", "sync", "poll", How::Seconds),
];

fn row(name: &str) -> Option<&'static (&'static str, &'static str, &'static str, How)> {
    // `sync_service.batch_size = 2000`, `self.batch_size = 1000`
    let bare = name.rsplit('.').next().unwrap_or(name).trim().to_ascii_lowercase();
    KEYS.iter().find(|(theirs, ..)| *theirs == bare)
}

/// Whether a Python file assigns one of the sync's keys.
pub(super) fn is_assigned_in(text: &str) -> bool {
    python::assignments(text, knows).is_ok_and(|all| all.iter().any(|one| knows(&one.name)))
}

/// Whether a name of a Python file is one of the sync's.
pub(super) fn knows(name: &str) -> bool {
    row(name).is_some()
}

/// Whether a key can only be the sync's.
pub(super) fn tells(key: &str) -> bool {
    row(key).is_some_and(|(theirs, ..)| {
        theirs.contains("questdb") || theirs.contains("pocketbase") || theirs.starts_with("admin_")
    })
}

pub(super) fn read(path: &Path, text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    let all: Vec<Assignment> = match keys::value_of(path, text) {
        Some(value) => {
            let written = |(name, value)| Assignment { name, value: Ok(value) };
            Keys::of(&value).every().into_iter().map(written).collect()
        }
        None => python::assignments(text, knows)?,
    };
    anyhow::ensure!(
        all.iter().any(|one| knows(&one.name)),
        "it holds none of the sync's settings, such as QUESTDB_PATH"
    );
    draft.make("sync");
    for Assignment { name, value } in all {
        let Some((_, table, key, how)) = row(&name) else {
            draft.leave(&name, reason(&name));
            continue;
        };
        let written = match value {
            Ok(value) => keys::single(&value).map_err(str::to_owned),
            Err(Unread::Computed) => Err(COMPUTED.to_owned()),
            Err(Unread::Variable(variable)) => Err(of_variable(&variable, table, key)),
        };
        let raw = match written {
            Ok(raw) => raw,
            Err(reason) => {
                draft.leave(&name, reason);
                continue;
            }
        };
        let read = match how {
            How::Secret => {
                draft.secret(table, key, &raw, &name);
                continue;
            }
            How::As(form) => form.read(&raw),
            How::Seconds => seconds(&raw).ok_or("a number of seconds"),
        };
        match read {
            Ok(value) => draft.set(table, key, value, &name),
            Err(expected) => draft.leave(&name, format!("is not {expected}")),
        }
    }
    Ok(())
}

fn seconds(raw: &str) -> Option<toml::Value> {
    let wait = std::time::Duration::try_from_secs_f64(raw.trim().parse().ok()?).ok()?;
    Some(show_duration(wait).into())
}

fn reason(key: &str) -> &'static str {
    let key = key.to_ascii_lowercase();
    if key.contains("compan") || key.contains("sector") {
        "names of companies come from a CSV file: `company_name = { from = \"symbol\", lookup = \"companies.csv\", take = \"name\" }`"
    } else if key.contains("log") {
        "logs are [log]: 10 MB a file, five old ones kept"
    } else if key.contains("smtp") || key.contains("alert") || key.contains("email") {
        "no mail is sent: alerts go by webhook or command"
    } else if key.contains("table") || key.contains("collection") {
        "tables are [sync.table.NAME], with the predecessor's four as presets"
    } else {
        "no setting of the sync has this name"
    }
}

/// Why a key has no value that comes from the environment.
fn of_variable(name: &str, table: &str, key: &str) -> String {
    let ours = variable(table, key, name);
    if ours == name {
        format!("comes from the variable {name}, which tapedeck reads itself by that name")
    } else {
        format!("comes from the variable {name}, which tapedeck does not read: it reads {ours}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{File, Imported, Kind, Options, import};

    fn imported(name: &str, text: &str) -> Imported {
        let file = File { path: name.into(), text: text.to_owned(), kind: Kind::Sync };
        import(&[file], &Options::default()).expect(text)
    }

    /// The keys that were taken, and those that were left with their reasons.
    fn shown(imported: &Imported) -> (Vec<&str>, Vec<(&str, &str)>) {
        let secrets = imported.secrets.iter().map(|secret| secret.from.as_str());
        let taken = imported.taken.iter().map(|taken| taken.from.as_str()).chain(secrets).collect();
        (taken, imported.left.iter().map(|left| (left.key.as_str(), left.reason.as_str())).collect())
    }

    #[test]
    fn what_a_python_file_takes_from_the_environment_is_read_by_its_default_or_left_with_the_variable() {
        let text = "import os\n\
                    QUESTDB_PATH = os.getenv(\"QUESTDB_PATH\", \"/data/q.db\")\n\
                    POCKETBASE_URL = os.environ.get('POCKETBASE_URL', 'http://pb:8090')\n\
                    ADMIN_EMAIL = os.getenv('ADMIN_EMAIL')\n\
                    ADMIN_PASSWORD = os.environ['PB_PASSWORD']\n\
                    batch_size = 1_000\n\
                    max_retries = MAX\n\
                    retry_delay = float(os.getenv('DELAY', '0.5'))\n\
                    other = 5\n";
        let imported = imported("sync.py", text);
        let (taken, left) = shown(&imported);
        assert_eq!(taken, ["QUESTDB_PATH", "POCKETBASE_URL", "batch_size", "retry_delay"]);
        let reason = |key: &str| left.iter().find(|(left, _)| *left == key).map_or("", |(_, reason)| *reason);
        assert!(reason("ADMIN_EMAIL").contains("variable ADMIN_EMAIL, which tapedeck reads itself"), "{left:?}");
        assert!(
            reason("ADMIN_PASSWORD").contains("PB_PASSWORD, which tapedeck does not read: it reads ADMIN_PASSWORD")
        );
        assert_eq!(reason("max_retries"), COMPUTED);
        assert_eq!(reason("other"), "no setting of the sync has this name");
        assert_eq!(left.len(), 4, "{left:?}");
        for line in ["url = \"sqlite:/data/q.db\"", "url = \"http://pb:8090\"", "batch = 1000", "retry = \"500ms\""] {
            assert!(imported.toml.contains(&format!("\n{line}")), "{line}: {}", imported.toml);
        }
    }

    #[test]
    fn every_key_of_a_file_is_taken_or_left() {
        let values =
            ["5", "1_000", "\"x\"", "\"\"", "None", "[1, 2]", "f()", "os.getenv('X')", "{'a': 1}", "-1", "a + b"];
        for (n, value) in values.iter().enumerate() {
            let text: String = KEYS.iter().map(|(theirs, ..)| format!("{theirs} = {value}\n")).collect();
            let imported = imported("sync.py", &format!("self.poll_interval = 5\n{text}"));
            let (taken, left) = shown(&imported);
            for (theirs, ..) in KEYS {
                let is = |known: &str| {
                    known == *theirs || known.strip_prefix(theirs).is_some_and(|rest| rest.starts_with('.'))
                };
                let times = taken.iter().filter(|known| is(known)).count();
                let reasons: Vec<&str> =
                    left.iter().filter(|(known, _)| is(known)).map(|(_, reason)| *reason).collect();
                assert!(times + reasons.len() > 0, "{theirs} = {value} (value {n}): {imported:?}");
                assert!(reasons.iter().all(|reason| !reason.is_empty()), "{theirs} = {value}: {imported:?}");
            }
        }
        let json =
            r#"{"questdb_path": null, "batch_size": [1], "max_retries": "", "poll_interval": {}, "retry_delay": -1}"#;
        let imported = imported("sync.json", json);
        let (taken, left) = shown(&imported);
        assert_eq!((taken.len(), left.len()), (0, 5), "{imported:?}");
    }

    #[test]
    fn a_table_that_is_refused_leaves_its_keys_behind() {
        // No source of rows: nothing of the sync can be used.
        let imported = imported("sync.py", "QUESTDB_PATH = PATH\nbatch_size = 1000\n");
        let (taken, left) = shown(&imported);
        assert!(taken.is_empty() && left.iter().any(|(key, _)| *key == "batch_size"), "{imported:?}");
    }

    #[test]
    fn seconds_may_have_a_point() {
        assert_eq!(seconds("0.5").map(|value| value.to_string()).as_deref(), Some("\"500ms\""));
        assert!(seconds("-1").is_none() && seconds("soon").is_none());
    }
}
