//! Whole programs that are measured: what they cost is read where the kernel says it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// The program built with this bench.
///
/// # Errors
/// It was not built.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not there: cargo build --release -p tapedeck", path.display());
    Ok(path)
}

/// A process, stopped in order when it is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Running {
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Running> {
        Ok(Running(command.spawn().with_context(|| format!("starting {command:?}"))?))
    }

    /// Resident memory of it and its children.
    ///
    /// # Errors
    /// It ended.
    pub fn rss_mib(&self) -> anyhow::Result<f64> {
        rss_mib(self.0.id())
    }

    /// Its share of memory, pages that several have divided among them.
    ///
    /// # Errors
    /// It ended.
    pub fn pss_mib(&self) -> anyhow::Result<f64> {
        pss_mib(self.0.id())
    }

    /// Processor time so far, of it and its children: user and system, in the scheduler's nanoseconds,
    /// because a tick of `stat` is a fifth of what is allowed.
    ///
    /// # Errors
    /// It ended.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let mut nanos = 0;
        for pid in family(self.0.id()) {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
            // A thread may end while it is looked at: it did nothing that would show here.
            let texts = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
            nanos += texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(nanos as f64 / 1e9)
    }
}

/// Resident memory of a process and its children.
///
/// # Errors
/// It ended.
pub fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    sum_mib(pid, "status", "VmRSS:")
}

/// Their share of memory, pages that several have divided among them.
///
/// # Errors
/// It ended.
pub fn pss_mib(pid: u32) -> anyhow::Result<f64> {
    sum_mib(pid, "smaps_rollup", "Pss:")
}

fn sum_mib(pid: u32, file: &str, key: &str) -> anyhow::Result<f64> {
    let each = family(pid).into_iter().map(|pid| kibibytes(&format!("/proc/{pid}/{file}"), key));
    Ok(each.sum::<anyhow::Result<f64>>()? / 1024.0)
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut family = vec![pid];
    let mut nth = 0;
    while let Some(&parent) = family.get(nth) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        nth += 1;
    }
    family
}

/// The process that started this one.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: the state, then the parent.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn kibibytes(path: &str, key: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("{path} has no {key}"))
}
