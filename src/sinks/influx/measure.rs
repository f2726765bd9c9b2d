//! From a record to its line: measurement, tags, fields, time.
//!
//! | event | measurement | tags | fields |
//! |---|---|---|---|
//! | quote, ticker | `<venue>_tick` | pair (Kraken) or instrument, exchange | bid, ask, last_trade_price, volume, vwap … |
//! | trade | `<venue>_trade` | instrument, exchange, side | price, size, id |
//! | order | `<venue>_orders` | pair or instrument, status, type, exchange | order_id, price, amount, … |
//! | odds | `betfair_stream` | market_id, selection, handicap | back_price, back_size, lay_price, lay_size, matched_amount |
//! | post | `twitter_sentiment` | author, topic, location | sentiment_score, text_length |
//! | candle | `candle` | instrument, exchange, interval, input | open, high, low, close, volume, vwap, trades, flags, revision |
//! | book | `<venue>_depth`, a line a level | pair or instrument, exchange, level | bid_price, bid_size, ask_price, ask_size |
//! | gap | `gap` | instrument, exchange, cause, channel | state, id, from_ns, to_ns, missing, detail |
//! | synthetic | `synthetic` | instrument | spread, spread_bid, spread_ask, bid and ask of both legs |
//! | point | its own | its own | its own |
//!
//! Every line but a point's has the fields `seq` and, where the venue told a time, `ts_event_ns`.

use tapedeck_market::{
    Body, BookUpdate, Candle, Event, Gap, Level, LevelPriceSize, Odds, Order, Point, Post, Quote, Record, Synthetic,
    Ticker, Trade, UnixNanos, Value,
};

use crate::config::units::show_duration;
use crate::sinks::line::{Line, Lines, NoLine};

type Done = Result<(), NoLine>;

/// Writes the line of a record; of a book, a line for each level.
///
/// # Errors
/// [`NoLine::Unwanted`]: the store has no place for such records. Anything else: this one cannot be written, and some of
/// its lines may have been.
pub(super) fn lines(lines: &mut Lines, record: &Record) -> Done {
    let event = &record.event;
    match &event.body {
        Body::Quote(quote) => whole(lines, record, (&event.venue, "_tick"), |line| tick(line, event, quote)),
        Body::Ticker(ticker) => whole(lines, record, (&event.venue, "_tick"), |line| statistics(line, event, ticker)),
        Body::Trade(trade) => whole(lines, record, (&event.venue, "_trade"), |line| self::trade(line, event, trade)),
        Body::Order(order) => whole(lines, record, (&event.venue, "_orders"), |line| self::order(line, event, order)),
        Body::Book(update) => book(lines, record, update),
        Body::Odds(odds) => whole(lines, record, ("betfair_stream", ""), |line| self::odds(line, event, odds)),
        Body::Post(post) => whole(lines, record, ("twitter_sentiment", ""), |line| self::post(line, post)),
        Body::Candle(candle) => self::candle(lines, record, candle),
        Body::Gap(gap) => whole(lines, record, ("gap", ""), |line| self::gap(line, event, gap)),
        Body::Synthetic(synthetic) => {
            whole(lines, record, ("synthetic", ""), |line| self::synthetic(line, event, synthetic))
        }
        Body::Point(point) => self::point(lines, record, point),
        _ => Err(NoLine::Unwanted),
    }
}

/// The time of a line, so that two events of the same moment stay apart.
///
/// A store keeps one point for a series and time. The digits below the resolution of the venue's clock carry the seq, so that
/// equal times differ; where the venue tells nanoseconds, there are no such digits, and its time stays exact. A time that
/// cannot be one would be the newest of its series for good, or older than anything is kept: ours stands in its place.
pub(super) fn stamp(record: &Record) -> i64 {
    let event = &record.event;
    let Some(UnixNanos(ts)) = event.told() else {
        // Our own clock: a frame of several events has one receive time.
        return apart(event.ts_recv.0, 3, record.seq);
    };
    let digits = match event.venue.as_str() {
        "kraken" => 3,
        "betfair" | "x" | "binance" => 6,
        "kite" => 9,
        "oanda" => 0,
        // An unknown clock that told less than a nanosecond here.
        _ if ts % 1_000 == 0 => 3,
        _ => 0,
    };
    apart(ts, digits, record.seq)
}

