//! The nearest known word to a mistyped one.

/// How alike two words must be to be offered, from 0 to 1: `chanels` and `channels` are 0.98, unrelated keys rarely reach 0.7.
const ALIKE: f64 = 0.75;
/// In a short word one slip of the finger weighs more than that: `dri` and `dir` are 0.56.
const SLIPS: usize = 1;

/// The known word that a person most likely meant, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let near = known.into_iter().filter_map(|candidate| {
        let plain = plain(candidate);
        let (alike, slips) = (strsim::jaro_winkler(&word, &plain), strsim::osa_distance(&word, &plain));
        (alike >= ALIKE || (slips <= SLIPS && plain.len() > SLIPS)).then_some((slips, alike, candidate))
    });
    near.min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))).map(|(_, _, candidate)| candidate)
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
            ("ulr", Some("url")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
