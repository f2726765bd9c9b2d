//! `[candles]`: candles made of what is on the tape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[candles]`: candles made of what is on the tape. The section switches them on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Candles {}
