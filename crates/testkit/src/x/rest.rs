//! What is asked for: rules and the stream.

use serde_json::{Value, json};

use super::fault::Trouble;
use super::hub::{Hub, Rule, problem};
use crate::http::{Head, date};

/// Rules of the account, and characters of one.
const RULES: usize = 1_000;
const RULE_CHARS: usize = 1_024;

/// How a request is answered.
pub(crate) enum Answer {
    Text(u16, String),
    /// 429 with the second at which the count begins anew.
    Limited(i64),
    Stream,
}

fn refused(status: u16, title: &str, detail: &str) -> Answer {
    Answer::Text(
        status,
        json!({ "title": title, "detail": detail, "type": "about:blank", "status": status }).to_string(),
    )
}

/// Answers a request.
pub(crate) fn answer(hub: &mut Hub, head: &Head, body: &[u8]) -> Answer {
    hub.requests.push(format!("{} {}", head.method, head.path));
    let of_stream = head.path == "/2/tweets/search/stream";
    if of_stream {
        hub.asked.push(std::time::Instant::now());
    }
    if let Some(status) = hub.refusal() {
        return refused(status, "Refused", "The venue was told to refuse this.");
    }
    if let Some(until_ns) = hub.limit.take() {
        return Answer::Limited(until_ns.div_euclid(1_000_000_000));
    }
    if head.header("authorization") != Some(&format!("Bearer {}", hub.token)) {
        return refused(401, "Unauthorized", "Unauthorized");
    }
    match (head.method.as_str(), head.path.as_str()) {
        ("GET", "/2/tweets/search/stream") => {
            if hub.usage.take() {
                Answer::Text(429, problem(Trouble::Usage).to_owned())
            } else if hub.connections.take() || hub.stream.is_some() {
                Answer::Text(429, problem(Trouble::Connections).to_owned())
            } else if hub.rules.is_empty() {
                let no_rules = json!({ "title": "ConnectionException", "detail": "This stream has no rules.", "connection_issue": "RuleConfigurationIssue" });
                Answer::Text(409, no_rules.to_string())
            } else {
                Answer::Stream
            }
        }
        ("GET", "/2/tweets/search/stream/rules") => {
            let rules: Vec<Value> = hub.rules.iter().map(shown).collect();
            let meta = json!({ "sent": "2026-01-05T10:00:00.000Z", "result_count": rules.len() });
            // Without rules there is no `data`.
            let answer =
                if rules.is_empty() { json!({ "meta": meta }) } else { json!({ "data": rules, "meta": meta }) };
            Answer::Text(200, answer.to_string())
        }
        ("POST", "/2/tweets/search/stream/rules") => {
            let Ok(asked) = serde_json::from_slice::<Value>(body) else {
                return refused(400, "Invalid Request", "The body is no JSON.");
            };
            let dry = head.query.split('&').any(|pair| pair == "dry_run=true");
            match (asked.get("add").and_then(Value::as_array), asked.get("delete").and_then(|it| it.get("ids"))) {
                (Some(add), None) => self::add(hub, add, dry),
                (None, Some(ids)) => delete(hub, ids.as_array().map_or(&[], Vec::as_slice), dry),
                _ => refused(400, "Invalid Request", "One of add and delete is needed."),
            }
        }
        _ => refused(404, "Not Found", "There is nothing here."),
    }
}

fn shown(rule: &Rule) -> Value {
    match &rule.tag {
        Some(tag) => json!({ "id": rule.id, "value": rule.value, "tag": tag }),
        None => json!({ "id": rule.id, "value": rule.value }),
    }
}

/// Where one rule is wrong none is made; one that is there already is left out.
fn add(hub: &mut Hub, add: &[Value], dry: bool) -> Answer {
    let (mut errors, mut news, mut invalid) = (Vec::new(), Vec::new(), 0);
    for asked in add {
        let text = |key: &str| asked.get(key).and_then(Value::as_str);
        let value = text("value").unwrap_or_default();
        let wrong = if value.is_empty() {
            Some("a rule must not be empty".to_owned())
        } else if value.chars().count() > RULE_CHARS {
            Some(format!("Rule must have at most {RULE_CHARS} characters"))
        } else if value.matches('(').count() != value.matches(')').count() {
            Some("missing ')' at '<EOF>' (at position 1)".to_owned())
        } else {
            None
        };
        if let Some(why) = wrong {
            invalid += 1;
            errors.push(json!({ "value": value, "details": [why], "title": "UnprocessableEntity", "type": "https://api.twitter.com/2/problems/invalid-rules" }));
        } else if let Some(there) = hub.rules.iter().find(|rule| rule.value == value) {
            errors.push(json!({ "value": value, "id": there.id, "title": "DuplicateRule", "type": "https://api.twitter.com/2/problems/duplicate-rules" }));
        } else {
            news.push((value.to_owned(), text("tag").map(str::to_owned)));
        }
    }
    if hub.rules.len() + news.len() > RULES {
        return refused(422, "RulesCapExceeded", &format!("Rules must be at most {RULES}"));
    }
    let created = if invalid == 0 { news.len() } else { 0 };
    let mut data = Vec::new();
    for (value, tag) in news.into_iter().take(created) {
        hub.next_rule += 2;
        let rule = Rule { id: hub.next_rule.to_string(), value, tag };
        data.push(shown(&rule));
        if !dry {
            hub.rules.push(rule);
        }
    }
    let summary = json!({ "created": created, "not_created": add.len() - created, "valid": add.len() - invalid, "invalid": invalid });
    let mut answer = json!({ "meta": { "sent": "2026-01-05T10:00:00.000Z", "summary": summary } });
    if !data.is_empty() {
        answer["data"] = data.into();
    }
    if !errors.is_empty() {
        answer["errors"] = errors.into();
    }
    Answer::Text(201, answer.to_string())
}

fn delete(hub: &mut Hub, ids: &[Value], dry: bool) -> Answer {
    let gone = |rule: &Rule| ids.iter().any(|id| id.as_str() == Some(&rule.id));
    let deleted = hub.rules.iter().filter(|rule| gone(rule)).count();
    if !dry {
        hub.rules.retain(|rule| !gone(rule));
    }
    let summary = json!({ "deleted": deleted, "not_deleted": ids.len() - deleted });
    Answer::Text(200, json!({ "meta": { "sent": "2026-01-05T10:00:00.000Z", "summary": summary } }).to_string())
}

/// An answer as it goes over the wire.
pub(crate) fn http(status: u16, more: &str, body: &str, now_ns: i64) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        401 => "Unauthorized",
        403 => "Forbidden",
        409 => "Conflict",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    let (date, len) = (date(now_ns), body.len());
    format!(
        "HTTP/1.1 {status} {reason}\r\ndate: {date}\r\ncontent-type: application/json\r\n{more}content-length: {len}\r\n\r\n{body}"
    )
}
