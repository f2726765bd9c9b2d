//! Frames that no client should stumble over.

use bytes::Bytes;

use super::fault::Garbage;
use crate::ws::{self, Opcode};

pub(crate) fn frame(kind: Garbage) -> Bytes {
    let (opcode, payload): (Opcode, &[u8]) = match kind {
        Garbage::NotJson => (Opcode::Text, b"{\"channel\":\"trade\",\"type\":\"update\",\"data\":[{\"symbol\":\"BTC/US"),
        Garbage::InvalidUtf8 => (Opcode::Text, b"{\"channel\":\"trade\",\"symbol\":\"\xff\xfe\xc3\x28\"}"),
        Garbage::Binary => (Opcode::Binary, &[0, 159, 146, 150, 0, 1, 2, 255]),
        Garbage::Empty => (Opcode::Text, b""),
        Garbage::UnknownChannel => {
            (Opcode::Text, br#"{"channel":"weather","type":"update","data":[{"symbol":"BTC/USD","rain":true}]}"#)
        }
        Garbage::UnknownFields => (
            Opcode::Text,
            br#"{"channel":"heartbeat","mood":{"of":["the","day"],"value":null},"type":"update","data":[]}"#,
        ),
        Garbage::Numbers => (
            Opcode::Text,
            br#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":1e400,"bid_qty":-0,"ask":123456789012345678901234567890.5,"ask_qty":0.0000000000000000000000001,"last":1E-8,"volume":-1,"vwap":0,"low":0,"high":0,"change":0,"change_pct":1e-400,"timestamp":"9999-99-99T99:99:99Z"}]}"#,
        ),
    };
    Bytes::from(ws::frame(opcode, payload))
}

/// A text frame of so many MiB that is valid JSON.
pub(crate) fn oversized(mib: usize) -> Bytes {
    let len = mib.min(1_024) * 1024 * 1024;
    let head = br#"{"channel":"status","type":"update","data":[{"text":""#;
    let tail = br#""}]}"#;
    let mut payload = Vec::with_capacity(len);
    payload.extend_from_slice(head);
    payload.resize(len.saturating_sub(tail.len()).max(head.len()), b'x');
    payload.extend_from_slice(tail);
    Bytes::from(ws::frame(Opcode::Text, &payload))
}
