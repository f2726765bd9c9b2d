//! One look at one table: what is new is read, mapped, compared with what was sent, written, and only then remembered.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tapedeck_market::UnixNanos;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::document::digest_of;
use super::mapping::{Mapping, Mode, Settings};
use super::source::{Mark, News, Source, Span, Wanted};
use super::state::{Figures, Letter, Number, State};
use super::target::{Change, Target};
use super::{By, Class, Digest, Document, Id, Row, Schema, Trouble};

/// Chunks of rows between source and target.
const CHUNKS_AHEAD: usize = 4;
/// Documents that are compared and written at a time.
const AT_ONCE: usize = 1_000;
/// What is taken away at a time.
const AWAY_AT_ONCE: u32 = 1_000;
/// Documents that a rehearsed mirror takes away without being looked at again.
const FEW: u64 = 100;
const DAY_NS: i64 = 86_400_000_000_000;
/// Of a document in a dead letter; more says no more.
const LETTER_CHARS: usize = 4_096;

/// Is told of every chunk: the table, what became of its rows, and how many were refused.
pub type Progress = Arc<dyn Fn(&str, Figures, u64) + Send + Sync>;

/// What all tables share.
#[derive(Clone)]
pub struct Shop {
    pub state: Arc<Mutex<State>>,
    pub target: Arc<dyn Target>,
    pub told: Progress,
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").finish_non_exhaustive()
    }
}

/// One table and what is known of it in this process.
#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub settings: Settings,
    number: Option<Number>,
    known: Option<Known>,
    /// Once the collection was found in order.
    ready: bool,
}

#[derive(Debug)]
struct Known {
    schema: Schema,
    mapping: Arc<Mapping>,
    shape: Digest,
}

/// How a look is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// At most so many rows; the mark then stays where it is.
    pub limit: Option<u64>,
    /// Write nothing, remember nothing.
    pub dry: bool,
    /// Take what is there now as known, and follow from here.
    pub from_now: bool,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    pub by: By,
    pub figures: Figures,
    pub failed: u64,
    /// No more at the source; taken away there if the table is a mirror, else kept.
    pub gone: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Ended before its end, by a limit or a stop: the mark did not move.
    pub cut: bool,
}

