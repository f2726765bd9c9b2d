//! Retention policies of an InfluxDB: made, altered, shown, and what is too old removed.
//!
//! In 1.x they are policies of the database, in 2.x buckets beside it. The server removes what is too old by itself, some time
//! after; `cleanup` does it now.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use tapedeck_market::UnixNanos;

use super::Influx;
use super::client::{AUTOGEN, quoted};
use super::config::Version;
use super::policies::{Found, Policy};
use crate::config::units::{parse_instant, show_duration};
use crate::sinks::{Retention, Table};

#[async_trait]
impl Retention for Influx {
    async fn create(&mut self) -> anyhow::Result<Table> {
        self.refuse_third()?;
        self.client.prepare(&self.config).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        let found = self.found().await?;
        let mut table = Table::new(&["policy", "keeps", "shard", "done"]);
        for (name, policy) in self.wanted.clone() {
            let known = found.iter().find(|known| known.name == name);
            let done = match known {
                None => "made",
                Some(known) if is_as_wanted(known, &policy, self.config.version) => "was as wanted",
                Some(_) => "altered",
            };
            if done != "was as wanted" {
                let made = match self.config.version {
                    Version::V1 => self.make_policy(&name, &policy, known.is_some()).await,
                    _ => self.make_bucket(&name, &policy).await,
                };
                made.with_context(|| format!("policy `{name}`"))?;
            }
            let shard = policy.shard.map_or(Value::Null, |shard| show_duration(shard.0).into());
            table.rows.push(vec![name.into(), shown(Some(policy.duration.0)), shard, done.into()]);
        }
        Ok(table)
    }

    async fn list(&mut self) -> anyhow::Result<Table> {
        self.refuse_third()?;
        let mut table = Table::new(&["policy", "keeps", "shard", "copies", "default", "events"]);
        for policy in self.found().await? {
            let events = self.wanted.iter().find(|(name, _)| *name == policy.name).map(|(_, wanted)| &wanted.events);
            let events = match (&self.config.retention_policy, events) {
                (Some(only), _) if *only == policy.name => "all".to_owned(),
                (None, Some(events)) => events.join(", "),
                _ => String::new(),
            };
            let shard = policy.shard.map_or(Value::Null, |shard| show_duration(shard).into());
            let copies = policy.replication.map_or(Value::Null, Value::from);
            let keeps = shown(policy.keeps);
            table.rows.push(vec![policy.name.into(), keeps, shard, copies, policy.default.into(), events.into()]);
        }
        Ok(table)
    }

    async fn stats(&mut self) -> anyhow::Result<Table> {
        self.refuse_third()?;
        let bytes = self.bytes().await?;
        let mut table = Table::new(&["policy", "measurement", "points", "bytes"]);
        for policy in self.found().await? {
            let points = self.count(&policy.name, None).await?;
            let all: u64 = points.values().sum();
            let bytes = bytes.get(&policy.name).map_or(Value::Null, |bytes| (*bytes).into());
            table.rows.push(vec![policy.name.clone().into(), Value::Null, all.into(), bytes]);
            for (measurement, points) in points {
                table.rows.push(vec![policy.name.clone().into(), measurement.into(), points.into(), Value::Null]);
            }
        }
        Ok(table)
    }

    async fn cleanup(&mut self, older_than: Option<Duration>, remove: bool) -> anyhow::Result<Table> {
        self.refuse_third()?;
        let found = self.found().await?;
        // Of what a policy keeps, nothing else may be left.
        let limit = |policy: &Found| match (policy.keeps, older_than) {
            (Some(keeps), Some(older)) => Some(keeps.min(older)),
            (keeps, older) => keeps.or(older),
        };
        let limits: Vec<(String, Duration)> =
            found.iter().filter_map(|policy| Some((policy.name.clone(), limit(policy)?))).collect();
        match self.config.version {
            Version::V1 => self.drop_shards(&limits, remove).await,
            _ => self.delete_points(&limits, remove).await,
        }
    }
}

