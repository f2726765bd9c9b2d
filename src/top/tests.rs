use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Modifier;

use super::*;
use crate::status::{Reader, Service, Source, Status, Tape};
use crate::up::{DECK, Entry, Kind, State};

fn source(name: &str, state: &str, events: u64) -> Source {
    Source {
        name: name.to_owned(),
        state: state.to_owned(),
        events,
        last_heard_ms_ago: Some(1_234),
        ..Source::default()
    }
}

fn sink(name: &str, state: &str, lag: u64, delivered: u64) -> Service {
    let figures = serde_json::json!({ "lag_records": lag, "delivered": delivered, "dead_letters": 0 });
    Service {
        name: name.to_owned(),
        state: state.to_owned(),
        detail: figures.as_object().cloned().unwrap_or_default(),
        ..Service::default()
    }
}

fn seen(events: u64) -> Seen {
    let status = Status {
        version: "0.1.0".to_owned(),
        pid: 4_711,
        uptime_s: 3_700,
        rate: 812.4,
        tape: Tape { last_seq: 123_456, bytes: 64_000_000, disk_free_bytes: 9_000_000_000, ..Tape::default() },
        sources: vec![source("kraken", "live", events), source("oanda", "lost: connection refused", 0)],
        services: vec![sink("influx", "running", 7, events), sink("quest", "unavailable: 503", 50_000, 0)],
        readers: vec![Reader { name: "mine".to_owned(), seq: 12, lag_records: 123_444 }],
        ..Status::default()
    };
    let entry = |name: &str, kind| Entry {
        name: name.to_owned(),
        kind,
        state: State::Running,
        restarts: 3,
        identity: crate::up::process::Identity::of(std::process::id()),
        ..Entry::default()
    };
    let gone =
        Entry { name: "mqtt".to_owned(), state: State::Hopeless, detail: "no licence".to_owned(), ..Entry::default() };
    Seen {
        status: Some(status),
        processes: vec![entry("influx", Kind::Server), gone, entry(DECK, Kind::Deck)],
        supervisor: Some(42),
    }
}

fn screen(model: &Model, width: u16, height: u16) -> (Vec<String>, Terminal<TestBackend>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    ((0..height).map(line).collect(), terminal)
}

fn model() -> Model {
    let mut model = Model::new();
    let now = Instant::now();
    model.see(seen(1_000), now);
    model.see(seen(3_000), now + Duration::from_secs(2));
    model
}

#[test]
fn a_terminal_of_80_by_24_shows_it_all() {
    let (lines, _) = screen(&model(), 80, 24);
    let text = lines.join("\n");
    for wanted in [
        "up 1 h 1 min  pid 4711  supervisor 42  3 bad",
        "tape seq 123456  64.0 MB  disk 9.0 GB free",
        "812/s",
        "WHAT    NAME            STATE",
        "server  mqtt            hopeless: no lic",
        "r restart",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
    let row =
        |name: &str| lines.iter().find(|line| line.contains(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("kraken"), ["source", "kraken", "live", "1000", "-", "0", "0", "1.2", "s", "ago"]);
    assert_eq!(row("sink    influx")[..5], ["sink", "influx", "running", "1000", "7"]);
    assert_eq!(row("mine")[..2], ["reader", "mine"]);
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn without_a_deck_it_says_so() {
    let mut model = Model::new();
    model.see(Seen::default(), Instant::now());
    let (lines, _) = screen(&model, 80, 24);
    assert!(lines[0].contains("no deck answers  no supervisor"), "{lines:?}");
    for key in [Key::Up, Key::Down, Key::Restart, Key::Tail, Key::Silence, Key::Other] {
        assert_eq!(model.press(key), Deed::Nothing);
    }
    assert_eq!(model.press(Key::Quit), Deed::Quit);
}

#[test]
fn a_restart_wants_the_key_twice_and_names_what_it_is_about() {
    let mut model = model();
    assert_eq!(model.press(Key::Restart), Deed::Nothing);
    assert!(screen(&model, 80, 24).0.iter().any(|line| line.starts_with("r again restarts server.influx")));
    assert_eq!(model.press(Key::Restart), Deed::Restart("server.influx".to_owned()));
    // Another key in between, and it is asked again.
    assert_eq!(model.press(Key::Restart), Deed::Nothing);
    model.press(Key::Down);
    model.press(Key::Down);
    assert_eq!(model.press(Key::Restart), Deed::Nothing);
    assert_eq!(model.press(Key::Restart), Deed::Restart(DECK.to_owned()));
    model.press(Key::Down);
    model.press(Key::Restart);
    assert_eq!(model.press(Key::Restart), Deed::Restart("source.kraken".to_owned()));
}

#[test]
fn what_is_selected_stays_selected_when_lines_come_and_go() {
    let mut model = model();
    (0..4).for_each(|_| drop(model.press(Key::Down)));
    let mut fewer = seen(4_000);
    fewer.processes.clear();
    model.see(fewer, Instant::now() + Duration::from_secs(4));
    model.press(Key::Restart);
    assert_eq!(model.press(Key::Restart), Deed::Restart("source.oanda".to_owned()));
}

#[test]
fn silence_lasts_until_it_is_well_again() {
    let mut model = model();
    model.press(Key::Down);
    model.press(Key::Silence);
    let (lines, terminal) = screen(&model, 80, 24);
    assert!(lines[0].contains("2 bad  1 silenced"), "{}", lines[0]);
    let at = u16::try_from(lines.iter().position(|line| line.contains("mqtt")).unwrap()).unwrap();
    assert!(terminal.backend().buffer()[(0, at)].modifier.contains(Modifier::DIM));
    let mut well = seen(5_000);
    well.processes[1].state = State::Stopped;
    well.processes[1] = Entry { state: State::Running, kind: Kind::Outside, ..well.processes[1].clone() };
    let later = Instant::now() + Duration::from_secs(6);
    model.see(well, later);
    model.see(seen(6_000), later + Duration::from_secs(2));
    assert!(screen(&model, 80, 24).0[0].contains("3 bad"), "it troubles anew");
}

#[test]
fn the_log_of_the_selected_stands_below() {
    let mut model = model();
    model.press(Key::Tail);
    assert_eq!(model.tailed().as_deref(), Some("server.influx"));
    model.set_tail((0..50).map(|n| format!("line {n}")).collect());
    let (lines, _) = screen(&model, 80, 24);
    assert!(lines.iter().any(|line| line == "log of server.influx"));
    assert!(lines.iter().any(|line| line == "line 49") && !lines.iter().any(|line| line == "line 40"), "{lines:?}");
    model.press(Key::Tail);
    assert_eq!(model.tailed(), None);
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    let mut model = model();
    model.press(Key::Tail);
    for (width, height) in [(1, 1), (20, 3), (79, 6), (300, 100)] {
        screen(&model, width, height);
    }
}
