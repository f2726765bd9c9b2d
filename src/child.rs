//! A child process under supervision: this program with another verb, or a sibling beside it.
//!
//! ```text
//! deck ── standard input ──►  one JSON line (the config), then nothing until the end of file: "end in order"
//!      ◄─ standard output ──  JSON lines: {"state":"running","lag":0,…}
//!      ◄─ standard error ───  log lines, JSON as `logs` writes them, or text (a panic, an assertion of a C library)
//! ```
//!
//! The child sees the end of its standard input however the deck ends, so no orphan stays behind. It has a process
//! group of its own: Ctrl-C reaches the deck, and the deck ends it in order.

use std::ffi::OsString;
use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::service::{Desk, Shown};

/// A longer line of a child is cut.
const LINE_BYTES: u64 = 64 * 1024;
/// A config is a few lines of TOML.
const CONFIG_BYTES: u64 = 4 << 20;
/// What a child may take to end in order, below the grace of a stage.
const END_WITHIN: Duration = Duration::from_secs(10);
/// A child that was left alone and does not end is ended by itself after this.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What to run.
#[derive(Clone, Debug)]
pub struct Child {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The child's config, for [`inherit`].
    pub config: Value,
}

impl Child {
    /// This program with a verb.
    ///
    /// # Errors
    /// The system does not say where the program lies, or the config is no JSON.
    pub fn of_this_program(args: &[&str], config: &impl Serialize) -> anyhow::Result<Child> {
        let program = this_program()?;
        let config = serde_json::to_value(config).context("writing the child's config")?;
        Ok(Child { program, args: args.iter().map(OsString::from).collect(), config })
    }

    /// Runs it until `stop`, then lets it end in order. Not cancel safe, but harmless: a dropped future kills the child.
    ///
    /// # Errors
    /// It cannot be started, or it ended by itself.
    pub async fn run(&self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let program = self.program.display();
        let mut command = tokio::process::Command::new(&self.program);
        // In a list of processes the child stands by its name, not as the descriptor that it was started from.
        if self.program.starts_with("/proc") {
            command.arg0(std::env::args_os().next().unwrap_or_else(|| "tapedeck".into()));
        }
        let mut child = command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        if let Some(pid) = child.id() {
            desk.shown.set("pid", pid);
        }
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        if let Some(stdin) = &mut stdin {
            let line = format!("{}\n", self.config);
            // A child that ends before it reads says why in its log.
            let _ = stdin.write_all(line.as_bytes()).await;
        }
        let said = async {
            tokio::join!(
                async {
                    if let Some(stdout) = stdout {
                        lines(BufReader::new(stdout), |line| show(&desk.shown, line)).await;
                    }
                },
                async {
                    if let Some(stderr) = stderr {
                        lines(BufReader::new(stderr), |line| log(&desk.name, line)).await;
                    }
                }
            );
        };
        tokio::pin!(said);
        let mut silent = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut said, if !silent => silent = true,
                () = stop.cancelled(), if stdin.is_some() => {
                    drop(stdin.take());
                    let ended = async { tokio::join!(child.wait(), async { if !silent { (&mut said).await } }) };
                    let Ok((status, ())) = tokio::time::timeout(END_WITHIN, ended).await else {
                        tracing::error!(service = %desk.name, limit_s = END_WITHIN.as_secs(), "child did not end in order and was killed");
                        child.kill().await.context("killing the child")?;
                        return Ok(());
                    };
                    silent = true;
                    break status;
                }
            }
        };
        let status = status.with_context(|| format!("waiting for {program}"))?;
        if !silent {
            // What it said last is still in the pipes; a grandchild that holds them open is not waited for.
            let _ = tokio::time::timeout(Duration::from_millis(200), said).await;
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        Err(anyhow::anyhow!("{program} {}", describe(status)))
    }
}

/// This very program.
///
/// # Errors
/// The system does not say where it lies.
pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    // By the descriptor: the file may have been replaced by a newer version meanwhile.
    let by_proc = PathBuf::from("/proc/self/exe");
    if by_proc.exists() { Ok(by_proc) } else { std::env::current_exe().context("finding this program") }
}

/// How a process ended, in words.
pub(crate) fn describe(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended by itself with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended by itself".to_owned(),
    }
}

/// Hands over each line until the end, the longest of them cut.
pub(crate) async fn lines(mut from: impl AsyncBufRead + Unpin, mut each: impl FnMut(&[u8])) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => each(line.trim_ascii()),
        }
    }
}

fn show(shown: &Shown, line: &[u8]) {
    let Ok(Value::Object(said)) = serde_json::from_slice(line) else { return };
    for (key, value) in said {
        match (key.as_str(), value) {
            ("state", Value::String(state)) => shown.set_state(state),
            (key, value) => shown.set(key, value),
        }
    }
}

