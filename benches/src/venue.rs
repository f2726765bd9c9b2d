//! A venue for the benches: one socket, trades on a schedule, each frame carrying the moment it was due.
//!
//! Open loop: a frame is due at `start + n / rate`, and its latency counts from then, whether or not
//! the other side kept up. A sender that waited for the reader would hide every stall of it.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, accept};

/// What is sent once the client has subscribed to trades.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Messages a second for so long.
    Rate { per_s: u64, time: Duration },
    /// As many as the socket takes, for so long.
    Flood { time: Duration },
    /// Heartbeats only, until the client leaves.
    Idle,
    /// The same in Kraken's first protocol, which is what cryptofeed speaks.
    IdleV1,
}

/// A running venue.
#[derive(Debug)]
pub struct Venue {
    pub addr: SocketAddr,
    /// Told the number of messages sent, when all are.
    pub sent: mpsc::Receiver<u64>,
    /// Told when the first subscribe request arrived, ns since the epoch.
    pub subscribed: mpsc::Receiver<i64>,
}

/// Serves one client on a thread of its own.
///
/// # Errors
/// No port can be had.
pub fn serve(load: Load) -> io::Result<Venue> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let (told, sent) = mpsc::channel();
    let (first, subscribed) = mpsc::channel();
    std::thread::spawn(move || {
        let client = listener.accept().map_err(|error| error.to_string());
        let served = client.and_then(|(stream, _)| one_client(stream, load, &first).map_err(|error| error.to_string()));
        match served {
            Ok(count) => drop(told.send(count)),
            // Whoever measures a start hangs up in the middle of it.
            Err(_) if matches!(load, Load::Idle | Load::IdleV1) => {}
            Err(error) => eprintln!("venue: {error}"),
        }
    });
    Ok(Venue { addr, sent, subscribed })
}

