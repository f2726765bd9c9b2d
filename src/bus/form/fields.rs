//! The fields of a message, by name, without a form. What is unknown is absent, never invented.

use tapedeck_market::{
    Body, Candle, Decimal, Flags, Gap, Leg, Level, LevelPriceSize, Odds, Order, Point, Post, Price, PriceSize, Size,
    SmolStr, Stats, Status, Sum, Synthetic, TapeNote, Ticker, Trade, UnixNanos, Value,
};

use super::super::engine::{Content, Message};
use super::super::topic::interval;
use super::seconds;

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Val {
    /// Only where a place must be filled.
    Nil,
    Int(i64),
    UInt(u64),
    Float(f64),
    Dec(Decimal),
    Sum(Sum),
    Bool(bool),
    Text(SmolStr),
    List(Vec<Val>),
    Map(Vec<(SmolStr, Val)>),
}

macro_rules! vals {
    ($($type:ty => |$value:ident| $made:expr;)+) => {$(
        impl From<$type> for Val {
            fn from($value: $type) -> Val {
                $made
            }
        }
    )+};
}

vals! {
    bool => |value| Val::Bool(value);
    i64 => |value| Val::Int(value);
    u64 => |value| Val::UInt(value);
    u32 => |value| Val::UInt(value.into());
    &'static str => |value| Val::Text(SmolStr::new_static(value));
    SmolStr => |value| Val::Text(value);
    &SmolStr => |value| Val::Text(value.clone());
    String => |value| Val::Text(value.into());
    UnixNanos => |value| Val::Int(value.0);
    Decimal => |value| Val::Dec(value);
    Price => |value| Val::Dec(value.0);
    Size => |value| Val::Dec(value.0);
    Sum => |value| Val::Sum(value);
}

/// The fields under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(SmolStr, Val)>);

impl Fields {
    /// The memory stays.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn all(&self) -> &[(SmolStr, Val)] {
        &self.0
    }

    pub(super) fn put(&mut self, name: &'static str, value: impl Into<Val>) {
        self.0.push((SmolStr::new_static(name), value.into()));
    }

    /// Absent when unknown.
    fn some(&mut self, name: &'static str, value: Option<impl Into<Val>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Absent when empty.
    fn text(&mut self, name: &'static str, text: &SmolStr) {
        if !text.is_empty() {
            self.put(name, text);
        }
    }

    /// Absent when empty.
    fn list(&mut self, name: &'static str, values: Vec<Val>) {
        if !values.is_empty() {
            self.0.push((SmolStr::new_static(name), Val::List(values)));
        }
    }

    fn map(&mut self, name: &'static str, pairs: Vec<(SmolStr, Val)>) {
        self.0.push((SmolStr::new_static(name), Val::Map(pairs)));
    }
}

/// What every map carries.
pub(super) fn head(message: &Message, tape: &SmolStr, replayed: bool, fields: &mut Fields) {
    fields.put("seq", message.seq);
    fields.put("prev", message.prev);
    fields.put("tape", tape);
    fields.some("ts_event", message.ts_event);
    fields.put("ts_recv", message.ts_recv);
    fields.put("timestamp", Val::Float(seconds(message.ts_event.unwrap_or(message.ts_recv))));
    fields.put("instrument", &message.symbol);
    if replayed || message.flags.contains(Flags::REPLAYED) {
        fields.put("replayed", true);
    }
}

/// What the topic carries.
pub(super) fn content(message: &Message, fields: &mut Fields) {
    match &message.content {
        Content::Tick(ticker) => tick(ticker, fields),
        Content::Depth { bids, asks } => {
            fields.put("bids", Val::List(bids.iter().map(level).collect()));
            fields.put("asks", Val::List(asks.iter().map(level).collect()));
        }
        Content::Body(event_body) => {
            if !message.source.is_empty() {
                fields.put("source", &message.source);
            }
            if !message.venue.is_empty() {
                fields.put("venue", &message.venue);
            }
            if message.flags.contains(Flags::BACKFILLED) {
                fields.put("backfilled", true);
            }
            body(event_body, fields);
        }
    }
}

