//! The access token of the day: who gave it, whether it can still be good, and where it is kept.
//!
//! A token dies every morning. It comes from the config (`KITE_ACCESS_TOKEN`) or from the file that `tapedeck login`
//! writes; a login of today wins over whatever the config has. What the venue has refused is never offered to it again:
//! the source waits until another token is there.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck_market::UnixNanos;

use super::config::{Config, plain_secret};
use super::text::IST_SECS;
use crate::config::Secret;
use crate::logs;
use crate::sources::Waiting;

/// India's hour at which tokens die.
const DEATH_HOUR: i64 = 6;
const DAY_SECS: i64 = 86_400;
/// A file of one token.
const FILE_BYTES: u64 = 16 << 10;
/// Refused tokens that are remembered: a person makes a few a day.
const REFUSED: usize = 64;

/// What `tapedeck login` keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    api_key: String,
    access_token: String,
    /// Seconds since 1970.
    at: i64,
}

/// The credentials of one application; all connections of a table share it.
#[derive(Clone, Debug)]
pub struct Login {
    api_key: Option<Secret>,
    configured: Option<Secret>,
    file: PathBuf,
    refused: Arc<Mutex<Vec<Secret>>>,
}

/// A key with a token that may be good.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) api_key: Secret,
    pub(super) access_token: Secret,
}

impl Login {
    #[must_use]
    pub fn new(config: &Config, dir: &Path, name: &str) -> Login {
        let file = config.login_file.clone().unwrap_or_else(|| dir.join("kite").join(format!("{name}.login")));
        Login {
            api_key: config.api_key.clone(),
            configured: config.access_token.clone(),
            file,
            refused: Arc::default(),
        }
    }

    /// A token that the venue has not refused yet.
    ///
    /// # Errors
    /// [`Waiting`], with what a person has to do.
    pub(super) fn session(&self, now: UnixNanos) -> Result<Session, Waiting> {
        let Some(api_key) = self.api_key.clone() else {
            return Err(Waiting("no credentials: set KITE_API_KEY and run `tapedeck login`".to_owned()));
        };
        let (kept, stale) = match read(&self.file) {
            Ok(Some(kept)) if kept.api_key == api_key.expose() => {
                let alive = now < dies(kept.at);
                (alive.then(|| Secret::new(kept.access_token)), !alive)
            }
            Ok(_) => (None, false),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the login cannot be read");
                (None, false)
            }
        };
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut offered = [kept, self.configured.clone()].into_iter().flatten();
        let any = self.configured.is_some() || !refused.is_empty();
        if let Some(access_token) = offered.find(|token| !refused.contains(token)) {
            // It may have come from the file, of which the logs know nothing yet.
            logs::hide(access_token.expose());
            return Ok(Session { api_key, access_token });
        }
        let todo = "run `tapedeck login`, or set KITE_ACCESS_TOKEN and reload";
        Err(Waiting(match (any, stale) {
            (true, _) => format!("new login needed: Kite refuses the access token (403); {todo}"),
            (false, true) => format!("new login needed: the last one has expired; {todo}"),
            (false, false) => format!("no login: {todo}"),
        }))
    }

    /// The venue has refused a token: it is not offered again.
    pub(super) fn refuse(&self, session: &Session) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !refused.contains(&session.access_token) {
            if refused.len() >= REFUSED {
                refused.remove(0);
            }
            refused.push(session.access_token.clone());
        }
    }

    /// Keeps a new token, readable by this user alone. Returns where.
    ///
    /// # Errors
    /// There is no key, or the file cannot be written.
    pub fn keep(&self, access_token: &Secret, now: UnixNanos) -> anyhow::Result<&Path> {
        let api_key = self.api_key.as_ref().context("no api_key: set KITE_API_KEY")?;
        let kept = Kept {
            api_key: api_key.expose().to_owned(),
            access_token: access_token.expose().to_owned(),
            at: now.0.div_euclid(1_000_000_000),
        };
        let failed = || format!("writing {}", self.file.display());
        if let Some(folder) = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        let new = self.file.with_extension("login.new");
        // What is left of a login that was interrupted may belong to anybody.
        let _ = std::fs::remove_file(&new);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(failed)?;
        file.write_all(serde_json::to_string(&kept)?.as_bytes()).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        std::fs::rename(&new, &self.file).with_context(failed)?;
        Ok(&self.file)
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut text = String::new();
    file.take(FILE_BYTES).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    // What serde says of a value may quote it.
    let kept = serde_json::from_str::<Kept>(&text).ok().filter(|kept| plain_secret(&kept.access_token));
    kept.map(Some).with_context(|| format!("{} holds no login: run `tapedeck login` again", path.display()))
}

