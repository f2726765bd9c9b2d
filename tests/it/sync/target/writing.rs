//! Documents written and read back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn documents_are_there_once_equal_and_read_back_page_by_page_day_by_day() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let written = write(&client, &name, &puts(0..3_500)).await.unwrap();
    assert_eq!((written.confirmed(), written.requests), (3_500, 18));
    // Written again nothing becomes two.
    write(&client, &name, &puts(0..500)).await.unwrap();
    let all = there(&client, &name).await;
    assert_eq!(all.len(), 3_500);
    for n in 0..3_500 {
        let document = document(n);
        assert_eq!(all[document.id.as_str()], document.body, "{n}");
    }
    let day = |day: u32| json!(format!("2026-01-{day:02} 00:00:00.000Z"));
    for (from, to, count) in [(1, 2, 1_000), (2, 4, 2_000), (4, 9, 500), (8, 9, 0)] {
        let range = Range { field: "ts".to_owned(), from: Some(day(from)), to: Some(day(to)) };
        assert_eq!(client.count(&name, Some(&range)).await.unwrap(), count);
        let found = read(&client, &name, Some(&range)).await;
        assert_eq!(found.len() as u64, count);
        assert!(found.is_sorted_by_key(|found| found.body["ts"].as_str().unwrap().to_owned()));
    }
    assert_eq!(client.count(&name, None).await.unwrap(), 3_500);
}

/// More records of one moment than a page holds.
#[tokio::test]
async fn records_of_one_moment_are_read_whole() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let changes: Vec<Change> = (0..2_300).map(|n| with(n, "ts", json!("2026-02-01 00:00:00.000Z"))).collect();
    assert_eq!(write(&client, &name, &changes).await.unwrap().confirmed(), 2_300);
    let range = Range { field: "ts".to_owned(), from: Some(json!("2026-02-01 00:00:00.000Z")), to: None };
    let found = read(&client, &name, Some(&range)).await;
    let ids: std::collections::BTreeSet<_> = found.iter().map(|found| &found.id).collect();
    assert_eq!((found.len(), ids.len()), (2_300, 2_300));
}

#[tokio::test]
async fn what_the_server_refuses_is_told_in_its_words_and_the_rest_is_there() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    // Of somebody else, with a key that one of ours has.
    let theirs = document(40);
    let mut body = Value::Object(theirs.body.clone());
    body["id"] = "madebyanother00".into();
    server.call("POST", &format!("/api/collections/{name}/records"), &body);
    let mut changes = puts(0..250);
    changes[3] = with(3, "symbol", json!(""));
    changes[199] = with(199, "symbol", json!("much too long for a symbol"));
    changes[200] = with(200, "symbol", Value::Null);
    let written = write(&client, &name, &changes).await.unwrap();
    let refused: Vec<_> = written.refused().map(|(place, words)| (place, words.to_owned())).collect();
    let said = |place, words: &str| (place, format!("Failed to create record. {words}"));
    assert_eq!(
        refused,
        [
            said(3, "symbol: Cannot be blank."),
            said(40, "symbol: Value must be unique.; ts: Value must be unique."),
            said(199, "symbol: Must be no more than 20 character(s)."),
            said(200, "symbol: Cannot be blank."),
        ]
    );
    assert_eq!((written.confirmed(), client.count(&name, None).await.unwrap()), (246, 247));
    let missing = fresh_name("nowhere");
    let words = ["Missing collection context. (404)", "no such collection: `tapedeck sync init` makes it"];
    says(&trouble(&client, &missing).await, Class::Setup, &words);
    says(&client.count(&missing, None).await.unwrap_err(), Class::Setup, &["counting collection nowhere_", "404"]);
    says(&trouble(&client, "a/b").await, Class::Setup, &["can be no name of a collection"]);
}

#[tokio::test]
async fn records_are_deleted_and_those_that_are_gone_already_count_as_that() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    write(&client, &name, &puts(0..10)).await.unwrap();
    let mut changes: Vec<Change> = (5..15).map(|n| Change::Delete(document(n).id)).collect();
    changes.push(with(20, "close", json!(1)));
    assert_eq!(write(&client, &name, &changes).await.unwrap().confirmed(), 11);
    let left = there(&client, &name).await;
    let expected = (0..5).chain([20]).map(|n| document(n).id.to_string()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(left.into_keys().collect::<std::collections::BTreeSet<_>>(), expected);
}

/// Texts that would end a filter, a statement or a line come back as they were, also where reading goes by them.
#[tokio::test]
async fn hostile_texts_are_kept_and_read_by() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let mut wanted = prices(&fresh_name("hostile"));
    (wanted.fields[0].max, wanted.time) = (None, Some("symbol".to_owned()));
    client.amend(&wanted).await.unwrap();
    let changes: Vec<Change> = HOSTILE.iter().enumerate().map(|(n, text)| with(n, "symbol", json!(text))).collect();
    assert_eq!(write(&client, &wanted.name, &changes).await.unwrap().confirmed(), HOSTILE.len());
    let all = there(&client, &wanted.name).await;
    for (n, text) in HOSTILE.iter().enumerate() {
        assert_eq!(all[document(n).id.as_str()]["symbol"], *text, "{n}");
        let range =
            Range { field: "symbol".to_owned(), from: Some(json!(text)), to: Some(json!(format!("{text}\u{1}"))) };
        let found = read(&client, &wanted.name, Some(&range)).await;
        assert!(found.iter().any(|found| found.body["symbol"] == *text), "{text:?}: {found:?}");
    }
}

pub(super) const HOSTILE: [&str; 14] = [
    "it's",
    "\"; DROP TABLE c; --",
    "'); DELETE FROM c; --",
    "back\\slash\\'",
    "{:p} {:id}",
    "{{c}} [[symbol]]",
    "line\nbreak\ttab\r",
    "zażółć gęślą jaźń 🦀",
    "@request.auth.id",
    "%27 && 1=1",
    "null",
    "a,b|c",
    "//comment",
    "\u{202e}rtl",
];

#[tokio::test]
async fn many_requests_go_by_one_connection() {
    let Some(server) = server() else { return };
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", door.local_addr().unwrap());
    let (opened, port) = (Arc::new(AtomicUsize::new(0)), server.port());
    let count = Arc::clone(&opened);
    let passing = tokio::spawn(async move {
        loop {
            let (mut from, _) = door.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let mut to = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let client = client_of(&Target { url, ..target(&server) });
    let name = made(&client).await;
    let written = Writer::new(Arc::clone(&client)).batches_of(10).write(&name, &puts(0..300)).await.unwrap();
    assert_eq!((written.confirmed(), written.requests), (300, 30));
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    passing.abort();
}

#[tokio::test]
async fn a_pause_between_requests_is_kept() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut writer = Writer::new(Arc::clone(&client)).batches_of(10).pause(Duration::from_millis(50));
    let began = Instant::now();
    assert_eq!(writer.write(&name, &puts(0..50)).await.unwrap().requests, 5);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}
