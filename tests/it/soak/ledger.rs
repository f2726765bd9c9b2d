//! The gap ledger of a soak, read from the tape as it grows, and judged by what was done and by what the venue sent.
//!
//! What a fault costs is known beforehand, but for holes in trade ids: after a cut the venue sends its last fifty trades again,
//! and whether that is enough depends on how long it took. So the venue's own log says which ids each frame passed over.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use tapedeck_market::{Body, Flags, Gap, GapCause, GapState, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start};
use tapedeck_testkit::kraken::{Delivery, SentLog};

const PAIRS: [&str; 2] = ["BTC/USD", "ETH/USD"];
/// A stream of which the venue sent nothing for this long may be taken for stalled, or its socket for dead.
const SILENT_NS: i64 = 9_000_000_000;

/// What a fault costs, beside trade ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cost {
    Nothing,
    /// One gap of every stream.
    Session,
    /// The same, where the silence of a stream may be noticed a moment before that of the whole socket.
    Silence,
    /// One book.
    Book(&'static str),
}

struct Fault {
    what: String,
    cost: Cost,
    from_seq: u64,
}

/// A stream, by its gaps' symbol and channel.
type Stream = (String, String);

pub(super) struct Ledger {
    reader: Reader,
    next_seq: u64,
    faults: Vec<Fault>,
    /// Every record of the ledger, with its place.
    gaps: Vec<(u64, Stream, Gap)>,
    /// Symbols and ids; whether it came by the snapshot at the beginning of a subscription.
    trades: HashMap<(String, u64), bool>,
    /// Where the newest trade stands that came by none.
    flowing: HashMap<String, u64>,
}

impl Ledger {
    pub(super) fn of(dir: &Path) -> Ledger {
        Ledger {
            reader: Reader::open(Arc::new(Disk), dir, Start::Begin).unwrap(),
            next_seq: 1,
            faults: Vec::new(),
            gaps: Vec::new(),
            trades: HashMap::new(),
            flowing: HashMap::new(),
        }
    }

    /// Reads on, to what is the end now.
    pub(super) fn read(&mut self) {
        while let Some(item) = self.reader.next().unwrap() {
            let Item::Record(record) = item else { panic!("{item:?}") };
            assert_eq!(record.seq, self.next_seq, "seqs are dense");
            self.next_seq += 1;
            let event = wire::decode(record.payload).unwrap();
            let symbol = event.symbol.to_string();
            match event.body {
                Body::Gap(gap) => self.gaps.push((record.seq, (symbol, gap.channel.to_string()), *gap)),
                Body::Trade(trade) => {
                    let snapshot = event.flags.contains(Flags::SNAPSHOT);
                    if !snapshot {
                        self.flowing.insert(symbol.clone(), record.seq);
                    }
                    let id = trade.id.unwrap().parse().unwrap();
                    let twice = self.trades.insert((symbol, id), snapshot);
                    assert_eq!(twice, None, "trade {id} is on the tape twice");
                }
                _ => {}
            }
        }
    }

    /// What is opened from now on is this fault's.
    pub(super) fn begin(&mut self, what: String, cost: Cost) {
        self.read();
        self.faults.push(Fault { what, cost, from_seq: self.next_seq });
    }

    /// Whether the trades of every pair come one by one again, behind the last gap.
    pub(super) fn flows(&mut self) -> bool {
        self.read();
        let last = self.gaps.last().map_or(0, |(seq, ..)| *seq);
        PAIRS.iter().all(|pair| self.flowing.get(*pair).is_some_and(|seq| *seq > last))
    }

    /// Compares all of it; what there was, in words.
    pub(super) fn judge(&self, venue: &Venue) -> String {
        let mut last: BTreeMap<u64, (&Stream, &Gap)> = BTreeMap::new();
        for (_, stream, gap) in &self.gaps {
            last.insert(gap.id, (stream, gap));
        }
        for (stream, gap) in last.values() {
            assert!(matches!(gap.state, GapState::Closed | GapState::Repaired), "{stream:?} is open: {gap:?}");
        }
        let mut excused = 0;
        for (nth, fault) in self.faults.iter().enumerate() {
            let to_seq = self.faults.get(nth + 1).map_or(u64::MAX, |next| next.from_seq);
            let of_fault = |gap: &&Gap| (fault.from_seq..to_seq).contains(&gap.id) && gap.cause != GapCause::Sequence;
            let these = last.values().filter(|(_, gap)| of_fault(gap)).map(|(stream, gap)| (*stream, *gap));
            excused += fault.judge(these.collect(), venue);
        }
        let before_all = self.faults.first().map_or(0, |fault| fault.from_seq);
        assert!(last.keys().all(|id| *id >= before_all), "a gap before the first fault: {last:#?}");

        let mut repaired = 0;
        for pair in PAIRS {
            let holes = venue.holes(pair, &self.trades);
            let noted: Vec<&Gap> = last
                .values()
                .filter(|(stream, gap)| gap.cause == GapCause::Sequence && stream.0 == pair && stream.1 == "trade")
                .map(|(_, gap)| *gap)
                .collect();
            let told: Vec<u64> = holes.iter().map(|(before, after)| after - before - 1).collect();
            let missing: Vec<u64> = noted.iter().map(|gap| self.missing_at_first(gap.id)).collect();
            assert_eq!(missing, told, "{pair}: missing ids as noted, and as the venue sent them: {holes:?} {noted:#?}");
            for ((before, after), gap) in holes.into_iter().zip(noted) {
                let came_late = (before + 1..after).all(|id| self.trades.contains_key(&(pair.to_owned(), id)));
                assert_eq!(
                    gap.state == GapState::Repaired,
                    came_late,
                    "{pair}, ids between {before} and {after}: {gap:?}"
                );
                repaired += u64::from(came_late);
            }
        }
        let dropped = self.faults.iter().filter(|fault| fault.what.contains("drop")).count();
        assert_eq!(venue.dropped, dropped as u64, "the venue lost a trade each time it was told to");
        let late = self.faults.iter().filter(|fault| fault.what.contains("reorder")).count();
        // What was lost may come again, too: in the snapshot of a session that begins soon after.
        assert!(repaired >= late as u64, "what came late is repaired: {repaired} of {late}");
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        last.values().for_each(|(_, gap)| *totals.entry(gap.cause.name()).or_default() += 1);
        format!("the ledger: {totals:?}, {repaired} repaired, {excused} because the venue was silent by itself")
    }

