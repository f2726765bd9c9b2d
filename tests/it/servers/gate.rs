//! Stands before a server: passes connections on, or answers 503 to everything, as a store with too much to do does.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct Gate {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    /// The port behind it.
    server: u16,
    passing: Mutex<Passing>,
    refused: AtomicU32,
}

/// What goes through it; `None` while it is closed.
type Passing = Option<Vec<TcpStream>>;

impl Gate {
    pub(crate) fn closed(server: u16) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { server, passing: Mutex::new(None), refused: AtomicU32::new(0) });
        let gate = Gate { port, state: state.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                state.take(client);
            }
        });
        gate
    }

    pub(crate) fn open(&self) {
        self.state.passing.lock().unwrap().get_or_insert_default();
    }

    /// What goes through it is cut off.
    pub(crate) fn close(&self) {
        for stream in self.state.passing.lock().unwrap().take().into_iter().flatten() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Requests that got 503.
    pub(crate) fn refused(&self) -> u32 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

impl State {
    fn take(&self, mut client: TcpStream) {
        if let Some(passing) = &mut *self.passing.lock().unwrap() {
            let server = TcpStream::connect(("127.0.0.1", self.server)).unwrap();
            pass(client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(server, client.try_clone().unwrap());
            passing.retain(|stream| stream.peer_addr().is_ok());
            passing.push(client);
            return;
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        // What is asked is small: all of it comes before the answer, and the connection ends with it.
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = client.read(&mut [0; 64 << 10]);
        let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
