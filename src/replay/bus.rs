//! The bus whose market is the tape: the same topics and forms, each message marked as replayed.
//!
//! Nothing holds a publisher up: who reads too slowly misses messages and sees it by `prev`, as on the live bus, but nobody
//! answers requests here. The replay waits for the first subscriber, and a little longer, so that no beginning is missed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use tapedeck_market::{Record, UnixNanos};
use tapedeck_tape::storage::{Disk, Storage};

use super::Target;
use crate::bus::{Engine, Publisher, replayer};
use crate::config::Bus;

/// How often it is looked whether somebody has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Subscriptions of one client arrive one by one.
const SETTLE: Duration = Duration::from_millis(300);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// A bus on ports of its own.
#[derive(Debug)]
pub struct ToBus {
    bus: Arc<Bus>,
    publisher: Publisher,
    heartbeat: Instant,
    ts_recv: UnixNanos,
    /// Somebody has been there.
    begun: bool,
}

impl ToBus {
    /// Binds the ports of the config on `listen`.
    ///
    /// # Errors
    /// A port is taken, as it is while a deck publishes there; others could reach the address; there is no tape.
    pub fn listen(dir: &Path, bus: &Bus, listen: Option<IpAddr>) -> anyhow::Result<ToBus> {
        let bus = Bus { listen: listen.unwrap_or(bus.listen), ..bus.clone() };
        anyhow::ensure!(
            bus.listen.is_loopback() || bus.insecure,
            "{} can be reached by others, and a replay asks for no keys: --listen 127.0.0.1, or `insecure = true` in [bus]",
            bus.listen
        );
        let disk: Arc<dyn Storage> = Arc::new(Disk);
        let tape = tapedeck_tape::tools::id(&disk, dir)?;
        let publisher = replayer(&bus, tape).context(
            "opening the bus (a running deck has its ports: replay on another address, such as --listen 127.0.0.2)",
        )?;
        let (bus, heartbeat) = (Arc::new(bus), Instant::now());
        Ok(ToBus { bus, publisher, heartbeat, ts_recv: UnixNanos(0), begun: false })
    }

    /// The port that carries all topics.
    #[must_use]
    pub fn everything(&self) -> String {
        let port = crate::bus::registry::moved(&self.bus, crate::bus::registry::EVERYTHING);
        format!("tcp://{}", std::net::SocketAddr::new(self.bus.listen, port))
    }

    /// Publishes what waited for its time.
    ///
    /// # Errors
    /// libzmq refuses.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.publisher.finish()?;
        self.publisher.heartbeat(UnixNanos::now())
    }

    fn beat(&mut self) -> anyhow::Result<()> {
        if self.heartbeat.elapsed() < HEARTBEAT_EVERY {
            return Ok(());
        }
        self.heartbeat = Instant::now();
        self.publisher.look();
        self.publisher.heartbeat(UnixNanos::now())
    }
}

#[async_trait]
impl Target for ToBus {
    fn has_memory(&self) -> bool {
        true
    }

    fn remember(&mut self, record: &Record) {
        self.publisher.pass(record.seq, record.event.clone());
    }

    fn forget(&mut self) {
        *self.publisher.engine() = Engine::new(self.bus.clone(), None);
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        self.publisher.pass_waiting();
        while !self.begun && self.publisher.look().subscriptions == 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if !self.begun {
            tokio::time::sleep(SETTLE).await;
            self.publisher.look();
            self.begun = true;
        }
        Ok(())
    }

    fn play(&mut self, record: &Record) -> anyhow::Result<()> {
        self.ts_recv = record.event.ts_recv;
        self.publisher.publish(record.seq, record.event.clone())?;
        self.beat()
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.publisher.quiet(self.ts_recv)?;
        self.beat()
    }
}
