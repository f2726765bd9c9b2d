use proptest::prelude::*;
use tapedeck_market::{Decimal, SmolStr, Value};

use super::*;

/// What a line becomes, for comparing: the point in a canonical spelling of ours, or the fault's words.
fn read(line: &[u8]) -> String {
    match parse(line) {
        Ok(Line { point: Point { name, tags, fields }, time }) => format!("{name:?} {tags:?} {fields:?} {time:?}"),
        Err(fault) => fault.to_string(),
    }
}

fn of_one(text: &str) -> Line {
    let found: Vec<&[u8]> = lines(text.as_bytes()).collect();
    assert_eq!(found.len(), 1, "{text:?} is one line");
    parse(found[0]).unwrap_or_else(|fault| panic!("{text:?}: {fault}"))
}

fn value(text: &str) -> Value {
    of_one(&format!("m f={text}")).point.fields.remove(0).1
}

fn number(text: &str) -> Value {
    Value::Decimal(text.parse().unwrap())
}

#[test]
fn bad_lines_are_refused_in_the_words_of_the_real_server() {
    // Asked of InfluxDB 1.6.7, line by line.
    for (line, words) in [
        ("m", "missing fields"),
        ("m ", "invalid field format"),
        (",t=1 f=1", "missing measurement"),
        ("m,t f=1", "missing tag value"),
        ("m,t= f=1", "missing tag value"),
        ("m, f=1", "missing tag key"),
        ("m,=a f=1", "missing tag key"),
        ("m,t=a", "missing fields"),
        ("m,t=a\\", "missing fields"),
        ("m,t=a=b f=1", "invalid tag format"),
        ("m,t=a,t=b f=1", "duplicate tags"),
        ("m,t=a, f=1", "missing tag key"),
        ("m,a=1,b f=1", "missing tag value"),
        ("m,t=a\\ f=1", "invalid tag format"),
        ("m,t=a\\\\ f=1", "invalid tag format"),
        ("m,t=\"a b\" f=1", "invalid field format"),
        ("m f", "invalid field format"),
        ("m f=", "missing field value"),
        ("m f= 1", "missing field value"),
        ("m f =1", "invalid field format"),
        ("m =1", "missing field key"),
        ("m \\=1", "invalid field format"),
        ("m f=1,", "invalid field format"),
        ("m f=1,g", "invalid field format"),
        ("m f=1,=2", "missing field key"),
        ("m f=1,g=", "missing field value"),
        ("m f=\"a\",", "invalid field format"),
        ("m f=\"a\"=1", "invalid field format"),
        ("m\tf=1", "missing fields"),
        ("m f=a", "invalid boolean"),
        ("m f=tru", "invalid boolean"),
        ("m f=tRue", "invalid boolean"),
        ("m f=falsee", "invalid boolean"),
        ("m f=tx,g=1", "invalid boolean"),
        ("m f=a\"b\"", "invalid boolean"),
        ("m f=Inf", "invalid boolean"),
        ("m f=+1", "invalid boolean"),
        ("m f=i", "invalid boolean"),
        ("m f=NaN", "invalid number"),
        ("m f=nan", "invalid number"),
        ("m f=-Inf", "invalid number"),
        ("m f=-", "invalid number"),
        ("m f=-i", "invalid number"),
        ("m f=.", "invalid number"),
        ("m f=1.2.3", "invalid number"),
        ("m f=--1", "invalid number"),
        ("m f=1-1", "invalid number"),
        ("m f=1.5i", "invalid number"),
        ("m f=1e5i", "invalid number"),
        ("m f=1ii", "invalid number"),
        ("m f=1i1", "invalid number"),
        ("m f=0x10", "invalid number"),
        ("m f=1_0", "invalid number"),
        ("m f=1\\,g=2", "invalid number"),
        ("m f=1\\", "invalid number"),
        ("m f=1e", "invalid float"),
        ("m f=1e+", "invalid float"),
        ("m f=1e1e1", "invalid float"),
        ("m f=1e309", "invalid float"),
        (
            "m f=9223372036854775808i",
            "unable to parse integer 9223372036854775808: strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
        ),
        ("m f=\"a", "unbalanced quotes"),
        ("m f=\"\\", "unbalanced quotes"),
        ("m f=\"a\" x", "bad timestamp"),
        ("m f=1 12x", "bad timestamp"),
        ("m f=1 1.5", "bad timestamp"),
        ("m f=1 +5", "bad timestamp"),
        ("m f=1,g=2 5,6", "bad timestamp"),
        ("m f=1 5 6", "point is invalid"),
        ("m f=1 99999999999999999999", "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"),
        ("m,time=1 f=1", "invalid tag key: input tag \"time\" on measurement \"m\" is invalid"),
        ("m time=1", "invalid field name: input field \"time\" on measurement \"m\" is invalid"),
    ] {
        assert_eq!(read(line.as_bytes()), words, "{line}");
    }
}