/// A child's log line in our own log, at its own level.
fn log(service: &str, line: &[u8]) {
    let parsed: Option<Value> = serde_json::from_slice(line).ok();
    let level = parsed.as_ref().and_then(|line| line.get("level")?.as_str());
    let text = parsed.as_ref().and_then(message);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(line).into_owned());
    match level {
        Some("ERROR") => tracing::error!(service, "{text}"),
        Some("INFO") => tracing::info!(service, "{text}"),
        Some("DEBUG" | "TRACE") => tracing::debug!(service, "{text}"),
        _ if text.is_empty() => {}
        _ => tracing::warn!(service, "{text}"),
    }
}

/// The message of a JSON log line, with its fields behind it.
fn message(line: &Value) -> Option<String> {
    let fields = line.get("fields").unwrap_or(line).as_object()?;
    let mut text = fields.get("message")?.as_str()?.to_owned();
    for (key, value) in
        fields.iter().filter(|(key, _)| !matches!(key.as_str(), "message" | "level" | "timestamp" | "target"))
    {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!(" {key}={value}"));
    }
    Some(text)
}

/// What a child was given.
#[derive(Debug)]
pub struct Inherited<T> {
    pub config: T,
    /// Cancelled when the deck wants the child to end, or is gone.
    pub stop: CancellationToken,
}

/// The child's side: reads the config, and watches for the end. A child that has not ended some time after that is
/// ended here, because nobody is left to do it.
///
/// # Errors
/// Standard input holds no config: this verb is for the deck, not for people.
pub fn inherit<T: DeserializeOwned>() -> anyhow::Result<Inherited<T>> {
    // Started from a descriptor, the system would call it `exe`.
    let _ = std::fs::write("/proc/self/comm", "tapedeck");
    let mut line = Vec::new();
    std::io::stdin().lock().take(CONFIG_BYTES).read_until(b'\n', &mut line).context("reading standard input")?;
    let config = serde_json::from_slice(&line)
        .context("standard input holds no config: this verb is started by the deck, not by hand")?;
    let stop = CancellationToken::new();
    let ended = stop.clone();
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(move || {
            // Nothing more comes: the end of file is the message.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            ended.cancel();
            std::thread::sleep(LAST_WORDS);
            std::process::exit(1);
        })
        .context("starting a thread")?;
    Ok(Inherited { config, stop })
}

/// Says how the child is: one JSON line on standard output.
pub fn say(state: &Value) {
    use std::io::Write as _;
    // Without a reader there is nobody to tell.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{state}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn desk() -> Desk {
        Desk {
            name: "child".into(),
            dir: PathBuf::new(),
            tape: Arc::default(),
            out: None,
            shown: Arc::default(),
            status: crate::status::Overview::default(),
            asked: Arc::new(tokio::sync::Mutex::new(tokio::sync::mpsc::channel(1).1)),
        }
    }

    fn shell(script: &str) -> Child {
        Child { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], config: "the config".into() }
    }

    #[tokio::test]
    async fn a_child_gets_its_config_says_its_state_and_ends_at_the_end_of_its_input() {
        let (desk, stop) = (desk(), CancellationToken::new());
        let script = r#"read config; echo "{\"state\":\"got $(echo $config | tr -d '"')\",\"lag\":7}"; cat; echo '{"state":"last words"}'"#;
        let run = tokio::spawn({
            let (desk, stop) = (desk.clone(), stop.clone());
            async move { shell(script).run(&desk, stop).await }
        });
        while desk.shown.state() != "got the config" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(desk.shown.detail()["lag"], 7);
        assert!(desk.shown.detail()["pid"].as_u64().is_some_and(|pid| pid > 1));
        stop.cancel();
        run.await.unwrap().unwrap();
        assert_eq!(desk.shown.state(), "last words");
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_an_error_that_says_how() {
        let cases = [("exit 3", "ended by itself with exit code 3"), ("kill -ABRT $$", "was ended by signal 6")];
        for (script, said) in cases {
            let error = shell(script).run(&desk(), CancellationToken::new()).await.unwrap_err();
            assert_eq!(format!("{error:#}"), format!("/bin/sh {said}"));
        }
        let missing = Child { program: "/nowhere/tapedeck".into(), ..shell("") };
        let error = missing.run(&desk(), CancellationToken::new()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "starting /nowhere/tapedeck: No such file or directory (os error 2)");
    }

    #[test]
    fn a_log_line_of_a_child_is_read_with_its_fields() {
        let line = serde_json::json!({ "level": "WARN", "fields": { "message": "slow", "lag": 3, "topic": "t" } });
        assert_eq!(message(&line).as_deref(), Some("slow lag=3 topic=t"));
        assert_eq!(message(&serde_json::json!("text")), None);
    }
}
