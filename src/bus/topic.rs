//! Which topics an event is published under.

use tapedeck_market::{Body, Candle, CandleInput, Event, Flags, SmolStr, Synthetic};

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// The instrument's prices and statistics, gathered from quotes, tickers and trades.
    Tick,
    /// The instrument's whole book.
    Depth,
    /// The event's own body.
    Body,
}

/// Calls `each` with every topic of an event.
pub(crate) fn route(event: &Event, mut each: impl FnMut(SmolStr, Make)) {
    let venue = event.venue.as_str();
    match &event.body {
        Body::Trade(_) => {
            each(join("trade.", venue), Make::Body);
            // What history brings is older than what is known.
            if !event.flags.contains(Flags::BACKFILLED) {
                each(tick(venue), Make::Tick);
            }
        }
        Body::Quote(_) | Body::Ticker(_) => each(tick(venue), Make::Tick),
        Body::Book(_) => each(depth(venue), Make::Depth),
        Body::Candle(candle) => each(candles(candle), Make::Body),
        Body::Odds(_) => each(SmolStr::new_static("betfair_stream"), Make::Body),
        Body::Order(_) => each(orders(venue), Make::Body),
        Body::Post(_) => each(SmolStr::new_static("twitter_sentiment"), Make::Body),
        Body::Point(point) => each(join("point.", &point.name), Make::Body),
        // Nobody should take what was made later for the price of the moment: the legacy text has no time in it.
        Body::Synthetic(_) if event.flags.contains(Flags::BACKFILLED) => {}
        Body::Synthetic(synthetic) => each(derived(event, synthetic), Make::Body),
        Body::Status(_) | Body::Tape(_) => each(SmolStr::new_static("status"), Make::Body),
        Body::Gap(_) => each(SmolStr::new_static("gap"), Make::Body),
        // What a venue lists, where a source would go on, and frames as they came are the tape's own business.
        _ => {}
    }
}

fn join(family: &str, name: &str) -> SmolStr {
    SmolStr::from_iter([family, name])
}

fn tick(venue: &str) -> SmolStr {
    match venue {
        "kraken" => SmolStr::new_static("kraken_tick"),
        "oanda" => SmolStr::new_static("oanda_tick"),
        "kite" => SmolStr::new_static("kite_tick"),
        other => join("tick.", other),
    }
}

fn depth(venue: &str) -> SmolStr {
    match venue {
        "kraken" => SmolStr::new_static("kr_depth"),
        other => join("depth.", other),
    }
}

fn orders(venue: &str) -> SmolStr {
    match venue {
        "kraken" => SmolStr::new_static("kraken_orders"),
        "oanda" => SmolStr::new_static("oanda_orders"),
        other => join("orders.", other),
    }
}

/// A venue's own candle is rewritten while it lasts: it must not be taken for one of ours.
fn candles(candle: &Candle) -> SmolStr {
    let family = if candle.input == CandleInput::Venue { "ohlc." } else { "candle." };
    join(family, &interval(candle.interval_ns))
}

/// With the legs' own prices it is the one with depth; its symbol says so where both could be meant.
fn derived(event: &Event, synthetic: &Synthetic) -> SmolStr {
    let deep = event.symbol.to_ascii_uppercase().contains("DEPTH")
        || synthetic.legs.iter().any(|leg| leg.leg_bid_size.is_some() || leg.leg_ask_size.is_some());
    SmolStr::new_static(if deep { "kr_eurusd_depth" } else { "kr_eurusd_tick" })
}

/// `1m`, `90s`, `1d`: the longest unit that divides it.
pub(crate) fn interval(ns: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1, "ns"),
    ];
    let (length, unit) = UNITS.into_iter().find(|(length, _)| ns % length == 0).unwrap_or((1, "ns"));
    format!("{}{unit}", ns / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_named_by_its_longest_unit() {
        for (seconds, name) in [(1, "1s"), (60, "1m"), (90, "90s"), (300, "5m"), (3_600, "1h"), (86_400, "1d")] {
            assert_eq!(interval(seconds * 1_000_000_000), name);
        }
        assert_eq!(interval(250_000_000), "250ms");
        assert_eq!(interval(i64::MIN + 1), format!("{}ns", i64::MIN + 1));
    }
}
