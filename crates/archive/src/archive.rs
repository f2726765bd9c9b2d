//! The archive at work: a thread that reads and writes, and one that tidies.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tapedeck_tape::Tail;
use tapedeck_tape::storage::Storage;

use crate::archiver::{Archiver, Options, describe};
use crate::disk::RealDisk;
use crate::error::Error;
use crate::house::House;
use crate::snapshot::{Snapshot, Snapshots};
use crate::status::{Board, Status};

/// A running archive. Dropping it stops it; what is in no file yet is read from the tape again by the next one.
#[derive(Debug)]
pub struct Archive {
    snapshots: Arc<Snapshots>,
    board: Arc<Board>,
    stop: Arc<Stop>,
    reading: Option<JoinHandle<Result<(), Error>>>,
    tidying: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    wake: (Mutex<()>, Condvar),
}

impl Stop {
    fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        let _guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.1.notify_all();
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Sleeps, unless or until somebody asks.
    fn sleep(&self, time: Duration) {
        let guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.wake.1.wait_timeout_while(guard, time, |()| !self.is_asked());
    }
}

impl Archive {
    /// Opens the archive in `dir` and follows the tape in `tape_dir`. `tail` is the writer's, in the writer's own process;
    /// in any other one there is none.
    ///
    /// # Errors
    /// As [`Archiver::open`].
    pub fn follow(
        storage: &Arc<dyn Storage>,
        tape_dir: &Path,
        tail: Option<Arc<Tail>>,
        dir: &Path,
        options: Options,
    ) -> Result<Archive, Error> {
        let tidy_every = options.tidy_every;
        let mut archiver = Archiver::open(storage, tape_dir, tail, Arc::new(RealDisk), dir, options)?;
        let (snapshots, board, house) = (archiver.snapshots(), archiver.board(), archiver.house());
        let stop = Arc::new(Stop::default());
        let reading = {
            let stop = Arc::clone(&stop);
            spawn("archive", move || {
                while !stop.is_asked() {
                    archiver.turn()?;
                }
                Ok(())
            })?
        };
        let tidying = {
            let stop = Arc::clone(&stop);
            spawn("archive-tidy", move || tidy(&house, &stop, tidy_every))?
        };
        Ok(Archive { snapshots, board, stop, reading: Some(reading), tidying: Some(tidying) })
    }

    /// Everything up to now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.newest()
    }

    /// For those who wait for the next snapshot.
    #[must_use]
    pub fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Whether reading has ended: by an error, which [`Archive::stop`] tells.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.reading.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops, within a turn of reading, or the writing of a range.
    ///
    /// # Errors
    /// Why reading had ended before.
    pub fn stop(mut self) -> Result<(), Error> {
        self.halt()
    }

    fn halt(&mut self) -> Result<(), Error> {
        self.stop.ask();
        if let Some(tidying) = self.tidying.take() {
            let _ = tidying.join();
        }
        match self.reading.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(Error::NotOurs { what: "the archive's thread panicked".to_owned() }),
            None => Ok(()),
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(error = describe(&error), "the archive had ended");
        }
    }
}

fn tidy(house: &House, stop: &Stop, every: Duration) {
    while !stop.is_asked() {
        match house.tidy(&|| stop.is_asked()) {
            Ok(_) | Err(Error::Stopped) => {}
            Err(error) => tracing::warn!(error = describe(&error), "old days not tidied, tried again later"),
        }
        stop.sleep(every);
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(Error::io("starting a thread", Path::new(name)))
}
