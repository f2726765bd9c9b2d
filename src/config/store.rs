//! `[store]`: the tape as Parquet files and as SQL tables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[store]`: the tape as Parquet files and as SQL tables. The section switches it on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {}
