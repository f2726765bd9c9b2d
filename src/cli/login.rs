//! `tapedeck login`: the login of the day, for venues whose tokens die every morning.

use std::io::BufRead as _;

use anyhow::Context as _;
use tapedeck_market::UnixNanos;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::Secret;
use crate::logs;
use crate::sources::kite::login::Login;
use crate::sources::kite::rest::Rest;
use crate::sources::kite::{self, Config};

const EXAMPLES: &str = "\
Examples:
  tapedeck login kite                              says where to log in, and asks for what comes back
  tapedeck login kite --request-token TOKEN        the same without questions
  echo 'https://…?request_token=TOKEN&…' | tapedeck login kite

The access token is kept in a file that only this user can read. A deck that is running and waits for a login takes it up
by itself, within half a minute.";

/// Longest answer that is read: an address with a token.
const ANSWER_BYTES: u64 = 8 << 10;

/// Log in at a venue whose access token dies every morning (Zerodha Kite)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the source, or `kite` for the only one of that kind
    #[arg(value_name = "SOURCE", default_value = "kite")]
    source: String,
    /// What the venue's login page gave back, alone or in its address
    #[arg(long, value_name = "TOKEN")]
    request_token: Option<String>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let loaded = global.load()?;
        let of_kind = || loaded.config.sources.iter().filter(|source| source.kind == kite::KIND.name);
        let named = of_kind().find(|source| source.name == self.source);
        let only = || of_kind().next().filter(|_| self.source == kite::KIND.name && of_kind().count() == 1);
        let Some(source) = named.or_else(only) else {
            let names: Vec<&str> = of_kind().map(|source| source.name.as_str()).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let said = format!("no source `{}` of kind kite; there is: {there}", self.source);
            return Err(End::Usage(said).into());
        };
        let config = Config::from_table(source.table.clone()).with_context(|| format!("[source.{}]", source.name))?;
        let config = config.config;
        let (Some(key), Some(secret)) = (&config.api_key, &config.api_secret) else {
            let said = "a login needs the application's key and secret: set KITE_API_KEY and KITE_API_SECRET";
            return Err(End::Usage(said.to_owned()).into());
        };
        let given = match self.request_token {
            Some(given) => given,
            None => ask(key, out)?,
        };
        let Some(request_token) = token_in(&given) else {
            let said = "that holds no request token: copy the whole address that the browser ends at";
            return Err(End::Usage(said.to_owned()).into());
        };
        logs::hide(request_token.expose());
        let rest = Rest::new(config.rest_url())?;
        let login = super::block_on(rest.login(key, secret, &request_token)).context("logging in")?;
        logs::hide(login.access_token.expose());
        let keeper = Login::new(&config, &loaded.config.tape.dir, &source.name);
        let path = keeper.keep(&login.access_token, UnixNanos::now())?;
        let who = login.name.map(|name| format!(" as {name}")).unwrap_or_default();
        out.line(format!("logged in{who}; kept in {}, until six tomorrow morning in India", path.display()))
    }
}

/// Says where to go, and reads what came back.
fn ask(key: &Secret, out: &mut Out) -> anyhow::Result<String> {
    // The key is part of the venue's own address; the secret and the tokens are not shown.
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("api_key", key.expose()).finish();
    out.line(format!("1. log in at https://kite.zerodha.com/connect/login?v=3&{query}"))?;
    out.line("2. the browser ends at an address with `request_token=…`: paste it here, and press Enter")?;
    out.flush()?;
    let mut line = String::new();
    let stdin = std::io::stdin().lock();
    std::io::Read::take(stdin, ANSWER_BYTES).read_line(&mut line).context("reading the answer")?;
    Ok(line)
}

/// The request token of an address, or alone.
fn token_in(given: &str) -> Option<Secret> {
    let given = given.trim();
    let query = given.split_once('?').map_or(given, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let named = pairs.find(|(name, _)| name == "request_token").map(|(_, value)| value.into_owned());
    let token = named.unwrap_or_else(|| given.to_owned());
    let plain = !token.is_empty() && token.len() <= 256 && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_token_is_found_alone_and_in_an_address() {
        let found = |given: &str| token_in(given).map(|token| token.expose().to_owned());
        for given in [
            "abc123",
            " abc123\n",
            "https://127.0.0.1/?action=login&status=success&request_token=abc123",
            "https://app.example/cb?request_token=abc123&action=login#top",
            "request_token=abc123&status=success",
        ] {
            assert_eq!(found(given).as_deref(), Some("abc123"), "{given}");
        }
        for given in ["", "https://app.example/?status=cancelled", "a b", "request_token="] {
            assert_eq!(found(given), None, "{given}");
        }
    }
}
