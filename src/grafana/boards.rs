//! The dashboards: one a stream, one of candles, one of the data's quality, one of the pipeline.

use serde_json::{Value as Json, json};

use super::board::{Board, Look, Ref};
use super::stream::Stream;
use crate::sinks::grafana::Asks;

const HALF: (u32, u32) = (12, 8);
const QUARTER: (u32, u32) = (6, 4);
const THIRD: (u32, u32) = (8, 7);
const WHOLE: (u32, u32) = (24, 8);

/// A dashboard of a store: what tells it from that of another store, and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Of<'a> {
    pub source: Ref,
    pub asks: &'a Asks,
    /// Behind uid and title; empty for the first store.
    pub suffix: &'a str,
    pub refresh: &'a str,
}

impl Of<'_> {
    fn board(&self, uid: &str, title: &str, tags: &[&str]) -> Board {
        let (uid, title) = match self.suffix {
            "" => (uid.to_owned(), title.to_owned()),
            suffix => (shortened(&format!("{uid}-{suffix}")), format!("{title} ({suffix})")),
        };
        Board::new(uid, title, tags, self.source.clone())
    }

    /// What a source records.
    pub(super) fn stream(&self, stream: &Stream) -> Json {
        let title = format!("{} Stream", stream.name.to_uppercase());
        let mut board = self.board(stream.name, &title, &["tapedeck", "realtime", stream.name]);
        board.variable("instrument", "Instrument", &self.asks.instruments(stream), true);
        if matches!(self.asks, Asks::InfluxQl(_)) {
            board.filters();
        }
        board.marks("Gaps", self.asks.marks(stream.venue));
        let panels = if matches!(self.asks, Asks::Sql { .. }) { &stream.sql } else { &stream.influx };
        for graph in &panels.graphs {
            board.panel(HALF, graph.title, "none", Look::Series, vec![self.asks.means(stream, graph.fields)]);
        }
        for field in &panels.newest {
            let title = format!("Newest {}", field.name.replace('_', " "));
            board.panel((12, 4), &title, "none", Look::Stat, vec![self.asks.newest(stream, field)]);
        }
        board.panel(WHOLE, "Newest rows", "none", Look::Table, vec![self.asks.rows(stream)]);
        board.json(self.refresh)
    }

    pub(super) fn candles(&self) -> Json {
        let mut board = self.board("candles", "Candles", &["tapedeck", "candles"]);
        let names = ["exchange", "instrument", "interval", "input"];
        for (nth, label) in ["Exchange", "Instrument", "Interval", "Made of"].into_iter().enumerate() {
            board.variable(names[nth], label, &self.asks.candle_values(names[nth], &names[..nth]), false);
        }
        board.marks("Gaps", self.asks.marks(""));
        let title = "$instrument, $interval, of $input";
        board.panel((24, 14), title, "none", Look::Candles, vec![self.asks.candles()]);
        board.panel(WHOLE, "Candles", "none", Look::Table, vec![self.asks.candles()]);
        board.json(self.refresh)
    }

    /// The ledger of gaps.
    pub(super) fn quality(&self) -> Json {
        let mut board = self.board("data_quality", "Data quality", &["tapedeck", "gaps"]);
        board.marks("Gaps", self.asks.marks(""));
        board.panel(HALF, "Gaps opened, by cause", "short", Look::Series, vec![self.asks.gaps_opened()]);
        board.panel(HALF, "Events known to be missing", "short", Look::Stat, vec![self.asks.missing()]);
        board.panel((24, 12), "The ledger, newest first", "none", Look::Table, vec![self.asks.ledger()]);
        board.json(self.refresh)
    }
}

