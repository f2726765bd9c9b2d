//! One answer: the tape read through the engine, from the file that holds the first seq asked for.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_market::{SmolStr, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start};

use super::engine::{Engine, Manner, Message};
use super::form::{Encoder, Val};
use super::registry;
use super::requests::{Counts, Id, Sources, send, shown};
use crate::config::Bus;

/// Messages of one answer; it is cut there and says where to go on.
pub const ANSWER_MAX: u64 = 100_000;
/// Records read for one answer before it is another's turn.
const TURN_RECORDS: usize = 2_000;
/// Messages made ahead of an asker that takes them slowly.
const READY_MAX: usize = 512;
/// An asker that takes nothing for this long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files of the tape that are read back to find the message before the first one asked for.
const LOOK_BACK_FILES: usize = 8;

/// An answer on its way.
pub(super) struct Answer {
    asker: Vec<u8>,
    /// As it was asked for, which may be an alias.
    pub(super) topic: SmolStr,
    id: Option<Id>,
    manner: Manner,
    encoder: Encoder,
    /// `None`: everything is made already.
    range: Option<Range>,
    /// From and to, for the end marker.
    bounds: Option<(u64, u64)>,
    first: Option<u64>,
    next: Option<u64>,
    ready: VecDeque<Vec<u8>>,
    made: u64,
    ended: bool,
    pub(super) blocked_since: Option<Instant>,
}

struct Range {
    reader: Reader,
    engine: Engine,
    from: u64,
    to: u64,
    out: Vec<Message>,
}

impl Answer {
    pub(super) fn of_last(sources: &Sources, asker: Vec<u8>, name: &str, id: Option<Id>) -> Answer {
        let topic = registry::topic_of(name);
        let mut answer = Answer::new(sources, asker, name, id);
        for message in sources.last.of(topic) {
            answer.make(&message);
        }
        answer
    }

    pub(super) fn of_range(
        sources: &Sources,
        asker: Vec<u8>,
        name: &str,
        id: Option<Id>,
        from: u64,
        to: u64,
    ) -> anyhow::Result<Answer> {
        let topic = SmolStr::new(registry::topic_of(name));
        let mut answer = Answer::new(sources, asker, name, id);
        answer.bounds = Some((from, to));
        let (reader, mut engine) = open(&sources.dir, &sources.bus, &topic, from)?;
        let begins = reader.seq();
        if begins > from {
            answer.first = Some(begins);
        } else {
            engine.restore_last(&topic, seq_before(sources, &topic, begins)?);
        }
        answer.range = Some(Range { reader, engine, from, to, out: Vec::new() });
        Ok(answer)
    }

    fn new(sources: &Sources, asker: Vec<u8>, name: &str, id: Option<Id>) -> Answer {
        Answer {
            asker,
            topic: name.into(),
            id,
            manner: Manner::of(&sources.bus, registry::topic_of(name)),
            encoder: sources.encoder.clone(),
            range: None,
            bounds: None,
            first: None,
            next: None,
            ready: VecDeque::new(),
            made: 0,
            ended: false,
            blocked_since: None,
        }
    }

    /// Goes on for a while; says whether all is sent.
    pub(super) fn go_on(&mut self, socket: &zmq::Socket, counts: &Counts) -> anyhow::Result<bool> {
        if self.ready.len() < READY_MAX {
            self.read()?;
        }
        while let Some(payload) = self.ready.front() {
            if !send(socket, &self.asker, self.topic.as_bytes(), payload)? {
                return self.wait();
            }
            self.blocked_since = None;
            self.ready.pop_front();
            counts.messages.fetch_add(1, Ordering::Relaxed);
        }
        if self.range.is_some() {
            return Ok(false);
        }
        if !self.ended && !send(socket, &self.asker, b"end", &self.end())? {
            return self.wait();
        }
        self.ended = true;
        Ok(true)
    }

    fn wait(&mut self) -> anyhow::Result<bool> {
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        anyhow::ensure!(since.elapsed() < PATIENCE, "the asker takes nothing");
        Ok(false)
    }

    /// Reads on, up to a turn's worth.
    fn read(&mut self) -> anyhow::Result<()> {
        let Some(mut range) = self.range.take() else { return Ok(()) };
        for _ in 0..TURN_RECORDS {
            let over = match range.reader.next().context("reading the tape")? {
                Some(Item::Record(record)) => {
                    let seq = record.seq;
                    if let Ok(event) = wire::decode(record.payload) {
                        range.engine.apply(seq, event, &mut range.out);
                    }
                    // What waits for the end of its slot may still belong to the range.
                    seq >= range.to && !range.engine.is_waiting()
                }
                Some(Item::Hole(_)) => range.reader.seq() > range.to && !range.engine.is_waiting(),
                None => {
                    // Here the tape ends, and so does what was published.
                    range.engine.quiet(UnixNanos::now().0, &mut range.out);
                    true
                }
            };
            let mut past = false;
            for message in std::mem::take(&mut range.out) {
                if message.seq > range.to {
                    past = true;
                } else if message.seq >= range.from {
                    if self.made == ANSWER_MAX {
                        self.next = Some(message.seq);
                        return Ok(());
                    }
                    self.make(&message);
                }
            }
            if over || past {
                return Ok(());
            }
            if self.ready.len() >= READY_MAX {
                break;
            }
        }
        self.range = Some(range);
        Ok(())
    }

