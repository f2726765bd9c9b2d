//! Any bytes are an event or an error; an event that was read is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::describe::describe;
use tapedeck::json::event_json;
use tapedeck_market::wire;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = wire::decode(bytes) else { return };
    let mut written = Vec::new();
    wire::encode(&event, &mut written);
    let again = wire::decode(&written).expect("what was written can be read");
    // By text: decimals are equal by value, and NaN is equal to nothing.
    assert_eq!(format!("{again:?}"), format!("{event:?}"));
    let mut twice = Vec::new();
    wire::encode(&again, &mut twice);
    assert_eq!(twice, written);

    let mut json = Vec::new();
    event_json(Some(1), &event, &mut json);
    serde_json::from_slice::<serde_json::Value>(&json).expect("JSON");
    assert!(!describe(&event).contains(char::is_control));
});