/// When a token of that moment dies: at the next six o'clock in India.
fn dies(at_secs: i64) -> UnixNanos {
    let since = at_secs.saturating_add(IST_SECS - DEATH_HOUR * 3_600);
    let mornings = since.div_euclid(DAY_SECS) + 1;
    let next = mornings.saturating_mul(DAY_SECS).saturating_sub(IST_SECS - DEATH_HOUR * 3_600);
    UnixNanos(next.saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixNanos {
        let time: jiff::Timestamp = text.parse().expect("a time");
        UnixNanos(i64::try_from(time.as_nanosecond()).expect("in range"))
    }

    fn login(dir: &Path, token: Option<&str>) -> Login {
        let token = token.map(|token| format!("access_token = '{token}'")).unwrap_or_default();
        let table = format!("instruments = ['INFY']\napi_key = 'key'\n{token}");
        let checked = Config::from_table(table.parse().expect("toml")).expect("valid");
        Login::new(&checked.config, dir, "kite")
    }

    fn offered(login: &Login, now: &str) -> Result<String, String> {
        login.session(at(now)).map(|session| session.access_token.expose().to_owned()).map_err(|waiting| waiting.0)
    }

    #[test]
    fn a_token_dies_at_six_in_the_morning_in_india() {
        for (login, death) in [
            ("2026-01-23T08:00:00+05:30", "2026-01-24T06:00:00+05:30"),
            ("2026-01-24T05:59:59+05:30", "2026-01-24T06:00:00+05:30"),
            ("2026-01-24T06:00:00+05:30", "2026-01-25T06:00:00+05:30"),
        ] {
            assert_eq!(dies(at(login).0 / 1_000_000_000), at(death), "{login}");
        }
        dies(i64::MAX);
        dies(i64::MIN);
    }

    #[test]
    fn a_fresh_login_wins_over_the_config_and_a_refused_token_is_never_offered_again() {
        let home = tempfile::tempdir().expect("a folder");
        let login = login(home.path(), Some("stale"));
        let now = "2026-01-23T08:30:00+05:30";
        assert_eq!(offered(&login, now).as_deref(), Ok("stale"));
        let path = login.keep(&Secret::new("fresh"), at("2026-01-23T08:00:00+05:30")).expect("kept").to_owned();
        assert_eq!(offered(&login, now).as_deref(), Ok("fresh"));
        assert_eq!(offered(&login, "2026-01-24T06:00:00+05:30").as_deref(), Ok("stale"), "it has died");
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        for token in ["fresh", "stale"] {
            let session = login.session(at(now)).expect(token);
            assert_eq!(session.access_token.expose(), token);
            login.refuse(&session);
        }
        let waits = offered(&login, now).expect_err("nothing is left");
        assert!(waits.starts_with("new login needed: Kite refuses"), "{waits}");
        login.keep(&Secret::new("newer"), at(now)).expect("kept");
        assert_eq!(offered(&login, now).as_deref(), Ok("newer"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let home = tempfile::tempdir().expect("a folder");
        let login = login(home.path(), None);
        let now = "2026-01-23T08:30:00+05:30";
        assert!(offered(&login, now).expect_err("none").starts_with("no login: run `tapedeck login`"));
        let path = login.keep(&Secret::new("old"), at("2026-01-22T08:00:00+05:30")).expect("kept").to_owned();
        assert!(offered(&login, now).expect_err("old").contains("the last one has expired"));
        std::fs::write(path, "{\"access_token\": \"torn").expect("written");
        assert!(offered(&login, now).expect_err("torn").starts_with("no login"));
    }
}
