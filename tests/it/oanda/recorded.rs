//! Recorded quotes over a real socket: what the candles of the vendor are made of comes out of the source.

use std::path::PathBuf;

use tapedeck_market::{Body, Event};
use tapedeck_testkit::FakeOanda;
use tapedeck_testkit::kraken::Speed;

use super::live::prices;
use crate::candles::numbered;
use crate::candles::venues::{recording, same_as_oandas_own};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oandas_own_candles_come_out_of_its_quotes_over_the_socket() {
    let (mut compared, mut minutes, mut all) = (0, 0, 0);
    for (symbol, file, day) in [
        ("EUR_USD", "eurusd", "20140501"),
        ("EUR_USD", "eurusd", "20140502"),
        ("EUR_USD", "eurusd", "20140504"),
        ("XAU_USD", "xauusd", "20140504"),
    ] {
        let name = format!("oanda/ticks/oanda_{file}_tick_{day}.csv.gz");
        let Some(text) = recording(&name) else { return };
        let ticks = text.lines().filter(|line| !line.is_empty()).count();
        let path = PathBuf::from(std::env::var_os("TAPEDECK_FIXTURES").unwrap()).join(&name);
        let fake = FakeOanda::builder().frames(path, Speed::Max).remember(false).start().await.unwrap();
        let mut desk = prices(&fake, "instruments = ['*']");
        desk.until_events("every quote", ticks, |event| matches!(event.body, Body::Quote(_))).await;
        let quotes: Vec<Event> = desk.events().filter(|event| matches!(event.body, Body::Quote(_))).cloned().collect();
        let of_day = same_as_oandas_own(&numbered(quotes), symbol, file, day);
        (compared, minutes, all) = (compared + of_day.0, minutes + of_day.1, all + ticks);
        assert_eq!(desk.counters.rejects.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
    println!("{compared} of OANDA's own candles, {minutes} minutes, bid and ask, of {all} quotes");
    assert_eq!((compared, minutes, all), (35_641, 2_862, 84_573));
}
