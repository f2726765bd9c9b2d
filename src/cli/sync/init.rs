//! `tapedeck sync init`: collections made, and what they lack added.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::collection::wanted;
use crate::sync::mapping::{Mapping, Settings};
use crate::sync::writer;

/// Make the collections, and add what they lack; nothing is ever dropped or retyped
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these tables. One that the config does not have yet is looked up at the source, mapped as it is, and added to the
    /// config file
    #[command(flatten)]
    tables: Tables,
    /// Switch batch requests on at the target, where they are off
    #[arg(long)]
    allow_batches: bool,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let loaded = global.load()?;
        let set = Set::of(&loaded)?;
        let new: Vec<&String> = self.tables.names.iter().filter(|name| !set.config.table.contains_key(*name)).collect();
        let known = Tables { names: self.tables.names.iter().filter(|name| !new.contains(name)).cloned().collect() };
        let mut tables = if new.is_empty() || !known.names.is_empty() { set.tables(&known)? } else { Vec::new() };
        tables.extend(new.iter().map(|name| ((*name).clone(), Settings::default())));
        let mut wrong = false;
        super::super::block_on(async {
            let client = set.client()?;
            let mut source = set.config.source.open().context("[sync.source]")?;
            let limits = client.limits().await?;
            if !limits.enabled && self.allow_batches && !self.dry_run {
                let limits = client.allow_batches(writer::MOST).await?;
                out.line(format!("batches are on: at most {} requests each", limits.requests))?;
            } else if !limits.enabled {
                wrong = true;
                out.line("batches are off at the target: `tapedeck sync init --allow-batches` switches them on")?;
            }
            for (name, settings) in &tables {
                let schema = source.schema(name).await?;
                let mapping = Mapping::new(name, settings, &schema, &set.base)?;
                let wanted = wanted(&mapping);
                let found = client.compare(&wanted).await?;
                let left = if self.dry_run { found.clone() } else { client.amend(&wanted).await? };
                if found.is_empty() {
                    out.line(format!("{name}: collection {} is as it must be", wanted.name))?;
                }
                for difference in found.iter().filter(|difference| !left.contains(difference)) {
                    out.line(format!("{name}: done: {difference}"))?;
                }
                for difference in &left {
                    wrong |= difference.forbids_writing();
                    out.line(format!("{name}: {difference}"))?;
                }
            }
            Ok(())
        })?;
        if let (false, Some(file), false) = (new.is_empty(), &loaded.file, self.dry_run) {
            let mut text = String::new();
            for name in &new {
                let _ = write!(text, "\n[sync.table.{}]\n", toml::Value::from(name.as_str()));
            }
            let mut whole = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            whole.push_str(&text);
            // In place: its rights stay what they are, and a link stays one.
            std::fs::write(file, whole).with_context(|| format!("writing {}", file.display()))?;
            out.line(format!("{}: added {} tables", file.display(), new.len()))?;
        }
        out.flush()?;
        if wrong { Err(End::Found.into()) } else { Ok(()) }
    }
}
