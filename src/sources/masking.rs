//! What names an account, out of bytes that may be kept: also out of what is cut off, or no JSON at all.

use crate::config::secret::HIDDEN;

/// The bytes with `"***"` in the place of what stands behind these keys, whatever it is.
pub(super) fn without_values(bytes: &[u8], keys: &[&str]) -> Vec<u8> {
    let (mut text, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(quote) = memchr::memchr(b'"', rest) {
        let behind = &rest[quote + 1..];
        let key = keys.iter().find(|key| behind.starts_with(key.as_bytes()) && behind.get(key.len()) == Some(&b'"'));
        // Behind the quote, or behind the key, the colon and blanks.
        let value = key.and_then(|key| value(rest, quote + key.len() + 2));
        let to = value.map_or(quote + 1, |(from, _)| from);
        text.extend_from_slice(&rest[..to]);
        if value.is_some() {
            text.extend_from_slice(format!("\"{HIDDEN}\"").as_bytes());
        }
        rest = &rest[value.map_or(to, |(_, end)| end)..];
    }
    text.extend_from_slice(rest);
    text
}

/// Where the value of a key lies that ends at `at`, if one follows.
fn value(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let blanks = |from: usize| {
        let blank = bytes.get(from..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
        Some(from + blank)
    };
    let colon = blanks(at).filter(|at| bytes[*at] == b':')?;
    let from = blanks(colon + 1)?;
    let mut escaped = false;
    let ends = |byte: &u8| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        b'"' => true,
        _ => false,
    };
    let len = if bytes[from] == b'"' {
        bytes[from + 1..].iter().position(ends).map(|len| len + 2)
    } else {
        bytes[from..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b'"') || byte.is_ascii_whitespace())
    };
    Some((from, len.map_or(bytes.len(), |len| from + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_behind_a_key_is_hidden_and_nothing_else() {
        for (text, want) in [
            (r#"{"user_id":"AB1234","x":1}"#, r#"{"user_id":"***","x":1}"#),
            (r#"{"user_id" : 471147 ,"x":1}"#, r#"{"user_id" : "***" ,"x":1}"#),
            ("{\"user_id\":\n\t471147}", "{\"user_id\":\n\t\"***\"}"),
            (r#"{"user_id":"A\"B\\","x":"user_id"}"#, r#"{"user_id":"***","x":"user_id"}"#),
            (r#"[{"user_id":1},{"user_id":[2,3]}]"#, r#"[{"user_id":"***"},{"user_id":"***",3]}]"#),
            (r#"{"user_id":"AB12"#, r#"{"user_id":"***""#),
            (r#"{"user_id":47114"#, r#"{"user_id":"***""#),
            (r#"{"user_id":"#, r#"{"user_id":"#),
            (r#"{"user_id"#, r#"{"user_id"#),
            (r#"{"other_user_id":"AB","user_idx":2}"#, r#"{"other_user_id":"AB","user_idx":2}"#),
        ] {
            let got = String::from_utf8(without_values(text.as_bytes(), &["user_id"])).expect("a text");
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(without_values(b"\xff\"user_id\":\"\xfe1\"\xff", &["user_id"]), b"\xff\"user_id\":\"***\"\xff");
    }
}
