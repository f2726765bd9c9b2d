//! What the user asked for: one TOML file, overridden from the environment and the command line.
//!
//! ```text
//! --set key=value  >  TAPEDECK__A__B (environment, credential, .env)  >  file  >  predecessors' names  >  defaults
//! ```
//!
//! All layers become one [`tree::Tree`] of values that know where they came from; the tree is
//! checked whole (unknown keys, types, ranges, what must not be open to the network) and only then
//! becomes a [`Config`]. Each kind of source or sink owns its table: it stays raw here and is checked by the kind's `build`.

mod bus;
mod candles;
mod check;
mod globs;
mod load;
pub mod names;
mod problem;
pub mod reference;
pub mod schema;
pub mod secret;
mod server;
mod show;
mod store;
pub mod suggest;
mod synthetic;
pub mod tree;
mod types;
pub mod units;

pub use bus::{Bus, BusTopic, Decimals, Form};
pub use candles::{Candles, Input};
pub use globs::{Globs, fits};
pub use load::{DEFAULT_FILE, Inputs, Loaded, Note, Place, SecretText, load, parse_text, resolve};
pub use problem::{Problem, Problems};
pub use secret::Secret;
pub use server::{NamedServer, Ready, Server, Stop};
pub use show::{Shown, show};
pub use store::{KEPT, KeepDays, Store};
pub use synthetic::{Synthetic, When};
pub use types::{Config, Deck, Http, Keep, KindTable, Listen, Log, LogFormat, Mode, OnFull, Sections, Tape};
