//! What PostgreSQL's clients ask a server about itself.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr_fn::SimpleScalarUDF;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;

/// The version of PostgreSQL whose clients are to feel at home.
pub const SERVER_VERSION: &str = "15.0";

/// Settings that clients read, with what they are here.
pub const SETTINGS: [(&str, &str); 20] = [
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "1"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("jit", "off"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("standard_conforming_strings", "on"),
    ("timezone", "UTC"),
    ("transaction_read_only", "on"),
];

/// What `version()` answers: clients look for "PostgreSQL" and a number.
#[must_use]
pub fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (tapedeck-store {})", env!("CARGO_PKG_VERSION"))
}

pub(super) fn register(context: &SessionContext) {
    let texts = |counts: &[usize]| {
        let of = |count: &usize| match count {
            0 => TypeSignature::Nullary,
            count => TypeSignature::Any(*count),
        };
        Signature::one_of(counts.iter().map(of).collect(), Volatility::Stable)
    };
    let add =
        |name: &str, arguments: &[usize], answers: DataType, answer: fn(&[ColumnarValue]) -> Result<ScalarValue>| {
            let function = move |args: &[ColumnarValue]| answer(args).map(ColumnarValue::Scalar);
            let function = SimpleScalarUDF::new_with_signature(name, texts(arguments), answers, Arc::new(function));
            context.register_udf(ScalarUDF::from(function));
        };
    add("version", &[0], DataType::Utf8, |_| Ok(ScalarValue::from(version())));
    add("current_setting", &[1, 2], DataType::Utf8, current_setting);
    // The answer is the value, as if it had been set: nothing here depends on it.
    add("set_config", &[3], DataType::Utf8, |args| text(args, 1).map(ScalarValue::Utf8));
    add("pg_is_in_recovery", &[0], DataType::Boolean, |_| Ok(ScalarValue::from(false)));
    add("pg_advisory_unlock_all", &[0], DataType::Utf8, |_| Ok(ScalarValue::from("")));
    add("obj_description", &[1, 2], DataType::Utf8, |_| Ok(ScalarValue::Utf8(None)));
    add("col_description", &[2], DataType::Utf8, |_| Ok(ScalarValue::Utf8(None)));
    add("shobj_description", &[2], DataType::Utf8, |_| Ok(ScalarValue::Utf8(None)));
}

fn current_setting(args: &[ColumnarValue]) -> Result<ScalarValue> {
    let Some(name) = text(args, 0)? else { return Ok(ScalarValue::Utf8(None)) };
    let known = SETTINGS.iter().find(|(setting, _)| setting.eq_ignore_ascii_case(&name));
    let missing_ok = matches!(args.get(1), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
    match known {
        Some((_, value)) => Ok(ScalarValue::from(*value)),
        None if missing_ok => Ok(ScalarValue::Utf8(None)),
        None => plan_err!("unrecognized configuration parameter \"{name}\""),
    }
}

fn text(args: &[ColumnarValue], at: usize) -> Result<Option<String>> {
    match args.get(at) {
        Some(ColumnarValue::Scalar(value)) => match value.cast_to(&DataType::Utf8)? {
            ScalarValue::Utf8(text) => Ok(text),
            _ => Ok(None),
        },
        _ => Err(DataFusionError::NotImplemented("only constant names of settings are supported".to_owned())),
    }
}
