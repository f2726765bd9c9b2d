//! Who we are there.

use std::time::{Duration, Instant};

use super::*;
use crate::support::until;

#[tokio::test]
async fn a_wrong_password_is_told_and_printed_nowhere() {
    let Some(server) = PocketBase::shared() else { return };
    let wrong = Target { password: Some(Secret::new("hush-hush")), ..target(server) };
    let trouble = client_of(&wrong).login().await.unwrap_err();
    let email = server.email();
    says(&trouble, Class::Authentication, &["logging in as", email, "Failed to authenticate. (400)", "check `email`"]);
    assert!(!format!("{trouble:?}").contains("hush"));
    assert_eq!(client(server).login().await.unwrap(), format!("superuser {email}"));
    assert!(client(server).hello().await.unwrap().contains("API is healthy"));
}

#[tokio::test]
async fn an_address_that_may_be_no_superuser_is_told_apart_from_a_wrong_password() {
    let Some(server) = server() else { return };
    let before = client(&server);
    let name = made(&before).await;
    server.call("PATCH", "/api/settings", &json!({"superuserIPs": ["10.9.8.7"]}));
    let words = ["logging in", "not allowed", "the password is right", "superuserIPs"];
    says(&client(&server).login().await.unwrap_err(), Class::Authentication, &words);
    says(&trouble(&before, &name).await, Class::Authentication, &["superuserIPs"]);
}

/// Its shortest life is 10 s.
#[tokio::test]
async fn a_login_of_ten_seconds_is_renewed_while_it_is_used_for_longer() {
    let Some(server) = server() else { return };
    server.call("PATCH", "/api/collections/_superusers", &json!({"authToken": {"duration": 10}}));
    let client = client(&server);
    let name = made(&client).await;
    let (began, mut n) = (Instant::now(), 0);
    let mut writer = Writer::new(Arc::clone(&client));
    while began.elapsed() < Duration::from_secs(13) {
        let written = writer.write(&name, &puts(n..n + 5)).await.unwrap();
        assert_eq!(written.confirmed(), 5);
        n += 5;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.count(&name, None).await.unwrap(), n as u64);
    // Of its own log, which it writes every few seconds; the helper logs in, too, and never renews.
    let renewals = || {
        let filter = "/api/logs?filter=data.url~%27auth-refresh%27";
        server.call("GET", filter, &Value::Null)["totalItems"].as_u64().filter(|count| *count > 0)
    };
    let renewals = until("the renewals in its log", renewals);
    assert!(renewals <= 2, "{renewals} in 13 s");
}

#[tokio::test]
async fn a_login_that_is_taken_back_is_made_again_once_and_nothing_is_lost() {
    let Some(server) = server() else { return };
    let (email, password) = ("second@example.com", "password-of-it");
    let body = json!({"email": email, "password": password, "passwordConfirm": password});
    let second = server.call("POST", "/api/collections/_superusers/records", &body);
    let login = Target { email: Some(email.into()), password: Some(Secret::new(password)), ..target(&server) };
    let client = client_of(&login);
    let name = made(&client).await;
    write(&client, &name, &puts(0..10)).await.unwrap();
    let path = format!("/api/collections/_superusers/records/{}", second["id"].as_str().unwrap());
    // The same password: the server ends all logins of that superuser all the same.
    server.call("PATCH", &path, &json!({"password": password, "passwordConfirm": password}));
    assert_eq!(write(&client, &name, &puts(5..20)).await.unwrap().confirmed(), 15);
    server.call("PATCH", &path, &json!({"password": password, "passwordConfirm": password}));
    assert_eq!(client.count(&name, None).await.unwrap(), 20, "also outside of batches");
    server.call("PATCH", &path, &json!({"password": "another-one", "passwordConfirm": "another-one"}));
    says(&trouble(&client, &name).await, Class::Authentication, &["Failed to authenticate.", "check `email`"]);
}

#[tokio::test]
async fn a_token_is_used_as_it_is_and_its_end_is_told() {
    let Some(server) = server() else { return };
    let id = server.call("GET", "/api/collections/_superusers/records?fields=id", &Value::Null);
    let path = format!("/api/collections/_superusers/impersonate/{}", id["items"][0]["id"].as_str().unwrap());
    let token = server.call("POST", &path, &json!({"duration": 3600}))["token"].as_str().unwrap().to_owned();
    let by = |token: &str| {
        client_of(&Target { url: server.url().into(), token: Some(Secret::new(token)), ..Target::default() })
    };
    let good = by(&token);
    assert_eq!(good.login().await.unwrap(), "superuser by token");
    let name = made(&good).await;
    assert_eq!(write(&good, &name, &puts(0..3)).await.unwrap().confirmed(), 3);
    let bad = by("not.a.token");
    for trouble in [trouble(&bad, &name).await, bad.login().await.unwrap_err(), bad.limits().await.unwrap_err()] {
        says(&trouble, Class::Authentication, &["make a new one"]);
    }
    says(&bad.count(&name, None).await.unwrap_err(), Class::Authentication, &["make a new one"]);
}

#[tokio::test]
async fn nobody_writes_where_the_rules_allow_it_and_is_told_where_they_do_not() {
    let Some(server) = server_with(&["batch.maxRequests=7"]) else { return };
    let (admin, nobody) = (client(&server), nobody(&server));
    assert!(nobody.login().await.unwrap().contains("nobody"));
    let closed = made(&admin).await;
    let words = ["Only superusers can perform this action.", "give `email` and `password`", "API rules"];
    says(&trouble(&nobody, &closed).await, Class::Authentication, &words);
    says(&nobody.compare(&prices(&closed)).await.unwrap_err(), Class::Authentication, &words[1..]);

    let mut open = prices(&fresh_name("open"));
    open.rules.create = Some(String::new());
    open.rules.update = Some(String::new());
    admin.amend(&open).await.unwrap();
    // It is not told that there may be 7 at most, and finds out.
    assert_eq!(write(&nobody, &open.name, &puts(0..100)).await.unwrap().confirmed(), 100);
    assert_eq!(write(&nobody, &open.name, &[with(3, "close", json!(9))]).await.unwrap().confirmed(), 1);
    let page = admin.page(&open.name, None, &named(&["close"]), ALL, None).await.unwrap();
    assert_eq!(page.records.len(), 100);
    assert_eq!(page.records.iter().filter(|found| found.body["close"] == 9).count(), 1);

    let half = Collection { name: fresh_name("half"), ..open };
    let half = Collection { rules: tapedeck::sync::pocketbase::Rules { update: None, ..half.rules.clone() }, ..half };
    admin.amend(&half).await.unwrap();
    write(&nobody, &half.name, &puts(0..1)).await.unwrap();
    says(&trouble(&nobody, &half.name).await, Class::Authentication, &["Only superusers"]);
    let rule = json!({"createRule": "symbol = 'S5'"});
    server.call("PATCH", &format!("/api/collections/{}", half.name), &rule);
    let broken = write(&nobody, &half.name, &[Change::Put(document(5)), Change::Put(document(6))]).await.unwrap_err();
    says(&broken.trouble, Class::Server, &["Failed to create record", "a create or update rule"]);
    assert_eq!(broken.written.confirmed(), 1, "{broken:?}");
}
