//! Each server starts, answers, survives a kill with its data, and leaves nothing behind, however its owner ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::asking::ask;
use super::{Influx1, Influx2, Options, PocketBase, Postgres, Prometheus, Questdb, Server, fresh_name};
use crate::support::until;

const SHORT: Duration = Duration::from_millis(500);

#[test]
fn postgres_keeps_what_it_confirmed_over_a_kill_and_is_gone_when_dropped() {
    let Some(server) = Postgres::private() else { return };
    let database = server.fresh_database();
    assert_eq!(database.dsn, format!("postgresql://postgres@127.0.0.1:{}/{}", server.port(), database.name));
    let ask = |sql: &str| server.psql(&database.dsn, sql);
    ask("create table t (n int primary key); insert into t select generate_series(1, 1000)");
    survives_a_kill(&server, || assert_eq!(ask("select count(*), sum(n) from t"), "1000|500500"));
    assert!(server.psql(&database.dsn, "show server_version").starts_with(server.version()));
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

#[test]
fn influx1_keeps_what_it_confirmed_over_a_kill_and_is_gone_when_dropped() {
    let Some(server) = Influx1::private() else { return };
    let database = server.fresh_database();
    let reply = server.write(&database, "t,host=a n=1i 1\nt,host=a n=2i 2\n");
    assert_eq!(reply.status, 204, "{reply:?}");
    survives_a_kill(&server, || {
        let found = server.query(&database, "select sum(n) from t");
        assert_eq!(found["series"][0]["values"][0][1], 3, "{found}");
    });
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

#[test]
fn influx2_keeps_what_it_confirmed_over_a_kill_and_is_gone_when_dropped() {
    let Some(server) = Influx2::private() else { return };
    let bucket = server.fresh_database();
    let reply = server.write(&bucket, "t,host=a n=1i 1\nt,host=a n=2i 2\n");
    assert_eq!(reply.status, 204, "{reply:?}");
    survives_a_kill(&server, || {
        let found = server.query(&bucket, "select sum(n) from t");
        assert_eq!(found["series"][0]["values"][0][1], 3, "{found}");
    });
    let buckets = ask(
        server.port(),
        "GET",
        &format!("/api/v2/buckets?orgID={}&name={bucket}", server.org_id()),
        &[("Authorization", &server.authorization())],
        "",
        Duration::from_secs(30),
    );
    assert_eq!(buckets.unwrap().status, 200, "{}", server.url());
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

#[test]
fn questdb_keeps_what_it_shows_over_a_kill_and_is_gone_when_dropped() {
    let Some(server) = Questdb::private() else { return };
    let table = fresh_name("t");
    let reply = server.write(&format!("{table},host=a n=1i 1000\n{table},host=a n=2i 2000\n"));
    assert_eq!(reply.status, 204, "{reply:?}");
    let sum = || server.exec(&format!("select sum(n) from {table}")).body;
    until("the rows to be applied", || sum().contains("[[3]]").then_some(()));
    survives_a_kill(&server, || {
        assert_eq!(server.query(&format!("select sum(n) from {table}")), serde_json::json!([[3]]));
    });
    let metrics = ask(server.health_port(), "GET", "/metrics", &[], "", Duration::from_secs(30)).unwrap();
    assert!(metrics.body.contains("questdb_"), "beside {}: {}", server.url(), metrics.body);
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

#[test]
fn pocketbase_keeps_what_it_confirmed_over_a_kill_and_is_gone_when_dropped() {
    let Some(server) = PocketBase::private() else { return };
    let fields = json!([{"name": "n", "type": "number"}]);
    server.call("POST", "/api/collections", &json!({"name": "t", "type": "base", "fields": fields}));
    server.call("POST", "/api/collections/t/records", &json!({"n": 3}));
    survives_a_kill(&server, || {
        let found = server.call("GET", "/api/collections/t/records?fields=n", &Value::Null);
        assert_eq!(found["items"], json!([{"n": 3}]), "{}", server.url());
    });
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

#[test]
fn prometheus_reads_what_it_is_told_to_over_a_kill_and_is_gone_when_dropped() {
    let (Some(other), Some(idle)) = (Prometheus::shared(), Prometheus::private()) else { return };
    let target = format!("target=127.0.0.1:{}", other.port());
    let Some(server) = Prometheus::private_with(&Options { settings: &[&target], ..Options::default() }) else {
        return;
    };
    let up = |server: &Prometheus| {
        let path = "/api/v1/query?query=up%7Bjob=%22tapedeck%22%7D";
        let reply = ask(server.port(), "GET", path, &[], "", Duration::from_secs(30)).unwrap();
        serde_json::from_str::<Value>(&reply.body).unwrap()["data"]["result"].clone()
    };
    survives_a_kill(&server, || {
        until("its target to be read", || (up(&server)[0]["value"][1] == "1").then_some(()));
    });
    assert_eq!(up(&idle), json!([]), "{}", idle.url());
    is_gone_when_dropped(server.pid(), server.folder().to_owned(), server);
}

fn survives_a_kill(server: &Server, has_its_data: impl Fn()) {
    has_its_data();
    let before = server.pid();
    server.kill();
    assert!(!is_there(before), "{before}");
    server.restart();
    assert_ne!(server.pid(), before);
    has_its_data();
    let killed = server.pid();
    server.stop();
    assert!(!is_there(killed), "{killed}");
    server.restart();
    has_its_data();
}

fn is_gone_when_dropped<T>(pid: u32, folder: PathBuf, server: T) {
    assert!(is_there(pid) && folder.exists());
    drop(server);
    assert!(!is_there(pid), "process {pid} outlived its handle");
    assert!(!folder.parent().unwrap().exists(), "{} outlived its handle", folder.display());
}

/// A zombie is not: what its own parent, or the system's first process, makes of it is not ours.
fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_paused_server_keeps_connections_and_answers_nothing_until_it_is_resumed() {
    let Some(server) = Influx1::private() else { return };
    let ping = |patience| ask(server.port(), "GET", "/ping", &[], "", patience);
    assert_eq!(ping(Duration::from_secs(30)).unwrap().status, 204);
    server.pause();
    assert!(ping(SHORT).unwrap_err().is_timeout());
    server.resume();
    assert_eq!(ping(Duration::from_secs(30)).unwrap().status, 204);
    assert!(server.url().ends_with(&server.port().to_string()));
}

/// Its sessions are processes of their own, which go on when only the postmaster stands still.
#[test]
fn a_paused_postgres_stops_its_sessions_too() {
    let Some(server) = Postgres::private() else { return };
    let mut session = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", "-d", server.dsn()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = session.stdin.take().unwrap();
    let mut output = BufReader::new(session.stdout.take().unwrap());
    let (send, answers) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 && send.send(std::mem::take(&mut line)).is_ok() {}
    });
    let mut say = |sql: &str| std::io::Write::write_all(&mut input, sql.as_bytes()).unwrap();
    say("select 'one';\n");
    assert_eq!(answers.recv_timeout(Duration::from_secs(30)).unwrap(), "one\n");
    server.pause();
    say("select 'two';\n");
    assert!(answers.recv_timeout(SHORT).is_err());
    server.resume();
    assert_eq!(answers.recv_timeout(Duration::from_secs(30)).unwrap(), "two\n");
    drop(input);
    session.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn a_shared_server_has_a_database_for_each_test_and_asks_roles_for_their_password() {
    let Some(server) = Postgres::shared() else { return };
    let (one, two) = (server.fresh_database(), server.fresh_database());
    assert_ne!(one.name, two.name);
    server.psql(&one.dsn, "create table only_here (n int)");
    assert_eq!(server.psql(&two.dsn, "select to_regclass('only_here') is null"), "t");
    let role = fresh_name("role");
    server.psql(server.dsn(), &format!("create role {role} login password 'right'"));
    let as_role = |password: &str| {
        let dsn = format!("postgresql://{role}:{password}@127.0.0.1:{}/{}", server.port(), one.name);
        Command::new("psql").args(["-X", "-c", "select 1", "-d", &dsn]).output().unwrap()
    };
    assert!(as_role("right").status.success(), "{}", stderr(&as_role("right")));
    assert!(stderr(&as_role("wrong")).contains("password authentication failed"));
}

#[test]
fn a_shared_influxdb_has_a_database_for_each_test() {
    if let Some(server) = Influx1::shared() {
        let (one, two) = (server.fresh_database(), server.fresh_database());
        assert_eq!(server.write(&one, "only_here n=1i 1").status, 204);
        assert!(server.query(&two, "show measurements")["series"].is_null());
    }
    if let Some(server) = Influx2::shared() {
        let (one, two) = (server.fresh_database(), server.fresh_database());
        assert_eq!(server.write(&one, "only_here n=1i 1").status, 204);
        assert!(server.query(&two, "show measurements")["series"].is_null());
    }
}

#[test]
fn a_shared_pocketbase_has_its_batches_off_as_they_come() {
    let Some(server) = PocketBase::shared() else { return };
    let request = json!({"method": "POST", "url": format!("/api/collections/{}/records", fresh_name("c"))});
    let reply = server.send("POST", "/api/batch", &json!({"requests": [request]}));
    assert!(reply.status == 403 && reply.body.contains("Batch requests are not allowed."), "{reply:?}");
}

#[test]
fn two_of_a_kind_at_once_do_not_clash() {
    let start = || {
        std::thread::scope(|scope| {
            let one = scope.spawn(Influx1::private);
            let two = scope.spawn(Influx1::private);
            Some((one.join().unwrap()?, two.join().unwrap()?))
        })
    };
    let Some((one, two)) = start() else { return };
    assert_ne!(one.port(), two.port());
    let database = one.fresh_database();
    assert_eq!(one.write(&database, "t n=1i 1").status, 204);
    assert_eq!(two.write(&database, "t n=1i 1").status, 404, "it is of the other");
    drop(one);
    two.fresh_database();
}

#[test]
fn settings_reach_the_servers() {
    if let Some(server) = Postgres::private_with(&Options { settings: &["work_mem=1234kB"], ..Options::default() }) {
        assert_eq!(server.psql(server.dsn(), "show work_mem"), "1234kB");
    }
    if let Some(server) =
        Influx1::private_with(&Options { settings: &["http.auth-enabled=true"], ..Options::default() })
    {
        let reply = ask(server.port(), "GET", "/query?q=show%20databases", &[], "", Duration::from_secs(30)).unwrap();
        assert!(reply.status == 403 && reply.body.contains("create admin user first"), "{reply:?}");
    }
    if let Some(server) = Questdb::private_with(&Options {
        settings: &["cairo.max.uncommitted.rows=77", "heap=200m"],
        ..Options::default()
    }) {
        let shown =
            server.query("select value from (show parameters) where property_path = 'cairo.max.uncommitted.rows'");
        assert_eq!(shown, serde_json::json!([["77"]]), "{}", server.dsn());
        assert!(server.dsn().contains(&server.sql_port().to_string()));
    }
    if let Some(server) = PocketBase::private_with(&Options {
        settings: &["batch.enabled=true", "batch.maxRequests=77", "meta.appName=Ours"],
        ..Options::default()
    }) {
        let shown = server.call("GET", "/api/settings?fields=batch,meta", &Value::Null);
        assert_eq!((&shown["batch"]["enabled"], &shown["batch"]["maxRequests"]), (&json!(true), &json!(77)), "{shown}");
        assert_eq!(shown["meta"]["appName"], "Ours");
    }
}

#[test]
fn a_folder_of_ones_own_is_used_and_what_else_lies_in_it_stays() {
    let home = tempfile::Builder::new().permissions(everybody_enters()).tempdir().unwrap();
    std::fs::write(home.path().join("mine"), "kept").unwrap();
    let Some(server) = Influx1::private_with(&Options { dir: Some(home.path()), ..Options::default() }) else { return };
    assert_eq!(server.folder(), home.path().canonicalize().unwrap().join("influxdb"));
    drop(server);
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"]);
}

fn everybody_enters() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o711)
}

const HOLDS: &str = "TAPEDECK_TEST_HOLDS_A_SERVER";

/// The other end of the two tests below: a test process that holds a server until it is killed.
fn hold_until_killed() {
    if std::env::var_os(HOLDS).is_none() {
        return;
    }
    let server = Postgres::shared().unwrap();
    let holder = server.holder().child.id();
    println!("held {} {holder} {}", server.pid(), server.folder().display());
    loop {
        std::thread::park();
    }
}

/// A child of this test that holds a server: itself, the server's PID, that of `scripts/servers`, and the folder.
fn holder(test: &str) -> Option<(std::process::Child, u32, u32, PathBuf)> {
    Postgres::shared()?;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(HOLDS, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.into_iter().find_map(|line| line.split_once("held ").map(|(_, line)| line.to_owned())).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (server, holder) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    assert!(is_there(server) && is_there(holder));
    Some((child, server, holder, PathBuf::from(words[2])))
}

#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    hold_until_killed();
    let Some((mut child, server, _, folder)) = holder("servers::living::a_killed_test_process_leaves_nothing_behind")
    else {
        return;
    };
    child.kill().unwrap();
    child.wait().unwrap();
    until("the server to end", || (!is_there(server)).then_some(()));
    until("its folder to go", || (!folder.parent().unwrap().exists()).then_some(()));
}

#[test]
fn a_killed_holder_takes_its_server_with_it_and_the_next_start_its_folder() {
    hold_until_killed();
    let test = "servers::living::a_killed_holder_takes_its_server_with_it_and_the_next_start_its_folder";
    let Some((mut child, server, holder, folder)) = holder(test) else { return };
    kill_process(Pid::from_raw(i32::try_from(holder).unwrap()).unwrap(), Signal::KILL).unwrap();
    until("the server to end", || (!is_there(server)).then_some(()));
    drop(Postgres::private());
    // That start, or one of another test.
    until("its folder to go", || (!folder.parent().unwrap().exists()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn up_is_the_same_twice_status_shows_it_and_down_removes_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("d");
    let dir = dir.to_str().unwrap();
    let servers = |words: &[&str]| servers(&[words, &["influxdb", "--json", "--dir", dir][..]].concat(), None);
    let first = servers(&["up"]);
    if first.status.code() == Some(3) {
        crate::skipped::skipped(&stderr(&first));
        return;
    }
    let first = json(&first);
    let second = json(&servers(&["up"]));
    assert_eq!(first["servers"], second["servers"]);
    let status = json(&servers(&["status"]));
    let (shown, pid) = (&status[0], &first["servers"]["influxdb"]["pid"]);
    assert_eq!(&shown["pid"], pid);
    assert_eq!(shown["ready"], true, "{shown}");
    assert!(shown["resident_bytes"].as_u64().unwrap() > 1 << 20, "{shown}");
    servers(&["down"]);
    assert!(!is_there(u32::try_from(pid.as_u64().unwrap()).unwrap()));
    assert!(!Path::new(dir).exists());
    assert_eq!(json(&servers(&["status"])), serde_json::json!([]));
}

#[test]
fn a_server_that_cannot_be_had_is_named_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("d");
    let out = servers(&["up", "questdb", "--json", "--dir", dir.to_str().unwrap()], Some(home.path()));
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!(json(&out)["unavailable"]["questdb"], "not installed: scripts/servers install questdb");
    assert!(!dir.exists());
}

/// Another checkout may know kinds of servers that this one does not.
#[test]
fn what_a_newer_version_left_is_let_alone_and_hinders_nobody() {
    let home = tempfile::tempdir().unwrap();
    let theirs = home.path().join(format!("tapedeck-servers-{}/theirs", rustix::process::geteuid().as_raw()));
    std::fs::create_dir_all(&theirs).unwrap();
    let record = r#"{"made": true, "holder": [1, 1], "servers": {"oracle": {}}}"#;
    std::fs::write(theirs.join("servers.json"), record).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers");
    let mut command = Command::new(script);
    command.env("TAPEDECK_CACHE", home.path()).env("TMPDIR", home.path());
    let out = command.args(["up", "questdb", "--json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!(json(&out)["unavailable"]["questdb"], "not installed: scripts/servers install questdb");
    assert!(theirs.exists());
}

/// QuestDB ends with 55 when its port is taken, while the other server answers the probe.
#[test]
fn a_port_that_another_took_is_neither_believed_nor_the_end() {
    let Some(other) = Questdb::shared() else { return };
    let script = format!(
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, 'scripts')\n\
         from testservers import cli, process\n\
         free, asked = process.free_ports, []\n\
         def first_taken(count, taken):\n    \
             asked.append(count)\n    \
             return [{}, *free(count - 1)] if len(asked) == 1 else free(count, taken)\n\
         process.free_ports = first_taken\n\
         code = cli.main(['up', 'questdb', '--until-eof', '--json'])\n\
         print(len(asked))\n",
        other.port()
    );
    let out = Command::new("python3")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = json(&out);
    assert_ne!(report["servers"]["questdb"]["ports"]["http"], other.port(), "{}", stderr(&out));
}

fn servers(words: &[&str], cache: Option<&Path>) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers"));
    if let Some(cache) = cache {
        command.env("TAPEDECK_CACHE", cache);
    }
    command.args(words).output().unwrap()
}

/// The first line.
fn json(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {out:?}"))
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}
