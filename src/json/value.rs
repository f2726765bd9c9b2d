//! What can stand behind a name in the JSON of an event.

use std::io::Write as _;

use tapedeck_market::{
    Decimal, Leg, Level, LevelPriceSize, Origin, Price, PriceSize, Sentiment, Size, SmolStr, Stats, Sum, UnixNanos,
    Value,
};

/// What can stand behind a name.
pub(super) trait Json {
    fn write(&self, out: &mut Vec<u8>);

    /// Whether the name is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A JSON object under construction.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, empty: true }
    }

    pub(super) fn put(&mut self, fields: &[(&str, &dyn Json)]) {
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_absent()) {
            if !self.empty {
                self.out.push(b',');
            }
            self.empty = false;
            write_text(name, self.out);
            self.out.push(b':');
            value.write(self.out);
        }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            // 0x7f is allowed in JSON, but not in a terminal.
            0..=0x1f | 0x7f => write_display(format_args!("\\u{byte:04x}"), out),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn write_display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing into a vector does not fail.
    let _ = write!(out, "{value}");
}

fn write_list<T: Json>(items: &[T], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        item.write(out);
    }
    out.push(b']');
}

macro_rules! texts {
    ($($type:ty),+) => {$(
        impl Json for $type {
            fn write(&self, out: &mut Vec<u8>) {
                write_text(self, out);
            }
        }
    )+};
}

texts!(&str, String, SmolStr);

macro_rules! plain {
    ($($type:ty),+) => {$(
        impl Json for $type {
            fn write(&self, out: &mut Vec<u8>) {
                write_display(self, out);
            }
        }
    )+};
}

plain!(bool, u8, u16, u32, u64, i64);

impl Json for UnixNanos {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Json for Decimal {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_to(out);
        out.push(b'"');
    }
}

impl Json for Price {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Json for Size {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Json for Sum {
    fn write(&self, out: &mut Vec<u8>) {
        write_display(format_args!("\"{self}\""), out);
    }
}

impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Json> Json for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        write_list(self, out);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A list that is there even when it is empty.
pub(super) struct Always<'a, T>(pub(super) &'a [T]);

impl<T: Json> Json for Always<'_, T> {
    fn write(&self, out: &mut Vec<u8>) {
        write_list(self.0, out);
    }
}

/// Names with values, as an object.
pub(super) struct Pairs<'a, T>(pub(super) &'a [(SmolStr, T)]);

impl<T: Json> Json for Pairs<'_, T> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::new(out);
        for (name, value) in self.0 {
            object.put(&[(name, value)]);
        }
        object.end();
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl Json for Origin {
    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::new(out);
        object.put(&[("tape", &self.tape.to_string()), ("seq", &self.seq)]);
        object.end();
    }
}

impl Json for Stats {
    fn write(&self, out: &mut Vec<u8>) {
        let Stats { open, high, low, volume, vwap, trades } = self;
        let mut object = Object::new(out);
        object.put(&[
            ("open", open),
            ("high", high),
            ("low", low),
            ("volume", volume),
            ("vwap", vwap),
            ("trades", trades),
        ]);
        object.end();
    }

    fn is_absent(&self) -> bool {
        *self == Stats::default()
    }
}

/// `["price","size"]`, and the number of orders as a third where the venue counts them.
impl Json for Level {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        self.price.write(out);
        out.push(b',');
        self.size.write(out);
        if let Some(orders) = self.orders {
            out.push(b',');
            orders.write(out);
        }
        out.push(b']');
    }
}

/// `["price","size"]`
impl Json for PriceSize {
    fn write(&self, out: &mut Vec<u8>) {
        Level { price: self.price, size: self.size, orders: None }.write(out);
    }
}

/// `[level,"price","size"]`
impl Json for LevelPriceSize {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        self.level.write(out);
        out.push(b',');
        self.price.write(out);
        out.push(b',');
        self.size.write(out);
        out.push(b']');
    }
}

impl Json for Sentiment {
    fn write(&self, out: &mut Vec<u8>) {
        let Sentiment { compound, positive, neutral, negative } = self;
        let mut object = Object::new(out);
        object.put(&[("compound", compound), ("positive", positive), ("neutral", neutral), ("negative", negative)]);
        object.end();
    }
}

impl Json for Leg {
    fn write(&self, out: &mut Vec<u8>) {
        let Leg { instrument, bid, ask, leg_bid, leg_bid_size, leg_ask, leg_ask_size } = self;
        let mut object = Object::new(out);
        object.put(&[
            ("instrument", instrument),
            ("bid", bid),
            ("ask", ask),
            ("leg_bid", leg_bid),
            ("leg_bid_size", leg_bid_size),
            ("leg_ask", leg_ask),
            ("leg_ask_size", leg_ask_size),
        ]);
        object.end();
    }
}

/// Numbers that were integers or doubles are numbers; a decimal is a text, like everywhere.
impl Json for Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Int(value) => value.write(out),
            Value::UInt(value) => value.write(out),
            Value::Decimal(value) => value.write(out),
            // `{:?}` keeps a double apart from an integer: `1.0`.
            Value::Float(value) if value.is_finite() => write_display(format_args!("{value:?}"), out),
            // JSON has no word for NaN and the infinities.
            Value::Float(value) => write_display(format_args!("\"{value}\""), out),
            Value::Bool(value) => value.write(out),
            Value::Text(value) => value.write(out),
        }
    }
}
