//! Line protocol, written: one line a record, for every store that takes it.
//!
//! ```text
//! measurement,tag=value,… field=1.5,count=3i,text="…" 1700000000000000000
//! ```
//!
//! What would be stored as something else is refused here, with a reason: a line break in a name ends the line, a `#` before it makes it a comment, a backslash at the
//! end of one escapes what follows it, an infinite number is none. A backslash before a character that is itself escaped is read in
//! two ways by the server: where it looks for the end of the line, and where it reads the name; a quote behind it could swallow the next line.

use std::io::Write as _;

use memchr::memchr2;
use tapedeck_market::Decimal;

/// The server's own bound for measurement, tags and a field's name together.
const KEY_BYTES: usize = 65_535;
/// What it puts before the field's name.
const KEY_SEPARATOR: usize = 4;
/// And for a text of a field.
const TEXT_BYTES: usize = 65_535;

/// Why a record has no line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoLine {
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("the {0} `{1}` holds a control character, which line protocol cannot express")]
    Control(&'static str, String),
    #[error(
        "the {0} `{1}` has a backslash at its end or before a comma, space or `=`, which line protocol cannot express"
    )]
    Backslash(&'static str, String),
    #[error("the measurement `{0}` begins with `#`, which makes its line a comment")]
    Comment(String),
    #[error("measurement, tags and the name of a field take {0} bytes, more than {KEY_BYTES}")]
    LongKey(usize),
    #[error("the text of `{0}` takes {1} bytes, more than {TEXT_BYTES}")]
    LongText(String, usize),
    #[error("`{0}` is not a finite number")]
    NotFinite(String),
    #[error("`{0}` is larger than a signed 64-bit number")]
    TooLarge(String),
    #[error("it has no field")]
    NoField,
    /// The store has no place for it, by plan: not a failure.
    #[error("no place for it")]
    Unwanted,
}

/// Longest name that is looked at only once: far below all bounds.
const PLAIN_BYTES: usize = 256;

/// Bytes that stand for themselves in every name: no control character, nothing that is escaped or escapes.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = !((byte as u8).is_ascii_control() || matches!(byte as u8, b',' | b'=' | b' ' | b'\\'));
        byte += 1;
    }
    plain
};

/// Whether a name can be written as it is, wherever it stands (but for a `#` that begins a measurement).
#[inline(always)]
fn is_plain(name: &str) -> bool {
    (1..=PLAIN_BYTES).contains(&name.len()) && name.bytes().all(|byte| PLAIN[usize::from(byte)])
}

/// Lines under construction.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub text: Vec<u8>,
    /// Lines that are whole: a text in one may hold line breaks.
    pub count: usize,
}

impl Lines {
    /// Begins a line; it counts once [`Line::end`] has returned.
    pub(super) fn line(&mut self, measurement: &str) -> Result<Line<'_>, NoLine> {
        let start = self.text.len();
        let mut line = Line { text: &mut self.text, count: &mut self.count, start, fields: 0, key: 0, whole: false };
        line.name("measurement", measurement, b", ")?;
        Ok(line)
    }

    /// The same, of a measurement whose name is in two parts.
    pub(super) fn line_of(&mut self, venue: &str, kind: &str) -> Result<Line<'_>, NoLine> {
        if !is_plain(venue) || !(kind.is_empty() || is_plain(kind)) || venue.starts_with('#') {
            return self.line(&format!("{venue}{kind}"));
        }
        let start = self.text.len();
        self.text.extend_from_slice(venue.as_bytes());
        self.text.extend_from_slice(kind.as_bytes());
        Ok(Line { text: &mut self.text, count: &mut self.count, start, fields: 0, key: 0, whole: false })
    }

    /// Forgets all lines, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.back_to((0, 0));
    }

    /// Where the lines end, for [`Lines::back_to`].
    pub(super) fn place(&self) -> (usize, usize) {
        (self.text.len(), self.count)
    }

    /// Forgets what was written since.
    pub(super) fn back_to(&mut self, (bytes, count): (usize, usize)) {
        self.text.truncate(bytes);
        self.count = count;
    }
}

/// A line under construction. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub(super) struct Line<'a> {
    text: &'a mut Vec<u8>,
    count: &'a mut usize,
    start: usize,
    fields: usize,
    /// Bytes of measurement and tags, once there is a field.
    key: usize,
    whole: bool,
}

