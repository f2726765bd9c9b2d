//! A small client with a book of its own: strings, not integers, unlike the server's.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use serde_json::value::RawValue;
use tapedeck_testkit::Handle;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Long enough for a loaded machine: it is only waited out by a failing test.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn connect(fake: &Handle) -> Client {
        let (socket, _) = tokio_tungstenite::connect_async(fake.ws_url()).await.expect("the fake listens");
        Client { socket }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the connection is open");
    }

    pub(crate) async fn subscribe(&mut self, channel: &str, symbols: &[&str], more: &str) {
        let symbols = serde_json::to_string(symbols).expect("strings are JSON");
        self.send(&format!(
            r#"{{"method":"subscribe","params":{{"channel":"{channel}","symbol":{symbols}{more}}},"req_id":7}}"#
        ))
        .await;
    }

    /// The next message, or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Message, tungstenite::Error> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message within 30 s");
        next.unwrap_or(Err(tungstenite::Error::ConnectionClosed))
    }

    /// The next text.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            if let Message::Text(text) = self.next().await.expect("the connection lasts") {
                return text.to_string();
            }
        }
    }

    /// The next text that has all of these in it.
    pub(crate) async fn until(&mut self, parts: &[&str]) -> String {
        loop {
            let text = self.text().await;
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
        }
    }
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[derive(serde::Deserialize)]
struct BookFrame {
    #[serde(rename = "type")]
    kind: String,
    data: Vec<BookData>,
}

#[derive(serde::Deserialize)]
struct BookData {
    symbol: String,
    bids: Vec<TextLevel>,
    asks: Vec<TextLevel>,
    checksum: u32,
}

#[derive(serde::Deserialize)]
struct TextLevel {
    price: Box<RawValue>,
    qty: Box<RawValue>,
}

/// Digits of a price, padded so that they sort, to (price, size) as printed.
type Side = BTreeMap<String, (String, String)>;

/// Bids and asks by symbol.
#[derive(Default)]
pub(crate) struct Books {
    depth: usize,
    books: BTreeMap<String, [Side; 2]>,
}

impl Books {
    pub(crate) fn of_depth(depth: usize) -> Books {
        Books { depth, books: BTreeMap::new() }
    }

    /// Applies a book message; whether its checksum is that of the book afterwards.
    pub(crate) fn apply(&mut self, text: &str) -> bool {
        let frame: BookFrame = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let [data] = frame.data.try_into().unwrap_or_else(|_| panic!("one book a message: {text}"));
        let book = self.books.entry(data.symbol).or_default();
        if frame.kind == "snapshot" {
            *book = Default::default();
        }
        for (side, levels) in book.iter_mut().zip([data.bids, data.asks]) {
            for TextLevel { price, qty } in levels {
                let (whole, part) = price.get().split_once('.').expect("a price has decimals");
                let sortable = format!("{whole:0>12}.{part}");
                if qty.get().bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                    side.remove(&sortable);
                } else {
                    side.insert(sortable, (price.get().into(), qty.get().into()));
                }
            }
        }
        while book[0].len() > self.depth {
            book[0].pop_first();
        }
        while book[1].len() > self.depth {
            book[1].pop_last();
        }
        let best = book[1].values().take(10).chain(book[0].values().rev().take(10));
        let digits: String = best.flat_map(|(price, qty)| [price, qty]).map(|text| digits(text)).collect();
        crc32fast::hash(digits.as_bytes()) == data.checksum
    }

    /// Levels best first, as printed: bids, asks.
    pub(crate) fn levels(&self, symbol: &str) -> [Vec<(String, String)>; 2] {
        let book = &self.books[symbol];
        [book[0].values().rev().cloned().collect(), book[1].values().cloned().collect()]
    }

    /// Best bid and best ask as printed.
    pub(crate) fn best(&self, symbol: &str) -> (String, String) {
        let book = &self.books[symbol];
        let price =
            |level: Option<(&String, &(String, String))>| level.map_or(String::new(), |(_, (price, _))| price.clone());
        (price(book[0].last_key_value()), price(book[1].first_key_value()))
    }
}

fn digits(text: &str) -> String {
    text.replace('.', "").trim_start_matches('0').to_owned()
}
