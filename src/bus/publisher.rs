//! The publishing sockets: one XPUB a port, all on the thread that reads the tape.
//!
//! A message is encoded once a form and handed to every socket that has its topic. A subscriber that reads too slowly loses
//! messages in its own queue, here; nobody else waits for it. It sees so by `prev`, or by the heartbeat.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tapedeck_market::{Event, SmolStr, UnixNanos, Uuid};

use super::engine::{Engine, Manner, Message};
use super::form::{Encoder, Val};
use super::keys::Keys;
use super::registry;
use super::zap::Guard;
use crate::config::{Bus, Form};

/// Topic of the heartbeat that each port sends.
pub const HEARTBEAT: &str = "heartbeat";
/// What libzmq may take at the end to send what is still in its queues.
const LINGER_MS: i32 = 500;
/// A subscription, or a request: what is larger is not for us.
pub(super) const INBOUND_BYTES_MAX: i64 = 64 * 1024;
/// Topics named in one heartbeat: the newest, where there are more.
const HEARTBEAT_TOPICS: usize = 4_096;
/// Last messages kept, one a topic and instrument; what lies beyond is not told by `last`.
const LAST_MAX: usize = 200_000;
/// Changes of connections looked at in one go.
const EVENTS_AT_ONCE: usize = 256;

/// The newest message of each topic and instrument, shared with whoever answers requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Last(Arc<Mutex<LastOf>>);

#[derive(Debug, Default)]
struct LastOf {
    topics: HashMap<SmolStr, BTreeMap<(SmolStr, SmolStr), Arc<Message>>>,
    count: usize,
}

impl Last {
    fn keep(&self, message: Message) {
        let mut last = self.lock();
        let LastOf { topics, count } = &mut *last;
        let key = (message.venue.clone(), message.symbol.clone());
        if !topics.contains_key(&message.topic) {
            topics.insert(message.topic.clone(), BTreeMap::new());
        }
        let Some(topic) = topics.get_mut(&message.topic) else { return };
        if let Some(place) = topic.get_mut(&key) {
            *place = Arc::new(message);
        } else if *count < LAST_MAX {
            *count += 1;
            topic.insert(key, Arc::new(message));
        }
    }

    /// In the order of their seqs.
    pub(super) fn of(&self, topic: &str) -> Vec<Arc<Message>> {
        let mut found: Vec<_> = self.lock().topics.get(topic).into_iter().flat_map(BTreeMap::values).cloned().collect();
        found.sort_by_key(|message| message.seq);
        found
    }

    fn lock(&self) -> MutexGuard<'_, LastOf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was published, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub messages: u64,
    pub bytes: u64,
    /// Connections to the publishing ports.
    pub subscribers: usize,
    /// Prefixes that somebody subscribed to, over all ports.
    pub subscriptions: usize,
    /// Connections refused for their keys.
    pub refused: u64,
    /// Events whose topic was one too many.
    pub dropped: u64,
    /// Records that this version cannot read.
    pub unreadable: u64,
}

/// One port.
struct Port {
    socket: zmq::Socket,
    monitor: zmq::Socket,
    /// Descriptors of the connections that are open.
    connections: HashSet<u32>,
    subscriptions: HashSet<Vec<u8>>,
}

/// Where a topic goes.
struct Way {
    manner: Manner,
    ports: Vec<usize>,
    /// Other names to publish it under.
    aliases: Vec<&'static str>,
}

/// Everything that publishes.
pub struct Publisher {
    bus: Arc<Bus>,
    encoder: Encoder,
    engine: Engine,
    ports: Vec<Port>,
    port_numbers: Vec<u16>,
    ways: HashMap<SmolStr, Way>,
    last: Last,
    counts: Counts,
    out: Vec<Message>,
    guard: Option<Guard>,
    context: zmq::Context,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("ports", &self.port_numbers)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Binds every port of the config. `keys` are asked for where they are given; `replayed` marks all that is sent.
    ///
    /// # Errors
    /// A port is taken (the error names who has it), or the keys cannot be read.
    pub fn bind(bus: Arc<Bus>, tape: Uuid, keys: Option<Keys>, replayed: bool) -> anyhow::Result<Publisher> {
        let context = zmq::Context::new();
        let server = match &keys {
            Some(keys) => Some(keys.server()?.context("there are no keys yet: `tapedeck keys new NAME` makes them")?),
            None => None,
        };
        let guard = keys.map(|keys| Guard::start(&context, keys)).transpose()?;
        let mut ports = Vec::new();
        let port_numbers: Vec<u16> = registry::layout(&bus).into_keys().collect();
        for port in &port_numbers {
            let socket = context.socket(zmq::XPUB).context("making a socket")?;
            prepare(&socket, server.as_ref().map(|pair| pair.secret.as_str())).context("making a socket")?;
            socket.set_sndhwm(i32::try_from(bus.high_water).unwrap_or(i32::MAX)).context("making a socket")?;
            let monitor = watch(&context, &socket, *port).context("making a socket")?;
            bind(&socket, &bus, *port)?;
            ports.push(Port { socket, monitor, connections: HashSet::new(), subscriptions: HashSet::new() });
        }
        Ok(Publisher {
            engine: Engine::new(bus.clone(), None),
            bus,
            encoder: Encoder::new(tape, replayed),
            ports,
            port_numbers,
            ways: HashMap::new(),
            last: Last::default(),
            counts: Counts::default(),
            out: Vec::new(),
            guard,
            context,
        })
    }