/// The time that a record's lines bear.
pub(super) fn time(record: &Record) -> UnixNanos {
    match &record.event.body {
        // A revision takes the place of the candle before it.
        Body::Candle(candle) => candle.start,
        // A point keeps its own time: whoever sent it decided which points are the same.
        Body::Point(_) => record.event.ts_event.unwrap_or(record.event.ts_recv),
        _ => UnixNanos(stamp(record)),
    }
}

fn apart(ts: i64, digits: u32, seq: u64) -> i64 {
    let unit = 10_i64.pow(digits);
    // Below 10^9, so it fits.
    let within = (seq % unit.unsigned_abs()) as i64;
    ts - ts.rem_euclid(unit) + within
}

/// The measurement is called by both words together.
fn whole(
    lines: &mut Lines,
    record: &Record,
    (venue, kind): (&str, &str),
    fields: impl FnOnce(&mut Line<'_>) -> Done,
) -> Done {
    let mut line = lines.line_of(venue, kind)?;
    fields(&mut line)?;
    line.uint("seq", record.seq)?;
    if let Some(UnixNanos(ts)) = record.event.ts_event {
        line.int("ts_event_ns", ts)?;
    }
    line.end(stamp(record))
}

fn named(line: &mut Line<'_>, event: &Event) -> Done {
    line.tag("exchange", &event.venue)?;
    line.tag(name_tag(event), &event.symbol)
}

/// The predecessors call Kraken's instruments pairs.
fn name_tag(event: &Event) -> &'static str {
    if event.venue == "kraken" { "pair" } else { "instrument" }
}

macro_rules! decimals {
    ($line:expr, $($key:literal: $value:expr),* $(,)?) => {
        $(if let Some(value) = $value { $line.decimal($key, value.into())?; })*
    };
}

fn tick(line: &mut Line<'_>, event: &Event, quote: &Quote) -> Done {
    named(line, event)?;
    decimals!(line, "bid": quote.bid, "bid_size": quote.bid_size, "ask": quote.ask, "ask_size": quote.ask_size);
    Ok(())
}

fn statistics(line: &mut Line<'_>, event: &Event, ticker: &Ticker) -> Done {
    named(line, event)?;
    let (day, today) = (&ticker.day, &ticker.today);
    decimals!(line,
        "bid": ticker.bid, "bid_size": ticker.bid_size, "ask": ticker.ask, "ask_size": ticker.ask_size,
        "last_trade_price": ticker.last, "last_trade_size": ticker.last_size,
        "volume": day.volume, "vwap": day.vwap, "low": day.low, "high": day.high, "open": day.open.or(today.open),
        "volume_today": today.volume, "vwap_today": today.vwap, "low_today": today.low, "high_today": today.high,
        "oi": ticker.oi, "avg_price": ticker.avg_price,
    );
    if let Some(trades) = day.trades {
        line.uint("trades", trades)?;
    }
    if let Some(trades) = today.trades {
        line.uint("trades_today", trades)?;
    }
    Ok(())
}

fn trade(line: &mut Line<'_>, event: &Event, trade: &Trade) -> Done {
    line.tag("exchange", &event.venue)?;
    line.tag("instrument", &event.symbol)?;
    line.tag("side", trade.side.map_or("", |side| side.name()))?;
    line.decimal("price", trade.price.into())?;
    line.decimal("size", trade.size.into())?;
    match &trade.id {
        Some(id) => line.text("id", id),
        None => Ok(()),
    }
}

/// The best levels of a book, whole. One that is empty has size 0: left out, its last state would look like its present one.
fn book(lines: &mut Lines, record: &Record, update: &BookUpdate) -> Done {
    // A change alone says nothing of a level.
    let Some(depth) = update.depth.filter(|_| update.snapshot) else { return Err(NoLine::Unwanted) };
    for at in 0..depth as usize {
        whole(lines, record, (&record.event.venue, "_depth"), |line| {
            line.tag("exchange", &record.event.venue)?;
            line.tag("level", itoa::Buffer::new().format(at + 1))?;
            line.tag(name_tag(&record.event), &record.event.symbol)?;
            side(line, "bid_price", "bid_size", update.bids.get(at))?;
            side(line, "ask_price", "ask_size", update.asks.get(at))
        })?;
    }
    Ok(())
}

