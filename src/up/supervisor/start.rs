//! A start: phase by phase, each with its gate.

use std::time::Instant;

use super::super::gates::{self, Found};
use super::super::keeper::Order;
use super::super::phases::{PHASES, Phase, PhaseState, Trouble};
use super::super::table::{DECK, SERVERS};
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
        let wanted = |name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted == name || (wanted == SERVERS && name != DECK))
        };
        let (servers, deck): (Vec<usize>, Vec<usize>) =
            (0..self.kept.len()).filter(|at| wanted(&self.kept[*at].name)).partition(|at| self.kept[*at].name != DECK);
        let limit = self.limit();
        let config = self.config.clone();
        let mut phase = self.begin(0, !servers.is_empty());
        if let Some(phase) = &mut phase {
            // One after the other, as the file has them: a later one may need an earlier one.
            for at in servers {
                self.kept[at].order(Order::Start).await;
                let line = gates::process(PHASES[0], &mut self.kept[at]).await;
                match line {
                    Ok(line) => phase.found.lines.push(line),
                    Err(trouble) => return Err(self.fail(0, trouble)),
                }
                self.show(0, phase);
            }
        }
        self.finish(0, phase);
        let with_deck = deck.first().copied();
        let has_retention = with_deck.is_some() && config.sinks.iter().any(|sink| has_retention(&config, sink));
        let phase = self.begin(1, has_retention);
        if let Some(mut phase) = phase {
            phase.found = gates::retention(&config, limit).await.map_err(|trouble| self.fail(1, trouble))?;
            self.finish(1, Some(phase));
        }
        let Some(at) = with_deck else {
            (2..PHASES.len()).for_each(|nth| drop(self.begin(nth, false)));
            return Ok(());
        };
        if let Some(mut phase) = self.begin(2, true) {
            self.kept[at].order(Order::Start).await;
            let ready = gates::process(PHASES[2], &mut self.kept[at]).await;
            phase.found.lines.push(ready.map_err(|trouble| self.fail(2, trouble))?);
            self.show(2, &phase);
            let found = gates::sources(&config, &mut self.kept[at], limit).await;
            phase.add(found.map_err(|trouble| self.fail(2, trouble))?);
            self.finish(2, Some(phase));
        }
        if let Some(mut phase) = self.begin(3, !config.sinks.is_empty()) {
            let found = gates::sinks(&config, &mut self.kept[at], limit).await;
            phase.add(found.map_err(|trouble| self.fail(3, trouble))?);
            self.finish(3, Some(phase));
        }
        if let Some(mut phase) = self.begin(4, config.grafana.is_some()) {
            phase.add(Box::pin(gates::grafana(&config, limit)).await);
            self.finish(4, Some(phase));
        }
        if let Some(mut phase) = self.begin(5, self.job.validate && !config.sinks.is_empty()) {
            phase.add(gates::validation(&config, limit).await.map_err(|trouble| self.fail(5, trouble))?);
            self.finish(5, Some(phase));
        }
        Ok(())
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

    fn finish(&mut self, nth: usize, working: Option<Working>) {
        let Some(working) = working else { return };
        let phase = &mut self.said.phases[nth];
        phase.state = PhaseState::Done;
        phase.took_ms = Some(working.began.elapsed().as_millis() as u64);
        (phase.lines, phase.warnings) = (working.found.lines, working.found.warnings);
        self.write();
    }

    fn fail(&mut self, nth: usize, trouble: Trouble) -> Broken {
        self.said.phases[nth].state = PhaseState::Failed;
        self.write();
        Broken::Trouble(trouble)
    }
}

/// Every phase of a start that begins.
pub(super) fn all_ahead() -> Vec<Phase> {
    PHASES.iter().map(|name| Phase { name: (*name).to_owned(), ..Phase::default() }).collect()
}

fn has_retention(config: &Config, sink: &KindTable) -> bool {
    crate::sinks::build(sink, &config.tape.dir).is_ok_and(|(_, mut sink)| sink.retention().is_some())
}
