//! `tapedeck kinds`: what can be connected, and which keys its table takes.

use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::schema::{KindRow, Node, STAGES, kinds};
use crate::config::suggest::nearest;

const EXAMPLES: &str = "\
Examples:
  tapedeck kinds                 one line each
  tapedeck kinds kraken          the keys of its table, with their defaults
  tapedeck kinds --json";

/// List the kinds of sources and sinks, or the keys of one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Show the keys of this kind
    kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        match &self.kind {
            None => self.list(out),
            Some(kind) => self.keys(kind, out),
        }
    }

    fn list(&self, out: &mut Out) -> anyhow::Result<()> {
        if self.json {
            let kinds: Vec<_> = all()
                .map(|(stage, kind)| serde_json::json!({ "stage": stage, "kind": kind.name, "about": kind.about }))
                .collect();
            return out.json(&kinds);
        }
        let rows: Vec<Vec<String>> =
            all().map(|(stage, kind)| vec![stage.to_owned(), kind.name.to_owned(), kind.about.to_owned()]).collect();
        out.table(&["STAGE", "KIND", "WHAT IT IS"], &rows)
    }

    fn keys(&self, kind: &str, out: &mut Out) -> anyhow::Result<()> {
        let Some(node) = STAGES.into_iter().find_map(|stage| Node::kind(stage, kind)) else {
            let known: Vec<&str> = all().map(|(_, kind)| kind.name).collect();
            let near = nearest(kind, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            let near = near.unwrap_or_default();
            return Err(End::Usage(format!("there is no kind `{kind}`{near} There are: {}", known.join(", "))).into());
        };
        let keys = node.keys().into_iter().map(|key| (key, node.child(key).and_then(Node::about).unwrap_or_default()));
        if self.json {
            let keys: Vec<_> = keys.map(|(key, about)| serde_json::json!({ "key": key, "about": about })).collect();
            return out.json(&keys);
        }
        let rows: Vec<Vec<String>> = keys.map(|(key, about)| vec![key.to_owned(), about.replace('\n', " ")]).collect();
        out.table(&["KEY", "WHAT IT SAYS"], &rows)
    }
}

/// Every kind with its stage.
fn all() -> impl Iterator<Item = (&'static str, KindRow)> {
    STAGES.into_iter().flat_map(|stage| kinds(stage).into_iter().map(move |kind| (stage, kind)))
}
