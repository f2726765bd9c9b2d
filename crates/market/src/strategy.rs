//! Events of every kind, at random: for property tests, here and in other packages (feature `strategy`).

use crate::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

pub fn decimal() -> impl Strategy<Value = Decimal> {
    const LIMIT: i64 = 1_000_000_000_000_000_000;
    // Short ones as they occur, and all that is allowed.
    let mantissa = prop_oneof![-200_i64..200, -70_000_i64..70_000, 0_i64..5_000_000_000, 1 - LIMIT..LIMIT];
    (mantissa, 0..=Decimal::MAX_SCALE).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).expect("18 digits"))
}

fn price() -> impl Strategy<Value = Price> {
    decimal().prop_map(Price)
}

fn size() -> impl Strategy<Value = Size> {
    decimal().prop_map(Size)
}

/// Texts around the lengths where MessagePack and `SmolStr` change form.
fn text() -> impl Strategy<Value = SmolStr> {
    let length = |n: usize| "x".repeat(n);
    prop_oneof![
        8 => "\\PC{0,24}",
        1 => Just(String::new()),
        1 => prop_oneof![30_usize..34, 254_usize..258, 65_534_usize..65_538].prop_map(length),
    ]
    .prop_map(SmolStr::from)
}

fn nanos() -> impl Strategy<Value = UnixNanos> {
    prop_oneof![1_600_000_000_000_000_000_i64..1_900_000_000_000_000_000, any::<i64>()].prop_map(UnixNanos)
}

fn sum() -> impl Strategy<Value = Sum> {
    let mantissa = prop_oneof![any::<i64>().prop_map(i128::from), any::<i128>()];
    (mantissa, 0_u8..=38).prop_map(|(mantissa, scale)| Sum { mantissa, scale })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(names: &'static [(T, &'static str)]) -> impl Strategy<Value = T> {
    proptest::sample::select(names).prop_map(|(value, _)| value)
}

fn pairs() -> impl Strategy<Value = Vec<(SmolStr, SmolStr)>> {
    vec((text(), text()), 0..4)
}

/// Any double but NaN, which is unequal to itself; NaN has a golden test.
fn float() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("not NaN", |f| !f.is_nan())
}

fn trade() -> impl Strategy<Value = Body> {
    (price(), size(), of(side()), of(text()))
        .prop_map(|(price, size, side, id)| Body::Trade(Trade { price, size, side, id }))
}

fn quote() -> impl Strategy<Value = Body> {
    (of(price()), of(size()), of(price()), of(size()))
        .prop_map(|(bid, bid_size, ask, ask_size)| Body::Quote(Quote { bid, bid_size, ask, ask_size }))
}

fn stats() -> impl Strategy<Value = Stats> {
    (of(price()), of(price()), of(price()), of(size()), of(price()), of(any::<u64>()))
        .prop_map(|(open, high, low, volume, vwap, trades)| Stats { open, high, low, volume, vwap, trades })
}

fn ticker() -> impl Strategy<Value = Body> {
    let top = (of(price()), of(size()), of(price()), of(size()), of(size()), of(price()), of(size()), of(size()));
    let session = (stats(), stats(), of(price()), of(decimal()), of(decimal()), of(price()));
    let rest = (of(size()), of(size()), of(size()), of(size()), of(size()), of(nanos()), pairs());
    (top, session, rest).prop_map(|(top, session, rest)| {
        let (last, last_size, bid, bid_size, bid_whole_lots, ask, ask_size, ask_whole_lots) = top;
        let (today, day, prev_close, change, change_pct, avg_price) = session;
        let (buy_size, sell_size, oi, oi_high, oi_low, last_trade_time, refused) = rest;
        Body::Ticker(Box::new(Ticker {
            last,
            last_size,
            bid,
            bid_size,
            bid_whole_lots,
            ask,
            ask_size,
            ask_whole_lots,
            today,
            day,
            prev_close,
            change,
            change_pct,
            avg_price,
            buy_size,
            sell_size,
            oi,
            oi_high,
            oi_low,
            last_trade_time,
            refused,
        }))
    })
}

fn levels() -> impl Strategy<Value = Vec<Level>> {
    vec((price(), size(), of(any::<u32>())).prop_map(|(price, size, orders)| Level { price, size, orders }), 0..40)
}

