//! `[alert.NAME]`: what is a reason to call somebody, and how.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::units::{ByteSize, Interval};

/// Rules of one config: more are a mistake, and each is looked at once a second.
pub const RULES: usize = 100;

/// `[alert.NAME]`: when somebody is told, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// "silent", "behind", "disk", "checksum", "failed", "rejects" or "gap". No default.
    pub when: When,
    /// For "silent", "checksum" and "gap": a source, by the name of its table. Default: any.
    #[serde(default)]
    pub source: Option<String>,
    /// For "behind" and "rejects": a sink, or "sync". Default: any.
    #[serde(default)]
    pub sink: Option<String>,
    /// For "failed": a service or sink of the deck, or a server of `tapedeck up`. Default: any.
    #[serde(default)]
    pub service: Option<String>,
    /// How long it must last. Default: "1m" for "silent" and "failed", "5m" for "behind" and "gap"; a "checksum" is over when
    /// there was none for so long, "5m".
    #[serde(default)]
    pub after: Option<Interval>,
    /// For "behind": so many records, in place of `after`. For "rejects": more than so many. Default: none; 0 for "rejects".
    #[serde(default)]
    pub records: Option<u64>,
    /// For "disk": less than this is free where the tape lies. Default: "5 GB", unless there are `days`.
    #[serde(default)]
    pub free: Option<ByteSize>,
    /// For "disk": it is full in fewer days at this rate. Default: none.
    #[serde(default)]
    pub days: Option<f64>,
    /// URL that gets a POST with JSON, which Slack and Discord understand. Default: none.
    #[serde(default)]
    pub webhook: Option<Secret>,
    /// Certificates (PEM) of the authorities that may have signed the webhook's. Default: those of this system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Program and arguments, no shell in between; what it is about is in `TAPEDECK_ALERT_…` variables, and as JSON on standard input.
    /// Default: none.
    #[serde(default)]
    pub command: Vec<String>,
    /// What a request or a command may take. Default: "10s".
    #[serde(default = "limit")]
    pub limit: Interval,
    /// How often it is told again while it lasts. Default: "4h".
    #[serde(default = "repeat")]
    pub repeat: Interval,
    /// Whether it is told that it is over. Default: true.
    #[serde(default = "yes")]
    pub resolved: bool,
}

fn limit() -> Interval {
    Interval(Duration::from_secs(10))
}

fn repeat() -> Interval {
    Interval(Duration::from_secs(4 * 60 * 60))
}

fn yes() -> bool {
    true
}

/// A reason to call somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum When {
    /// Nothing comes from a source.
    Silent,
    /// A store does not have what the tape has.
    Behind,
    /// There is little space.
    Disk,
    /// A book does not match the venue's checksum, or a part of the tape cannot be read.
    Checksum,
    /// A service does not run, or `tapedeck up` has given it up.
    Failed,
    /// A store or the sync's target refuses something.
    Rejects,
    /// Something is missing and not there again.
    Gap,
}

impl When {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            When::Silent => "silent",
            When::Behind => "behind",
            When::Disk => "disk",
            When::Checksum => "checksum",
            When::Failed => "failed",
            When::Rejects => "rejects",
            When::Gap => "gap",
        }
    }

    const fn after(self) -> Duration {
        match self {
            When::Silent | When::Failed => Duration::from_secs(60),
            When::Behind | When::Gap | When::Checksum => Duration::from_secs(300),
            When::Disk | When::Rejects => Duration::ZERO,
        }
    }

    /// Which of the keys that not every rule has it takes.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            When::Silent | When::Checksum | When::Gap => &["source", "after"],
            When::Behind => &["sink", "after", "records"],
            When::Disk => &["free", "days"],
            When::Failed => &["service", "after"],
            When::Rejects => &["sink", "records"],
        }
    }
}

impl Rule {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Rule> {
        let rule: Rule = toml::Value::Table(table).try_into()?;
        for (key, given) in [
            ("source", rule.source.is_some()),
            ("sink", rule.sink.is_some()),
            ("service", rule.service.is_some()),
            ("after", rule.after.is_some()),
            ("records", rule.records.is_some()),
            ("free", rule.free.is_some()),
            ("days", rule.days.is_some()),
        ] {
            let (name, takes) = (rule.when.name(), rule.when.keys());
            ensure!(
                !given || takes.contains(&key),
                "{key}: is of no use for \"{name}\", which takes {}",
                takes.join(", ")
            );
        }
        let calls = rule.webhook.is_some() || !rule.command.is_empty();
        ensure!(calls, "when: nobody is told: give it a `webhook` or a `command`");
        if let Some(url) = &rule.webhook {
            let url =
                Url::parse(url.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            ensure!(url.is_some(), "webhook: write a URL such as https://hooks.example.com/abc");
        }
        ensure!(
            rule.command.first().is_none_or(|program| !program.trim().is_empty()),
            "command: the program has no name"
        );
        ensure!(!rule.limit.0.is_zero(), "limit: must be longer than nothing");
        ensure!(rule.repeat.0 >= Duration::from_secs(1), "repeat: must be 1s or longer");
        ensure!(
            rule.when != When::Behind || rule.after.is_none() || rule.records.is_none(),
            "records: stands in place of `after`"
        );
        ensure!(rule.days.is_none_or(|days| days > 0.0), "days: must be above 0");
        Ok(rule)
    }

    #[must_use]
    pub fn after(&self) -> Duration {
        self.after.map_or(self.when.after(), |after| after.0)
    }

    /// Whom it is about, where it is one.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.source.as_deref().or(self.sink.as_deref()).or(self.service.as_deref())
    }

    /// Where it goes, in words without secrets.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        let host = |url: &Secret| {
            let url = Url::parse(url.expose()).ok();
            let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
            format!("webhook {host}")
        };
        let command = self.command.first().map(|program| format!("command {program}"));
        self.webhook.as_ref().map(host).into_iter().chain(command).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<Rule, String> {
        Rule::from_table(text.parse().unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let rule = rule("when = 'silent'\nwebhook = 'https://h/x'").unwrap();
        assert_eq!((rule.after(), rule.repeat.0), (Duration::from_secs(60), Duration::from_secs(14_400)));
        assert_eq!(rule.targets(), ["webhook h"]);
        assert!(rule.resolved && rule.subject().is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, key) in [
            ("when = 'silent'", "when: nobody is told"),
            ("when = 'silent'\nsink = 'x'\ncommand = ['x']", "sink: is of no use"),
            ("when = 'disk'\nafter = '1s'\ncommand = ['x']", "after: is of no use"),
            ("when = 'disk'\ndays = 0.0\ncommand = ['x']", "days: "),
            ("when = 'behind'\nafter = '1s'\nrecords = 1\ncommand = ['x']", "records: stands in place"),
            ("when = 'gap'\nwebhook = 'hooks.example.com'", "webhook: write a URL"),
            ("when = 'gap'\nwebhook = 'ftp://u:pw@h/'", "webhook: write a URL"),
            ("when = 'gap'\ncommand = ['']", "command: "),
            ("when = 'gap'\ncommand = ['x']\nlimit = '0s'", "limit: "),
            ("when = 'gap'\ncommand = ['x']\nrepeat = '1ms'", "repeat: "),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.starts_with(key) && !error.contains("pw"), "{text}: {error}");
        }
        assert!(rule("when = 'loud'\ncommand = ['x']").unwrap_err().contains("unknown variant"));
    }
}
