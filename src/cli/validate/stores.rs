//! Every store tried with a write and its reading back, and its rows of the last minutes beside what the tape says.

use std::path::Path;
use std::time::Duration;

use tapedeck_market::UnixNanos;
use tapedeck_tape::{Item, Start};

use crate::cli::check::{Finding, ask_stores};
use crate::cli::out::Mark;
use crate::cli::reading;
use crate::cli::verdict::Verdict;
use crate::config::KindTable;
use crate::config::units::show_duration;
use crate::sinks::audit::{Outcome, Scope, reconcile};

/// A store that has not said by then what it holds is too slow to be asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records at most that are compared: a busy tape has more in a few minutes than one wants to wait for.
const RECORDS: u64 = 20_000;
/// So many times that, where they are of the last moments.
const TIMES_MORE: u64 = 4;
/// What is younger may be on its way between store and cursor.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two looks, where a batch was under way during the first.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const LOOKS: usize = 4;
const REPORT: &str = "tapedeck reconcile says more; this is a fault of tapedeck itself";

/// Tries the stores, all at once. `delivered`: a deck runs that delivers to them.
pub(super) async fn look(tables: &[&KindTable], dir: &Path, last: Duration, delivered: bool) -> Vec<Verdict> {
    let one = |table: &KindTable| {
        let (table, dir) = (table.clone(), dir.to_owned());
        async move {
            let alone = [&table];
            // Comparing is work: each store has a thread for it.
            let (of, folder) = (table.clone(), dir.clone());
            let compared = tokio::spawn(async move { rows(&of, &folder, last, delivered).await });
            let (tried, held) = tokio::join!(ask_stores(&alone, &dir), compared);
            let works = tried.iter().all(|finding| finding.result != Mark::Bad);
            let mut verdicts: Vec<Verdict> =
                tried.into_iter().map(|finding| of_finding(finding, &table.name)).collect();
            // One fault, not two: a store that does not answer holds nothing that one could ask for.
            let failed = |error| Some(Verdict::bad(rows_of(&table), format!("comparing failed: {error}"), REPORT));
            verdicts.extend(held.unwrap_or_else(failed).filter(|held| works || held.result != Mark::Bad));
            verdicts
        }
    };
    futures_util::future::join_all(tables.iter().map(|table| one(table))).await.into_iter().flatten().collect()
}

fn of_finding(finding: Finding, name: &str) -> Verdict {
    let next = match finding.result {
        Mark::Bad => {
            format!("is the store there, and are address and password of [sink.{name}] right? tapedeck check {name}")
        }
        _ => String::new(),
    };
    Verdict::new(finding.what, finding.result, finding.text).next(next)
}

fn rows_of(table: &KindTable) -> String {
    format!("sink.{}.rows", table.name)
}

/// What the store holds of the last minutes. `None`: there is no tape to compare with.
async fn rows(table: &KindTable, dir: &Path, last: Duration, delivered: bool) -> Option<Verdict> {
    let what = rows_of(table);
    let (from, only_these) = beginning(dir, last)?;
    let since = UnixNanos::now().saturating_since(from);
    let span = show_duration(Duration::from_secs(since.as_secs().max(1)));
    let compared = tokio::time::timeout(PATIENCE, settled(table, dir, (from, only_these))).await;
    let verdict = match compared {
        Err(_) => Verdict::warn(
            what,
            format!("no answer in {} s about the last {span}", PATIENCE.as_secs()),
            format!("tapedeck reconcile {}", table.name),
        ),
        Ok(Err(error)) => {
            Verdict::bad(what, format!("{error:#}"), format!("tapedeck reconcile {} says more", table.name))
        }
        Ok(Ok(found)) => of_outcome(what, table, &found, &span, delivered),
    };
    Some(verdict)
}

fn of_outcome(what: String, table: &KindTable, found: &Outcome, span: &str, delivered: bool) -> Verdict {
    let Outcome { rows, missing, different, extra, behind, dead, .. } = found;
    let mut text = format!("{rows} rows of the last {span}");
    if *dead > 0 {
        text.push_str(&format!(", {dead} records refused"));
    }
    let name = &table.name;
    let verdict = if !found.is_clean() {
        let text =
            format!("{text}: {missing} missing, {different} different, {extra} too many beside what the tape says");
        Verdict::bad(what, text, format!("tapedeck reconcile {name} --from {span} --repair"))
    } else if *behind > 0 && !delivered {
        Verdict::warn(
            what,
            format!("{text} as the tape says; {behind} records wait, and no deck delivers them"),
            "tapedeck up",
        )
    } else {
        let waits = if *behind > 0 { format!("; {behind} records on their way") } else { String::new() };
        Verdict::good(what, format!("{text} as the tape says{waits}"))
    };
    verdict.figure("rows", *rows).figure("missing", *missing).figure("different", *different).figure("behind", *behind)
}

/// Compares until two looks at a moving store agree with the tape, or the difference stays.
async fn settled(table: &KindTable, dir: &Path, (from, only_these): (UnixNanos, bool)) -> anyhow::Result<Outcome> {
    let mut last = Outcome::default();
    // The same records each time: of a busy deck there would be more and more.
    let to = UnixNanos(UnixNanos::now().0.saturating_sub(i64::try_from(SETTLED.as_nanos()).unwrap_or(0)));
    let scope = Scope { from: Some(from), to: Some(to), only_these, ..Scope::default() };
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        last = reconcile(table, dir, &scope, &mut |_| {}).await?;
        if last.is_clean() {
            break;
        }
    }
    Ok(last)
}

/// From when on is compared: the last minutes, or fewer where they hold very much (`true`): then a store's minutes hold much more.
fn beginning(dir: &Path, last: Duration) -> Option<(UnixNanos, bool)> {
    let wanted = UnixNanos(UnixNanos::now().0.saturating_sub(i64::try_from(last.as_nanos()).unwrap_or(i64::MAX)));
    let end = reading::reader(dir, Start::Begin).ok()?.durable_seq();
    let from = end.checked_sub(RECORDS).filter(|from| *from > 0);
    let received = |seq: u64| match reading::reader(dir, Start::Seq(seq)).ok()?.next().ok()?? {
        Item::Record(record) => Some(UnixNanos(record.ts_recv)),
        Item::Hole(_) => None,
    };
    let received = match from.map(|from| (from, received(from))) {
        // Of a deck so busy that all of them are too young to be compared, as many more before them.
        Some((from, Some(of))) if UnixNanos::now().saturating_since(of) < 2 * SETTLED => {
            received(from.saturating_sub(TIMES_MORE * RECORDS).max(1))
        }
        other => other.and_then(|(_, received)| received),
    };
    Some(received.filter(|received| *received > wanted).map_or((wanted, false), |received| (received, true)))
}
