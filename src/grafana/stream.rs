//! What can be recorded, a dashboard each: InfluxDB's measurement, which is the dashboard's uid, and the tables of SQL.

use tapedeck_market::Kind;

use crate::config::Config;

/// One measurement of one venue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// InfluxDB's measurement, and the dashboard's uid.
    pub name: &'static str,
    pub venue: &'static str,
    /// What its events are, for where an InfluxDB keeps them.
    pub kind: Kind,
    /// Tag of the instrument in InfluxDB.
    pub tag: &'static str,
    pub influx: Panels,
    /// Its table in SQL.
    pub table: &'static str,
    /// What tells its instruments apart there.
    pub of: &'static str,
    pub sql: Panels,
}

/// What is shown of a stream: two graphs, two newest values, and the newest rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    pub graphs: [Graph; 2],
    pub newest: [Field; 2],
    /// Columns of the newest rows, in SQL.
    pub columns: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Graph {
    pub title: &'static str,
    pub fields: &'static [Field],
}

/// A field of a measurement, or an expression over the columns of a table, in which `{count}` counts the elements of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub of: &'static str,
}

const fn field(name: &'static str) -> Field {
    Field { name, of: name }
}

const fn called(name: &'static str, of: &'static str) -> Field {
    Field { name, of }
}

const fn graph(title: &'static str, fields: &'static [Field]) -> Graph {
    Graph { title, fields }
}

const BID_ASK: Graph = graph("Bid and ask", &[field("bid"), field("ask")]);
const NEWEST_BID_ASK: [Field; 2] = [field("bid"), field("ask")];
const SIZES: Graph = graph("Sizes of bid and ask", &[field("bid_size"), field("ask_size")]);
const PRICE_SIZE: [Field; 2] = [field("price"), field("size")];

const TICKER: (Panels, Panels) = (
    Panels {
        graphs: [BID_ASK, graph("Last trade", &[field("last_trade_price"), field("vwap")])],
        newest: NEWEST_BID_ASK,
        columns: "",
    },
    Panels {
        graphs: [BID_ASK, graph("Last trade", &[called("last_trade_price", "last"), field("vwap")])],
        newest: NEWEST_BID_ASK,
        columns: "bid, bid_size, ask, ask_size, last, last_size, volume, vwap",
    },
);
/// Tickers with an average of the session in the place of a day's.
const SESSION: (Panels, Panels) = (
    Panels {
        graphs: [BID_ASK, graph("Last trade", &[field("last_trade_price"), field("avg_price")])],
        newest: NEWEST_BID_ASK,
        columns: "",
    },
    Panels {
        graphs: [BID_ASK, graph("Last trade", &[called("last_trade_price", "last"), field("avg_price")])],
        newest: NEWEST_BID_ASK,
        columns: "bid, bid_size, ask, ask_size, last, last_size, volume_today, avg_price, oi",
    },
);
const QUOTE: Panels =
    Panels { graphs: [BID_ASK, SIZES], newest: NEWEST_BID_ASK, columns: "bid, bid_size, ask, ask_size" };
const TRADE: Panels = Panels {
    graphs: [graph("Price", &[field("price")]), graph("Size", &[field("size")])],
    newest: PRICE_SIZE,
    columns: "price, size, side, id",
};
const DEPTH: (Panels, Panels) = (
    Panels {
        graphs: [
            graph("Price of each level", &[field("bid_price"), field("ask_price")]),
            graph("Size on each level", &[field("bid_size"), field("ask_size")]),
        ],
        newest: [field("bid_price"), field("ask_price")],
        columns: "",
    },
    // The table has changes, not states: how much moves is what it can tell.
    Panels {
        graphs: [
            graph("Levels changed by an update", &[called("bids", "{count}(bids)"), called("asks", "{count}(asks)")]),
            graph("Levels a side, as subscribed", &[field("depth")]),
        ],
        newest: [called("bids", "{count}(bids)"), called("asks", "{count}(asks)")],
        columns: "snapshot, {count}(bids) AS bids, {count}(asks) AS asks, checksum, depth",
    },
);
const ORDERS: (Panels, Panels) = (
    Panels {
        graphs: [
            graph("Price of orders and fills", &[field("price"), field("fill_price")]),
            graph("Amount", &[field("amount"), field("filled")]),
        ],
        newest: [field("price"), field("amount")],
        columns: "",
    },
    Panels {
        graphs: [
            graph("Price of orders and fills", &[field("price"), field("fill_price")]),
            graph("Amount", &[called("amount", "size"), field("filled")]),
        ],
        newest: [field("price"), called("amount", "size")],
        columns: "action, id, side, order_type, status, price, size, filled, fill_price, fill_size, reason",
    },
);
const ODDS: (Panels, Panels) = (
    Panels {
        graphs: [
            graph("Back and lay", &[field("back_price"), field("lay_price")]),
            graph("Matched", &[field("matched_amount")]),
        ],
        newest: [field("back_price"), field("matched_amount")],
        columns: "",
    },
    Panels {
        graphs: [
            graph("Last traded price", &[field("last")]),
            graph("Matched", &[called("matched_amount", "volume"), called("market_matched", "market_volume")]),
        ],
        newest: [field("last"), called("matched_amount", "volume")],
        columns: "selection, handicap, image, last, volume, market_volume, conflated",
    },
);
const POSTS: (Panels, Panels) = (
    Panels {
        graphs: [graph("Sentiment", &[field("sentiment_score")]), graph("Length of the text", &[field("text_length")])],
        newest: [field("sentiment_score"), field("text_length")],
        columns: "",
    },
    Panels {
        graphs: [
            graph("Sentiment", &[called("sentiment_score", "compound")]),
            graph("Length of the text", &[called("text_length", "char_length(text)")]),
        ],
        newest: [called("sentiment_score", "compound"), called("text_length", "char_length(text)")],
        columns: "author, text, lang, compound, topics",
    },
);

