//! Instruments as the tape knows them: venue and symbol are the key, every other spelling leads there.
//!
//! Each `instrument` event says what was so from its receipt on, until another one of the same key says otherwise. So a
//! name has the meaning that it had at a moment, and what venues gave up or renamed is found under its time.

use std::collections::BTreeMap;

use tapedeck_market::{Body, Event, Instrument, SmolStr, UnixNanos};

use crate::config::suggest::nearest;
use crate::sources::kraken::names::{rest_key, split_base_term};

/// Venue and symbol.
pub type Key = (SmolStr, SmolStr);

/// What was so for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The source that said it.
    pub source: SmolStr,
    /// Receipt of the event; where the venue names a time, that.
    pub since: UnixNanos,
    /// Until when it was so; `None`: it is.
    pub until: Option<UnixNanos>,
    pub instrument: Instrument,
}

impl Entry {
    #[must_use]
    pub fn holds_at(&self, at: UnixNanos) -> bool {
        self.since <= at && self.until.is_none_or(|until| at < until)
    }
}

/// How a text led to an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    pub key: &'a Key,
    pub entry: &'a Entry,
    /// `symbol`, `rest`, `wsname`, `token` …
    pub by: SmolStr,
}

/// The instruments of a tape.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Entries of a key, oldest first.
    entries: BTreeMap<Key, Vec<Entry>>,
}

impl Registry {
    /// Takes one record; others than instruments are no matter. A record that a checkpoint repeats is no news.
    pub fn take(&mut self, event: &Event) {
        let Body::Instrument(instrument) = &event.body else { return };
        let since = instrument.valid_from.unwrap_or(event.ts_recv);
        let entries = self.entries.entry((event.venue.clone(), event.symbol.clone())).or_default();
        let is_news = entries.last().is_none_or(|last| last.instrument != **instrument && last.since <= since);
        if !is_news {
            return;
        }
        if let Some(last) = entries.last_mut() {
            last.until = Some(last.until.map_or(since, |until| until.min(since)));
        }
        entries.push(Entry {
            source: event.source.clone(),
            since,
            until: instrument.valid_to,
            instrument: (**instrument).clone(),
        });
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every instrument, by venue and symbol.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &[Entry])> {
        self.entries.iter().map(|(key, entries)| (key, entries.as_slice()))
    }

    /// Those that a text means at a moment: as `venue:symbol`, as a symbol, or in any other spelling; upper and lower
    /// case are one. Those whose symbol it is come first.
    #[must_use]
    pub fn resolve(&self, text: &str, at: UnixNanos) -> Vec<Found<'_>> {
        let mut found: Vec<Found<'_>> = Vec::new();
        for (key, entries) in &self.entries {
            let Some(entry) = entries.iter().rev().find(|entry| entry.holds_at(at)) else { continue };
            if let Some(by) = spelling(key, &entry.instrument, text) {
                found.push(Found { key, entry, by });
            }
        }
        found.sort_by_key(|found| found.by != "symbol");
        found
    }

    /// The spelling that is most like a text.
    #[must_use]
    pub fn nearest(&self, text: &str) -> Option<SmolStr> {
        let spellings = self.entries.iter().flat_map(|((_, symbol), entries)| {
            let aliases = entries.last().into_iter().flat_map(|entry| &entry.instrument.aliases);
            std::iter::once(symbol.as_str()).chain(aliases.map(|(_, alias)| alias.as_str()))
        });
        nearest(text, spellings).map(SmolStr::new)
    }
}

/// How an instrument is spelled so, if it is.
fn spelling((venue, symbol): &Key, instrument: &Instrument, text: &str) -> Option<SmolStr> {
    let is = |spelling: &str| spelling.eq_ignore_ascii_case(text);
    let qualified = text.split_once(':').filter(|(first, _)| first.eq_ignore_ascii_case(venue));
    let own = qualified.is_some_and(|(_, rest)| symbol.eq_ignore_ascii_case(rest));
    if is(symbol) || own {
        return Some(SmolStr::new_static("symbol"));
    }
    let text = qualified.map_or(text, |(_, rest)| rest);
    let is = |spelling: &str| spelling.eq_ignore_ascii_case(text);
    if let Some((scheme, _)) = instrument.aliases.iter().find(|(_, alias)| is(alias)) {
        return Some(scheme.clone());
    }
    // Kraken's older spellings, where the asset list was never read: by rule.
    let by_rule = venue == "kraken" && is(&rest_key(symbol));
    by_rule.then(|| SmolStr::new_static("rest"))
}

