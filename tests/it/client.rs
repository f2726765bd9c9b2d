//! The Python client: its own tests, against fakes and against a deck.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python")
}

#[test]
fn the_python_client_passes_its_own_tests() {
    let Some(python) = support::python() else { return };
    let out = Command::new(python)
        .args(["-B", "-W", "error::SyntaxWarning", "-m", "unittest", "discover", "-t", ".", "-s", "tests"])
        .current_dir(package())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    // "Ran 97 tests": none were found would also be a success.
    let ran = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|ran| ran > 50), "{said}");
}
