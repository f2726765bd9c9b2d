//! `tapedeck sync watch`: tables followed until Ctrl-C.

use super::{Set, Since, Tables, busy, stop_at_signal};
use crate::cli::Global;
use crate::cli::out::Out;
use crate::config::units::Interval;
use crate::sync::following::Following;
use crate::sync::pass::How;

/// Follow the tables until Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Look so often, in place of what the config says
    #[arg(long, value_name = "TIME")]
    interval: Option<Interval>,
    /// `now`: leave out what is there already, where nothing was synced yet; `beginning`: no more
    #[arg(long)]
    from: Option<Since>,
    /// Show queries, transforms and requests
    #[arg(long)]
    debug: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let mut global = global.clone();
        global.verbose += if self.debug { 3 } else { 0 };
        let loaded = global.load()?;
        let _logs = global.start_logs(&loaded)?;
        let set = Set::of(&loaded)?;
        let tables = set.tables(&self.tables)?;
        out.flush()?;
        super::super::block_on(async {
            let stop = stop_at_signal()?;
            let mut config = set.config.clone();
            if let Some(interval) = self.interval {
                config.poll = Some(interval);
            }
            let how = How { from: self.from.map(Into::into), ..How::default() };
            let following = Following::new(config, set.folder.clone(), set.base.clone()).map_err(busy)?;
            following.run(tables, how, stop).await
        })
    }
}
