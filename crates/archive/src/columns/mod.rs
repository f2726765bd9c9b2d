//! Records as columns of Arrow, and back: two of those that walk a table's rows (`tapedeck_tables::row`).

pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod write;
