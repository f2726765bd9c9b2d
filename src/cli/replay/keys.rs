//! Keys on a terminal, while something is played.

use std::io::Read as _;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::replay::Command;

/// Seconds that an arrow goes.
const ARROW_SECS: i64 = 10;

/// The terminal gives out keys one by one, unseen, until this is dropped. Ctrl-C stays what it is.
#[derive(Debug)]
pub(super) struct Keys {
    before: Termios,
}

impl Keys {
    /// `None` where standard input is no terminal.
    pub(super) fn listen(to: mpsc::Sender<Command>) -> Option<Keys> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        // It ends with the process, or with the first key after the replay: nothing waits for it.
        std::thread::Builder::new().name("keys".into()).spawn(move || read(&to)).ok()?;
        Some(Keys { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn read(to: &mpsc::Sender<Command>) {
    let mut reading = Reading::default();
    for byte in std::io::stdin().lock().bytes() {
        let Ok(byte) = byte else { return };
        if let Some(command) = reading.take(byte)
            && to.blocking_send(command).is_err()
        {
            return;
        }
    }
}

/// Finds keys among bytes: an arrow is three of them.
#[derive(Debug, Default)]
struct Reading {
    /// Bytes of an escape sequence so far.
    escape: u8,
}

impl Reading {
    fn take(&mut self, byte: u8) -> Option<Command> {
        match (std::mem::take(&mut self.escape), byte) {
            (_, 0x1b) => self.escape = 1,
            (1, b'[' | b'O') => self.escape = 2,
            (2, b'C') => return Some(Command::Seek(ARROW_SECS)),
            (2, b'D') => return Some(Command::Seek(-ARROW_SECS)),
            (2, _) => {}
            (_, b' ') => return Some(Command::Pause),
            (_, b'+' | b'=') => return Some(Command::Faster),
            (_, b'-' | b'_') => return Some(Command::Slower),
            (_, b'q' | b'Q') => return Some(Command::Quit),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_from_the_bytes_of_arrows() {
        let mut reading = Reading::default();
        let commands: Vec<Command> =
            b" x\x1b[C\x1b[D\x1bOC\x1b[A\x1b[\x1b[C+-q".iter().filter_map(|&b| reading.take(b)).collect();
        let (forth, back) = (Command::Seek(10), Command::Seek(-10));
        let ends = [Command::Faster, Command::Slower, Command::Quit];
        assert_eq!(commands, [&[Command::Pause, forth, back, forth, forth][..], &ends].concat());
    }
}
