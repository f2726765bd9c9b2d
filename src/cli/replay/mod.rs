//! `tapedeck replay`: the tape, played again.

mod keys;
mod progress;
mod stdout;

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use tapedeck_market::{Event, Kind, UnixNanos};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Filter, From, Where};
use crate::config::Bus;
use crate::replay::bus::ToBus;
use crate::replay::venue::Venue;
use crate::replay::{Playback, Player, Progress, Range, Speed, Summary};

/// Commands that a person may be ahead of the replay.
const COMMANDS: usize = 16;
/// Where the venue listens when nothing else is said.
const VENUE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);

const EXAMPLES: &str = "\
Examples:
  tapedeck replay --from 10m --speed 10                    the last ten minutes in one, as JSON lines
  tapedeck replay --from 2026-07-19 --to 2026-07-20 --speed max --kind trade
  tapedeck replay --to bus --listen 127.0.0.2 --from 1h    the bus again, beside that of a running deck
  tapedeck replay --to venue --listen 127.0.0.1:8090       a Kraken whose market is the tape

and record from that, or point any client of Kraken's WebSocket v2 at it:
  tapedeck run --set source.again.kind=kraken --set source.again.pairs=BTC/USD \\
      --set source.again.url=ws://127.0.0.1:8090/v2 --set tape.dir=./again

On a terminal: space pauses, ← and → go 10 seconds back and forth, + and - change the speed, q ends.";

/// Play the tape again: in order, at its own pace or faster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// Begin here: a seq, `begin`, a time, or how long ago (10m)
    #[arg(long, value_name = "PLACE", default_value = "begin")]
    from: From,
    /// End before this: a time, or how long ago; or with this record, a seq. Without it: what is there now
    #[arg(long, value_name = "PLACE")]
    until: Option<From>,
    /// Where to play to: `stdout` (JSON lines), `bus` (the topics and ports of [bus], each message marked) or `venue` (a
    /// Kraken on a local port); or, as --until, where to end. May be given twice, once for each
    #[arg(long, value_name = "TARGET|PLACE", num_args = 1)]
    to: Vec<To>,
    /// Where to play to, as --to
    #[arg(long, value_enum, value_name = "TARGET")]
    target: Option<Goal>,
    /// How many times as fast as recorded, or `max`
    #[arg(long, value_name = "N|max", default_value = "1")]
    speed: Speed,
    /// Address and port of the venue; address of the bus, whose ports are those of [bus]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    #[command(flatten)]
    filter: Filter,
    /// Only these kinds: trade, quote, ticker, book, candle, gap, status …
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = reading::kind)]
    kind: Vec<Kind>,
    #[command(flatten)]
    place: Where,
}

/// Where it is played to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    Stdout,
    Bus,
    Venue,
}

/// An address, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listen {
    Ip(IpAddr),
    Port(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ip = text.parse().map(Listen::Ip);
        ip.or_else(|_| text.parse().map(Listen::Port))
            .map_err(|_| "write 127.0.0.1:8090, or 127.0.0.2 for a bus".to_owned())
    }
}

/// The word of the issue means both: a goal, or the end of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Goal(Goal),
    Place(From),
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(goal) = <Goal as clap::ValueEnum>::from_str(text, false) {
            return Ok(To::Goal(goal));
        }
        let goals = "`stdout`, `bus`, `venue`";
        text.parse().map(To::Place).map_err(|error: String| format!("neither a target ({goals}) nor a place: {error}"))
    }
}

