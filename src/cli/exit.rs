//! How the program ends: the exit codes, which scripts rely on, and the last words.

use super::out::Closed;
use crate::config::Problems;

/// Done, nothing wrong.
pub const OK: u8 = 0;
/// It failed, or a check found something.
pub const FAILED: u8 = 1;
/// The command line or the config is wrong.
pub const USAGE: u8 = 2;
/// The tape is locked: another deck records on it.
pub const LOCKED: u8 = 3;
/// There is nothing to work on: no tape in the folder, no deck running.
pub const ABSENT: u8 = 4;

/// An end with a code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The verb printed what it found; there is nothing to add.
    #[error("something was found")]
    Found,
    /// The command line does not fit what there is.
    #[error("{0}")]
    Usage(String),
    /// A deck has the tape, and must not be disturbed.
    #[error("{0}")]
    Busy(String),
    /// No tape, or no deck.
    #[error("{0}")]
    Absent(String),
}

/// The exit code of an outcome.
#[must_use]
pub fn code(done: &anyhow::Result<()>) -> u8 {
    let Err(error) = done else { return OK };
    if error.is::<Closed>() {
        // `tapedeck tail | head` is no failure.
        return OK;
    }
    if error.is::<Problems>() {
        return USAGE;
    }
    let tape = || error.chain().find_map(|cause| cause.downcast_ref::<tapedeck_tape::Error>());
    match (error.downcast_ref::<End>(), tape()) {
        (Some(End::Usage(_)), _) => USAGE,
        (Some(End::Absent(_)), _) | (_, Some(tapedeck_tape::Error::NoTape { .. })) => ABSENT,
        (Some(End::Busy(_)), _) | (_, Some(tapedeck_tape::Error::Locked { .. })) => LOCKED,
        _ => FAILED,
    }
}

/// What to say about it, if anything.
#[must_use]
pub fn message(error: &anyhow::Error) -> Option<String> {
    if error.is::<Closed>() || matches!(error.downcast_ref::<End>(), Some(End::Found)) {
        return None;
    }
    Some(match error.downcast_ref::<Problems>() {
        // Each problem is a paragraph that begins like every error.
        Some(problems) => problems.to_string().replace("\n\n", "\n\ntapedeck: "),
        None => format!("{error:#}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_end_keeps_its_code_under_context() {
        let under = |error: End| Err::<(), _>(error).context("reading the tape");
        assert_eq!(code(&under(End::Absent("no tape".into()))), ABSENT);
        assert_eq!(code(&under(End::Usage("no".into()))), USAGE);
        assert_eq!(code(&Err(anyhow::anyhow!("other"))), FAILED);
        assert_eq!(code(&Err(Closed.into())), OK);
        assert_eq!(code(&Ok(())), OK);
    }
}
