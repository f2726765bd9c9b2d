//! Which alerts are firing, and what must be told of it: a function of looks and of what was told before.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tapedeck_market::UnixNanos;

use super::condition::{Finding, look};
use super::message::{Message, Sender, State};
use super::rule::{Rule, When};
use crate::status::Status;

/// An alert and whom it is about.
pub(super) type Key = (String, String);

/// What is remembered of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub alert: String,
    pub subject: String,
    pub firing: bool,
    /// Since when it fires, or when it ended; ns.
    pub since: i64,
    /// When it was last told that it fires; `None`: not yet.
    pub told: Option<i64>,
    /// How often.
    pub count: u64,
    pub words: String,
    /// Since when it is wrong, for what must last.
    wrong: Option<i64>,
    /// What was counted at the last look, and when it last grew.
    seen: f64,
    grew: Option<i64>,
    /// Its message is on its way.
    #[serde(skip)]
    sent: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// The process whose counters were seen.
    process: String,
    pub cases: Vec<Case>,
}

impl Board {
    /// One look at everything: what must be told.
    pub(super) fn look(
        &mut self,
        rules: &BTreeMap<String, Rule>,
        status: &Status,
        from: &Sender,
        now: UnixNanos,
    ) -> Vec<(Key, Message)> {
        let process = format!("{} {}", status.pid, status.started);
        if self.process != process {
            self.process = process;
            self.cases.iter_mut().for_each(|case| (case.seen, case.wrong) = (0.0, None));
        }
        let mut messages = Vec::new();
        self.cases.retain(|case| rules.contains_key(&case.alert));
        for (name, rule) in rules {
            let mut found = look(rule, status);
            // Who is no longer there is no longer wrong.
            for case in self.cases.iter().filter(|case| case.alert == *name && case.firing) {
                found.entry(case.subject.clone()).or_insert_with(|| Finding {
                    holds: Some(false),
                    value: 0.0,
                    limit: 0.0,
                    unit: "",
                    words: "it is no longer there".to_owned(),
                });
            }
            for (subject, finding) in found {
                let case = self.case(name, &subject);
                if let Some((state, since)) = judge(case, rule, &finding, now) {
                    let mut message = Message::new(name, state, rule.when, &subject, &finding, from);
                    (message.since, message.count) = (UnixNanos(since).to_string(), case.count.max(1));
                    if state == State::Resolved {
                        message.lasted(now.saturating_since(UnixNanos(since)));
                    }
                    messages.push(((name.clone(), subject), message));
                }
            }
        }
        // What never fired and has nothing to remember.
        self.cases.retain(|case| case.firing || case.wrong.is_some() || case.seen > 0.0 || case.grew.is_some());
        messages
    }

    fn case(&mut self, alert: &str, subject: &str) -> &mut Case {
        let at = self.cases.iter().position(|case| case.alert == alert && case.subject == subject);
        let at = at.unwrap_or_else(|| {
            self.cases.push(Case { alert: alert.to_owned(), subject: subject.to_owned(), ..Case::default() });
            self.cases.len() - 1
        });
        &mut self.cases[at]
    }

    /// It was told, or given up to be told: the next time is after `repeat`.
    pub(super) fn told(&mut self, (alert, subject): &Key, now: UnixNanos) {
        if let Some(case) = self.cases.iter_mut().find(|case| case.alert == *alert && case.subject == *subject) {
            case.sent = false;
            case.told = Some(now.0);
        }
    }

    pub(super) fn firing(&self, alert: &str) -> u64 {
        self.cases.iter().filter(|case| case.firing && case.alert == alert).count() as u64
    }
}

