//! What a row must keep to before anything of it is sent.

use anyhow::Context as _;
use regex::Regex;
use tapedeck_market::SmolStr;

use super::expression::{Expression, Names};
use super::field::{instant, key_text};
use super::settings::RuleSettings;
use super::{Refused, shown};
use crate::sync::Value;

/// One rule on one column, or on the row.
#[derive(Debug)]
pub(super) enum Rule {
    Column { name: SmolStr, at: usize, is: Is },
    That(Expression),
}

/// What a value must be. Only `Required` minds that there is none.
#[derive(Debug)]
pub(super) enum Is {
    Required,
    Numeric,
    Positive,
    NotNegative,
    Date,
    Matching(Regex),
}

impl Rule {
    /// The rules of one entry of the config.
    pub(super) fn new(
        settings: &RuleSettings,
        place: &dyn Fn(&str) -> anyhow::Result<usize>,
    ) -> anyhow::Result<Vec<Rule>> {
        let each = |names: &[String], is: &dyn Fn() -> Is| -> anyhow::Result<Vec<Rule>> {
            names.iter().map(|name| Ok(Rule::Column { name: name.into(), at: place(name)?, is: is() })).collect()
        };
        match settings {
            RuleSettings::Required { required } => each(required, &|| Is::Required),
            RuleSettings::Numeric { numeric } => each(numeric, &|| Is::Numeric),
            RuleSettings::Positive { positive } => each(positive, &|| Is::Positive),
            RuleSettings::NotNegative { not_negative } => each(not_negative, &|| Is::NotNegative),
            RuleSettings::Date { date } => each(date, &|| Is::Date),
            RuleSettings::Matches { matches, of } => {
                let expression =
                    Regex::new(matches).with_context(|| format!("`{matches}` is no regular expression"))?;
                each(of, &|| Is::Matching(expression.clone()))
            }
            RuleSettings::That { that } => Ok(vec![Rule::That(Expression::new(that, place)?)]),
        }
    }

    pub(super) fn calculates(&self) -> bool {
        matches!(self, Rule::That(_))
    }

    /// Whether a row keeps to it.
    pub(super) fn judge(&self, row: &[Value], names: Option<&Names>) -> Result<(), Refused> {
        match self {
            Rule::Column { name, at, is } => {
                let value = row.get(*at).unwrap_or(&Value::Null);
                let Some(wrong) = is.wrong(value) else { return Ok(()) };
                Err(Refused { rule: format!("{name} {wrong}"), reason: format!("{name} {wrong}: {}", shown(value)) })
            }
            Rule::That(expression) => {
                let rule = format!("not {}", expression.text);
                let Some(names) = names else { return Ok(()) };
                match expression.value(names) {
                    Ok(Value::Bool(true)) => Ok(()),
                    Ok(Value::Bool(false)) => {
                        Err(Refused { reason: format!("{rule}: {}", values(expression, row)), rule })
                    }
                    Ok(other) => Err(Refused { reason: format!("{rule}: it gives {}", shown(&other)), rule }),
                    Err(why) => Err(Refused { reason: format!("{rule}: {why}"), rule }),
                }
            }
        }
    }
}

/// The row as far as it is short, for a rule on several columns.
fn values(_: &Expression, row: &[Value]) -> String {
    row.iter().map(shown).collect::<Vec<_>>().join(", ").chars().take(200).collect()
}

impl Is {
    fn wrong(&self, value: &Value) -> Option<&'static str> {
        if *value == Value::Null {
            return matches!(self, Is::Required).then_some("is required");
        }
        let number = || match value {
            Value::Int(number) => Some(*number as f64),
            Value::Double(number) => Some(*number).filter(|number| number.is_finite()),
            Value::Decimal(text) | Value::Text(text) => {
                text.trim().parse().ok().filter(|number: &f64| number.is_finite())
            }
            _ => None,
        };
        match self {
            Is::Required => matches!(value, Value::Text(text) if text.trim().is_empty()).then_some("is required"),
            Is::Numeric => number().is_none().then_some("is no number"),
            Is::Positive => number().is_none_or(|number| number <= 0.0).then_some("is not above 0"),
            Is::NotNegative => number().is_none_or(|number| number < 0.0).then_some("is below 0"),
            Is::Date => instant(value).is_none().then_some("is no time"),
            Is::Matching(expression) => {
                let text = key_text(value).unwrap_or_default();
                (!expression.is_match(&text)).then_some("does not match")
            }
        }
    }
}
