//! Names of tables and columns that QuestDB takes as they are.
//!
//! It refuses most that do not fit, changes none, and tells names apart without regard to case: `CPU` and `cpu` would be one
//! table. What does not fit here goes to the table `points`, where names are values.

/// In bytes, although the server counts characters: its files have these names, too.
const NAME_BYTES: usize = 127;

/// What neither a table nor a column may hold. `'` and `"` are among them: a name can be quoted as it is.
const NEVER: &[char] = &['?', ',', '\'', '"', '\\', '/', ':', ')', '(', '+', '*', '%', '~', '\u{feff}'];

/// Whether a table may be called so.
pub(super) fn is_table(name: &str) -> bool {
    let of_the_server = name.starts_with("sys.") || name.starts_with("telemetry") || name.starts_with("_query_trace");
    let edges = [' ', '.'];
    is_plain(name)
        && !of_the_server
        // Where a line begins, it makes it a comment elsewhere.
        && !name.starts_with('#')
        && !name.starts_with(edges)
        && !name.ends_with(edges)
        && !name.contains("..")
}

/// Whether a column may be called so.
pub(super) fn is_column(name: &str) -> bool {
    is_plain(name) && !name.contains(['.', '-'])
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES && !name.contains(|c: char| c.is_control() || NEVER.contains(&c))
}

/// The name by which the server tells whether it is the same.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A name as it stands in a line.
pub(super) fn escape(name: &str, out: &mut Vec<u8>) {
    for &byte in name.as_bytes() {
        if matches!(byte, b' ' | b',' | b'=' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_refused_or_changed_are_none() {
        for name in ["trades", "a b", "a.b", "a-b", "é", "🙂", "select", "9a", "a=b", "a;b"] {
            assert!(is_table(name), "{name}");
        }
        let long = "x".repeat(128);
        for name in
            ["", "a,b", "a'b", "a\"b", "a\\b", "../a", ".a", "a.", "a..b", " a", "a ", "a\nb", "a\0", "#a", &long]
        {
            assert!(!is_table(name), "{name}");
        }
        for name in ["a b", "é", "order", "#a", "a=b"] {
            assert!(is_column(name), "{name}");
        }
        for name in ["", "a.b", "a-b", "a:b", "a\tb", "\u{feff}a", &long] {
            assert!(!is_column(name), "{name}");
        }
        let mut out = Vec::new();
        escape("a =b", &mut out);
        assert_eq!(out, b"a\\ \\=b");
    }
}