impl Table {
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Table { name: name.into(), settings, number: None, known: None, ready: false }
    }

    /// Looks once.
    ///
    /// # Errors
    /// Nothing is lost by any: the mark stands where it stood.
    pub async fn pass(&mut self, source: &mut dyn Source, shop: &Shop, base: &Path, how: How) -> Result<Pass, Trouble> {
        let began = Instant::now();
        if self.known.is_none() {
            self.learn(source, base).await?;
        }
        let number = self.number(shop)?;
        let (mut mark, shape) = own(shop, |state| state.mark(number))?;
        // Nothing was ever synced: not a mapping that changed.
        let fresh = mark.is_none();
        let mut news = source.news(&self.name, mark.as_ref()).await?;
        if news.columns {
            self.learn(source, base).await?;
        }
        let known = self.known.as_ref().ok_or_else(|| Trouble::new(Class::Setup, "a table without columns"))?;
        if mark.is_some() && shape != Some(known.shape) {
            // Mapped otherwise than what is there: all of it is read again; only what comes out differently is written. With
            // another key everything looks gone, so somebody has to see that first.
            mark = None;
            if !how.dry {
                own(shop, |state| state.set_rehearsed(number, None))?;
            }
            news = source.news(&self.name, None).await?;
        }
        let mut pass =
            Pass { by: news.by, figures: Figures::default(), failed: 0, gone: 0, notes: Vec::new(), cut: false };
        if how.from_now && fresh {
            own(shop, |state| state.set_mark(number, &news.mark, known.shape))?;
            pass.notes.push("what was there before is left out".to_owned());
            return Ok(pass);
        }
        if !news.spans.is_empty() {
            if !self.ready {
                pass.notes.extend(shop.target.ready(&known.mapping.collection, &known.mapping.wanted()).await?);
                self.ready = true;
            }
            let known = self.known.as_ref().ok_or_else(|| Trouble::new(Class::Setup, "a table without columns"))?;
            // What was there before a first look may be of an earlier life of the same folder.
            let removed = news.removed || mark.is_none();
            let mut run =
                Run { table: &self.name, settings: &self.settings, number, known, shop, how, pass: &mut pass, began };
            for span in &news.spans {
                run.span(source, *span, removed).await?;
                if run.pass.cut {
                    break;
                }
            }
        }
        if !how.dry && !pass.cut && (!news.spans.is_empty() || mark.as_ref() != Some(&news.mark)) {
            self.keep_mark(shop, number, &news)?;
        }
        self.take_away(shop, number, how, &mut pass).await?;
        Ok(pass)
    }

    fn keep_mark(&self, shop: &Shop, number: Number, news: &News) -> Result<(), Trouble> {
        let Some(known) = &self.known else { return Ok(()) };
        let mark: &Mark = &news.mark;
        own(shop, |state| state.set_mark(number, mark, known.shape))
    }

    /// Its place in the state, once a look has got so far.
    #[must_use]
    pub fn known_number(&self) -> Option<Number> {
        self.number
    }

    /// What lies ready of this table for the verbs beside [`Table::pass`].
    ///
    /// # Errors
    /// As of [`Table::pass`].
    pub async fn mapped(
        &mut self,
        source: &mut dyn Source,
        shop: &Shop,
        base: &Path,
    ) -> Result<(Number, Schema, Arc<Mapping>), Trouble> {
        self.learn(source, base).await?;
        let number = self.number(shop)?;
        let known = self.known.as_ref().ok_or_else(|| Trouble::new(Class::Setup, "a table without columns"))?;
        Ok((number, known.schema.clone(), known.mapping.clone()))
    }

    /// Notes documents as sent that somebody else than [`Table::pass`] has written.
    ///
    /// # Errors
    /// Our own folder cannot be written.
    pub fn remember(&self, shop: &Shop, number: Number, documents: Vec<&Document>) -> Result<(), Trouble> {
        let figures = Figures { sent: documents.len() as u64, ..Figures::default() };
        own(shop, |state| state.confirm(number, documents, &[], figures, UnixNanos::now()))
    }

    async fn learn(&mut self, source: &mut dyn Source, base: &Path) -> Result<(), Trouble> {
        let schema = source.schema(&self.name).await?;
        let setup = |error: anyhow::Error| Trouble::new(Class::Setup, format!("{}: {error:#}", self.name));
        let mapping = Mapping::new(&self.name, &self.settings, &schema, base).map_err(setup)?;
        // Days are closed in the order of the source's own clock: by another one what is there would look gone.
        let other = self.settings.time.as_ref().is_some_and(|name| schema.place(name) != schema.time);
        if other && self.settings.mirror {
            let text = format!("{}: a mirror wants the designated timestamp as `time`", self.name);
            return Err(Trouble::new(Class::Setup, text).fix("leave `time` out, or `mirror`"));
        }
        if self.settings.keep.is_some() && mapping.time_field().is_none() && schema.time.is_none() {
            let text = format!("{}: `keep` wants a time, and the table has none", self.name);
            return Err(Trouble::new(Class::Setup, text).fix("leave `keep` out, or name a column as `time`"));
        }
        let shape = shape_of(&self.settings, &mapping);
        self.known = Some(Known { schema, mapping: Arc::new(mapping), shape });
        self.ready = false;
        Ok(())
    }

    fn number(&mut self, shop: &Shop) -> Result<Number, Trouble> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        let collection = self.known.as_ref().map_or("", |known| known.mapping.collection.as_str());
        let number = own(shop, |state| state.table(&self.name, collection))?;
        self.number = Some(number);
        Ok(number)
    }

    /// Takes away what was asked to be taken away: what is gone at the source, what is too old.
    async fn take_away(&self, shop: &Shop, number: Number, how: How, pass: &mut Pass) -> Result<(), Trouble> {
        let Some(known) = &self.known else { return Ok(()) };
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
        loop {
            let ids = own(shop, |state| state.surplus(number, before, mirror, AWAY_AT_ONCE))?;
            if ids.is_empty() || shop.stop.is_cancelled() {
                return Ok(());
            }
            let changes: Vec<Change> = ids.iter().map(|id| Change::Delete(*id)).collect();
            let written = shop.target.write(&known.mapping.collection, &changes, Mode::Upsert).await;
            let figures = Figures { removed: written.done as u64, ..Figures::default() };
            own(shop, |state| {
                state.forget(number, &ids[..written.done])?;
                state.confirm(number, [], &[], figures, UnixNanos::now())
            })?;
            pass.figures.removed += figures.removed;
            if let Some(trouble) = written.trouble {
                return Err(trouble);
            }
        }
    }
}