/// Nanoseconds since the epoch.
#[must_use]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn one_client(stream: TcpStream, load: Load, first: &mpsc::Sender<i64>) -> Result<u64, Failure> {
    stream.set_nodelay(true)?;
    let mut socket = accept(stream)?;
    if matches!(load, Load::IdleV1) {
        return first_protocol(socket, first);
    }
    socket.send(Message::text(r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":15113583034416118705}]}"#))?;
    loop {
        let Message::Text(text) = socket.read()? else { continue };
        let asked: Value = serde_json::from_str(&text)?;
        let _ = first.send(now_ns());
        if answer(&mut socket, &asked)? == "trade" {
            break;
        }
    }
    let mut stream = socket.get_mut().try_clone()?;
    match load {
        Load::Rate { per_s, time } => on_schedule(&mut stream, per_s, time),
        Load::Flood { time } => flood(&mut stream, time),
        Load::Idle | Load::IdleV1 => {
            socket.send(Message::text(trade(0, now_ns()).replace("update", "snapshot")))?;
            idle(socket, r#"{"channel":"heartbeat"}"#)
        }
    }
}

/// The first protocol, as far as an idle client sees it.
fn first_protocol(mut socket: WebSocket<TcpStream>, first: &mpsc::Sender<i64>) -> Result<u64, Failure> {
    let status = json!({"connectionID": 8628615390848610000_u64, "event": "systemStatus", "status": "online", "version": "1.0.0"});
    socket.send(Message::text(status.to_string()))?;
    let asked: Value = loop {
        if let Message::Text(text) = socket.read()? {
            break serde_json::from_str(&text)?;
        }
    };
    let _ = first.send(now_ns());
    let ack = json!({"channelID": 1, "channelName": "trade", "event": "subscriptionStatus", "pair": asked["pair"][0], "status": "subscribed", "subscription": asked["subscription"]});
    socket.send(Message::text(ack.to_string()))?;
    let snapshot =
        json!([1, [["64528.1", "0.00123440", "1784483703.207891", "b", "l", ""]], "trade", asked["pair"][0]]);
    socket.send(Message::text(snapshot.to_string()))?;
    idle(socket, r#"{"event":"heartbeat"}"#)
}

/// After the snapshot a heartbeat a second, and an answer to every ping, until the client leaves.
fn idle(mut socket: WebSocket<TcpStream>, heartbeat: &str) -> Result<u64, Failure> {
    socket.get_mut().set_read_timeout(Some(Duration::from_secs(1)))?;
    loop {
        let said = match socket.read() {
            Ok(_) => continue,
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                socket.send(Message::text(heartbeat))
            }
            Err(error) => Err(error),
        };
        if said.is_err() {
            return Ok(0);
        }
    }
}

/// Grants what was asked, symbol by symbol; the channel.
fn answer(socket: &mut WebSocket<TcpStream>, asked: &Value) -> Result<String, Failure> {
    let params = &asked["params"];
    let channel = params["channel"].as_str().unwrap_or_default().to_owned();
    let now = "2026-07-19T17:54:39.614696Z";
    let mut acks = vec![json!({"channel": channel, "snapshot": true})];
    if let Some(symbols) = params["symbol"].as_array() {
        acks = symbols.iter().map(|symbol| json!({"channel": channel, "symbol": symbol, "snapshot": true})).collect();
    }
    for ack in acks {
        let text = json!({"method": "subscribe", "result": ack, "success": true, "req_id": asked["req_id"], "time_in": now, "time_out": now});
        socket.send(Message::text(text.to_string()))?;
    }
    if channel == "instrument" {
        let pair = json!({"symbol": "BTC/USD", "base": "BTC", "quote": "USD", "status": "online", "price_precision": 1, "price_increment": 0.1, "qty_precision": 8, "qty_increment": 0.00000001});
        let text = json!({"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [pair]}});
        socket.send(Message::text(text.to_string()))?;
    }
    Ok(channel)
}

fn on_schedule(stream: &mut TcpStream, per_s: u64, time: Duration) -> Result<u64, Failure> {
    let total = (per_s as f64 * time.as_secs_f64()) as u64;
    let start = now_ns() + 200_000_000;
    let mut sent = 0;
    let mut out = Vec::with_capacity(1 << 16);
    while sent < total {
        let due = start + (sent as i128 * 1_000_000_000 / i128::from(per_s)) as i64;
        let now = now_ns();
        if due > now {
            std::thread::sleep(Duration::from_nanos((due - now) as u64));
            continue;
        }
        out.clear();
        while sent < total && out.len() < 60_000 {
            let due = start + (sent as i128 * 1_000_000_000 / i128::from(per_s)) as i64;
            if due > now {
                break;
            }
            out.extend_from_slice(&frame(&trade(sent, due)));
            sent += 1;
        }
        stream.write_all(&out)?;
    }
    // The client's last records are read before the socket goes.
    std::thread::sleep(Duration::from_secs(1));
    Ok(sent)
}

/// Frames made ahead, so that the venue costs next to nothing of the two cores.
fn flood(stream: &mut TcpStream, time: Duration) -> Result<u64, Failure> {
    let mut block = Vec::new();
    let mut ends = Vec::new();
    let mut offsets = Vec::new();
    for n in 0..500 {
        let text = trade(n, now_ns());
        let before = block.len();
        block.extend_from_slice(&frame(&text));
        let at = text.find("\"trade_id\":").map_or(0, |at| at + 11);
        offsets.push(block.len() - text.len() + at);
        ends.push((before, block.len()));
    }
    let until = now_ns() + i64::try_from(time.as_nanos())?;
    let mut sent = 0_u64;
    while now_ns() < until {
        for at in &offsets {
            block[*at..*at + 10].copy_from_slice(format!("{:010}", 1_000_000_000 + sent).as_bytes());
            sent += 1;
        }
        stream.write_all(&block)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    Ok(sent)
}

fn trade(n: u64, due_ns: i64) -> String {
    let due = tapedeck_market::UnixNanos(due_ns);
    format!(
        r#"{{"channel":"trade","type":"update","data":[{{"symbol":"BTC/USD","side":"buy","price":64528.1,"qty":0.00123440,"ord_type":"limit","trade_id":{},"timestamp":"{due}"}}]}}"#,
        1_000_000_000 + n,
    )
}

/// One unmasked text frame.
fn frame(text: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    let len = text.len();
    if len < 126 {
        out.push(len as u8);
    } else {
        out.push(126);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
    out
}
