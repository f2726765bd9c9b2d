//! Signs of life over MQTT, for whoever watches the watcher: a broker's last will says at once that the deck is gone.
//!
//! ```text
//!                     ┌ status      retained, and the will ──┐
//! status of the deck ─┼ source/…, sink/…  when they change ──┼─► outbox ─► link (MQTT 3.1.1 or 5) ─► broker
//!                     └ heartbeat   every 30 s ──────────────┘   newest of each topic
//! ```
//!
//! - Nothing waits for the broker: the service asks for the deck's status, as a scrape of the metrics does.
//! - What could not be sent is replaced by what is newer. The outbox has at most one message a topic.
//! - A connection is made anew with growing waits, for ever; each begins with an empty outbox.

mod beat;
mod config;
mod discovery;
mod legacy;
mod link;
mod outbox;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage};
use crate::status::Status;
use crate::supervise::waits_between;
use beat::Beats;
use config::Target;
pub(crate) use config::host_name;
pub use config::{Config, Protocol};
use link::Link;
use outbox::{Message, Outbox};

/// Waits between two connections: a broker that is back is found within the longest.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that lasted so long was a good one: the next wait is the shortest again.
const GOOD: Duration = Duration::from_secs(30);
/// How often sources and sinks are looked at for a change of state.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A broker that says nothing for so many times `keepalive` is gone, or frozen: each beat has its answer, and so has each
/// ping, of which one goes out when nothing else does.
const SILENT_KEEPALIVES: u32 = 2;
/// What the farewell may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// `[heartbeat]`, where it names a broker. It reads no tape.
pub const KIND: ServiceKind = ServiceKind {
    name: "heartbeat",
    stage: Stage::Serve,
    holds: Holds::Nothing,
    section: |config| {
        let table = &config.heartbeat.as_ref()?.table;
        table.contains_key("broker").then(|| table.clone().into())
    },
    build,
};

fn build(setup: &Setup) -> anyhow::Result<Box<dyn Service>> {
    let table = setup.config.heartbeat.as_ref().map(|section| section.table.clone()).unwrap_or_default();
    let config = Config::from_table(table).context("[heartbeat]")?;
    let target = config.target()?.context("[heartbeat] names no broker")?;
    let candles = setup.config.candles.as_ref();
    let intervals = candles.map(|candles| candles.intervals.iter().map(|one| one.0).collect()).unwrap_or_default();
    Ok(Box::new(Heartbeat { config, target, intervals }))
}

/// Asks the broker whether it takes what a heartbeat sends, under a name of its own: a running deck keeps its connection.
///
/// # Errors
/// It cannot be reached, does not know the password, or does not let this user write.
pub async fn check(config: &Config) -> anyhow::Result<String> {
    let target = config.target()?.context("names no broker")?;
    let link = Link::open(&target, &format!("tapedeck-check-{}", std::process::id()), None).await?;
    let topic = format!("{}/check", target.topic);
    let text = serde_json::json!({ "ts": tapedeck_market::UnixNanos::now().to_string() }).to_string();
    link.try_out(Message { topic, payload: text.into(), acknowledged: true, retained: false }).await?;
    Ok(format!("{}, MQTT {}, takes messages below {}", target.shown(), target.protocol.name(), target.topic))
}

struct Heartbeat {
    config: Config,
    target: Target,
    /// Of the candles, for the predecessor's payload.
    intervals: Vec<Duration>,
}

