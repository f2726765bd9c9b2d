//! `tapedeck import`: the predecessors' settings become a config of ours.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::DEFAULT_FILE;
use crate::import::{self, Imported, Kind, SecretKey};

/// No file of settings is larger.
const FILE_BYTES: u64 = 4 << 20;

const EXAMPLES: &str = "\
Examples:
  tapedeck import integration_config.json                  print what it becomes
  tapedeck import integration_config.json db/.env -o tapedeck.toml
  tapedeck import .env nifty.csv -o tapedeck.toml          the broker feed's environment and its symbols
  tapedeck import config.json --as sync -o sync.toml       QuestDB to PocketBase
  tapedeck import .env -o tapedeck.toml --secrets secrets  passwords and keys go to files of their own (0600)

Every key that has no meaning here is listed with the reason, on standard error and at the end of the file. Secrets are
never written into it: each is named with the environment variable that gives it. Of two files that say different things
the first one counts.";

/// Make a config of the predecessors' settings: integration_config.json, .env, JSON, YAML, lists of symbols
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Their files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What the files are, where their content does not tell
    #[arg(long = "as", value_name = "KIND", value_enum)]
    kind: Option<Kind>,
    /// The config to write; without it, it is printed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,
    /// Write nothing; say what would be taken, and what not
    #[arg(long)]
    dry_run: bool,
    /// Folder for the secrets, each in a file that only you can read; without it they are only named
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// Symbols that the broker feed was given on its command line
    #[arg(long, value_name = "SYMBOL", num_args = 1.., value_delimiter = ',')]
    symbols: Vec<String>,
    /// Print JSON: the config, what was taken, what was left and why, and which secrets are to be given
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        let files = self.files.iter().map(|path| self.read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let options = import::Options { symbols: self.symbols.clone(), secrets: self.secrets.clone() };
        let imported = import::import(&files, &options)?;
        let target = self.output.as_ref().filter(|_| !self.dry_run);
        if let Some(file) = target {
            // Looked at before the secrets are written: a refusal leaves nothing behind.
            if !self.force && file.symlink_metadata().is_ok() {
                return Err(exists(file));
            }
        }
        if !self.dry_run {
            write_secrets(&imported.secrets, self.force)?;
        }
        if let Some(file) = target {
            write(file, imported.toml.as_bytes(), 0o666, self.force)?;
        }
        if self.json {
            return out.json(&json!({
                "written": target,
                "config": imported.toml,
                "taken": imported.taken,
                "left": imported.left,
                "secrets": imported.secrets,
            }));
        }
        if self.output.is_none() && !self.dry_run {
            out.raw(imported.toml.as_bytes())?;
            out.flush()?;
        }
        self.report(&imported);
        Ok(())
    }

    fn read(&self, path: &Path) -> anyhow::Result<import::File> {
        let mut text = String::new();
        let mut read = || File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut text);
        let bytes = read().with_context(|| format!("reading {}", path.display()))?;
        anyhow::ensure!(bytes as u64 <= FILE_BYTES, "{} is larger than 4 MiB", path.display());
        let kind = self.kind.or_else(|| Kind::of(path, &text)).ok_or_else(|| {
            let kinds = "integration, env, settings, sync or symbols";
            End::Usage(format!(
                "{}: whose file is this? Its content does not tell: say --as with {kinds}",
                path.display()
            ))
        })?;
        Ok(import::File { path: path.to_owned(), text, kind })
    }

    /// To standard error: standard output may be the config.
    fn report(&self, imported: &Imported) {
        let mut said = String::new();
        let mut say = |line: String| {
            said.push_str(&line);
            said.push('\n');
        };
        say(format!("{} keys taken, {} left", imported.taken.len(), imported.left.len()));
        for (file, reason, keys) in import::grouped(&imported.left) {
            say(format!("  {file}: {}", keys.join(", ")));
            say(format!("      {reason}"));
        }
        for secret in &imported.secrets {
            match &secret.file {
                Some(file) => say(format!("secret {} ({}): in {}", secret.to, secret.from, file.display())),
                None => say(format!(
                    "secret {} ({}): put {}=… into the environment or into `.env` beside the config (chmod 600)",
                    secret.to, secret.from, secret.variable
                )),
            }
        }
        let config = match &self.output {
            Some(file) if file.as_os_str() == DEFAULT_FILE => String::new(),
            Some(file) => format!(" -c {}", file.display()),
            None => " -c FILE".to_owned(),
        };
        let next = if imported.records { "tapedeck check" } else { "tapedeck sync check" };
        let verb = if self.dry_run { "would write" } else { "wrote" };
        let wrote = self.output.as_ref().map(|file| format!("{verb} {}; ", file.display())).unwrap_or_default();
        say(format!("{wrote}next: {next}{config}"));
        eprint!("{said}");
    }
}

fn write_secrets(secrets: &[SecretKey], force: bool) -> anyhow::Result<()> {
    for secret in secrets {
        let Some(file) = &secret.file else { continue };
        if let Some(folder) = file.parent() {
            let mut made = std::fs::DirBuilder::new();
            made.recursive(true).mode(0o700).create(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        write(file, secret.value.expose().as_bytes(), 0o600, force)?;
    }
    Ok(())
}

/// Writes a file whole or not at all; without `force`, one that is there stays.
fn write(path: &Path, bytes: &[u8], mode: u32, force: bool) -> anyhow::Result<()> {
    let name = path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(new);
    let place = || {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link looks and creates in one step: nobody's file is lost between the two.
        if force { std::fs::rename(&new, path) } else { std::fs::hard_link(&new, path) }
    };
    let placed = place();
    // Gone already where it was renamed.
    let _ = std::fs::remove_file(&new);
    match placed {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        placed => placed.with_context(|| format!("writing {}", path.display())),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    End::Usage(format!("{} is there already; --force replaces it", path.display())).into()
}
