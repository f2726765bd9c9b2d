//! What panels ask, in the language of each store.
//!
//! Every text that comes from a config stands quoted; what a person picks in a variable is quoted by Grafana, which is told how.

use serde_json::{Value as Json, json};
use tapedeck_market::Kind;

use super::stream::{Field, Stream};
use crate::sinks::grafana::{Asks, Places};

/// Rows of a table.
const ROWS: u32 = 100;

/// A query of a panel, as Grafana keeps it, but for its data source.
pub(super) type Target = Json;

impl Asks {
    /// Means over the steps of the panel, a series an instrument and field.
    pub(super) fn means(&self, of: &Stream, fields: &[Field]) -> Target {
        match self {
            Asks::InfluxQl(places) => {
                let means = list(fields, |field| format!("mean({}) AS {}", quoted(field.of), quoted(field.name)));
                let from = measurement(places, of.kind, of.name);
                let tag = quoted(of.tag);
                series(
                    format!(
                        "SELECT {means} FROM {from} WHERE $timeFilter AND {} GROUP BY time($__interval), {tag} fill(none)",
                        picked(of.tag)
                    ),
                    &format!("$tag_{} $col", of.tag),
                )
            }
            Asks::Flux(places) => flux(format!(
                "{}\n  |> filter(fn: (r) => {})\n  |> group(columns: [\"_field\", {tag}])\n  \
                 |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)",
                from_bucket(places, of),
                list_with(fields, " or ", |field| format!("r._field == {}", quoted(field.of))),
                tag = quoted(of.tag),
            )),
            Asks::Sql { count, .. } => {
                let means = list(fields, |field| {
                    format!("avg({})::double precision AS {}", expression(field.of, count), quoted(field.name))
                });
                rows_over_time(format!(
                    "SELECT $__timeGroupAlias(ts_recv, $__interval), {} AS metric, {means} FROM {} WHERE {} GROUP BY 1, 2 ORDER BY 1",
                    of.of,
                    self.table(of.table),
                    self.wanted(of),
                ))
            }
        }
    }

    /// The newest value of a field, a series an instrument.
    pub(super) fn newest(&self, of: &Stream, field: &Field) -> Target {
        match self {
            Asks::InfluxQl(places) => {
                let from = measurement(places, of.kind, of.name);
                let (field, tag) = (format!("last({}) AS {}", quoted(field.of), quoted(field.name)), quoted(of.tag));
                let statement =
                    format!("SELECT {field} FROM {from} WHERE $timeFilter AND {} GROUP BY {tag}", picked(of.tag));
                series(statement, &format!("$tag_{}", of.tag))
            }
            Asks::Flux(places) => flux(format!(
                "{}\n  |> filter(fn: (r) => r._field == {})\n  |> group(columns: [\"_field\", {}])\n  |> last()",
                from_bucket(places, of),
                quoted(field.of),
                quoted(of.tag),
            )),
            Asks::Sql { count, .. } => {
                let value = expression(field.of, count);
                rows_over_time(format!(
                    "SELECT DISTINCT ON ({of_what}) ts_recv AS \"time\", {of_what} AS metric, ({value})::double precision AS {name} \
                     FROM {table} WHERE {wanted} AND {value} IS NOT NULL ORDER BY {of_what}, ts_recv DESC",
                    of_what = of.of,
                    name = quoted(field.name),
                    table = self.table(of.table),
                    wanted = self.wanted(of),
                ))
            }
        }
    }

    /// The newest rows.
    pub(super) fn rows(&self, of: &Stream) -> Target {
        match self {
            Asks::InfluxQl(places) => table(format!(
                "SELECT * FROM {} WHERE $timeFilter AND {} ORDER BY time DESC LIMIT {ROWS}",
                measurement(places, of.kind, of.name),
                picked(of.tag)
            )),
            Asks::Flux(places) => flux(format!("{}{}", from_bucket(places, of), newest_of_all())),
            Asks::Sql { count, .. } => table_of(format!(
                "SELECT ts_recv AS \"time\", {} AS instrument, {} FROM {} WHERE {} ORDER BY ts_recv DESC LIMIT {ROWS}",
                of.of,
                expression(of.sql.columns, count),
                self.table(of.table),
                self.wanted(of),
            )),
        }
    }

