//! Which retention policy a record goes to, and how long it is kept there.
//!
//! ```text
//! trade, quote, ticker, odds, synthetic ─► default          30 d, shards of 1 d
//! book                                  ─► high_frequency    7 d, shards of 6 h
//! candle                                ─► long_term       365 d, shards of 30 d
//! anything else                         ─► what the database takes by default
//! ```
//!
//! Only to those that the store has: a policy makes a store forget, and nobody but its owner may want that. They are made
//! by `tapedeck retention create`. In 2.x a policy is a bucket, `DATABASE/POLICY`, as the server's own 1.x API has it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use tapedeck_market::Kind;

use crate::config::fits;
use crate::config::units::Interval;

/// The server's own least.
const SHORTEST: Duration = Duration::from_secs(3600);
const DAY: u64 = 86_400;

/// `[sink.NAME.policies.POLICY]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    /// How long points are kept; `"0s"` is for ever.
    pub duration: Interval,
    /// Length of a shard, which is what is removed at once. Default: the server's choice.
    #[serde(default)]
    pub shard: Option<Interval>,
    /// Copies in a cluster. Default: 1.
    #[serde(default = "one")]
    pub replication: u32,
    /// Kinds of events that go there. Default: none.
    #[serde(default)]
    pub events: Vec<String>,
    /// Make it what is read and written where no policy is named. Default: false.
    #[serde(default)]
    pub default: bool,
}

fn one() -> u32 {
    1
}

/// The policies of the predecessors.
fn built_in() -> [(&'static str, Policy); 3] {
    let policy = |days: u64, shard: u64, events: &[&str], default| Policy {
        duration: Interval(Duration::from_secs(days * DAY)),
        shard: Some(Interval(Duration::from_secs(shard))),
        replication: 1,
        events: events.iter().map(|&event| event.to_owned()).collect(),
        default,
    };
    [
        ("default", policy(30, DAY, &["quote", "ticker", "trade", "odds", "synthetic"], true)),
        ("high_frequency", policy(7, DAY / 4, &["book"], false)),
        ("long_term", policy(365, 30 * DAY, &["candle"], false)),
    ]
}

/// All policies that are wanted: those of the table, and the built-in ones that it does not replace. The table's own come
/// first, because what they name goes there.
pub(super) fn wanted(table: &BTreeMap<String, Policy>) -> Vec<(String, Policy)> {
    let own_default = table.values().any(|policy| policy.default);
    let built_in = built_in().into_iter().filter(|(name, _)| !table.contains_key(*name)).map(|(name, mut policy)| {
        policy.default &= !own_default;
        (name.to_owned(), policy)
    });
    table.iter().map(|(name, policy)| (name.clone(), policy.clone())).chain(built_in).collect()
}

pub(super) fn check(table: &BTreeMap<String, Policy>) -> anyhow::Result<()> {
    for (name, policy) in table {
        ensure!(!name.is_empty() && !name.contains('/'), "policies: `{name}` is no name of a policy");
        let short = |length: Duration| !length.is_zero() && length < SHORTEST;
        ensure!(!short(policy.duration.0), "policies.{name}: `duration` must be 1h or more, or \"0s\" for ever");
        ensure!(policy.shard.is_none_or(|shard| shard.0 >= SHORTEST), "policies.{name}: `shard` must be 1h or more");
        ensure!(policy.replication > 0, "policies.{name}: `replication` must be 1 or more");
        for pattern in &policy.events {
            let known = Kind::NAMES.iter().any(|(_, kind)| fits(pattern, kind));
            ensure!(known, "policies.{name}: no kind of event is called `{pattern}`");
        }
    }
    ensure!(table.values().filter(|policy| policy.default).count() < 2, "policies: only one can be the default");
    Ok(())
}

/// A policy that the store has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub name: String,
    /// `None`: for ever.
    pub keeps: Option<Duration>,
    pub shard: Option<Duration>,
    pub replication: Option<u64>,
    /// Where what names no policy goes.
    pub default: bool,
}

