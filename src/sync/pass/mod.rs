//! One look at one table: what is new is read, mapped, compared with what was sent, written, and only then remembered.
//!
//! A look that broke off is brought to its end by the next one, from where it was, before anything else is asked for.

mod away;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tapedeck_market::UnixNanos;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(in crate::sync) use self::away::too_old;
use self::reading::Reading;
use super::document::digest_of;
use super::mapping::{Mapping, Mode, Settings};
use super::source::{Source, Span, Wanted};
use super::state::{Ends, Figures, Number, Reached, State, Way};
use super::target::Target;
use super::{By, Class, Digest, Document, Row, Schema, Trouble, Value};

/// What was found in order is looked at again after so long: people change collections while tables are followed.
const READY_FOR: Duration = Duration::from_secs(60);

/// Is told of every chunk: the table, what became of its rows, and how many were refused.
pub type Progress = Arc<dyn Fn(&str, Figures, u64) + Send + Sync>;

/// What all tables share.
#[derive(Clone)]
pub struct Shop {
    pub state: Arc<Mutex<State>>,
    pub target: Arc<dyn Target>,
    /// Between whom the state stands.
    pub ends: Ends,
    pub told: Progress,
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// One table and what is known of it in this process.
#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub settings: Settings,
    /// Of looks that broke off: what became of rows all the same.
    pub broken: Pass,
    number: Option<Number>,
    known: Option<Known>,
    /// When the collection was found in order.
    ready: Option<Instant>,
    /// What a person should know, told with the next look.
    notes: Vec<String>,
    /// There was something new since the oldest row was last asked for without it.
    may_expire: bool,
    /// Nothing that was sent is older and still there: as of the last look.
    oldest_ns: Option<i64>,
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
    /// At most so many rows; the next look goes on behind them.
    pub limit: Option<u64>,
    /// Write nothing, remember nothing.
    pub dry: bool,
    /// Where to begin, if that is not where the last look ended.
    pub from: Option<Since>,
}

/// Where a table is followed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// What is there now is left out, where nothing was synced yet.
    Now,
    /// What was left out before is wanted.
    Beginning,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    pub by: By,
    pub figures: Figures,
    pub failed: u64,
    /// Rows that were sent although a row of the same key had been sent before in the same look.
    pub rewritten: u64,
    /// No more at the source; taken away there if the table is a mirror, else kept.
    pub gone: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Ended before its end, by a limit or a stop: the mark did not move.
    pub cut: bool,
}

impl Default for Pass {
    fn default() -> Self {
        Pass {
            by: By::Gate,
            figures: Figures::default(),
            failed: 0,
            rewritten: 0,
            gone: 0,
            notes: Vec::new(),
            cut: false,
        }
    }
}

impl Pass {
    /// Documents that are at the target as the rows of this look have them.
    #[must_use]
    pub fn synced(&self) -> u64 {
        (self.figures.sent + self.figures.unchanged).saturating_sub(self.rewritten)
    }

    /// With what became of rows in an earlier one.
    #[must_use]
    pub fn with(mut self, earlier: &Pass) -> Pass {
        self.figures.add(earlier.figures);
        self.failed += earlier.failed;
        self.rewritten += earlier.rewritten;
        self.gone += earlier.gone;
        self.notes.splice(0..0, earlier.notes.iter().cloned());
        self
    }
}

