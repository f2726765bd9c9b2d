//! Our schema on the server: made, brought up to this version, and mended where something is missing.
//!
//! ```text
//! schema_version   the steps that were taken, by number
//! cursors          what was delivered of which tape, by which sink: moved in the transaction of the rows
//! trades, quotes … one table a kind of event
//! ```
//!
//! Tables and columns that are missing are made from [`super::layout`], whether a new version has them or somebody dropped
//! them. What that cannot do is a numbered step. A schema of a later version is left alone.

use std::collections::HashMap;

use anyhow::anyhow;
use tapedeck_tables::Table;
use tokio_postgres::Client;

use super::{failure, layout};
use crate::sinks::SinkError;

/// What brings a schema from one version to the next; the first makes it.
const STEPS: [fn(&str) -> String; 1] = [begin];

/// The version of the schemas that this program knows.
pub(super) const VERSION: i32 = STEPS.len() as i32;

/// Two decks that make the schema at once take turns: "tapedeck" as a number.
const LOCK: i64 = 0x7461_7065_6465_636b;

fn begin(schema: &str) -> String {
    let (versions, cursors) = (layout::full(schema, "schema_version"), layout::full(schema, "cursors"));
    let mut sql = format!(
        "CREATE TABLE {versions} (version integer PRIMARY KEY, program text NOT NULL, made_at timestamptz NOT NULL DEFAULT now());\n\
         COMMENT ON TABLE {versions} IS 'Steps by which tapedeck made this schema.';\n\
         CREATE TABLE {cursors} (sink text, tape_id uuid, mark bytea NOT NULL, seq bigint NOT NULL, \
         moved_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (sink, tape_id));\n\
         COMMENT ON TABLE {cursors} IS 'What was delivered of which tape; seq is the last record of the last batch.';\n"
    );
    for table in Table::ALL {
        sql.push_str(&layout::create(schema, table));
    }
    sql
}

