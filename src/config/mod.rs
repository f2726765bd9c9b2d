//! What the user asked for: one TOML file, overridden from the environment and the command line.

pub mod secret;
pub mod suggest;
pub mod units;

pub use secret::Secret;
