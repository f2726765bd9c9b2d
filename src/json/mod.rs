//! An event as one line of JSON, for `tapedeck tail --json` and whoever scripts against it.
//!
//! ```text
//! {"seq":7,"source":"kraken-spot","venue":"kraken","symbol":"BTC/USD","kind":"trade","ts_event":…,"ts_recv":…,
//!  "flags":["snapshot"],"origin":{"tape":"…","seq":3}, …the body's fields…}
//! ```
//!
//! Invariants: prices, sizes and all decimals are texts with the venue's digits; instants are
//! integers in nanoseconds; what is unknown (`None`) and empty lists are absent, only a book always
//! has both sides; a field has the name it has in [`tapedeck_market`], but for a candle's flags,
//! which are `candle_flags`. `docs/events.md` lists every field, and a test compares the two.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tapedeck_market::{
    Body, BookUpdate, Candle, Event, Gap, Instrument, Odds, Order, Point, Position, Post, Quote, Raw, Status,
    Synthetic, TapeNote, Ticker, Trade, Unknown,
};
use value::{Always, Object, Pairs};

mod value;

/// Appends the event as one JSON object, without a line end. `seq` is its place on the tape, if it has one.
pub fn event_json(seq: Option<u64>, event: &Event, out: &mut Vec<u8>) {
    let Event { source, venue, symbol, ts_event, ts_recv, flags, origin, body } = event;
    let mut object = Object::new(out);
    let flags: Vec<&str> = flags.names().collect();
    object.put(&[
        ("seq", &seq),
        ("source", source),
        ("venue", venue),
        ("symbol", symbol),
        ("kind", &body.kind().name()),
        ("ts_event", ts_event),
        ("ts_recv", ts_recv),
        ("flags", &flags),
        ("origin", origin),
    ]);
    put_body(body, &mut object);
    object.end();
}

fn put_body(body: &Body, object: &mut Object<'_>) {
    match body {
        Body::Trade(body) => put_trade(body, object),
        Body::Quote(body) => put_quote(body, object),
        Body::Ticker(body) => put_ticker(body, object),
        Body::Book(body) => put_book(body, object),
        Body::Candle(body) => put_candle(body, object),
        Body::Odds(body) => put_odds(body, object),
        Body::Order(body) => put_order(body, object),
        Body::Post(body) => put_post(body, object),
        Body::Point(body) => put_point(body, object),
        Body::Synthetic(body) => put_synthetic(body, object),
        Body::Instrument(body) => put_instrument(body, object),
        Body::Position(Position { key, value }) => object.put(&[("key", key), ("value", value)]),
        Body::Status(Status { topic, state, detail }) => {
            object.put(&[("topic", topic), ("state", state), ("detail", &Pairs(detail))]);
        }
        Body::Gap(body) => put_gap(body, object),
        Body::Tape(body) => put_note(body, object),
        Body::Raw(body) => put_raw(body, object),
        Body::Unknown(Unknown { kind, payload }) => {
            object.put(&[("kind_number", &kind.0), ("payload_base64", &BASE64.encode(payload))]);
        }
        // `Body` grows in its own crate; a test wants every kind of this version to have fields here.
        _ => {}
    }
}

// Each body is taken apart by name, so that a field added to it does not compile until it is here.

fn put_trade(Trade { price, size, side, id }: &Trade, object: &mut Object<'_>) {
    let side = side.map(|side| side.name());
    object.put(&[("price", price), ("size", size), ("side", &side), ("id", id)]);
}

fn put_quote(Quote { bid, bid_size, ask, ask_size }: &Quote, object: &mut Object<'_>) {
    object.put(&[("bid", bid), ("bid_size", bid_size), ("ask", ask), ("ask_size", ask_size)]);
}

fn put_ticker(ticker: &Ticker, object: &mut Object<'_>) {
    let Ticker {
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
    } = ticker;
    object.put(&[
        ("last", last),
        ("last_size", last_size),
        ("bid", bid),
        ("bid_size", bid_size),
        ("bid_whole_lots", bid_whole_lots),
        ("ask", ask),
        ("ask_size", ask_size),
        ("ask_whole_lots", ask_whole_lots),
        ("today", today),
        ("day", day),
        ("prev_close", prev_close),
        ("change", change),
        ("change_pct", change_pct),
        ("avg_price", avg_price),
        ("buy_size", buy_size),
        ("sell_size", sell_size),
        ("oi", oi),
        ("oi_high", oi_high),
        ("oi_low", oi_low),
        ("last_trade_time", last_trade_time),
        ("refused", &Pairs(refused)),
    ]);
}

fn put_book(BookUpdate { snapshot, bids, asks, checksum, depth }: &BookUpdate, object: &mut Object<'_>) {
    object.put(&[
        ("snapshot", snapshot),
        ("bids", &Always(bids)),
        ("asks", &Always(asks)),
        ("checksum", checksum),
        ("depth", depth),
    ]);
}

