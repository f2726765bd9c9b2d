//! What a connection asked for, and what of a change that leaves.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a connection asked for.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) id: Value,
    pub(super) orders: bool,
    /// `None`: any.
    pub(super) markets: Option<BTreeSet<String>>,
    /// `None`: all.
    pub(super) fields: Option<BTreeSet<String>>,
    pub(super) segmented: bool,
}

impl Subscription {
    pub(super) fn wants(&self, market: &str) -> bool {
        self.markets.as_ref().is_none_or(|markets| markets.contains(market))
    }

    /// Whether a field of a message is among those that were asked for.
    pub(super) fn has(&self, field: &str) -> bool {
        let name = match field {
            "atb" | "atl" => "EX_ALL_OFFERS",
            "batb" | "batl" => "EX_BEST_OFFERS",
            "bdatb" | "bdatl" => "EX_BEST_OFFERS_DISP",
            "trd" => "EX_TRADED",
            "tv" => "EX_TRADED_VOL",
            "ltp" => "EX_LTP",
            "spb" | "spl" => "SP_TRADED",
            "spn" | "spf" => "SP_PROJECTED",
            "marketDefinition" => "EX_MARKET_DEF",
            _ => return true,
        };
        self.fields.as_ref().is_none_or(|fields| fields.contains(name))
    }

    /// A change without what was not asked for.
    pub(super) fn cut(&self, change: &Value) -> Value {
        let mut change = change.clone();
        if let Value::Object(market) = &mut change {
            market.retain(|key, _| self.has(key));
            if let Some(Value::Array(runners)) = market.get_mut("rc") {
                for runner in runners {
                    if let Value::Object(runner) = runner {
                        runner.retain(|key, _| self.has(key));
                    }
                }
            }
        }
        change
    }
}
