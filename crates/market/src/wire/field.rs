//! How one field is written and read, by its type.

use super::WireError;
use super::msgpack::{Reader, put_array, put_bin, put_bool, put_float, put_int, put_nil, put_str, put_uint};
use crate::{
    CandleFlags, CandleInput, Decimal, Flags, GapCause, GapState, Origin, Price, Side, Size, SmolStr, Sum, TapeEvent,
    UnixNanos, Uuid, Value,
};

/// One value on the wire.
pub(super) trait Field: Sized {
    /// Bytes that the shortest value takes: bounds what a list may claim to hold.
    const LEAST_BYTES: usize = 1;

    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError>;

    /// What a missing trailing field means; `None`: it may not be missing.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads the next of the `left` fields of a struct, or takes it as absent behind the last.
#[inline]
pub(super) fn next<T: Field>(left: &mut u32, input: &mut Reader<'_>) -> Result<T, WireError> {
    match left.checked_sub(1) {
        Some(fewer) => {
            *left = fewer;
            T::take(input)
        }
        None => T::absent().ok_or_else(|| input.unexpected("a field that must be there")),
    }
}

/// Steps over fields that only a later version knows.
#[inline]
pub(super) fn skip_rest(left: u32, input: &mut Reader<'_>) -> Result<(), WireError> {
    for _ in 0..left {
        input.skip()?;
    }
    Ok(())
}

/// The fields of a struct, in the order of the wire: writes and reads it as an array of them.
/// `$least` is [`Field::LEAST_BYTES`]; `absent` what the whole struct is when it is missing.
macro_rules! positional {
    ($type:ty, $least:expr, [$($field:ident),+ $(,)?] $(, absent: $absent:expr)?) => {
        impl Field for $type {
            const LEAST_BYTES: usize = $least;

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_array(out, [$(stringify!($field)),+].len());
                $(self.$field.put(out);)+
            }

            #[inline]
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                let mut left = input.array()?;
                // Fields of a literal are evaluated in the order written here.
                let value = Self { $($field: next(&mut left, input)?),+ };
                skip_rest(left, input)?;
                Ok(value)
            }

            $(
                fn absent() -> Option<Self> {
                    Some($absent)
                }
            )?
        }
    };
}
pub(super) use positional;

/// An enum without fields, as its place in the order of `event.rs`.
macro_rules! numbered {
    ($type:ident, $variants:expr) => {
        impl Field for $type {
            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }

            #[inline]
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                const VARIANTS: &[$type] = &$variants;
                let mut ahead = *input;
                let number = ahead.uint()?;
                let known = usize::try_from(number).ok().and_then(|n| VARIANTS.get(n));
                let variant = *known.ok_or_else(|| input.later_number())?;
                *input = ahead;
                Ok(variant)
            }
        }
    };
}

numbered!(Side, [Side::Buy, Side::Sell]);
numbered!(CandleInput, [CandleInput::Trades, CandleInput::Bid, CandleInput::Ask, CandleInput::Mid, CandleInput::Venue]);
numbered!(GapState, [GapState::Open, GapState::Closed, GapState::Repaired, GapState::Unrepairable]);
numbered!(
    GapCause,
    [
        GapCause::Session,
        GapCause::Stall,
        GapCause::Checksum,
        GapCause::Sequence,
        GapCause::Drop,
        GapCause::Down,
        GapCause::Overrun,
        GapCause::Disk,
    ]
);
numbered!(
    TapeEvent,
    [
        TapeEvent::TornTail,
        TapeEvent::Hole,
        TapeEvent::Incarnation,
        TapeEvent::Stop,
        TapeEvent::ClockStep,
        TapeEvent::Poisoned,
        TapeEvent::Full,
    ]
);

macro_rules! unsigned {
    ($($type:ty, $expected:literal;)+) => {$(
        impl Field for $type {
            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_uint(out, u64::from(*self));
            }

            #[inline]
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                let start = *input;
                <$type>::try_from(input.uint()?).map_err(|_| start.unexpected($expected))
            }
        }
    )+};
}

unsigned! {
    u8, "a whole number of 8 bits";
    u16, "a whole number of 16 bits";
    u32, "a whole number of 32 bits";
    u64, "a whole number of 64 bits";
}

impl Field for i64 {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_int(out, *self);
    }

    #[inline]
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.int()
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put_bool(out, *self);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.bool()
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl Field for SmolStr {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self);
    }

    #[inline]
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.str().map(SmolStr::new)
    }

    fn absent() -> Option<Self> {
        Some(SmolStr::default())
    }
}

