//! An event in one line for people, as `tapedeck tail` prints it.

use std::fmt::{self, Display, Formatter};

use tapedeck_market::{
    Body, BookUpdate, Candle, Event, Gap, Leg, Level, Odds, Order, Point, Post, Quote, Synthetic, TapeNote, Ticker,
    Trade, Value,
};

/// A text of the feed is cut here: the line is for a terminal.
const TEXT_CHARS: usize = 100;

/// One line without control characters: receive time, source, symbol, kind, what happened, flags.
///
/// For people: its form may change. Scripts read [`crate::json`].
#[must_use]
pub fn describe(event: &Event) -> String {
    let Event { source, symbol, ts_recv, flags, body, .. } = event;
    let mut line = format!("{} {source}", Micros(*ts_recv));
    if !symbol.is_empty() {
        line = format!("{line} {symbol}");
    }
    line = format!("{line} {} {}", body.kind().name(), What(body));
    let flags: Vec<&str> = flags.names().collect();
    if !flags.is_empty() {
        line = format!("{line} [{}]", flags.join(","));
    }
    // What a venue sent must not move the cursor or ring the bell.
    line.replace(char::is_control, "\u{fffd}")
}

/// An instant to the microsecond: people do not read nine digits.
struct Micros(tapedeck_market::UnixNanos);

impl Display for Micros {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.strip_suffix('Z').and_then(|t| t.get(..t.len() - 3)).unwrap_or(&text))?;
        f.write_str("Z")
    }
}

/// What is known, or a dash.
struct Or<'a, T>(&'a Option<T>);

impl<T: Display> Display for Or<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A text up to [`TEXT_CHARS`].
struct Cut<'a>(&'a str);

impl Display for Cut<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(TEXT_CHARS) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

struct What<'a>(&'a Body);

impl Display for What<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Body::Trade(trade) => write_trade(trade, f),
            Body::Quote(Quote { bid, bid_size, ask, ask_size }) => {
                write!(f, "{} × {} | {} × {}", Or(bid_size), Or(bid), Or(ask), Or(ask_size))
            }
            Body::Ticker(ticker) => write_ticker(ticker, f),
            Body::Book(book) => write_book(book, f),
            Body::Candle(candle) => write_candle(candle, f),
            Body::Odds(odds) => write_odds(odds, f),
            Body::Order(order) => write_order(order, f),
            Body::Post(post) => write_post(post, f),
            Body::Point(point) => write_point(point, f),
            Body::Synthetic(synthetic) => write_synthetic(synthetic, f),
            Body::Instrument(instrument) => {
                write!(f, "{}", instrument.status.as_deref().unwrap_or("listed"))?;
                let (price, size) = (&instrument.price_increment, &instrument.size_increment);
                write!(f, ", steps of {} and {}", Or(price), Or(size))
            }
            Body::Position(position) => write!(f, "{} = {}", position.key, Cut(&position.value)),
            Body::Status(status) => {
                write!(f, "{} {}", status.topic, status.state)?;
                status.detail.iter().try_for_each(|(name, value)| write!(f, " {name}={}", Cut(value)))
            }
            Body::Gap(gap) => write_gap(gap, f),
            Body::Tape(note) => write_note(note, f),
            Body::Raw(raw) => write!(f, "{} of {} bytes", raw.format, raw.frame.len()),
            Body::Unknown(unknown) => {
                write!(f, "of a later version: kind {}, {} bytes", unknown.kind.0, unknown.payload.len())
            }
            _ => Ok(()),
        }
    }
}

fn write_trade(Trade { price, size, side, id }: &Trade, f: &mut Formatter<'_>) -> fmt::Result {
    if let Some(side) = side {
        write!(f, "{} ", side.name())?;
    }
    write!(f, "{size} @ {price}")?;
    id.as_ref().map_or(Ok(()), |id| write!(f, " #{id}"))
}

fn write_ticker(ticker: &Ticker, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "last {}, {} | {}", Or(&ticker.last), Or(&ticker.bid), Or(&ticker.ask))?;
    if let Some(volume) = ticker.day.volume.or(ticker.today.volume) {
        write!(f, ", volume {volume}")?;
    }
    ticker.refused.iter().try_for_each(|(field, text)| write!(f, ", {field} does not fit: {}", Cut(text)))
}

fn write_book(BookUpdate { snapshot, bids, asks, .. }: &BookUpdate, f: &mut Formatter<'_>) -> fmt::Result {
    if *snapshot {
        let best = |side: &[Level]| side.first().map(|level| level.price);
        write!(f, "snapshot of {} + {} levels", bids.len(), asks.len())?;
        return write!(f, ", {} | {}", Or(&best(bids)), Or(&best(asks)));
    }
    let changes =
        [("bid", bids), ("ask", asks)].into_iter().flat_map(|(side, levels)| levels.iter().map(move |l| (side, l)));
    let (first, total) = (changes.clone().take(3), changes.count());
    for (at, (side, level)) in first.enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        if level.size.0.is_zero() {
            write!(f, "{comma}{side} {} gone", level.price)?;
        } else {
            write!(f, "{comma}{side} {} × {}", level.price, level.size)?;
        }
    }
    match total {
        0 => f.write_str("no change"),
        1..=3 => Ok(()),
        _ => write!(f, " and {} more", total - 3),
    }
}

