//! What `up` and `down` print: a line a phase, and below it what is in it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use crate::cli::out::Out;
use crate::up::{Phase, PhaseState, Stage, Supervisor, Trouble};

/// Progress, on standard error.
pub(super) struct Follower {
    /// `None`: nothing is printed, because JSON was asked for.
    bar: Option<ProgressBar>,
    printed: usize,
    ended: usize,
}

impl Follower {
    pub(super) fn new(json: bool) -> Follower {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is ours; a test draws it.
        bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Follower { bar: (!json).then_some(bar), printed: 0, ended: 0 }
    }

    /// What is there already is not told again.
    pub(super) fn quiet(&mut self) {
        self.printed = usize::MAX;
    }

    pub(super) fn say(&self, line: &str) {
        let Some(bar) = &self.bar else { return };
        if bar.is_hidden() {
            eprintln!("{line}");
        } else {
            bar.println(line);
        }
    }

    /// What is worked at now, where a terminal shows it.
    pub(super) fn works_at(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// Ends the progress; what was said stays.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints the phases that are over, and shows the one that works.
    pub(super) fn show(&mut self, said: &Supervisor) {
        while let Some(phase) = said.phases.get(self.printed).filter(|phase| is_over(phase)) {
            phase_lines(phase).iter().for_each(|line| self.say(line));
            self.printed += 1;
        }
        for line in said.ended.iter().skip(self.ended) {
            self.say(&format!("  {line}"));
        }
        self.ended = self.ended.max(said.ended.len());
        let working = said.phases.iter().find(|phase| phase.state == PhaseState::Working);
        if let (Some(bar), Some(phase)) = (&self.bar, working) {
            let ready = phase.lines.last().map(|line| format!(": {line}")).unwrap_or_default();
            bar.set_message(format!("{}{ready}", phase.name));
        }
    }

    pub(super) fn end(mut self, said: &Supervisor) {
        self.show(said);
        self.clear();
    }
}

const TEMPLATE: &str = "{spinner} {msg} {elapsed}";

fn is_over(phase: &Phase) -> bool {
    matches!(phase.state, PhaseState::Done | PhaseState::Skipped | PhaseState::Failed)
}

fn phase_lines(phase: &Phase) -> Vec<String> {
    let (sign, first) = match phase.state {
        PhaseState::Failed => ("✗", "failed".to_owned()),
        PhaseState::Skipped => ("-", "skipped: nothing in it".to_owned()),
        _ => ("✓", format!("{:.2} s", phase.took_ms.unwrap_or(0) as f64 / 1e3)),
    };
    let mut lines = vec![format!("{sign} {:<11} {first}", phase.name)];
    lines.extend(phase.lines.iter().map(|line| format!("    {line}")));
    lines.extend(phase.warnings.iter().map(|line| format!("  ! {line}")));
    lines
}

/// For `--foreground`: the same, from the supervisor in this process, to its end.
pub(super) async fn print_as_told(mut told: watch::Receiver<Supervisor>, json: bool, keep: bool) -> anyhow::Result<()> {
    let mut follower = Follower::new(json);
    let mut out = Out::new(false);
    let mut stage = Stage::Starting;
    let mut cleared = false;
    while told.changed().await.is_ok() {
        let said = told.borrow_and_update().clone();
        follower.show(&said);
        if said.stage == stage {
            continue;
        }
        stage = said.stage;
        if let (Some(bar), false) = (&follower.bar, std::mem::replace(&mut cleared, true)) {
            bar.finish_and_clear();
        }
        match stage {
            Stage::Up if json => out.json(&serde_json::json!({ "ok": true, "supervisor": said }))?,
            Stage::Up => access(&said, &mut out)?,
            Stage::Failed if !json => said.trouble.iter().for_each(|one| trouble(one, keep)),
            _ => {}
        }
        out.flush()?;
    }
    Ok(())
}

/// The addresses, at the end of a start.
pub(super) fn access(said: &Supervisor, out: &mut Out) -> anyhow::Result<()> {
    if let Some(took) = said.took_ms {
        out.line(format!("up after {:.2} s, pid {}", took as f64 / 1e3, said.identity.pid))?;
    }
    let width = said.access.iter().map(|one| one.what.len()).max().unwrap_or(0);
    said.access.iter().try_for_each(|one| out.line(format!("  {:<width$}  {}", one.what, one.address)))
}

/// Why it is not up: what, why, its last words, and what mends it.
pub(super) fn trouble(trouble: &Trouble, kept: bool) {
    eprintln!("tapedeck: {}: {trouble}", trouble.phase);
    trouble.log.iter().for_each(|line| eprintln!("  | {line}"));
    if let Some(file) = trouble.log_file.as_ref().filter(|_| !trouble.log.is_empty()) {
        eprintln!("  log: {}", file.display());
    }
    eprintln!("  fix: {}", trouble.fix);
    eprintln!(
        "  {}",
        if kept {
            "what was started stays: tapedeck down ends it"
        } else {
            "what was started is stopped; --keep leaves it"
        }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_can_be_drawn() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn a_phase_is_a_line_and_what_is_in_it() {
        let phase = |state, lines: &[&str]| Phase {
            name: "sinks".to_owned(),
            state,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            warnings: Vec::new(),
            took_ms: Some(1_230),
        };
        assert_eq!(
            phase_lines(&phase(PhaseState::Done, &["influx running"])),
            ["✓ sinks       1.23 s", "    influx running"]
        );
        assert_eq!(phase_lines(&phase(PhaseState::Skipped, &[])), ["- sinks       skipped: nothing in it"]);
    }
}
