//! `POST /write` and `POST /api/v2/write`.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use tapedeck_market::UnixNanos;
use tokio::sync::oneshot;

use super::access::{self, Params};
use super::answer::{Dialect, Refusal, no_content};
use super::body;
use crate::inlet::{Inlet, Reach};
use crate::lineproto::{self, Fault, Lines, Precision};
use crate::sources::http::{BATCH_BYTES, Batch, Door, Reject};

/// Batches of one request that wait to be durable; more of them wait to be read.
const WINDOW: usize = 4;
/// What a batch may take to be durable before the client is told to come again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Text of an answer about bad lines.
const WORDS_BYTES: usize = 16 * 1024;
/// What it costs to know a bad line, beside its text.
const POINT_BYTES: usize = 64;

pub(super) async fn v1(State(inlet): State<Inlet>, request: Request) -> Response {
    answer(Dialect::V1, take(&inlet, Dialect::V1, request).await)
}

pub(super) async fn v2(State(inlet): State<Inlet>, request: Request) -> Response {
    answer(Dialect::V2, take(&inlet, Dialect::V2, request).await)
}

fn answer(dialect: Dialect, taken: Result<(), Refusal>) -> Response {
    taken.map_or_else(|refusal| refusal.answer(dialect), |()| no_content())
}

async fn take(inlet: &Inlet, dialect: Dialect, request: Request) -> Result<(), Refusal> {
    let door = match inlet.reach() {
        Reach::Open(door) => door,
        Reach::Away => return Err(Refusal::Away),
        Reach::Nobody => return Err(Refusal::Nobody),
    };
    let (head, body) = request.into_parts();
    let params = Params::of(head.uri.query().unwrap_or_default().as_bytes());
    access::check(&door, &head.headers, &params)?;
    let (database, precision) = asked(dialect, &params)?;
    let held = body::read(&head.headers, body, door.max_body(), door.bodies()).await?;
    let ts_recv = UnixNanos::now();
    let mut request = Write { door: &door, database, precision, ts_recv, faults: Faults::default() };
    request.record(&held.bytes).await?;
    request.faults.verdict()
}

/// Database and precision of a request; what is wrong with its parameters is said as the server says it.
fn asked(dialect: Dialect, params: &Params) -> Result<(&str, Precision), Refusal> {
    let invalid = |words: String| Err(Refusal::Invalid(words));
    let word = params.get("precision");
    let precision = Precision::from_word(word);
    match (dialect, precision) {
        (Dialect::V1, Some(precision)) => {
            let database = params.get("db");
            if database.is_empty() {
                return invalid("database is required".to_owned());
            }
            if !matches!(params.get("consistency"), "" | "any" | "one" | "quorum" | "all") {
                return invalid("invalid consistency level".to_owned());
            }
            Ok((database, precision))
        }
        (Dialect::V2, Some(precision)) if !matches!(precision, Precision::Minutes | Precision::Hours) => {
            let bucket = params.get("bucket");
            if bucket.is_empty() { invalid("bucket is required".to_owned()) } else { Ok((bucket, precision)) }
        }
        // The server of 1.6 takes an unknown word for nanoseconds, and stores the point in 1970.
        (Dialect::V1, None) => invalid(format!("invalid precision {word:?} (use n, u, ms, s, m or h)")),
        (Dialect::V2, _) => invalid("invalid precision; valid precision units are ns, us, ms, and s".to_owned()),
    }
}

/// One request on its way to the tape.
struct Write<'a> {
    door: &'a Door,
    database: &'a str,
    precision: Precision,
    ts_recv: UnixNanos,
    faults: Faults,
}

impl Write<'_> {
    /// Returns when all good lines are durable.
    async fn record(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let mut lines = lineproto::lines(text);
        let mut waiting = VecDeque::new();
        while let Some((batch, confirmed)) = self.next_batch(&mut lines) {
            let any = !batch.events.is_empty();
            within(self.door.send(batch)).await?.map_err(|_| Refusal::Away)?;
            if any {
                waiting.push_back(confirmed);
            }
            if waiting.len() > WINDOW
                && let Some(first) = waiting.pop_front()
            {
                within(first).await?.map_err(|_| Refusal::Away)?;
            }
        }
        for confirmed in waiting {
            within(confirmed).await?.map_err(|_| Refusal::Away)?;
        }
        Ok(())
    }

    /// The next lines, up to the size of a batch; `None` when there are no more.
    fn next_batch(&mut self, lines: &mut Lines<'_>) -> Option<(Batch, oneshot::Receiver<u64>)> {
        let (durable, confirmed) = oneshot::channel();
        let (mut events, mut rejects, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(line) = lines.next() else { break };
            bytes += line.len() + POINT_BYTES;
            let read = lineproto::parse(line).and_then(|read| {
                let at = read.time.map_or(Ok(self.ts_recv), |time| self.precision.instant(time));
                at.map(|at| (read, at))
            });
            match read {
                Ok((read, at)) => {
                    events.extend(self.door.note_database(self.database, self.ts_recv));
                    events.push(self.door.event(read, at, self.ts_recv, self.database));
                    self.faults.taken = true;
                }
                Err(fault) => {
                    let words = fault.about(line);
                    self.faults.add(&fault, &words);
                    rejects.push(Reject { line: line.to_vec(), reason: fault.reason(), words });
                }
            }
        }
        let any = !events.is_empty() || !rejects.is_empty();
        any.then(|| (Batch { events, bytes, ts_recv: self.ts_recv, rejects, durable }, confirmed))
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| Refusal::Away)
}

