//! A disk that hangs, fails or is full.

use std::io;

use tapedeck_tape::model::{Call, Failure, Fault};
use tapedeck_tape::storage::StorageFile;

use super::*;

/// A disk whose syncs wait while the gate is shut.
#[derive(Clone, Debug)]
struct Hanging(Arc<std::sync::Mutex<()>>);

#[derive(Debug)]
struct HangingFile(Arc<dyn StorageFile>, Hanging);

impl Storage for Hanging {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(HangingFile(Disk.open(path, create)?, self.clone())))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Disk.open_read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Disk.lock(path)
    }
}

impl StorageFile for HangingFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(buf, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        drop(self.1.0.lock().unwrap());
        self.0.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }
}

#[test]
fn a_disk_that_does_not_answer_stops_the_pulse() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Hanging(Arc::default());
    let (log, _) = Log::open(Arc::new(disk.clone()), dir.path(), Options::default()).unwrap();
    let (recorder, watches) = Recorder::new(log, Restored::default(), Settings::of(dir.path())).unwrap();
    let (to_recorder, intake) = mpsc::channel(1_024);
    let recording = std::thread::spawn(move || recorder.run(intake));
    let deadline = Instant::now() + Duration::from_secs(60);
    let pulse = |what: &str, wanted: &dyn Fn(Duration) -> bool| {
        while !wanted(watches.pulse.silence()) {
            assert!(Instant::now() < deadline, "{what}: silent for {:?}", watches.pulse.silence());
            // As the deck does once a second; a full queue is the recorder's own affair.
            let _ = to_recorder.try_send(Intake::Maintain);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    pulse("it turns", &|silence| silence < Duration::from_millis(200));
    let gate = disk.0.lock().unwrap();
    to_recorder.blocking_send(frame(vec![trade("A", 1)])).unwrap();
    pulse("it hangs", &|silence| silence > Duration::from_millis(1_500));
    drop(gate);
    pulse("it turns again", &|silence| silence < Duration::from_millis(200));
    drop(to_recorder);
    recording.join().unwrap().unwrap();
}

#[test]
fn a_sync_that_fails_loses_nothing_and_is_on_the_tape() {
    let (fed, model) = Fed::on_model();
    let fed = fed.take([live("A", "trade", 1), frame(vec![trade("A", 1)])]);
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    let (done, mut told) = oneshot::channel();
    let fed = fed.take([Intake::Events { events: vec![trade("A", 2)], durable: Some(done) }]);
    assert_eq!(model.strikes(), 1);
    let seq = told.try_recv().unwrap();
    let events = fed.events();
    assert_eq!(ids(&events), ["1", "2"]);
    assert!(events.iter().any(|record| record.seq == seq && matches!(record.event.body, Body::Trade(_))));
    let fed = fed.take([frame(vec![trade("A", 3)])]);
    let noted = |record: &Record| matches!(&record.event.body, Body::Tape(note) if note.what == TapeEvent::Poisoned);
    assert_eq!(fed.events().iter().filter(|record| noted(record)).count(), 1);
    // What was said to be durable survives a power cut, and ids are not forgotten with the segment that failed.
    for seed in 0..20 {
        let storage: Arc<dyn Storage> = Arc::new(model.crash(seed));
        assert_eq!(ids(&read_on(&storage, fed.dir.path())), ["1", "2", "3"], "seed {seed}");
    }
    assert_eq!(ids(&fed.killed().take([frame(vec![trade("A", 2), trade("A", 4)])]).events()), ["1", "2", "3", "4"]);
}

#[test]
fn a_second_failure_ends_the_recording_says_so_and_confirms_nothing() {
    let (fed, model) = Fed::on_model();
    let Fed { recorder, dir, .. } = fed.take([live("A", "trade", 1), frame(vec![trade("A", 1)])]);
    let (sender, intake) = mpsc::channel(16);
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: true });
    let (done, mut told) = oneshot::channel();
    sender.try_send(Intake::Events { events: vec![trade("A", 2)], durable: Some(done) }).unwrap();
    let ended = std::thread::spawn(move || recorder.run(intake)).join().unwrap();
    let said = format!("{:#}", ended.unwrap_err());
    assert!(said.contains("recording has stopped") && said.contains("syncing"), "{said}");
    assert!(told.try_recv().is_err(), "nobody was told that it is durable");
    assert!(sender.is_closed(), "and the deck sees it");
    let storage: Arc<dyn Storage> = Arc::new(model.crash(1));
    assert_eq!(ids(&read_on(&storage, dir.path()))[..1], ["1"]);
}

#[test]
fn with_drop_oldest_a_full_disk_costs_the_oldest_segments_and_no_pause() {
    let (mut fed, model) = Fed::on_model();
    fed.recorder.settings.on_full = OnFull::DropOldest;
    model.set_capacity(Some(200 * 1024));
    let mut fed = fed.take([live("A", "trade", 1)]);
    for id in 1..=4_000 {
        fed = fed.take([frame(vec![trade("A", id)])]);
    }
    let fed = fed.take([Intake::Maintain]);
    let view = fed.recorder.publish.view.borrow().clone();
    assert!(view.extent.first_seq > 500, "{view:?}");
    assert!(!view.full, "{view:?}");
    let events = fed.events();
    assert_eq!(events.first().map(|record| record.seq), Some(view.extent.first_seq));
    assert_eq!(ids(&events).last(), Some(&"4000"));
    assert!(fed.gaps().is_empty(), "nothing was missed");
    // A reader that is required comes first: then recording waits, as by `stop`.
    let mut fed = fed;
    fed.recorder.settings.retention.required = vec!["slow".into()];
    fed.recorder.settings.give_up.store(true, std::sync::atomic::Ordering::Relaxed);
    let full = (4_001..=8_000).find_map(|id| fed.recorder.take(frame(vec![trade("A", id)])).err());
    assert!(full.is_some_and(|error| error.to_string().contains("the disk is full")));
}
