//! A deck with three real databases on this machine's cores, from the venue's socket to rows in all of them, beside Python as the
//! older systems had it: one process reads JSON and publishes MessagePack over ZeroMQ, another subscribes and writes to each of the
//! three with that database's client, in batches of 500. The trades come as fast as either takes them.
//!
//! The clock runs from the subscription until everything is confirmed by all three. Ours is also on the tape by then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapedeck_benches::stores::{Psql, Server, file};
use tapedeck_benches::venue::{Load, serve};
use tapedeck_benches::{Run, probe, rounds};

/// Far more a second than anybody takes: the socket is the bound.
const LOAD: Load = Load::Rate { per_s: 2_000_000, time: Duration::from_millis(100) };
const ROWS: u64 = 200_000;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let bench = Bench {
        home: home.path().to_owned(),
        program: std::env::current_exe()?.with_file_name("tapedeck"),
        python: std::env::var_os("TAPEDECK_PYTHON").context("TAPEDECK_PYTHON is not set: use scripts/bench")?.into(),
        influx: Server::start("influxdb", &[])?,
        postgres: Server::start("postgres", &[])?,
        questdb: Server::start("questdb", &["heap=default"])?,
    };
    let sides: &mut [(&str, Run<'_>)] =
        &mut [("tapedeck", Box::new(|round| bench.ours(round))), ("Python", Box::new(|round| bench.theirs(round)))];
    rounds("socket -> three databases", ROWS, sides)
}

struct Bench {
    home: PathBuf,
    program: PathBuf,
    python: PathBuf,
    influx: Server,
    postgres: Server,
    questdb: Server,
}

impl Bench {
    /// A deck of its own each round, into tables of its own.
    fn ours(&self, round: usize) -> anyhow::Result<Duration> {
        let venue = serve(LOAD)?;
        let dir = self.home.join(format!("deck{round}"));
        fs::create_dir_all(&dir)?;
        let config = dir.join("tapedeck.toml");
        let text = format!(
            "[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n[log]\ndir = \"off\"\n\
             [source.kraken]\nkind = \"kraken\"\nurl = \"ws://{}/v2\"\npairs = [\"BTC/USD\"]\nchannels = [\"trade\"]\n\
             [sink.influx]\nkind = \"influx\"\nurl = \"{}\"\ndatabase = \"ours{round}\"\nevents = [\"trade\"]\n\
             [sink.postgres]\nkind = \"postgres\"\ndsn = \"{}\"\nschema = \"ours{round}\"\nevents = [\"trade\"]\n\
             [sink.questdb]\nkind = \"questdb\"\nurl = \"{}\"\nprefix = \"ours{round}_\"\nevents = [\"trade\"]\n",
            venue.addr,
            self.influx.fact("url"),
            self.postgres.fact("dsn"),
            self.questdb.fact("url"),
        );
        fs::write(&config, text)?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--plain", "-q", "-c"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let mut deck = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        venue.subscribed.recv_timeout(PATIENCE)?;
        let begun = Instant::now();
        let waited = self.until_delivered(&config, begun);
        let took = begun.elapsed();
        kill_process(Pid::from_child(&deck), Signal::TERM)?;
        deck.wait()?;
        waited?;
        self.check(&format!("ours{round}.trades"), &format!("ours{round}_trades"))?;
        Ok(took)
    }

    fn until_delivered(&self, config: &Path, begun: Instant) -> anyhow::Result<()> {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let out = Command::new(&self.program).args(["status", "--json", "-c"]).arg(config).output()?;
            let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            let services = status["services"].as_array().cloned().unwrap_or_default();
            let delivered: Vec<u64> =
                services.iter().filter_map(|service| service["detail"]["delivered"].as_u64()).collect();
            if delivered.len() == 3 && delivered.iter().all(|count| *count >= ROWS) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "delivered {delivered:?} of {ROWS}: {status}");
        }
    }

    fn theirs(&self, round: usize) -> anyhow::Result<Duration> {
        let venue = serve(LOAD)?;
        let address = format!("ipc://{}", self.home.join(format!("pipe{round}")).display());
        let mut psql = Psql::to(self.postgres.fact("dsn"))?;
        psql.run(&format!(
            "CREATE TABLE theirs{round} (ts timestamptz, symbol text, id bigint, price numeric, size numeric, side text, PRIMARY KEY (ts, symbol, id));"
        ))?;
        let mut subscriber = self.python("stores_subscriber.py");
        subscriber.args([&address, &format!("theirs{round}"), &ROWS.to_string()]).args([
            &self.influx.port("http")?.to_string(),
            self.postgres.fact("dsn"),
            &self.questdb.fact("url").replace("http://", ""),
        ]);
        let mut subscriber = Ended(subscriber.stdout(Stdio::piped()).spawn()?);
        let mut publisher = self.python("stores_publisher.py");
        publisher.args([&venue.addr.port().to_string(), &address]);
        let _publisher = Ended(publisher.stdin(Stdio::null()).spawn()?);
        venue.subscribed.recv_timeout(PATIENCE)?;
        let begun = Instant::now();
        let status = subscriber.0.wait()?;
        let took = begun.elapsed();
        anyhow::ensure!(status.success(), "the subscriber ended with {status}");
        self.check(&format!("theirs{round}"), &format!("theirs{round}"))?;
        Ok(took)
    }

    fn python(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(file("peers").join(script));
        command
    }

    /// All rows are there.
    fn check(&self, postgres: &str, questdb: &str) -> anyhow::Result<()> {
        let count = Psql::to(self.postgres.fact("dsn"))?.value(&format!("SELECT count(*) FROM {postgres};"))?;
        anyhow::ensure!(count == ROWS.to_string(), "PostgreSQL has {count} rows");
        let begun = Instant::now();
        let mut psql = Psql::to(self.questdb.fact("dsn"))?;
        // It applies later what it confirmed.
        loop {
            let count = psql.value(&format!("SELECT count() FROM {questdb};"))?;
            if count == ROWS.to_string() {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "QuestDB has {count} rows");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A process that goes with its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