impl Args {
    pub(in crate::cli) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let dir = self.place.dir(global)?;
        let (goal, until) = self.read()?;
        if self.listen.is_some() && goal == Goal::Stdout {
            return Err(End::Usage("--listen is for --to venue and --to bus".to_owned()).into());
        }
        if goal == Goal::Bus && matches!(self.listen, Some(Listen::Port(_))) {
            let said = "a bus has the ports of [bus] (`port_offset` moves them): --listen takes its address alone";
            return Err(End::Usage(said.to_owned()).into());
        }
        let range = range(self.from, until);
        let (filter, kinds) = (self.filter.clone(), self.kind.clone());
        let wanted = move |event: &Event| {
            (kinds.is_empty() || kinds.contains(&event.body.kind())) && filter.wants(&event.source, &event.symbol)
        };
        let playback = Playback::open(&dir, range, Box::new(wanted))?;
        let bus = global.load()?.config.bus.unwrap_or_default();
        tell(&super::block_on(self.play(&dir, playback, goal, &bus, out))?);
        Ok(())
    }

    /// Goal and end of the range, each said at most once.
    fn read(&self) -> anyhow::Result<(Goal, Option<From>)> {
        let twice = |what: &str| End::Usage(format!("{what} is said twice: see `tapedeck replay --help`"));
        let (mut goal, mut until) = (self.target, self.until);
        for to in &self.to {
            match *to {
                To::Goal(to) if goal.replace(to).is_some_and(|said| said != to) => {
                    return Err(twice("the target").into());
                }
                To::Place(to) if until.replace(to).is_some_and(|said| said != to) => {
                    return Err(twice("the end").into());
                }
                _ => {}
            }
        }
        Ok((goal.unwrap_or(Goal::Stdout), until))
    }

    async fn play(
        &self,
        dir: &Path,
        playback: Playback,
        goal: Goal,
        bus: &Bus,
        out: &mut Out,
    ) -> anyhow::Result<Summary> {
        let stop = CancellationToken::new();
        let stopping = stop_on_signals(stop.clone())?;
        let (commands, asked) = mpsc::channel(COMMANDS);
        let keys = (std::io::stderr().is_terminal()).then(|| keys::Keys::listen(commands)).flatten();
        let mut bar = progress::Shown::new(keys.is_some());
        let mut show = |progress: &Progress| bar.tell(progress);
        let player = Player::new(playback, self.speed, asked, stop.clone(), &mut show);
        let played = match goal {
            Goal::Stdout => player.run(&mut stdout::Lines(out)).await,
            Goal::Bus => {
                let listen = self.listen.map(|listen| match listen {
                    Listen::Ip(ip) => ip,
                    Listen::Port(addr) => addr.ip(),
                });
                let mut to_bus = ToBus::listen(dir, bus, listen)?;
                eprintln!(
                    "tapedeck: all topics are on {}, and each on its own port; waiting for a subscriber",
                    to_bus.everything()
                );
                let played = player.run(&mut to_bus).await;
                to_bus.end()?;
                played
            }
            Goal::Venue => {
                let listen = match self.listen {
                    Some(Listen::Ip(ip)) => SocketAddr::new(ip, VENUE.port()),
                    Some(Listen::Port(addr)) => addr,
                    None => VENUE,
                };
                let mut venue = Venue::listen(listen).await?;
                eprintln!("tapedeck: a Kraken made of {} waits for a client on {}", dir.display(), venue.url());
                let played = player.run(&mut venue).await;
                if venue.passed_over() > 0 {
                    eprintln!("tapedeck: {} records are of no channel that the venue plays", venue.passed_over());
                }
                venue.end().await;
                played
            }
        };
        stopping.abort();
        bar.end();
        drop(keys);
        played
    }
}

fn range(from: From, until: Option<From>) -> Range {
    let until_seq = match until {
        Some(From::Seq(seq)) => Some(seq),
        // Nothing is before the beginning.
        Some(From::Begin) => Some(0),
        Some(From::Now | From::Time(_)) | None => None,
    };
    let until_time = match until {
        Some(From::Time(time)) => Some::<UnixNanos>(time),
        _ => None,
    };
    Range { from: from.start(), until_seq, until_time }
}

/// SIGINT and SIGTERM end the replay in order.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }))
}

/// What was played, on standard error: standard output is for what is played.
fn tell(summary: &Summary) {
    let Summary { records, missing, stopped } = *summary;
    let end = if stopped { ", stopped before the end" } else { "" };
    let holes = if missing == 0 { String::new() } else { format!(", {missing} records could not be read") };
    eprintln!("tapedeck: {records} records played{holes}{end}");
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(line: &str) -> Result<(Goal, Option<From>), String> {
        let words = std::iter::once("replay").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.read().map_err(|error| error.to_string())
    }

    #[test]
    fn to_is_a_target_or_the_end_of_the_range() {
        let noon = From::Time(UnixNanos(1_784_462_400_000_000_000));
        for (line, goal, until) in [
            ("", Goal::Stdout, None),
            ("--to venue", Goal::Venue, None),
            ("--to bus --listen 127.0.0.2", Goal::Bus, None),
            ("--to 2026-07-19T12:00:00Z", Goal::Stdout, Some(noon)),
            ("--to 2026-07-19T12:00 --to venue", Goal::Venue, Some(noon)),
            ("--to venue --until 2026-07-19T12:00", Goal::Venue, Some(noon)),
            ("--target venue --to 17", Goal::Venue, Some(From::Seq(17))),
            ("--target stdout --to stdout", Goal::Stdout, None),
        ] {
            assert_eq!(read(line), Ok((goal, until)), "{line}");
        }
        for (line, words) in [
            ("--to venue --to stdout", "the target is said twice"),
            ("--to 5 --until 6", "the end is said twice"),
            ("--to mars", "neither a target"),
            ("--speed warp", "a factor"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
