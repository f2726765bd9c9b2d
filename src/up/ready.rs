//! Whether a server takes requests: one question, one answer.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::config::Ready;

/// A question that is not answered by then counts as no.
const PATIENCE: Duration = Duration::from_secs(2);

/// # Errors
/// Why it is not ready.
pub(crate) async fn ask(ready: &Ready, dir: Option<&Path>) -> Result<(), String> {
    let asked = async {
        match ready {
            Ready::Tcp(address) => tcp(address).await,
            Ready::Http(url) => http(url).await,
            Ready::Command(command) => shell(command, dir).await,
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer in {} s from {ready}", PATIENCE.as_secs())),
    }
}

async fn tcp(address: &str) -> Result<(), String> {
    let connected = tokio::net::TcpStream::connect(address).await;
    connected.map(drop).map_err(|error| format!("tcp {address}: {error}"))
}

async fn http(url: &str) -> Result<(), String> {
    // A server of this machine is not asked through a proxy, and what its certificate is worth is for its clients to say.
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build();
    let answer = client.map_err(|error| error.to_string())?.get(url).send().await;
    match answer {
        Ok(answer) if answer.status().as_u16() < 400 => Ok(()),
        Ok(answer) => Err(format!("{url} answers {}", answer.status())),
        Err(error) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            Err(format!("{url}: {cause}"))
        }
    }
}

/// Runs a command by the shell, to its end.
pub(super) async fn shell(command: &str, dir: Option<&Path>) -> Result<(), String> {
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(dir) = dir {
        shell.current_dir(dir);
    }
    let out = shell.output().await.map_err(|error| format!("`{command}`: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = [out.stderr, out.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let how = crate::child::describe(out.status);
    Err(if last.is_empty() { format!("`{command}` {how}") } else { format!("`{command}` {how}: {last}") })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answer(text: &str) -> Result<(), String> {
        ask(&text.parse().unwrap(), None).await
    }

    #[tokio::test]
    async fn a_port_a_url_and_a_command_say_whether_it_is_ready() {
        crate::tls::install();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(answer(&format!("tcp 127.0.0.1:{port}")).await, Ok(()));
        let serving = tokio::spawn(async move {
            for status in ["204 No Content", "503 Service Unavailable"] {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    if stream.read(&mut [0; 1024]).await.unwrap() > 0 {
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        break;
                    }
                }
            }
        });
        let url = format!("http http://127.0.0.1:{port}/ping");
        assert_eq!(answer(&url).await, Ok(()));
        assert!(answer(&url).await.unwrap_err().contains("503"));
        serving.await.unwrap();
        assert!(answer(&url).await.unwrap_err().contains("refused"));
        assert_eq!(answer("command test -d /").await, Ok(()));
        let said = answer("command echo no database >&2; exit 3").await.unwrap_err();
        assert!(said.contains("exit code 3") && said.ends_with("no database"), "{said}");
    }
}
