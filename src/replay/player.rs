//! Plays a range to a target: waits, pauses, seeks.

use std::time::Duration;

use async_trait::async_trait;
use tapedeck_market::{Record, UnixNanos};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::{Pace, Speed};
use super::playback::Playback;

/// At full speed others get their turn after so many records.
const IN_A_ROW: u32 = 256;
/// And every so many records somebody may ask for something.
const LOOK_EVERY: u32 = 32;
/// Progress is told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Records looked back on for what a target must know of the past: a few seconds' work.
const LOOK_BACK: u64 = 5_000_000;
/// Records looked ahead on for what a target must know of what will come: a moment's.
const LOOK_AHEAD: u64 = 200_000;
/// Factor of one step of the speed.
const STEP: f64 = 2.0;

/// Where a replay goes.
#[async_trait]
pub trait Target: Send {
    /// Whether [`Target::remember`] wants to know what was before, and [`Target::expect`] what will be.
    fn has_memory(&self) -> bool {
        false
    }

    /// A record before the place where the replay begins or goes on.
    fn remember(&mut self, record: &Record) {
        let _ = record;
    }

    /// A record that will be played, or may be.
    fn expect(&mut self, record: &Record) {
        let _ = record;
    }

    /// All that is known is forgotten: the replay goes on elsewhere.
    fn forget(&mut self) {}

    /// Returns when there is somebody to play to, at the beginning and behind a jump. Cancel safe.
    ///
    /// # Errors
    /// There will be nobody.
    async fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes a record, at once: a future for each would cost as much as reading it. What cannot go out at once is held.
    ///
    /// # Errors
    /// It cannot be played, and nothing after it.
    fn play(&mut self, record: &Record) -> anyhow::Result<()>;

    /// Whether there is something for [`Target::pass_on`], which comes before the next record then.
    fn holds(&self) -> bool {
        false
    }

    /// Sends what is held; waits while whoever listens is slow.
    async fn pass_on(&mut self) {}

    /// What was played so far goes out: there will be a wait.
    ///
    /// # Errors
    /// It cannot go out.
    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What a person asks while it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Pauses, or goes on.
    Pause,
    /// So many seconds of the recording forth (or back).
    Seek(i64),
    Faster,
    Slower,
    Quit,
}

/// Where the replay is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub first_seq: u64,
    pub last_seq: u64,
    /// The record that was played last, or is waited for.
    pub seq: u64,
    pub ts_recv: UnixNanos,
    /// Records played.
    pub played: u64,
    pub speed: Speed,
    pub paused: bool,
}

/// What was played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub records: u64,
    /// Seqs of the range that cannot be read.
    pub missing: u64,
    /// Ended before its end, by a person or a signal.
    pub stopped: bool,
}

/// Plays a [`Playback`].
pub struct Player<'a> {
    playback: Playback,
    pace: Pace,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    tell: &'a mut (dyn FnMut(&Progress) + Send),
    told: Option<Instant>,
    at: (u64, UnixNanos),
    played: u64,
}

impl std::fmt::Debug for Player<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("playback", &self.playback).field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// What comes of waiting for a record.
enum Waited {
    Due,
    /// The replay goes on elsewhere.
    Jumped,
    Stop,
}