impl Influx {
    fn refuse_third(&self) -> anyhow::Result<()> {
        if self.config.version == Version::V3 {
            bail!("3.x has a retention period of the database, and no policies: set it with its own tool");
        }
        Ok(())
    }

    pub(super) async fn found(&self) -> anyhow::Result<Vec<Found>> {
        let names: Vec<String> = self.wanted.iter().map(|(name, _)| name.clone()).collect();
        self.client.policies(&names).await.map_err(|error| anyhow::anyhow!("{error}"))
    }

    async fn make_policy(&self, name: &str, policy: &Policy, is_there: bool) -> anyhow::Result<()> {
        let verb = if is_there { "ALTER" } else { "CREATE" };
        let keeps = match policy.duration.0.as_secs() {
            0 => "INF".to_owned(),
            seconds => format!("{seconds}s"),
        };
        let shard = policy.shard.map(|shard| format!(" SHARD DURATION {}s", shard.0.as_secs())).unwrap_or_default();
        let default = if policy.default { " DEFAULT" } else { "" };
        let (name, database) = (quoted(name), quoted(&self.config.database));
        let replication = policy.replication;
        let statement = format!(
            "{verb} RETENTION POLICY {name} ON {database} DURATION {keeps} REPLICATION {replication}{shard}{default}"
        );
        self.client.query(&statement).await.map(drop)
    }

    async fn make_bucket(&self, policy_name: &str, policy: &Policy) -> anyhow::Result<()> {
        let name = self.client.bucket(Some(policy_name));
        let mut rule = json!({ "type": "expire", "everySeconds": policy.duration.0.as_secs() });
        if let Some(shard) = policy.shard {
            rule["shardGroupDurationSeconds"] = shard.0.as_secs().into();
        }
        let known = self.client.find_bucket(&name).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        if let Some(id) = known.as_ref().and_then(|bucket| bucket["id"].as_str()) {
            let path = format!("api/v2/buckets/{id}");
            return self.client.order(Method::PATCH, &path, &[], &json!({ "retentionRules": [rule] })).await.map(drop);
        }
        let main = self.client.find_bucket(&self.config.database).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        let main = main.context("the token does not see the bucket: it needs to read and write buckets")?;
        let body = json!({ "orgID": main["orgID"], "name": name, "retentionRules": [rule] });
        self.client.order(Method::POST, "api/v2/buckets", &[], &body).await.map(drop)
    }

    /// Points by measurement, as the fullest of its fields tells.
    async fn count(&self, policy: &str, before: Option<UnixNanos>) -> anyhow::Result<BTreeMap<String, u64>> {
        let before = before.map(|before| format!(" WHERE time < {}", before.0)).unwrap_or_default();
        let (database, policy) = (quoted(&self.config.database), quoted(policy));
        let answer = self.client.query(&format!("SELECT COUNT(*) FROM {database}.{policy}./.*/{before}")).await?;
        let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
        let counted = series.iter().filter_map(|one| {
            let counts = one["values"][0].as_array()?.iter().skip(1).filter_map(Value::as_u64);
            Some((one["name"].as_str()?.to_owned(), counts.max()?))
        });
        Ok(counted.collect())
    }

    /// Bytes on the disk by policy; only 1.x tells.
    async fn bytes(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut bytes = BTreeMap::new();
        if self.config.version != Version::V1 {
            return Ok(bytes);
        }
        let answer = self.client.query("SHOW STATS FOR 'shard'").await?;
        for one in answer["results"][0]["series"].as_array().into_iter().flatten() {
            let tags = &one["tags"];
            let columns = one["columns"].as_array().into_iter().flatten();
            let at = columns.into_iter().position(|column| column == "diskBytes");
            if let (Some(at), Some(policy)) = (at, tags["retentionPolicy"].as_str())
                && tags["database"] == self.config.database.as_str()
            {
                *bytes.entry(policy.to_owned()).or_default() += one["values"][0][at].as_u64().unwrap_or_default();
            }
        }
        Ok(bytes)
    }

