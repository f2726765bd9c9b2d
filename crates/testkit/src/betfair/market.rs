//! Changes of markets: walked by a seeded generator, or as they were recorded.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use crate::kraken::rng::Rng;
use crate::kraken::text::time;

/// Runners of a generated market.
const RUNNERS: i64 = 8;
/// Prices that are on offer, in hundredths.
const PRICES: [i64; 24] = [
    150, 152, 154, 156, 158, 160, 165, 170, 175, 180, 190, 200, 210, 220, 240, 260, 280, 300, 350, 400, 500, 600, 800,
    1_000,
];
/// Best levels that the venue sends.
const LEVELS: usize = 10;

/// A generated market, in hundredths.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) id: String,
    event: i64,
    version: i64,
    runners: BTreeMap<i64, Side>,
    volume: i64,
}

#[derive(Debug, Default)]
struct Side {
    back: BTreeMap<i64, i64>,
    lay: BTreeMap<i64, i64>,
    traded: BTreeMap<i64, i64>,
    /// What the venue said of its best levels last: to back, to lay.
    best: [Vec<(i64, i64)>; 2],
    volume: i64,
}

impl Walk {
    pub(crate) fn new(number: usize) -> Walk {
        let id = format!("1.{}", 240_000_001 + number);
        let event = 33_000_001 + i64::try_from(number).unwrap_or(0);
        let runners = (0..RUNNERS).map(|n| (event * 10 + n, Side::default())).collect();
        Walk { id, event, version: 5_000_000_001, runners, volume: 0 }
    }

    /// The first message: who runs.
    pub(crate) fn begin(&self, at_ns: i64) -> Value {
        json!({ "id": self.id, "img": true, "marketDefinition": self.definition(at_ns), "rc": [] })
    }

    fn definition(&self, at_ns: i64) -> Value {
        // In an hour; the venue writes milliseconds.
        let start = time(at_ns - at_ns.rem_euclid(60_000_000_000) + 3_600_000_000_000);
        let start = format!("{}000Z", &start[..20]);
        let runners: Vec<Value> = self
            .runners
            .keys()
            .zip(1..)
            .map(|(id, place)| json!({ "id": id, "status": "ACTIVE", "sortPriority": place, "adjustmentFactor": 12.5 }))
            .collect();
        json!({
            "eventId": self.event.to_string(), "eventTypeId": "7", "marketType": "WIN", "bettingType": "ODDS", "status": "OPEN",
            "inPlay": false, "bspMarket": true, "venue": "Søndervang", "countryCode": "GB", "timezone": "Europe/London",
            "marketTime": start, "suspendTime": start, "openDate": start, "version": self.version, "runners": runners,
            "numberOfActiveRunners": self.runners.len(), "numberOfWinners": 1, "marketBaseRate": 5, "complete": true,
        })
    }

