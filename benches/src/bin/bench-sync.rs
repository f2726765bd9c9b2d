//! The sync between a real QuestDB and a real PocketBase: a first load beside prebuilt batches over plain HTTP, a run that
//! finds nothing new beside one that reads everything again, one changed row, how soon a subscriber has it, and what memory it takes.
//!
//!     bench-sync                 10,000 rows loaded, 1,000,000 looked at again, one changed of 1,000,000
//!     bench-sync 20000 10000000  as many
//!
//! Whole programs; the servers share the two cores with both sides.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tapedeck_benches::process::{Running, beside};
use tapedeck_benches::stores::{Http, Server};
use tapedeck_benches::{median, probe, spread};

const ROUNDS: usize = 3;
/// As many as the sync sends, and as PocketBase lets in.
const BATCH: usize = 200;
/// What the predecessor's documents claim, records a second.
const CLAIMED: f64 = 33.4;
/// How often the source is looked at while it is followed.
const POLL: Duration = Duration::from_secs(1);
/// Rows whose way to a subscriber is timed.
const FOLLOWED: u64 = 30;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let sizes: Vec<u64> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    let (load, many) = (sizes.first().copied().unwrap_or(10_000), sizes.get(1).copied().unwrap_or(1_000_000));
    let quest = Server::start("questdb", &["cairo.default.sequencer.part.txn.count=100000"])?;
    let pocket = Server::start("pocketbase", &["batch.enabled=true", &format!("batch.maxRequests={BATCH}")])?;
    let bench = Bench { home: home.path().to_owned(), tapedeck: beside("tapedeck")?, quest, pocket };
    bench.first_loads(load)?;
    bench.looks(many)
}

struct Bench {
    home: PathBuf,
    tapedeck: PathBuf,
    quest: Server,
    pocket: Server,
}

/// What a run took.
struct Ran {
    time: Duration,
    /// Resident at most, MiB.
    rss_mib: f64,
    /// Rows read and sent, as it says.
    said: Value,
}