    /// The instruments of a stream, for a person to pick from.
    pub(super) fn instruments(&self, of: &Stream) -> String {
        match self {
            Asks::InfluxQl(places) => {
                format!("SHOW TAG VALUES FROM {} WITH KEY = {}", measurement(places, of.kind, of.name), quoted(of.tag))
            }
            Asks::Flux(places) => tag_values(places.of(of.kind), of.name, of.tag),
            Asks::Sql { .. } => {
                let venue = venue(of.venue);
                let table = self.table(of.table);
                format!(
                    "SELECT DISTINCT {} AS instrument FROM {table} WHERE $__timeFilter(ts_recv){venue} ORDER BY 1",
                    of.of
                )
            }
        }
    }

    /// Candles of the instrument, interval and input that were picked.
    pub(super) fn candles(&self) -> Target {
        const PRICES: [&str; 5] = ["open", "high", "low", "close", "volume"];
        match self {
            Asks::InfluxQl(places) => {
                let from = measurement(places, Kind::CANDLE, "candle");
                let wanted =
                    ["exchange", "instrument", "interval", "input"].map(|tag| picked_in(tag, tag)).join(" AND ");
                let prices = PRICES.map(quoted).join(", ");
                table(format!("SELECT {prices} FROM {from} WHERE $timeFilter AND {wanted}"))
            }
            Asks::Flux(places) => flux(format!(
                "from(bucket: {})\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n  \
                 |> filter(fn: (r) => r._measurement == \"candle\" and {})\n  |> filter(fn: (r) => {})\n  \
                 |> pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")\n  \
                 |> keep(columns: [\"_time\", {}])",
                quoted(places.of(Kind::CANDLE)),
                ["exchange", "instrument", "interval", "input"]
                    .map(|tag| format!("r.{tag} =~ /^${{{tag}:regex}}$/"))
                    .join(" and "),
                PRICES.map(|price| format!("r._field == {}", quoted(price))).join(" or "),
                PRICES.map(quoted).join(", "),
            )),
            Asks::Sql { .. } => {
                let prices = PRICES.map(|price| format!("{price}::double precision AS {price}")).join(", ");
                // Where corrections stand beside what they correct, the last one counts.
                table_of(format!(
                    "SELECT DISTINCT ON (start) start AS \"time\", {prices} FROM {} WHERE $__timeFilter(start) AND venue IN (${{exchange:sqlstring}}) \
                     AND symbol IN (${{instrument:sqlstring}}) AND interval_ns IN (${{interval:csv}}) AND input IN (${{input:sqlstring}}) \
                     ORDER BY start, revision DESC",
                    self.table("candles"),
                ))
            }
        }
    }

    /// What there is to pick among candles: exchange, instrument, interval or input, of what is picked of those before it.
    pub(super) fn candle_values(&self, of: &str, before: &[&str]) -> String {
        match self {
            Asks::InfluxQl(places) => {
                let picked: Vec<String> = before.iter().map(|tag| picked_in(tag, tag)).collect();
                let wanted = if picked.is_empty() { String::new() } else { format!(" WHERE {}", picked.join(" AND ")) };
                let from = measurement(places, Kind::CANDLE, "candle");
                format!("SHOW TAG VALUES FROM {from} WITH KEY = {}{wanted}", quoted(of))
            }
            Asks::Flux(places) => {
                let picked: String = before.iter().map(|tag| format!(" and r.{tag} =~ /^${{{tag}:regex}}$/")).collect();
                let bucket = quoted(places.of(Kind::CANDLE));
                format!(
                    "import \"influxdata/influxdb/schema\"\nschema.tagValues(bucket: {bucket}, tag: {}, \
                     predicate: (r) => r._measurement == \"candle\"{picked}, start: -30d)",
                    quoted(of)
                )
            }
            Asks::Sql { .. } => {
                let picked = before.iter().map(|name| match *name {
                    "exchange" => " AND venue IN (${exchange:sqlstring})",
                    "instrument" => " AND symbol IN (${instrument:sqlstring})",
                    _ => " AND interval_ns IN (${interval:csv})",
                });
                let picked: String = picked.collect();
                let column = match of {
                    "exchange" => "venue AS exchange",
                    "instrument" => "symbol AS instrument",
                    "interval" => "(interval_ns / 1000000000)::text || 's' AS \"__text\", interval_ns AS \"__value\"",
                    _ => "input",
                };
                let table = self.table("candles");
                format!("SELECT DISTINCT {column} FROM {table} WHERE $__timeFilter(start){picked} ORDER BY 1")
            }
        }
    }

    /// Gaps that were opened, by cause, over the steps of the panel.
    pub(super) fn gaps_opened(&self) -> Target {
        match self {
            Asks::InfluxQl(places) => series(
                format!(
                    "SELECT count(\"id\") AS \"gaps\" FROM {} WHERE $timeFilter AND \"state\" = 'open' \
                     GROUP BY time($__interval), \"cause\" fill(none)",
                    gaps(places)
                ),
                "$tag_cause",
            ),
            Asks::Flux(places) => flux(format!(
                "{}\n  |> filter(fn: (r) => r._field == \"state\" and r._value == \"open\")\n  |> group(columns: [\"cause\"])\n  \
                 |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: false)",
                from_gaps(places)
            )),
            Asks::Sql { .. } => rows_over_time(format!(
                "SELECT $__timeGroupAlias(ts_recv, $__interval), cause AS metric, count(*) AS gaps FROM {} \
                 WHERE $__timeFilter(ts_recv) AND state = 'open' GROUP BY 1, 2 ORDER BY 1",
                self.table("gaps")
            )),
        }
    }

    /// Events known to be missing, by source of the words: the venue numbers them.
    pub(super) fn missing(&self) -> Target {
        match self {
            Asks::InfluxQl(places) => series(
                format!(
                    "SELECT sum(\"missing\") AS \"missing\" FROM {} WHERE $timeFilter GROUP BY \"exchange\"",
                    gaps(places)
                ),
                "$tag_exchange",
            ),
            Asks::Flux(places) => flux(format!(
                "{}\n  |> filter(fn: (r) => r._field == \"missing\")\n  |> group(columns: [\"exchange\"])\n  |> sum()",
                from_gaps(places)
            )),
            Asks::Sql { .. } => table_of(format!(
                "SELECT venue AS metric, coalesce(sum(missing), 0)::double precision AS missing FROM {} \
                 WHERE $__timeFilter(ts_recv) GROUP BY 1 ORDER BY 1",
                self.table("gaps")
            )),
        }
    }

    /// The newest lines of the gap ledger.
    pub(super) fn ledger(&self) -> Target {
        match self {
            Asks::InfluxQl(places) => {
                table(format!("SELECT * FROM {} WHERE $timeFilter ORDER BY time DESC LIMIT {ROWS}", gaps(places)))
            }
            Asks::Flux(places) => flux(format!("{}{}", from_gaps(places), newest_of_all())),
            Asks::Sql { .. } => table_of(format!(
                "SELECT ts_recv AS \"time\", venue, symbol, channel, cause, state, from_ts, to_ts, missing, detail FROM {} \
                 WHERE $__timeFilter(ts_recv) ORDER BY ts_recv DESC LIMIT {ROWS}",
                self.table("gaps")
            )),
        }
    }

    /// Gaps as marks over every graph, of one venue or of all.
    pub(super) fn marks(&self, of: &str) -> Target {
        match self {
            Asks::InfluxQl(places) => {
                let venue = if of.is_empty() { String::new() } else { format!(" AND \"exchange\" = {}", text(of)) };
                json!({
                    "query": format!("SELECT \"detail\", \"cause\" FROM {} WHERE $timeFilter AND \"state\" = 'open'{venue}", gaps(places)),
                    "textColumn": "detail", "tagsColumn": "cause", "fromAnnotations": true,
                })
            }
            Asks::Flux(places) => {
                let venue = if of.is_empty() { String::new() } else { format!(" and r.exchange == {}", quoted(of)) };
                flux(format!(
                    "from(bucket: {})\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n  \
                     |> filter(fn: (r) => r._measurement == \"gap\" and r._field == \"detail\"{venue})\n  \
                     |> rename(columns: {{_value: \"text\", cause: \"tags\"}})\n  |> keep(columns: [\"_time\", \"text\", \"tags\"])\n  |> group()",
                    quoted(places.of(Kind::GAP))
                ))
            }
            Asks::Sql { .. } => {
                let venue = venue(of);
                table_of(format!(
                    "SELECT from_ts AS \"time\", to_ts AS timeend, detail AS text, cause AS tags FROM {} \
                     WHERE $__timeFilter(ts_recv) AND state <> 'open'{venue} ORDER BY 1",
                    self.table("gaps")
                ))
            }
        }
    }

    fn table(&self, name: &str) -> String {
        match self {
            Asks::Sql { schema, .. } => format!("{schema}{name}"),
            _ => name.to_owned(),
        }
    }

    /// The rows of a stream that a panel is about.
    fn wanted(&self, of: &Stream) -> String {
        format!("$__timeFilter(ts_recv){} AND {} IN (${{instrument:sqlstring}})", venue(of.venue), of.of)
    }
}

/// The words behind a condition that keep to one venue.
fn venue(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" AND venue = {}", text(name)) }
}

