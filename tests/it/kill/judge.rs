//! The oracle of the kill test: what the venue sent, against what stands on the tape.
//!
//! It goes by order, not by time. For each symbol and channel it walks the items that were sent and
//! the records of the tape together:
//!
//! ```text
//!  sent   a b c d e f g …            over all connections, one after the other
//!  tape   a b c [gap opened] f g …   d and e may be missing: a gap is recorded between c and f
//! ```
//!
//! A record must be the next item that was sent, or one further on when a gap was open since the
//! record before it. So nothing is there that was not sent, nothing twice, nothing out of order, and
//! nothing is missing without a word. Trades are known by their ids as well, because a venue sends
//! its last trades again to whoever comes back: an id may be sent often and stand on the tape once.
//!
//! The word must be true. The venue's time of what is missing lies inside a gap of its place, `from` to `to`;
//! a gap begins no earlier than the newest record before it, and ends with an ack or a snapshot that was
//! sent, before anything of the new subscription is recorded; it opens once and closes once; a hole in trade
//! ids says how many there are; and what was sent before something that stands on the tape does not stay
//! behind it for ever ([`ledger`]).
//!
//! Beside that, what a reader was once shown must be there after every crash, unchanged and in its
//! place: that is what a durable record is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Event, GapState, Level, UnixNanos, wire};
use tapedeck_testkit::kraken::Sent;

use super::ledger::{Ledger, TOLERANCE};

/// An item in one spelling, whichever side it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) symbol: String,
    pub(super) channel: &'static str,
    pub(super) trade_id: Option<u64>,
    /// The venue's time.
    pub(super) at: UnixNanos,
    pub(super) text: String,
}

#[derive(Debug, Default)]
struct Key {
    /// Sent, and not yet met on the tape.
    pending: VecDeque<Told>,
    ledger: Ledger,
    last_trade_id: u64,
    /// A record of it stands on the tape.
    begun: bool,
}

/// What was found, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Records that are items of the venue.
    pub(super) items: u64,
    /// Items that were sent and lie in a gap.
    pub(super) in_gaps: u64,
    pub(super) gaps: u64,
}

#[derive(Debug, Default)]
pub(super) struct Judge {
    keys: HashMap<(String, String), Key>,
    /// Shown to a reader, and not yet read again.
    witnessed: BTreeMap<u64, u64>,
    /// Hash of each record, by seq from 1.
    hashes: Vec<u64>,
    /// The highest venue time of the items that stand on the tape.
    newest: Option<UnixNanos>,
    pub(super) found: Found,
}

impl Judge {
    /// The venue handed an item to a socket.
    pub(super) fn told(&mut self, told: Told) {
        let key = self.keys.entry((told.symbol.clone(), told.channel.to_owned())).or_default();
        key.pending.push_back(told);
    }

    /// As [`Judge::told`], of an entry of the venue's log.
    pub(super) fn told_by(&mut self, entry: &Sent) {
        if let Some(told) = sent(entry) {
            self.told(told);
        }
        // A book is whole from its snapshot on, everything else from its ack.
        let delivers = if entry.channel == "book" { "snapshot" } else { "ack" };
        if matches!(entry.channel, "book" | "trade" | "ticker") && entry.kind == delivers && entry.delivered.is_sent() {
            self.acked(&entry.symbol, entry.channel, UnixNanos(entry.ts_ns));
        }
    }

    /// A reader was shown a record while the deck ran.
    pub(super) fn witness(&mut self, seq: u64, hash: u64) {
        let judged = usize::try_from(seq).ok().and_then(|seq| self.hashes.get(seq.checked_sub(1)?));
        if judged != Some(&hash) {
            self.witnessed.insert(seq, hash);
        }
    }

    /// The seq of the next record to be read.
    pub(super) fn next_seq(&self) -> u64 {
        self.hashes.len() as u64 + 1
    }

    /// As [`Judge::told_by`], of an ack.
    pub(super) fn acked(&mut self, symbol: &str, channel: &str, at: UnixNanos) {
        self.keys.entry((symbol.to_owned(), channel.to_owned())).or_default().ledger.acked(at);
    }

    /// The id of the last trade on the tape; 0 for none.
    pub(super) fn last_trade_id(&self, symbol: &str) -> u64 {
        self.keys.get(&(symbol.to_owned(), "trade".to_owned())).map_or(0, |key| key.last_trade_id)
    }

    /// Subscriptions of which something stands on the tape.
    pub(super) fn begun(&self) -> usize {
        self.keys.values().filter(|key| key.begun).count()
    }

