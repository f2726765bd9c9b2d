//! `tapedeck sync init`: collections made, and what they lack added.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::collection::wanted;
use crate::sync::mapping::{FieldSettings, Mapping, Settings, Wanted};
use crate::sync::{Column, Schema, writer};

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
        let mut wrong = false;
        let mut written = String::new();
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
            for name in &new {
                let schema = source.schema(name).await?;
                let settings = as_it_is(name, &schema, &set.base)?;
                if schema.columns.iter().all(|column| !column.upsert_key) {
                    let key = settings.key.join(", ");
                    out.line(format!("{name}: it has no DEDUP keys; ({key}) is a guess: change `key` if that does not tell its rows apart"))?;
                }
                written.push_str(&text_of(name, &schema, &settings));
                tables.push(((*name).clone(), settings));
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
        match &loaded.file {
            _ if written.is_empty() => {}
            Some(file) if !self.dry_run => {
                let mut whole = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                whole.push_str(&written);
                // In place: its rights stay what they are, and a link stays one.
                std::fs::write(file, whole).with_context(|| format!("writing {}", file.display()))?;
                out.line(format!("{}: added {} tables", file.display(), new.len()))?;
            }
            Some(_) => out.line(format!("the config would have:\n{written}"))?,
            None => out.line(format!("there is no config file; put this into tapedeck.toml:\n{written}"))?,
        }
        out.flush()?;
        if wrong { Err(End::Found.into()) } else { Ok(()) }
    }
}

/// A table as it is: every column under its own name, the key by its DEDUP keys, else by its time and its symbols.
fn as_it_is(name: &str, schema: &Schema, base: &Path) -> anyhow::Result<Settings> {
    let columns = || schema.columns.iter().enumerate();
    let names = |wanted: &dyn Fn(usize, &Column) -> bool| -> Vec<String> {
        columns().filter(|(at, column)| wanted(*at, column)).map(|(_, column)| column.name.to_string()).collect()
    };
    let mut key = names(&|_, column| column.upsert_key);
    if key.is_empty() {
        key = names(&|at, column| Some(at) == schema.time || column.native.eq_ignore_ascii_case("symbol"));
    }
    let plain = Mapping::new(name, &Settings { key: key.clone(), ..Settings::default() }, schema, base)?;
    let field = |(wanted, column): (Wanted, &Column)| {
        let settings =
            FieldSettings { from: Some(column.name.to_string()), form: Some(wanted.kind), ..FieldSettings::default() };
        (wanted.name.to_string(), settings)
    };
    let time = schema.time.and_then(|at| schema.columns.get(at)).map(|column| column.name.to_string());
    Ok(Settings {
        collection: Some(plain.collection.to_string()),
        key,
        time,
        columns: plain.wanted().into_iter().zip(schema.columns.iter()).map(field).collect(),
        ..Settings::default()
    })
}

/// The settings as people write them, in the order of the columns, with the words of the source beside.
fn text_of(name: &str, schema: &Schema, settings: &Settings) -> String {
    let said = |text: &str| toml::Value::from(text).to_string();
    let table = format!("sync.table.{}", said(name));
    let mut text = format!("\n[{table}]\n");
    let collection = settings.collection.as_deref().map(|name| ("collection", said(name)));
    let key = Some(("key", toml::Value::from(settings.key.clone()).to_string()));
    let time = settings.time.as_deref().map(|name| ("time", said(name)));
    for (name, value) in [collection, key, time].into_iter().flatten() {
        let _ = writeln!(text, "{name} = {value}");
    }
    let _ = writeln!(text, "\n[{table}.columns]");
    for column in schema.columns.iter() {
        let of = |(_, field): &(&String, &FieldSettings)| field.from.as_deref() == Some(column.name.as_str());
        let Some((field, FieldSettings { form: Some(form), .. })) = settings.columns.iter().find(of) else { continue };
        let (from, form) = (said(&column.name), form.as_str());
        // A number there cannot be absent.
        let hint = if form == "number" { ", as = \"json\" where it may be NULL" } else { "" };
        let native = column.native.replace(['\n', '\r'], " ");
        let _ = writeln!(text, "{field} = {{ from = {from}, as = \"{form}\" }}  # {native}{hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::sync::Type;

    use super::*;

    #[test]
    fn what_is_written_of_a_table_is_read_back_as_the_same_mapping() {
        let column = |name: &str, native: &str, kind, upsert_key| Column {
            name: name.into(),
            kind,
            native: native.into(),
            upsert_key,
        };
        let columns = [
            column("ts", "TIMESTAMP", Type::Time { nanos: false }, false),
            column("symbol", "SYMBOL", Type::Text, false),
            column("best \"bid\"", "DOUBLE", Type::Double, false),
            column("id", "LONG", Type::Int, false),
            column("exact", "DECIMAL(18,4)", Type::Decimal, false),
        ];
        let schema = Schema { columns: columns.into(), time: Some(0) };
        let settings = as_it_is("my quotes", &schema, Path::new("")).expect("made");
        assert_eq!(settings.key, ["ts", "symbol"], "its time and its symbols");
        let text = text_of("my quotes", &schema, &settings);
        assert!(text.contains("best__bid_ = { from = 'best \"bid\"', as = \"number\" }  # DOUBLE"), "{text}");
        let read: toml::Table = text.parse().expect("toml");
        let table = read["sync"]["table"]["my quotes"].clone();
        assert_eq!(table.try_into::<Settings>().expect("settings"), settings);
        assert!(
            settings.columns.contains_key("source_id")
                && settings.columns["exact"].form == Some(crate::sync::mapping::Kind::Text)
        );
    }
}
