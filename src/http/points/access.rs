//! What a request shows of itself: `u=&p=`, Basic, `Token` and `Bearer`.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::answer::Refusal;
use crate::sources::http::{Door, Offer};

/// The parameters of a query string or a form, the first of a name counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(pub(super) Vec<(String, String)>);

impl Params {
    pub(super) fn of(text: &[u8]) -> Params {
        Params(form_urlencoded::parse(text).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

pub(super) fn check(door: &Door, headers: &HeaderMap, params: &Params) -> Result<(), Refusal> {
    let offer = offer(headers, params);
    let shown = offer != Offer::default();
    if door.credentials().admit(&offer) { Ok(()) } else { Err(Refusal::Unauthorized { shown }) }
}

fn offer(headers: &HeaderMap, params: &Params) -> Offer {
    let mut offer = Offer::default();
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((scheme, rest)) = given.and_then(|given| given.split_once(' ')) {
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            let plain = BASE64.decode(rest).ok().and_then(|plain| String::from_utf8(plain).ok());
            offer.user = plain.as_deref().and_then(pair);
        } else if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") {
            // 1.8 takes `Token user:password`.
            offer.user = pair(rest);
            offer.token = Some(rest.to_owned());
        }
    }
    let (user, password) = (params.get("u"), params.get("p"));
    if offer == Offer::default() && !(user.is_empty() && password.is_empty()) {
        offer.user = Some((user.to_owned(), password.to_owned()));
    }
    offer
}

fn pair(text: &str) -> Option<(String, String)> {
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_wherever_clients_put_them() {
        let user = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (header, query, found) in [
            ("", "", Offer::default()),
            ("", "u=me&p=p%20w", Offer { token: None, user: user("me", "p w") }),
            ("Basic bWU6cHc=", "", Offer { token: None, user: user("me", "pw") }),
            ("Basic bWU6cHc=", "u=x&p=y", Offer { token: None, user: user("me", "pw") }),
            ("Token t0k", "", Offer { token: Some("t0k".to_owned()), user: None }),
            ("Token me:pw", "", Offer { token: Some("me:pw".to_owned()), user: user("me", "pw") }),
            ("bearer t0k", "", Offer { token: Some("t0k".to_owned()), user: None }),
            ("Basic ???", "", Offer::default()),
            ("Digest x", "", Offer::default()),
        ] {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(header::AUTHORIZATION, header.parse().unwrap());
            }
            assert_eq!(offer(&headers, &Params::of(query.as_bytes())), found, "{header} {query}");
        }
    }
}
