//! Lines of JSON as venues usually write them, read in one pass: without blanks, known keys only.
//!
//! A general JSON reader asks of every value what it might be; the readers above this one know, and give up on the first
//! byte that is not as they expect.

use std::borrow::Cow;

/// What is still to be read. Every step that does not find what it expects returns `None`.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Option<Cursor<'a>> {
        // In no text of JSON; without it what stands between quotes is a text as it is.
        let control = text.bytes().fold(false, |found, byte| found | (byte < 0x20));
        (!control).then_some(Cursor { text, at: 0 })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    #[inline]
    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.text.as_bytes().get(self.at) == Some(&wanted)).then(|| self.at += 1)
    }

    /// `{"key":…,…}`, each value by `value`.
    #[inline]
    pub(super) fn object(&mut self, mut value: impl FnMut(&mut Cursor<'a>, &'a str) -> Option<()>) -> Option<()> {
        self.byte(b'{')?;
        if self.byte(b'}').is_some() {
            return Some(());
        }
        loop {
            self.byte(b'"')?;
            let from = self.at;
            let len = memchr::memchr2(b'"', b'\\', &self.text.as_bytes()[from..])?;
            self.at = from + len;
            let key = &self.text[from..self.at];
            self.byte(b'"')?;
            self.byte(b':')?;
            value(self, key)?;
            if self.byte(b',').is_none() {
                return self.byte(b'}');
            }
        }
    }

    /// `[…,…]`, each element by `element`.
    #[inline]
    pub(super) fn list(&mut self, mut element: impl FnMut(&mut Cursor<'a>) -> Option<()>) -> Option<()> {
        self.byte(b'[')?;
        if self.byte(b']').is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            if self.byte(b',').is_none() {
                return self.byte(b']');
            }
        }
    }

    /// A text of a field that was not there yet.
    #[inline]
    pub(super) fn once(&mut self, field: &mut Option<Cow<'a, str>>) -> Option<()> {
        let text = self.string()?;
        field.replace(text).is_none().then_some(())
    }

    /// As [`Cursor::once`], of a number or a time that is written as a text: the general readers take it as it stands.
    #[inline]
    pub(super) fn plain_once(&mut self, field: &mut Option<&'a str>) -> Option<()> {
        let Cow::Borrowed(text) = self.string()? else { return None };
        field.replace(text).is_none().then_some(())
    }

    /// A text, where it is unless it holds escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Option<Cow<'a, str>> {
        let open = self.at;
        self.byte(b'"')?;
        let (bytes, mut escapes) = (self.text.as_bytes(), false);
        loop {
            let at = self.at + memchr::memchr2(b'"', b'\\', &bytes[self.at..])?;
            if bytes[at] == b'"' {
                self.at = at + 1;
                break;
            }
            escapes = true;
            // Whatever is escaped ends nothing.
            self.at = (at + 2).min(bytes.len());
        }
        if escapes {
            serde_json::from_str::<String>(&self.text[open..self.at]).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&self.text[open + 1..self.at - 1]))
        }
    }

    /// A whole number that is not negative, as JSON has it.
    #[inline]
    pub(super) fn count(&mut self) -> Option<i64> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        // 18 digits always fit.
        if len == 0 || len > 18 || (len > 1 && rest[0] == b'0') {
            return None;
        }
        self.at += len;
        Some(rest[..len].iter().fold(0, |count, digit| count * 10 + i64::from(digit - b'0')))
    }

    /// `true` or `false`.
    #[inline]
    pub(super) fn flag(&mut self) -> Option<bool> {
        let rest = &self.text.as_bytes()[self.at..];
        let (flag, len) = if rest.starts_with(b"true") { (true, 4) } else { (false, 5) };
        (flag || rest.starts_with(b"false")).then(|| self.at += len)?;
        Some(flag)
    }
}