#[test]
fn what_the_server_takes_is_taken() {
    for (line, point) in [
        ("m f=1", r#""m" [] [("f", Decimal(1))] None"#),
        ("m  f=1", r#""m" [] [("f", Decimal(1))] None"#),
        ("m,t=a  f=1  5 ", r#""m" [("t", "a")] [("f", Decimal(1))] Some(5)"#),
        ("m f=1 -5", r#""m" [] [("f", Decimal(1))] Some(-5)"#),
        ("m\\ x,a\\,b=c\\ d f\\=g=1", r#""m x" [("a,b", "c d")] [("f=g", Decimal(1))] None"#),
        ("m\\, f=1", r#""m," [] [("f", Decimal(1))] None"#),
        ("\"m\" f=1", r#""\"m\"" [] [("f", Decimal(1))] None"#),
        ("m=x f=1", r#""m=x" [] [("f", Decimal(1))] None"#),
        ("m,t\\=a=b f=1", r#""m" [("t=a", "b")] [("f", Decimal(1))] None"#),
        ("m f\\ =1", r#""m" [] [("f ", Decimal(1))] None"#),
        ("m f=\"\"", r#""m" [] [("f", Text(""))] None"#),
        ("m f=1,g=\"x,y=z w\",h=2i", r#""m" [] [("f", Decimal(1)), ("g", Text("x,y=z w")), ("h", Int(2))] None"#),
        ("m f=1,g=2,f=3", r#""m" [] [("f", Decimal(3)), ("g", Decimal(2))] None"#),
        ("m time=1,f=2", r#""m" [] [("time", Decimal(1)), ("f", Decimal(2))] None"#),
    ] {
        assert_eq!(read(line.as_bytes()), point, "{line}");
    }
}

#[test]
fn numbers_keep_their_type_and_their_digits() {
    for (text, exact) in [
        ("1", number("1")),
        ("62807.0", number("62807.0")),
        ("0.10000000", number("0.10000000")),
        (".5", number("0.5")),
        ("-.5", number("-0.5")),
        ("5.", number("5")),
        ("007", number("7")),
        ("00.50", number("0.50")),
        ("1e5", number("100000")),
        ("1.0e-3", number("0.0010")),
        ("1E+2", number("100")),
        ("123456789012345678901234567890.5", Value::Float(123_456_789_012_345_678_901_234_567_890.5)),
        ("1e-20", Value::Float(1e-20)),
        ("1.7976931348623157e308", Value::Float(f64::MAX)),
        ("0i", Value::Int(0)),
        ("-9223372036854775808i", Value::Int(i64::MIN)),
        ("18446744073709551615u", Value::UInt(u64::MAX)),
        ("TRUE", Value::Bool(true)),
        ("f", Value::Bool(false)),
        (r#""a\"b\\c\d""#, Value::Text("a\"b\\c\\d".into())),
    ] {
        let read = value(text);
        assert_eq!(read, exact, "{text}");
        if let (Value::Decimal(read), Value::Decimal(exact)) = (read, exact) {
            assert!(read.same_digits(exact), "{text} became {read}");
        }
    }
    assert_eq!(
        read(b"m f=18446744073709551616u"),
        "unable to parse unsigned 18446744073709551616: strconv.ParseUint: parsing \"18446744073709551616\": value out of range"
    );
    assert_eq!(read(b"m f=-1u"), "invalid number");
}

#[test]
fn stricter_than_the_server_only_where_it_would_store_something_else() {
    assert_eq!(read(b"m f=\"a\"b"), "invalid field format");
    assert_eq!(read(b"m,t=\xff f=1"), "not UTF-8");
    let long = [b"m f=\"".as_slice(), &vec![b'x'; MAX_LINE_BYTES], b"\""].concat();
    assert!(matches!(parse(&long), Err(Fault::TooLong { .. })));
    let wide = [b"m,t=".as_slice(), &vec![b'x'; 70_000], b" f=1"].concat();
    assert_eq!(read(&wide), "max key length exceeded: 70004 > 65535");
}

#[test]
fn lines_are_found_as_the_server_finds_them() {
    let found = |text: &'static str| -> Vec<String> {
        lines(text.as_bytes()).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    assert_eq!(found(""), [""; 0]);
    assert_eq!(found("\n\n \t\n"), [""; 0]);
    assert_eq!(found("m f=1\n\n  m f=2\r\nm f=3"), ["m f=1", "m f=2", "m f=3"]);
    assert_eq!(found("# say \"hi\" a=\"b\nm f=1\n#c"), ["m f=1"]);
    assert_eq!(found("m f=\"a\nb\"\nm f=2"), ["m f=\"a\nb\"", "m f=2"]);
    assert_eq!(found("m f=\"a\\\"\nb\" 5\nm f=2"), ["m f=\"a\\\"\nb\" 5", "m f=2"]);
    // A quote that is no value's is a letter.
    assert_eq!(found("m\",t=\" f=1\nm f=2"), ["m\",t=\" f=1", "m f=2"]);
    assert_eq!(found("m\\\nx f=1\nm f=2"), ["m\\\nx f=1", "m f=2"]);
    assert_eq!(found("m f=1\\"), ["m f=1\\"]);
}

#[test]
fn an_instant_is_the_timestamp_in_its_precision_or_out_of_range() {
    let instant = |word: &str, time| Precision::from_word(word).map(|precision| precision.instant(time));
    assert_eq!(instant("", 7), Some(Ok(UnixNanos(7))));
    assert_eq!(instant("u", 7), Some(Ok(UnixNanos(7_000))));
    assert_eq!(instant("ms", -7), Some(Ok(UnixNanos(-7_000_000))));
    assert_eq!(instant("h", 1), Some(Ok(UnixNanos(3_600_000_000_000))));
    assert_eq!(instant("days", 1), None);
    assert_eq!(instant("n", i64::MAX - 1), Some(Ok(UnixNanos(i64::MAX - 1))));
    for (word, time) in [("n", i64::MAX), ("n", i64::MIN + 1), ("s", i64::MAX / 1_000_000_000 + 1)] {
        let Some(Err(fault)) = instant(word, time) else { panic!("{time} {word} fits") };
        assert_eq!(fault.to_string(), "time outside range -9223372036854775806 - 9223372036854775806");
    }
}

#[test]
fn what_is_quoted_back_has_a_bound() {
    let line = vec![b'x'; 70_000];
    let said = parse(&line).unwrap_err().about(&line);
    assert!(said.starts_with("unable to parse 'xxx") && said.ends_with("…': missing fields"), "{said}");
    assert!(said.len() < 2 * QUOTED_BYTES);
}

/// The same point as text again: the test's own writer.
fn write(Line { point, time }: &Line) -> String {
    let escape = |text: &str, letters: &str| -> String {
        let back = |c: char| if letters.contains(c) { format!("\\{c}") } else { c.to_string() };
        text.chars().map(back).collect()
    };
    let mut text = escape(&point.name, ", ");
    for (key, value) in &point.tags {
        text += &format!(",{}={}", escape(key, ", ="), escape(value, ", ="));
    }
    for (at, (key, value)) in point.fields.iter().enumerate() {
        let value = match value {
            Value::Int(value) => format!("{value}i"),
            Value::UInt(value) => format!("{value}u"),
            Value::Decimal(value) => value.to_string(),
            Value::Float(value) => format!("{value:e}"),
            Value::Bool(value) => value.to_string(),
            Value::Text(value) => format!("\"{}\"", escape(value, "\"\\")),
        };
        text += &format!("{}{}={value}", if at == 0 { " " } else { "," }, escape(key, ", ="));
    }
    if let Some(time) = time {
        text += &format!(" {time}");
    }
    text
}

/// Names with what must be escaped in them. A backslash of their own at the end, or before a separator, cannot be written.
fn name() -> impl Strategy<Value = SmolStr> {
    "[a-zé\"#_.][a-z0-9 ,=\"é/:-]{0,8}".prop_map(SmolStr::from)
}

fn line() -> impl Strategy<Value = Line> {
    let float = any::<f64>().prop_filter("a number", |value| value.is_finite());
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        (-999_999_999_999_999_999_i64..=999_999_999_999_999_999, 0_u8..=18)
            .prop_map(|(mantissa, scale)| Value::Decimal(Decimal::new(mantissa, scale).unwrap())),
        float.prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        "[ -~é\n\r]{0,12}".prop_map(|text| Value::Text(text.into())),
    ];
    let tags = proptest::collection::btree_map(name(), name(), 0..4);
    let fields = proptest::collection::btree_map(name(), value, 1..5);
    (name(), tags, fields, proptest::option::of(any::<i64>())).prop_map(|(name, tags, fields, time)| {
        // A line that begins with `#` is a comment.
        let name = name.replace('#', "m").into();
        let (tags, fields) = (tags.into_iter().collect(), fields.into_iter().collect());
        Line { point: Point { name, tags, fields }, time }
    })
}

/// A float of few digits comes back as the decimal that it shows.
fn same(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Decimal(read), Value::Decimal(written)) => read.same_digits(*written),
        (Value::Decimal(read), Value::Float(written)) => read.to_f64() == *written,
        _ => read == written,
    }
}

proptest! {
    #[test]
    fn a_point_that_is_written_is_read_back_among_others(points in proptest::collection::vec(line(), 1..4)) {
        let text: String = points.iter().map(|point| write(point) + "\n").collect();
        let read: Vec<Line> = lines(text.as_bytes()).map(|line| parse(line).unwrap()).collect();
        prop_assert_eq!(read.len(), points.len(), "{}", text);
        for (read, written) in read.iter().zip(&points) {
            prop_assert_eq!((&read.point.name, &read.point.tags, read.time), (&written.point.name, &written.point.tags, written.time));
            prop_assert_eq!(read.point.fields.len(), written.point.fields.len());
            for ((key, value), (key_written, value_written)) in read.point.fields.iter().zip(&written.point.fields) {
                prop_assert_eq!(key, key_written);
                prop_assert!(same(value, value_written), "{:?} is not {:?}", value, value_written);
            }
        }
    }

    #[test]
    fn any_bytes_are_lines_and_each_a_point_or_a_fault(text in proptest::collection::vec(
        prop_oneof![4 => proptest::sample::select(b"m,= \\\"\n\r#10.eiu-tf".to_vec()), 1 => any::<u8>()], 0..200)) {
        let mut bytes = 0;
        for line in lines(&text) {
            bytes += line.len();
            prop_assert!(!line.is_empty());
            if let Err(fault) = parse(line) {
                prop_assert!(!fault.about(line).is_empty());
            }
        }
        prop_assert!(bytes <= text.len());
    }
}
