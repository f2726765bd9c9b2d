//! Rolling log files: one for all, and one per service when asked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_rolling_file::{RollingConditionBase, RollingFileAppenderBase};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A file is closed and numbered when it has this size.
const FILE_BYTES: u64 = 10_000_000;
/// Old files kept beside the current one: `.1` … `.5`.
const OLD_FILES: usize = 5;
/// Services with a file of their own; a name beyond them is in the common file only.
const SERVICES: usize = 256;
/// Fields that name the service an event or span is about.
const SERVICE_FIELDS: [&str; 3] = ["source", "sink", "service"];

thread_local! {
    /// The service of the event that this thread is just formatting.
    static SERVICE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The open files. A clone is the same files.
#[derive(Clone)]
pub(super) struct Files(Arc<Mutex<Open>>);

struct Open {
    dir: PathBuf,
    common: RollingFileAppenderBase,
    /// `None`: not asked for.
    services: Option<HashMap<String, RollingFileAppenderBase>>,
}

impl Files {
    pub(super) fn open(dir: &Path, per_service: bool) -> io::Result<Files> {
        std::fs::create_dir_all(dir)?;
        let common = rolling(&dir.join("tapedeck.log"))?;
        let services = per_service.then(HashMap::new);
        Ok(Files(Arc::new(Mutex::new(Open { dir: dir.to_owned(), common, services }))))
    }
}

fn rolling(path: &Path) -> io::Result<RollingFileAppenderBase> {
    // The library would panic on it.
    if path.to_str().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log's folder must have a UTF-8 name"));
    }
    let condition = RollingConditionBase::new().max_size(FILE_BYTES);
    RollingFileAppenderBase::new(path, condition, OLD_FILES).map_err(|error| io::Error::other(error.to_string()))
}

impl Write for Files {
    /// A file that cannot be written costs its lines, never the program: a full disk is a state of the tape, not the end.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = open.common.write_all(line).and_then(|()| open.common.flush());
        let service = SERVICE.with_borrow(Clone::clone);
        if let (Some(name), Some(file)) = (&service, open.services.as_ref())
            && file.len() < SERVICES
            && !file.contains_key(name)
        {
            let opened = rolling(&open.dir.join(format!("{}.log", file_name(name))));
            if let (Ok(opened), Some(services)) = (opened, open.services.as_mut()) {
                services.insert(name.clone(), opened);
            }
        }
        if let (Some(name), Some(services)) = (service, open.services.as_mut())
            && let Some(file) = services.get_mut(&name)
        {
            let _ = file.write_all(line).and_then(|()| file.flush());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name of the config as a file name: `kraken/private` has a slash.
fn file_name(service: &str) -> String {
    service.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// Finds the service that an event is about, before the layer behind it formats the line: in its
/// own fields, or in those of the spans around it.
pub(super) struct ServiceOfEvent;

/// Kept with a span that names a service.
struct Named(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ServiceOfEvent {
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let mut found = Finder(None);
        attrs.record(&mut found);
        if let (Some(name), Some(span)) = (found.0, ctx.span(id)) {
            span.extensions_mut().replace(Named(name));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut found = Finder(None);
        event.record(&mut found);
        let around = || {
            let mut spans = ctx.event_scope(event)?;
            spans.find_map(|span| span.extensions().get::<Named>().map(|named| named.0.clone()))
        };
        SERVICE.set(found.0.or_else(around));
    }
}

struct Finder(Option<String>);

impl Visit for Finder {
    fn record_str(&mut self, field: &Field, value: &str) {
        if SERVICE_FIELDS.contains(&field.name()) {
            self.0.get_or_insert_with(|| value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if SERVICE_FIELDS.contains(&field.name()) {
            self.0.get_or_insert_with(|| format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn each_service_has_its_own_file_beside_the_common_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), true).unwrap();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || files.clone());
        let logs = tracing_subscriber::registry().with(ServiceOfEvent.and_then(lines));
        tracing::subscriber::with_default(logs, || {
            tracing::info!(source = "kraken", "by field");
            tracing::info_span!("session", source = "oanda/private").in_scope(|| tracing::info!("by span"));
            tracing::info!("of nobody");
        });
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("tapedeck.log").lines().count(), 3);
        let own = read("kraken.log");
        assert!(own.contains("by field") && own.lines().count() == 1, "{own}");
        let own = read("oanda_private.log");
        assert!(own.contains("by span") && own.lines().count() == 1, "{own}");
    }

    #[test]
    fn a_full_file_is_numbered_and_the_sixth_old_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), false).unwrap();
        let line = vec![b'x'; usize::try_from(FILE_BYTES).unwrap() / 2];
        for _ in 0..16 {
            files.write_all(&line).unwrap();
        }
        let mut names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let want = ["tapedeck.log", "tapedeck.log.1", "tapedeck.log.2", "tapedeck.log.3", "tapedeck.log.4"];
        assert_eq!(names[..5], want);
        assert_eq!(names.len(), 6, "{names:?}");
    }
}
