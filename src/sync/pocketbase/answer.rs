//! What its answers mean.
//!
//! ```text
//! {"status": 400, "message": "Failed to create record.", "data": {"price": {"code": "validation_…", "message": "…"}}}
//! ```

use std::time::Duration;

use serde_json::Value;

pub(super) use crate::sinks::http::Answer;
use crate::sync::{Class, Trouble};

/// Of what is not its own, and of what goes into a log: as much as says what it is.
const WORDS: usize = 300;

/// Who we are there; decides what is to be done about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    Superuser,
    /// By a token that somebody gave us.
    Token,
}

/// An answer that is no success, to a request that was to do `what` ("reading its settings").
pub(super) fn trouble(answer: &Answer, who: Who, what: &str, base: &str) -> Trouble {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let Some(words) = words(&body) else { return stranger(answer, what, base) };
    let status = answer.status.as_u16();
    let said = format!("{what}: {words} ({status})");
    match status {
        429 => limited(said, answer.retry_after),
        401 | 403 => refused(said, who),
        404 => Trouble::new(Class::Setup, said)
            .fix(format!("there is no such thing at {base}; `tapedeck sync init` makes collections that are missing")),
        413 => Trouble::new(Class::Setup, said).fix("raise the body size that its settings allow for batches"),
        500.. => Trouble::new(Class::Server, said).fix("its own log says more"),
        _ => Trouble::new(Class::Setup, said),
    }
}

/// Too many requests.
pub(super) fn limited(said: String, wait: Option<Duration>) -> Trouble {
    let fix =
        "log in as a superuser, whom its rate limits leave alone, or let this address through: Settings, Rate limits";
    let trouble = Trouble::new(Class::RateLimit, said).fix(fix);
    match wait {
        Some(wait) => trouble.wait(wait),
        None => trouble,
    }
}

/// Who we are is not enough.
pub(super) fn refused(said: String, who: Who) -> Trouble {
    let fix = match who {
        Who::Nobody => "give `email` and `password` of a superuser, or open the collection's API rules",
        Who::Superuser => {
            "the login is right, so that this address may be missing from `superuserIPs` in its settings, if any are there"
        }
        Who::Token => {
            "the token has ended or was taken back: make a new one (Superusers, Impersonate), or give a login"
        }
    };
    Trouble::new(Class::Authentication, said).fix(fix)
}

/// The server's words; `None` where they are not those of a PocketBase.
pub(super) fn words(body: &Value) -> Option<String> {
    let message = body["message"].as_str()?;
    if !body["status"].is_u64() && !body["code"].is_u64() {
        return None;
    }
    let fields = reasons(&body["data"]);
    Some(cut(&if fields.is_empty() { message.to_owned() } else { format!("{message} {fields}") }))
}

/// What it has against single fields: `price: Cannot be blank.; symbol: Value must be unique.`
pub(super) fn reasons(data: &Value) -> String {
    let mut said = Vec::new();
    gather("", data, &mut said);
    said.sort_unstable();
    said.join("; ")
}

/// Reasons lie where the thing lies that they are about: `{"indexes": {"1": {"message": …}}}`.
fn gather(path: &str, data: &Value, said: &mut Vec<String>) {
    for (name, inner) in data.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match inner["message"].as_str() {
            Some(words) => said.push(format!("{path}: {words}")),
            None => gather(&path, inner, said),
        }
    }
}

/// What answers there, or before it, speaks otherwise.
fn stranger(answer: &Answer, what: &str, base: &str) -> Trouble {
    let status = answer.status.as_u16();
    let text = cut(answer.text.trim());
    let said = if text.is_empty() { format!("{what}: {status}") } else { format!("{what}: {status} {text}") };
    match status {
        429 => limited(said, answer.retry_after),
        500.. => Trouble::new(Class::Server, said).fix(format!("look at what stands between here and {base}")),
        _ => Trouble::new(Class::Setup, said).fix(format!("what answers at {base} is no PocketBase: check `url`")),
    }
}

/// The beginning of a text, on one line.
fn cut(text: &str) -> String {
    let mut line: String = text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(WORDS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn of(status: u16, text: &str, who: Who) -> Trouble {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(Duration::from_secs(7)),
            text: text.to_owned(),
            date: None,
            whole: true,
        };
        trouble(&answer, who, "reading", "http://there:1/")
    }

    #[test]
    fn each_answer_is_of_a_class_and_says_what_to_do() {
        let own = |status: u16, words: &str| format!(r#"{{"data":{{}},"message":"{words}","status":{status}}}"#);
        for (status, text, who, class, says) in [
            (401, own(401, "No."), Who::Nobody, Class::Authentication, "open the collection's API rules"),
            (403, own(403, "No."), Who::Superuser, Class::Authentication, "superuserIPs"),
            (401, own(401, "No."), Who::Token, Class::Authentication, "make a new one"),
            (404, own(404, "Gone."), Who::Superuser, Class::Setup, "reading: Gone. (404)"),
            (429, own(429, "Slow."), Who::Nobody, Class::RateLimit, "Rate limits"),
            (500, own(500, "Oh."), Who::Superuser, Class::Server, "its own log"),
            (502, "<h1>Bad\nGateway</h1>".to_owned(), Who::Nobody, Class::Server, "502 <h1>Bad Gateway</h1>"),
            (200, "hello".to_owned(), Who::Nobody, Class::Setup, "is no PocketBase"),
            (404, r#"{"message":"x"}"#.to_owned(), Who::Nobody, Class::Setup, "is no PocketBase"),
        ] {
            let trouble = of(status, &text, who);
            assert_eq!(trouble.class, class, "{text}");
            assert!(trouble.to_string().contains(says), "{trouble}");
            assert_eq!(trouble.wait.is_some(), class == Class::RateLimit, "{trouble}");
        }
    }

    #[test]
    fn reasons_name_fields_and_long_words_are_cut() {
        let body = serde_json::json!({"status": 400, "message": "Failed.", "data": {
            "b": {"code": "x", "message": "Cannot be blank."}, "a": {"message": "Too long."}}});
        assert_eq!(words(&body).unwrap(), "Failed. a: Too long.; b: Cannot be blank.");
        let body = serde_json::json!({"indexes": {"1": {"code": "x", "message": "UNIQUE constraint failed"}}});
        assert_eq!(reasons(&body), "indexes.1: UNIQUE constraint failed");
        let long = of(404, &"ż".repeat(5000), Who::Nobody).to_string();
        assert!(long.len() < 1000 && long.contains('…'), "{long}");
    }
}
