//! `simulate binance`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{FakeBinance, GRAMMAR, Scheduled};
use crate::script::{self, say};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8097")]
    pub listen: SocketAddr,
    /// Seed of the generated market
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Symbols of the generated market
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = ["BTCUSDT".to_owned(), "ETHUSDT".to_owned(), "ETHBTC".to_owned()])]
    pub symbols: Vec<String>,
    /// Changes a second over all symbols
    #[arg(long, value_name = "R", default_value_t = 20)]
    pub rate: u32,
    /// Make something go wrong; repeatable, grammar below
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<Scheduled>,
    /// File of faults, one a line
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Serves until `stop`, saying on standard output where it listens and now and then who listens.
///
/// # Errors
/// It cannot start.
pub async fn simulate(args: SimulateArgs, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let faults = script::all(args.faults, args.script.as_deref())?;
    let fake = FakeBinance::builder().listen(args.listen).seed(args.seed).symbols(args.symbols).rate(args.rate);
    let handle = faults.into_iter().fold(fake, FakeBinance::fault).start().await?;
    say(&format!("listening on {} and {}", handle.ws_url(), handle.rest_url()));
    let how = || format!("{} connections, {} since the start", handle.connections(), handle.opened());
    serve::progress(stop, how).await;
    handle.stop().await;
    say("stopped");
    Ok(())
}
