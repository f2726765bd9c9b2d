//! The pump against a store that fails on purpose, over a real tape.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use tapedeck_market::{Body, Event, Flags, Status, Trade, wire};
use tapedeck_tape::{Allocation, Entry, Log, Options};

use super::*;
use crate::config::Globs;
use crate::config::units::{ByteSize, Interval};
use crate::service::Shown;
use crate::sinks::retry::{self, Deed};
use crate::sinks::{Fate, Opened, Refusal, Reject};

/// What the store has, and how it behaves.
#[derive(Default)]
struct Store {
    /// By seq, how often it was written.
    rows: BTreeMap<u64, u32>,
    /// Sizes and lateness of the batches that were taken, with their first seq.
    batches: Vec<(usize, bool, u64)>,
    writes: u32,
    opens: u32,
    /// After so many rows it was looked after.
    tended: Vec<usize>,
    down: bool,
    keeps_marks: bool,
    mark: Option<Vec<u8>>,
    /// The write is stored and then fails, as when a connection is lost behind a commit.
    lose_answer: bool,
    poison: Vec<u64>,
    /// How poison is refused, and what becomes of it.
    says_which: Option<bool>,
    fate: Fate,
    words: String,
    most: Option<usize>,
    rewind: Option<Duration>,
    rewind_when_opened: Option<Duration>,
    slow: Duration,
    /// The last that came stays, of those of one time.
    keeps_last: bool,
    last: BTreeMap<i64, u64>,
}

impl Store {
    fn words(&self) -> &str {
        if self.words.is_empty() { "field type conflict" } else { &self.words }
    }
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Store>>);

impl Fake {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }

    fn seqs(&self) -> Vec<u64> {
        self.lock().rows.keys().copied().collect()
    }
}

fn away() -> SinkError {
    SinkError::Unavailable(anyhow::anyhow!("connection refused"))
}

#[async_trait]
impl Sink for Fake {
    async fn open(&mut self, _tape: Uuid) -> Result<Opened, SinkError> {
        let mut store = self.lock();
        store.opens += 1;
        if !store.down
            && let Some(by) = store.rewind_when_opened.take()
        {
            return Err(SinkError::Rewind { by, cause: "server restarted".into() });
        }
        match (store.down, store.keeps_marks, &store.mark) {
            (true, ..) => Err(away()),
            (_, false, _) => Ok(Opened::NoMark),
            (_, true, Some(mark)) => Ok(Opened::Mark(mark.clone())),
            (_, true, None) => Ok(Opened::Empty),
        }
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let slow = self.lock().slow;
        tokio::time::sleep(slow).await;
        let mut store = self.lock();
        store.writes += 1;
        if store.down {
            return Err(away());
        }
        if let Some(by) = store.rewind.take() {
            return Err(SinkError::Rewind { by, cause: "server restarted".into() });
        }
        if store.most.is_some_and(|most| batch.records.len() > most) {
            return Err(SinkError::TooMuch("413".into()));
        }
        let bad = |record: &Record| store.poison.contains(&record.seq) && !batch.parted.contains(&record.seq);
        if batch.records.iter().any(bad) {
            let Some(rest_stored) = store.says_which else { return Err(SinkError::BatchRefused("cannot cast".into())) };
            let rejects = batch.records.iter().enumerate().filter(|(_, record)| bad(record));
            let rejects =
                rejects.map(|(index, _)| Reject { fate: store.fate, ..Reject::new(index, store.words()) }).collect();
            if rest_stored {
                let good: Vec<u64> =
                    batch.records.iter().filter(|record| !bad(record)).map(|record| record.seq).collect();
                good.into_iter().for_each(|seq| *store.rows.entry(seq).or_default() += 1);
            }
            return Err(SinkError::Refused(Refusal { rejects, rest_stored }));
        }
        for record in batch.records {
            *store.rows.entry(record.seq).or_default() += 1;
            store.last.insert(time_of(record).0, record.seq);
        }
        store.batches.push((batch.records.len(), batch.late, batch.records.first().map_or(0, |record| record.seq)));
        if let Some(mark) = batch.mark.filter(|_| store.keeps_marks) {
            store.mark = Some(mark.to_vec());
        }
        if std::mem::take(&mut store.lose_answer) { Err(away()) } else { Ok(()) }
    }

