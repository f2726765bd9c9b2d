//! What is to be sent: of each topic the newest, and no more.

use std::collections::VecDeque;

use super::link::Client;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// At least once; otherwise at most once.
    pub acknowledged: bool,
    /// The broker gives it to whoever comes later.
    pub retained: bool,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Message>,
    replaced: u64,
}

impl Outbox {
    /// Adds a message in the place of an older one of its topic.
    pub(super) fn put(&mut self, message: Message) {
        match self.messages.iter_mut().find(|one| one.topic == message.topic) {
            Some(older) => {
                *older = message;
                self.replaced += 1;
            }
            None => self.messages.push_back(message),
        }
    }

    /// Hands over what the client takes now; the rest stays.
    pub(super) fn send(&mut self, client: &Client) {
        while let Some(message) = self.messages.front() {
            if !client.take(message) {
                return;
            }
            self.messages.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Messages that were never sent, because a newer one came.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_message_takes_the_place_of_the_older_one_of_its_topic() {
        let message = |topic: &str, text: &str| Message {
            topic: topic.into(),
            payload: text.into(),
            acknowledged: true,
            retained: false,
        };
        let mut outbox = Outbox::default();
        for (topic, text) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")] {
            outbox.put(message(topic, text));
        }
        assert_eq!(outbox.messages, [message("a", "3"), message("b", "1")]);
        assert_eq!(outbox.replaced(), 2);
    }
}
