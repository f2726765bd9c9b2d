//! Many records in one transaction: `POST /api/batch`.
//!
//! ```text
//! {"requests":[{"method":"PUT","url":"/api/collections/C/records?fields=id","body":{"id":"…",…}},
//!              {"method":"DELETE","url":"/api/collections/C/records/ID"}]}
//! ```
//!
//! All of it is there or nothing. The answer to a failure names one request only, the first: those before it were right,
//! those behind it were not looked at.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use super::answer::{self, Answer, Who};
use super::client::Client;
use super::schema::is_name;
use super::settings::BATCH_IS_OFF;
use crate::sync::target::Change;
use crate::sync::writer::{Encoded, Lane, Room, Verdict};
use crate::sync::{Class, Trouble};

/// What the server says when it gives no reason: its disk is full, a hook of its owner failed, or, to nobody, a rule was not met.
const NO_REASON: [&str; 5] = [
    "Batch transaction failed.",
    "Failed to create record.",
    "Failed to update record.",
    "Failed to delete record.",
    "Something went wrong while processing your request.",
];
/// So much earlier than its limit may a batch that took too long be answered, by our clock.
const EARLY: Duration = Duration::from_millis(100);
const HEAD: &[u8] = br#"{"requests":["#;
const TAIL: &[u8] = b"]}";

#[async_trait]
impl Lane for Client {
    async fn room(&self, _collection: &str) -> Result<Room, Trouble> {
        let limits = self.limits().await?;
        Ok(Room { changes: limits.requests, bytes: limits.bytes.saturating_sub(HEAD.len() + TAIL.len()) })
    }

    fn encode(&self, collection: &str, change: &Change, out: &mut Vec<u8>) -> Encoded {
        encode(collection, change, out);
        Encoded::Shared
    }

    async fn send(&self, collection: &str, parts: &[&[u8]]) -> Result<Verdict, Trouble> {
        let what = format!("writing {} to collection {collection}", parts.len());
        if !is_name(collection) {
            return Err(Trouble::new(Class::Setup, format!("{what}: that can be no name of a collection")));
        }
        let body = Bytes::from([HEAD, &parts.join(&b','), TAIL].concat());
        let timeout = self.limits().await?.timeout;
        let began = Instant::now();
        let answer = self.ask(Method::POST, "batch", &body, &what).await?;
        let late = began.elapsed() + EARLY >= timeout;
        let verdict = read(&answer, parts.len(), late, self.who(), &what);
        if matches!(verdict, Ok(Some(Verdict::TooMany { .. } | Verdict::TooLarge { .. } | Verdict::TooSlow { .. }))) {
            self.forget_limits();
        }
        verdict?.ok_or_else(|| self.trouble(&answer, &what))
    }
}

