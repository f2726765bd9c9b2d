//! A start: phase by phase, each with its gate.

use std::time::Instant;

use super::super::gates::{self, Found};
use super::super::keeper::Order;
use super::super::phases::{PHASES, Phase, PhaseState, Trouble};
use super::super::table::{DECK, means};
use super::{Broken, Warden};
use crate::config::{Config, KindTable};

struct Working {
    began: Instant,
    found: Found,
}

impl Working {
    fn add(&mut self, found: Found) {
        self.found.lines.extend(found.lines);
        self.found.warnings.extend(found.warnings);
    }
}

impl Warden {
    /// Through the phases. Whatever is running already passes its gate at once.
    pub(super) async fn start(&mut self, names: &[String]) -> Result<(), Broken> {
        let wanted = |name: &str| names.is_empty() || means(names, name);
        let (servers, deck): (Vec<usize>, Vec<usize>) =
            (0..self.kept.len()).filter(|at| wanted(&self.kept[*at].name)).partition(|at| self.kept[*at].name != DECK);
        let limit = self.limit();
        let config = self.config.clone();
        let mut first = None;
        let mut phase = self.begin(0, !servers.is_empty());
        if let Some(phase) = &mut phase {
            // One after the other, as the file has them: a later one may need an earlier one.
            for at in servers {
                self.kept[at].order(Order::Start).await;
                let line = gates::process(PHASES[0], &mut self.kept[at]).await;
                match line {
                    Ok(line) => phase.found.lines.push(line),
                    Err(trouble) => self.fail(0, trouble, &mut first)?,
                }
                self.show(0, phase);
            }
        }
        self.finish(0, phase);
        let with_deck = deck.first().copied();
        let has_retention = with_deck.is_some() && config.sinks.iter().any(|sink| has_retention(&config, sink));
        if let Some(phase) = self.begin(1, has_retention) {
            let found = gates::retention(&config, limit).await;
            self.pass(1, phase, found, &mut first)?;
        }
        let Some(at) = with_deck else {
            (2..PHASES.len()).for_each(|nth| drop(self.begin(nth, false)));
            return all_well(first);
        };
        if let Some(mut phase) = self.begin(2, true) {
            self.kept[at].order(Order::Start).await;
            let ready = gates::process(PHASES[2], &mut self.kept[at]).await;
            match ready {
                Ok(line) => phase.found.lines.push(line),
                Err(trouble) => {
                    self.fail(2, trouble.clone(), &mut first)?;
                    // Nothing behind it has anybody to ask.
                    return Err(Broken::Trouble(Box::new(first.unwrap_or(trouble))));
                }
            }
            self.show(2, &phase);
            let found = gates::sources(&config, &mut self.kept[at], limit).await;
            self.pass(2, phase, found, &mut first)?;
        }
        if let Some(phase) = self.begin(3, !config.sinks.is_empty()) {
            let found = gates::sinks(&config, &mut self.kept[at], limit).await;
            self.pass(3, phase, found, &mut first)?;
        }
        if let Some(mut phase) = self.begin(4, config.grafana.is_some()) {
            phase.add(Box::pin(gates::grafana(&config, limit)).await);
            self.finish(4, Some(phase));
        }
        if let Some(phase) = self.begin(5, self.job.validate && !config.sinks.is_empty()) {
            let found = gates::validation(&config, limit).await;
            self.pass(5, phase, found, &mut first)?;
        }
        all_well(first)
    }

    /// A phase begins, or is skipped because there is nothing in it.
    fn begin(&mut self, nth: usize, something: bool) -> Option<Working> {
        self.said.phases[nth] = Phase {
            name: PHASES[nth].to_owned(),
            state: if something { PhaseState::Working } else { PhaseState::Skipped },
            ..Phase::default()
        };
        self.write();
        something.then(|| Working { began: Instant::now(), found: Found::default() })
    }

    fn show(&mut self, nth: usize, working: &Working) {
        self.said.phases[nth].lines.clone_from(&working.found.lines);
        self.write();
    }

    /// A phase is over, one way or the other.
    fn pass(
        &mut self,
        nth: usize,
        mut working: Working,
        found: Result<Found, Trouble>,
        first: &mut Option<Trouble>,
    ) -> Result<(), Broken> {
        match found {
            Ok(found) => {
                working.add(found);
                self.finish(nth, Some(working));
                Ok(())
            }
            Err(trouble) => self.fail(nth, trouble, first),
        }
    }

    fn finish(&mut self, nth: usize, working: Option<Working>) {
        let Some(working) = working else { return };
        let phase = &mut self.said.phases[nth];
        if phase.state == PhaseState::Failed {
            return;
        }
        phase.state = PhaseState::Done;
        phase.took_ms = Some(working.began.elapsed().as_millis() as u64);
        (phase.lines, phase.warnings) = (working.found.lines, working.found.warnings);
        tracing::info!(
            phase = phase.name,
            took_ms = phase.took_ms,
            ready = phase.lines.join("; "),
            warnings = phase.warnings.join("; "),
            "phase done"
        );
        self.write();
    }

    /// A phase failed. Where what was started is to stay, the next ones are gone through all the same: a store that is away
    /// keeps nobody from recording.
    fn fail(&mut self, nth: usize, trouble: Trouble, first: &mut Option<Trouble>) -> Result<(), Broken> {
        self.said.phases[nth].state = PhaseState::Failed;
        self.write();
        if !self.job.keep {
            return Err(Broken::Trouble(Box::new(trouble)));
        }
        tracing::error!(phase = trouble.phase, service = trouble.service, why = trouble.why, "goes on without");
        first.get_or_insert(trouble);
        Ok(())
    }
}

/// The end of a start that may have gone on after the first thing that failed.
fn all_well(first: Option<Trouble>) -> Result<(), Broken> {
    first.map_or(Ok(()), |trouble| Err(Broken::Trouble(Box::new(trouble))))
}

/// Every phase of a start that begins.
pub(super) fn all_ahead() -> Vec<Phase> {
    PHASES.iter().map(|name| Phase { name: (*name).to_owned(), ..Phase::default() }).collect()
}

fn has_retention(config: &Config, sink: &KindTable) -> bool {
    crate::sinks::build(sink, &config.tape.dir).is_ok_and(|(_, mut sink)| sink.retention().is_some())
}
