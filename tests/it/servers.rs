//! Real servers for tests: `scripts/servers` starts them, on free ports, each with a folder of its own that goes with it.
//!
//! ```text
//! test process ──stdin──► scripts/servers up NAME --until-eof ──► server
//!              ◄─stdout── one line of JSON an answer
//! ```
//!
//! The end of the pipe is the end of the server: a handle that is dropped, a test process that ends, or one that is killed
//! leaves nothing behind. `shared()` is one server a kind and test process, started when the first test asks for it; each
//! test has a database of its own in it (`fresh_database`; for QuestDB tables, for PocketBase collections of `fresh_name`). What kills, stops or fills
//! a server takes one of its own (`private`).
//!
//! `None` is a server that cannot be had here: the test returns, and is named as skipped.

pub(crate) mod asking;
pub(crate) mod gate;
mod living;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::skipped::{name_it, skipped};

/// How a server of one's own is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options<'a> {
    /// The folder, an existing one that every user may enter; a temporary one by default.
    pub(crate) dir: Option<&'a Path>,
    /// Settings of the server: `work_mem=1MB` for PostgreSQL, `http.auth-enabled=true` for InfluxDB 1,
    /// `storage-write-timeout=1s` for InfluxDB 2, `cairo.max.uncommitted.rows=10` or `heap=1g` for QuestDB,
    /// `batch.enabled=true` for PocketBase, `user`, `password`, `cert` and `key` for Mosquitto, `target`, `job`, `interval` and
    /// `rules` for Prometheus.
    pub(crate) settings: &'a [&'a str],
}

/// A server under its own `scripts/servers`; it ends with the handle.
pub(crate) struct Server {
    name: &'static str,
    holder: Mutex<Holder>,
    /// What `scripts/servers` says of it: `ports`, `url`, `dsn`, `folder`, …
    facts: Value,
}

struct Holder {
    child: Child,
    /// `None` once it was closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pid: u32,
}

