//! The clients that people have, unchanged: curl and the Python packages `influxdb` and `influxdb-client`.

use std::path::Path;
use std::process::{Command, Output};

use tapedeck_market::{Body, Event, Point, UnixNanos, Value};

use super::kill::deck;
use crate::support::{python, records};

fn points(dir: &Path, measurement: &str) -> Vec<(Event, Point)> {
    let point = |event: Event| match &event.body {
        Body::Point(point) if point.name == measurement => Some((event.clone(), (**point).clone())),
        _ => None,
    };
    records(dir).into_iter().filter_map(|record| point(record.event)).collect()
}

fn run(python: &Path, script: &str, port: u16) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    Command::new(python).arg(script).arg(port.to_string()).output().unwrap()
}

fn assert_done(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("done"), "{out}\n{err}");
}

#[test]
fn curl_writes_points() {
    let home = tempfile::tempdir().unwrap();
    let (deck, port) = deck(home.path(), "");
    let url = format!("http://127.0.0.1:{port}/write?db=d&precision=s");
    let curl = Command::new("curl")
        .args(["-sS", "-i", "-XPOST", &url, "--data-binary", "cpu,host=a load=0.64 1784483680"])
        .output();
    let Ok(curl) = curl else {
        crate::skipped::skipped("no curl");
        return;
    };
    assert!(curl.stdout.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&curl.stdout));
    let found = points(&deck.dir, "cpu");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.ts_event, Some(UnixNanos::from_secs(1_784_483_680)));
}

#[test]
fn the_python_package_influxdb_writes_unchanged() {
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let (deck, port) = deck(home.path(), "user = 'zmq'\npassword = 'zmq'\n");
    assert_done(&run(&python, "points_influxdb.py", port));
    let ticks = points(&deck.dir, "tick");
    assert_eq!(ticks.len(), 1_003, "3 single points and a batch of 1,000");
    for (unit, ns) in [("s", 1_000_000_000), ("ms", 1_000_000), ("u", 1_000)] {
        let (event, point) = ticks.iter().find(|(_, point)| point.tags.iter().any(|(_, v)| v == unit)).unwrap();
        assert_eq!(event.ts_event.unwrap().0 % (1_000 * ns), 7 * ns, "{unit}");
        let field = |key: &str| &point.fields.iter().find(|(field, _)| field == key).unwrap().1;
        assert_eq!(format!("{:?}", field("bid")), "Decimal(62807.1)");
        assert_eq!(field("count"), &Value::Int(7));
        assert_eq!(field("open"), &Value::Bool(true));
        assert_eq!(field("note"), &Value::Text("a \"b\", c=d é".into()));
        assert_eq!(event.symbol, "BTC/USD");
    }
    let packed = points(&deck.dir, "packed");
    assert_eq!(packed.len(), 500, "by gzip");
    deck.stop();
}

#[test]
fn the_python_package_influxdb_client_writes_unchanged() {
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let (deck, port) = deck(home.path(), "token = 'my-token'\n");
    assert_done(&run(&python, "points_influxdb_client.py", port));
    assert_eq!(points(&deck.dir, "sync").len(), 3);
    let batched = points(&deck.dir, "batch");
    assert_eq!(batched.len(), 5_000);
    let mut values: Vec<i64> = Vec::new();
    for (_, point) in &batched {
        let Some((_, Value::Int(value))) = point.fields.first() else { panic!("{point:?}") };
        values.push(*value);
    }
    values.sort_unstable();
    assert!(values.iter().copied().eq(0..5_000), "each once");
    deck.stop();
}
