//! Candles: one row a candle, the newest statement on it; and the tables of Trading-V2 beside it, where they are wanted.
//!
//! Which statement is newer, its own columns say: the revision, then when it was received, then its place on the tape. So
//! the order in which they arrive does not matter.

use std::collections::HashMap;

use anyhow::anyhow;
use bytes::Bytes;
use tapedeck_market::{Candle, CandleInput, Record, SmolStr, Sum, UnixNanos, Uuid};
use tapedeck_tables::Table;
use tokio_postgres::Client;

use super::config::{Config, EXCHANGE};
use super::failure;
use super::layout;
use super::session::{PgUuid, Session, Trouble, refused, stage_of};
use crate::sinks::SinkError;

const MINUTE_NS: i64 = 60_000_000_000;
/// What orders statements on the same candle.
const ORDER: [&str; 3] = ["revision", "ts_recv", "seq"];
/// The venue whose clock is not UTC, and what it is.
const KITE: (&str, &str) = ("kite", "Asia/Kolkata");

/// Candles of a batch, each once.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub rows: Bytes,
    /// Which of them go to merged tables: minutes, and the venues.
    pub merges: Vec<(i64, Vec<String>)>,
    /// Which of these do not.
    pub left_out: LeftOut,
}

/// Candles that no merged table can hold: where they were first recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut {
    tapes: Vec<PgUuid>,
    seqs: Vec<i64>,
}

impl LeftOut {
    pub(super) fn push(&mut self, tape: Uuid, seq: u64) {
        // A larger one has no row at all.
        let Ok(seq) = i64::try_from(seq) else { return };
        self.tapes.push(PgUuid(tape));
        self.seqs.push(seq);
    }
}

/// A table `merged_candles_<n>min` as it is on the server.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    name: String,
    /// There is at most one row a symbol and time, and the server sees to it.
    keyed: bool,
    /// What `datetime` is set to.
    time: String,
    /// Of the numbers, what their columns hold.
    columns: HashMap<&'static str, Holds>,
}

/// What a column of numbers holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    Whole { most: i128, name: String },
    Decimals { places: u8, name: String },
    Any,
}

const NUMBERS: [&str; 5] = ["open", "high", "low", "close", "volume"];

/// Candles by what they are about.
type Key<'a> = (&'a SmolStr, &'a SmolStr, i64, CandleInput, UnixNanos);

/// The places of the candles of a batch that are not replaced by others in it.
pub(super) fn newest(records: &[Record], candle: impl Fn(&Record) -> Option<&Candle>) -> Vec<usize> {
    let mut found: HashMap<Key<'_>, usize> = HashMap::new();
    let order = |at: usize| {
        let record = &records[at];
        (candle(record).map(|candle| candle.revision), record.event.ts_recv, record.seq)
    };
    for (at, record) in records.iter().enumerate() {
        let Some(of) = candle(record) else { continue };
        let key = (&record.event.venue, &record.event.symbol, of.interval_ns, of.input, of.start);
        found
            .entry(key)
            .and_modify(|known| *known = if order(at) >= order(*known) { at } else { *known })
            .or_insert(at);
    }
    let mut places: Vec<usize> = found.into_values().collect();
    places.sort_unstable();
    places
}

/// The minutes of a candle that has whole ones.
pub(super) fn minutes(candle: &Candle) -> Option<i64> {
    (candle.interval_ns > 0 && candle.interval_ns % MINUTE_NS == 0).then_some(candle.interval_ns / MINUTE_NS)
}

