//! `tapedeck config`: what holds and where it came from, and the schema for editors.

use crate::cli::Global;
use crate::cli::out::Out;
use crate::config::{reference, schema, show};

const EXAMPLES: &str = "\
Examples:
  tapedeck config show                          every value that holds, and where it came from
  tapedeck config show --set tape.mode=each     what would hold
  tapedeck config schema > tapedeck.schema.json for editors that complete and check TOML
  tapedeck config keys                          every table and key, to read";

/// Widest setting that the origins are still lined up behind.
const WIDEST: usize = 60;

/// Show the effective config, or its schema
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print every value that holds, with its origin; secrets are `***`
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of the config file
    Schema,
    /// Print every table and key with what it says, in Markdown
    Keys,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        match self.what {
            What::Schema => out.line(serde_json::to_string_pretty(schema::whole())?),
            What::Keys => out.line(reference::document().trim_end()),
            What::Show { json } => {
                let shown = show(&global.load()?);
                if json { out.json(&shown) } else { as_toml(&shown, out) }
            }
        }
    }
}

/// The values as a config file, each with its origin as a comment.
fn as_toml(shown: &[crate::config::Shown], out: &mut Out) -> anyhow::Result<()> {
    let settings: Vec<String> = shown.iter().map(|one| format!("{} = {}", one.key, one.toml())).collect();
    let width = settings.iter().map(String::len).filter(|len| *len <= WIDEST).max().unwrap_or(0);
    let mut table = "";
    for (one, setting) in shown.iter().zip(settings) {
        if one.table != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            out.line(format!("{gap}[{}]", one.table))?;
            table = &one.table;
        }
        out.line(format!("{setting:<width$}  # {}", one.from))?;
    }
    Ok(())
}
