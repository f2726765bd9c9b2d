//! The numbers of an event that are added up for a store whose tables are those of `tapedeck-tables`.

use tapedeck_market::Body;
use tapedeck_tables::Table;

/// Their columns.
#[must_use]
pub fn columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Trades => &["price", "size"],
        Table::Quotes => &["bid", "ask"],
        Table::Tickers => &["bid", "ask", "last"],
        Table::Candles => &["close", "volume"],
        _ => &[],
    }
}

/// Their values, in the order of [`columns`].
#[must_use]
pub fn values(body: &Body) -> Vec<Option<f64>> {
    match body {
        Body::Trade(it) => vec![Some(it.price.0.to_f64()), Some(it.size.0.to_f64())],
        Body::Quote(it) => [it.bid, it.ask].map(|price| price.map(|price| price.0.to_f64())).to_vec(),
        Body::Ticker(it) => [it.bid, it.ask, it.last].map(|price| price.map(|price| price.0.to_f64())).to_vec(),
        Body::Candle(it) => {
            let volume = it.volume.map(|volume| volume.to_string().parse().unwrap_or(f64::NAN));
            vec![Some(it.close.0.to_f64()), volume]
        }
        _ => Vec::new(),
    }
}
