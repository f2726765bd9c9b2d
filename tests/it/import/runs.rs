//! What was imported runs: against fakes of the venues and of Grafana, and a real InfluxDB.

use std::process::Output;

use tapedeck_testkit::{FakeBetfair, FakeKraken, FakeOanda, betfair, oanda};

use super::Desk;
use super::files::integration;
use crate::deck::blocking;
use crate::grafana::fake::Fake;
use crate::servers::Influx1;
use crate::support::{free_address, free_offset, until};
use crate::up::failures::DOCKER;
use crate::up::script;
use crate::validate::{finding, wrong};

/// A desk whose programs are told by the environment where things are here; what was imported stays as it is.
struct Up {
    desk: Desk,
    variables: Vec<(&'static str, String)>,
}

impl Up {
    fn say(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            self.desk.command(args).envs(self.variables.iter().map(|(name, value)| (name, value))).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn ok(&self, args: &[&str]) -> (String, String) {
        let (code, out, err) = self.say(args);
        let log = std::fs::read_to_string(self.desk.path("tape/run/supervisor.log")).unwrap_or_default();
        assert_eq!(code, Some(0), "{args:?}: {out}\n{err}\n{log}");
        (out, err)
    }

    /// Looks until nothing is wrong.
    fn until_green(&self) -> serde_json::Value {
        until("a green validation", || {
            let (code, out, _) = self.say(&["validate", "full", "--for", "5s", "--json"]);
            let answer: serde_json::Value = serde_json::from_str(&out).ok()?;
            (code == Some(0) && wrong(&answer).is_empty()).then_some(answer)
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.say(&["down"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_files_of_the_integrated_system_come_up_as_they_were_imported_and_validate() {
    let Some(influx) = Influx1::shared() else { return };
    let pairs = ["BTC/USD", "ETH/USD", "BTC/EUR", "ETH/EUR", "EUR/USD"];
    let kraken = FakeKraken::builder().pairs(pairs).rate(100).start().await.unwrap();
    let oanda = FakeOanda::builder().rate(50).start().await.unwrap();
    let betfair = FakeBetfair::builder().rate(50).start().await.unwrap();
    let dashboards = Fake::start().await;
    blocking(move || {
        for wide in [false, true] {
            let file = integration(wide).to_string();
            let database = influx.fresh_database();
            let secrets = "INFLUXDB_PASSWORD=influx-hush\nGRAFANA_PASSWORD=grafana-hush\n";
            let mut files = vec![("integration_config.json", file.as_str()), (".env", secrets)];
            if wide {
                files.push(("docker-compose.yml", "services: {influxdb: {}, grafana: {}}\n"));
            }
            let desk = Desk::new(&files);
            let bin = desk.path("bin");
            std::fs::create_dir(&bin).unwrap();
            script(&bin.join("docker"), DOCKER);
            let mut variables = vec![
                ("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())),
                ("TAPEDECK__SOURCE__KRAKEN__URL", kraken.ws_url()),
                ("TAPEDECK__SOURCE__KRAKEN__REST_URL", kraken.rest_url()),
                ("TAPEDECK__SINK__INFLUX__HOST", "127.0.0.1".to_owned()),
                ("TAPEDECK__SINK__INFLUX__PORT", influx.port().to_string()),
                ("TAPEDECK__SINK__INFLUX__DATABASE", database),
                ("TAPEDECK__GRAFANA__URL", dashboards.url.clone()),
                ("TAPEDECK__HTTP__LISTEN", free_address().to_string()),
                ("TAPEDECK__BUS__PORT_OFFSET", free_offset().to_string()),
                ("TAPEDECK__DECK__LIMIT", "120s".to_owned()),
            ];
            if wide {
                variables.extend([
                    ("TAPEDECK__SOURCE__OANDA__URL", oanda.url()),
                    ("TAPEDECK__SOURCE__BETFAIR__URL", betfair.url()),
                    ("TAPEDECK__SOURCE__BETFAIR__LOGIN_URL", betfair.login_url()),
                    ("TAPEDECK__SERVER__INFLUXDB__READY", format!("http {}/ping", influx.url())),
                    ("TAPEDECK__SERVER__GRAFANA__READY", format!("http {}/api/health", dashboards.url)),
                ]);
            }
            let up = Up { desk, variables };
            up.ok(&["import", "integration_config.json", "-o", "tapedeck.toml"]);
            let (out, err) = up.ok(&["up"]);
            let mut words = vec!["✓ retention", "3 policies", "kraken live", "influx running", "✓ grafana", "written and read back"];
            words.push(if wide { "✓ servers" } else { "- servers" });
            if wide {
                words.extend(["influxdb ready", "source.oanda is waiting", "source.betfair is waiting"]);
            }
            for word in words {
                assert!(err.contains(word), "{word}: {err}");
            }
            assert!(out.contains("up after"), "{out}");
            // What has no key yet is apart, and no fault.
            let green = up.until_green();
            for topic in ["topic.kraken_tick", "topic.kr_depth", "topic.kraken_depth", "sink.influx", "sink.influx.rows"] {
                assert_eq!(finding(&green, topic)["result"], "good", "{green:#}");
            }
            assert_eq!(finding(&green, "grafana.dashboards")["result"], "good", "{green:#}");
            if wide {
                for source in ["source.oanda", "source.betfair"] {
                    assert_eq!(finding(&green, source)["result"], "unknown", "{green:#}");
                }
                // The keys come by their old names, and the deck is all that starts again.
                let keys = format!(
                    "{secrets}OANDA_ACCESS_TOKEN='{}'\nOANDA_ACCOUNT_ID='{}'\nBETFAIR_APP_KEY='{}'\nBETFAIR_USERNAME='{}'\nBETFAIR_PASSWORD='{}'\n",
                    oanda::TOKEN,
                    oanda::ACCOUNT,
                    betfair::APP_KEY,
                    betfair::USERNAME,
                    betfair::PASSWORD
                );
                std::fs::write(up.desk.path(".env"), keys).unwrap();
                up.ok(&["restart"]);
                until("all five topics", || {
                    let green = up.until_green();
                    let good = |what: &str| finding(&green, what)["result"] == "good";
                    (["source.oanda", "source.betfair", "topic.oanda_tick", "topic.betfair_stream"].iter().all(|what| good(what)))
                        .then_some(())
                });
            }
            for uid in ["kraken_tick", "kraken_depth"] {
                assert!(dashboards.kept.lock().unwrap().dashboards.contains_key(uid), "{uid}");
            }
            let (out, _) = up.ok(&["down"]);
            assert!(out.contains("deck stopped in"), "{out}");
            assert_eq!(out.contains("influxdb stopped in"), wide, "{out}");
            let told = std::fs::read_to_string(bin.join("told")).unwrap_or_default();
            assert!(!told.contains(" down") && !told.contains("volumes"), "{told}");
        }
    })
    .await;
}
