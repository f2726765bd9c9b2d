//! Heads of HTTP requests.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

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
