//! Every call of the disk fails, once and for ever, in each way: nothing acknowledged is lost, no seq is used twice, errors say
//! what to do, and when the fault clears, the same log goes on or a restart works.

use tapedeck_tape::model::{Call, Failure, Fault, Model};
use tapedeck_tape::{Allocation, Cursor, Error, Log, Options, Reader, Start};

use crate::rig::{self, Made, Rig, Verdict, chain, check_error, dir, ensure};

const CALLS: [Call; 13] = [
    Call::Open,
    Call::OpenRead,
    Call::List,
    Call::CreateDir,
    Call::Remove,
    Call::Rename,
    Call::SyncDir,
    Call::Lock,
    Call::Read,
    Call::Write,
    Call::Sync,
    Call::SetLen,
    Call::Len,
];

fn options(compress: bool) -> Options {
    Options { segment_bytes: 16 * 1024, allocation: Allocation::Inline, compress, ..Options::default() }
}

/// A rather complete life, played on a disk that may fail in the middle of it.
struct Play {
    rig: Rig,
    log: Option<Log>,
    nonce: u64,
}

impl Play {
    fn new(compress: bool) -> Self {
        let mut play = Play { rig: Rig::new(Model::new(7), options(compress)), log: None, nonce: 0 };
        // What an earlier life left makes opening do all that it can have to do.
        play.open().unwrap();
        for lens in [&[100, 200, 300][..], &[9_000], &[12_000], &[50]] {
            play.append(lens).unwrap();
            play.commit().unwrap();
        }
        play.deliver(4).unwrap();
        play.log = None;
        play.rig.model = play.rig.model.fork();
        play
    }

    fn perform(&mut self) -> Verdict {
        self.open()?;
        self.append(&[100])?;
        self.commit()?;
        self.append(&[200, 3_000, 10])?;
        self.append(&[300])?;
        self.commit()?;
        // Rolls.
        self.append(&[8_000])?;
        self.append(&[9_000, 10])?;
        self.commit()?;
        self.deliver(6)?;
        self.retain()?;
        self.append(&[10_000])?;
        self.append(&[5_000])?;
        self.commit()?;
        self.read()?;
        self.deliver(9)?;
        self.retain()?;
        self.append(&[20])?;
        self.close()?;
        self.open()?;
        self.append(&[30, 40])?;
        self.commit()
    }

    fn open(&mut self) -> Verdict {
        self.log = self.rig.reopen()?;
        Ok(())
    }

    fn append(&mut self, lens: &[usize]) -> Verdict {
        let Some(log) = &mut self.log else { return Ok(()) };
        let records: Vec<Made> = lens
            .iter()
            .map(|len| {
                self.nonce += 1;
                Made::new(self.nonce, *len)
            })
            .collect();
        match rig::append(log, &records) {
            Ok(_) => {
                self.rig.facts.appended(&records);
                Ok(())
            }
            Err(error) => {
                self.rig.facts.failed(&records);
                self.failed(&error)
            }
        }
    }

    fn commit(&mut self) -> Verdict {
        let Some(log) = &mut self.log else { return Ok(()) };
        match log.commit() {
            Ok(seq) => self.rig.facts.acknowledged(seq),
            Err(error) => self.failed(&error),
        }
    }

    fn deliver(&mut self, upto: u64) -> Verdict {
        let Some(log) = &self.log else { return Ok(()) };
        let upto = upto.min(log.durable_seq());
        self.rig.facts.delivered = self.rig.facts.delivered.max(upto);
        let storage = self.rig.storage();
        self.rig.facts.committing(upto);
        let committed = Cursor::open(&*storage, &dir(), rig::SINK, log.tape_id(), log.durable_seq())
            .and_then(|mut cursor| cursor.commit(upto, b"state"));
        match committed {
            Ok(()) => {
                self.rig.facts.committed(upto);
                Ok(())
            }
            Err(error) => self.failed(&error),
        }
    }

    fn retain(&mut self) -> Verdict {
        let Some(log) = &mut self.log else { return Ok(()) };
        self.rig.facts.retain_allowed();
        log.retain(&rig::retention(1), 0).map(|_| ()).or_else(|error| self.failed(&error))
    }

