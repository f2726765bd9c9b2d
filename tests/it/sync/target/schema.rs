//! Collections are made, compared and added to, and nothing that is there is touched.

use super::*;

async fn sentences(client: &Client, wanted: &Collection) -> Vec<String> {
    client.compare(wanted).await.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_collection_is_made_and_is_then_as_it_must_be() {
    let Some(server) = PocketBase::shared() else { return };
    let client = client(server);
    let mut wanted = prices(&fresh_name("made"));
    wanted.rules.list = Some(String::new());
    let found = client.compare(&wanted).await.unwrap();
    assert!(found.len() == 1 && found[0].can_be_added() && found[0].forbids_writing(), "{found:?}");
    assert!(found[0].to_string().contains("there is no collection `made_"), "{}", found[0]);
    assert_eq!(client.amend(&wanted).await.unwrap(), []);
    assert_eq!(client.compare(&wanted).await.unwrap(), []);
    assert_eq!(client.amend(&wanted).await.unwrap(), [], "again");
    let there = server.call("GET", &format!("/api/collections/{}", wanted.name), &Value::Null);
    assert_eq!((&there["listRule"], &there["createRule"]), (&json!(""), &Value::Null));
    let indexes = there["indexes"].to_string();
    assert!(indexes.contains("UNIQUE INDEX") && indexes.contains("(`ts`)"), "{indexes}");
}

#[tokio::test]
async fn what_is_missing_is_added_and_nothing_else_is_touched() {
    let Some(server) = PocketBase::shared() else { return };
    let client = client(server);
    let wanted = prices(&fresh_name("added"));
    let path = format!("/api/collections/{}", wanted.name);
    let fields = json!([{"name": "theirs", "type": "text"}, {"name": "symbol", "type": "text", "max": 7},
        {"name": "close", "type": "text"}, {"name": "ts", "type": "date"}]);
    let index = format!("CREATE INDEX `idx_{0}_theirs` ON `{0}` (`theirs`)", wanted.name);
    let body = json!({"name": wanted.name, "type": "base", "fields": fields, "indexes": [index], "viewRule": ""});
    let before = server.call("POST", "/api/collections", &body);
    let row = json!({"theirs": "kept", "symbol": "PKN", "close": "1.5", "ts": "2026-01-01 00:00:00.000Z"});
    let row = server.call("POST", &format!("{path}/records"), &row);

    let left: Vec<String> = client.amend(&wanted).await.unwrap().iter().map(ToString::to_string).collect();
    let retyped =
        format!("`{}.close` is of type text, not number; change the mapping, or rename the field", wanted.name);
    assert!(left.len() == 1 && left[0].starts_with(&retyped), "{left:?}");
    let after = server.call("GET", &path, &Value::Null);
    for field in before["fields"].as_array().unwrap() {
        assert!(after["fields"].as_array().unwrap().contains(field), "{field} of {after}");
    }
    assert_eq!(after["fields"][0]["name"], "id", "the order stays");
    assert_eq!((&after["viewRule"], &after["id"]), (&before["viewRule"], &before["id"]));
    let kept = server.call("GET", &format!("{path}/records/{}", row["id"].as_str().unwrap()), &Value::Null);
    assert_eq!((&kept["theirs"], &kept["close"], &kept["more"]), (&json!("kept"), &json!("1.5"), &Value::Null));
    let indexes = after["indexes"].as_array().unwrap();
    assert!(indexes.len() == 3 && indexes.contains(&json!(index)), "{indexes:?}");
}

#[tokio::test]
async fn each_difference_is_a_sentence_that_says_what_to_do() {
    let Some(server) = PocketBase::shared() else { return };
    let client = client(server);
    let wanted = prices(&fresh_name("other"));
    let name = &wanted.name;
    let fields = json!([
        {"name": "id", "type": "text", "primaryKey": true, "min": 3, "max": 10, "pattern": "^[0-9]+$", "required": true,
            "system": true, "autogeneratePattern": "[0-9]{10}"},
        {"name": "symbol", "type": "text"}, {"name": "ts", "type": "text"}, {"name": "close", "type": "number"},
        {"name": "exact", "type": "text"}, {"name": "live", "type": "bool"},
        {"name": "owner", "type": "text", "required": true}]);
    let index = format!("CREATE UNIQUE INDEX `idx_{name}_x` ON `{name}` (`symbol`)");
    server.call(
        "POST",
        "/api/collections",
        &json!({"name": name, "type": "base", "fields": fields, "indexes": [index]}),
    );
    let found = sentences(&client, &wanted).await;
    let expected = [
        format!("do not fit the rule of `{name}.id` (min 3, max 10, ^[0-9]+$); set it back"),
        format!("`{name}.ts` is of type text, not date"),
        format!("`{name}` has no field `more` (json), and would drop it without a word; `tapedeck sync init` adds it"),
        format!("`{name}.owner` must not be blank there, and the mapping does not fill it"),
        format!("`{name}` has no unique index on its key (symbol, ts)"),
        "has a unique index on (symbol), under which documents of different keys exclude each other".to_owned(),
        format!("`{name}` has no index that begins with `ts`"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for words in &expected {
        assert!(found.iter().any(|sentence| sentence.contains(words)), "{words}: {found:#?}");
    }
    let users = Collection { name: "users".to_owned(), ..wanted.clone() };
    let found = sentences(&client, &users).await;
    assert!(found.len() == 1 && found[0].contains("of type auth, which takes no documents"), "{found:?}");
    let odd = Collection { name: "a b/../c".to_owned(), ..wanted };
    says(&client.compare(&odd).await.unwrap_err(), Class::Setup, &["`a b/../c` can be no name", "use letters"]);
}

#[tokio::test]
async fn an_index_that_records_there_break_is_refused_in_the_servers_words_and_nothing_changes() {
    let Some(server) = PocketBase::shared() else { return };
    let client = client(server);
    let wanted = prices(&fresh_name("twice"));
    let path = format!("/api/collections/{}", wanted.name);
    client.amend(&Collection { key: Vec::new(), ..wanted.clone() }).await.unwrap();
    for _ in 0..2 {
        server.call("POST", &format!("{path}/records"), &json!({"symbol": "PKN", "ts": "2026-01-01 00:00:00.000Z"}));
    }
    let before = server.call("GET", &path, &Value::Null);
    let trouble = client.amend(&wanted).await.unwrap_err();
    says(&trouble, Class::Setup, &["adding to collection twice_", "UNIQUE constraint failed"]);
    assert_eq!(server.call("GET", &path, &Value::Null), before);
}

/// The server drops what it has no field for, and says nothing: only comparing tells.
#[tokio::test]
async fn a_field_that_is_missing_there_is_dropped_in_silence_and_told_by_comparing() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let mut wanted = prices(&name);
    wanted.fields.push(field("pe", Kind::Number));
    let written = write(&client, &name, &[with(1, "pe", json!(12.5))]).await.unwrap();
    assert_eq!(written.confirmed(), 1);
    let page = client.page(&name, None, &named(&["pe"]), ALL, None).await.unwrap();
    assert!(page.records[0].body.is_empty(), "{page:?}");
    let found = sentences(&client, &wanted).await;
    assert!(found.len() == 1 && found[0].contains("no field `pe` (number), and would drop it"), "{found:?}");
    assert_eq!(client.amend(&wanted).await.unwrap(), []);
    write(&client, &name, &[with(1, "pe", json!(12.5))]).await.unwrap();
    assert_eq!(client.page(&name, None, &named(&["pe"]), ALL, None).await.unwrap().records[0].body["pe"], 12.5);
}