fn put_candle(candle: &Candle, object: &mut Object<'_>) {
    let Candle { interval_ns, start, open, high, low, close, volume, vwap, trades, flags, revision, input } = candle;
    let flags: Vec<&str> = flags.names().collect();
    object.put(&[
        ("interval_ns", interval_ns),
        ("start", start),
        ("open", open),
        ("high", high),
        ("low", low),
        ("close", close),
        ("volume", volume),
        ("vwap", vwap),
        ("trades", trades),
        ("candle_flags", &flags),
        ("revision", revision),
        ("input", &input.name()),
    ]);
}

fn put_odds(odds: &Odds, object: &mut Object<'_>) {
    let Odds {
        selection,
        handicap,
        image,
        last,
        volume,
        sp_near,
        sp_far,
        conflated,
        market_volume,
        available_to_back,
        available_to_lay,
        traded,
        sp_back,
        sp_lay,
        best_to_back,
        best_to_lay,
        best_display_to_back,
        best_display_to_lay,
    } = odds;
    object.put(&[
        ("selection", selection),
        ("handicap", handicap),
        ("image", image),
        ("last", last),
        ("volume", volume),
        ("sp_near", sp_near),
        ("sp_far", sp_far),
        ("conflated", conflated),
        ("market_volume", market_volume),
        ("available_to_back", available_to_back),
        ("available_to_lay", available_to_lay),
        ("traded", traded),
        ("sp_back", sp_back),
        ("sp_lay", sp_lay),
        ("best_to_back", best_to_back),
        ("best_to_lay", best_to_lay),
        ("best_display_to_back", best_display_to_back),
        ("best_display_to_lay", best_display_to_lay),
    ]);
}

fn put_order(order: &Order, object: &mut Object<'_>) {
    let Order {
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
    } = order;
    object.put(&[
        ("action", action),
        ("id", id),
        ("client_id", client_id),
        ("side", &side.map(|side| side.name())),
        ("order_type", order_type),
        ("status", status),
        ("price", price),
        ("size", size),
        ("filled", filled),
        ("avg_price", avg_price),
        ("fill_price", fill_price),
        ("fill_size", fill_size),
        ("trade_id", trade_id),
        ("fee", fee),
        ("fee_asset", fee_asset),
        ("reason", reason),
        ("raw", raw),
    ]);
}

fn put_post(post: &Post, object: &mut Object<'_>) {
    let Post { id, author, text, lang, location, topics, sentiment, metrics, edit_of } = post;
    object.put(&[
        ("id", id),
        ("author", author),
        ("text", text),
        ("lang", lang),
        ("location", location),
        ("topics", topics),
        ("sentiment", sentiment),
        ("metrics", &Pairs(metrics)),
        ("edit_of", edit_of),
    ]);
}

fn put_point(Point { name, tags, fields }: &Point, object: &mut Object<'_>) {
    object.put(&[("name", name), ("tags", &Pairs(tags)), ("fields", &Pairs(fields))]);
}

fn put_synthetic(Synthetic { legs, spread, spread_bid, spread_ask }: &Synthetic, object: &mut Object<'_>) {
    object.put(&[("legs", legs), ("spread", spread), ("spread_bid", spread_bid), ("spread_ask", spread_ask)]);
}

fn put_instrument(instrument: &Instrument, object: &mut Object<'_>) {
    let Instrument {
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
    } = instrument;
    object.put(&[
        ("aliases", &Pairs(aliases)),
        ("base", base),
        ("quote", quote),
        ("status", status),
        ("price_precision", price_precision),
        ("price_increment", price_increment),
        ("size_precision", size_precision),
        ("size_increment", size_increment),
        ("size_min", size_min),
        ("multiplier", multiplier),
    ]);
    object.put(&[("session", session), ("valid_from", valid_from), ("valid_to", valid_to), ("raw", raw)]);
}

fn put_gap(Gap { id, state, cause, channel, from, to, missing, detail }: &Gap, object: &mut Object<'_>) {
    object.put(&[
        ("id", id),
        ("state", &state.name()),
        ("cause", &cause.name()),
        ("channel", channel),
        ("from", from),
        ("to", to),
        ("missing", missing),
        ("detail", detail),
    ]);
}

fn put_note(TapeNote { what, from_seq, to_seq, bytes, detail }: &TapeNote, object: &mut Object<'_>) {
    object.put(&[
        ("what", &what.name()),
        ("from_seq", from_seq),
        ("to_seq", to_seq),
        ("bytes", bytes),
        ("detail", detail),
    ]);
}

fn put_raw(Raw { format, frame }: &Raw, object: &mut Object<'_>) {
    match std::str::from_utf8(frame) {
        Ok(text) => object.put(&[("format", format), ("frame", &text)]),
        Err(_) => object.put(&[("format", format), ("frame_base64", &BASE64.encode(frame))]),
    }
}