fn series(query: String, alias: &str) -> Target {
    json!({ "rawQuery": true, "query": query, "resultFormat": "time_series", "alias": alias })
}

fn table(query: String) -> Target {
    json!({ "rawQuery": true, "query": query, "resultFormat": "table" })
}

fn flux(query: String) -> Target {
    json!({ "query": query })
}

fn rows_over_time(sql: String) -> Target {
    json!({ "rawSql": sql, "rawQuery": true, "format": "time_series", "editorMode": "code" })
}

fn table_of(sql: String) -> Target {
    json!({ "rawSql": sql, "rawQuery": true, "format": "table", "editorMode": "code" })
}

/// A measurement of InfluxQL, with the policy it is kept under.
fn measurement(places: &Places, kind: Kind, name: &str) -> String {
    match places.of(kind) {
        "" => quoted(name),
        policy => format!("{}.{}", quoted(policy), quoted(name)),
    }
}

fn gaps(places: &Places) -> String {
    measurement(places, Kind::GAP, "gap")
}

fn from_gaps(places: &Places) -> String {
    format!(
        "from(bucket: {})\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n  |> filter(fn: (r) => r._measurement == \"gap\")",
        quoted(places.of(Kind::GAP))
    )
}

fn from_bucket(places: &Places, of: &Stream) -> String {
    format!(
        "from(bucket: {})\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n  \
         |> filter(fn: (r) => r._measurement == {} and r.{} =~ /^${{instrument:regex}}$/)",
        quoted(places.of(of.kind)),
        quoted(of.name),
        of.tag,
    )
}

