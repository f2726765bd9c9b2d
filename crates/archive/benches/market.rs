//! Trades as a venue sends them, as many as are wanted, drawn from recorded ones.
//!
//! Moves of the price, sides, bursts and the round numbers among the sizes are those of Kraken's recorded trades
//! (`fixtures/kraken/rest_trades_18pairs_201601.json.gz`); sizes that are not round get other digits each time, so that no
//! compressor finds the recording again and again. Times are the venue's microseconds and our nanoseconds, 25 to 60 ms apart.

use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value as Json;
use tapedeck_market::*;

/// Fraction of trades that go to each pair is that of its place: the first is the busiest.
struct Pair {
    symbol: SmolStr,
    price_scale: u8,
    /// Price, in units of its scale, that the walk begins at.
    price: i64,
    next_id: u64,
    recorded: Vec<Recorded>,
    at: usize,
}

struct Recorded {
    moved: i64,
    /// In units of 10^-8.
    size: i64,
    buy: bool,
    /// The venue gave it the same time as the one before.
    together: bool,
}

/// The recording's path; `None` where there are no fixtures.
pub(crate) fn recording() -> Option<PathBuf> {
    let dir = std::env::var_os("TAPEDECK_FIXTURES")?;
    Some(PathBuf::from(dir).join("kraken/rest_trades_18pairs_201601.json.gz"))
}

/// `count` trades, `per_s` of them a second from `start_ns` on; the same for the same seed.
pub(crate) fn trades(path: &std::path::Path, count: usize, per_s: u64, start_ns: i64, seed: u64) -> Vec<Event> {
    Market::of(path, per_s, start_ns, seed).take(count).collect()
}

/// A market without an end.
pub(crate) struct Market {
    pairs: Vec<Pair>,
    random: Random,
    per_s: u64,
    at_us: i64,
    /// One order that meets several: the venue sends its trades in one frame. The pair, and the frame's times.
    frame: Option<(usize, UnixNanos, UnixNanos)>,
}

impl Market {
    pub(crate) fn of(path: &std::path::Path, per_s: u64, start_ns: i64, seed: u64) -> Market {
        Market { pairs: pairs(path), random: Random(seed | 1), per_s, at_us: start_ns / 1000, frame: None }
    }
}

impl Iterator for Market {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (place, ts_event, ts_recv) = self.frame.take().unwrap_or_else(|| {
            // The square puts most of the trades on few pairs.
            let place = self.random.unit() * self.random.unit() * self.pairs.len() as f64;
            self.at_us += (-(1.0 - self.random.unit()).ln() * 1e6 / self.per_s as f64) as i64;
            let delay_ns = 25_000_000 + (self.random.unit() * self.random.unit() * 35e6) as i64;
            (place as usize, UnixNanos(self.at_us * 1000), UnixNanos(self.at_us * 1000 + delay_ns))
        });
        let pair = self.pairs.get_mut(place)?;
        let event = pair.next(ts_event, ts_recv, &mut self.random);
        if pair.recorded[pair.at].together {
            self.frame = Some((place, ts_event, ts_recv));
        }
        Some(event)
    }
}

impl Pair {
    fn next(&mut self, ts_event: UnixNanos, ts_recv: UnixNanos, random: &mut Random) -> Event {
        let recorded = &self.recorded[self.at];
        self.price = (self.price + recorded.moved).max(1);
        self.next_id += 1;
        let size = if recorded.size % 1000 == 0 {
            recorded.size
        } else {
            (recorded.size as f64 * (0.5 + random.unit())) as i64 + 1
        };
        let trade = Trade {
            price: Price(Decimal::new(self.price, self.price_scale).expect("a price of few digits")),
            size: Size(Decimal::new(size, 8).expect("a size of few digits")),
            side: Some(if recorded.buy { Side::Buy } else { Side::Sell }),
            id: Some(self.next_id.to_string().into()),
        };
        self.at = (self.at + 1) % self.recorded.len();
        Event {
            source: "kraken".into(),
            venue: "kraken".into(),
            symbol: self.symbol.clone(),
            ts_event: Some(ts_event),
            ts_recv,
            flags: Flags::NONE,
            origin: None,
            body: Body::Trade(trade),
        }
    }
}

fn pairs(path: &std::path::Path) -> Vec<Pair> {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("the recording is there");
    GzDecoder::new(file).read_to_string(&mut text).expect("it is gzip");
    let Json::Object(recorded) = serde_json::from_str(&text).expect("it is JSON") else { panic!("not an object") };
    let mut pairs: Vec<Pair> =
        recorded.iter().enumerate().filter_map(|(nth, (name, answer))| pair(nth, name, answer)).collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.recorded.len()));
    pairs
}

fn pair(nth: usize, name: &str, answer: &Json) -> Option<Pair> {
    let rows = answer.get(name)?.as_array().filter(|rows| rows.len() > 50)?;
    let text = |row: &Json, at: usize| row.get(at).and_then(Json::as_str).map(str::to_owned);
    let price = |row: &Json| text(row, 0).and_then(|text| text.parse::<Decimal>().ok());
    let first = price(rows.first()?)?;
    let (mut last_price, mut last_time, mut recorded) = (first.mantissa(), None, Vec::new());
    for row in rows {
        let size: Decimal = text(row, 1)?.parse().ok()?;
        let time = row.get(2)?.to_string();
        let price = price(row)?.mantissa();
        recorded.push(Recorded {
            moved: price - last_price,
            size: size.mantissa() * 10_i64.pow(u32::from(8 - size.scale().min(8))),
            buy: text(row, 3)? == "b",
            together: last_time.as_ref() == Some(&time),
        });
        (last_price, last_time) = (price, Some(time));
    }
    recorded[0].together = false;
    Some(Pair {
        symbol: format!("{}/{}", &name[1..4], &name[name.len() - 3..]).into(),
        price_scale: first.scale(),
        price: first.mantissa(),
        next_id: 40_000_000 + nth as u64 * 1_000_000,
        recorded,
        at: 0,
    })
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
