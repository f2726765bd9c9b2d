//! The deck itself, as it says: does it run and turn, is there room, are sources and services well.

use crate::cli::verdict::Verdict;
use crate::config::units::{ByteSize, about_bytes};
use crate::config::{Config, KindTable};
use crate::control::{self, Request};
use crate::status::{Source, Status};

/// The running deck's status; `None`: none runs.
pub(in crate::cli) async fn status(config: &Config) -> Option<Status> {
    let answer = control::ask(&config.tape.dir, &Request::Status).await.ok()??;
    serde_json::from_value(answer).ok()
}

/// Everything but bus and stores, which are asked themselves.
pub(in crate::cli) fn look(config: &Config, status: Option<&Status>, floor: ByteSize) -> Vec<Verdict> {
    let mut verdicts = vec![of_deck(config, status)];
    verdicts.push(of_disk(config, status, floor));
    if let Some(status) = status {
        verdicts.extend(status.sources.iter().map(|source| of_source(source, status)));
        let configured = config.sources.iter();
        let absent = configured.filter(|source| !status.sources.iter().any(|run| run.name == source.name));
        verdicts.extend(absent.map(of_absent));
        let services = status.services.iter().filter(|service| service.name != "bus");
        verdicts.extend(services.map(|service| of_service(&service.kind, &service.name, &service.state)));
    }
    verdicts
}

fn of_deck(config: &Config, status: Option<&Status>) -> Verdict {
    let Some(status) = status else {
        return Verdict::bad(
            "deck",
            format!("no deck runs on {}", config.tape.dir.display()),
            "tapedeck up, or tapedeck run",
        );
    };
    let verdict = match status.hung() {
        Some(silent) => {
            let text = format!("its recorder has not turned for {} s: the disk does not answer", silent.as_secs());
            Verdict::bad("deck", text, "look at the disk (dmesg, smartctl); tapedeck doctor")
        }
        None => Verdict::good(
            "deck",
            format!(
                "runs since {}, {:.0} events/s, durable to seq {}",
                status.started, status.rate, status.tape.durable_seq
            ),
        ),
    };
    verdict
        .figure("rate", status.rate)
        .figure("uptime_s", status.uptime_s)
        .figure("durable_seq", status.tape.durable_seq)
}

fn of_disk(config: &Config, status: Option<&Status>, floor: ByteSize) -> Verdict {
    let dir = &config.tape.dir;
    let there =
        dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { ".".as_ref() } else { dir }).find(|dir| dir.is_dir());
    let Some(free) = there.and_then(crate::status::disk_free_bytes) else {
        return Verdict::warn("disk", "free space is not known", "tapedeck doctor");
    };
    let mut text = format!("{} free", about_bytes(free));
    let days = status.and_then(|status| status.tape.days_left);
    if let Some(days) = days {
        text.push_str(&format!(", enough for {days:.0} days at this rate"));
    }
    let next = "make room, or bound the tape with [tape] keep; --min-free says what is too little";
    let full = status.filter(|status| status.tape.full || status.tape.shedding);
    let verdict = if let Some(status) = full {
        let what = if status.tape.shedding { "depth is left out" } else { "nothing is recorded" };
        Verdict::bad("disk", format!("{text}: the disk is full, and {what}"), next)
    } else if free < floor.0 {
        Verdict::bad("disk", format!("{text}, which is below {floor}"), next)
    } else if days.is_some_and(|days| days < 1.0) {
        Verdict::warn("disk", text, next)
    } else {
        Verdict::good("disk", text)
    };
    verdict.figure("free_bytes", free)
}

fn of_source(source: &Source, status: &Status) -> Verdict {
    let what = format!("source.{}", source.name);
    let name = source.name.split('/').next().unwrap_or_default();
    // What waits for a key has its holes in the ledger, under the table's name.
    let waits = |other: &&Source| other.name.starts_with(name) && other.state.starts_with("waiting");
    let someone_waits = status.sources.iter().any(|other| waits(&other));
    let word = source.state.split([':', ' ']).next().unwrap_or_default();
    let text = format!("{}, {} events", source.state, source.events);
    let verdict = match word {
        "waiting" => Verdict::waits(what, source.state.clone(), format!("tapedeck check {name}")),
        "live" if source.gaps_open > 0 && !someone_waits => Verdict::bad(
            what,
            format!("{text}, {} open gaps", source.gaps_open),
            format!("tapedeck gaps --open --source {name}"),
        ),
        "live" | "finished" => {
            let rejects =
                if source.rejects > 0 { format!(", {} frames not understood", source.rejects) } else { String::new() };
            Verdict::good(what, format!("{text}{rejects}"))
        }
        "connecting" => Verdict::warn(what, text, format!("tapedeck check {name}")),
        _ => Verdict::bad(what, text, format!("tapedeck check {name}; tapedeck logs {name}")),
    };
    verdict.figure("events", source.events).figure("rejects", source.rejects).figure("gaps_open", source.gaps_open)
}

fn of_absent(source: &KindTable) -> Verdict {
    let text = "is in the config, and the deck that runs does not have it";
    Verdict::warn(format!("source.{}", source.name), text, "tapedeck restart, or kill -HUP the deck")
}

fn of_service(kind: &str, name: &str, state: &str) -> Verdict {
    let what = format!("{}.{name}", if kind == "sink" { "delivery" } else { "service" });
    match state.split([':', ' ']).next().unwrap_or_default() {
        "running" | "draining" | "finished" => Verdict::good(what, state),
        "starting" => Verdict::warn(what, state, "look again in a moment"),
        _ => {
            let next = if kind == "sink" {
                format!("tapedeck validate stores {name}")
            } else {
                format!("tapedeck check; tapedeck logs {name}")
            };
            Verdict::bad(what, state, next)
        }
    }
}