const SYNTHETIC: (Panels, Panels) = {
    let panels = Panels {
        graphs: [
            graph("Spread", &[field("spread")]),
            graph("Spread against the quote before", &[field("spread_bid"), field("spread_ask")]),
        ],
        newest: [field("spread"), field("spread_bid")],
        columns: "spread, spread_bid, spread_ask, legs",
    };
    (panels, panels)
};

/// The tables that have a name in them for what a row is of.
const SYMBOL: &str = "symbol";

const fn stream(
    (name, venue): (&'static str, &'static str),
    kind: Kind,
    tag: &'static str,
    table: &'static str,
    (influx, sql): (Panels, Panels),
) -> Stream {
    Stream { name, venue, kind, tag, influx, table, of: SYMBOL, sql }
}

/// All of them; the predecessors had the first six, under these names.
const STREAMS: [Stream; 16] = [
    stream(("kraken_tick", "kraken"), Kind::TICKER, "pair", "tickers", TICKER),
    stream(("kraken_depth", "kraken"), Kind::BOOK, "pair", "books", DEPTH),
    stream(("kraken_orders", "kraken"), Kind::ORDER, "pair", "orders", ORDERS),
    stream(("oanda_tick", "oanda"), Kind::QUOTE, "instrument", "quotes", (QUOTE, QUOTE)),
    stream(("betfair_stream", "betfair"), Kind::ODDS, "market_id", "odds", ODDS),
    Stream { of: "coalesce(author, '')", ..stream(("twitter_sentiment", "x"), Kind::POST, "author", "posts", POSTS) },
    stream(("kraken_trade", "kraken"), Kind::TRADE, "instrument", "trades", (TRADE, TRADE)),
    stream(("oanda_orders", "oanda"), Kind::ORDER, "instrument", "orders", ORDERS),
    stream(("betfair_orders", "betfair"), Kind::ORDER, "instrument", "orders", ORDERS),
    stream(("kite_tick", "kite"), Kind::TICKER, "instrument", "tickers", SESSION),
    stream(("kite_depth", "kite"), Kind::BOOK, "instrument", "books", DEPTH),
    stream(("kite_orders", "kite"), Kind::ORDER, "instrument", "orders", ORDERS),
    stream(("binance_tick", "binance"), Kind::QUOTE, "instrument", "quotes", (QUOTE, QUOTE)),
    stream(("binance_trade", "binance"), Kind::TRADE, "instrument", "trades", (TRADE, TRADE)),
    stream(("binance_depth", "binance"), Kind::BOOK, "instrument", "books", DEPTH),
    stream(("synthetic", ""), Kind::SYNTHETIC, "instrument", "synthetics", SYNTHETIC),
];

/// The stream of that name.
pub(super) fn named(name: &str) -> Option<&'static Stream> {
    STREAMS.iter().find(|stream| stream.name == name)
}

/// For somebody who has misspelt one.
pub(super) fn all_names() -> String {
    format!("there are: {}", STREAMS.map(|stream| stream.name).join(", "))
}

/// Those of the sources of a config, and of what is derived from them.
pub(super) fn of(config: &Config) -> Vec<&'static Stream> {
    let recorded = |stream: &&Stream| match stream.name {
        "synthetic" => config.synthetic.is_some(),
        _ => config.sources.iter().any(|source| source.kind == stream.venue),
    };
    STREAMS.iter().filter(recorded).collect()
}
