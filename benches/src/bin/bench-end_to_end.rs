//! From the moment a frame was due on the socket to the moment its record is durable; and the ceiling.
//!
//! The real Kraken session, the real recorder, a real socket and a real disk, in one process; the peer
//! is what people write by hand: a Python script that reads the same socket and commits to SQLite with
//! `synchronous = FULL`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tapedeck_benches::probe;
use tapedeck_benches::recording::record;
use tapedeck_benches::venue::{Load, serve};

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    // Rates may be named: then only those are measured.
    let only: Vec<u64> = std::env::args().skip(1).map(|rate| rate.parse()).collect::<Result<_, _>>()?;
    for per_s in [1_000, 10_000, 100_000].into_iter().filter(|rate| only.is_empty() || only.contains(rate)) {
        let time = Duration::from_secs(if per_s >= 100_000 { 5 } else { 8 });
        for round in 0..3 {
            let load = Load::Rate { per_s, time };
            let ours = record(&home.path().join(format!("ours-{per_s}-{round}")), load, |_| Ok(()))?;
            println!("{per_s:>7} msg/s  tapedeck           {}", ours.line());
            let theirs = script(&home.path().join(format!("theirs-{per_s}-{round}.db")), load)?;
            println!("{per_s:>7} msg/s  python + SQLite    {theirs}");
        }
    }
    for round in 0..if only.is_empty() { 3 } else { 0 } {
        let dir = home.path().join(format!("flood-{round}"));
        let flood = record(&dir, Load::Flood { time: Duration::from_secs(5) }, |_| Ok(()))?;
        println!("  flood          tapedeck           {:.0} msg/s durable, of {} sent", flood.per_s, flood.sent);
        let _ = std::fs::remove_dir_all(&dir);
    }
    Ok(())
}

/// The peer: the same load, read by a script.
fn script(db: &Path, load: Load) -> anyhow::Result<String> {
    let venue = serve(load)?;
    let child = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/sqlite_recorder.py"))
        .arg(venue.addr.port().to_string())
        .arg(db)
        .stdout(Stdio::piped())
        .spawn()?;
    let sent = venue.sent.recv()?;
    let out = child.wait_with_output()?;
    Ok(format!("{} of {sent}", String::from_utf8_lossy(&out.stdout).trim()))
}
