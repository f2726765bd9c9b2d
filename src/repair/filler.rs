//! One page of one hole: asked for, recorded, and the hole's last word behind the last one.

use std::time::Duration;

use anyhow::Context as _;
use tapedeck_market::{Body, Event, Flags, Gap, GapState, Position, SmolStr, UnixNanos};

use super::ledger::Noted;
use crate::intake::Outlet;
use crate::sources::history::{Gone, History, Outlook, Refused};

/// A venue's past may be so much behind its feed: what it lacks of a younger hole may still come, so nothing is said of
/// that until the hole is older.
const BEHIND: Duration = Duration::from_secs(30);
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

/// What the venue lacks of a hole may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the venue does not have all of it yet")]
pub(super) struct Behind;

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

    fn is_numbered(&self, noted: &Noted) -> bool {
        matches!(self.outlook(noted), Outlook::Fillable { numbered: true, .. })
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
        let count = page.events.len() as u64;
        let lacks = match noted.hole.ids() {
            Some(ids) => before + count < ids,
            // How many there should be is not known.
            None => true,
        };
        if page.next.is_none() && numbered && lacks && UnixNanos::now() < noted.event.ts_recv + BEHIND {
            return Err(Behind.into());
        }
        let refused = page.refused.len();
        for Refused { row, error } in &page.refused {
            self.out.reject(row.as_bytes(), UnixNanos::now(), error.reason, error).await?;
        }
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
                    let mut why = format!("the venue has {all} of {ids} {with}");
                    if refused > 0 {
                        why += &format!(", and {refused} that hold a number which does not fit");
                    }
                    let noted = &Noted { hole: noted.hole.lacking(ids - all), ..noted.clone() };
                    self.last_word(noted, page.events, events, GapState::Unrepairable, &why).await
                }
                None if numbered && noted.hole.between.0.is_none() => {
                    let said = format!(
                        "{all} {with} fetched; the tape has none before them that would tell whether that is all"
                    );
                    self.last_word(noted, page.events, events, GapState::Repaired, &said).await
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
        let missing = match state {
            // Nobody knows, where nothing told what there should be.
            GapState::Repaired if noted.hole.between.0.is_none() && self.is_numbered(noted) => None,
            GapState::Repaired => Some(0),
            _ => gap.missing,
        };
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
    use async_trait::async_trait;
    use tapedeck_market::{GapCause, Price, Size, Trade};
    use tokio::sync::mpsc;

    use super::*;
    use crate::intake::{Intake, Resume};
    use crate::sources::history::{Hole, Page, ParseError};

    #[test]
    fn how_far_a_hole_is_can_be_read_back() {
        let begun = Begun { gap: 17, events: 2_000, at: "1700 with words".into() };
        assert_eq!(Begun::read(&begun.text()), Some(begun));
        assert_eq!(Begun::read("17"), None);
    }

    /// A venue with one page of so many trades, and rows that are none.
    struct OnePage {
        trades: u64,
        refused: usize,
    }

    #[async_trait]
    impl History for OnePage {
        fn outlook(&self, _: &Hole) -> Outlook {
            Outlook::Fillable { with: "trades", numbered: true }
        }
        async fn page(&mut self, hole: &Hole, _: Option<&str>) -> anyhow::Result<Page> {
            let trade = |id: u64| {
                let one: tapedeck_market::Decimal = "1".parse().expect("a number");
                let body = Body::Trade(Trade {
                    price: Price(one),
                    size: Size(one),
                    side: None,
                    id: Some(id.to_string().into()),
                });
                event(&hole.symbol, body, UnixNanos(1))
            };
            let error = ParseError { reason: "number refused", detail: "price".into() };
            let refused = (0..self.refused).map(|_| Refused { row: "[1]".into(), error: error.clone() }).collect();
            Ok(Page { events: (1..=self.trades).map(trade).collect(), refused, next: None })
        }
    }

    fn event(symbol: &str, body: Body, ts_recv: UnixNanos) -> Event {
        let (source, venue) = (SmolStr::new_static("k"), SmolStr::new_static("kraken"));
        Event { source, venue, symbol: symbol.into(), ts_event: None, ts_recv, flags: Flags::NONE, origin: None, body }
    }

    /// A hole that was over then, between trades of these ids.
    fn noted(over: UnixNanos, between: (Option<u64>, Option<u64>)) -> Noted {
        let gap = Gap {
            id: 9,
            state: GapState::Closed,
            cause: GapCause::Session,
            channel: "trade".into(),
            from: over - Duration::from_secs(5),
            to: Some(over),
            missing: None,
            detail: SmolStr::default(),
        };
        let event = event("A", Body::Gap(Box::new(gap.clone())), over);
        Noted { seq: 1, event, hole: Hole { symbol: "A".into(), gap, between } }
    }

    /// One step at a venue, and what the recorder was told.
    async fn step(history: OnePage, noted: &Noted) -> (anyhow::Result<Step>, Vec<Event>) {
        let (to_recorder, mut intake) = mpsc::channel(16);
        let recorder = tokio::spawn(async move {
            let mut said = Vec::new();
            while let Some(message) = intake.recv().await {
                match message {
                    Intake::Resume { reply, .. } => drop(reply.send(Resume::default())),
                    Intake::Events { events, durable } => {
                        said.extend(events);
                        if let Some(durable) = durable {
                            let _ = durable.send(1);
                        }
                    }
                    _ => {}
                }
            }
            said
        });
        let out = Outlet::new("k".into(), "kraken".into(), to_recorder, Default::default(), Default::default());
        let mut filler = Filler::new(Box::new(history), out).await.expect("a recorder");
        let stepped = filler.step(noted, |_| false).await;
        drop(filler);
        (stepped, recorder.await.expect("no panic"))
    }

    fn last_gap(said: &[Event]) -> Gap {
        match said.last().map(|event| &event.body) {
            Some(Body::Gap(gap)) => (**gap).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_venue_that_is_behind_is_asked_again_before_anything_is_given_up() {
        let (now, five) = (UnixNanos::now(), (Some(0), Some(6)));
        for between in [five, (None, None), (Some(0), None)] {
            let (stepped, said) = step(OnePage { trades: 3, refused: 1 }, &noted(now, between)).await;
            assert!(stepped.expect_err("not yet").is::<Behind>() && said.is_empty(), "{between:?}: {said:?}");
        }
        let (stepped, said) = step(OnePage { trades: 5, refused: 0 }, &noted(now, five)).await;
        assert_eq!(stepped.expect("whole"), Step::Done { events: 5, state: GapState::Repaired });
        assert_eq!(last_gap(&said).missing, Some(0));
        let old = now - BEHIND;
        let (stepped, said) = step(OnePage { trades: 3, refused: 1 }, &noted(old, five)).await;
        assert_eq!(stepped.expect("a word"), Step::Done { events: 3, state: GapState::Unrepairable });
        let gap = last_gap(&said);
        assert_eq!((gap.missing, gap.detail.contains("3 of 5 trades, and 1 that hold")), (Some(2), true), "{gap:?}");
        let kept = said.iter().filter(|event| matches!(&event.body, Body::Raw(raw) if raw.format == "rejected"));
        assert_eq!(kept.count(), 1);
    }

    #[tokio::test]
    async fn what_nobody_can_count_is_not_said_to_be_whole() {
        let old = UnixNanos::now() - BEHIND;
        let (stepped, said) = step(OnePage { trades: 0, refused: 0 }, &noted(old, (None, Some(6)))).await;
        assert!(matches!(stepped, Ok(Step::Done { events: 0, state: GapState::Repaired })));
        let gap = last_gap(&said);
        assert_eq!((gap.missing, gap.detail.contains("would tell whether that is all")), (None, true), "{gap:?}");
    }
}
