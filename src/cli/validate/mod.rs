//! `tapedeck validate`: does data flow, from the venues over the bus to the stores?

pub(super) mod deck;
mod grafana;
mod market;
mod stores;
mod topics;

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::{self, Out};
use crate::cli::stores as named;
use crate::cli::verdict::{Verdict, is_well, print};
use crate::config::units::{ByteSize, Interval};
use crate::config::{Config, KindTable};

const EXAMPLES: &str = "\
Examples:
  tapedeck validate full                 the deck, every topic of the bus, every store; 1 as exit code when something is wrong
  tapedeck validate full --watch         again every 5 s, until Ctrl-C
  tapedeck validate zmq                  listen to every topic: count, rate, what cannot be read, holes
  tapedeck validate zmq kraken_tick --for 10s
  tapedeck validate stores               every sink: connection, login, a write and its reading back, its newest rows
  tapedeck validate stores influx --last 10m --json
  tapedeck validate grafana              data sources and dashboards there, and does it reach the stores?

What waits for credentials, or for a market to open, is shown apart: it is no fault.

Exit codes: 0 all is well, 1 something is wrong, 2 the config or the command line, 4 there is nothing to look at.";

/// Does data flow? Topics of the bus, stores, or all of it, with the next step for each fault
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Subscribe to the bus: per topic count, rate, last message, what cannot be read, holes in the chain
    Zmq {
        /// Only these topics; one that nothing comes on is a fault
        names: Vec<String>,
        #[command(flatten)]
        listening: Listening,
        #[command(flatten)]
        again: Again,
    },
    /// Try every store: connection, credentials, a write and its reading back, its newest rows beside the tape
    #[command(alias = "influxdb")]
    Stores {
        /// Only these sinks, by the names of their tables
        names: Vec<String>,
        #[command(flatten)]
        asking: Asking,
        #[command(flatten)]
        again: Again,
    },
    /// Does Grafana answer, has it the data sources and dashboards, and does it reach the stores?
    Grafana {
        #[command(flatten)]
        again: Again,
    },
    /// All of it at once: deck, disk, sources, services, topics, stores, and Grafana where the config has it
    Full {
        #[command(flatten)]
        listening: Listening,
        #[command(flatten)]
        asking: Asking,
        /// Less room than this on the tape's disk is a fault
        #[arg(long, value_name = "SIZE", default_value = "1 GiB")]
        min_free: ByteSize,
        #[command(flatten)]
        again: Again,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Listening {
    /// How long to listen; less where everything that flows is heard before
    #[arg(long = "for", value_name = "TIME", default_value = "2s")]
    time: Interval,
    /// How long a topic whose data flows may be silent before that is a fault
    #[arg(long, value_name = "TIME", default_value = "1m")]
    silence: Interval,
}

#[derive(Clone, Debug, clap::Args)]
struct Asking {
    /// How far back the rows of a store are compared with the tape; at most its last 20,000 records
    #[arg(long, value_name = "TIME", default_value = "2m")]
    last: Interval,
}

#[derive(Clone, Debug, clap::Args)]
struct Again {
    /// Look again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "watch")]
    every: Interval,
    /// End after so many looks
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
    /// Print JSON: one object a look
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = Arc::new(global.load()?.config);
        self.what.check(&config)?;
        let again = self.what.again().clone();
        if again.watch {
            out::end_with_reader()?;
        }
        let mut looks = 0;
        loop {
            let begun = Instant::now();
            let verdicts = super::block_on(async { Ok(self.what.look(&config).await) })?;
            looks += 1;
            if again.json {
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                out.json(&json!({ "ok": is_well(&verdicts), "took_ms": took_ms, "findings": verdicts }))?;
            } else {
                if again.watch {
                    out.line(format!("--- {}", tapedeck_market::UnixNanos::now()))?;
                }
                print(&verdicts, out)?;
            }
            out.flush()?;
            if !again.watch || again.count.is_some_and(|count| looks >= count) {
                return if is_well(&verdicts) { Ok(()) } else { Err(End::Found.into()) };
            }
            std::thread::sleep(again.every.0.saturating_sub(begun.elapsed()));
        }
    }
}

impl What {
    /// Whether there is something to look at.
    fn check(&self, config: &Config) -> anyhow::Result<()> {
        match self {
            What::Zmq { .. } if config.bus.is_none() => Err(End::Absent("the config has no [bus]".to_owned()).into()),
            What::Stores { .. } if config.sinks.is_empty() => {
                Err(End::Absent("the config has no sink".to_owned()).into())
            }
            What::Grafana { .. } if config.grafana.is_none() => {
                Err(End::Absent("the config has no [grafana]".to_owned()).into())
            }
            What::Stores { names, .. } => names.iter().try_for_each(|name| named::named(config, name).map(drop)),
            _ => Ok(()),
        }
    }

    fn again(&self) -> &Again {
        match self {
            What::Zmq { again, .. }
            | What::Stores { again, .. }
            | What::Grafana { again }
            | What::Full { again, .. } => again,
        }
    }

    async fn look(&self, config: &Arc<Config>) -> Vec<Verdict> {
        let status = deck::status(config).await;
        match self {
            What::Zmq { names, listening, .. } => listened(config, status, listening, names).await,
            What::Stores { names, asking, .. } => {
                let wanted = |table: &&KindTable| names.is_empty() || names.iter().any(|name| *name == table.name);
                let tables: Vec<&KindTable> = config.sinks.iter().filter(wanted).collect();
                stores::look(&tables, &config.tape.dir, asking.last.0, status.is_some()).await
            }
            What::Grafana { .. } => grafana::look(config).await,
            What::Full { listening, asking, min_free, .. } => {
                let tables: Vec<&KindTable> = config.sinks.iter().collect();
                let mut verdicts = deck::look(config, status.as_ref(), *min_free);
                let (heard, held, shown) = tokio::join!(
                    async {
                        match &config.bus {
                            Some(_) => listened(config, status.clone(), listening, &[]).await,
                            None => Vec::new(),
                        }
                    },
                    stores::look(&tables, &config.tape.dir, asking.last.0, status.is_some()),
                    async {
                        match &config.grafana {
                            Some(_) => grafana::look(config).await,
                            None => Vec::new(),
                        }
                    }
                );
                verdicts.extend(heard);
                verdicts.extend(held);
                verdicts.extend(shown);
                verdicts
            }
        }
    }
}

async fn listened(
    config: &Arc<Config>,
    status: Option<crate::status::Status>,
    listening: &Listening,
    names: &[String],
) -> Vec<Verdict> {
    let (config, manner) =
        (config.clone(), topics::Manner { time: listening.time.0, quiet: listening.silence.0, names: names.to_vec() });
    let looked = tokio::task::spawn_blocking(move || topics::look(&config, status.as_ref(), &manner)).await;
    looked.unwrap_or_else(|error| vec![Verdict::bad("bus", format!("the listener failed: {error}"), "tapedeck tap ''")])
}
