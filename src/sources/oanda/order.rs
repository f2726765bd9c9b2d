//! Transactions of the account as order events.
//!
//! The venue has some forty kinds, and more to come: what all of them share becomes fields, and the
//! transaction's own text is kept beside them, because it has more than we name.

use serde_json::value::RawValue;
use tapedeck_market::{Body, Decimal, Flags, Order, Price, Side, Size, SmolStr, UnixNanos};

use super::line::{Ctx, Message, ParseError, odd, time};
use crate::sources::parsed::{Fields, plain, reason, whole};

/// The event of a transaction whose fields these are, and whose text is `text`.
///
/// # Errors
/// It has no id, by which it would be known again.
pub(super) fn transaction(
    fields: &Fields<'_>,
    text: &str,
    ts_recv: UnixNanos,
    ctx: &Ctx,
) -> Result<Message, ParseError> {
    let id = fields.get("id").and_then(whole).ok_or_else(|| ParseError::new(reason::SHAPE, "no id"))?;
    let own_id = SmolStr::from(id.to_string());
    let name = |key: &str| fields.text(key).filter(|text| !text.is_empty()).map(SmolStr::from);
    let number = |key: &str| fields.get(key).and_then(decimal);
    let action = name("type").unwrap_or_default();
    let is_fill = action == "ORDER_FILL";
    let units = number("units");
    let side =
        units.filter(|units| !units.is_zero()).map(|units| if units.is_negative() { Side::Sell } else { Side::Buy });
    let size = units.and_then(|units| Decimal::new(units.mantissa().checked_abs()?, units.scale())).map(Size);
    let price = number("price").map(Price);
    let order = Order {
        // A transaction that makes an order gives it its id.
        id: name("orderID").or_else(|| Some(own_id.clone())),
        client_id: name("clientOrderID").or_else(|| client_id(fields)),
        side,
        order_type: order_type(&action),
        status: None,
        price: price.filter(|_| !is_fill),
        size: size.filter(|_| !is_fill),
        filled: None,
        avg_price: None,
        fill_price: price.filter(|_| is_fill),
        fill_size: size.filter(|_| is_fill),
        trade_id: is_fill.then_some(own_id),
        fee: number("commission"),
        fee_asset: None,
        reason: name("rejectReason").or_else(|| name("reason")),
        raw: Some(SmolStr::new(text)),
        action,
    };
    let symbol = name("instrument").unwrap_or_default();
    let (time, unread) = time(fields);
    let event = ctx.event(symbol, time, ts_recv, Flags::NONE, Body::Order(Box::new(order)));
    let odd_time = unread.or_else(|| odd(&event));
    Ok(Message::Transaction { id, event: Box::new(event), odd_time })
}

/// A number that does not fit is absent here and whole in `raw`.
fn decimal(raw: &RawValue) -> Option<Decimal> {
    Decimal::parse(plain(raw).as_bytes()).ok()
}

/// `{"clientExtensions":{"id":"…"}}` of a transaction that makes an order.
fn client_id(fields: &Fields<'_>) -> Option<SmolStr> {
    let inner: Fields<'_> = serde_json::from_str(fields.get("clientExtensions")?.get()).ok()?;
    inner.text("id").map(SmolStr::from)
}

/// `limit` of `LIMIT_ORDER` and `LIMIT_ORDER_REJECT`.
fn order_type(action: &str) -> Option<SmolStr> {
    let kind = action.strip_suffix("_REJECT").unwrap_or(action).strip_suffix("_ORDER")?;
    Some(SmolStr::from(kind.to_ascii_lowercase()))
}
