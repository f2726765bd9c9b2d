//! Whether a Grafana answers, and has what the config wants it to have.

use crate::cli::verdict::Verdict;
use crate::config::Config;
use crate::grafana::{self, State};

const WHAT: &str = "grafana";
const SETUP: &str = "tapedeck grafana setup";

pub(super) async fn look(config: &Config) -> Vec<Verdict> {
    match grafana::look(config).await {
        Ok(state) => verdicts(&state),
        Err(error) => {
            vec![Verdict::bad(WHAT, format!("{error:#}"), "start it, or set [grafana] url, token or password")]
        }
    }
}

fn verdicts(state: &State) -> Vec<Verdict> {
    let mut all = vec![Verdict::good(WHAT, format!("Grafana {} answers", state.version))];
    let asked = [
        ("grafana.sources", &state.sources),
        ("grafana.dashboards", &state.dashboards),
        ("grafana.alerts", &state.alerts),
    ];
    for (what, missing) in asked {
        if let (Some(why), "grafana.alerts") = (&state.alerts_unseen, what) {
            all.push(Verdict::waits(
                what,
                why.clone(),
                "a login with the role Admin, or tapedeck grafana setup --to files",
            ));
            continue;
        }
        all.push(match (missing.as_slice(), state.asked) {
            ([], true) => Verdict::good(what, "all there, as wanted"),
            ([], false) => Verdict::waits(what, "not looked at: that needs a login", "set [grafana] token or password"),
            (missing, _) => Verdict::bad(what, missing.join("; "), SETUP),
        });
    }
    let cannot = |(name, words): &(String, String)| {
        Verdict::bad(format!("grafana.{name}"), words.clone(), "[grafana] urls says where Grafana itself finds a store")
    };
    all.extend(state.unreachable.iter().map(cannot));
    all
}
