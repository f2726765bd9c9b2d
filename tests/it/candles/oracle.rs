//! The rules once more, written to be read and not to be fast: lists of ticks a bucket, sums made anew at each statement.
//!
//! It shares no code with the program: buckets are found by walking from day to day, and everything about time is said in
//! the words of `docs/candles.md`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// A tick of the list. Prices and sizes are in units of the last digit.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) symbol: String,
    pub(crate) venue_time: i64,
    pub(crate) received: i64,
    pub(crate) price: i64,
    pub(crate) size: i64,
    pub(crate) backfilled: bool,
    pub(crate) absurd: bool,
}

/// What is said of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    pub(crate) volume: i128,
    /// Cut.
    pub(crate) vwap: Option<i64>,
    pub(crate) trades: usize,
    pub(crate) partial: bool,
    pub(crate) revised: bool,
    pub(crate) backfilled: bool,
}

pub(crate) struct Rules {
    pub(crate) intervals: Vec<i64>,
    pub(crate) zone: TimeZone,
    pub(crate) start_of_day: Time,
    pub(crate) lateness: i64,
}

/// A bucket: interval, start.
type Bucket = (i64, i64);

#[derive(Default)]
struct OfSymbol {
    first_time: Option<i64>,
    newest: Option<i64>,
    closed_until: Option<i64>,
    /// `None` while it is no feed.
    delay: Option<i64>,
    open: BTreeMap<Bucket, i64>,
    /// All ticks that ever came, by bucket.
    ticks: BTreeMap<Bucket, Vec<Row>>,
    stated: BTreeMap<Bucket, Vec<Statement>>,
    /// When a bucket with late ticks is stated again.
    late: BTreeMap<Bucket, i64>,
}

impl Rules {
    /// The bucket of a time, and its end.
    fn bucket(&self, interval: i64, time: i64) -> (i64, i64) {
        let begins = |date: Date| {
            let at = date.to_datetime(self.start_of_day).to_zoned(self.zone.clone()).unwrap();
            i64::try_from(at.timestamp().as_nanosecond()).unwrap()
        };
        let mut date = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap().to_zoned(self.zone.clone()).date();
        date = date.yesterday().unwrap().yesterday().unwrap();
        while begins(date.tomorrow().unwrap()) <= time {
            date = date.tomorrow().unwrap();
        }
        let (day, next) = (begins(date), begins(date.tomorrow().unwrap()));
        if interval == super::DAY {
            return (day, next);
        }
        let mut start = day;
        while start + interval <= time {
            start += interval;
        }
        (start, (start + interval).min(next))
    }

    /// Everything said, by symbol, interval and start; the list ends with a stop in order.
    pub(crate) fn state(&self, rows: &[Row]) -> BTreeMap<super::Bucket, Vec<Statement>> {
        let mut all: BTreeMap<String, OfSymbol> = BTreeMap::new();
        for row in rows {
            // First what is due because it is later now, for every symbol.
            for of in all.values_mut() {
                self.timer(of, row.received);
            }
            for of in all.values_mut() {
                self.settle(of, row.received);
            }
            if !row.absurd {
                self.tick(all.entry(row.symbol.clone()).or_default(), row);
            }
        }
        let mut said = BTreeMap::new();
        for (symbol, mut of) in all {
            self.settle(&mut of, i64::MAX);
            let open: Vec<Bucket> = of.open.keys().copied().collect();
            open.into_iter().for_each(|bucket| self.say(&mut of, bucket, true, false));
            said.extend(of.stated.into_iter().map(|((interval, start), all)| ((symbol.clone(), interval, start), all)));
        }
        said
    }

    fn tick(&self, of: &mut OfSymbol, row: &Row) {
        of.first_time.get_or_insert(row.venue_time);
        let away = row.received - row.venue_time;
        if !row.backfilled {
            let step = 1 << 27;
            of.delay = (away.abs() < super::HOUR).then(|| (away.max(0) + step - 1) / step * step);
        }
        let reach = row.venue_time.min(row.received + self.lateness);
        of.newest = Some(of.newest.map_or(reach, |newest| newest.max(reach)));
        let passed = of.newest.unwrap_or(i64::MIN) - self.lateness;
        self.close(of, passed);
        for &interval in &self.intervals {
            let (start, end) = self.bucket(interval, row.venue_time);
            let bucket = (interval, start);
            of.ticks.entry(bucket).or_default().push(row.clone());
            if of.open.contains_key(&bucket) {
                continue;
            }
            if end <= passed || of.closed_until.is_some_and(|until| end <= until) {
                of.late.entry(bucket).or_insert(row.received + self.lateness.max(super::SECOND));
            } else {
                of.open.insert(bucket, end);
            }
        }
    }

    fn timer(&self, of: &mut OfSymbol, now: i64) {
        if let Some(delay) = of.delay {
            self.close(of, now - delay - self.lateness);
        }
    }

    fn close(&self, of: &mut OfSymbol, until: i64) {
        let over: Vec<(Bucket, i64)> =
            of.open.iter().filter(|(_, end)| **end <= until).map(|(bucket, end)| (*bucket, *end)).collect();
        for (bucket, end) in over {
            of.open.remove(&bucket);
            of.closed_until = Some(of.closed_until.map_or(end, |closed| closed.max(end)));
            self.say(of, bucket, false, false);
        }
    }

    fn settle(&self, of: &mut OfSymbol, now: i64) {
        let due: BTreeSet<Bucket> = of.late.iter().filter(|(_, due)| **due <= now).map(|(bucket, _)| *bucket).collect();
        for bucket in due {
            of.late.remove(&bucket);
            let again = of.stated.contains_key(&bucket);
            self.say(of, bucket, false, again);
        }
    }

    fn say(&self, of: &mut OfSymbol, bucket: Bucket, stopped: bool, revised: bool) {
        let filled: Vec<&Row> = of.ticks[&bucket].iter().filter(|row| row.backfilled).collect();
        let all = &of.ticks[&bucket];
        // By arrival; what is backfilled has its place by time, around what arrived.
        let (mut open, mut close) = (&all[0], &all[all.len() - 1]);
        if !filled.is_empty() {
            close = open;
            for row in &all[1..] {
                if row.backfilled && row.venue_time < open.venue_time {
                    open = row;
                }
                if !row.backfilled || row.venue_time >= close.venue_time {
                    close = row;
                }
            }
        }
        let volume: i128 = all.iter().map(|row| i128::from(row.size)).sum();
        let notional: i128 = all.iter().map(|row| i128::from(row.size) * i128::from(row.price)).sum();
        let statement = Statement {
            open: open.price,
            high: all.iter().map(|row| row.price).max().unwrap(),
            low: all.iter().map(|row| row.price).min().unwrap(),
            close: close.price,
            volume,
            vwap: (volume != 0).then(|| i64::try_from(notional / volume).unwrap()),
            trades: all.len(),
            partial: stopped || bucket.1 < of.first_time.unwrap(),
            revised,
            backfilled: !filled.is_empty(),
        };
        of.stated.entry(bucket).or_default().push(statement);
    }
}
