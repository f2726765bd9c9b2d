//! `legacy_tick`: the measurement `tick` as the predecessors wrote it, beside the declared ones.
//!
//! | | tags | fields |
//! |---|---|---|
//! | `bridge` | instrument, base_ccy, term_ccy | bid, ask, volume, vwap |
//! | `nbpy`, Kraken | instrument, base_ccy, term_ccy | ask_price, ask_whole_lot_volume, … opening_price: 19 |
//! | `nbpy`, others | instrument | bid, ask |
//!
//! All fields are numbers with a point: the predecessors' `float()`. What the venue did not tell is left out, and so is a
//! volume of zero in the bridge's form, which took it for nothing. The instrument is in the old spelling.

use schemars::JsonSchema;
use serde::Deserialize;
use tapedeck_market::{Body, Decimal, Event, Quote, Record, Ticker};

use super::measure::stamp;
use crate::sinks::line::{Line, Lines, NoLine};
use crate::sources::kraken::names::{rest_key, split_base_term};

/// Which of the two forms is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LegacyTick {
    /// As the bridge from ZeroMQ wrote it.
    Bridge,
    /// As `nbpy.zmq` and the scripts before it did.
    Nbpy,
}

type Done = Result<(), NoLine>;

/// Writes the line of a tick; of anything else none.
///
/// # Errors
/// It cannot be written.
pub(super) fn line(form: LegacyTick, lines: &mut Lines, record: &Record) -> Done {
    let event = &record.event;
    let prices = match &event.body {
        Body::Quote(quote) => Prices::Quote(quote),
        Body::Ticker(ticker) => Prices::Ticker(ticker),
        _ => return Ok(()),
    };
    let written = match form {
        LegacyTick::Bridge => bridge(lines, record, &prices),
        LegacyTick::Nbpy if event.venue == "kraken" => kraken(lines, record, &prices),
        LegacyTick::Nbpy => other(lines, record, &prices),
    };
    match written {
        // A tick with none of the fields is none to the predecessors.
        Err(NoLine::NoField) => Ok(()),
        written => written,
    }
}

enum Prices<'a> {
    Quote(&'a Quote),
    Ticker(&'a Ticker),
}

impl Prices<'_> {
    fn best(&self) -> (Option<Decimal>, Option<Decimal>) {
        let (bid, ask) = match self {
            Prices::Quote(quote) => (quote.bid, quote.ask),
            Prices::Ticker(ticker) => (ticker.bid, ticker.ask),
        };
        (bid.map(Into::into), ask.map(Into::into))
    }
}

fn instrument(event: &Event) -> tapedeck_market::SmolStr {
    if event.venue == "kraken" { rest_key(&event.symbol) } else { event.symbol.clone() }
}

/// The bridge knew two rules for the currencies, and none for OANDA's spelling.
fn bridge_currencies(name: &str) -> Option<(&str, &str)> {
    let bytes = name.as_bytes();
    if !name.is_ascii() || bytes.len() < 4 {
        return None;
    }
    let fourth_last = bytes[bytes.len() - 4];
    let known = (bytes[0] == b'X' && fourth_last == b'Z') || (bytes.len() == 6 && fourth_last != b'_');
    known.then(|| {
        let base = if bytes[0] == b'X' && fourth_last == b'Z' { &name[1..4] } else { &name[..3] };
        (base, &name[name.len() - 3..])
    })
}

fn bridge(lines: &mut Lines, record: &Record, prices: &Prices<'_>) -> Done {
    let event = &record.event;
    let name = instrument(event);
    let mut line = lines.line("tick")?;
    // The order of the tags is the server's.
    if let Some((base, term)) = bridge_currencies(&name).filter(|_| event.venue == "kraken") {
        line.tag("base_ccy", base)?;
        line.tag("instrument", &name)?;
        line.tag("term_ccy", term)?;
    } else {
        line.tag("instrument", &name)?;
    }
    let (bid, ask) = prices.best();
    floats(&mut line, [("bid", bid), ("ask", ask)])?;
    if let Prices::Ticker(ticker) = prices {
        let some = |value: Option<Decimal>| value.filter(|value| !value.is_zero());
        let (volume, vwap) = (ticker.day.volume.map(Into::into), ticker.day.vwap.map(Into::into));
        floats(&mut line, [("volume", some(volume)), ("vwap", some(vwap))])?;
    }
    line.end(stamp(record))
}

