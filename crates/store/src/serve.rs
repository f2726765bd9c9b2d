//! `tapedeck-store serve`: the archive and the SQL server, as a child of the deck.
//!
//! ```text
//! deck ── standard input ──►  the config as one JSON line, then nothing: its end is ours
//!      ◄─ standard output ──  {"state":"running","sql":"SQL: ready on 127.0.0.1:5433","archived_seq":…}
//!      ◄─ standard error ───  log lines, as JSON
//! ```

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tapedeck_archive::{Archive, Keep, Options};
use tapedeck_tape::storage::{Disk, Storage};
use tokio_util::sync::CancellationToken;

use crate::archive::Archive as Tables;
use crate::engine::Engine;
use crate::limits::{self, Limits};
use crate::pg::{self, BindError, Certificate, Server};

/// How often the deck is told how it stands.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// An address that is taken is asked for again after this.
const BIND_AGAIN: Duration = Duration::from_secs(2);
/// An archive that another store still keeps is tried again after this.
const LOCKED_AGAIN: Duration = Duration::from_millis(250);
/// What the end may take: the deck waits for it.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// A config is a few lines.
const CONFIG_BYTES: u64 = 1 << 20;
/// Threads for files and for whatever blocks; each has a stack that counts.
const BLOCKING_THREADS: usize = 16;

/// What the deck says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The deck's folder, with the tape and the password.
    dir: PathBuf,
    archive: PathBuf,
    /// `None`: the archive only.
    listen: Option<SocketAddr>,
    /// Behind everything else on the machine.
    #[serde(default)]
    idle: bool,
    #[serde(default)]
    insecure: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    /// Days by policy or table; `None` = for ever.
    #[serde(default)]
    keep: BTreeMap<String, Option<u32>>,
    keep_bytes: Option<u64>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    level: Option<String>,
}

/// Runs until standard input ends.
///
/// # Errors
/// The config is wrong, the tape or the archive cannot be opened, the address is taken; or the archive has ended.
pub fn run() -> anyhow::Result<()> {
    let mut line = Vec::new();
    io::stdin().lock().take(CONFIG_BYTES).read_until(b'\n', &mut line).context("reading standard input")?;
    let config: Config = serde_json::from_slice(&line)
        .context("standard input holds no config: this verb is started by the deck, not by hand")?;
    logs(config.level.as_deref());
    say(&json!({ "state": "starting", "sql": "SQL: starting" }));
    // Before stepping back: its thread ends the process on time also on a machine that leaves the idle class nothing.
    let stop = stop_at_end_of_input()?;
    if config.idle {
        limits::step_back();
    }
    limits::cap_memory(&config.limits)?;

    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let options = Options { keep: keep(&config)?, ..Options::default() };
    let open = || Archive::follow(&storage, &config.dir, None, &config.archive, options.clone());
    let Some(archive) =
        once_free(open, &stop).with_context(|| format!("opening the archive in {}", config.archive.display()))?
    else {
        return Ok(());
    };
    let spill = config.archive.join(".spill");
    limits::empty_spill_folder(&spill)?;

    let workers = runtime("sql", limits::workers())?;
    let net = runtime("sql-net", 1)?;
    let tables = Arc::new(Tables::new(archive.snapshots()));
    let engine = Arc::new(Engine::new(tables, config.limits, &spill, workers.handle().clone())?);
    let done = net.block_on(serve(&config, &archive, engine, stop));
    // A worker may be in the middle of an operator: nothing of it is kept.
    workers.shutdown_background();
    net.shutdown_background();
    let stopped = archive.stop().context("keeping the archive");
    done.and(stopped)
}

/// The archive, once the store of a deck that was killed has let go of it: that one ends by itself within seconds.
/// `None`: asked to end before.
fn once_free(
    open: impl Fn() -> Result<Archive, tapedeck_archive::Error>,
    stop: &CancellationToken,
) -> Result<Option<Archive>, tapedeck_archive::Error> {
    loop {
        match open() {
            Err(error @ tapedeck_archive::Error::Locked { .. }) => {
                say(&json!({ "state": format!("waiting: {error}"), "sql": "SQL: starting" }));
                if stop.is_cancelled() {
                    return Ok(None);
                }
                std::thread::sleep(LOCKED_AGAIN);
            }
            opened => return opened.map(Some),
        }
    }
}

async fn serve(config: &Config, archive: &Archive, engine: Arc<Engine>, stop: CancellationToken) -> anyhow::Result<()> {
    let state = Mutex::new("SQL: off".to_owned());
    let shown = |text: String| *state.lock().unwrap_or_else(PoisonError::into_inner) = text;
    let said = async {
        loop {
            say(&standing(archive, &state.lock().unwrap_or_else(PoisonError::into_inner)));
            if archive.has_ended() {
                bail!("the archive has ended");
            }
            tokio::time::sleep(SAY_EVERY).await;
        }
    };
    let served = async {
        let Some(listen) = config.listen else {
            stop.cancelled().await;
            return Ok(());
        };
        let password = crate::password::read_or_make(&config.dir)?;
        let server = loop {
            match Server::bind(options(config, listen)?, &password, Arc::clone(&engine)).await {
                Ok(server) => break server,
                Err(BindError::Config(error)) => return Err(error),
                // The archive goes on, and the address may become free.
                Err(error @ BindError::Address { .. }) => {
                    tracing::warn!(error = %error, "no SQL, tried again");
                    shown(format!("SQL: {error}"));
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(BIND_AGAIN) => {}
                    }
                }
            }
        };
        let address = server.address()?;
        tracing::info!(%address, "SQL answers");
        shown(format!("SQL: ready on {address}"));
        say(&standing(archive, &state.lock().unwrap_or_else(PoisonError::into_inner)));
        server.run(stop.clone()).await;
        Ok(())
    };
    tokio::select! {
        ended = served => ended,
        ended = said => ended,
    }
}

fn options(config: &Config, listen: SocketAddr) -> anyhow::Result<pg::Options> {
    let certificate = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => Some(Certificate::read(cert, key)?),
        (None, None) => None,
        _ => bail!("[store] tls_cert and tls_key go together"),
    };
    Ok(pg::Options { listen, certificate, insecure: config.insecure })
}

/// How the store stands, for the deck's status and metrics.
fn standing(archive: &Archive, state: &str) -> Value {
    let mut said = serde_json::to_value(archive.status()).unwrap_or_else(|_| json!({}));
    said["state"] = "running".into();
    said["sql"] = state.into();
    said
}

fn keep(config: &Config) -> anyhow::Result<Keep> {
    let mut keep = Keep { max_bytes: config.keep_bytes, ..Keep::default() };
    for (name, days) in &config.keep {
        keep.set(name, *days).context("[store] keep")?;
    }
    Ok(keep)
}

fn runtime(name: &str, threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name(name)
        // Plans are trees, and walking a deep one takes stack.
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// The deck closes our input when it wants us to end, and the system does when the deck is gone.
fn stop_at_end_of_input() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let ended = stop.clone();
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(move || {
            // Nothing more comes: the end is the message.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            ended.cancel();
            std::thread::sleep(LAST_WORDS);
            std::process::exit(1);
        })
        .context("starting a thread")?;
    Ok(stop)
}

fn say(state: &Value) {
    // Without a reader there is nobody to tell.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{state}");
    let _ = out.flush();
}

fn logs(level: Option<&str>) {
    let filter = tracing_subscriber::EnvFilter::try_new(level.unwrap_or("info,datafusion=warn,parquet=warn"));
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Only a test was here before.
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(io::stderr).try_init();
}
