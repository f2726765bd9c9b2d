//! Rows of a source, with nothing lost on the way here.

use std::sync::Arc;

use tapedeck_market::SmolStr;

/// One value of a row, as exact as the source has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL, and what the source means by it (NaN of a double, the smallest long).
    Null,
    Bool(bool),
    Int(i64),
    /// Finite, or an infinity; never NaN.
    Double(f64),
    /// An exact decimal, or a whole number too wide for 64 bits, as text.
    Decimal(String),
    Text(String),
    /// Nanoseconds since 1970, UTC; [`Type::Time`] says how fine the source's clock is.
    Time(i64),
    /// Arrays and JSON, as plain text: see [`super::json`].
    Json(String),
}

/// What a column holds, in the source's own terms made few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Bool,
    Int,
    Double,
    Decimal,
    Text,
    Time { nanos: bool },
    Json,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: SmolStr,
    pub kind: Type,
    /// The source's own word for its type, e.g. `SYMBOL`.
    pub native: SmolStr,
    /// Whether rows of equal keys replace each other there.
    pub upsert_key: bool,
}

/// The columns of a table, in the order in which rows have their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub columns: Arc<[Column]>,
    /// Place of the designated timestamp.
    pub time: Option<usize>,
}

/// A row: one value a column of its [`Schema`].
pub type Row = Vec<Value>;

impl Schema {
    /// Place of a column.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Of names and types of all columns, in their order: equal for equal columns, also after a restart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut text = String::new();
        for column in self.columns.iter() {
            for part in [&column.name, &column.native] {
                text.push_str(&part.len().to_string());
                text.push(':');
                text.push_str(part);
            }
        }
        let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hash.as_ref()[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}