fn tick(ticker: &Ticker, fields: &mut Fields) {
    fields.some("bid", ticker.bid);
    fields.some("ask", ticker.ask);
    fields.some("bid_size", ticker.bid_size);
    fields.some("ask_size", ticker.ask_size);
    fields.some("bid_whole_lots", ticker.bid_whole_lots);
    fields.some("ask_whole_lots", ticker.ask_whole_lots);
    fields.some("last", ticker.last);
    fields.some("last_size", ticker.last_size);
    let Stats { open, high, low, volume, vwap, trades } = &ticker.day;
    fields.some("volume", *volume);
    fields.some("vwap", *vwap);
    fields.some("trades", *trades);
    fields.some("low", *low);
    fields.some("high", *high);
    fields.some("open", *open);
    let Stats { open, high, low, volume, vwap, trades } = &ticker.today;
    fields.some("volume_today", *volume);
    fields.some("vwap_today", *vwap);
    fields.some("trades_today", *trades);
    fields.some("low_today", *low);
    fields.some("high_today", *high);
    fields.some("open_today", *open);
    fields.some("prev_close", ticker.prev_close);
    fields.some("change", ticker.change);
    fields.some("change_pct", ticker.change_pct);
    fields.some("avg_price", ticker.avg_price);
    fields.some("buy_size", ticker.buy_size);
    fields.some("sell_size", ticker.sell_size);
    fields.some("oi", ticker.oi);
    fields.some("oi_high", ticker.oi_high);
    fields.some("oi_low", ticker.oi_low);
    fields.some("last_trade_time", ticker.last_trade_time);
}

fn body(body: &Body, fields: &mut Fields) {
    match body {
        Body::Trade(Trade { price, size, side, id }) => {
            fields.put("price", *price);
            fields.put("size", *size);
            fields.some("side", side.map(|side| side.name()));
            fields.some("id", id.as_ref());
        }
        Body::Candle(body) => candle(body, fields),
        Body::Odds(body) => odds(body, fields),
        Body::Order(body) => order(body, fields),
        Body::Post(body) => post(body, fields),
        Body::Point(body) => {
            let Point { name, tags, fields: values } = &**body;
            fields.put("name", name);
            fields.map("tags", texts(tags));
            fields.map("fields", values.iter().map(|(name, value)| (name.clone(), point_value(value))).collect());
        }
        Body::Synthetic(body) => synthetic(body, fields),
        Body::Status(Status { topic, state, detail }) => {
            fields.put("topic", topic);
            fields.put("state", state);
            fields.map("detail", texts(detail));
        }
        Body::Tape(body) => {
            let TapeNote { what, from_seq, to_seq, bytes, detail } = &**body;
            fields.put("topic", "tape");
            fields.put("state", what.name());
            fields.some("from_seq", *from_seq);
            fields.some("to_seq", *to_seq);
            fields.put("bytes", *bytes);
            fields.map("detail", vec![(SmolStr::new_static("text"), detail.into())]);
        }
        Body::Gap(body) => {
            let Gap { id, state, cause, channel, from, to, missing, detail } = &**body;
            fields.put("id", *id);
            fields.put("state", state.name());
            fields.put("cause", cause.name());
            fields.text("channel", channel);
            fields.put("from", *from);
            fields.some("to", *to);
            fields.some("missing", *missing);
            fields.text("detail", detail);
        }
        // No topic has the others, see `topic::route`.
        _ => {}
    }
}

fn candle(candle: &Candle, fields: &mut Fields) {
    let Candle { interval_ns, start, open, high, low, close, volume, vwap, trades, flags, revision, input } = candle;
    fields.put("interval", interval(*interval_ns));
    fields.put("start", *start);
    fields.put("open", *open);
    fields.put("high", *high);
    fields.put("low", *low);
    fields.put("close", *close);
    fields.some("volume", *volume);
    fields.some("vwap", *vwap);
    fields.some("trades", *trades);
    fields.put("flags", Val::List(flags.names().map(Val::from).collect()));
    fields.put("revision", *revision);
    fields.put("input", input.name());
}

fn odds(odds: &Odds, fields: &mut Fields) {
    fields.put("selection", odds.selection);
    fields.put("handicap", odds.handicap);
    fields.put("image", odds.image);
    fields.some("last", odds.last);
    fields.some("volume", odds.volume);
    fields.some("sp_near", odds.sp_near);
    fields.some("sp_far", odds.sp_far);
    fields.put("conflated", odds.conflated);
    fields.some("market_volume", odds.market_volume);
    let ladder = |levels: &[PriceSize]| levels.iter().map(price_size).collect();
    fields.list("available_to_back", ladder(&odds.available_to_back));
    fields.list("available_to_lay", ladder(&odds.available_to_lay));
    fields.list("traded", ladder(&odds.traded));
    fields.list("sp_back", ladder(&odds.sp_back));
    fields.list("sp_lay", ladder(&odds.sp_lay));
    let best = |levels: &[LevelPriceSize]| levels.iter().map(level_price_size).collect();
    fields.list("best_to_back", best(&odds.best_to_back));
    fields.list("best_to_lay", best(&odds.best_to_lay));
    fields.list("best_display_to_back", best(&odds.best_display_to_back));
    fields.list("best_display_to_lay", best(&odds.best_display_to_lay));
}

