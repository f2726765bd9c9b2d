//! What its settings allow.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::Who;
use super::client::Client;
use crate::sync::Trouble;

/// How it says that batches are switched off, in a 403 that is not about who asks.
pub(super) const BATCH_IS_OFF: &str = "Batch requests are not allowed.";

/// What is in force where the settings say 0, or cannot be read: those are for superusers.
const REQUESTS: usize = 50;
const BYTES: usize = 128 << 20;
const TIMEOUT: Duration = Duration::from_secs(3);

/// What one batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether there may be any; true where nobody tells us.
    pub enabled: bool,
    pub requests: usize,
    pub bytes: usize,
    /// After which it gives a batch up.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { enabled: true, requests: REQUESTS, bytes: BYTES, timeout: TIMEOUT }
    }
}

impl Limits {
    fn of(settings: &Value) -> Limits {
        let batch = &settings["batch"];
        let number = |name: &str| batch[name].as_u64().filter(|number| *number > 0);
        let size = |name: &str, usual| number(name).map_or(usual, |number| usize::try_from(number).unwrap_or(usual));
        Limits {
            enabled: batch["enabled"].as_bool().unwrap_or(false) && number("maxRequests").is_some(),
            requests: size("maxRequests", REQUESTS),
            bytes: size("maxBodySize", BYTES),
            timeout: number("timeout").map_or(TIMEOUT, Duration::from_secs),
        }
    }
}

impl Client {
    /// What a batch may be: asked once a minute, and again after a batch was refused for its size. Who is nobody is not told, and
    /// goes by the defaults.
    ///
    /// # Errors
    /// The server is away, or does not accept who we are.
    pub async fn limits(&self) -> Result<Limits, Trouble> {
        if let Some(known) = self.known_limits() {
            return Ok(known);
        }
        let limits = match self.who() {
            Who::Nobody => Limits::default(),
            Who::Superuser | Who::Token => {
                Limits::of(&self.get("settings?fields=batch", "reading its settings").await?)
            }
        };
        self.keep_limits(limits);
        Ok(limits)
    }

    /// Switches batches on, for at least so many requests each; what else the settings say stays.
    ///
    /// # Errors
    /// As of [`Client::limits`].
    pub async fn allow_batches(&self, requests: usize) -> Result<Limits, Trouble> {
        let now = Limits::of(&self.get("settings?fields=batch", "reading its settings").await?);
        let timeout = now.timeout.as_secs();
        let wanted = json!({"batch": {"enabled": true, "maxRequests": now.requests.max(requests), "timeout": timeout}});
        let settings = self.put(Method::PATCH, "settings", &wanted, "switching batches on").await?;
        let limits = Limits::of(&settings);
        self.keep_limits(limits);
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_the_default_and_off_is_off() {
        let of = |batch: Value| Limits::of(&json!({ "batch": batch }));
        let fresh = of(json!({"enabled": false, "maxRequests": 50, "timeout": 3, "maxBodySize": 0}));
        assert_eq!(fresh, Limits { enabled: false, ..Limits::default() });
        let set = of(json!({"enabled": true, "maxRequests": 7, "timeout": 1, "maxBodySize": 900}));
        assert_eq!((set.enabled, set.requests, set.bytes, set.timeout.as_secs()), (true, 7, 900, 1));
        assert!(!of(json!({"enabled": true, "maxRequests": 0})).enabled);
        assert!(!of(Value::Null).enabled);
    }
}