    fn times(&self) -> Option<crate::sinks::TimeOf> {
        self.lock().keeps_last.then_some(time_of)
    }

    async fn tend(&mut self) -> Result<(), SinkError> {
        let mut store = self.lock();
        let rows = store.rows.len();
        store.tended.push(rows);
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

fn time_of(record: &Record) -> UnixNanos {
    record.event.ts_event.unwrap_or(record.event.ts_recv)
}

/// A tape in a folder, and what runs on it.
struct Deck {
    home: tempfile::TempDir,
    log: Log,
    fake: Fake,
    delivery: Delivery,
}

impl Deck {
    fn new() -> Deck {
        let home = tempfile::tempdir().unwrap();
        let options = Options { allocation: Allocation::None, segment_bytes: 1 << 20, ..Options::default() };
        let (log, _) = Log::open(Arc::new(Disk), home.path(), options).unwrap();
        let delivery = Delivery { batch_wait: Interval(Duration::from_millis(5)), ..Delivery::default() };
        Deck { home, log, fake: Fake::default(), delivery }
    }

    fn dir(&self) -> &Path {
        self.home.path()
    }

    /// Writes trades, received so long ago.
    fn record(&mut self, count: usize, ago: Duration) {
        let ts_recv = UnixNanos::now() - ago;
        let trade = Trade { price: "1.5".parse().unwrap(), size: "1".parse().unwrap(), side: None, id: None };
        self.append(count, ts_recv, Body::Trade(trade));
    }

    /// Writes a trade of each of those times of the venue, received so long ago.
    fn record_at(&mut self, times: impl Iterator<Item = i64>, ago: Duration) {
        let ts_recv = UnixNanos::now() - ago;
        let trade = Trade { price: "1.5".parse().unwrap(), size: "1".parse().unwrap(), side: None, id: None };
        let payload = |time| {
            let mut payload = Vec::new();
            wire::encode(&event(ts_recv, Some(UnixNanos(time)), Body::Trade(trade.clone())), &mut payload);
            payload
        };
        let payloads: Vec<Vec<u8>> = times.map(payload).collect();
        let entries: Vec<Entry<'_>> = payloads.iter().map(|payload| Entry { ts_recv: ts_recv.0, payload }).collect();
        for some in entries.chunks(1_000) {
            self.log.append(some, &mut Vec::new).unwrap();
        }
        self.log.commit().unwrap();
    }

    fn append(&mut self, count: usize, ts_recv: UnixNanos, body: Body) {
        let mut payload = Vec::new();
        wire::encode(&event(ts_recv, None, body), &mut payload);
        let entries = vec![Entry { ts_recv: ts_recv.0, payload: &payload }; count];
        for some in entries.chunks(1_000) {
            self.log.append(some, &mut Vec::new).unwrap();
        }
        self.log.commit().unwrap();
    }

    fn start(&self) -> Run {
        let shown = Arc::new(Shown::default());
        let (ask, asked) = tokio::sync::mpsc::channel(1);
        let desk = Desk {
            name: "fake".into(),
            dir: self.dir().to_owned(),
            tape: self.log.tail(),
            out: None,
            shown: shown.clone(),
            status: crate::status::Overview::default(),
            asked: Arc::new(tokio::sync::Mutex::new(asked)),
        };
        let stop = CancellationToken::new();
        let pump = Pump { name: "fake".into(), sink: Box::new(self.fake.clone()), delivery: self.delivery.clone() };
        let stopped = stop.clone();
        let task = tokio::spawn(async move { pump.run(&desk, stopped).await });
        Run { stop, task, shown, ask }
    }

    fn cursor(&self) -> u64 {
        let listed = tapedeck_tape::cursors::list(&Disk, self.dir()).unwrap();
        listed.iter().find(|cursor| cursor.name == "fake").map_or(0, |cursor| cursor.seq)
    }

    async fn until(&self, what: &str, mut done: impl FnMut(&Store) -> bool) {
        let since = Instant::now();
        while !done(&self.fake.lock()) {
            assert!(since.elapsed() < Duration::from_secs(30), "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn event(ts_recv: UnixNanos, ts_event: Option<UnixNanos>, body: Body) -> Event {
    Event {
        source: "s".into(),
        venue: "v".into(),
        symbol: "x".into(),
        ts_event,
        ts_recv,
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

struct Run {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shown: Arc<Shown>,
    ask: tokio::sync::mpsc::Sender<Asked>,
}

impl Run {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn once(store: &Store) -> bool {
    store.rows.values().all(|times| *times == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wanted_is_delivered_once_and_a_restart_goes_on() {
    let mut deck = Deck::new();
    deck.delivery.events = Globs(vec!["trade".into()]);
    deck.delivery.batch = 64;
    deck.record(500, Duration::ZERO);
    deck.append(10, UnixNanos::now(), Body::Status(Status::default()));
    let run = deck.start();
    deck.until("500 rows", |store| store.rows.len() == 500).await;
    run.end().await;
    assert_eq!(deck.cursor(), 510, "what nobody wants is passed over");

    deck.record(100, Duration::ZERO);
    let run = deck.start();
    deck.until("600 rows", |store| store.rows.len() == 600).await;
    run.end().await;
    assert!(once(&deck.fake.lock()), "each once");
    assert_eq!(deck.cursor(), 610);
    assert!(deck.fake.lock().batches.iter().all(|(size, ..)| *size <= 64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_looked_after_while_there_is_always_something_to_write() {
    let mut deck = Deck::new();
    deck.delivery.batch = 10;
    deck.fake.lock().slow = Duration::from_millis(100);
    deck.record(700, Duration::ZERO);
    let run = deck.start();
    deck.until("700 rows", |store| store.rows.len() == 700).await;
    run.end().await;
    let first = deck.fake.lock().tended.first().copied();
    assert!(first.is_some_and(|rows| rows < 700), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_costs_few_tries_and_no_record() {
    let mut deck = Deck::new();
    deck.fake.lock().down = true;
    deck.record(1_000, Duration::ZERO);
    let run = deck.start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let opens = deck.fake.lock().opens;
    assert!((2..8).contains(&opens), "{opens} tries in two seconds");
    assert!(run.shown.state().starts_with("unavailable: connection refused"), "{}", run.shown.state());
    assert_eq!(run.shown.detail()["lag_records"].as_u64(), Some(1_000));
    assert_eq!(deck.cursor(), 0, "nothing was confirmed");
    deck.fake.lock().down = false;
    deck.until("all rows", |store| store.rows.len() == 1_000).await;
    run.end().await;
    assert_eq!(deck.cursor(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_found_by_halves_and_kept_with_the_stores_words() {
    for says_which in [None, Some(false), Some(true)] {
        let mut deck = Deck::new();
        deck.fake.lock().poison = vec![1, 137, 138, 300];
        deck.fake.lock().says_which = says_which;
        deck.record(300, Duration::ZERO);
        let run = deck.start();
        deck.until("the good rows", |store| store.rows.len() == 296).await;
        run.end().await;
        assert!(once(&deck.fake.lock()), "{says_which:?}");
        assert_eq!(deck.cursor(), 300);
        let letters = crate::sinks::dead_letters(&crate::sinks::dead_letters_folder(deck.dir(), "fake")).unwrap();
        let mut seqs: Vec<u64> = letters.iter().map(|letter| letter.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 137, 138, 300], "{says_which:?}");
        assert!(letters.iter().all(|letter| ["cannot cast", "field type conflict"].contains(&letter.words.as_str())));
        assert!(deck.fake.lock().writes < 60, "{} writes", deck.fake.lock().writes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_which_a_part_is_refused_is_a_letter_and_delivered_without_it() {
    let mut deck = Deck::new();
    deck.fake.lock().poison = vec![1, 137];
    deck.fake.lock().says_which = Some(false);
    deck.fake.lock().fate = Fate::Part;
    deck.record(300, Duration::ZERO);
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 300).await;
    run.end().await;
    assert!(once(&deck.fake.lock()));
    assert_eq!(deck.cursor(), 300);
    let folder = crate::sinks::dead_letters_folder(deck.dir(), "fake");
    let letters = crate::sinks::dead_letters(&folder).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [1, 137]);
    assert_eq!(crate::sinks::dead::open_keys(&folder).unwrap().count(), 0, "of whole records there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_would_have_forgotten_is_counted_and_takes_no_letters_place() {
    for rest_stored in [false, true] {
        let mut deck = Deck::new();
        deck.fake.lock().poison = (1..=250).collect();
        deck.fake.lock().says_which = Some(rest_stored);
        deck.fake.lock().fate = Fate::Expired;
        deck.record(300, Duration::ZERO);
        let run = deck.start();
        deck.until("the young rows", |store| store.rows.len() == 50).await;
        deck.until("the count", |_| run.shown.detail()["expired"].as_u64() == Some(250)).await;
        let detail = run.shown.detail();
        assert_eq!((&detail["dead_letters"], &detail["refused"]), (&0.into(), &0.into()));
        run.end().await;
        assert_eq!(deck.cursor(), 300);
        assert!(!crate::sinks::dead_letters_folder(deck.dir(), "fake").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_had_to_make_room_are_counted() {
    let mut deck = Deck::new();
    deck.delivery.dead_letters = ByteSize(5 << 20);
    // Each says a kilobyte: more than three segments of them.
    deck.fake.lock().poison = (1..=14_000).collect();
    deck.fake.lock().says_which = Some(false);
    deck.fake.lock().words = "w".repeat(1_000);
    deck.record(14_001, Duration::ZERO);
    let run = deck.start();
    deck.until("the row", |store| store.rows.len() == 1).await;
    deck.until("all of it", |_| run.shown.detail()["lag_records"] == 0).await;
    let (detail, number) = (run.shown.detail(), |key: &str| run.shown.detail()[key].as_u64().unwrap());
    assert_eq!(number("refused"), 14_000);
    assert!(number("dead_letters_lost") > 4_000, "{detail:?}");
    assert_eq!(number("dead_letters") + number("dead_letters_lost"), 14_000, "{detail:?}");
    run.end().await;
}

#[tokio::test]
async fn a_letter_of_another_tape_leaves_that_tapes_mark_as_it_is() {
    let mut deck = Deck::new();
    deck.fake.lock().keeps_marks = true;
    deck.record(2, Duration::ZERO);
    let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut letters = Letters::of(deck.dir(), "fake", 1 << 20).unwrap();
    let body = Body::Status(Status::default());
    let record = |seq| Record { seq, event: event(UnixNanos::now(), None, body.clone()) };
    let (one, two) = (record(5), record(6));
    for (tape, record) in [(other, &one), (ours, &two)] {
        let entries = crate::sinks::dead::Entries::of(tape, [(record, "no", Fate::Letter)].into_iter());
        letters.add(&entries.unwrap()).unwrap();
    }
    let mut fake = deck.fake.clone();
    for (seq, mark) in [(5, None), (6, Some(b"ours".to_vec()))] {
        let order = retry::Order { deed: Deed::Retry, seqs: vec![seq], after: 0 };
        let (back, done) = retry::carry_out(&mut fake, letters, ours, b"ours", &order).await;
        letters = back;
        assert_eq!(done.unwrap().delivered, 1, "{seq}");
        assert_eq!(deck.fake.lock().mark, mark, "{seq}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_nothing_but_dead_letters_moves_the_stores_own_mark() {
    for says_which in [None, Some(false), Some(true)] {
        let mut deck = Deck::new();
        deck.fake.lock().keeps_marks = true;
        deck.fake.lock().says_which = says_which;
        deck.fake.lock().poison = (11..=14).collect();
        deck.record(10, Duration::ZERO);
        let run = deck.start();
        deck.until("the good rows", |store| store.rows.len() == 10).await;
        deck.record(4, Duration::ZERO);
        deck.until("the mark", |store| {
            let mark = store.mark.as_deref().and_then(Progress::decode);
            mark.is_some_and(|mark| mark.low() == 14)
        })
        .await;
        run.end().await;
        let (writes, letters) = (deck.fake.lock().writes, crate::sinks::dead_letters_folder(deck.dir(), "fake"));
        assert_eq!(crate::sinks::dead_letters(&letters).unwrap().len(), 4, "{says_which:?}");
        let run = deck.start();
        deck.record(1, Duration::ZERO);
        deck.until("the next row", |store| store.rows.len() == 11).await;
        run.end().await;
        assert_eq!(deck.fake.lock().writes, writes + 1, "what was refused is not sent again: {says_which:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again_and_given_up_by_the_running_pump() {
    let mut deck = Deck::new();
    deck.fake.lock().keeps_marks = true;
    deck.fake.lock().poison = vec![1, 137, 250];
    deck.record(300, Duration::ZERO);
    let run = deck.start();
    deck.until("the good rows", |store| store.rows.len() == 297).await;
    let order = async |deed, seqs: &[u64]| {
        let (reply, done) = tokio::sync::oneshot::channel();
        let order = retry::Order { deed, seqs: seqs.to_vec(), after: 0 };
        run.ask.send(Asked { order, reply }).await.unwrap();
        done.await.unwrap()
    };
    let done = order(Deed::Retry, &[]).await.unwrap();
    let refused: Vec<u64> = done.refused.iter().map(|again| again.seq).collect();
    assert_eq!((done.delivered, refused, done.next), (0, vec![1, 137, 250], None));
    deck.fake.lock().poison.clear();
    assert_eq!(order(Deed::Retry, &[137]).await.unwrap().delivered, 1);
    assert_eq!(order(Deed::Drop, &[250]).await.unwrap().dropped, 1);
    assert_eq!(run.shown.detail()["dead_letters"], 1);
    deck.record(100, Duration::ZERO);
    deck.until("what is new", |store| store.rows.len() == 398).await;
    assert!(deck.fake.lock().batches.contains(&(1, true, 137)), "it may be older than what is there");

    deck.fake.lock().down = true;
    assert_eq!(order(Deed::Retry, &[]).await.unwrap_err(), "connection refused");
    assert!(order(Deed::Retry, &[]).await.unwrap_err().contains("cannot be reached now"), "at once, while it waits");
    assert_eq!(order(Deed::Drop, &[]).await.unwrap().dropped, 1);
    deck.fake.lock().down = false;
    run.end().await;
    assert_eq!(deck.cursor(), 400);
    let run = deck.start();
    deck.record(1, Duration::ZERO);
    deck.until("the last", |store| store.rows.len() == 399).await;
    run.end().await;
    assert!(once(&deck.fake.lock()), "a letter that is sent again moves no mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_at_once_goes_in_parts_and_the_parts_grow_again() {
    let mut deck = Deck::new();
    deck.fake.lock().most = Some(100);
    deck.record(3_000, Duration::ZERO);
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 3_000).await;
    deck.until("a smaller limit to be shown", |_| run.shown.detail()["batch_limit"].as_u64() < Some(5_000)).await;
    deck.fake.lock().most = None;
    for _ in 0..60 {
        deck.record(200, Duration::ZERO);
    }
    deck.until("all rows", |store| store.rows.len() == 15_000).await;
    run.end().await;
    assert!(once(&deck.fake.lock()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_store_counts_more_than_the_cursor() {
    let mut deck = Deck::new();
    deck.delivery.batch = 100;
    deck.fake.lock().keeps_marks = true;
    deck.fake.lock().lose_answer = true;
    deck.record(1_000, Duration::ZERO);
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 1_000).await;
    run.end().await;
    assert!(once(&deck.fake.lock()), "an answer that was lost behind a commit doubles nothing");

    // A crash before the cursor was written: the one of the beginning counts less than the mark.
    std::fs::remove_dir_all(deck.dir().join("cursors")).unwrap();
    deck.record(50, Duration::ZERO);
    let run = deck.start();
    deck.until("the new rows", |store| store.rows.len() == 1_050).await;
    run.end().await;
    assert!(once(&deck.fake.lock()));

    // A database that was made anew.
    *deck.fake.lock() = Store { keeps_marks: true, ..Store::default() };
    let run = deck.start();
    deck.until("all rows again", |store| store.rows.len() == 1_050).await;
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_have_lost_what_it_confirmed_gets_it_again() {
    let mut deck = Deck::new();
    deck.record(100, Duration::from_secs(3_600));
    deck.record(100, Duration::from_secs(60));
    let run = deck.start();
    deck.until("200 rows", |store| store.rows.len() == 200).await;
    deck.fake.lock().rewind = Some(Duration::from_secs(600));
    deck.record(10, Duration::ZERO);
    deck.until("210 rows", |store| store.rows.len() == 210).await;
    run.end().await;
    let store = deck.fake.lock();
    assert!((1..=100).all(|seq| store.rows[&seq] == 1), "older than the rewind");
    assert!((101..=200).all(|seq| store.rows[&seq] == 2), "{:?}", &store.rows);
    assert!((201..=210).all(|seq| store.rows[&seq] == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_back_and_wants_records_again_is_shown_as_running() {
    let mut deck = Deck::new();
    deck.record(100, Duration::from_secs(60));
    let run = deck.start();
    deck.until("100 rows", |store| store.rows.len() == 100).await;
    deck.fake.lock().down = true;
    deck.fake.lock().rewind_when_opened = Some(Duration::from_secs(600));
    deck.record(1, Duration::ZERO);
    deck.until("the outage to be seen", |_| run.shown.state().starts_with("unavailable")).await;
    deck.fake.lock().down = false;
    deck.until("the records again", |store| store.rows.values().filter(|times| **times == 2).count() == 100).await;
    deck.until("it to be well", |_| run.shown.state() == "running").await;
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_does_not_wait_for_a_backlog() {
    let mut deck = Deck::new();
    deck.delivery.batch = 100;
    deck.fake.lock().slow = Duration::from_millis(50);
    deck.record(20_000, Duration::from_secs(600));
    let run = deck.start();
    deck.until("a batch", |store| !store.batches.is_empty()).await;
    deck.record(50, Duration::ZERO);
    deck.until("the live rows", |store| store.rows.contains_key(&20_050)).await;
    let then = deck.fake.lock().rows.len();
    assert!(then < 15_000, "{then} rows before the live ones");
    deck.fake.lock().slow = Duration::ZERO;

    // A stop in the middle, and a start: the ranges are known.
    run.end().await;
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 20_050).await;
    run.end().await;
    assert_eq!(deck.cursor(), 20_050);
    let store = deck.fake.lock();
    assert!(once(&store), "a stop in order doubles nothing");
    assert!(store.batches.iter().any(|(_, late, _)| *late) && store.batches.iter().any(|(_, late, _)| !*late));
}

/// 6,000 records of 500 times, all old, and a few of the first times that come while these are delivered.
async fn overtaken(keeps_last: bool, crash: bool) -> (u64, Vec<u64>) {
    let mut deck = Deck::new();
    deck.delivery.batch = 100;
    deck.fake.lock().slow = Duration::from_millis(100);
    deck.fake.lock().keeps_last = keeps_last;
    deck.record_at((0..6_000).map(|n| n % 500), Duration::from_secs(600));
    let mut run = deck.start();
    deck.until("a batch", |store| !store.batches.is_empty()).await;
    deck.record_at(0..10, Duration::ZERO);
    // Of a time of their own: these need not come again.
    deck.record_at(1_000..1_010, Duration::ZERO);
    deck.until("the live rows", |store| store.rows.contains_key(&6_020)).await;
    assert!(deck.fake.lock().rows.len() < 5_000, "they overtook");
    if crash {
        // The cursor says so, and nothing else does.
        while deck.cursor() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        run.task.abort();
        let _ = run.task.await;
        run = deck.start();
    }
    deck.fake.lock().slow = Duration::ZERO;
    let since = Instant::now();
    while deck.cursor() < 6_020 {
        assert!(since.elapsed() < Duration::from_secs(30), "never through: {}", deck.cursor());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.end().await;
    assert_eq!(deck.cursor(), 6_020);
    let store = deck.fake.lock();
    let newest = (0..10).filter(|time| store.last[time] == 6_001 + time.unsigned_abs()).count() as u64;
    (newest, (6_001..=6_020).filter(|seq| store.rows[seq] > 1).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_record_of_the_same_time_does_not_stay_in_the_place_of_a_newer_one() {
    let (newest, again) = overtaken(true, false).await;
    assert_eq!((newest, again), (10, (6_001..=6_010).collect()), "what is of other times is not sent again");
    // After a crash it is not known which times.
    let (newest, again) = overtaken(true, true).await;
    assert_eq!((newest, again), (10, (6_001..=6_020).collect()));
    let (newest, again) = overtaken(false, false).await;
    assert_eq!((newest, again), (0, Vec::new()), "a store that tells them apart itself gets nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_delivers_what_is_there_and_does_not_wait_for_a_store_that_is_not() {
    let mut deck = Deck::new();
    deck.delivery.batch_wait = Interval(Duration::from_secs(3_600));
    let run = deck.start();
    deck.until("opened", |store| store.opens > 0).await;
    deck.record(10, Duration::ZERO);
    run.end().await;
    assert_eq!(deck.fake.seqs().len(), 10, "no waiting for more when the deck stops");

    deck.fake.lock().down = true;
    deck.record(10, Duration::ZERO);
    let run = deck.start();
    deck.until("tried", |store| store.opens > 2).await;
    let since = Instant::now();
    run.end().await;
    assert!(since.elapsed() < Duration::from_secs(5));
    assert_eq!(deck.cursor(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_the_backlog_of_a_slow_store_on_the_tape_and_the_next_start_delivers_it() {
    let mut deck = Deck::new();
    deck.delivery.batch = 10;
    deck.record(500, Duration::ZERO);
    // A request takes longer than the test is patient.
    deck.fake.lock().slow = Duration::from_secs(60);
    let run = deck.start();
    deck.until("opened", |store| store.opens > 0).await;
    tokio::time::timeout(DRAIN_AT_MOST, run.end()).await.expect("an end before the store answers");
    assert!(deck.fake.seqs().len() < 500);
    deck.fake.lock().slow = Duration::ZERO;
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 500).await;
    run.end().await;
    assert_eq!(deck.cursor(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_bounded_by_bytes_too() {
    let mut deck = Deck::new();
    deck.delivery.batch_bytes = ByteSize(1_024);
    deck.record(1_000, Duration::ZERO);
    let run = deck.start();
    deck.until("all rows", |store| store.rows.len() == 1_000).await;
    run.end().await;
    assert!(deck.fake.lock().batches.iter().all(|(size, ..)| *size < 60), "{:?}", deck.fake.lock().batches);
}
