//! The rules one by one: flags, gaps, timers, repair, sessions, running totals, what is no input.

use tapedeck::candles::{CANDLES, Maker, UNREVISABLE};
use tapedeck::derive::time_event;
use tapedeck_market::{
    Body, Candle, CandleFlags, CandleInput, Event, Flags, Gap, GapCause, GapState, Record, Status, Ticker, UnixNanos,
};

use super::{DAY, HOUR, MINUTE, Recorded, SECOND, event, latest, make, numbered, quote, recipe, statements, trade};

/// 2026-01-05T10:00:00Z, a Monday.
const TEN: i64 = 1_767_607_200 * SECOND;
const DELAY: i64 = 50_000_000;

/// A trade of `symbol`, received a little later.
fn traded(symbol: &str, at: i64, price: &str) -> Event {
    event("fake", symbol, at, at + DELAY, trade(price, "1"))
}

fn subscription(symbol: &str, at: i64, state: &str) -> Event {
    let detail = vec![("channel".into(), "trade".into())];
    let body = Body::Status(Status { topic: "subscription".into(), state: state.into(), detail });
    Event { ts_event: None, ..event("fake", symbol, at, at, body) }
}

fn gap(symbol: &str, channel: &str, state: GapState, from: i64, to: Option<i64>, at: i64) -> Event {
    let gap = Gap {
        id: 7,
        state,
        cause: GapCause::Session,
        channel: channel.into(),
        from: UnixNanos(from),
        to: to.map(UnixNanos),
        missing: None,
        detail: "".into(),
    };
    Event { ts_event: None, ..event("fake", symbol, at, at, Body::Gap(Box::new(gap))) }
}

fn minutes(events: Vec<Event>) -> Vec<Vec<Candle>> {
    let said = make(&recipe(&[MINUTE], CandleInput::Trades, "utc"), &numbered(events));
    statements(&said).into_values().collect()
}

fn flags(candle: &Candle) -> Vec<&'static str> {
    candle.flags.names().collect()
}

/// Records until nothing of the buckets before `at` is open.
fn later(symbol: &str, at: i64) -> Event {
    traded(symbol, at + 10 * MINUTE, "1")
}

#[test]
fn a_candle_is_complete_only_if_its_feed_was_heard_from_its_start() {
    let events = |heard: i64| vec![subscription("A", heard, "live"), traded("A", TEN + SECOND, "5"), later("A", TEN)];
    assert_eq!(flags(&minutes(events(TEN - SECOND))[0][0]), ["complete"], "subscribed before, and quiet");
    assert_eq!(flags(&minutes(events(TEN + 1))[0][0]), ["partial"], "subscribed inside of it");
    let unknown = vec![traded("A", TEN + SECOND, "5"), traded("A", TEN + MINUTE, "6"), later("A", TEN)];
    let unknown = minutes(unknown);
    assert_eq!((flags(&unknown[0][0]), flags(&unknown[1][0])), (vec!["partial"], vec!["complete"]));
}

#[test]
fn a_gap_marks_the_candles_it_overlaps_and_no_others() {
    for (channel, marked) in [("trade", true), ("", true), ("book", false)] {
        let said = make(
            &recipe(&[MINUTE], CandleInput::Trades, "utc"),
            &numbered(vec![
                subscription("A", TEN - HOUR, "live"),
                subscription("B", TEN - HOUR, "live"),
                traded("A", TEN + SECOND, "5"),
                traded("B", TEN + SECOND, "5"),
                traded("A", TEN + MINUTE + SECOND, "6"),
                gap("A", channel, GapState::Open, TEN + 70 * SECOND, None, TEN + 80 * SECOND),
                // The next bucket begins and ends inside the gap, and some trade of it came all the same.
                traded("A", TEN + 125 * SECOND, "6.5"),
                gap("A", channel, GapState::Closed, TEN + 70 * SECOND, Some(TEN + 200 * SECOND), TEN + 200 * SECOND),
                traded("A", TEN + 210 * SECOND, "7"),
                traded("A", TEN + 250 * SECOND, "8"),
                later("A", TEN),
                later("B", TEN),
            ]),
        );
        let all = latest(&said);
        let of = |symbol: &str, minute: i64| flags(&all[&(symbol.to_owned(), MINUTE, TEN + minute * MINUTE)]);
        let gap = if marked { vec!["gap"] } else { vec!["complete"] };
        let got: Vec<_> = (0..5).map(|minute| of("A", minute)).collect();
        assert_eq!(got, [vec!["complete"], gap.clone(), gap.clone(), gap, vec!["complete"]], "channel `{channel}`");
        assert_eq!(of("B", 0), ["complete"], "another instrument");
    }
}