/// Makes or mends the schema, if there is anything to do.
///
/// # Errors
/// The server refuses, or somebody must look at a table first.
pub(super) async fn prepare(client: &Client, schema: &str) -> Result<(), SinkError> {
    if wanted(client, schema).await?.is_empty() {
        return Ok(());
    }
    let doing = "making the schema";
    let run = async |sql: &str| client.batch_execute(sql).await.map_err(|error| failure::of_opening(&error, doing));
    run(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    let done = async {
        // Another deck may have done it meanwhile.
        let sql = wanted(client, schema).await?;
        run(&sql).await
    };
    let done = done.await;
    run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

/// The statements that bring the schema to this version.
async fn wanted(client: &Client, schema: &str) -> Result<String, SinkError> {
    let found = Found::read(client, schema).await?;
    if !found.schema {
        let mut sql = format!("CREATE SCHEMA {};\n", layout::quoted(schema));
        steps(schema, 0, &mut sql);
        return Ok(sql);
    }
    if found.version > VERSION {
        return Err(SinkError::Waiting(anyhow!(
            "schema `{schema}` was made by a later tapedeck (version {}, this one knows {VERSION}): update tapedeck, or set another `schema`",
            found.version
        )));
    }
    let mut sql = String::new();
    steps(schema, found.version, &mut sql);
    if found.version > 0 {
        for table in Table::ALL {
            found.mend(schema, table, &mut sql)?;
        }
    }
    Ok(sql)
}

fn steps(schema: &str, from: i32, sql: &mut String) {
    let versions = layout::full(schema, "schema_version");
    for (version, step) in (1..=VERSION).zip(STEPS) {
        if version > from {
            sql.push_str(&step(schema));
            let program = concat!("tapedeck ", env!("CARGO_PKG_VERSION"));
            sql.push_str(&format!("INSERT INTO {versions} (version, program) VALUES ({version}, '{program}');\n"));
        }
    }
}

/// A relation as it is on the server.
#[derive(Debug, Default)]
struct Relation {
    /// `r` a table, `p` one with partitions; anything else is none of ours.
    kind: String,
    columns: HashMap<String, String>,
    /// A column that is not ours and must not be NULL.
    demanding: Option<String>,
    /// Columns of the primary key.
    key: Vec<String>,
    /// What no partition of a day takes has a place.
    default: bool,
}

#[derive(Debug, Default)]
struct Found {
    schema: bool,
    /// 0: nothing was made.
    version: i32,
    relations: HashMap<String, Relation>,
}

impl Found {
    async fn read(client: &Client, schema: &str) -> Result<Found, SinkError> {
        let failed = |error| failure::of_opening(&error, "looking at the schema");
        let there = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        let mut found =
            Found { schema: client.query_opt(there, &[&schema]).await.map_err(failed)?.is_some(), ..Found::default() };
        if !found.schema {
            return Ok(found);
        }
        let columns = "SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
             a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition";
        for row in client.query(columns, &[&schema]).await.map_err(failed)? {
            let relation = found.relations.entry(row.get(0)).or_default();
            relation.kind = row.get(1);
            if let Some(name) = row.get::<_, Option<String>>(2) {
                if row.get::<_, Option<bool>>(4) == Some(true) && !is_ours(&row.get::<_, String>(0), &name) {
                    relation.demanding.get_or_insert(name.clone());
                }
                relation.columns.insert(name, row.get(3));
            }
        }
        let keys = "SELECT c.relname::text, a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey) \
             WHERE n.nspname = $1 AND i.indisprimary AND NOT c.relispartition";
        for row in client.query(keys, &[&schema]).await.map_err(failed)? {
            found.relations.entry(row.get(0)).or_default().key.push(row.get(1));
        }
        let defaults = "SELECT c.relname::text FROM pg_partitioned_table t JOIN pg_class c ON c.oid = t.partrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND t.partdefid <> 0";
        for row in client.query(defaults, &[&schema]).await.map_err(failed)? {
            found.relations.entry(row.get(0)).or_default().default = true;
        }
        if found.relations.contains_key("schema_version") {
            let version = format!("SELECT coalesce(max(version), 0) FROM {}", layout::full(schema, "schema_version"));
            found.version = client.query_one(&version, &[]).await.map_err(failed)?.get(0);
        }
        Ok(found)
    }

    /// What makes a table again, or its columns and key.
    fn mend(&self, schema: &str, table: Table, sql: &mut String) -> Result<(), SinkError> {
        let person = |words: String| Err(SinkError::Waiting(anyhow!("{words}")));
        let name = layout::full(schema, table.name());
        let Some(relation) = self.relations.get(table.name()) else {
            tracing::warn!(table = name, "a table of ours is missing: it is made again, empty");
            sql.push_str(&layout::create(schema, table));
            return Ok(());
        };
        if !matches!(relation.kind.as_str(), "r" | "p") {
            return person(format!("{name} is no table: rename it, or set another `schema`"));
        }
        if let Some(column) = &relation.demanding {
            return person(format!(
                "{name} has a column `{column}` that must not be NULL and that tapedeck does not know: give it a default"
            ));
        }
        for column in layout::of(table) {
            let quoted = layout::quoted(&column.name);
            match relation.columns.get(&column.name) {
                Some(found) if found == column.type_name => {}
                Some(found) => {
                    let wanted = column.type_name;
                    return person(format!(
                        "{name}.{quoted} is {found} and should be {wanted}: change it back, or rename the table"
                    ));
                }
                None => {
                    tracing::warn!(
                        table = name,
                        column = column.name,
                        "a column of ours is missing: it is added, empty for rows that are there"
                    );
                    sql.push_str(&format!("ALTER TABLE {name} ADD COLUMN {quoted} {};\n", column.type_name));
                }
            }
        }
        if relation.kind == "p" && !relation.default {
            sql.push_str(&layout::create_default(schema, table));
        }
        let key = layout::key(table);
        if relation.key.is_empty() {
            sql.push_str(&format!("ALTER TABLE {name} ADD PRIMARY KEY ({key});\n"));
        } else if !key.split(", ").all(|part| relation.key.iter().any(|found| found == part))
            || relation.key.len() != key.split(", ").count()
        {
            return person(format!("the primary key of {name} is ({}) and should be ({key})", relation.key.join(", ")));
        }
        Ok(())
    }
}

fn is_ours(relation: &str, column: &str) -> bool {
    match relation.parse::<Table>() {
        Ok(table) => layout::of(table).iter().any(|ours| ours.name == column),
        Err(_) => true,
    }
}
