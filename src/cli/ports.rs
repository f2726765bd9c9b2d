//! `tapedeck ports`: what is where on the bus.

use serde::Serialize;

use crate::bus::registry::{self, SERVICES, Service, Socket};
use crate::bus::{Manner, check_port};
use crate::cli::Global;
use crate::cli::out::Out;
use crate::config;

const EXAMPLES: &str = "\
Examples:
  tapedeck ports                   every port, its topics and who has it
  tapedeck ports --json
  tapedeck ports --set bus.port_offset=100

A subscriber filters by topic: a port with several topics sends it only what it asked for. Topics that end in a dot are
families, such as `trade.` for `trade.kraken`. Of a topic with several ports the first is its own; the others serve what
older documents said.";

/// List the ports and topics of the bus
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    port: u16,
    service: String,
    #[serde(rename = "type")]
    socket: Socket,
    topics: Vec<String>,
    aliases: Vec<String>,
    form: Option<&'static str>,
    /// `free`, `reserved`, or who has it.
    state: String,
    description: String,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let bus = global.load()?.config.bus.unwrap_or_default();
        let lines = lines(&bus);
        if self.json {
            return out.json(&lines);
        }
        let rows: Vec<Vec<String>> = lines
            .into_iter()
            .map(|line| {
                let names = line.topics.iter().map(|topic| if topic.is_empty() { "(all)" } else { topic });
                let aliases = line.aliases.iter().map(String::as_str);
                vec![
                    line.port.to_string(),
                    line.service,
                    line.socket.name().to_owned(),
                    names.collect::<Vec<_>>().join(" "),
                    aliases.collect::<Vec<_>>().join(" "),
                    line.form.unwrap_or("").to_owned(),
                    line.state,
                    line.description,
                ]
            })
            .collect();
        out.table(&["PORT ", "SERVICE", "TYPE", "TOPICS", "OTHER NAMES", "FORM", "STATE", "WHAT IT IS"], &rows)
    }
}

fn lines(bus: &config::Bus) -> Vec<Line> {
    let layout = registry::layout(bus);
    let mut lines: Vec<Line> = SERVICES.iter().filter_map(|service| line(bus, &layout, service)).collect();
    // Topics that the config puts on a port of their own.
    for (name, settings) in bus.topics.iter().filter(|(_, settings)| settings.enabled) {
        let Some(port) = settings.port else { continue };
        let topic = registry::topic_of(name);
        lines.push(Line {
            port,
            service: format!("{topic}_pub"),
            socket: Socket::Pub,
            topics: layout.get(&port).cloned().unwrap_or_default(),
            aliases: registry::aliases_of(topic).map(str::to_owned).collect(),
            form: Some(settings.form.name()),
            state: state(bus, port),
            description: "moved here by the config".to_owned(),
        });
    }
    lines.sort_by_key(|line| line.port);
    lines
}

fn line(bus: &config::Bus, layout: &std::collections::BTreeMap<u16, Vec<String>>, service: &Service) -> Option<Line> {
    let port = registry::moved(bus, service.port);
    let on_port = layout.get(&port);
    let topics: Vec<String> = service
        .topics
        .iter()
        .filter(|topic| service.socket != Socket::Pub || on_port.is_some_and(|there| there.iter().any(|t| t == *topic)))
        .map(|topic| (*topic).to_owned())
        .collect();
    if service.socket == Socket::Pub && topics.is_empty() {
        return None;
    }
    let forms: Vec<&str> =
        topics.iter().map(|topic| Manner::of(bus, topic.trim_end_matches('.')).form.name()).collect();
    Some(Line {
        port,
        service: service.id.to_owned(),
        socket: service.socket,
        aliases: if service.socket == Socket::Pub {
            topics.iter().flat_map(|topic| registry::aliases_of(topic)).map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        topics,
        form: (service.socket == Socket::Pub).then(|| forms.first().copied()).flatten(),
        state: if service.socket == Socket::Reserved { "reserved".to_owned() } else { state(bus, port) },
        description: service.about.to_owned(),
    })
}

fn state(bus: &config::Bus, port: u16) -> String {
    match check_port(bus.listen, port) {
        Ok(()) => "free".to_owned(),
        Err((_, Some(holder))) => holder.to_string(),
        Err((error, None)) => error.to_string(),
    }
}
