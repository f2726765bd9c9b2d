//! How it is drawn: two lines of figures, a table, the log of what is selected, the keys.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState};

use super::model::{Model, Mood, Row};
use crate::screen::bytes;

const KEYS: &str = "↑↓ select  r restart  t log  s silence  q quit";
/// Of the log, when it is shown.
const TAIL_LINES: u16 = 8;

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let tail = if model.tail.is_some() { TAIL_LINES } else { 0 };
    let parts = [Constraint::Length(3), Constraint::Min(3), Constraint::Length(tail), Constraint::Length(2)];
    let [head, table, log, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(header(model)), head);
    rows(frame, model, table);
    if let Some((name, lines)) = &model.tail {
        let most = usize::from(TAIL_LINES) - 1;
        let shown = lines[lines.len().saturating_sub(most)..].iter().map(|line| Line::from(line.as_str()));
        let title = Line::styled(format!("log of {name}"), Style::new().add_modifier(Modifier::BOLD));
        frame.render_widget(Paragraph::new(std::iter::once(title).chain(shown).collect::<Vec<_>>()), log);
    }
    let said = Line::from(model.said.as_str());
    let keys = Line::styled(KEYS, Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(vec![said, keys]), foot);
}

fn header(model: &Model) -> Vec<Line<'static>> {
    let supervisor = match model.seen.supervisor {
        Some(pid) => format!("supervisor {pid}"),
        None => "no supervisor".to_owned(),
    };
    let troubles = [
        (Mood::Bad, "bad", Color::Red),
        (Mood::Warn, "warn", Color::Yellow),
        (Mood::Silenced, "silenced", Color::Cyan),
    ];
    let troubles = troubles.into_iter().filter_map(|(mood, word, color)| {
        let count = model.count(mood);
        (count > 0).then(|| Span::styled(format!("  {count} {word}"), Style::new().fg(color)))
    });
    let Some(status) = &model.seen.status else {
        let mut first = vec![Span::raw(format!("tapedeck top  no deck answers  {supervisor}"))];
        first.extend(troubles);
        return vec![Line::from(first)];
    };
    let mut first = vec![Span::raw(format!(
        "tapedeck {}  up {}  pid {}  {supervisor}",
        status.version,
        ago(status.uptime_s),
        status.pid
    ))];
    first.extend(troubles);
    let tape = &status.tape;
    let days = tape.days_left.map(|days| format!(", {days:.0} days left")).unwrap_or_default();
    let full = if tape.full { "  DISK FULL" } else { "" };
    vec![
        Line::from(first),
        Line::from(format!(
            "tape seq {}  {}  disk {} free{days}{full}",
            tape.last_seq,
            bytes(tape.bytes),
            bytes(tape.disk_free_bytes)
        )),
        Line::from(format!(
            "{:.0}/s  durable p50 {:.1} ms p99 {:.1} ms  queue {}/{}  gaps {}  {}",
            status.rate,
            status.latency.p50_us as f64 / 1e3,
            status.latency.p99_us as f64 / 1e3,
            status.queue_frames,
            status.queue_limit,
            status.gaps_open,
            bytes(status.rss_bytes)
        )),
    ]
}

fn rows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let head = ["WHAT", "NAME", "STATE", "RATE/s", "LAG", "GAPS", "RST", ""];
    let right = [3, 4, 5, 6];
    let aligned = |at: usize, text: String| {
        let side = if right.contains(&at) { Alignment::Right } else { Alignment::Left };
        Cell::from(Line::from(text).alignment(side))
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = head.into_iter().enumerate().map(|(at, text)| aligned(at, text.to_owned()));
    let lines = model.rows.iter().map(|row| {
        let cells = cells(row).into_iter().enumerate().map(|(at, text)| aligned(at, text));
        TableRow::new(cells).style(style(row.mood))
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Length(15),
        Constraint::Min(16),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(4),
        Constraint::Length(3),
        Constraint::Length(10),
    ];
    let table = Table::new(lines, widths)
        .header(TableRow::new(head).style(bold))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let selected = (!model.rows.is_empty()).then_some(model.selected);
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn cells(row: &Row) -> [String; 8] {
    let none = || "-".to_owned();
    [
        row.what.to_owned(),
        row.name.clone(),
        row.state.clone(),
        row.rate.map_or_else(none, |rate| format!("{rate:.0}")),
        row.lag.map_or_else(none, |lag| lag.to_string()),
        row.gaps.map_or_else(none, |gaps| gaps.to_string()),
        row.restarts.to_string(),
        row.more.clone(),
    ]
}

fn style(mood: Mood) -> Style {
    match mood {
        Mood::Good => Style::new(),
        Mood::Warn => Style::new().fg(Color::Yellow),
        Mood::Bad => Style::new().fg(Color::Red),
        Mood::Silenced => Style::new().add_modifier(Modifier::DIM),
    }
}

/// `3 d 4 h`: the two largest units.
fn ago(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
