//! What a PostgreSQL is asked: its databases, the candles in it, the records, symbols.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use tapedeck_market::{Candle, Record, SmolStr, UnixNanos, Uuid};
use tapedeck_tables::Table;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error};

use super::config::Config;
use super::copy::EPOCH_US;
use super::dsn::Target;
use super::{candle_of, failure, layout, read, session};
use crate::config::KindTable;
use crate::config::units::show_duration;
use crate::sinks::{Question, Table as Answer};
use crate::sources::kraken::names::modern;

/// A list of symbols that takes longer is none to begin a session with.
const SYMBOLS_LIMIT: Duration = Duration::from_secs(30);

/// A connection that only asks.
#[derive(Debug)]
pub struct Store {
    client: Client,
    _driver: JoinSet<()>,
    schema: String,
}

/// How many candles there are of an instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandleCount {
    pub venue: String,
    pub symbol: String,
    pub interval_ns: i64,
    pub input: String,
    pub candles: i64,
    /// Start of the first and of the last.
    pub first: UnixNanos,
    pub last: UnixNanos,
}

impl Store {
    /// Connects to the store of a `postgres` sink.
    ///
    /// # Errors
    /// It is another kind of sink, its table is wrong, or the server is away or refuses us.
    pub async fn of(table: &KindTable) -> anyhow::Result<Store> {
        anyhow::ensure!(table.kind == super::KIND.name, "[sink.{}] is no PostgreSQL", table.name);
        let (_, own) = crate::sinks::plan_of(table)?;
        let (config, target) = Config::from_table(own)?;
        super::hide_password(&target);
        Store::connect(&config, &target, &table.name).await
    }

    pub(super) async fn connect(config: &Config, target: &Target, name: &str) -> anyhow::Result<Store> {
        let connecting = session::connect(target, name);
        let (client, driver) = super::in_time(config.timeout.0, connecting)
            .await
            .and_then(|connected| connected)
            .map_err(|error| anyhow!("{error}"))?;
        Ok(Store { client, _driver: driver, schema: config.schema.clone() })
    }

    /// Which server answers, and as whom we are known to it.
    pub(super) async fn hello(&self) -> anyhow::Result<String> {
        let sql = "SELECT current_setting('server_version'), current_user::text, current_database()::text";
        let row = self.client.query_one(sql, &[]).await.map_err(told)?;
        let (version, user, database): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        Ok(format!("PostgreSQL {version} answers to `{user}` in database `{database}`"))
    }

    /// The databases that we may enter.
    pub(super) async fn databases(&self) -> anyhow::Result<Vec<String>> {
        let sql = "SELECT datname::text FROM pg_database WHERE datallowconn AND has_database_privilege(oid, 'CONNECT') ORDER BY 1";
        Ok(self.client.query(sql, &[]).await.map_err(told)?.iter().map(|row| row.get(0)).collect())
    }

    /// The last word on each candle of a symbol, newest first, `limit` at most, as (venue, candle).
    ///
    /// # Errors
    /// The server does not answer, or has no such table.
    pub async fn candles(
        &self,
        symbol: &str,
        interval_ns: i64,
        from: Option<UnixNanos>,
        to: Option<UnixNanos>,
        limit: i64,
    ) -> anyhow::Result<Vec<(SmolStr, Candle)>> {
        let (columns, name) = (layout::names(Table::Candles), layout::full(&self.schema, Table::Candles.name()));
        let sql = format!(
            "SELECT {columns} FROM {name} WHERE symbol = $1 AND interval_ns = $2 \
             AND ($3::bigint IS NULL OR start >= {}) AND ($4::bigint IS NULL OR start < {}) ORDER BY start DESC LIMIT $5",
            instant("$3"),
            instant("$4"),
        );
        let (from, to) = (from.map(up_to_us), to.map(up_to_us));
        let rows = self.client.query(&sql, &[&symbol, &interval_ns, &from, &to, &limit]).await.map_err(told)?;
        let candle = |record: &Record| Some((record.event.venue.clone(), candle_of(record)?.clone()));
        Ok(rows
            .iter()
            .filter_map(|row| read::record(Table::Candles, row))
            .filter_map(|(_, record)| candle(&record))
            .collect())
    }