fn side(line: &mut Line<'_>, price: &str, size: &str, level: Option<&Level>) -> Done {
    match level {
        Some(level) => {
            line.decimal(price, level.price.into())?;
            line.decimal(size, level.size.into())
        }
        None => line.decimal(size, tapedeck_market::Decimal::ZERO),
    }
}

fn order(line: &mut Line<'_>, event: &Event, order: &Order) -> Done {
    named(line, event)?;
    line.tag("status", order.status.as_deref().unwrap_or(&order.action))?;
    line.tag("type", order.order_type.as_deref().unwrap_or_default())?;
    line.tag("side", order.side.map_or("", |side| side.name()))?;
    line.text("action", &order.action)?;
    decimals!(line,
        "price": order.price, "amount": order.size, "filled": order.filled, "avg_price": order.avg_price,
        "fill_price": order.fill_price, "fill_size": order.fill_size, "fee": order.fee,
    );
    for (key, text) in [
        ("order_id", &order.id),
        ("client_id", &order.client_id),
        ("trade_id", &order.trade_id),
        ("reason", &order.reason),
    ] {
        if let Some(text) = text {
            line.text(key, text)?;
        }
    }
    Ok(())
}

fn odds(line: &mut Line<'_>, event: &Event, odds: &Odds) -> Done {
    line.tag("exchange", &event.venue)?;
    line.tag("handicap", &odds.handicap.to_string())?;
    line.tag("market_id", &event.symbol)?;
    line.tag("selection", &odds.selection.to_string())?;
    // An image that tells of one side says of the other that it is empty; one of neither may be of a feed without best levels.
    let anew = odds.image && !(odds.best_to_back.is_empty() && odds.best_to_lay.is_empty());
    best(line, ["back_price", "back_size"], &odds.best_to_back, anew)?;
    best(line, ["lay_price", "lay_size"], &odds.best_to_lay, anew)?;
    decimals!(line, "last": odds.last, "matched_amount": odds.volume, "market_matched": odds.market_volume);
    Ok(())
}

/// The best level of a ladder. One that is gone has size 0: left out, the price that was would look like the present one.
fn best(line: &mut Line<'_>, [price, size]: [&str; 2], ladder: &[LevelPriceSize], anew: bool) -> Done {
    let mut bests = ladder.iter().filter(|level| level.level == 0);
    match bests.clone().find(|level| !level.size.0.is_zero()) {
        Some(level) => {
            line.decimal(price, level.price.into())?;
            line.decimal(size, level.size.into())
        }
        None if anew || bests.next().is_some() => line.decimal(size, tapedeck_market::Decimal::ZERO),
        None => Ok(()),
    }
}

fn post(line: &mut Line<'_>, post: &Post) -> Done {
    line.tag("author", post.author.as_deref().unwrap_or_default())?;
    line.tag("topic", &post.topics.join(","))?;
    line.tag("location", post.location.as_deref().unwrap_or_default())?;
    line.tag("lang", post.lang.as_deref().unwrap_or_default())?;
    line.text("id", &post.id)?;
    line.uint("text_length", post.text.chars().count() as u64)?;
    if let Some(sentiment) = post.sentiment {
        line.decimal("sentiment_score", sentiment.compound)?;
        line.decimal("positive", sentiment.positive)?;
        line.decimal("negative", sentiment.negative)?;
    }
    for (name, count) in &post.metrics {
        line.int(name, *count)?;
    }
    Ok(())
}

fn candle(lines: &mut Lines, record: &Record, candle: &Candle) -> Done {
    let event = &record.event;
    let mut line = lines.line("candle")?;
    line.tag("exchange", &event.venue)?;
    line.tag("input", candle.input.name())?;
    line.tag("instrument", &event.symbol)?;
    let interval = std::time::Duration::from_nanos(candle.interval_ns.unsigned_abs());
    line.tag("interval", &show_duration(interval))?;
    for (key, price) in [("open", candle.open), ("high", candle.high), ("low", candle.low), ("close", candle.close)] {
        line.decimal(key, price.into())?;
    }
    if let Some(volume) = candle.volume {
        line.number("volume", volume)?;
    }
    decimals!(line, "vwap": candle.vwap);
    if let Some(trades) = candle.trades {
        line.uint("trades", trades)?;
    }
    line.text("flags", &candle.flags.names().collect::<Vec<_>>().join(","))?;
    line.uint("revision", candle.revision.into())?;
    line.uint("seq", record.seq)?;
    line.end(time(record).0)
}