/// The newest rows of whatever a Flux query has, a row a time.
fn newest_of_all() -> String {
    format!(
        "\n  |> drop(columns: [\"_start\", \"_stop\"])\n  \
         |> pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")\n  |> group()\n  \
         |> sort(columns: [\"_time\"], desc: true)\n  |> limit(n: {ROWS})"
    )
}

fn tag_values(bucket: &str, measurement: &str, tag: &str) -> String {
    format!(
        "import \"influxdata/influxdb/schema\"\nschema.measurementTagValues(bucket: {}, measurement: {}, tag: {})",
        quoted(bucket),
        quoted(measurement),
        quoted(tag)
    )
}

/// The condition of InfluxQL for the instruments that were picked.
fn picked(tag: &str) -> String {
    picked_in(tag, "instrument")
}

fn picked_in(tag: &str, variable: &str) -> String {
    format!("{} =~ /^${{{variable}:regex}}$/", quoted(tag))
}

fn expression(of: &str, count: &str) -> String {
    of.replace("{count}", count)
}

fn list(fields: &[Field], one: impl Fn(&Field) -> String) -> String {
    list_with(fields, ", ", one)
}

fn list_with(fields: &[Field], between: &str, one: impl Fn(&Field) -> String) -> String {
    fields.iter().map(one).collect::<Vec<_>>().join(between)
}

/// A name in InfluxQL and SQL, a text in Flux.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text in InfluxQL and SQL: names of venues only.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
