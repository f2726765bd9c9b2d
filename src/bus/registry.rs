//! The one register of ports and topics: which service is where, and under which other names.
//!
//! The predecessors' documents disagree on 5559 and 5560, 5556 and 5562, and on 5557: each reading is served, because a
//! subscriber filters by topic anyway. What they called "subscriber ports" binds nothing; it stays free.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{self, suggest::nearest};

/// Where missed messages and last values are asked for.
pub const REQUESTS: u16 = 5571;
/// Where every topic is published.
pub const EVERYTHING: u16 = 5572;

/// What stands behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Socket {
    /// Publishes.
    #[serde(rename = "PUB")]
    Pub,
    /// Answers.
    #[serde(rename = "ROUTER")]
    Router,
    /// Kept free: the predecessors gave it to a subscriber.
    #[serde(rename = "SUB")]
    Reserved,
}

impl Socket {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Socket::Pub => "PUB",
            Socket::Router => "ROUTER",
            Socket::Reserved => "SUB",
        }
    }
}

/// One row of the register.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its id, where the predecessors had one: theirs.
    pub id: &'static str,
    pub port: u16,
    pub socket: Socket,
    /// Topics; a name that ends in a dot is a family.
    pub topics: &'static [&'static str],
    pub about: &'static str,
}

const fn publisher(id: &'static str, port: u16, topics: &'static [&'static str], about: &'static str) -> Service {
    Service { id, port, socket: Socket::Pub, topics, about }
}

/// The register. Of several ports of a topic the first one is its own, the others are second readings.
pub const SERVICES: &[Service] = &[
    publisher("kraken_tick_pub", 5558, &["kraken_tick"], "Kraken: best prices, last trade, statistics"),
    publisher("kraken_eurusd_tick_pub", 5559, &["kr_eurusd_tick"], "EUR/USD through crypto crosses"),
    publisher("kraken_depth_pub", 5560, &["kr_depth"], "Kraken: order books"),
    publisher("kraken_orders_pub", 5561, &["kraken_orders"], "Kraken: own orders and fills"),
    publisher("oanda_tick_pub", 5562, &["oanda_tick"], "OANDA: best prices"),
    publisher("oanda_orders_pub", 5563, &["oanda_orders"], "OANDA: own orders and transactions"),
    publisher("betfair_stream_pub", 5564, &["betfair_stream"], "betting exchange: runner changes"),
    publisher("twitter_sentiment_pub", 5565, &["twitter_sentiment"], "posts with their sentiment"),
    publisher("kraken_eurusd_depth_pub", 5566, &["kr_eurusd_depth"], "EUR/USD through crypto crosses, with depth"),
    publisher("kite_tick_pub", 5567, &["kite_tick"], "Kite: best prices, last trade, statistics"),
    publisher(
        "market_pub",
        5568,
        &["trade.", "point.", "tick.", "depth.", "orders."],
        "trades, points, and what venues without a port of their own send",
    ),
    publisher("derived_pub", 5570, &["candle.", "ohlc.", "gap", "status"], "candles, the gap ledger, states"),
    Service {
        id: "requests",
        port: REQUESTS,
        socket: Socket::Router,
        topics: &[],
        about: "missed messages and last values, on request",
    },
    publisher("everything_pub", EVERYTHING, &[""], "every topic"),
    publisher("oanda_pub", 5556, &["oanda_tick"], "second reading of oanda_tick_pub"),
    publisher("kraken_depth_pub_5557", 5557, &["kr_depth"], "second reading of kraken_depth_pub"),
    publisher("kraken_depth_pub_5559", 5559, &["kr_depth"], "second reading of kraken_depth_pub"),
    publisher("kraken_eurusd_tick_pub_5560", 5560, &["kr_eurusd_tick"], "second reading of kraken_eurusd_tick_pub"),
    reserved("kraken_influxdb_tick_sub", 5578, &["kraken_tick"]),
    reserved("kraken_influxdb_depth_sub", 5579, &["kr_depth"]),
    reserved("reserved_5580", 5580, &[]),
    reserved("oanda_influxdb_tick_sub", 5581, &["oanda_tick"]),
    reserved("reserved_5582", 5582, &[]),
    reserved("reserved_5583", 5583, &[]),
    reserved("reserved_5584", 5584, &[]),
];

const fn reserved(id: &'static str, port: u16, topics: &'static [&'static str]) -> Service {
    Service { id, port, socket: Socket::Reserved, topics, about: "a subscriber of the predecessors: nothing binds it" }
}

/// Other names of topics: (name, topic).
pub const ALIASES: &[(&str, &str)] =
    &[("kraken_depth", "kr_depth"), ("kr_order_book", "kr_depth"), ("twitter", "twitter_sentiment")];

/// The topic of a name, which may be an alias.
#[must_use]
pub fn topic_of(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, topic)| topic)
}

