//! The rules at the venue, made those of the config.

use super::client::{Added, Client, Held};
use super::config::{Config, Rule, Sync};
use super::pause::End;

/// What is to be changed at the venue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) add: Vec<Rule>,
    pub(super) delete: Vec<Held>,
    /// Rules that are there as the config has them.
    pub(super) kept: usize,
    /// Rules of others, that stay.
    pub(super) others: usize,
}

/// Compares by value and tag: a rule under another tag would come by the wrong name.
pub(super) fn plan(config: &Config, held: &[Held]) -> Plan {
    let is = |rule: &Rule, held: &Held| rule.value == held.value && held.tag.as_deref() == Some(&rule.tag);
    let wanted = |held: &Held| config.rules.iter().any(|rule| is(rule, held));
    // The venue has a value once: under another tag it has to go, whoever made it.
    let in_the_way = |held: &Held| config.rules.iter().any(|rule| rule.value == held.value && !is(rule, held));
    let delete: Vec<Held> = held
        .iter()
        .filter(|held| match config.sync {
            Sync::Full => !wanted(held),
            Sync::Add => in_the_way(held),
            Sync::Off => false,
        })
        .cloned()
        .collect();
    let add = match config.sync {
        Sync::Off => Vec::new(),
        _ => config.rules.iter().filter(|rule| !held.iter().any(|held| is(rule, held))).cloned().collect(),
    };
    let kept = held.iter().filter(|held| wanted(held)).count();
    Plan { others: held.len() - kept - delete.len(), add, delete, kept }
}

/// The tags under which posts will come, and what the venue refused, in words.
#[derive(Debug, Default)]
pub(super) struct Synced {
    pub(super) tags: Vec<String>,
    pub(super) refused: Vec<String>,
}

/// Makes the venue's rules those of the config. What is in the way goes first: what is added may need its place.
pub(super) async fn sync(config: &Config, client: &Client, source: &str) -> Result<Synced, End> {
    let held = client.rules().await?;
    let plan = plan(config, &held);
    if !plan.delete.is_empty() {
        let ids: Vec<&str> = plan.delete.iter().map(|held| held.id.as_str()).collect();
        client.delete(&ids).await?;
        for held in &plan.delete {
            // In full, so that it can be made again.
            let tag = held.tag.as_deref().unwrap_or_default();
            tracing::info!(source, tag, value = %held.value, "rule deleted at the venue");
        }
    }
    let added = add(client, &plan.add, false).await?;
    if !plan.add.is_empty() {
        let (added, refused) = (plan.add.len() - added.refused.len(), added.refused.len());
        tracing::info!(source, added, refused, "rules added at the venue");
    }
    let gone = |held: &Held| plan.delete.iter().any(|deleted| deleted.id == held.id);
    let stay = held.iter().filter(|held| !gone(held)).filter_map(|held| held.tag.clone());
    let news = plan.add.iter().filter(|rule| !added.refused.iter().any(|refused| refused.value == rule.value));
    let mut tags: Vec<String> = stay.chain(news.map(|rule| rule.tag.clone())).collect();
    tags.sort_unstable();
    tags.dedup();
    let refused = added.refused.iter().map(|refused| refused.to_string()).collect();
    Ok(Synced { tags, refused })
}

/// Adds rules, or with `dry` only asks whether they could be. Those that are refused do not keep the others out.
pub(super) async fn add(client: &Client, rules: &[Rule], dry: bool) -> Result<Added, End> {
    if rules.is_empty() {
        return Ok(Added::default());
    }
    let first = client.add(rules, dry).await?;
    // Where one is refused the venue may have taken none.
    if first.refused.is_empty() || first.created + first.refused.len() >= rules.len() {
        return Ok(first);
    }
    let good: Vec<Rule> =
        rules.iter().filter(|rule| !first.refused.iter().any(|refused| refused.value == rule.value)).cloned().collect();
    if good.is_empty() {
        return Ok(first);
    }
    let mut again = client.add(&good, dry).await?;
    again.refused.extend(first.refused);
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sync: &str) -> Config {
        let text = format!(
            "sync = '{sync}'\n[[rules]]\ntag = 'btc'\nvalue = 'bitcoin'\n[[rules]]\ntag = 'eth'\nvalue = 'ether'\n"
        );
        Config::from_table(text.parse().expect("toml")).expect("a table")
    }

    fn held(rules: &[(&str, &str)]) -> Vec<Held> {
        let each = |(at, (tag, value)): (usize, &(&str, &str))| Held {
            id: at.to_string(),
            value: (*value).into(),
            tag: (!tag.is_empty()).then(|| (*tag).into()),
        };
        rules.iter().enumerate().map(each).collect()
    }

    fn shown(plan: &Plan) -> (Vec<&str>, Vec<&str>, usize, usize) {
        let add = plan.add.iter().map(|rule| rule.tag.as_str()).collect();
        (add, plan.delete.iter().map(|held| held.id.as_str()).collect(), plan.kept, plan.others)
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_not_wanted_goes_only_where_that_is_asked() {
        let there = held(&[("btc", "bitcoin"), ("old", "doge"), ("", "cats")]);
        assert_eq!(shown(&plan(&config("full"), &there)), (vec!["eth"], vec!["1", "2"], 1, 0));
        assert_eq!(shown(&plan(&config("add"), &there)), (vec!["eth"], vec![], 1, 2));
        assert_eq!(shown(&plan(&config("off"), &there)), (vec![], vec![], 1, 2));
        let same = held(&[("eth", "ether"), ("btc", "bitcoin")]);
        assert_eq!(plan(&config("full"), &same), Plan { kept: 2, ..Plan::default() });
    }

    #[test]
    fn a_rule_under_another_tag_is_made_anew() {
        let there = held(&[("bitcoin", "bitcoin"), ("", "ether")]);
        for sync in ["full", "add"] {
            assert_eq!(shown(&plan(&config(sync), &there)), (vec!["btc", "eth"], vec!["0", "1"], 0, 0), "{sync}");
        }
    }
}
