//! Kraken's REST shape, positional as the predecessors' subscriber reads it:
//!
//! ```text
//! tick   {"error":[],"result":{PAIR:[[ask,whole,lot],[bid,whole,lot],[last,lot],[volume d,24h],[vwap d,24h],
//!                                    [trades d,24h],[low d,24h],[high d,24h],open]}}
//! depth  {"error":[],"result":{PAIR:{"asks":[[price,size,s]…],"bids":[[price,size,s]…]}}}
//! ```
//!
//! A place cannot be left out: what is unknown is nil. `seq` and the rest of what every map carries stand beside `error`.

use tapedeck_market::{Level, SmolStr, Stats, Ticker};

use super::super::engine::{Content, Message};
use super::{Fields, Val};

/// Puts `error` and `result`; false, and nothing, for topics that have no such shape.
pub(super) fn put(message: &Message, fields: &mut Fields) -> bool {
    let value = match &message.content {
        Content::Tick(ticker) => tick(ticker),
        Content::Depth { bids, asks } => depth(message, bids, asks),
        Content::Body(_) => return false,
    };
    fields.put("error", Val::List(Vec::new()));
    fields.put("result", Val::Map(vec![(message.old_name.clone(), value)]));
    true
}

fn tick(ticker: &Ticker) -> Val {
    fn place(value: Option<impl Into<Val>>) -> Val {
        value.map_or(Val::Nil, Into::into)
    }
    let pair = |of: fn(&Stats) -> Val| Val::List(vec![of(&ticker.today), of(&ticker.day)]);
    Val::List(vec![
        Val::List(vec![place(ticker.ask), place(ticker.ask_whole_lots), place(ticker.ask_size)]),
        Val::List(vec![place(ticker.bid), place(ticker.bid_whole_lots), place(ticker.bid_size)]),
        Val::List(vec![place(ticker.last), place(ticker.last_size)]),
        pair(|stats| place(stats.volume)),
        pair(|stats| place(stats.vwap)),
        pair(|stats| place(stats.trades)),
        pair(|stats| place(stats.low)),
        pair(|stats| place(stats.high)),
        place(ticker.today.open.or(ticker.day.open)),
    ])
}

fn depth(message: &Message, bids: &[Level], asks: &[Level]) -> Val {
    const NS: i64 = 1_000_000_000;
    let seconds = Val::Int(message.ts_event.unwrap_or(message.ts_recv).0.div_euclid(NS));
    let side = |levels: &[Level]| {
        let level = |level: &Level| Val::List(vec![level.price.into(), level.size.into(), seconds.clone()]);
        Val::List(levels.iter().map(level).collect())
    };
    Val::Map(vec![(SmolStr::new_static("asks"), side(asks)), (SmolStr::new_static("bids"), side(bids))])
}
