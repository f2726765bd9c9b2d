//! `tapedeck demo`: a simulated Kraken, recorded, with nothing to configure.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tapedeck_market::UnixNanos;
use tapedeck_testkit::kraken::FakeKraken;

use crate::cli::Global;
use crate::cli::out::Out;
use crate::config::units::Interval;
use crate::config::{Inputs, resolve};
use crate::deck::{self, Plan, RunOptions};

/// No pair of the simulated venue trades faster than this, so ids that count on by it never come twice.
const TRADES_A_SECOND: u64 = 1_000;

const EXAMPLES: &str = "\
Examples:
  tapedeck demo                     record a simulated market into ./demo until Ctrl-C
  tapedeck demo --for 10s --dir /tmp/d
  tapedeck demo --pairs 50 --rate 20000

While it runs, from another shell:
  tapedeck tail --dir demo
  tapedeck status --dir demo
  tapedeck gaps --dir demo";

/// Record a simulated Kraken and show it: no configuration, no network
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of the tape; a second run goes on where the first one stopped
    #[arg(long, default_value = "./demo")]
    dir: PathBuf,
    /// Stop by itself after this time, such as 10s
    #[arg(long = "for", value_name = "TIME")]
    run_for: Option<Interval>,
    /// Messages a second of the simulated venue
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How many pairs are traded there
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pairs: u32,
    /// Seed of the simulated market
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No live screen, also on a terminal
    #[arg(long)]
    plain: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let mut logged = false;
        let summary = crate::cli::block_on(async {
            let seconds = u64::try_from(UnixNanos::now().0 / 1_000_000_000).unwrap_or(0);
            let venue = FakeKraken::builder()
                .pairs(self.pairs as usize)
                .seed(self.seed)
                .rate(self.rate)
                .trade_ids_from(seconds * TRADES_A_SECOND)
                .remember(false)
                .start()
                .await
                .context("starting the simulated Kraken")?;
            let loaded = resolve(&Inputs {
                set: self.settings(&venue.ws_url(), &venue.rest_url(), global),
                ..Inputs::default()
            })?;
            let _logs = global.start_logs(&loaded)?;
            logged = true;
            tracing::info!(venue = venue.ws_url(), dir = %self.dir.display(), "recording a simulated Kraken, Ctrl-C stops");
            let options = RunOptions {
                run_for: self.run_for.map(|time| time.0),
                reload: None,
                screen: !self.plain && std::io::stderr().is_terminal(),
            };
            let summary = deck::run(Plan::of(&loaded, &[])?, options).await;
            venue.stop().await;
            summary
        })?;
        super::run::said(out, &summary, &self.dir)?;
        let dir = self.dir.display();
        out.line(format!("look at it: tapedeck tail --from begin --dir {dir}"))?;
        out.line(format!("what is missing, and why: tapedeck gaps --dir {dir}"))
    }

    /// The demo's config; what the user sets comes last and wins.
    fn settings(&self, ws_url: &str, rest_url: &str, global: &Global) -> Vec<String> {
        let mut set = vec![
            format!("tape.dir={}", toml::Value::String(self.dir.display().to_string())),
            "http.listen=off".to_owned(),
            "source.kraken.kind=kraken".to_owned(),
            format!("source.kraken.url={ws_url:?}"),
            format!("source.kraken.rest_url={rest_url:?}"),
            "source.kraken.pairs=[\"*\"]".to_owned(),
            "source.kraken.channels=[\"instrument\", \"ticker\", \"trade\", \"book\"]".to_owned(),
        ];
        set.extend(global.set.iter().cloned());
        set
    }
}
