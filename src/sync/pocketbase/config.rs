//! The table of a target.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::config::units::Interval;
use crate::sinks::http;

/// Where the documents go: a PocketBase.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Where it listens. Default: `http://127.0.0.1:8090`.
    #[serde(default = "url")]
    pub url: String,
    /// Who logs in: a superuser. Default: nobody, which works where the collections' rules allow it.
    #[serde(default)]
    pub email: Option<String>,
    /// Password of `email`. Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A token that somebody else has made (Superusers, Impersonate), in place of `email` and `password`. It is not renewed.
    /// Default: none.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Whether its certificate must be right. Default: true.
    #[serde(default = "yes")]
    pub verify_tls: bool,
    /// Certificates (PEM) of the authorities that may have signed it. Default: those of this system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take. Default: `30s`.
    #[serde(default = "timeout")]
    pub timeout: Interval,
}

fn url() -> String {
    "http://127.0.0.1:8090".to_owned()
}

fn yes() -> bool {
    true
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(30))
}

impl Default for Target {
    fn default() -> Self {
        Target {
            url: url(),
            email: None,
            password: None,
            token: None,
            verify_tls: yes(),
            ca_file: None,
            timeout: timeout(),
        }
    }
}

impl Target {
    /// Whether what it says goes together; opens nothing.
    ///
    /// # Errors
    /// Begins with the key that is wrong.
    pub fn validate(&self) -> anyhow::Result<()> {
        let url = self.base()?;
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "url: takes no user and password; `email` and `password` are keys of their own"
        );
        ensure!(self.email.is_some() == self.password.is_some(), "{}: needs `{}`", self.half().0, self.half().1);
        ensure!(self.token.is_none() || self.email.is_none(), "token: stands in place of `email` and `password`");
        ensure!(!self.timeout.0.is_zero(), "timeout: must be longer than nothing");
        Ok(())
    }

    /// The key of a login that is there, and the one that is not.
    fn half(&self) -> (&'static str, &'static str) {
        if self.email.is_some() { ("email", "password") } else { ("password", "email") }
    }

    /// Whether nobody logs in.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.email.is_none() && self.token.is_none()
    }

    pub(super) fn base(&self) -> anyhow::Result<Url> {
        http::base(Some(&self.url), "", 0, false, 8090)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_enough_and_bad_ones_name_the_key() {
        let read = |text: &str| -> anyhow::Result<Target> {
            let target: Target = text.parse::<toml::Table>().unwrap().try_into()?;
            target.validate()?;
            Ok(target)
        };
        let target = read("").unwrap();
        assert_eq!((target.url.as_str(), target.timeout.0.as_secs()), ("http://127.0.0.1:8090", 30));
        assert_eq!(Target::default().base().unwrap(), target.base().unwrap());
        read("url = 'https://pb.example.com/under'\nemail = 'a@example.com'\npassword = 'x'").unwrap();
        for (text, words) in [
            ("url = 'here'", "url: write it as in http://127.0.0.1:8090"),
            ("url = 'https://u:hush@pb.example.com'", "url: takes no user and password"),
            ("password = 'x'", "password: needs `email`"),
            ("email = 'x'", "email: needs `password`"),
            ("email = 'u'\npassword = 'p'\ntoken = 'x'", "in place of `email`"),
            ("timeout = '0s'", "longer than nothing"),
            ("user = 'x'", "unknown field `user`"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        let secret = read("email = 'a@example.com'\npassword = 'hush'").unwrap();
        assert!(!format!("{secret:?}").contains("hush"));
    }
}
