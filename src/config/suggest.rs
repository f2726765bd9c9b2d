//! The nearest known word to a mistyped one.

/// How alike two words must be to be offered, from 0 to 1: `pair` and `pairs` are 0.96, unrelated keys rarely reach 0.7.
const ALIKE: f64 = 0.75;

/// The known word that a person most likely meant, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(word);
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&plain, &self::plain(candidate)), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `Book-Depth` and `bookDepth` are `book_depth` to a person.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word() {
        let known = ["pairs", "book_depth", "channels", "url", "checksum"];
        for (word, want) in [
            ("pair", Some("pairs")),
            ("bookDepth", Some("book_depth")),
            ("chanels", Some("channels")),
            ("URL", Some("url")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
