//! What an answer means: stored, refused in part or whole, to be tried again, or a case for a person.

use anyhow::anyhow;
use reqwest::StatusCode;
use serde_json::Value;

use super::config::Version;
use crate::sinks::SinkError;

/// What became of the lines.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Stored,
    /// These will never be stored, by their numbers; the rest was stored, or not.
    Lines {
        bad: Vec<(usize, String)>,
        rest_stored: bool,
    },
    /// Something in it was refused, and the answer does not say what.
    Refused(String),
}

/// The answer to a write.
///
/// # Errors
/// It says nothing about the lines.
pub(super) fn of_write(version: Version, status: StatusCode, text: &str, lines: &[u8]) -> Result<Answer, SinkError> {
    let words = message(text);
    match status {
        status if status.is_success() => Ok(Answer::Stored),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            let bad = if version == Version::V3 { numbered(text) } else { quoted(&words, lines) };
            // 1.x stores the good lines beside a malformed one, and an answer that names some of the bad may hide others:
            // what is left is sent again, which is harmless.
            if bad.is_empty() { Ok(Answer::Refused(words)) } else { Ok(Answer::Lines { bad, rest_stored: false }) }
        }
        StatusCode::PAYLOAD_TOO_LARGE => Err(SinkError::TooMuch(words)),
        status => Err(unable(status, &words)),
    }
}

/// Why nothing can be written at present.
pub(super) fn unable(status: StatusCode, text: &str) -> SinkError {
    let words = message(text);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            SinkError::Waiting(anyhow!("refused ({status}): {words}; look at `username` and `password`, or `token`"))
        }
        // A retention policy that is not there is a 500 in 1.x, and no retry makes it.
        StatusCode::INTERNAL_SERVER_ERROR if words.contains("retention policy not found") => {
            SinkError::Waiting(anyhow!("{words}; make it, or change `retention_policy`"))
        }
        // A database that is not there is made when the store is opened again.
        status => SinkError::Unavailable(anyhow!("{status}: {words}")),
    }
}

/// The answer to a statement: an error may hide in a 200.
///
/// # Errors
/// The server's words.
pub(super) fn of_query(status: StatusCode, text: &str) -> Result<Value, SinkError> {
    if !status.is_success() {
        return Err(unable(status, text));
    }
    let value: Value = serde_json::from_str(text).map_err(|_| {
        let words = anyhow!("its answer of {} bytes to a query is no JSON, or was cut", text.len());
        SinkError::Unavailable(words)
    })?;
    let results = value["results"].as_array().into_iter().flatten();
    let error = results.chain([&value]).find_map(|result| result["error"].as_str()).map(str::to_owned);
    match error {
        Some(error) => Err(SinkError::Waiting(anyhow!("{error}"))),
        None => Ok(value),
    }
}

/// The words of an answer: its JSON member, or all of it.
fn message(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let said = value.as_ref().and_then(|value| value["error"].as_str().or(value["message"].as_str()));
    said.unwrap_or(text).trim().to_owned()
}

/// `unable to parse 'LINE': reason`, once for each bad line: which lines these are.
fn quoted(words: &str, lines: &[u8]) -> Vec<(usize, String)> {
    const BEFORE: &str = "unable to parse '";
    let mut bad = Vec::new();
    let ours: Vec<&[u8]> = crate::lineproto::lines(lines).collect();
    for said in words.split(BEFORE).skip(1) {
        let found = ours.iter().enumerate().find(|(number, line)| {
            let whole = said.as_bytes().strip_prefix(**line).is_some_and(|rest| rest.starts_with(b"': "));
            whole && !bad.iter().any(|(known, _)| known == number)
        });
        if let Some((number, _)) = found {
            bad.push((number, format!("{BEFORE}{}", said.trim_end())));
        }
    }
    bad
}

/// The members `line_number` (from 1) and `error_message` of a 3.x answer.
fn numbered(text: &str) -> Vec<(usize, String)> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let named = |one: &Value| {
        let number = usize::try_from(one["line_number"].as_u64()?).ok()?.checked_sub(1)?;
        Some((number, one["error_message"].as_str().unwrap_or("refused").to_owned()))
    };
    value["data"].as_array().map(|lines| lines.iter().filter_map(named).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(version: Version, status: u16, text: &str) -> Result<Answer, SinkError> {
        of_write(version, StatusCode::from_u16(status).unwrap(), text, b"a v=1 1\nb v=x 2\nc v=2 3\n")
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(write(Version::V1, 204, "").unwrap(), Answer::Stored);
        let parse = r#"{"error":"unable to parse 'b v=x 2': invalid boolean\nunable to parse 'c v=2 3': y"}"#;
        let Ok(Answer::Lines { bad, rest_stored: false }) = write(Version::V1, 400, parse) else { panic!() };
        assert_eq!(bad[0], (1, "unable to parse 'b v=x 2': invalid boolean".to_owned()));
        assert_eq!(bad[1].0, 2);
        let partial = r#"{"error":"partial write: field type conflict: input field \"v\" dropped=1"}"#;
        assert!(
            matches!(write(Version::V1, 400, partial), Ok(Answer::Refused(words)) if words.starts_with("partial write"))
        );
        let v2 = r#"{"code":"unprocessable entity","message":"failure writing points: partial write"}"#;
        assert!(matches!(write(Version::V2, 422, v2), Ok(Answer::Refused(_))));
        let v3 = r#"{"error":"partial write","data":[{"original_line":"b","line_number":2,"error_message":"bad"}]}"#;
        let Ok(Answer::Lines { bad, .. }) = write(Version::V3, 400, v3) else { panic!() };
        assert_eq!(bad, [(1, "bad".to_owned())]);
        assert!(matches!(write(Version::V1, 413, "too large"), Err(SinkError::TooMuch(_))));
        assert!(matches!(write(Version::V1, 401, "no"), Err(SinkError::Waiting(_))));
        assert!(matches!(write(Version::V1, 404, r#"{"error":"database not found"}"#), Err(SinkError::Unavailable(_))));
        assert!(matches!(write(Version::V1, 500, "retention policy not found: x"), Err(SinkError::Waiting(_))));
        assert!(matches!(write(Version::V1, 503, ""), Err(SinkError::Unavailable(_))));
    }

    #[test]
    fn two_hundred_alone_is_no_success_of_a_statement() {
        let text = r#"{"results":[{"statement_id":0,"error":"not allowed"}]}"#;
        assert!(of_query(StatusCode::OK, text).is_err());
        assert!(of_query(StatusCode::OK, r#"{"results":[{"statement_id":0}]}"#).is_ok());
        assert!(of_query(StatusCode::OK, r#"{"results":[{"sta"#).is_err(), "an answer that was cut is none");
    }
}
