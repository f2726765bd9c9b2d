//! The recorder on a real tape in a temporary folder: what is told to it, and what then stands there.

mod disk;

use std::path::Path;

use tapedeck_market::{BookUpdate, Level, Post, Price, Record, Size, Trade};
use tapedeck_tape::model::Model;
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Allocation, Item, Options, Reader, Start};

use super::*;

/// A recorder that is fed by hand.
struct Fed {
    dir: tempfile::TempDir,
    storage: Arc<dyn Storage>,
    /// What the recorder read back at its start.
    read_back: u64,
    recorder: Recorder,
}

impl Fed {
    fn new() -> Self {
        Fed::on(tempfile::tempdir().unwrap(), Arc::new(Disk), Options::default())
    }

    /// On a disk that fails when it is told to, with segments of 32 KiB.
    fn on_model() -> (Self, Model) {
        let model = Model::new(1);
        let options = Options { segment_bytes: 32 * 1024, allocation: Allocation::Inline, ..Options::default() };
        (Fed::on(tempfile::tempdir().unwrap(), Arc::new(model.clone()), options), model)
    }

    /// As a process that starts on that folder does.
    fn on(dir: tempfile::TempDir, storage: Arc<dyn Storage>, options: Options) -> Self {
        let (log, opening) = Log::open(Arc::clone(&storage), dir.path(), options).unwrap();
        let mut restored = Restored::default();
        if opening.last_seq > 0 {
            let start = Start::Checkpoint;
            restored.read(Reader::open_with(Arc::clone(&storage), dir.path(), start, log.tail()).unwrap()).unwrap();
        }
        let read_back = restored.payloads_read();
        let settings = Settings::of(dir.path());
        let last = restored.last_recv();
        let (mut recorder, _) = Recorder::new(log, restored, settings).unwrap();
        recorder.open_down_gaps(&HashSet::from([SmolStr::new("k")]), last).unwrap();
        recorder.commit().unwrap();
        Fed { dir, storage, read_back, recorder }
    }

    fn take(mut self, messages: impl IntoIterator<Item = Intake>) -> Self {
        for message in messages {
            self.recorder.take(message).unwrap();
        }
        self.recorder.commit().unwrap();
        self
    }

    fn events(&self) -> Vec<Record> {
        read_on(&self.storage, self.dir.path())
    }

    /// As a SIGKILL would, then a new process.
    fn killed(self) -> Self {
        let Fed { dir, storage, recorder, .. } = self;
        drop(recorder);
        Fed::on(dir, storage, Options::default())
    }

    /// `open cause` and `closed cause` of every gap record, with symbol and channel.
    fn gaps(&self) -> Vec<String> {
        let gap = |record: Record| match record.event.body {
            Body::Gap(gap) => {
                Some(format!("{} {} {} {}", gap.state.name(), gap.cause.name(), record.event.symbol, gap.channel))
            }
            _ => None,
        };
        self.events().into_iter().filter_map(gap).collect()
    }
}

fn read(dir: &Path) -> Vec<Record> {
    read_on(&(Arc::new(Disk) as Arc<dyn Storage>), dir)
}

fn read_on(storage: &Arc<dyn Storage>, dir: &Path) -> Vec<Record> {
    let mut reader = Reader::open(Arc::clone(storage), dir, Start::Begin).unwrap();
    let mut records = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Record(record) => {
                records.push(Record { seq: record.seq, event: wire::decode(record.payload).unwrap() });
            }
            Item::Hole(hole) => panic!("{hole:?}"),
        }
    }
    records
}

fn at(second: i64) -> UnixNanos {
    UnixNanos::from_secs(1_800_000_000 + second)
}

fn event(symbol: &str, second: i64, body: Body) -> Event {
    Event { body, ..blank("k".into(), "kraken".into(), symbol.into(), at(second)) }
}

fn trade(symbol: &str, id: u64) -> Event {
    let body = Trade {
        price: "1.5".parse().unwrap(),
        size: "2".parse().unwrap(),
        side: None,
        id: Some(id.to_string().into()),
    };
    event(symbol, id as i64, Body::Trade(body))
}

fn frame(events: Vec<Event>) -> Intake {
    Intake::Events { events, durable: None }
}

fn holed(hole: Hole) -> Intake {
    Intake::Holes { holes: vec![hole], events: Vec::new() }
}

