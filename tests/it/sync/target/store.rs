//! The target as the engine sees it.

use tapedeck::sync::Span;
use tapedeck::sync::mapping::{Kind as MapKind, Mode, Wanted};
use tapedeck::sync::pocketbase::PocketBase as Store;
use tapedeck::sync::target::{Asked, Target as _};

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;
/// 2026-01-01.
const NEW_YEAR_NS: i64 = 20_454 * DAY_NS;

fn wanted() -> Vec<Wanted> {
    [
        ("symbol", MapKind::Text),
        ("ts", MapKind::Date),
        ("close", MapKind::Number),
        ("exact", MapKind::Text),
        ("more", MapKind::Json),
        ("live", MapKind::Bool),
    ]
    .map(|(name, kind)| Wanted { name: name.into(), kind })
    .to_vec()
}

#[tokio::test]
async fn a_collection_is_ready_or_it_is_said_why_not() {
    let Some(server) = server() else { return };
    let store = Store::new(client(&server));
    let missing = fresh_name("missing");
    says(&store.ready(&missing, &wanted()).await.unwrap_err(), Class::Setup, &["there is no collection `missing_"]);
    let name = made(store.client()).await;
    let ready = store.ready(&name, &wanted()).await.unwrap();
    assert!(ready.notes.is_empty() && ready.birth.is_some(), "{ready:?}");
    let mut more = wanted();
    more.push(Wanted { name: "pe".into(), kind: MapKind::Integer });
    more.push(Wanted { name: "pb".into(), kind: MapKind::Time { nanos: true } });
    let words = ["no field `pe` (number), and would drop it", "no field `pb` (text)"];
    says(&store.ready(&name, &more).await.unwrap_err(), Class::Setup, &words);
    let nobody = Store::new(nobody(&server));
    let notes = nobody.ready(&name, &wanted()).await.unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("cannot be seen without a login"), "{notes:?}");
    server.call("PATCH", "/api/settings", &json!({"batch": {"enabled": false}}));
    let store = Store::new(client(&server));
    says(&store.ready(&name, &wanted()).await.unwrap_err(), Class::Setup, &["batches are switched off", "sync init"]);
}

#[tokio::test]
async fn both_modes_write_the_same_and_days_are_read_back_in_the_order_of_ids() {
    let Some(server) = server() else { return };
    let store = Store::new(client(&server));
    let fields = wanted();
    for mode in [Mode::Upsert, Mode::Bulk] {
        let name = made(store.client()).await;
        store.ready(&name, &wanted()).await.unwrap();
        let mut changes = puts(0..2_600);
        changes[7] = with(7, "symbol", json!("much too long for a symbol, and refused by batches"));
        changes.push(Change::Delete(document(9).id));
        let written = store.write(&name, &changes, mode).await;
        assert_eq!((written.done, written.trouble), (2_601, None));
        let refused: Vec<usize> = written.refused.iter().map(|(place, _)| *place).collect();
        assert_eq!(refused, if mode == Mode::Upsert { vec![7] } else { vec![] });

        let span = Span { from_ns: Some(NEW_YEAR_NS + DAY_NS), to_ns: Some(NEW_YEAR_NS + 2 * DAY_NS) };
        let asked = Asked { collection: &name, fields: &fields, time: Some(("ts", MapKind::Date, span)) };
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.read(&asked, after.as_ref(), 300).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            all.extend(page);
        }
        assert_eq!(all.len(), 1_000, "the second day");
        assert!(all.is_sorted_by(|one, other| one.id < other.id));
        for found in &all {
            let more: Value = serde_json::from_str(found.body["more"].as_str().unwrap()).unwrap();
            let mut body = document(more["n"].as_u64().unwrap() as usize).body;
            // As a mapping writes it.
            body["more"] = body["more"].to_string().into();
            assert_eq!(found.body, body);
        }
    }
}
