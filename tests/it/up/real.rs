//! Real databases beside the deck, and a store that is too slow for what is recorded.
//!
//! `TAPEDECK_QUEUED` says how many records wait for the slow store.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Home, venue, web};
use crate::deck::{blocking, source};
use crate::servers::{Grafana, Influx1, Mosquitto, Postgres, Questdb, Server};
use crate::support::{free_offset, free_port, until};

/// `[server.NAME]` of a server that runs: with its own command and variables, on its own data and ports. It is stopped.
pub(crate) fn table_of(name: &str, server: &Server, ready: &str, stop: &str) -> String {
    let process = Path::new("/proc").join(server.pid().to_string());
    let texts = |file: &str| -> Vec<String> {
        let bytes = std::fs::read(process.join(file)).unwrap();
        let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
        texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    };
    let (command, variables) = (texts("cmdline"), texts("environ"));
    let user = Command::new("stat").arg("-c%U").arg(&process).output().unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    let root = rustix::process::geteuid().is_root();
    let user = if root { format!("user = {:?}\n", user.trim()) } else { String::new() };
    server.stop();
    let mut table = format!(
        "[server.{name}]\ncommand = {command:?}\nready = {ready:?}\nstop = {stop:?}\nlimit = '180s'\n{user}dir = {:?}\n[server.{name}.env]\n",
        server.folder()
    );
    for variable in variables {
        let (key, value) = variable.split_once('=').unwrap();
        writeln!(table, "{key:?} = {value:?}").unwrap();
    }
    assert!(server.folder().metadata().unwrap().ino() > 0, "its data stays");
    table
}

/// Three databases, a broker, and Grafana where it was built: from nothing to all green, and down again to nothing, twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_servers_come_up_before_the_deck_are_filled_and_go_down_behind_it() {
    let (Some(influx), Some(postgres), Some(quest)) = (Influx1::private(), Postgres::private(), Questdb::private())
    else {
        return;
    };
    let Some(broker) = Mosquitto::private() else { return };
    let grafana = Grafana::private();
    let venue = venue().await;
    let venue_table = source(&venue);
    blocking(move || {
        let database = postgres.fresh_database();
        let pg_ready = format!("command pg_isready -q -h 127.0.0.1 -p {}", postgres.port());
        let mut config = format!(
            "{venue_table}[candles]\nintervals = ['1s']\n[bus]\nport_offset = {}\n\
             [heartbeat]\nbroker = '127.0.0.1:{}'\nevery = '1s'\n\
             [sink.influx]\nkind = 'influx'\nurl = '{}'\ndatabase = 'up'\n\
             [sink.pg]\nkind = 'postgres'\ndsn = '{}'\n\
             [sink.quest]\nkind = 'questdb'\nurl = '{}'\n",
            free_offset(),
            broker.port(),
            influx.url(),
            database.dsn,
            quest.url()
        );
        config += &table_of("influx", &influx, &format!("http {}/ping", influx.url()), "SIGTERM");
        config += &table_of("pg", &postgres, &pg_ready, "SIGINT");
        config += &table_of("quest", &quest, &format!("http {}/exec?query=select%201", quest.url()), "SIGTERM");
        config += &table_of("mqtt", &broker, &format!("tcp 127.0.0.1:{}", broker.port()), "SIGTERM");
        let mut ports = vec![influx.port(), postgres.port(), quest.port(), quest.sql_port(), broker.port()];
        let mut servers = vec!["influx", "pg", "quest", "mqtt"];
        let mut shown = "- grafana";
        if let Some(grafana) = &grafana {
            let login = "username = 'admin'\npassword = 'tapedeck-password'";
            let _ = write!(config, "[grafana]\nto = 'api'\nurl = '{}'\n{login}\n", grafana.url());
            config += &table_of("web", grafana, &format!("http {}/api/health", grafana.url()), "SIGTERM");
            ports.push(grafana.port());
            servers.push("web");
            shown = "✓ grafana";
        }
        let home = Home::new(&config);
        for _ in 0..2 {
            let said = home.ok(&["up", "--limit", "120s"]);
            let phases = ["✓ servers", "✓ retention", "✓ sources", "✓ sinks", shown, "✓ validation"];
            for line in phases.iter().chain(&["influx running", "pg running", "quest running", "quest ready after"]) {
                assert!(said.err.contains(line), "{line}: {said:?}");
            }
            let mut all: Vec<_> = servers.iter().chain(&["deck"]).map(|name| home.identity(name)).collect();
            all.push(home.supervisor());
            let delivered = || {
                home.ok(&["status", "--json"]).json()["readers"]
                    .as_array()?
                    .iter()
                    .all(|reader| reader["seq"].as_u64() > Some(50))
                    .then_some(())
            };
            until("something delivered to each", delivered);
            // A venue says a lot before its first trade.
            let count = || postgres.psql(&database.dsn, "select count(*) from tapedeck.trades");
            until("trades in PostgreSQL", || (count() != "0").then_some(()));
            let heartbeat = |status: &Value| {
                let services = status["services"].as_array()?;
                services.iter().find(|one| one["name"] == "heartbeat").map(|one| one["state"] == "running")
            };
            until("a heartbeat", || heartbeat(&home.ok(&["status", "--json"]).json())?.then_some(()));
            for look in [&["validate", "full", "--for", "15s"][..], &["health"]] {
                let mut last = None;
                let green = || {
                    let said = home.say(look);
                    let is_green = said.code == Some(0);
                    last = Some(said);
                    is_green.then_some(())
                };
                until(&format!("all green by {look:?}"), green);
                eprintln!("{look:?}:\n{}", last.unwrap().out);
            }
            let said = home.ok(&["down"]);
            let ended: Vec<&str> = said.out.lines().filter(|line| line.contains(" stopped in")).collect();
            let order: Vec<&str> = ended.iter().filter_map(|line| line.split(' ').next()).collect();
            let want: Vec<&str> = ["deck"].into_iter().chain(servers.iter().rev().copied()).collect();
            assert_eq!(order, want, "{said:?}");
            home.is_clean(&all, &ports);
        }
    })
    .await;
}