fn gap(line: &mut Line<'_>, event: &Event, gap: &Gap) -> Done {
    line.tag("cause", gap.cause.name())?;
    line.tag("channel", &gap.channel)?;
    line.tag("exchange", &event.venue)?;
    line.tag("instrument", &event.symbol)?;
    line.uint("id", gap.id)?;
    line.text("state", gap.state.name())?;
    line.int("from_ns", gap.from.0)?;
    if let Some(to) = gap.to {
        line.int("to_ns", to.0)?;
    }
    if let Some(missing) = gap.missing {
        line.uint("missing", missing)?;
    }
    line.text("detail", &gap.detail)
}

fn synthetic(line: &mut Line<'_>, event: &Event, synthetic: &Synthetic) -> Done {
    line.tag("instrument", &event.symbol)?;
    decimals!(line,
        "spread": synthetic.spread, "spread_bid": synthetic.spread_bid, "spread_ask": synthetic.spread_ask,
    );
    for (nth, leg) in synthetic.legs.iter().enumerate() {
        line.text(&format!("instrument_t{nth}"), &leg.instrument)?;
        for (key, value) in [("bid", leg.bid), ("ask", leg.ask), ("leg_bid", leg.leg_bid), ("leg_ask", leg.leg_ask)] {
            if let Some(value) = value {
                line.decimal(&format!("{key}_t{nth}"), value.into())?;
            }
        }
    }
    Ok(())
}

fn point(lines: &mut Lines, record: &Record, point: &Point) -> Done {
    let mut line = lines.line(&point.name)?;
    for (key, value) in &point.tags {
        line.tag(key, value)?;
    }
    for (key, value) in &point.fields {
        match value {
            Value::Int(value) => line.int(key, *value)?,
            Value::UInt(value) => line.uint(key, *value)?,
            Value::Decimal(value) => line.decimal(key, *value)?,
            Value::Float(value) => line.float(key, *value)?,
            Value::Bool(value) => line.bool(key, *value)?,
            Value::Text(value) => line.text(key, value)?,
        }
    }
    line.end(time(record).0)
}

#[cfg(test)]
mod tests {
    use tapedeck_market::Flags;

    use super::*;

    fn record(seq: u64, venue: &str, ts_event: Option<i64>, body: Body) -> Record {
        let event = Event {
            source: venue.into(),
            venue: venue.into(),
            symbol: "BTC/USD".into(),
            ts_event: ts_event.map(UnixNanos),
            ts_recv: UnixNanos(1_700_000_000_000_000_000),
            flags: Flags::NONE,
            origin: None,
            body,
        };
        Record { seq, event }
    }

    fn written(record: &Record) -> String {
        let mut lines = Lines::default();
        self::lines(&mut lines, record).unwrap();
        String::from_utf8(lines.text).unwrap()
    }

    fn quote() -> Body {
        let bid = "105000.1".parse().ok();
        Body::Quote(Quote { bid, ask: "105000.20".parse().ok(), ..Quote::default() })
    }

    #[test]
    fn a_kraken_tick_is_the_measurement_that_was_declared() {
        let text = written(&record(1_234_567, "kraken", Some(1_700_000_000_123_456_000), quote()));
        let want = "kraken_tick,exchange=kraken,pair=BTC/USD bid=105000.1,ask=105000.20,seq=1234567i,\
                    ts_event_ns=1700000000123456000i 1700000000123456567\n";
        assert_eq!(text, want);
    }

