//! Own orders and fills: the `executions` channel of the private feed.
//!
//! One item says what happened to one order; the first message of an order has all its fields, later
//! ones only what changed. Absent stays absent, and the item's own text is kept beside our fields,
//! because an order has more of them than we name.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Decimal, Event, Flags, Order, Price, Size, SmolStr, UnixNanos};

use super::message::{Ctx, ParseError, reason};
use super::parse::{instant, plain_text, side};

/// One item of an `executions` frame.
///
/// # Errors
/// The item is no object. A number that does not fit is absent in the fields and whole in `raw`.
pub(super) fn execution(ctx: &Ctx, ts_recv: UnixNanos, flags: Flags, raw: &&RawValue) -> Result<Event, ParseError> {
    let item: Item<'_> = serde_json::from_str(raw.get()).map_err(|error| ParseError::new(reason::SHAPE, error))?;
    let name = |text: &Option<Cow<'_, str>>| text.as_deref().map(SmolStr::new);
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| Decimal::parse(plain_text(raw).as_bytes()).ok());
    let fee = item.fees.first();
    let order = Order {
        action: name(&item.exec_type).unwrap_or_default(),
        id: name(&item.order_id),
        client_id: name(&item.cl_ord_id).or_else(|| item.order_userref.map(|raw| SmolStr::new(plain_text(raw)))),
        side: item.side.as_deref().and_then(side),
        order_type: name(&item.order_type),
        status: name(&item.order_status),
        price: number(item.limit_price).map(Price),
        size: number(item.order_qty).map(Size),
        filled: number(item.cum_qty).map(Size),
        avg_price: number(item.avg_price).map(Price),
        fill_price: number(item.last_price).map(Price),
        fill_size: number(item.last_qty).map(Size),
        trade_id: item.trade_id.map(|raw| SmolStr::new(plain_text(raw))).or_else(|| name(&item.exec_id)),
        fee: fee.and_then(|fee| number(fee.qty)),
        fee_asset: fee.and_then(|fee| name(&fee.asset)),
        reason: name(&item.reason),
        raw: Some(SmolStr::new(raw.get())),
    };
    let symbol = name(&item.symbol).unwrap_or_default();
    let ts_event = item.timestamp.as_deref().and_then(instant);
    Ok(ctx.event(symbol, ts_event, ts_recv, flags, Body::Order(Box::new(order))))
}

#[derive(Deserialize)]
struct Item<'a> {
    exec_type: Option<Cow<'a, str>>,
    order_id: Option<Cow<'a, str>>,
    cl_ord_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    order_userref: Option<&'a RawValue>,
    symbol: Option<Cow<'a, str>>,
    side: Option<Cow<'a, str>>,
    order_type: Option<Cow<'a, str>>,
    order_status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    limit_price: Option<&'a RawValue>,
    #[serde(borrow)]
    order_qty: Option<&'a RawValue>,
    #[serde(borrow)]
    cum_qty: Option<&'a RawValue>,
    #[serde(borrow)]
    avg_price: Option<&'a RawValue>,
    #[serde(borrow)]
    last_price: Option<&'a RawValue>,
    #[serde(borrow)]
    last_qty: Option<&'a RawValue>,
    #[serde(borrow)]
    trade_id: Option<&'a RawValue>,
    exec_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    fees: Vec<Fee<'a>>,
    reason: Option<Cow<'a, str>>,
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Fee<'a> {
    asset: Option<Cow<'a, str>>,
    #[serde(borrow)]
    qty: Option<&'a RawValue>,
}
