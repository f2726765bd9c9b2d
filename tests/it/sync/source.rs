//! The source of the sync: every type, every kind of change, servers that restart, die and hang. On a real QuestDB, and on files.

mod follow;
mod memory;
mod news;
mod sqlite;
mod troubles;
mod types;

use std::collections::BTreeMap;

use tapedeck::sync::source::Config;
use tapedeck::sync::{By, Mark, News, Row, Schema, Source, Span, Trouble, Value, Wanted};
use tokio::sync::mpsc;

use crate::servers::{Questdb, fresh_name};
use crate::support::until;

/// A source, asked from a test that blocks.
struct Asked {
    source: Box<dyn Source>,
    runtime: tokio::runtime::Runtime,
}

impl Asked {
    fn new(server: &Questdb) -> Asked {
        Asked::with(Config::new(server.dsn()))
    }

    fn with(config: Config) -> Asked {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Asked { source: config.open().unwrap(), runtime }
    }

    fn schema(&mut self, table: &str) -> Schema {
        self.runtime.block_on(self.source.schema(table)).unwrap()
    }

    fn news(&mut self, table: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        self.runtime.block_on(self.source.news(table, mark))
    }

    fn rows(&mut self, table: &str, span: Span) -> Vec<Row> {
        self.try_rows(table, span, None).unwrap()
    }

    fn try_rows(&mut self, table: &str, span: Span, limit: Option<u64>) -> Result<Vec<Row>, Trouble> {
        self.runtime.block_on(async {
            let schema = self.source.schema(table).await?;
            let (out, mut from) = mpsc::channel(2);
            let wanted = Wanted { table, schema: &schema, span, limit };
            let take = async {
                let mut rows = Vec::new();
                while let Some(chunk) = from.recv().await {
                    rows.extend::<Vec<Row>>(chunk);
                }
                rows
            };
            let (sent, rows) = tokio::join!(self.source.rows(&wanted, out), take);
            assert_eq!(sent?, rows.len() as u64);
            Ok(rows)
        })
    }
}

/// A table that is followed: what its news and rows make of it must be what is there.
struct Followed {
    asked: Asked,
    table: String,
    mark: Option<Mark>,
    /// By time and the column `k`.
    copy: BTreeMap<(i64, String), Row>,
    read: u64,
}

impl Followed {
    fn new(server: &Questdb, table: &str) -> Followed {
        Followed::with(Asked::new(server), table)
    }

    fn with(asked: Asked, table: &str) -> Followed {
        Followed { asked, table: table.to_owned(), mark: None, copy: BTreeMap::new(), read: 0 }
    }

    /// One look, its rows taken over; of one time and one `k` there is one row.
    fn look(&mut self) -> News {
        self.try_look().unwrap()
    }

    /// After an error the mark stands where it stood.
    fn try_look(&mut self) -> Result<News, Trouble> {
        let news = self.asked.news(&self.table, self.mark.as_ref())?;
        let schema = self.asked.runtime.block_on(self.asked.source.schema(&self.table))?;
        let key = schema.place("k").unwrap();
        let time = schema.time.unwrap();
        self.read = 0;
        if news.columns && news.by == By::Log {
            // A column that was added is NULL in all rows.
            self.copy.values_mut().for_each(|row| row.resize(schema.columns.len(), Value::Null));
        }
        for span in &news.spans {
            if news.removed {
                self.copy.retain(|(at, _), _| !within(*span, *at));
            }
            for row in self.asked.try_rows(&self.table, *span, None)? {
                let Value::Time(at) = row[time] else { panic!("{row:?}") };
                assert!(within(*span, at), "{span:?}: {at}");
                self.read += 1;
                self.copy.insert((at, format!("{:?}", row[key])), row);
            }
        }
        self.mark = Some(news.mark.clone());
        Ok(news)
    }

    /// Looks, and asserts that the copy is the table.
    #[track_caller]
    fn same(&mut self) -> News {
        let news = self.look();
        self.compare();
        news
    }

    #[track_caller]
    fn compare(&mut self) {
        let there = self.asked.rows(&self.table, Span::default());
        let copy: Vec<&Row> = self.copy.values().collect();
        assert_eq!(copy.len(), there.len());
        let mut there: Vec<String> = there.iter().map(|row| format!("{row:?}")).collect();
        let mut copy: Vec<String> = copy.iter().map(|row| format!("{row:?}")).collect();
        there.sort();
        copy.sort();
        assert_eq!(copy, there);
    }
}

fn within(span: Span, at: i64) -> bool {
    span.from_ns.is_none_or(|from| from <= at) && span.to_ns.is_none_or(|to| at < to)
}

/// Runs a statement and waits until its effect can be read.
#[track_caller]
pub(super) fn run(server: &Questdb, sql: &str) {
    let reply = server.exec(sql);
    assert_eq!(reply.status, 200, "{sql}: {}", reply.body);
    applied(server);
}

/// Waits until all that was written can be read, but in suspended tables.
#[track_caller]
pub(super) fn applied(server: &Questdb) {
    let behind = "SELECT count() FROM wal_tables() WHERE writerTxn < sequencerTxn AND NOT suspended";
    until("all to be applied", || (server.query(behind)[0][0] == 0).then_some(()));
}

/// A table of that name's kind with `ts`, `k` and `v`.
fn made(server: &Questdb, rest: &str) -> String {
    let table = fresh_name("source");
    run(server, &format!("CREATE TABLE {table} (ts TIMESTAMP, k SYMBOL, v LONG) TIMESTAMP(ts) {rest}"));
    table
}

const DAYS: &str = "PARTITION BY DAY WAL";