    /// Reads the next record of the tape.
    pub(super) fn record(&mut self, seq: u64, payload: &[u8]) -> Result<(), String> {
        if seq != self.next_seq() {
            return Err(format!("seq {seq} follows {}", self.hashes.len()));
        }
        let hash = hash_of(payload);
        if self.witnessed.remove(&seq).is_some_and(|seen| seen != hash) {
            return Err(format!("seq {seq} is not the record that a reader was shown before the crash"));
        }
        self.hashes.push(hash);
        let event = wire::decode(payload).map_err(|error| format!("seq {seq}: {error}"))?;
        if let Body::Gap(gap) = &event.body {
            self.found.gaps += u64::from(gap.state == GapState::Open);
            let key = (event.symbol.to_string(), gap.channel.to_string());
            // Of a channel that is not judged: its list and its own orders.
            let Some(key) = self.keys.get_mut(&key) else { return Ok(()) };
            let noted = key.ledger.note(seq, &event, gap, self.newest);
            return noted.map_err(|error| format!("seq {seq}: {} {}: {error}: {gap:?}", event.symbol, gap.channel));
        }
        match on_tape(&event) {
            Some(told) => self.meet(&told, event.ts_recv).map_err(|error| format!("seq {seq}: {error}")),
            None => Ok(()),
        }
    }

    /// The tape was read to its end after a crash: what a reader was shown must have been among it, and what a
    /// socket carried before something that stands there must not be missing.
    pub(super) fn end_of_tape(&self) -> Result<(), String> {
        if let (missing, Some((seq, _))) = (self.witnessed.len(), self.witnessed.first_key_value()) {
            return Err(format!("{missing} records that a reader was shown are gone, the first is seq {seq}"));
        }
        let Some(newest) = self.newest else { return Ok(()) };
        for ((symbol, channel), key) in self.keys.iter().filter(|(_, key)| key.begun) {
            let passed_over =
                |sent: &&Told| sent.at < newest - TOLERANCE && key.is_news(sent) && !key.ledger.excuses(sent.at);
            if let Some(sent) = key.pending.iter().find(passed_over) {
                return Err(format!("{symbol} {channel} of {} is missing behind {newest}: {}", sent.at, sent.text));
            }
        }
        Ok(())
    }

    /// Every subscription delivers again: no gap is open.
    pub(super) fn all_closed(&self) -> Result<(), String> {
        let open = self.keys.iter().find_map(|(key, state)| state.ledger.open_gap().map(|gap| (key, gap)));
        open.map_or(Ok(()), |((symbol, channel), gap)| Err(format!("{symbol} {channel}: never closed: {gap:?}")))
    }

    /// Whether something was recorded of each subscription behind its last gap.
    pub(super) fn all_flow(&self) -> bool {
        self.keys.values().all(|key| key.begun && key.ledger.flows())
    }

    /// The tape is read a second time from its beginning: it must be what it was.
    pub(super) fn is_unchanged(&self, seq: u64, payload: &[u8]) -> Result<(), String> {
        let known = usize::try_from(seq).ok().and_then(|seq| self.hashes.get(seq.checked_sub(1)?));
        match known {
            Some(&hash) if hash == hash_of(payload) => Ok(()),
            _ => Err(format!("seq {seq} changed after it was read")),
        }
    }

    fn meet(&mut self, told: &Told, ts_recv: UnixNanos) -> Result<(), String> {
        let Told { symbol, channel, trade_id, at: sent_at, text } = told;
        let name = format!("{symbol} {channel}");
        let Some(key) = self.keys.get_mut(&(symbol.clone(), (*channel).to_owned())) else {
            return Err(format!("{name} was never sent"));
        };
        if let Some(id) = *trade_id
            && id <= key.last_trade_id
        {
            return Err(format!("{name} {id} stands on the tape behind {}", key.last_trade_id));
        }
        let Some(at) = key.pending.iter().position(|sent| sent == told) else {
            return Err(format!("{name} was not sent, or not any more: {text}"));
        };
        let missing: Vec<Told> = {
            let before: Vec<Told> = key.pending.drain(..=at).take(at).collect();
            before.into_iter().filter(|sent| key.is_news(sent)).collect()
        };
        if let Some(first) = missing.iter().find(|sent| !key.ledger.excuses(sent.at)) {
            let (count, at, gaps) = (missing.len(), first.at, key.ledger.excuses_in_words());
            return Err(format!(
                "{count} of {name} are missing, and no gap says so, from {at} on, {gaps}, before {text}"
            ));
        }
        let ids_missing = trade_id.filter(|_| key.begun).map(|id| id - key.last_trade_id - 1);
        key.ledger.met(ts_recv, *sent_at, ids_missing).map_err(|error| format!("{name}: {error}, before {text}"))?;
        key.last_trade_id = trade_id.unwrap_or(key.last_trade_id);
        key.begun = true;
        self.newest = self.newest.max(Some(*sent_at));
        self.found.items += 1;
        self.found.in_gaps += missing.len() as u64;
        Ok(())
    }
}

