use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use proptest::prelude::*;
use tapedeck_market::{Decimal, DecimalError, Sum};

use tapedeck_market::strategy::decimal;

fn parse(text: &str) -> Result<Decimal, DecimalError> {
    Decimal::parse(text.as_bytes())
}

fn hash(decimal: Decimal) -> u64 {
    let mut hasher = DefaultHasher::new();
    decimal.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn a_venues_text_is_printed_digit_for_digit() {
    for text in [
        "0",
        "0.0",
        "0.00000000",
        "62807.0",
        "0.00000001",
        "-0.5",
        "-12.340",
        "100",
        "999999999999999999",
        "-999999999999999999",
        "0.999999999999999999",
        "0.000000000000000000",
        "99999999.9999999999",
    ] {
        assert_eq!(parse(text).map(|d| d.to_string()), Ok(text.to_string()));
    }
}

#[test]
fn exponents_are_read_and_printed_plain() {
    for (text, want) in [
        ("1e-08", "0.00000001"),
        ("1E-8", "0.00000001"),
        ("1.0E-7", "0.00000010"),
        ("2.5e3", "2500"),
        ("2.50e1", "25.0"),
        ("1e+2", "100"),
        ("-3e-2", "-0.03"),
        ("0e5", "0"),
        ("0e-5", "0.00000"),
        ("0.0e1", "0"),
        ("1e-0008", "0.00000001"),
        ("1e17", "100000000000000000"),
        ("0.000000000000000000000001e10", "0.00000000000001"),
    ] {
        assert_eq!(parse(text).map(|d| d.to_string()), Ok(want.to_string()), "{text}");
    }
}

#[test]
fn what_is_no_number_is_refused_with_its_text() {
    for text in [
        "", "-", "+1", ".5", "5.", "1.2.3", "01", "-01", "00", "1e", "1e+", "1e1.5", "e5", "1 ", " 1", "1,5", "NaN",
        "Infinity", "0x10", "--1", "1-", "१", "1_000",
    ] {
        assert_eq!(parse(text), Err(DecimalError::Malformed { text: text.to_string() }));
    }
}

#[test]
fn what_does_not_fit_is_refused_not_rounded() {
    for text in [
        "1000000000000000000",
        "-1000000000000000000",
        "0.0000000000000000001",
        "1.0000000000000000000",
        "123456789.1234567891",
        "1e18",
        "1e-19",
        "1e999999999999999999999",
        "1e-999999999999999999999",
    ] {
        assert_eq!(parse(text), Err(DecimalError::TooLong { text: text.to_string() }));
    }
}

#[test]
fn an_error_shows_a_cut_of_a_long_text() {
    let error = parse(&"9".repeat(10_000)).expect_err("10,000 digits").to_string();
    assert!(error.len() < 120, "{error}");
}

#[test]
fn minus_zero_is_zero() {
    assert_eq!(parse("-0.00").map(|d| d.to_string()), Ok("0.00".to_string()));
    assert!(!parse("-0.00").expect("a number").is_negative());
}

#[test]
fn a_sum_prints_all_its_digits() {
    for (mantissa, scale, want) in [
        (0, 0, "0"),
        (-5, 3, "-0.005"),
        (12_345, 2, "123.45"),
        (i128::MAX, 20, "1701411834604692317.31687303715884105727"),
    ] {
        assert_eq!(Sum { mantissa, scale }.to_string(), want);
    }
    assert_eq!(Sum { mantissa: i128::MAX, scale: 0 }.checked_add(Sum { mantissa: 1, scale: 0 }), None);
}

fn peer(decimal: Decimal) -> rust_decimal::Decimal {
    rust_decimal::Decimal::from_i128_with_scale(i128::from(decimal.mantissa()), u32::from(decimal.scale()))
}

proptest! {
    #[test]
    fn text_goes_in_and_out_unchanged(decimal in decimal()) {
        let text = decimal.to_string();
        let again = parse(&text).expect("own text");
        prop_assert!(again.same_digits(decimal), "{text} became {again}");
    }

    #[test]
    fn text_is_what_another_library_prints(decimal in decimal()) {
        prop_assert_eq!(decimal.to_string(), peer(decimal).to_string());
    }

    #[test]
    fn any_text_is_read_as_another_library_reads_it(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?") {
        match parse(&text) {
            Ok(decimal) => {
                let peer: rust_decimal::Decimal = text.parse().expect("a number");
                prop_assert_eq!(decimal.to_string(), peer.to_string());
            }
            Err(error) => {
                let is_long = matches!(error, DecimalError::TooLong { .. });
                let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').count();
                let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                prop_assert!(is_long && (digits > 18 || scale > 18), "{}", error);
            }
        }
    }

    #[test]
    fn exponents_only_move_the_point(mantissa in 1_i64..1_000_000, exponent in -18_i32..=12) {
        let peer = rust_decimal::Decimal::from_scientific(&format!("{mantissa}e{exponent}")).expect("a number");
        prop_assert_eq!(parse(&format!("{mantissa}e{exponent:+03}")).expect("fits").to_string(), peer.to_string());
    }

    #[test]
    fn order_equality_and_hash_are_by_value(a in decimal(), b in decimal(), zeros in 0_u8..6) {
        prop_assert_eq!(a.cmp(&b), peer(a).cmp(&peer(b)));
        let padded = 10_i64.checked_pow(u32::from(zeros)).and_then(|power| a.mantissa().checked_mul(power));
        if let Some(same) = padded.and_then(|mantissa| Decimal::new(mantissa, a.scale() + zeros)) {
            prop_assert_eq!(a, same);
            prop_assert_eq!(hash(a), hash(same));
            prop_assert_eq!(a.same_digits(same), zeros == 0);
        }
    }

    #[test]
    fn the_nearest_double_is_the_one_the_text_has(decimal in decimal()) {
        let text: f64 = decimal.to_string().parse().expect("a number");
        prop_assert_eq!(decimal.to_f64().to_bits(), text.to_bits());
    }

    #[test]
    fn sums_are_exact(a in decimal(), b in decimal()) {
        let sum = a.to_sum().checked_add(b.to_sum()).expect("38 digits");
        prop_assert_eq!(Some(sum), b.to_sum().checked_add(a.into()));
        let back = sum.checked_add(Sum { mantissa: -i128::from(b.mantissa()), scale: b.scale() }).expect("38 digits");
        let power = 10_i128.pow(u32::from(back.scale - a.scale()));
        prop_assert_eq!(back.mantissa, i128::from(a.mantissa()) * power);
    }

    #[test]
    fn any_bytes_are_a_number_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = Decimal::parse(&bytes);
    }

    #[test]
    fn any_number_like_text_is_a_number_or_an_error(text in "[-+0-9.eE]{0,30}") {
        if let Ok(decimal) = parse(&text) {
            prop_assert!(decimal.mantissa().unsigned_abs() < 10_u64.pow(18) && decimal.scale() <= 18);
        }
    }
}
