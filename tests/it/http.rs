//! Metrics and health over http, and who may ask.

use tapedeck_testkit::kraken::FakeKraken;

use crate::support::{Deck, free_port, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_health_are_served_to_this_machine_only() {
    let venue = FakeKraken::builder().pairs(["BTC/USD"]).rate(100).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\n\n[source.k]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\"]\n",
        venue.ws_url(),
        venue.rest_url()
    );
    let path = home.path().to_owned();
    let deck = tokio::task::spawn_blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("a live source", |status| status.sources.first().is_some_and(|source| source.live >= 3));
        deck
    })
    .await
    .unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let ready = until("ready", || {
            Some(get(port, "/readyz", "localhost", "")).filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        let metrics = get(port, "/metrics", "127.0.0.1", "");
        let live = get(port, "/livez", "127.0.0.1", "");
        let foreign_host = get(port, "/metrics", "evil.example", "");
        let foreign_page = get(port, "/status", "localhost", "Origin: http://evil.example\r\n");
        (ready, metrics, live, foreign_host, foreign_page)
    })
    .await
    .unwrap();
    let (ready, metrics, live, foreign_host, foreign_page) = asked;
    assert!(ready.ends_with("ready\n"), "{ready}");
    assert!(live.ends_with("ok\n"), "{live}");
    for line in [
        "tapedeck_events_total ",
        "tapedeck_source_live{source=\"k\",venue=\"kraken\"} ",
        "tapedeck_receive_to_durable_seconds_bucket{le=\"+Inf\"}",
        "tapedeck_gaps_open 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    assert!(foreign_host.starts_with("HTTP/1.1 403"), "{foreign_host}");
    assert!(foreign_page.starts_with("HTTP/1.1 403"), "{foreign_page}");
    tokio::task::spawn_blocking(move || deck.stop()).await.unwrap();
}

/// The whole answer to a GET, head and body.
pub(crate) fn get(port: u16, path: &str, host: &str, headers: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
