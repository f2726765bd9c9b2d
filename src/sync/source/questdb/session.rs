//! One connection over the PostgreSQL protocol, opened when it is needed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{StreamExt as _, pin_mut};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row};

use super::failure;
use crate::sinks::postgres::dsn::Target;
use crate::sinks::postgres::tls;
use crate::sync::source::Config;
use crate::sync::{Class, Trouble};

/// Its PostgreSQL port, where the address names none.
const PORT: u16 = 8812;

pub(super) struct Session {
    target: Target,
    timeout: Duration,
    open: Option<Open>,
    /// Makes the text of a question another one.
    asked_again: u64,
}

struct Open {
    client: Client,
    /// Drives the connection; it ends with it.
    _driver: JoinSet<()>,
}

impl Session {
    pub(super) fn new(config: &Config) -> anyhow::Result<Session> {
        let parsed = Target::parse(config.address()?.expose());
        // What is read there is written `url` here.
        let mut target = parsed.map_err(|error| {
            let words = format!("{error:#}");
            anyhow::anyhow!("url: {}", words.strip_prefix("dsn: ").unwrap_or(&words))
        })?;
        if target.config.get_ports().is_empty() {
            target.config.port(PORT);
        }
        if target.config.get_user().is_none() {
            target.config.user("admin");
        }
        if target.config.get_dbname().is_none() {
            target.config.dbname("qdb");
        }
        if target.config.get_application_name().is_none() {
            target.config.application_name("tapedeck sync");
        }
        Ok(Session { target, timeout: config.timeout.0, open: None, asked_again: 0 })
    }

    /// For people: no secrets.
    pub(super) fn shown(&self) -> String {
        self.target.shown()
    }

    /// Which database it is, whoever asks it.
    pub(super) fn identity(&self) -> String {
        format!("{}/{}", self.shown(), self.target.config.get_dbname().unwrap_or_default())
    }

    /// The rows of a statement that gives few enough to be held.
    ///
    /// # Errors
    /// The server is away, refuses us, or the statement. A connection that turns out to be broken is made again once: questions
    /// change nothing.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Trouble> {
        let mut rows = Vec::new();
        self.each(sql, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Hands on each row of a statement, as it comes.
    ///
    /// # Errors
    /// As of [`Session::ask`]; some rows may have been handed on, but never twice.
    pub(super) async fn each(&mut self, sql: &str, mut take: impl FnMut(Row)) -> Result<(), Trouble> {
        let since = Instant::now();
        let mut count = 0_u64;
        let mut again = None;
        loop {
            let fresh = self.connect().await?;
            match self.run(again.as_deref().unwrap_or(sql), &mut count, &mut take).await {
                Ok(()) => break,
                // The server may have been started again since the last question.
                Err(Failed::Broken(_)) if !fresh && count == 0 => self.open = None,
                Err(Failed::OldPlan(_)) if again.is_none() && count == 0 => {
                    self.asked_again += 1;
                    again = Some(format!("{sql} -- {}", self.asked_again));
                }
                Err(Failed::Broken(trouble)) => {
                    self.open = None;
                    return Err(trouble);
                }
                Err(Failed::Refused(trouble) | Failed::OldPlan(trouble)) => return Err(trouble),
            }
        }
        tracing::debug!(sql, rows = count, took_ms = since.elapsed().as_millis(), "asked the source");
        Ok(())
    }

    async fn run(&self, sql: &str, count: &mut u64, take: &mut impl FnMut(Row)) -> Result<(), Failed> {
        let doing = || format!("reading from {}", self.shown());
        let slow = || {
            let words = format!("{}: no answer within {}", doing(), crate::config::units::Interval(self.timeout));
            Failed::Broken(Trouble::new(Class::Connection, words))
        };
        let failed = |error: tokio_postgres::Error| {
            let trouble = failure::of(&error, &doing());
            match () {
                () if failure::is_broken(&error) => Failed::Broken(trouble),
                () if failure::is_old_plan(&error) => Failed::OldPlan(trouble),
                () => Failed::Refused(trouble),
            }
        };
        let Some(open) = &self.open else { return Err(Failed::Broken(Trouble::new(Class::Connection, doing()))) };
        let asked = open.client.query_raw(sql, std::iter::empty::<i32>());
        let stream = tokio::time::timeout(self.timeout, asked).await.map_err(|_| slow())?.map_err(failed)?;
        pin_mut!(stream);
        // The wait is for each answer: a long list is no trouble as long as it goes on.
        while let Some(row) = tokio::time::timeout(self.timeout, stream.next()).await.map_err(|_| slow())? {
            *count += 1;
            take(row.map_err(failed)?);
        }
        Ok(())
    }

    /// Whether there is such a table, as the server finds it when it is read.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub(super) async fn has(&mut self, table: &str) -> Result<bool, Trouble> {
        if table.is_empty() {
            return Ok(false);
        }
        self.connect().await?;
        let Some(open) = &self.open else { return Ok(false) };
        let sql = format!("SELECT 1 FROM {} LIMIT 0", super::names::quoted(table));
        match tokio::time::timeout(self.timeout, open.client.prepare(&sql)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) if failure::is_no_table(&error) => Ok(false),
            Ok(Err(error)) => Err(failure::of(&error, &format!("looking for `{table}`"))),
            Err(_) => Err(Trouble::new(Class::Connection, format!("looking for `{table}`: no answer"))),
        }
    }

    /// Connects where there is no connection; whether it did.
    async fn connect(&mut self) -> Result<bool, Trouble> {
        if self.open.as_ref().is_some_and(|open| !open.client.is_closed()) {
            return Ok(false);
        }
        self.open = None;
        let doing = format!("connecting to {}", self.shown());
        let setup = |error: anyhow::Error| Trouble::new(Class::Setup, format!("{error:#}"));
        let tls = tls::connector(&self.target).context("preparing TLS").map_err(setup)?;
        let connecting = tokio::time::timeout(self.timeout, self.target.config.connect(tls)).await;
        let connected = connecting.map_err(|_| Trouble::new(Class::Connection, format!("{doing}: no answer")))?;
        let (client, connection) = connected.map_err(|error| failure::of(&error, &doing))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = error.to_string(), "the connection to QuestDB ended");
            }
        });
        self.open = Some(Open { client, _driver: driver });
        Ok(true)
    }
}

enum Failed {
    /// The connection is of no use any more.
    Broken(Trouble),
    /// The server's own plan is out of date: it makes another one for another text.
    OldPlan(Trouble),
    Refused(Trouble),
}