/// A place in the store for records of some kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Route {
    /// `None`: what the database takes by default.
    pub policy: Option<String>,
    pub keeps: Option<Duration>,
    events: Vec<String>,
}

/// Where records go, by their kind.
pub(super) fn routes(only: Option<&str>, wanted: &[(String, Policy)], found: &[Found]) -> Vec<Route> {
    let keeps = |name: &str| found.iter().find(|policy| policy.name == name).and_then(|policy| policy.keeps);
    let by_default = found.iter().find(|policy| policy.default).and_then(|policy| policy.keeps);
    if let Some(only) = only {
        return vec![Route { policy: Some(only.to_owned()), keeps: keeps(only), events: Vec::new() }];
    }
    let there = wanted.iter().filter(|(name, _)| found.iter().any(|policy| policy.name == *name));
    let routes = there.map(|(name, policy)| Route {
        policy: Some(name.clone()),
        keeps: keeps(name),
        events: policy.events.clone(),
    });
    let rest = Route { policy: None, keeps: by_default, events: vec!["*".to_owned()] };
    routes.chain([rest]).collect()
}

/// Which of the routes a kind of event takes: the last one takes all that is left.
pub(super) fn route_of<'a>(routes: impl ExactSizeIterator<Item = &'a Route>, kind: Kind) -> usize {
    let (name, last) = (kind.name(), routes.len() - 1);
    let mut routes = routes;
    routes.position(|route| route.events.iter().any(|pattern| fits(pattern, name))).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, days: u64, default: bool) -> Found {
        let keeps = (days > 0).then(|| Duration::from_secs(days * DAY));
        Found { name: name.to_owned(), keeps, shard: None, replication: Some(1), default }
    }

    fn to(routes: &[Route], kind: Kind) -> Option<&str> {
        routes[route_of(routes.iter(), kind)].policy.as_deref()
    }

    #[test]
    fn records_go_to_the_policies_that_are_there() {
        let all = wanted(&BTreeMap::new());
        let bare = routes(None, &all, &[found("autogen", 0, true)]);
        assert_eq!((bare.len(), to(&bare, Kind::TRADE)), (1, None), "nothing is to be forgotten");
        let made = [found("autogen", 0, false), found("default", 30, true), found("long_term", 365, false)];
        let some = routes(None, &all, &made);
        assert_eq!(to(&some, Kind::QUOTE), Some("default"));
        assert_eq!(to(&some, Kind::CANDLE), Some("long_term"));
        assert_eq!(to(&some, Kind::BOOK), None, "there is no high_frequency");
        assert_eq!(some[route_of(some.iter(), Kind::POINT)].keeps, Some(Duration::from_secs(30 * DAY)));
        let one = routes(Some("mine"), &all, &made);
        assert_eq!((to(&one, Kind::TRADE), to(&one, Kind::BOOK)), (Some("mine"), Some("mine")), "a set one wins");
    }

    #[test]
    fn the_table_adds_to_the_built_in_ones_and_comes_first() {
        let policy = |text: &str| toml::from_str::<Policy>(text).unwrap();
        let table = BTreeMap::from([
            ("long_term".to_owned(), policy("duration = '0s'\nevents = ['candle', 'gap']")),
            ("trades".to_owned(), policy("duration = '90d'\nevents = ['trade']\ndefault = true")),
        ]);
        check(&table).unwrap();
        let all = wanted(&table);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["long_term", "trades", "default", "high_frequency"]);
        assert_eq!(all.iter().filter(|(_, policy)| policy.default).count(), 1);
        let made: Vec<Found> = names.iter().map(|name| found(name, 1, false)).collect();
        let routes = routes(None, &all, &made);
        assert_eq!(to(&routes, Kind::TRADE), Some("trades"));
        assert_eq!((to(&routes, Kind::QUOTE), to(&routes, Kind::GAP)), (Some("default"), Some("long_term")));
    }
}
