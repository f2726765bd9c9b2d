//! `tapedeck sync check`: do both servers answer, and is everything as it must be?

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::check::{Finding, print, worst};
use crate::cli::exit::End;
use crate::cli::out::{Mark, Out};
use crate::sync::collection::wanted;
use crate::sync::mapping::{Mapping, Settings};
use crate::sync::pocketbase::Client;
use crate::sync::source::{Source, Span, Wanted};
use crate::sync::{Class, Row, Trouble};

/// Rows that are shown.
const SAMPLE: u64 = 10;

/// Check that both servers answer, and that the collections are as they must be
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Show rows of each table, and what the first becomes
    #[arg(long)]
    sample: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let set = Set::load(global)?;
        let tables = set.tables(&self.tables)?;
        let (findings, samples) = super::super::block_on(async { Ok(self.look(&set, &tables).await) })?;
        let good = worst(&findings) != Mark::Bad;
        if self.json {
            // The four checks by their old names, then each finding.
            let is = |what: &str| {
                let mut asked = findings.iter().filter(|one| one.what.starts_with(what)).peekable();
                asked.peek().is_some() && asked.all(|one| one.result != Mark::Bad)
            };
            out.json(&json!({
                "ok": good,
                "pocketbase_connection": is("target"), "questdb_connection": is("source"), "authentication": is("login"),
                "data_access": is("rows of"),
                "findings": findings, "samples": samples,
            }))?;
        } else {
            print(&findings, out)?;
            for (name, sample) in &samples {
                out.line(format!("{name}:\n{}", serde_json::to_string_pretty(sample)?))?;
            }
        }
        out.flush()?;
        if good { Ok(()) } else { Err(End::Found.into()) }
    }

    async fn look(&self, set: &Set, tables: &[(String, Settings)]) -> (Vec<Finding>, Map<String, Value>) {
        let (mut findings, mut samples) = (Vec::new(), Map::new());
        let client = set.client();
        let mut reached = false;
        match &client {
            Err(error) => findings.push(Finding::new("target", Mark::Bad, format!("{error:#}"))),
            Ok(client) => {
                let hello = told("target", client.hello().await, &mut findings);
                let login = hello && told("login", client.login().await, &mut findings);
                reached = login;
                if login {
                    findings.push(match client.limits().await {
                        Ok(_) if set.config.target.is_nobody() => {
                            Finding::new("batches", Mark::Good, "whether they are on is not shown to nobody")
                        }
                        Ok(limits) if limits.enabled => {
                            Finding::new("batches", Mark::Good, format!("on, {} requests each", limits.requests))
                        }
                        Ok(_) => {
                            let text = "off at the target: `tapedeck sync init --allow-batches` switches them on";
                            Finding::new("batches", Mark::Bad, text)
                        }
                        Err(trouble) => Finding::new("batches", Mark::Bad, trouble.to_string()),
                    });
                }
            }
        }
        let mut source = match set.config.source.open() {
            Ok(source) => source,
            Err(error) => {
                findings.push(Finding::new("source", Mark::Bad, format!("{error:#}")));
                return (findings, samples);
            }
        };
        if !told("source", source.hello().await, &mut findings) {
            return (findings, samples);
        }
        for (name, settings) in tables {
            let what = format!("table {name}");
            let schema = match source.schema(name).await {
                Ok(schema) => schema,
                Err(trouble) => {
                    findings.push(Finding::new(what, Mark::Bad, trouble.to_string()));
                    continue;
                }
            };
            let mapping = match Mapping::new(name, settings, &schema, &set.base) {
                Ok(mapping) => mapping,
                Err(error) => {
                    findings.push(Finding::new(what, Mark::Bad, format!("{error:#}")));
                    continue;
                }
            };
            findings.push(Finding::new(what, Mark::Good, format!("{} columns", schema.columns.len())));
            if let (Ok(client), true) = (&client, reached) {
                collection(client, &mapping, set.config.target.is_nobody(), &mut findings).await;
            }
            let wanted = Wanted { table: name, schema: &schema, span: Span::default(), limit: Some(1) };
            let read = match some(source.as_mut(), &wanted).await {
                Ok(rows) if rows.is_empty() => {
                    Finding::new(format!("rows of {name}"), Mark::Good, "there are none so far")
                }
                Ok(_) => Finding::new(format!("rows of {name}"), Mark::Good, "can be read"),
                Err(trouble) => Finding::new(format!("rows of {name}"), Mark::Bad, trouble.to_string()),
            };
            findings.push(read);
            if self.sample {
                let wanted = Wanted { table: name, schema: &schema, span: Span::default(), limit: Some(SAMPLE) };
                samples.insert(name.clone(), sample(source.as_mut(), &wanted, &mapping).await);
            }
        }
        (findings, samples)
    }
}

fn told(what: &str, outcome: Result<String, Trouble>, findings: &mut Vec<Finding>) -> bool {
    let good = outcome.is_ok();
    findings.push(match outcome {
        Ok(text) => Finding::new(what, Mark::Good, text),
        Err(trouble) => Finding::new(what, Mark::Bad, trouble.to_string()),
    });
    good
}

async fn collection(client: &Client, mapping: &Mapping, nobody: bool, findings: &mut Vec<Finding>) {
    let what = format!("collection {}", mapping.collection);
    match client.compare(&wanted(mapping)).await {
        Ok(differences) if differences.is_empty() => findings.push(Finding::new(what, Mark::Good, "as it must be")),
        Ok(differences) => findings.extend(differences.iter().map(|difference| {
            let mark = if difference.forbids_writing() { Mark::Bad } else { Mark::Warn };
            Finding::new(what.clone(), mark, difference.to_string())
        })),
        Err(trouble) if nobody && trouble.class == Class::Authentication => {
            findings.push(Finding::new(what, Mark::Warn, "its fields cannot be seen without a login"));
        }
        Err(trouble) => findings.push(Finding::new(what, Mark::Bad, trouble.to_string())),
    }
}

/// The first rows.
async fn some(source: &mut dyn Source, wanted: &Wanted<'_>) -> Result<Vec<Row>, Trouble> {
    let (out, mut chunks) = mpsc::channel::<Vec<Row>>(1);
    let taking = async {
        let mut rows = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            rows.extend(chunk);
        }
        rows
    };
    let (read, rows) = tokio::join!(source.rows(wanted, out), taking);
    read.map(|_| rows)
}

/// Rows, and what the first that is good becomes.
async fn sample(source: &mut dyn Source, wanted: &Wanted<'_>, mapping: &Mapping) -> Value {
    let rows = match some(source, wanted).await {
        Ok(rows) => rows,
        Err(trouble) => return json!({ "trouble": trouble.to_string() }),
    };
    let shown: Vec<String> = rows.iter().map(|row| mapping.row_shown(row)).collect();
    let became = rows.first().map(|row| match mapping.document(row) {
        Ok(document) => json!({ "id": document.id.as_str(), "body": document.body }),
        Err(refused) => json!({ "refused": refused.reason }),
    });
    json!({ "rows": shown, "the first becomes": became })
}