fn live(symbol: &str, channel: &str, second: i64) -> Intake {
    Intake::Live {
        source: "k".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        channel: channel.into(),
        ts_recv: at(second),
        filled: None,
    }
}

fn lost(symbol: Option<&str>, cause: GapCause, second: i64) -> Intake {
    Intake::Lost {
        source: "k".into(),
        venue: "kraken".into(),
        symbol: symbol.map(SmolStr::new),
        channel: None,
        cause,
        since: at(second),
        detail: "test".into(),
    }
}

fn ids(records: &[Record]) -> Vec<&str> {
    let id = |record: &'_ Record| match &record.event.body {
        Body::Trade(trade) => trade.id.as_ref().map(|id| id.as_str().to_owned()),
        _ => None,
    };
    records.iter().filter_map(id).map(|id| &*Box::leak(id.into_boxed_str())).collect()
}

#[test]
fn a_loss_opens_a_gap_once_and_the_next_ack_closes_it() {
    let fed = Fed::new().take([
        live("A", "trade", 1),
        live("A", "book", 1),
        live("B", "trade", 1),
        lost(Some("A"), GapCause::Stall, 5),
        lost(None, GapCause::Session, 6),
        lost(None, GapCause::Session, 7),
        live("A", "trade", 9),
        live("A", "trade", 10),
    ]);
    assert_eq!(fed.gaps(), ["open stall A book", "open stall A trade", "open session B trade", "closed stall A trade"]);
    let closed = fed.events().into_iter().rev().find_map(|record| match record.event.body {
        Body::Gap(gap) => Some((gap, record.seq)),
        _ => None,
    });
    let (gap, seq) = closed.unwrap();
    assert_eq!((gap.from, gap.to), (at(5), Some(at(9))));
    assert!(gap.id < seq, "the id is the seq of the record that opened it");
}

#[test]
fn a_process_that_was_down_leaves_a_gap_from_its_last_record_to_the_first_ack() {
    let fed = Fed::new().take([live("A", "trade", 1), live("B", "trade", 1), frame(vec![trade("A", 7)])]).killed();
    let last = fed
        .events()
        .iter()
        .rev()
        .find(|record| matches!(record.event.body, Body::Trade(_)))
        .map(|record| record.event.ts_recv);
    assert_eq!(fed.gaps(), ["open down A trade", "open down B trade"]);
    let fed = fed.take([live("A", "trade", 20)]).killed();
    assert_eq!(
        fed.gaps(),
        ["open down A trade", "open down B trade", "closed down A trade", "open down A trade"],
        "B stays open as it is, A was live and opens anew"
    );
    let Some(Body::Gap(gap)) =
        fed.events().into_iter().map(|record| record.event.body).find(|body| matches!(body, Body::Gap(_)))
    else {
        panic!("no gap")
    };
    assert!(Some(gap.from) >= last, "from {} is before the last record {last:?}", gap.from);
}

#[test]
fn a_trade_id_is_on_the_tape_once_within_a_frame_between_frames_and_after_a_restart() {
    let fed = Fed::new()
        .take([
            frame(vec![trade("A", 1), trade("A", 2), trade("A", 2), trade("B", 2)]),
            frame(vec![trade("A", 2), trade("A", 4)]),
        ])
        .killed()
        .take([frame(vec![trade("A", 1), trade("A", 2), trade("A", 3), trade("A", 4), trade("A", 5)])]);
    assert_eq!(ids(&fed.events()), ["1", "2", "2", "4", "3", "5"]);
    assert_eq!(fed.recorder.state.resume("k").last_trades.get("A"), Some(&(5, at(5))));
}

#[test]
fn a_post_is_on_the_tape_once_whatever_rule_it_came_by_and_over_a_restart() {
    let post =
        |symbol: &str, id: &str| event(symbol, 1, Body::Post(Box::new(Post { id: id.into(), ..Post::default() })));
    let fed = Fed::new()
        .take([
            frame(vec![post("btc", "1578516068309794817"), post("eth", "1578516068309794817")]),
            frame(vec![post("btc", "7")]),
        ])
        .killed()
        .take([
            frame(vec![post("eth", "7")]),
            frame(vec![post("btc", "1578516068309794817")]),
            frame(vec![post("btc", "6")]),
        ]);
    let ids: Vec<_> = fed
        .events()
        .into_iter()
        .filter_map(|record| if let Body::Post(post) = record.event.body { Some(post.id) } else { None })
        .collect();
    assert_eq!(ids, ["1578516068309794817", "7", "6"]);
}

