//! Requests, refusals, and the venue's candles of a recording.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tapedeck_testkit::FakeOanda;
use tapedeck_testkit::kraken::Speed;
use tapedeck_testkit::oanda::{ACCOUNT, Handle, TOKEN};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Asks on a connection; status and body.
async fn ask(socket: &mut TcpStream, path: &str, token: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let (status, end) = (head[9..12].parse().unwrap(), end + 4);
            if bytes.len() == end + len.parse::<usize>().unwrap() {
                return (status, serde_json::from_slice(&bytes[end..]).unwrap());
            }
        }
        assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
    }
}

async fn get(fake: &Handle, path: &str) -> (u16, Value) {
    ask(&mut TcpStream::connect(fake.addr).await.unwrap(), path, TOKEN).await
}

#[tokio::test]
async fn requests_are_answered_in_the_venues_shapes_on_one_connection() {
    let fake = FakeOanda::builder().rate(0).start().await.unwrap();
    fake.transact(4);
    let mut socket = TcpStream::connect(fake.addr).await.unwrap();
    let of = |rest: &str| format!("/v3/accounts/{ACCOUNT}/{rest}");
    let accounts = ask(&mut socket, "/v3/accounts", TOKEN).await;
    assert_eq!((accounts.0, &accounts.1["accounts"][0]["id"]), (200, &Value::from(ACCOUNT)));
    let listed = ask(&mut socket, &of("instruments"), TOKEN).await.1;
    assert_eq!(listed["instruments"][0]["name"], "EUR_USD");
    assert_eq!(listed["instruments"][1]["pipLocation"], -2, "{listed}");
    let prices = ask(&mut socket, &of("pricing?instruments=EUR_USD%2CUSD_JPY"), TOKEN).await.1;
    assert_eq!(prices["prices"].as_array().unwrap().len(), 2, "{prices}");
    let since = ask(&mut socket, &of("transactions/sinceid?id=2313"), TOKEN).await.1;
    let ids: Vec<&str> =
        since["transactions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &since["lastTransactionID"]), (vec!["2314", "2315"], &Value::from("2315")));
    let range = ask(&mut socket, &of("transactions/idrange?from=2312&to=2313"), TOKEN).await.1;
    assert_eq!(range["transactions"].as_array().unwrap().len(), 2);
    for (path, token, status) in [
        ("/v3/accounts", "wrong", 401),
        ("/v3/accounts/101-004-1-1/summary", TOKEN, 403),
        ("/v3/nothing", TOKEN, 404),
        (&of("pricing?instruments=EUR_UDS"), TOKEN, 400),
        (&of("transactions/sinceid?id=99999"), TOKEN, 416),
    ] {
        let (got, said) = ask(&mut socket, path, token).await;
        assert_eq!(got, status, "{path}: {said}");
        assert!(said["errorMessage"].is_string());
    }
    fake.inject("refuse 429 x1".parse().unwrap());
    assert_eq!(ask(&mut socket, "/v3/accounts", TOKEN).await.0, 429);
    assert_eq!(ask(&mut socket, "/v3/accounts", TOKEN).await.0, 200);
    assert_eq!(fake.connects().len(), 1);
}

fn unzipped(path: &Path) -> String {
    let (bytes, mut text) = (std::fs::read(path).unwrap(), String::new());
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn candles_of_a_recording_are_the_vendors_own() {
    let Some(fixtures) = std::env::var_os("TAPEDECK_FIXTURES") else {
        crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
        return;
    };
    let folder = PathBuf::from(fixtures).join("oanda/ticks");
    let ticks = folder.join("oanda_eurusd_tick_20140504.csv.gz");
    let fake = FakeOanda::builder().frames(&ticks, Speed::Max).start().await.unwrap();
    let mut stream = TcpStream::connect(fake.addr).await.unwrap();
    let request = format!(
        "GET /v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (rows, mut read) = (unzipped(&ticks).lines().count(), Vec::new());
    while fake.log().len() < rows {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    let path = "/v3/instruments/EUR_USD/candles?granularity=M1&price=BA&count=5000";
    let (status, answer) = get(&fake, path).await;
    assert_eq!(status, 200, "{answer}");
    let candles = answer["candles"].as_array().unwrap();
    let vendor = unzipped(&folder.join("oanda_eurusd_minute_20140504.csv.gz"));
    let vendor: Vec<&str> = vendor.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!((candles.len(), vendor.len()), (157, 157));
    for (candle, line) in candles.iter().zip(vendor) {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        for (side, from) in [("bid", 1), ("ask", 6)] {
            let got = ["o", "h", "l", "c"].map(|key| candle[side][key].as_str().unwrap().parse::<f64>().unwrap());
            assert_eq!(got, fields[from..from + 4], "{side}: {line}");
        }
        let minute = fields[0] as u64 / 60_000;
        let time = format!("2014-05-04T{:02}:{:02}:00.000000000Z", minute / 60, minute % 60);
        assert_eq!(candle["time"], time.as_str());
    }
    for (path, status) in [("granularity=X9", 400), ("count=5001", 400), ("granularity=H1&price=M", 200)] {
        assert_eq!(get(&fake, &format!("/v3/instruments/EUR_USD/candles?{path}")).await.0, status, "{path}");
    }
}
