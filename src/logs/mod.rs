//! Logs: the console and rolling files, text or JSON, with secrets taken out on the way.
//!
//! ```text
//! event ─► level ─► service of the event ─► one formatted line ─► secrets out ─► console (stderr)
//!                                                                            ├─► tapedeck.log (10 MB, .1 … .5)
//!                                                                            └─► <service>.log, when asked
//! ```
//!
//! Files are written line by line, unbuffered: the last line before a crash is the one that is needed.

pub mod console;
mod files;
mod redact;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogFormat;
pub use redact::{MIN_SECRET_BYTES, hide, redact, redact_state, redact_text, redact_value};

/// How to log.
#[derive(Clone, Debug)]
pub struct Options {
    /// A level word or filter directives, as in `[log] level`.
    pub level: String,
    pub format: LogFormat,
    /// Folder of the files; `None`: the console alone.
    pub dir: Option<PathBuf>,
    /// A file of its own for each source and sink.
    pub per_service: bool,
    /// Colour on the console; it must also be a terminal.
    pub color: bool,
}

/// The running log: its level can be changed.
#[derive(Clone, Debug)]
pub struct Logs {
    level: reload::Handle<EnvFilter, Registry>,
}

/// A text that is no log level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no log level: {why}")]
pub struct LevelError {
    text: String,
    why: String,
}

/// Checks a level word or filter directives.
///
/// # Errors
/// The text and what is wrong with it.
pub fn parse_level(text: &str) -> Result<EnvFilter, LevelError> {
    let refuse = |why: String| LevelError { text: text.to_owned(), why };
    let word = text.trim().to_ascii_lowercase();
    let directives = match word.as_str() {
        // Our own words at that level; of the libraries below only what went wrong.
        "error" => "error".to_owned(),
        "warn" | "info" | "debug" | "trace" => format!("warn,tapedeck={word}"),
        _ if text.contains(['=', ',']) => text.to_owned(),
        _ => return Err(refuse("there are error, warn, info, debug and trace".to_owned())),
    };
    EnvFilter::builder().parse(directives).map_err(|error| refuse(error.to_string()))
}

/// Starts logging for the whole process. Only the first call counts: a second one is an error.
///
/// # Errors
/// The folder or a file cannot be written, or logging was started before.
pub fn start(options: &Options) -> anyhow::Result<Logs> {
    let (filter, level) = reload::Layer::new(parse_level(&options.level)?);
    let ansi = options.color && io::stderr().is_terminal();
    let console = line_layer(options.format, ansi, || Redacted(console::Stderr));
    let files = match &options.dir {
        Some(dir) => {
            let files = files::Files::open(dir, options.per_service)
                .with_context(|| format!("opening the log in {}", dir.display()))?;
            let layer = line_layer(options.format, false, move || Redacted(files.clone()));
            Some(files::ServiceOfEvent.and_then(layer))
        }
        None => None,
    };
    tracing_subscriber::registry().with(filter).with(console).with(files).try_init().context("starting the log")?;
    report_panics();
    Ok(Logs { level })
}

impl Logs {
    /// Changes the level of a running log.
    ///
    /// # Errors
    /// The text is no level.
    pub fn set_level(&self, level: &str) -> anyhow::Result<()> {
        self.level.reload(parse_level(level)?).context("changing the log level")
    }
}

fn line_layer<S, W>(format: LogFormat, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => fmt::layer().with_ansi(ansi).with_target(false).with_writer(writer).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    }
}

/// A panic is a log line with its place, not a stray text on the console.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(panic = text, place, backtrace = %backtrace, "a thread panicked");
            }
            _ => tracing::error!(panic = text, place, "a thread panicked"),
        }
    }));
}

/// Takes secrets out of every line. The formatter hands over whole lines, so none is ever split.
struct Redacted<W>(W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&redact(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_directives() {
        for text in ["info", "WARN", "debug", "info,tapedeck::sources=debug", "tapedeck=trace"] {
            assert!(parse_level(text).is_ok(), "{text}");
        }
        for text in ["loud", "", "tapedeck=loud"] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_leaves_without_its_secret() {
        hide("correct horse");
        let mut line = Vec::new();
        Redacted(&mut line).write_all(b"login with correct horse failed\n").unwrap();
        assert_eq!(line, b"login with *** failed\n");
    }
}
