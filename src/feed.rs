//! The child of a `zmq` source: SUB sockets on one side, records on standard output on the other.
//!
//! libzmq ends its process on internal assertions; here that costs a session. One thread polls a SUB socket
//! for each address, and the monitor beside it. Nothing is decoded here. When the source is slow the pipe fills, then
//! the sockets do, and then the publisher drops: there is no queue in between that could grow.

use std::io::Write as _;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck_market::UnixNanos;
use tokio_util::sync::CancellationToken;
use zmq::{PollEvents, Socket, SocketEvent, SocketType};

use crate::sources::zmq::wire::{self, FRAMES, MESSAGE_BYTES, Said, What};

/// How often the loop looks whether it should end.
const LOOK_MS: i64 = 100;
/// Messages of one socket that are taken before the next one has its turn.
const TURN: usize = 1_000;
/// What a publisher that went away may have left behind in the queue.
const LAST_WORDS: usize = 1_000_000;
/// Records are written when so many bytes are there, or nothing more comes.
const WRITE_BYTES: usize = 64 * 1024;
/// A frame beyond this is refused by libzmq itself, which closes the connection: nobody sends it in good faith.
const FRAME_LIMIT: i64 = 64 << 20;
const RECONNECT_MS: i32 = 100;
const RECONNECT_MAX_MS: i32 = 2_000;
/// A publisher whose host is gone is noticed after 25 seconds.
const KEEPALIVE: (i32, i32, i32) = (10, 5, 3);

/// What the child is given.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Config {
    pub connect: Vec<String>,
    /// Topics are subscribed by prefix.
    pub prefixes: Vec<String>,
    pub high_water: u32,
    pub server_key: Option<String>,
    pub public_key: Option<String>,
    pub secret_key: Option<String>,
}

struct Endpoint {
    socket: Socket,
    monitor: Socket,
    /// A refusal was told already.
    refused: bool,
}

