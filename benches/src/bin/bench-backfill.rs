//! A hole of a million trades filled from the venue's past, beside a plain REST client in Python that stores the same pages.
//!
//! The venue is the fake in a process of its own, which limits no rate: real Kraken gives about a page a second to either.
//! `bench-backfill N` has N trades missing.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_benches::process::{Running, beside};
use tapedeck_benches::{median, probe, spread};
use tapedeck_market::{Body, Event, Flags, Gap, GapCause, GapState, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options};

const ROUNDS: usize = 3;
const TRADES: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000_000_000;
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let trades: i64 = std::env::args().nth(1).map_or(Ok(TRADES), |count| count.parse())?;
    let tapedeck = beside("tapedeck")?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // The past ends when the venue starts, a trade a second.
    let until = UnixNanos::now().0;
    let since = until - trades * SECOND_NS - SECOND_NS / 2;
    let mut venue = Command::new(&tapedeck);
    venue.args(["simulate", "kraken", "--pairs", "BTC/USD", "--rate", "1", "--listen", &address.to_string()]);
    let _venue = Running::start(venue.args(["--past", &trades.to_string()]).stdout(Stdio::null()))?;
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the venue does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let dir = home.path().join(format!("tape-{round}"));
        hole(&dir, UnixNanos(since), UnixNanos(until))?;
        let config = dir.with_extension("toml");
        let text = format!(
            "[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n[log]\ndir = \"off\"\n[source.kraken]\nkind = \"kraken\"\n\
             url = \"ws://{address}/v2\"\nrest_url = \"http://{address}\"\npairs = [\"BTC/USD\"]\nrepair_pace = \"1ms\"\n"
        );
        std::fs::write(&config, text)?;
        let begun = Instant::now();
        let output = Command::new(&tapedeck).args(["backfill", "kraken", "--json", "-c"]).arg(&config).output()?;
        let took = begun.elapsed().as_secs_f64();
        let done: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let fetched = done["fetched"].as_i64().unwrap_or_default();
        anyhow::ensure!(fetched >= trades - 1, "{fetched} of {trades} were fetched: {done}");
        ours.push(fetched as f64 / took);

        let begun = Instant::now();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kraken_trades.py");
        let output = Command::new("python3")
            .arg(script)
            .args([&format!("http://{address}"), "XBTUSD", &since.to_string(), &until.to_string()])
            .arg(dir.with_extension("db"))
            .output()?;
        let took = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let stored: i64 = said.parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        anyhow::ensure!(stored >= trades - 1, "the peer stored {stored} of {trades}");
        theirs.push(stored as f64 / took);
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (low, high) = spread(&ratios);
    println!(
        "backfill of {trades} trades: ours {:.0} a second, Python and SQLite {:.0} a second, ratio {:.2} [{low:.2} … {high:.2}]",
        median(&ours),
        median(&theirs),
        median(&ratios)
    );
    Ok(())
}

/// A tape with one hole of the pair's trades.
fn hole(dir: &Path, from: UnixNanos, to: UnixNanos) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let (mut log, _) = Log::open(Arc::new(Disk), dir, Options::default())?;
    for (state, to) in [(GapState::Open, None), (GapState::Closed, Some(to))] {
        let gap = Gap {
            id: 1,
            state,
            cause: GapCause::Session,
            channel: "trade".into(),
            from,
            to,
            missing: None,
            detail: "the bench".into(),
        };
        let event = Event {
            source: "kraken".into(),
            venue: "kraken".into(),
            symbol: "BTC/USD".into(),
            ts_event: None,
            ts_recv: to.unwrap_or(from),
            flags: Flags::NONE,
            origin: None,
            body: Body::Gap(Box::new(gap)),
        };
        let mut payload = Vec::new();
        wire::encode(&event, &mut payload);
        log.append(&[Entry { ts_recv: event.ts_recv.0, payload: &payload }], &mut Vec::new)?;
    }
    log.commit()?;
    Ok(())
}
