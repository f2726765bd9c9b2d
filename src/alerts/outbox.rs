//! What is on its way: the newest message of each alert and subject, tried a few times.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::board::Key;
use super::message::Message;
use super::send::{Hopeless, Target};

/// Who does not take a message in so many tries, over some minutes, is told again after `repeat`.
const TRIES: u32 = 8;
/// The first wait after a failure, doubled with each that follows, and the longest.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Requests and commands at the same time.
pub(super) const AT_ONCE: usize = 4;
/// Messages that wait: one an alert and subject, so that only a config with a great many rules comes near.
const WAITING: usize = 1_000;

#[derive(Debug)]
struct Waiting {
    message: Message,
    left: Vec<Target>,
    tries: u32,
    due: Instant,
    /// It is being sent; what came meanwhile waits behind it.
    sending: bool,
    next: Option<(Message, Vec<Target>)>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub key: Key,
    pub target: Target,
    pub message: Message,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<Key, Waiting>,
    pub sent: u64,
    pub failures: u64,
    /// Messages that nobody took.
    pub lost: u64,
}

impl Outbox {
    /// Takes a message in the place of an older one of the same alert and subject.
    pub(super) fn put(&mut self, key: Key, message: Message, targets: Vec<Target>, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            if waiting.sending {
                waiting.next = Some((message, targets));
            } else {
                (waiting.message, waiting.left, waiting.tries, waiting.due) = (message, targets, 0, now);
            }
            return;
        }
        if self.waiting.len() >= WAITING {
            self.lost += 1;
            return;
        }
        let waiting = Waiting { message, left: targets, tries: 0, due: now, sending: false, next: None };
        self.waiting.insert(key, waiting);
    }

    /// The next attempt, if one is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Attempt> {
        let (key, waiting) = self.waiting.iter_mut().find(|(_, waiting)| !waiting.sending && waiting.due <= now)?;
        let target = *waiting.left.first()?;
        waiting.sending = true;
        Some(Attempt { key: key.clone(), target, message: waiting.message.clone() })
    }

    /// How an attempt went. True: the message is done with, taken or not.
    pub(super) fn ended(&mut self, attempt: &Attempt, result: &anyhow::Result<()>, now: Instant) -> bool {
        let Some(waiting) = self.waiting.get_mut(&attempt.key) else { return false };
        waiting.sending = false;
        match result {
            Ok(()) => {
                self.sent += 1;
                waiting.left.retain(|target| *target != attempt.target);
                (waiting.tries, waiting.due) = (0, now);
            }
            Err(error) => {
                self.failures += 1;
                waiting.tries += 1;
                let wait = SHORTEST_WAIT.saturating_mul(1 << waiting.tries.min(10).saturating_sub(1)).min(LONGEST_WAIT);
                waiting.due = now + wait;
                if waiting.tries >= TRIES || error.is::<Hopeless>() {
                    self.lost += 1;
                    waiting.left.retain(|target| *target != attempt.target);
                    (waiting.tries, waiting.due) = (0, now);
                }
            }
        }
        if let Some((message, targets)) = waiting.next.take() {
            (waiting.message, waiting.left, waiting.tries, waiting.due) = (message, targets, 0, now);
            return false;
        }
        let done = waiting.left.is_empty();
        if done {
            self.waiting.remove(&attempt.key);
        }
        done
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::Finding;
    use super::super::message::{Sender, State};
    use super::super::rule::When;
    use super::*;

    fn message(words: &str) -> Message {
        let finding = Finding { holds: None, value: 0.0, limit: 0.0, unit: "", words: words.to_owned() };
        Message::new("a", State::Firing, When::Gap, "s", &finding, &Sender::default())
    }

    fn key() -> Key {
        ("a".to_owned(), "s".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_target_takes_it_once_and_a_failure_waits_longer_each_time() {
        let mut outbox = Outbox::default();
        let both = vec![Target::Webhook, Target::Command];
        outbox.put(key(), message("one"), both, Instant::now());
        let first = outbox.take(Instant::now()).unwrap();
        assert!(first.target == Target::Webhook && outbox.take(Instant::now()).is_none());
        assert!(!outbox.ended(&first, &Ok(()), Instant::now()));
        let mut waits = Vec::new();
        loop {
            let begun = Instant::now();
            let attempt = loop {
                if let Some(attempt) = outbox.take(Instant::now()) {
                    break attempt;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            };
            waits.push(begun.elapsed().as_secs());
            assert_eq!(attempt.target, Target::Command);
            if outbox.ended(&attempt, &Err(anyhow::anyhow!("no")), Instant::now()) {
                break;
            }
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!((outbox.sent, outbox.failures, outbox.lost, outbox.len()), (1, 8, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_newer_takes_the_place_of_what_waits_and_follows_what_is_on_its_way() {
        let mut outbox = Outbox::default();
        let now = Instant::now();
        outbox.put(key(), message("one"), vec![Target::Webhook], now);
        outbox.put(key(), message("two"), vec![Target::Webhook], now);
        let two = outbox.take(now).unwrap();
        assert!(two.message.text.ends_with("two"), "{two:?}");
        outbox.put(key(), message("three"), vec![Target::Webhook], now);
        assert!(!outbox.ended(&two, &Ok(()), now));
        let three = outbox.take(now).unwrap();
        assert!(three.message.text.ends_with("three"), "{three:?}");
        assert!(outbox.ended(&three, &Err(Hopeless("404".into()).into()), now), "another try changes nothing");
        assert_eq!((outbox.len(), outbox.lost), (0, 1));
    }
}
