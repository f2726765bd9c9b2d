//! Secrets that must not appear in any output: those of the config, wherever they stand, and those of any URL.
//!
//! What leaves the program passes here: log lines, errors on the console, findings of checks, and the free texts of a
//! status, which is all that metrics, health, heartbeat, alerts and screens are made of.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;

use crate::config::secret::{HIDDEN, mask_passwords};

/// A shorter secret is not one, and replacing it would spoil ordinary words: the predecessors' default password was `zmq`.
pub const MIN_SECRET_BYTES: usize = 4;

/// Every spelling of every secret, longest first, so that a secret inside another one leaves nothing behind.
static SECRETS: RwLock<Vec<Vec<u8>>> = RwLock::new(Vec::new());

/// Takes a secret out of all output from now on, also where JSON or a URL spells it differently.
pub fn hide(secret: &str) {
    if secret.len() < MIN_SECRET_BYTES {
        return;
    }
    let json = serde_json::Value::from(secret).to_string();
    let spellings = [secret.to_owned(), json.trim_matches('"').to_owned(), url_spelling(secret)];
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for spelling in spellings.map(String::into_bytes) {
        if !secrets.contains(&spelling) {
            secrets.push(spelling);
        }
    }
    secrets.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
}

/// The text with every secret replaced by `***`.
#[must_use]
pub fn redact(text: &[u8]) -> Cow<'_, [u8]> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter() {
        if memchr::memmem::find(&text, secret).is_some() {
            text = Cow::Owned(replace(&text, secret));
        }
    }
    // What was not configured: an address that a venue or a server named.
    if memchr::memmem::find(&text, b"://").is_some() {
        let masked = mask_passwords(&String::from_utf8_lossy(&text));
        if masked.as_bytes() != &*text {
            text = Cow::Owned(masked.into_bytes());
        }
    }
    text
}

/// The same for a text.
#[must_use]
pub fn redact_text(text: &str) -> String {
    String::from_utf8_lossy(&redact(text.as_bytes())).into_owned()
}

/// Takes secrets out of what is told of a state: the words behind its name, since the name itself is one of ours.
pub fn redact_state(state: &mut String) {
    if let Some((name, words)) = state.split_once(':') {
        *state = format!("{name}:{}", redact_text(words));
    }
}

/// Takes secrets out of every text of a value; names of fields are ours.
pub fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact_text(text),
        Value::Array(values) => values.iter_mut().for_each(redact_value),
        Value::Object(fields) => fields.values_mut().for_each(redact_value),
        _ => {}
    }
}

fn replace(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut done = 0;
    for at in memchr::memmem::find_iter(text, secret) {
        out.extend_from_slice(&text[done..at]);
        out.extend_from_slice(HIDDEN.as_bytes());
        done = at + secret.len();
    }
    out.extend_from_slice(&text[done..]);
    out
}

fn url_spelling(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        String::from_utf8(redact(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_secret_is_taken_out_in_every_spelling() {
        hide("a+b/c=\"d");
        assert_eq!(redacted(r#"key a+b/c="d end"#), "key *** end");
        assert_eq!(redacted(r#"{"key":"a+b/c=\"d"}"#), r#"{"key":"***"}"#);
        assert_eq!(redacted("?key=a%2Bb%2Fc%3D%22d&x"), "?key=***&x");
    }

    #[test]
    fn words_stay_when_a_secret_is_too_short_to_be_one() {
        hide("zmq");
        assert_eq!(redacted("zmq stays"), "zmq stays");
    }

    #[test]
    fn a_url_leaves_without_its_password_whoever_named_it() {
        assert_eq!(redacted("to ws://me:pw@h/?a=1&token=x failed"), "to ws://***@h/?a=1&token=*** failed");
        assert_eq!(redacted("to ws://h/?a=1"), "to ws://h/?a=1");
    }

    #[test]
    fn of_a_state_the_word_stays_and_of_a_value_the_names() {
        hide("waiting-room");
        let mut state = "waiting-room: no waiting-room".to_owned();
        redact_state(&mut state);
        assert_eq!(state, "waiting-room: no ***");
        let mut value = serde_json::json!({ "waiting-room": ["the waiting-room", 1] });
        redact_value(&mut value);
        assert_eq!(value, serde_json::json!({ "waiting-room": ["the ***", 1] }));
    }

    #[test]
    fn a_secret_that_begins_with_another_leaves_nothing_behind() {
        hide("token-one");
        hide("token-one-and-more");
        assert_eq!(redacted("token-one-and-more"), "***");
    }
}
