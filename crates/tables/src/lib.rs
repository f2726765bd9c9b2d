//! Records as rows of tables, one table a kind of event: the archive's files, SQL over them, and PostgreSQL have the same.
//!
//! - [`Table`]: which there are, and which one a record is in.
//! - [`row`]: the columns of a table, each stated once; whoever implements [`Columns`] walks them.
//! - [`columns`]: their names and what they hold.

mod bodies;
mod columns;
pub mod json;
mod table;

pub use bodies::{prototype, row};
pub use columns::{Column, Columns, Holds, LEG_DECIMALS, Rung, Shape, columns, leg_decimals};
pub use table::{Policy, Table, UnknownTable};
