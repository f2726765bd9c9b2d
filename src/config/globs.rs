//! Patterns of names, as configs and command lines take them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Patterns in which `*` stands for any text; without any, everything fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Globs(pub Vec<String>);

impl Globs {
    /// Whether a text fits one of them, or there are none.
    #[must_use]
    pub fn fit(&self, text: &str) -> bool {
        self.0.is_empty() || self.name(text)
    }

    /// Whether one of them fits.
    #[must_use]
    pub fn name(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, text))
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
