//! `simulate oanda`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{ACCOUNT, FakeOanda, GRAMMAR, Scheduled, TOKEN};
use crate::kraken::Speed;
use crate::script::{self, say, time};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8092")]
    pub listen: SocketAddr,
    /// Serve recorded prices: lines of the stream, or rows of ms, bid, ask; repeatable, plain or gzipped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "instruments", "rate"])]
    pub frames: Vec<PathBuf>,
    /// Seed of the generated market
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pace of recorded prices: 1, 2.5, max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// Instruments of the generated market
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = ["EUR_USD".to_owned(), "USD_JPY".to_owned(), "XAU_USD".to_owned()])]
    pub instruments: Vec<String>,
    /// Prices a second over all instruments
    #[arg(long, value_name = "R", default_value_t = 10)]
    pub rate: u32,
    /// Let something happen in the account so often, such as 5s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub transactions: Option<Duration>,
    /// Time between heartbeats
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    pub heartbeat: Duration,
    /// The token that is good
    #[arg(long, value_name = "TOKEN", default_value = TOKEN)]
    pub token: String,
    /// The account that it is for
    #[arg(long, value_name = "ID", default_value = ACCOUNT)]
    pub account: String,
    /// Certificate chain (PEM): encrypt
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
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
    let mut fake = FakeOanda::builder()
        .listen(args.listen)
        .seed(args.seed)
        .instruments(args.instruments)
        .rate(args.rate)
        .heartbeat(args.heartbeat)
        .credentials(&args.token, &args.account)
        .remember(false);
    fake = args.frames.into_iter().fold(fake, |fake, path| fake.frames(path, args.speed));
    fake = faults.into_iter().fold(fake, FakeOanda::fault);
    if let Some(every) = args.transactions {
        fake = fake.transactions(every);
    }
    if let (Some(cert), Some(key)) = (args.tls_cert, args.tls_key) {
        fake = fake.tls(cert, key);
    }
    let handle = fake.start().await?;
    say(&format!("listening on {}, token {}, account {}", handle.url(), args.token, args.account));
    serve::progress(stop, || format!("{} streams open, {} since the start", handle.streams(), handle.opened())).await;
    handle.stop().await;
    say("stopped");
    Ok(())
}
