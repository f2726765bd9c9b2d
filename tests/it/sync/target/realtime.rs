//! What somebody who is subscribed to a collection sees of our writing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// A subscriber of all records of a collection, as the server's superuser.
pub(in crate::sync) struct Subscriber {
    stream: reqwest::Response,
    unread: String,
}

impl Subscriber {
    pub(in crate::sync) async fn of(server: &PocketBase, collection: &str) -> Subscriber {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let stream = http.get(format!("{}/api/realtime", server.url())).send().await.unwrap();
        let mut subscriber = Subscriber { stream, unread: String::new() };
        let hello = subscriber.next().await;
        let wanted = json!({"clientId": hello["clientId"], "subscriptions": [format!("{collection}/*")]});
        server.call("POST", "/api/realtime", &wanted);
        subscriber
    }

    /// The data of the next event.
    pub(in crate::sync) async fn next(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:")).map(str::to_owned);
                self.unread = rest.to_owned();
                if let Some(data) = data {
                    return serde_json::from_str(&data).unwrap();
                }
                continue;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.stream.chunk()).await;
            let chunk = chunk.expect("an event").unwrap().expect("the stream goes on");
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Those until each of these records had one, by record: events may come in another order than records were written in.
    pub(in crate::sync) async fn until(
        &mut self,
        ids: impl IntoIterator<Item = String>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut open: BTreeSet<String> = ids.into_iter().collect();
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while !open.is_empty() {
            let event = self.next().await;
            let id = event["record"]["id"].as_str().unwrap().to_owned();
            open.remove(&id);
            seen.entry(id).or_default().push(event["action"].as_str().unwrap().to_owned());
        }
        seen
    }
}

#[tokio::test]
async fn each_change_is_seen_once_also_when_a_batch_had_to_be_sent_in_parts() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut subscriber = Subscriber::of(&server, &name).await;
    let mut changes = puts(0..450);
    changes[70] = with(70, "symbol", json!(""));
    changes[301] = with(301, "symbol", json!(""));
    let written = write(&client, &name, &changes).await.unwrap();
    assert_eq!((written.confirmed(), written.refused().count()), (448, 2));
    let ids = (0..450).filter(|n| ![70, 301].contains(n)).map(|n| document(n).id.to_string());
    let seen = subscriber.until(ids).await;
    assert_eq!(seen.len(), 448);
    assert!(seen.values().all(|actions| actions == &["create"]), "{seen:?}");

    // What is not sent again is not seen again: only what has changed, and what is gone.
    let changes = [with(5, "close", json!(1)), Change::Delete(document(6).id), with(500, "close", json!(2))];
    write(&client, &name, &changes).await.unwrap();
    let seen = subscriber.until([5, 6, 500].map(|n| document(n).id.to_string())).await;
    let expected = [(5, "update"), (6, "delete"), (500, "create")];
    let expected = expected.map(|(n, action)| (document(n).id.to_string(), vec![action.to_owned()]));
    assert_eq!(seen, BTreeMap::from(expected));
}
