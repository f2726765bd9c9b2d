//! A server tried without delivering: each thing found, or the first that does not work and what to do about it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use serde_json::Value;
use tapedeck_market::{UnixNanos, Uuid};
use tapedeck_tables::Table;

use super::client::{Client, Written};
use super::config::Config;
use super::schema::{self, GUARD, Wanted};
use super::{is_ours, names, watch};
use crate::sinks::SinkError;

/// How long the server may take to show what was written.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Tables that are named; of more there is a number.
const NAMED: usize = 20;

pub(super) async fn check(client: &Client, config: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = vec![connection(client).await?];
    found.push(tables(client, config).await?);
    for table in Table::ALL {
        let wanted = Wanted::of(table, &config.prefix, config.numbers);
        let there = schema::look(client, &wanted.name).await.map_err(plain)?;
        if let Some(words) = there.and_then(|there| there.trouble(&wanted)) {
            bail!(words);
        }
    }
    let suspended = watch::suspended(client).await.map_err(plain)?;
    if let Some(first) = suspended.iter().find(|it| is_ours(&config.prefix, &it.table)) {
        bail!(
            "table `{}` is suspended: {}; after its cause is mended run `{}`",
            first.table,
            first.why,
            first.statement()
        );
    }
    found.push(probe(client, &config.prefix).await?);
    Ok(found)
}

/// Whether it answers, as what, and whether it takes writes.
async fn connection(client: &Client) -> anyhow::Result<String> {
    let settings = client.settings().await.map_err(plain).context("connecting")?;
    let version = settings["release.version"].as_str().unwrap_or("of unknown version");
    let dialects = settings["line.proto.support.versions"].as_array();
    let decimals = dialects.is_none_or(|dialects| dialects.iter().any(|dialect| dialect.as_u64() >= Some(3)));
    ensure!(decimals, "QuestDB {version} knows no decimals, which came with 9.2");
    let writes = settings["accepting.writes"].as_array();
    let takes = writes.is_none_or(|ways| ways.iter().any(|way| way == "http"));
    ensure!(
        takes,
        "QuestDB {version} is read-only, or takes no lines over HTTP: look at its `readonly` and `line.http.enabled`"
    );
    Ok(format!("QuestDB {version} answers"))
}

async fn tables(client: &Client, config: &Config) -> anyhow::Result<String> {
    let rows = client.rows("SELECT table_name FROM tables() ORDER BY table_name").await.map_err(plain)?;
    let who = match (&config.username, &config.token) {
        (Some(user), _) => format!("user `{user}` is let in"),
        (None, Some(_)) => "the token is taken".to_owned(),
        (None, None) => "it asks for no password".to_owned(),
    };
    let all: Vec<&str> = rows.iter().filter_map(|row| row.first()?.as_str()).collect();
    let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
    let named =
        if all.is_empty() { String::new() } else { format!(": {}{more}", all[..all.len().min(NAMED)].join(", ")) };
    Ok(format!("{who}; {} tables{named}", all.len()))
}

/// Writes a row and reads it back, in a table of its own.
async fn probe(client: &Client, prefix: &str) -> anyhow::Result<String> {
    let token = Uuid::new_v4().simple().to_string();
    let name = format!("{prefix}tapedeck_check_{token}");
    let wanted = Wanted::points(name.clone(), std::iter::once(("token".to_owned(), schema::Type::Varchar)));
    schema::ensure(client, &wanted).await.map_err(plain).context("making a table")?;
    let done = write_and_read(client, &name, &token).await;
    let removed = client.rows(&format!("DROP TABLE \"{name}\"")).await.map_err(plain).context("removing the probe");
    done?;
    removed?;
    Ok("a row written and read back".to_owned())
}

async fn write_and_read(client: &Client, name: &str, token: &str) -> anyhow::Result<()> {
    let mut line = Vec::new();
    names::escape(name, &mut line);
    line.extend_from_slice(format!(" token=\"{token}\",{GUARD}=0d {}\n", UnixNanos::now().0).as_bytes());
    match client.write(Bytes::from(line)).await.map_err(plain).context("writing")? {
        Written::Stored => {}
        Written::Refused(words) => bail!("writing: {}", words.words),
    }
    let since = Instant::now();
    loop {
        let rows =
            client.rows(&format!("SELECT token FROM \"{name}\"")).await.map_err(plain).context("reading back")?;
        if rows.first().and_then(|row| row.first()).and_then(Value::as_str) == Some(token) {
            return Ok(());
        }
        ensure!(
            since.elapsed() < SHOWN_WITHIN,
            "what was written is not read back: is the server behind, or its disk full?"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn plain(error: SinkError) -> anyhow::Error {
    match error {
        SinkError::Unavailable(error) | SinkError::Waiting(error) => error,
        error => anyhow!("{error}"),
    }
}