/// Writes what is staged: a statement that is older than the row it is about changes nothing.
pub(super) async fn write(session: &Session, batch: &Batch) -> Result<(), Trouble> {
    let (table, stage) = (layout::full(&session.schema, Table::Candles.name()), stage_of(Table::Candles));
    let (columns, key) = (layout::names(Table::Candles), layout::key(Table::Candles));
    let order = |alias: &str| ORDER.map(|column| format!("{alias}.{column}")).join(", ");
    let same: Vec<String> = key.split(", ").map(|column| format!("c.{column} = s.{column}")).collect();
    let set: Vec<String> = layout::of(Table::Candles)
        .iter()
        .map(|column| layout::quoted(&column.name))
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let (same, set) = (same.join(" AND "), set.join(", "));
    let (there, staged, new) = (order("c"), order("s"), order("excluded"));
    let older = format!("DELETE FROM {stage} s USING {table} c WHERE {same} AND ({there}) > ({staged})");
    let upsert = format!(
        "INSERT INTO {table} AS c ({columns}) SELECT {columns} FROM {stage} \
         ON CONFLICT ({key}) DO UPDATE SET {set} WHERE ({there}) <= ({new})"
    );
    session.client.batch_execute(&format!("{older}; {upsert}")).await.map_err(refused)?;
    for (minutes, venues) in &batch.merges {
        if let Some(merged) = session.merged.get(minutes) {
            let written = merged.write(session, minutes * MINUTE_NS, venues, &stage, &batch.left_out).await;
            written.map_err(|trouble| match trouble {
                Trouble::Sink(SinkError::BatchRefused(words)) => {
                    Trouble::Merged(format!("its row in {}: {words}", merged.name))
                }
                trouble => trouble,
            })?;
        }
    }
    Ok(())
}

impl Merged {
    /// Finds the table of candles of so many minutes, or makes it.
    pub(super) async fn find(client: &Client, config: &Config, minutes: i64) -> Result<Merged, SinkError> {
        let shown = config.merged_table(minutes);
        let name = shown.split('.').map(layout::quoted).collect::<Vec<_>>().join(".");
        let failed = |error| failure::of_opening(&error, &format!("looking at {shown}"));
        let find = "SELECT to_regclass($1)::oid";
        if client.query_one(find, &[&name]).await.map_err(failed)?.get::<_, Option<u32>>(0).is_none() {
            let make = format!(
                "CREATE TABLE {name} (datetime timestamp NOT NULL, tradingsymbol varchar NOT NULL, open numeric, high numeric, \
                 low numeric, close numeric, volume bigint, UNIQUE (tradingsymbol, datetime))"
            );
            client.batch_execute(&make).await.map_err(failed)?;
        }
        let columns = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = '' \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let mut types: HashMap<String, String> = HashMap::new();
        let person = |words: String| Err(SinkError::Waiting(anyhow!("{words}")));
        for row in client.query(columns, &[&name]).await.map_err(failed)? {
            let column: String = row.get(0);
            let known = NUMBERS.contains(&column.as_str()) || matches!(column.as_str(), "datetime" | "tradingsymbol");
            if row.get(2) && !known {
                return person(format!(
                    "{shown} has a column `{column}` that must not be NULL and that candles do not have: give it a default"
                ));
            }
            types.insert(column, row.get(1));
        }
        if let Some(lacking) =
            NUMBERS.iter().chain(&["datetime", "tradingsymbol"]).find(|name| !types.contains_key(**name))
        {
            return person(format!("{shown} has no column `{lacking}`: candles of Trading-V2 have it"));
        }
        let time = match types["datetime"].as_str() {
            of if of.starts_with("timestamp") && of.ends_with("without time zone") => local(config),
            of if of.starts_with("timestamp") => "s.start".to_owned(),
            of => return person(format!("{shown}.datetime is {of}, and should be timestamp")),
        };
        let unique = "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid \
             AND i.indimmediate AND i.indpred IS NULL AND i.indnatts = 2 AND 2 = (SELECT count(*) FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) AND a.attname IN ('datetime', 'tradingsymbol')))";
        let keyed = client.query_one(unique, &[&name]).await.map_err(failed)?.get(0);
        let columns =
            NUMBERS.into_iter().map(|column| (column, holds(&types[column], &format!("{shown}.{column}")))).collect();
        Ok(Merged { name, keyed, time, columns })
    }

