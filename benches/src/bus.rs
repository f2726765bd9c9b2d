//! What the benches of the bus share: one topic, one message, and libzmq beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tapedeck::bus::{Encoder, Engine, Publisher, registry};
use tapedeck::config::{Bus, BusTopic, Decimals, Form};
use tapedeck_market::{Body, Event, Flags, Side, SmolStr, Trade, UnixNanos, Uuid};

pub const TOPIC: &str = "trade.kraken";
/// Messages of a round: below what a queue holds, so that nothing is dropped and everything is counted.
pub const MESSAGES: u64 = 200_000;
const HIGH_WATER: i32 = 1_000_000;
/// Nothing for so long is the end.
const SILENCE_MS: i32 = 20_000;
/// Away from the ports of a deck that may be running.
const OFFSET: u16 = 20_000;

#[must_use]
pub fn trade(n: u64) -> Event {
    let body = Trade {
        price: "64528.1".parse().unwrap_or_default(),
        size: "0.00123440".parse().unwrap_or_default(),
        side: Some(Side::Buy),
        id: Some(SmolStr::new((100_320_028 + n).to_string())),
    };
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos(1_784_483_703_207_891_000)),
        ts_recv: UnixNanos(1_784_483_703_258_123_456),
        flags: Flags::NONE,
        origin: None,
        body: Body::Trade(body),
    }
}

/// One message an event, as the peers send.
#[must_use]
pub fn settings() -> Bus {
    let mut bus = Bus { port_offset: OFFSET, high_water: HIGH_WATER as u32, ..Bus::default() };
    bus.topics.insert("kraken_tick".into(), BusTopic { enabled: false, ..BusTopic::default() });
    bus
}

/// What the bus sends for a trade.
#[must_use]
pub fn payload(seq: u64) -> Vec<u8> {
    let mut engine = Engine::new(Arc::new(settings()), Some(TOPIC.into()));
    let mut out = Vec::new();
    engine.apply(seq, trade(seq), &mut out);
    let mut encoder = Encoder::new(Uuid::nil(), false);
    out.iter()
        .map(|message| encoder.encode(message, TOPIC, Form::Map, Decimals::Float).payload.to_vec())
        .next()
        .unwrap_or_default()
}

/// The bus, without the process around it.
///
/// # Errors
/// A port is taken.
pub fn publisher() -> anyhow::Result<Publisher> {
    Publisher::bind(Arc::new(settings()), Uuid::nil(), None, false)
}

#[must_use]
pub fn address() -> String {
    format!("tcp://127.0.0.1:{}", registry::ports_of(&settings(), TOPIC)[0])
}

/// libzmq as it is: the peer.
pub struct Bare {
    socket: zmq::Socket,
    ready: Vec<u8>,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// # Errors
    /// The port is taken.
    pub fn bind() -> anyhow::Result<Bare> {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::PUB)?;
        socket.set_sndhwm(HIGH_WATER)?;
        socket.set_linger(0)?;
        socket.bind(&address())?;
        // The context lives as long as its socket.
        Ok(Bare { socket, ready: payload(1) })
    }

    /// Sends the bytes that are ready, or none.
    ///
    /// # Errors
    /// libzmq refuses.
    pub fn send(&self, n: u64) -> anyhow::Result<()> {
        self.socket.send(TOPIC, zmq::SNDMORE)?;
        Ok(self.socket.send(if n == 0 { &[][..] } else { &self.ready[..] }, 0)?)
    }
}

/// A subscriber on a thread of its own. `take` gets each message that is not empty until it says `false`.
#[derive(Debug)]
pub struct Subscriber<T> {
    heard: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Subscriber<T> {
    /// # Errors
    /// libzmq refuses.
    pub fn start(
        context: &zmq::Context,
        mut state: T,
        mut take: impl FnMut(&mut T, &[u8]) -> bool + Send + 'static,
    ) -> anyhow::Result<Subscriber<T>> {
        let socket = context.socket(zmq::SUB)?;
        socket.set_rcvhwm(0)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(SILENCE_MS)?;
        socket.set_reconnect_ivl(10)?;
        socket.connect(&address())?;
        socket.set_subscribe(TOPIC.as_bytes())?;
        let heard = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let mut message = zmq::Message::new();
            loop {
                match socket.recv(&mut message, 0).and_then(|()| socket.recv(&mut message, 0)) {
                    // What has not come by now was lost; the caller counts.
                    Err(zmq::Error::EAGAIN) => return state,
                    received => received.expect("a message of two frames"),
                }
                // Empty ones only show that the subscription is there.
                if message.is_empty() {
                    told.store(true, Ordering::Relaxed);
                } else if !take(&mut state, &message) {
                    return state;
                }
            }
        });
        Ok(Subscriber { heard, thread })
    }

    /// Whether an empty message has come.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until it has taken its last message, or nothing came for long.
    ///
    /// # Errors
    /// It panicked.
    pub fn end(self) -> anyhow::Result<T> {
        self.thread.join().map_err(|_| anyhow::anyhow!("a subscriber panicked"))
    }
}

/// Messages a second until the slowest subscriber has all of them. `send` gets the message's number; 0 asks for an empty one.
///
/// # Errors
/// libzmq refuses, or `send` does.
pub fn rate(subscribers: usize, mut send: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let context = zmq::Context::new();
    let start = |_| {
        Subscriber::start(&context, MESSAGES, |left, _| {
            *left -= 1;
            *left > 0
        })
    };
    let subscribers: Vec<_> = (0..subscribers).map(start).collect::<Result<_, _>>()?;
    while !subscribers.iter().all(Subscriber::is_there) {
        send(0)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    for n in 1..=MESSAGES {
        send(n)?;
    }
    for subscriber in subscribers {
        let missed = subscriber.end()?;
        anyhow::ensure!(missed == 0, "a subscriber missed {missed} messages");
    }
    Ok(MESSAGES as f64 / start.elapsed().as_secs_f64())
}
