//! What is taken away at the target: what a mirror has no more, and what is too old.

use tapedeck_market::UnixNanos;

use super::{How, Pass, Shop, Table, own};
use crate::sync::mapping::Mode;
use crate::sync::state::{Figures, Number};
use crate::sync::target::Change;
use crate::sync::{Id, Trouble};

/// What is taken away at a time.
const AT_ONCE: u32 = 1_000;
/// Documents that a rehearsed mirror takes away without being looked at again.
const FEW: u64 = 100;

impl Table {
    /// Takes away what was asked to be taken away: what is gone at the source, what is too old.
    pub(super) async fn take_away(
        &self,
        shop: &Shop,
        number: Number,
        how: How,
        pass: &mut Pass,
    ) -> Result<(), Trouble> {
        let collection = self.collection();
        let mut mirror = self.settings.mirror;
        if how.dry {
            let gone = own(shop, |state| state.standing(number))?.1 + pass.gone;
            if mirror && gone > 0 {
                pass.notes.push(format!("{gone} documents that are gone at the source would be taken away"));
            }
            // What was seen of a part says nothing of the whole.
            if mirror && !pass.cut {
                own(shop, |state| state.set_rehearsed(number, Some(gone)))?;
            }
            return Ok(());
        }
        if mirror {
            let (synced, gone) = own(shop, |state| state.standing(number))?;
            let seen = own(shop, |state| state.rehearsed(number))?;
            // Few are what a mirror is for; a tenth of a table is somebody's mistake until it was looked at.
            let few = gone <= FEW || gone <= (synced + gone) / 10;
            if gone > 0 && !seen.is_some_and(|seen| few || gone <= seen) {
                pass.notes.push(format!(
                    "{gone} documents that are gone at the source are kept until somebody has seen that: tapedeck sync run --dry-run --table {}",
                    self.name
                ));
                mirror = false;
            }
        }
        let before = self.settings.keep.map(|keep| too_old(keep.0));
        if !mirror && before.is_none() {
            return Ok(());
        }
        let mut kept = 0;
        loop {
            let ids = own(shop, |state| state.surplus(number, before, mirror, (AT_ONCE, kept)))?;
            if ids.is_empty() || shop.stop.is_cancelled() {
                return Ok(());
            }
            let changes: Vec<Change> = ids.iter().map(|id: &Id| Change::Delete(*id)).collect();
            let written = shop.target.write(&collection, &changes, Mode::Upsert).await;
            let refused = |place: usize| written.refused.iter().any(|(of, _)| *of == place);
            let away: Vec<Id> = (0..written.done).filter(|place| !refused(*place)).map(|place| ids[place]).collect();
            let figures = Figures { removed: away.len() as u64, ..Figures::default() };
            own(shop, |state| {
                state.forget(number, &away)?;
                state.confirm(number, [], &[], figures, UnixNanos::now())
            })?;
            pass.figures.removed += figures.removed;
            kept += written.refused.len() as u64;
            if let Some((_, words)) = written.refused.first() {
                let count = written.refused.len();
                pass.notes.push(format!("{count} documents should be taken away, and the target keeps them: {words}"));
            }
            if let Some(trouble) = written.trouble {
                return Err(trouble);
            }
        }
    }
}

/// The beginning of what is kept.
pub(in crate::sync) fn too_old(keep: std::time::Duration) -> i64 {
    UnixNanos::now().0.saturating_sub(i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX))
}