/// An InfluxDB that takes its time, and remembers what it was sent.
struct Slow {
    port: u16,
    slow: Arc<AtomicBool>,
    /// Each line's own number, as often as it came.
    got: Arc<Mutex<Vec<u64>>>,
    writes: Arc<Mutex<u64>>,
}

impl Slow {
    fn start() -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slow = Slow {
            port: listener.local_addr().unwrap().port(),
            slow: Arc::new(AtomicBool::new(true)),
            got: Arc::default(),
            writes: Arc::default(),
        };
        let (is_slow, got, writes) = (slow.slow.clone(), slow.got.clone(), slow.writes.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (is_slow, got, writes) = (is_slow.clone(), got.clone(), writes.clone());
                std::thread::spawn(move || serve(stream, &is_slow, &got, &writes));
            }
        });
        slow
    }
}

/// One connection, to its end.
fn serve(stream: TcpStream, slow: &AtomicBool, got: &Mutex<Vec<u64>>, writes: &Mutex<u64>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut head, mut len, mut packed) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                len = text.trim().parse().ok()?;
            }
            packed |= lower.starts_with("content-encoding: gzip");
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body).ok()?;
        let answer = if head.contains("/write") {
            *writes.lock().unwrap() += 1;
            // Until it is told otherwise it takes a second for each batch.
            let begun = Instant::now();
            while slow.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(!packed, "the sink of this test does not compress");
            let text = String::from_utf8(body).unwrap();
            let number =
                |line: &str| line.split([' ', ',']).find_map(|part| part.strip_prefix("n="))?.parse::<u64>().ok();
            got.lock().unwrap().extend(text.lines().filter_map(number));
            "HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.8.10\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            let body = "{\"results\":[{\"statement_id\":0}]}";
            format!(
                "HTTP/1.1 200 OK\r\nX-Influxdb-Version: 1.8.10\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

#[test]
fn a_stop_with_much_queued_for_a_slow_store_is_quick_and_the_next_up_delivers_all_of_it() {
    let queued: u64 = std::env::var("TAPEDECK_QUEUED").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let store = Slow::start();
    let (port, http) = (free_port(), free_port());
    let home = Home::new(&format!(
        "[http]\nlisten = '127.0.0.1:{http}'\n[source.points]\nkind = 'http'\n{}\
         [sink.influx]\nkind = 'influx'\nurl = 'http://127.0.0.1:{}'\ndatabase = 'slow'\nbatch = 1000\ndialect = 1\n",
        web("web", port),
        store.port
    ));
    home.ok(&["up", "--no-validate"]);
    let all = [home.supervisor(), home.identity("web"), home.identity("deck")];
    for from in (0..queued).step_by(5_000) {
        let lines: String = (from..(from + 5_000).min(queued))
            .map(|n| format!("queued,n={n} v=1i {}\n", 1_700_000_000_000_000_000 + n))
            .collect();
        until("the points on the tape", || (post(http, &lines) == "204").then_some(()));
    }
    until("the store at work", || (*store.writes.lock().unwrap() > 0).then_some(()));
    let begun = Instant::now();
    let said = home.ok(&["down"]);
    eprintln!("down with {queued} records queued for a slow store: {:?}\n{}", begun.elapsed(), said.out);
    assert!(said.out.contains("they wait on the tape for the next up"), "{said:?}");
    home.is_clean(&all, &[port, http]);
    assert!((store.got.lock().unwrap().len() as u64) < queued);

    store.slow.store(false, Ordering::Relaxed);
    home.ok(&["up", "--no-validate"]);
    let here = || -> std::collections::BTreeSet<u64> { store.got.lock().unwrap().iter().copied().collect() };
    until("every point", || (here().len() as u64 == queued).then_some(()));
    let said = home.ok(&["down"]);
    assert!(!said.out.contains("wait on the tape"), "{said:?}");
}

fn post(port: u16, lines: &str) -> String {
    let url = format!("http://127.0.0.1:{port}/write?db=any");
    let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", &url];
    let mut curl = Command::new("curl").args(curl).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    curl.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap()
}
