//! Tables followed: each looks again and again, alone, and what went wrong is waited out.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tapedeck_market::UnixNanos;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::pass::{How, Pass, Shop, Table};
use super::paused::Paused;
use super::source::Source;
use super::{Class, Trouble};

/// What stops for a person is tried again as often: people mend servers without telling us.
const FOR_A_PERSON: Duration = Duration::from_secs(60);
/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often looks are noted that found nothing.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How often a table that waits is looked at for going on.
const PAUSED_LOOK: Duration = Duration::from_secs(1);

/// How often, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub poll: Duration,
    /// After the first trouble; doubled with each that follows.
    pub wait: Duration,
}

/// What following tells about.
pub trait Told: Send + Sync {
    /// A look ended well.
    fn passed(&self, table: &str, pass: &Pass);
    /// One did not, and the next is tried after so long.
    fn failed(&self, table: &str, trouble: &Trouble, wait: Duration);
}

/// Opens a source: each table has a connection of its own.
pub type Open = Arc<dyn Fn() -> anyhow::Result<Box<dyn Source>> + Send + Sync>;

/// One table that is followed.
pub struct Follow {
    pub table: Table,
    pub open: Open,
    pub shop: Shop,
    /// Folder to which files of lookups are relative.
    pub base: PathBuf,
    /// Where it is said who waits.
    pub folder: PathBuf,
    pub pace: Pace,
    pub how: How,
    /// As many tables work at a time as it has permits.
    pub turns: Arc<Semaphore>,
    pub told: Arc<dyn Told>,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl Follow {
    /// Looks again and again until the shop's stop.
    pub async fn run(mut self) {
        let mut source: Option<Box<dyn Source>> = None;
        let mut troubles = 0;
        let mut looks = Looks::default();
        loop {
            let began = Instant::now();
            while Paused::read(&self.folder).holds(&self.table.name) {
                tokio::select! {
                    () = tokio::time::sleep(self.pace.poll.min(PAUSED_LOOK)) => {}
                    () = self.shop.stop.cancelled() => return,
                }
            }
            let outcome = {
                let Ok(_turn) = self.turns.acquire().await else { return };
                if self.shop.stop.is_cancelled() {
                    return;
                }
                look(&mut self.table, &mut source, &self.open, &self.shop, &self.base, self.how).await
            };
            let wait = match outcome {
                Ok(pass) => {
                    troubles = 0;
                    self.how.from = None;
                    looks.note(&self.shop, &self.table, None);
                    self.told.passed(&self.table.name, &pass);
                    self.pace.poll.saturating_sub(began.elapsed())
                }
                Err(trouble) => {
                    let broken = std::mem::take(&mut self.table.broken);
                    for note in &broken.notes {
                        tracing::warn!(table = %self.table.name, "{note}");
                    }
                    let wait = waiting(&trouble, self.pace.wait, troubles);
                    troubles += 1;
                    looks.note(&self.shop, &self.table, Some(&trouble));
                    self.told.failed(&self.table.name, &trouble, wait);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shop.stop.cancelled() => {
                    looks.note_all(&self.shop, &self.table);
                    return;
                }
            }
        }
    }
}

/// One look, with a source that is opened where there is none.
///
/// # Errors
/// As of [`Table::pass`], or the source's settings are wrong.
pub async fn look(
    table: &mut Table,
    source: &mut Option<Box<dyn Source>>,
    open: &Open,
    shop: &Shop,
    base: &std::path::Path,
    how: How,
) -> Result<Pass, Trouble> {
    let opened = match source {
        Some(opened) => opened,
        None => {
            let opened = open().map_err(|error| Trouble::new(Class::Setup, format!("[sync.source] {error:#}")))?;
            source.insert(opened)
        }
    };
    table.pass(opened.as_mut(), shop, base, how).await
}

/// How long after a trouble: what the server asks for, else ever longer, with as much again by chance at most.
#[must_use]
pub fn waiting(trouble: &Trouble, first: Duration, before: u32) -> Duration {
    if !trouble.passes() {
        return FOR_A_PERSON;
    }
    let grown = first.saturating_mul(1 << before.min(10)).min(WAIT_MAX);
    let grown = trouble.wait.map_or(grown, |asked| asked.clamp(grown, WAIT_MAX.max(grown)));
    // Several tables that lost one server do not all come back at once.
    grown + grown.mul_f64(f64::from(UnixNanos::now().0 as u32 % 1_000) / 4_000.0)
}

/// Notes one look of who looks but once.
pub fn note(shop: &Shop, table: &Table, trouble: Option<&Trouble>) {
    Looks::default().note(shop, table, trouble);
}

/// Looks that are not noted yet: each note is a write to the disk, which is too much for a look that found nothing.
#[derive(Debug, Default)]
struct Looks {
    count: u64,
    trouble: Option<String>,
    noted: Option<Instant>,
}

impl Looks {
    fn note(&mut self, shop: &Shop, table: &Table, trouble: Option<&Trouble>) {
        self.count += 1;
        let trouble = trouble.map(ToString::to_string);
        let news = trouble != self.trouble;
        self.trouble = trouble;
        if news || self.noted.is_none_or(|noted| noted.elapsed() >= NOTE_EVERY) {
            self.note_all(shop, table);
        }
    }

    fn note_all(&mut self, shop: &Shop, table: &Table) {
        let Some(number) = table.known_number() else { return };
        let mut state = shop.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be noted is told by the next look, which needs the same file.
        if state.looked(number, self.count, UnixNanos::now(), self.trouble.as_deref()).is_ok() {
            (self.count, self.noted) = (0, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_a_server_may_ask_for_more() {
        let away = Trouble::new(Class::Connection, "away");
        let first = Duration::from_secs(1);
        let wait = |before| waiting(&away, first, before);
        assert!(wait(0) >= first && wait(0) < first * 2);
        assert!(wait(3) >= first * 8 && wait(3) < first * 16);
        assert!(wait(60) <= WAIT_MAX * 2);
        let asked = waiting(&Trouble::new(Class::RateLimit, "later").wait(Duration::from_secs(20)), first, 0);
        assert!(asked >= Duration::from_secs(20) && asked < Duration::from_secs(26));
        assert_eq!(waiting(&Trouble::new(Class::Setup, "no collection"), first, 0), FOR_A_PERSON);
    }
}