impl Line<'_> {
    /// A tag; one without a value is left out, because there is no such thing.
    #[inline]
    pub(super) fn tag(&mut self, key: &str, value: &str) -> Result<(), NoLine> {
        if value.is_empty() {
            return Ok(());
        }
        self.text.push(b',');
        self.name("tag", key, b",= ")?;
        self.text.push(b'=');
        self.name("tag value", value, b",= ")
    }

    // A key is nearly always a word of ours: where it is known, so is that it stands for itself.
    #[inline(always)]
    fn field(&mut self, key: &str) -> Result<(), NoLine> {
        if self.fields == 0 {
            self.key = self.text.len() - self.start;
        }
        // The server keeps both together under one key, and cannot give back what is longer.
        let together = self.key + KEY_SEPARATOR + key.len();
        if together > KEY_BYTES {
            return Err(NoLine::LongKey(together));
        }
        self.text.push(if self.fields == 0 { b' ' } else { b',' });
        self.fields += 1;
        self.name("field", key, b",= ")?;
        self.text.push(b'=');
        Ok(())
    }

    /// The decimal's own digits: what a double makes of them is the store's affair.
    #[inline]
    pub(super) fn decimal(&mut self, key: &str, value: Decimal) -> Result<(), NoLine> {
        self.field(key)?;
        value.write_to(self.text);
        Ok(())
    }

    pub(super) fn float(&mut self, key: &str, value: f64) -> Result<(), NoLine> {
        if !value.is_finite() {
            return Err(NoLine::NotFinite(key.to_owned()));
        }
        self.field(key)?;
        self.display(format_args!("{value}"));
        Ok(())
    }

    #[inline]
    pub(super) fn int(&mut self, key: &str, value: i64) -> Result<(), NoLine> {
        self.field(key)?;
        self.text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.text.push(b'i');
        Ok(())
    }

    pub(super) fn uint(&mut self, key: &str, value: u64) -> Result<(), NoLine> {
        self.int(key, i64::try_from(value).map_err(|_| NoLine::TooLarge(key.to_owned()))?)
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) -> Result<(), NoLine> {
        self.field(key)?;
        self.text.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    /// A number as text that is a number, such as an exact sum.
    pub(super) fn number(&mut self, key: &str, value: impl std::fmt::Display) -> Result<(), NoLine> {
        self.field(key)?;
        self.display(format_args!("{value}"));
        Ok(())
    }

    #[inline]
    pub(super) fn text(&mut self, key: &str, value: &str) -> Result<(), NoLine> {
        if value.len() > TEXT_BYTES {
            return Err(NoLine::LongText(key.to_owned(), value.len()));
        }
        if value.contains('\0') {
            return Err(NoLine::Control("text of", key.to_owned()));
        }
        self.field(key)?;
        self.text.push(b'"');
        let mut rest = value.as_bytes();
        while let Some(at) = memchr2(b'"', b'\\', rest) {
            self.text.extend_from_slice(&rest[..at]);
            self.text.extend_from_slice(&[b'\\', rest[at]]);
            rest = &rest[at + 1..];
        }
        self.text.extend_from_slice(rest);
        self.text.push(b'"');
        Ok(())
    }

    /// The time, in ns, and the end of the line.
    pub(super) fn end(mut self, ts_ns: i64) -> Result<(), NoLine> {
        if self.fields == 0 {
            return Err(NoLine::NoField);
        }
        self.text.push(b' ');
        self.text.extend_from_slice(itoa::Buffer::new().format(ts_ns).as_bytes());
        self.text.push(b'\n');
        *self.count += 1;
        self.whole = true;
        Ok(())
    }

    /// A name with what must be escaped in it.
    #[inline(always)]
    fn name(&mut self, what: &'static str, name: &str, escaped: &[u8]) -> Result<(), NoLine> {
        // Nearly all of them.
        if is_plain(name) && !name.starts_with('#') {
            self.text.extend_from_slice(name.as_bytes());
            return Ok(());
        }
        self.unusual_name(what, name, escaped)
    }

    #[cold]
    fn unusual_name(&mut self, what: &'static str, name: &str, escaped: &[u8]) -> Result<(), NoLine> {
        let bytes = name.as_bytes();
        let shown = || name.chars().take(64).collect::<String>().escape_debug().to_string();
        if bytes.is_empty() {
            return Err(NoLine::Empty(what));
        }
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(NoLine::Control(what, shown()));
        }
        // A line that begins with it is a comment.
        if what == "measurement" && bytes[0] == b'#' {
            return Err(NoLine::Comment(shown()));
        }
        if bytes.ends_with(b"\\") || bytes.windows(2).any(|pair| pair[0] == b'\\' && b",= ".contains(&pair[1])) {
            return Err(NoLine::Backslash(what, shown()));
        }
        if bytes.len() > KEY_BYTES {
            return Err(NoLine::LongKey(bytes.len()));
        }
        for &byte in bytes {
            if escaped.contains(&byte) {
                self.text.push(b'\\');
            }
            self.text.push(byte);
        }
        Ok(())
    }

    fn display(&mut self, value: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.text.write_fmt(value);
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.text.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tapedeck_market::Value;

    use super::*;

    fn one(build: impl FnOnce(&mut Lines) -> Result<(), NoLine>) -> Result<String, NoLine> {
        let mut lines = Lines::default();
        build(&mut lines)?;
        Ok(String::from_utf8(lines.text).unwrap())
    }

    #[test]
    fn a_line_has_its_parts_escaped_where_they_must_be() {
        let line = one(|lines| {
            let mut line = lines.line("my, tick")?;
            line.tag("a b", "x=1,y z")?;
            line.tag("none", "")?;
            line.decimal("bid", "62807.0".parse().unwrap())?;
            line.int("seq", 7)?;
            line.text("t", "say \"\\\" \n, x=1")?;
            line.bool("ok", true)?;
            line.end(1)
        });
        let want = "my\\,\\ tick,a\\ b=x\\=1\\,y\\ z bid=62807.0,seq=7i,t=\"say \\\"\\\\\\\" \n, x=1\",ok=true 1\n";
        assert_eq!(line.unwrap(), want);
    }

    #[test]
    fn what_would_be_stored_as_something_else_is_refused_and_leaves_nothing() {
        type Build = fn(&mut Lines) -> Result<(), NoLine>;
        let cases: [(Build, &str); 9] = [
            (|lines| lines.line("a\nb").map(drop), "control character"),
            (|lines| lines.line("#a").map(drop), "begins with `#`"),
            (|lines| lines.line("").map(drop), "empty"),
            (|lines| lines.line("m")?.tag("k", "v\\"), "backslash"),
            (|lines| lines.line("\\ =").map(drop), "backslash"),
            (|lines| lines.line("m")?.tag("k", "a\0"), "control character"),
            (|lines| lines.line("m")?.float("x", f64::NAN), "not a finite number"),
            (|lines| lines.line("m")?.uint("x", u64::MAX), "larger than"),
            (|lines| lines.line("m")?.end(1), "no field"),
        ];
        for (build, words) in cases {
            let mut lines = Lines::default();
            let error = build(&mut lines).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(lines.text.is_empty(), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_name_in_two_parts_is_the_name(venue in "[a-c#,= \\\\\\x00é]{0,5}", kind in "(_[a-c]{1,3})?") {
            let line_of = one(|lines| { let mut line = lines.line_of(&venue, &kind)?; line.int("n", 1)?; line.end(1) });
            let whole = format!("{venue}{kind}");
            let line = one(|lines| { let mut line = lines.line(&whole)?; line.int("n", 1)?; line.end(1) });
            prop_assert_eq!(line_of, line);
        }

        /// The parser of the points that arrive is the oracle.
        #[test]
        fn what_is_written_is_read_back(
            name in any::<String>(),
            tags in prop::collection::btree_map(any::<String>(), any::<String>(), 0..3),
            text in any::<String>(),
            number in any::<i64>(),
        ) {
            let mut lines = Lines::default();
            let mut build = || -> Result<(), NoLine> {
                let mut line = lines.line(&name)?;
                for (key, value) in &tags {
                    line.tag(key, value)?;
                }
                line.int("n", number)?;
                line.text("t", &text)?;
                line.end(42)
            };
            if build().is_ok() {
                let parsed: Vec<_> = crate::lineproto::lines(&lines.text).map(crate::lineproto::parse).collect();
                let [Ok(line)] = &parsed[..] else { return Err(TestCaseError::fail(format!("{parsed:?}"))) };
                prop_assert_eq!(&line.point.name, &name);
                let tags: Vec<_> = tags.into_iter().filter(|(_, value)| !value.is_empty()).collect();
                let read: Vec<_> = line.point.tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
                prop_assert_eq!(read, tags);
                prop_assert_eq!(&line.point.fields[0].1, &Value::Int(number));
                prop_assert_eq!(&line.point.fields[1].1, &Value::Text(text.into()));
            } else {
                prop_assert!(lines.text.is_empty());
            }
        }
    }
}
