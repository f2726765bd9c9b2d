//! `tapedeck doctor`: is this machine fit to record? Disk, clock, limits, room; the config's ports, and Docker where the
//! config has compose files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, getrlimit};
use tapedeck_market::UnixNanos;
use tapedeck_tape::{Item, Start};

use crate::bus::check_port;
use crate::cli::Global;
use crate::cli::check::{Finding, http, print, served, worst};
use crate::cli::exit::End;
use crate::cli::out::{Mark, Out};
use crate::cli::reading;
use crate::config::Loaded;
use crate::config::units::about_bytes;
use crate::control::{self, Request};
use crate::up::{State, Table};

/// One group of the recorder at its largest.
const GROUP_BYTES: usize = 64 * 1024;
/// Enough for a 99th percentile that is not the largest one.
const SYNCS: usize = 200;
/// A slow disk is known to be slow before all syncs are done.
const SYNC_TIME: Duration = Duration::from_secs(4);
/// Above it a quiet feed's event is later on the tape than the next one arrives.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// How long the two clocks are compared.
const CLOCK_TIME: Duration = Duration::from_millis(500);
/// A clock that is being set runs this much faster or slower at most; more is a step.
const CLOCK_STEP: Duration = Duration::from_millis(1);
/// A deck with many sources, readers and files uses a few hundred.
const FILES_WANTED: u64 = 4_096;
/// Less room than this is a matter of hours at common rates.
const ROOM_WANTED: u64 = 5 << 30;

const EXAMPLES: &str = "\
Examples:
  tapedeck doctor                        on the configured tape's disk
  tapedeck doctor --set tape.dir=/data   on another one
  tapedeck doctor --json";

/// Look at this machine: disk, clock, limits, room, ports, Docker
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let loaded = global.load()?;
        let dir = existing(&loaded.config.tape.dir);
        let mut findings = vec![disk(&dir), sync(&dir), room(&loaded, &dir)];
        findings.extend([clock(), ntp(), files(), priority()]);
        findings.extend(super::block_on(async {
            let mut here = vec![http(&loaded).await];
            here.extend(served(&loaded).await);
            here.extend(docker(&loaded).await);
            Ok(here)
        })?);
        findings.extend(servers(&loaded));
        if self.json {
            out.json(&serde_json::json!({ "ok": worst(&findings) != Mark::Bad, "findings": findings }))?;
        } else {
            print(&findings, out)?;
        }
        out.flush()?;
        if worst(&findings) == Mark::Bad { Err(End::Found.into()) } else { Ok(()) }
    }
}

/// The tape's folder, or the nearest one above it that is there: nothing is made for a look.
fn existing(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn disk(dir: &Path) -> Finding {
    // From the kernel's magic numbers.
    const TMPFS: i64 = 0x0102_1994;
    const NETWORK: [(i64, &str); 3] = [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x6573_5546, "FUSE")];
    let shown = dir.display();
    match rustix::fs::statfs(dir) {
        Ok(fs) => match fs.f_type {
            TMPFS => Finding::new("disk", Mark::Warn, format!("{shown} is in memory (tmpfs): a reboot takes it")),
            kind => match NETWORK.iter().find(|(magic, _)| *magic == kind) {
                Some((_, name)) => {
                    Finding::new("disk", Mark::Warn, format!("{shown} is on {name}: whether a sync is one is up to it"))
                }
                None => Finding::new("disk", Mark::Good, format!("{shown}")),
            },
        },
        Err(error) => Finding::new("disk", Mark::Unknown, format!("{shown}: {error}")),
    }
}

/// Writes and syncs groups as the recorder does, into a file that is gone afterwards.
fn sync(dir: &Path) -> Finding {
    let mut waits = match measure(dir) {
        Ok(waits) => waits,
        Err(error) => {
            let text = format!("writing in {}: {error}; set `[tape] dir` to a folder of this user", dir.display());
            return Finding::new("sync", Mark::Bad, text);
        }
    };
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 100).or(waits.last()).copied().unwrap_or_default();
    let (half, most) = (at(50), at(99));
    let text = format!("{} groups of 64 KiB: half in {}, 99 % in {}", waits.len(), millis(half), millis(most));
    if half > SLOW_SYNC {
        return Finding::new("sync", Mark::Warn, format!("{text}; that is slow: a local SSD takes a tenth of it"));
    }
    Finding::new("sync", Mark::Good, text)
}

