//! `tapedeck keys`: who may connect to a bus that others can reach.

use std::path::PathBuf;

use serde::Serialize;

use crate::bus::Keys;
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;

const EXAMPLES: &str = "\
Examples:
  tapedeck keys                          the deck's public key, and who may connect
  tapedeck keys new desk-2               make a pair for a client, and let it connect
  tapedeck keys add desk-3 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7'
  tapedeck keys drop desk-2              let it connect no more
  tapedeck keys --json

A client needs its own pair and the deck's public key. The files are ZeroMQ certificates (`zmq.auth.load_certificate`).
Keys are asked for when [bus] listens on an address that others can reach.";

/// Make and list the keys of the bus
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Folder of the deck, in place of `[tape] dir`
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List who may connect
    List,
    /// Make a pair for a client, and let it connect
    New { name: String },
    /// Let a client connect that made its pair itself
    Add { name: String, public_key: String },
    /// Let a client connect no more
    Drop { name: String },
}

#[derive(Debug, Serialize)]
struct Listed {
    server: String,
    clients: Vec<Client>,
}

#[derive(Debug, Serialize)]
struct Client {
    name: String,
    public_key: String,
    /// Where the secret half lies, if it was made here just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<String>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let dir = match self.dir {
            Some(dir) => dir,
            None => global.load()?.config.tape.dir,
        };
        let keys = Keys::of(&dir);
        match self.what.unwrap_or(What::List) {
            What::List => list(&keys, self.json, out),
            What::New { name } => {
                let server = keys.make_server()?.public;
                let (pair, file) = keys.make_client(&name).map_err(usage)?;
                let secret_file = Some(file.display().to_string());
                let client = Client { name, public_key: pair.public, secret_file };
                if self.json {
                    return out.json(&Listed { server, clients: vec![client] });
                }
                out.line(format!("{} may connect", client.name))?;
                out.line(format!("its pair, to be moved to it: {}", client.secret_file.unwrap_or_default()))?;
                out.line(format!("the deck's public key:       {server}"))
            }
            What::Add { name, public_key } => {
                keys.make_server()?;
                keys.add_client(&name, &public_key).map_err(usage)?;
                list(&keys, self.json, out)
            }
            What::Drop { name } => {
                if !keys.drop_client(&name).map_err(usage)? {
                    return Err(End::Usage(format!("there is no client `{name}`: `tapedeck keys` lists them")).into());
                }
                list(&keys, self.json, out)
            }
        }
    }
}

fn usage(error: anyhow::Error) -> anyhow::Error {
    End::Usage(format!("{error:#}")).into()
}

fn list(keys: &Keys, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let server = keys.server()?.map(|pair| pair.public);
    let clients = keys.clients()?.into_iter();
    let clients: Vec<Client> =
        clients.map(|(name, public_key)| Client { name, public_key, secret_file: None }).collect();
    if json {
        return out.json(&Listed { server: server.unwrap_or_default(), clients });
    }
    let Some(server) = server else {
        return out.line("no keys: `tapedeck keys new NAME` makes the deck's and a client's");
    };
    let deck = std::iter::once(vec!["(the deck)".to_owned(), server]);
    let rows: Vec<Vec<String>> =
        deck.chain(clients.into_iter().map(|client| vec![client.name, client.public_key])).collect();
    out.table(&["NAME", "PUBLIC KEY"], &rows)
}
