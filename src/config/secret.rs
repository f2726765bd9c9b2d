//! Secrets: values that no log, error or listing may show.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// What is printed instead of a secret.
pub const HIDDEN: &str = "***";

/// A password, key or token. `Debug` prints `***`; its memory is wiped when it is dropped.
///
/// Its JSON schema is marked `writeOnly`, which is how the rest of the config knows that the key
/// is secret: it is hidden by `config show`, kept out of logs, and may be given as `<key>_file`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(SecretString::from(text.into()))
    }

    /// The secret itself: only for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// Whether a key of this name holds a secret even where its schema does not say so.
#[must_use]
pub fn looks_secret(key: &str) -> bool {
    const ENDINGS: [&str; 7] = ["password", "passwd", "secret", "token", "api_key", "conn_str", "dsn"];
    let key = key.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn names_of_secrets_are_known() {
        for key in ["api_key", "KRAKEN_API_SECRET", "password", "X_BEARER_TOKEN", "PG_CONN_STR"] {
            assert!(looks_secret(key), "{key}");
        }
        for key in ["pairs", "url", "api_key_file", "key"] {
            assert!(!looks_secret(key), "{key}");
        }
    }
}
