//! `[source.NAME]` with `kind = "x"`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::config::units::Interval;
use crate::sources::net;

/// Rules of an account, at most; smaller accounts may have fewer, which the venue says.
pub(super) const RULES: usize = 1_000;
/// Characters of a rule, at most.
pub(super) const RULE_CHARS: usize = 1_024;
/// Characters of a tag: it becomes the symbol of posts and a tag of measurements.
const TAG_CHARS: usize = 100;

/// `[source.NAME]` with `kind = "x"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to follow: tables of `tag` and `value`; `[]` goes with `sync = "off"`. No default.
    pub rules: Vec<Rule>,
    /// What is done to the rules at the venue when a session begins: `full` (they become those of the config: others are
    /// deleted), `add` (those of the config are added, others stay and their posts are recorded too) or `off` (nothing:
    /// whatever rules there are). `tapedeck check` says what would be done, and does nothing. Default: `full`.
    #[serde(default)]
    pub sync: Sync,
    /// Bearer token of the app. Default: none; `X_BEARER_TOKEN` fills it.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    /// Score each text with VADER (English). Default: `true`.
    #[serde(default = "yes")]
    pub sentiment: bool,
    /// Without a byte for this long the stream is lost; a keep-alive is due every 20 s. Default: `"25s"`.
    #[serde(default = "silence")]
    pub silence: Interval,
    /// Keep each line as it came, beside its event. Default: `false`.
    #[serde(default)]
    pub keep_raw: bool,
    /// Another host in place of the venue's. Default: `https://api.x.com`.
    #[serde(default)]
    pub url: Option<String>,
    /// PEM file of the authorities to trust in place of the system's. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A rule of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A name of yours, under which posts are recorded, such as `btc`. No default.
    pub tag: String,
    /// The rule in the venue's language, such as `(bitcoin OR $BTC) lang:en -is:retweet`. No default.
    pub value: String,
}

/// What is done to the rules at the venue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    #[default]
    Full,
    Add,
    Off,
}

fn yes() -> bool {
    true
}

fn silence() -> Interval {
    Interval(Duration::from_secs(25))
}

impl Config {
    /// Reads the table and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(
            config.rules.len() <= RULES,
            "rules: {} of them, and an account has {RULES} at most",
            config.rules.len()
        );
        for (at, rule) in config.rules.iter().enumerate() {
            let Rule { tag, value } = rule;
            let plain = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
            ensure!(
                plain(tag) && tag.chars().count() <= TAG_CHARS,
                "rules: `{tag}` is no tag of at most {TAG_CHARS} characters"
            );
            ensure!(plain(value), "rules: the rule of `{tag}` is empty, or holds a line break");
            let chars = value.chars().count();
            ensure!(
                chars <= RULE_CHARS,
                "rules: the rule of `{tag}` has {chars} characters, and {RULE_CHARS} are allowed: split it in two with one tag"
            );
            let twice = config.rules[..at].iter().find(|other| other.value == *value);
            ensure!(
                twice.is_none(),
                "rules: `{tag}` and `{}` have the same value",
                twice.map_or("", |other| &other.tag)
            );
        }
        if let Some(token) = &config.bearer_token {
            ensure!(net::is_token(token), "bearer_token holds what no token holds: copy it again");
        }
        if let Some(url) = &config.url {
            net::may_get_a_token(url)?;
        }
        ensure!(!config.silence.0.is_zero(), "silence must be above zero");
        Ok(config)
    }

    /// Where requests go, without a slash at the end.
    pub(super) fn host(&self) -> &str {
        self.url.as_deref().unwrap_or("https://api.x.com").trim_end_matches('/')
    }

    /// Whether there is nothing to follow.
    pub(super) fn has_no_rules(&self) -> bool {
        self.rules.is_empty() && self.sync != Sync::Off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_table_is_refused_by_name_and_shows_no_secret() {
        let rule = |tag: &str, value: &str| format!("[[rules]]\ntag = '{tag}'\nvalue = '{value}'\n");
        let long = "é".repeat(RULE_CHARS + 1);
        for (text, says) in [
            (rule("", "x"), "`` is no tag"),
            (rule("t", " "), "the rule of `t` is empty"),
            (rule("t", &long), "the rule of `t` has 1025 characters, and 1024 are allowed"),
            (format!("{}{}", rule("a", "x"), rule("b", "x")), "`b` and `a` have the same value"),
            ((0..=RULES).map(|n| rule("t", &format!("x{n}"))).collect(), "1001 of them"),
            ("bearer_token = 'top secret'".to_owned(), "bearer_token holds"),
            ("url = 'http://proxy.example'".to_owned(), "url: a token goes to no other machine"),
            ("sync = 'some'".to_owned(), "unknown variant `some`"),
            ("silence = '0s'".to_owned(), "silence"),
            ("rule = []".to_owned(), "unknown field `rule`"),
        ] {
            let text = if text.contains("[[rules]]") { text } else { format!("{text}\nrules = []") };
            let error = Config::from_table(text.parse().expect("toml")).expect_err(&text);
            let error = format!("{error:#}");
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
        let most = rule("t", &"é".repeat(RULE_CHARS));
        assert!(Config::from_table(most.parse().expect("toml")).is_ok(), "characters, not bytes");
    }
}
