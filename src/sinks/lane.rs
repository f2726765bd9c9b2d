//! A thread that reads a stretch of the tape and cuts it into lots for a sink.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_market::{Kind, Record, SmolStr, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start, Tail, Woken};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::books::{Books, whole};
use super::delivery::Delivery;
use super::order::Again;

/// Lots read ahead of the one that is being written: with their size the bound of a sink's memory.
const AHEAD: usize = 1;
/// Records that nobody wants are passed over in stretches of this size, so that the cursor moves.
const SPAN_RECORDS: u64 = 50_000;
/// How long a lane sleeps before it looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A stretch of the tape, and what of it goes to the store.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub from: u64,
    /// Included. Below `from`: nothing was read.
    pub to: u64,
    pub records: Vec<Record>,
    /// Of the wanted records, as they lie on the tape.
    pub bytes: usize,
    /// Receive time of the first record read, wanted or not.
    pub first_recv: Option<UnixNanos>,
    /// Records that the tape no longer has, or cannot read.
    pub lost: u64,
    /// Records of a later version of this program.
    pub unread: u64,
}

/// What a lane reads.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub name: SmolStr,
    pub dir: PathBuf,
    pub tape: Arc<Tail>,
    pub delivery: Arc<Delivery>,
    /// Levels a side of whole books, in the place of their changes.
    pub books: Option<usize>,
    /// What was delivered before, and which of it goes again.
    pub again: Option<Arc<Again>>,
    /// Most records of a lot, as the store takes them at present.
    pub limit: Arc<AtomicUsize>,
    /// The deck stops: no waiting for more.
    pub hurry: Arc<AtomicBool>,
    pub from: u64,
    /// The last seq; `None`: for ever.
    pub until: Option<u64>,
}

/// The lots of a stretch, in order. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Lane {
    lots: mpsc::Receiver<anyhow::Result<Lot>>,
}

impl Lane {
    pub(super) fn start(stretch: Stretch) -> anyhow::Result<Lane> {
        let (sender, lots) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name(format!("read-{}", stretch.name))
            .spawn(move || {
                if let Err(error) = read(&stretch, &sender, &runtime) {
                    // Nobody listens any more when the sink was ended meanwhile.
                    let _ = sender.blocking_send(Err(error));
                }
            })
            .context("starting a reader of the tape")?;
        Ok(Lane { lots })
    }

    /// The next lot; `None`: the stretch is read. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<Lot>> {
        self.lots.recv().await
    }

    /// The next lot, if it is there already.
    pub(super) fn ready(&mut self) -> Option<anyhow::Result<Lot>> {
        self.lots.try_recv().ok()
    }
}

fn read(stretch: &Stretch, lots: &mpsc::Sender<anyhow::Result<Lot>>, runtime: &Handle) -> anyhow::Result<()> {
    let open = |start| Reader::open_with(Arc::new(Disk), &stretch.dir, start, stretch.tape.clone());
    let mut reader = open(Start::Seq(stretch.from)).context("reading the tape")?;
    let books = stretch.books.filter(|_| stretch.delivery.events.fit(Kind::BOOK.name()));
    let books = books.map(|levels| Books::before(levels, open(Start::Segment(stretch.from))?, stretch.from));
    let mut books = books.transpose().context("reading the books of the tape")?;
    loop {
        // Only when there is room for it: no lot waits beside the one that is read ahead.
        let Ok(room) = runtime.block_on(lots.reserve()) else { return Ok(()) };
        let Some(lot) = gather(stretch, &mut reader, &mut books, lots)? else { return Ok(()) };
        let end = stretch.until.is_some_and(|until| lot.to >= until);
        room.send(Ok(lot));
        if end {
            return Ok(());
        }
    }
}

/// Reads until a lot is full, or nothing more comes in time. `None`: nobody wants it any more.
fn gather(
    stretch: &Stretch,
    reader: &mut Reader,
    books: &mut Option<Books>,
    lots: &mpsc::Sender<anyhow::Result<Lot>>,
) -> anyhow::Result<Option<Lot>> {
    let Stretch { delivery, until, again, .. } = stretch;
    let limit = stretch.limit.load(Ordering::Relaxed).max(1);
    let mut lot = Lot { from: reader.seq(), to: reader.seq() - 1, ..Lot::default() };
    let mut since: Option<Instant> = None;
    loop {
        if lots.is_closed() {
            return Ok(None);
        }
        match reader.next().context("reading the tape")? {
            Some(Item::Hole(hole)) => {
                books.iter_mut().for_each(Books::forget_all);
                lot.lost += hole.to_seq - hole.from_seq + 1;
                lot.to = hole.to_seq;
            }
            Some(Item::Record(raw)) => {
                lot.to = raw.seq;
                lot.first_recv.get_or_insert(UnixNanos(raw.ts_recv));
                match wire::decode(raw.payload) {
                    Ok(event) => {
                        let wanted = whole(event, books).filter(|event| delivery.wants(event));
                        let record = wanted.map(|event| Record { seq: raw.seq, event });
                        let there = |record: &Record| again.as_ref().is_some_and(|again| again.passes_over(record));
                        if let Some(record) = record.filter(|record| !there(record)) {
                            lot.bytes += raw.payload.len();
                            lot.records.push(record);
                        }
                    }
                    Err(_) => lot.unread += 1,
                }
            }
            None => {
                let waited = since.map(|since| since.elapsed()).unwrap_or_default();
                let something = lot.to >= lot.from;
                if something && (waited >= delivery.batch_wait.0 || stretch.hurry.load(Ordering::Relaxed)) {
                    return Ok(Some(lot));
                }
                let left = delivery.batch_wait.0.saturating_sub(waited);
                let pause = if something { left.min(LOOK_EVERY) } else { LOOK_EVERY };
                let pause = pause.max(Duration::from_millis(1));
                if reader.wait(pause).context("waiting for records")? == Woken::WriterGone {
                    // The tape is closed and says so at once: nothing more comes, and there is nothing to wait on.
                    if something {
                        return Ok(Some(lot));
                    }
                    std::thread::sleep(pause);
                }
                continue;
            }
        }
        since.get_or_insert_with(Instant::now);
        let full = lot.records.len() >= limit || lot.bytes as u64 >= delivery.batch_bytes.0;
        if full || lot.to - lot.from >= SPAN_RECORDS || until.is_some_and(|until| lot.to >= until) {
            return Ok(Some(lot));
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};
    use tapedeck_tape::{Allocation, Log, Options};

    use super::*;

    /// Processor time of this thread.
    fn used() -> Duration {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
    }

    /// A deck that stops closes its tape while sinks still deliver: who waits for records then must not take the processor from them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lane_of_a_closed_tape_sleeps() {
        let home = tempfile::tempdir().unwrap();
        let options = Options { allocation: Allocation::None, segment_bytes: 1 << 20, ..Options::default() };
        let (log, _) = Log::open(Arc::new(Disk), home.path(), options).unwrap();
        let stretch = Stretch {
            name: "fake".into(),
            dir: home.path().to_owned(),
            tape: log.tail(),
            delivery: Arc::default(),
            books: None,
            again: None,
            limit: Arc::new(AtomicUsize::new(10)),
            hurry: Arc::default(),
            from: 1,
            until: None,
        };
        log.close().unwrap();
        let (sender, lots) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        let lane = std::thread::spawn(move || {
            read(&stretch, &sender, &runtime).unwrap();
            used()
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(lots);
        let used = lane.join().unwrap();
        assert!(used < Duration::from_millis(300), "{used:?} of a second");
    }
}
