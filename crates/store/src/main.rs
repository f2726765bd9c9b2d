//! `tapedeck-store`: SQL over a deck's archive and tape. People call it through `tapedeck query`.

use std::process::ExitCode;

use clap::Parser;
use tapedeck_store::{query, serve};

const EXAMPLES: &str = "\
Examples:
  tapedeck-store query --dir tape \"select count(*) from trades\"
  tapedeck-store query --dir tape --format parquet --out trades.parquet \"select * from trades\"";

/// SQL over what tapedeck has recorded.
#[derive(Debug, Parser)]
#[command(name = "tapedeck-store", version, after_help = EXAMPLES, max_term_width = 110)]
enum Verb {
    /// Keep the archive and answer SQL; started by the deck, which writes the config to standard input
    #[command(hide = true)]
    Serve,
    Query(query::Args),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Serve => serve::run(),
        Verb::Query(args) => query::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapedeck-store: {error:#}");
            ExitCode::FAILURE
        }
    }
}
