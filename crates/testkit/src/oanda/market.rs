//! Prices: walked by a seeded generator, or as they were recorded.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use crate::kraken::rng::Rng;
use crate::kraken::text::{fixed, now_ns, parse_time, time};

/// What the generator trades, with decimals and a first price in units of the last one.
const KNOWN: [(&str, u8, i64); 12] = [
    ("EUR_USD", 5, 108_230),
    ("USD_JPY", 3, 151_204),
    ("GBP_USD", 5, 126_410),
    ("XAU_USD", 3, 2_331_450),
    ("EUR_JPY", 3, 163_655),
    ("AUD_USD", 5, 65_310),
    ("USD_CHF", 5, 90_480),
    ("USD_CAD", 5, 135_720),
    ("NZD_USD", 5, 60_140),
    ("EUR_GBP", 5, 85_620),
    ("DE30_EUR", 1, 181_230),
    ("US30_USD", 1, 389_015),
];

/// An instrument that the account may trade.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: Arc<str>,
    pub(crate) decimals: u8,
}

/// A price, in units of its last decimal.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    pub(crate) instrument: Arc<str>,
    pub(crate) at_ns: i64,
    pub(crate) decimals: u8,
    pub(crate) bid: i64,
    pub(crate) ask: i64,
    /// The line as it was recorded; otherwise one is written.
    pub(crate) line: Option<Arc<str>>,
}

/// An instant as the client wants it.
pub(crate) fn stamp(ns: i64, unix: bool) -> String {
    if unix {
        format!("{}.{:09}", ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000))
    } else {
        // The other fake's venue has microseconds; this one three digits more.
        format!("{}{:03}Z", time(ns).trim_end_matches('Z'), ns.rem_euclid(1_000))
    }
}

impl Tick {
    /// The price as the venue writes it. Every third has its best level in the second place, as recorded lines have.
    pub(crate) fn text(&self, unix: bool, tradeable: bool) -> String {
        if let (Some(line), false, true) = (&self.line, unix, tradeable) {
            return line.to_string();
        }
        let price = |units| fixed(units, self.decimals);
        let side = |best: i64, step: i64| {
            let levels = [(best, 1_000_000), (best + step, 5_000_000), (best + 3 * step, 10_000_000)];
            let order = if self.at_ns.rem_euclid(3) == 0 { [1, 0, 2] } else { [0, 1, 2] };
            let level = |at: usize| format!(r#"{{"price":"{}","liquidity":{}}}"#, price(levels[at].0), levels[at].1);
            order.map(level).join(",")
        };
        format!(
            r#"{{"type":"PRICE","time":"{}","bids":[{}],"asks":[{}],"closeoutBid":"{}","closeoutAsk":"{}","status":"{}","tradeable":{tradeable},"instrument":"{}"}}"#,
            stamp(self.at_ns, unix),
            side(self.bid, -1),
            side(self.ask, 1),
            price(self.bid - 4),
            price(self.ask + 4),
            if tradeable { "tradeable" } else { "non-tradeable" },
            self.instrument,
        )
    }
}

/// The instruments of a generated market: so many, well-known ones first.
pub(crate) fn names(count: usize) -> Vec<String> {
    let invented = (0..).map(|n| format!("X{n:02}_USD"));
    KNOWN.iter().map(|known| known.0.to_owned()).chain(invented).take(count).collect()
}

/// First prices of a generated market.
pub(crate) fn first(names: &[String], rng: &mut Rng) -> Vec<Tick> {
    let tick = |name: &String| {
        let known = KNOWN.iter().find(|known| known.0 == *name);
        let (decimals, price) = known.map_or_else(|| (5, rng.between(50_000, 200_000)), |known| (known.1, known.2));
        Tick { instrument: name.as_str().into(), at_ns: now_ns(), decimals, bid: price, ask: price + 12, line: None }
    };
    names.iter().map(tick).collect()
}

/// The next price of an instrument.
pub(crate) fn step(last: &Tick, at_ns: i64, rng: &mut Rng) -> Tick {
    let bid = (last.bid + rng.between(-3, 3)).max(100);
    Tick { at_ns, bid, ask: bid + rng.between(5, 20), line: None, ..last.clone() }
}

/// Recorded prices, and recorded transactions as they stand.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) ticks: Vec<Tick>,
    pub(crate) listed: Vec<Listed>,
}