fn book() -> impl Strategy<Value = Body> {
    (any::<bool>(), levels(), levels(), of(any::<u32>()), of(any::<u32>())).prop_map(
        |(snapshot, bids, asks, checksum, depth)| Body::Book(BookUpdate { snapshot, bids, asks, checksum, depth }),
    )
}

fn candle() -> impl Strategy<Value = Body> {
    let prices = (price(), price(), price(), price(), of(sum()), of(price()));
    let rest = (of(any::<u64>()), any::<u32>(), any::<u32>(), one_of(&CandleInput::NAMES));
    (any::<i64>(), nanos(), prices, rest).prop_map(|(interval_ns, start, prices, rest)| {
        let (open, high, low, close, volume, vwap) = prices;
        let (trades, flags, revision, input) = rest;
        let flags = CandleFlags(flags);
        Body::Candle(Box::new(Candle {
            interval_ns,
            start,
            open,
            high,
            low,
            close,
            volume,
            vwap,
            trades,
            flags,
            revision,
            input,
        }))
    })
}

fn ladder() -> impl Strategy<Value = Vec<PriceSize>> {
    vec((price(), size()).prop_map(|(price, size)| PriceSize { price, size }), 0..4)
}

fn best() -> impl Strategy<Value = Vec<LevelPriceSize>> {
    vec((any::<u32>(), price(), size()).prop_map(|(level, price, size)| LevelPriceSize { level, price, size }), 0..4)
}

fn odds() -> impl Strategy<Value = Body> {
    let runner = (any::<i64>(), decimal(), any::<bool>(), of(price()), of(size()), of(price()), of(price()));
    let ladders = (ladder(), ladder(), ladder(), ladder(), ladder());
    let bests = (best(), best(), best(), best(), any::<bool>(), of(size()));
    (runner, ladders, bests).prop_map(|(runner, ladders, bests)| {
        let (selection, handicap, image, last, volume, sp_near, sp_far) = runner;
        let (available_to_back, available_to_lay, traded, sp_back, sp_lay) = ladders;
        let (best_to_back, best_to_lay, best_display_to_back, best_display_to_lay, conflated, market_volume) = bests;
        Body::Odds(Box::new(Odds {
            selection,
            handicap,
            image,
            last,
            volume,
            sp_near,
            sp_far,
            available_to_back,
            available_to_lay,
            traded,
            sp_back,
            sp_lay,
            best_to_back,
            best_to_lay,
            best_display_to_back,
            best_display_to_lay,
            conflated,
            market_volume,
        }))
    })
}

fn order() -> impl Strategy<Value = Body> {
    let what = (text(), of(text()), of(text()), of(side()), of(text()), of(text()), of(price()), of(size()));
    let fill = (of(size()), of(price()), of(price()), of(size()), of(text()), of(decimal()));
    (what, fill, (of(text()), of(text()), of(text()))).prop_map(|(what, fill, rest)| {
        let (action, id, client_id, side, order_type, status, price, size) = what;
        let (filled, avg_price, fill_price, fill_size, trade_id, fee) = fill;
        let (fee_asset, reason, raw) = rest;
        Body::Order(Box::new(Order {
            action,
            id,
            client_id,
            side,
            order_type,
            status,
            price,
            size,
            filled,
            avg_price,
            fill_price,
            fill_size,
            trade_id,
            fee,
            fee_asset,
            reason,
            raw,
        }))
    })
}

