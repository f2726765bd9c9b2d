//! The collection that a mapping wants at the target.

use super::mapping::{Kind, Mapping, Wanted};
use super::pocketbase::{self, Collection, Field, Rules};

/// Characters of a text that is not known to be short; the server's own default is less than an insight may be.
const TEXT_CHARS: u64 = 1 << 20;

/// Its fields, a unique index on the natural key, an index on the time; open to superusers only.
#[must_use]
pub fn wanted(mapping: &Mapping) -> Collection {
    let field = |wanted: &Wanted| {
        let max = (wanted.kind == Kind::Text).then_some(TEXT_CHARS);
        Field { max, ..pocketbase::field(wanted) }
    };
    Collection {
        name: mapping.collection.to_string(),
        fields: mapping.wanted().iter().map(field).collect(),
        key: mapping.key_fields().unwrap_or_default().iter().map(ToString::to_string).collect(),
        time: mapping.time_field().map(|(name, _)| name.to_owned()),
        rules: Rules::default(),
    }
}
