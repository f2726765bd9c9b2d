//! What is told, as JSON and as variables of a command.

use std::time::Duration;

use serde::Serialize;
use tapedeck_market::UnixNanos;

use super::condition::Finding;
use super::rule::When;

/// Discord refuses longer ones.
const TEXT_CHARS: usize = 1_500;

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Firing,
    Resolved,
    /// Nothing is wrong: `tapedeck alerts test`.
    Test,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::Firing => "firing",
            State::Resolved => "resolved",
            State::Test => "test",
        }
    }
}

/// The body of a webhook.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Message {
    /// For people, in the field that Slack shows …
    pub text: String,
    /// … and the same in the one that Discord does.
    pub content: String,
    /// Name of the rule.
    pub alert: String,
    pub state: State,
    pub when: When,
    /// The source, sink, service or process; `disk` or `tape`.
    pub subject: String,
    /// What was measured, what is too much of it, and in what.
    pub value: f64,
    pub limit: f64,
    pub unit: &'static str,
    /// RFC 3339: since when it lasts, and when this was said.
    pub since: String,
    pub at: String,
    /// How many times it has been told since then, this time included.
    pub count: u64,
    pub host: String,
    pub tape: String,
    pub version: &'static str,
}

impl Message {
    pub(super) fn new(
        name: &str,
        state: State,
        when: When,
        subject: &str,
        finding: &Finding,
        from: &Sender,
    ) -> Message {
        let words = crate::logs::redact_text(&finding.words);
        let what = match state {
            State::Firing => format!("{subject}: {words}"),
            // Who is gone is measured no more.
            State::Resolved if finding.unit.is_empty() => format!("{subject}: {words}"),
            State::Resolved => format!("{subject} is well again"),
            State::Test => "this is a test, nothing is wrong".to_owned(),
        };
        let text: String = format!("tapedeck on {}: {name}: {what}", from.host).chars().take(TEXT_CHARS).collect();
        Message {
            content: text.clone(),
            text,
            alert: name.to_owned(),
            state,
            when,
            subject: subject.to_owned(),
            value: finding.value,
            limit: finding.limit,
            unit: finding.unit,
            since: String::new(),
            at: UnixNanos::now().to_string(),
            count: 1,
            host: from.host.clone(),
            tape: from.tape.clone(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Says how long it was, of what is over.
    pub(super) fn lasted(&mut self, time: Duration) {
        self.text.push_str(&format!(", after {} s", time.as_secs()));
        self.content.clone_from(&self.text);
    }

    /// The variables of a command.
    pub(super) fn variables(&self) -> [(&'static str, String); 12] {
        [
            ("TAPEDECK_ALERT_NAME", self.alert.clone()),
            ("TAPEDECK_ALERT_STATE", self.state.name().to_owned()),
            ("TAPEDECK_ALERT_WHEN", self.when.name().to_owned()),
            ("TAPEDECK_ALERT_SUBJECT", self.subject.clone()),
            ("TAPEDECK_ALERT_TEXT", self.text.clone()),
            ("TAPEDECK_ALERT_VALUE", self.value.to_string()),
            ("TAPEDECK_ALERT_LIMIT", self.limit.to_string()),
            ("TAPEDECK_ALERT_UNIT", self.unit.to_owned()),
            ("TAPEDECK_ALERT_SINCE", self.since.clone()),
            ("TAPEDECK_ALERT_AT", self.at.clone()),
            ("TAPEDECK_ALERT_COUNT", self.count.to_string()),
            ("TAPEDECK_ALERT_HOST", self.host.clone()),
        ]
    }
}

/// Who says it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    pub host: String,
    pub tape: String,
}
