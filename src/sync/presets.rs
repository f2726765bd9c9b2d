//! Mappings that are ready: the predecessor's four tables, with its own fields and rules.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapping::{FieldSettings, Kind, Null, RuleSettings, Settings};

/// A mapping that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Preset {
    Wig80Historical,
    AiInsights,
    MarketCorrelations,
    ValuationAnalysis,
}

impl Preset {
    pub const ALL: [Preset; 4] =
        [Preset::Wig80Historical, Preset::AiInsights, Preset::MarketCorrelations, Preset::ValuationAnalysis];

    /// Name of the table it is for.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Preset::Wig80Historical => "wig80_historical",
            Preset::AiInsights => "ai_insights",
            Preset::MarketCorrelations => "market_correlations",
            Preset::ValuationAnalysis => "valuation_analysis",
        }
    }

    /// The mapping. Company names and sectors want a file: `company_name = { from = "symbol", lookup = "companies.csv", take = "name",
    /// else = "Unknown Company" }`.
    #[must_use]
    pub fn settings(self) -> Settings {
        match self {
            Preset::Wig80Historical => stocks(),
            Preset::AiInsights => Settings {
                collection: Some("ai_insights".into()),
                key: names(&["ts", "symbol", "insight_type"]),
                time: Some("ts".into()),
                columns: fields(&[
                    ("symbol", "symbol", Kind::Text),
                    ("timestamp", "ts", Kind::Time { nanos: false }),
                    ("insight_type", "insight_type", Kind::Text),
                    ("insight_result", "result", Kind::Json),
                    ("confidence", "confidence", Kind::Json),
                ]),
                rules: vec![required(&["symbol", "ts", "insight_type"])],
                ..Settings::default()
            },
            Preset::MarketCorrelations => Settings {
                collection: Some("market_correlations".into()),
                key: names(&["ts", "symbol_a", "symbol_b"]),
                time: Some("ts".into()),
                columns: fields(&[
                    ("symbol_a", "symbol_a", Kind::Text),
                    ("symbol_b", "symbol_b", Kind::Text),
                    ("timestamp", "ts", Kind::Time { nanos: false }),
                    ("correlation_value", "correlation", Kind::Number),
                    ("strength", "strength", Kind::Text),
                ]),
                rules: vec![required(&["symbol_a", "symbol_b", "ts", "correlation"])],
                ..Settings::default()
            },
            Preset::ValuationAnalysis => {
                let figures = ["pe_ratio", "pb_ratio", "historical_pe_avg", "historical_pb_avg", "overvaluation_score"];
                let mut columns =
                    fields(&[("symbol", "symbol", Kind::Text), ("timestamp", "ts", Kind::Time { nanos: false })]);
                columns.extend(fields(&figures.map(|name| (name, name, Kind::Json))));
                Settings {
                    collection: Some("valuation_analysis".into()),
                    key: names(&["ts", "symbol"]),
                    time: Some("ts".into()),
                    columns,
                    rules: vec![required(&["symbol", "ts"])],
                    ..Settings::default()
                }
            }
        }
    }
}

/// Prices of a day: seven required columns, numbers, prices above 0, and a day's high and low that hold its open and close.
fn stocks() -> Settings {
    let prices = ["open", "high", "low", "close"];
    let mut columns = fields(&[
        ("symbol", "symbol", Kind::Text),
        ("timestamp", "ts", Kind::Time { nanos: false }),
        ("open_price", "open", Kind::Number),
        ("high_price", "high", Kind::Number),
        ("low_price", "low", Kind::Number),
        ("close_price", "close", Kind::Number),
        ("volume", "volume", Kind::Integer),
        ("macd", "macd", Kind::Json),
        ("rsi", "rsi", Kind::Json),
        ("bb_upper", "bb_upper", Kind::Json),
        ("bb_lower", "bb_lower", Kind::Json),
    ]);
    // Said, because a field of the target that is a number has no way to be absent.
    for name in ["macd", "rsi", "bb_upper", "bb_lower"] {
        if let Some(field) = columns.get_mut(name) {
            field.null = Some(Null::Empty);
        }
    }
    Settings {
        collection: Some("stock_data".into()),
        key: names(&["ts", "symbol"]),
        time: Some("ts".into()),
        columns,
        rules: vec![
            required(&["symbol", "ts", "open", "high", "low", "close", "volume"]),
            RuleSettings::Numeric { numeric: names(&["open", "high", "low", "close", "volume"]) },
            RuleSettings::Positive { positive: names(&prices) },
            RuleSettings::NotNegative { not_negative: names(&["volume"]) },
            RuleSettings::Date { date: names(&["ts"]) },
            RuleSettings::That { that: "high >= low && high >= open && high >= close".into() },
            RuleSettings::That { that: "low <= open && low <= close".into() },
        ],
        ..Settings::default()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn required(columns: &[&str]) -> RuleSettings {
    RuleSettings::Required { required: names(columns) }
}

fn fields(fields: &[(&str, &str, Kind)]) -> BTreeMap<String, FieldSettings> {
    let field = |(name, from, kind): &(&str, &str, Kind)| {
        let settings = FieldSettings { from: Some((*from).to_owned()), form: Some(*kind), ..FieldSettings::default() };
        ((*name).to_owned(), settings)
    };
    fields.iter().map(field).collect()
}