#[test]
fn a_hole_in_trade_ids_that_is_filled_later_is_repaired() {
    let hole = holed(Hole {
        source: "k".into(),
        venue: "kraken".into(),
        symbol: "A".into(),
        channel: "trade".into(),
        cause: GapCause::Sequence,
        from: at(1),
        to: at(4),
        missing: Some(2),
        ids: Some((2, 3)),
        detail: "ids 2 to 3".into(),
    });
    let fed = Fed::new().take([live("A", "trade", 1), frame(vec![trade("A", 1)]), hole, frame(vec![trade("A", 4)])]);
    assert_eq!(fed.gaps(), ["open sequence A trade", "closed sequence A trade"]);
    let fed = fed.take([frame(vec![trade("A", 3)]), Intake::Maintain]);
    assert_eq!(fed.gaps().len(), 2, "one of two is still missing");
    let fed = fed.take([frame(vec![trade("A", 2)]), Intake::Maintain]);
    assert_eq!(fed.gaps()[2..], ["repaired sequence A trade"]);
    let last = fed.events().pop().unwrap();
    let Body::Gap(gap) = &last.event.body else { panic!("{last:?}") };
    assert_eq!((gap.from, gap.to, gap.missing), (at(1), Some(at(4)), Some(0)), "it lies where it lay");
}

/// What one frame shows stands on the tape with it: a crash leaves both or none, or the hole would be found twice.
#[test]
fn a_hole_in_trade_ids_and_the_frame_that_showed_it_are_one_append() {
    let hole = |symbol: &str, from: u64, to: u64| Hole {
        source: "k".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        channel: "trade".into(),
        cause: GapCause::Sequence,
        from: at(1),
        to: at(4),
        missing: Some(to - from + 1),
        ids: Some((from, to)),
        detail: "".into(),
    };
    let mut fed =
        Fed::new().take([live("A", "trade", 1), live("B", "trade", 1), frame(vec![trade("A", 1), trade("B", 1)])]);
    let durable = fed.recorder.log.durable_seq();
    let shown =
        Intake::Holes { holes: vec![hole("A", 2, 3), hole("B", 2, 2)], events: vec![trade("A", 4), trade("B", 3)] };
    fed.recorder.take(shown).unwrap();
    assert_eq!(fed.recorder.log.next_seq(), durable + 7, "two holes of two records, and the frame");
    assert_eq!(fed.recorder.ends.len(), 6, "one append, whole or not at all");
    fed.recorder.commit().unwrap();
    let gap_ids: Vec<(u64, u64)> = fed
        .events()
        .iter()
        .filter_map(|record| match &record.event.body {
            Body::Gap(gap) if gap.state == GapState::Open => Some((record.seq, gap.id)),
            _ => None,
        })
        .collect();
    assert_eq!(gap_ids, [(durable + 1, durable + 1), (durable + 3, durable + 3)], "an id is the seq of the opening");
    let fed = fed.take([frame(vec![trade("B", 2)]), Intake::Maintain]);
    assert_eq!(fed.gaps().last().unwrap(), "repaired sequence B trade");
}

