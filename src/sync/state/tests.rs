use serde_json::json;

use super::*;
use crate::sync::source::{By, Span};
use crate::sync::{Digest, Document, Id};

const NOW: UnixNanos = UnixNanos(1_767_312_000_000_000_000);

fn document(key: &str, price: f64, time_ns: i64) -> Document {
    let serde_json::Value::Object(body) = json!({"key": key, "price": price}) else { unreachable!() };
    Document { id: Id::of([key]), body, time_ns }
}

fn letter(key: &str) -> Letter {
    Letter {
        id: Id::of([key]).to_string(),
        key: key.into(),
        rule: "price is below 0".into(),
        reason: "price is below 0: -1".into(),
        document: None,
        time_ns: 7,
        at_ns: NOW.0,
    }
}

#[test]
fn what_was_confirmed_is_not_changed_until_it_says_something_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    let documents = [document("a", 1.0, 1), document("b", 2.0, 2)];
    assert_eq!(state.changed(table, &documents, false).expect("asked"), [0, 1]);
    let figures = Figures { seen: 2, sent: 2, ..Figures::default() };
    state.confirm(table, &documents, &[], figures, NOW).expect("kept");
    drop(state);
    let state = State::open(folder.path()).expect("opened again");
    let again = [document("a", 1.0, 1), document("b", 2.5, 2)];
    assert_eq!(state.changed(table, &again, false).expect("asked"), [1]);
    let shown = &state.tables().expect("asked")[0];
    assert_eq!((shown.synced, shown.failed, shown.newest, shown.total.sent), (2, 0, Some(UnixNanos(2)), 2));
}

#[test]
fn what_is_refused_is_a_dead_letter_until_a_good_version_is_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    let good = document("a", 1.0, 7);
    state.confirm(table, [&good], &[], Figures::default(), NOW).expect("kept");
    state.confirm(table, [], &[letter("a"), letter("b")], Figures::default(), NOW).expect("kept");
    assert_eq!(
        state.changed(table, std::slice::from_ref(&good), false).expect("asked"),
        [0],
        "the target has an old version"
    );
    assert_eq!(state.reasons("t").expect("asked"), [("price is below 0".to_owned(), 2)]);
    state.confirm(table, [&good], &[], Figures::default(), NOW).expect("kept");
    assert_eq!(state.letters("t", 10).expect("asked"), [letter("b")]);
    let span = Span { from_ns: Some(7), to_ns: Some(8) };
    let within = |state: &State, span| -> Vec<(Id, bool)> {
        let found = state.within(table, span, None, 9).expect("asked");
        found.into_iter().map(|lies| (lies.id, lies.dead)).collect()
    };
    let (a, b) = ((good.id, false), (Id::of(["b"]), true));
    assert_eq!(within(&state, span), if a.0.as_str() < b.0.as_str() { [a, b] } else { [b, a] });
    state.set_gone(table, &[good.id]).expect("noted");
    assert_eq!(state.surplus(table, None, true, (9, 0)).expect("asked"), [good.id]);
    assert_eq!(state.changed(table, std::slice::from_ref(&good), false).expect("asked"), [0], "it came back");
    state.forget(table, &[good.id, Id::of(["b"])]).expect("forgotten");
    assert_eq!(within(&state, Span::default()), []);
}

#[test]
fn a_mark_comes_back_and_another_collection_begins_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    let mark = Mark(json!({"txn": 7}));
    state.set_mark(table, &mark, Digest(u64::MAX)).expect("kept");
    state.confirm(table, [&document("a", 1.0, 1)], &[], Figures::default(), NOW).expect("kept");
    assert_eq!(state.mark(table).expect("asked"), (Some(mark), Some(Digest(u64::MAX))));
    assert_eq!(state.table("t", "c", &Ends::default()).expect("known").0, table);
    let other = state.table("t", "d", &Ends::default()).expect("made").0;
    assert_eq!(state.mark(other).expect("asked"), (None, None));
    assert_eq!(state.tables().expect("asked").iter().map(|table| table.synced).collect::<Vec<_>>(), [0]);
}

#[test]
fn one_works_in_a_folder_and_others_may_look() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(State::look(folder.path()).expect("nothing yet").is_none());
    let mut state = State::open(folder.path()).expect("opened");
    state.table("t", "c", &Ends::default()).expect("made");
    assert!(State::open(folder.path()).expect_err("taken").is::<Taken>());
    assert!(State::is_taken(folder.path()));
    let seen = State::look(folder.path()).expect("readable").expect("there");
    assert_eq!(seen.tables().expect("asked").len(), 1);
    drop((state, seen));
    assert!(!State::is_taken(folder.path()));
}

