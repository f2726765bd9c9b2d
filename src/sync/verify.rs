//! Both sides beside each other: counts and checksums a day, and where they differ, record by record.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;
use tapedeck_market::SmolStr;
use tokio::sync::mpsc;

use super::document::digest_of;
use super::mapping::{Mapping, Mode, instant_of, time_text};
use super::pass::{Shop, Table, own, too_old};
use super::source::{Source, Span, Wanted};
use super::state::{Known, Number};
use super::target::{Asked, Change, Found, Target};
use super::{Class, Digest, Document, Id, Row, Schema, Trouble};

/// Rows that are compared at a time, about; more of one day are cut by time.
const AT_ONCE: u64 = 200_000;
const PAGE: usize = 1_000;
const DAY_NS: i64 = 86_400_000_000_000;
/// Differences that are named; all are counted.
const NAMED: usize = 1_000;
/// Documents of a repair that are written at a time.
const REPAIR_AT_ONCE: usize = 1_000;

/// What a comparison found of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    pub table: String,
    pub collection: String,
    /// Rows of the source; those that keep to the rules; documents of the target.
    pub rows: u64,
    pub documents: u64,
    pub found: u64,
    /// Rows that are dead letters by a rule.
    pub refused: u64,
    /// Rows with the key of another one; the last of each is compared.
    pub doubled: u64,
    pub missing: u64,
    pub different: u64,
    /// Documents of the target that no row of the source explains, and that we have not written.
    pub surplus: u64,
    /// Ours of which the source has the row no more: kept there, or for a mirror to take away.
    pub gone: u64,
    /// Stretches whose counts and checksums were equal, and those looked at record by record.
    pub stretches_equal: u64,
    pub stretches_different: u64,
    /// Both sides day by day, by the time of a row; rows without one come first.
    pub days: Vec<DaySums>,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    /// Put right by this run.
    pub repaired: u64,
    /// Repairs that the target refused.
    pub not_repaired: u64,
}

impl Verified {
    /// Whether both sides say the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.missing + self.different + self.surplus == 0
    }
}

/// Records of a day, and what they say in few digits, on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DaySums {
    /// `None`: without a time.
    pub day: Option<String>,
    pub source_records: u64,
    pub source_checksum: String,
    pub target_records: u64,
    pub target_checksum: String,
}

impl DaySums {
    fn of(day: Option<i64>, (ours, theirs): (Sum, Sum)) -> DaySums {
        let hex = |sum: Sum| format!("{:016x}", sum.sum);
        DaySums {
            day: day.map(|day| time_text(day.saturating_mul(DAY_NS), false).chars().take(10).collect()),
            source_records: ours.count,
            source_checksum: hex(ours),
            target_records: theirs.count,
            target_checksum: hex(theirs),
        }
    }

    #[must_use]
    pub fn is_same(&self) -> bool {
        (self.source_records, &self.source_checksum) == (self.target_records, &self.target_checksum)
    }
}

/// One record that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub id: SmolStr,
    /// As people know the row; empty for what is only at the target.
    pub key: String,
    pub what: What,
    /// Fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Missing,
    Different,
    Surplus,
}

/// How a comparison is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Write what is missing or different. What is surplus is named only: it may be somebody else's.
    pub repair: bool,
    /// Only what is older, where rows have a time: newer ones may be on their way.
    pub before_ns: Option<i64>,
    /// Nobody brings rows over meanwhile, so that what the source has no more can be noted.
    pub alone: bool,
}