/// What was wrong with the lines of a request.
#[derive(Debug, Default)]
struct Faults {
    /// At least one line was a point.
    taken: bool,
    words: String,
    /// Faults beyond what `words` may hold.
    more: u64,
    /// Lines that could be read, but whose point cannot be stored.
    dropped: u64,
}

impl Faults {
    fn add(&mut self, fault: &Fault, words: &str) {
        self.dropped += u64::from(fault.is_of_the_point());
        if self.words.len() + words.len() > WORDS_BYTES {
            self.more += 1;
            return;
        }
        if !self.words.is_empty() {
            self.words.push('\n');
        }
        self.words.push_str(words);
    }

    /// The server's answer: good lines beside bad ones are stored, and it says so.
    fn verdict(self) -> Result<(), Refusal> {
        let Faults { taken, mut words, more, dropped } = self;
        if words.is_empty() {
            return Ok(());
        }
        if more > 0 {
            words = format!("{words}\n(and {more} more)");
        }
        let words = if taken || dropped > 0 { format!("partial write: {words} dropped={dropped}") } else { words };
        Err(Refusal::Invalid(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[&str]) -> String {
        let mut faults = Faults::default();
        for line in lines {
            match lineproto::parse(line.as_bytes()) {
                Ok(_) => faults.taken = true,
                Err(fault) => faults.add(&fault, &fault.about(line.as_bytes())),
            }
        }
        match faults.verdict() {
            Ok(()) => "204".to_owned(),
            Err(Refusal::Invalid(words)) => words,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_lines_are_answered_as_the_real_server_answers_them() {
        assert_eq!(verdict(&["m f=1"]), "204");
        assert_eq!(verdict(&[]), "204");
        assert_eq!(verdict(&["m f=x"]), "unable to parse 'm f=x': invalid boolean");
        assert_eq!(
            verdict(&["m f=x", "m g=y"]),
            "unable to parse 'm f=x': invalid boolean\nunable to parse 'm g=y': invalid boolean"
        );
        assert_eq!(
            verdict(&["m f=1 5", "m f=x", "m f=2 6"]),
            "partial write: unable to parse 'm f=x': invalid boolean dropped=0"
        );
        assert_eq!(
            verdict(&["m,time=1 f=1"]),
            "partial write: invalid tag key: input tag \"time\" on measurement \"m\" is invalid dropped=1"
        );
    }

    #[test]
    fn an_answer_about_many_bad_lines_has_a_bound() {
        let said = verdict(&["m f=x"; 10_000]);
        assert!(said.len() < WORDS_BYTES + 100 && said.ends_with(" more)"), "{}", said.len());
    }

    #[test]
    fn parameters_are_those_of_each_server() {
        let asked = |dialect, query: &str| {
            let params = Params::of(query.as_bytes());
            asked(dialect, &params).map(|(database, precision)| (database.to_owned(), precision))
        };
        let ok = |database: &str, precision| Ok((database.to_owned(), precision));
        assert_eq!(asked(Dialect::V1, "db=d"), ok("d", Precision::Nanos));
        assert_eq!(asked(Dialect::V1, "db=d&precision=u&rp=x&consistency=one"), ok("d", Precision::Micros));
        assert_eq!(asked(Dialect::V1, "db=d&precision=h"), ok("d", Precision::Hours));
        assert_eq!(asked(Dialect::V2, "org=o&bucket=b%2Frp&precision=us"), ok("b/rp", Precision::Micros));
        for (dialect, query, words) in [
            (Dialect::V1, "", "database is required"),
            (Dialect::V1, "db=d&precision=x", "invalid precision \"x\" (use n, u, ms, s, m or h)"),
            (Dialect::V1, "db=d&consistency=x", "invalid consistency level"),
            (Dialect::V2, "org=o", "bucket is required"),
            (Dialect::V2, "bucket=b&precision=h", "invalid precision; valid precision units are ns, us, ms, and s"),
        ] {
            assert_eq!(asked(dialect, query), Err(Refusal::Invalid(words.to_owned())), "{query}");
        }
    }
}