impl<T: Field> Field for Option<T> {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => put_nil(out),
        }
    }

    #[inline]
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        if input.nil()? { Ok(None) } else { T::take(input).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Field> Field for Vec<T> {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, self.len());
        for item in self {
            item.put(out);
        }
    }

    #[inline]
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = input.array()? as usize;
        if count.saturating_mul(T::LEAST_BYTES) > input.remaining() {
            return Err(input.short());
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Ok(items)
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: Field> Field for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        T::take(input).map(Box::new)
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    const LEAST_BYTES: usize = 1 + A::LEAST_BYTES + B::LEAST_BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let rest = two(input, "an array of two")?;
        let pair = (A::take(input)?, B::take(input)?);
        skip_rest(rest, input)?;
        Ok(pair)
    }
}

/// An array of two or more: how many more.
#[inline]
fn two(input: &mut Reader<'_>, expected: &'static str) -> Result<u32, WireError> {
    let start = *input;
    input.array()?.checked_sub(2).ok_or_else(|| start.unexpected(expected))
}

impl Field for Decimal {
    const LEAST_BYTES: usize = 3;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        put_int(out, self.mantissa());
        put_uint(out, u64::from(self.scale()));
    }

    #[inline]
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let start = *input;
        let rest = two(input, "a decimal")?;
        let (mantissa, scale) = (input.int()?, u8::take(input)?);
        skip_rest(rest, input)?;
        Decimal::new(mantissa, scale).ok_or_else(|| start.unexpected("a decimal of at most 18 digits"))
    }
}

impl Field for Sum {
    const LEAST_BYTES: usize = 3;

    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        match i64::try_from(self.mantissa) {
            Ok(mantissa) => put_int(out, mantissa),
            Err(_) => put_bin(out, &self.mantissa.to_be_bytes()),
        }
        put_uint(out, u64::from(self.scale));
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let rest = two(input, "a sum")?;
        let start = *input;
        let mantissa = match input.bin() {
            Ok(bytes) => {
                bytes.try_into().map(i128::from_be_bytes).map_err(|_| start.unexpected("a sum of 16 bytes"))?
            }
            Err(_) => {
                *input = start;
                i128::from(input.int()?)
            }
        };
        let scale = u8::take(input)?;
        skip_rest(rest, input)?;
        Ok(Sum { mantissa, scale })
    }
}

/// A type around one field.
macro_rules! wrapped {
    ($($type:ident($inner:ty);)+) => {$(
        impl Field for $type {
            const LEAST_BYTES: usize = <$inner>::LEAST_BYTES;

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            #[inline]
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                <$inner>::take(input).map($type)
            }
        }
    )+};
}

wrapped! {
    Price(Decimal);
    Size(Decimal);
    UnixNanos(i64);
    Flags(u32);
    CandleFlags(u32);
}

impl Field for Origin {
    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        put_bin(out, self.tape.as_bytes());
        put_uint(out, self.seq);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let rest = two(input, "an origin")?;
        let start = *input;
        let tape = Uuid::from_slice(input.bin()?).map_err(|_| start.unexpected("a tape's uuid"))?;
        let seq = input.uint()?;
        skip_rest(rest, input)?;
        Ok(Origin { tape, seq })
    }
}

impl Field for Value {
    const LEAST_BYTES: usize = 3;

    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        let number = match self {
            Value::Int(_) => 0,
            Value::UInt(_) => 1,
            Value::Decimal(_) => 2,
            Value::Float(_) => 3,
            Value::Bool(_) => 4,
            Value::Text(_) => 5,
        };
        put_uint(out, number);
        match self {
            Value::Int(value) => put_int(out, *value),
            Value::UInt(value) => put_uint(out, *value),
            Value::Decimal(value) => value.put(out),
            Value::Float(value) => put_float(out, *value),
            Value::Bool(value) => put_bool(out, *value),
            Value::Text(value) => put_str(out, value),
        }
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let rest = two(input, "a value")?;
        let start = *input;
        let value = match input.uint()? {
            0 => Value::Int(input.int()?),
            1 => Value::UInt(input.uint()?),
            2 => Value::Decimal(Field::take(input)?),
            3 => Value::Float(input.float()?),
            4 => Value::Bool(input.bool()?),
            5 => Value::Text(Field::take(input)?),
            _ => {
                *input = start;
                return Err(input.later_number());
            }
        };
        skip_rest(rest, input)?;
        Ok(value)
    }
}
