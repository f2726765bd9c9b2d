use tapedeck_market::{Gap, GapCause, Point, Quote, Size, Trade};

use super::*;
use crate::config::BusTopic;
use crate::config::units::Interval;

const MS: i64 = 1_000_000;

fn event(at_ms: i64, symbol: &str, body: Body) -> Event {
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: None,
        ts_recv: UnixNanos(1_700_000_000_000_000_000 + at_ms * MS),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn trade(price: &str) -> Body {
    Body::Trade(Trade { price: price.parse().unwrap(), size: "2".parse().unwrap(), side: None, id: None })
}

fn quote(bid: &str, ask: &str) -> Body {
    let (bid, ask) = (bid.parse().ok(), ask.parse().ok());
    Body::Quote(Quote { bid, bid_size: Size::parse(b"1").ok(), ask, ask_size: None })
}

fn book(snapshot: bool, bid: &str, size: &str) -> Body {
    let level = Level { price: bid.parse().unwrap(), size: size.parse().unwrap(), orders: None };
    Body::Book(BookUpdate { snapshot, bids: vec![level], asks: Vec::new(), checksum: None, depth: Some(10) })
}

/// Feeds events from seq 1 on; (topic, seq, prev) of each message.
fn feed(engine: &mut Engine, events: impl IntoIterator<Item = Event>) -> Vec<Message> {
    let mut out = Vec::new();
    for (at, event) in events.into_iter().enumerate() {
        engine.apply(at as u64 + 1, event, &mut out);
    }
    out
}

fn places(messages: &[Message]) -> Vec<(&str, u64, u64)> {
    messages.iter().map(|message| (message.topic.as_str(), message.seq, message.prev)).collect()
}

#[test]
fn a_tick_is_what_is_known_and_nothing_else() {
    let mut engine = Engine::new(Arc::default(), None);
    let events = [event(0, "BTC/USD", trade("100.5")), event(1, "BTC/USD", quote("100", "101"))];
    let out = feed(&mut engine, events);
    assert_eq!(places(&out), [("kraken_tick", 1, 0), ("trade.kraken", 1, 0), ("kraken_tick", 2, 1)]);
    let Content::Tick(first) = &out[0].content else { panic!("{:?}", out[0]) };
    assert_eq!((first.last, first.bid), ("100.5".parse().ok(), None), "no price is invented");
    let Content::Tick(second) = &out[2].content else { panic!("{:?}", out[2]) };
    assert_eq!((second.last, second.bid, second.ask_size), ("100.5".parse().ok(), "100".parse().ok(), None));
}

#[test]
fn history_moves_no_tick() {
    let mut engine = Engine::new(Arc::default(), None);
    let mut old = event(1, "BTC/USD", trade("1"));
    old.flags = Flags::BACKFILLED;
    let out = feed(&mut engine, [event(0, "BTC/USD", trade("100")), old, event(2, "BTC/USD", quote("99", "101"))]);
    let ticks: Vec<_> = out.iter().filter(|message| message.topic == "kraken_tick").collect();
    assert_eq!(ticks.iter().map(|tick| tick.seq).collect::<Vec<_>>(), [1, 3]);
    assert!(matches!(&ticks[1].content, Content::Tick(tick) if tick.last == "100".parse().ok()));
}

#[test]
fn a_book_is_sent_whole_once_in_a_slot_in_the_order_of_the_tape() {
    let mut engine = Engine::new(Arc::default(), None);
    let out = feed(
        &mut engine,
        [
            event(0, "ETH/USD", book(true, "10", "1")),
            event(10, "BTC/USD", book(true, "100", "1")),
            event(20, "ETH/USD", book(false, "9", "2")),
            event(99, "ETH/USD", book(false, "10", "0")),
            event(100, "BTC/USD", book(false, "99", "1")),
            event(150, "BTC/USD", trade("100")),
        ],
    );
    let depth: Vec<_> = out.iter().filter(|message| message.topic == "kr_depth").cloned().collect();
    assert_eq!(places(&depth), [("kr_depth", 2, 0), ("kr_depth", 4, 2)]);
    let Content::Depth { bids, .. } = &depth[1].content else { panic!() };
    let levels: Vec<_> = bids.iter().map(|level| (level.price.to_string(), level.size.to_string())).collect();
    assert_eq!(levels, [("9".to_owned(), "2".to_owned())], "the whole book, not the change");

    let mut out = Vec::new();
    let now = |ms: i64| 1_700_000_000_000_000_000 + ms * MS;
    engine.quiet(now(299), &mut out);
    assert!(out.is_empty(), "a record of that slot may be on its way");
    engine.quiet(now(300), &mut out);
    assert_eq!(places(&out), [("kr_depth", 5, 4)], "nothing more comes, and still it is sent");
    assert!(!engine.is_waiting());
}

#[test]
fn a_book_that_is_not_known_to_be_right_is_not_sent() {
    let mut engine = Engine::new(Arc::default(), None);
    let gap = Gap {
        id: 1,
        state: GapState::Open,
        cause: GapCause::Checksum,
        channel: "book".into(),
        from: UnixNanos(0),
        to: None,
        missing: None,
        detail: SmolStr::default(),
    };
    let out = feed(
        &mut engine,
        [
            event(0, "BTC/USD", book(false, "98", "1")),
            event(1, "BTC/USD", book(true, "100", "1")),
            event(2, "BTC/USD", Body::Gap(Box::new(gap))),
            event(3, "BTC/USD", book(false, "99", "1")),
            event(500, "BTC/USD", trade("100")),
        ],
    );
    let topics: Vec<&str> = out.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics, ["gap", "kraken_tick", "trade.kraken"]);
}