fn measure(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".tapedeck-doctor-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    // The open file lives on without its name, and nothing is left behind however this ends.
    std::fs::remove_file(&path)?;
    let group = vec![0x5a_u8; GROUP_BYTES];
    zero_fill(&file, SYNCS * GROUP_BYTES)?;
    let begun = Instant::now();
    let mut waits = Vec::with_capacity(SYNCS);
    while waits.len() < SYNCS && begun.elapsed() < SYNC_TIME {
        let at = Instant::now();
        file.write_all_at(&group, (waits.len() * GROUP_BYTES) as u64)?;
        file.sync_data()?;
        waits.push(at.elapsed());
    }
    Ok(waits)
}

/// As the tape does ahead of time: a sync into blocks that are there already is a different thing.
fn zero_fill(file: &File, len_bytes: usize) -> io::Result<()> {
    let zeros = vec![0_u8; 1 << 20];
    for at in (0..len_bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros[..zeros.len().min(len_bytes - at)], at as u64)?;
    }
    file.sync_all()
}

fn millis(wait: Duration) -> String {
    format!("{:.2} ms", wait.as_secs_f64() * 1e3)
}

fn room(loaded: &Loaded, dir: &Path) -> Finding {
    let disk = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk,
        Err(error) => return Finding::new("room", Mark::Unknown, error.to_string()),
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mut text = format!("{} free", about_bytes(free));
    if let Some(per_day) = per_day(&loaded.config.tape.dir) {
        let days = free / per_day.max(1);
        text.push_str(&format!(", {} a day so far: enough for {days} days", about_bytes(per_day)));
    }
    if loaded.config.tape.keep.is_everything() {
        text.push_str("; everything is kept (`[tape] keep` would bound it)");
    }
    Finding::new("room", if free < ROOM_WANTED { Mark::Warn } else { Mark::Good }, text)
}

/// Bytes that the tape took a day, from its first to its last record. `None`: no tape, or too short a one to tell.
fn per_day(dir: &Path) -> Option<u64> {
    const DAY_S: u64 = 86_400;
    const SHORTEST_S: u64 = 60;
    // A file that is being written has room ahead in it: of that only its deck knows the pace.
    if let Ok(Some(deck)) = super::block_on(control::ask(dir, &Request::Status)) {
        return deck["tape"]["bytes_per_day"].as_u64();
    }
    let received = |start| match reading::reader(dir, start).ok()?.next() {
        Ok(Some(Item::Record(record))) => Some(UnixNanos(record.ts_recv)),
        _ => None,
    };
    let first = received(Start::Begin)?;
    let last = received(Start::Seq(crate::status::of_tape(dir).tape.last_seq))?;
    let span_s = last.saturating_since(first).as_secs();
    let files = std::fs::read_dir(dir).ok()?.flatten();
    let segments =
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "seg" || ending == "zst"));
    let bytes: u64 = segments.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    (span_s >= SHORTEST_S).then(|| bytes.saturating_mul(DAY_S) / span_s)
}

/// Whether the wall clock and the one that only counts agree for a moment.
fn clock() -> Finding {
    let (wall, steady) = (SystemTime::now(), Instant::now());
    std::thread::sleep(CLOCK_TIME);
    let (wall, steady) = (wall.elapsed(), steady.elapsed());
    let apart = match wall {
        Ok(wall) => wall.abs_diff(steady),
        Err(back) => back.duration() + steady,
    };
    if apart > CLOCK_STEP {
        let text =
            format!("the wall clock moved by {} against the steady one: it is being set right now", millis(apart));
        return Finding::new("clock", Mark::Warn, text);
    }
    let text = format!("steady: {} µs apart after {} ms", apart.as_micros(), CLOCK_TIME.as_millis());
    Finding::new("clock", Mark::Good, text)
}

/// Whether something keeps the clock right. Only systemd's own service leaves a trace that is safe to read.
fn ntp() -> Finding {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Finding::new("ntp", Mark::Good, "synchronised by systemd-timesyncd");
    }
    let text = "not known here; times of venues are compared with this clock: see `chronyc tracking` or `timedatectl`";
    Finding::new("ntp", Mark::Unknown, text)
}

