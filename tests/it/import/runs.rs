//! What was imported runs: against fakes of the venues and a real InfluxDB.

use tapedeck_testkit::{FakeBetfair, FakeKraken, FakeOanda, betfair, oanda};

use super::Desk;
use super::files::integration;
use crate::deck::blocking;
use crate::servers::Influx1;
use crate::support::{Deck, free_offset, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_files_of_the_integrated_system_start_and_validate() {
    let Some(influx) = Influx1::shared() else { return };
    let kraken = FakeKraken::builder().rate(100).start().await.unwrap();
    let oanda = FakeOanda::builder().rate(50).start().await.unwrap();
    let betfair = FakeBetfair::builder().rate(50).start().await.unwrap();
    // Where the venues are, and what lets one in there; all else is as imported.
    let kraken_table = format!("source.kraken.url={:?}", kraken.ws_url());
    let rest = format!("source.kraken.rest_url={:?}", kraken.rest_url());
    let mut places = vec![kraken_table, rest, "source.kraken.pairs=[\"BTC/USD\", \"ETH/USD\"]".to_owned()];
    let wide_places = [
        format!("source.oanda.url={:?}", oanda.url()),
        format!("source.oanda.token={:?}", oanda::TOKEN),
        format!("source.oanda.account={:?}", oanda::ACCOUNT),
        format!("source.betfair.url={:?}", betfair.url()),
        format!("source.betfair.login_url={:?}", betfair.login_url()),
        format!("source.betfair.app_key={:?}", betfair::APP_KEY),
        format!("source.betfair.username={:?}", betfair::USERNAME),
        format!("source.betfair.password={:?}", betfair::PASSWORD),
    ];
    blocking(move || {
        for wide in [false, true] {
            if wide {
                places.extend(wide_places.clone());
            }
            let mut file = integration(wide);
            // No Grafana runs here, which `validate` would say.
            file["urls"].as_object_mut().unwrap().remove("grafana_ui");
            file["influxdb"]["port"] = influx.port().into();
            file["influxdb"]["host"] = "127.0.0.1".into();
            file["influxdb"]["database"] = influx.fresh_database().into();
            let desk = Desk::new(&[("integration_config.json", &file.to_string())]);
            let (code, _, err) = desk.say(&["import", "integration_config.json", "-o", "tapedeck.toml"]);
            assert_eq!(code, Some(0), "{err}");
            let offset = format!("bus.port_offset={}", free_offset());
            let mut set = vec!["--set", "http.listen=off", "--set", &offset];
            places.iter().for_each(|place| set.extend(["--set", place.as_str()]));
            let (code, out, err) = desk.say(&[&["check"], set.as_slice()].concat());
            // Own orders wait for a key, which their file does not have.
            let waits = wide && out.lines().filter(|line| line.starts_with('✗')).all(|line| line.contains("private"));
            assert!(code == Some(0) || waits, "{out}{err}");
            let command = desk.command(&[&["run", "--plain"], set.as_slice()].concat());
            let deck = Deck::of(command, &desk.path("tapedeck.toml"), &desk.path("tape"));
            let live = if wide { 3 } else { 1 };
            deck.until("every venue", |status| {
                status.sources.iter().filter(|source| source.state == "live" && source.events > 20).count() >= live
            });
            let validated = || {
                let (code, out, _) =
                    desk.say(&[&["validate", "full", "--for", "5s", "--json"], set.as_slice()].concat());
                let answer: serde_json::Value = serde_json::from_str(&out).ok()?;
                if code == Some(0) { Some(answer) } else { None }
            };
            let answer = until("a green validation", validated);
            let said = answer.to_string();
            for topic in ["kraken_tick", "kr_depth", "kraken_depth"].iter().chain(if wide {
                ["oanda_tick", "betfair_stream"].iter()
            } else {
                [].iter()
            }) {
                assert!(said.contains(&format!("\"topic.{topic}\"")), "{topic}: {answer:#}");
            }
            deck.stop();
        }
    })
    .await;
}
