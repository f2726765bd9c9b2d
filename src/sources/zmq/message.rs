//! A message as it came: its topic, and its payload as a value.
//!
//! ```text
//! [topic][MessagePack]        nbpy.zmq, and a deck's own form `map`
//! [topic][JSON] [topic][text]
//! topic SP field 0x01 field…  the legacy text, one frame
//! topic SP MessagePack        the codec's one-frame variant
//! topic SP JSON               kr_depth
//! "{\"error\":[],…}"          a JSON string of JSON, no topic
//! ```

use tapedeck_market::SmolStr;

use super::Reject;
use super::value::{Val, json, msgpack};

/// What separates the fields of a legacy message.
pub(super) const SOH: char = '\u{1}';
/// A longer first frame is no topic.
const TOPIC_BYTES: usize = 256;

/// Topic and the bytes behind it; no topic where the message has none.
pub(super) fn split<'a>(frames: &[&'a [u8]]) -> Result<(Option<SmolStr>, &'a [u8]), Reject> {
    match frames {
        [topic, payload] => Ok((Some(read_topic(topic)?), payload)),
        [whole] => match whole.first() {
            None => Err(Reject::new("topic", "an empty message")),
            // No topic begins like this: it is a body that was sent without one.
            Some(b'"' | b'{' | b'[') => Ok((None, whole)),
            Some(_) => match whole.iter().position(|&b| b == b' ') {
                Some(at) => Ok((Some(read_topic(&whole[..at])?), &whole[at + 1..])),
                None => Err(Reject::new("topic", "one frame without a space: where does the topic end?")),
            },
        },
        more => Err(Reject::new("frames", format!("{} frames, where one or two are expected", more.len()))),
    }
}

fn read_topic(bytes: &[u8]) -> Result<SmolStr, Reject> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reject::new("topic", "the topic is no UTF-8"))?;
    if text.is_empty() || text.len() > TOPIC_BYTES || text.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Reject::new("topic", format!("no topic: {} bytes, or characters that none has", text.len())));
    }
    Ok(SmolStr::new(text))
}

/// The payload as a value; text becomes a list of its fields.
pub(super) fn payload(bytes: &[u8], separator: char) -> Result<Val, Reject> {
    let Some(first) = bytes.first() else {
        return Err(Reject::new("payload", "an empty payload"));
    };
    match first {
        b'{' | b'[' | b'"' => match json(bytes)? {
            Val::Text(inner) => again(&inner, separator),
            value => Ok(value),
        },
        // No text begins with a byte of these; of the others MessagePack is tried first.
        0x80.. => match msgpack(bytes) {
            Ok(Val::Text(inner)) => again(&inner, separator),
            Ok(value) => Ok(value),
            Err(error) => fields(bytes, separator).map_err(|_| error),
        },
        _ => fields(bytes, separator),
    }
}

/// A text within: JSON that was packed as a text, or fields. Once only.
fn again(inner: &str, separator: char) -> Result<Val, Reject> {
    if inner.starts_with(['{', '[']) { json(inner.as_bytes()) } else { fields(inner.as_bytes(), separator) }
}

fn fields(bytes: &[u8], separator: char) -> Result<Val, Reject> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Reject::new("payload", "neither MessagePack, nor JSON, nor text in UTF-8"))?;
    Ok(Val::List(text.split(separator).map(|field| Val::Text(SmolStr::new(field))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Val {
        Val::Text(text.into())
    }

    #[test]
    fn one_frame_and_two_frames_have_a_topic() {
        assert_eq!(split(&[b"kraken_tick", b"x"]), Ok((Some("kraken_tick".into()), &b"x"[..])));
        assert_eq!(split(&[b"kraken_tick a b"]), Ok((Some("kraken_tick".into()), &b"a b"[..])));
        assert_eq!(split(&[b"\"{}\""]), Ok((None, &b"\"{}\""[..])));
        for frames in [&[][..], &[b"".as_slice()], &[b"nospace"], &[b"", b"x"], &[b"\xff\xfe x"], &[b"a", b"b", b"c"]] {
            assert!(split(frames).is_err(), "{frames:?}");
        }
    }

    #[test]
    fn a_payload_is_read_in_the_form_it_has() {
        let map = Val::Map(vec![("v".into(), Val::Int(42))]);
        let packed = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("v", 42)])).expect("MessagePack");
        assert_eq!(payload(&packed, SOH), Ok(map));
        assert_eq!(payload(b"{\"v\":42}", SOH), Ok(Val::Map(vec![("v".into(), Val::Number("42".into()))])));
        assert_eq!(payload(b"\"{\\\"v\\\":42}\"", SOH), payload(b"{\"v\":42}", SOH), "JSON in a JSON string");
        let string = rmp_serde::to_vec("{\"v\":42}").expect("MessagePack");
        assert_eq!(payload(&string, SOH), payload(b"{\"v\":42}", SOH), "JSON in a MessagePack string");
        assert_eq!(payload(b"a\x01\x01c", SOH), Ok(Val::List(vec![text("a"), text(""), text("c")])));
        assert_eq!(payload(b"a,b", ','), Ok(Val::List(vec![text("a"), text("b")])));
        assert_eq!(payload("é\u{1}ü".as_bytes(), SOH), Ok(Val::List(vec![text("é"), text("ü")])));
        for bytes in [&b""[..], b"\xff\xff", b"{broken", b"\xc1"] {
            assert!(payload(bytes, SOH).is_err(), "{bytes:?}");
        }
    }
}