fn files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let text = format!("{} open files at most ({} if asked for)", shown(limit.current), shown(limit.maximum));
    if limit.current.is_some_and(|current| current < FILES_WANTED) {
        let text = format!("{text}; many sources want {FILES_WANTED}: `ulimit -n`, or `LimitNOFILE=` in the unit");
        return Finding::new("files", Mark::Warn, text);
    }
    Finding::new("files", Mark::Good, text)
}

/// A hint only: the recorder keeps up at normal priority unless the machine is busy with something else.
fn priority() -> Finding {
    // The limit counts from 1 to 40 for nice values from 19 down to -20.
    let best = getrlimit(Resource::Nice).current.map_or(-20, |limit| 20 - i64::try_from(limit.min(40)).unwrap_or(0));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = if best < 0 {
        format!("{cores} cores; this user may go down to nice {best}")
    } else {
        format!("{cores} cores; on a busy machine give the deck `Nice=-10` in its unit")
    };
    Finding::new("cpu", Mark::Good, text)
}

/// What runs compose files, where the config has some: nobody else needs Docker.
async fn docker(loaded: &Loaded) -> Vec<Finding> {
    /// The daemon answers at once, or it is not there.
    const PATIENCE: Duration = Duration::from_secs(10);
    let composed = loaded.config.servers.iter().filter(|named| named.server.compose.is_some());
    let names: Vec<String> = composed.clone().map(|named| format!("[server.{}]", named.name)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let wanted = names.join(", ");
    let mut findings = Vec::new();
    for (what, args) in
        [("docker", ["version", "--format", "{{.Server.Version}}"]), ("compose", ["compose", "version", "--short"])]
    {
        let mut command = tokio::process::Command::new("docker");
        command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let bad = |text: String| {
            Finding::new(
                what,
                Mark::Bad,
                format!("{text}; {wanted} need it: install Docker with its compose plugin, or give them a `command`"),
            )
        };
        findings.push(match tokio::time::timeout(PATIENCE, command.output()).await {
            Err(_) => bad(format!("`docker {}` does not answer", args[0])),
            Ok(Err(error)) => bad(format!("`docker` cannot be started ({error})")),
            Ok(Ok(out)) if out.status.success() => {
                Finding::new(what, Mark::Good, String::from_utf8_lossy(&out.stdout).trim().to_owned())
            }
            Ok(Ok(out)) => {
                let said = String::from_utf8_lossy(&out.stderr);
                bad(said
                    .lines()
                    .find(|line| !line.trim().is_empty())
                    .unwrap_or("it fails and says nothing")
                    .trim()
                    .to_owned())
            }
        });
    }
    for named in composed {
        let file = named.server.compose.clone().unwrap_or_default();
        let place = named.server.dir.as_ref().map_or_else(|| file.clone(), |dir| dir.join(&file));
        if !place.is_file() {
            let text = format!("there is no compose file {}", place.display());
            findings.push(Finding::new(format!("server.{}", named.name), Mark::Bad, text));
        }
    }
    findings
}

/// The ports of servers that `tapedeck up` would start: free, or theirs.
fn servers(loaded: &Loaded) -> Vec<Finding> {
    let table = Table::of(&loaded.config.tape.dir);
    let of = |named: &crate::config::NamedServer| {
        if named.server.command.is_empty() {
            return None;
        }
        let address = named.server.ready.as_ref()?.address()?;
        let what = format!("server.{}", named.name);
        let runs = table.find(&named.name).filter(|entry| {
            matches!(entry.state, State::Running | State::Starting)
                && entry.identity.as_ref().is_some_and(crate::up::process::Identity::lives)
        });
        Some(match (check_port(address.ip(), address.port()), runs) {
            (Ok(()), _) => Finding::new(what, Mark::Good, format!("{address} is free")),
            (Err(_), Some(entry)) => {
                let pid = entry.identity.map(|identity| format!(", pid {}", identity.pid)).unwrap_or_default();
                Finding::new(what, Mark::Good, format!("{address}, its own{pid}"))
            }
            (Err((error, holder)), None) => {
                let who = holder.map_or_else(|| error.to_string(), |holder| format!("taken by {holder}"));
                let text = format!("{address} is {who}: end it, or leave `command` out if it is the one that is meant");
                Finding::new(what, Mark::Bad, text)
            }
        })
    };
    loaded.config.servers.iter().filter_map(of).collect()
}