/// What was sent is true of the target that it was sent to, and of no other; a mark of the source that it came from.
#[test]
fn another_target_begins_anew_another_source_reads_anew_and_asking_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let ends = |source: &str, target: &str| Ends { source: source.into(), target: target.into() };
    let (table, anew) = state.table("t", "c", &ends("quest", "pocket")).expect("made");
    assert_eq!(anew, None);
    let known = [document("a", 1.0, 1)];
    state.confirm(table, &known, &[], Figures::default(), NOW).expect("kept");
    state.set_mark(table, &Mark(json!(1)), Digest(1)).expect("kept");

    let would = state.would_begin_anew("t", "c", &ends("quest", "other")).expect("asked").expect("another target");
    assert!(
        would.to_string().contains("it went to pocket before") && would.to_string().contains("says nothing of other")
    );
    assert_eq!(state.changed(table, &known, false).expect("asked"), [] as [usize; 0], "asking changes nothing");

    let (same, anew) = state.table("t", "c", &ends("elsewhere", "pocket")).expect("known");
    assert_eq!(anew, Some(Anew::Source { was: "quest".into(), is: "elsewhere".into() }));
    assert_eq!(state.mark(same).expect("asked").0, None);
    assert_eq!(state.changed(same, &known, false).expect("asked"), [] as [usize; 0], "it is at the target still");

    let (other, anew) = state.table("t", "c", &ends("elsewhere", "other")).expect("known");
    assert!(matches!(anew, Some(Anew::Target { .. })));
    assert_eq!(state.changed(other, &known, false).expect("asked"), [0]);
    assert_eq!(state.table("t", "c", &ends("elsewhere", "other")).expect("known").1, None, "said once");

    assert!(state.is_born(other, "2026-01-02").expect("asked"), "first heard of");
    assert!(state.is_born(other, "2026-01-02").expect("asked") && !state.is_born(other, "2026-01-03").expect("asked"));
    state.confirm(other, &known, &[], Figures::default(), NOW).expect("kept");
    state.begin_anew(other, "2026-01-03").expect("forgotten");
    assert_eq!(state.changed(other, &known, false).expect("asked"), [0]);
    assert!(state.is_born(other, "2026-01-03").expect("asked"));
    assert_eq!((state.tables().expect("asked")[0].synced as i64, 0, 0), state.counted());
}

#[test]
fn how_far_a_look_is_comes_back_and_ends_with_its_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    assert_eq!(state.way(table).expect("asked"), None);
    let spans = vec![Span::default(), Span { from_ns: Some(1), to_ns: None }];
    let mut way = Way {
        mark: Mark(json!({"txn": 7})),
        shape: u64::MAX,
        spans,
        by: By::Days,
        removed: true,
        at: Reached::default(),
    };
    state.set_way(table, &way).expect("kept");
    way.at = Reached { span: 1, time_ns: Some(i64::MIN), rows: 3 };
    state.settle(table, [], &[], Figures::default(), Some(way.at), NOW).expect("kept");
    drop(state);
    let mut state = State::open(folder.path()).expect("opened again");
    assert_eq!(state.way(table).expect("asked"), Some(way.clone()));
    state.set_mark(table, &way.mark, Digest(1)).expect("kept");
    assert_eq!(state.way(table).expect("asked"), None);
}

#[test]
fn what_was_sent_without_an_answer_is_known_until_it_is_confirmed_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    let sent = [document("a", 1.0, 1), document("b", 2.0, 2), document("c", 3.0, 3)];
    state.take_off(table, &sent).expect("noted");
    drop(state);
    let mut state = State::open(folder.path()).expect("opened again");
    let changed = [document("a", 1.0, 1), document("b", 2.5, 2), document("c", 3.0, 3)];
    assert_eq!(state.in_flight(table, &changed, &[0, 1, 2]).expect("asked"), [0, 2], "b says something else now");
    state.confirm(table, [&sent[0]], &[letter("c")], Figures::default(), NOW).expect("kept");
    assert_eq!(state.in_flight(table, &sent, &[0, 1, 2]).expect("asked"), [1]);
}

/// Documents and keys of rows are nobody else's business.
#[test]
fn the_files_are_for_their_owner_only_also_where_they_were_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("sync");
    let rights = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    {
        let mut state = State::open(&dir).expect("opened");
        state.table("t", "c", &Ends::default()).expect("made");
        for file in [FILE, "state.db-wal", "state.db-shm", LOCK] {
            assert_eq!(rights(&dir.join(file)), 0o600, "{file}");
        }
        assert_eq!(rights(&dir), 0o700);
        assert_eq!(State::taken_by(&dir), Some(std::process::id()));
    }
    std::fs::set_permissions(dir.join(FILE), Permissions::from_mode(0o644)).expect("opened to others");
    let _state = State::open(&dir).expect("opened again");
    assert_eq!(rights(&dir.join(FILE)), 0o600);
}

#[test]
fn a_file_of_the_first_layout_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = State::open(folder.path()).expect("opened");
    let table = state.table("t", "c", &Ends::default()).expect("made").0;
    state.confirm(table, [&document("a", 1.0, 1)], &[], Figures::default(), NOW).expect("kept");
    for column in [
        "source", "target", "birth", "doubled", "polls", "good_ns", "way", "at_span", "at_ns", "at_rows", "key",
        "floor_ns",
    ] {
        state.db.execute(&format!("ALTER TABLE tables DROP COLUMN {column}"), []).expect("dropped");
    }
    state.db.execute_batch("DROP TABLE flying; PRAGMA user_version = 1").expect("dropped");
    drop(state);
    let mut state = State::open(folder.path()).expect("opened again");
    let ends = Ends { source: "quest".into(), target: "pocket".into() };
    assert_eq!(state.table("t", "c", &ends).expect("known"), (table, None));
    assert_eq!(state.tables().expect("asked")[0].synced, 1);
}
