//! A peer in a process of its own, most often a Python: it says `ready`; asked for N it does N operations and says `done`.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The child; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `benches/peers/SCRIPT` with the Python that the environment names, and waits until it is ready. Without that
    /// name there is no peer, which is said.
    ///
    /// # Panics
    /// It does not start: a comparison without its peer is none.
    pub fn python<S: AsRef<OsStr>>(name: &str, script: &str, args: impl IntoIterator<Item = S>) -> Option<Peer> {
        let Some(python) = std::env::var_os(name) else {
            println!("no peer: {name} is not set (scripts/bench sets it)");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let mut command = Command::new(python);
        command.arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer starts");
        let (ask, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut peer = Peer { child, ask, answers: BufReader::new(answers) };
        peer.hear("ready");
        Some(peer)
    }

    /// Has it do so many operations.
    ///
    /// # Panics
    /// It ended.
    pub fn take(&mut self, n: u64) {
        writeln!(self.ask, "{n}").and_then(|()| self.ask.flush()).expect("the peer listens");
        self.hear("done");
    }

    fn hear(&mut self, wanted: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the peer answers");
        assert_eq!(line.trim(), wanted, "the peer");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
