//! The same quotes the slow way: for each record everything that was ever told is looked through again, from the end.

use std::collections::BTreeMap;

use tapedeck::config::Synthetic;
use tapedeck_market::{
    Body, Event, Flags, GapState, Leg, Level, Price, Size, SmolStr, Synthetic as Quotes, UnixNanos, is_absurd,
};

/// 10^-10: the prices of the tests have no finer digits.
const UNIT: i128 = 10_000_000_000;

#[derive(Clone, Debug)]
enum Told {
    Price {
        source: SmolStr,
        symbol: SmolStr,
        time: i64,
        bid: Level,
        ask: Level,
    },
    /// From here on what that source said of the symbol, or of all if it is empty, counts no more.
    Lost {
        source: SmolStr,
        symbol: SmolStr,
    },
    Quote {
        time: i64,
        leg: Leg,
        sources: [SmolStr; 2],
    },
}

#[derive(Debug, Default)]
pub(super) struct Naive {
    /// Of tickers, of books.
    told: [Vec<Told>; 2],
    books: BTreeMap<(SmolStr, SmolStr), Levels>,
}

/// Bids and asks, and how many of each are known.
#[derive(Debug, Default)]
struct Levels {
    sides: [BTreeMap<Price, Size>; 2],
    depth: Option<u32>,
}

fn coin(symbol: &str) -> &str {
    symbol.split('/').next().unwrap()
}

fn is_of_pairs(symbol: &str) -> bool {
    (symbol.ends_with("/USD") || symbol.ends_with("/EUR")) && !["USD", "EUR"].contains(&coin(symbol))
}

fn units(price: Price) -> i128 {
    let text = price.0.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{fraction:0<10}").parse().unwrap()
}

/// Nearest hundred-thousandth, ties to even.
fn five(dividend: i128, divisor: i128) -> Price {
    let above = dividend * 200_000;
    let (mut whole, odd) = ((above / divisor + 1) / 2, (above / divisor + 1) % 2 == 0 && above % divisor == 0);
    if odd && whole % 2 == 1 {
        whole -= 1;
    }
    format!("{}.{:05}", whole / 100_000, whole % 100_000).parse().unwrap()
}

fn minus(more: Option<Price>, less: Option<Price>) -> Option<Price> {
    let off = (units(more.unwrap()) - units(less.unwrap())) / (UNIT / 100_000);
    let sign = if off < 0 { "-" } else { "" };
    Some(format!("{sign}{}.{:05}", off.abs() / 100_000, off.abs() % 100_000).parse().unwrap())
}

