//! Streams of tickers, quotes, books and losses, thrown by dice: the naive implementation must say the same.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tapedeck::config::units::Interval;
use tapedeck::config::{Globs, Synthetic, When};
use tapedeck::synthetic::Maker;
use tapedeck_market::{
    Body, BookUpdate, Event, Flags, Gap, GapCause, GapState, Level, Quote, SmolStr, Status, Ticker, UnixNanos,
};

use super::{made, naive, said};

const PAIRS: [(&str, i64); 6] = [
    ("BTC/USD", 5_406_150),
    ("BTC/EUR", 5_000_000),
    ("ETH/USD", 216_220),
    ("ETH/EUR", 200_000),
    ("EUR/USD", 108_100),
    ("SOL/EUR", 15_000),
];
const BEGIN: i64 = 1_767_607_200_000_000_000;

/// One record, before it has its time.
#[derive(Clone, Debug)]
struct Step {
    wait_ms: i64,
    pair: usize,
    source: u8,
    /// In hundredths: offsets of bid and ask; rarely far off.
    bid: i64,
    ask: i64,
    size: i64,
    what: What,
    /// The venue's time: none, our own, or off by so many ms.
    time: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Quote,
    Ticker,
    OneSided,
    Silent,
    Snapshot,
    Change,
    Remove,
    Gap(&'static str, bool),
    GapOfAll,
    Ended(&'static str),
    Other,
    Backfilled,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        14 => Just(What::Quote),
        14 => Just(What::Ticker),
        1 => Just(What::OneSided),
        1 => Just(What::Silent),
        10 => Just(What::Snapshot),
        16 => Just(What::Change),
        2 => Just(What::Remove),
        1 => prop_oneof![Just(""), Just("ticker"), Just("book"), Just("trade")].prop_map(|of| What::Gap(of, true)),
        1 => prop_oneof![Just("ticker"), Just("book")].prop_map(|of| What::Gap(of, false)),
        1 => Just(What::GapOfAll),
        1 => prop_oneof![Just("ticker"), Just("book")].prop_map(What::Ended),
        1 => Just(What::Other),
        1 => Just(What::Backfilled),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || prop_oneof![12 => -40_i64..40, 1 => -4_000_000_i64..9_000_000];
    let wait = prop_oneof![10 => 0_i64..2_000, 1 => 5_000_i64..40_000];
    let time = prop_oneof![6 => Just(Some(0)), 1 => Just(None), 2 => (-15_000_i64..3_000).prop_map(Some), 1 => Just(Some(i64::MIN))];
    let source = prop_oneof![6 => Just(0_u8), 1 => Just(1_u8)];
    (wait, 0..PAIRS.len(), source, offset(), offset(), 0_i64..5, what(), time).prop_map(
        |(wait_ms, pair, source, bid, ask, size, what, time)| Step {
            wait_ms,
            pair,
            source,
            bid,
            ask,
            size,
            what,
            time,
        },
    )
}

fn hundredths(n: i64) -> String {
    format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100)
}

fn events(steps: &[Step]) -> Vec<Event> {
    let mut now = BEGIN;
    steps.iter().map(|step| event(step, &mut now)).collect()
}

fn event(step: &Step, now: &mut i64) -> Event {
    *now += step.wait_ms * 1_000_000;
    let (symbol, price) = PAIRS[step.pair];
    let (low, high) = (price + step.bid.min(step.ask), price + step.bid.max(step.ask));
    let (bid, ask) = (hundredths(low).parse().ok(), hundredths(high).parse().ok());
    let level = |n: i64, size: i64| Level {
        price: hundredths(n).parse().unwrap(),
        size: size.to_string().parse().unwrap(),
        orders: None,
    };
    let quote = Quote { bid, ask, ..Quote::default() };
    let body = match step.what {
        What::Quote | What::Other | What::Backfilled => Body::Quote(quote),
        What::Ticker => Body::Ticker(Box::new(Ticker { bid, ask, ..Ticker::default() })),
        What::OneSided => Body::Quote(Quote { ask: None, ..quote }),
        What::Silent => Body::Ticker(Box::new(Ticker { last: bid, ..Ticker::default() })),
        What::Snapshot => Body::Book(BookUpdate {
            snapshot: true,
            bids: vec![level(price - 1, 7), level(price - 2, 7)],
            asks: vec![level(price + 1, 7), level(price + 2, 7)],
            checksum: None,
            depth: None,
        }),
        What::Change => Body::Book(BookUpdate {
            bids: vec![level(price + step.bid % 4 - 3, step.size)],
            asks: vec![level(price + step.ask % 4 + 3, 5 - step.size)],
            ..BookUpdate::default()
        }),
        What::Remove => {
            Body::Book(BookUpdate { bids: (1..8).map(|n| level(price - n, 0)).collect(), ..BookUpdate::default() })
        }
        What::Gap(channel, open) => Body::Gap(Box::new(gap(channel, open))),
        What::GapOfAll => Body::Gap(Box::new(gap("", true))),
        What::Ended(channel) => Body::Status(Status {
            topic: "subscription".into(),
            state: "ended".into(),
            detail: vec![("channel".into(), channel.into())],
        }),
    };
    let of_all = matches!(step.what, What::GapOfAll);
    Event {
        source: SmolStr::new(format!("source-{}", step.source)),
        venue: if matches!(step.what, What::Other) { "elsewhere".into() } else { "kraken".into() },
        symbol: if of_all { SmolStr::default() } else { symbol.into() },
        ts_event: step.time.map(|off| UnixNanos(now.saturating_add(off.saturating_mul(1_000_000)))),
        ts_recv: UnixNanos(*now),
        flags: if matches!(step.what, What::Backfilled) { Flags::BACKFILLED } else { Flags::NONE },
        origin: None,
        body,
    }
}

fn gap(channel: &'static str, open: bool) -> Gap {
    Gap {
        id: 1,
        state: if open { GapState::Open } else { GapState::Closed },
        cause: GapCause::Session,
        channel: channel.into(),
        from: UnixNanos(BEGIN),
        to: None,
        missing: None,
        detail: SmolStr::default(),
    }
}

fn table() -> impl Strategy<Value = Synthetic> {
    let symbols = prop_oneof![4 => Just(Vec::new()), 1 => Just(vec!["BTC/*".to_owned()])];
    let depth = prop_oneof![Just(When::Spread), Just(When::Always), Just(When::Never)];
    let max = prop_oneof![Just("2"), Just("1.0815")];
    (symbols, depth, 1_u64..60, max).prop_map(|(symbols, depth, age, max)| Synthetic {
        symbols: Globs(symbols),
        depth,
        max_age: Interval(Duration::from_secs(age)),
        max: max.to_owned(),
        ..Synthetic::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_naive_implementation_says_the_same(steps in prop::collection::vec(step(), 1..150), table in table()) {
        let events = events(&steps);
        prop_assert_eq!(made(&table.recipe().unwrap(), &events), naive::all(&events, &table));
    }

    /// A state in the middle, and what comes after it is the same; a state of which a byte is wrong is none.
    #[test]
    fn a_run_from_a_saved_state_goes_on_as_if_nothing_had_been(
        steps in prop::collection::vec(step(), 2..100), at in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>()
    ) {
        let (events, recipe) = (events(&steps), Synthetic::default().recipe().unwrap());
        let at = at.index(events.len());
        let mut first = Maker::new(recipe.clone());
        events[..at].iter().for_each(|event| first.record(event));
        let _ = first.take_said(UnixNanos(BEGIN));
        let mut state = first.state(77);
        let (mut second, seq) = Maker::resume(recipe.clone(), &state).unwrap();
        prop_assert_eq!(seq, 77);
        prop_assert_eq!(second.state(77), state.clone());
        for event in &events[at..] {
            first.record(event);
            second.record(event);
        }
        let [first, second] = [first, second].map(|mut maker| maker.take_said(UnixNanos(BEGIN)));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(
            made(&recipe, &events)[..].iter().rev().take(first.len()).rev().cloned().collect::<Vec<_>>(),
            first.iter().map(said).collect::<Vec<_>>()
        );
        let flip = flip.index(state.len());
        state[flip] ^= 1;
        prop_assert!(Maker::resume(recipe.clone(), &state).is_none());
        prop_assert!(Maker::resume(recipe, &state[..flip]).is_none());
    }
}

/// The dice are worth their while: most streams say something.
#[test]
fn the_streams_of_the_dice_say_something() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let recipe = Synthetic { depth: When::Always, ..Synthetic::default() }.recipe().unwrap();
    let (mut ticks, mut depths) = (0, 0);
    for _ in 0..50 {
        let steps = prop::collection::vec(step(), 100).new_tree(&mut runner).unwrap().current();
        let said = made(&recipe, &events(&steps));
        ticks += said.iter().filter(|event| event.symbol == "KR_EURUSD").count();
        depths += said.iter().filter(|event| event.symbol == "KR_EURUSD_DEPTH").count();
    }
    assert!(ticks > 200 && depths > 50, "{ticks} and {depths} of 50 streams");
}
