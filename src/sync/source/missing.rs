//! That a table is not there, said so that it helps.

use crate::sync::{Class, Trouble};

/// How many names a message holds.
const NAMES: usize = 20;

/// That a table is not there, and which one may be meant or which ones there are.
pub(super) fn no_such_table(table: &str, there: &[String]) -> Trouble {
    let trouble = Trouble::new(Class::Setup, format!("there is no table `{table}`"));
    let distance = |name: &String| strsim::damerau_levenshtein(&name.to_lowercase(), &table.to_lowercase());
    if let Some(near) = there.iter().min_by_key(|name| distance(name)).filter(|name| distance(name) <= 2) {
        return trouble.fix(format!("is `{near}` meant?"));
    }
    let more = if there.len() > NAMES { format!(" and {} more", there.len() - NAMES) } else { String::new() };
    let listed: Vec<String> = there.iter().take(NAMES).map(|name| format!("`{name}`")).collect();
    if listed.is_empty() {
        return trouble.fix("there are no tables at all");
    }
    trouble.fix(format!("there are {}{more}", listed.join(", ")))
}
