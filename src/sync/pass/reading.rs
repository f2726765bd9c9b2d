//! Rows of a look on their way: read, mapped, compared with what was sent, written, noted.
//!
//! ```text
//! rows, in the order of the source's clock ─► pile (about a thousand, not cut within an instant) ─► settled, and how far that is
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use tapedeck_market::UnixNanos;
use tokio::sync::mpsc;

use super::{How, Pass, Shop, busy_ms, own, too_old};
use crate::config::units::Interval;
use crate::sync::mapping::{Mapping, Mode};
use crate::sync::source::{Source, Span, Wanted};
use crate::sync::state::{Figures, Letter, Lies, Number, Reached, TIMELESS, Way};
use crate::sync::target::Change;
use crate::sync::{By, Digest, Document, Id, Row, Schema, Trouble, Value};

/// Chunks of rows between source and target.
const CHUNKS_AHEAD: usize = 4;
/// Documents that are compared and written at a time, and what they may hold.
const AT_ONCE: Room = Room { documents: 1_000, bytes: 4 << 20 };
/// Rows of one instant are settled together, so that of equal keys the last is known; but not more than these.
const OF_AN_INSTANT: Room = Room { documents: 20_000, bytes: 32 << 20 };
/// Documents of which is found out at a time that they are gone.
const GONE_AT_ONCE: u32 = 10_000;
/// Keys that are held to tell rows of equal keys, where rows of different times may have one; of more only these are told.
const KEYS_HELD: usize = 900_000;
const DAY_NS: i64 = 86_400_000_000_000;
/// Of a document in a dead letter; more says no more.
const LETTER_CHARS: usize = 4_096;

/// How much is settled together.
#[derive(Clone, Copy)]
struct Room {
    documents: usize,
    bytes: usize,
}

/// A look under way.
pub(super) struct Reading<'a> {
    table: &'a str,
    number: Number,
    schema: &'a Schema,
    mapping: &'a Mapping,
    keep: Option<Interval>,
    mode: Mode,
    shop: &'a Shop,
    how: How,
    pass: &'a mut Pass,
    began: Instant,
    /// Rows before it are left out, unless they were sent once.
    floor_ns: Option<i64>,
    /// Only stretches are read, of which a row may be older than what another one has made of the same key.
    newest: bool,
    /// Up to the last row that was taken.
    at: Reached,
    /// Keys of this instant, or of the whole look.
    met: HashSet<Id>,
}

/// What a row became.
enum Became {
    Document(Document),
    Refused(Letter),
}

/// Rows waiting to be compared and written: of each key the last, because that is how the source would have it under that key.
#[derive(Default)]
struct Pile {
    became: Vec<Became>,
    places: HashMap<Id, usize>,
    bytes: usize,
    seen: u64,
    doubled: u64,
}

impl Pile {
    fn fills(&self, room: Room) -> bool {
        self.became.len() >= room.documents || self.bytes >= room.bytes
    }

    /// Whether another row of that key was there.
    fn put(&mut self, id: Id, became: Became) -> bool {
        if let Became::Document(document) = &became {
            self.bytes += document.body.values().map(|value| value.as_str().map_or(16, str::len)).sum::<usize>();
        }
        match self.places.insert(id, self.became.len()) {
            None => self.became.push(became),
            Some(place) => {
                self.places.insert(id, place);
                self.became[place] = became;
                self.doubled += 1;
                return true;
            }
        }
        false
    }
}

/// A stretch in which what is known is compared with what came.
struct Missing {
    from_ns: Option<i64>,
    ids: HashSet<Id>,
    day: Option<i64>,
    /// Each day is closed when the next one begins.
    by_day: bool,
    /// Rows whose time is none that can be read, wherever they come; `None`: not the whole table is read, and nobody knows of all.
    timeless: Option<HashSet<Id>>,
}

/// Rows that were settled before this look broke off.
struct Settled {
    upto: Reached,
    passed: u64,
}

