//! CURVE keys: the deck's own pair, and the clients that may connect.
//!
//! ```text
//! <dir>/keys/server.key           public half of the deck's pair, for whoever connects
//! <dir>/keys/server.key_secret    both halves, 0600
//! <dir>/keys/clients/NAME.key     public half of a client that may connect
//! <dir>/keys/NAME.key_secret      both halves of a client's pair made here, 0600: to be moved to the client
//! ```
//!
//! The files are certificates in ZeroMQ's own format (`zmq.auth.load_certificate` reads them). Who may connect is looked up
//! when somebody connects, so a key that is added or dropped counts at once, for new connections.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const SERVER: &str = "server";
const PUBLIC: &str = "key";
const SECRET: &str = "key_secret";
/// Clients that may connect, at most: each connection looks through them.
const CLIENTS_MAX: usize = 10_000;
/// A key as people write it.
const KEY_CHARS: usize = 40;
/// A certificate is a few lines.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A pair of keys, as text.
#[derive(Clone)]
pub struct Pair {
    pub public: String,
    pub secret: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("public", &self.public).field("secret", &"***").finish()
    }
}

/// The keys of one deck.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    #[must_use]
    pub fn of(deck_dir: &Path) -> Keys {
        Keys { dir: deck_dir.join("keys") }
    }

    /// The deck's own pair, if it was made.
    ///
    /// # Errors
    /// The file is there, but cannot be read or holds no keys.
    pub fn server(&self) -> anyhow::Result<Option<Pair>> {
        let path = self.dir.join(SERVER).with_extension(SECRET);
        if !path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
            return Ok(None);
        }
        let (public, secret) = read(&path)?;
        let secret = secret.with_context(|| format!("{} has no secret key", path.display()))?;
        Ok(Some(Pair { public, secret }))
    }

    /// The deck's own pair, made if there is none.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn make_server(&self) -> anyhow::Result<Pair> {
        if let Some(pair) = self.server()? {
            return Ok(pair);
        }
        let pair = new_pair()?;
        write(&self.dir.join(SERVER).with_extension(SECRET), &pair.public, Some(&pair.secret))?;
        write(&self.dir.join(SERVER).with_extension(PUBLIC), &pair.public, None)?;
        Ok(pair)
    }

    /// Makes a client's pair, lets it connect, and says where its secret half lies.
    ///
    /// # Errors
    /// There is a client of that name, the name is no file name, or the folder cannot be written.
    pub fn make_client(&self, name: &str) -> anyhow::Result<(Pair, PathBuf)> {
        let (public, secret) = (self.client_file(name)?, self.dir.join(name).with_extension(SECRET));
        anyhow::ensure!(!public.exists(), "there is a client `{name}` already: `tapedeck keys drop {name}` forgets it");
        let pair = new_pair()?;
        write(&secret, &pair.public, Some(&pair.secret))?;
        write(&public, &pair.public, None)?;
        Ok((pair, secret))
    }

    /// Lets a client connect that made its pair itself.
    ///
    /// # Errors
    /// As [`Keys::make_client`], or the text is no public key.
    pub fn add_client(&self, name: &str, public: &str) -> anyhow::Result<()> {
        anyhow::ensure!(is_key(public), "`{public}` is no public key: it has {KEY_CHARS} characters");
        let path = self.client_file(name)?;
        anyhow::ensure!(!path.exists(), "there is a client `{name}` already: `tapedeck keys drop {name}` forgets it");
        write(&path, public, None)
    }

    /// Lets a client connect no more; says whether there was one.
    ///
    /// # Errors
    /// The name is no file name, or the folder cannot be written.
    pub fn drop_client(&self, name: &str) -> anyhow::Result<bool> {
        let path = self.client_file(name)?;
        let _ = std::fs::remove_file(self.dir.join(name).with_extension(SECRET));
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
        }
    }

    /// Names and public keys of the clients that may connect, by name.
    ///
    /// # Errors
    /// The folder is there, but cannot be read.
    pub fn clients(&self) -> anyhow::Result<Vec<(String, String)>> {
        let folder = self.dir.join("clients");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        let mut clients = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()).take(CLIENTS_MAX) {
            let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
            if let (Some(name), true) = (name, path.extension().is_some_and(|extension| extension == PUBLIC)) {
                // One file that somebody broke must not lock out the others.
                match read(&path) {
                    Ok((public, _)) => clients.push((name, public)),
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "key passed over"),
                }
            }
        }
        clients.sort();
        Ok(clients)
    }

    /// The name of the client with this key.
    #[must_use]
    pub fn client_of(&self, public: &str) -> Option<String> {
        self.clients().ok()?.into_iter().find(|(_, known)| known == public).map(|(name, _)| name)
    }

    fn client_file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let good = !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && name != SERVER;
        anyhow::ensure!(
            good,
            "`{name}` is no name for a client: letters, digits, `_` and `-`, at most 64, not `{SERVER}`"
        );
        Ok(self.dir.join("clients").join(name).with_extension(PUBLIC))
    }
}

fn new_pair() -> anyhow::Result<Pair> {
    let pair = zmq::CurveKeyPair::new().context("making keys")?;
    let text = |key: &[u8]| zmq::z85_encode(key).map_err(|error| anyhow::anyhow!("{error}"));
    Ok(Pair { public: text(&pair.public_key)?, secret: text(&pair.secret_key)? })
}

fn is_key(text: &str) -> bool {
    text.len() == KEY_CHARS && zmq::z85_decode(text).is_ok_and(|key| key.len() == 32)
}

/// A file that nobody else may read where it holds a secret; never over another one.
fn write(path: &Path, public: &str, secret: Option<&str>) -> anyhow::Result<()> {
    let failed = || format!("writing {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    let mut text = format!("# made by tapedeck\n\nmetadata\n\ncurve\n    public-key = \"{public}\"\n");
    if let Some(secret) = secret {
        text.push_str(&format!("    secret-key = \"{secret}\"\n"));
    }
    let mode = if secret.is_some() { 0o600 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
}

/// Public key, and secret key where there is one.
fn read(path: &Path) -> anyhow::Result<(String, Option<String>)> {
    use std::io::Read as _;
    let failed = || format!("reading {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(failed)?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('='));
        line.map(|value| value.trim().trim_matches('"').to_owned()).filter(|key| is_key(key))
    };
    let public = value("public-key").with_context(|| format!("{} has no public key", path.display()))?;
    Ok((public, value("secret-key")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_kept_from_others_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        assert!(keys.server().unwrap().is_none());
        let made = keys.make_server().unwrap();
        assert_eq!(keys.make_server().unwrap().secret, made.secret);
        let secret = dir.path().join("keys/server.key_secret");
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&made.secret));

        let (pair, file) = keys.make_client("desk-2").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keys.make_client("desk-2").is_err(), "never over another one");
        assert_eq!(keys.client_of(&pair.public).as_deref(), Some("desk-2"));
        assert_eq!(keys.client_of(&made.public), None);
        keys.add_client("own", &made.public).unwrap();
        assert!(keys.add_client("bad", "short").is_err());
        for name in ["../x", "", "server", "a/b", "a.b"] {
            assert!(keys.make_client(name).is_err(), "{name}");
        }
        assert_eq!(keys.clients().unwrap().len(), 2);
        assert!(keys.drop_client("desk-2").unwrap());
        assert!(!keys.drop_client("desk-2").unwrap());
        assert_eq!(keys.client_of(&pair.public), None);
    }
}