pub(super) fn encode(collection: &str, change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Put(document) => {
            out.extend_from_slice(br#"{"method":"PUT","url":"/api/collections/"#);
            out.extend_from_slice(collection.as_bytes());
            out.extend_from_slice(br#"/records?fields=id","body":{"id":""#);
            out.extend_from_slice(document.id.as_str().as_bytes());
            out.push(b'"');
            for (name, value) in document.body.iter().filter(|(name, _)| *name != "id") {
                out.push(b',');
                out.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
                out.push(b':');
                out.extend_from_slice(value.to_string().as_bytes());
            }
            out.extend_from_slice(b"}}");
        }
        Change::Delete(id) => {
            out.extend_from_slice(br#"{"method":"DELETE","url":"/api/collections/"#);
            out.extend_from_slice(collection.as_bytes());
            out.extend_from_slice(b"/records/");
            out.extend_from_slice(id.as_str().as_bytes());
            out.extend_from_slice(br#""}"#);
        }
    }
}

/// What an answer to a batch means; `None`: what it would mean to any other request.
fn read(answer: &Answer, sent: usize, late: bool, who: Who, what: &str) -> Result<Option<Verdict>, Trouble> {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match answer.status.as_u16() {
        200 => {
            let done = body.as_array().map_or(0, |done| done.iter().filter(|one| one["status"].is_u64()).count());
            if done == sent {
                return Ok(Some(Verdict::Stored));
            }
            Err(Trouble::new(Class::Server, format!("{what}: it answered for {done} of them")))
        }
        403 if answer.text.contains(BATCH_IS_OFF) => {
            Err(Trouble::new(Class::Setup, format!("{what}: {BATCH_IS_OFF} (403)"))
                .fix("`tapedeck sync init` offers to switch batches on; or there: Settings, Application, Batch API"))
        }
        413 => Ok(Some(Verdict::TooLarge { words: "Request entity too large. (413)".to_owned() })),
        400 => of_400(&body, late, who, what),
        _ => Ok(None),
    }
}

fn of_400(body: &Value, late: bool, who: Who, what: &str) -> Result<Option<Verdict>, Trouble> {
    let Some(message) = body["message"].as_str() else { return Ok(None) };
    let requests = &body["data"]["requests"];
    if let Some(most) = requests["params"]["max"].as_u64() {
        return Ok(Some(Verdict::TooMany { most: usize::try_from(most).unwrap_or(usize::MAX) }));
    }
    let failed = requests.as_object().and_then(|requests| requests.iter().next());
    if let Some((place, response)) = failed.and_then(|(place, one)| Some((place.parse().ok()?, &one["response"]))) {
        return of_request(place, response, who, what).map(Some);
    }
    if !NO_REASON.contains(&message) {
        return Ok(None);
    }
    let words = format!("{message} (400)");
    Ok(Some(if late { Verdict::TooSlow { words } } else { Verdict::Unexplained { words, fix: unexplained(who) } }))
}

/// The first request of a batch that failed.
fn of_request(place: usize, response: &Value, who: Who, what: &str) -> Result<Verdict, Trouble> {
    let status = response["status"].as_u64().unwrap_or(0);
    let words = answer::words(response).unwrap_or_else(|| response.to_string());
    let said = || format!("{what}: {words} ({status})");
    match status {
        401 | 403 => Err(answer::refused(said(), who)),
        404 if words.contains("collection context") => Err(Trouble::new(Class::Setup, said())
            .fix("there is no such collection: `tapedeck sync init` makes it, or name another one")),
        404 => Ok(Verdict::Missing { place, words }),
        429 => Err(answer::limited(said(), None)),
        500.. => Err(Trouble::new(Class::Server, said()).fix("its own log says more")),
        _ if answer::reasons(&response["data"]).is_empty() && NO_REASON.iter().any(|none| words.starts_with(none)) => {
            Ok(Verdict::Unexplained { words: format!("{words} ({status})"), fix: unexplained(who) })
        }
        _ => Ok(Verdict::Refused { place: Some(place), words }),
    }
}

/// What may be behind a refusal without a reason.
fn unexplained(who: Who) -> &'static str {
    match who {
        Who::Nobody => {
            "it gives no reason: a create or update rule of the collection that is not met, or a full disk there"
        }
        Who::Superuser | Who::Token => {
            "it gives no reason: look whether its disk is full, something else has its database locked, or a hook of its own fails"
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::sync::{Document, Id};

    fn of(status: u16, text: &str, late: bool, who: Who) -> Result<Option<Verdict>, Trouble> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after: None, date: None, text: text.to_owned(), whole: true };
        read(&answer, 2, late, who, "writing")
    }

    fn inner(status: u16, message: &str, data: &Value) -> String {
        let response = json!({"status": status, "message": message, "data": data});
        let requests = json!({"1": {"code": "batch_request_failed", "response": response}});
        json!({"status": 400, "message": "Batch transaction failed.", "data": {"requests": requests}}).to_string()
    }

    #[test]
    fn each_refusal_of_a_batch_is_told_from_the_others() {
        let me = Who::Superuser;
        let verdict = |status, text: &str, late| of(status, text, late, me).unwrap().unwrap();
        assert_eq!(verdict(200, r#"[{"status":200,"body":{}},{"status":204,"body":null}]"#, false), Verdict::Stored);
        let blank = json!({"price": {"code": "validation_required", "message": "Cannot be blank."}});
        assert_eq!(
            verdict(400, &inner(400, "Failed to create record.", &blank), false),
            Verdict::Refused { place: Some(1), words: "Failed to create record. price: Cannot be blank.".into() }
        );
        let hook = inner(400, "We take no zloty.", &json!({}));
        assert!(matches!(verdict(400, &hook, false), Verdict::Refused { .. }));
        let gone = inner(404, "The requested resource wasn't found.", &json!({}));
        assert!(matches!(verdict(400, &gone, false), Verdict::Missing { place: 1, .. }));
        let unsaid = inner(400, "Failed to create record.", &json!({}));
        assert!(matches!(verdict(400, &unsaid, true), Verdict::Unexplained { .. }));
        let empty = r#"{"data":{},"message":"Batch transaction failed.","status":400}"#;
        assert!(matches!(verdict(400, empty, true), Verdict::TooSlow { .. }));
        assert!(matches!(verdict(400, empty, false), Verdict::Unexplained { .. }));
        let many = json!({"status": 400, "message": "Invalid batch request data.",
            "data": {"requests": {"code": "validation_length_too_long", "params": {"max": 50, "min": 0}}}});
        assert_eq!(verdict(400, &many.to_string(), false), Verdict::TooMany { most: 50 });
        assert!(matches!(verdict(413, "", false), Verdict::TooLarge { .. }));
        assert_eq!(of(400, "<html>", false, me), Ok(None));
        assert_eq!(of(502, "", false, me), Ok(None));
    }

    #[test]
    fn what_a_person_must_mend_is_trouble_and_says_how() {
        let off = format!(r#"{{"data":{{}},"message":"{BATCH_IS_OFF}","status":403}}"#);
        let none = json!({});
        for (status, text, who, class, says) in [
            (403, off, Who::Superuser, Class::Setup, "switch batches on"),
            (400, inner(403, "Only superusers.", &none), Who::Nobody, Class::Authentication, "API rules"),
            (400, inner(404, "Missing collection context.", &none), Who::Nobody, Class::Setup, "no such collection"),
            (400, inner(429, "Too Many Requests.", &none), Who::Nobody, Class::RateLimit, "Rate limits"),
            (400, inner(500, "Oh.", &none), Who::Superuser, Class::Server, "its own log"),
            (200, "[]".to_owned(), Who::Superuser, Class::Server, "answered for 0"),
        ] {
            let trouble = of(status, &text, false, who).unwrap_err();
            assert!(trouble.class == class && trouble.to_string().contains(says), "{trouble:?}");
        }
    }

    #[test]
    fn a_change_is_one_request_whatever_its_texts_are() {
        let id = Id::of(["k"]);
        let Value::Object(body) = json!({"a\"b": "x\"},{\n\u{0}", "id": "other", "n": 1.5}) else { panic!() };
        let mut out = Vec::new();
        encode("c", &Change::Put(Document { id, body, time_ns: 0 }), &mut out);
        let put: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(put["body"], json!({"id": id.as_str(), "a\"b": "x\"},{\n\u{0}", "n": 1.5}));
        out.clear();
        encode("c", &Change::Delete(id), &mut out);
        let delete: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(delete, json!({"method": "DELETE", "url": format!("/api/collections/c/records/{id}")}));
    }
}
