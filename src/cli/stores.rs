//! Which of the configured sinks a verb is about.

use crate::cli::exit::End;
use crate::config::suggest::nearest;
use crate::config::{Config, KindTable};
use crate::sinks::{self, Sink};

/// The sink of that name.
///
/// # Errors
/// There is none; what there is instead.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a KindTable> {
    if let Some(table) = config.sinks.iter().find(|table| table.name == name) {
        return Ok(table);
    }
    let names: Vec<&str> = config.sinks.iter().map(|table| table.name.as_str()).collect();
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "the config has no sink".to_owned(),
        None => format!("there are: {}", names.join(", ")),
    };
    Err(End::Usage(format!("there is no [sink.{name}]; {help}")).into())
}

/// The sink of that name, or the only one of a kind that can do what is wanted.
///
/// # Errors
/// There is none, or several.
pub(super) fn one<'a>(
    config: &'a Config,
    name: Option<&str>,
    what: &str,
    can: impl Fn(&mut dyn Sink) -> bool,
) -> anyhow::Result<(&'a KindTable, Box<dyn Sink>)> {
    let built = |table: &'a KindTable| Ok::<_, anyhow::Error>((table, sinks::build(table, &config.tape.dir)?.1));
    if let Some(name) = name {
        let (table, mut sink) = built(named(config, name)?)?;
        if can(&mut *sink) {
            return Ok((table, sink));
        }
        return Err(End::Usage(format!("a store of kind `{}` has no {what}", table.kind)).into());
    }
    let mut able = config.sinks.iter().map(built).collect::<anyhow::Result<Vec<_>>>()?;
    able.retain_mut(|(_, sink)| can(&mut **sink));
    if able.len() == 1 {
        return Ok(able.remove(0));
    }
    match able.as_slice() {
        [] => Err(End::Usage(format!("the config has no sink with {what}")).into()),
        several => {
            let names: Vec<&str> = several.iter().map(|(table, _)| table.name.as_str()).collect();
            Err(End::Usage(format!("several sinks have {what}: say --sink {}", names.join(" or "))).into())
        }
    }
}