impl Bench {
    fn first_loads(&self, rows: u64) -> anyhow::Result<()> {
        let table = "quotes_first";
        self.fill(table, rows)?;
        anyhow::ensure!(rows < 30 * 86_400, "the peer's documents are of one month");
        let (mut ours, mut raw, mut rss) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let config = self.config(&format!("first-{round}"), table, &format!("ours_{round}"), "upsert")?;
            self.sync(&config, &["init"])?;
            let ran = self.sync(&config, &["run", "--json"])?;
            ours.push(rows as f64 / ran.time.as_secs_f64());
            rss.push(ran.rss_mib);

            let config = self.config(&format!("raw-{round}"), table, &format!("raw_{round}"), "upsert")?;
            self.sync(&config, &["init"])?;
            let took = self.prebuilt(&format!("raw_{round}"), rows)?;
            raw.push(rows as f64 / took.as_secs_f64());
        }
        let ratios: Vec<f64> = ours.iter().zip(&raw).map(|(ours, raw)| ours / raw).collect();
        let (low, high) = spread(&ratios);
        println!(
            "first load of {rows} rows: ours {:.0} a second, prebuilt batches {:.0} a second, ratio {:.2} [{low:.2} … {high:.2}]; \
             {:.0} times the predecessor's claim; resident {:.1} MiB",
            median(&ours),
            median(&raw),
            median(&ratios),
            median(&ours) / CLAIMED,
            median(&rss)
        );
        Ok(())
    }

    fn looks(&self, rows: u64) -> anyhow::Result<()> {
        let table = "quotes_many";
        self.fill(table, rows)?;
        let config = self.config("many", table, "many", "bulk")?;
        self.sync(&config, &["init"])?;
        let first = self.sync(&config, &["run", "--json"])?;
        println!(
            "first load of {rows} rows in bulk: {:.0} a second, resident {:.1} MiB",
            rows as f64 / first.time.as_secs_f64(),
            first.rss_mib
        );
        let (mut nothing, mut again, mut one, mut rss) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
        for round in 0..ROUNDS {
            let ran = self.sync(&config, &["run", "--json"])?;
            rss = rss.max(ran.rss_mib);
            nothing.push(ran.time.as_secs_f64() * 1e3);
            println!("  nothing changed: {:.0} ms {}", ran.time.as_secs_f64() * 1e3, ran.said);
            self.exec(&format!(
                "INSERT INTO {table} VALUES(dateadd('s', {round}, '2026-01-01'::timestamp), 'S0', {round}.5, 2.5, 7)"
            ))?;
            self.applied(table)?;
            let ran = self.sync(&config, &["run", "--json"])?;
            one.push(ran.time.as_secs_f64() * 1e3);
            println!("  one changed: {:.0} ms {}", ran.time.as_secs_f64() * 1e3, ran.said);
            // All rows are read again and compared: nothing changes by it.
            self.exec(&format!("UPDATE {table} SET volume = volume WHERE ts >= '2026-01-01'"))?;
            self.applied(table)?;
            let ran = self.sync(&config, &["run", "--json"])?;
            rss = rss.max(ran.rss_mib);
            again.push(ran.time.as_secs_f64() * 1e3);
            println!("  read again: {:.0} ms {}", ran.time.as_secs_f64() * 1e3, ran.said);
        }
        println!(
            "{rows} rows: nothing changed {:.0} ms, one changed {:.0} ms, all read again and compared {:.0} ms, ratio {:.0}; \
             resident at most {rss:.1} MiB",
            median(&nothing),
            median(&one),
            median(&again),
            median(&again) / median(&nothing)
        );
        self.follows(&config, table, "many")
    }

    /// From QuestDB's answer that it has a row to the event that a subscriber of PocketBase has of it.
    fn follows(&self, config: &Path, table: &str, collection: &str) -> anyhow::Result<()> {
        let mut events = Http::to(self.pocket.fact("url"))?.events("/api/realtime")?;
        let hello = events.event()?;
        let mut http = self.superuser()?;
        let wanted = json!({ "clientId": hello["clientId"], "subscriptions": [format!("{collection}/*")] });
        let (code, text) = http.post("/api/realtime", &serde_json::to_vec(&wanted)?)?;
        anyhow::ensure!(code == 204, "subscribing: {text}");
        let mut command = Command::new(&self.tapedeck);
        command.args(["sync", "watch", "--interval", &format!("{}s", POLL.as_secs()), "-c"]).arg(config);
        let _watch = Running::start(command.stderr(Stdio::null()))?;
        let mut took = Vec::new();
        for n in 0..=FOLLOWED {
            // Not in step with the looks.
            std::thread::sleep(Duration::from_millis(n * 137 % 1_000));
            self.exec(&format!(
                "INSERT INTO {table} VALUES(dateadd('s', {}, '2026-01-01'::timestamp), 'S1', {n}.25, 2.5, 7)",
                40 + n
            ))?;
            let begun = Instant::now();
            let event = events.event()?;
            anyhow::ensure!(event["record"]["bid"] == json!(n as f64 + 0.25), "another event: {event}");
            // The first waits for the program to start.
            if n > 0 {
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        let (low, high) = spread(&took);
        println!(
            "a row reaches a subscriber {:.0} ms after it was taken [{low:.0} … {high:.0}], with a look each {} ms",
            median(&took),
            POLL.as_millis()
        );
        Ok(())
    }

    /// A connection that may do all at the target.
    fn superuser(&self) -> anyhow::Result<Http> {
        let mut http = Http::to(self.pocket.fact("url"))?;
        http.headers = "Content-Type: application/json\r\n".to_owned();
        let who = json!({ "identity": self.pocket.fact("user"), "password": self.pocket.fact("password") });
        let (code, text) = http.post("/api/collections/_superusers/auth-with-password", &serde_json::to_vec(&who)?)?;
        anyhow::ensure!(code == 200, "login: {text}");
        let token = serde_json::from_str::<Value>(&text)?["token"].as_str().unwrap_or_default().to_owned();
        http.headers = format!("Authorization: {token}\r\nContent-Type: application/json\r\n");
        Ok(http)
    }

    /// A table of so many quotes, a second apart.
    fn fill(&self, table: &str, rows: u64) -> anyhow::Result<()> {
        self.exec(&format!(
            "CREATE TABLE {table} (ts TIMESTAMP, symbol SYMBOL, bid DOUBLE, ask DOUBLE, volume LONG) TIMESTAMP(ts) \
             PARTITION BY MONTH WAL DEDUP UPSERT KEYS(ts, symbol)"
        ))?;
        self.exec(&format!(
            "INSERT INTO {table} SELECT dateadd('s', x::int - 1, '2026-01-01'::timestamp), concat('S', x % 16), \
             (x % 1000) / 8.0 + 1, (x % 1000) / 8.0 + 2, x % 5000 FROM long_sequence({rows})"
        ))?;
        self.applied(table)
    }

    fn exec(&self, sql: &str) -> anyhow::Result<Value> {
        let mut http = Http::to(self.quest.fact("url"))?;
        let query: String = sql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (code, text) = http.get(&format!("/exec?query={query}"))?;
        anyhow::ensure!(code == 200, "{sql}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until what was written can be read.
    fn applied(&self, table: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let said =
                self.exec(&format!("SELECT writerTxn = sequencerTxn FROM wal_tables() WHERE name = '{table}'"))?;
            if said["dataset"][0][0] == Value::Bool(true) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(300), "{table} is not applied");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn config(&self, name: &str, table: &str, collection: &str, mode: &str) -> anyhow::Result<PathBuf> {
        let path = self.home.join(name).with_extension("toml");
        let text = format!(
            "[tape]\ndir = {:?}\n[log]\ndir = \"off\"\n[sync.source]\nurl = \"{}\"\n[sync.target]\nurl = \"{}\"\nemail = \"{}\"\n\
             password = \"{}\"\n[sync.table.{table}]\ncollection = \"{collection}\"\nmode = \"{mode}\"\n",
            self.home.join(name),
            self.quest.fact("dsn"),
            self.pocket.fact("url"),
            self.pocket.fact("user"),
            self.pocket.fact("password"),
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn sync(&self, config: &Path, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new(&self.tapedeck);
        command.arg("sync").args(args).arg("-c").arg(config).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().context("starting tapedeck sync")?;
        let status = format!("/proc/{}/status", child.id());
        let mut rss_mib = 0.0_f64;
        while child.try_wait()?.is_none() {
            // The kernel keeps the highest for us; after the end there is nothing to ask.
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let peak =
                text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            rss_mib = rss_mib.max(peak.unwrap_or(0.0) / 1024.0);
            std::thread::sleep(Duration::from_millis(2));
        }
        let time = begun.elapsed();
        let output = child.wait_with_output()?;
        anyhow::ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Ran { time, rss_mib, said: serde_json::from_slice(&output.stdout).unwrap_or_default() })
    }

    /// The peer: the same documents, made before the clock starts, over a connection that is kept.
    fn prebuilt(&self, collection: &str, rows: u64) -> anyhow::Result<Duration> {
        let mut http = self.superuser()?;
        let document = |x: u64| {
            let price = (x % 1_000) as f64 / 8.0;
            // In no order, as ids that are made of keys.
            let id = x.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4;
            json!({ "id": format!("{id:015x}"), "ts": format!("2026-01-{:02}T{:02}:{:02}:{:02}.000000Z", 1 + x / 86_400, x / 3_600 % 24, x / 60 % 60, x % 60),
                "symbol": format!("S{}", x % 16), "bid": price + 1.0, "ask": price + 2.0, "volume": x % 5_000 })
        };
        let request = |x| {
            let url = format!("/api/collections/{collection}/records");
            json!({ "method": "PUT", "url": url, "body": document(x) })
        };
        let all: Vec<u64> = (1..=rows).collect();
        let bodies: Vec<Vec<u8>> = all
            .chunks(BATCH)
            .map(|chunk| {
                let requests: Vec<Value> = chunk.iter().map(|x| request(*x)).collect();
                serde_json::to_vec(&json!({ "requests": requests }))
            })
            .collect::<Result<_, _>>()?;
        let begun = Instant::now();
        for body in &bodies {
            let (code, text) = http.post("/api/batch", body)?;
            anyhow::ensure!(code == 200, "batch: {text}");
        }
        Ok(begun.elapsed())
    }
}
