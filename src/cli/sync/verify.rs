//! `tapedeck sync verify`: both sides beside each other.

use std::sync::Arc;

use super::{Set, Tables, stop_at_signal};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::verify::{self, How, Verified, What};

/// So many days are all shown.
const FEW_DAYS: usize = 31;

/// Compare both sides, and name each record that differs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Write what is missing or different; what is surplus is named, and left alone
    #[arg(long)]
    repair: bool,
    /// Print every day, and not only those that differ
    #[arg(long)]
    days: bool,
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
                let how = How { repair: self.repair, alone: true, ..How::default() };
                found.push(verify::verify(&mut table, source.as_mut(), &shop(settings), &set.base, how).await?);
            }
            Ok(found)
        })?;
        if self.json {
            out.json(&serde_json::json!({ "same": found.iter().all(Verified::is_same), "tables": found }))?;
        } else {
            print(&found, self.days, out)?;
        }
        out.flush()?;
        let settled =
            |one: &Verified| one.is_same() || (one.missing + one.different == one.repaired && one.surplus == 0);
        if found.iter().all(settled) { Ok(()) } else { Err(End::Found.into()) }
    }
}

fn print(found: &[Verified], all: bool, out: &mut Out) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            let numbers = [
                one.rows,
                one.refused,
                one.doubled,
                one.found,
                one.missing,
                one.different,
                one.surplus,
                one.gone,
                one.repaired,
            ];
            let mut row = vec![one.table.clone(), one.collection.clone()];
            row.extend(numbers.map(|number| number.to_string()));
            row
        })
        .collect();
    let headings = [
        "TABLE",
        "COLLECTION",
        "ROWS",
        "REFUSED",
        "EQUAL KEYS",
        "DOCUMENTS",
        "MISSING",
        "DIFFERENT",
        "SURPLUS",
        "GONE",
        "REPAIRED",
    ];
    out.table(&headings, &rows)?;
    let mut days = Vec::new();
    for one in found {
        // Some are read at a glance; of many only those that differ are of interest.
        let all = all || one.days.len() <= FEW_DAYS;
        for day in one.days.iter().filter(|day| all || !day.is_same()) {
            let name = day.day.clone().unwrap_or_else(|| "without a time".to_owned());
            let mark = if day.is_same() { "same" } else { "differs" };
            let (ours, theirs) = (day.source_records.to_string(), day.target_records.to_string());
            let sums = [day.source_checksum.clone(), day.target_checksum.clone()];
            let [our_sum, their_sum] = sums;
            days.push(vec![one.table.clone(), name, ours, our_sum, theirs, their_sum, mark.to_owned()]);
        }
    }
    if !days.is_empty() {
        out.table(&["TABLE", "DAY", "SOURCE", "CHECKSUM", "TARGET", "CHECKSUM", ""], &days)?;
    }
    for one in found {
        let equal = one.days.iter().filter(|day| day.is_same()).count();
        out.line(format!("{}: {equal} of {} days are the same", one.table, one.days.len()))?;
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