fn too_old(keep: std::time::Duration) -> i64 {
    UnixNanos::now().0.saturating_sub(i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX))
}

/// What decides how rows come out: a change here means that all of them must be mapped again.
fn shape_of(settings: &Settings, mapping: &Mapping) -> Digest {
    let said =
        serde_json::to_value(Settings { batch: None, poll: None, mirror: false, keep: None, ..settings.clone() });
    let columns: Vec<String> =
        mapping.columns().columns.iter().map(|column| format!("{} {:?}", column.name, column.kind)).collect();
    let mut shape = serde_json::Map::new();
    shape.insert("settings".into(), said.unwrap_or_default());
    shape.insert("columns".into(), columns.into());
    digest_of(&shape)
}

/// Something done with the state; it is ours and small, so what blocks is short.
fn own<T>(shop: &Shop, what: impl FnOnce(&mut State) -> anyhow::Result<T>) -> Result<T, Trouble> {
    let mut state = shop.state.lock().unwrap_or_else(PoisonError::into_inner);
    what(&mut state).map_err(|error| {
        Trouble::new(Class::Own, format!("what the sync remembers: {error:#}"))
            .fix("look at the disk and the rights of its folder")
    })
}

/// A pass under way.
struct Run<'a> {
    table: &'a str,
    settings: &'a Settings,
    number: Number,
    known: &'a Known,
    shop: &'a Shop,
    how: How,
    pass: &'a mut Pass,
    began: Instant,
}

/// Documents of rows, waiting to be compared and written, and what was refused of the same rows.
#[derive(Default)]
struct Pile {
    documents: Vec<Document>,
    letters: Vec<Letter>,
    seen: u64,
}