/// The other names of a topic.
pub fn aliases_of(topic: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    ALIASES.iter().filter(move |(_, of)| *of == topic).map(|(alias, _)| *alias)
}

/// The row's entry that a topic belongs to: its own name, or its family.
fn entry(topic: &str) -> Option<&'static str> {
    let all = || SERVICES.iter().flat_map(|service| service.topics).copied().filter(|name| !name.is_empty());
    all().find(|name| *name == topic).or_else(|| all().find(|name| name.ends_with('.') && topic.starts_with(name)))
}

/// Whether there can be such a topic.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    entry(topic).is_some_and(|entry| topic.len() > entry.len() || !entry.ends_with('.'))
}

/// What the config says of a topic: of itself, of its alias, or of its family (`trade` for `trade.kraken`).
#[must_use]
pub fn settings<'a>(bus: &'a config::Bus, topic: &str) -> Option<&'a config::BusTopic> {
    let family = topic.split_once('.').map(|(family, _)| family);
    let alias = || aliases_of(topic).find_map(|alias| bus.topics.get(alias));
    bus.topics.get(topic).or_else(alias).or_else(|| bus.topics.get(family?))
}

/// The ports that a topic is published on, first its own; [`EVERYTHING`] is not among them.
#[must_use]
pub fn ports_of(bus: &config::Bus, topic: &str) -> Vec<u16> {
    if let Some(port) = settings(bus, topic).and_then(|settings| settings.port) {
        return vec![port];
    }
    let Some(entry) = entry(topic) else { return Vec::new() };
    let publishes = |service: &&Service| service.socket == Socket::Pub && service.topics.contains(&entry);
    SERVICES.iter().filter(publishes).map(|service| moved(bus, service.port)).collect()
}

/// A port of the register, where this config puts it.
#[must_use]
pub fn moved(bus: &config::Bus, port: u16) -> u16 {
    port.wrapping_add(bus.port_offset)
}

/// Every port that publishes, with the entries found there, for a config.
#[must_use]
pub fn layout(bus: &config::Bus) -> BTreeMap<u16, Vec<String>> {
    let mut layout: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for service in SERVICES.iter().filter(|service| service.socket == Socket::Pub) {
        for topic in service.topics {
            let name = topic.trim_end_matches('.');
            let settings = settings(bus, name);
            if settings.is_some_and(|settings| !settings.enabled || settings.port.is_some()) {
                continue;
            }
            layout.entry(moved(bus, service.port)).or_default().push((*topic).to_owned());
        }
    }
    for (name, settings) in bus.topics.iter().filter(|(_, settings)| settings.enabled) {
        let Some(port) = settings.port else { continue };
        let topic = topic_of(name);
        let family = format!("{topic}.");
        let shown = if entry(&family) == Some(family.as_str()) { family } else { topic.to_owned() };
        layout.entry(port).or_default().push(shown);
    }
    layout
}

