//! What the server's settings allow, and what it says when that is too little.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::disk::SmallDisk;

fn set(server: &PocketBase, batch: Value) {
    server.call("PATCH", "/api/settings", &json!({ "batch": batch }));
}

#[tokio::test]
async fn batches_that_are_off_are_told_and_switched_on_when_asked_to() {
    let Some(server) = PocketBase::private() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let limits = client.limits().await.unwrap();
    assert_eq!((limits.enabled, limits.requests, limits.timeout.as_secs()), (false, 50, 3));
    let words =
        ["Batch requests are not allowed. (403)", "`tapedeck sync init` offers to switch batches on", "Settings"];
    says(&trouble(&client, &name).await, Class::Setup, &words);
    let before = server.call("GET", "/api/settings", &Value::Null);
    let limits = client.allow_batches(200).await.unwrap();
    assert_eq!((limits.enabled, limits.requests), (true, 200));
    let after = server.call("GET", "/api/settings", &Value::Null);
    let mut expected = before;
    expected["batch"]["enabled"] = true.into();
    expected["batch"]["maxRequests"] = 200.into();
    assert_eq!(after, expected, "and nothing else");
    assert_eq!(write(&client, &name, &puts(0..250)).await.unwrap().requests, 2);
}

#[tokio::test]
async fn the_number_of_requests_that_it_allows_is_obeyed_and_learnt_when_it_changes() {
    let Some(server) = server_with(&["batch.maxRequests=30"]) else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut writer = Writer::new(Arc::clone(&client));
    let written = writer.write(&name, &puts(0..100)).await.unwrap();
    assert_eq!((written.confirmed(), written.requests), (100, 4));
    set(&server, json!({"maxRequests": 9}));
    let written = writer.write(&name, &puts(100..130)).await.unwrap();
    assert_eq!((written.confirmed(), writer.size()), (30, 9), "{} requests", written.requests);
    assert_eq!(client.count(&name, None).await.unwrap(), 130);
}

#[tokio::test]
async fn the_size_of_a_body_is_obeyed_and_one_record_above_it_is_refused() {
    let Some(server) = server_with(&["batch.maxBodySize=4000"]) else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut changes = puts(0..100);
    changes[50] = with(50, "more", json!("x".repeat(5_000)));
    let written = write(&client, &name, &changes).await.unwrap();
    let refused: Vec<_> = written.refused().collect();
    assert_eq!((refused.len(), written.confirmed()), (1, 99), "{refused:?}");
    assert!(refused[0].0 == 50 && refused[0].1.contains("that the target takes in one request"), "{refused:?}");
    // Lowered where we do not know it.
    set(&server, json!({"maxBodySize": 900}));
    let mut writer = Writer::new(Arc::clone(&client));
    assert_eq!(writer.write(&name, &puts(200..230)).await.unwrap().confirmed(), 30);
    let written = writer.write(&name, &[with(300, "more", json!("x".repeat(1_000)))]).await.unwrap();
    assert_eq!(written.refused().count(), 1, "{written:?}");
}

#[tokio::test]
async fn too_many_requests_are_told_and_superusers_are_exempt() {
    let Some(server) = server() else { return };
    let (admin, nobody) = (client(&server), nobody(&server));
    let mut open = prices(&fresh_name("open"));
    open.rules.create = Some(String::new());
    open.rules.update = Some(String::new());
    admin.amend(&open).await.unwrap();
    let rules = json!([{"label": "/api/batch", "audience": "", "duration": 60, "maxRequests": 1}]);
    server.call("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": true, "rules": rules}}));
    let mut writer = Writer::new(Arc::clone(&nobody)).batches_of(10);
    let broken = writer.write(&open.name, &puts(0..20)).await.unwrap_err();
    says(&broken.trouble, Class::RateLimit, &["Too Many Requests. (429)", "log in as a superuser"]);
    assert!(broken.written.confirmed() == 10 && broken.trouble.passes() && broken.trouble.wait.is_none(), "{broken:?}");
    let mut writer = Writer::new(Arc::clone(&admin)).batches_of(1);
    assert_eq!(writer.write(&open.name, &puts(0..20)).await.unwrap().requests, 20);
    // Creating, too, within a batch.
    let rules = json!([{"label": "*:create", "audience": "", "duration": 60, "maxRequests": 3}]);
    server.call("PATCH", "/api/settings", &json!({"rateLimits": {"enabled": true, "rules": rules}}));
    let broken = write(&nobody, &open.name, &puts(30..40)).await.unwrap_err();
    says(&broken.trouble, Class::RateLimit, &["429", "Rate limits"]);
}

/// Its database, held by somebody else until it is dropped.
struct Held(Child);

