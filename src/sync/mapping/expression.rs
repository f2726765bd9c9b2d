//! Small calculations on a row, in the Common Expression Language.

use cel::{Context, Program};
use tapedeck_market::SmolStr;

use super::super::{Schema, Value};

/// An expression, compiled.
pub(super) struct Expression {
    pub(super) text: SmolStr,
    /// Columns that it reads.
    pub(super) places: Vec<usize>,
    program: Program,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// The values of a row by the names of their columns.
pub(super) type Names = Context<'static, 'static>;

/// Names of a row's columns and their values: times are ns, decimals doubles, what has no value is null.
pub(super) fn context(schema: &Schema, row: &[Value]) -> Names {
    let mut context = Context::default();
    for (column, value) in schema.columns.iter().zip(row) {
        let value = match value {
            Value::Null => cel::Value::Null,
            Value::Bool(flag) => cel::Value::Bool(*flag),
            Value::Int(number) | Value::Time(number) => cel::Value::Int(*number),
            Value::Double(number) => cel::Value::Float(*number),
            Value::Decimal(text) => text.parse().map_or(cel::Value::Null, cel::Value::Float),
            Value::Text(text) => cel::Value::String(text.clone().into()),
            Value::Json(text) => cel::Value::String(text.clone().into()),
        };
        context.add_variable_from_value(column.name.as_str(), value);
    }
    context
}

impl Expression {
    /// # Errors
    /// It is none, or names what is no column.
    pub(super) fn new(text: &str, place: &dyn Fn(&str) -> anyhow::Result<usize>) -> anyhow::Result<Self> {
        let program = Program::compile(text).map_err(|error| anyhow::anyhow!("`{text}` is no expression: {error}"))?;
        let places = program.references().variables().into_iter().map(place).collect::<anyhow::Result<_>>()?;
        Ok(Expression { text: text.into(), places, program })
    }

    /// Its value for a row.
    ///
    /// # Errors
    /// Why it has none, such as numbers compared with texts.
    pub(super) fn value(&self, names: &Names) -> Result<Value, String> {
        match self.program.execute(names).map_err(|error| error.to_string())? {
            cel::Value::Null => Ok(Value::Null),
            cel::Value::Bool(flag) => Ok(Value::Bool(flag)),
            cel::Value::Int(number) => Ok(Value::Int(number)),
            cel::Value::UInt(number) => {
                i64::try_from(number).map(Value::Int).map_err(|_| format!("{number} is too large"))
            }
            cel::Value::Float(number) if number.is_nan() => Ok(Value::Null),
            cel::Value::Float(number) => Ok(Value::Double(number)),
            cel::Value::String(text) => Ok(Value::Text(text.to_string())),
            other => Err(format!("`{}` gives {:?}, which is no value of a field", self.text, other.type_of())),
        }
    }
}
