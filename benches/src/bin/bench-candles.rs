//! Ticks → candles, beside the aggregator of NautilusTrader from its Python wheel, in one alternating run.
//!
//! Both are fed with ticks that are ready: what is measured is the candles. The peer runs in a child process that is told how
//! many ticks to take and answers when it has (`benches/peers/nautilus_candles.py`); without `NAUTILUS_PYTHON` it is left out,
//! and the row counts as missing.

use tapedeck::candles::{Anchor, Engine, Maker, Recipe, Selection, Settings, Tick};
use tapedeck::derive::TapePast;
use tapedeck_benches::child::Peer;
use tapedeck_benches::{Side, compare, probe};
use tapedeck_market::{Body, CandleInput, Decimal, Event, Flags, Price, Size, SmolStr, Trade, UnixNanos};

const SECOND: i64 = 1_000_000_000;
/// What people have: 1m, 5m, 15m, 1h, 4h, 1d.
const INTERVALS: [i64; 6] = [60 * SECOND, 300 * SECOND, 900 * SECOND, 3_600 * SECOND, 14_400 * SECOND, 86_400 * SECOND];
/// With seconds: of 10,000 instruments each of which ticks every 10 s, nearly every tick closes two candles.
const WITH_SECONDS: [i64; 6] = [SECOND, 5 * SECOND, 60 * SECOND, 300 * SECOND, 3_600 * SECOND, 86_400 * SECOND];
/// 2026-01-05T00:00:00Z
const BEGIN: i64 = 1_767_571_200 * SECOND;
/// Time between two ticks.
const STEP: i64 = 1_000_000;
/// Ticks that are ready; they are taken again and again, each time later.
const READY: usize = 1 << 16;

fn main() {
    probe(&std::env::temp_dir());
    memory();
    let cases = [
        (1, &INTERVALS[..1], "1m"),
        (100, &INTERVALS[..], "1m to 1d"),
        (10_000, &INTERVALS[..], "1m to 1d"),
        (10_000, &WITH_SECONDS[..], "1s to 1d"),
    ];
    for (instruments, intervals, lengths) in cases {
        for late in [false, true] {
            let order = if late { "1 % late" } else { "in order" };
            let name = format!("candles, {instruments} x {} ({lengths}), {order}", intervals.len());
            let mut ours = Ours::new(instruments, intervals, late);
            let ours = Side { name: "tapedeck", run: Box::new(move |n| ours.take(n)) };
            let peers = peer(instruments, intervals)
                .into_iter()
                .map(|mut peer| Side { name: "nautilus TimeBarAggregator", run: Box::new(move |n| peer.take(n)) });
            let outcomes = compare(&name, ours, peers.collect(), None);
            if let Some(outcome) = outcomes.first() {
                println!("{:<44} {:.1} M ticks/s", "", 1e3 / outcome.ours_ns);
            }
        }
    }
}

/// The engine, fed with ticks that are ready.
struct Ours {
    engine: Engine,
    ticks: Vec<Tick>,
    at: usize,
    shift: i64,
    seq: u64,
}

impl Ours {
    fn new(instruments: u32, intervals_ns: &[i64], late: bool) -> Self {
        let settings = Settings {
            intervals_ns: intervals_ns.to_vec(),
            anchor: Anchor::default(),
            lateness_ns: 2 * SECOND,
            input: CandleInput::Trades,
        };
        let mut engine = Engine::new(settings);
        for _ in 0..instruments {
            engine.instrument();
        }
        let mut dice = Dice(7);
        let ticks = (0..READY as i64).map(|n| {
            let ts_recv = BEGIN + n * STEP;
            let back = if late && n % 100 == 99 { (dice.below(1_900) * 1_000_000) as i64 } else { 0 };
            Tick {
                instrument: dice.below(u64::from(instruments)) as u32,
                price_scale: 1,
                size_scale: 8,
                backfilled: false,
                snapshot: false,
                ts_event: ts_recv - back,
                ts_recv,
                price: 645_000 + dice.below(1_000) as i64,
                size: 1 + dice.below(100_000_000) as i64,
            }
        });
        Ours { engine, ticks: ticks.collect(), at: 0, shift: 0, seq: 0 }
    }

    fn take(&mut self, n: u64) {
        for _ in 0..n {
            let mut tick = self.ticks[self.at];
            tick.ts_event += self.shift;
            tick.ts_recv += self.shift;
            self.seq += 1;
            self.engine.clock(tick.ts_recv);
            self.engine.tick(self.seq, &tick);
            self.at += 1;
            if self.at == READY {
                self.at = 0;
                self.shift += READY as i64 * STEP;
            }
            if self.engine.has_said() {
                std::hint::black_box(self.engine.take_said());
            }
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The peer, in its own process.
fn peer(instruments: u32, intervals_ns: &[i64]) -> Option<Peer> {
    let seconds = intervals_ns.iter().map(|ns| (ns / SECOND).to_string());
    Peer::python("NAUTILUS_PYTHON", "nautilus_candles.py", std::iter::once(instruments.to_string()).chain(seconds))
}

/// Memory of everything that makes candles of 10,000 instruments in 6 intervals: names, routes, open candles, timers.
fn memory() {
    let before = tapedeck::status::rss_bytes();
    let recipe = Recipe {
        intervals_ns: WITH_SECONDS.to_vec(),
        input: CandleInput::Trades,
        anchor: Anchor::default(),
        lateness_ns: 2 * SECOND,
        selection: Selection::default(),
    };
    let mut maker = Maker::new(recipe);
    let mut past = TapePast { dir: std::env::temp_dir(), tail: None };
    let (venue, mut seq) = (SmolStr::new_static("bench"), 0);
    for round in 0..5 {
        for number in 0..10_000 {
            seq += 1;
            let ts = UnixNanos(BEGIN + round * 1_500 * 1_000_000 + number * 100_000);
            let price = Decimal::new(645_000 + number, 1).map(Price).unwrap_or_default();
            let size = Decimal::new(1 + round, 8).map(Size).unwrap_or_default();
            let event = Event {
                source: venue.clone(),
                venue: venue.clone(),
                symbol: SmolStr::new(format!("LONG-SYMBOL-NAME-{number}/USD")),
                ts_event: Some(ts),
                ts_recv: ts,
                flags: Flags::NONE,
                origin: None,
                body: Body::Trade(Trade { price, size, side: None, id: None }),
            };
            let taken = maker.record(seq, &event, &mut past);
            assert!(taken.is_ok(), "no tick of these is late");
            drop(maker.take_said(ts));
        }
    }
    let state = maker.state(seq).len();
    println!(
        "10,000 instruments x 6: process {:.1} MiB, of it candles {:.1} MiB, {} open, saved state {:.1} MiB",
        mib(tapedeck::status::rss_bytes()),
        mib(tapedeck::status::rss_bytes().saturating_sub(before)),
        maker.open(),
        state as f64 / f64::from(1 << 20),
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