impl Run<'_> {
    async fn span(&mut self, source: &mut dyn Source, span: Span, removed: bool) -> Result<(), Trouble> {
        let (out, mut chunks) = mpsc::channel::<Vec<Row>>(CHUNKS_AHEAD);
        let left = self.how.limit.map(|limit| limit.saturating_sub(self.pass.figures.seen));
        let wanted = Wanted { table: self.table, schema: &self.known.schema, span, limit: left };
        let reading = source.rows(&wanted, out);
        let stop = self.shop.stop.clone();
        let mut missing = removed.then(|| Missing { from_ns: span.from_ns, ids: HashSet::new(), day: None });
        let writing = async {
            let done = self.take(&mut chunks, &stop, missing.as_mut()).await;
            // Nobody listens any more: reading ends.
            chunks.close();
            done
        };
        // What was read before the source broke is written: the next look is ahead by that.
        let (read, written) = tokio::join!(reading, writing);
        written?;
        read?;
        if self.how.limit.is_some_and(|limit| self.pass.figures.seen >= limit) {
            self.pass.cut = true;
        }
        match missing {
            Some(missing) if !self.pass.cut => self.gone(&missing, span.to_ns),
            _ => Ok(()),
        }
    }

    async fn take(
        &mut self,
        chunks: &mut mpsc::Receiver<Vec<Row>>,
        stop: &CancellationToken,
        mut missing: Option<&mut Missing>,
    ) -> Result<(), Trouble> {
        let mut pile = Pile::default();
        while let Some(rows) = chunks.recv().await {
            for row in rows {
                self.row(&row, &mut pile, missing.as_deref_mut())?;
                if pile.documents.len() + pile.letters.len() >= AT_ONCE {
                    self.settle(std::mem::take(&mut pile)).await?;
                }
            }
            if stop.is_cancelled() {
                self.pass.cut = true;
                break;
            }
        }
        self.settle(pile).await
    }

    fn row(&mut self, row: &Row, pile: &mut Pile, missing: Option<&mut Missing>) -> Result<(), Trouble> {
        pile.seen += 1;
        let mapping = &self.known.mapping;
        let time_ns = mapping.time_of(row);
        if self.settings.keep.is_some_and(|keep| time_ns != 0 && time_ns < too_old(keep.0)) {
            return Ok(());
        }
        let id = match mapping.document(row) {
            Ok(document) => {
                let id = document.id;
                pile.documents.push(document);
                id
            }
            Err(refused) => {
                let id = mapping.id_of(row).unwrap_or_else(|| Id::of([format!("{row:?}").as_str()]));
                pile.letters.push(Letter {
                    id: id.to_string(),
                    key: mapping.key_shown(row),
                    rule: refused.rule,
                    reason: refused.reason,
                    document: None,
                    time_ns,
                    at_ns: UnixNanos::now().0,
                });
                id
            }
        };
        if let Some(missing) = missing {
            let day = time_ns.div_euclid(DAY_NS);
            if missing.day.is_some_and(|known| known != day) {
                self.gone(missing, Some(day * DAY_NS))?;
                missing.ids.clear();
                missing.from_ns = Some(day * DAY_NS);
            }
            missing.day = Some(day);
            missing.ids.insert(id);
        }
        Ok(())
    }

    /// What we know of a stretch and did not meet there is gone at the source.
    fn gone(&mut self, missing: &Missing, to_ns: Option<i64>) -> Result<(), Trouble> {
        let span = Span { from_ns: missing.from_ns, to_ns };
        let known = own(self.shop, |state| state.within(self.number, span))?;
        let gone: Vec<(Id, bool)> = known.into_iter().filter(|(id, _)| !missing.ids.contains(id)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.pass.gone += gone.iter().filter(|(_, dead)| !dead).count() as u64;
        if self.how.dry {
            return Ok(());
        }
        own(self.shop, |state| state.set_gone(self.number, gone.iter().map(|(id, _)| id)))
    }

    /// Compares, writes, remembers.
    async fn settle(&mut self, mut pile: Pile) -> Result<(), Trouble> {
        if pile.seen == 0 {
            return Ok(());
        }
        let documents = last_of_each(pile.documents);
        let changed = own(self.shop, |state| state.changed(self.number, &documents))?;
        let mut figures =
            Figures { seen: pile.seen, unchanged: (documents.len() - changed.len()) as u64, ..Figures::default() };
        let mut trouble = None;
        let mut confirmed = Vec::new();
        if self.how.dry {
            figures.sent = changed.len() as u64;
        } else if !changed.is_empty() {
            let changes: Vec<Change> = changed.iter().map(|at| Change::Put(documents[*at].clone())).collect();
            // Past the target's own checks, and its subscribers, goes a first load only.
            let mode = if self.pass.by == By::Beginning { self.settings.mode } else { Mode::Upsert };
            let written = self.shop.target.write(&self.known.mapping.collection, &changes, mode).await;
            let now = UnixNanos::now();
            let mut refused = written.refused.iter().peekable();
            for (place, at) in changed.iter().take(written.done).enumerate() {
                let document = &documents[*at];
                match refused.next_if(|(of, _)| *of == place) {
                    Some((_, words)) => pile.letters.push(letter(document, words, now)),
                    None => confirmed.push(document),
                }
            }
            figures.sent = confirmed.len() as u64;
            trouble = written.trouble;
        }
        let busy = self.began.elapsed();
        self.began = Instant::now();
        figures.busy_ms = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
        let failed = pile.letters.len() as u64;
        if !self.how.dry {
            own(self.shop, |state| {
                state.confirm(self.number, confirmed.iter().copied(), &pile.letters, figures, UnixNanos::now())
            })?;
        }
        let total = &mut self.pass.figures;
        total.seen += figures.seen;
        total.sent += figures.sent;
        total.unchanged += figures.unchanged;
        total.busy_ms += figures.busy_ms;
        self.pass.failed += failed;
        (self.shop.told)(self.table, figures, failed);
        trouble.map_or(Ok(()), Err)
    }
}

/// A stretch in which what is known is compared with what came.
struct Missing {
    from_ns: Option<i64>,
    ids: HashSet<Id>,
    day: Option<i64>,
}

/// Of rows with one id the last: that is how the source would have it under a key.
fn last_of_each(documents: Vec<Document>) -> Vec<Document> {
    let mut seen = HashSet::with_capacity(documents.len());
    let mut kept: Vec<Document> = documents.into_iter().rev().filter(|document| seen.insert(document.id)).collect();
    kept.reverse();
    kept
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