    /// How many candles there are, by instrument, interval and input.
    ///
    /// # Errors
    /// As of [`Store::candles`].
    pub async fn candle_counts(&self) -> anyhow::Result<Vec<CandleCount>> {
        let name = layout::full(&self.schema, Table::Candles.name());
        let us = |of: &str| format!("(extract(epoch FROM {of}) * 1000000)::bigint");
        let sql = format!(
            "SELECT venue, symbol, interval_ns, input, count(*), {}, {} FROM {name} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            us("min(start)"),
            us("max(start)"),
        );
        let time = |us: i64| UnixNanos(us.saturating_mul(1_000));
        let count = |row: &tokio_postgres::Row| CandleCount {
            venue: row.get(0),
            symbol: row.get(1),
            interval_ns: row.get(2),
            input: row.get(3),
            candles: row.get(4),
            first: time(row.get(5)),
            last: time(row.get(6)),
        };
        Ok(self.client.query(&sql, &[]).await.map_err(told)?.iter().map(count).collect())
    }

    /// The records of a table that were received in `[from, to)`, in the order of receipt, each with its tape.
    ///
    /// # Errors
    /// The server does not answer, or has no such table.
    pub async fn records(&self, table: Table, from: UnixNanos, to: UnixNanos) -> anyhow::Result<Vec<(Uuid, Record)>> {
        let (columns, name) = (layout::names(table), layout::full(&self.schema, table.name()));
        let sql = format!(
            "SELECT {columns} FROM {name} WHERE ts_recv >= {} AND ts_recv < {} ORDER BY ts_recv, tape_id, seq",
            instant("$1"),
            instant("$2")
        );
        let rows = self.client.query(&sql, &[&up_to_us(from), &up_to_us(to)]).await.map_err(told)?;
        rows.iter().map(|row| read::record(table, row).context("a row without a tape")).collect()
    }
}

/// Candles that are asked for at once: a week of minutes.
const CANDLES_MAX: i64 = 10_080;
const TICK: [&str; 8] = ["bid", "bid_size", "ask", "ask_size", "last_trade_price", "volume", "vwap", "seq"];
const CANDLE: [&str; 10] = ["open", "high", "low", "close", "volume", "vwap", "trades", "flags", "revision", "input"];

