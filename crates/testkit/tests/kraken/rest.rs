//! The REST side, and the private channel that needs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};
use serde_json::Value;
use tapedeck_testkit::kraken::{Credentials, Fault};
use tapedeck_testkit::{FakeKraken, Handle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::{Client, json};

async fn http(fake: &Handle, request: &str) -> Value {
    let mut socket = tokio::net::TcpStream::connect(fake.addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    json(answer.split_once("\r\n\r\n").unwrap().1)
}

async fn get(fake: &Handle, path: &str) -> Value {
    http(fake, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

const SECRET: &str = "a2VlcCB0aGlzIHRvIHlvdXJzZWxm";

async fn token(fake: &Handle, nonce: u64, secret: &str) -> Value {
    let path = "/0/private/GetWebSocketsToken";
    let body = format!("nonce={nonce}");
    let inner = digest::digest(&digest::SHA256, format!("{nonce}{body}").as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA512, &BASE64.decode(secret).unwrap());
    let sign = BASE64.encode(hmac::sign(&key, &[path.as_bytes(), inner.as_ref()].concat()));
    let len = body.len();
    http(
        fake,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAPI-Key: me\r\nAPI-Sign: {sign}\r\nContent-Length: {len}\r\n\r\n{body}"
        ),
    )
    .await
}

fn with_account() -> FakeKraken {
    let token_life = std::time::Duration::from_secs(900);
    FakeKraken::builder().rate(2_000).credentials(Credentials { key: "me".into(), secret: SECRET.into(), token_life })
}

#[tokio::test]
async fn public_methods_answer_in_the_venues_shapes() {
    let fake = FakeKraken::builder().pairs(["BTC/USD", "DOGE/USD"]).rate(5_000).start().await.unwrap();
    let time = get(&fake, "/0/public/Time").await;
    assert!(time["result"]["unixtime"].as_u64().unwrap() > 1_700_000_000, "{time}");
    assert_eq!(get(&fake, "/0/public/SystemStatus").await["result"]["status"], "online");
    assert_eq!(get(&fake, "/0/public/Assets").await["result"]["XXBT"]["altname"], "XBT");
    let pairs = get(&fake, "/0/public/AssetPairs").await;
    assert_eq!(pairs["result"]["XXBTZUSD"]["wsname"], "XBT/USD", "{pairs}");
    assert_eq!(pairs["result"]["XDGUSD"]["quote"], "ZUSD", "{pairs}");
    for name in ["XXBTZUSD", "XBTUSD", "XBT/USD", "BTC/USD", "BTC%2FUSD"] {
        let ticker = get(&fake, &format!("/0/public/Ticker?pair={name}")).await;
        let ticker = &ticker["result"]["XXBTZUSD"];
        assert_eq!(ticker["a"].as_array().unwrap().len(), 3, "{name}: {ticker}");
        assert_eq!(ticker["v"].as_array().unwrap().len(), 2, "{name}: {ticker}");
    }
    let depth = get(&fake, "/0/public/Depth?pair=XBTUSD&count=5").await;
    assert_eq!(depth["result"]["XXBTZUSD"]["bids"].as_array().unwrap().len(), 5);
    assert!(
        !get(&fake, "/0/public/OHLC?pair=XBTUSD&interval=1").await["result"]["XXBTZUSD"].as_array().unwrap().is_empty()
    );
    assert_eq!(get(&fake, "/0/public/Ticker?pair=NOPE").await["error"][0], "EQuery:Unknown asset pair");
    assert_eq!(get(&fake, "/0/public/Guess").await["error"][0], "EGeneral:Unknown method");
}

#[tokio::test]
async fn pages_of_trades_meet_without_a_hole_or_a_repeat() {
    let fake = FakeKraken::builder().pairs(["BTC/USD"]).rate(20_000).start().await.unwrap();
    let (mut since, mut ids) = ("0".to_owned(), Vec::<u64>::new());
    while ids.len() < 2_500 {
        let page = get(&fake, &format!("/0/public/Trades?pair=XBTUSD&since={since}&count=100")).await;
        let rows = page["result"]["XXBTZUSD"].as_array().unwrap();
        ids.extend(rows.iter().map(|row| row[6].as_u64().unwrap()));
        since = page["result"]["last"].as_str().unwrap().to_owned();
    }
    assert!(ids.windows(2).all(|two| two[1] == two[0] + 1), "{ids:?}");
}

#[tokio::test]
async fn a_token_is_given_for_a_good_signature_only() {
    let fake = with_account().start().await.unwrap();
    assert_eq!(token(&fake, 5, "d3Jvbmc=").await["error"][0], "EAPI:Invalid signature");
    let good = token(&fake, 6, SECRET).await;
    assert_eq!(good["result"]["expires"], 900, "{good}");
    assert_eq!(token(&fake, 6, SECRET).await["error"][0], "EAPI:Invalid nonce");
    fake.inject(Fault::TokenRefused);
    assert_eq!(token(&fake, 7, SECRET).await["error"][0], "EService:Unavailable");
    let closed = FakeKraken::builder().start().await.unwrap();
    assert_eq!(token(&closed, 1, SECRET).await["error"][0], "EAPI:Invalid key");
}

#[tokio::test]
async fn own_executions_need_a_token_of_their_own_connection() {
    let fake = with_account().start().await.unwrap();
    let token = token(&fake, 1, SECRET).await["result"]["token"].as_str().unwrap().to_owned();
    let ask = |token: &str| {
        format!(
            r#"{{"method":"subscribe","params":{{"channel":"executions","token":"{token}","snap_trades":true}},"req_id":1}}"#
        )
    };
    let mut client = Client::connect(&fake).await;
    client.send(&ask("guessed")).await;
    assert_eq!(json(&client.until(&["success"]).await)["error"], "ESession:Invalid session");
    client.send(&ask(&token)).await;
    assert_eq!(json(&client.until(&["success"]).await)["success"], true);
    let snapshot = json(&client.until(&["executions", "snapshot\",\"data"]).await);
    assert_eq!(snapshot["sequence"], 1);
    for sequence in 2..40 {
        let update = json(&client.until(&["executions", "update"]).await);
        assert_eq!(update["sequence"], sequence, "{update}");
        let order = &update["data"][0];
        assert!(order["order_id"].is_string() && order["timestamp"].is_string(), "{update}");
    }
    let mut second = Client::connect(&fake).await;
    second.send(&ask(&token)).await;
    assert_eq!(json(&second.until(&["success"]).await)["error"], "ESession:Invalid session", "a used token");
}
