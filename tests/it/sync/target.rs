//! The target's side of the sync against a real PocketBase: whatever can go wrong is told plainly, what was confirmed is there,
//! once, and what is refused is refused with the server's words.

mod breaking;
mod bulk;
mod limits;
mod login;
mod realtime;
mod schema;
mod store;
mod writing;

use std::sync::Arc;

pub(super) use realtime::Subscriber;

use serde_json::{Map, Value, json};
use tapedeck::config::Secret;
use tapedeck::sync::pocketbase::{Client, Collection, Field, Fields, Found, Kind, Order, Range, Target};
use tapedeck::sync::target::Change;
use tapedeck::sync::writer::{Broken, Writer, Written};
use tapedeck::sync::{Class, Document, Id, Trouble};

use crate::servers::{Options, PocketBase, fresh_name};

const ALL: (Order, usize) = (Order::Ids, 1_000);

/// One of one's own whose batches are on, as large as ours.
#[track_caller]
fn server() -> Option<PocketBase> {
    server_with(&[])
}

#[track_caller]
fn server_with(settings: &[&str]) -> Option<PocketBase> {
    let settings = [&["batch.enabled=true", "batch.maxRequests=200"], settings].concat();
    PocketBase::private_with(&Options { settings: &settings, ..Options::default() })
}

fn target(server: &PocketBase) -> Target {
    Target {
        url: server.url().to_owned(),
        email: Some(server.email().to_owned()),
        password: Some(Secret::new(server.password())),
        ..Target::default()
    }
}

fn client_of(target: &Target) -> Arc<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Arc::new(Client::new(target).unwrap())
}

fn client(server: &PocketBase) -> Arc<Client> {
    client_of(&target(server))
}

fn nobody(server: &PocketBase) -> Arc<Client> {
    client_of(&Target { url: server.url().to_owned(), ..Target::default() })
}

fn named<'a>(names: &'a [&'a str]) -> Fields<'a> {
    Fields { names, exact: &[] }
}

fn field(name: &str, kind: Kind) -> Field {
    Field { name: name.to_owned(), kind, required: false, max: None }
}

/// Prices of a day and an instrument.
fn prices(name: &str) -> Collection {
    Collection {
        name: name.to_owned(),
        fields: vec![
            Field { required: true, max: Some(20), ..field("symbol", Kind::Text) },
            field("ts", Kind::Date),
            field("close", Kind::Number),
            field("exact", Kind::Text),
            field("more", Kind::Json),
            field("live", Kind::Bool),
        ],
        key: vec!["symbol".to_owned(), "ts".to_owned()],
        time: Some("ts".to_owned()),
        ..Collection::default()
    }
}

/// Makes that collection, under a name of its own.
async fn made(client: &Client) -> String {
    let name = fresh_name("prices");
    assert_eq!(client.amend(&prices(&name)).await.unwrap(), []);
    name
}

/// A thousand a day, from 2026-01-01 on.
fn document(n: usize) -> Document {
    let (day, ms) = (1 + n / 1000, n % 1000);
    let symbol = format!("S{n}");
    let ts = format!("2026-01-{day:02} 00:00:00.{ms:03}Z");
    let body = json!({
        "symbol": symbol, "ts": ts, "close": n as f64 + 0.25, "exact": format!("{n}.000000000000000001"),
        "more": {"n": n, "none": null}, "live": n.is_multiple_of(2),
    });
    let Value::Object(body) = body else { unreachable!() };
    Document { id: Id::of([symbol.as_str(), ts.as_str()]), body, time_ns: 0 }
}

fn puts(range: std::ops::Range<usize>) -> Vec<Change> {
    range.map(|n| Change::Put(document(n))).collect()
}

/// The same with another value in one field.
fn with(n: usize, name: &str, value: Value) -> Change {
    let mut document = document(n);
    document.body.insert(name.to_owned(), value);
    Change::Put(document)
}

async fn write(client: &Arc<Client>, collection: &str, changes: &[Change]) -> Result<Written, Broken> {
    Writer::new(Arc::clone(client)).write(collection, changes).await
}

/// The trouble of writing one document.
async fn trouble(client: &Arc<Client>, collection: &str) -> Trouble {
    let broken = write(client, collection, &puts(0..1)).await.unwrap_err();
    assert_eq!(broken.written.confirmed(), 0);
    broken.trouble
}

#[track_caller]
fn says(trouble: &Trouble, class: Class, words: &[&str]) {
    assert_eq!(trouble.class, class, "{trouble:?}");
    let text = trouble.to_string();
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

/// All records of a range, page by page, in the fields of ours.
async fn read(client: &Client, collection: &str, range: Option<&Range>) -> Vec<Found> {
    let fields = ["symbol", "ts", "close", "exact", "more", "live"];
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page =
            client.page(collection, range, &named(&fields), (Order::Field, 1_000), after.as_ref()).await.unwrap();
        all.extend(page.records);
        match page.next {
            Some(place) => after = Some(place),
            None => return all,
        }
    }
}

/// What is there, by id.
async fn there(client: &Client, collection: &str) -> std::collections::BTreeMap<String, Map<String, Value>> {
    let all = read(client, collection, None).await;
    let count = all.len();
    let map: std::collections::BTreeMap<_, _> = all.into_iter().map(|found| (found.id, found.body)).collect();
    assert_eq!(map.len(), count, "none comes twice");
    map
}