    /// The next change.
    pub(crate) fn step(&mut self, at_ns: i64, rng: &mut Rng) -> Value {
        if rng.chance(1) {
            self.version += 1;
            return json!({ "id": self.id, "marketDefinition": self.definition(at_ns) });
        }
        let pick = rng.index(self.runners.len());
        let Some((id, side)) = self.runners.iter_mut().nth(pick) else { return json!({ "id": self.id }) };
        let mut change = Map::new();
        let half = PRICES.len() / 2;
        let size = if rng.chance(25) { 0 } else { rng.between(1, 30_000) };
        if rng.chance(50) {
            let price = PRICES[rng.index(half)];
            set(&mut side.back, price, size);
            change.insert("atb".into(), json!([[number(price), number(size)]]));
            let now = rolled_up(side.back.iter().rev());
            best(&mut change, ["batb", "bdatb"], &mut side.best[0], now);
        } else {
            let price = PRICES[half + rng.index(half)];
            set(&mut side.lay, price, size);
            change.insert("atl".into(), json!([[number(price), number(size)]]));
            let now = rolled_up(side.lay.iter());
            best(&mut change, ["batl", "bdatl"], &mut side.best[1], now);
        }
        if rng.chance(20) {
            let (price, size) = (PRICES[rng.index(PRICES.len())], rng.between(100, 5_000));
            let traded = side.traded.entry(price).or_default();
            *traded += size;
            (side.volume, self.volume) = (side.volume + size, self.volume + size);
            change.insert("trd".into(), json!([[number(price), number(*traded)]]));
            change.insert("ltp".into(), number(price));
            change.insert("tv".into(), number(side.volume));
        }
        if rng.chance(5) {
            change.insert("spb".into(), json!([[1.01, number(rng.between(100, 9_000))]]));
            change.insert("spl".into(), json!([[1000, number(rng.between(100, 9_000))]]));
            change.insert(
                "spn".into(),
                if rng.chance(20) { json!("NaN") } else { number(PRICES[rng.index(PRICES.len())]) },
            );
            change.insert("spf".into(), if rng.chance(20) { json!("Infinity") } else { json!(2.5) });
        }
        change.insert("id".into(), json!(id));
        json!({ "id": self.id, "rc": [change], "tv": number(self.volume) })
    }
}

fn set(ladder: &mut BTreeMap<i64, i64>, price: i64, size: i64) {
    if size == 0 {
        ladder.remove(&price);
    } else {
        ladder.insert(price, size);
    }
}

/// Hundredths as the venue writes them: `17`, `17.5`.
fn number(hundredths: i64) -> Value {
    if hundredths % 100 == 0 { json!(hundredths / 100) } else { json!(hundredths as f64 / 100.0) }
}

/// Best levels: sizes added until there is one whole unit.
fn rolled_up<'a>(ladder: impl Iterator<Item = (&'a i64, &'a i64)>) -> Vec<(i64, i64)> {
    let (mut levels, mut left) = (Vec::new(), None);
    for (price, size) in ladder {
        let sum = left.map_or(0, |(_, sum)| sum) + size;
        left = Some((*price, sum));
        if sum >= 100 {
            levels.extend(left.take());
        }
    }
    levels.extend(left);
    levels.truncate(LEVELS);
    levels
}

/// What changed of the best levels.
fn best(change: &mut Map<String, Value>, names: [&str; 2], said: &mut Vec<(i64, i64)>, now: Vec<(i64, i64)>) {
    let levels: Vec<Value> = (0..said.len().max(now.len()))
        .filter(|at| said.get(*at) != now.get(*at))
        .map(|at| {
            now.get(at).map_or_else(|| json!([at, 0, 0]), |(price, size)| json!([at, number(*price), number(*size)]))
        })
        .collect();
    if !levels.is_empty() {
        for name in names {
            change.insert(name.to_owned(), json!(levels));
        }
    }
    *said = now;
}

/// A recorded message.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) at_ns: i64,
    pub(crate) changes: Vec<Value>,
    /// `mcm` or `ocm`.
    pub(crate) orders: bool,
}

/// Reads a recording: messages a line; plain, `.gz` or `.bz2`.
pub(crate) fn recording(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let text = read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut messages = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut value: Value =
            serde_json::from_str(line).with_context(|| format!("{}: line {}", path.display(), at + 1))?;
        let orders = value["op"] == "ocm";
        let Value::Array(changes) = value[if orders { "oc" } else { "mc" }].take() else { continue };
        let at_ns = value["pt"].as_i64().unwrap_or(0).saturating_mul(1_000_000);
        messages.push(Recorded { at_ns, changes, orders });
    }
    ensure!(!messages.is_empty(), "{}: holds no message", path.display());
    Ok(messages)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text)?,
        Some("bz2") => bzip2::read::MultiBzDecoder::new(&bytes[..]).read_to_string(&mut text)?,
        _ => (&bytes[..]).read_to_string(&mut text)?,
    };
    Ok(text)
}
