//! Exact decimals: a mantissa and the number of digits behind the point.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// An exact decimal number, as a venue printed it: `mantissa / 10^scale`.
///
/// The text goes in and comes out digit for digit, trailing zeros included (`62807.0`,
/// `0.00000000`); exponent text (`1e-08`) is accepted and printed plain. At most 18 digits and a
/// scale of at most 18: what does not fit is refused, never rounded. Comparison, equality and hash are
/// by value (`1.0 == 1.00`); [`Decimal::same_digits`] tells whether the text is the same too.
/// There is one zero a scale: `-0.0` is read as `0.0`.
#[derive(Clone, Copy, Default)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

/// Why a text is not a [`Decimal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a number at all.
    #[error("`{text}` is not a decimal number")]
    Malformed { text: String },
    /// A number, but of more than 18 digits.
    #[error("`{text}` has more than 18 digits")]
    TooLong { text: String },
}

/// The text of an error is cut here: it came from outside.
const ERROR_TEXT_BYTES: usize = 64;
const MAX_DIGITS: u32 = 18;
const MANTISSA_LIMIT: u64 = 10_u64.pow(MAX_DIGITS);

impl Decimal {
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0 };
    /// Digits behind the point, at most.
    pub const MAX_SCALE: u8 = 18;

    /// `mantissa / 10^scale`; `None` beyond 18 digits or a scale of 18.
    #[must_use]
    pub const fn new(mantissa: i64, scale: u8) -> Option<Self> {
        if mantissa.unsigned_abs() < MANTISSA_LIMIT && scale <= Self::MAX_SCALE {
            Some(Decimal { mantissa, scale })
        } else {
            None
        }
    }

    #[must_use]
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    #[must_use]
    pub const fn scale(self) -> u8 {
        self.scale
    }

    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    /// Parses `-?digits(.digits)?([eE][+-]?digits)?`, the number grammar of JSON.
    ///
    /// # Errors
    /// Names the text that is no number or does not fit.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, DecimalError> {
        match plain(text) {
            Some(decimal) => Ok(decimal),
            None => general(text),
        }
    }

    /// Whether both print the same digits: `1.0` and `1.00` are equal, but not the same.
    #[must_use]
    pub const fn same_digits(self, other: Self) -> bool {
        self.mantissa == other.mantissa && self.scale == other.scale
    }

    /// The nearest double: for stores whose column is one, never on the way to the tape.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        const POW10: [f64; 19] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
        if self.mantissa.unsigned_abs() < (1 << 53) {
            // Both are exact doubles, so the one division rounds correctly.
            self.mantissa as f64 / POW10[usize::from(self.scale)]
        } else {
            self.to_string().parse().unwrap_or(f64::NAN)
        }
    }

    /// Appends the plain text: sign, digits, point, digits.
    pub fn write_to(self, out: &mut Vec<u8>) {
        if self.mantissa < 0 {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.mantissa.unsigned_abs()).as_bytes();
        let scale = usize::from(self.scale);
        if scale == 0 {
            out.extend_from_slice(digits);
        } else if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        } else {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + scale - digits.len(), b'0');
            out.extend_from_slice(digits);
        }
    }

    /// The sum as a wide value: `18 + 18` digits always fit.
    #[must_use]
    pub fn to_sum(self) -> Sum {
        Sum { mantissa: i128::from(self.mantissa), scale: self.scale }
    }
}

/// The common case, `-?digits(.digits)?` within 18 digits; `None` asks [`general`] to look closer.
#[inline]
fn plain(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 18 digits, a point: longer ones may still fit, but not by this way.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (at, &b) in digits.iter().enumerate() {
        let value = b.wrapping_sub(b'0');
        if value < 10 {
            mantissa = mantissa * 10 + u64::from(value);
        } else if b == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let whole = point.unwrap_or(digits.len());
    let scale = point.map_or(0, |at| digits.len() - at - 1);
    let bare_zeros = whole > 1 && digits[0] == b'0';
    if whole == 0 || bare_zeros || (point.is_some() && scale == 0) || mantissa >= MANTISSA_LIMIT || scale > 18 {
        return None;
    }
    let mantissa = mantissa as i64;
    Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale: scale as u8 })
}

