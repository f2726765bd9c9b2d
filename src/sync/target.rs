//! Where documents go: what the engine asks of it.

use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::SmolStr;

use super::mapping::{Kind, Mode, Wanted};
use super::{Document, Id, Span, Trouble};

/// A store of documents by id.
#[async_trait]
pub trait Target: Send + Sync {
    /// Whether a collection can take such documents.
    ///
    /// # Errors
    /// It cannot be reached, or must be changed first: with how.
    async fn ready(&self, collection: &str, fields: &[Wanted]) -> Result<Ready, Trouble>;

    /// Writes changes in their order. Writing the same again is harmless, and so is dropping the future.
    async fn write(&self, collection: &str, changes: &[Change], mode: Mode) -> Written;

    /// Documents in the order of their ids, from behind `after` on, at most so many.
    ///
    /// # Errors
    /// It cannot be reached or does not let us read.
    async fn read(&self, asked: &Asked<'_>, after: Option<&SmolStr>, most: usize) -> Result<Vec<Found>, Trouble>;

    /// Those of these documents that are there, in any order; none where we may write and not read.
    ///
    /// # Errors
    /// It cannot be reached.
    async fn find(&self, collection: &str, fields: &[Wanted], ids: &[Id]) -> Result<Vec<Found>, Trouble>;
}

/// A collection that can be written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// What is odd but no reason to stop, in sentences.
    pub notes: Vec<String>,
    /// When it was made: one with another time is another one, also under the same name. `None`: we are not told.
    pub birth: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// There or not, it says this from now on.
    Put(Document),
    Delete(Id),
}

impl Change {
    #[must_use]
    pub fn id(&self) -> Id {
        match self {
            Change::Put(document) => document.id,
            Change::Delete(id) => *id,
        }
    }
}

/// What became of changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Changes from the first on that are settled: at the target, or refused.
    pub done: usize,
    /// Those of them that it will never take, by their place, in its words.
    pub refused: Vec<(usize, String)>,
    /// Why it went no further.
    pub trouble: Option<Trouble>,
}

/// Which documents are read back.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub collection: &'a str,
    pub fields: &'a [Wanted],
    /// Of those whose field of this kind lies in that stretch; `None`: all.
    pub time: Option<(&'a str, Kind, Span)>,
}

/// A document as the target has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Not one of ours where somebody else has written it.
    pub id: SmolStr,
    /// The fields asked for, as a mapping writes them.
    pub body: Map<String, Value>,
}
