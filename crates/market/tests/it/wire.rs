use proptest::prelude::*;
use serde::Deserialize as _;
use serde::de::IgnoredAny;
use tapedeck_market::wire::{self, WireError};
use tapedeck_market::*;

use crate::golden::samples;
use tapedeck_market::strategy::{body, event};

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(event, &mut bytes);
    bytes
}

fn with_body(body: Body) -> Event {
    Event {
        source: "kraken-spot".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos(1_784_483_679_753_424_000)),
        ts_recv: UnixNanos(1_784_483_679_801_000_000),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn trade() -> Event {
    with_body(Body::Trade(Trade {
        price: "64528.1".parse().expect("a price"),
        size: "0.01177486".parse().expect("a size"),
        side: Some(Side::Sell),
        id: Some("100320028".into()),
    }))
}

/// An event with the header of [`trade`] and another kind and body, both given as MessagePack.
fn spliced(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let whole = encoded(&with_body(Body::Unknown(Unknown { kind: Kind(99), payload: vec![0xc0] })));
    let header = whole.strip_suffix(&[99, 0xc0]).expect("kind and nil at the end");
    [header, kind, body].concat()
}

fn decoded(bytes: &[u8]) -> Event {
    wire::decode(bytes).unwrap_or_else(|error| panic!("{error}"))
}

/// The body's bytes: what is behind the header and the kind.
fn body_bytes(event: &Event) -> Vec<u8> {
    let header = encoded(&with_body(Body::Unknown(Unknown { kind: Kind(99), payload: vec![0xc0] }))).len() - 1;
    encoded(&with_body(event.body.clone())).split_off(header)
}

proptest! {
    #[test]
    fn every_event_survives_a_round_trip(event in event()) {
        let bytes = encoded(&event);
        let again = wire::decode(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&again, &event);
        // Decimals are equal by value; their text must be the same too.
        prop_assert_eq!(format!("{again:?}"), format!("{event:?}"));
        prop_assert_eq!(wire::kind(&bytes), Ok(event.body.kind()));
        prop_assert_eq!(encoded(&again), bytes);
    }

    #[test]
    fn another_library_reads_the_same_bytes_to_the_end(event in event()) {
        let bytes = encoded(&event);
        let mut rest = std::io::Cursor::new(&bytes);
        IgnoredAny::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).expect("MessagePack");
        prop_assert_eq!(rest.position(), bytes.len() as u64);
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(event) = wire::decode(&bytes) {
            prop_assert_eq!(wire::kind(&bytes), Ok(event.body.kind()));
        }
        let _ = wire::kind(&bytes);
    }

    #[test]
    fn a_changed_byte_is_an_event_or_an_error(event in event(), at in any::<prop::sample::Index>(), new in any::<u8>()) {
        let mut bytes = encoded(&event);
        let at = at.index(bytes.len());
        bytes[at] = new;
        if let Ok(event) = wire::decode(&bytes) {
            let text = format!("{event:?}");
            prop_assert_eq!(format!("{:?}", decoded(&encoded(&event))), text);
        }
    }

    #[test]
    fn an_event_cut_short_is_an_error(event in event(), at in any::<prop::sample::Index>()) {
        let mut bytes = encoded(&event);
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(wire::decode(&bytes).is_err());
    }

    #[test]
    fn a_body_of_an_unknown_kind_is_kept_byte_for_byte(kind in 17_u16.., body in body()) {
        let payload = body_bytes(&with_body(body));
        let event = with_body(Body::Unknown(Unknown { kind: Kind(kind), payload }));
        let bytes = encoded(&event);
        prop_assert_eq!(&decoded(&bytes), &event);
        prop_assert_eq!(encoded(&decoded(&bytes)), bytes);
    }
}

type Mirror<'a> = (
    u8,
    &'a str,
    &'a str,
    &'a str,
    Option<i64>,
    i64,
    u32,
    Option<()>,
    u16,
    ((i64, u8), (i64, u8), Option<u8>, Option<&'a str>),
);

#[test]
fn a_trade_is_what_another_library_writes_for_the_same_fields() {
    let mirror: Mirror<'_> = (
        1,
        "kraken-spot",
        "kraken",
        "BTC/USD",
        Some(1_784_483_679_753_424_000),
        1_784_483_679_801_000_000,
        0,
        None,
        1,
        ((645_281, 1), (1_177_486, 8), Some(1), Some("100320028")),
    );
    let bytes = encoded(&trade());
    assert_eq!(rmp_serde::to_vec(&mirror).expect("plain data"), bytes);
    assert_eq!(rmp_serde::from_slice::<Mirror<'_>>(&bytes).expect("plain data"), mirror);
}

