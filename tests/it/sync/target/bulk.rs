//! Statements in the place of batches.

use tapedeck::sync::pocketbase::Sql;

use super::realtime::Subscriber;
use super::writing::HOSTILE;
use super::*;

fn bulk(client: &Arc<Client>) -> Writer<Sql> {
    let fields = prices("any").fields;
    Writer::new(Sql::new(Arc::clone(client), fields).unwrap()).batches_of(1_000)
}

#[tokio::test]
async fn statements_write_what_batches_write() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let (by_batch, by_sql) = (made(&client).await, made(&client).await);
    let mut changes = puts(0..600);
    for (n, text) in HOSTILE.iter().enumerate() {
        changes.push(with(1_000 + n, "exact", json!(text)));
        changes.push(with(2_000 + n, "more", json!({*text: [text, null, 1.5e300, -0.0, true]})));
    }
    changes.push(with(3_000, "more", json!("x".repeat(20_000))));
    changes.push(with(3_001, "ts", json!("2026-01-01T10:11:12.987654Z")));
    changes.push(with(3_002, "close", json!(-123_456_789.012_345_68)));
    changes.push(with(3_003, "close", Value::Null));
    changes.push(with(3_004, "live", Value::Null));
    changes.push(with(3_005, "close", json!(9_007_199_254_740_993_i64)));
    let batches = write(&client, &by_batch, &changes).await.unwrap();
    let statements = bulk(&client).write(&by_sql, &changes).await.unwrap();
    assert_eq!((batches.confirmed(), statements.confirmed()), (changes.len(), changes.len()));
    let (one, other) = (there(&client, &by_batch).await, there(&client, &by_sql).await);
    assert_eq!(one.len(), changes.len());
    for (id, body) in &one {
        assert_eq!(Some(body), other.get(id), "{id}");
    }
    // Changed and deleted, in one call.
    let more = [with(0, "close", json!(1)), Change::Delete(document(1).id), with(2, "exact", json!("{:x}"))];
    assert_eq!(bulk(&client).write(&by_sql, &more).await.unwrap().confirmed(), 3);
    let after = there(&client, &by_sql).await;
    assert_eq!((after.len(), &after[document(0).id.as_str()]["close"]), (changes.len() - 1, &json!(1)));
    assert_eq!(after[document(2).id.as_str()]["exact"], "{:x}");
}

#[tokio::test]
async fn what_cannot_be_there_is_refused_and_the_rest_is_there() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut theirs = Value::Object(document(40).body);
    theirs["id"] = "madebyanother00".into();
    server.call("POST", &format!("/api/collections/{name}/records"), &theirs);
    let mut changes = puts(0..100);
    changes[7] = with(7, "close", json!("abc"));
    changes[8] = with(8, "symbol", json!(""));
    changes[9] = with(9, "unknown", json!(1));
    let written = bulk(&client).write(&name, &changes).await.unwrap();
    let refused: Vec<_> = written.refused().collect();
    let places: Vec<usize> = refused.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [7, 8, 9, 40]);
    for (at, words) in [
        (0, "close: `\"abc\"` is no number"),
        (1, "symbol: Cannot be blank."),
        (2, "unknown: is no field"),
        (3, "UNIQUE constraint"),
    ] {
        assert!(refused[at].1.contains(words), "{refused:?}");
    }
    assert_eq!((written.confirmed(), client.count(&name, None).await.unwrap()), (96, 97));
    let broken = bulk(&client).write("nowhere", &puts(0..1)).await.unwrap_err();
    says(&broken.trouble, Class::Setup, &["no such table: nowhere", "without `mode = \"bulk\"`"]);
}

#[tokio::test]
async fn realtime_is_not_told_of_statements() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut subscriber = Subscriber::of(&server, &name).await;
    bulk(&client).write(&name, &puts(0..10)).await.unwrap();
    write(&client, &name, &puts(20..21)).await.unwrap();
    let event = subscriber.next().await;
    assert_eq!(event["record"]["id"], document(20).id.as_str(), "{event}");
}