#[async_trait]
impl Service for Heartbeat {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let client_id = self.target.client_id(&desk.status.now().tape.id);
        let mut waits = waits_between(SHORTEST_WAIT, LONGEST_WAIT);
        let (mut connections, mut failures, mut told) = (0_u64, 0_u64, String::new());
        let mut beats = Beats::new(&self.target);
        loop {
            desk.shown.set_state("connecting");
            let began = Instant::now();
            let will = beats.will();
            let opened = tokio::select! {
                opened = Link::open(&self.target, &client_id, Some(will)) => opened,
                () = stop.cancelled() => return Ok(()),
            };
            let ended = match opened {
                Ok(link) => {
                    connections += 1;
                    desk.shown.set("connections", connections);
                    tracing::info!(service = %desk.name, broker = self.target.shown(), "heartbeats are sent");
                    told.clear();
                    self.send(link, &mut beats, desk, &stop).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return Ok(()) };
            if began.elapsed() >= GOOD {
                waits = waits_between(SHORTEST_WAIT, LONGEST_WAIT);
            }
            let wait = waits.next().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
            failures += 1;
            desk.shown.set("failures", failures);
            let error = format!("{error:#}");
            desk.shown.set_state(format!("waiting: {error}"));
            // Once, not at every try of a broker that is away for a week.
            if told != error {
                tracing::warn!(service = %desk.name, error, wait_ms = wait.as_millis() as u64, "no heartbeat is sent");
                told = error;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

impl Heartbeat {
    /// Sends over one connection until it breaks, or until `stop`, with a farewell.
    async fn send(&self, link: Link, beats: &mut Beats, desk: &Desk, stop: &CancellationToken) -> anyhow::Result<()> {
        let (client, driver) = link.split();
        let driving = driver.run(SILENT_KEEPALIVES * self.target.keepalive);
        tokio::pin!(driving);
        let mut outbox = Outbox::default();
        let mut board = Board::default();
        outbox.put(beats.online());
        if self.config.discovery {
            discovery::messages(&self.target, &self.config, &desk.status.now())
                .into_iter()
                .for_each(|one| outbox.put(one));
        }
        let mut look = interval(LOOK_EVERY);
        let mut beat = interval(self.config.every.0);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        desk.shown.set_state("running");
        loop {
            tokio::select! {
                error = &mut driving => return Err(error),
                () = stop.cancelled() => break,
                _ = beat.tick() => {
                    let status = desk.status.now();
                    outbox.put(beats.beat(&status, self.config.every.0));
                    if let Some(topic) = &self.config.legacy_topic {
                        let text = legacy::payload(&status, &self.intervals, &self.config.legacy_broker, &jiff::Zoned::now());
                        // As theirs was sent: acknowledged, and not kept.
                        outbox.put(Message { topic: topic.clone(), payload: text.into(), acknowledged: true, retained: false });
                    }
                    desk.shown.set("beats", beats.count());
                }
                _ = look.tick() => board.changes(&self.target, &desk.status.now()).into_iter().for_each(|one| outbox.put(one)),
            }
            outbox.send(&client);
            desk.shown.set("waiting", outbox.len());
            desk.shown.set("replaced", outbox.replaced());
        }
        // Nothing old goes out any more: the last word is that this was the end.
        outbox.clear();
        outbox.put(beats.offline());
        outbox.send(&client);
        let leaving = async {
            client.leave(LEAVE_WITHIN).await;
            driving.await
        };
        // An end that fails is seen by the broker, which then says the will.
        let _ = tokio::time::timeout(LEAVE_WITHIN, leaving).await;
        Ok(())
    }
}

/// What sources and sinks were last said to be.
#[derive(Debug, Default)]
struct Board(BTreeMap<String, (&'static str, String)>);

impl Board {
    /// Messages for what has changed since, and for what is no longer there.
    fn changes(&mut self, target: &Target, status: &Status) -> Vec<Message> {
        let sources = status.sources.iter().map(|one| (format!("source/{}", one.name), one.state.as_str()));
        let services = status.services.iter().map(|one| (format!("{}/{}", one.kind, one.name), one.state.as_str()));
        let now: BTreeMap<String, (&'static str, String)> =
            sources.chain(services).map(|(place, state)| (place, (beat::word(state), state.to_owned()))).collect();
        let mut messages = Vec::new();
        for (place, (word, detail)) in &now {
            if self.0.get(place).is_none_or(|(known, _)| known != word) {
                messages.push(beat::state(target, place, word, detail));
            }
        }
        for place in self.0.keys().filter(|place| !now.contains_key(*place)) {
            messages.push(beat::gone(target, place));
        }
        self.0 = now;
        messages
    }
}
