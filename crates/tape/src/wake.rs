//! The socket that wakes readers in other processes: `<dir>/wake.sock`.
//!
//! The writer sends each of them one byte after each advance. A byte that does not fit is left out: one that is not yet read
//! wakes as well as two. The end of file means that the writer is gone.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const SOCKET_NAME: &str = "wake.sock";
/// Readers of other processes at one time: sinks, a console, a few shells.
const READERS_MAX: usize = 256;

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Bell {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    readers: Mutex<Vec<UnixStream>>,
    stop: AtomicBool,
}

impl Bell {
    /// Listens in the folder. The caller holds the tape's lock, so a socket that lies there is nobody's.
    ///
    /// # Errors
    /// Among others, a path of more than 107 bytes: readers then look at the hint from time to time.
    pub(crate) fn hang(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("tape-wake".into()).spawn(move || shared.accept(&listener))?
        };
        Ok(Bell { path, shared, thread: Some(thread) })
    }

    /// Wakes every reader.
    pub(crate) fn ring(&self) {
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|reader| {
            match reader.write_all(&[1]) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        });
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // The listener sits in `accept`; a caller wakes it.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(thread) = self.thread.take()
            && woken
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn accept(&self, listener: &UnixListener) {
        loop {
            let accepted = listener.accept();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((reader, _)) => {
                    let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
                    // One too many is turned away, and sees the end of the file.
                    if readers.len() < READERS_MAX && reader.set_nonblocking(true).is_ok() {
                        readers.push(reader);
                    }
                }
                // Out of descriptors, most likely: some will be free later.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// A reader's side.
#[derive(Debug)]
pub(crate) struct Ear {
    stream: UnixStream,
}

/// What a reader heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ring,
    Nothing,
    Gone,
}

impl Ear {
    /// `None`: no writer listens there.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        UnixStream::connect(dir.join(SOCKET_NAME)).ok().map(|stream| Ear { stream })
    }

    /// Waits for the next ring, and takes all that have gathered.
    pub(crate) fn listen(&mut self, timeout: Duration) -> Heard {
        // Zero would mean "for ever" to the socket.
        let timeout = timeout.max(Duration::from_millis(1));
        if self.stream.set_read_timeout(Some(timeout)).is_err() {
            return Heard::Gone;
        }
        match self.stream.read(&mut [0; 256]) {
            Ok(0) => Heard::Gone,
            Ok(_) => Heard::Ring,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Heard::Nothing,
                _ => Heard::Gone,
            },
        }
    }
}