    /// 1.x removes whole shards, by itself and here.
    async fn drop_shards(&self, limits: &[(String, Duration)], remove: bool) -> anyhow::Result<Table> {
        let mut table = Table::new(&["policy", "shard", "from", "to", "removed"]);
        let now = UnixNanos::now();
        let answer = self.client.query("SHOW SHARDS").await?;
        let databases = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
        for one in databases.iter().filter(|one| one["name"] == self.config.database.as_str()) {
            let columns = one["columns"].as_array().context("the server's answer about its shards")?;
            let place = |name: &str| columns.iter().position(|column| column == name);
            let (Some(id), Some(policy), Some(from), Some(to)) =
                (place("id"), place("retention_policy"), place("start_time"), place("end_time"))
            else {
                bail!("the server tells of its shards in another way than 1.x does");
            };
            for row in one["values"].as_array().into_iter().flatten() {
                let limit = limits.iter().find(|(name, _)| row[policy] == name.as_str());
                let end = row[to].as_str().and_then(parse_instant);
                let (Some((_, limit)), Some(end)) = (limit, end) else { continue };
                if now.saturating_since(end) < *limit {
                    continue;
                }
                if remove {
                    let number = row[id].as_u64().context("a shard without a number")?;
                    self.client.query(&format!("DROP SHARD {number}")).await?;
                }
                let cells = [id, from, to].map(|at| row[at].clone());
                let [id, from, to] = cells;
                table.rows.push(vec![row[policy].clone(), id, from, to, remove.into()]);
            }
        }
        Ok(table)
    }

    /// 2.x deletes up to a time, to the point.
    async fn delete_points(&self, limits: &[(String, Duration)], remove: bool) -> anyhow::Result<Table> {
        let mut table = Table::new(&["policy", "points", "before", "removed"]);
        for (policy, limit) in limits {
            let before = UnixNanos::now() - *limit;
            let points: u64 = self.count(policy, Some(before)).await?.values().sum();
            if points == 0 {
                continue;
            }
            if remove {
                let bucket = [("bucket", self.client.bucket(Some(policy)))];
                let span = json!({ "start": "1970-01-01T00:00:00Z", "stop": before.to_string() });
                self.client.order(Method::POST, "api/v2/delete", &bucket, &span).await?;
            }
            table.rows.push(vec![policy.clone().into(), points.into(), before.to_string().into(), remove.into()]);
        }
        Ok(table)
    }
}

fn shown(keeps: Option<Duration>) -> Value {
    keeps.filter(|keeps| !keeps.is_zero()).map_or_else(|| "for ever".into(), |keeps| show_duration(keeps).into())
}

fn is_as_wanted(known: &Found, wanted: &Policy, version: Version) -> bool {
    let keeps = Some(wanted.duration.0).filter(|keeps| !keeps.is_zero());
    // A bucket has no copies, and none is the default one.
    let other_words = version == Version::V1
        && (known.replication != Some(u64::from(wanted.replication)) || (wanted.default && !known.default));
    known.keeps == keeps && wanted.shard.is_none_or(|shard| known.shard == Some(shard.0)) && !other_words
}

impl Influx {
    /// Whoever names no policy reads the default one: are the ticks there?
    pub(super) fn misled(&self, found: &[Found]) -> Option<String> {
        let ticks = self.route_name(tapedeck_market::Kind::QUOTE, found)?;
        let default = found.iter().find(|policy| policy.default).map_or(AUTOGEN, |policy| policy.name.as_str());
        let help = match self.config.version {
            Version::V1 => "`tapedeck retention create` makes it the default",
            _ => "name the bucket in queries",
        };
        (ticks != default)
            .then(|| format!("ticks go to `{ticks}`, and a reader that names no policy looks into `{default}`: {help}"))
    }
}