    /// Whether the server would keep the candle's numbers as they are.
    pub(super) fn fits(&self, candle: &Candle) -> Result<(), String> {
        let price = |price: tapedeck_market::Price| Some(price.0.to_sum());
        let numbers = [price(candle.open), price(candle.high), price(candle.low), price(candle.close), candle.volume];
        for (column, number) in NUMBERS.into_iter().zip(numbers) {
            if let (Some(holds), Some(number)) = (self.columns.get(column), number) {
                holds.fits(number).map_err(|why| format!("`{column}` {number} {why}"))?;
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        session: &Session,
        interval_ns: i64,
        venues: &Vec<String>,
        stage: &str,
        LeftOut { tapes, seqs }: &LeftOut,
    ) -> Result<(), Trouble> {
        let Merged { name, time, .. } = self;
        let which = "s.interval_ns = $1 AND s.venue = ANY($2) AND NOT EXISTS (SELECT FROM unnest($3::uuid[], $4::bigint[]) \
             AS o(tape_id, seq) WHERE o.tape_id = s.tape_id AND o.seq = s.seq)";
        // A symbol that two venues, or two inputs, have is one symbol there.
        let newest = format!(
            "SELECT DISTINCT ON (s.symbol, {time}) {time}, s.symbol, s.open, s.high, s.low, s.close, s.volume FROM {stage} s \
             WHERE {which} ORDER BY s.symbol, {time}, s.revision DESC, s.ts_recv DESC, s.seq DESC"
        );
        let insert = format!("INSERT INTO {name} (datetime, tradingsymbol, open, high, low, close, volume) {newest}");
        let run =
            async |sql: &str| session.client.execute(sql, &[&interval_ns, venues, tapes, seqs]).await.map_err(refused);
        if self.keyed {
            let set = NUMBERS.map(|column| format!("{column} = excluded.{column}")).join(", ");
            run(&format!("{insert} ON CONFLICT (tradingsymbol, datetime) DO UPDATE SET {set}")).await?;
        } else {
            run(&format!("DELETE FROM {name} t USING {stage} s WHERE {which} AND t.tradingsymbol = s.symbol AND t.datetime = {time}")).await?;
            run(&insert).await?;
        }
        Ok(())
    }
}

/// The time without zone that the exchange's own clocks show, or those of the zone that the config names.
fn local(config: &Config) -> String {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    if config.merged_time == EXCHANGE {
        let (venue, zone) = KITE;
        format!("(s.start AT TIME ZONE CASE s.venue WHEN {} THEN {} ELSE 'UTC' END)", literal(venue), literal(zone))
    } else {
        format!("(s.start AT TIME ZONE {})", literal(&config.merged_time))
    }
}

fn holds(type_name: &str, column: &str) -> Holds {
    let name = format!("{column} ({type_name})");
    let places = || type_name.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?.1.trim().parse().ok();
    match type_name {
        "smallint" => Holds::Whole { most: i16::MAX.into(), name },
        "integer" => Holds::Whole { most: i32::MAX.into(), name },
        "bigint" => Holds::Whole { most: i64::MAX.into(), name },
        _ => places().map_or(Holds::Any, |places| Holds::Decimals { places, name }),
    }
}

impl Holds {
    /// The server rounds without a word: what it would round is refused here.
    fn fits(&self, number: Sum) -> Result<(), String> {
        let behind = |places: u8| {
            let unit = 10_i128.checked_pow(u32::from(number.scale.saturating_sub(places)));
            number.scale > places && unit.is_none_or(|unit| number.mantissa % unit != 0)
        };
        match self {
            Holds::Any => Ok(()),
            Holds::Whole { name, .. } if behind(0) => Err(format!("is not whole, as {name} wants it")),
            Holds::Whole { most, name } => {
                let whole = number.mantissa / 10_i128.checked_pow(number.scale.into()).unwrap_or(i128::MAX);
                if whole.unsigned_abs() <= most.unsigned_abs() { Ok(()) } else { Err(format!("does not fit {name}")) }
            }
            Holds::Decimals { places, name } if behind(*places) => Err(format!("has more digits than {name} keeps")),
            Holds::Decimals { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_would_round_or_not_hold_is_refused() {
        let sum = |mantissa, scale| Sum { mantissa, scale };
        let integer = holds("integer", "t.volume");
        assert!(integer.fits(sum(2_147_483_647, 0)).is_ok());
        assert!(integer.fits(sum(30_00, 2)).is_ok(), "30.00 is whole");
        assert_eq!(integer.fits(sum(2_147_483_648, 0)), Err("does not fit t.volume (integer)".into()));
        assert_eq!(integer.fits(sum(15, 1)), Err("is not whole, as t.volume (integer) wants it".into()));
        let cents = holds("numeric(10,2)", "t.open");
        assert!(cents.fits(sum(1_500, 3)).is_ok() && cents.fits(sum(15, 1)).is_ok());
        assert_eq!(cents.fits(sum(1_505, 3)), Err("has more digits than t.open (numeric(10,2)) keeps".into()));
        for any in ["numeric", "double precision"] {
            assert!(holds(any, "t.open").fits(sum(1_505, 3)).is_ok());
        }
    }
}