#[test]
fn a_gap_begins_with_the_venue_time_of_the_newest_record_not_with_its_receipt() {
    let late = |second: i64, took: i64| {
        frame(vec![Event { ts_event: Some(at(second - took)), ..trade("A", u64::try_from(second).unwrap()) }])
    };
    let lost_at = |second: i64| Intake::SessionLost {
        source: "k".into(),
        venue: "kraken".into(),
        these: vec![("A".into(), "trade".into())],
        cause: GapCause::Session,
        since: at(second),
        detail: "cut".into(),
    };
    let begins = |messages: Vec<Intake>| {
        let fed = Fed::new().take([live("A", "trade", 1)]).take(messages);
        fed.events().into_iter().find_map(|record| match record.event.body {
            Body::Gap(gap) => Some((gap.from.0 - at(0).0) / 1_000_000_000),
            _ => None,
        })
    };
    assert_eq!(begins(vec![late(10, 0), lost_at(10)]), Some(10));
    assert_eq!(begins(vec![late(10, 5), lost_at(10)]), Some(5), "what came next may have been sent five seconds ago");
    assert_eq!(begins(vec![late(10, 0), lost_at(11)]), Some(10), "the last bytes may have lain there for that second");
    assert_eq!(begins(vec![late(10, 0), lost_at(300)]), Some(300), "a quiet pair is not minutes of gap");
    assert_eq!(begins(vec![late(10, 5), lost_at(300)]), Some(295));
    assert_eq!(begins(vec![late(4_000, 3_600), lost_at(4_000)]), Some(4_000), "another clock, not a long way");
    assert_eq!(begins(vec![late(10, -5), lost_at(10)]), Some(10), "a venue whose clock is ahead");
    let killed = Fed::new().take([live("A", "trade", 1), late(10, 5)]).killed();
    let down = killed.events().into_iter().find_map(|record| match record.event.body {
        Body::Gap(gap) => Some(gap.from),
        _ => None,
    });
    assert_eq!(down, Some(at(5)));
}

#[test]
fn a_hole_in_trade_ids_behind_an_outage_begins_with_it() {
    let hole = |from: i64, to: i64| {
        holed(Hole {
            source: "k".into(),
            venue: "kraken".into(),
            symbol: "A".into(),
            channel: "trade".into(),
            cause: GapCause::Sequence,
            from: at(from),
            to: at(to),
            missing: Some(2),
            ids: Some((2, 3)),
            detail: "ids 2 to 3".into(),
        })
    };
    let sequence = |fed: &Fed| -> Vec<UnixNanos> {
        let of = |record: Record| match record.event.body {
            Body::Gap(gap) if gap.cause == GapCause::Sequence && gap.state == GapState::Closed => Some(gap.from),
            _ => None,
        };
        fed.events().into_iter().filter_map(of).collect()
    };
    let quiet = Fed::new().take([
        live("A", "trade", 1),
        frame(vec![trade("A", 1)]),
        lost(None, GapCause::Session, 5_000),
        live("A", "trade", 5_010),
    ]);
    let fed = quiet.take([hole(1, 5_011), hole(5_020, 5_030)]);
    assert_eq!(sequence(&fed), [at(5_000), at(5_020)], "it was whole until the line was cut; later holes begin later");
}

#[test]
fn books_and_positions_are_in_the_checkpoint_that_the_next_process_reads() {
    let level = |price: &str, size: &str| Level {
        price: price.parse::<Price>().unwrap(),
        size: size.parse::<Size>().unwrap(),
        orders: None,
    };
    let book = |snapshot, bids| BookUpdate { snapshot, bids, asks: vec![], checksum: None, depth: Some(10) };
    let position = tapedeck_market::Position { key: "clk".into(), value: "AAA".into() };
    let fed = Fed::new()
        .take([
            live("A", "book", 1),
            frame(vec![event("A", 2, Body::Book(book(true, vec![level("10.0", "1"), level("9.5", "2")])))]),
            frame(vec![
                event("A", 3, Body::Book(book(false, vec![level("9.5", "0"), level("9.0", "4")]))),
                event("", 3, Body::Position(position)),
            ]),
        ])
        .killed()
        .killed();
    let checkpoint = fed.recorder.state.checkpoint(at(50));
    let events: Vec<Event> = checkpoint.iter().map(|payload| wire::decode(payload).unwrap()).collect();
    assert!(!events.iter().any(|event| matches!(&event.body, Body::Book(_))), "the book's gap is open since the kill");
    assert_eq!(fed.recorder.state.resume("k").positions.get("clk").map(SmolStr::as_str), Some("AAA"));
    let fed = fed.take([
        live("A", "book", 60),
        frame(vec![event("A", 60, Body::Book(book(true, vec![level("10.0", "1"), level("9.0", "4")])))]),
    ]);
    let events: Vec<Event> =
        fed.recorder.state.checkpoint(at(61)).iter().map(|payload| wire::decode(payload).unwrap()).collect();
    let books: Vec<&BookUpdate> =
        events.iter().filter_map(|event| if let Body::Book(book) = &event.body { Some(book) } else { None }).collect();
    assert_eq!(books.len(), 1);
    assert_eq!((books[0].bids.len(), books[0].depth, books[0].snapshot), (2, Some(10), true));
}