impl Naive {
    /// The quotes that a record makes: of all, whatever the spreads, as (symbol, time, body).
    pub(super) fn record(&mut self, event: &Event, table: &Synthetic) -> Option<(&'static str, i64, Quotes)> {
        if event.flags.contains(Flags::DERIVED) {
            return None;
        }
        let lost = Told::Lost { source: event.source.clone(), symbol: event.symbol.clone() };
        let channel = match &event.body {
            Body::Gap(gap) if gap.state == GapState::Open => Some(gap.channel.as_str()),
            Body::Status(status) if status.topic == "subscription" && status.state == "ended" => {
                Some(status.detail[0].1.as_str())
            }
            _ => None,
        };
        if let Some(channel) = channel {
            if ["", "ticker"].contains(&channel) {
                self.told[0].push(lost.clone());
            }
            if ["", "book"].contains(&channel) {
                self.told[1].push(lost);
                let whole = event.symbol.is_empty();
                self.books.retain(|key, _| key.0 != event.source || !(whole || key.1 == event.symbol));
            }
            return None;
        }
        if event.venue != "kraken" || event.flags.contains(Flags::BACKFILLED) || !is_of_pairs(&event.symbol) {
            return None;
        }
        let of = |price: Price| Level { price, size: Size::default(), orders: None };
        let (which, best) = match &event.body {
            Body::Quote(quote) => (0, quote.bid.zip(quote.ask).map(|(bid, ask)| (of(bid), of(ask)))),
            Body::Ticker(ticker) if ticker.bid.is_none() && ticker.ask.is_none() => return None,
            Body::Ticker(ticker) => (0, ticker.bid.zip(ticker.ask).map(|(bid, ask)| (of(bid), of(ask)))),
            Body::Book(update) => {
                let key = (event.source.clone(), event.symbol.clone());
                if update.snapshot {
                    self.books.insert(key.clone(), Levels { depth: update.depth, ..Levels::default() });
                }
                let Levels { sides, depth } = self.books.get_mut(&key)?;
                for (side, levels) in sides.iter_mut().zip([&update.bids, &update.asks]) {
                    for level in levels {
                        if level.size.0.is_zero() {
                            side.remove(&level.price);
                        } else {
                            side.insert(level.price, level.size);
                        }
                    }
                }
                while depth.is_some_and(|depth| sides[0].len() > depth as usize) {
                    sides[0].pop_first();
                }
                while depth.is_some_and(|depth| sides[1].len() > depth as usize) {
                    sides[1].pop_last();
                }
                let level = |(price, size): (&Price, &Size)| Level { price: *price, size: *size, orders: None };
                (1, sides[0].last_key_value().map(level).zip(sides[1].first_key_value().map(level)))
            }
            _ => return None,
        };
        let wanted = table.symbols.fit(&event.symbol) && table.sources.fit(&event.source);
        if !wanted {
            return None;
        }
        let told = &mut self.told[which];
        let Some((bid, ask)) = best else {
            told.push(lost);
            return None;
        };
        let time = event.ts_event.filter(|told| !is_absurd(*told, event.ts_recv)).unwrap_or(event.ts_recv).0;
        let (source, symbol) = (event.source.clone(), event.symbol.clone());
        told.push(Told::Price { source, symbol, time, bid, ask });
        let body = quote(told, &event.symbol, time, which == 1, table)?;
        Some((if which == 0 { "KR_EURUSD" } else { "KR_EURUSD_DEPTH" }, time, body))
    }
}

/// The newest price of a pair that still counts.
fn latest<'a>(told: &'a [Told], wanted: &str) -> Option<(&'a SmolStr, i64, &'a Level, &'a Level)> {
    let mut lost = Vec::new();
    for told in told.iter().rev() {
        match told {
            Told::Lost { source, symbol } if symbol.is_empty() || symbol == wanted => lost.push(source),
            Told::Price { source, symbol, time, bid, ask } if symbol == wanted => {
                return (!lost.contains(&source)).then_some((source, *time, bid, ask));
            }
            _ => {}
        }
    }
    None
}

/// The newest quote, of a coin or of any, unless a pair that it went through was lost since.
fn newest(told: &[Told], of: Option<&str>) -> Option<(i64, Leg)> {
    let at = told
        .iter()
        .rposition(|told| matches!(told, Told::Quote { leg, .. } if of.is_none_or(|of| coin(&leg.instrument) == of)))?;
    let Told::Quote { time, leg, sources } = &told[at] else { return None };
    let through = coin(&leg.instrument);
    let is_lost = told[at..].iter().any(|told| match told {
        Told::Lost { source, symbol } => ["USD", "EUR"]
            .iter()
            .zip(sources)
            .any(|(quote, of)| of == source && (symbol.is_empty() || *symbol == format!("{through}/{quote}"))),
        _ => false,
    });
    (!is_lost).then(|| (*time, leg.clone()))
}

