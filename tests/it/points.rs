//! Points over HTTP: what InfluxDB's clients write is on the tape when they are told 204, and not before.

mod clients;
mod desk;
mod influx;
mod kill;
mod query;

use desk::{Answer, Desk, gzip};
use tapedeck::inlet::Inlet;
use tapedeck_market::{Body, Event, Point, UnixNanos, Value};

fn point(event: &Event) -> &Point {
    match &event.body {
        Body::Point(point) => point,
        other => panic!("no point: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_becomes_an_event_with_exact_numbers_symbol_venue_and_time() {
    let desk = Desk::open("venue_tag = 'exchange'\ndatabase_tag = 'db'").await;
    let line = "ticks,symbol=BTC/USD,exchange=kraken bid=62807.0,size=0.10000000,n=7i,u=18446744073709551615u,up=t,note=\"a b\" 1784483680123";
    let answer = desk.post("/write?db=tick&precision=ms&rp=autogen&consistency=one", line.as_bytes(), &[]).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("x-influxdb-version"), Some("1.8.10"));
    let events = desk.points();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.venue.as_str(), event.symbol.as_str(), event.source.as_str()), ("kraken", "BTC/USD", "p"));
    assert_eq!(event.ts_event, Some(UnixNanos(1_784_483_680_123_000_000)));
    let point = point(event);
    assert_eq!(point.name, "ticks");
    let tag = |key: &str| point.tags.iter().find(|(tag, _)| tag == key).map(|(_, value)| value.as_str());
    assert_eq!((tag("symbol"), tag("exchange"), tag("db")), (Some("BTC/USD"), Some("kraken"), Some("tick")));
    let text = |value: &Value| match value {
        Value::Decimal(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let fields: Vec<(&str, String)> = point.fields.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
    let wanted = [
        ("bid", "62807.0"),
        ("size", "0.10000000"),
        ("n", "Int(7)"),
        ("u", "UInt(18446744073709551615)"),
        ("up", "Bool(true)"),
        ("note", "Text(\"a b\")"),
    ];
    assert_eq!(fields, wanted.map(|(key, value)| (key, value.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_precision_word_of_both_servers_is_understood_and_others_are_refused() {
    let desk = Desk::open("").await;
    let v1 = [("n", 1), ("ns", 1), ("u", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
    let v1 = v1
        .into_iter()
        .chain([("h", 3_600_000_000_000)])
        .map(|(word, ns)| (format!("/write?db=d&precision={word}"), ns));
    let v2 = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000_i64)];
    let v2 = v2.into_iter().map(|(word, ns)| (format!("/api/v2/write?org=o&bucket=b&precision={word}"), ns));
    for (path, unit_ns) in v1.chain(v2) {
        let before = desk.points().len();
        assert_eq!(desk.post(&path, b"m f=1 400000", &[]).await.status, 204, "{path}");
        assert_eq!(desk.points()[before].ts_event, Some(UnixNanos(400_000 * unit_ns)), "{path}");
    }
    let answer = desk.post("/write?db=d&precision=days", b"m f=1 5", &[]).await;
    assert_eq!(
        (answer.status, answer.error()),
        (400, "invalid precision \"days\" (use n, u, ms, s, m or h)".to_owned())
    );
    let answer = desk.post("/api/v2/write?bucket=b&precision=h", b"m f=1 5", &[]).await;
    assert_eq!(answer.json()["message"], "invalid precision; valid precision units are ns, us, ms, and s");
    assert_eq!((answer.status, &answer.json()["code"]), (400, &"invalid".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_timestamp_the_time_of_receipt_holds() {
    let desk = Desk::open("").await;
    assert_eq!(desk.post("/write?db=d", b"m f=1\nm f=2", &[]).await.status, 204);
    for event in desk.points() {
        assert_eq!(event.ts_event, Some(event.ts_recv));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_is_named_and_kept_and_the_good_ones_are_recorded() {
    let desk = Desk::open("").await;
    let answer = desk.post("/write?db=d", b"m f=1 5\nm f=x\n# no line\n\nm f=2 6\n", &[]).await;
    let words = "partial write: unable to parse 'm f=x': invalid boolean dropped=0";
    assert_eq!((answer.status, answer.error()), (400, words.to_owned()));
    assert_eq!(answer.header("x-influxdb-error"), Some(words));
    assert_eq!(desk.points().len(), 2);
    assert_eq!(desk.rejected(), ["m f=x"]);
    assert_eq!(desk.reject_reasons(), [("bad value", 1)]);

    let answer = desk.post("/write?db=d", b"nonsense", &[]).await;
    assert_eq!((answer.status, answer.error()), (400, "unable to parse 'nonsense': missing fields".to_owned()));
    let answer = desk.post("/api/v2/write?bucket=b", b"m f=1\nm f=NaN", &[]).await;
    assert_eq!(answer.json()["message"], "partial write: unable to parse 'm f=NaN': invalid number dropped=0");
    assert_eq!((desk.points().len(), desk.rejected().len()), (3, 3));
    assert_eq!(desk.post("/write?db=d", b"", &[]).await.status, 204, "an empty body is no error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_may_be_packed_and_chunked_and_have_a_limit() {
    let desk = Desk::open("max_body = '100 KiB'").await;
    let lines: String = (0..2_000).map(|n| format!("m,n=a f={n}i {n}\n")).collect();
    let packed = gzip(lines.as_bytes());
    assert_eq!(desk.post("/write?db=d", &packed, &["Content-Encoding: gzip"]).await.status, 204);
    let times: Vec<_> = desk.points().iter().map(|event| event.ts_event).collect();
    assert_eq!(times, (0..2_000).map(|n| Some(UnixNanos(n))).collect::<Vec<_>>(), "in the order of the lines");

    let chunked: Vec<u8> = lines
        .as_bytes()
        .chunks(1_000)
        .flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    assert_eq!(desk.raw("/write?db=d", &chunked, &["Transfer-Encoding: chunked"]).await.status, 204);
    assert_eq!(desk.points().len(), 4_000);

    let large = vec![b'x'; 200_000];
    for (body, header) in [(large.clone(), "X-Plain: yes"), (gzip(&large), "Content-Encoding: gzip")] {
        let answer = desk.post("/write?db=d", &body, &[header]).await;
        assert_eq!((answer.status, answer.error()), (413, "Request Entity Too Large".to_owned()), "{header}");
    }
    let answer = desk.post("/write?db=d", b"m f=1", &["Content-Encoding: gzip"]).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(desk.points().len(), 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_password_or_a_wrong_one_writes_nothing() {
    let desk = Desk::open("token = 't0k3n'\nuser = 'me'\npassword = 'pa ss'").await;
    let basic = "Authorization: Basic bWU6cGEgc3M=";
    for (path, header, status) in [
        ("/write?db=d", "", 401),
        ("/write?db=d&u=me&p=wrong", "", 401),
        ("/write?db=d", "Authorization: Token wrong", 401),
        ("/write?db=d&u=me&p=pa%20ss", "", 204),
        ("/write?db=d", basic, 204),
        ("/api/v2/write?bucket=b", "Authorization: Token t0k3n", 204),
        ("/api/v2/write?bucket=b", "Authorization: Token me:pa ss", 204),
        ("/api/v2/write?bucket=b", "", 401),
        ("/query?q=SHOW+DATABASES", "", 401),
        ("/query?q=SHOW+DATABASES", basic, 200),
    ] {
        let before = desk.points().len();
        let headers: &[&str] = if header.is_empty() { &[] } else { &[header] };
        let answer = desk.post(path, b"m f=1", headers).await;
        assert_eq!(answer.status, status, "{path} {header}: {answer:?}");
        assert_eq!(desk.points().len() - before, usize::from(status == 204), "{path} {header}");
    }
    let answer = desk.post("/write?db=d", b"m f=1", &[]).await;
    assert_eq!(answer.error(), "unable to parse authentication credentials");
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"InfluxDB\""));
    assert_eq!(desk.post("/write?db=d&u=a&p=b", b"m f=1", &[]).await.error(), "authorization failed");
    let answer = desk.post("/api/v2/write?bucket=b", b"m f=1", &[]).await;
    assert_eq!(answer.json(), serde_json::json!({ "code": "unauthorized", "message": "unauthorized access" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_page_may_not_write_and_a_foreign_name_needs_a_password() {
    for (config, named) in [("", 403), ("token = 't'", 204)] {
        let desk = Desk::open(config).await;
        let token = "Authorization: Token t";
        for (header, status) in
            [("Origin: http://evil.example", 403), ("Sec-Fetch-Site: cross-site", 403), ("Sec-Fetch-Site: none", 204)]
        {
            let answer = desk.post("/write?db=d", b"m f=1", &[header, token]).await;
            assert_eq!(answer.status, status, "{config} {header}");
        }
        let answer = desk.to_host("recorder.lan", "/write?db=d", b"m f=1", &[token]).await;
        assert_eq!(answer.status, named, "{config}");
        assert_eq!(desk.points().len(), if named == 204 { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_204_before_the_points_are_durable_and_none_when_they_will_not_be() {
    let desk = Desk::slow("").await;
    let mut first = desk.start("/write?db=d", b"m f=1 5");
    let held = desk.next_durable().await;
    assert!(first.answer_within_ms(300).await.is_none(), "answered although nothing is durable");
    held.send(1).unwrap();
    assert_eq!(first.answer().await.status, 204);

    let mut second = desk.start("/write?db=d", b"m f=2 6");
    drop(desk.next_durable().await);
    let answer = second.answer().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_source_there_is_a_hint_and_without_its_session_a_later() {
    let inlet = Inlet::default();
    let addr = desk::serve(inlet.clone());
    for path in ["/write?db=d", "/api/v2/write?bucket=b", "/query?q=SHOW+DATABASES"] {
        let answer = Answer::of(addr, "POST", path, "localhost", b"m f=1", &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("kind = \\\"http\\\""), "{answer:?}");
    }
    inlet.set_wanted(true);
    for path in ["/write?db=d", "/api/v2/write?bucket=b", "/ping", "/health"] {
        let method = if path.starts_with("/write") || path.starts_with("/api") { "POST" } else { "GET" };
        let answer = Answer::of(addr, method, path, "localhost", b"", &[]).await;
        assert_eq!(answer.status, 503, "{path}");
    }
    let answer = Answer::of(addr, "POST", "/write?db=d", "localhost", b"m f=1", &[]).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_ask_before_they_write_is_answered() {
    let desk = Desk::open("").await;
    for method in ["GET", "HEAD"] {
        let answer = Answer::of(desk.addr, method, "/ping", "127.0.0.1", b"", &[]).await;
        assert_eq!((answer.status, answer.header("x-influxdb-version")), (204, Some("1.8.10")), "{method}");
    }
    let health = Answer::of(desk.addr, "GET", "/health", "127.0.0.1", b"", &[]).await;
    assert_eq!((health.status, &health.json()["status"]), (200, &"pass".into()));
}
