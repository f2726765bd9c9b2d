//! `tapedeck tap`: a subscriber that prints what it hears.

use anyhow::Context as _;
use serde_json::Value;
use tapedeck_market::wire;

use crate::bus::{HEARTBEAT, Keys, registry};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::suggest::nearest;
use crate::config::{self, units::Interval};
use crate::json::event_json;

/// What is waited for at once, so that Ctrl-C and `--for` are heard.
const WAIT_MS: i64 = 100;

const EXAMPLES: &str = "\
Examples:
  tapedeck tap kraken_tick                     what this machine's deck publishes
  tapedeck tap trade.kraken --json --count 10
  tapedeck tap kr_depth --connect 192.168.1.5
  tapedeck tap prices --connect tcp://127.0.0.1:5600      any other publisher
  tapedeck tap ''                              everything

Messages that libzmq dropped because this terminal is slow show as a line `missed`.";

/// Subscribe to a topic of the bus and print what comes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Topic, or the beginning of several
    topic: String,
    /// Host of the deck, or a whole address such as tcp://127.0.0.1:5600
    #[arg(long, value_name = "WHERE")]
    connect: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// End after N messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time, such as 10s
    #[arg(long = "for", value_name = "TIME")]
    run_for: Option<Interval>,
    /// The deck's public key, where it asks for keys
    #[arg(long, value_name = "KEY", requires = "key_dir")]
    server_key: Option<String>,
    /// A deck's folder with keys in it: those of its own pair are used, which `tapedeck keys add` must know
    #[arg(long, value_name = "DIR")]
    key_dir: Option<std::path::PathBuf>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let bus = global.load()?.config.bus.unwrap_or_default();
        let address = self.address(&bus)?;
        let context = zmq::Context::new();
        let socket = context.socket(zmq::SUB).context("making a socket")?;
        socket.set_linger(0).context("making a socket")?;
        if let (Some(server), Some(dir)) = (&self.server_key, &self.key_dir) {
            let pair = Keys::of(dir).make_server()?;
            let decode = |key: &str| zmq::z85_decode(key).map_err(|error| anyhow::anyhow!("reading a key: {error}"));
            socket.set_curve_serverkey(&decode(server)?).context("using the key")?;
            socket.set_curve_publickey(&decode(&pair.public)?).context("using the key")?;
            socket.set_curve_secretkey(&decode(&pair.secret)?).context("using the key")?;
        }
        socket.connect(&address).with_context(|| format!("connecting to {address}"))?;
        socket.set_subscribe(self.topic.as_bytes()).context("subscribing")?;
        if out.is_terminal() {
            eprintln!("listening to {address}");
        }
        let end = self.run_for.map(|time| std::time::Instant::now() + time.0);
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut seen = std::collections::HashMap::new();
        while left > 0 && end.is_none_or(|end| std::time::Instant::now() < end) {
            if socket.poll(zmq::POLLIN, WAIT_MS).context("listening")? == 0 {
                out.flush()?;
                continue;
            }
            let frames = socket.recv_multipart(zmq::DONTWAIT).context("listening")?;
            let Some(heard) = Heard::of(&frames) else { continue };
            if heard.topic == HEARTBEAT && self.topic != HEARTBEAT {
                continue;
            }
            if let Some(missed) = heard.missed(&mut seen) {
                out.line(self.line(&heard.topic, &missed))?;
            }
            out.line(self.line(&heard.topic, &heard.value))?;
            left -= 1;
        }
        out.flush()
    }

    fn address(&self, bus: &config::Bus) -> anyhow::Result<String> {
        let host = match &self.connect {
            Some(address) if address.contains("://") => return Ok(address.clone()),
            Some(host) => host.clone(),
            None if bus.listen.is_unspecified() => "127.0.0.1".to_owned(),
            None => bus.listen.to_string(),
        };
        let topic = registry::topic_of(&self.topic);
        let port = match registry::ports_of(bus, topic).first() {
            Some(port) => *port,
            // A beginning of several topics is found where all are.
            None if begins_a_topic(topic) => registry::moved(bus, registry::EVERYTHING),
            None => {
                let known = registry::SERVICES.iter().flat_map(|service| service.topics).copied();
                let near = nearest(topic, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let text = format!("there is no topic `{topic}`{near} `tapedeck ports` lists them");
                return Err(End::Usage(text).into());
            }
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(format!("tcp://{host}:{port}"))
    }

    fn line(&self, topic: &str, value: &Value) -> String {
        if self.json {
            let mut line = serde_json::Map::new();
            line.insert("topic".to_owned(), topic.into());
            match value {
                Value::Object(fields) => {
                    for (name, field) in fields {
                        // A status has a field of that name.
                        let name = if name == "topic" { "about" } else { name };
                        line.insert(name.to_owned(), field.clone());
                    }
                }
                other => drop(line.insert("payload".to_owned(), other.clone())),
            }
            return Value::Object(line).to_string();
        }
        let Value::Object(fields) = value else { return format!("{topic} {value}") };
        let shown = |(name, field): (&String, &Value)| match field {
            Value::String(text) => format!("{name}={text}"),
            field => format!("{name}={field}"),
        };
        let hidden = |name: &str| matches!(name, "tape" | "ts_event" | "ts_recv" | "prev");
        let fields: Vec<String> = fields.iter().filter(|(name, _)| !hidden(name)).map(shown).collect();
        format!("{topic} {}", fields.join(" "))
    }
}

/// Whether some topic begins like this.
fn begins_a_topic(prefix: &str) -> bool {
    registry::SERVICES.iter().flat_map(|service| service.topics).any(|topic| topic.starts_with(prefix))
}

/// A message in any of the bus's forms.
struct Heard {
    topic: String,
    value: Value,
}

impl Heard {
    fn of(frames: &[Vec<u8>]) -> Option<Heard> {
        match frames {
            [topic, payload] => {
                let topic = String::from_utf8_lossy(topic).into_owned();
                Some(Heard { topic, value: value(payload) })
            }
            [line] => {
                let text = String::from_utf8_lossy(line).into_owned();
                let (topic, fields) = text.split_once(' ')?;
                let fields: Vec<&str> = fields.split('\u{1}').collect();
                Some(Heard { topic: topic.to_owned(), value: fields.into() })
            }
            _ => None,
        }
    }

    /// What lies between this message and the one seen before it.
    fn missed(&self, seen: &mut std::collections::HashMap<String, u64>) -> Option<Value> {
        let (seq, prev) = (self.value.get("seq")?.as_u64()?, self.value.get("prev")?.as_u64()?);
        let before = seen.insert(self.topic.clone(), seq)?;
        let missed = prev > before;
        missed.then(|| serde_json::json!({ "missed": true, "from_seq": before + 1, "to_seq": prev }))
    }
}

fn value(payload: &[u8]) -> Value {
    if let Ok(event) = wire::decode(payload) {
        let mut line = Vec::new();
        event_json(None, &event, &mut line);
        return serde_json::from_slice(&line).unwrap_or_default();
    }
    let json = || serde_json::from_slice(payload).ok();
    let packed = || rmp_serde::from_slice(payload).ok();
    let text = || Value::String(String::from_utf8_lossy(payload).into_owned());
    if payload.first() == Some(&b'{') { json().unwrap_or_else(text) } else { packed().unwrap_or_else(text) }
}
