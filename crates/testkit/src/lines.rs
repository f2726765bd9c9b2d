//! An answer that does not end: lines in chunks that know nothing of lines, and what can go wrong with it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::kraken::rng::Rng;

/// Lines that go out with one write.
const BATCH: usize = 64;

/// What a stream is told to do.
#[derive(Debug)]
pub(crate) enum Out {
    /// A line that the log knows by its kind.
    Line(&'static str, String),
    /// Bytes as they are, with their end.
    Bytes(Vec<u8>),
    Cut {
        in_line: bool,
    },
    End {
        in_line: bool,
    },
    HalfOpen(Option<Duration>),
}

/// The writing half of a stream.
pub(crate) struct Lines<W> {
    writer: W,
    rng: Rng,
    /// What ends a line.
    end: &'static [u8],
}

impl<W: AsyncWrite + Unpin> Lines<W> {
    /// Answers with a head, behind which `head` may have more of it.
    pub(crate) async fn begin(mut writer: W, head: &str, rng: Rng, end: &'static [u8]) -> io::Result<Lines<W>> {
        let head = format!("HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n");
        writer.write_all(head.as_bytes()).await?;
        writer.flush().await?;
        Ok(Lines { writer, rng, end })
    }

    /// Does what it is told; whether the stream goes on. `half` is cut where a line is to be.
    pub(crate) async fn take(
        &mut self,
        first: Out,
        told: &mut mpsc::Receiver<Out>,
        half: &str,
        mut enter: impl FnMut(&'static str, String),
    ) -> io::Result<bool> {
        let mut next = Some(first);
        loop {
            let mut bytes = Vec::new();
            for _ in 0..BATCH {
                match next.take() {
                    Some(Out::Line(kind, text)) => {
                        bytes.extend_from_slice(text.as_bytes());
                        bytes.extend_from_slice(self.end);
                        enter(kind, text);
                    }
                    Some(Out::Bytes(more)) => bytes.extend_from_slice(&more),
                    other => {
                        next = other;
                        break;
                    }
                }
                next = told.try_recv().ok();
            }
            self.cut_anywhere(&bytes).await?;
            match next {
                None => return Ok(true),
                Some(Out::HalfOpen(None)) => return std::future::pending().await,
                Some(Out::HalfOpen(Some(lasts))) => {
                    tokio::time::sleep(lasts).await;
                    return Ok(true);
                }
                Some(Out::Cut { in_line }) => {
                    if in_line {
                        let torn = format!("{:x}\r\n{}", half.len(), &half[..half.len() / 2]);
                        self.writer.write_all(torn.as_bytes()).await?;
                        self.writer.flush().await?;
                    }
                    return Ok(false);
                }
                Some(Out::End { in_line }) => {
                    if in_line {
                        self.chunk(&half.as_bytes()[..half.len() / 2]).await?;
                    }
                    self.writer.write_all(b"0\r\n\r\n").await?;
                    self.writer.shutdown().await?;
                    return Ok(false);
                }
                // A batch was full: the rest has its turn at once.
                Some(_) => {}
            }
        }
    }

    /// Writes bytes as two chunks, cut anywhere.
    pub(crate) async fn cut_anywhere(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let cut = self.rng.index(bytes.len());
        if cut > 0 {
            self.chunk(&bytes[..cut]).await?;
        }
        self.chunk(&bytes[cut..]).await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.writer.write_all(&chunk).await?;
        self.writer.flush().await
    }
}
