//! `simulate kite`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{ACCESS_TOKEN, API_KEY, API_SECRET, FakeKite, GRAMMAR, REQUEST_TOKEN, Scheduled};
use crate::kraken::Speed;
use crate::script::{self, say, time};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8093")]
    pub listen: SocketAddr,
    /// Serve recordings: frames (.bin), packets in base64 (.packet), or rows of local time, price and running volume
    /// (INFY_20210415.csv.gz); repeatable
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "instruments", "rate"])]
    pub frames: Vec<PathBuf>,
    /// Seed of the generated market
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pace of recordings: 1, 2.5, max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// Instruments of the generated market: INFY, RELIANCE, TCS …, then SIM0001 and so on
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub instruments: usize,
    /// Packets a second over all instruments
    #[arg(long, value_name = "R", default_value_t = 10)]
    pub rate: u32,
    /// Time between heartbeats
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    pub heartbeat: Duration,
    /// The application's key
    #[arg(long, value_name = "KEY", default_value = API_KEY)]
    pub api_key: String,
    /// Its secret, for logins
    #[arg(long, value_name = "SECRET", default_value = API_SECRET)]
    pub api_secret: String,
    /// The request token that a login takes
    #[arg(long, value_name = "TOKEN", default_value = REQUEST_TOKEN)]
    pub request_token: String,
    /// The access token that is good, until the next login
    #[arg(long, value_name = "TOKEN", default_value = ACCESS_TOKEN)]
    pub access_token: String,
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
    let (key, token) = (args.api_key.clone(), args.access_token.clone());
    let mut fake = FakeKite::builder()
        .listen(args.listen)
        .seed(args.seed)
        .instruments(args.instruments)
        .rate(args.rate)
        .heartbeat(args.heartbeat)
        .credentials([args.api_key, args.api_secret, args.request_token, args.access_token])
        .remember(false);
    fake = args.frames.into_iter().fold(fake, |fake, path| fake.frames(path, args.speed));
    fake = faults.into_iter().fold(fake, FakeKite::fault);
    let handle = fake.start().await?;
    say(&format!("listening on {} and {}, key {key}, access token {token}", handle.ws_url(), handle.rest_url()));
    serve::progress(stop, || format!("{} connections open, {} since the start", handle.connections(), handle.opened()))
        .await;
    handle.stop().await;
    say("stopped");
    Ok(())
}
