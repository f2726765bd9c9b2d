//! `simulate betfair`: the fake as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{APP_KEY, FakeBetfair, GRAMMAR, PASSWORD, Scheduled, USERNAME};
use crate::kraken::Speed;
use crate::script::{self, say, time};
use crate::serve;

/// Options of the simulated venue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = GRAMMAR)]
pub struct SimulateArgs {
    /// Where the stream listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8094")]
    pub listen: SocketAddr,
    /// Where logins are taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8095")]
    pub login_listen: SocketAddr,
    /// Serve recorded messages, historic or of the stream; repeatable, plain, .gz or .bz2
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "markets", "rate"])]
    pub frames: Vec<PathBuf>,
    /// Seed of the generated markets
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pace of recorded messages: 1, 2.5, max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// How many markets are generated
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub markets: usize,
    /// Changes a second over all markets
    #[arg(long, value_name = "R", default_value_t = 20)]
    pub rate: u32,
    /// Let something happen to own orders so often, such as 5s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub orders: Option<Duration>,
    /// The application key that is good
    #[arg(long, value_name = "KEY", default_value = APP_KEY)]
    pub app_key: String,
    /// The account that may log in
    #[arg(long, value_name = "NAME", default_value = USERNAME)]
    pub username: String,
    /// Its password
    #[arg(long, value_name = "PASSWORD", default_value = PASSWORD)]
    pub password: String,
    /// Certificate chain (PEM): encrypt
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authority (PEM) of the certificates that a login with one needs
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
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
    let mut fake = FakeBetfair::builder()
        .listen(args.listen, args.login_listen)
        .seed(args.seed)
        .markets(args.markets)
        .rate(args.rate)
        .credentials(&args.app_key, &args.username, &args.password)
        .remember(false);
    fake = args.frames.into_iter().fold(fake, |fake, path| fake.frames(path, args.speed));
    fake = faults.into_iter().fold(fake, FakeBetfair::fault);
    if let Some(every) = args.orders {
        fake = fake.orders(every);
    }
    if let (Some(cert), Some(key)) = (args.tls_cert, args.tls_key) {
        fake = fake.tls(cert, key);
    }
    if let Some(authority) = args.client_ca {
        fake = fake.client_ca(authority);
    }
    let handle = fake.start().await?;
    let (url, login) = (handle.url(), handle.login_url());
    say(&format!("listening on {url}, logins on {login}, app key {}, user {}", args.app_key, args.username));
    serve::progress(stop, || {
        format!("{} streams open, {} subscriptions since the start", handle.streams(), handle.subscribed())
    })
    .await;
    handle.stop().await;
    say("stopped");
    Ok(())
}
