//! One page of one hole: asked for, recorded, and the hole's last word behind the last one.

use anyhow::Context as _;
use tapedeck_market::{Body, Event, Flags, Gap, GapState, Position, SmolStr, UnixNanos};

use super::ledger::Noted;
use crate::intake::Outlet;
use crate::sources::history::{Gone, History, Outlook};

/// Under this name the tape keeps how far a hole is filled: `ID EVENTS AT`.
const POSITION: &str = "repair";

/// What one page came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some is there, the hole is not full yet.
    Went { events: u64 },
    /// The hole has its last word.
    Done { events: u64, state: GapState },
}

/// Fills the holes of one source, one after the other.
pub struct Filler {
    history: Box<dyn History>,
    out: Outlet,
    /// How far the last hole is.
    begun: Option<Begun>,
}

impl std::fmt::Debug for Filler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filler").field("source", self.out.source()).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Begun {
    gap: u64,
    /// Events of it so far.
    events: u64,
    at: SmolStr,
}

impl Begun {
    fn read(text: &str) -> Option<Begun> {
        let mut parts = text.splitn(3, ' ');
        let (gap, events) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Begun { gap, events, at: parts.next()?.into() })
    }

    fn text(&self) -> SmolStr {
        SmolStr::from(format!("{} {} {}", self.gap, self.events, self.at))
    }
}

impl Filler {
    /// Goes on where the tape says that an earlier one stopped. `out` is that of the source.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn new(history: Box<dyn History>, mut out: Outlet) -> anyhow::Result<Filler> {
        out.refresh().await?;
        let begun = out.resume().positions.get(POSITION).and_then(|text| Begun::read(text));
        Ok(Filler { history, out, begun })
    }

    /// What can be had for the hole.
    #[must_use]
    pub fn outlook(&self, noted: &Noted) -> Outlook {
        self.history.outlook(&noted.hole)
    }

    /// Asks for the next page of the hole and records it, without what is `known` to be on the tape; returns when it is
    /// durable.
    ///
    /// # Errors
    /// Of the venue: to be asked again later. The recorder has stopped.
    pub async fn step(&mut self, noted: &Noted, known: impl Fn(&Event) -> bool) -> anyhow::Result<Step> {
        let (with, numbered) = match self.outlook(noted) {
            Outlook::Lost(why) => return self.last_word(noted, Vec::new(), 0, GapState::Unrepairable, why).await,
            Outlook::Fillable { with, numbered } => (with, numbered),
        };
        let id = noted.hole.gap.id;
        let begun = self.begun.clone().filter(|begun| begun.gap == id);
        let before = begun.as_ref().map_or(0, |begun| begun.events);
        let page = self.history.page(&noted.hole, begun.as_ref().map(|begun| begun.at.as_str())).await;
        let mut page = match page {
            Ok(page) => page,
            Err(error) => match error.downcast::<Gone>() {
                Ok(Gone(why)) => return self.last_word(noted, Vec::new(), 0, GapState::Unrepairable, &why).await,
                Err(error) => return Err(error),
            },
        };
        page.events.retain(|event| !known(event));
        page.events.iter_mut().for_each(|event| event.source.clone_from(&noted.event.source));
        let (events, all) = (page.events.len() as u64, before + page.events.len() as u64);
        match page.next {
            Some(at) => {
                let begun = Begun { gap: id, events: all, at };
                let position = Position { key: SmolStr::new_static(POSITION), value: begun.text() };
                let mut append = page.events;
                append.push(self.event(noted, UnixNanos::now(), Body::Position(position)));
                self.out.emit_durable(append).await?;
                self.begun = Some(begun);
                Ok(Step::Went { events })
            }
            None => match noted.hole.ids() {
                Some(ids) if all < ids && numbered => {
                    let why = format!("the venue has {all} of {ids} {with}");
                    let noted = &Noted { hole: noted.hole.lacking(ids - all), ..noted.clone() };
                    self.last_word(noted, page.events, events, GapState::Unrepairable, &why).await
                }
                _ => {
                    let said = format!("{all} {with} fetched");
                    self.last_word(noted, page.events, events, GapState::Repaired, &said).await
                }
            },
        }
    }

    /// Records the last events of a hole, and what became of it.
    async fn last_word(
        &mut self,
        noted: &Noted,
        mut append: Vec<Event>,
        events: u64,
        state: GapState,
        said: &str,
    ) -> anyhow::Result<Step> {
        let gap = &noted.hole.gap;
        let detail =
            if gap.detail.is_empty() { SmolStr::new(said) } else { SmolStr::from(format!("{}; {said}", gap.detail)) };
        let missing = if state == GapState::Repaired { Some(0) } else { gap.missing };
        let body = Gap { state, missing, detail, ..gap.clone() };
        append.push(self.event(noted, UnixNanos::now(), Body::Gap(Box::new(body))));
        self.out.emit_durable(append).await.context("recording what was fetched")?;
        self.begun = None;
        Ok(Step::Done { events, state })
    }

    fn event(&self, noted: &Noted, now: UnixNanos, body: Body) -> Event {
        let own = self.out.event(SmolStr::default(), None, now, body);
        // Flagged like what it speaks of: it says nothing of when the feed was heard.
        let event = Event { flags: Flags::BACKFILLED, ..own };
        match event.body {
            Body::Gap(_) => Event { source: noted.event.source.clone(), symbol: noted.hole.symbol.clone(), ..event },
            _ => event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_hole_is_can_be_read_back() {
        let begun = Begun { gap: 17, events: 2_000, at: "1700 with words".into() };
        assert_eq!(Begun::read(&begun.text()), Some(begun));
        assert_eq!(Begun::read("17"), None);
    }
}
