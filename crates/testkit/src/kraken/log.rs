//! What was handed to the sockets: the oracle that a recorder is judged by.
//!
//! One entry per data item, ack and refusal, in the order in which they went to their connection.
//! An entry is written *before* its bytes go out, so that nothing can be received that is not here.
//!
//! ```text
//! {"conn":1,"n":17,"ts_ns":1800000000000000000,"channel":"trade","symbol":"BTC/USD","type":"update",
//!  "trade_id":100320028,"delivered":"sent","acked":true,"item":{"symbol":"BTC/USD","side":"buy",…}}
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;

use super::frames::{Channel, Frame, Key};

/// Entries kept in memory; older ones are forgotten (the file has all).
const KEPT: usize = 1_000_000;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    Sent,
    /// Sent with one level altered, under the checksum of the true book.
    Corrupted,
    /// Sent once more.
    Duplicate,
    /// Sent after what came after it.
    Reordered,
    /// Kept back: a trade that is lost on the way.
    Dropped,
    /// Kept back: its subscription stalls.
    Stalled,
    /// Kept back: its subscription was acknowledged and never delivered.
    Silenced,
}

impl Delivery {
    /// Whether its bytes go to the socket.
    #[must_use]
    pub const fn is_sent(self) -> bool {
        !matches!(self, Delivery::Dropped | Delivery::Stalled | Delivery::Silenced)
    }
}

/// One entry of the log.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Number of the connection, from 1.
    pub conn: u64,
    /// Place in the log, from 1.
    pub n: u64,
    /// Wall clock, ns since 1970, when it was handed to the socket.
    pub ts_ns: i64,
    pub channel: &'static str,
    #[serde(serialize_with = "text")]
    pub symbol: Arc<str>,
    /// `snapshot`, `update`, `ack` or `refusal`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trade_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u32>,
    pub delivered: Delivery,
    /// The subscription it belongs to was acknowledged on this connection.
    pub acked: bool,
    /// Text of the item, digit for digit.
    pub item: Box<RawValue>,
}

/// The log of a server; clones share it.
#[derive(Clone, Debug)]
pub struct SentLog(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    next: u64,
    kept: VecDeque<Sent>,
    file: Option<BufWriter<File>>,
    failed: Option<String>,
    remember: bool,
}

impl SentLog {
    pub(crate) fn new(path: Option<&Path>, remember: bool) -> std::io::Result<Self> {
        let file = path.map(File::create).transpose()?.map(|file| BufWriter::with_capacity(256 * 1024, file));
        Ok(SentLog(Arc::new(Mutex::new(Inner { next: 1, kept: VecDeque::new(), file, failed: None, remember }))))
    }

    /// Whether anybody will read it.
    pub(crate) fn is_on(&self) -> bool {
        let inner = self.inner();
        inner.remember || inner.file.is_some()
    }

    /// What was handed out so far, oldest first; at most the newest million.
    #[must_use]
    pub fn entries(&self) -> Vec<Sent> {
        self.inner().kept.iter().cloned().collect()
    }

    /// What was handed out since the last call, oldest first; it is not kept any longer.
    #[must_use]
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.inner().kept).into()
    }

    /// Number of entries ever made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.inner().next - 1
    }

    /// Why the file lacks entries, if it does.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.inner().failed.clone()
    }

    /// Enters a batch for one connection and hands it to the operating system.
    pub(crate) fn enter<'a>(&self, conn: u64, ts_ns: i64, batch: impl Iterator<Item = (&'a Frame, Delivery)>) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        for (frame, delivered) in batch {
            for item in &frame.items {
                let Some(text) = raw(&frame.payload()[item.at.clone()]) else { continue };
                let (trade_id, checksum) = match item.key {
                    Key::None => (None, None),
                    Key::Trade(id) => (Some(id), None),
                    Key::Checksum(sum) => (None, Some(sum)),
                };
                let sent = Sent {
                    conn,
                    n: inner.next,
                    ts_ns,
                    channel: frame.channel.name(),
                    symbol: Arc::clone(&item.symbol),
                    kind: frame.kind,
                    trade_id,
                    checksum,
                    delivered,
                    acked: frame.kind != "refusal" && frame.channel != Channel::Status,
                    item: text,
                };
                inner.next += 1;
                inner.write(&sent);
                if inner.remember {
                    if inner.kept.len() == KEPT {
                        inner.kept.pop_front();
                    }
                    inner.kept.push_back(sent);
                }
            }
        }
        if let Some(file) = &mut inner.file
            && let Err(error) = file.flush()
        {
            inner.failed.get_or_insert_with(|| error.to_string());
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, sent: &Sent) {
        let Some(file) = &mut self.file else { return };
        let written =
            serde_json::to_writer(&mut *file, sent).map_err(std::io::Error::from).and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            self.failed.get_or_insert_with(|| error.to_string());
        }
    }
}

fn text<S: serde::Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn raw(text: &[u8]) -> Option<Box<RawValue>> {
    // What we render is JSON; what a recording holds may not be, and then has no items.
    RawValue::from_string(String::from_utf8(text.to_vec()).ok()?).ok()
}
