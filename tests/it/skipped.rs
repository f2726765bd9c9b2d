//! A test that did not run, and says so. Used by the tests of the other crates, too, by its path.

use std::io::Write as _;

/// Names the running test as skipped, which fails it where nothing may be: libtest itself knows only "ok".
#[track_caller]
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("TAPEDECK_REQUIRE_ALL").is_none(), "skipped: {why}");
    name_it(why);
}

/// As `skipped`, and fails nothing.
#[track_caller]
pub(crate) fn name_it(why: &str) {
    let thread = std::thread::current();
    // With one test thread all tests run on the main one.
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => std::panic::Location::caller().to_string(),
    };
    let line = format!("skipped: {test}: {}\n", why.trim());
    // Not by `eprintln`, which libtest keeps to itself when the test is "ok".
    let _ = std::io::stderr().write_all(line.as_bytes());
    // What scripts/test prints at the end.
    if let Some(list) = std::env::var_os("TAPEDECK_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "{written:?}");
    }
}
