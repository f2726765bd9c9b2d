//! `tapedeck top`: everything on one screen.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::Terminal;
use ratatui::backend::TermionBackend;
use ratatui::termion::event::Key as Typed;
use ratatui::termion::input::TermRead as _;
use ratatui::termion::raw::IntoRawMode as _;
use ratatui::termion::screen::IntoAlternateScreen as _;
use tokio::sync::mpsc;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::reading::Where;
use crate::control::{self, Request};
use crate::top::{Deed, Key, Model, Seen, draw};
use crate::up::{Ask, DECK, Table, log};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines of a log that are kept for the screen.
const TAIL_LINES: usize = 50;

const EXAMPLES: &str = "\
Examples:
  tapedeck top
  tapedeck top --dir /var/lib/tapedeck/tape

Keys: up and down (or k and j) select; r twice restarts what is selected, t shows its log, s silences what is wrong with it
until it is well again, q leaves. It only looks: leaving it ends nothing.";

/// Show servers, sources and readers with rates, lag and gaps, on one screen
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        // The secrets of the config stay hidden in logs that are shown, where there is a config.
        let _ = global.load();
        let dir = self.place.dir(global)?;
        if !std::io::stdout().is_terminal() {
            return Err(End::Usage("it needs a terminal; for scripts: tapedeck status --json".to_owned()).into());
        }
        super::block_on(show(&dir))
    }
}

async fn show(dir: &Path) -> anyhow::Result<()> {
    // Both give the terminal back when they are dropped, also by a panic.
    let screen = std::io::stdout().into_raw_mode().context("taking the terminal")?.into_alternate_screen();
    let screen = screen.context("taking the terminal")?;
    let mut terminal = Terminal::new(TermionBackend::new(screen)).context("taking the terminal")?;
    terminal.hide_cursor().context("drawing")?;
    let (typed, mut keys) = mpsc::channel(16);
    // A thread: it blocks until a key is pressed, and ends with the process.
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || {
            for key in std::io::stdin().keys().map_while(Result::ok) {
                if typed.blocking_send(meaning(key)).is_err() {
                    return;
                }
            }
        })
        .context("reading keys")?;
    let mut model = Model::new();
    let (done, mut results) = mpsc::channel::<String>(4);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {
                model.see(seen(dir).await, Instant::now());
                if let Some(name) = model.tailed() {
                    model.set_tail(tail(dir, &name));
                }
            }
            Some(said) = results.recv() => model.say(said),
            key = keys.recv() => match model.press(key.unwrap_or(Key::Quit)) {
                Deed::Nothing => {
                    if let Some(name) = model.tailed() {
                        model.set_tail(tail(dir, &name));
                    }
                }
                Deed::Quit => break,
                Deed::Restart(name) => {
                    let (dir, done) = (dir.to_owned(), done.clone());
                    tokio::spawn(async move {
                        let said = restart(&dir, &name).await.unwrap_or_else(|error| format!("{name}: {error:#}"));
                        let _ = done.send(said).await;
                    });
                }
            },
        }
        terminal.draw(|frame| draw(frame, &model)).context("drawing")?;
    }
    terminal.show_cursor().context("drawing")
}

fn meaning(key: Typed) -> Key {
    match key {
        Typed::Up | Typed::Char('k') => Key::Up,
        Typed::Down | Typed::Char('j') => Key::Down,
        Typed::Char('r') => Key::Restart,
        Typed::Char('t' | 'l') => Key::Tail,
        Typed::Char('s') => Key::Silence,
        Typed::Char('q') | Typed::Esc | Typed::Ctrl('c') => Key::Quit,
        _ => Key::Other,
    }
}

async fn seen(dir: &Path) -> Seen {
    let table = Table::of(dir);
    let answer = control::ask(dir, &Request::Status).await.ok().flatten();
    let supervisor = table.is_held().then(|| table.supervisor()).flatten();
    Seen {
        status: answer.and_then(|answer| serde_json::from_value(answer).ok()),
        processes: table.list(),
        supervisor: supervisor.map(|supervisor| supervisor.identity.pid),
    }
}

/// The last lines about something, as `tapedeck logs` finds them.
fn tail(dir: &Path, name: &str) -> Vec<String> {
    let table = Table::of(dir);
    let (path, about) = super::up::logs::find(&table, name, Some(dir.join("logs")));
    let Some(path) = path else { return vec!["no log".to_owned()] };
    let mut lines = log::last_lines(&path, 0, usize::MAX);
    if let Some(about) = about {
        lines.retain(|line| super::up::logs::mentions(line, &about));
    }
    lines.split_off(lines.len().saturating_sub(TAIL_LINES))
}

async fn restart(dir: &Path, target: &str) -> anyhow::Result<String> {
    let table = Table::of(dir);
    let kept = if target == DECK { Some(target) } else { target.strip_prefix("server.") };
    if let Some(name) = kept {
        let asked = control::ask(table.dir(), &Ask::Restart { name: name.to_owned() }).await?;
        anyhow::ensure!(asked.is_some(), "no supervisor runs: tapedeck up");
        return Ok(format!("{name} is restarted"));
    }
    let name = target.split_once('.').map_or(target, |(_, name)| name);
    let done = control::ask(dir, &Request::Restart { name: name.to_owned() }).await?;
    Ok(done.and_then(|done| done.as_str().map(str::to_owned)).unwrap_or_else(|| "no deck answers".to_owned()))
}
