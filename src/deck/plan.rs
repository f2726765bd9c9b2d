//! From a config to what the deck does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tapedeck_market::SmolStr;
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Mode, Options, Retention};

use super::{ServicePlan, SourcePlan};
use crate::config::{self, Config, Loaded, Problems};
use crate::recorder::OnFull;
use crate::service::{Holds, SERVICES, Setup};
use crate::sinks;
use crate::sources::KINDS;

/// Segments that must fit into what is left of the disk: below it, `on_full = "shed"` begins.
const SHED_BELOW_SEGMENTS: u64 = 4;

/// A deck as the config asks for it, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the tape.
    pub dir: PathBuf,
    /// The disk that it lies on; tests bring their own.
    pub storage: Arc<dyn Storage>,
    pub options: Options,
    pub retention: Retention,
    pub on_full: OnFull,
    /// Below this many free bytes `on_full = "shed"` leaves out depth.
    pub shed_below: u64,
    /// The sources to run.
    pub sources: Vec<SourcePlan>,
    /// The services to run.
    pub services: Vec<ServicePlan>,
    /// Every source of the config, run or not.
    pub configured: HashSet<SmolStr>,
    pub http: Option<SocketAddr>,
    /// What each stage may take to stop.
    pub grace: Duration,
    /// The longest wait before a source or service that ended is started again.
    pub longest_wait: Duration,
}

impl Plan {
    /// The plan of a config, for all its sources and services or for `only` some of them; each kind has checked its table.
    ///
    /// # Errors
    /// Every problem that the kinds found, and names in `only` that no table has.
    pub fn of(loaded: &Loaded, only: &[String]) -> Result<Plan, Problems> {
        loaded.build(only)?;
        Ok(Plan::unchecked(&loaded.config, only))
    }

    /// The same, with the tables unchecked: for configs made by the program itself.
    #[must_use]
    pub fn unchecked(config: &Config, only: &[String]) -> Plan {
        let tape = &config.tape;
        let options = Options {
            mode: match tape.mode {
                config::Mode::Group => Mode::Group,
                config::Mode::Each => Mode::Each,
                config::Mode::Os => Mode::Os,
            },
            segment_bytes: tape.segment.0,
            compress: tape.compress,
            ..Options::default()
        };
        let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
        let sources = config.sources.iter().filter(|source| wanted(&source.name));
        let sources = sources.filter_map(|source| {
            let kind = KINDS.iter().find(|kind| kind.name == source.kind)?;
            Some(SourcePlan { name: source.name.clone(), kind, table: source.table.clone() })
        });
        let whole = Arc::new(config.clone());
        let plan = |name: &SmolStr, kind, section| {
            let setup = Setup { name: name.clone(), config: whole.clone(), dir: tape.dir.clone() };
            ServicePlan { name: name.clone(), kind, section, setup }
        };
        let services = SERVICES.iter().filter(|kind| wanted(kind.name)).filter_map(|kind| {
            let section = (kind.section)(config)?;
            Some(plan(&SmolStr::new_static(kind.name), kind, section))
        });
        let sinks = config.sinks.iter().filter(|sink| wanted(&sink.name)).map(|sink| {
            let mut section = sink.table.clone();
            section.insert("kind".to_owned(), sink.kind.as_str().into());
            plan(&sink.name, &sinks::SERVICE, section.into())
        });
        let services: Vec<ServicePlan> = services.chain(sinks).collect();
        let holding = |holds: Holds| {
            let kinds = SERVICES.iter().filter(move |kind| kind.holds == holds && (kind.section)(config).is_some());
            kinds.map(|kind| kind.name.to_owned())
        };
        let required_sinks = config.sinks.iter().filter(|sink| {
            // A table that is wrong was refused before; while in doubt, nothing is removed.
            sinks::plan_of(sink).map_or(true, |(delivery, _)| delivery.required)
        });
        let required_sinks = required_sinks.map(|sink| sink.name.to_string());
        Plan {
            dir: tape.dir.clone(),
            storage: Arc::new(Disk),
            shed_below: options.segment_bytes.saturating_mul(SHED_BELOW_SEGMENTS),
            options,
            retention: Retention {
                keep_age: tape.keep.age,
                keep_bytes: tape.keep.bytes,
                required: holding(Holds::Everything).chain(required_sinks).collect(),
                once_begun: holding(Holds::OnceBegun).collect(),
            },
            on_full: match tape.on_full {
                config::OnFull::Stop => OnFull::Stop,
                config::OnFull::DropOldest => OnFull::DropOldest,
                config::OnFull::Shed => OnFull::Shed,
            },
            sources: sources.collect(),
            services,
            configured: config.sources.iter().map(|source| source.name.clone()).collect(),
            http: config.http.listen.addr(),
            grace: config.deck.grace.0,
            longest_wait: config.deck.longest_wait.0,
        }
    }
}