    /// The state behind the messages, to be restored before anything is published.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Takes a record without sending anything for it: it was there before this publisher.
    pub fn pass(&mut self, seq: u64, event: Event) {
        self.engine.apply(seq, event, &mut self.out);
        for message in self.out.drain(..) {
            self.last.keep(message);
        }
    }

    /// Takes what waits for its slot as sent: whoever was before may have sent it, and nothing is sent twice.
    pub fn pass_waiting(&mut self) {
        self.engine.finish(&mut self.out);
        for message in self.out.drain(..) {
            self.last.keep(message);
        }
    }

    /// Publishes what a record says.
    ///
    /// # Errors
    /// libzmq refuses, which it does only when it is ending.
    pub fn publish(&mut self, seq: u64, event: Event) -> anyhow::Result<()> {
        self.engine.apply(seq, event, &mut self.out);
        self.send()
    }

    /// Publishes what waited for its time, when nothing has come for a while.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn quiet(&mut self, now: UnixNanos) -> anyhow::Result<()> {
        self.engine.quiet(now.0, &mut self.out);
        self.send()
    }

    /// Publishes all that waited: nothing more will come.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.engine.finish(&mut self.out);
        self.send()
    }

    /// Says on each port how far its topics are.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn heartbeat(&mut self, now: UnixNanos) -> anyhow::Result<()> {
        let mut of_port: Vec<Vec<(u64, SmolStr)>> = vec![Vec::new(); self.ports.len()];
        let topics: Vec<(SmolStr, u64)> = self.engine.last_seqs().map(|(topic, seq)| (topic.clone(), seq)).collect();
        for (topic, seq) in topics {
            let Some(way) = self.way(&topic) else { continue };
            for port in &way.ports {
                of_port[*port].push((seq, topic.clone()));
            }
        }
        for (port, mut topics) in self.ports.iter().zip(of_port) {
            topics.sort_unstable_by(|a, b| b.cmp(a));
            topics.truncate(HEARTBEAT_TOPICS);
            let last = topics.into_iter().map(|(seq, topic)| (topic, Val::UInt(seq))).collect();
            let payload = Encoder::map(&[
                (SmolStr::new_static("tape"), self.encoder.tape_text().into()),
                (SmolStr::new_static("ts"), now.into()),
                (SmolStr::new_static("last"), Val::Map(last)),
            ]);
            send_two(&port.socket, HEARTBEAT.as_bytes(), &payload)?;
        }
        Ok(())
    }

    /// Looks who came and went.
    pub fn look(&mut self) -> Counts {
        for port in &mut self.ports {
            port.look();
        }
        self.counts.subscribers = self.ports.iter().map(|port| port.connections.len()).sum();
        self.counts.subscriptions = self.ports.iter().map(|port| port.subscriptions.len()).sum();
        self.counts.refused =
            self.guard.as_ref().map_or(0, |guard| guard.refused.load(std::sync::atomic::Ordering::Relaxed));
        self.counts.dropped = self.engine.dropped();
        self.counts
    }

    /// A record that this version cannot read was passed over.
    pub fn unreadable(&mut self) {
        self.counts.unreadable += 1;
    }

    /// Sends an empty message on a topic's own ports, for whoever waits to see that a subscription is there.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn greet(&mut self, topic: &str) -> anyhow::Result<()> {
        let topic = SmolStr::new(topic);
        let Some(ports) = self.way(&topic).map(|way| way.ports.clone()) else { return Ok(()) };
        ports.into_iter().try_for_each(|port| send_two(&self.ports[port].socket, topic.as_bytes(), &[]))
    }

    /// The ports that publish.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.port_numbers
    }

    pub(super) fn context(&self) -> &zmq::Context {
        &self.context
    }

    pub(super) fn last(&self) -> Last {
        self.last.clone()
    }

    pub(super) fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn way(&mut self, topic: &SmolStr) -> Option<&Way> {
        if !self.ways.contains_key(topic) {
            let manner = self.engine.manner(topic)?;
            let everything = registry::moved(&self.bus, registry::EVERYTHING);
            let numbers = registry::ports_of(&self.bus, topic).into_iter().chain([everything]);
            let mut ports: Vec<usize> =
                numbers.filter_map(|number| self.port_numbers.iter().position(|known| *known == number)).collect();
            ports.dedup();
            let aliases = if self.bus.aliases { registry::aliases_of(topic).collect() } else { Vec::new() };
            self.ways.insert(topic.clone(), Way { manner, ports, aliases });
        }
        self.ways.get(topic)
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        for message in out.drain(..) {
            self.send_one(&message)?;
            self.last.keep(message);
        }
        self.out = out;
        Ok(())
    }

    fn send_one(&mut self, message: &Message) -> anyhow::Result<()> {
        if self.way(&message.topic).is_none() {
            return Ok(());
        }
        let Some(Way { manner, ports, aliases }) = self.ways.get(&message.topic) else { return Ok(()) };
        let own = std::iter::once(message.topic.as_str());
        let mut encoded = None;
        for name in own.chain(aliases.iter().copied()) {
            // The legacy text has the name inside; all other forms are the same under each name.
            let fresh = encoded.is_none() || manner.form == Form::Soh;
            if fresh {
                encoded = Some(self.encoder.encode(message, name, manner.form, manner.decimals));
            }
            let Some(encoded) = &encoded else { continue };
            for port in ports {
                let socket = &self.ports[*port].socket;
                if encoded.one_frame {
                    send_one_frame(socket, encoded.payload)?;
                } else {
                    send_two(socket, name.as_bytes(), encoded.payload)?;
                }
            }
            self.counts.messages += 1;
            self.counts.bytes += (name.len() + encoded.payload.len()) as u64;
        }
        Ok(())
    }
}

