//! MessagePack itself: shortest form out, any form in, bounds before anything else.

use super::{MAX_DEPTH, WireError};

const NIL: u8 = 0xc0;
const FALSE: u8 = 0xc2;
const TRUE: u8 = 0xc3;

pub(super) fn put_nil(out: &mut Vec<u8>) {
    out.push(NIL);
}

pub(super) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Marker and big-endian bytes in one copy of fixed size.
macro_rules! put_marked {
    ($out:expr, $marker:expr, $value:expr, $len:literal) => {{
        let mut bytes = [$marker; $len];
        bytes[1..].copy_from_slice(&$value.to_be_bytes());
        $out.extend_from_slice(&bytes);
    }};
}

#[inline]
pub(super) fn put_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => put_marked!(out, 0xcd, (value as u16), 3),
        0x1_0000..=0xffff_ffff => put_marked!(out, 0xce, (value as u32), 5),
        _ => put_marked!(out, 0xcf, value, 9),
    }
}

#[inline]
pub(super) fn put_int(out: &mut Vec<u8>, value: i64) {
    match value {
        0.. => put_uint(out, value as u64),
        -32..=-1 => out.push(value as u8),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-0x81 => put_marked!(out, 0xd1, (value as i16), 3),
        -0x8000_0000..=-0x8001 => put_marked!(out, 0xd2, (value as i32), 5),
        _ => put_marked!(out, 0xd3, value, 9),
    }
}

pub(super) fn put_float(out: &mut Vec<u8>, value: f64) {
    put_marked!(out, 0xcb, value, 9);
}

/// Texts, bytes and lists of 4 GiB do not occur: a record of the tape is far shorter.
#[inline]
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => put_marked!(out, 0xda, (len as u16), 3),
        len => put_marked!(out, 0xdb, (len as u32), 5),
    }
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        len @ 0x100..=0xffff => put_marked!(out, 0xc5, (len as u16), 3),
        len => put_marked!(out, 0xc6, (len as u32), 5),
    }
    out.extend_from_slice(bytes);
}

#[inline]
pub(super) fn put_array(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        16..=0xffff => put_marked!(out, 0xdc, (len as u16), 3),
        _ => put_marked!(out, 0xdd, (len as u32), 5),
    }
}

