//! What an error of QuestDB means. It gives all of them the same SQLSTATE, so it is told by its words.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sync::{Class, Trouble};

/// An error of the connection or of a statement.
pub(super) fn of(error: &Error, doing: &str) -> Trouble {
    match error.as_db_error() {
        Some(said) => of_words(said, doing),
        // What the library itself finds wrong with user and password.
        None if error.to_string().starts_with("invalid configuration") => {
            Trouble::new(Class::Authentication, format!("{doing}: {}", words(error))).fix(CREDENTIALS)
        }
        None => Trouble::new(Class::Connection, format!("{doing}: {}", words(error))),
    }
}

const CREDENTIALS: &str = "look at user and password in the source's `url`";

fn of_words(error: &DbError, doing: &str) -> Trouble {
    let said = error.message();
    let text = format!("{doing}: {said}");
    let lower = said.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if has(&["invalid username/password", "access denied", "permission denied", "unauthorized"]) {
        return Trouble::new(Class::Authentication, text).fix(CREDENTIALS);
    }
    if is_missing(error) {
        return Trouble::new(Class::Setup, text);
    }
    if has(&["timeout, query aborted"]) {
        return Trouble::new(Class::Server, text).fix("the server's `query.timeout` may be too short for this table");
    }
    Trouble::new(Class::Server, text)
}

/// Whether there is no such table.
fn is_missing(error: &DbError) -> bool {
    error.message().contains("table does not exist")
}

/// Whether the statement failed because there is no such table.
pub(super) fn is_no_table(error: &Error) -> bool {
    error.as_db_error().is_some_and(is_missing)
}

/// Whether the server answered by a plan that it had kept of a table that is not as it was. It keeps plans by their text.
pub(super) fn is_old_plan(error: &Error) -> bool {
    let old = |said: &DbError| {
        let message = said.message();
        message.contains("cached plan") || message.contains("cached query plan") || message.contains("table is dropped")
    };
    error.as_db_error().is_some_and(old)
}

/// Whether the connection is of no use any more.
pub(super) fn is_broken(error: &Error) -> bool {
    error.is_closed() || error.as_db_error().is_none()
}

/// The error with its cause, once.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