    #[test]
    fn a_level_of_a_book_is_a_line_and_an_empty_one_says_so() {
        let level = |price: &str, size: &str| Level {
            price: price.parse().unwrap(),
            size: size.parse().unwrap(),
            orders: None,
        };
        let (bids, asks) = (vec![level("104.5", "2"), level("104.4", "1.50")], vec![level("105", "3")]);
        let update = BookUpdate { snapshot: true, bids, asks, depth: Some(3), checksum: None };
        let text = written(&record(7, "kraken", None, Body::Book(update.clone())));
        let want = "kraken_depth,exchange=kraken,level=1,pair=BTC/USD bid_price=104.5,bid_size=2,ask_price=105,ask_size=3,seq=7i 1700000000000000007\n\
                    kraken_depth,exchange=kraken,level=2,pair=BTC/USD bid_price=104.4,bid_size=1.50,ask_size=0,seq=7i 1700000000000000007\n\
                    kraken_depth,exchange=kraken,level=3,pair=BTC/USD bid_size=0,ask_size=0,seq=7i 1700000000000000007\n";
        assert_eq!(text, want);
        let change = BookUpdate { snapshot: false, ..update };
        let unwanted = lines(&mut Lines::default(), &record(7, "kraken", None, Body::Book(change)));
        assert_eq!(unwanted, Err(NoLine::Unwanted), "a change is no state");
    }

    #[test]
    fn a_runner_is_a_series_and_a_best_level_that_went_is_no_price() {
        let best = |level: u32, price: &str, size: &str| LevelPriceSize {
            level,
            price: price.parse().unwrap(),
            size: size.parse().unwrap(),
        };
        let odds = Odds {
            selection: 7,
            handicap: "-0.5".parse().unwrap(),
            volume: Some("25.16".parse().unwrap()),
            best_to_back: vec![best(1, "9", "2"), best(0, "9.2", "1.8")],
            best_to_lay: vec![best(0, "0", "0")],
            ..Odds::default()
        };
        let text = |odds: &Odds| written(&record(7, "betfair", None, Body::Odds(Box::new(odds.clone()))));
        let want = "betfair_stream,exchange=betfair,handicap=-0.5,market_id=BTC/USD,selection=7 \
                    back_price=9.2,back_size=1.8,lay_size=0,matched_amount=25.16,seq=7i 1700000000000000007\n";
        assert_eq!(text(&odds), want);
        let untold = Odds { best_to_lay: Vec::new(), ..odds };
        assert!(!text(&untold).contains("lay_"), "what is not told stays as it was: {}", text(&untold));
        let image = Odds { image: true, ..untold };
        assert!(text(&image).contains(",lay_size=0,") && !text(&image).contains("lay_price"), "{}", text(&image));
        let neither = Odds { best_to_back: Vec::new(), ..image };
        assert!(!text(&neither).contains("_size"), "{}", text(&neither));
    }

    #[test]
    fn equal_times_stay_apart_and_nanoseconds_stay_exact() {
        const SECOND: i64 = 1_699_999_999_000_000_000;
        let at = |venue, ts, seq| stamp(&record(seq, venue, Some(SECOND + ts), quote())) - SECOND;
        assert_eq!(at("kraken", 5_000, 1_001), 5_001);
        assert_eq!(at("kite", 0, 42), 42);
        assert_eq!(at("betfair", 3_000_000, 1_000_002), 3_000_002);
        assert_eq!(at("oanda", 123_456_789, 9), 123_456_789);
        assert_eq!(at("other", 123_456_789, 9), 123_456_789);
        assert_eq!(stamp(&record(9, "other", None, quote())), 1_700_000_000_000_000_009);
    }

    #[test]
    fn a_time_that_cannot_be_one_is_told_and_ours_is_the_time_of_the_line() {
        let year_2106 = 4_294_967_295_000_000_000;
        for (venue, absurd) in
            [("kite", 0), ("kite", year_2106), ("kraken", -1_500), ("oanda", 946_684_799_000_000_000)]
        {
            let record = record(42, venue, Some(absurd), quote());
            let text = written(&record);
            assert!(text.ends_with(&format!(",ts_event_ns={absurd}i 1700000000000000042\n")), "{text}");
            assert_eq!(time(&record), UnixNanos(1_700_000_000_000_000_042), "what is too old, or late, goes by it too");
        }
        let clocks_differ = 1_700_000_000_000_000_000 + 3_600_000_000_000;
        assert_eq!(stamp(&record(42, "oanda", Some(clocks_differ), quote())), clocks_differ);
    }
}
