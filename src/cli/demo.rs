//! `tapedeck demo`: a simulated Kraken, recorded, with nothing to configure.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tapedeck_testkit::kraken::FakeKraken;

use crate::bus::registry;
use crate::cli::Global;
use crate::cli::out::Out;
use crate::config::units::Interval;
use crate::config::{Config, Inputs, Listen, resolve};
use crate::deck::{self, Plan, RunOptions};
use crate::recorder::Restored;

/// Name of the demo's source.
const SOURCE: &str = "kraken";

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
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=2_000))]
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
            let venue = FakeKraken::builder()
                .pairs(self.pairs as usize)
                .seed(self.seed)
                .rate(self.rate)
                .last_trade_ids(self.last_trade_ids()?)
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
            self.say_where(&loaded.config);
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
        out.line(format!("its candles: tapedeck candles BTC/USD 10s --dir {dir}"))?;
        if crate::store::find().is_some() {
            out.line(format!("ask in SQL: tapedeck query --dir {dir} \"select * from trades limit 10\""))?;
        }
        out.line(format!("what is missing, and why: tapedeck gaps --dir {dir}"))
    }

    /// What serves the tape while the demo runs, as lines to copy.
    fn say_where(&self, config: &Config) {
        let dir = self.dir.display();
        if let Some(bus) = &config.bus {
            let port = |topic| registry::ports_of(bus, topic).first().copied().unwrap_or(registry::EVERYTHING);
            tracing::info!(
                "bus: kraken_tick on {}:{}, kr_depth on {}, EUR/USD through crypto (kr_eurusd_tick) on {}, all topics on {}; the list: tapedeck ports; try: tapedeck tap kraken_tick",
                bus.listen,
                port("kraken_tick"),
                port("kr_depth"),
                port("kr_eurusd_tick"),
                registry::moved(bus, registry::EVERYTHING),
            );
        }
        if let Some(Listen::At(addr)) = config.store.as_ref().map(|store| store.sql_listen) {
            tracing::info!(
                "SQL: PGPASSWORD=$(cat {dir}/sql.password) psql -h {} -p {} -U tapedeck tapedeck",
                addr.ip(),
                addr.port()
            );
            tracing::info!("SQL: tapedeck query --dir {dir} \"select symbol, count(*) from trades group by symbol\"");
        }
    }

    /// Where the market stopped the last time: while nobody simulates it, nothing is traded.
    fn last_trade_ids(&self) -> anyhow::Result<HashMap<String, u64>> {
        let restored = match Restored::of_tape(&self.dir) {
            Ok(restored) => restored,
            Err(error) if matches!(error.downcast_ref(), Some(tapedeck_tape::Error::NoTape { .. })) => {
                return Ok(HashMap::new());
            }
            Err(error) => return Err(error),
        };
        Ok(restored.last_trade_ids(SOURCE).into_iter().map(|(symbol, id)| (symbol.into(), id)).collect())
    }

    /// The demo's config; what the user sets comes last and wins.
    fn settings(&self, ws_url: &str, rest_url: &str, global: &Global) -> Vec<String> {
        let mut set = vec![
            format!("tape.dir={}", toml::Value::String(self.dir.display().to_string())),
            "http.listen=off".to_owned(),
            // The first is over before anybody looks away.
            "candles.intervals=[\"1s\", \"10s\", \"1m\"]".to_owned(),
            "synthetic.depth=always".to_owned(),
            "bus.listen=\"127.0.0.1\"".to_owned(),
            "store.sql_listen=\"127.0.0.1:5433\"".to_owned(),
            format!("source.{SOURCE}.kind=kraken"),
            format!("source.{SOURCE}.url={ws_url:?}"),
            format!("source.{SOURCE}.rest_url={rest_url:?}"),
            format!("source.{SOURCE}.pairs=[\"*\"]"),
            format!("source.{SOURCE}.channels=[\"instrument\", \"ticker\", \"trade\", \"book\"]"),
        ];
        set.extend(global.set.iter().cloned());
        set
    }
}
