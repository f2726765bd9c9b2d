//! Candles that come late: what is shared by stores that are asked first which statement on a candle they hold.

use tapedeck_market::{Body, Candle, Record};

/// What orders statements on the same candle: the revision, then the seq.
pub(super) type Statement = (u64, u64);

/// Candles that are asked for together: all of a span of this length, so that no answer is too long.
const SPAN_NS: i64 = 600_000_000_000;

/// The candle of a record that is one.
pub(super) fn candle_of(record: &Record) -> Option<&Candle> {
    match &record.event.body {
        Body::Candle(candle) => Some(candle),
        _ => None,
    }
}

/// The starts of candles in spans that are short, first and last of each.
pub(super) fn spans<'a>(candles: impl Iterator<Item = &'a Candle>) -> Vec<(i64, i64)> {
    let mut starts: Vec<i64> = candles.map(|candle| candle.start.0).collect();
    starts.sort_unstable();
    starts.dedup();
    in_spans(&starts)
}

fn in_spans(starts: &[i64]) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for &start in starts {
        match spans.last_mut() {
            Some((from, to)) if start.saturating_sub(*from) <= SPAN_NS => *to = start,
            _ => spans.push((start, start)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_have_every_start() {
        let minute = 60_000_000_000;
        let starts: Vec<i64> = [0, 1, 9, 10, 11, 500, 505].map(|at| at * minute).into();
        assert_eq!(in_spans(&starts), [(0, 10), (11, 11), (500, 505)].map(|(from, to)| (from * minute, to * minute)));
        assert!(in_spans(&[]).is_empty());
    }
}
