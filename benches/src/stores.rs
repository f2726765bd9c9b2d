//! What the benches of databases share: a real server, a tape of trades, its delivery by the sink as it is, and peers in Python.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tapedeck::service::{Desk, Setup, Shown};
use tapedeck_market::{Body, Decimal, Event, Flags, Price, Record, Side, Size, SmolStr, Trade, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options, Tail};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Records of a request, ours and the peers'.
pub const BATCH: usize = 5_000;
const SYMBOLS: [&str; 8] = ["BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "BTC/EUR", "ETH/EUR", "ADA/USD", "DOGE/USD"];

/// A file of this package.
#[must_use]
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A database under `scripts/servers`, on a free port, with a folder of its own; it ends with the handle.
#[derive(Debug)]
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    facts: Value,
}

impl Server {
    /// # Errors
    /// It cannot be had here, and why.
    pub fn start(name: &str, settings: &[&str]) -> anyhow::Result<Server> {
        let mut command = Command::new(file("../scripts/servers"));
        command.args(["up", name, "--until-eof", "--json"]);
        for setting in settings {
            command.args(["--set", &format!("{name}.{setting}")]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("scripts/servers")?;
        let input = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let report: Value = serde_json::from_str(&line).with_context(|| format!("scripts/servers: {line:?}"))?;
        let facts = report["servers"][name].clone();
        let server = Server { child, input, facts };
        anyhow::ensure!(server.facts.is_object(), "{name} cannot be had here: {report}");
        println!("peer and sink meet {name} {}", server.fact("version"));
        Ok(server)
    }

    /// `url`, `dsn`, `version` …
    #[must_use]
    pub fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_default()
    }

    /// # Errors
    /// It has no port of that name.
    pub fn port(&self, name: &str) -> anyhow::Result<u16> {
        let port = self.facts["ports"][name].as_u64().and_then(|port| u16::try_from(port).ok());
        port.with_context(|| format!("no port `{name}`"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The n-th trade, all of them within a second of `start_ns`.
#[must_use]
pub fn trade(n: u64, start_ns: i64) -> Event {
    // Digits that no compressor foresees.
    let dice = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let decimal =
        |mantissa: u64, scale| Decimal::new(i64::try_from(mantissa).unwrap_or_default(), scale).unwrap_or_default();
    let body = Trade {
        price: Price(decimal(600_000 + dice % 90_000, 1)),
        size: Size(decimal(1 + (dice >> 17) % 900_000_000, 8)),
        side: Some(if dice.is_multiple_of(2) { Side::Buy } else { Side::Sell }),
        id: Some(SmolStr::new((100_320_028 + n).to_string())),
    };
    let ts_recv = start_ns + i64::try_from(n).unwrap_or_default() * 1_000;
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: SYMBOLS[(dice >> 3) as usize % SYMBOLS.len()].into(),
        ts_event: Some(UnixNanos(ts_recv - ts_recv % 1_000 - 30_000_000)),
        ts_recv: UnixNanos(ts_recv),
        flags: Flags::NONE,
        origin: None,
        body: Body::Trade(body),
    }
}

/// Writes trades of a second to a tape, and hands each on.
///
/// # Errors
/// The disk's.
pub fn write_trades(dir: &Path, count: u64, start_ns: i64, mut each: impl FnMut(Record)) -> anyhow::Result<Log> {
    let (mut log, _) = Log::open(Arc::new(Disk), dir, Options::default())?;
    let mut payload = Vec::new();
    for n in 1..=count {
        let event = trade(n, start_ns);
        payload.clear();
        wire::encode(&event, &mut payload);
        log.append(&[Entry { ts_recv: event.ts_recv.0, payload: &payload }], &mut Vec::new)?;
        if n % 1_000 == 0 || n == count {
            log.commit()?;
        }
        each(Record { seq: n, event });
    }
    Ok(log)
}

/// A tape of trades.
pub struct Tape {
    dir: PathBuf,
    pub id: Uuid,
    tail: Arc<Tail>,
    pub records: Vec<Record>,
    _log: Log,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Tape {
    /// # Errors
    /// The disk's.
    pub fn of(dir: &Path, count: u64) -> anyhow::Result<Tape> {
        // A second within which no day ends.
        let now = UnixNanos::now().0;
        let start_ns = now - now % 1_000_000_000;
        let mut records = Vec::new();
        let log = write_trades(dir, count, start_ns, |record| records.push(record))?;
        Ok(Tape { dir: dir.to_owned(), id: log.tape_id(), tail: log.tail(), records, _log: log })
    }

    /// Delivers all of it by a sink of that table, as the deck does: read, decoded, formatted, sent, confirmed, the cursor moved.
    /// `name` is new each time, so that it begins at the beginning.
    ///
    /// # Errors
    /// The table is wrong, or not everything was delivered.
    pub fn deliver(&self, name: &str, table: &str) -> anyhow::Result<Duration> {
        let config = tapedeck::config::parse_text(&format!("[sink.{name}]\n{table}"));
        let config = Arc::new(config.map_err(|problems| anyhow::anyhow!("{problems}"))?);
        // The program's first act; a second time it says so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let setup = Setup { name: name.into(), config, dir: self.dir.clone() };
        let mut service = (tapedeck::sinks::SERVICE.build)(&setup)?;
        let (_ask, asked) = mpsc::channel(1);
        let desk = Desk {
            name: name.into(),
            dir: self.dir.clone(),
            tape: self.tail.clone(),
            out: None,
            shown: Arc::new(Shown::default()),
            status: tapedeck::status::Overview::default(),
            asked: Arc::new(tokio::sync::Mutex::new(asked)),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let stop = CancellationToken::new();
        let begun = Instant::now();
        runtime.block_on(async {
            let (running, told) = (desk.shown.clone(), stop.clone());
            // Told to stop once it runs, it ends with the last record.
            let watch = tokio::spawn(async move {
                while running.state() != "running" {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                told.cancel();
            });
            let ended = service.run(&desk, stop).await;
            watch.abort();
            ended
        })?;
        let took = begun.elapsed();
        let detail = desk.shown.detail();
        let count = |key: &str| detail.get(key).and_then(Value::as_u64).unwrap_or_default();
        let (delivered, dead) = (count("delivered"), count("dead_letters"));
        anyhow::ensure!(delivered == self.records.len() as u64 && dead == 0, "not all was delivered: {detail:?}");
        Ok(took)
    }

    /// The trades for peers in Python, a JSON list a line: seq, symbol, price, size, side, id, ts_event, ts_recv.
    ///
    /// # Errors
    /// The disk's.
    pub fn rows(&self, path: &Path) -> anyhow::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        for Record { seq, event } in &self.records {
            let Body::Trade(trade) = &event.body else { continue };
            let row = json!([
                seq,
                event.symbol,
                trade.price.to_string(),
                trade.size.to_string(),
                trade.side.map(Side::name),
                trade.id,
                event.ts_event.map(|ts| ts.0),
                event.ts_recv.0,
            ]);
            writeln!(out, "{row}")?;
        }
        Ok(out.flush()?)
    }
}

/// A peer in a process of its own: a line in, seconds out. `TAPEDECK_PYTHON` names a Python with what it needs.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// # Errors
    /// It does not start, or does not say that it is ready.
    pub fn python(script: &str, args: &[&str]) -> anyhow::Result<Peer> {
        let python = std::env::var_os("TAPEDECK_PYTHON").context("TAPEDECK_PYTHON is not set: use scripts/bench")?;
        let mut command = Command::new(python);
        command.arg(file("peers").join(script)).args(args);
        Peer::of(&mut command)
    }

    /// # Errors
    /// As above.
    pub fn of(command: &mut Command) -> anyhow::Result<Peer> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Peer { child, input, output })
    }

    /// # Errors
    /// It ended.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        anyhow::ensure!(self.output.read_line(&mut answer)? > 0, "the peer ended");
        Ok(answer.trim().to_owned())
    }

    /// # Errors
    /// It ended, or said something else.
    pub fn time(&mut self, line: &str) -> anyhow::Result<Duration> {
        let answer = self.ask(line)?;
        Ok(Duration::from_secs_f64(answer.parse().with_context(|| format!("the peer says {answer:?}"))?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept, for bytes that are ready: as fast as HTTP/1.1 can be.
#[derive(Debug)]
pub struct Http {
    host: String,
    /// Headers of every request beside its own, each with its line end.
    pub headers: String,
    stream: BufReader<TcpStream>,
}

impl Http {
    /// # Errors
    /// Nobody listens there.
    pub fn to(url: &str) -> anyhow::Result<Http> {
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Http { host, headers: String::new(), stream: BufReader::new(stream) })
    }

    /// The status of the answer, and its text.
    ///
    /// # Errors
    /// The connection's, or an answer that is none.
    pub fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        self.ask("POST", path, body)
    }

    /// As [`Http::post`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&mut self, path: &str) -> anyhow::Result<(u16, String)> {
        self.ask("GET", path, b"")
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        let (host, headers, length) = (&self.host, &self.headers, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n");
        let socket = self.stream.get_mut();
        socket.write_all(head.as_bytes())?;
        socket.write_all(body)?;
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let mut text = Vec::new();
        if header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            while self.chunk(&mut text)? {}
        } else if let Some(length) = header(&head, "content-length") {
            text.resize(length.parse()?, 0);
            self.stream.read_exact(&mut text)?;
        }
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Asks for a stream of events, of which [`Http::event`] has the next.
    ///
    /// # Errors
    /// As of [`Http::post`].
    pub fn events(mut self, path: &str) -> anyhow::Result<Http> {
        write!(self.stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n", self.host, self.headers)?;
        self.head()?;
        Ok(self)
    }

    /// What the next event carries.
    ///
    /// # Errors
    /// The stream ended, or what it carries is no JSON.
    pub fn event(&mut self) -> anyhow::Result<Value> {
        loop {
            let mut line = String::new();
            anyhow::ensure!(self.stream.read_line(&mut line)? > 0, "the stream of events ended");
            if let Some(data) = line.strip_prefix("data:") {
                return Ok(serde_json::from_str(data)?);
            }
        }
    }

    fn head(&mut self) -> anyhow::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            anyhow::ensure!(self.stream.read_line(&mut head)? > 0, "the connection was closed");
        }
        Ok(head)
    }

    fn chunk(&mut self, text: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk)?;
        text.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A psql that stays: its start would count against it.
#[derive(Debug)]
pub struct Psql(Peer);

impl Psql {
    /// # Errors
    /// There is none.
    pub fn to(dsn: &str) -> anyhow::Result<Psql> {
        // Debian's own of that name is a script that looks for the right one.
        let debian = Path::new("/usr/lib/postgresql/15/bin/psql");
        let mut command = Command::new(if debian.exists() { debian } else { Path::new("psql") });
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn]);
        Ok(Psql(Peer::of(&mut command)?))
    }

    /// Runs a statement that prints nothing, or a meta-command.
    ///
    /// # Errors
    /// It failed: what psql says of it is on standard error.
    pub fn run(&mut self, statement: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let answer = self.0.ask(&format!("{statement}\n\\echo done"))?;
        anyhow::ensure!(answer == "done", "{statement}: {answer}");
        Ok(begun.elapsed())
    }

    /// The one value of a query.
    ///
    /// # Errors
    /// As above.
    pub fn value(&mut self, query: &str) -> anyhow::Result<String> {
        self.0.ask(query)
    }
}
