//! `tapedeck alerts`: which alerts there are, which fire, and a message that says it is a test.

use serde::Serialize;
use serde_json::json;
use tapedeck_market::UnixNanos;

use crate::alerts::{self, Rule};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::{Mark, Out};
use crate::config::suggest::nearest;
use crate::logs::redact_text;
use crate::status;

const EXAMPLES: &str = "\
Examples:
  tapedeck alerts                    every rule, and what fires
  tapedeck alerts --json
  tapedeck alerts test quiet         tell everybody of [alert.quiet] that this is a test";

/// List the alerts and what fires, or send one as a test
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Send a message that says it is a test, now, with or without a deck
    Test {
        /// NAME of [alert.NAME]
        name: String,
    },
}

/// A rule, and whom it fires for.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    when: alerts::When,
    targets: Vec<String>,
    firing: Vec<Firing>,
}

#[derive(Debug, Serialize)]
struct Firing {
    subject: String,
    /// RFC 3339; when it was told last, if it was.
    since: String,
    told: Option<String>,
    count: u64,
    words: String,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let loaded = global.load()?;
        let rules = alerts::rules(&loaded.config)?;
        if rules.is_empty() {
            return Err(End::Absent("the config has no [alert.NAME]: docs/alerts.md".to_owned()).into());
        }
        let dir = &loaded.config.tape.dir;
        match self.what {
            None => {
                let board = alerts::remembered(dir)?;
                let lines: Vec<Line> = rules.iter().map(|(name, rule)| line(name, rule, &board)).collect();
                if self.json { out.json(&lines) } else { list(&lines, out) }
            }
            Some(What::Test { name }) => {
                let Some(rule) = rules.get(&name) else {
                    let near = nearest(&name, rules.keys().map(String::as_str));
                    let help = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
                    return Err(End::Usage(format!("there is no [alert.{name}]{help}")).into());
                };
                let tape = status::at_rest(dir).tape.id;
                let told = super::block_on(async { Ok(alerts::test(&name, rule, &tape).await) })?;
                let mut lines = Vec::new();
                for (target, result) in &told {
                    let error = result.as_ref().err().map(|error| redact_text(&format!("{error:#}")));
                    let mark = if error.is_none() { Mark::Good } else { Mark::Bad };
                    if !self.json {
                        out.line(format!("{} {target}  {}", out.mark(mark), error.as_deref().unwrap_or("taken")))?;
                    }
                    lines.push(json!({ "target": target, "ok": error.is_none(), "error": error }));
                }
                if self.json {
                    out.json(&json!({ "alert": name, "told": lines }))?;
                }
                out.flush()?;
                if told.iter().all(|(_, result)| result.is_ok()) { Ok(()) } else { Err(End::Found.into()) }
            }
        }
    }
}

fn line(name: &str, rule: &Rule, board: &alerts::Board) -> Line {
    let of = board.cases.iter().filter(|case| case.alert == name && case.firing);
    let firing = of.map(|case| Firing {
        subject: case.subject.clone(),
        since: UnixNanos(case.since).to_string(),
        told: case.told.map(|told| UnixNanos(told).to_string()),
        count: case.count,
        words: redact_text(&case.words),
    });
    Line { name: name.to_owned(), when: rule.when, targets: rule.targets(), firing: firing.collect() }
}

fn list(lines: &[Line], out: &mut Out) -> anyhow::Result<()> {
    for line in lines {
        let mark = if line.firing.is_empty() { Mark::Good } else { Mark::Bad };
        let (targets, when) = (line.targets.join(", "), line.when.name());
        out.line(format!("{} {:<20} {when:<9} {targets}", out.mark(mark), line.name))?;
        for one in &line.firing {
            out.line(format!("    {} since {}, told {} times: {}", one.subject, one.since, one.count, one.words))?;
        }
    }
    Ok(())
}