/// A place in the bytes of one event.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Length of the whole, so that an error can say where it is.
    whole: usize,
    /// An enum number of a later version was met.
    later: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, whole: bytes.len(), later: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn at(&self) -> usize {
        self.whole - self.rest.len()
    }

    #[cold]
    pub(super) fn short(&self) -> WireError {
        WireError::Short { at: self.whole }
    }

    /// The next byte is not what it should be.
    #[cold]
    pub(super) fn unexpected(&self, expected: &'static str) -> WireError {
        WireError::Unexpected { at: self.at(), expected }
    }

    /// An enum number that only a later version knows.
    #[cold]
    pub(super) fn later_number(&mut self) -> WireError {
        self.later = true;
        self.unexpected("a number of this version")
    }

    pub(super) fn met_later_number(&self) -> bool {
        self.later
    }

    #[inline]
    fn peek(&self) -> Result<u8, WireError> {
        self.rest.first().copied().ok_or_else(|| self.short())
    }

    #[inline]
    fn advance(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    /// What follows a marker of one byte, which is still in front.
    #[inline]
    fn after_marker<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.get(1..).and_then(<[u8]>::split_first_chunk::<N>).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Takes a nil, if there is one.
    #[inline]
    pub(super) fn nil(&mut self) -> Result<bool, WireError> {
        let is_nil = self.peek()? == NIL;
        if is_nil {
            self.rest = &self.rest[1..];
        }
        Ok(is_nil)
    }

    pub(super) fn bool(&mut self) -> Result<bool, WireError> {
        let value = match self.peek()? {
            FALSE => false,
            TRUE => true,
            _ => return Err(self.unexpected("true or false")),
        };
        self.rest = &self.rest[1..];
        Ok(value)
    }

    /// A number that is not negative, of any width.
    #[inline]
    pub(super) fn uint(&mut self) -> Result<u64, WireError> {
        match self.peek()? {
            small @ 0..=0x7f => {
                self.rest = &self.rest[1..];
                Ok(u64::from(small))
            }
            0xcc => Ok(u64::from(u8::from_be_bytes(self.after_marker()?))),
            0xcd => Ok(u64::from(u16::from_be_bytes(self.after_marker()?))),
            0xce => Ok(u64::from(u32::from_be_bytes(self.after_marker()?))),
            0xcf => Ok(u64::from_be_bytes(self.after_marker()?)),
            _ => {
                let start = *self;
                self.int().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| start.unexpected("a whole number"))
            }
        }
    }

    /// A number of any width and sign within 64 bits.
    #[inline]
    pub(super) fn int(&mut self) -> Result<i64, WireError> {
        match self.peek()? {
            small @ (0..=0x7f | 0xe0..=0xff) => {
                self.rest = &self.rest[1..];
                Ok(i64::from(small as i8))
            }
            0xcc => Ok(i64::from(u8::from_be_bytes(self.after_marker()?))),
            0xcd => Ok(i64::from(u16::from_be_bytes(self.after_marker()?))),
            0xce => Ok(i64::from(u32::from_be_bytes(self.after_marker()?))),
            0xcf => {
                let start = *self;
                i64::try_from(u64::from_be_bytes(self.after_marker()?))
                    .map_err(|_| start.unexpected("a number of 63 bits"))
            }
            0xd0 => Ok(i64::from(i8::from_be_bytes(self.after_marker()?))),
            0xd1 => Ok(i64::from(i16::from_be_bytes(self.after_marker()?))),
            0xd2 => Ok(i64::from(i32::from_be_bytes(self.after_marker()?))),
            0xd3 => Ok(i64::from_be_bytes(self.after_marker()?)),
            _ => Err(self.unexpected("a number")),
        }
    }

    pub(super) fn float(&mut self) -> Result<f64, WireError> {
        match self.peek()? {
            0xca => Ok(f64::from(f32::from_be_bytes(self.after_marker()?))),
            0xcb => Ok(f64::from_be_bytes(self.after_marker()?)),
            _ => Err(self.unexpected("a floating-point number")),
        }
    }

    #[inline]
    pub(super) fn str(&mut self) -> Result<&'a str, WireError> {
        let start = *self;
        let len = match self.peek()? {
            fix @ 0xa0..=0xbf => {
                self.rest = &self.rest[1..];
                usize::from(fix & 0x1f)
            }
            0xd9 => usize::from(u8::from_be_bytes(self.after_marker()?)),
            0xda => usize::from(u16::from_be_bytes(self.after_marker()?)),
            0xdb => u32::from_be_bytes(self.after_marker()?) as usize,
            _ => return Err(self.unexpected("a text")),
        };
        std::str::from_utf8(self.advance(len)?).map_err(|_| start.unexpected("a text in UTF-8"))
    }

    pub(super) fn bin(&mut self) -> Result<&'a [u8], WireError> {
        let len = match self.peek()? {
            0xc4 => usize::from(u8::from_be_bytes(self.after_marker()?)),
            0xc5 => usize::from(u16::from_be_bytes(self.after_marker()?)),
            0xc6 => u32::from_be_bytes(self.after_marker()?) as usize,
            _ => return Err(self.unexpected("bytes")),
        };
        self.advance(len)
    }

    /// The number of elements that follow; each takes a byte or more, so it is checked against
    /// what is left.
    #[inline]
    pub(super) fn array(&mut self) -> Result<u32, WireError> {
        let count = match self.peek()? {
            fix @ 0x90..=0x9f => {
                self.rest = &self.rest[1..];
                u32::from(fix & 0x0f)
            }
            0xdc => u32::from(u16::from_be_bytes(self.after_marker()?)),
            0xdd => u32::from_be_bytes(self.after_marker()?),
            _ => return Err(self.unexpected("an array")),
        };
        if count as usize > self.rest.len() { Err(self.short()) } else { Ok(count) }
    }

    /// The bytes of the next value, whatever it is.
    pub(super) fn value(&mut self) -> Result<&'a [u8], WireError> {
        let before = self.rest;
        self.skip()?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    /// The bytes, if they are one value and nothing else.
    pub(super) fn only_value(mut self) -> Result<&'a [u8], WireError> {
        let value = self.value()?;
        if self.is_empty() { Ok(value) } else { Err(self.unexpected("the end")) }
    }

    /// Steps over one value of any kind, without recursion.
    pub(super) fn skip(&mut self) -> Result<(), WireError> {
        // Values still to come on each level: the value itself, what is in it, what is in that.
        let mut open = [0_u64; MAX_DEPTH + 1];
        let mut level = 0;
        open[0] = 1;
        loop {
            while open[level] == 0 {
                if level == 0 {
                    return Ok(());
                }
                level -= 1;
            }
            open[level] -= 1;
            let start = *self;
            let inside = self.head()?;
            if inside > 0 {
                if level == MAX_DEPTH {
                    return Err(start.unexpected("nested at most 32 deep"));
                }
                level += 1;
                open[level] = inside;
            }
        }
    }

    /// Steps over one value that is no array and no map.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<(), WireError> {
        let start = *self;
        if self.head()? == 0 { Ok(()) } else { Err(start.unexpected("a value without others in it")) }
    }

    /// Steps over a scalar, or over the head of an array or map, and tells how many values are in it.
    fn head(&mut self) -> Result<u64, WireError> {
        let (skip, inside) = match self.peek()? {
            0x00..=0x7f | 0xe0..=0xff | NIL | FALSE | TRUE => (1, 0),
            map @ 0x80..=0x8f => (1, u64::from(map & 0x0f) * 2),
            array @ 0x90..=0x9f => (1, u64::from(array & 0x0f)),
            text @ 0xa0..=0xbf => (1 + usize::from(text & 0x1f), 0),
            0xc1 => return Err(self.unexpected("MessagePack")),
            marker @ (0xc4 | 0xc7 | 0xd9) => {
                let [len] = self.peek_after_marker()?;
                (2 + usize::from(marker == 0xc7) + usize::from(len), 0)
            }
            marker @ (0xc5 | 0xc8 | 0xda) => {
                let len = u16::from_be_bytes(self.peek_after_marker()?);
                (3 + usize::from(marker == 0xc8) + usize::from(len), 0)
            }
            marker @ (0xc6 | 0xc9 | 0xdb) => {
                let len = u32::from_be_bytes(self.peek_after_marker()?);
                ((len as usize).saturating_add(5 + usize::from(marker == 0xc9)), 0)
            }
            0xcc | 0xd0 => (2, 0),
            0xcd | 0xd1 => (3, 0),
            0xca | 0xce | 0xd2 => (5, 0),
            0xcb | 0xcf | 0xd3 => (9, 0),
            // An extension of 1, 2, 4, 8 or 16 bytes: marker, type, bytes.
            fix @ 0xd4..=0xd8 => (2 + (1 << (fix - 0xd4)), 0),
            marker @ (0xdc | 0xde) => {
                let count = u16::from_be_bytes(self.peek_after_marker()?);
                (3, u64::from(count) << u64::from(marker == 0xde))
            }
            marker @ (0xdd | 0xdf) => {
                let count = u32::from_be_bytes(self.peek_after_marker()?);
                (5, u64::from(count) << u64::from(marker == 0xdf))
            }
        };
        self.advance(skip)?;
        if inside > self.rest.len() as u64 { Err(self.short()) } else { Ok(inside) }
    }

    fn peek_after_marker<const N: usize>(&self) -> Result<[u8; N], WireError> {
        let mut ahead = *self;
        ahead.after_marker()
    }
}
