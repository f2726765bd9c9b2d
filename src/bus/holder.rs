//! Whether a port is free, and who holds it when it is not.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

/// Who listens on a port, as far as this system lets us see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<u32>,
    pub program: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{program}, pid {pid}"),
            (Some(pid), None) => write!(f, "pid {pid}"),
            _ => f.write_str("a process that this user may not see"),
        }
    }
}

/// Tries the port as a server would; what is bound here is let go again at once.
///
/// # Errors
/// The system's own, with who holds the port if it is taken.
pub fn check(address: IpAddr, port: u16) -> Result<(), (std::io::Error, Option<Holder>)> {
    match TcpListener::bind(SocketAddr::new(address, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err((error, Some(holder_of(port)))),
        Err(error) => Err((error, None)),
    }
}

/// Looks for the listener's socket in the kernel's table, and for the process that has it open.
#[must_use]
pub fn holder_of(port: u16) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listeners(table, port)).collect();
    if sockets.is_empty() {
        return Holder::default();
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return Holder::default() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if has_open(&process.path(), &sockets) {
            return Holder { pid: Some(pid), program: program_of(&process.path()) };
        }
    }
    Holder::default()
}

/// Sockets that listen on a port, as `/proc/PID/fd` writes them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, at) = fields.get(1)?.rsplit_once(':')?;
        let ours = u16::from_str_radix(at, 16).ok()? == port && *fields.get(3)? == LISTEN;
        ours.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
    };
    table.lines().skip(1).filter_map(listens).collect()
}

/// The file's name; a process that was started by a descriptor is called `exe` by the kernel.
fn program_of(process: &Path) -> Option<String> {
    let file = std::fs::read_link(process.join("exe")).ok();
    let name =
        file.and_then(|file| file.file_name()?.to_str().map(|name| name.trim_end_matches(" (deleted)").to_owned()));
    name.or_else(|| std::fs::read_to_string(process.join("comm")).ok().map(|name| name.trim().to_owned()))
}

fn has_open(process: &Path, sockets: &[String]) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| {
        std::fs::read_link(file.path())
            .is_ok_and(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let (error, holder) = check(addr.ip(), addr.port()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        let holder = holder.unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
        assert!(holder.program.is_some_and(|name| !name.is_empty()));
        drop(taken);
        assert!(check(addr.ip(), addr.port()).is_ok());
    }

    #[test]
    fn the_table_of_the_kernel_is_read_whatever_it_says() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:15B6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n\
            1: 0100007F:15B6 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1\n\
            nonsense\n :: :";
        assert_eq!(listeners(table, 0x15b6), ["socket:[4242]"]);
    }
}
