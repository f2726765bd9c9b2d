//! `/query` with a real InfluxDB 1.x behind: what comes back is what the database itself says.

use super::desk::Desk;
use crate::servers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_comes_back_as_a_real_influxdb_answers_it() {
    let Some(influx) = servers::Influx1::shared() else { return };
    let behind = influx.url();
    let database = influx.fresh_database();
    let database = database.as_str();
    let desk = Desk::open(&format!("influx = '{behind}'")).await;
    let http = reqwest::Client::new();
    let ask = async |base: &str, words: &[(&str, &str)]| {
        let form = words
            .iter()
            .map(|(key, value)| format!("{key}={}", value.replace(' ', "%20").replace(';', "%3B")))
            .collect::<Vec<_>>();
        let answer = http.get(format!("{base}/query?{}", form.join("&"))).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let here = format!("http://{}", desk.addr);
    let lines = "spread,symbol=BTC/USD bps=1.35,n=3i 1767607200123456789\nspread,symbol=ETH/USD bps=2.5,note=\"a b\" 1767607201000000000\n";
    let written = http.post(format!("{behind}/write?db={database}")).body(lines).send().await.unwrap();
    assert_eq!(written.status().as_u16(), 204);
    for words in [
        [("db", database), ("epoch", "ns"), ("q", "SELECT * FROM spread")],
        [("db", database), ("epoch", "ms"), ("q", "SELECT mean(bps) FROM spread GROUP BY symbol")],
        [("db", database), ("pretty", "true"), ("q", "SHOW MEASUREMENTS")],
        [("db", database), ("chunked", "true"), ("q", "SELECT bps FROM spread; SHOW SERIES")],
        // Its own words for what is wrong.
        [("db", database), ("epoch", "s"), ("q", "SELECT FROM nothing")],
        [("db", "none"), ("epoch", "s"), ("q", "SELECT * FROM spread")],
    ] {
        let (by_deck, direct) = (ask(&here, &words).await, ask(behind, &words).await);
        assert_eq!(by_deck, direct, "{words:?}");
        assert!(by_deck.1.contains("results") || by_deck.1.contains("error"), "{by_deck:?}");
    }
    let found = ask(&here, &[("db", database), ("epoch", "ns"), ("q", "SELECT * FROM spread")]).await.1;
    assert!(found.contains("1767607200123456789") && found.contains("\"a b\""), "{found}");
}