    fn make(&mut self, message: &Message) {
        let encoded = self.encoder.encode(message, &self.topic, self.manner.form, self.manner.decimals);
        self.ready.push_back(encoded.payload.to_vec());
        self.made += 1;
    }

    fn end(&self) -> Vec<u8> {
        let mut fields = vec![(SmolStr::new_static("topic"), Val::Text(self.topic.clone()))];
        let mut put = |name: &'static str, value: Option<u64>| {
            fields.extend(value.map(|value| (SmolStr::new_static(name), Val::UInt(value))));
        };
        put("from_seq", self.bounds.map(|(from, _)| from));
        put("to_seq", self.bounds.map(|(_, to)| to));
        put("count", Some(self.made));
        put("next", self.next);
        put("first", self.first);
        fields.extend(self.id.as_ref().map(shown));
        Encoder::map(&fields)
    }
}

/// A reader at the beginning of the file that holds this seq, and an engine that knows what its checkpoint says.
fn open(dir: &Path, bus: &Arc<Bus>, topic: &SmolStr, seq: u64) -> anyhow::Result<(Reader, Engine)> {
    let reader = Reader::open(Arc::new(Disk), dir, Start::Segment(seq)).context("reading the tape")?;
    let mut engine = Engine::new(bus.clone(), Some(topic.clone()));
    engine.restore(reader.checkpoint());
    Ok((reader, engine))
}

/// The seq of the last message of a topic before `begins`, where a file begins; 0 when none is found in the files before.
fn seq_before(sources: &Sources, topic: &SmolStr, begins: u64) -> anyhow::Result<u64> {
    let mut begins = begins;
    for _ in 0..LOOK_BACK_FILES {
        if begins <= 1 {
            break;
        }
        let (mut reader, mut engine) = open(&sources.dir, &sources.bus, topic, begins - 1)?;
        let first = reader.seq();
        if first >= begins {
            break;
        }
        let mut out = Vec::new();
        while let Some(item) = reader.next().context("reading the tape")? {
            let Item::Record(record) = item else { continue };
            if record.seq >= begins {
                break;
            }
            if let Ok(event) = wire::decode(record.payload) {
                engine.apply(record.seq, event, &mut out);
                out.clear();
            }
        }
        engine.finish(&mut out);
        if engine.last_seq(topic) > 0 {
            return Ok(engine.last_seq(topic));
        }
        begins = first;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Body, Event, Flags, Point};
    use tapedeck_tape::Entry;
    use tapedeck_tape::storage::Storage;

    use super::super::publisher::Last;
    use super::*;

    /// A tape of many files with a point at its beginning and one at its end; the seqs of the two.
    fn tape_with_two_points(dir: &Path) -> (u64, u64) {
        let options = tapedeck_tape::Options { segment_bytes: 64 * 1024, ..Default::default() };
        let (mut log, _) = tapedeck_tape::Log::open(Arc::new(Disk), dir, options).unwrap();
        let mut seq = 0;
        let mut append = |name: &str| {
            let body = Body::Point(Box::new(Point { name: name.into(), tags: Vec::new(), fields: Vec::new() }));
            let event = Event {
                source: "s".into(),
                venue: "v".into(),
                symbol: SmolStr::default(),
                ts_event: None,
                ts_recv: UnixNanos(1),
                flags: Flags::NONE,
                origin: None,
                body,
            };
            let mut payload = Vec::new();
            wire::encode(&event, &mut payload);
            log.append(&[Entry { ts_recv: 1, payload: &payload }], &mut Vec::new).unwrap();
            seq += 1;
            seq
        };
        let first = append("rare");
        for _ in 0..4_000 {
            append("frequent");
        }
        let second = append("rare");
        log.commit().unwrap();
        (first, second)
    }

    #[test]
    fn the_message_before_the_first_one_asked_for_is_found_in_earlier_files() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = tape_with_two_points(dir.path());
        let sources = Sources {
            bus: Arc::default(),
            dir: dir.path().to_owned(),
            encoder: Encoder::new(uuid::Uuid::nil(), false),
            last: Last::default(),
        };
        let info = tapedeck_tape::tools::info(&(Arc::new(Disk) as Arc<dyn Storage>), dir.path()).unwrap();
        assert!(info.segments.len() > 3, "{} files", info.segments.len());
        let mut answer =
            Answer::of_range(&sources, Vec::new(), "point.rare", Some(Id::UInt(4)), first + 1, second + 10).unwrap();
        while answer.range.is_some() {
            answer.read().unwrap();
        }
        assert_eq!(answer.ready.len(), 1);
        let message: serde_json::Value = rmp_serde::from_slice(&answer.ready[0]).unwrap();
        assert_eq!((message["seq"].as_u64(), message["prev"].as_u64()), (Some(second), Some(first)));
        let end: serde_json::Value = rmp_serde::from_slice(&answer.end()).unwrap();
        let expected = serde_json::json!({
            "topic": "point.rare", "from_seq": first + 1, "to_seq": second + 10, "count": 1, "id": 4,
        });
        assert_eq!(end, expected);
    }
}
