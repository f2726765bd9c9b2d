//! `tapedeck store`: archive and SQL in a process of their own, beside a deck that does not have them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use crate::child::lines;
use crate::cli::Global;
use crate::cli::exit::End;
use crate::store;

/// What the program may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  tapedeck store -c store.toml        archive and SQL, as [tape] and [store] of that file say, until Ctrl-C
  tapedeck query \"select …\"           asks it

A deck whose config has [store] runs this by itself. In a process of its own, perhaps under another user or with less
memory, it needs a config with the deck's [tape] dir, and a deck without [store].";

/// Serve archive and SQL beside a deck that does not
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let loaded = global.load()?;
        global.start_logs(&loaded)?;
        let config = loaded.config.store.clone().unwrap_or_default();
        let told = store::told_to_child(&config, &loaded.config.tape.dir)?;
        super::block_on(serve(told))
    }
}

async fn serve(config: Value) -> anyhow::Result<()> {
    let program =
        store::find().ok_or_else(|| End::Absent(format!("there is no {}: {}", store::PROGRAM, store::BUILD)))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    // A group of its own: Ctrl-C reaches us, and we end it in order.
    let mut child = tokio::process::Command::new(&program)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut stdin = child.stdin.take().context("no way to the program")?;
    let stdout = child.stdout.take().context("no way from the program")?;
    stdin.write_all(format!("{config}\n").as_bytes()).await.context("telling the program its config")?;
    let said = async {
        let mut before = String::new();
        let each = |line: &[u8]| {
            let state =
                serde_json::from_slice::<Value>(line).ok().and_then(|said| said["sql"].as_str().map(str::to_owned));
            if let Some(state) = state.filter(|state| *state != before) {
                tracing::info!("{state}");
                before = state;
            }
        };
        lines(BufReader::new(stdout), each).await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(said);
    tokio::select! {
        status = child.wait() => anyhow::bail!("{} ended by itself: {}", program.display(), status?),
        () = &mut said => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    // The end of its standard input is its order to end.
    drop(stdin);
    let ended = async {
        tokio::select! { status = child.wait() => status.map(|_| ()), () = &mut said => Ok(()) }
    };
    match tokio::time::timeout(END_WITHIN, ended).await {
        Ok(ended) => ended.context("waiting for the program"),
        Err(_) => {
            tracing::error!(limit_s = END_WITHIN.as_secs(), "it did not end in order and was killed");
            child.kill().await.context("killing the program")
        }
    }
}
