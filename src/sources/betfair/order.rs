//! Own orders as order events.
//!
//! ```text
//! {"id":"1.2416","fullImage":true,"closed":true,"accountId":…,"orc":[
//!    {"id":270592,"hc":0,"fullImage":true,"uo":[{"id":"2210",…}],"mb":[[34,0.8]],"ml":[…],"smc":{…}}]}
//! ```
//!
//! An order is an event of its own, with the venue's own text of it beside the fields, in the shape that the venue gives
//! a runner. What is matched on a runner at which price is an event `matched`; an image of a market, and its end, are
//! `image` and `closed`. The account's number is left out.

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Decimal, Flags, Order, Price, Side, Size, SmolStr};

use super::line::{At, Changes, Head, MARKET_BYTES, ParseError};
use super::value::{Word, unquoted};
use crate::sources::parsed::reason;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Market<'a> {
    id: Word,
    full_image: Option<bool>,
    closed: Option<bool>,
    #[serde(borrow)]
    orc: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Runner<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    hc: Option<&'a RawValue>,
    full_image: Option<bool>,
    #[serde(borrow)]
    uo: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    mb: Option<&'a RawValue>,
    #[serde(borrow)]
    ml: Option<&'a RawValue>,
    #[serde(borrow)]
    smc: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Own<'a> {
    id: Word,
    #[serde(borrow)]
    p: Option<&'a RawValue>,
    #[serde(borrow)]
    s: Option<&'a RawValue>,
    side: Option<Word>,
    status: Option<Word>,
    ot: Option<Word>,
    #[serde(borrow)]
    sm: Option<&'a RawValue>,
    #[serde(borrow)]
    avp: Option<&'a RawValue>,
    rfo: Option<Word>,
    lsrc: Option<Word>,
}

/// Adds the orders of a market to the message that they came in.
///
/// # Errors
/// It is not as the venue writes it.
pub(super) fn market(raw: &RawValue, at: At<'_>, changes: &mut Changes) -> Result<(), ParseError> {
    let shape = |error| ParseError::new(reason::SHAPE, error);
    let market: Market<'_> = serde_json::from_str(raw.get()).map_err(shape)?;
    let id = market.id.0;
    if id.is_empty() || id.len() > MARKET_BYTES {
        return Err(ParseError::new(reason::SHAPE, "a market without an id"));
    }
    let (image, closed) = (market.full_image == Some(true), market.closed == Some(true));
    let from = changes.events.len();
    let mut say = |order: Order, image: bool| {
        let flags = if image { Flags::SNAPSHOT } else { Flags::NONE };
        changes.events.push(at.event(&id, flags, Body::Order(Box::new(order))));
    };
    if image {
        say(Order { action: SmolStr::new_static("image"), ..Order::default() }, true);
    }
    for raw in market.orc.unwrap_or_default() {
        let runner: Runner<'_> = serde_json::from_str(raw.get()).map_err(shape)?;
        let image = image || runner.full_image == Some(true);
        for raw in runner.uo.iter().flatten() {
            let own: Own<'_> = serde_json::from_str(raw.get()).map_err(shape)?;
            say(order(own, runner.text(&format!(r#""uo":[{}]"#, raw.get()))), image);
        }
        let parts = [("mb", runner.mb), ("ml", runner.ml), ("smc", runner.smc)];
        let matched = parts.into_iter().filter_map(|(key, raw)| Some(format!(r#""{key}":{}"#, raw?.get())));
        let matched = matched.collect::<Vec<_>>().join(",");
        if !matched.is_empty() || image {
            let raw = Some(runner.text(&matched));
            say(Order { action: SmolStr::new_static("matched"), raw, ..Order::default() }, image);
        }
    }
    if closed {
        say(Order { action: SmolStr::new_static("closed"), ..Order::default() }, false);
    }
    if image || closed {
        changes.heads.push(Head { market: id, image, version: None, closed, from, to: changes.events.len() });
    }
    Ok(())
}

impl Runner<'_> {
    /// The runner with this of what it holds.
    fn text(&self, holds: &str) -> SmolStr {
        let handicap = self.hc.map(|hc| format!(r#","hc":{}"#, hc.get())).unwrap_or_default();
        let image = if self.full_image == Some(true) { r#","fullImage":true"# } else { "" };
        let comma = if holds.is_empty() { "" } else { "," };
        SmolStr::from(format!(r#"{{"id":{}{handicap}{image}{comma}{holds}}}"#, self.id.get()))
    }
}

fn order(own: Own<'_>, raw: SmolStr) -> Order {
    let named = |word: Option<Word>| word.map(|word| word.0).filter(|text| !text.is_empty());
    let status = named(own.status);
    Order {
        action: SmolStr::new_static(if status.as_deref() == Some("EC") { "complete" } else { "executable" }),
        id: Some(own.id.0),
        client_id: named(own.rfo),
        side: match own.side.as_ref().map(|word| word.0.as_str()) {
            Some("B") => Some(Side::Buy),
            Some("L") => Some(Side::Sell),
            _ => None,
        },
        order_type: named(own.ot).map(|letters| match letters.as_str() {
            "L" => SmolStr::new_static("limit"),
            "LOC" => SmolStr::new_static("limit_on_close"),
            "MOC" => SmolStr::new_static("market_on_close"),
            _ => letters,
        }),
        status,
        price: number(own.p).map(Price),
        size: number(own.s).map(Size),
        filled: number(own.sm).map(Size),
        avg_price: number(own.avp).map(Price),
        reason: named(own.lsrc),
        raw: Some(raw),
        ..Order::default()
    }
}

/// A number that does not fit is absent here and whole in `raw`.
fn number(raw: Option<&RawValue>) -> Option<Decimal> {
    Decimal::parse(unquoted(raw?).as_bytes()).ok()
}
