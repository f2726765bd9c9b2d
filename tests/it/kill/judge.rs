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
//! Beside that, what a reader was once shown must be there after every crash, unchanged and in its
//! place: that is what a durable record is.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Event, GapState, Level, wire};
use tapedeck_testkit::kraken::Sent;

/// An item in one spelling, whichever side it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) symbol: String,
    pub(super) channel: &'static str,
    pub(super) trade_id: Option<u64>,
    pub(super) text: String,
}

#[derive(Debug, Default)]
struct Key {
    /// Sent, and not yet met on the tape.
    pending: VecDeque<Told>,
    open_gaps: HashSet<u64>,
    /// A gap was open since the last record.
    excused: bool,
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
    }

    /// A reader was shown a record while the deck ran.
    pub(super) fn witness(&mut self, seq: u64, hash: u64) {
        self.witnessed.insert(seq, hash);
    }

    /// The seq of the next record to be read.
    pub(super) fn next_seq(&self) -> u64 {
        self.hashes.len() as u64 + 1
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
            self.note_gap(&event.symbol, &gap.channel, gap.id, gap.state);
            return Ok(());
        }
        match on_tape(&event) {
            Some(told) => self.meet(&told).map_err(|error| format!("seq {seq}: {error}")),
            None => Ok(()),
        }
    }

    /// The tape was read to its end after a crash: what a reader was shown must have been among it.
    pub(super) fn end_of_tape(&self) -> Result<(), String> {
        match (self.witnessed.len(), self.witnessed.first_key_value()) {
            (missing, Some((seq, _))) => {
                Err(format!("{missing} records that a reader was shown are gone, the first is seq {seq}"))
            }
            _ => Ok(()),
        }
    }

    /// The tape is read a second time from its beginning: it must be what it was.
    pub(super) fn is_unchanged(&self, seq: u64, payload: &[u8]) -> Result<(), String> {
        let known = usize::try_from(seq).ok().and_then(|seq| self.hashes.get(seq.checked_sub(1)?));
        match known {
            Some(&hash) if hash == hash_of(payload) => Ok(()),
            _ => Err(format!("seq {seq} changed after it was read")),
        }
    }

    fn note_gap(&mut self, symbol: &str, channel: &str, id: u64, state: GapState) {
        self.found.gaps += u64::from(state == GapState::Open);
        for ((of_symbol, of_channel), key) in &mut self.keys {
            let concerns = (symbol.is_empty() || symbol == of_symbol) && (channel.is_empty() || channel == of_channel);
            if concerns && state == GapState::Open {
                key.open_gaps.insert(id);
                key.excused = true;
            } else if concerns {
                key.open_gaps.remove(&id);
            }
        }
    }

    fn meet(&mut self, told: &Told) -> Result<(), String> {
        let Told { symbol, channel, trade_id, text } = told;
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
        // Trades that were sent again and stand on the tape already are not missing.
        let last_id = key.last_trade_id;
        let missing =
            key.pending.drain(..=at).take(at).filter(|sent| sent.trade_id.is_none_or(|id| id > last_id)).count();
        if missing > 0 && !key.excused {
            return Err(format!("{missing} of {name} are missing, and no gap says so, before {text}"));
        }
        key.excused = !key.open_gaps.is_empty();
        key.last_trade_id = trade_id.unwrap_or(key.last_trade_id);
        key.begun = true;
        self.found.items += 1;
        self.found.in_gaps += missing as u64;
        Ok(())
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
    let text = match entry.channel {
        "trade" => {
            let trade: TradeItem<'_> = serde_json::from_str(item).expect("the fake writes its own shape");
            format!("{} {} {} {} {}", trade.side, trade.price, trade.qty, trade.trade_id, nanos(trade.timestamp))
        }
        "book" => {
            let book: BookItem<'_> = serde_json::from_str(item).expect("the fake writes its own shape");
            let side = |levels: &[LevelItem<'_>]| {
                levels.iter().map(|level| format!("{}x{}", level.price, level.qty)).collect::<Vec<_>>().join(" ")
            };
            let (bids, asks) = (side(&book.bids), side(&book.asks));
            format!("{} {bids} | {asks} | {} {}", entry.kind == "snapshot", book.checksum, nanos(book.timestamp))
        }
        "ticker" => {
            let fields: HashMap<&str, &RawValue> = serde_json::from_str(item).expect("the fake writes its own shape");
            let numbers = TICKER.map(|name| fields[name].get());
            format!("{} {}", numbers.join(" "), nanos(fields["timestamp"].get().trim_matches('"')))
        }
        _ => return None,
    };
    Some(Told { symbol: entry.symbol.to_string(), channel: entry.channel, trade_id: entry.trade_id, text })
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
    Some(Told { symbol: event.symbol.to_string(), channel, trade_id, text })
}

/// The venue's microseconds with the three digits that the tape has more.
fn nanos(timestamp: &str) -> String {
    format!("{}000Z", timestamp.trim_end_matches('Z'))
}