impl Held {
    fn of(server: &PocketBase) -> Held {
        let script = "import sqlite3, sys\n\
            held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
            held.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(server.folder().join("data/data.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "held\n");
        Held(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn batches_that_take_too_long_there_are_halved_and_all_is_there_in_the_end() {
    let Some(server) = server_with(&["batch.timeout=1"]) else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut writer = Writer::new(Arc::clone(&client));
    let held = Held::of(&server);
    let holding = std::thread::spawn(move || {
        // Longer than two batches may take: the first one is given up there, whenever it begins.
        std::thread::sleep(Duration::from_millis(2_500));
        drop(held);
    });
    let written = writer.write(&name, &puts(0..400)).await.unwrap();
    holding.join().unwrap();
    assert_eq!(written.confirmed(), 400);
    assert!(writer.size() <= 100, "{}", writer.size());
    assert_eq!(client.count(&name, None).await.unwrap(), 400);
    // One that is slow on the way makes them smaller once more.
    for _ in 0..10 {
        writer.write(&name, &puts(0..5_000)).await.unwrap();
        if writer.size() == 200 {
            return;
        }
    }
    panic!("never larger again: {}", writer.size());
}

#[tokio::test]
async fn a_database_that_somebody_holds_is_the_servers_trouble_and_no_record_is_refused_for_it() {
    let Some(server) = server_with(&["batch.timeout=1"]) else { return };
    let client = client(&server);
    let name = made(&client).await;
    let held = Held::of(&server);
    let words = ["writing one record: Batch transaction failed. (400)", "took longer", "what keeps its database busy"];
    says(&trouble(&client, &name).await, Class::Server, &words);
    drop(held);
    assert_eq!(write(&client, &name, &puts(0..1)).await.unwrap().confirmed(), 1);
}

#[tokio::test]
async fn a_full_disk_there_is_told_no_record_is_refused_for_it_and_it_passes() {
    let Some(disk) = SmallDisk::new("64m") else { return };
    let settings = ["batch.enabled=true", "batch.maxRequests=200", "batch.timeout=30"];
    let options = Options { dir: Some(disk.path()), settings: &settings };
    let Some(server) = PocketBase::private_with(&options) else { return };
    let client = client(&server);
    let name = made(&client).await;
    write(&client, &name, &puts(0..50)).await.unwrap();
    let filler = disk.fill();
    // Its log of writes has some room left in it.
    let heavy = |n| with(n, "more", json!("x".repeat(20_000)));
    let mut n = 100;
    let broken = loop {
        let changes: Vec<Change> = (n..n + 50).map(heavy).collect();
        match write(&client, &name, &changes).await {
            Ok(written) => assert_eq!(written.confirmed(), 50),
            Err(broken) => break broken,
        }
        n += 50;
        assert!(n < 10_000, "the disk is not full");
    };
    says(&broken.trouble, Class::Server, &["gives no reason", "disk is full"]);
    assert_eq!(broken.written.refused().count(), 0);
    assert!(broken.trouble.passes());
    drop(filler);
    let changes: Vec<Change> = (n..n + 50).map(heavy).collect();
    assert_eq!(write(&client, &name, &changes).await.unwrap().confirmed(), 50);
    assert_eq!(client.count(&name, None).await.unwrap() as usize, 50 + n + 50 - 100);
    drop(server);
}

#[tokio::test]
async fn a_server_that_is_away_and_a_stranger_on_its_port_are_told_apart() {
    let Some(server) = PocketBase::private() else { return };
    let client = client(&server);
    server.stop();
    let words = [server.url(), "is it running"];
    says(&client.hello().await.unwrap_err(), Class::Connection, &words);
    says(&client.limits().await.unwrap_err(), Class::Connection, &words);
    assert!(client.hello().await.unwrap_err().passes());

    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        for (status, body) in [("200 OK", "hello"), ("404 Not Found", "<h1>no</h1>"), ("502 Bad Gateway", "")] {
            let (mut stream, _) = stranger.accept().unwrap();
            std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                .unwrap();
        }
    });
    let client = client_of(&Target { url, ..Target::default() });
    let no = ["is no PocketBase: check `url`"];
    says(&client.hello().await.unwrap_err(), Class::Setup, &no);
    says(&client.compare(&prices("x")).await.unwrap_err(), Class::Setup, &no);
    says(&client.hello().await.unwrap_err(), Class::Server, &["502", "what stands between"]);
    answering.join().unwrap();
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_after_the_timeout() {
    let Some(server) = PocketBase::private() else { return };
    let timeout = tapedeck::config::units::Interval(Duration::from_secs(2));
    let client = client_of(&Target { timeout, ..target(&server) });
    client.hello().await.unwrap();
    server.pause();
    says(&client.hello().await.unwrap_err(), Class::Connection, &["did not answer within 2s"]);
    server.resume();
    server.call("GET", "/api/health", &Value::Null);
    client.hello().await.unwrap();
}
