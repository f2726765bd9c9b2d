//! The heartbeat of the broker data feed that tapedeck replaces, to the byte: what Python's `json.dumps` made of it.

use std::io;
use std::time::Duration;

use jiff::Zoned;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::config::units::show_duration;
use crate::status::Status;

#[derive(Serialize)]
struct Payload<'a> {
    timestamp: String,
    service: &'static str,
    status: &'static str,
    broker: &'a str,
    statistics: Statistics,
}

#[derive(Serialize)]
struct Statistics {
    tick_count: u64,
    candle_count: u64,
    last_tick_time: Option<String>,
    /// In minutes: shorter candles have no place in it.
    intervals: Vec<u64>,
    active_candles_count: Counts,
}

/// Minutes and their open candles, in the order of the intervals.
struct Counts(Vec<(String, u64)>);

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, count)| (key, count)))
    }
}

/// The payload of this moment.
pub(super) fn payload(status: &Status, intervals: &[Duration], broker: &str, now: &Zoned) -> String {
    let candles = status.services.iter().find(|service| service.name == "candles");
    let figure = |name: &str| candles.and_then(|candles| candles.detail.get(name)?.as_u64());
    let minutes: Vec<(u64, Duration)> = intervals
        .iter()
        .filter(|interval| !interval.is_zero() && interval.as_secs() % 60 == 0 && interval.subsec_nanos() == 0)
        .map(|interval| (interval.as_secs() / 60, *interval))
        .collect();
    let open = |(minutes, interval): &(u64, Duration)| {
        (format!("{minutes}min"), figure(&format!("open_{}", show_duration(*interval))).unwrap_or(0))
    };
    let last_heard = status.sources.iter().filter_map(|source| source.last_heard_ms_ago).min();
    let last_tick = last_heard.and_then(|ms| now.checked_sub(Duration::from_millis(ms)).ok());
    let payload = Payload {
        timestamp: iso(now),
        service: "broker_data_feed",
        status: "active",
        broker,
        statistics: Statistics {
            tick_count: figure("ticks").unwrap_or_else(|| status.sources.iter().map(|source| source.events).sum()),
            candle_count: figure("emitted").unwrap_or(0),
            last_tick_time: last_tick.as_ref().map(iso),
            intervals: minutes.iter().map(|(minutes, _)| *minutes).collect(),
            active_candles_count: Counts(minutes.iter().map(open).collect()),
        },
    };
    let mut bytes = Vec::new();
    // Numbers and texts, written to memory: nothing can fail.
    let _ = payload.serialize(&mut Serializer::with_formatter(&mut bytes, Python));
    String::from_utf8(bytes).unwrap_or_default()
}

/// `datetime.now().isoformat()`: local, without zone, microseconds unless there are none.
fn iso(time: &Zoned) -> String {
    let micros = time.subsec_nanosecond() / 1_000;
    let seconds = time.strftime("%Y-%m-%dT%H:%M:%S");
    if micros == 0 { seconds.to_string() } else { format!("{seconds}.{micros:06}") }
}

/// `json.dumps` as it comes: a space behind each comma and colon, and ASCII alone.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Service, Source};

    #[test]
    fn the_payload_is_theirs_to_the_byte() {
        let now: Zoned = "2026-11-22T10:11:12.000345+05:30[Asia/Kolkata]".parse().unwrap();
        let none = payload(&Status::default(), &[], "Kite (Zerodha)", &now);
        assert_eq!(
            none,
            r#"{"timestamp": "2026-11-22T10:11:12.000345", "service": "broker_data_feed", "status": "active", "broker": "Kite (Zerodha)", "statistics": {"tick_count": 0, "candle_count": 0, "last_tick_time": null, "intervals": [], "active_candles_count": {}}}"#
        );
        let figures = serde_json::json!({ "ticks": 12, "emitted": 3, "open_5m": 2, "open_15m": 1 });
        let candles =
            Service { name: "candles".into(), detail: figures.as_object().unwrap().clone(), ..Service::default() };
        let kite = Source { events: 99, last_heard_ms_ago: Some(1_000), ..Source::default() };
        let status = Status { services: vec![candles], sources: vec![kite], ..Status::default() };
        let intervals = [300, 900, 30].map(Duration::from_secs);
        let some = payload(&status, &intervals, "Bro\u{308}ker \u{1f600}", &now);
        assert_eq!(
            some,
            "{\"timestamp\": \"2026-11-22T10:11:12.000345\", \"service\": \"broker_data_feed\", \"status\": \"active\", \
             \"broker\": \"Bro\\u0308ker \\ud83d\\ude00\", \"statistics\": {\"tick_count\": 12, \"candle_count\": 3, \
             \"last_tick_time\": \"2026-11-22T10:11:11.000345\", \"intervals\": [5, 15], \
             \"active_candles_count\": {\"5min\": 2, \"15min\": 1}}}"
        );
    }
}