impl Table {
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        let (broken, notes) = (Pass::default(), Vec::new());
        Table {
            name: name.into(),
            settings,
            broken,
            number: None,
            known: None,
            ready: None,
            notes,
            may_expire: false,
            oldest_ns: None,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// Nothing is lost by any: the mark stands where it stood, and what was settled stays settled.
    pub async fn pass(&mut self, source: &mut dyn Source, shop: &Shop, base: &Path, how: How) -> Result<Pass, Trouble> {
        let mut pass = Pass::default();
        let looked = self.look(source, shop, base, how, &mut pass).await;
        if pass.figures.doubled > 0 {
            pass.notes.push(format!(
                "{} rows have the key of another row, and only the last of each key is at the target: let `key` name all columns that tell \
                 rows apart",
                pass.figures.doubled
            ));
        }
        match looked {
            Ok(()) => Ok(pass),
            Err(trouble) => {
                // It may be another collection when it is back.
                self.ready = None;
                self.broken = std::mem::take(&mut self.broken).with(&pass);
                Err(trouble)
            }
        }
    }

    async fn look(
        &mut self,
        source: &mut dyn Source,
        shop: &Shop,
        base: &Path,
        how: How,
        pass: &mut Pass,
    ) -> Result<(), Trouble> {
        // Files of lookups are read again once somebody has written to them.
        if self.known.as_ref().is_none_or(|known| known.mapping.lookups_changed()) {
            self.learn(source, base).await?;
        }
        if how.dry && self.is_of_others(shop, pass)? {
            return Ok(());
        }
        let number = self.number(shop)?;
        pass.notes.append(&mut self.notes);
        if how.from == Some(Since::Beginning) && !how.dry {
            own(shop, |state| state.set_floor(number, None))?;
        }
        if !how.dry && self.go_on(source, shop, base, (number, how), pass).await? {
            return Ok(());
        }
        if self.has_other_ids(shop, number, how, pass).await? {
            return Ok(());
        }
        loop {
            let (mut mark, shape) = own(shop, |state| state.mark(number))?;
            // Nothing was ever synced: not a mapping that changed.
            let fresh = mark.is_none();
            let mut news = source.news(&self.name, mark.as_ref()).await?;
            if news.columns {
                self.learn(source, base).await?;
                let left_out = self.known()?.mapping.left_out();
                if !fresh && !left_out.is_empty() {
                    pass.notes
                        .push(format!("its columns have changed; the mapping leaves out {}", left_out.join(", ")));
                }
                if self.has_other_ids(shop, number, how, pass).await? {
                    return Ok(());
                }
            }
            let known = self.known()?;
            let (now, finer) = (known.shape, known.mapping.is_finer_than_source());
            if mark.is_some() && shape != Some(now) {
                // Mapped otherwise than what is there: all of it is read again; only what comes out differently is written. With
                // another key everything looks gone, so somebody has to see that first.
                mark = None;
                if !how.dry {
                    own(shop, |state| state.set_rehearsed(number, None))?;
                }
                news = source.news(&self.name, None).await?;
            }
            pass.by = if pass.by == By::Gate { news.by } else { pass.by };
            if how.from == Some(Since::Now) && fresh {
                let floor = newest(source, &self.name, &known.schema).await?;
                own(shop, |state| {
                    state.set_floor(number, floor)?;
                    state.set_mark(number, &news.mark, now)
                })?;
                pass.notes
                    .push("what was there before is left out, until `tapedeck sync run --from beginning`".to_owned());
                return Ok(());
            }
            if news.spans.is_empty() {
                if self.may_expire && !how.dry {
                    self.look_for_expired(source, shop, (number, how), pass).await?;
                    self.may_expire = false;
                }
                if !how.dry && mark.as_ref() != Some(&news.mark) {
                    own(shop, |state| state.set_mark(number, &news.mark, now))?;
                }
                return self.take_away(shop, number, how, pass).await;
            }
            if self.make_ready(shop, number, how, pass).await? {
                if how.dry {
                    return Ok(());
                }
                continue;
            }
            // What was there before a first look may be of an earlier life of the same folder.
            let removed = news.removed || finer || mark.is_none() && own(shop, |state| state.knows_any(number))?;
            let at = Reached::default();
            let way = Way { mark: news.mark, shape: now.0, spans: news.spans, by: news.by, removed, at };
            if !how.dry {
                own(shop, |state| state.set_way(number, &way))?;
            }
            self.walk(source, shop, (number, how), &way, pass).await?;
            // A rehearsal has counted what lies in its spans, and would count it again.
            if way.by == By::Log && !pass.cut && !(how.dry && way.removed) {
                // The old rows may go a moment after the new ones came: the next look asks again.
                self.may_expire = true;
                self.look_for_expired(source, shop, (number, how), pass).await?;
            }
            return self.take_away(shop, number, how, pass).await;
        }
    }

    /// Brings a look to its end that broke off; whether that is all for now.
    async fn go_on(
        &mut self,
        source: &mut dyn Source,
        shop: &Shop,
        base: &Path,
        (number, how): (Number, How),
        pass: &mut Pass,
    ) -> Result<bool, Trouble> {
        if own(shop, |state| state.way(number))?.is_none() {
            return Ok(false);
        }
        // Its columns may be other ones by now.
        self.learn(source, base).await?;
        if self.has_other_ids(shop, number, how, pass).await? {
            return Ok(true);
        }
        // The collection may have been another one.
        let Some(way) = own(shop, |state| state.way(number))? else { return Ok(false) };
        if way.shape != self.known()?.shape.0 || self.make_ready(shop, number, how, pass).await? {
            return Ok(false);
        }
        pass.by = way.by;
        self.walk(source, shop, (number, how), &way, pass).await?;
        if pass.cut {
            self.take_away(shop, number, how, pass).await?;
        }
        Ok(pass.cut)
    }

    /// Reads the stretches of a look from where it is, and moves the mark once that is done.
    async fn walk(
        &mut self,
        source: &mut dyn Source,
        shop: &Shop,
        (number, how): (Number, How),
        way: &Way,
        pass: &mut Pass,
    ) -> Result<(), Trouble> {
        let known = self.known()?;
        let mode = if way.by == By::Beginning { self.settings.mode } else { Mode::Upsert };
        let mut reading = Reading::new(
            &self.name,
            number,
            (&known.schema, &known.mapping),
            (self.settings.keep, mode),
            shop,
            how,
            pass,
        );
        reading.all(source, way).await?;
        if !how.dry && !pass.cut {
            let shape = known.shape;
            own(shop, |state| state.set_mark(number, &way.mark, shape))?;
        }
        Ok(())
    }

    /// A source may let its oldest rows go by itself (a TTL), and its log does not say so.
    async fn look_for_expired(
        &mut self,
        source: &mut dyn Source,
        shop: &Shop,
        (number, how): (Number, How),
        pass: &mut Pass,
    ) -> Result<(), Trouble> {
        let known = self.known()?;
        // Without the clock in the key, a document's row may be a later one than the one that was sent.
        if known.mapping.has_another_clock() || !known.mapping.key_has_clock() {
            return Ok(());
        }
        let oldest_ns = source.oldest(&self.name).await?;
        if oldest_ns.is_none() || oldest_ns == self.oldest_ns {
            return Ok(());
        }
        let (keep, mode) = (self.settings.keep, Mode::Upsert);
        let mut reading =
            Reading::new(&self.name, number, (&known.schema, &known.mapping), (keep, mode), shop, how, pass);
        reading.gone(&HashSet::new(), Span { from_ns: None, to_ns: oldest_ns })?;
        self.oldest_ns = oldest_ns;
        Ok(())
    }

    /// Whether the state is of another source or target, which a rehearsal must leave as it is.
    fn is_of_others(&self, shop: &Shop, pass: &mut Pass) -> Result<bool, Trouble> {
        let collection = self.collection();
        let anew = own(shop, |state| state.would_begin_anew(&self.name, &collection, &shop.ends))?;
        let Some(anew) = anew else { return Ok(false) };
        pass.notes.push(format!("a run would begin anew: {anew}"));
        pass.cut = true;
        Ok(true)
    }

    /// Notes what ids are made of; `true`: a rehearsal ends here.
    ///
    /// # Errors
    /// They were made of something else before, and the collection is the same: every document would be there twice.
    async fn has_other_ids(&mut self, shop: &Shop, number: Number, how: How, pass: &mut Pass) -> Result<bool, Trouble> {
        let parts = self.known()?.mapping.made_of();
        let known = own(shop, |state| state.key(number))?;
        if let Some(was) = known.as_ref().filter(|was| !was.is_same(&parts)) {
            // Where it is another collection by now, nothing of that is there.
            self.ready = None;
            if !self.make_ready(shop, number, how, pass).await? {
                let (collection, was, is) = (self.collection(), was.columns.join(", "), parts.columns.join(", "));
                let text = format!(
                    "{}: its key is ({is}) now, and was ({was}): every document would have another id",
                    self.name
                );
                return Err(Trouble::new(Class::Setup, text).fix(format!(
                    "put `key` back; or name another `collection`; or delete `{collection}` there, and run `tapedeck sync init`"
                )));
            }
            if how.dry {
                return Ok(true);
            }
        }
        if !how.dry && known.as_ref() != Some(&parts) {
            own(shop, |state| state.set_key(number, &parts))?;
        }
        Ok(false)
    }

    /// Looks now and then whether the collection is as it must be. Whether it is another one than that which was written to.
    async fn make_ready(&mut self, shop: &Shop, number: Number, how: How, pass: &mut Pass) -> Result<bool, Trouble> {
        if self.ready.is_some_and(|since| since.elapsed() < READY_FOR) {
            return Ok(false);
        }
        let known = self.known()?;
        let ready = shop.target.ready(&known.mapping.collection, &known.mapping.wanted()).await?;
        pass.notes.extend(ready.notes);
        self.ready = Some(Instant::now());
        let Some(birth) = ready.birth else { return Ok(false) };
        if own(shop, |state| state.is_born(number, &birth))? {
            return Ok(false);
        }
        let text = format!("collection {} was made anew ({birth}): all rows are sent", self.collection());
        if how.dry {
            pass.notes.push(format!("a run would begin anew: {text}"));
            pass.cut = true;
            return Ok(true);
        }
        pass.notes.push(text);
        own(shop, |state| state.begin_anew(number, &birth))?;
        Ok(true)
    }

    fn known(&self) -> Result<&Known, Trouble> {
        self.known.as_ref().ok_or_else(|| Trouble::new(Class::Setup, "a table without columns"))
    }

    fn collection(&self) -> String {
        self.known.as_ref().map_or_else(String::new, |known| known.mapping.collection.to_string())
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
    pub async fn mapped(&mut self, source: &mut dyn Source, base: &Path) -> Result<(Schema, Arc<Mapping>), Trouble> {
        self.learn(source, base).await?;
        let known = self.known()?;
        Ok((known.schema.clone(), known.mapping.clone()))
    }

    /// Notes documents as sent that somebody else than [`Table::pass`] has written.
    ///
    /// # Errors
    /// Our own folder cannot be written.
    pub fn remember(&mut self, shop: &Shop, documents: Vec<&Document>) -> Result<(), Trouble> {
        let number = self.number(shop)?;
        let figures = Figures { sent: documents.len() as u64, ..Figures::default() };
        own(shop, |state| state.confirm(number, documents, &[], figures, UnixNanos::now()))
    }

    async fn learn(&mut self, source: &mut dyn Source, base: &Path) -> Result<(), Trouble> {
        let schema = source.schema(&self.name).await?;
        let setup = |error: anyhow::Error| Trouble::new(Class::Setup, format!("{}: {error:#}", self.name));
        let mapping = Mapping::new(&self.name, &self.settings, &schema, base).map_err(setup)?;
        // Days are closed in the order of the source's own clock: by another one what is there would look gone.
        if mapping.has_another_clock() && schema.time.is_some() && self.settings.mirror {
            let text = format!("{}: a mirror wants the designated timestamp as `time`", self.name);
            return Err(Trouble::new(Class::Setup, text).fix("leave `time` out, or `mirror`"));
        }
        if self.settings.keep.is_some() && !mapping.has_time() {
            let text = format!("{}: `keep` wants a time, and the table has none", self.name);
            return Err(Trouble::new(Class::Setup, text).fix("leave `keep` out, or name a column as `time`"));
        }
        let shape = shape_of(&self.settings, &mapping);
        self.known = Some(Known { schema, mapping: Arc::new(mapping), shape });
        self.ready = None;
        Ok(())
    }

    /// Its place in the state, made where it is new.
    ///
    /// # Errors
    /// Our own folder cannot be written.
    pub fn number(&mut self, shop: &Shop) -> Result<Number, Trouble> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        let collection = self.collection();
        let (number, anew) = own(shop, |state| state.table(&self.name, &collection, &shop.ends))?;
        self.notes.extend(anew.map(|anew| anew.to_string()));
        self.number = Some(number);
        Ok(number)
    }
}

/// The time of the newest row; `None`: there is none.
async fn newest(source: &mut dyn Source, table: &str, schema: &Schema) -> Result<Option<i64>, Trouble> {
    let Some(time) = schema.time else {
        let text = format!("{table}: it has no designated timestamp, so that nobody can tell what was there before");
        return Err(Trouble::new(Class::Setup, text).fix("follow it without `--from now`"));
    };
    let Some(day) = source.days(table, Span::default()).await?.pop() else { return Ok(None) };
    let (out, mut chunks) = mpsc::channel::<Vec<Row>>(2);
    let span = Span { from_ns: Some(day.start_ns), to_ns: None };
    let wanted = Wanted { table, schema, span, limit: None };
    let taking = async {
        let mut newest = None;
        while let Some(rows) = chunks.recv().await {
            newest = newest.max(
                rows.iter()
                    .filter_map(|row| match row.get(time) {
                        Some(Value::Time(ns)) => Some(*ns),
                        _ => None,
                    })
                    .max(),
            );
        }
        newest
    };
    let (read, newest) = tokio::join!(source.rows(&wanted, out), taking);
    read?;
    // The first that is wanted is the one behind it.
    Ok(newest.map(|ns: i64| ns.saturating_add(1)))
}

/// What decides how rows come out: a change here means that all of them must be mapped again.
fn shape_of(settings: &Settings, mapping: &Mapping) -> Digest {
    let said = serde_json::to_value(Settings { batch: None, poll: None, mirror: false, ..settings.clone() });
    let columns: Vec<String> =
        mapping.columns().columns.iter().map(|column| format!("{} {:?}", column.name, column.kind)).collect();
    let mut shape = serde_json::Map::new();
    shape.insert("settings".into(), said.unwrap_or_default());
    shape.insert("columns".into(), columns.into());
    // What a file of lookups says is part of it.
    shape.insert("lookups".into(), mapping.lookups().into());
    digest_of(&shape)
}

/// Something done with the state; it is ours and small, so what blocks is short.
pub(in crate::sync) fn own<T>(shop: &Shop, what: impl FnOnce(&mut State) -> anyhow::Result<T>) -> Result<T, Trouble> {
    let mut state = shop.state.lock().unwrap_or_else(PoisonError::into_inner);
    what(&mut state).map_err(|error| {
        Trouble::new(Class::Own, format!("what the sync remembers: {error:#}"))
            .fix("look at the disk and the rights of its folder")
    })
}

/// Since when a look has been at work.
fn busy_ms(began: &mut Instant) -> u64 {
    let busy = began.elapsed();
    *began = Instant::now();
    u64::try_from(busy.as_millis()).unwrap_or(u64::MAX)
}