fn order(order: &Order, fields: &mut Fields) {
    fields.put("action", &order.action);
    fields.some("id", order.id.as_ref());
    fields.some("client_id", order.client_id.as_ref());
    fields.some("side", order.side.map(|side| side.name()));
    fields.some("order_type", order.order_type.as_ref());
    fields.some("status", order.status.as_ref());
    fields.some("price", order.price);
    fields.some("size", order.size);
    fields.some("filled", order.filled);
    fields.some("avg_price", order.avg_price);
    fields.some("fill_price", order.fill_price);
    fields.some("fill_size", order.fill_size);
    fields.some("trade_id", order.trade_id.as_ref());
    fields.some("fee", order.fee);
    fields.some("fee_asset", order.fee_asset.as_ref());
    fields.some("reason", order.reason.as_ref());
    fields.some("raw", order.raw.as_ref());
}

fn post(post: &Post, fields: &mut Fields) {
    fields.put("id", &post.id);
    fields.some("author", post.author.as_ref());
    fields.put("text", &post.text);
    fields.some("lang", post.lang.as_ref());
    fields.some("location", post.location.as_ref());
    fields.list("topics", post.topics.iter().map(Val::from).collect());
    if let Some(sentiment) = post.sentiment {
        let scores = [
            ("compound", sentiment.compound),
            ("positive", sentiment.positive),
            ("neutral", sentiment.neutral),
            ("negative", sentiment.negative),
        ];
        let scores = scores.map(|(name, score)| (SmolStr::new_static(name), Val::Dec(score)));
        fields.map("sentiment", scores.to_vec());
    }
    if !post.metrics.is_empty() {
        fields.map("metrics", post.metrics.iter().map(|(name, count)| (name.clone(), Val::Int(*count))).collect());
    }
    fields.some("edit_of", post.edit_of.as_ref());
}

/// Besides the body's own fields the derived book, best first, as subscribers of depth expect it.
fn synthetic(synthetic: &Synthetic, fields: &mut Fields) {
    let Synthetic { legs, spread, spread_bid, spread_ask } = synthetic;
    let side = |price: fn(&Leg) -> Option<Price>, size: fn(&Leg) -> Option<Size>, rising: bool| {
        let mut levels: Vec<(Price, Option<Size>)> =
            legs.iter().filter_map(|leg| price(leg).map(|at| (at, size(leg)))).collect();
        levels.sort_by(|a, b| if rising { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) });
        levels.into_iter().map(|(at, size)| Val::List(vec![at.into(), size.map_or(Val::Nil, Val::from)])).collect()
    };
    fields.put("bids", Val::List(side(|leg| leg.bid, |leg| leg.leg_bid_size, false)));
    fields.put("asks", Val::List(side(|leg| leg.ask, |leg| leg.leg_ask_size, true)));
    let leg = |leg: &Leg| {
        let mut fields = Fields::default();
        fields.put("instrument", &leg.instrument);
        fields.some("bid", leg.bid);
        fields.some("ask", leg.ask);
        fields.some("leg_bid", leg.leg_bid);
        fields.some("leg_bid_size", leg.leg_bid_size);
        fields.some("leg_ask", leg.leg_ask);
        fields.some("leg_ask_size", leg.leg_ask_size);
        Val::Map(fields.0)
    };
    fields.put("legs", Val::List(legs.iter().map(leg).collect()));
    fields.some("spread", *spread);
    fields.some("spread_bid", *spread_bid);
    fields.some("spread_ask", *spread_ask);
}

fn texts(pairs: &[(SmolStr, SmolStr)]) -> Vec<(SmolStr, Val)> {
    pairs.iter().map(|(name, text)| (name.clone(), text.into())).collect()
}

fn point_value(value: &Value) -> Val {
    match value {
        Value::Int(value) => Val::Int(*value),
        Value::UInt(value) => Val::UInt(*value),
        Value::Decimal(value) => Val::Dec(*value),
        Value::Float(value) => Val::Float(*value),
        Value::Bool(value) => Val::Bool(*value),
        Value::Text(value) => value.into(),
    }
}

pub(super) fn level(level: &Level) -> Val {
    Val::List(vec![level.price.into(), level.size.into()])
}

fn price_size(level: &PriceSize) -> Val {
    Val::List(vec![level.price.into(), level.size.into()])
}

fn level_price_size(level: &LevelPriceSize) -> Val {
    Val::List(vec![level.level.into(), level.price.into(), level.size.into()])
}
