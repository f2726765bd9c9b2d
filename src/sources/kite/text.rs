//! Text frames of the ticker: own orders, errors, messages. Pure, and total on any bytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Decimal, Event, Flags, Order, Price, Side, Size, SmolStr, UnixNanos};

use crate::config::secret::HIDDEN;
use crate::sources::masking::without_values;
use crate::sources::parsed::reason;
pub use crate::sources::parsed::{Ctx, ParseError};

/// India's clocks are ahead of UTC by this, all year.
pub(super) const IST_SECS: i64 = 19_800;
/// A text of the venue's is shown and kept up to here.
const SAID_CHARS: usize = 500;
/// Fields of an order that name the account.
const ACCOUNT: &[&str] = &["user_id", "placed_by", "account_id"];

/// A text frame, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// A change of an own order.
    Order(Box<Event>),
    /// The venue refuses something, in its words.
    Error(String),
    /// News for people.
    Message(String),
    /// Of a later protocol.
    Unknown,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Postback<'a> {
    order_id: Option<SmolStr>,
    status: Option<SmolStr>,
    status_message: Option<SmolStr>,
    exchange: Option<SmolStr>,
    tradingsymbol: Option<SmolStr>,
    order_type: Option<SmolStr>,
    transaction_type: Option<SmolStr>,
    tag: Option<SmolStr>,
    exchange_update_timestamp: Option<SmolStr>,
    exchange_timestamp: Option<SmolStr>,
    order_timestamp: Option<SmolStr>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    placed_by: Option<&'a RawValue>,
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow)]
    average_price: Option<&'a RawValue>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    filled_quantity: Option<&'a RawValue>,
}

/// Reads a text frame.
///
/// # Errors
/// It is no JSON, or an order that is none.
pub fn parse(bytes: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Text, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let frame: Frame<'_> = serde_json::from_str(text).map_err(|error| {
        let reason = if error.is_data() { reason::SHAPE } else { reason::NOT_JSON };
        ParseError::new(reason, error)
    })?;
    Ok(match (&*frame.kind, frame.data) {
        ("order", Some(data)) => Text::Order(Box::new(order(data.get(), ts_recv, ctx)?)),
        ("error", Some(data)) => Text::Error(said(data.get())),
        ("message", Some(data)) => Text::Message(said(data.get())),
        _ => Text::Unknown,
    })
}

fn order(text: &str, ts_recv: UnixNanos, ctx: &Ctx) -> Result<Event, ParseError> {
    let order: Postback<'_> = serde_json::from_str(text).map_err(|error| ParseError::new(reason::SHAPE, error))?;
    let symbol = match (&order.exchange, &order.tradingsymbol) {
        (Some(exchange), Some(symbol)) => SmolStr::new(format!("{exchange}:{symbol}")),
        _ => return Err(ParseError::new(reason::SHAPE, "an order of no instrument")),
    };
    let times = [&order.exchange_update_timestamp, &order.exchange_timestamp, &order.order_timestamp];
    let ts_event = times.into_iter().flatten().find_map(|text| india(text));
    // The venue writes zero where there is none.
    let given = |raw| number(raw).map(|number| number.filter(|number| !number.is_zero()));
    let body = Order {
        action: order.status.clone().unwrap_or_default(),
        id: order.order_id.clone(),
        client_id: order.tag.clone(),
        side: match order.transaction_type.as_deref() {
            Some("BUY") => Some(Side::Buy),
            Some("SELL") => Some(Side::Sell),
            _ => None,
        },
        order_type: order.order_type.clone(),
        status: order.status.clone(),
        price: given(order.price)?.map(Price),
        size: number(order.quantity)?.map(Size),
        filled: number(order.filled_quantity)?.map(Size),
        avg_price: given(order.average_price)?.map(Price),
        reason: order.status_message.clone(),
        raw: Some(SmolStr::new(without(text, &[order.user_id, order.placed_by]))),
        ..Order::default()
    };
    Ok(ctx.event(symbol, ts_event, ts_recv, Flags::NONE, Body::Order(Box::new(body))))
}

/// The frame without the account that it names, as it may be kept: whole, cut off, or no frame at all.
#[must_use]
pub fn masked(bytes: &[u8]) -> Cow<'_, [u8]> {
    #[derive(Deserialize)]
    struct Accounts<'a> {
        #[serde(borrow)]
        user_id: Option<&'a RawValue>,
        #[serde(borrow)]
        placed_by: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Frame<'a> {
        #[serde(borrow)]
        data: Accounts<'a>,
    }
    let text = std::str::from_utf8(bytes).ok();
    match text.and_then(|text| Some((text, serde_json::from_str::<Frame<'_>>(text).ok()?.data))) {
        Some((text, accounts)) => Cow::Owned(without(text, &[accounts.user_id, accounts.placed_by]).into_bytes()),
        None => Cow::Owned(without_values(bytes, ACCOUNT)),
    }
}

/// JSON without the account: neither behind its keys, nor where a text repeats it.
fn without(text: &str, values: &[Option<&RawValue>]) -> String {
    let mut hidden = String::from_utf8_lossy(&without_values(text.as_bytes(), ACCOUNT)).into_owned();
    for value in
        values.iter().flatten().map(|value| value.get()).filter(|value| value.len() > 2 && value.starts_with('"'))
    {
        hidden = hidden.replace(value, &format!("\"{HIDDEN}\""));
    }
    hidden
}

/// A number of JSON, or a text that is one; null is none.
fn number(raw: Option<&RawValue>) -> Result<Option<Decimal>, ParseError> {
    let Some(text) = raw.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    let text = text.trim_matches('"');
    Decimal::parse(text.as_bytes()).map(Some).map_err(|error| ParseError::new(reason::NUMBER, error))
}

/// `2022-03-03 09:24:25`, on a clock in India.
pub(super) fn india(text: &str) -> Option<UnixNanos> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let secs = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second() - IST_SECS;
    // Years that no clock of 64 bits tells are no times.
    secs.checked_mul(1_000_000_000).map(UnixNanos)
}

/// A text in JSON, or whatever it is, for people.
fn said(json: &str) -> String {
    let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    text.chars().filter(|c| !c.is_control()).take(SAID_CHARS).collect()
}
