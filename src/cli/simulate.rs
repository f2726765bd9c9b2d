//! `tapedeck simulate`: a venue that speaks the real protocol and fails on demand.

use anyhow::Context as _;
use tapedeck_testkit::{betfair, binance, kite, kraken, oanda, x};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;

const EXAMPLES: &str = "\
Examples:
  tapedeck simulate kraken --listen 127.0.0.1:8090 --pairs 50 --rate 20000
  tapedeck simulate kraken --frames recorded.jsonl.gz --speed max
  tapedeck simulate kraken --fault 'at 5s cut' --fault 'corrupt BTC/USD'
  tapedeck simulate kraken --help       every fault
  tapedeck simulate oanda --frames oanda_eurusd_tick_20140501.csv.gz --speed 10 --transactions 5s
  tapedeck simulate x --rate 5 --fault 'every 1m disconnect'
  tapedeck simulate binance --rate 200 --fault 'every 20s skip BTCUSDT'
  tapedeck simulate kite --rate 50 --fault 'at 30s token-dead'
  tapedeck simulate betfair --frames 1.185781277.bz2 --speed 10 --fault 'every 30s cut in-line'

and record it:
  tapedeck run --set source.fake.kind=kraken --set source.fake.pairs='[\"*\"]' \\
      --set source.fake.url=ws://127.0.0.1:8090/v2";

/// Be a venue: the real protocol on a local port, generated or recorded data, faults on demand
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    venue: Venue,
}

#[derive(Debug, clap::Subcommand)]
enum Venue {
    /// Betfair: the Exchange Stream on one port, logins on another
    Betfair(Box<betfair::SimulateArgs>),
    /// Kraken: WebSocket v2 and REST on one port
    Kraken(Box<kraken::SimulateArgs>),
    /// Zerodha Kite: the binary ticker and REST on one port
    Kite(Box<kite::SimulateArgs>),
    /// OANDA v20: streams of prices and transactions, and requests, on one port
    Oanda(Box<oanda::SimulateArgs>),
    /// Binance spot: combined streams and requests, on one port
    Binance(Box<binance::SimulateArgs>),
    /// X: rules and the filtered stream, on one port
    X(Box<x::SimulateArgs>),
}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let venue = self.venue;
        super::block_on(async {
            let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
            let stop = async {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            };
            match venue {
                Venue::Betfair(args) => betfair::simulate(*args, stop).await,
                Venue::Kraken(args) => kraken::simulate(*args, stop).await,
                Venue::Kite(args) => kite::simulate(*args, stop).await,
                Venue::Oanda(args) => oanda::simulate(*args, stop).await,
                Venue::Binance(args) => binance::simulate(*args, stop).await,
                Venue::X(args) => x::simulate(*args, stop).await,
            }
        })
    }
}
