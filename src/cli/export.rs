//! `tapedeck export`: a table, or a part of it, as a file.

use tapedeck_market::UnixNanos;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::query::Answer;
use crate::cli::reading;
use crate::config::suggest::nearest;

/// The tables that have rows of their own.
const TABLES: &[&str] = crate::config::KEPT.split_at(3).1;

const EXAMPLES: &str = "\
Examples:
  tapedeck export trades --out trades.parquet
  tapedeck export trades --symbol BTC/USD --from 2026-07-19 --to 2026-07-20 --out day.csv
  tapedeck export candles --from 7d --json
  tapedeck export gaps";

/// Write a table, or a part of it, as CSV, JSON, Arrow or Parquet
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// trades, quotes, tickers, books, candles, odds, orders, posts, points, instruments, status, gaps …
    #[arg(value_name = "TABLE")]
    table: String,
    /// Only these symbols, in the venue's spelling
    #[arg(long, value_name = "SYMBOL", value_delimiter = ',')]
    symbol: Vec<String>,
    /// Only what was received at or after this: a time, or how long ago (1d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    from: Option<UnixNanos>,
    /// Only what was received before this
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    to: Option<UnixNanos>,
    #[command(flatten)]
    answer: Answer,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let sql = self.sql()?;
        self.answer.run(global, out, &sql, true)
    }

    /// The rows in the order of the tape.
    fn sql(&self) -> anyhow::Result<String> {
        let table = self.table.as_str();
        if !TABLES.contains(&table) {
            let near = nearest(table, TABLES.iter().copied()).map(|near| format!("did you mean `{near}`? "));
            let near = near.unwrap_or_default();
            return Err(
                End::Usage(format!("there is no table `{table}`; {near}There are: {}", TABLES.join(", "))).into()
            );
        }
        let mut wanted = Vec::new();
        if !self.symbol.is_empty() {
            let names: Vec<String> = self.symbol.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
            wanted.push(format!("symbol in ({})", names.join(", ")));
        }
        for (bound, sign) in [(self.from, ">="), (self.to, "<")] {
            if let Some(at) = bound {
                wanted.push(format!("ts_recv {sign} to_timestamp_nanos({})", at.0));
            }
        }
        let filter = if wanted.is_empty() { String::new() } else { format!(" where {}", wanted.join(" and ")) };
        Ok(format!("select * from {table}{filter} order by seq"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn sql(line: &str) -> Result<String, String> {
        let line = Line::try_parse_from(["export"].into_iter().chain(line.split(' '))).unwrap();
        line.args.sql().map_err(|error| error.to_string())
    }

    #[test]
    fn an_export_is_a_query() {
        assert_eq!(sql("gaps").unwrap(), "select * from gaps order by seq");
        assert_eq!(
            sql("trades --symbol BTC/USD,O'X --from 2026-07-19 --to 2026-07-19T12:00:00Z").unwrap(),
            "select * from trades where symbol in ('BTC/USD', 'O''X') and \
             ts_recv >= to_timestamp_nanos(1784419200000000000) and \
             ts_recv < to_timestamp_nanos(1784462400000000000) order by seq"
        );
        assert!(sql("trade").unwrap_err().contains("did you mean `trades`"));
    }
}