/// What must be told of a case, if anything, and since when it lasts or lasted.
fn judge(case: &mut Case, rule: &Rule, finding: &Finding, now: UnixNanos) -> Option<(State, i64)> {
    let since = |then: i64| now.saturating_since(UnixNanos(then));
    let holds = match rule.when {
        When::Checksum => {
            if finding.value > case.seen {
                case.grew = Some(now.0);
            }
            case.seen = finding.value;
            case.grew = case.grew.filter(|grew| since(*grew) < rule.after());
            Some(case.grew.is_some())
        }
        When::Failed => match finding.holds {
            Some(true) => {
                let wrong = *case.wrong.get_or_insert(now.0);
                let lasts = since(wrong) >= Duration::from_secs_f64(finding.limit);
                (lasts || !case.firing).then_some(lasts)
            }
            Some(false) => {
                case.wrong = None;
                Some(false)
            }
            None => None,
        },
        _ => finding.holds,
    };
    let told = match (case.firing, holds) {
        (false, Some(true)) => {
            (case.firing, case.since, case.told, case.count, case.sent) = (true, now.0, None, 1, true);
            Some((State::Firing, now.0))
        }
        (true, Some(false)) => {
            (case.firing, case.sent) = (false, false);
            let began = std::mem::replace(&mut case.since, now.0);
            rule.resolved.then_some((State::Resolved, began))
        }
        (true, _) if !case.sent && case.told.is_none_or(|told| since(told) >= rule.repeat.0) => {
            // Not told before the deck ended: this is still the first time.
            case.count += u64::from(case.told.is_some());
            case.sent = true;
            Some((State::Firing, case.since))
        }
        _ => None,
    };
    if told.is_some() {
        // As it was told: what changes with every look is no news.
        case.words.clone_from(&finding.words);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Gaps, Service, Source};

    const S: i64 = 1_000_000_000;

    struct Desk {
        board: Board,
        rules: BTreeMap<String, Rule>,
        status: Status,
        at_s: i64,
    }

    impl Desk {
        fn new(rule: &str) -> Desk {
            let rule = Rule::from_table(format!("{rule}\ncommand = ['true']").parse().unwrap()).unwrap();
            let source = Source { name: "k".into(), last_heard_ms_ago: Some(0), ..Source::default() };
            let status = Status { sources: vec![source], ..Status::default() };
            Desk { board: Board::default(), rules: BTreeMap::from([("a".to_owned(), rule)]), status, at_s: 1_000 }
        }

        /// A look after so many seconds; what is told arrives at once.
        fn after(&mut self, seconds: i64) -> Vec<(State, u64)> {
            self.at_s += seconds;
            let now = UnixNanos(self.at_s * S);
            let told = self.board.look(&self.rules, &self.status, &Sender::default(), now);
            told.iter().for_each(|(key, _)| self.board.told(key, now));
            told.into_iter().map(|(_, message)| (message.state, message.count)).collect()
        }

        fn silent(&mut self, seconds: u64) {
            self.status.sources[0].last_heard_ms_ago = Some(seconds * 1_000);
        }
    }

    #[test]
    fn it_is_told_once_again_after_the_interval_and_when_it_is_over() {
        let mut desk = Desk::new("when = 'silent'\nafter = '10s'\nrepeat = '1m'");
        assert_eq!(desk.after(1), []);
        desk.silent(11);
        assert_eq!(desk.after(1), [(State::Firing, 1)]);
        assert_eq!(desk.after(59), []);
        assert_eq!(desk.after(1), [(State::Firing, 2)]);
        desk.silent(0);
        assert_eq!(desk.after(1), [(State::Resolved, 2)]);
        assert_eq!(desk.after(600), []);
        assert!(desk.board.cases.is_empty(), "nothing to remember: {:?}", desk.board);
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_what_was_not_told_again() {
        let mut desk = Desk::new("when = 'silent'\nafter = '10s'\nrepeat = '1m'");
        desk.silent(11);
        desk.at_s += 1;
        let told = desk.board.look(&desk.rules, &desk.status, &Sender::default(), UnixNanos(desk.at_s * S));
        assert_eq!(told.len(), 1, "on its way");
        assert_eq!(desk.after(1), [], "and not sent again meanwhile");
        let restart =
            |desk: &mut Desk| desk.board = serde_json::from_str(&serde_json::to_string(&desk.board).unwrap()).unwrap();
        restart(&mut desk);
        // Nothing was heard since the start: unknown, so it goes on.
        desk.status.sources[0].last_heard_ms_ago = None;
        assert_eq!(desk.after(1), [(State::Firing, 1)], "it never arrived");
        restart(&mut desk);
        assert_eq!(desk.after(30), []);
        desk.silent(0);
        assert_eq!(desk.after(1), [(State::Resolved, 1)]);
    }

    #[test]
    fn a_break_fires_until_there_was_none_for_a_while_and_counters_begin_anew() {
        let mut desk = Desk::new("when = 'checksum'\nafter = '1m'\nsource = 'k'");
        let breaks = |desk: &mut Desk, opened| {
            desk.status.gaps = vec![Gaps { source: "k".into(), cause: "checksum".into(), opened, ..Gaps::default() }];
        };
        assert_eq!(desk.after(1), []);
        breaks(&mut desk, 2);
        assert_eq!(desk.after(1), [(State::Firing, 1)]);
        breaks(&mut desk, 3);
        assert_eq!(desk.after(59), []);
        assert_eq!(desk.after(59), [], "the third one counts");
        assert_eq!(desk.after(1), [(State::Resolved, 1)]);
        desk.status.pid = 7;
        breaks(&mut desk, 1);
        assert_eq!(desk.after(1), [(State::Firing, 1)], "of another process");
    }

    #[test]
    fn a_service_must_fail_for_a_while() {
        let mut desk = Desk::new("when = 'failed'\nafter = '1m'");
        let state = |desk: &mut Desk, state: &str| {
            desk.status.services = vec![Service { name: "s".into(), state: state.into(), ..Service::default() }];
        };
        state(&mut desk, "failed: x");
        assert_eq!(desk.after(1), []);
        state(&mut desk, "starting");
        assert_eq!(desk.after(59), []);
        assert_eq!(desk.after(1), [(State::Firing, 1)]);
        state(&mut desk, "running");
        assert_eq!(desk.after(1), [(State::Resolved, 1)]);
        state(&mut desk, "failed: x");
        assert_eq!(desk.after(1), []);
    }

    #[test]
    fn who_is_gone_is_over_and_a_rule_that_is_gone_says_nothing() {
        let mut desk = Desk::new("when = 'silent'\nafter = '10s'");
        desk.silent(11);
        assert_eq!(desk.after(1), [(State::Firing, 1)]);
        let mut gone = desk.board.clone();
        desk.status.sources.clear();
        assert_eq!(desk.after(1), [(State::Resolved, 1)]);
        assert_eq!(gone.look(&BTreeMap::new(), &desk.status, &Sender::default(), UnixNanos(S)), []);
        assert!(gone.cases.is_empty());
    }
}