/// Exponents, leading zeros and overlong text, digit by digit.
#[cold]
fn general(text: &[u8]) -> Result<Decimal, DecimalError> {
    let malformed = || DecimalError::Malformed { text: shown(text) };
    let too_long = || DecimalError::TooLong { text: shown(text) };
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (number, exponent) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..]).ok_or_else(malformed)?),
        None => (rest, 0),
    };
    let (whole, fraction) = match number.iter().position(|&b| b == b'.') {
        Some(at) if at + 1 < number.len() => (&number[..at], &number[at + 1..]),
        Some(_) => return Err(malformed()),
        None => (number, &[][..]),
    };
    let leading_zero = whole.len() > 1 && whole[0] == b'0';
    if whole.is_empty() || leading_zero || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let mut mantissa = 0_u64;
    for &b in whole.iter().chain(fraction) {
        mantissa = mantissa.checked_mul(10).and_then(|m| m.checked_add(u64::from(b - b'0'))).ok_or_else(too_long)?;
        if mantissa >= MANTISSA_LIMIT {
            return Err(too_long());
        }
    }
    let mut scale = i64::try_from(fraction.len()).map_err(|_| too_long())?.saturating_sub(exponent);
    while scale < 0 && mantissa != 0 {
        mantissa = mantissa.checked_mul(10).filter(|&m| m < MANTISSA_LIMIT).ok_or_else(too_long)?;
        scale += 1;
    }
    let scale = u8::try_from(scale.max(0)).ok().filter(|&s| s <= Decimal::MAX_SCALE).ok_or_else(too_long)?;
    let mantissa = mantissa as i64;
    Ok(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale })
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => (1, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Saturating: far beyond 18 digits already, so the caller refuses it as too long.
    let value = |n: i64, b: u8| n.saturating_mul(10).saturating_add(i64::from(b - b'0'));
    digits.iter().try_fold(0_i64, |n, &b| b.is_ascii_digit().then(|| value(n, b))).map(|n| sign * n)
}

fn shown(text: &[u8]) -> String {
    let cut = &text[..text.len().min(ERROR_TEXT_BYTES)];
    let mut shown = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl FromStr for Decimal {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Decimal::parse(text.as_bytes())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.write_to(&mut text);
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for Decimal {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.mantissa.cmp(&other.mantissa);
        }
        // 18 digits times 10^18 stay below i128's 38.
        let widen = |d: &Decimal, to: u8| i128::from(d.mantissa) * 10_i128.pow(u32::from(to - d.scale));
        let scale = self.scale.max(other.scale);
        widen(self, scale).cmp(&widen(other, scale))
    }
}

impl PartialOrd for Decimal {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (mut mantissa, mut scale) = (self.mantissa, self.scale);
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        (mantissa, scale).hash(state);
    }
}

/// A total of many decimals (volume, notional): 38 digits. Equality is by digits, not by value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub mantissa: i128,
    /// Digits behind the point.
    pub scale: u8,
}

impl Sum {
    pub const ZERO: Sum = Sum { mantissa: 0, scale: 0 };

    /// Adds exactly; `None` when 38 digits do not hold the total.
    #[must_use]
    pub fn checked_add(self, other: Sum) -> Option<Sum> {
        let scale = self.scale.max(other.scale);
        let widen = |s: Sum| s.mantissa.checked_mul(10_i128.checked_pow(u32::from(scale - s.scale))?);
        Some(Sum { mantissa: widen(self)?.checked_add(widen(other)?)?, scale })
    }
}

impl From<Decimal> for Sum {
    fn from(decimal: Decimal) -> Sum {
        decimal.to_sum()
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.mantissa.unsigned_abs(), width = usize::from(self.scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(self.scale));
        if fraction.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Decimal);

        impl $name {
            /// # Errors
            /// Names the text that is no number or does not fit.
            #[inline]
            pub fn parse(text: &[u8]) -> Result<Self, DecimalError> {
                Decimal::parse(text).map($name)
            }
        }

        impl From<$name> for Decimal {
            fn from(quantity: $name) -> Decimal {
                quantity.0
            }
        }

        impl FromStr for $name {
            type Err = DecimalError;
            fn from_str(text: &str) -> Result<Self, DecimalError> {
                text.parse().map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

quantity! {
    /// Price of one unit of the base asset, exactly as the venue printed it.
    Price
}
quantity! {
    /// Amount in units of the base asset (lots, shares, stake), exactly as the venue printed it.
    Size
}
