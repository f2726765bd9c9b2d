//! The newest ticks and the candles that an InfluxDB holds.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tapedeck_market::{Kind, SmolStr, UnixNanos};

use super::Influx;
use super::client::quoted;
use super::config::Version;
use super::policies::Found;
use crate::config::units::show_duration;
use crate::sinks::{Question, Table};
use crate::sources::kraken::names::modern;

const TICK: [&str; 9] =
    ["bid", "bid_size", "ask", "ask_size", "last_trade_price", "volume", "vwap", "seq", "ts_event_ns"];
const CANDLE: [&str; 9] = ["open", "high", "low", "close", "volume", "vwap", "trades", "flags", "revision"];
/// Candles that are asked for at once: a week of minutes.
const CANDLES_MAX: usize = 10_080;

impl Influx {
    pub(super) async fn answer(&self, question: &Question) -> anyhow::Result<Table> {
        ensure!(self.config.version != Version::V3, "3.x is asked with its own SQL");
        let found = self.found().await?;
        match question {
            Question::Latest { symbol } => {
                let from = self.place(Kind::QUOTE, &found, "/_tick$/");
                let of = symbol.as_deref().map(|symbol| format!(" WHERE {}", named(symbol))).unwrap_or_default();
                let statement = format!("SELECT * FROM {from}{of} GROUP BY * ORDER BY time DESC LIMIT 1");
                let mut table = self.rows(&statement, &TICK).await?;
                // The same instrument may have several series, by tags of its own.
                table.rows.sort_by(|a, b| a[1].as_str().cmp(&b[1].as_str()));
                Ok(table)
            }
            Question::Candles { symbol, interval, from: start, to } => {
                let from = self.place(Kind::CANDLE, &found, "candle");
                let mut wanted = format!("{} AND interval = {}", named(symbol), text(&show_duration(*interval)));
                for (sign, time) in [(">=", start), ("<", to)] {
                    if let Some(UnixNanos(time)) = time {
                        wanted += &format!(" AND time {sign} {time}");
                    }
                }
                let statement = format!(
                    "SELECT * FROM {from} WHERE {wanted} GROUP BY exchange, instrument ORDER BY time DESC LIMIT {CANDLES_MAX}"
                );
                let mut table = self.rows(&statement, &CANDLE).await?;
                table.rows.reverse();
                Ok(table)
            }
            Question::CandleCounts => {
                anyhow::bail!("an InfluxDB is not asked for numbers of candles: ask a PostgreSQL")
            }
        }
    }

    /// The name of the policy that such events go to.
    pub(super) fn route_name(&self, kind: Kind, found: &[Found]) -> Option<String> {
        let routes = super::policies::routes(self.config.retention_policy.as_deref(), &self.wanted, found);
        routes[super::policies::route_of(routes.iter(), kind)].policy.clone()
    }

    /// A measurement, where such events go.
    fn place(&self, kind: Kind, found: &[Found], measurement: &str) -> String {
        match self.route_name(kind, found) {
            Some(policy) => format!("{}.{}.{measurement}", quoted(&self.config.database), quoted(&policy)),
            None => measurement.to_owned(),
        }
    }

    async fn rows(&self, statement: &str, fields: &[&'static str]) -> anyhow::Result<Table> {
        let answer = self.client.query(statement).await?;
        let mut table = Table::new(&[&["exchange", "instrument", "time"], fields].concat());
        for one in answer["results"][0]["series"].as_array().into_iter().flatten() {
            let columns = one["columns"].as_array().context("the server's answer has no columns")?;
            let place = |name: &str| columns.iter().position(|column| column == name);
            let tags = &one["tags"];
            let instrument =
                ["pair", "instrument"].iter().find_map(|tag| tags[*tag].as_str().filter(|name| !name.is_empty()));
            for row in one["values"].as_array().into_iter().flatten() {
                let cell = |name: &str| place(name).map_or(Value::Null, |at| row[at].clone());
                let time = cell("time").as_i64().map_or(Value::Null, |time| UnixNanos(time).to_string().into());
                let head = [tags["exchange"].clone(), instrument.unwrap_or_default().into(), time];
                table.rows.push(head.into_iter().chain(fields.iter().map(|field| cell(field))).collect());
            }
        }
        Ok(table)
    }
}

/// An instrument under either of its tags; an old name stands for the present one, too.
fn named(symbol: &str) -> String {
    let present = modern(symbol).filter(|present| present != symbol);
    let names = [Some(SmolStr::new(symbol)), present];
    let either =
        names.iter().flatten().flat_map(|name| ["pair", "instrument"].map(|tag| format!("{tag} = {}", text(name))));
    format!("({})", either.collect::<Vec<_>>().join(" OR "))
}

/// A text in InfluxQL.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}