#[test]
fn a_gap_that_is_repaired_gives_a_revision_without_it_and_what_was_fetched_is_not_the_close() {
    let mut fetched = traded("A", TEN + 20 * SECOND, "9");
    fetched.ts_recv = UnixNanos(TEN + 5 * MINUTE);
    fetched.flags = Flags::BACKFILLED;
    let closed = Some(TEN + 30 * SECOND);
    let all = minutes(vec![
        subscription("A", TEN - HOUR, "live"),
        traded("A", TEN + SECOND, "5"),
        gap("A", "trade", GapState::Open, TEN + 10 * SECOND, None, TEN + 15 * SECOND),
        gap("A", "trade", GapState::Closed, TEN + 10 * SECOND, closed, TEN + 30 * SECOND),
        traded("A", TEN + 40 * SECOND, "6"),
        traded("A", TEN + 2 * MINUTE, "6"),
        fetched,
        gap("A", "trade", GapState::Repaired, TEN + 10 * SECOND, closed, TEN + 5 * MINUTE + 1),
        later("A", TEN),
    ]);
    let [first, second] = &all[0][..] else { panic!("{:#?}", all[0]) };
    assert_eq!(flags(first), ["gap"]);
    assert_eq!(flags(second), ["complete", "revised", "backfilled"]);
    let prices = [second.open, second.high, second.low, second.close].map(|price| price.to_string());
    assert_eq!(prices, ["5", "9", "5", "6"]);
    assert_eq!((second.trades, second.revision), (Some(3), 1));
}

#[test]
fn a_quiet_instrument_closes_when_any_record_says_that_its_time_is_over() {
    let of_two = |last: Event| {
        let records = numbered(vec![subscription("A", TEN - HOUR, "live"), traded("A", TEN + SECOND, "5"), last]);
        let mut maker = Maker::new(recipe(&[MINUTE], CandleInput::Trades, "utc"));
        for record in &records {
            maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
        }
        (maker.take_said(UnixNanos::EPOCH).len(), maker.due())
    };
    // Lateness and the instrument's own delay, in its steps, after the end of the bucket.
    let due = TEN + MINUTE + 2 * SECOND + (1 << 27);
    assert_eq!(of_two(traded("B", due - 2 * DELAY, "1")).0, 0, "too early");
    assert_eq!(of_two(traded("B", due, "1")).0, 1, "a trade of another");
    assert_eq!(of_two(time_event(CANDLES, UnixNanos(due))).0, 1, "a record that only says what time it is");
    assert_eq!(of_two(time_event(CANDLES, UnixNanos(due - 1))), (0, Some(UnixNanos(due))), "which is asked for");
}

#[test]
fn a_recording_of_another_year_closes_by_its_own_time_alone() {
    let old = |symbol: &str, at: i64, now: i64| event("fake", symbol, at, now, trade("5", "1"));
    let year = 365 * DAY;
    let records = numbered(vec![
        old("A", TEN - 12 * year, TEN),
        old("B", TEN, TEN + HOUR),
        old("A", TEN - 12 * year + MINUTE, TEN + 2 * HOUR),
        old("A", TEN - 12 * year + 2 * MINUTE, TEN + 2 * HOUR),
    ]);
    let mut maker = Maker::new(recipe(&[MINUTE], CandleInput::Trades, "utc"));
    let mut said = Vec::new();
    for record in &records {
        maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
        said.push(maker.take_said(UnixNanos::EPOCH).iter().filter(|event| event.symbol == "A").count());
    }
    assert_eq!(said, [0, 0, 0, 1], "the first minute closes when the watermark is two seconds beyond it");
}

#[test]
fn late_ticks_of_a_bucket_that_the_tape_has_lost_are_reported() {
    let mut late = traded("A", TEN + 2 * SECOND, "9");
    late.ts_recv = UnixNanos(TEN + HOUR);
    let records: Vec<Record> = numbered(vec![
        traded("A", TEN + SECOND, "5"),
        traded("A", TEN + 5 * MINUTE, "6"),
        late,
        traded("A", TEN + HOUR + MINUTE, "7"),
    ]);
    for (first, want) in [(0, (2, 0)), (1, (1, 1))] {
        let mut maker = Maker::new(recipe(&[MINUTE], CandleInput::Trades, "utc"));
        let mut said = Vec::new();
        for record in &records {
            maker.record(record.seq, &record.event, &mut Recorded { records: &records, first }).unwrap();
            said.extend(maker.take_said(UnixNanos::EPOCH));
        }
        let of_first = said.iter().filter(|event| event.ts_event == Some(UnixNanos(TEN)));
        let (candles, reports): (Vec<_>, Vec<_>) = of_first.partition(|event| matches!(event.body, Body::Candle(_)));
        let reported =
            reports.iter().all(|event| matches!(&event.body, Body::Status(status) if status.state == UNREVISABLE));
        assert!(reported, "{reports:?}");
        assert_eq!((candles.len(), reports.len()), want, "with the records from {first} on");
        assert_eq!(maker.counts().0.unrevisable, want.1 as u64);
    }
}