impl Recording {
    /// Adds a file: lines of the stream, or rows of ms since midnight, bid, ask, whose instrument and day are in its
    /// name, as in `oanda_eurusd_tick_20140501.csv.gz`.
    pub(crate) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = read(path)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let whole = text.trim_start().starts_with('{');
        let of_name = if whole { None } else { Some(instrument_and_midnight(name)?) };
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let tick = match &of_name {
                None => recorded_line(line.trim()),
                Some((instrument, midnight)) => row(line, instrument, *midnight).map(Some),
            };
            let Some(tick) = tick.with_context(|| format!("{}: line {}", path.display(), at + 1))? else { continue };
            if !self.listed.iter().any(|listed| listed.name == tick.instrument) {
                self.listed.push(Listed { name: tick.instrument.clone(), decimals: tick.decimals });
            }
            self.ticks.push(tick);
        }
        ensure!(!self.ticks.is_empty(), "{}: holds no price", path.display());
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text)
}

fn instrument_and_midnight(name: &str) -> anyhow::Result<(Arc<str>, i64)> {
    let mut parts = name.split(['_', '.']);
    let instrument = parts.clone().find(|part| part.len() == 6 && part.bytes().all(|b| b.is_ascii_alphabetic()));
    let day = parts.find(|part| part.len() == 8 && part.bytes().all(|b| b.is_ascii_digit()));
    let (Some(instrument), Some(day)) = (instrument, day) else {
        bail!("{name}: rows of prices need instrument and day in the name, as in oanda_eurusd_tick_20140501.csv");
    };
    let instrument = instrument.to_ascii_uppercase();
    let midnight = parse_time(&format!("{}-{}-{}T00:00:00Z", &day[..4], &day[4..6], &day[6..])).context("no day")?;
    Ok((format!("{}_{}", &instrument[..3], &instrument[3..]).into(), midnight))
}

fn row(line: &str, instrument: &Arc<str>, midnight: i64) -> anyhow::Result<Tick> {
    let mut fields = line.trim().split(',');
    let (Some(ms), Some(bid), Some(ask)) = (fields.next(), fields.next(), fields.next()) else {
        bail!("is no row of ms, bid, ask");
    };
    let (whole, part) = ms.split_once('.').unwrap_or((ms, ""));
    let part: i64 = format!("{part:0<6}").get(..6).context("no time")?.parse()?;
    let at_ns = midnight + whole.parse::<i64>()? * 1_000_000 + part;
    // What the rows leave out at the end of a price are zeros.
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, part)| part.len());
    let places = decimals(bid).max(decimals(ask)).max(3);
    let units = |text: &str| -> anyhow::Result<i64> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        Ok(format!("{whole}{part:0<places$}").parse()?)
    };
    let decimals = u8::try_from(places)?;
    Ok(Tick { instrument: instrument.clone(), at_ns, decimals, bid: units(bid)?, ask: units(ask)?, line: None })
}

/// A line of the stream; `None`: no price.
fn recorded_line(line: &str) -> anyhow::Result<Option<Tick>> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    let Some(instrument) = value["instrument"].as_str().filter(|_| value["bids"].is_array()) else { return Ok(None) };
    let at_ns = value["time"].as_str().and_then(parse_time).context("has no time")?;
    let best = |side: &str| value[side][0]["price"].as_str().unwrap_or("0").to_owned();
    let decimals = best("bids").split_once('.').map_or(0, |(_, part)| part.len());
    let units = |text: &str| text.replace('.', "").parse::<i64>().unwrap_or(0);
    Ok(Some(Tick {
        instrument: instrument.into(),
        at_ns,
        decimals: u8::try_from(decimals)?,
        bid: units(&best("bids")),
        ask: units(&best("asks")),
        line: Some(line.into()),
    }))
}
