//! Who may connect where keys are asked for: the answering side of ZeroMQ's authentication protocol (RFC 27).
//!
//! libzmq asks on `inproc://zeromq.zap.01` for each new connection: version, request, domain, address, identity, mechanism,
//! and the client's public key. The answer says 200 or 400.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;

use super::keys::Keys;

const ENDPOINT: &str = "inproc://zeromq.zap.01";
/// How often the thread looks whether it shall end.
const LOOK_MS: i64 = 200;

/// The thread that answers; it ends when this is dropped.
pub(super) struct Guard {
    stop: Arc<AtomicBool>,
    pub(super) refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Starts it; before any socket of that context is bound.
    pub(super) fn start(context: &zmq::Context, keys: Keys) -> anyhow::Result<Guard> {
        let socket = context.socket(zmq::REP).context("making a socket")?;
        socket.set_linger(0).context("making a socket")?;
        socket.bind(ENDPOINT).context("answering who may connect")?;
        let stop = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, refused) = (stop.clone(), refused.clone());
            std::thread::Builder::new()
                .name("bus-keys".into())
                .spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if socket.poll(zmq::POLLIN, LOOK_MS).is_ok_and(|ready| ready > 0)
                            && let Ok(frames) = socket.recv_multipart(zmq::DONTWAIT)
                        {
                            let answer = answer(&frames, &keys, &refused);
                            // libzmq is the one that asks: if it is gone, so is the connection.
                            let _ = socket.send_multipart(answer, zmq::DONTWAIT);
                        }
                    }
                })
                .context("starting a thread")?
        };
        Ok(Guard { stop, refused, thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(frames: &[Vec<u8>], keys: &Keys, refused: &AtomicU64) -> [Vec<u8>; 6] {
    let frame = |at: usize| frames.get(at).map(Vec::as_slice).unwrap_or_default();
    let client = match frame(5) {
        b"CURVE" => zmq::z85_encode(frame(6)).ok().and_then(|key| keys.client_of(&key)),
        _ => None,
    };
    let (code, text) = if client.is_some() { ("200", "welcome") } else { ("400", "this key may not connect") };
    if client.is_none() {
        refused.fetch_add(1, Ordering::Relaxed);
        let address = String::from_utf8_lossy(frame(3)).into_owned();
        tracing::warn!(address, "a client without a known key was refused; `tapedeck keys` says who may connect");
    }
    let user = client.unwrap_or_default();
    [b"1.0".to_vec(), frame(1).to_vec(), code.into(), text.into(), user.into(), Vec::new()]
}