/// Compares one table.
///
/// # Errors
/// Either side cannot be read; with `repair`, the target cannot be written. What was put right until then stays.
pub async fn verify(
    table: &mut Table,
    source: &mut dyn Source,
    shop: &Shop,
    base: &Path,
    how: How,
) -> Result<Verified, Trouble> {
    let (schema, mapping) = table.mapped(source, base).await?;
    let mut found =
        Verified { table: table.name.clone(), collection: mapping.collection.to_string(), ..Verified::default() };
    let (name, number) = (table.name.clone(), table.number(shop)?);
    let floor_ns = own(shop, |state| state.floor(number))?;
    let keep_ns = table.settings.keep.map(|keep| too_old(keep.0));
    let spans = stretches(source, &name, &mapping, how.before_ns).await?;
    let mut days = Days::new();
    for span in spans {
        if shop.stop.is_cancelled() {
            return Err(Trouble::new(Class::Own, "stopped before everything was compared"));
        }
        let stretch = Stretch {
            table: &name,
            schema: &schema,
            mapping: &mapping,
            span,
            shop,
            number,
            alone: how.alone,
            floor_ns,
            keep_ns,
        };
        let changes = stretch.compare(source, shop.target.as_ref(), &mut found, &mut days).await?;
        if !how.repair {
            continue;
        }
        for part in changes.chunks(REPAIR_AT_ONCE) {
            let part: Vec<Change> = part.iter().filter(|change| matches!(change, Change::Put(_))).cloned().collect();
            let written = shop.target.write(&mapping.collection, &part, Mode::Upsert).await;
            found.not_repaired += written.refused.len() as u64;
            found.repaired += (written.done - written.refused.len()) as u64;
            let settled = part.iter().take(written.done).enumerate();
            let good = settled.filter(|(place, _)| !written.refused.iter().any(|(of, _)| of == place));
            let documents: Vec<&Document> = good
                .filter_map(|(_, change)| match change {
                    Change::Put(document) => Some(document),
                    Change::Delete(_) => None,
                })
                .collect();
            table.remember(shop, documents)?;
            if let Some(trouble) = written.trouble {
                return Err(trouble);
            }
        }
    }
    found.days = days.into_iter().map(|(day, sums)| DaySums::of(day, sums)).collect();
    Ok(found)
}

/// Days, and what both sides have of them.
type Days = BTreeMap<Option<i64>, (Sum, Sum)>;

/// Stretches of about [`AT_ONCE`] rows: days together, or parts of one. The first and the last are open, so that what lies
/// outside is compared too.
async fn stretches(
    source: &mut dyn Source,
    table: &str,
    mapping: &Mapping,
    before_ns: Option<i64>,
) -> Result<Vec<Span>, Trouble> {
    // The document of a key may be of another time than the row that is met first, and is looked for among all.
    if mapping.time_field().is_none() || mapping.has_another_clock() || !mapping.key_has_clock() {
        return Ok(vec![Span::default()]);
    }
    let all = Span { from_ns: None, to_ns: before_ns };
    let days = source.days(table, all).await?;
    let mut cuts = Vec::new();
    let mut rows = 0;
    for day in &days {
        if rows > 0 && rows + day.rows > AT_ONCE {
            cuts.push(day.start_ns);
            rows = 0;
        }
        let parts = day.rows.div_ceil(AT_ONCE).max(1);
        for part in 1..parts {
            cuts.push(day.start_ns + DAY_NS / parts as i64 * part as i64);
        }
        rows = if parts > 1 { AT_ONCE } else { rows + day.rows };
    }
    let mut spans = Vec::with_capacity(cuts.len() + 1);
    let mut from_ns = None;
    for cut in cuts {
        spans.push(Span { from_ns, to_ns: Some(cut) });
        from_ns = Some(cut);
    }
    spans.push(Span { from_ns, to_ns: before_ns });
    Ok(spans)
}

/// One stretch of one table.
struct Stretch<'a> {
    table: &'a str,
    schema: &'a Schema,
    mapping: &'a Mapping,
    span: Span,
    shop: &'a Shop,
    number: Number,
    alone: bool,
    /// Before it only what was sent once is wanted.
    floor_ns: Option<i64>,
    /// Before it nothing is wanted.
    keep_ns: Option<i64>,
}

