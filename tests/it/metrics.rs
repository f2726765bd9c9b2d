//! The metrics of a running deck beside the document that is made of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tapedeck::http::metrics::{self, Family, Kind, When};
use tapedeck_testkit::kraken::{FakeKraken, Fault, Garbage, Target};

use crate::deck::{blocking, source};
use crate::http::get;
use crate::servers::Influx1;
use crate::support::{Deck, free_port, until};

#[test]
fn the_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = metrics::document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(file == text, "docs/metrics.md is not what the code says: UPDATE_GOLDEN=1 writes it anew");
    for family in metrics::all() {
        assert!(text.contains(&format!("| `{}` |", family.full_name())), "{family:?}");
    }
}

/// What a scrape says: types by family, and the values of its samples by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Scrape {
    pub(crate) fn of(port: u16) -> Scrape {
        let text = get(port, "/metrics", "localhost", "");
        let mut scrape = Scrape::default();
        for line in text.split_once("\r\n\r\n").unwrap().1.lines() {
            match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                Some((name, kind)) => {
                    assert_eq!(scrape.types.insert(name.to_owned(), kind.to_owned()), None, "{name} twice")
                }
                None if line.starts_with('#') || line.is_empty() => {}
                None => {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    assert_eq!(scrape.samples.insert(name.to_owned(), value.parse().unwrap()), None, "{name} twice");
                }
            }
        }
        assert!(text.contains("# EOF"), "{text}");
        scrape
    }

    /// Whether there is a sample of a family.
    fn has(&self, family: &Family) -> bool {
        let name = self.exposed(family);
        self.samples.keys().any(|sample| sample.split(['{', ' ']).next() == Some(name.as_str()))
    }

    /// The name that a sample of it bears.
    fn exposed(&self, family: &Family) -> String {
        let suffix = if family.kind == Kind::Histogram { "_count" } else { "" };
        family.full_name() + suffix
    }

    fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample}: {:#?}", self.samples))
    }
}

/// Histograms of the recorder.
const COUNTED: [&str; 2] = ["receive_to_durable_seconds", "tape_sync_seconds"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_tells_what_the_document_says_and_nothing_else() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(200).start().await.unwrap();
    let any = Target { symbol: "*".into(), channel: None };
    blocking(move || {
        let Some(influx) = Influx1::shared() else { return };
        let (home, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "[http]\nlisten = '127.0.0.1:{port}'\n[candles]\nintervals = ['1s']\n[sink.influx]\nkind = 'influx'\nurl = '{}'\n\
             database = '{}'\nbatch_wait = '20ms'\n[alert.quiet]\nwhen = 'silent'\ncommand = ['true']\n{}",
            influx.url(),
            influx.fresh_database(),
            source(&venue)
        );
        let deck = Deck::start(home.path(), &config);
        deck.until("a live source", |status| status.sources.iter().any(|source| source.live >= 6));
        venue.inject(Fault::Garbage(Garbage::NotJson));
        venue.inject(Fault::Corrupt { target: any, times: 1 });
        deck.until("a reject", |status| status.sources[0].rejects > 0);
        venue.inject(Fault::Cut { mid_frame: false });
        // A record that the store has, a gap, a ping, and the pace that days are reckoned from.
        let wanted = |family: &Family| !matches!(family.when, When::Up | When::Odd | When::Sync);
        let scrape = until("all families", || {
            let scrape = Scrape::of(port);
            let all = metrics::all().filter(|family| wanted(family)).all(|family| scrape.has(family));
            let enough = COUNTED.iter().all(|of| scrape.value(&format!("tapedeck_{of}_count")) > 100.0);
            (all && enough).then_some(scrape)
        });
        let known: BTreeSet<String> = metrics::all().map(Family::full_name).collect();
        for (name, kind) in &scrape.types {
            let family = metrics::all().find(|family| family.full_name().trim_end_matches("_total") == *name);
            let family = family.unwrap_or_else(|| panic!("{name} is in no document"));
            assert_eq!(format!("{:?}", family.kind).to_lowercase(), *kind, "{name}");
        }
        for sample in scrape.samples.keys() {
            let name = sample.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let family = metrics::all().find(|family| family.full_name() == base || family.full_name() == name);
            let family = family.unwrap_or_else(|| panic!("{sample} is in no document: {known:?}"));
            let labels: BTreeSet<&str> = sample.split_once('{').map_or_else(BTreeSet::new, |(_, rest)| {
                rest.trim_end_matches('}').split("\",").filter_map(|label| Some(label.split_once('=')?.0)).collect()
            });
            let mut of: BTreeSet<&str> = family.labels.iter().copied().collect();
            if name.ends_with("_bucket") {
                of.insert("le");
            }
            assert_eq!(labels, of, "{sample}");
        }
        // A histogram's last bucket is all of it, and every frame is in the recorder's.
        for of in COUNTED {
            let count = scrape.value(&format!("tapedeck_{of}_count"));
            assert!(count == scrape.value(&format!("tapedeck_{of}_bucket{{le=\"+Inf\"}}")), "{of}");
        }
        let delivered = scrape.value("tapedeck_sink_delivered_records_total{sink=\"influx\"}");
        assert!(scrape.value("tapedeck_receive_to_delivered_seconds_count{sink=\"influx\"}") > 0.0 && delivered > 0.0);
        assert!(scrape.value("tapedeck_source_reconnects_total{source=\"kraken\",venue=\"kraken\"}") >= 1.0);
        assert!(scrape.value("tapedeck_cpu_seconds_total") > 0.0);
        assert!(scrape.value("tapedeck_open_fds") > 5.0 && scrape.value("tapedeck_max_fds") > scrape.value("tapedeck_open_fds"));
        assert_eq!(scrape.value("tapedeck_alert_firing{alert=\"quiet\"}"), 0.0);
        deck.stop();
    })
    .await;
}