fn post() -> impl Strategy<Value = Body> {
    let sentiment = (decimal(), decimal(), decimal(), decimal())
        .prop_map(|(compound, positive, neutral, negative)| Sentiment { compound, positive, neutral, negative });
    let who = (text(), of(text()), text(), of(text()), of(text()));
    (who, vec(text(), 0..4), of(sentiment), vec((text(), any::<i64>()), 0..4), of(text())).prop_map(
        |(who, topics, sentiment, metrics, edit_of)| {
            let (id, author, text, lang, location) = who;
            Body::Post(Box::new(Post { id, author, text, lang, location, topics, sentiment, metrics, edit_of }))
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        decimal().prop_map(Value::Decimal),
        float().prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        text().prop_map(Value::Text),
    ]
}

fn point() -> impl Strategy<Value = Body> {
    (text(), pairs(), vec((text(), value()), 0..6))
        .prop_map(|(name, tags, fields)| Body::Point(Box::new(Point { name, tags, fields })))
}

fn synthetic() -> impl Strategy<Value = Body> {
    let leg = (text(), of(price()), of(price()), of(price()), of(size()), of(price()), of(size())).prop_map(
        |(instrument, bid, ask, leg_bid, leg_bid_size, leg_ask, leg_ask_size)| Leg {
            instrument,
            bid,
            ask,
            leg_bid,
            leg_bid_size,
            leg_ask,
            leg_ask_size,
        },
    );
    (vec(leg, 0..3), of(price()), of(price()), of(price())).prop_map(|(legs, spread, spread_bid, spread_ask)| {
        Body::Synthetic(Box::new(Synthetic { legs, spread, spread_bid, spread_ask }))
    })
}

fn instrument() -> impl Strategy<Value = Body> {
    let names = (pairs(), of(text()), of(text()), of(text()));
    let steps = (of(any::<u8>()), of(decimal()), of(any::<u8>()), of(decimal()), of(size()), of(decimal()));
    (names, steps, (of(text()), of(nanos()), of(nanos()), of(text()))).prop_map(|(names, steps, rest)| {
        let (aliases, base, quote, status) = names;
        let (price_precision, price_increment, size_precision, size_increment, size_min, multiplier) = steps;
        let (session, valid_from, valid_to, raw) = rest;
        Body::Instrument(Box::new(Instrument {
            aliases,
            base,
            quote,
            status,
            price_precision,
            price_increment,
            size_precision,
            size_increment,
            size_min,
            multiplier,
            session,
            valid_from,
            valid_to,
            raw,
        }))
    })
}

fn position() -> impl Strategy<Value = Body> {
    (text(), text()).prop_map(|(key, value)| Body::Position(Position { key, value }))
}

fn status() -> impl Strategy<Value = Body> {
    (text(), text(), pairs()).prop_map(|(topic, state, detail)| Body::Status(Status { topic, state, detail }))
}

fn gap() -> impl Strategy<Value = Body> {
    let what = (any::<u64>(), one_of(&GapState::NAMES), one_of(&GapCause::NAMES), text());
    (what, nanos(), of(nanos()), of(any::<u64>()), text()).prop_map(|(what, from, to, missing, detail)| {
        let (id, state, cause, channel) = what;
        Body::Gap(Box::new(Gap { id, state, cause, channel, from, to, missing, detail }))
    })
}

fn note() -> impl Strategy<Value = Body> {
    (one_of(&TapeEvent::NAMES), of(any::<u64>()), of(any::<u64>()), any::<u64>(), text()).prop_map(
        |(what, from_seq, to_seq, bytes, detail)| {
            Body::Tape(Box::new(TapeNote { what, from_seq, to_seq, bytes, detail }))
        },
    )
}

fn raw() -> impl Strategy<Value = Body> {
    (text(), vec(any::<u8>(), 0..600)).prop_map(|(format, frame)| Body::Raw(Raw { format, frame }))
}

/// A body of every known kind. Boxed one by one: as one type they overflow a test thread's stack.
pub fn body() -> BoxedStrategy<Body> {
    let bodies = [
        trade().boxed(),
        quote().boxed(),
        ticker().boxed(),
        book().boxed(),
        candle().boxed(),
        odds().boxed(),
        order().boxed(),
        post().boxed(),
        point().boxed(),
        synthetic().boxed(),
        instrument().boxed(),
        position().boxed(),
        status().boxed(),
        gap().boxed(),
        note().boxed(),
        raw().boxed(),
    ];
    proptest::strategy::Union::new(bodies).boxed()
}

pub fn event() -> impl Strategy<Value = Event> {
    let origin = (any::<u128>(), any::<u64>()).prop_map(|(tape, seq)| Origin { tape: Uuid::from_u128(tape), seq });
    (text(), text(), text(), of(nanos()), nanos(), any::<u32>(), of(origin), body()).prop_map(
        |(source, venue, symbol, ts_event, ts_recv, flags, origin, body)| Event {
            source,
            venue,
            symbol,
            ts_event,
            ts_recv,
            flags: Flags(flags),
            origin,
            body,
        },
    )
}