/// Count and checksum of records, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, id: &str, digest: Digest) {
        self.count += 1;
        // The digest is of the body alone: with the id, two bodies that changed places are seen.
        let id = id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |all, byte| (all ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        self.sum = self.sum.wrapping_add((digest.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

impl Stretch<'_> {
    /// Returns what would make the target the same.
    async fn compare(
        &self,
        source: &mut dyn Source,
        target: &dyn Target,
        found: &mut Verified,
        days: &mut Days,
    ) -> Result<Vec<Change>, Trouble> {
        let mut ours: HashMap<Id, (Digest, Option<i64>)> = HashMap::new();
        // Of the target's documents these are none of our business: what is refused now, or older than is kept.
        let mut aside: Vec<Id> = Vec::new();
        let mut early: Vec<Id> = Vec::new();
        let timed = self.mapping.time_field();
        let is_old = |time_ns: i64| time_ns != 0 && self.keep_ns.is_some_and(|keep| time_ns < keep);
        self.rows(source, |row| match self.mapping.document(row) {
            Ok(document) if is_old(document.time_ns) => aside.push(document.id),
            Ok(document) => {
                if self.floor_ns.is_some_and(|floor| document.time_ns < floor) {
                    early.push(document.id);
                }
                let day = timed.map(|_| document.time_ns.div_euclid(DAY_NS));
                found.doubled += u64::from(ours.insert(document.id, (document.digest(), day)).is_some());
            }
            Err(_) => {
                found.refused += 1;
                aside.extend(self.mapping.id_of(row));
            }
        })
        .await
        .map(|rows| found.rows += rows)?;
        let mut theirs: HashMap<SmolStr, (Digest, Option<i64>)> = HashMap::new();
        self.documents(target, |document| {
            let at = timed.and_then(|(name, _)| instant_of(document.body.get(name)?));
            if at.is_some_and(is_old) {
                return;
            }
            theirs.insert(document.id, (digest_of(&document.body), at.map(|ns| ns.div_euclid(DAY_NS))));
        })
        .await?;
        for id in aside.iter().filter(|id| !ours.contains_key(*id)) {
            theirs.remove(id.as_str());
        }
        for id in early.iter().filter(|id| !theirs.contains_key(id.as_str())) {
            ours.remove(id);
        }
        self.leave_out_gone(&ours, &mut theirs, found)?;
        found.documents += ours.len() as u64;
        found.found += theirs.len() as u64;
        let (mut left, mut right) = (Sum::default(), Sum::default());
        for (id, (digest, day)) in &ours {
            left.add(id.as_str(), *digest);
            days.entry(*day).or_default().0.add(id.as_str(), *digest);
        }
        for (id, (digest, day)) in &theirs {
            right.add(id, *digest);
            days.entry(*day).or_default().1.add(id, *digest);
        }
        if left == right {
            found.stretches_equal += 1;
            return Ok(Vec::new());
        }
        found.stretches_different += 1;
        let wrong: HashMap<Id, What> = ours
            .iter()
            .filter_map(|(id, (digest, _))| match theirs.get(id.as_str()) {
                None => Some((*id, What::Missing)),
                Some((other, _)) if other != digest => Some((*id, What::Different)),
                Some(_) => None,
            })
            .collect();
        let surplus: Vec<SmolStr> =
            theirs.into_keys().filter(|id| Id::parse(id).is_none_or(|id| !ours.contains_key(&id))).collect();
        drop(ours);
        self.name(source, target, wrong, surplus, found).await
    }

    /// What we have written and the source has no more is no difference: it stays, unless a mirror was asked for, which is told so here.
    fn leave_out_gone(
        &self,
        ours: &HashMap<Id, (Digest, Option<i64>)>,
        theirs: &mut HashMap<SmolStr, (Digest, Option<i64>)>,
        found: &mut Verified,
    ) -> Result<(), Trouble> {
        let alone = theirs.keys().filter_map(|id| Id::parse(id)).filter(|id| !ours.contains_key(id));
        let mut gone = Vec::new();
        for id in alone {
            if matches!(own(self.shop, |state| state.known(self.number, id))?, Some(Known::Sent | Known::Gone)) {
                gone.push(id);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        found.gone += gone.len() as u64;
        gone.iter().for_each(|id| {
            theirs.remove(id.as_str());
        });
        if self.alone { own(self.shop, |state| state.set_gone(self.number, &gone)) } else { Ok(()) }
    }

    /// Reads again what differs, this time with its values.
    async fn name(
        &self,
        source: &mut dyn Source,
        target: &dyn Target,
        wrong: HashMap<Id, What>,
        surplus: Vec<SmolStr>,
        found: &mut Verified,
    ) -> Result<Vec<Change>, Trouble> {
        let mut bodies = HashMap::new();
        if wrong.values().any(|what| *what == What::Different) {
            self.documents(target, |document| {
                if Id::parse(&document.id).is_some_and(|id| wrong.get(&id) == Some(&What::Different)) {
                    bodies.insert(document.id, document.body);
                }
            })
            .await?;
        }
        let mut changes = HashMap::new();
        self.rows(source, |row| {
            let Ok(document) = self.mapping.document(row) else { return };
            let Some(what) = wrong.get(&document.id) else { return };
            let theirs = bodies.get(document.id.as_str());
            let differs = |(name, value): &(&String, &serde_json::Value)| {
                theirs.is_some_and(|theirs| !same(theirs.get(*name), value))
            };
            let fields = document.body.iter().filter(differs).map(|(name, _)| name.clone()).collect();
            let difference =
                Difference { id: document.id.as_str().into(), key: self.mapping.key_shown(row), what: *what, fields };
            changes.insert(document.id, (difference, Change::Put(document)));
        })
        .await?;
        for what in wrong.values() {
            match what {
                What::Missing => found.missing += 1,
                _ => found.different += 1,
            }
        }
        found.surplus += surplus.len() as u64;
        let mut all: Vec<(Difference, Option<Change>)> =
            changes.into_values().map(|(difference, change)| (difference, Some(change))).collect();
        all.extend(surplus.into_iter().map(|id| {
            let change = Id::parse(&id).map(Change::Delete);
            (Difference { id, key: String::new(), what: What::Surplus, fields: Vec::new() }, change)
        }));
        all.sort_by(|(one, _), (other, _)| (&one.key, &one.id).cmp(&(&other.key, &other.id)));
        let mut changes = Vec::with_capacity(all.len());
        for (difference, change) in all {
            if found.differences.len() < NAMED {
                found.differences.push(difference);
            }
            changes.extend(change);
        }
        Ok(changes)
    }

    async fn rows(&self, source: &mut dyn Source, mut each: impl FnMut(&Row)) -> Result<u64, Trouble> {
        let (out, mut chunks) = mpsc::channel::<Vec<Row>>(4);
        let wanted = Wanted { table: self.table, schema: self.schema, span: self.span, limit: None };
        let taking = async {
            while let Some(rows) = chunks.recv().await {
                rows.iter().for_each(&mut each);
            }
            Ok(())
        };
        let (rows, ()) = tokio::try_join!(source.rows(&wanted, out), taking)?;
        Ok(rows)
    }

    async fn documents(&self, target: &dyn Target, mut each: impl FnMut(Found)) -> Result<(), Trouble> {
        let fields = self.mapping.wanted();
        let time = self.mapping.time_field().map(|(name, kind)| (name, kind, self.span));
        let asked = Asked { collection: &self.mapping.collection, fields: &fields, time };
        let mut after = None;
        loop {
            let page = target.read(&asked, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            page.into_iter().for_each(&mut each);
        }
    }
}

/// Equal as the digest has it: numbers by value.
fn same(one: Option<&serde_json::Value>, other: &serde_json::Value) -> bool {
    let wrap = |value: &serde_json::Value| {
        let mut map = serde_json::Map::new();
        map.insert("v".into(), value.clone());
        digest_of(&map)
    };
    one.is_some_and(|one| wrap(one) == wrap(other))
}
