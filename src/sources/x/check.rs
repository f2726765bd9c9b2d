//! `tapedeck check`: tries the venue without recording and without changing a rule, and says what to do about what does not work.

use anyhow::{bail, ensure};

use super::client::Client;
use super::config::{Config, RULES};
use super::pause::{End, Tier};
use super::rules;

/// The venue tells its time in whole seconds, and the answer was on its way.
const SKEW_S: u64 = 3;

/// Asks for the rules, whether ours would be taken, and for the stream, in this order: the first that fails is what to mend.
pub(super) async fn check(config: &Config, client: &Client) -> anyhow::Result<String> {
    let (held, ahead) = client.rules_and_time().await.map_err(reachable)?;
    if let Some(ahead) = ahead.filter(|ahead| ahead.unsigned_abs() > SKEW_S) {
        let which = if ahead > 0 { "behind" } else { "ahead of" };
        bail!("this machine's clock is {} s {which} the venue's: is NTP running?", ahead.unsigned_abs());
    }
    ensure!(
        !config.has_no_rules(),
        "no rules: name some in [[source.NAME.rules]], or set sync = \"off\" for those of the account"
    );
    let plan = rules::plan(config, &held);
    let many = plan.kept + plan.others + plan.add.len();
    ensure!(
        many <= RULES,
        "the account would have {many} rules, and {RULES} are allowed: name fewer, or set sync = \"full\" so that {} others go",
        plan.others
    );
    let tried = rules::add(client, &plan.add, true).await.map_err(|end| end.error)?;
    if let Some(first) = tried.refused.first() {
        bail!("X refuses {} of the rules; correct {first}", tried.refused.len());
    }
    let (add, delete) = (plan.add.len(), plan.delete.len());
    if !held.is_empty() {
        // Without rules it would be refused. Opened and closed: what comes within that moment is paid for, and not recorded.
        drop(client.open().await.map_err(|end| end.error)?);
    }
    let mut said = format!("{} rules are there as the config has them", plan.kept);
    if add + delete > 0 {
        said += &format!("; tapedeck run would add {add} and delete {delete}");
    }
    if let Some(held) = plan.delete.first() {
        said += &format!(" (the first: `{}`)", held.value);
    }
    if plan.others > 0 {
        said += &format!("; {} others stay", plan.others);
    }
    Ok(said)
}

fn reachable(End { tier, error }: End) -> anyhow::Error {
    let connects = error.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect() || error.is_timeout());
    if tier == Tier::Network && connects { error.context("is the network up, and `url` right?") } else { error }
}