impl Settled {
    fn has(&mut self, clock: Option<i64>) -> bool {
        let Reached { time_ns, rows, .. } = self.upto;
        if rows == 0 {
            return false;
        }
        match (clock, time_ns) {
            (Some(clock), Some(time)) if clock != time => clock < time && clock != i64::MIN,
            (Some(_), None) | (None, Some(_)) => false,
            _ => {
                self.passed += 1;
                self.passed <= rows
            }
        }
    }
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        table: &'a str,
        number: Number,
        (schema, mapping): (&'a Schema, &'a Mapping),
        (keep, mode): (Option<Interval>, Mode),
        shop: &'a Shop,
        how: How,
        pass: &'a mut Pass,
    ) -> Self {
        let (began, at, met) = (Instant::now(), Reached::default(), HashSet::new());
        let (floor_ns, newest) = (None, false);
        Reading { table, number, schema, mapping, keep, mode, shop, how, pass, began, floor_ns, newest, at, met }
    }

    /// Reads what is left of a look.
    pub(super) async fn all(&mut self, source: &mut dyn Source, way: &Way) -> Result<(), Trouble> {
        // What the log tells of was written since: it is wanted whatever its time.
        if way.by != By::Log {
            self.floor_ns = own(self.shop, |state| state.floor(self.number))?;
        }
        self.newest = !self.mapping.key_has_clock() && !way.removed && way.by != By::Beginning;
        for (place, span) in way.spans.iter().enumerate().skip(way.at.span) {
            let from = if place == way.at.span { way.at } else { Reached { span: place, ..Reached::default() } };
            self.span(source, *span, from, way.removed).await?;
            if self.pass.cut {
                break;
            }
        }
        Ok(())
    }

    async fn span(&mut self, source: &mut dyn Source, span: Span, from: Reached, removed: bool) -> Result<(), Trouble> {
        self.at = from;
        let mut asked = span;
        let other = self.mapping.has_another_clock();
        // By another clock than the source's there are no days that end; only of the whole table it is known what is gone.
        let removed = removed && (!other || span == Span::default());
        if let Some(time) = from.time_ns.filter(|time| *time > i64::MIN && !(removed && other)) {
            // Who looks for what is gone must see the whole of a day.
            let again = if removed { time.div_euclid(DAY_NS) * DAY_NS } else { time };
            asked.from_ns = Some(span.from_ns.map_or(again, |from| from.max(again)));
        }
        let left = self.left();
        let limit = if removed { None } else { left.map(|left| left.saturating_add(from.rows)) };
        let (out, mut chunks) = mpsc::channel::<Vec<Row>>(CHUNKS_AHEAD);
        let wanted = Wanted { table: self.table, schema: self.schema, span: asked, limit };
        let reading = source.rows(&wanted, out);
        let mut missing = removed.then(|| Missing {
            from_ns: asked.from_ns,
            ids: HashSet::new(),
            day: None,
            by_day: !other,
            timeless: (asked == Span::default()).then(HashSet::new),
        });
        let writing = async {
            let done = self.take(&mut chunks, from, missing.as_mut()).await;
            // Nobody listens any more: reading ends.
            chunks.close();
            done
        };
        // What was read before the source broke is written: the next look is ahead by that.
        let (read, written) = tokio::join!(reading, writing);
        written?;
        read?;
        if self.left() == Some(0) {
            self.pass.cut = true;
        }
        match missing {
            Some(missing) if !self.pass.cut => {
                self.gone(&missing.ids, Span { from_ns: missing.from_ns, to_ns: span.to_ns })?;
                missing.timeless.map_or(Ok(()), |ids| self.gone(&ids, TIMELESS))
            }
            _ => Ok(()),
        }
    }

    /// Rows that there may still be.
    fn left(&self) -> Option<u64> {
        self.how.limit.map(|limit| limit.saturating_sub(self.pass.figures.seen))
    }

    async fn take(
        &mut self,
        chunks: &mut mpsc::Receiver<Vec<Row>>,
        from: Reached,
        mut missing: Option<&mut Missing>,
    ) -> Result<(), Trouble> {
        let mut settled = Settled { upto: from, passed: 0 };
        let mut pile = Pile::default();
        let mut last = from.time_ns;
        'reading: while let Some(rows) = chunks.recv().await {
            for row in rows {
                let clock = self.clock(&row);
                if settled.has(clock) {
                    if let Some(missing) = missing.as_deref_mut() {
                        self.is_there(&row, missing)?;
                    }
                    continue;
                }
                if self.left().is_some_and(|left| left <= pile.seen) {
                    break 'reading;
                }
                if clock != last {
                    last = clock;
                    if self.mapping.key_has_clock() {
                        self.met.clear();
                    }
                    if pile.fills(AT_ONCE) {
                        self.settle(std::mem::take(&mut pile)).await?;
                    }
                } else if pile.fills(if clock.is_some() { OF_AN_INSTANT } else { AT_ONCE }) {
                    self.settle(std::mem::take(&mut pile)).await?;
                }
                self.row(&row, &mut pile)?;
                self.advance(clock);
                if let Some(missing) = missing.as_deref_mut() {
                    self.is_there(&row, missing)?;
                }
            }
            if self.shop.stop.is_cancelled() {
                self.pass.cut = true;
                break;
            }
        }
        self.settle(pile).await
    }

    /// When a row is, by the source's own clock; the smallest number where that cannot be read, `None` where there is none.
    fn clock(&self, row: &Row) -> Option<i64> {
        let value = row.get(self.schema.time?);
        Some(match value {
            Some(Value::Time(ns)) => *ns,
            _ => i64::MIN,
        })
    }

    fn advance(&mut self, clock: Option<i64>) {
        match (clock, self.at.time_ns) {
            (Some(clock), Some(time)) if clock < time => {}
            (Some(clock), known) if known != Some(clock) => (self.at.time_ns, self.at.rows) = (Some(clock), 1),
            _ => self.at.rows += 1,
        }
    }

    fn row(&mut self, row: &Row, pile: &mut Pile) -> Result<(), Trouble> {
        pile.seen += 1;
        let time_ns = self.mapping.time_of(row);
        if self.keep.is_some_and(|keep| time_ns != 0 && time_ns < too_old(keep.0)) {
            return Ok(());
        }
        if self.floor_ns.is_some_and(|floor| time_ns < floor) {
            let id = self.id_of(row);
            if own(self.shop, |state| state.known(self.number, id))?.is_none() {
                return Ok(());
            }
        }
        let (id, became) = match self.mapping.document(row) {
            Ok(document) => {
                tracing::trace!(
                    table = self.table, row = self.mapping.row_shown(row), id = %document.id, body = ?document.body, "mapped a row"
                );
                (document.id, Became::Document(document))
            }
            Err(refused) => {
                tracing::trace!(
                    table = self.table,
                    row = self.mapping.row_shown(row),
                    refused = refused.reason,
                    "mapped a row"
                );
                let id = self.id_of(row);
                let letter = Letter {
                    id: id.to_string(),
                    key: self.mapping.key_shown(row),
                    rule: refused.rule,
                    reason: refused.reason,
                    document: None,
                    time_ns,
                    at_ns: UnixNanos::now().0,
                };
                (id, Became::Refused(letter))
            }
        };
        let is_document = matches!(became, Became::Document(_));
        let replaces = pile.put(id, became);
        if self.met.contains(&id) {
            if !replaces {
                pile.doubled += 1;
                self.pass.rewritten += u64::from(is_document);
            }
        } else if self.met.len() < KEYS_HELD {
            self.met.insert(id);
        }
        Ok(())
    }

    /// What a row is known by, also where a part of its key is absent.
    fn id_of(&self, row: &Row) -> Id {
        self.mapping.id_of(row).unwrap_or_else(|| Id::of([format!("{row:?}").as_str()]))
    }

    fn is_there(&mut self, row: &Row, missing: &mut Missing) -> Result<(), Trouble> {
        let (id, time_ns) = (self.id_of(row), self.mapping.time_of(row));
        if time_ns == 0 {
            missing.timeless.as_mut().map(|ids| ids.insert(id));
            return Ok(());
        }
        let day = time_ns.div_euclid(DAY_NS);
        if missing.by_day && missing.day.is_some_and(|known| known < day) {
            let ended = Span { from_ns: missing.from_ns, to_ns: Some(day * DAY_NS) };
            self.gone(&std::mem::take(&mut missing.ids), ended)?;
            missing.from_ns = ended.to_ns;
        }
        missing.day = missing.day.max(Some(day));
        missing.ids.insert(id);
        Ok(())
    }

    /// What we know of a stretch and did not meet there is gone at the source.
    pub(super) fn gone(&mut self, there: &HashSet<Id>, span: Span) -> Result<(), Trouble> {
        let mut last: Option<Lies> = None;
        loop {
            let known = own(self.shop, |state| state.within(self.number, span, last.as_ref(), GONE_AT_ONCE))?;
            let Some(end) = known.last() else { return Ok(()) };
            last = Some(end.clone());
            let gone: Vec<Lies> = known.into_iter().filter(|lies| !there.contains(&lies.id)).collect();
            self.pass.gone += gone.iter().filter(|lies| !lies.dead).count() as u64;
            if !self.how.dry && !gone.is_empty() {
                own(self.shop, |state| state.set_gone(self.number, gone.iter().map(|lies| &lies.id)))?;
            }
        }
    }

    /// Compares, writes, remembers.
    async fn settle(&mut self, pile: Pile) -> Result<(), Trouble> {
        if pile.seen == 0 {
            return Ok(());
        }
        let (mut documents, mut letters) = (Vec::with_capacity(pile.became.len()), Vec::new());
        for became in pile.became {
            match became {
                Became::Document(document) => documents.push(document),
                Became::Refused(letter) => letters.push(letter),
            }
        }
        let changed = own(self.shop, |state| state.changed(self.number, &documents, self.newest))?;
        let unchanged = (documents.len() - changed.len()) as u64;
        let mut figures = Figures { seen: pile.seen, doubled: pile.doubled, unchanged, ..Figures::default() };
        let mut trouble = None;
        if self.how.dry {
            figures.sent = changed.len() as u64;
            figures.busy_ms = busy_ms(&mut self.began);
        } else {
            let landed = self.landed(&documents, &changed).await?;
            let open: Vec<usize> = changed.into_iter().filter(|at| !landed.contains(at)).collect();
            let mut confirmed: Vec<&Document> = landed.iter().map(|at| &documents[*at]).collect();
            trouble = self.send(&documents, &open, &mut confirmed, &mut letters).await?;
            figures.sent = confirmed.len() as u64;
            figures.busy_ms = busy_ms(&mut self.began);
            if trouble.is_some() {
                // These rows are taken once more, and are counted then.
                figures = Figures { busy_ms: figures.busy_ms, ..Figures::default() };
            }
            let at = trouble.is_none().then_some(self.at);
            own(self.shop, |state| state.settle(self.number, confirmed, &letters, figures, at, UnixNanos::now()))?;
        }
        let failed = if trouble.is_some() { 0 } else { letters.len() as u64 };
        self.pass.figures.add(figures);
        self.pass.failed += failed;
        (self.shop.told)(self.table, figures, failed);
        trouble.map_or(Ok(()), Err)
    }

    /// Those of the changed documents (by place) that were sent before without an answer, and are there: sent again, each would be one
    /// event more for whoever is subscribed.
    async fn landed(&self, documents: &[Document], changed: &[usize]) -> Result<HashSet<usize>, Trouble> {
        let flying = own(self.shop, |state| state.in_flight(self.number, documents, changed))?;
        if flying.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<Id> = flying.iter().map(|at| documents[*at].id).collect();
        let found = self.shop.target.find(&self.mapping.collection, &self.mapping.wanted(), &ids).await?;
        let there: HashMap<Id, Digest> = found
            .into_iter()
            .filter_map(|found| Some((Id::parse(&found.id)?, super::digest_of(&found.body))))
            .collect();
        let is_there = |at: &usize| there.get(&documents[*at].id) == Some(&documents[*at].digest());
        Ok(flying.into_iter().filter(is_there).collect())
    }

    /// Sends documents (by place). What broke it off comes back; what was confirmed or refused until then is added.
    async fn send<'d>(
        &self,
        documents: &'d [Document],
        open: &[usize],
        confirmed: &mut Vec<&'d Document>,
        letters: &mut Vec<Letter>,
    ) -> Result<Option<Trouble>, Trouble> {
        if open.is_empty() {
            return Ok(None);
        }
        // Nobody is told of statements, so that sending them twice is seen by nobody.
        if self.mode == Mode::Upsert {
            own(self.shop, |state| state.take_off(self.number, open.iter().map(|at| &documents[*at])))?;
        }
        let changes: Vec<Change> = open.iter().map(|at| Change::Put(documents[*at].clone())).collect();
        let written = self.shop.target.write(&self.mapping.collection, &changes, self.mode).await;
        let now = UnixNanos::now();
        let mut refused = written.refused.iter().peekable();
        for (place, at) in open.iter().take(written.done).enumerate() {
            let document = &documents[*at];
            match refused.next_if(|(of, _)| *of == place) {
                Some((_, words)) => letters.push(letter(document, words, now)),
                None => confirmed.push(document),
            }
        }
        Ok(written.trouble)
    }
}

fn letter(document: &Document, words: &str, now: UnixNanos) -> Letter {
    let text: String =
        serde_json::Value::Object(document.body.clone()).to_string().chars().take(LETTER_CHARS).collect();
    Letter {
        id: document.id.to_string(),
        key: document.id.to_string(),
        rule: "refused by the target".to_owned(),
        reason: words.to_owned(),
        document: Some(text),
        time_ns: document.time_ns,
        at_ns: now.0,
    }
}