fn kraken(lines: &mut Lines, record: &Record, prices: &Prices<'_>) -> Done {
    let name = instrument(&record.event);
    let mut line = lines.line("tick")?;
    match split_base_term(&name) {
        Some((base, term)) => {
            line.tag("base_ccy", base)?;
            line.tag("instrument", &name)?;
            line.tag("term_ccy", term)?;
        }
        None => line.tag("instrument", &name)?,
    }
    let ticker = match prices {
        Prices::Ticker(ticker) => ticker,
        Prices::Quote(quote) => &Ticker {
            bid: quote.bid,
            bid_size: quote.bid_size,
            ask: quote.ask,
            ask_size: quote.ask_size,
            ..Ticker::default()
        },
    };
    let (today, day) = (&ticker.today, &ticker.day);
    let price = |value: Option<tapedeck_market::Price>| value.map(Decimal::from);
    let size = |value: Option<tapedeck_market::Size>| value.map(Decimal::from);
    let count = |value: Option<u64>| value.and_then(|value| value.to_string().parse().ok());
    floats(
        &mut line,
        [
            ("ask_price", price(ticker.ask)),
            ("ask_whole_lot_volume", size(ticker.ask_whole_lots)),
            ("ask_lot_volume", size(ticker.ask_size)),
            ("bid_price", price(ticker.bid)),
            ("bid_whole_lot_volume", size(ticker.bid_whole_lots)),
            ("bid_lot_volume", size(ticker.bid_size)),
            ("last_trade_price", price(ticker.last)),
            ("last_trade_lot_volume", size(ticker.last_size)),
            ("volume_today", size(today.volume)),
            ("volume_24h", size(day.volume)),
            ("vwap_today", price(today.vwap)),
            ("vwap_24h", price(day.vwap)),
            ("trades_today", count(today.trades)),
            ("trades_24h", count(day.trades)),
            ("low_today", price(today.low)),
            ("low_24h", price(day.low)),
            ("high_today", price(today.high)),
            ("high_24h", price(day.high)),
            ("opening_price", price(today.open.or(day.open))),
        ],
    )?;
    line.end(stamp(record))
}

fn other(lines: &mut Lines, record: &Record, prices: &Prices<'_>) -> Done {
    let mut line = lines.line("tick")?;
    line.tag("instrument", &instrument(&record.event))?;
    let (bid, ask) = prices.best();
    floats(&mut line, [("bid", bid), ("ask", ask)])?;
    line.end(stamp(record))
}

