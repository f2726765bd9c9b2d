//! Processes as the kernel shows them: which one it is, whether it still lives, who else belongs to it.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process that cannot be taken for another one that was given its number later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    /// When it was started, in the kernel's ticks since the machine was.
    pub started: u64,
    /// Which start of the machine that was.
    pub boot: String,
    pub session: u32,
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: char,
    group: u32,
    session: u32,
    /// User and system time, in ticks.
    busy: u64,
    started: u64,
    pages: u64,
}

impl Identity {
    /// The process of that number, if one lives.
    #[must_use]
    pub fn of(pid: u32) -> Option<Identity> {
        let stat = stat(pid)?;
        Some(Identity { pid, started: stat.started, boot: boot_id().to_owned(), session: stat.session })
    }

    /// Whether it still runs; one that is dead and only waits to be asked for does not.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.boot == boot_id() && stat(self.pid).is_some_and(|stat| stat.started == self.started)
    }

    /// Sends a signal to it and to those it has started in its process group.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = self.number().filter(|_| self.lives()) else { return };
        // One that ended meanwhile needs no signal.
        let _ =
            rustix::process::kill_process_group(pid, signal).or_else(|_| rustix::process::kill_process(pid, signal));
    }

    /// Kills what is left of its process group, also when the process itself is gone.
    pub fn sweep(&self) {
        // The group's number cannot be given to another one while one of its members lives, and its session says whose it is.
        if self.boot == boot_id() && !self.group().is_empty() {
            let _ = self.number().map(|pid| rustix::process::kill_process_group(pid, Signal::KILL));
        }
    }

    /// Those of its process group that live.
    #[must_use]
    pub fn group(&self) -> Vec<u32> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = processes.flatten().filter_map(|process| process.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| stat(*pid).is_some_and(|stat| stat.group == self.pid && stat.session == self.session);
        pids.filter(ours).collect()
    }

    /// Memory in RAM, in bytes, and time on processors since its start.
    #[must_use]
    pub fn used(&self) -> Option<(u64, Duration)> {
        let stat = stat(self.pid).filter(|stat| stat.started == self.started)?;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let busy = Duration::from_millis(stat.busy.saturating_mul(1_000) / ticks);
        Some((stat.pages * rustix::param::page_size() as u64, busy))
    }

    /// As the kernel's calls take it.
    #[must_use]
    pub fn number(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }
}

/// `None`: there is none, or it is dead.
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let stat = parse(&text)?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(stat)
}

/// The name stands in brackets and may hold anything, brackets too.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: u32::try_from(number(2)?).ok()?,
        session: u32::try_from(number(3)?).ok()?,
        busy: number(11)? + number(12)?,
        started: number(19)?,
        pages: number(21)?,
    })
}

fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.lives());
        assert!(!Identity { started: me.started + 1, ..me.clone() }.lives(), "another one of that number");
        assert!(!Identity { boot: "another".to_owned(), ..me.clone() }.lives(), "of another start of the machine");
        assert!(me.used().is_some_and(|(bytes, _)| bytes > 100_000));
    }

    #[test]
    fn a_dead_process_does_not_live_and_what_it_started_is_swept() {
        let mut shell =
            Command::new("/bin/sh").args(["-c", "sleep 1000 & echo; wait"]).process_group(0).spawn().unwrap();
        let identity = Identity::of(shell.id()).unwrap();
        while identity.group().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        rustix::process::kill_process(identity.number().unwrap(), Signal::KILL).unwrap();
        // Not yet asked for: a zombie.
        while identity.lives() {
            std::thread::sleep(Duration::from_millis(5));
        }
        shell.wait().unwrap();
        assert_eq!(identity.group().len(), 1, "its child lives on");
        identity.sweep();
        while !identity.group().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_name_may_hold_brackets() {
        let mut text = "7 (a) b (c) S 1 7 5".to_owned();
        (6..=24).for_each(|n| text.push_str(&format!(" {n}")));
        let stat = parse(&text).unwrap();
        assert_eq!((stat.state, stat.group, stat.session), ('S', 7, 5));
        assert!(parse("nothing").is_none());
    }
}
