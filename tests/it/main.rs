//! The one integration-test binary: one module a feature.

mod coverage;
mod events;
mod kraken;
