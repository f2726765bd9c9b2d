//! Bytes of a stream into lines: they come cut anywhere, and no line is held that has no end.

use memchr::memchr;

/// Longest line, where the venue says no other: a price of all ten levels of OANDA has 1 KiB, the largest transaction a few;
/// a record of the tape ends at 16 MiB.
pub const LINE_BYTES: usize = 1 << 20;

/// Gathers lines.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    held: Vec<u8>,
    /// Where the next line begins.
    from: usize,
    /// Up to where no end of a line is.
    searched: usize,
    /// Within a line that is too long.
    skipping: bool,
}

/// What was cut off the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Without its end, and not empty.
    Line(&'a [u8]),
    /// The beginning of a line that is longer than the limit; the rest of it is left out.
    TooLong(&'a [u8]),
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter::up_to(LINE_BYTES)
    }
}

impl Splitter {
    /// For lines of at most so many bytes.
    #[must_use]
    pub fn up_to(limit: usize) -> Splitter {
        Splitter { limit, held: Vec::new(), from: 0, searched: 0, skipping: false }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.from > 0 {
            self.held.drain(..self.from);
            self.searched -= self.from;
            self.from = 0;
        }
        let mut bytes = bytes;
        if self.skipping {
            let Some(end) = memchr(b'\n', bytes) else { return };
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next line that is whole.
    pub fn cut(&mut self) -> Option<Piece<'_>> {
        loop {
            let Some(at) = memchr(b'\n', &self.held[self.searched..]) else {
                self.searched = self.held.len();
                if self.held.len() - self.from <= self.limit {
                    return None;
                }
                let begun = self.from..self.from + self.limit;
                (self.from, self.skipping) = (self.searched, true);
                return Some(Piece::TooLong(&self.held[begun]));
            };
            let (from, end) = (self.from, self.searched + at);
            (self.from, self.searched) = (end + 1, end + 1);
            if end - from > self.limit {
                return Some(Piece::TooLong(&self.held[from..from + self.limit]));
            }
            let line = self.held[from..end].trim_ascii();
            // The venue may keep a connection busy with blank lines.
            if !line.is_empty() {
                return Some(Piece::Line(self.held[from..end].trim_ascii()));
            }
        }
    }

    /// What is left without an end.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.held[self.from..].trim_ascii()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece);
            while let Some(piece) = splitter.cut() {
                match piece {
                    Piece::Line(line) => lines.push(line.to_vec()),
                    Piece::TooLong(begun) => lines.push(format!("too long: {}", begun.len()).into_bytes()),
                }
            }
        }
        lines
    }

    #[test]
    fn a_line_without_an_end_is_given_up_and_the_next_one_is_read() {
        let long = vec![b'x'; 700_000];
        let got = lines(&[b"{1}\n", &long, &long, &long, b"tail\n{2}\n{3", b"}\n"]);
        assert_eq!(
            got,
            [b"{1}".to_vec(), format!("too long: {LINE_BYTES}").into_bytes(), b"{2}".into(), b"{3}".into()]
        );
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut splitter = Splitter::default();
        for _ in 0..1_000 {
            splitter.push(&[b'x'; 64 * 1024]);
            while splitter.cut().is_some() {}
            assert!(splitter.held.len() <= LINE_BYTES + 64 * 1024, "{}", splitter.held.len());
        }
    }

    proptest! {
        #[test]
        fn wherever_the_bytes_are_cut_the_lines_are_the_same(
            text in "[a-c \r\n]{0,200}",
            cuts in proptest::collection::vec(0_usize..200, 0..20),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
            let ended = text.rfind('\n').map_or("", |end| &text[..end]);
            let want: Vec<Vec<u8>> =
                ended.split('\n').map(|line| line.as_bytes().trim_ascii().to_vec()).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(lines(&pieces), want);
        }
    }
}
