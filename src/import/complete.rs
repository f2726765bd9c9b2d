//! What no file says and a config needs: what to subscribe, where rows come from, what belongs to what was said.

use toml::Value;

use super::draft::Draft;
use crate::sync::presets::Preset;

pub(super) fn complete(draft: &mut Draft) {
    sources(draft);
    if draft.has("source.kite") && !draft.has("source.kraken") && draft.has("candles") {
        let why = "Candles of the exchange's session: the old service cut them by the host's clock.";
        draft.default("candles", "anchor", "09:15-15:30 Asia/Kolkata Mon-Fri", why);
    }
    if draft.has("sink.postgres") && draft.has("source.kite") {
        let why = "Candles go to the tables of Trading-V2, too: merged_candles_5min, and one for each other interval.";
        draft.default("sink.postgres", "merged_candles", list(&["kite"]), why);
    }
    if draft.has("sink.postgres") && draft.get("sink.postgres", "dsn").is_none() && !draft.keeps("sink.postgres", "dsn")
    {
        let why = "Switched on by PG_CONN_STR in the environment or in `.env`: set it, and take the `#`s away.";
        draft.switch_off("sink.postgres", why);
    }
    if draft.has("heartbeat") && draft.get("heartbeat", "broker").is_some() {
        let why = "The old service's topic and payload, beside ours.";
        draft.default("heartbeat", "legacy_topic", "heartbeat/data_feed", why);
    }
    if draft.has("sync") {
        sync(draft);
    }
    draft.default(
        "tape",
        "dir",
        "./tape",
        "Everything that arrives is written here first; stores and bus are fed from it.",
    );
}

/// Every source knows what to subscribe, and there is one.
fn sources(draft: &mut Draft) {
    let recorded = draft.any_below("source");
    if !recorded && !draft.has("sync") {
        if draft.has("sink.influx") && !draft.has("bus") {
            draft.source("zmq");
            draft.comment(
                "source.zmq",
                "The publishers that the bridges listened to; what they sent is read in all its forms.",
            );
            let addresses = ["tcp://127.0.0.1:5558", "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5556"];
            draft.default("source.zmq", "connect", list(&addresses), "");
            draft.default("source.zmq", "topics", list(&["kraken_tick", "kr_depth", "oanda_tick"]), "");
        } else {
            draft.source("kraken");
        }
    }
    let here = |draft: &Draft, kind: &str| draft.has(&format!("source.{kind}"));
    if here(draft, "kraken") {
        let why = "The old files name no pairs: these are a beginning, [\"*\"] is every pair (then name `channels` for books).";
        draft.default("source.kraken", "pairs", list(&["BTC/USD", "ETH/USD", "BTC/EUR", "ETH/EUR", "EUR/USD"]), why);
    }
    if here(draft, "oanda") {
        let why = "The old files name no instruments: [\"*\"] is every one of the account.";
        draft.default("source.oanda", "instruments", list(&["EUR_USD", "GBP_USD", "USD_JPY"]), why);
    }
    if here(draft, "betfair") {
        draft.default(
            "source.betfair",
            "event_types",
            list(&["7"]),
            "Horse racing; `tapedeck kinds betfair` lists the other filters.",
        );
    }
    if here(draft, "x") {
        let why = "What to follow: the rules that the account has at the venue. Name yours here and leave `sync` out.";
        draft.default("source.x", "rules", Value::Array(Vec::new()), why);
        draft.default("source.x", "sync", "off", "");
    }
    if here(draft, "binance") {
        draft.default("source.binance", "symbols", list(&["BTCUSDT", "ETHUSDT"]), "");
    }
    if here(draft, "kite") && draft.get("source.kite", "instruments_file").is_none() {
        let why =
            "The old service took its symbols from the command line or a file: name yours here, or `instruments_file`.";
        draft.default("source.kite", "instruments", list(&["NSE:RELIANCE", "NSE:INFY", "NSE:TCS"]), why);
    }
}

fn sync(draft: &mut Draft) {
    draft.default("sync.target", "url", "http://127.0.0.1:8090", "");
    for preset in Preset::ALL {
        let path = format!("sync.table.{}", preset.table());
        draft.default(&path, "preset", preset.table(), "");
    }
    // An address without its password is refused, and the password is not here.
    if draft.get("sync.target", "email").is_some() && !draft.keeps("sync.target", "password") {
        draft.hold("sync.target", "email", "Goes with the password: take the `#` away once that is there.");
    }
}

fn list(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| Value::from(*item)).collect())
}
