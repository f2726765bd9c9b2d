//! What a service manager is told, and the units that are shipped for it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Deck, free_address, tapedeck};

fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let mut units: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    units.sort();
    assert_eq!(units.len(), 3, "deck, store and sync");
    units
}

#[test]
fn every_unit_is_exposed_as_little_as_can_be() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        crate::skipped::skipped("systemd-analyze is not installed: apt-get install systemd");
        return;
    }
    for unit in units() {
        // In tenths.
        let asked = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
            .arg(&unit)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success(), "{}: {told}", unit.display());
        assert!(told.contains("Overall exposure level"), "{told}");
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let told = String::from_utf8_lossy(&verified.stderr).into_owned();
        // The program is where a user would put it, and not here.
        let wrong: Vec<&str> =
            told.lines().filter(|line| !line.contains("/usr/local/bin/tapedeck is not exec")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn what_a_unit_starts_is_a_verb() {
    for unit in units() {
        let text = std::fs::read_to_string(&unit).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let (program, verb) = words.split_first().unwrap();
        assert_eq!(*program, "tapedeck");
        let known = tapedeck().args(verb).arg("--help").output().unwrap();
        assert!(known.status.success(), "{line}: {}", String::from_utf8_lossy(&known.stderr));
    }
}

#[test]
fn a_service_manager_hears_of_the_beginning_of_life_and_of_the_end() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = || {
        let mut text = [0; 4_096];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap().trim().to_owned()
    };
    let config = home.path().join("tapedeck.toml");
    let dir = home.path().join("tape");
    let text =
        format!("[tape]\ndir = {dir:?}\n[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n", free_address());
    std::fs::write(&config, text).unwrap();
    let mut command = tapedeck();
    command.args(["run", "--plain", "-c"]).arg(&config).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let deck = Deck::of(command, &config, &dir);
    assert_eq!(hear(), "READY=1");
    let (mut told, mut fed) = (0, 0);
    while told < 3 || fed < 3 {
        match hear().as_str() {
            "WATCHDOG=1" => fed += 1,
            line => {
                assert!(line.starts_with("STATUS=") && line.contains(" of 1 sources deliver; 0 gaps open"), "{line}");
                told += 1;
            }
        }
    }
    deck.stop();
    while hear() != "STOPPING=1" {}
}
