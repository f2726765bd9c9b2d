//! One client of the venue that the tape plays.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tapedeck_market::SmolStr;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::frames::{self, Channel, Request};
use super::state::Refused;
use super::{Conn, PATIENCE, QUEUE_FRAMES, Shared};

/// How long a client may take to say what it wants of the port.
const HEAD_WAIT: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 8 * 1024;
/// How long a client may take to close after the end.
const GOOD_BYE: Duration = Duration::from_secs(5);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// Serves a client until it leaves or the venue ends.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let served = async {
        stream.set_nodelay(true)?;
        match tokio::time::timeout(HEAD_WAIT, wants_websocket(&stream)).await {
            Ok(Ok(true)) => talk(stream, &shared).await,
            Ok(Ok(false)) => not_found(stream).await,
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(()),
        }
    };
    if let Err(error) = served.await {
        tracing::debug!(error = format!("{error:#}"), "client ended");
    }
}

/// Looks at the head of the request without taking it.
async fn wants_websocket(stream: &TcpStream) -> io::Result<bool> {
    let mut head = vec![0; HEAD_BYTES];
    loop {
        stream.readable().await?;
        let len = stream.peek(&mut head).await?;
        let text = String::from_utf8_lossy(&head[..len]).to_ascii_lowercase();
        if text.contains("\r\n\r\n") || len == HEAD_BYTES {
            return Ok(text.contains("upgrade: websocket"));
        }
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Peeking does not wait for more than there is.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// REST is not played: clients that ask for it are told so.
async fn not_found(mut stream: TcpStream) -> anyhow::Result<()> {
    let body = r#"{"error":["EGeneral:Unknown method"]}"#;
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
    stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn talk(stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    let socket = tokio_tungstenite::accept_async(stream).await?;
    let (mut to_client, mut from_client) = socket.split();
    let (out, mut queue) = mpsc::channel::<Utf8Bytes>(QUEUE_FRAMES);
    let end = CancellationToken::new();
    let id = {
        let mut inner = shared.lock();
        inner.connections += 1;
        let id = inner.connections;
        inner.conns.insert(id, Conn { out, subscribed: BTreeSet::new(), end: end.clone() });
        id
    };
    let leaves = Leaves { shared, id };
    to_client.send(Message::Text(frames::status(id).into())).await?;
    let write = async {
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        loop {
            let frame = tokio::select! {
                biased;
                frame = queue.recv() => match frame {
                    Some(frame) => frame,
                    // The replay is over: good-bye.
                    None => return Ok(to_client.close().await?),
                },
                _ = beat.tick() => Utf8Bytes::from_static(frames::HEARTBEAT),
            };
            tokio::time::timeout(PATIENCE, to_client.feed(Message::Text(frame))).await??;
            if queue.is_empty() {
                tokio::time::timeout(PATIENCE, to_client.flush()).await??;
            }
        }
    };
    let mut read = Box::pin(async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Text(text) => answer(shared, id, &text).await,
                Message::Close(_) => break,
                _ => {}
            }
        }
        anyhow::Ok(())
    });
    let ended = tokio::select! {
        // Read on until the client has read all of it: a socket that is closed over unread bytes takes what it sent along.
        ended = write => ended.and(tokio::time::timeout(GOOD_BYE, &mut read).await.unwrap_or(Ok(()))),
        ended = &mut read => ended,
        () = end.cancelled() => Ok(()),
    };
    drop(leaves);
    ended
}

/// Forgets the client when it goes, however it goes.
struct Leaves<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.shared.lock().conns.remove(&self.id);
    }
}

/// Answers a message. The answer is queued before the subscription stands, and behind it comes what is played.
async fn answer(shared: &Shared, id: u64, text: &str) {
    let request: Request = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(error) => {
            let refusal = frames::refusal("", "", &format!("Malformed request: {error}"), None);
            return say(shared, id, vec![refusal]).await;
        }
    };
    match request.method.as_str() {
        "ping" => say(shared, id, vec![frames::pong(request.req_id)]).await,
        "subscribe" | "unsubscribe" => change(shared, id, &request).await,
        other => say(shared, id, vec![frames::refusal(other, "", "Unsupported method", request.req_id)]).await,
    }
}

async fn say(shared: &Shared, id: u64, frames: Vec<String>) {
    let out = shared.lock().conns.get(&id).map(|conn| conn.out.clone());
    let Some(out) = out else { return };
    for frame in frames {
        // An error: the client has gone.
        let _ = out.send(frame.into()).await;
    }
}

async fn change(shared: &Shared, id: u64, request: &Request) {
    let (method, params, req_id) = (request.method.as_str(), &request.params, request.req_id);
    let Some(channel) = Channel::from_name(&params.channel) else {
        return say(shared, id, vec![frames::refusal(method, "", "Channel is not supported", req_id)]).await;
    };
    let symbols: Vec<SmolStr> = match channel {
        Channel::Instrument => vec![SmolStr::default()],
        _ => params.symbol.iter().map(SmolStr::new).collect(),
    };
    let out = shared.lock().conns.get(&id).map(|conn| conn.out.clone());
    let Some(out) = out else { return };
    for symbol in symbols {
        // Ack and snapshot: their places are taken before the state is looked at, so that nothing comes between.
        let Ok(places) = out.reserve_many(2).await else { return };
        let mut inner = shared.lock();
        let mut said = Vec::new();
        let offered = match channel {
            Channel::Instrument => Ok(()),
            _ => inner.state.offers(channel, &symbol, params.depth),
        };
        let mut result = json!({ "channel": channel.name() });
        if channel != Channel::Instrument {
            result["symbol"] = symbol.as_str().into();
        }
        if method == "unsubscribe" {
            said.push(frames::ack(method, result, req_id));
            if let Some(conn) = inner.conns.get_mut(&id) {
                conn.subscribed.remove(&(channel.name(), symbol));
            }
        } else if let Err(refused) = offered {
            let error = match refused {
                Refused::Symbol => format!("Currency pair not supported {symbol}"),
                Refused::Depth => {
                    let depth = inner.state.depth(&symbol).unwrap_or(10);
                    format!("Subscription depth not supported: recorded with {depth}")
                }
            };
            said.push(frames::refusal(method, &symbol, &error, req_id));
        } else {
            if channel == Channel::Book {
                result["depth"] = params.depth.unwrap_or(10).into();
            }
            let snapshot = params.snapshot.unwrap_or(true);
            result["snapshot"] = snapshot.into();
            said.push(frames::ack(method, result, req_id));
            said.extend(match channel {
                Channel::Instrument => Some(inner.state.list()),
                _ if snapshot => inner.state.snapshot(channel, &symbol),
                _ => None,
            });
            if let Some(conn) = inner.conns.get_mut(&id) {
                conn.subscribed.insert((channel.name(), symbol));
            }
        }
        for (place, frame) in places.zip(said) {
            place.send(frame.into());
        }
    }
    shared.asked.notify_waiters();
}
