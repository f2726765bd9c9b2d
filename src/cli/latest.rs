//! `tapedeck latest`: the newest tick of each instrument, as a store has it.

use serde_json::json;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::{retention, stores};
use crate::sinks::Question;

const EXAMPLES: &str = "\
Examples:
  tapedeck latest                      of every instrument
  tapedeck latest BTC/USD              of one; its old name, XXBTZUSD, is understood too
  tapedeck latest BTC/USD --json
  tapedeck latest --sink influx        where several stores can be asked";

/// Print the newest tick of each instrument, as a store has it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only of this one, in the venue's spelling
    symbol: Option<String>,
    /// The sink to ask, by the name of its table; without it the only one that can be asked
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        let sink = self.sink.as_deref();
        let (table, mut sink) = stores::one(&config, sink, "ticks to be asked for", |sink| sink.answers())?;
        let found = super::block_on(sink.ask(&Question::Latest { symbol: self.symbol.clone() }))?;
        if found.rows.is_empty() {
            let of = self.symbol.map(|symbol| format!(" of {symbol}")).unwrap_or_default();
            return Err(End::Absent(format!("[sink.{}] has no tick{of}", table.name)).into());
        }
        if self.json { out.json(&json!(found.objects())) } else { retention::print(&found, out) }
    }
}
