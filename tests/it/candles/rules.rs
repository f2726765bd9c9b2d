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

/// A last price, and what was traded of the day so far.
fn running(at: i64, now: i64, price: &str, total: &str) -> Event {
    let mut ticker = Ticker { last: Some(price.parse().unwrap()), ..Ticker::default() };
    ticker.today.volume = Some(total.parse().unwrap());
    event("kite", "INFY", at, now, Body::Ticker(Box::new(ticker)))
}

/// The same of that second, heard at once.
fn total(second: i64, total: i64) -> Event {
    let at = TEN + second * SECOND;
    running(at, at, "10", &total.to_string())
}

/// A minute of Kite's own, in which it says that 700 were traded.
fn minute_of_kite(minute: i64) -> Event {
    let (start, prices) = (TEN + minute * MINUTE, ["10", "12", "9", "10"]);
    fetched("kite", "INFY", CandleInput::Venue, MINUTE, start, prices, TEN + 400 * SECOND)
}

#[test]
fn running_totals_give_what_was_traded_also_when_a_bucket_is_read_again() {
    let next_day = TEN + DAY;
    let events = vec![
        running(TEN, TEN, "10", "1000"),
        running(TEN + SECOND, TEN + SECOND, "11", "1500"),
        // A step backward trades nothing, and what follows counts from the highest.
        running(TEN + 2 * SECOND, TEN + 2 * SECOND, "11", "1400"),
        running(TEN + 3 * SECOND, TEN + 3 * SECOND, "12", "1600"),
        running(TEN + MINUTE, TEN + MINUTE, "12", "4600"),
        // A new day: the total begins again.
        running(next_day, next_day, "13", "300"),
        running(next_day + SECOND, next_day + SECOND, "13", "450"),
        running(next_day + 5 * MINUTE, next_day + 5 * MINUTE, "13", "500"),
        // Late, with a total of its own time.
        running(next_day + 2 * SECOND, next_day + 6 * MINUTE, "14", "470"),
        running(next_day + 7 * MINUTE, next_day + 7 * MINUTE, "13", "500"),
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

/// A bid for euros, that second.
fn euro(second: i64, bid: &str) -> Event {
    let at = TEN + second * SECOND;
    event("oanda", "EUR_USD", at, at + DELAY, quote(bid, "2"))
}

/// A candle of the venue's own, fetched for a hole at `now`.
fn fetched(
    venue: &str,
    symbol: &str,
    input: CandleInput,
    length: i64,
    start: i64,
    prices: [&str; 4],
    now: i64,
) -> Event {
    let [open, high, low, close] = prices.map(|price| price.parse().unwrap());
    let candle = Candle {
        interval_ns: length,
        start: UnixNanos(start),
        open,
        high,
        low,
        close,
        volume: (input == CandleInput::Venue).then(|| "700".parse::<tapedeck_market::Decimal>().unwrap().into()),
        vwap: None,
        trades: (input != CandleInput::Venue).then_some(9),
        flags: CandleFlags(CandleFlags::COMPLETE.0 | CandleFlags::BACKFILLED.0),
        revision: 0,
        input,
    };
    Event { flags: Flags::BACKFILLED, ..event(venue, symbol, start, now, Body::Candle(Box::new(candle))) }
}

fn four(candle: &Candle) -> [String; 4] {
    [candle.open, candle.high, candle.low, candle.close].map(|price| price.to_string())
}

#[test]
fn candles_fetched_for_a_hole_stand_for_its_prices() {
    let own = |second: i64, prices: [&str; 4]| {
        fetched("oanda", "EUR_USD", CandleInput::Bid, 5 * SECOND, TEN + second * SECOND, prices, TEN + 70 * SECOND)
    };
    let hole = |state, at: i64| {
        let gap = gap("EUR_USD", "quote", state, TEN + 23 * SECOND, Some(TEN + 32 * SECOND), TEN + at * SECOND);
        Event { venue: "oanda".into(), source: "oanda-source".into(), ..gap }
    };
    let mut events: Vec<Event> = (-1..23).map(|second| euro(second, "1.5")).collect();
    events.push(hole(GapState::Closed, 32));
    events.extend((32..70).map(|second| euro(second, "1.6")));
    // The first and the last one also cover prices that were heard.
    events.push(own(20, ["1.5", "1.55", "1.25", "1.3"]));
    events.push(own(25, ["1.3", "1.75", "1.3", "1.7"]));
    events.push(own(30, ["1.7", "1.7", "1.6", "1.6"]));
    events.push(hole(GapState::Repaired, 71));
    events.extend((72..200).map(|second| euro(second, "1.6")));
    let said = make(&recipe(&[SECOND, 10 * SECOND, MINUTE], CandleInput::Bid, "utc"), &numbered(events.clone()));
    let all = statements(&said);
    let of = |interval: i64, second: i64| all.get(&("EUR_USD".to_owned(), interval, TEN + second * SECOND));
    let minute = of(MINUTE, 0).unwrap();
    assert_eq!(flags(&minute[0]), ["gap"]);
    let last = minute.last().unwrap();
    assert_eq!(
        (four(last), flags(last)),
        (["1.50", "1.75", "1.25", "1.60"].map(str::to_owned), vec!["complete", "revised", "backfilled"])
    );
    // 0 to 19 and 35 to 59 were heard, the three others count nine each.
    assert_eq!(last.trades, Some(20 + 25 + 27));
    let ten = of(10 * SECOND, 20).unwrap().last().unwrap();
    assert_eq!((four(ten), ten.trades), (["1.50", "1.75", "1.25", "1.70"].map(str::to_owned), Some(18)));
    assert_eq!(of(10 * SECOND, 10).unwrap().len(), 1, "not touched");
    // Five seconds say nothing about one.
    assert_eq!(of(SECOND, 27), None);
    let cut = of(SECOND, 23).map(|all| flags(all.last().unwrap()));
    assert_eq!(cut, None, "nothing was heard in it");
    let edge = of(SECOND, 32).unwrap().last().unwrap();
    assert_eq!(flags(edge)[0], "complete", "it was heard from its beginning: {edge:?}");
    // Of the other side they say nothing, and so the hole stays.
    let other = latest(&make(&recipe(&[MINUTE], CandleInput::Mid, "utc"), &numbered(events)));
    let other = &other[&("EUR_USD".to_owned(), MINUTE, TEN)];
    assert!(other.flags.contains(CandleFlags::GAP) && !other.flags.contains(CandleFlags::COMPLETE), "{other:?}");
}

#[test]
fn what_is_fetched_while_the_bucket_is_open_is_in_it_when_it_has_closed() {
    let mut events: Vec<Event> = (-1..10).map(|second| euro(second, "1.5")).collect();
    events.extend((21..30).map(|second| euro(second, "1.6")));
    for start in [10, 15] {
        let prices = ["1.5", "1.9", "1.1", "1.6"];
        events.push(fetched(
            "oanda",
            "EUR_USD",
            CandleInput::Bid,
            5 * SECOND,
            TEN + start * SECOND,
            prices,
            TEN + 30 * SECOND,
        ));
    }
    events.extend((30..100).map(|second| euro(second, "1.6")));
    let records = numbered(events);
    let recipe = recipe(&[MINUTE], CandleInput::Bid, "utc");
    let bucket = ("EUR_USD".to_owned(), MINUTE, TEN);
    let whole = statements(&make(&recipe, &records)).remove(&bucket).unwrap();
    assert_eq!(flags(&whole[0]), ["gap"], "what it says first knows less");
    let last = whole.last().unwrap();
    assert_eq!(
        (four(last), flags(last)),
        (["1.5", "1.9", "1.1", "1.6"].map(str::to_owned), vec!["complete", "revised", "backfilled"])
    );
    // Interrupted at any record, it ends with the same words.
    for stop in 20..records.len() {
        let mut maker = Maker::new(recipe.clone());
        let mut said = Vec::new();
        for record in &records[..stop] {
            maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
            said.extend(maker.take_said(UnixNanos::EPOCH));
        }
        let (mut maker, _) = Maker::resume(recipe.clone(), &maker.state(stop as u64)).expect("its own state");
        for record in &records[stop..] {
            maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
            said.extend(maker.take_said(UnixNanos::EPOCH));
        }
        let again = latest(&said).remove(&bucket).unwrap();
        assert_eq!((four(&again), flags(&again)), (four(last), flags(last)), "stopped behind {stop}");
    }
}

#[test]
fn minutes_of_a_venue_with_running_totals_count_their_volume_once() {
    // Ten a second; from 1:30 to 3:15 nothing is heard.
    let mut events: Vec<Event> = (-10..90).map(|second| total(second, 1_000 + 10 * second)).collect();
    events.extend((195..400).map(|second| total(second, 1_000 + 10 * second)));
    events.extend((1..4).map(minute_of_kite));
    events.extend((400..800).map(|second| total(second, 1_000 + 10 * second)));
    let said = make(&recipe(&[MINUTE, 5 * MINUTE], CandleInput::Trades, "utc"), &numbered(events));
    let last = latest(&said);
    let volume = |interval: i64, minute: i64| {
        last[&("INFY".to_owned(), interval, TEN + minute * MINUTE)].volume.map(|volume| volume.to_string())
    };
    // The venue says 700 for each of its own; the others are counted.
    let said: Vec<_> = (0..5).map(|minute| volume(MINUTE, minute).unwrap()).collect();
    assert_eq!(said, ["600", "700", "700", "700", "600"]);
    assert_eq!(volume(5 * MINUTE, 0).as_deref(), Some("3300"));
    assert_eq!(last[&("INFY".to_owned(), 5 * MINUTE, TEN)].vwap, None, "nobody knows the weights");
}

#[test]
fn a_bucket_of_fetched_candles_alone_is_numbered_on_when_it_is_stated_again() {
    let own = |second: i64, now: i64| {
        let prices = ["1.5", "1.9", "1.1", "1.6"];
        fetched("oanda", "EUR_USD", CandleInput::Bid, 5 * SECOND, TEN + second * SECOND, prices, TEN + now * SECOND)
    };
    let hole = |state, at: i64| {
        let gap = gap("EUR_USD", "quote", state, TEN + 30 * SECOND, Some(TEN + 210 * SECOND), TEN + at * SECOND);
        Event { venue: "oanda".into(), source: "oanda-source".into(), ..gap }
    };
    let mut events: Vec<Event> = (-1..30).map(|second| euro(second, "1.5")).collect();
    events.push(hole(GapState::Closed, 210));
    // It comes in two pages, the second much later, when the minutes in between were stated already.
    events.extend((210..300).map(|second| euro(second, "1.6")));
    events.extend((30..120).step_by(5).map(|second| own(second, 300)));
    events.extend((300..320).map(|second| euro(second, "1.6")));
    events.extend((120..210).step_by(5).map(|second| own(second, 320)));
    events.push(hole(GapState::Repaired, 320));
    events.extend((321..500).map(|second| euro(second, "1.6")));
    let all = statements(&make(&recipe(&[10 * SECOND, MINUTE], CandleInput::Bid, "utc"), &numbered(events)));
    for minute in 0..4 {
        let of = &all[&("EUR_USD".to_owned(), MINUTE, TEN + minute * MINUTE)];
        let last = of.last().unwrap();
        let is = |flag| last.flags.contains(flag);
        assert!(is(CandleFlags::COMPLETE) && is(CandleFlags::BACKFILLED), "{minute}: {of:#?}");
        assert_eq!(four(last)[1..3], ["1.9".to_owned(), "1.1".to_owned()], "{minute}");
    }
    let alone = &all[&("EUR_USD".to_owned(), MINUTE, TEN + MINUTE)];
    assert_eq!(alone.iter().map(|candle| candle.revision).collect::<Vec<_>>(), [0, 1], "{alone:#?}");
}

#[test]
fn a_hole_whose_last_minute_the_venue_leaves_out_counts_its_volume_once() {
    // Nothing is heard from 1:00 to 3:15, 1,400 are traded in 1:00 and 2:00, and after that nothing until 4:00.
    let mut events: Vec<Event> = (-10..60).map(|second| total(second, 1_000 + 10 * second)).collect();
    events.extend((195..240).map(|second| total(second, 1_590 + 1_400)));
    events.extend((240..400).map(|second| total(second, 2_990 + 10 * (second - 239))));
    events.extend((1..3).map(minute_of_kite));
    events.extend((400..800).map(|second| total(second, 2_990 + 10 * (second - 239))));
    let last = latest(&make(&recipe(&[5 * MINUTE], CandleInput::Trades, "utc"), &numbered(events)));
    let volume = last[&("INFY".to_owned(), 5 * MINUTE, TEN)].volume.map(|volume| volume.to_string());
    assert_eq!(volume.as_deref(), Some("2600"), "600 before, 1,400 of the venue's, 600 after");
}

#[test]
fn a_long_bucket_that_something_was_fetched_for_is_waited_for_and_not_asked_about() {
    let mut events: Vec<Event> = (-1..60).map(|second| euro(second, "1.5")).collect();
    events.push(fetched(
        "oanda",
        "EUR_USD",
        CandleInput::Bid,
        5 * SECOND,
        TEN,
        ["1.5", "1.5", "1.5", "1.5"],
        TEN + 60 * SECOND,
    ));
    events.extend((61..80).map(|second| euro(second, "1.5")));
    let records = numbered(events);
    let mut maker = Maker::new(recipe(&[DAY], CandleInput::Bid, "utc"));
    for record in &records {
        maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
    }
    let due = maker.due().unwrap().0;
    assert!(due > TEN + 13 * HOUR, "{} s from now", (due - TEN) / SECOND);
}