impl Store {
    /// What verbs ask, with numbers as texts that have all their digits.
    pub(super) async fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        match question {
            Question::Latest { symbol } => self.latest(symbol.as_deref()).await,
            Question::Candles { symbol, interval, from, to } => {
                let mut table = Answer::new(&[&["exchange", "instrument", "time"], &CANDLE[..]].concat());
                let interval_ns = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
                let mut symbol = SmolStr::new(symbol);
                let mut candles = self.candles(&symbol, interval_ns, *from, *to, CANDLES_MAX).await?;
                if let (true, Some(present)) = (candles.is_empty(), modern(&symbol)) {
                    symbol = present;
                    candles = self.candles(&symbol, interval_ns, *from, *to, CANDLES_MAX).await?;
                }
                for (venue, candle) in candles {
                    let head = [text(venue), text(&symbol), text(candle.start)];
                    let prices = [candle.open, candle.high, candle.low, candle.close].map(text);
                    let flags = candle.flags.names().collect::<Vec<_>>().join(",");
                    let tail = [
                        candle.volume.map_or(Value::Null, text),
                        candle.vwap.map_or(Value::Null, text),
                        candle.trades.map_or(Value::Null, Value::from),
                        text(flags),
                        candle.revision.into(),
                        text(candle.input.name()),
                    ];
                    table.rows.push(head.into_iter().chain(prices).chain(tail).collect());
                }
                table.rows.reverse();
                Ok(table)
            }
            Question::CandleCounts => {
                let mut table =
                    Answer::new(&["exchange", "instrument", "interval", "input", "candles", "first", "last"]);
                for CandleCount { venue, symbol, interval_ns, input, candles, first, last } in
                    self.candle_counts().await?
                {
                    let interval = show_duration(Duration::from_nanos(interval_ns.unsigned_abs()));
                    table.rows.push(vec![
                        text(venue),
                        text(symbol),
                        text(interval),
                        text(input),
                        candles.into(),
                        text(first),
                        text(last),
                    ]);
                }
                Ok(table)
            }
        }
    }

    /// The newest tick of each instrument that had one in the day before the newest of all: the keys begin with the time.
    async fn latest(&self, symbol: Option<&str>) -> anyhow::Result<Answer> {
        let (quotes, tickers) = (layout::full(&self.schema, "quotes"), layout::full(&self.schema, "tickers"));
        let sql = format!(
            "WITH newest AS (SELECT greatest((SELECT max(ts_recv) FROM {quotes}), (SELECT max(ts_recv) FROM {tickers})) - interval '1 day' AS since), \
             ticks AS (SELECT venue, symbol, ts_event, ts_recv, seq, bid, bid_size, ask, ask_size, NULL::numeric AS last, NULL::numeric AS volume, NULL::numeric AS vwap \
             FROM {quotes}, newest WHERE ts_recv >= since UNION ALL \
             SELECT venue, symbol, ts_event, ts_recv, seq, bid, bid_size, ask, ask_size, last, volume, vwap FROM {tickers}, newest WHERE ts_recv >= since) \
             SELECT DISTINCT ON (venue, symbol) venue, symbol, (extract(epoch FROM coalesce(ts_event, ts_recv)) * 1000000)::bigint, seq, \
             bid::text, bid_size::text, ask::text, ask_size::text, last::text, volume::text, vwap::text \
             FROM ticks WHERE $1::text[] IS NULL OR symbol = ANY($1) ORDER BY venue, symbol, ts_recv DESC, seq DESC"
        );
        // An old name stands for the present one, too.
        let symbols: Option<Vec<String>> =
            symbol.map(|symbol| std::iter::once(symbol.to_owned()).chain(modern(symbol).map(String::from)).collect());
        let mut table = Answer::new(&[&["exchange", "instrument", "time"], &TICK[..]].concat());
        for row in self.client.query(&sql, &[&symbols]).await.map_err(told)? {
            let time = UnixNanos(row.get::<_, i64>(2).saturating_mul(1_000));
            let number = |at: usize| row.get::<_, Option<String>>(at).map_or(Value::Null, Value::from);
            let mut cells = vec![text(row.get::<_, &str>(0)), text(row.get::<_, &str>(1)), text(time)];
            cells.extend((4..=10).map(number));
            cells.push(row.get::<_, i64>(3).into());
            table.rows.push(cells);
        }
        Ok(table)
    }
}

fn text(value: impl std::fmt::Display) -> Value {
    Value::String(value.to_string())
}

/// The first column of a query's rows, as symbols in their order: what a source listens to may stand in a database.
///
/// # Errors
/// The server does not answer, or the query is none, or its first column is no text.
pub async fn symbols(dsn: &str, query: &str) -> anyhow::Result<Vec<SmolStr>> {
    let target = Target::parse(dsn)?;
    super::hide_password(&target);
    let (client, _driver) = session::connect(&target, "symbols").await.map_err(|error| anyhow!("{error}"))?;
    let rows = tokio::time::timeout(SYMBOLS_LIMIT, client.query(query, &[])).await;
    let rows = rows.map_err(|_| anyhow!("no answer within {} s", SYMBOLS_LIMIT.as_secs()));
    let rows = rows.and_then(|rows| rows.map_err(told)).context("asking for symbols")?;
    let symbol = |row: &tokio_postgres::Row| {
        let text: Option<String> = row.try_get(0).map_err(told).context("symbols: the first column must be text")?;
        Ok(text.map(SmolStr::from))
    };
    rows.iter().map(symbol).filter_map(Result::transpose).collect()
}

/// µs since 1970, the next one where there are nanoseconds below.
fn up_to_us(time: UnixNanos) -> i64 {
    time.0.div_euclid(1_000) + i64::from(time.0.rem_euclid(1_000) > 0)
}

/// A parameter of µs since 1970 as an instant, exactly.
fn instant(parameter: &str) -> String {
    format!("(timestamptz '2000-01-01 00:00:00+00' + ({parameter}::bigint - {EPOCH_US}) * interval '1 microsecond')")
}

fn told(error: Error) -> anyhow::Error {
    anyhow!("{}", failure::words(&error))
}
