//! The target: collections of a PocketBase, by its HTTP API.
//!
//! ```text
//! Client ── session: one login, renewed before it ends, made again when it is refused
//!        ├─ settings: batches allowed? how many requests, how many bytes, how long
//!        ├─ schema:   what a collection must be like, what it lacks; makes and adds, never drops or retypes
//!        ├─ batch:    PUT and DELETE of many records in one transaction   ◄─ Writer, piece by piece
//!        ├─ sql:      many rows a statement, past validation and realtime ◄─ Writer, where asked for
//!        ├─ read:     pages by key, counts
//!        └─ store:    all of it as the target that the engine knows
//! ```
//!
//! What a server of another version, a proxy or a stranger on that port answers becomes a [`super::Trouble`] with the server's
//! words and what to do. Written for 0.39; nothing of it needs more than 0.23 but `sql`.

mod answer;
mod batch;
mod client;
mod config;
mod read;
mod schema;
mod session;
mod settings;
mod sql;
mod store;

pub use client::Client;
pub use config::Target;
pub use read::{Fields, Found, Order, Page, Place, Range};
pub use schema::{Collection, Difference, Field, Kind, Lack, Rules};
pub use settings::Limits;
pub use sql::Sql;
pub use store::PocketBase;
pub(in crate::sync) use store::field;