/// Listens until `stop`, or until nobody reads.
///
/// # Errors
/// An address that libzmq does not take, or no reader any more.
pub fn run(config: &Config, stop: &CancellationToken) -> anyhow::Result<()> {
    let context = zmq::Context::new();
    let mut endpoints = Vec::new();
    for (at, address) in config.connect.iter().enumerate() {
        endpoints.push(open(&context, config, at, address).with_context(|| format!("connecting to {address}"))?);
    }
    let mut out = Out { bytes: Vec::with_capacity(2 * WRITE_BYTES) };
    while !stop.is_cancelled() {
        let mut items: Vec<zmq::PollItem<'_>> = Vec::with_capacity(2 * endpoints.len());
        for endpoint in &endpoints {
            items.push(endpoint.monitor.as_poll_item(PollEvents::POLLIN));
            items.push(endpoint.socket.as_poll_item(PollEvents::POLLIN));
        }
        match zmq::poll(&mut items, LOOK_MS) {
            Ok(_) => {}
            Err(zmq::Error::EINTR) => continue,
            Err(error) => return Err(error).context("waiting for messages"),
        }
        let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        for (at, endpoint) in endpoints.iter_mut().enumerate() {
            // The number of addresses is capped by the source.
            let number = at as u16;
            if ready[2 * at] {
                endpoint.tell(number, &mut out)?;
            }
            if ready[2 * at + 1] {
                endpoint.receive(number, TURN, &mut out)?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn open(context: &zmq::Context, config: &Config, at: usize, address: &str) -> anyhow::Result<Endpoint> {
    let socket = context.socket(SocketType::SUB)?;
    socket.set_linger(0)?;
    socket.set_rcvhwm(i32::try_from(config.high_water).unwrap_or(i32::MAX))?;
    socket.set_maxmsgsize(FRAME_LIMIT)?;
    socket.set_reconnect_ivl(RECONNECT_MS)?;
    socket.set_reconnect_ivl_max(RECONNECT_MAX_MS)?;
    // Only where it is asked for: `localhost` would become ::1, where publishers of IPv4 do not listen.
    socket.set_ipv6(address.contains('['))?;
    let (idle, interval, count) = KEEPALIVE;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(idle)?;
    socket.set_tcp_keepalive_intvl(interval)?;
    socket.set_tcp_keepalive_cnt(count)?;
    if let Some(server_key) = &config.server_key {
        let key = |text: &str| zmq::z85_decode(text).context("reading a key");
        socket.set_curve_serverkey(&key(server_key)?)?;
        match (&config.public_key, &config.secret_key) {
            (Some(public), Some(secret)) => {
                socket.set_curve_publickey(&key(public)?)?;
                socket.set_curve_secretkey(&key(secret)?)?;
            }
            _ => {
                let pair = zmq::CurveKeyPair::new()?;
                socket.set_curve_publickey(&pair.public_key)?;
                socket.set_curve_secretkey(&pair.secret_key)?;
            }
        }
    }
    for prefix in &config.prefixes {
        socket.set_subscribe(prefix.as_bytes())?;
    }
    let events = [
        SocketEvent::HANDSHAKE_SUCCEEDED,
        SocketEvent::DISCONNECTED,
        SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
        SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
        SocketEvent::HANDSHAKE_FAILED_AUTH,
    ];
    let place = format!("inproc://monitor-{at}");
    socket.monitor(&place, events.into_iter().fold(0, |all, event| all | event as i32))?;
    let monitor = context.socket(SocketType::PAIR)?;
    monitor.set_linger(0)?;
    monitor.connect(&place)?;
    socket.connect(address)?;
    Ok(Endpoint { socket, monitor, refused: false })
}

impl Endpoint {
    /// Passes on what happened to the connection.
    fn tell(&mut self, number: u16, out: &mut Out) -> anyhow::Result<()> {
        loop {
            let frames = match self.monitor.recv_multipart(zmq::DONTWAIT) {
                Ok(frames) => frames,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(()),
                Err(error) => return Err(error).context("watching a connection"),
            };
            let raw = frames.first().and_then(|frame| frame.first_chunk::<2>()).copied().unwrap_or_default();
            let what = match SocketEvent::from_raw(u16::from_ne_bytes(raw)) {
                SocketEvent::HANDSHAKE_SUCCEEDED => {
                    self.refused = false;
                    What::Connected
                }
                SocketEvent::DISCONNECTED => {
                    // What came before it is before it.
                    self.receive(number, LAST_WORDS, out)?;
                    What::Gone
                }
                _ if std::mem::replace(&mut self.refused, true) => continue,
                SocketEvent::HANDSHAKE_FAILED_AUTH => {
                    What::Words("the publisher refuses this source's keys".to_owned())
                }
                _ => What::Words(
                    "the handshake failed: does the publisher ask for encryption, or speak ZeroMQ at all?".to_owned(),
                ),
            };
            out.say(&Said { endpoint: number, at_ns: UnixNanos::now().0, what })?;
        }
    }

    fn receive(&mut self, number: u16, most: usize, out: &mut Out) -> anyhow::Result<()> {
        for _ in 0..most {
            let Some(what) = self.message()? else { return Ok(()) };
            out.say(&Said { endpoint: number, at_ns: UnixNanos::now().0, what })?;
        }
        Ok(())
    }

    /// One message, whole; `None` when none is there.
    fn message(&self) -> anyhow::Result<Option<What>> {
        let (mut frames, mut bytes, mut too_large) = (Vec::new(), 0_usize, false);
        loop {
            // The frames behind the first are there already: messages arrive whole.
            let flags = if frames.is_empty() && bytes == 0 { zmq::DONTWAIT } else { 0 };
            let frame = match self.socket.recv_msg(flags) {
                Ok(frame) => frame,
                Err(zmq::Error::EAGAIN) if bytes == 0 && frames.is_empty() => return Ok(None),
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(error).context("receiving"),
            };
            bytes = bytes.saturating_add(frame.len());
            too_large |= bytes > MESSAGE_BYTES || frames.len() == FRAMES;
            if !too_large {
                frames.push(frame.to_vec());
            }
            if !frame.get_more() {
                break;
            }
        }
        Ok(Some(if too_large { What::TooLarge(bytes as u64) } else { What::Message(frames) }))
    }
}

/// Standard output, in large pieces.
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    fn say(&mut self, said: &Said) -> anyhow::Result<()> {
        wire::write(said, &mut self.bytes);
        if self.bytes.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(&self.bytes).and_then(|()| out.flush()).context("nobody reads any more")?;
        self.bytes.clear();
        Ok(())
    }
}
