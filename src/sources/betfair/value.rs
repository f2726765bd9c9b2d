//! Values of the venue's JSON as they stand: numbers by their text, texts that may be numbers, ladders.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tapedeck_market::{Decimal, LevelPriceSize, Price, PriceSize, Size, SmolStr};

/// A key, or a text that stays where it is unless it holds escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A number that must fit: of a ladder, or a key.
pub(super) struct Exact(pub(super) Decimal);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Decimal::parse(unquoted(raw).as_bytes()).map(Exact).map_err(D::Error::custom)
    }
}

/// A last value: the venue writes `"NaN"` and `"Infinity"` where it has none.
pub(super) enum Last {
    Is(Decimal),
    None,
    /// More digits than fit: lost to arithmetic.
    Refused,
}

impl<'de> Deserialize<'de> for Last {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(match unquoted(raw) {
            "null" | "NaN" | "Infinity" | "-Infinity" => Last::None,
            text => Decimal::parse(text.as_bytes()).map_or(Last::Refused, Last::Is),
        })
    }
}

/// A name: a text, or a number in its place.
pub(super) struct Word(pub(super) SmolStr);

/// Clocks have some hundred bytes; what is longer than this is no word.
const WORD_BYTES: usize = 16 << 10;

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if text.len() > WORD_BYTES {
            return Err(D::Error::custom("a name of more than 16 KiB"));
        }
        if text.starts_with('"') && text.contains('\\') {
            return serde_json::from_str::<String>(text).map(|text| Word(text.into())).map_err(D::Error::custom);
        }
        Ok(Word(SmolStr::new(unquoted(raw))))
    }
}

/// Text of a value, without the quotes where it has some.
pub(super) fn unquoted(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

pub(super) fn whole(raw: &RawValue) -> Option<i64> {
    let text = unquoted(raw);
    // `17.0` is written where 17 is meant.
    text.parse().ok().or_else(|| {
        let number = Decimal::parse(text.as_bytes()).ok()?;
        let unit = 10_i64.checked_pow(u32::from(number.scale()))?;
        (number.mantissa() % unit == 0).then(|| number.mantissa() / unit)
    })
}

/// `[price, size]` of a ladder by price.
pub(super) struct ByPrice(PriceSize);

/// `[level, price, size]` of a ladder by level.
pub(super) struct ByLevel(LevelPriceSize);

/// The rungs of a ladder.
pub(super) fn rungs<T, R: Into<T>>(read: Option<Vec<R>>) -> Vec<T> {
    read.map_or_else(Vec::new, |rungs| rungs.into_iter().map(Into::into).collect())
}

impl From<ByPrice> for PriceSize {
    fn from(rung: ByPrice) -> Self {
        rung.0
    }
}

impl From<ByLevel> for LevelPriceSize {
    fn from(rung: ByLevel) -> Self {
        rung.0
    }
}

impl<'de> Deserialize<'de> for ByPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [price, size] = deserializer.deserialize_seq(Numbers::<2>)?;
        Ok(ByPrice(PriceSize { price: Price(price), size: Size(size) }))
    }
}

impl<'de> Deserialize<'de> for ByLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [level, price, size] = deserializer.deserialize_seq(Numbers::<3>)?;
        let number =
            Some(level).filter(|level| level.scale() == 0).and_then(|level| u32::try_from(level.mantissa()).ok());
        let level = number.ok_or_else(|| D::Error::custom(format_args!("`{level}` is no level of a ladder")))?;
        Ok(ByLevel(LevelPriceSize { level, price: Price(price), size: Size(size) }))
    }
}

/// So many numbers; what follows them in a rung is of a later protocol.
struct Numbers<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Numbers<N> {
    type Value = [Decimal; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a rung of {N} numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rung: A) -> Result<Self::Value, A::Error> {
        let mut numbers = [Decimal::ZERO; N];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = rung.next_element::<Exact>()?.ok_or_else(|| A::Error::invalid_length(at, &self))?.0;
        }
        while rung.next_element::<IgnoredAny>()?.is_some() {}
        Ok(numbers)
    }
}