#[test]
fn integers_are_read_in_any_width() {
    // kind 1 as 1, 2, 4 and 8 bytes, signed and not.
    let body = body_bytes(&trade());
    for kind in [
        &[1][..],
        &[0xcc, 1],
        &[0xcd, 0, 1],
        &[0xce, 0, 0, 0, 1],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xd0, 1],
        &[0xd1, 0, 1],
        &[0xd2, 0, 0, 0, 1],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(decoded(&spliced(kind, &body)), trade(), "{kind:02x?}");
    }
}

/// Gives every array of a struct one more field, as a later version would.
fn with_trailing_field(body: &[u8]) -> Vec<u8> {
    let count = body[0];
    assert!((0x90..0x9f).contains(&count), "a short array");
    // Nested, with a map and an extension in it: a reader has to step over anything.
    let later = [0x93, 0x81, 0xa1, b'k', 0xc7, 3, 5, 1, 2, 3, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xdb, 0, 0, 0, 1, b'x'];
    [&[count + 1], &body[1..], &later].concat()
}

#[test]
fn fields_of_a_later_version_are_skipped_at_every_level() {
    assert_eq!(decoded(&spliced(&[1], &with_trailing_field(&body_bytes(&trade())))), trade(), "in the body");

    let decimal = |digits: u8| with_trailing_field(&[0x92, digits, 0]);
    let level = with_trailing_field(&[&[0x93][..], &decimal(9), &decimal(2), &[0xc0]].concat());
    let book = [&[0x95, 0xc3, 0x91][..], &level, &[0x90, 0xc0, 0xc0]].concat();
    let want = Level {
        price: Price(Decimal::new(9, 0).expect("9")),
        size: Size(Decimal::new(2, 0).expect("2")),
        orders: None,
    };
    let want = BookUpdate { snapshot: true, bids: vec![want], ..BookUpdate::default() };
    assert_eq!(decoded(&spliced(&[4], &book)).body, Body::Book(want), "in a level and its decimals");

    let mut event = encoded(&trade());
    event[0] += 1;
    event.extend_from_slice(&[0x92, 0xc3, 0xa1, b'x']);
    assert_eq!(decoded(&event), trade(), "in the event");
}

#[test]
fn missing_trailing_fields_are_absent() {
    let mut want = trade();
    let Body::Trade(body) = &mut want.body else { unreachable!("a trade") };
    (body.side, body.id) = (None, None);
    assert_eq!(
        decoded(&spliced(&[1], &[0x92, 0x92, 0xce, 0, 9, 0xd8, 0xa1, 1, 0x92, 0xce, 0, 0x11, 0xf7, 0x8e, 8])),
        want
    );

    let empty = |kind: u8| decoded(&spliced(&[kind], &[0x90])).body;
    assert_eq!(empty(2), Body::Quote(Quote::default()));
    assert_eq!(empty(3), Body::Ticker(Box::default()));
    assert_eq!(empty(4), Body::Book(BookUpdate::default()));
    assert_eq!(empty(8), Body::Post(Box::default()));
    assert_eq!(empty(16), Body::Raw(Raw::default()));
}

#[test]
fn a_price_cannot_be_missing() {
    let error = wire::decode(&spliced(&[1], &[0x91, 0x92, 1, 0])).expect_err("a trade without a size");
    assert!(error.to_string().contains("a field that must be there"), "{error}");
}

#[test]
fn an_enum_number_of_a_later_version_keeps_the_event_as_bytes() {
    // A trade whose side is number 7; a gap whose cause is number 200; a point with a value of type 9.
    let trade = [&[0x94, 0x92, 9, 0, 0x92, 2, 0, 7][..], &[0xc0]].concat();
    let gap = [0x98, 1, 0, 0xcc, 200, 0xa0, 5, 0xc0, 0xc0, 0xa0];
    let point = [0x93, 0xa1, b'p', 0x90, 0x91, 0x92, 0xa1, b'f', 0x92, 9, 0x90];
    for (kind, body) in [(1_u8, &trade[..]), (14, &gap), (9, &point)] {
        let bytes = spliced(&[kind], body);
        let event = decoded(&bytes);
        let want = Body::Unknown(Unknown { kind: Kind(u16::from(kind)), payload: body.to_vec() });
        assert_eq!(event.body, want);
        assert_eq!(encoded(&event), bytes);
    }
}