    /// What a hole missed when it was found.
    fn missing_at_first(&self, id: u64) -> u64 {
        let closed = self.gaps.iter().find(|(_, _, gap)| gap.id == id && gap.state == GapState::Closed);
        closed.and_then(|(_, _, gap)| gap.missing).unwrap()
    }
}

impl Fault {
    /// The gaps of its time are its own; how many were not, because the venue was silent by itself.
    fn judge(&self, gaps: Vec<(&Stream, &Gap)>, venue: &Venue) -> u64 {
        let mut wanted: Vec<Stream> = match self.cost {
            Cost::Nothing => Vec::new(),
            Cost::Session | Cost::Silence => streams(),
            Cost::Book(pair) => vec![(pair.to_owned(), "book".to_owned())],
        };
        let fits = |cause: GapCause| match self.cost {
            Cost::Nothing => false,
            Cost::Session => cause == GapCause::Session,
            Cost::Silence => matches!(cause, GapCause::Session | GapCause::Stall),
            Cost::Book(_) => cause == GapCause::Checksum,
        };
        let mut excused = 0;
        let said = format!("{:#?}", gaps.iter().map(|(stream, gap)| (stream, gap.cause)).collect::<Vec<_>>());
        for (stream, gap) in gaps {
            match wanted.iter().position(|one| one == stream && fits(gap.cause)) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => {
                    let silent =
                        matches!(gap.cause, GapCause::Session | GapCause::Stall) && venue.was_silent(stream, gap);
                    assert!(silent, "{}: {stream:?}: {gap:?} is not of its doing: {said}", self.what);
                    excused += 1;
                }
            }
        }
        assert!(wanted.is_empty(), "{}: there is no gap of {wanted:?}: {said}", self.what);
        excused
    }
}

fn streams() -> Vec<Stream> {
    let of_pairs = PAIRS.iter().flat_map(|pair| ["ticker", "book", "trade"].map(|channel| (*pair, channel)));
    of_pairs.chain([("", "instrument")]).map(|(pair, channel)| (pair.to_owned(), channel.to_owned())).collect()
}

/// What the venue says that it did.
#[derive(Default)]
pub(super) struct Venue {
    trades: BTreeMap<String, Vec<Sent>>,
    /// Trades that it kept back.
    dropped: u64,
    /// When it last sent something of a stream.
    last: HashMap<Stream, i64>,
    /// Streams that were silent for long, from when to when.
    silences: Vec<(Stream, i64, i64)>,
}

/// A trade that was handed to a socket.
#[derive(Clone, Copy, Debug)]
struct Sent {
    conn: u64,
    id: u64,
    snapshot: bool,
}

impl Venue {
    /// Takes over what it sent since the last time.
    pub(super) fn hear(&mut self, log: &SentLog) {
        for entry in log.take() {
            self.dropped += u64::from(entry.delivered == Delivery::Dropped);
            if !entry.delivered.is_sent() || !matches!(entry.kind, "snapshot" | "update") {
                continue;
            }
            let stream = (entry.symbol.to_string(), entry.channel.to_owned());
            if let Some(before) = self.last.insert(stream.clone(), entry.ts_ns)
                && entry.ts_ns - before >= SILENT_NS
            {
                self.silences.push((stream, before, entry.ts_ns));
            }
            if let Some(id) = entry.trade_id {
                let sent = Sent { conn: entry.conn, id, snapshot: entry.kind == "snapshot" };
                self.trades.entry(entry.symbol.to_string()).or_default().push(sent);
            }
        }
    }

    fn was_silent(&self, stream: &Stream, gap: &Gap) -> bool {
        let Some(to) = gap.to else { return false };
        // The list of instruments has no rhythm: its gaps are those of the socket, which beats as long as it lives.
        let overlaps = |(silent, begun, over): &(Stream, i64, i64)| {
            (silent == stream || stream.1 == "instrument") && *begun <= to.0 && gap.from.0 <= *over
        };
        self.silences.iter().any(overlaps)
    }

    /// The ids that a reader of its frames sees passed over: between these two. What was handed to a socket and is not on the
    /// tape, or came to it by a later snapshot, was lost with the connection.
    fn holes(&self, pair: &str, on_tape: &HashMap<(String, u64), bool>) -> Vec<(u64, u64)> {
        let (mut newest, mut connection, mut holes) = (None, 0, Vec::new());
        for &Sent { conn, id, snapshot } in self.trades.get(pair).into_iter().flatten() {
            if snapshot {
                connection = conn.max(connection);
            }
            // A half-open connection wakes up when nobody listens to it any more.
            let received = conn == connection && (snapshot || on_tape.get(&(pair.to_owned(), id)) == Some(&false));
            if !received || newest.is_some_and(|newest| id <= newest) {
                continue;
            }
            if let Some(before) = newest.filter(|before| before + 1 < id) {
                holes.push((before, id));
            }
            newest = Some(id);
        }
        holes
    }
}
