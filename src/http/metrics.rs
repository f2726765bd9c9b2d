//! The status as Prometheus metrics. Made anew at each scrape: nothing is registered, nothing is held.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::status::{Quantiles, Status};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSource {
    source: String,
    venue: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReason {
    source: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCause {
    source: String,
    cause: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReader {
    reader: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfQuantile {
    quantile: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfMode {
    mode: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfService {
    service: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfFigure {
    service: String,
    figure: String,
}

type Seconds<L> = Family<L, prometheus_client::metrics::counter::Counter<f64, std::sync::atomic::AtomicU64>>;
type Counters<L> = Family<L, prometheus_client::metrics::counter::Counter>;

pub(super) fn registry(status: &Status) -> Registry {
    let mut registry = Registry::with_prefix("tapedeck");
    let info: Family<OfMode, Gauge> = Family::default();
    info.get_or_create(&OfMode { mode: status.tape.mode.clone(), version: status.version.clone() }).set(1);
    registry.register("info", "Version, and what an acknowledgement of the tape means", info);

    let count = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstCounter::new(value));
    };
    count(&mut registry, "events", "Events appended by this process", status.events);
    count(&mut registry, "duplicates", "Trades that were on the tape already", status.duplicates);
    count(&mut registry, "shed_events", "Events left out because disk space was short", status.shed);
    count(&mut registry, "clock_steps", "Steps of the wall clock", status.clock.steps);

    let gauge = |registry: &mut Registry, name: &str, help: &str, value: f64| {
        registry.register(name, help, ConstGauge::new(value));
    };
    gauge(&mut registry, "tape_last_seq", "Highest seq on the tape", status.tape.last_seq as f64);
    gauge(&mut registry, "tape_durable_seq", "Highest durable seq", status.tape.durable_seq as f64);
    gauge(&mut registry, "tape_bytes", "Size of the tape on disk", status.tape.bytes as f64);
    gauge(&mut registry, "tape_segments", "Segments of the tape", status.tape.segments as f64);
    gauge(&mut registry, "disk_free_bytes", "Free space where the tape lies", status.tape.disk_free_bytes as f64);
    gauge(&mut registry, "disk_full", "1 while nothing can be recorded", f64::from(u8::from(status.tape.full)));
    gauge(
        &mut registry,
        "shedding",
        "1 while depth is left out for lack of space",
        f64::from(u8::from(status.tape.shedding)),
    );
    gauge(&mut registry, "gaps_open", "Open gaps in the ledger", status.gaps_open as f64);
    gauge(&mut registry, "queue_frames", "Frames between sources and recorder", status.queue_frames as f64);
    gauge(&mut registry, "resident_memory_bytes", "Memory of this process", status.rss_bytes as f64);
    gauge(
        &mut registry,
        "clock_offset_seconds",
        "Wall clock minus monotonic clock since start",
        status.clock.offset_ns as f64 / 1e9,
    );
    if let Some(days) = status.tape.days_left {
        gauge(&mut registry, "disk_days_left", "Days until the disk is full at this rate", days);
    }
    registry.register_with_unit(
        "uptime",
        "Since this process began to record",
        Unit::Seconds,
        ConstGauge::new(status.uptime_s as f64),
    );
    quantiles(&mut registry, "receive_to_durable", "Receipt to durable, over the last seconds", &status.latency);
    quantiles(&mut registry, "sync", "One sync of the tape, over the last seconds", &status.sync);
    sources(&mut registry, status);
    services(&mut registry, status);
    gaps(&mut registry, status);
    let lag: Family<OfReader, Gauge> = Family::default();
    for reader in &status.readers {
        lag.get_or_create(&OfReader { reader: reader.name.clone() })
            .set(i64::try_from(reader.lag_records).unwrap_or(i64::MAX));
    }
    registry.register("reader_lag_records", "Records a reader has not confirmed", lag);
    registry
}

fn services(registry: &mut Registry, status: &Status) {
    let running: Family<OfService, Gauge> = Family::default();
    let restarts: Counters<OfService> = Family::default();
    let panics: Counters<OfService> = Family::default();
    let figures: Family<OfFigure, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
    for service in &status.services {
        let of = OfService { service: service.name.clone() };
        running.get_or_create(&of).set(i64::from(service.state == "running"));
        restarts.get_or_create(&of).inc_by(service.restarts);
        panics.get_or_create(&of).inc_by(service.panics);
        for (figure, value) in &service.detail {
            if let Some(value) = value.as_f64() {
                let of = OfFigure { service: service.name.clone(), figure: figure.clone() };
                figures.get_or_create(&of).set(value);
            }
        }
    }
    registry.register("service_running", "1 while the service does its work", running);
    registry.register("service_restarts", "How often it was started anew", restarts);
    registry.register("service_panics", "Panics survived", panics);
    registry.register("service_figure", "What a service says of itself, by name", figures);
}

fn quantiles(registry: &mut Registry, name: &str, help: &str, values: &Quantiles) {
    let family: Family<OfQuantile, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
    for (quantile, us) in
        [("0.5", values.p50_us), ("0.99", values.p99_us), ("0.999", values.p999_us), ("1", values.max_us)]
    {
        family.get_or_create(&OfQuantile { quantile }).set(us as f64 / 1e6);
    }
    registry.register_with_unit(name, help, Unit::Seconds, family);
}

fn sources(registry: &mut Registry, status: &Status) {
    let frames: Counters<OfSource> = Family::default();
    let bytes: Counters<OfSource> = Family::default();
    let events: Counters<OfSource> = Family::default();
    let sessions: Counters<OfSource> = Family::default();
    let panics: Counters<OfSource> = Family::default();
    let rejects: Counters<OfReason> = Family::default();
    let notes: Counters<OfReason> = Family::default();
    let live: Family<OfSource, Gauge> = Family::default();
    let subscriptions: Family<OfSource, Gauge> = Family::default();
    let gaps: Family<OfSource, Gauge> = Family::default();
    let age: Family<OfSource, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
    for source in &status.sources {
        let of = OfSource { source: source.name.clone(), venue: source.venue.clone() };
        frames.get_or_create(&of).inc_by(source.frames);
        bytes.get_or_create(&of).inc_by(source.bytes);
        events.get_or_create(&of).inc_by(source.events);
        sessions.get_or_create(&of).inc_by(source.sessions);
        panics.get_or_create(&of).inc_by(source.panics);
        live.get_or_create(&of).set(source.live as i64);
        subscriptions.get_or_create(&of).set(source.subscriptions as i64);
        gaps.get_or_create(&of).set(source.gaps_open as i64);
        if let Some(ms) = source.last_heard_ms_ago {
            age.get_or_create(&of).set(ms as f64 / 1e3);
        }
        for (reason, count) in &source.reject_reasons {
            rejects.get_or_create(&OfReason { source: source.name.clone(), reason: reason.clone() }).inc_by(*count);
        }
        for (reason, count) in &source.notes {
            notes.get_or_create(&OfReason { source: source.name.clone(), reason: reason.clone() }).inc_by(*count);
        }
    }
    registry.register("source_frames", "Frames received", frames);
    registry.register("source_bytes", "Bytes received", bytes);
    registry.register("source_events", "Events emitted", events);
    registry.register("source_sessions", "Sessions begun", sessions);
    registry.register("source_panics", "Panics survived", panics);
    registry.register("source_rejects", "Frames that could not be understood, by reason", rejects);
    registry.register("source_odd_frames", "Frames that were understood and are odd, by reason", notes);
    registry.register("source_live", "Subscriptions that deliver", live);
    registry.register("source_subscriptions", "Subscriptions known", subscriptions);
    registry.register("source_gaps_open", "Open gaps", gaps);
    registry.register_with_unit("source_silence", "Since the last bytes", Unit::Seconds, age);
}

/// The gap ledger. Counters are of this process; what is open is of the tape.
fn gaps(registry: &mut Registry, status: &Status) {
    let opened: Counters<OfCause> = Family::default();
    let missing: Counters<OfCause> = Family::default();
    let lost: Seconds<OfCause> = Family::default();
    let open: Family<OfCause, Gauge> = Family::default();
    let age: Family<OfCause, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
    for gaps in &status.gaps {
        let of = OfCause { source: gaps.source.clone(), cause: gaps.cause.clone() };
        opened.get_or_create(&of).inc_by(gaps.opened);
        missing.get_or_create(&of).inc_by(gaps.missing);
        lost.get_or_create(&of).inc_by(gaps.lost_s);
        open.get_or_create(&of).set(gaps.open as i64);
        age.get_or_create(&of).set(gaps.open_s.unwrap_or(0.0));
    }
    registry.register("gaps", "Gaps opened by this process", opened);
    registry.register("gap_missing_events", "Events known to be missing, where the venue numbers them", missing);
    registry.register_with_unit("gap_lost", "Time of closed gaps, one after the other", Unit::Seconds, lost);
    registry.register("gap_open", "Gaps that are open", open);
    registry.register_with_unit("gap_open_age", "Since the oldest open gap began; 0 without one", Unit::Seconds, age);
    let silence = ConstGauge::new(status.recorder_silent_ms as f64 / 1e3);
    registry.register_with_unit("recorder_silence", "Since the recorder's last turn", Unit::Seconds, silence);
}
