//! Simulated venues as programs of their own, and the tables of a deck that records them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use tapedeck_testkit::{betfair, kite, oanda, x};

use crate::process::Running;

/// Messages a second of each venue, 10,000 in all.
pub const FIVE: [(&str, u32); 5] = [("kraken", 5_000), ("oanda", 2_000), ("kite", 2_000), ("betfair", 900), ("x", 100)];

/// Starts the venues, each with its messages a second; with them the config's tables of their sources.
///
/// # Errors
/// One cannot be started.
pub fn simulated(tapedeck: &Path, venues: &[(&str, u32)]) -> anyhow::Result<(Vec<Running>, String)> {
    let (mut running, mut tables) = (Vec::new(), String::new());
    for (venue, rate) in venues {
        let (first, second) = (free_port()?, free_port()?);
        let mut command = Command::new(tapedeck);
        let rate = rate.to_string();
        command.args(["simulate", venue, "--listen", &format!("127.0.0.1:{first}"), "--rate", &rate]);
        if *venue == "betfair" {
            command.args(["--login-listen", &format!("127.0.0.1:{second}")]);
        }
        running.push(Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?);
        tables.push_str(&table(venue, first, second));
    }
    Ok((running, tables))
}

/// A port that nobody has now.
///
/// # Errors
/// There is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn table(venue: &str, port: u16, login: u16) -> String {
    let keys = match venue {
        "kraken" => {
            format!(
                "url = \"ws://127.0.0.1:{port}/v2\"\nrest_url = \"http://127.0.0.1:{port}\"\npairs = [\"*\"]\nchannels = [\"trade\", \"ticker\", \"book\"]\n"
            )
        }
        "oanda" => format!(
            "url = \"http://127.0.0.1:{port}\"\ntoken = \"{}\"\naccount = \"{}\"\ninstruments = [\"EUR_USD\", \"USD_JPY\", \"XAU_USD\"]\n",
            oanda::TOKEN,
            oanda::ACCOUNT
        ),
        "kite" => format!(
            "url = \"ws://127.0.0.1:{port}\"\napi_key = \"{}\"\naccess_token = \"{}\"\ninstruments = [\"INFY\", \"RELIANCE\", \"TCS\", \"SBIN\"]\n",
            kite::API_KEY,
            kite::ACCESS_TOKEN
        ),
        "betfair" => format!(
            "url = \"tcp://127.0.0.1:{port}\"\nlogin_url = \"http://127.0.0.1:{login}\"\napp_key = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\nevent_types = [\"7\"]\n",
            betfair::APP_KEY,
            betfair::USERNAME,
            betfair::PASSWORD
        ),
        _ => format!(
            "url = \"http://127.0.0.1:{port}\"\nbearer_token = \"{}\"\n[[source.x.rules]]\ntag = \"btc\"\nvalue = \"(bitcoin OR $BTC) lang:en -is:retweet\"\n",
            x::TOKEN
        ),
    };
    format!("[source.{venue}]\nkind = \"{venue}\"\n{keys}")
}
