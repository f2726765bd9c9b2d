//! `[bus]`: the tape for subscribers, over ZeroMQ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[bus]`: the tape for subscribers, over ZeroMQ. The section switches it on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {}