impl Server {
    /// `Err`: it cannot be had here, and why. Anything else that fails, fails the test.
    fn start(name: &'static str, options: &Options<'_>) -> Result<Server, String> {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers"));
        command.args(["up", name, "--until-eof", "--json"]);
        if let Some(dir) = options.dir {
            command.arg("--dir").arg(dir);
        }
        for setting in options.settings {
            command.args(["--set", &format!("{name}.{setting}")]);
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("scripts/servers needs python3: {error}"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Holder { child, input, output, pid: 0 };
        let report = holder.read();
        if let Some(reason) = report["unavailable"][name].as_str() {
            return Err(reason.to_owned());
        }
        let facts = report["servers"][name].clone();
        assert!(facts.is_object(), "{name}: {report}");
        holder.pid = pid(&facts);
        Ok(Server { name, holder: Mutex::new(holder), facts })
    }

    /// SIGKILL to the server and all of its processes; returns when they are gone. The data stays.
    pub(crate) fn kill(&self) {
        self.ask("kill", json!({}));
    }

    /// Ends it in order. The data stays.
    pub(crate) fn stop(&self) {
        self.ask("stop", json!({}));
    }

    /// Starts it again on the same data and ports, and waits until it is ready. One that still runs is stopped in order.
    pub(crate) fn restart(&self) {
        self.ask("restart", json!({}));
    }

    /// SIGSTOP to all of its processes: connections stay open and nothing answers.
    pub(crate) fn pause(&self) {
        self.ask("pause", json!({}));
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.ask("resume", json!({}));
    }

    /// The server's process, of PostgreSQL the postmaster. Another one after each `restart`.
    pub(crate) fn pid(&self) -> u32 {
        self.holder().pid
    }

    /// Its folder: data, `log` and what else it writes.
    pub(crate) fn folder(&self) -> &Path {
        Path::new(self.fact("folder"))
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.fact("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn version(&self) -> &str {
        self.fact("version")
    }

    fn port(&self, name: &str) -> u16 {
        u16::try_from(self.facts["ports"][name].as_u64().unwrap()).unwrap()
    }

    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_else(|| panic!("{}: no {name}: {}", self.name, self.facts))
    }

    fn create(&self, name: &str) -> Value {
        self.ask("create", json!({ "name": name }))
    }

    fn ask(&self, deed: &str, mut more: Value) -> Value {
        more["do"] = deed.into();
        more["server"] = self.name.into();
        let mut holder = self.holder();
        writeln!(holder.input.as_mut().unwrap(), "{more}").unwrap();
        let answer = holder.read();
        let ok = &answer["ok"];
        assert!(!ok.is_null(), "{} {deed}: {}\n{}", self.name, answer["error"], self.log());
        if ok["pid"].is_u64() {
            holder.pid = pid(ok);
        }
        ok.clone()
    }

    /// A test that failed here has left question and answer in step: the server still serves the others.
    fn holder(&self) -> MutexGuard<'_, Holder> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("scripts/servers: {error}: {line:?}"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn pid(facts: &Value) -> u32 {
    u32::try_from(facts["pid"].as_u64().unwrap()).unwrap()
}

/// A name that no other test of this process uses, in the same server.
pub(crate) fn fresh_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `$name` with `shared`, `private` and `private_with`; it is a `Server` by `Deref`.
macro_rules! server {
    ($(#[$doc:meta])* $kind:ident, $name:literal, $skipped:path) => {
        $(#[$doc])*
        pub(crate) struct $kind(Server);

        impl $kind {
            /// The one of this test process. `None`: it cannot be had here, and the test is named as skipped.
            #[track_caller]
            pub(crate) fn shared() -> Option<&'static $kind> {
                static SHARED: OnceLock<Result<$kind, String>> = OnceLock::new();
                match SHARED.get_or_init(|| Server::start($name, &Options::default()).map($kind)) {
                    Ok(server) => Some(server),
                    Err(reason) => {
                        $skipped(&format!("{}: {reason}", $name));
                        None
                    }
                }
            }

            /// One of one's own, to kill, stop and fill.
            #[track_caller]
            pub(crate) fn private() -> Option<$kind> {
                $kind::private_with(&Options::default())
            }

            #[track_caller]
            pub(crate) fn private_with(options: &Options<'_>) -> Option<$kind> {
                match Server::start($name, options) {
                    Ok(server) => Some($kind(server)),
                    Err(reason) => {
                        $skipped(&format!("{}: {reason}", $name));
                        None
                    }
                }
            }
        }

        impl std::ops::Deref for $kind {
            type Target = Server;

            fn deref(&self) -> &Server {
                &self.0
            }
        }
    };
}

server!(
    /// PostgreSQL 15 or newer. The user `postgres` needs no password; a role that a test makes needs its own.
    Postgres, "postgres", skipped);
server!(
    /// InfluxDB 1.x, without authentication unless `http.auth-enabled=true` is set.
    Influx1, "influxdb", skipped);
server!(
    /// InfluxDB 2.x, set up with one organisation and a token that may do everything. Only `make test-all` builds it: where
    /// it is missing nothing fails, also where nothing else may be skipped.
    Influx2, "influxdb2", name_it);
server!(
    /// The back end of a Grafana, which has no pages. As of `Influx2`: only `make test-all` builds it.
    Grafana, "grafana", name_it);
server!(
    /// Prometheus, which reads the metrics of `target` under the job `tapedeck`, and looks at `rules`, once a second.
    Prometheus, "prometheus", skipped);
server!(
    /// QuestDB. It has one database: a test has tables of its own names in it.
    Questdb, "questdb", skipped);
server!(
    /// PocketBase, its superuser made, its batches off as they come. It has one database: a test has collections of its own
    /// names in it, and a server of its own when it changes the settings.
    PocketBase, "pocketbase", skipped);
server!(
    /// Mosquitto 2, open to everybody unless `user` and `password` are set; its second port speaks TLS with `cert` and `key`.
    Mosquitto, "mosquitto", skipped);

/// An empty database of PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    /// `postgresql://postgres@127.0.0.1:PORT/NAME`
    pub(crate) dsn: String,
}

impl Postgres {
    /// `postgresql://postgres@127.0.0.1:PORT/postgres`
    pub(crate) fn dsn(&self) -> &str {
        self.fact("dsn")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "sql")
    }

    pub(crate) fn fresh_database(&self) -> Database {
        let made = self.create(&fresh_name("it"));
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Database { name: text("name"), dsn: text("dsn") }
    }

    /// What psql prints for the statements, unaligned and without headers; an error fails the test.
    pub(crate) fn psql(&self, dsn: &str, sql: &str) -> String {
        let out = Command::new("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", sql])
            .output()
            .unwrap();
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Influx1 {
    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }

    /// The name of an empty database.
    pub(crate) fn fresh_database(&self) -> String {
        let name = fresh_name("it");
        self.create(&name);
        name
    }
}

impl Grafana {
    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }
}

impl Prometheus {
    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }
}

impl Influx2 {
    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }

    /// The token of the operator.
    pub(crate) fn token(&self) -> &str {
        self.fact("token")
    }

    pub(crate) fn org(&self) -> &str {
        self.fact("org")
    }

    pub(crate) fn org_id(&self) -> &str {
        self.fact("org_id")
    }

    /// The name of an empty bucket.
    pub(crate) fn fresh_database(&self) -> String {
        let name = fresh_name("it");
        self.create(&name);
        name
    }
}

impl Questdb {
    /// `http://127.0.0.1:PORT`: ILP and `/exec`.
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }

    /// `postgresql://admin:quest@127.0.0.1:PORT/qdb`
    pub(crate) fn dsn(&self) -> &str {
        self.fact("dsn")
    }

    /// The port of PostgreSQL's protocol.
    pub(crate) fn sql_port(&self) -> u16 {
        Server::port(self, "sql")
    }

    /// The port of the small second web server: `/metrics`, and whether it is well.
    pub(crate) fn health_port(&self) -> u16 {
        Server::port(self, "health")
    }
}

impl PocketBase {
    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        self.fact("url")
    }

    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "http")
    }

    /// The superuser's name.
    pub(crate) fn email(&self) -> &str {
        self.fact("user")
    }

    /// The superuser's password.
    pub(crate) fn password(&self) -> &str {
        self.fact("password")
    }
}

impl Mosquitto {
    pub(crate) fn port(&self) -> u16 {
        Server::port(self, "mqtt")
    }

    /// The port that speaks TLS, where `cert` and `key` are set.
    pub(crate) fn tls_port(&self) -> u16 {
        Server::port(self, "tls")
    }
}
