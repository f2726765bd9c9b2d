//! `simulate x`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{FakeX, GRAMMAR, Scheduled, TOKEN};
use crate::kraken::Speed;
use crate::script::{self, say, time};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8096")]
    pub listen: SocketAddr,
    /// Serve recorded posts: lines of the stream, or objects with a text; repeatable, plain or gzipped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "rate"])]
    pub frames: Vec<PathBuf>,
    /// Seed of what is posted
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pace of recorded posts: 1, 2.5, max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// Posts a second
    #[arg(long, value_name = "R", default_value_t = 2)]
    pub rate: u32,
    /// Time between keep-alives
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "20s")]
    pub keep_alive: Duration,
    /// The bearer token that is good
    #[arg(long, value_name = "TOKEN", default_value = TOKEN)]
    pub token: String,
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
    let mut fake = FakeX::builder()
        .listen(args.listen)
        .seed(args.seed)
        .rate(args.rate)
        .keep_alive(args.keep_alive)
        .token(&args.token)
        .remember(false);
    fake = args.frames.into_iter().fold(fake, |fake, path| fake.frames(path, args.speed));
    fake = faults.into_iter().fold(fake, FakeX::fault);
    if let (Some(cert), Some(key)) = (args.tls_cert, args.tls_key) {
        fake = fake.tls(cert, key);
    }
    let handle = fake.start().await?;
    say(&format!("listening on {}, token {}", handle.url(), args.token));
    let how = || format!("{} rules, {} streams since the start", handle.rules().len(), handle.opened());
    serve::progress(stop, how).await;
    handle.stop().await;
    say("stopped");
    Ok(())
}
