//! How long days are kept.

use std::collections::BTreeMap;

use crate::day::Day;
use tapedeck_tables::{Policy, Table};

/// Days to keep, by policy and by table, and how much space all of it may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// In place of [`Policy::days`]; `None` = for ever.
    pub policies: BTreeMap<Policy, Option<u32>>,
    /// In place of the table's policy; `None` = for ever.
    pub tables: BTreeMap<Table, Option<u32>>,
    /// Above this the oldest days go, whatever their table; never the newest day. `None` = no limit.
    pub max_bytes: Option<u64>,
}

/// A name in `keep` that is neither a policy nor a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is neither a policy ({}) nor a table ({})", Policy::ALL.map(Policy::name).join(", "), Table::ALL.map(Table::name).join(", "))]
pub struct UnknownKeep {
    pub name: String,
}

impl Keep {
    /// For ever, everything.
    #[must_use]
    pub fn everything() -> Keep {
        Keep { policies: Policy::ALL.map(|policy| (policy, None)).into(), ..Keep::default() }
    }

    /// Sets the days of a policy or a table, by name.
    ///
    /// # Errors
    /// [`UnknownKeep`].
    pub fn set(&mut self, name: &str, days: Option<u32>) -> Result<(), UnknownKeep> {
        if let Some(policy) = Policy::ALL.into_iter().find(|policy| policy.name() == name) {
            self.policies.insert(policy, days);
        } else if let Ok(table) = name.parse() {
            self.tables.insert(table, days);
        } else {
            return Err(UnknownKeep { name: name.to_owned() });
        }
        Ok(())
    }

    /// Days that a table is kept; `None` = for ever.
    #[must_use]
    pub fn days(&self, table: Table) -> Option<u32> {
        if let Some(days) = self.tables.get(&table) {
            return *days;
        }
        let policy = table.policy();
        self.policies.get(&policy).copied().unwrap_or(Some(policy.days()))
    }

    /// The oldest day of a table that stays when `newest` is the day of the newest record.
    pub(crate) fn first_day(&self, table: Table, newest: Day) -> Option<Day> {
        // A day that has begun counts: 1 day is today and yesterday.
        self.days(table).map(|days| Day(newest.0.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_until_a_policy_or_a_table_says_otherwise() {
        let mut keep = Keep::default();
        let days = |keep: &Keep| [Table::Trades, Table::Books, Table::Candles].map(|table| keep.days(table));
        assert_eq!(days(&keep), [Some(30), Some(7), Some(365)]);
        keep.set("high_frequency", Some(2)).unwrap();
        keep.set("candles", None).unwrap();
        assert_eq!(days(&keep), [Some(30), Some(2), None]);
        assert_eq!(keep.first_day(Table::Books, Day(100)), Some(Day(98)));
        assert_eq!(keep.first_day(Table::Candles, Day(100)), None);
        assert!(keep.set("bars", None).unwrap_err().to_string().contains("candles"));
        assert!(Table::ALL.iter().all(|table| Keep::everything().days(*table).is_none()));
    }
}
