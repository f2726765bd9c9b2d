//! The venue's own candles, of the prices that it had so far; a bucket without a price has none.

use super::hub::Hub;
use super::market::{Tick, stamp};
use super::rest::{Answer, is_unix, query, refused};
use crate::http::Head;
use crate::kraken::text::{fixed, parse_time};

/// Candles of one answer.
const MOST: usize = 5_000;
const USUAL: usize = 500;
const SECOND: i64 = 1_000_000_000;

/// Open, high, low and close.
struct Four([i64; 4]);

impl Four {
    fn new(price: i64) -> Four {
        Four([price; 4])
    }

    fn add(&mut self, price: i64) {
        let [_, high, low, close] = &mut self.0;
        (*high, *low, *close) = ((*high).max(price), (*low).min(price), price);
    }

    fn text(&self, decimals: u8) -> String {
        let [open, high, low, close] = self.0.map(|price| fixed(price, decimals));
        format!(r#"{{"o":"{open}","h":"{high}","l":"{low}","c":"{close}"}}"#)
    }
}

struct Bucket {
    start: i64,
    volume: u32,
    bid: Four,
    ask: Four,
    /// Twice the mid price: half a unit needs no decimal more.
    mid: Four,
    decimals: u8,
}

/// Answers `/v3/instruments/NAME/candles`.
pub(crate) fn answer(hub: &Hub, head: &Head, name: &str) -> Answer {
    let granularity = query(head, "granularity").unwrap_or_else(|| "S5".to_owned());
    let Some(length) = length_ns(&granularity) else {
        return refused(400, "Invalid value specified for 'granularity'");
    };
    if !hub.listed.iter().any(|listed| *listed.name == *name) {
        return refused(400, "Invalid value specified for 'instrument'");
    }
    let count = query(head, "count").map_or(Some(USUAL), |count| count.parse().ok());
    let Some(count) = count.filter(|count| (1..=MOST).contains(count)) else {
        return refused(400, "Maximum value for 'count' exceeded");
    };
    let (from, to) = (query(head, "from").and_then(instant), query(head, "to").and_then(instant));
    let wanted = |tick: &&Tick| {
        *tick.instrument == *name && from.is_none_or(|from| tick.at_ns >= from) && to.is_none_or(|to| tick.at_ns < to)
    };
    let mut buckets: Vec<Bucket> = Vec::new();
    for tick in hub.past.iter().filter(wanted) {
        let start = tick.at_ns.div_euclid(length) * length;
        match buckets.last_mut().filter(|bucket| bucket.start == start) {
            Some(bucket) => {
                bucket.volume += 1;
                bucket.bid.add(tick.bid);
                bucket.ask.add(tick.ask);
                bucket.mid.add(tick.bid + tick.ask);
            }
            None => buckets.push(Bucket {
                start,
                volume: 1,
                bid: Four::new(tick.bid),
                ask: Four::new(tick.ask),
                mid: Four::new(tick.bid + tick.ask),
                decimals: tick.decimals,
            }),
        }
    }
    // From a moment on the first ones, otherwise the newest.
    let range =
        if from.is_some() { 0..count.min(buckets.len()) } else { buckets.len().saturating_sub(count)..buckets.len() };
    let price = query(head, "price").unwrap_or_else(|| "M".to_owned());
    let (unix, newest) = (is_unix(head), hub.past.back().map_or(0, |tick| tick.at_ns));
    let one = |bucket: &Bucket| {
        let mut fields = vec![
            format!(r#""complete":{}"#, bucket.start + length <= newest),
            format!(r#""volume":{}"#, bucket.volume),
            format!(r#""time":"{}""#, stamp(bucket.start, unix)),
        ];
        if price.contains('B') {
            fields.push(format!(r#""bid":{}"#, bucket.bid.text(bucket.decimals)));
        }
        if price.contains('A') {
            fields.push(format!(r#""ask":{}"#, bucket.ask.text(bucket.decimals)));
        }
        if price.contains('M') {
            let mid = Four(bucket.mid.0.map(|twice| twice * 5));
            fields.push(format!(r#""mid":{}"#, mid.text(bucket.decimals + 1)));
        }
        format!("{{{}}}", fields.join(","))
    };
    let candles: Vec<String> = buckets[range].iter().map(one).collect();
    Answer::Text(
        200,
        format!(r#"{{"instrument":"{name}","granularity":"{granularity}","candles":[{}]}}"#, candles.join(",")),
    )
}

/// `S5` … `H12`, and `D` at midnight UTC (the venue's own begins at 17:00 in New York).
fn length_ns(granularity: &str) -> Option<i64> {
    if granularity == "D" {
        return Some(86_400 * SECOND);
    }
    let (unit, number) = granularity.split_at_checked(1)?;
    let number: i64 = number.parse().ok().filter(|number| (1..=30).contains(number))?;
    let unit = match unit {
        "S" => SECOND,
        "M" => 60 * SECOND,
        "H" => 3_600 * SECOND,
        _ => return None,
    };
    Some(number * unit)
}

/// RFC 3339, or decimal seconds.
fn instant(text: String) -> Option<i64> {
    parse_time(&text).or_else(|| {
        let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
        let part: i64 = format!("{part:0<9}").get(..9)?.parse().ok()?;
        whole.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(part)
    })
}