#[test]
fn sources_that_left_the_config_end_instead_of_missing_data_for_ever() {
    let other = |intake: Intake| match intake {
        Intake::Live { venue, symbol, channel, ts_recv, filled, .. } => {
            Intake::Live { source: "gone".into(), venue, symbol, channel, ts_recv, filled }
        }
        other => other,
    };
    let further = |intake: Intake| match intake {
        Intake::Live { venue, symbol, channel, ts_recv, filled, .. } => {
            Intake::Live { source: "k/2".into(), venue, symbol, channel, ts_recv, filled }
        }
        other => other,
    };
    let lives = [other(live("A", "trade", 1)), live("A", "trade", 1), further(live("Z", "trade", 1))];
    let fed = Fed::new().take(lives).killed();
    assert_eq!(
        fed.gaps(),
        ["open down A trade", "open down Z trade"],
        "only of `k`, which is configured, and its further sessions"
    );
    let ended = fed
        .events()
        .into_iter()
        .filter(|record| matches!(&record.event.body, Body::Status(status) if status.state == "ended"));
    assert_eq!(ended.map(|record| record.event.source).collect::<Vec<_>>(), ["gone"]);
    assert!(fed.recorder.state.subscriptions("gone", None, None, false).is_empty());
}

#[test]
fn an_absurd_venue_time_is_flagged_and_kept() {
    let mut absurd = trade("A", 1);
    absurd.ts_event = Some(UnixNanos(0));
    let fed = Fed::new().take([frame(vec![absurd])]);
    let kept = fed.events().into_iter().find(|record| matches!(record.event.body, Body::Trade(_))).unwrap();
    assert!(kept.event.flags.contains(Flags::ABSURD_TIME));
    assert_eq!(kept.event.ts_event, Some(UnixNanos(0)));
}

#[test]
fn an_event_too_large_for_the_tape_is_kept_in_part_and_ends_nothing() {
    let huge = Raw { format: "text".into(), frame: vec![7; MAX_PAYLOAD_BYTES + 1] };
    let fed = Fed::new().take([frame(vec![event("A", 1, Body::Raw(huge)), trade("A", 1)]), frame(vec![trade("A", 2)])]);
    let events = fed.events();
    assert_eq!(ids(&events), ["1", "2"]);
    let kept = events.iter().find_map(|record| if let Body::Raw(raw) = &record.event.body { Some(raw) } else { None });
    assert_eq!(kept.map(|raw| (raw.format.as_str(), raw.frame.len())), Some(("oversized", OVERSIZED_KEPT_BYTES)));
}

#[test]
fn a_hole_that_is_found_inside_a_gap_leaves_the_gap_open() {
    let hole = holed(Hole {
        source: "k".into(),
        venue: "kraken".into(),
        symbol: "A".into(),
        channel: "trade".into(),
        cause: GapCause::Sequence,
        from: at(1),
        to: at(4),
        missing: Some(1),
        ids: Some((5, 5)),
        detail: "".into(),
    });
    let fed = Fed::new().take([live("A", "trade", 1), lost(None, GapCause::Session, 2), hole, live("A", "trade", 9)]);
    assert_eq!(
        fed.gaps(),
        ["open session A trade", "open sequence A trade", "closed sequence A trade", "closed session A trade"]
    );
}

#[test]
fn what_is_left_out_for_lack_of_space_stays_a_gap_although_it_is_subscribed_again() {
    let mut fed = Fed::new().take([live("A", "book", 1), live("A", "trade", 1)]);
    fed.recorder.settings.on_full = OnFull::Shed;
    fed.recorder.settings.shed_below = u64::MAX;
    let book = event("A", 3, Body::Book(BookUpdate::default()));
    let fed =
        fed.take([Intake::Maintain, frame(vec![book, trade("A", 1)]), live("A", "book", 4), live("A", "trade", 4)]);
    assert_eq!(fed.gaps(), ["open drop A book"]);
    assert_eq!(ids(&fed.events()), ["1"], "trades are never left out");
    assert!(!fed.events().iter().any(|record| matches!(record.event.body, Body::Book(_))));
    let mut fed = fed;
    fed.recorder.settings.shed_below = 0;
    let fed = fed.take([Intake::Maintain, Intake::Maintain, live("A", "book", 9)]);
    assert_eq!(fed.gaps(), ["open drop A book", "closed drop A book"]);
}

