//! What an error of the server means, by its SQLSTATE: away, a case for a person, records that it will never take.

use anyhow::anyhow;
use tokio_postgres::Error;

use crate::sinks::SinkError;

/// What the pump does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// It passes, or the store is mended when it is opened again.
    Away,
    /// Only a person can help, in this way.
    Person(&'static str),
    /// Something in what was sent.
    Data,
    /// It took too long.
    Slow,
}

/// The error in the server's words, with what the pump does about it.
pub(super) fn of(error: &Error, doing: &str) -> SinkError {
    let words = format!("{doing}: {}", words(error));
    match meaning(error) {
        Means::Away => SinkError::Unavailable(anyhow!(words)),
        Means::Person(advice) => SinkError::Waiting(anyhow!("{words}; {advice}")),
        Means::Data => SinkError::BatchRefused(words),
        Means::Slow => SinkError::TooMuch(words),
    }
}

/// As [`of`], where no records are concerned: nothing can be refused then.
pub(super) fn of_opening(error: &Error, doing: &str) -> SinkError {
    match of(error, doing) {
        SinkError::BatchRefused(words) => SinkError::Waiting(anyhow!(words)),
        SinkError::TooMuch(words) => SinkError::Unavailable(anyhow!(words)),
        error => error,
    }
}

/// Whether a row that is there already was in the way.
pub(super) fn is_duplicate(error: &Error) -> bool {
    code(error) == Some("23505")
}

/// Whether somebody else made meanwhile what we wanted to make.
pub(super) fn is_made_already(error: &Error) -> bool {
    matches!(code(error), Some("42P07" | "23505" | "42P17"))
}

fn code(error: &Error) -> Option<&str> {
    error.code().map(|state| state.code())
}

fn meaning(error: &Error) -> Means {
    match code(error) {
        Some(code) => meaning_of(code),
        None if is_about_certificate(error) => {
            Means::Person("look at `sslmode` and `sslrootcert` in `dsn`, and at the server's certificate")
        }
        None if error.to_string().starts_with("invalid configuration") => {
            Means::Person("look at user and password in `dsn`")
        }
        None => Means::Away,
    }
}

fn meaning_of(code: &str) -> Means {
    match code {
        "42501" => Means::Person("grant it to the user of `dsn` (docs/sinks.md lists what is needed)"),
        "3D000" => Means::Person("make the database, or change `dsn`"),
        // A schema, table, column or key that is not there (any more), or of another type: opening mends it, or says why not.
        "3F000" | "42P01" | "42703" | "42704" | "42P10" | "42804" | "42846" => Means::Away,
        "57014" => Means::Slow,
        // A trigger or check of the user's own.
        "P0001" => Means::Data,
        _ => match code.get(..2).unwrap_or_default() {
            "28" => Means::Person("look at user and password in `dsn`, and at pg_hba.conf"),
            "21" | "22" | "23" | "44" | "54" => Means::Data,
            "42" => Means::Person("look at what was changed in the schema"),
            // Connection 08, rollback 40, read-only 25, resources and disk 53, operator 57, system 58, internal XX …
            _ => Means::Away,
        },
    }
}

/// Whether the server's certificate is the matter, or that it has none.
fn is_about_certificate(error: &Error) -> bool {
    let handshake = error.to_string().starts_with("error performing TLS");
    let refused = std::error::Error::source(error).is_some_and(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        io.is_some_and(|inner| inner.is::<rustls::Error>()) || cause.to_string().contains("does not support TLS")
    });
    handshake && refused
}

/// The server's words, or the library's with its cause.
pub(super) fn words(error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let mut words = format!("{} ({})", db.message(), db.code().code());
    // The detail quotes the row, which tells a person what is wrong with it; the pump cuts it.
    for more in [db.detail(), db.where_()].into_iter().flatten() {
        words.push_str("; ");
        words.push_str(more);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart() {
        for (code, means) in [
            ("53100", Means::Away),
            ("53300", Means::Away),
            ("25006", Means::Away),
            ("57P01", Means::Away),
            ("08006", Means::Away),
            ("40P01", Means::Away),
            ("55P03", Means::Away),
            ("XX000", Means::Away),
            ("42703", Means::Away),
            ("42P01", Means::Away),
            ("57014", Means::Slow),
            ("22003", Means::Data),
            ("22021", Means::Data),
            ("23514", Means::Data),
            ("54000", Means::Data),
        ] {
            assert_eq!(meaning_of(code), means, "{code}");
        }
        for code in ["28P01", "28000", "42501", "3D000", "42601"] {
            assert!(matches!(meaning_of(code), Means::Person(_)), "{code}");
        }
    }
}