fn floats<const N: usize>(line: &mut Line<'_>, fields: [(&str, Option<Decimal>); N]) -> Done {
    fields.into_iter().try_for_each(|(key, value)| value.map_or(Ok(()), |value| line.decimal(key, value)))
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Flags, Stats, UnixNanos};

    use super::*;

    fn written(form: LegacyTick, venue: &str, symbol: &str, body: Body) -> String {
        let event = Event {
            source: venue.into(),
            venue: venue.into(),
            symbol: symbol.into(),
            ts_event: Some(UnixNanos(1_700_000_000_123_456_000)),
            ts_recv: UnixNanos(1_700_000_000_200_000_000),
            flags: Flags::NONE,
            origin: None,
            body,
        };
        let mut lines = Lines::default();
        line(form, &mut lines, &Record { seq: 42, event }).unwrap();
        String::from_utf8(lines.text).unwrap()
    }

    fn ticker() -> Body {
        let price = |text: &str| text.parse().ok();
        let size = |text: &str| text.parse().ok();
        let stats = |volume, vwap, trades, low, high| Stats {
            volume: size(volume),
            vwap: price(vwap),
            trades: Some(trades),
            low: price(low),
            high: price(high),
            open: None,
        };
        // The sample of their publisher: 52609.6|1|1.000|52609.5|3|3.000|52609.6|0.0042|1920.8|7954.0|52389.9|51513.9|…
        let mut today = stats("1920.8", "52389.9", 23_329, "51513.9", "53219.9");
        today.open = price("52280.4");
        Body::Ticker(Box::new(Ticker {
            ask: price("52609.6"),
            ask_whole_lots: size("1"),
            ask_size: size("1.000"),
            bid: price("52609.5"),
            bid_whole_lots: size("3"),
            bid_size: size("3.000"),
            last: price("52609.6"),
            last_size: size("0.0042"),
            today,
            day: stats("7954.0", "51513.9", 80_463, "51513.9", "57200.0"),
            ..Ticker::default()
        }))
    }

    fn quote() -> Body {
        Body::Quote(Quote { bid: "1.08230".parse().ok(), ask: "1.08245".parse().ok(), ..Quote::default() })
    }

    #[test]
    fn the_bridges_tick_has_its_tags_and_fields() {
        let text = written(LegacyTick::Bridge, "kraken", "BTC/USD", ticker());
        let want = "tick,base_ccy=XBT,instrument=XXBTZUSD,term_ccy=USD bid=52609.5,ask=52609.6,volume=7954.0,vwap=51513.9 \
                    1700000000123456042\n";
        assert_eq!(text, want);
        let text = written(LegacyTick::Bridge, "oanda", "EUR_USD", quote());
        assert_eq!(text, "tick,instrument=EUR_USD bid=1.08230,ask=1.08245 1700000000123456000\n");
        let text = written(LegacyTick::Bridge, "kraken", "USDT/USD", quote());
        assert!(text.starts_with("tick,instrument=USDTZUSD bid="), "its two rules do not know this one: {text}");
        let text = written(LegacyTick::Bridge, "kraken", "ADA/EUR", quote());
        assert!(text.starts_with("tick,base_ccy=ADA,instrument=ADAEUR,term_ccy=EUR bid="), "{text}");
    }

    #[test]
    fn a_time_that_cannot_be_one_is_none_of_the_old_tick_either() {
        for form in [LegacyTick::Bridge, LegacyTick::Nbpy] {
            let event = Event {
                source: "kite".into(),
                venue: "kite".into(),
                symbol: "TCS".into(),
                ts_event: Some(UnixNanos(0)),
                ts_recv: UnixNanos(1_700_000_000_200_000_000),
                flags: Flags::NONE,
                origin: None,
                body: quote(),
            };
            let mut lines = Lines::default();
            line(form, &mut lines, &Record { seq: 42, event }).unwrap();
            let text = String::from_utf8(lines.text).unwrap();
            assert_eq!(text, "tick,instrument=TCS bid=1.08230,ask=1.08245 1700000000200000042\n");
        }
    }

    #[test]
    fn nbpys_tick_has_nineteen_fields() {
        let text = written(LegacyTick::Nbpy, "kraken", "BTC/USD", ticker());
        let want = "tick,base_ccy=XBT,instrument=XXBTZUSD,term_ccy=USD \
                    ask_price=52609.6,ask_whole_lot_volume=1,ask_lot_volume=1.000,bid_price=52609.5,\
                    bid_whole_lot_volume=3,bid_lot_volume=3.000,last_trade_price=52609.6,last_trade_lot_volume=0.0042,\
                    volume_today=1920.8,volume_24h=7954.0,vwap_today=52389.9,vwap_24h=51513.9,trades_today=23329,\
                    trades_24h=80463,low_today=51513.9,low_24h=51513.9,high_today=53219.9,high_24h=57200.0,\
                    opening_price=52280.4 1700000000123456042\n";
        assert_eq!(text, want);
        let text = written(LegacyTick::Nbpy, "kraken", "USDT/USD", quote());
        let want = "tick,base_ccy=USDT,instrument=USDTZUSD,term_ccy=USD ask_price=1.08245,bid_price=1.08230 1700000000123456042\n";
        assert_eq!(text, want);
        let text = written(LegacyTick::Nbpy, "oanda", "EUR_USD", quote());
        assert_eq!(text, "tick,instrument=EUR_USD bid=1.08230,ask=1.08245 1700000000123456000\n");
    }

    #[test]
    fn what_is_no_tick_has_none() {
        assert_eq!(written(LegacyTick::Bridge, "kraken", "BTC/USD", Body::Quote(Quote::default())), "");
        let status = Body::Status(tapedeck_market::Status::default());
        assert_eq!(written(LegacyTick::Nbpy, "kraken", "BTC/USD", status), "");
    }
}
