//! What the process that works uses, as the system has it.

use rustix::param::{clock_ticks_per_second, page_size};

/// Memory now, and processors since it was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    pub memory_mib: f64,
    pub cpu_seconds: f64,
    /// Of one core.
    pub cpu_percent: f64,
}

impl Usage {
    /// Of a process; `None`: it is gone, or the system does not say.
    pub(super) fn of(process: u32) -> Option<Usage> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        read_from(&read(&format!("/proc/{process}/stat"))?, &read("/proc/uptime")?)
    }
}

fn read_from(stat: &str, uptime: &str) -> Option<Usage> {
    // The name of a program may have blanks in it; it is in brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    let cpu_seconds = (number(11)? + number(12)?) / ticks;
    let lived = uptime.split_whitespace().next()?.parse::<f64>().ok()? - number(19)? / ticks;
    Some(Usage {
        memory_mib: number(21)? * page_size() as f64 / f64::from(1 << 20),
        cpu_seconds,
        cpu_percent: if lived > 0.0 { cpu_seconds * 100.0 / lived } else { 0.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_whatever_it_is_called() {
        let stat = format!(
            "7 (a b) c) S {} 200 100 0 0 20 0 1 0 500 9 256 0",
            (0..10).map(|_| "0").collect::<Vec<_>>().join(" ")
        );
        let usage = read_from(&stat, "15.00 3.00").expect("read");
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, 300.0 / ticks);
        assert_eq!(usage.memory_mib, 256.0 * page_size() as f64 / f64::from(1 << 20));
        assert!(Usage::of(std::process::id()).is_some_and(|usage| usage.memory_mib > 0.0));
        assert_eq!(read_from("7 (x", "1 1"), None);
    }
}
