//! A query ends when it is cancelled, when its time is over and when nobody waits for it any more.

use std::time::Duration;

use tapedeck_store::limits::Limits;
use tokio_postgres::NoTls;

use crate::support::{Growing, Served, serve, until};

/// Far more than anybody waits for: a cross join of the trades with themselves, twice.
const ENDLESS: &str = "select count(*) from trades a, trades b, trades c where a.price + b.price > c.price";

async fn with_one_place(timeout_ms: u64) -> Served {
    serve(Growing::with(2, 20_000), Limits { statements: 1, timeout_ms, ..Limits::default() }).await
}

/// There is one place, and it is free again: whatever ran before runs no more.
async fn place_is_free(server: &Served) {
    let client = server.connect().await;
    until("the place of the query that ended", async || {
        client.batch_execute("set statement_timeout = '1s'").await.unwrap();
        client.query_one("select max(seq) from trades", &[]).await.ok()
    })
    .await;
}

async fn is_running(server: &Served) {
    until("the query to take the place", async || (server.engine.places_free() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_it_in_both_protocols_and_the_connection_goes_on() {
    let server = with_one_place(600_000).await;
    for extended in [false, true] {
        let client = server.connect().await;
        let cancel = client.cancel_token();
        let query = tokio::spawn(async move {
            let error = match extended {
                true => client.query(ENDLESS, &[]).await.err(),
                false => client.batch_execute(ENDLESS).await.err(),
            };
            (client, error)
        });
        is_running(&server).await;
        cancel.cancel_query(NoTls).await.unwrap();
        let (client, error) = query.await.unwrap();
        let error = error.unwrap();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
        assert!(error.as_db_error().unwrap().message().contains("user request"), "{error:?}");
        assert!(client.query_one("select 1::int", &[]).await.is_ok());
        place_is_free(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_of_before_does_not_end_what_came_after() {
    let server = with_one_place(600_000).await;
    let client = server.connect().await;
    for _ in 0..5 {
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        // A request travels on a connection of its own and may arrive during the next statement, as with PostgreSQL: that
        // one it ends, and no other.
        if let Err(error) = client.query_one("select count(*) from trades", &[]).await {
            assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
        }
        assert!(client.query_one("select count(*) from trades", &[]).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_time_is_over() {
    let server = with_one_place(300).await;
    let client = server.connect().await;
    for _ in 0..2 {
        let error = client.batch_execute(ENDLESS).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"));
        assert!(error.as_db_error().unwrap().message().contains("statement timeout"), "{error:?}");
        let error = client.query(ENDLESS, &[]).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("statement timeout"), "{error:?}");
    }
    // A client may ask for less, not for more.
    client.batch_execute("set statement_timeout = '1h'").await.unwrap();
    assert!(client.batch_execute(ENDLESS).await.is_err());
    drop(client);
    let server = with_one_place(600_000).await;
    let client = server.connect().await;
    client.batch_execute("set statement_timeout = '200ms'").await.unwrap();
    assert!(client.batch_execute(ENDLESS).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_client_has_vanished() {
    let server = with_one_place(600_000).await;
    let (client, connection) = tokio_postgres::connect(&server.config(crate::support::PASSWORD), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let query = tokio::spawn(async move { client.batch_execute(ENDLESS).await });
    is_running(&server).await;
    // The socket closes, without a word.
    connection.abort();
    assert!(query.await.unwrap().is_err());
    place_is_free(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_client_takes_no_rows() {
    let server = with_one_place(700).await;
    let client = server.connect().await;
    // Rows that nobody reads fill the socket, and then the query waits for its deadline only.
    let rows =
        client.query_raw("select a.seq, a.id, b.id from trades a, trades b", Vec::<String>::new()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), place_is_free(&server)).await.unwrap();
    drop(rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_row_of_many_comes_at_once_and_few_are_kept() {
    let server = serve(Growing::with(1, 50_000), Limits::default()).await;
    let client = server.connect().await;
    // 10^10 rows: whoever collects them first never answers.
    let rows = client.query_raw("select a.seq from trades a, trades b", Vec::<String>::new()).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    let first = futures_util::StreamExt::next(&mut rows).await.unwrap().unwrap();
    assert!(first.get::<_, i64>(0) >= 1);
}
