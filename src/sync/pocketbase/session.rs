//! Who we are there: one login for all requests, renewed at three quarters of its life, and made again when it is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{self, Answer, Who};
use super::config::Target;
use crate::config::Secret;
use crate::sync::{Class, Trouble};

pub(super) const LOGIN: &str = "collections/_superusers/auth-with-password";
pub(super) const REFRESH: &str = "collections/_superusers/auth-refresh";

/// What a login lasts where its token does not say.
const UNSAID: Duration = Duration::from_secs(60 * 60);

/// What we have to show.
#[derive(Debug)]
pub(super) enum Credentials {
    Nothing,
    Login { email: String, password: Secret },
    Token(Secret),
}

impl Credentials {
    pub(super) fn of(target: &Target) -> Credentials {
        match (&target.token, &target.email, &target.password) {
            (Some(token), ..) => Credentials::Token(token.clone()),
            (None, Some(email), Some(password)) => {
                Credentials::Login { email: email.clone(), password: password.clone() }
            }
            _ => Credentials::Nothing,
        }
    }

    pub(super) fn who(&self) -> Who {
        match self {
            Credentials::Nothing => Who::Nobody,
            Credentials::Login { .. } => Who::Superuser,
            Credentials::Token(_) => Who::Token,
        }
    }

    /// The body of a login; `None` where there is nothing to log in with.
    pub(super) fn body(&self) -> Option<Value> {
        match self {
            Credentials::Login { email, password } => Some(json!({"identity": email, "password": password.expose()})),
            Credentials::Nothing | Credentials::Token(_) => None,
        }
    }
}

/// A login that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub token: Secret,
    /// From here on a new token is asked for with this one.
    pub renew_at: Instant,
    /// From here on it is worth nothing.
    pub ends_at: Instant,
}

impl Session {
    /// Of the answer to a login or a renewal; `None`: there is no token in it.
    pub(super) fn of(answer: &Answer, asked_at: Instant) -> Option<Session> {
        let body: Value = serde_json::from_str(&answer.text).ok()?;
        let token = body["token"].as_str()?;
        let life = life(token, answer.date).unwrap_or(UNSAID);
        Some(Session { token: Secret::new(token), renew_at: asked_at + life * 3 / 4, ends_at: asked_at + life })
    }
}

/// How long a token is good for. By the server's clock, which is the one that ends it: ours may be hours off.
fn life(token: &str, now: Option<Timestamp>) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims["exp"].as_i64()? - now.unwrap_or_else(Timestamp::now).as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What a login that failed means.
pub(super) fn refused(answer: &Answer, email: &str, base: &str) -> Trouble {
    let what = format!("logging in as {email}");
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    if body["mfaId"].is_string() {
        return Trouble::new(Class::Authentication, format!("{what}: a second factor is asked for"))
            .fix("give a `token` (Superusers, Impersonate) in place of `email` and `password`");
    }
    let Some(words) = answer::words(&body) else { return answer::trouble(answer, Who::Superuser, &what, base) };
    let said = format!("{what}: {words} ({})", answer.status.as_u16());
    match answer.status.as_u16() {
        400 => Trouble::new(Class::Authentication, said)
            .fix("check `email` and `password`; `pocketbase superuser upsert EMAIL PASSWORD` there sets one"),
        403 => Trouble::new(Class::Authentication, said)
            .fix("the password is right: put this address into `superuserIPs` in its settings"),
        404 => Trouble::new(Class::Setup, said).fix("has it superusers? Before 0.23 there were none: use a newer one"),
        _ => answer::trouble(answer, Who::Superuser, &what, base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_told_by_the_servers_clock() {
        let token = |claims: &str| format!("head.{}.sign", URL_SAFE_NO_PAD.encode(claims));
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(life(&token(r#"{"exp":1000010}"#), Some(now)), Some(Duration::from_secs(10)));
        assert_eq!(life(&token(r#"{"exp":999000}"#), Some(now)), Some(Duration::ZERO));
        for none in ["", "a.b.c", &token("{}"), &token("[]"), &token("\u{0}")] {
            assert_eq!(life(none, Some(now)), None, "{none}");
        }
    }
}