#[test]
fn a_topic_that_is_conflated_sends_the_newest_of_each_instrument() {
    let pace = BusTopic { conflate: Some(Interval(std::time::Duration::from_secs(1))), ..BusTopic::default() };
    let mut bus = Bus::default();
    bus.topics.insert("kraken_tick".into(), pace);
    bus.topics.insert("trade".into(), BusTopic { enabled: false, ..BusTopic::default() });
    let mut engine = Engine::new(Arc::new(bus), None);
    let events = (0..25).map(|at| event(at * 100, if at % 2 == 0 { "A" } else { "B" }, trade(&at.to_string())));
    let out = feed(&mut engine, events);
    let expected = [("kraken_tick", 9, 0), ("kraken_tick", 10, 9), ("kraken_tick", 19, 10), ("kraken_tick", 20, 19)];
    assert_eq!(places(&out), expected);
}

#[test]
fn an_engine_that_begins_later_goes_on_with_the_same_messages() {
    let events = || {
        (0..400_i64).map(|at| match at % 4 {
            0 => event(at * 7, "A", book(at == 0, &(100 + at % 13).to_string(), &(1 + at % 3).to_string())),
            1 => event(at * 7, "B", trade(&at.to_string())),
            2 => event(at * 7, "A", quote("99", "101")),
            _ => event(at * 7, "B", book(at == 3, &(50 + at % 11).to_string(), "2")),
        })
    };
    let mut whole = Engine::new(Arc::default(), None);
    let all = feed(&mut whole, events());
    for topic in ["kr_depth", "kraken_tick", "trade.kraken"] {
        let mut only = Engine::new(Arc::default(), Some(topic.into()));
        let again = feed(&mut only, events());
        let published: Vec<_> = all.iter().filter(|message| message.topic == topic).cloned().collect();
        assert_eq!(again, published, "{topic}");
        assert!(again.len() > 20, "{topic}: {}", again.len());
        assert!(again.windows(2).all(|pair| pair[1].prev == pair[0].seq && pair[1].seq > pair[0].seq), "{topic}");
    }
}

#[test]
fn a_topic_too_many_is_dropped_and_counted() {
    let mut engine = Engine::new(Arc::default(), None);
    let point = |at: usize| {
        let name = SmolStr::new(format!("p{at}"));
        event(0, "", Body::Point(Box::new(Point { name, tags: Vec::new(), fields: Vec::new() })))
    };
    let out = feed(&mut engine, (0..TOPICS_MAX + 5).map(point));
    assert_eq!((out.len(), engine.dropped()), (TOPICS_MAX, 5));
}

#[test]
fn what_was_passed_over_unread_is_a_hole_in_every_topic() {
    let mut engine = Engine::new(Arc::default(), None);
    engine.restore_last("kraken_tick", 4);
    engine.passed_over(9);
    let mut out = Vec::new();
    engine.apply(12, event(0, "BTC/USD", quote("100", "101")), &mut out);
    engine.apply(13, event(1, "BTC/USD", trade("100")), &mut out);
    assert_eq!(places(&out), [("kraken_tick", 12, 9), ("kraken_tick", 13, 12), ("trade.kraken", 13, 9)]);
}
