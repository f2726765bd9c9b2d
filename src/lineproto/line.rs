//! One line: where its parts begin and end.

use std::collections::{HashMap, HashSet};

use tapedeck_market::{Point, SmolStr, Value};

use super::{Fault, Line, MAX_KEY_BYTES, MAX_LINE_BYTES, value};

/// Where the line ends that begins here: at the first line end that is neither quoted nor behind a backslash.
pub(super) fn end(text: &[u8]) -> Option<usize> {
    let (mut at, mut quoted, mut in_fields) = (0, false, false);
    // A quote opens a text only where a value may stand: one `=` further than there were commas.
    let (mut equals, mut commas) = (0_u64, 0_u64);
    loop {
        at += memchr::memchr3(b'\n', b'"', b'\\', &text[at..]).map_or_else(
            || text.len() - at,
            |next| {
                if !quoted {
                    for &b in &text[at..at + next] {
                        match b {
                            b' ' => in_fields = true,
                            b'=' if in_fields => equals += 1,
                            b',' if in_fields => commas += 1,
                            _ => {}
                        }
                    }
                }
                next
            },
        );
        match text.get(at)? {
            b'\n' if !quoted => return Some(at),
            b'"' if in_fields && equals > commas => quoted = !quoted,
            // What it escapes is no part of the line's shape.
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
        if at >= text.len() {
            return None;
        }
    }
}

pub(super) fn parse(line: &[u8]) -> Result<Line, Fault> {
    if line.len() > MAX_LINE_BYTES {
        return Err(Fault::TooLong { len: line.len() });
    }
    let mut rest = Rest { line, at: 0 };
    let name = rest.measurement()?;
    let tags = rest.tags()?;
    if rest.at > MAX_KEY_BYTES {
        return Err(Fault::KeyTooLong { len: rest.at });
    }
    rest.skip_space();
    let fields = rest.fields()?;
    let time = rest.time()?;
    if tags.iter().any(|(key, _)| key == "time") {
        return Err(Fault::TimeTag { measurement: name.to_string() });
    }
    if fields.iter().all(|(key, _)| key == "time") {
        return Err(Fault::TimeField { measurement: name.to_string() });
    }
    Ok(Line { point: Point { name, tags, fields }, time })
}

/// What of the line is still to be read.
struct Rest<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Reads on to the first of `stops` that no backslash stands before; the stop stays.
    fn until(&mut self, stops: &[u8]) -> &'a [u8] {
        let start = self.at;
        let stop = |at: usize| stops.contains(&self.line[at]) && (at == start || self.line[at - 1] != b'\\');
        self.at = (start..self.line.len()).find(|&at| stop(at)).unwrap_or(self.line.len());
        &self.line[start..self.at]
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | 0)) {
            self.at += 1;
        }
    }

    fn measurement(&mut self) -> Result<SmolStr, Fault> {
        let name = self.until(b", ");
        if name.is_empty() {
            return Err(Fault::NoMeasurement);
        }
        if self.peek().is_none() {
            return Err(Fault::NoFields);
        }
        text(name, b", ")
    }

    fn tags(&mut self) -> Result<Vec<(SmolStr, SmolStr)>, Fault> {
        let mut tags = Vec::new();
        while self.peek() == Some(b',') {
            self.at += 1;
            if matches!(self.peek(), None | Some(b' ' | b',' | b'=')) {
                return Err(Fault::NoTagKey);
            }
            let key = self.until(b", =");
            if self.peek() != Some(b'=') {
                return Err(Fault::NoTagValue);
            }
            self.at += 1;
            let value = self.until(b", =");
            if value.is_empty() {
                return Err(if self.peek() == Some(b'=') { Fault::TagFormat } else { Fault::NoTagValue });
            }
            match self.peek() {
                None => return Err(Fault::NoFields),
                Some(b'=') => return Err(Fault::TagFormat),
                Some(_) => {}
            }
            tags.push((text(key, b", =")?, text(value, b", =")?));
        }
        let mut keys = HashSet::with_capacity(tags.len());
        if tags.iter().all(|(key, _)| keys.insert(key)) { Ok(tags) } else { Err(Fault::DuplicateTags) }
    }

    fn fields(&mut self) -> Result<Vec<(SmolStr, Value)>, Fault> {
        let mut fields: Vec<(SmolStr, Value)> = Vec::new();
        // Of a field that is given twice the last value holds, at the place of the first.
        let mut places: HashMap<SmolStr, usize> = HashMap::new();
        loop {
            let key = self.until(b", =");
            match self.peek() {
                Some(b'=') if key.is_empty() => return Err(Fault::NoFieldKey),
                Some(b'=') => self.at += 1,
                _ => return Err(Fault::FieldFormat),
            }
            let key = text(key, b", =\"")?;
            let value = self.value()?;
            match places.get(&key) {
                Some(&place) => fields[place].1 = value,
                None => {
                    places.insert(key.clone(), fields.len());
                    fields.push((key, value));
                }
            }
            match self.peek() {
                Some(b',') => self.at += 1,
                None | Some(b' ') => return Ok(fields),
                // Letters behind a closing quote.
                Some(_) => return Err(Fault::FieldFormat),
            }
        }
    }

    fn value(&mut self) -> Result<Value, Fault> {
        match self.peek() {
            None | Some(b',' | b' ') => Err(Fault::NoFieldValue),
            Some(b'"') => self.quoted().map(Value::Text),
            Some(b'0'..=b'9' | b'.' | b'-' | b'N' | b'n') => value::number(self.token()),
            Some(_) => value::boolean(self.token()).map(Value::Bool),
        }
    }

    /// A value without quotes: to the next comma or space, whatever stands before it.
    fn token(&mut self) -> &'a [u8] {
        let start = self.at;
        let len = self.line[start..].iter().position(|b| matches!(b, b',' | b' '));
        self.at = len.map_or(self.line.len(), |len| start + len);
        &self.line[start..self.at]
    }

    fn quoted(&mut self) -> Result<SmolStr, Fault> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.line.get(at..).unwrap_or_default()).ok_or(Fault::Quotes)?;
            if self.line[at] == b'"' {
                break;
            }
            at += 2;
        }
        self.at = at + 1;
        text(&self.line[start..at], b"\"\\")
    }

    fn time(&mut self) -> Result<Option<i64>, Fault> {
        self.skip_space();
        if self.peek().is_none() {
            return Ok(None);
        }
        let start = self.at;
        self.at = self.line[start..].iter().position(|&b| b == b' ').map_or(self.line.len(), |len| start + len);
        let time = value::timestamp(&self.line[start..self.at])?;
        if self.line[self.at..].iter().any(|&b| b != b' ') {
            return Err(Fault::Trailing);
        }
        Ok(Some(time))
    }
}

/// The text without the backslashes that stand before one of `escaped`; all others are part of it.
fn text(raw: &[u8], escaped: &[u8]) -> Result<SmolStr, Fault> {
    let raw = std::str::from_utf8(raw).map_err(|_| Fault::NotUtf8)?;
    if !raw.contains('\\') {
        return Ok(SmolStr::new(raw));
    }
    let mut plain = String::with_capacity(raw.len());
    let mut letters = raw.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.next_if(|next| letter == '\\' && escaped.iter().any(|&b| char::from(b) == *next)) {
            Some(next) => plain.push(next),
            None => plain.push(letter),
        }
    }
    Ok(plain.into())
}