#[tokio::test]
async fn whoever_waits_for_durability_is_told_after_the_sync() {
    let fed = Fed::new();
    let (done, told) = oneshot::channel();
    let fed = fed.take([Intake::Events { events: vec![trade("A", 1)], durable: Some(done) }]);
    let seq = told.await.unwrap();
    assert_eq!(fed.events().last().map(|record| record.seq), Some(seq));
}

#[test]
fn a_recorder_ends_with_its_senders_and_says_what_it_did() {
    let Fed { dir, recorder, .. } = Fed::new();
    let (sender, intake) = mpsc::channel(16);
    let thread = std::thread::spawn(move || recorder.run(intake));
    for id in 1..=1000 {
        sender.blocking_send(frame(vec![trade("A", id)])).unwrap();
    }
    drop(sender);
    let summary = thread.join().unwrap().unwrap();
    assert_eq!(summary.events, 1001, "and the note of the stop");
    let records = read(dir.path());
    assert_eq!(records.len(), 1001);
    assert_eq!(summary.last_seq, records.last().unwrap().seq);
    let notes =
        records.iter().filter(|record| matches!(&record.event.body, Body::Tape(note) if note.what == TapeEvent::Stop));
    assert_eq!(notes.count(), 1);
}

#[test]
fn after_an_ordered_stop_there_is_nothing_to_read_back_and_after_a_kill_little() {
    let flood = |fed: Fed| {
        let many = (1..=60_000).map(|id| frame(vec![trade("A", id)]));
        fed.take([live("A", "trade", 1)]).take(many)
    };
    let Fed { dir, storage, recorder, .. } = flood(Fed::new());
    recorder.finish().unwrap();
    let fed = Fed::on(dir, storage, Options::default());
    assert!(fed.read_back < 10, "{} payloads", fed.read_back);
    assert_eq!(fed.gaps(), ["open down A trade"]);
    assert_eq!(fed.recorder.state.resume("k").last_trades.get("A").map(|(id, _)| *id), Some(60_000));
    let fed = flood(Fed::new()).killed();
    assert!(fed.read_back > 0 && fed.read_back < 50_000, "{} of more than 60,000 payloads", fed.read_back);
    assert_eq!(fed.recorder.state.resume("k").last_trades.get("A").map(|(id, _)| *id), Some(60_000));
}

#[test]
fn the_view_tells_of_the_folder_from_the_beginning() {
    let fed = Fed::new();
    let view = fed.recorder.publish.view.borrow().clone();
    assert_eq!((view.extent.first_seq, view.extent.segments), (1, 1));
    assert!(view.extent.bytes > 0 && view.disk_free_bytes > 0, "{view:?}");
    let tape_id = fed.recorder.log.tape_id();
    let mut cursor = tapedeck_tape::Cursor::open(&Disk, fed.dir.path(), "influx", tape_id, 0).unwrap();
    cursor.commit(0, b"").unwrap();
    let fed = fed.take([frame(vec![trade("A", 1)]), Intake::Maintain]);
    let view = fed.recorder.publish.view.borrow().clone();
    let status = crate::status::of_view(fed.dir.path(), &view, 1);
    assert_eq!((status.tape.last_seq, status.readers.len()), (1, 1));
    assert_eq!((status.readers[0].name.as_str(), status.readers[0].lag_records), ("influx", 1));
}

#[test]
fn a_checkpoint_is_nothing_that_was_received_and_moves_no_gap() {
    let fed = Fed::new().take([live("A", "trade", 1), live("B", "trade", 2), frame(vec![trade("A", 7)])]);
    let Fed { dir, storage, mut recorder, .. } = fed;
    recorder.log.checkpoint_next();
    let other = Event { source: "other".into(), ..trade("A", 8) };
    recorder.take(frame(vec![other])).unwrap();
    recorder.commit().unwrap();
    drop(recorder);
    let fed = Fed::on(dir, storage, Options::default());
    let from: Vec<_> = fed
        .events()
        .into_iter()
        .filter_map(|record| match record.event.body {
            Body::Gap(gap) => Some(gap.from),
            _ => None,
        })
        .collect();
    assert_eq!(from, [at(7), at(7)]);
}
