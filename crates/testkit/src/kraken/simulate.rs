//! `simulate kraken`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::fault::is_pair;
use super::{Credentials, FakeKraken, GRAMMAR, Pairs, Scheduled, Speed};
use crate::script::{self, say};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Serve recorded frames: one a line, plain or gzipped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "pairs", "rate"])]
    pub frames: Option<PathBuf>,
    /// Seed of the generated market
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pace of recorded frames, or factor of the rate: 1, 2.5, max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// How many pairs, or which: 20, or BTC/USD,ETH/USD
    #[arg(long, value_name = "N|LIST", default_value = "20")]
    pub pairs: Pairs,
    /// Messages a second over all pairs and channels
    #[arg(long, value_name = "R", default_value_t = 1_000)]
    pub rate: u32,
    /// Trades that each pair has behind it at the start, a second apart, for requests of the past
    #[arg(long, value_name = "N", default_value_t = super::market::PAST_TRADES, conflicts_with = "frames")]
    pub past: usize,
    /// Make something go wrong; repeatable, grammar below
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<Scheduled>,
    /// File of faults, one a line
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Write what was handed to the sockets to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Key that may have tokens of the private channel
    #[arg(long, value_name = "KEY", requires = "api_secret")]
    pub api_key: Option<String>,
    /// Its secret, base64
    #[arg(long, value_name = "BASE64", requires = "api_key")]
    pub api_secret: Option<String>,
}

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return match count {
                1..=10_000 => Ok(Pairs::Count(count)),
                _ => Err("from 1 to 10000 pairs".into()),
            };
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !is_pair(name)) {
            Some(name) => Err(format!("`{name}` is no pair such as BTC/USD")),
            None => Ok(Pairs::Named(names)),
        }
    }
}

/// Serves until `stop`, saying on standard output where it listens and now and then what it sent.
///
/// # Errors
/// It cannot start, or the sent log could not be written.
pub async fn simulate(args: SimulateArgs, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let faults = script::all(args.faults, args.script.as_deref())?;
    let mut fake =
        FakeKraken::builder().listen(args.listen).seed(args.seed).pairs(args.pairs).past(args.past).remember(false);
    fake = match (args.frames, args.speed) {
        (Some(path), speed) => fake.frames(path, speed),
        (None, Speed::Max) => fake.flat_out(),
        (None, Speed::Times(times)) => fake.rate(scaled(args.rate, times)),
    };
    fake = faults.into_iter().fold(fake, FakeKraken::fault);
    if let Some(path) = args.log {
        fake = fake.log_to(path);
    }
    if let (Some(key), Some(secret)) = (args.api_key, args.api_secret) {
        fake = fake.credentials(Credentials { key, secret, token_life: Duration::from_secs(900) });
    }
    let handle = fake.start().await?;
    say(&format!("listening on {} and {}", handle.ws_url(), handle.rest_url()));
    let how = || {
        format!(
            "{} connected, {} sessions, {} messages sent",
            handle.connections(),
            handle.sessions(),
            handle.messages()
        )
    };
    serve::progress(stop, how).await;
    let (log, sent) = (handle.log(), handle.messages());
    handle.stop().await;
    say(&format!("stopped after {sent} messages"));
    match log.failed() {
        Some(why) => Err(anyhow::anyhow!("the sent log is not complete: {why}")),
        None => Ok(()),
    }
}

fn scaled(rate: u32, times: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest u32 there is"
    )]
    let scaled = (f64::from(rate) * times).round() as u32;
    scaled
}
