//! What Home Assistant must know to show a deck: one retained message a sensor, below its prefix.

use serde_json::{Value, json};

use super::config::{Config, Target};
use super::outbox::Message;
use crate::status::Status;

/// A value that turns up in every heartbeat has no longer come: so many intervals, and the sensor is unknown.
const MISSED: u64 = 3;

/// The sensors of a deck, with those of its sources and sinks.
pub(super) fn messages(target: &Target, config: &Config, status: &Status) -> Vec<Message> {
    let node = plain(&target.topic);
    let device = json!({
        "identifiers": [node],
        "name": target.topic,
        "manufacturer": "tapedeck",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    let available = json!({
        "topic": format!("{}/status", target.topic),
        "value_template": "{{ value_json.state }}",
        "payload_available": "online",
        "payload_not_available": "offline",
    });
    let sensor = |object: &str, name: &str, mut more: Value| {
        more["name"] = name.into();
        more["unique_id"] = format!("{node}_{object}").into();
        more["availability"] = json!([available]);
        more["device"] = device.clone();
        Message {
            topic: format!("{}/sensor/{node}/{object}/config", config.discovery_prefix),
            payload: more.to_string().into(),
            acknowledged: true,
            retained: true,
        }
    };
    let beat = format!("{}/heartbeat", target.topic);
    let expires = config.every.0.as_secs().max(1) * MISSED;
    let figure = |template: String, unit: Option<&str>| {
        let mut value = json!({
            "state_topic": beat,
            "value_template": template,
            "state_class": "measurement",
            "expire_after": expires,
        });
        if let Some(unit) = unit {
            value["unit_of_measurement"] = unit.into();
        }
        value
    };
    let mut found = vec![
        sensor("rate", "Events", figure("{{ value_json.rate }}".into(), Some("1/s"))),
        sensor("gaps_open", "Open gaps", figure("{{ value_json.gaps_open }}".into(), None)),
        sensor("errors", "In trouble", figure("{{ value_json.errors }}".into(), None)),
        sensor("uptime", "Uptime", figure("{{ value_json.uptime_s }}".into(), Some("s"))),
        sensor("tape", "Tape", figure("{{ value_json.tape.bytes }}".into(), Some("B"))),
        sensor("disk_free", "Free disk", figure("{{ value_json.tape.disk_free_bytes }}".into(), Some("B"))),
    ];
    let state = |place: &str| {
        json!({
            "state_topic": format!("{}/{place}/status", target.topic),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": format!("{}/{place}/status", target.topic),
        })
    };
    for source in &status.sources {
        let place = format!("source/{}", source.name);
        found.push(sensor(&plain(&place), &format!("Source {}", source.name), state(&place)));
    }
    for sink in status.services.iter().filter(|service| service.kind == "sink") {
        let place = format!("sink/{}", sink.name);
        found.push(sensor(&plain(&place), &format!("Sink {}", sink.name), state(&place)));
        let lag = format!("{{{{ value_json.lag_s['{}'] }}}}", sink.name);
        found.push(sensor(&format!("{}_lag", plain(&place)), &format!("Lag of {}", sink.name), figure(lag, Some("s"))));
    }
    found
}

/// A name as Home Assistant takes it in its topics: letters, digits, `_` and `-`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
