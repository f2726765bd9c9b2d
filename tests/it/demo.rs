//! `tapedeck demo`: the main job with nothing configured.

use std::path::Path;

use tapedeck_market::{GapCause, GapState, Kind};

use crate::support::{gaps, records, tapedeck};

fn demo(dir: &Path, home: &Path) -> String {
    let out = tapedeck().args(["demo", "--plain", "--for", "6s", "--dir"]).arg(dir).current_dir(home).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

#[test]
fn a_demo_records_a_market_and_the_next_one_goes_on_with_the_pause_in_the_ledger() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("demo");
    let said = demo(&dir, home.path());
    assert!(
        said.contains("recorded ") && said.contains("tapedeck gaps"),
        "says what was recorded and what to do next: {said}"
    );
    let first = records(&dir);
    for kind in [Kind::TRADE, Kind::TICKER, Kind::BOOK, Kind::INSTRUMENT, Kind::CANDLE, Kind::SYNTHETIC] {
        assert!(first.iter().any(|record| record.event.body.kind() == kind), "no {}", kind.name());
    }
    demo(&dir, home.path());
    let both = records(&dir);
    assert!(both.len() > first.len() + 100, "{} then {}", first.len(), both.len());
    assert_eq!(both[..first.len()], first[..]);
    let jumps: Vec<_> = gaps(&both).into_iter().filter(|(_, gap)| gap.cause == GapCause::Sequence).collect();
    assert!(jumps.is_empty(), "a market that stands still trades nothing: {jumps:#?}");
    let down: Vec<_> = gaps(&both).into_iter().filter(|(_, gap)| gap.cause == GapCause::Down).collect();
    let of = |state| down.iter().filter(|(_, gap)| gap.state == state).count();
    assert!(of(GapState::Open) >= 24, "eight pairs, three channels: {down:#?}");
    assert_eq!(of(GapState::Open), of(GapState::Closed), "{down:#?}");
}
