//! A source at work against a fake venue, with the test at the recorder's end of the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tapedeck::intake::{Counters, Intake, Outlet, Resume};
use tapedeck::sources::kraken::KIND;
use tapedeck::sources::{Session, Setup};
use tapedeck_market::Event;
use tapedeck_testkit::kraken::{Fault, Handle, Sent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A table of the config as its sessions.
pub(crate) fn sessions(table: &str) -> Vec<Session> {
    let setup = Setup { name: "k".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table")
}

/// A source at work, and everything it said so far.
pub(crate) struct Desk {
    pub(crate) intake: mpsc::Receiver<Intake>,
    pub(crate) said: Vec<Intake>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) task: JoinHandle<anyhow::Error>,
}

impl Desk {
    /// Runs the public session of a table, and again when it ends by itself, as the supervisor would.
    pub(crate) fn run(fake: &Handle, table: &str) -> Desk {
        Desk::resume(fake, table, Resume::default())
    }

    pub(crate) fn resume(fake: &Handle, table: &str, resume: Resume) -> Desk {
        let session = sessions(&format!("url = '{}'\n{table}", fake.ws_url())).remove(0);
        Desk::of(session, resume)
    }

    pub(crate) fn of(session: Session, resume: Resume) -> Desk {
        Desk::at("kraken", session, resume)
    }

    /// The session of any venue.
    pub(crate) fn at(venue: &'static str, mut session: Session, resume: Resume) -> Desk {
        let (to_recorder, intake) = mpsc::channel(4_096);
        let counters = Arc::new(Counters::default());
        let out = Outlet::new("k".into(), venue.into(), to_recorder, counters.clone(), Arc::new(resume));
        let task = tokio::spawn(async move {
            match session.source.run(&out).await {
                Ok(()) => anyhow::anyhow!("ended"),
                Err(error) => error,
            }
        });
        Desk { intake, said: Vec::new(), counters, task }
    }

    /// Listens until something is said that is `wanted`.
    pub(crate) async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Intake) -> bool) -> &Intake {
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(message) = self.intake.recv().await {
                let found = wanted(&message);
                self.said.push(message);
                if found {
                    return true;
                }
            }
            false
        });
        match found.await {
            Ok(true) => self.said.last().expect("just pushed"),
            Ok(false) => panic!("the session ended before {what}: {:#}", (&mut self.task).await.expect("no panic")),
            Err(_) => panic!("no {what} within {PATIENCE:?}; state {}; said {}", self.counters.state(), self.summary()),
        }
    }

    pub(crate) async fn until_events(&mut self, what: &str, count: usize, wanted: impl Fn(&Event) -> bool) {
        let mut seen = 0;
        self.until(what, |message| {
            seen += events_of(message).iter().filter(|event| wanted(event)).count();
            seen >= count
        })
        .await;
    }

    /// Listens until the queue is empty and nobody can fill it any more.
    pub(crate) async fn drain(&mut self) -> String {
        while let Some(message) = self.intake.recv().await {
            self.said.push(message);
        }
        format!("{:#}", (&mut self.task).await.expect("no panic"))
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.said.iter().flat_map(events_of)
    }

    /// How often something was said of a subscription.
    pub(crate) fn count(&self, wanted: impl Fn(&Intake) -> bool) -> usize {
        self.said.iter().filter(|message| wanted(message)).count()
    }

    pub(crate) fn summary(&self) -> String {
        let mut counts = BTreeMap::<String, u32>::new();
        for message in &self.said {
            let what = match message {
                Intake::Events { events, .. } => events.first().map_or("none", |e| e.body.kind().name()).to_owned(),
                other => format!("{other:?}"),
            };
            *counts.entry(what).or_default() += 1;
        }
        format!("{counts:#?}")
    }
}

pub(crate) fn events_of(message: &Intake) -> &[Event] {
    match message {
        Intake::Events { events, .. } | Intake::Holes { events, .. } => events,
        _ => &[],
    }
}

pub(crate) fn is_live(message: &Intake, of: &str, on: &str) -> bool {
    matches!(message, Intake::Live { symbol, channel, .. } if symbol == of && channel == on)
}

pub(crate) fn fault(text: &str) -> Fault {
    text.parse().expect("a fault")
}

/// Acks that the fake sent, per (channel, symbol).
pub(crate) fn acks(entries: &[Sent]) -> BTreeMap<(String, String), usize> {
    let mut acks = BTreeMap::new();
    for sent in entries.iter().filter(|sent| sent.kind == "ack") {
        *acks.entry((sent.channel.to_owned(), sent.symbol.to_string())).or_default() += 1;
    }
    acks
}

pub(crate) fn acks_of(fake: &Handle, channel: &str, symbol: &str) -> usize {
    acks(&fake.log().entries()).get(&(channel.to_owned(), symbol.to_owned())).copied().unwrap_or(0)
}