fn write_candle(candle: &Candle, f: &mut Formatter<'_>) -> fmt::Result {
    let Candle { interval_ns, start, open, high, low, close, volume, flags, revision, .. } = candle;
    write!(f, "{} s from {}", *interval_ns as f64 / 1e9, Micros(*start))?;
    write!(f, ", open {open} high {high} low {low} close {close}, volume {}", Or(volume))?;
    if *revision > 0 {
        write!(f, ", revision {revision}")?;
    }
    flags.names().try_for_each(|flag| write!(f, " {flag}"))
}

fn write_odds(odds: &Odds, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "runner {}", odds.selection)?;
    if !odds.handicap.is_zero() {
        write!(f, " ({})", odds.handicap)?;
    }
    let ladders = [&odds.available_to_back, &odds.available_to_lay, &odds.traded, &odds.sp_back, &odds.sp_lay];
    let bests = [&odds.best_to_back, &odds.best_to_lay, &odds.best_display_to_back, &odds.best_display_to_lay];
    let changes = ladders.map(Vec::len).iter().sum::<usize>() + bests.map(Vec::len).iter().sum::<usize>();
    write!(f, ", last {}, volume {}, {changes} changes", Or(&odds.last), Or(&odds.volume))
}

fn write_order(order: &Order, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(&order.action)?;
    if let Some(id) = &order.id {
        write!(f, " {id}")?;
    }
    if let Some(side) = order.side {
        write!(f, " {}", side.name())?;
    }
    write!(f, " {} @ {}, filled {}", Or(&order.size), Or(&order.price), Or(&order.filled))?;
    if let (Some(size), Some(price)) = (&order.fill_size, &order.fill_price) {
        write!(f, " (now {size} @ {price})")?;
    }
    order.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {}", Cut(reason)))
}

fn write_post(post: &Post, f: &mut Formatter<'_>) -> fmt::Result {
    if let Some(author) = &post.author {
        write!(f, "{author}: ")?;
    }
    write!(f, "{}", Cut(&post.text))?;
    post.sentiment.map_or(Ok(()), |sentiment| write!(f, " ({})", sentiment.compound))
}

fn write_point(Point { name, tags, fields }: &Point, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(name)?;
    tags.iter().try_for_each(|(tag, value)| write!(f, ",{tag}={}", Cut(value)))?;
    fields.iter().try_for_each(|(field, value)| match value {
        Value::Int(value) => write!(f, " {field}={value}"),
        Value::UInt(value) => write!(f, " {field}={value}"),
        Value::Decimal(value) => write!(f, " {field}={value}"),
        Value::Float(value) => write!(f, " {field}={value}"),
        Value::Bool(value) => write!(f, " {field}={value}"),
        Value::Text(value) => write!(f, " {field}={}", Cut(value)),
    })
}

fn write_synthetic(
    Synthetic { legs, spread, spread_bid, spread_ask }: &Synthetic,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let none = Leg::default();
    let (t1, t0) = match legs.as_slice() {
        [.., t0, t1] => (t1, Some(t0)),
        [t1] => (t1, None),
        [] => (&none, None),
    };
    write!(f, "{} | {} through {}", Or(&t1.bid), Or(&t1.ask), t1.instrument)?;
    if let Some(t0) = t0 {
        write!(f, ", before {} | {} through {}", Or(&t0.bid), Or(&t0.ask), t0.instrument)?;
    }
    write!(f, ", spread {}, to before {} and {}", Or(spread), Or(spread_bid), Or(spread_ask))
}

fn write_gap(Gap { id, state, cause, channel, from, to, missing, detail }: &Gap, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{id} {}: {}", state.name(), cause.name())?;
    if !channel.is_empty() {
        write!(f, " of {channel}")?;
    }
    write!(f, ", from {}", Micros(*from))?;
    if let Some(to) = to {
        write!(f, " to {} ({:.3} s)", Micros(*to), to.saturating_since(*from).as_secs_f64())?;
    }
    if let Some(missing) = missing {
        write!(f, ", {missing} missing")?;
    }
    if detail.is_empty() { Ok(()) } else { write!(f, ": {}", Cut(detail)) }
}

fn write_note(TapeNote { what, from_seq, to_seq, bytes, detail }: &TapeNote, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(what.name())?;
    match (from_seq, to_seq) {
        (Some(from), Some(to)) => write!(f, ", records {from} to {to}")?,
        (Some(seq), None) | (None, Some(seq)) => write!(f, ", record {seq}")?,
        (None, None) => {}
    }
    if *bytes > 0 {
        write!(f, ", {bytes} bytes")?;
    }
    if detail.is_empty() { Ok(()) } else { write!(f, ": {}", Cut(detail)) }
}
