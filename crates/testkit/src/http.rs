//! Heads of HTTP requests.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::kraken::text::civil;

/// Longest head of a request, bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The head of an HTTP request, with what came after it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) rest: Vec<u8>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body that the head announces, at most `most` bytes of it; what came behind it is left in `rest`.
    pub(crate) async fn body(&mut self, stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Vec<u8>> {
        let len = self.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0_usize);
        if len > most {
            return Err(io::Error::other("a body too long"));
        }
        while self.rest.len() < len {
            if stream.read_buf(&mut self.rest).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let behind = self.rest.split_off(len);
        Ok(std::mem::replace(&mut self.rest, behind))
    }

    fn parse(bytes: &[u8], end: usize) -> Option<Head> {
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Head { method, path: path.into(), query: query.into(), headers, rest: bytes[end + 4..].to_vec() })
    }
}

/// Reads a head; `bytes` came before.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin), mut bytes: Vec<u8>) -> io::Result<Head> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Head::parse(&bytes, end).ok_or_else(|| io::Error::other("no HTTP request"));
        }
        if bytes.len() > MAX_HEAD_BYTES || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("no HTTP request"));
        }
    }
}

/// `Sun, 22 Nov 2026 03:12:06 GMT`
pub(crate) fn date(ns: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = ns.div_euclid(1_000_000_000);
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let name =
        |names: &[&'static str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or("");
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days.rem_euclid(7)),
        name(&MONTHS, month - 1),
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(1_795_317_126_999_999_999), "Sun, 22 Nov 2026 03:12:06 GMT");
    }
}
