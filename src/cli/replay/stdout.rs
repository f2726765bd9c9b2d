//! JSON lines, as `tapedeck tail --json` prints them.

use async_trait::async_trait;
use tapedeck_market::Record;

use crate::cli::out::Out;
use crate::json::event_json;
use crate::replay::Target;

pub(super) struct Lines<'a>(pub(super) &'a mut Out);

#[async_trait]
impl Target for Lines<'_> {
    fn play(&mut self, record: &Record) -> anyhow::Result<()> {
        let mut line = Vec::with_capacity(512);
        event_json(Some(record.seq), &record.event, &mut line);
        line.push(b'\n');
        self.0.raw(&line)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.0.flush()
    }
}