/// The deck itself, by its metrics.
pub(super) fn pipeline(source: Ref, refresh: &str) -> Json {
    let mut board = Board::new("pipeline".to_owned(), "Pipeline".to_owned(), &["tapedeck", "pipeline"], source);
    board.filters();
    for (title, unit, expr, legend) in [
        ("Sources that deliver", "short", "sum(tapedeck_source_live)", "subscriptions"),
        ("Open gaps", "short", "tapedeck_gaps_open", "gaps"),
        ("Days until the disk is full", "short", "tapedeck_disk_days_left", "days"),
        ("Recorder's last turn", "s", "tapedeck_recorder_silence_seconds", "ago"),
    ] {
        board.panel(QUARTER, title, unit, Look::Stat, vec![metric(expr, legend)]);
    }
    for (title, unit, asks) in [
        ("Events", "short", vec![rate("source", "tapedeck_source_events_total")]),
        ("Bytes received", "Bps", vec![rate("source", "tapedeck_source_bytes_total")]),
        ("Since the last bytes", "s", vec![metric("tapedeck_source_silence_seconds", "{{source}}")]),
        ("Receipt to durable", "s", quantiles("tapedeck_receive_to_durable_seconds")),
        ("One sync of the tape", "s", quantiles("tapedeck_tape_sync_seconds")),
        ("Receipt to delivered, 99 %", "s", vec![quantile("0.99", "sink", "tapedeck_receive_to_delivered_seconds")]),
        ("Records not yet confirmed by readers", "short", vec![metric("tapedeck_reader_lag_records", "{{reader}}")]),
        ("Stores behind", "s", vec![metric("tapedeck_sink_lag_seconds", "{{sink}}")]),
        ("Frames between sources and recorder", "short", vec![metric("tapedeck_queue_frames", "frames")]),
        (
            "Not understood since the start, by reason",
            "short",
            vec![total("source, reason", "tapedeck_source_rejects_total")],
        ),
        ("Refused by stores", "short", vec![rate("sink", "tapedeck_sink_rejects_total")]),
        ("Gaps opened since the start, by cause", "short", vec![total("source, cause", "tapedeck_gaps_total")]),
        ("Reconnects", "short", vec![rate("source", "tapedeck_source_reconnects_total")]),
        ("Restarts of services", "short", vec![rate("service", "tapedeck_service_restarts_total")]),
        ("Processor", "percentunit", vec![metric("rate(tapedeck_cpu_seconds_total[$__rate_interval])", "of one core")]),
        ("Memory of the deck", "bytes", vec![metric("tapedeck_resident_memory_bytes", "resident")]),
        (
            "Size of the tape",
            "bytes",
            vec![metric("tapedeck_tape_bytes", "tape"), metric("tapedeck_disk_free_bytes", "free")],
        ),
        ("Open descriptors", "short", vec![metric("tapedeck_open_fds", "open")]),
    ] {
        board.panel(THIRD, title, unit, Look::Series, asks);
    }
    board.json(refresh)
}

/// A counter a second, by labels.
fn rate(labels: &str, counter: &str) -> Json {
    metric(&format!("sum by ({labels}) (rate({counter}[$__rate_interval]))"), &legend(labels))
}

/// A counter whose series begin with the first of their kind: no rate would show that one.
fn total(labels: &str, counter: &str) -> Json {
    metric(&format!("sum by ({labels}) ({counter})"), &legend(labels))
}

fn legend(labels: &str) -> String {
    labels.split(", ").map(|label| format!("{{{{{label}}}}}")).collect::<Vec<_>>().join(" ")
}

fn quantiles(histogram: &str) -> Vec<Json> {
    ["0.5", "0.99"].map(|share| quantile(share, "", histogram)).to_vec()
}

fn quantile(share: &str, label: &str, histogram: &str) -> Json {
    let (by, legend) = match label {
        "" => ("le".to_owned(), share.to_owned()),
        label => (format!("{label}, le"), format!("{{{{{label}}}}}")),
    };
    metric(&format!("histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket[$__rate_interval])))"), &legend)
}

fn metric(expr: &str, legend: &str) -> Json {
    json!({ "expr": expr, "legendFormat": legend, "range": true, "instant": false, "editorMode": "code" })
}

/// Grafana's limit of a uid.
const UID_CHARS: usize = 40;

pub(super) fn shortened(uid: &str) -> String {
    uid.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(UID_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_shows_metrics_that_exist() {
        let documented = include_str!("../../docs/metrics.md");
        let board = pipeline(Ref { kind: "prometheus", uid: "p".to_owned() }, "5s");
        let mut seen = 0;
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let expr = target["expr"].as_str().unwrap();
                let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                for name in words.filter(|word| word.starts_with("tapedeck_")) {
                    let name = name.strip_suffix("_bucket").unwrap_or(name);
                    assert!(documented.contains(&format!("`{name}`")), "{expr}: there is no {name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