#[test]
fn candles_are_no_input_and_no_time_and_absurd_times_move_nothing() {
    let ticks = vec![traded("A", TEN + SECOND, "5"), traded("A", TEN + 2 * SECOND, "6")];
    let want = minutes(ticks.clone());
    let own = make(&recipe(&[MINUTE], CandleInput::Trades, "utc"), &numbered(vec![traded("A", TEN - HOUR, "4")]));
    let mut later_own = own[0].clone();
    later_own.ts_recv = UnixNanos(TEN + DAY);
    let mut venues = later_own.clone();
    (venues.flags, venues.source, venues.ts_recv) = (Flags::NONE, "fake-source".into(), UnixNanos(TEN + 2 * SECOND));
    let mut ancient = traded("A", TEN + 2 * SECOND, "1");
    ancient.ts_event = Some(UnixNanos(0));
    let ahead = event("fake", "A", TEN + 3 * DAY, TEN + 2 * SECOND, trade("1", "1"));
    let mixed = vec![ticks[0].clone(), later_own, venues, ancient, ahead, ticks[1].clone()];
    let got: Vec<Vec<Candle>> = minutes(mixed);
    assert_eq!(got, want);
}

#[test]
fn outside_of_the_session_nothing_makes_a_candle() {
    // 15:30 in Kolkata is 10:00 UTC.
    let recipe = recipe(&[HOUR], CandleInput::Trades, "09:15-15:30 Asia/Kolkata Mon-Fri");
    let events = vec![
        traded("A", TEN - SECOND, "5"),
        traded("A", TEN, "6"),
        traded("A", TEN + HOUR, "7"),
        traded("A", TEN - 2 * DAY - SECOND, "8"),
    ];
    let all = latest(&make(&recipe, &numbered(events)));
    let starts: Vec<i64> = all.keys().map(|(_, _, start)| *start).collect();
    assert_eq!(starts, [TEN - HOUR / 4], "the last bucket of the session, which has a quarter of an hour");
    assert_eq!(all.values().next().unwrap().close.to_string(), "5");
}

#[test]
fn the_middle_of_bid_and_ask_is_exact_and_an_empty_side_is_no_price() {
    let mut one_sided = event("oanda", "EUR_USD", TEN + SECOND, TEN + SECOND, quote("1.1", "1.2"));
    if let Body::Quote(quote) = &mut one_sided.body {
        quote.ask = None;
    }
    let ticker =
        Ticker { bid: Some("1.08250".parse().unwrap()), ask: Some("1.08261".parse().unwrap()), ..Ticker::default() };
    let events = vec![
        event("oanda", "EUR_USD", TEN, TEN, quote("1.08230", "1.08245")),
        one_sided,
        event("oanda", "EUR_USD", TEN + 2 * SECOND, TEN + 2 * SECOND, Body::Ticker(Box::new(ticker))),
    ];
    let all = latest(&make(&recipe(&[MINUTE], CandleInput::Mid, "utc"), &numbered(events)));
    let candle = all.values().next().unwrap();
    assert_eq!((candle.open.to_string(), candle.close.to_string()), ("1.082375".into(), "1.082555".into()));
    assert_eq!((candle.volume, candle.vwap, candle.trades), (None, None, Some(2)));
    assert!(candle.flags.contains(CandleFlags::PARTIAL), "it was open at the end");
}

#[test]
fn running_totals_give_what_was_traded_also_when_a_bucket_is_read_again() {
    let tick = |at: i64, now: i64, price: &str, total: &str| {
        let mut ticker = Ticker { last: Some(price.parse().unwrap()), ..Ticker::default() };
        ticker.today.volume = Some(total.parse().unwrap());
        event("kite", "INFY", at, now, Body::Ticker(Box::new(ticker)))
    };
    let next_day = TEN + DAY;
    let events = vec![
        tick(TEN, TEN, "10", "1000"),
        tick(TEN + SECOND, TEN + SECOND, "11", "1500"),
        // A step backward trades nothing, and what follows counts from the highest.
        tick(TEN + 2 * SECOND, TEN + 2 * SECOND, "11", "1400"),
        tick(TEN + 3 * SECOND, TEN + 3 * SECOND, "12", "1600"),
        tick(TEN + MINUTE, TEN + MINUTE, "12", "4600"),
        // A new day: the total begins again.
        tick(next_day, next_day, "13", "300"),
        tick(next_day + SECOND, next_day + SECOND, "13", "450"),
        tick(next_day + 5 * MINUTE, next_day + 5 * MINUTE, "13", "500"),
        // Late, with a total of its own time.
        tick(next_day + 2 * SECOND, next_day + 6 * MINUTE, "14", "470"),
        tick(next_day + 7 * MINUTE, next_day + 7 * MINUTE, "13", "500"),
    ];
    let said = make(&recipe(&[MINUTE], CandleInput::Trades, "utc"), &numbered(events));
    let all = statements(&said);
    let volumes = |start: i64| -> Vec<String> {
        let of = &all[&("INFY".to_owned(), MINUTE, start)];
        of.iter().map(|candle| candle.volume.unwrap().to_string()).collect()
    };
    assert_eq!(volumes(TEN), ["600"]);
    assert_eq!(volumes(TEN + MINUTE), ["3000"]);
    assert_eq!(volumes(next_day), ["450", "450"], "stated, and stated again with the late price");
}