impl<'a> Player<'a> {
    #[must_use]
    pub fn new(
        playback: Playback,
        speed: Speed,
        commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
        tell: &'a mut (dyn FnMut(&Progress) + Send),
    ) -> Player<'a> {
        let at = (playback.bounds().0, UnixNanos::EPOCH);
        Player { playback, pace: Pace::new(speed), commands, stop, tell, told: None, at, played: 0 }
    }

    /// Plays to the end of the range, until [`Command::Quit`], or until stopped.
    ///
    /// # Errors
    /// The tape cannot be read, or the target takes no more.
    pub async fn run(mut self, target: &mut dyn Target) -> anyhow::Result<Summary> {
        let mut stopped = self.begin(target).await?.is_none();
        let mut in_a_row: u32 = 0;
        while !stopped {
            let Some(record) = self.playback.next_record()? else { break };
            self.at = (record.seq, record.event.ts_recv);
            self.pace.go_on_to(record.event.ts_recv);
            // As fast as it goes: commands and progress are looked at now and then.
            let looks = in_a_row.is_multiple_of(LOOK_EVERY) || self.pace.due().is_some();
            if looks {
                match self.wait(target).await? {
                    Waited::Due => {}
                    Waited::Jumped => continue,
                    Waited::Stop => {
                        stopped = true;
                        break;
                    }
                }
                self.tell(false);
            }
            target.play(&record)?;
            if target.holds() {
                target.pass_on().await;
            }
            self.played += 1;
            in_a_row = in_a_row.wrapping_add(1);
            if in_a_row.is_multiple_of(IN_A_ROW) {
                tokio::task::yield_now().await;
                stopped = self.stop.is_cancelled();
            }
        }
        target.flush().await?;
        self.tell(true);
        Ok(Summary { records: self.played, missing: self.playback.missing(), stopped })
    }

    /// Shows the target past and future, and waits for somebody to play to. `None`: stopped meanwhile.
    async fn begin(&mut self, target: &mut dyn Target) -> anyhow::Result<Option<()>> {
        if target.has_memory() {
            target.forget();
            self.playback.look_back(LOOK_BACK, |record| target.remember(record))?;
            self.playback.look_ahead(LOOK_AHEAD, |record| target.expect(record))?;
        }
        tokio::select! {
            ready = target.ready() => ready.map(Some),
            () = self.stop.cancelled() => Ok(None),
        }
    }

    /// Waits until the record is due, and does what is asked meanwhile.
    async fn wait(&mut self, target: &mut dyn Target) -> anyhow::Result<Waited> {
        loop {
            let command = match self.pace.due() {
                None => self.commands.try_recv().ok(),
                Some(due) if due <= Instant::now() => self.commands.try_recv().ok(),
                Some(due) => {
                    target.flush().await?;
                    self.tell(false);
                    tokio::select! {
                        () = self.stop.cancelled() => return Ok(Waited::Stop),
                        Some(command) = self.commands.recv() => Some(command),
                        () = tokio::time::sleep_until(due) => None,
                    }
                }
            };
            match command {
                None if self.pace.is_paused() => {}
                None => return Ok(Waited::Due),
                Some(Command::Quit) => return Ok(Waited::Stop),
                Some(Command::Seek(secs)) => {
                    self.seek(target, secs).await?;
                    return Ok(Waited::Jumped);
                }
                Some(Command::Pause) => self.pace.set_paused(!self.pace.is_paused()),
                Some(Command::Faster) => self.change_speed(STEP),
                Some(Command::Slower) => self.change_speed(1.0 / STEP),
            }
            self.tell(true);
        }
    }

    async fn seek(&mut self, target: &mut dyn Target, secs: i64) -> anyhow::Result<()> {
        let (_, ts_recv) = self.at;
        self.playback.seek(UnixNanos(ts_recv.0.saturating_add(secs.saturating_mul(1_000_000_000))))?;
        self.pace.jump();
        self.begin(target).await.map(drop)
    }

    fn change_speed(&mut self, factor: f64) {
        // What goes as fast as it goes can only be slowed down by saying how fast.
        if let Speed::Times(times) = self.pace.speed() {
            self.pace.set_speed(Speed::Times((times * factor).clamp(0.001, 1_000_000.0)));
        }
    }

    fn tell(&mut self, now: bool) {
        let clock = Instant::now();
        if !now && self.told.is_some_and(|told| clock.duration_since(told) < TELL_EVERY) {
            return;
        }
        self.told = Some(clock);
        let (first_seq, last_seq) = self.playback.bounds();
        let (seq, ts_recv) = self.at;
        let (speed, paused) = (self.pace.speed(), self.pace.is_paused());
        (self.tell)(&Progress { first_seq, last_seq, seq, ts_recv, played: self.played, speed, paused });
    }
}
