//! Secrets that must not appear in any output.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use crate::config::secret::HIDDEN;

/// A shorter secret is not one, and replacing it would spoil ordinary words: the predecessors' default password was `zmq`.
const MIN_BYTES: usize = 4;

/// Every spelling of every secret, longest first, so that a secret inside another one leaves nothing behind.
static SECRETS: RwLock<Vec<Vec<u8>>> = RwLock::new(Vec::new());

/// Takes a secret out of all output from now on, also where JSON or a URL spells it differently.
pub fn hide(secret: &str) {
    if secret.len() < MIN_BYTES {
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
    text
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
    fn a_secret_that_begins_with_another_leaves_nothing_behind() {
        hide("token-one");
        hide("token-one-and-more");
        assert_eq!(redacted("token-one-and-more"), "***");
    }
}