/// Base and term as the predecessors split a name, for their tags: `BTC/USD` of Kraken was `XXBTZUSD`, so `XBT` and `USD`.
#[must_use]
pub fn base_term((venue, symbol): &Key) -> Option<(SmolStr, SmolStr)> {
    let old = match venue.as_str() {
        "kraken" => rest_key(symbol),
        _ => SmolStr::from(symbol.replace(['_', '/'], "")),
    };
    split_base_term(&old).map(|(base, term)| (SmolStr::new(base), SmolStr::new(term)))
}

#[cfg(test)]
mod tests {
    use tapedeck_market::Flags;

    use super::*;

    fn event(venue: &str, symbol: &str, at: i64, aliases: &[(&str, &str)]) -> Event {
        let aliases = aliases.iter().map(|(scheme, text)| ((*scheme).into(), (*text).into())).collect();
        Event {
            source: "s".into(),
            venue: venue.into(),
            symbol: symbol.into(),
            ts_event: None,
            ts_recv: UnixNanos::from_secs(at),
            flags: Flags::NONE,
            origin: None,
            body: Body::Instrument(Box::new(Instrument { aliases, ..Instrument::default() })),
        }
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for event in [
            event("kraken", "BTC/USD", 10, &[("rest", "XXBTZUSD"), ("wsname", "XBT/USD")]),
            event("kraken", "BTC/USD", 11, &[("rest", "XXBTZUSD"), ("wsname", "XBT/USD")]),
            event("kraken", "ADA/USD", 10, &[]),
            event("oanda", "USD_JPY", 10, &[("display", "USD/JPY")]),
            event("kite", "NSE:INFY", 10, &[("token", "408065"), ("tradingsymbol", "INFY")]),
            event("binance", "BTC/USD", 10, &[]),
            event("kite", "NSE:INFY", 50, &[("token", "777"), ("tradingsymbol", "INFY")]),
        ] {
            registry.take(&event);
        }
        registry
    }

    fn found(text: &str, at: i64) -> Vec<String> {
        let registry = registry();
        let found = registry.resolve(text, UnixNanos::from_secs(at));
        found.iter().map(|found| format!("{}:{} by {}", found.key.0, found.key.1, found.by)).collect()
    }

    #[test]
    fn every_spelling_leads_to_the_instrument() {
        for (text, want) in [
            ("XBT/USD", vec!["kraken:BTC/USD by wsname"]),
            ("xxbtzusd", vec!["kraken:BTC/USD by rest"]),
            ("BTC/USD", vec!["binance:BTC/USD by symbol", "kraken:BTC/USD by symbol"]),
            ("kraken:BTC/USD", vec!["kraken:BTC/USD by symbol"]),
            ("kraken:XBT/USD", vec!["kraken:BTC/USD by wsname"]),
            ("ADAUSD", vec!["kraken:ADA/USD by rest"]),
            ("USD_JPY", vec!["oanda:USD_JPY by symbol"]),
            ("usd/jpy", vec!["oanda:USD_JPY by display"]),
            ("408065", vec!["kite:NSE:INFY by token"]),
            ("NSE:INFY", vec!["kite:NSE:INFY by symbol"]),
            ("kite:infy", vec!["kite:NSE:INFY by tradingsymbol"]),
            ("NOSUCH", vec![]),
        ] {
            assert_eq!(found(text, 20), want, "{text}");
        }
    }

    #[test]
    fn a_spelling_means_what_it_meant_at_the_time() {
        assert_eq!(found("408065", 49), ["kite:NSE:INFY by token"]);
        assert!(found("408065", 50).is_empty() && found("777", 49).is_empty());
        assert_eq!(found("777", 50), ["kite:NSE:INFY by token"]);
        assert!(found("BTC/USD", 9).is_empty(), "nobody had said anything");
        let registry = registry();
        let (_, entries) = registry.all().find(|(key, _)| key.1 == "BTC/USD" && key.0 == "kraken").expect("there");
        assert_eq!((entries.len(), entries[0].until), (1, None), "said again is no news");
    }

    #[test]
    fn base_and_term_are_those_of_the_predecessors_and_near_names_are_offered() {
        let split = |venue: &str, symbol: &str| base_term(&(venue.into(), symbol.into()));
        assert_eq!(split("kraken", "BTC/USD"), Some(("XBT".into(), "USD".into())));
        assert_eq!(split("oanda", "EUR_USD"), Some(("EUR".into(), "USD".into())));
        assert_eq!(split("kite", "X"), None);
        assert_eq!(registry().nearest("XBT/USDD").as_deref(), Some("XBT/USD"));
    }
}