#[test]
fn a_later_number_does_not_excuse_broken_bytes() {
    // Side number 7, then the id ends early.
    let error = wire::decode(&spliced(&[1], &[0x94, 0x92, 9, 0, 0x92, 2, 0, 7, 0xa5, b'x']));
    assert!(matches!(error, Err(WireError::Short { .. })), "{error:?}");
}

#[test]
fn a_higher_schema_is_refused_by_its_number() {
    for event in samples() {
        let mut bytes = encoded(&event);
        bytes[1] = 2;
        assert_eq!(wire::decode(&bytes), Err(WireError::Schema { found: 2 }));
    }
    // Whatever its shape is.
    assert_eq!(wire::decode(&[0x91, 0xcd, 1, 0]), Err(WireError::Schema { found: 256 }));
}

#[test]
fn a_decimal_out_of_range_is_an_error_and_never_another_number() {
    let trade = |price: &[u8]| [&[0x92, 0x92][..], price, &[0x92, 2, 0]].concat();
    let ten_to_18 = 1_000_000_000_000_000_000_u64.to_be_bytes();
    for price in [
        [&[0xcf][..], &ten_to_18, &[0]].concat(),
        [&[0xcf][..], &u64::MAX.to_be_bytes(), &[0]].concat(),
        [&[0xd3][..], &i64::MIN.to_be_bytes(), &[0]].concat(),
        vec![1, 19],
        vec![1, 0xcd, 1, 0],
        vec![1, 0xff],
    ] {
        let error = wire::decode(&spliced(&[1], &trade(&price)));
        assert!(matches!(error, Err(WireError::Unexpected { .. })), "{price:02x?}: {error:?}");
    }
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    let four_billion = [0xff; 4];
    // A text, bytes and a list of 4 Gi, and lists that claim more items than their bytes can hold.
    for (kind, body) in [
        (12, [&[0x92, 0xdb][..], &four_billion].concat()),
        (16, [&[0x92, 0xa0, 0xc6][..], &four_billion].concat()),
        (4, [&[0x95, 0xc3, 0xdd][..], &four_billion].concat()),
        (4, [&[0x95, 0xc3, 0xdc, 0, 200][..], &[0; 300]].concat()),
        (10, [&[0x91, 0xdc, 1, 0][..], &[0x90; 300]].concat()),
        (99, [&[0xdf][..], &four_billion].concat()),
        (99, [&[0xc9][..], &four_billion].concat()),
    ] {
        let error = wire::decode(&spliced(&[kind], &body));
        assert!(matches!(error, Err(WireError::Short { .. })), "{kind}: {error:?}");
    }
}

#[test]
fn nesting_is_capped_without_recursion() {
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    let unknown = |depth| Body::Unknown(Unknown { kind: Kind(99), payload: nested(depth) });
    assert_eq!(decoded(&spliced(&[99], &nested(wire::MAX_DEPTH))).body, unknown(wire::MAX_DEPTH));
    for depth in [wire::MAX_DEPTH + 1, 1_000_000] {
        let error = wire::decode(&spliced(&[99], &nested(depth))).expect_err("too deep");
        assert!(error.to_string().contains("nested"), "{error}");
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = encoded(&trade());
    bytes.push(0xc0);
    assert_eq!(
        wire::decode(&bytes),
        Err(WireError::Unexpected { at: bytes.len() - 1, expected: "the end of the event" })
    );
}

#[test]
fn a_payload_that_is_no_message_pack_is_written_as_nil() {
    for payload in [vec![], vec![0xc1], vec![0x91], vec![0xc0, 0xc0]] {
        let event = with_body(Body::Unknown(Unknown { kind: Kind(99), payload }));
        let want = Body::Unknown(Unknown { kind: Kind(99), payload: vec![0xc0] });
        assert_eq!(decoded(&encoded(&event)).body, want);
    }
}

#[test]
fn encoding_appends() {
    let mut bytes = b"before".to_vec();
    wire::encode(&trade(), &mut bytes);
    assert_eq!(bytes.strip_prefix(b"before"), Some(&encoded(&trade())[..]));
}

#[test]
fn a_text_that_is_not_utf8_is_an_error_at_its_place() {
    let bytes = spliced(&[12], &[0x92, 0xa2, 0xc3, 0x28, 0xa0]);
    let at = bytes.len() - 4;
    assert_eq!(wire::decode(&bytes), Err(WireError::Unexpected { at, expected: "a text in UTF-8" }));
}
