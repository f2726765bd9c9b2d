//! `tapedeck init`: a commented config to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::DEFAULT_FILE;

/// The config that is written; it passes `check`.
const TEMPLATE: &str = include_str!("init.toml");

const EXAMPLES: &str = "\
Examples:
  tapedeck init                  writes ./tapedeck.toml
  tapedeck init desk.toml        writes another file; use it with -c desk.toml
  tapedeck init -                prints it";

/// Write a commented config to begin with
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file to write; `-` prints it
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Args {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        if self.file.as_os_str() == "-" {
            return out.raw(TEMPLATE.as_bytes());
        }
        let shown = self.file.display();
        let mut options = OpenOptions::new();
        options.write(true);
        // `create_new` looks and creates in one step: nobody's file is lost between the two.
        if self.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let mut file = match options.open(&self.file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(End::Usage(format!("{shown} is there already; --force replaces it")).into());
            }
            opened => opened.with_context(|| format!("creating {shown}"))?,
        };
        file.write_all(TEMPLATE.as_bytes()).with_context(|| format!("writing {shown}"))?;
        let usual = self.file.as_os_str() == DEFAULT_FILE;
        let config = if usual { String::new() } else { format!(" -c {shown}") };
        out.line(format!("wrote {shown}; next: tapedeck check{config}"))
    }
}
