//! `tapedeck sync verify`: both sides beside each other.

use std::sync::Arc;

use super::{Set, Tables, stop_at_signal};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::verify::{self, How, Verified, What};

/// Compare both sides, and name each record that differs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Write what is missing or different; what is surplus is named, and left alone
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let set = Set::load(global)?;
        let tables = set.tables(&self.tables)?;
        let found = super::super::block_on(async {
            let shop = set.shops(Arc::new(|_, _, _| {}), stop_at_signal()?)?;
            let mut source = set.config.source.open()?;
            let mut found = Vec::new();
            for (name, settings) in &tables {
                let mut table = set.table(name, settings);
                let how = How { repair: self.repair };
                found.push(verify::verify(&mut table, source.as_mut(), &shop(settings), &set.base, how).await?);
            }
            Ok(found)
        })?;
        if self.json {
            out.json(&serde_json::json!({ "same": found.iter().all(Verified::is_same), "tables": found }))?;
        } else {
            print(&found, out)?;
        }
        out.flush()?;
        let settled =
            |one: &Verified| one.is_same() || (one.missing + one.different == one.repaired && one.surplus == 0);
        if found.iter().all(settled) { Ok(()) } else { Err(End::Found.into()) }
    }
}

fn print(found: &[Verified], out: &mut Out) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            let numbers = [one.rows, one.refused, one.found, one.missing, one.different, one.surplus, one.repaired];
            let mut row = vec![one.table.clone(), one.collection.clone()];
            row.extend(numbers.map(|number| number.to_string()));
            row
        })
        .collect();
    let headings =
        ["TABLE", "COLLECTION", "ROWS", "REFUSED", "DOCUMENTS", "MISSING", "DIFFERENT", "SURPLUS", "REPAIRED"];
    out.table(&headings, &rows)?;
    for one in found {
        for difference in &one.differences {
            let what = match difference.what {
                What::Missing => "missing".to_owned(),
                What::Different => format!("different in {}", difference.fields.join(", ")),
                What::Surplus => "surplus".to_owned(),
            };
            out.line(format!("{} {} {}: {what}", one.table, difference.id, difference.key))?;
        }
    }
    Ok(())
}
