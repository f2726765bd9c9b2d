//! The venue's own candles of a minute, of the packets that it had so far.

use std::collections::{BTreeMap, HashMap};

use super::market::number;
use crate::kraken::text::{civil, fixed, parse_time};

const MINUTE: i64 = 60;
/// India's clocks are ahead by this, in seconds.
const AHEAD: i64 = 19_800;
/// Minutes that are kept of an instrument.
const KEPT: usize = 10_000;
/// Days of minutes that the venue gives at once.
const DAYS: i64 = 60;

#[derive(Clone, Debug)]
struct Bar {
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    /// The day's running volume before it, and with it.
    volume: (u32, u32),
}

#[derive(Debug, Default)]
pub(crate) struct Past {
    /// By token and minute since 1970.
    bars: HashMap<u32, BTreeMap<i64, Bar>>,
    volumes: HashMap<u32, u32>,
}

impl Past {
    /// Takes a full packet at a moment.
    pub(crate) fn add(&mut self, token: u32, packet: &[u8], now_ns: i64) {
        let (price, volume) = (i64::from(number(packet, 4)), number(packet, 16));
        let before = self.volumes.insert(token, volume).unwrap_or(volume);
        let bars = self.bars.entry(token).or_default();
        let minute = now_ns.div_euclid(MINUTE * 1_000_000_000);
        let bar = bars.entry(minute).or_insert(Bar {
            open: price,
            high: price,
            low: price,
            close: price,
            volume: (before, volume),
        });
        (bar.high, bar.low, bar.close) = (bar.high.max(price), bar.low.min(price), price);
        bar.volume.1 = volume;
        if bars.len() > KEPT {
            bars.pop_first();
        }
    }

    /// The `data` of an answer, or why not. `from` and `to` as `2015-12-28 09:15:00`, in India.
    pub(crate) fn minutes(&self, token: u32, from: &str, to: &str) -> Result<String, &'static str> {
        let at = |text: &str| parse_time(&format!("{}Z", text.replace(' ', "T"))).map(|ns| ns / 1_000_000_000 - AHEAD);
        let (Some(from), Some(to)) = (at(from), at(to)) else { return Err("Invalid `from` or `to` date.") };
        if to - from > DAYS * 86_400 {
            return Err("interval exceeds max limit: 60 days");
        }
        let bars = self.bars.get(&token).into_iter().flatten();
        let wanted = bars.filter(|(minute, _)| (from..=to).contains(&(*minute * MINUTE)));
        let rows: Vec<String> = wanted
            .map(|(minute, bar)| {
                let local = minute * MINUTE + AHEAD;
                let ((year, month, day), second) = (civil(local.div_euclid(86_400)), local.rem_euclid(86_400));
                let (hour, minute) = (second / 3_600, second / 60 % 60);
                let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(|price| fixed(price, 2));
                let volume = bar.volume.1.saturating_sub(bar.volume.0);
                format!(
                    r#"["{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:00+0530",{open},{high},{low},{close},{volume},0]"#
                )
            })
            .collect();
        Ok(format!(r#"{{"candles":[{}]}}"#, rows.join(",")))
    }
}
