//! `tapedeck feed`: the child of a `zmq` source.

use crate::{child, feed};

const EXAMPLES: &str = "\
Examples:
  tapedeck feed                       started by the deck, with its config on standard input";

/// Hold the sockets of a `zmq` source (started by the deck, not by people)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, hide = true)]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let inherited = child::inherit::<feed::Config>()?;
        feed::run(&inherited.config, &inherited.stop)
    }
}
