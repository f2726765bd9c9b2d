//! The table of subscriptions in virtual time.

use serde_json::Value;

use super::*;

/// A venue that answers when told to, and a clock.
struct Desk {
    subs: Subs,
    start: Instant,
}

impl Desk {
    fn of(count: usize, channel: Channel) -> Desk {
        let start = Instant::now();
        let mut subs = Subs::new(10, None, start);
        for n in 0..count {
            subs.want(channel, SmolStr::from(format!("P{n:03}/USD")), Rhythm::default(), start);
        }
        Desk { subs, start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// What is sent at a moment, as (method, req_id, symbols).
    fn sent(&mut self, ms: u64) -> Vec<(String, u64, usize)> {
        let now = self.at(ms);
        self.subs.next(now).iter().map(|text| read(text)).collect()
    }

    fn ack(&mut self, ms: u64, n: usize, req_id: u64) -> Option<Key> {
        let now = self.at(ms);
        let ack = Ack {
            method: Method::Subscribe,
            channel: "book".into(),
            symbol: Some(SmolStr::from(format!("P{n:03}/USD"))),
            req_id: Some(req_id),
            depth: Some(10),
            interval: None,
            warnings: Vec::new(),
            time_out: None,
        };
        self.subs.acked(&ack, now)
    }

    fn refuse(&mut self, ms: u64, req_id: u64, error: &str) -> Vec<Key> {
        let now = self.at(ms);
        let error = error.to_owned();
        self.subs.refused(&Refusal { method: Method::Subscribe, symbol: None, req_id: Some(req_id), error }, now)
    }

    fn look(&mut self, ms: u64) -> Vec<Finding> {
        let now = self.at(ms);
        self.subs.look(now, true)
    }
}

fn read(text: &str) -> (String, u64, usize) {
    let text: Value = serde_json::from_str(text).unwrap();
    let symbols = text["params"]["symbol"].as_array().map_or(0, Vec::len);
    (text["method"].as_str().unwrap().to_owned(), text["req_id"].as_u64().unwrap(), symbols)
}

fn key(n: usize) -> Key {
    (Channel::Book, SmolStr::from(format!("P{n:03}/USD")))
}

#[test]
fn many_pairs_are_asked_for_in_chunks_at_a_pace() {
    let mut desk = Desk::of(230, Channel::Book);
    assert_eq!(desk.sent(0), [("subscribe".into(), 1, 100)]);
    assert_eq!(desk.sent(10), [], "not yet");
    assert_eq!(desk.sent(50), [("subscribe".into(), 2, 100)]);
    assert_eq!(desk.sent(100), [("subscribe".into(), 3, 30)]);
    assert_eq!(desk.subs.due_at(), None);
}

#[test]
fn a_refusal_in_a_chunk_is_pinned_to_its_symbol() {
    let mut desk = Desk::of(3, Channel::Book);
    desk.sent(0);
    assert_eq!(desk.refuse(1, 1, "Currency pair not supported"), [], "whose it is cannot be known yet");
    assert_eq!((desk.ack(2, 0, 1), desk.ack(3, 2, 1)), (Some(key(0)), Some(key(2))));
    assert_eq!(desk.look(600), [], "nobody is to be told");
    let alone = desk.sent(600);
    assert_eq!(alone.last(), Some(&("subscribe".into(), 3, 1)), "asked for alone");
    assert_eq!(desk.refuse(601, 3, "Currency pair not supported"), [key(1)]);
    assert_eq!(desk.subs.keys().count(), 2);
}

#[test]
fn what_was_live_before_is_asked_for_again_slowly_whatever_the_refusal_says() {
    let mut desk = Desk::of(1, Channel::Book);
    desk.subs.remember(&[(key(0).1, Channel::Book.name())]);
    let mut req_id = desk.sent(0)[0].1;
    let mut ms = 0;
    for wait_ms in [30_000, 60_000, 120_000, 240_000, 300_000, 300_000] {
        assert_eq!(desk.refuse(ms, req_id, "Currency pair not supported"), [key(0)]);
        assert_eq!(desk.subs.refused_keys().count(), 1);
        assert_eq!(desk.sent(ms + wait_ms - 1), [], "after {wait_ms} ms");
        ms += wait_ms;
        req_id = desk.sent(ms).last().unwrap().1;
    }
    desk.ack(ms, 0, req_id);
    assert_eq!(desk.subs.refused_keys().count(), 0);
}

#[test]
fn a_transient_refusal_is_asked_for_again_with_growing_waits() {
    let mut desk = Desk::of(1, Channel::Book);
    let mut req_id = desk.sent(0)[0].1;
    let mut ms = 0;
    for wait_ms in [1_000, 2_000, 4_000, 8_000] {
        assert_eq!(desk.refuse(ms, req_id, "EService:Unavailable"), []);
        assert_eq!(desk.sent(ms + wait_ms - 1), [], "after {wait_ms} ms");
        ms += wait_ms;
        req_id = desk.sent(ms).last().unwrap().1;
    }
}

#[test]
fn what_is_not_acked_within_ten_seconds_is_asked_for_again() {
    let mut desk = Desk::of(2, Channel::Book);
    desk.sent(0);
    desk.ack(5, 0, 1);
    let now = desk.at(6);
    desk.subs.get_mut(&key(0)).unwrap().heard(true, now);
    assert_eq!(desk.look(9_900), []);
    assert_eq!(desk.look(10_000), [Finding::Unanswered(key(1))]);
    assert_eq!(desk.sent(11_000), [("unsubscribe".into(), 2, 1), ("subscribe".into(), 3, 1)]);
}

#[test]
fn an_ack_without_a_snapshot_is_found_unless_nothing_was_ever_traded() {
    let mut desk = Desk::of(2, Channel::Book);
    desk.sent(0);
    desk.ack(5, 0, 1);
    desk.ack(5, 1, 1);
    desk.subs.get_mut(&key(1)).unwrap().untraded(true);
    assert_eq!(desk.look(10_005), [Finding::Owing(key(0), Duration::from_secs(10))]);
    assert_eq!(desk.look(60_000), [], "due again, and the other owes nothing");
}

#[test]
fn a_symbol_that_stalls_is_found_alone() {
    let mut desk = Desk::of(2, Channel::Book);
    desk.sent(0);
    for n in [0, 1] {
        desk.ack(1, n, 1);
        let now = desk.at(2);
        desk.subs.get_mut(&key(n)).unwrap().heard(true, now);
    }
    for ms in (0..60_000).step_by(100) {
        let now = desk.at(ms);
        desk.subs.get_mut(&key(0)).unwrap().heard(false, now);
        if ms < 20_000 {
            desk.subs.get_mut(&key(1)).unwrap().heard(false, now);
        }
        let found = desk.look(ms);
        if ms == 30_000 {
            assert_eq!(found, [Finding::Stalled(key(1), Duration::from_millis(10_100))]);
        } else {
            assert_eq!(found, [], "at {ms} ms");
        }
    }
}

#[test]
fn too_many_requests_halve_the_pace_and_are_asked_again() {
    let mut desk = Desk::of(300, Channel::Book);
    desk.sent(0);
    desk.sent(50);
    desk.subs.rate_exceeded(desk.at(60));
    assert_eq!(desk.sent(5_059), []);
    assert_eq!(desk.sent(5_060).len(), 2, "the venue may hold the first: unsubscribe, subscribe");
    assert_eq!(desk.sent(5_159), [], "the pace is slower");
    assert_eq!(desk.sent(5_160).len(), 2);
    assert_eq!(desk.sent(5_260).len(), 1, "never asked for: nothing to unsubscribe");
    assert_eq!(desk.ack(5_170, 150, 2), Some(key(150)), "a late ack of before counts");
}

#[test]
fn a_delisted_pair_is_unsubscribed_only_where_the_venue_holds_it() {
    let mut desk = Desk::of(2, Channel::Book);
    assert_eq!(desk.subs.drop_sub(&key(0), desk.at(0)), None);
    desk.sent(0);
    let text = desk.subs.drop_sub(&key(1), desk.at(1)).unwrap();
    assert_eq!(read(&text).0, "unsubscribe");
    assert_eq!(desk.subs.drop_sub(&key(1), desk.at(2)), None);
}