/// What is wrong with a `[bus]` section, as (path below it, what, help).
#[must_use]
pub fn problems(bus: &config::Bus) -> Vec<(Vec<String>, String, String)> {
    let mut found = Vec::new();
    let families = SERVICES.iter().flat_map(|service| service.topics).filter_map(|topic| topic.strip_suffix('.'));
    let known: Vec<&str> = SERVICES
        .iter()
        .flat_map(|service| service.topics)
        .copied()
        .filter(|topic| !topic.is_empty() && !topic.ends_with('.'))
        .chain(ALIASES.iter().map(|(alias, _)| *alias))
        .chain(families)
        .collect();
    let (requests, everything) = (moved(bus, REQUESTS), moved(bus, EVERYTHING));
    for (name, settings) in &bus.topics {
        let path = |key: &str| vec!["topics".to_owned(), name.clone(), key.to_owned()];
        if !known.contains(&name.as_str()) && !is_topic(topic_of(name)) {
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`tapedeck ports` lists them".to_owned(),
            };
            found.push((vec!["topics".to_owned(), name.clone()], format!("there is no topic `{name}`"), help));
        }
        match settings.port {
            Some(0) => found.push((path("port"), "0 is no port".to_owned(), "write 1 to 65535".to_owned())),
            Some(port) if port == requests || port == everything => {
                let taken = if port == requests { "requests are answered" } else { "every topic is published" };
                let help = "`tapedeck ports` lists what is taken".to_owned();
                found.push((path("port"), format!("{port} is where {taken}"), help));
            }
            _ => {}
        }
        if settings.conflate.is_some_and(|pace| pace.0.as_millis() == 0) {
            found.push((path("conflate"), "is no pace".to_owned(), "write \"100ms\" or longer".to_owned()));
        }
    }
    let last = SERVICES.iter().map(|service| service.port).max().unwrap_or_default();
    if last.checked_add(bus.port_offset).is_none() {
        let help = format!("at most {}", u16::MAX - last);
        found.push((vec!["port_offset".to_owned()], "moves ports beyond 65535".to_owned(), help));
    }
    if bus.high_water == 0 || i32::try_from(bus.high_water).is_err() {
        let help = "write a number of messages, such as 100000".to_owned();
        found.push((vec!["high_water".to_owned()], "must be between 1 and 2147483647".to_owned(), help));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{Bus, BusTopic};

    #[test]
    fn every_id_and_every_pair_of_port_and_topic_occurs_once() {
        let mut ids = HashSet::new();
        let mut places = HashSet::new();
        for service in SERVICES {
            assert!(ids.insert(service.id), "{} twice", service.id);
            for topic in service.topics {
                assert!(places.insert((service.port, topic)), "{topic} twice on {}", service.port);
            }
            let mixed = SERVICES.iter().any(|other| other.port == service.port && other.socket != service.socket);
            assert!(!mixed, "{} has two kinds of sockets", service.port);
        }
        let own: Vec<u16> = SERVICES[..14].iter().map(|service| service.port).collect();
        let unique: HashSet<&u16> = own.iter().collect();
        assert_eq!(unique.len(), own.len(), "each service has a port of its own: {own:?}");
    }

    #[test]
    fn both_readings_of_the_old_documents_are_served() {
        let bus = Bus::default();
        assert_eq!(ports_of(&bus, "kr_depth"), [5560, 5557, 5559]);
        assert_eq!(ports_of(&bus, "kr_eurusd_tick"), [5559, 5560]);
        assert_eq!(ports_of(&bus, "oanda_tick"), [5562, 5556]);
        assert_eq!(ports_of(&bus, "trade.kraken"), [5568]);
        assert_eq!(ports_of(&bus, "candle.1m"), [5570]);
        assert!(ports_of(&bus, "nothing").is_empty());
    }

    #[test]
    fn a_topic_can_be_moved_and_switched_off() {
        let mut bus = Bus { port_offset: 100, ..Bus::default() };
        bus.topics.insert("kraken_depth".into(), BusTopic { port: Some(7000), ..BusTopic::default() });
        bus.topics.insert("trade".into(), BusTopic { enabled: false, ..BusTopic::default() });
        assert_eq!(ports_of(&bus, "kr_depth"), [7000]);
        assert_eq!(ports_of(&bus, "kraken_tick"), [5658]);
        let layout = layout(&bus);
        assert_eq!(layout[&7000], ["kr_depth"]);
        assert!(!layout.values().flatten().any(|topic| topic == "trade."), "{layout:?}");
        assert_eq!(layout[&5672], [""]);
        assert!(problems(&bus).is_empty(), "{:?}", problems(&bus));
    }

    #[test]
    fn a_mistyped_topic_and_a_taken_port_are_named() {
        let mut bus = Bus::default();
        bus.topics.insert("kraken_tik".into(), BusTopic::default());
        bus.topics.insert("gap".into(), BusTopic { port: Some(REQUESTS), ..BusTopic::default() });
        let said = problems(&bus);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0].1, format!("{REQUESTS} is where requests are answered"));
        assert_eq!(said[1].2, "did you mean `kraken_tick`?");
    }
}