impl Key {
    /// Trades that were sent again and stand on the tape already are not missing.
    fn is_news(&self, sent: &Told) -> bool {
        sent.trade_id.is_none_or(|id| id > self.last_trade_id)
    }
}

pub(super) fn hash_of(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[derive(Deserialize)]
struct TradeItem<'a> {
    side: &'a str,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
    trade_id: u64,
    timestamp: &'a str,
}

#[derive(Deserialize)]
struct BookItem<'a> {
    #[serde(borrow)]
    bids: Vec<LevelItem<'a>>,
    #[serde(borrow)]
    asks: Vec<LevelItem<'a>>,
    checksum: u32,
    timestamp: &'a str,
}

#[derive(Deserialize)]
struct LevelItem<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

/// An entry of the venue's log, if it is of a channel that is judged and went out.
fn sent(entry: &Sent) -> Option<Told> {
    const TICKER: [&str; 11] =
        ["bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct"];
    if !matches!(entry.kind, "snapshot" | "update") || !entry.delivered.is_sent() {
        return None;
    }
    let item = entry.item.get();
    let (timestamp, text) = match entry.channel {
        "trade" => {
            let trade: TradeItem<'_> = serde_json::from_str(item).expect("the fake writes its own shape");
            let TradeItem { side, price, qty, trade_id, timestamp } = trade;
            (timestamp.to_owned(), format!("{side} {price} {qty} {trade_id} {}", nanos(timestamp)))
        }
        "book" => {
            let book: BookItem<'_> = serde_json::from_str(item).expect("the fake writes its own shape");
            let side = |levels: &[LevelItem<'_>]| {
                levels.iter().map(|level| format!("{}x{}", level.price, level.qty)).collect::<Vec<_>>().join(" ")
            };
            let (bids, asks) = (side(&book.bids), side(&book.asks));
            let (snapshot, at) = (entry.kind == "snapshot", nanos(book.timestamp));
            (book.timestamp.to_owned(), format!("{snapshot} {bids} | {asks} | {} {at}", book.checksum))
        }
        "ticker" => {
            let fields: HashMap<&str, &RawValue> = serde_json::from_str(item).expect("the fake writes its own shape");
            let numbers = TICKER.map(|name| fields[name].get());
            let timestamp = fields["timestamp"].get().trim_matches('"');
            (timestamp.to_owned(), format!("{} {}", numbers.join(" "), nanos(timestamp)))
        }
        _ => return None,
    };
    let at: jiff::Timestamp = timestamp.parse().expect("the fake writes its own times");
    let at = UnixNanos(i64::try_from(at.as_nanosecond()).expect("the fake lives in our time"));
    Some(Told { symbol: entry.symbol.to_string(), channel: entry.channel, trade_id: entry.trade_id, at, text })
}

/// A record of the tape, if it is of a channel that is judged.
fn on_tape(event: &Event) -> Option<Told> {
    let at = event.ts_event.map(|at| at.to_string()).unwrap_or_default();
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".into());
    let (channel, trade_id, text) = match &event.body {
        Body::Trade(trade) => {
            let side = trade.side.map_or("-", |side| side.name());
            let id = trade.id.as_deref().unwrap_or("-");
            ("trade", id.parse().ok(), format!("{side} {} {} {id} {at}", trade.price, trade.size))
        }
        Body::Book(book) => {
            let side = |levels: &[Level]| {
                levels.iter().map(|level| format!("{}x{}", level.price, level.size)).collect::<Vec<_>>().join(" ")
            };
            let checksum = or_dash(book.checksum.map(|sum| sum.to_string()));
            let text = format!("{} {} | {} | {checksum} {at}", book.snapshot, side(&book.bids), side(&book.asks));
            ("book", None, text)
        }
        Body::Ticker(ticker) => {
            let price = |price: Option<tapedeck_market::Price>| or_dash(price.map(|price| price.to_string()));
            let size = |size: Option<tapedeck_market::Size>| or_dash(size.map(|size| size.to_string()));
            let decimal = |number: Option<tapedeck_market::Decimal>| or_dash(number.map(|number| number.to_string()));
            let numbers = [
                price(ticker.bid),
                size(ticker.bid_size),
                price(ticker.ask),
                size(ticker.ask_size),
                price(ticker.last),
                size(ticker.day.volume),
                price(ticker.day.vwap),
                price(ticker.day.low),
                price(ticker.day.high),
                decimal(ticker.change),
                decimal(ticker.change_pct),
            ];
            ("ticker", None, format!("{} {at}", numbers.join(" ")))
        }
        _ => return None,
    };
    Some(Told { symbol: event.symbol.to_string(), channel, trade_id, at: event.ts_event?, text })
}

/// The venue's microseconds with the three digits that the tape has more.
fn nanos(timestamp: &str) -> String {
    format!("{}000Z", timestamp.trim_end_matches('Z'))
}
