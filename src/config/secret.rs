//! Secrets: values that no log, error or listing may show.

use std::fmt;
use std::ops::Range;

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

/// Where the URLs of a text hold what may be secret: user and password, and each value of the query.
fn url_secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (scheme_end, _) in text.match_indices("://") {
        let start = scheme_end + 3;
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
        let url = &text[start..];
        let url = &url[..url.find(ends).unwrap_or(url.len())];
        let host_end = url.find(['/', '?', '#']).unwrap_or(url.len());
        if let Some(at) = url[..host_end].rfind('@') {
            found.push(start..start + at);
        }
        let Some(query) = url.find('?') else { continue };
        let mut at = query + 1;
        let end = url[at..].find('#').map_or(url.len(), |fragment| at + fragment);
        for pair in url[at..end].split('&') {
            let value_at = at + pair.find('=').map_or(0, |equals| equals + 1);
            found.push(start + value_at..start + at + pair.len());
            at += pair.len() + 1;
        }
    }
    // A URL within the query of another is hidden with it.
    let mut end = 0;
    found.retain(|range: &Range<usize>| {
        let outside = range.start >= end && !range.is_empty();
        end = end.max(range.end);
        outside
    });
    found
}

/// The text with `***` for what its URLs may hold of secrets.
#[must_use]
pub fn mask_urls(text: &str) -> String {
    let mut masked = text.to_owned();
    for range in url_secrets(text).into_iter().rev() {
        masked.replace_range(range, HIDDEN);
    }
    masked
}

/// What of the URLs in a config value must appear in no output.
#[must_use]
pub fn secrets_of_urls(text: &str) -> Vec<String> {
    /// A shorter value of a query may be an ordinary word, such as `true`: it is hidden together with its name.
    const ORDINARY_BYTES: usize = 8;
    let mut found = Vec::new();
    for range in url_secrets(text) {
        let secret = &text[range.clone()];
        let before = &text[..range.start];
        if before.ends_with('=') && secret.len() < ORDINARY_BYTES {
            let name_at = before.rfind(['?', '&']).map_or(range.start, |at| at + 1);
            found.push(text[name_at..range.end].to_owned());
            continue;
        }
        found.push(secret.to_owned());
        if let Some((_, password)) = secret.split_once(':').filter(|_| before.ends_with("://")) {
            found.push(password.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_may_hold_of_secrets_is_masked_and_told() {
        for (text, masked, secrets) in [
            ("wss://ws.kraken.com/v2", "wss://ws.kraken.com/v2", &[][..]),
            ("wss://me:hunter22@host/v2", "wss://***@host/v2", &["me:hunter22", "hunter22"]),
            ("http://a@b:tok@host", "http://***@host", &["a@b:tok", "tok"]),
            ("wss://h/v2?key=0123456789&tls=true#x", "wss://h/v2?key=***&tls=***#x", &["0123456789", "tls=true"]),
            ("wss://h?0123456789", "wss://h?***", &["0123456789"]),
            ("url = 'ws://u:p@h' # see", "url = 'ws://***@h' # see", &["u:p", "p"]),
            ("ws://h?to=http://u:pw@x/", "ws://h?to=***", &["http://u:pw@x/"]),
            ("no url: a@b?c=d", "no url: a@b?c=d", &[]),
            ("ws://?&=", "ws://?&=", &[]),
        ] {
            assert_eq!(mask_urls(text), masked);
            assert_eq!(secrets_of_urls(text), secrets, "{text}");
        }
    }

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