    /// What a reader is given is right, whatever it is refused.
    fn read(&mut self) -> Verdict {
        let Some(log) = &self.log else { return Ok(()) };
        let strikes = self.rig.model.strikes();
        let verdict = match Reader::open_with(self.rig.storage(), &dir(), Start::Begin, log.tail()) {
            Ok(mut reader) => self.rig.clone_facts().read_on(&mut reader, log.durable_seq()),
            Err(error) => Err(chain(&error)),
        };
        if self.rig.model.strikes() > strikes { Ok(()) } else { verdict }
    }

    fn close(&mut self) -> Verdict {
        let Some(log) = self.log.take() else { return Ok(()) };
        match log.close() {
            Ok(()) => {
                let end = self.rig.facts.next_seq() - 1;
                self.rig.facts.acknowledged(end)
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &Error) -> Verdict {
        check_error(error)?;
        if let Some(log) = &self.log {
            self.rig.facts.acknowledged(log.durable_seq())?;
        }
        if matches!(error, Error::Poisoned { .. }) {
            self.log = None;
        }
        Ok(())
    }

    /// The fault has cleared: the log that is open goes on, and so does one that is opened after a kill or a power cut.
    fn recover(mut self) -> Verdict {
        self.rig.model.heal();
        if self.log.is_some() {
            let before = self.rig.facts.next_seq();
            self.append(&[60, 70])?;
            self.commit()?;
            let acked = self.rig.facts.acked;
            ensure!(acked == before + 1, "without a fault any more, {acked} is durable after {before}");
        }
        for seed in 0..4 {
            let model = if seed == 0 { self.rig.model.fork() } else { self.rig.model.crash(seed) };
            let mut again = self.rig.on(model);
            let mut log = again.reopen()?.ok_or("a restart did not work")?;
            rig::append(&mut log, &[Made::new(999, 99)]).map_err(|error| chain(&error))?;
            log.sync().map_err(|error| chain(&error))?;
        }
        Ok(())
    }
}

/// Plays with one fault after the other, until the play is over before the fault comes.
fn sweep(fault: impl Fn(u64) -> Fault) -> u64 {
    let mut plays = 0;
    for compress in [false, true] {
        for nth in 1.. {
            let fault = fault(nth);
            let mut play = Play::new(compress);
            play.rig.model.fail(fault);
            let played = play.perform();
            let over = play.rig.model.strikes() == 0;
            if let Err(what) = played.and_then(|()| play.recover()) {
                panic!("{fault:?}, compress = {compress}: {what}");
            }
            plays += 1;
            if over {
                break;
            }
        }
    }
    plays
}

#[test]
fn every_call_may_fail_once() {
    for failure in [Failure::Eio, Failure::Enospc, Failure::ShortWrite] {
        let plays = sweep(|nth| Fault { call: None, nth, failure, for_ever: false });
        println!("{failure:?} once: {plays} plays");
    }
}

#[test]
fn from_any_call_on_all_may_fail() {
    for failure in [Failure::Eio, Failure::Enospc] {
        let plays = sweep(|nth| Fault { call: None, nth, failure, for_ever: true });
        println!("{failure:?} for ever: {plays} plays");
    }
}

#[test]
fn from_any_call_on_all_of_its_kind_may_fail() {
    for call in CALLS {
        for failure in [Failure::Eio, Failure::Enospc, Failure::ShortWrite] {
            if failure == Failure::ShortWrite && call != Call::Write {
                continue;
            }
            let plays = sweep(|nth| Fault { call: Some(call), nth, failure, for_ever: true });
            println!("{call:?} {failure:?} for ever: {plays} plays");
        }
    }
}

#[test]
fn a_full_disk_stops_the_log_and_space_starts_it_again() {
    let mut play = Play::new(false);
    play.open().unwrap();
    let free = 40 * 1024;
    let model = play.rig.model.clone();
    model.set_capacity(Some(model.used() + free));
    let mut refused = 0;
    for round in 0..200 {
        let before = play.rig.facts.next_seq();
        play.append(&[1_000]).unwrap();
        let stopped = play.rig.facts.next_seq() == before;
        refused += u64::from(stopped);
        play.commit().unwrap();
        if refused == 10 {
            println!("full after {round} appends");
            model.set_capacity(None);
        }
        assert!(play.log.is_some(), "a full disk is no reason to give up");
        assert!(refused <= 10, "there is space again");
    }
    assert_eq!(refused, 10, "the disk never was full");
    play.recover().unwrap();
}