fn quote(told: &mut Vec<Told>, symbol: &SmolStr, time: i64, deep: bool, table: &Synthetic) -> Option<Quotes> {
    let together = |a: i64, b: i64| u128::from(a.abs_diff(b)) <= table.max_age.0.as_nanos();
    let coin = coin(symbol);
    let usd = latest(told, &format!("{coin}/USD"))?;
    let eur = latest(told, &format!("{coin}/EUR"))?;
    if !together(usd.1, eur.1) {
        return None;
    }
    let [usd_bid, usd_ask, eur_bid, eur_ask] = [usd.2, usd.3, eur.2, eur.3].map(|level| units(level.price));
    let inside = |above: i128, below: i128| {
        let (min, max) = (units(table.min.parse().unwrap()), units(table.max.parse().unwrap()));
        above * UNIT >= min * below && above * UNIT <= max * below
    };
    if [usd_bid, usd_ask, eur_bid, eur_ask].iter().any(|price| *price <= 0)
        || !inside(usd_bid, eur_ask)
        || !inside(usd_ask, eur_bid)
    {
        return None;
    }
    let own = if symbol.ends_with("USD") { usd } else { eur };
    let mut leg = Leg {
        instrument: symbol.clone(),
        bid: Some(five(usd_bid, eur_ask)),
        ask: Some(five(usd_ask, eur_bid)),
        ..Leg::default()
    };
    if deep {
        (leg.leg_bid, leg.leg_bid_size) = (Some(own.2.price), Some(own.2.size));
        (leg.leg_ask, leg.leg_ask_size) = (Some(own.3.price), Some(own.3.size));
    }
    let last = newest(told, Some(coin)).filter(|(then, _)| together(*then, time));
    let same = last
        .is_some_and(|(_, last)| (last.bid, last.ask) == (leg.bid, leg.ask) && (!deep || unmoved(told, symbol, coin)));
    if same {
        return None;
    }
    let sources = [usd.0.clone(), eur.0.clone()];
    let before = newest(told, None).filter(|(then, _)| together(*then, time));
    told.push(Told::Quote { time, leg: leg.clone(), sources });
    let (_, t0) = before?;
    let spreads = [minus(leg.ask, leg.bid), minus(t0.ask, leg.bid), minus(leg.ask, t0.bid)];
    let [spread, spread_bid, spread_ask] = spreads;
    Some(Quotes { legs: vec![t0, leg], spread, spread_bid, spread_ask })
}

/// Whether the pair's best levels are those that it had when the coin's last quote was made.
fn unmoved(told: &[Told], wanted: &SmolStr, of: &str) -> bool {
    let quoted =
        told.iter().rposition(|told| matches!(told, Told::Quote { leg, .. } if coin(&leg.instrument) == of)).unwrap();
    let price = |told: &[Told]| {
        told.iter().rev().find_map(|told| match told {
            Told::Price { symbol, bid, ask, .. } if symbol == wanted => Some((*bid, *ask)),
            _ => None,
        })
    };
    price(&told[..quoted]) == price(told)
}

/// What is said of these events.
pub(super) fn all<'a>(events: impl IntoIterator<Item = &'a Event>, table: &Synthetic) -> Vec<Event> {
    let mut naive = Naive::default();
    let mut all = Vec::new();
    for event in events {
        let Some((symbol, time, body)) = naive.record(event, table) else { continue };
        let below_zero = [body.spread, body.spread_bid, body.spread_ask]
            .iter()
            .any(|spread| spread.is_some_and(|spread| spread.0.to_string().starts_with('-') && !spread.0.is_zero()));
        let wanted = match table.depth {
            tapedeck::config::When::Never => symbol == "KR_EURUSD",
            tapedeck::config::When::Always => true,
            tapedeck::config::When::Spread => symbol == "KR_EURUSD" || below_zero,
        };
        if wanted {
            all.push(Event {
                source: "synthetic".into(),
                venue: "kraken".into(),
                symbol: symbol.into(),
                ts_event: Some(UnixNanos(time)),
                ts_recv: UnixNanos::EPOCH,
                flags: Flags::DERIVED,
                origin: None,
                body: Body::Synthetic(Box::new(body)),
            });
        }
    }
    all
}