impl Port {
    fn look(&mut self) {
        const ACCEPTED: u16 = 0x0020;
        const CLOSED: u16 = 0x0080;
        const DISCONNECTED: u16 = 0x0200;
        for _ in 0..EVENTS_AT_ONCE {
            let Ok(frames) = self.monitor.recv_multipart(zmq::DONTWAIT) else { break };
            // Two bytes of what happened, four of the descriptor, in the host's order; then the address.
            let Some((event, descriptor)) = frames.first().and_then(|frame| frame.split_first_chunk::<2>()) else {
                continue;
            };
            let Some(descriptor) = descriptor.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)) else {
                continue;
            };
            match u16::from_ne_bytes(*event) {
                ACCEPTED => drop(self.connections.insert(descriptor)),
                CLOSED | DISCONNECTED => drop(self.connections.remove(&descriptor)),
                _ => {}
            }
        }
        for _ in 0..EVENTS_AT_ONCE {
            let Ok(frame) = self.socket.recv_bytes(zmq::DONTWAIT) else { break };
            match frame.split_first() {
                Some((1, prefix)) => drop(self.subscriptions.insert(prefix.to_vec())),
                Some((0, prefix)) => drop(self.subscriptions.remove(prefix)),
                _ => {}
            }
        }
    }
}

/// What every socket of the bus has. ZMTP heartbeats stay off: with a slow subscriber they abort the process.
pub(super) fn prepare(socket: &zmq::Socket, server_secret: Option<&str>) -> anyhow::Result<()> {
    socket.set_linger(LINGER_MS)?;
    socket.set_maxmsgsize(INBOUND_BYTES_MAX)?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(30)?;
    socket.set_tcp_keepalive_intvl(10)?;
    socket.set_tcp_keepalive_cnt(3)?;
    if let Some(secret) = server_secret {
        socket.set_curve_server(true)?;
        let secret = zmq::z85_decode(secret).map_err(|error| anyhow::anyhow!("{error}"))?;
        socket.set_curve_secretkey(&secret)?;
        socket.set_zap_domain("tapedeck")?;
    }
    Ok(())
}

/// Binds a port; a refusal names who has it.
pub(super) fn bind(socket: &zmq::Socket, bus: &Bus, port: u16) -> anyhow::Result<()> {
    let address = std::net::SocketAddr::new(bus.listen, port);
    if address.is_ipv6() {
        socket.set_ipv6(true).context("making a socket")?;
    }
    match socket.bind(&format!("tcp://{address}")) {
        Ok(()) => Ok(()),
        Err(zmq::Error::EADDRINUSE) => Err(super::taken(bus, port, Some(&super::holder::holder_of(port)))),
        Err(error) => Err(anyhow::anyhow!("{error}")).with_context(|| format!("binding {address}")),
    }
}

fn watch(context: &zmq::Context, socket: &zmq::Socket, port: u16) -> zmq::Result<zmq::Socket> {
    let name = format!("inproc://port-{port}");
    let events = zmq::SocketEvent::ACCEPTED.to_raw()
        | zmq::SocketEvent::DISCONNECTED.to_raw()
        | zmq::SocketEvent::CLOSED.to_raw();
    socket.monitor(&name, i32::from(events))?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.set_linger(0)?;
    monitor.connect(&name)?;
    Ok(monitor)
}

/// A PUB never waits: a queue that is full drops for that subscriber alone.
fn send_two(socket: &zmq::Socket, topic: &[u8], payload: &[u8]) -> anyhow::Result<()> {
    sent(socket.send(topic, zmq::SNDMORE | zmq::DONTWAIT))?;
    sent(socket.send(payload, zmq::DONTWAIT))
}

fn send_one_frame(socket: &zmq::Socket, payload: &[u8]) -> anyhow::Result<()> {
    sent(socket.send(payload, zmq::DONTWAIT))
}

fn sent(done: zmq::Result<()>) -> anyhow::Result<()> {
    match done {
        Ok(()) | Err(zmq::Error::EAGAIN) => Ok(()),
        Err(error) => Err(anyhow::anyhow!("{error}")).context("publishing"),
    }
}
