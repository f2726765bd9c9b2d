//! Talking to a running deck: `<dir>/control.sock`, one JSON line each way.
//!
//! ```text
//! > {"verb":"status"}          < {"ok":{…}}
//! > {"verb":"reload"}          < {"error":"[source.kraken]: unknown field …"}
//! ```
//!
//! The socket is for its owner alone (0600). Its path may be longer than a socket's name can be
//! (107 bytes); it is then reached through the folder's descriptor.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::logs::redact_text;
use crate::sinks::Order;

const SOCKET: &str = "control.sock";
/// A request is a few words.
const REQUEST_BYTES: u64 = 64 * 1024;
/// A client that connects and says nothing is sent away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests served at the same time.
const CLIENTS: usize = 16;

/// What a deck can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// Stops the deck in order.
    Stop,
    /// Reads the config again, as SIGHUP does.
    Reload,
    /// Sends dead letters of a sink again, or gives them up: some of them, then it answers.
    Letters {
        sink: String,
        order: Order,
    },
    /// Ends the sessions of a source and starts them anew.
    Restart {
        name: String,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Ok(serde_json::Value),
    Error(String),
}

/// Answers one request.
pub type Handler<R = Request> = std::sync::Arc<dyn Fn(R) -> BoxFuture<'static, Response> + Send + Sync>;

/// Serves requests until `stop`. The socket file is removed at the end.
///
/// # Errors
/// The socket cannot be bound.
pub async fn serve<R: DeserializeOwned + Send + 'static>(
    dir: &Path,
    handler: Handler<R>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = bind(dir)?;
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CLIENTS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                let handler = handler.clone();
                tokio::spawn(async move {
                    let served = tokio::time::timeout(PATIENCE, answer(stream, handler)).await;
                    if let Ok(Err(error)) = served {
                        tracing::debug!(error = format!("{error:#}"), "control client left");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "accepting a control client");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    // Whoever starts next removes a stale one, so a failure here is nobody's loss.
    let _ = std::fs::remove_file(dir.join(SOCKET));
    Ok(())
}

fn bind(dir: &Path) -> anyhow::Result<UnixListener> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the stale {}", path.display()));
        }
        _ => {}
    }
    let short = ShortPath::of(&path)?;
    let listener = UnixListener::bind(&short.path).with_context(|| format!("binding {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protecting {}", path.display()))?;
    Ok(listener)
}

async fn answer<R: DeserializeOwned + Send>(stream: UnixStream, handler: Handler<R>) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_BYTES)).read_line(&mut line).await.context("reading the request")?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => handler(request).await,
        Err(error) => Response::Error(format!("not a request: {error}")),
    };
    let response = match response {
        Response::Error(text) => Response::Error(redact_text(&text)),
        ok => ok,
    };
    let mut text = serde_json::to_vec(&response).context("writing the answer")?;
    text.push(b'\n');
    write.write_all(&text).await.context("sending the answer")
}

/// Asks the deck that runs on a tape, or its supervisor in the folder `run`; `None` when there is none.
///
/// # Errors
/// The deck answered with an error, or not at all.
pub async fn ask(dir: &Path, request: &impl Serialize) -> anyhow::Result<Option<serde_json::Value>> {
    let path = dir.join(SOCKET);
    if !path.exists() {
        return Ok(None);
    }
    let short = ShortPath::of(&path)?;
    let stream = match UnixStream::connect(&short.path).await {
        Ok(stream) => stream,
        // Left behind by a deck that was killed.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("connecting to {}", path.display())),
    };
    let exchange = async {
        let (read, mut write) = stream.into_split();
        let mut text = serde_json::to_vec(request).context("writing the request")?;
        text.push(b'\n');
        write.write_all(&text).await.context("sending the request")?;
        let mut line = String::new();
        BufReader::new(read).read_line(&mut line).await.context("reading the answer")?;
        serde_json::from_str::<Response>(&line).context("understanding the answer")
    };
    let response = tokio::time::timeout(PATIENCE, exchange).await.context("the deck does not answer")??;
    match response {
        Response::Ok(value) => Ok(Some(value)),
        Response::Error(error) => anyhow::bail!("{error}"),
    }
}

/// Removes the socket that a killed deck has left; one on which somebody answers stays.
pub async fn clear(dir: &Path) {
    if let Ok(None) = ask(dir, &Request::Status).await {
        let _ = std::fs::remove_file(dir.join(SOCKET));
    }
}

/// A path that fits a socket's name: the path itself, or one through the folder's descriptor.
struct ShortPath {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

impl ShortPath {
    /// `sun_path` holds 108 bytes with its terminating zero.
    const LIMIT: usize = 107;

    fn of(path: &Path) -> anyhow::Result<Self> {
        use std::os::fd::AsRawFd as _;
        if path.as_os_str().len() <= Self::LIMIT {
            return Ok(ShortPath { path: path.to_owned(), _folder: None });
        }
        let parent = path.parent().unwrap_or(Path::new("."));
        let folder = std::fs::File::open(parent).with_context(|| format!("opening {}", parent.display()))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
        Ok(ShortPath { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn round_trip(dir: &Path) {
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                match request {
                    Request::Status => Response::Ok(serde_json::json!({"rate": 7})),
                    _ => Response::Error("no".into()),
                }
            })
        });
        assert_eq!(ask(dir, &Request::Status).await.unwrap(), None, "no deck");
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (dir, stop) = (dir.to_owned(), stop.clone());
            async move { serve(&dir, handler, stop).await }
        });
        while !dir.join(SOCKET).exists() {
            tokio::task::yield_now().await;
        }
        let answer = ask(dir, &Request::Status).await.unwrap();
        assert_eq!(answer, Some(serde_json::json!({"rate": 7})));
        let refused = ask(dir, &Request::Restart { name: "x".into() }).await.unwrap_err();
        assert_eq!(refused.to_string(), "no");
        let mode = std::fs::metadata(dir.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        stop.cancel();
        serving.await.unwrap().unwrap();
        assert!(!dir.join(SOCKET).exists());
    }

    #[tokio::test]
    async fn a_request_is_answered_and_the_socket_goes_with_the_deck() {
        let dir = tempfile::tempdir().unwrap();
        round_trip(dir.path()).await;
    }

    #[tokio::test]
    async fn a_folder_with_a_long_name_works_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(90)).join("y".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        round_trip(&deep).await;
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_deck_left_is_no_deck() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        assert_eq!(ask(dir.path(), &Request::Status).await.unwrap(), None);
        clear(dir.path()).await;
        assert!(!dir.path().join(SOCKET).exists());
    }
}
