//! Trades from a tape into a real InfluxDB 1, by the sink as it is, beside the same bodies sent ready-made over a bare connection
//! and beside the Python client `influxdb` with points that are ready. All of them send 5,000 rows a request, one at a time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Instant;

use tapedeck_benches::stores::{Http, Peer, Server, Tape};
use tapedeck_benches::{Run, probe, rounds};

const ROWS: u64 = 300_000;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let tape = Tape::of(&home.path().join("tape"), ROWS)?;
    let rows = home.path().join("rows");
    tape.rows(&rows)?;
    let bodies = bodies(&tape)?;
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("{ROWS} trades in {} requests of {} kB", bodies.len(), bytes / bodies.len() / 1_000);

    let server = Server::start("influxdb", &[])?;
    let url = server.fact("url");
    let port = server.port("http")?.to_string();
    let mut python = Peer::python("influx_client.py", &[&rows.to_string_lossy(), &port])?;
    python.ask("ready")?;

    let ours = |round: usize| {
        let name = format!("ours{round}");
        let took = tape.deliver(&name, &format!("kind = \"influx\"\nurl = \"{url}\"\ndatabase = \"{name}\"\n"))?;
        drop_all(url, &name)?;
        Ok(took)
    };
    let raw = |round: usize| {
        let name = format!("raw{round}");
        ask(url, &format!("CREATE DATABASE {name}"))?;
        let mut http = Http::to(url)?;
        let begun = Instant::now();
        for body in &bodies {
            let (status, text) = http.post(&format!("/write?db={name}"), body)?;
            anyhow::ensure!(status == 204, "{status} {text}");
        }
        let took = begun.elapsed();
        drop_all(url, &name)?;
        Ok(took)
    };
    let client = |round: usize| {
        let name = format!("client{round}");
        ask(url, &format!("CREATE DATABASE {name}"))?;
        let took = python.time(&name)?;
        drop_all(url, &name)?;
        Ok(took)
    };
    let sides: &mut [(&str, Run<'_>)] = &mut [
        ("tapedeck", Box::new(ours)),
        ("raw HTTP, bodies ready", Box::new(raw)),
        ("influxdb 5.3.2 (Python)", Box::new(client)),
    ];
    rounds("tape -> InfluxDB", ROWS, sides)
}

fn ask(url: &str, statement: &str) -> anyhow::Result<String> {
    let statement = statement.replace(' ', "%20");
    let (status, text) = Http::to(url)?.post(&format!("/query?q={statement}"), b"")?;
    anyhow::ensure!(status == 200 && !text.contains("error"), "{statement}: {status} {text}");
    Ok(text)
}

/// That all of it is there; then it goes, so that no side meets the leavings of another.
fn drop_all(url: &str, name: &str) -> anyhow::Result<()> {
    let counted = ask(url, &format!("SELECT COUNT(seq) FROM {name}..kraken_trade"))?;
    anyhow::ensure!(counted.contains(&format!(",{ROWS}]")), "{name} has not all rows: {counted}");
    ask(url, &format!("DROP DATABASE {name}")).map(drop)
}

/// The bodies of the sink's requests, taken from it by a server that says yes to everything.
fn bodies(tape: &Tape) -> anyhow::Result<Vec<Vec<u8>>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let table = format!("kind = \"influx\"\nurl = \"http://{}\"\ndatabase = \"any\"\n", listener.local_addr()?);
    let (told, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = told.clone();
            std::thread::spawn(move || yes(stream, &told));
        }
    });
    tape.deliver("bodies", &table)?;
    Ok(bodies.try_iter().collect())
}

/// Answers until the client leaves; an error is that, too.
fn yes(stream: std::net::TcpStream, told: &mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if input.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            input.read_line(&mut line)?;
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        if first.contains("/write") {
            // Whoever took them may have enough.
            let _ = told.send(body);
            output.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        } else {
            let answer = "{\"results\":[{\"statement_id\":0}]}";
            write!(output, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
        }
    }
}
