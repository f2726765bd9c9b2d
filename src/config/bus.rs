//! `[bus]`: the tape for subscribers, over ZeroMQ.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Interval;

/// `[bus]`: the tape for subscribers, over ZeroMQ. The section switches it on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {
    /// Address of all its ports. Another one than this machine's own needs keys (`tapedeck keys`) or `insecure`. Default: "127.0.0.1".
    pub listen: IpAddr,
    /// Messages that wait for one slow subscriber before it misses some. Default: 100000.
    pub high_water: u32,
    /// Publish under the topics' other names too (`kraken_depth` beside `kr_depth`). Default: false.
    pub aliases: bool,
    /// Open an address that others can reach without encryption: everybody there reads everything. Default: false.
    pub insecure: bool,
    /// Added to every port that is not given by `[bus.topics.NAME] port`, for a second deck on one machine. Default: 0.
    pub port_offset: u16,
    /// What a topic does differently, `[bus.topics.NAME]`; `trade`, `point` and `candle` mean all of theirs. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, BusTopic>,
}

impl Default for Bus {
    fn default() -> Self {
        Bus {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            high_water: 100_000,
            aliases: false,
            insecure: false,
            port_offset: 0,
            topics: BTreeMap::new(),
        }
    }
}

/// `[bus.topics.NAME]`: one topic.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusTopic {
    /// Publish it here, in place of its usual ports. Default: as `tapedeck ports` prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// "map", "array", "kraken", "json" or "soh". Default: "map".
    pub form: Form,
    /// Publish it at all. Default: true.
    pub enabled: bool,
    /// Send only the newest of each instrument, at this pace ("1s"). Default: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflate: Option<Interval>,
    /// Numbers as "float" (64 bit) or as "text" (the venue's digits). Default: "float".
    pub decimals: Decimals,
}

impl Default for BusTopic {
    fn default() -> Self {
        BusTopic { port: None, form: Form::Map, enabled: true, conflate: None, decimals: Decimals::Float }
    }
}

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Form {
    /// Two frames: topic, MessagePack map.
    #[default]
    Map,
    /// Two frames: topic, the tape's own positional MessagePack.
    Array,
    /// Two frames: topic, MessagePack map of Kraken's `error` and `result`, by position.
    Kraken,
    /// Two frames: topic, JSON.
    Json,
    /// One frame: topic, space, fields joined by 0x01.
    Soh,
}

impl Form {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Form::Map => "map",
            Form::Array => "array",
            Form::Kraken => "kraken",
            Form::Json => "json",
            Form::Soh => "soh",
        }
    }
}

/// How a message writes numbers that were decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Decimals {
    #[default]
    Float,
    Text,
}
