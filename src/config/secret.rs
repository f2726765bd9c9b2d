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

/// Whether a value of this name could be a secret: wider than [`looks_secret`], for what is only shown to people.
#[must_use]
pub fn may_be_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = ["pass", "pwd", "secret", "token", "key", "auth", "cred", "signature", "session"];
    let name = name.to_ascii_lowercase();
    // `p` is how InfluxDB 1 takes a password in a query.
    looks_secret(&name)
        || matches!(name.as_str(), "p" | "pw" | "sig" | "jwt")
        || WORDS.iter().any(|word| name.contains(word))
}

/// What a URL holds that may be secret.
struct Hidden<'a> {
    range: Range<usize>,
    /// Of a value of the query; `None`: user and password, or a query without names.
    name: Option<&'a str>,
}

/// Where the URLs of a text hold what may be secret: user and password, and each value of the query.
fn url_secrets(text: &str) -> Vec<Hidden<'_>> {
    let mut found = Vec::new();
    for (scheme_end, _) in text.match_indices("://") {
        let start = scheme_end + 3;
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
        let url = &text[start..];
        let url = &url[..url.find(ends).unwrap_or(url.len())];
        let host_end = url.find(['/', '?', '#']).unwrap_or(url.len());
        if let Some(at) = url[..host_end].rfind('@') {
            found.push(Hidden { range: start..start + at, name: None });
        }
        let Some(query) = url.find('?') else { continue };
        let mut at = query + 1;
        let end = url[at..].find('#').map_or(url.len(), |fragment| at + fragment);
        for pair in url[at..end].split('&') {
            let equals = pair.find('=');
            let value_at = at + equals.map_or(0, |equals| equals + 1);
            let range = start + value_at..start + at + pair.len();
            found.push(Hidden { range, name: equals.map(|equals| &pair[..equals]) });
            at += pair.len() + 1;
        }
    }
    // A URL within the query of another is hidden with it.
    let mut end = 0;
    found.retain(|hidden: &Hidden<'_>| {
        let outside = hidden.range.start >= end && !hidden.range.is_empty();
        end = end.max(hidden.range.end);
        outside
    });
    found
}

/// The text with `***` for all that its URLs may hold of secrets: for what a person configured.
#[must_use]
pub fn mask_urls(text: &str) -> String {
    masked(text, |_| true)
}

/// The text with `***` for user and password of its URLs, and for values of the query whose names are those of secrets:
/// for errors and logs, where the rest of a query says what was asked.
#[must_use]
pub fn mask_passwords(text: &str) -> String {
    masked(text, |hidden| hidden.name.is_none_or(may_be_secret))
}

fn masked(text: &str, hide: impl Fn(&Hidden<'_>) -> bool) -> String {
    let mut masked = text.to_owned();
    for hidden in url_secrets(text).into_iter().rev().filter(hide) {
        masked.replace_range(hidden.range, HIDDEN);
    }
    masked
}

/// Whether the text ends with the scheme of a database, whose users have names and no tokens.
fn is_database(before: &str) -> bool {
    let ends_with = |scheme: &&str| {
        let at = before.len().checked_sub(scheme.len());
        at.and_then(|at| before.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(scheme))
    };
    ["postgres://", "postgresql://", "postgresql+psycopg2://"].iter().any(ends_with)
}

/// What of the URLs in a config value must appear in no output, wherever it stands.
#[must_use]
pub fn secrets_of_urls(text: &str) -> Vec<String> {
    /// A shorter value of a query may be an ordinary word, such as `true`: it is hidden together with its name.
    const ORDINARY_BYTES: usize = 8;
    let mut found = Vec::new();
    for Hidden { range, .. } in url_secrets(text) {
        let secret = &text[range.clone()];
        let before = &text[..range.start];
        // Of a database it is who somebody is; elsewhere a token may be written like that.
        if is_database(before) && !secret.contains(':') {
            continue;
        }
        if before.ends_with('=') && secret.len() < ORDINARY_BYTES {
            let name_at = before.rfind(['?', '&']).map_or(range.start, |at| at + 1);
            found.push(text[name_at..range.end].to_owned());
            continue;
        }
        found.push(secret.to_owned());
        if let Some((_, password)) = secret.split_once(':').filter(|_| before.ends_with("://")) {
            found.push(password.to_owned());
            // As whoever connects with it spells it.
            found.extend(percent_decoded(password).filter(|plain| plain != password));
        }
    }
    found
}

/// What a secret holds that is one by itself: the password of an address, written as a URL or as `key=value` pairs.
#[must_use]
pub fn secrets_within(secret: &str) -> Vec<String> {
    let mut found = secrets_of_urls(secret);
    if !secret.contains("://")
        && let Some((_, rest)) = secret.split_once("password=")
    {
        let plain = rest.strip_prefix('\'').and_then(|quoted| quoted.split('\'').next());
        found.extend(plain.or_else(|| rest.split_whitespace().next()).map(str::to_owned));
    }
    found
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
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
            ("https://token@h", "https://***@h", &["token"]),
            ("HTTPS://token@h", "HTTPS://***@h", &["token"]),
            ("mqtts://token@h", "mqtts://***@h", &["token"]),
            ("postgres://postgres@h/db", "postgres://***@h/db", &[]),
            ("PostgreSQL://me@h/db", "PostgreSQL://***@h/db", &[]),
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
    fn an_error_keeps_what_was_asked_and_loses_who_asked() {
        for (text, masked) in [
            (
                "POST http://u:p@h:1/write?db=md&u=me&p=pw&precision=ns: refused",
                "POST http://***@h:1/write?db=md&u=me&p=***&precision=ns: refused",
            ),
            ("wss://h/v2?api_key=1&symbols=A", "wss://h/v2?api_key=***&symbols=A"),
            ("wss://h?0123", "wss://h?***"),
            ("no url: a@b?token=d", "no url: a@b?token=d"),
        ] {
            assert_eq!(mask_passwords(text), masked);
        }
    }

    #[test]
    fn the_password_of_an_address_is_a_secret_of_its_own() {
        assert_eq!(secrets_within("postgres://u:p%40ss%w@h/db"), ["u:p%40ss%w", "p%40ss%w", "p@ss%w"]);
        assert_eq!(secrets_within("host=h password=hunter2 user=u"), ["hunter2"]);
        assert_eq!(secrets_within("password='two words' host=h"), ["two words"]);
        assert!(secrets_within("hunter2").is_empty());
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn what_could_be_a_secret_is_more_than_what_is_one() {
        for name in ["p", "apikey", "app_key", "Authorization", "X-Signature", "sessionToken", "DB_PASS", "user_pwd"] {
            assert!(may_be_secret(name), "{name}");
        }
        for name in ["db", "precision", "symbols", "u", "org"] {
            assert!(!may_be_secret(name), "{name}");
        }
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
