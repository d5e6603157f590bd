//! What goes in as a secret never comes out: not in an answer, not in a log.

use autocertd::runtime::clock::Clock;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixture::{Fixture, TestResponse, id_of, provider, upload};
use crate::log::log;

#[tokio::test]
async fn no_answer_and_no_log_holds_a_secret() {
    let daemon = Fixture::start().await;
    let mut answers = String::new();

    let mut with_account = provider();
    with_account["properties"]["externalAccountBinding"] = json!({ "keyId": "kid-1", "keySecret": EAB_SECRET });
    let (right, key) = upload(daemon.clock.now(), "www.example.com");
    let (_, other_key) = upload(daemon.clock.now(), "www.example.com");
    let with = |body: &Value, name: &str, value: Value| {
        let mut body = body.clone();
        body["properties"][name] = value;
        body
    };
    let combined = json!(format!("{}{key}", right["properties"]["certificate"].as_str().unwrap()));
    for (path, body) in [
        ("/providers", with_account.clone()),
        ("/providers", with(&with_account, "email", json!("no address"))),
        ("/providers", with(&with_account, "externalAccountBinding", json!(EAB_SECRET))),
        ("/providers", with(&with_account, "externalAccountBinding", json!({ "keySecret": EAB_SECRET }))),
        ("/certificates", right.clone()),
        ("/certificates", with(&right, "name", json!(""))),
        ("/certificates", with(&right, "privateKey", json!(other_key))),
        ("/certificates", with(&right, "privateKey", json!([key]))),
        ("/certificates", with(&right, "certificate", combined.clone())),
        ("/certificates", with(&right, "certificateChain", combined)),
    ] {
        answers += &daemon.post(path, &body).await.text;
    }
    let broken = format!("{{\"properties\": {{\"privateKey\": {} oops", json!(key));
    for path in ["/providers", "/certificates", "/auto-certificates"] {
        let request =
            daemon.request(Method::POST, path).header("content-type", "application/json").body(broken.clone());
        answers += &TestResponse::from_request(request).await.text;
        let page = daemon.get(path).await;
        for item in page.json()["items"].as_array().unwrap() {
            let one = daemon.get(item["href"].as_str().unwrap()).await;
            answers += &daemon.patch(&one.at("/href"), &json!({ "properties": { "name": "x" } })).await.text;
            answers += &one.text;
        }
        answers += &page.text;
    }
    let wanted = daemon.auto_certificate("www.example.com").await;
    let issued = daemon.issue(&wanted, 90).await;
    answers += &daemon.get(&issued).await.text;
    let issued_key = daemon.store().certificate_private_key(id_of(&issued)).await.unwrap().unwrap();
    daemon.store().close().await;
    answers += &daemon.post("/certificates", &right).await.text;

    let log = log().text();
    assert!(log.contains("/certificates/{certificateId}") && log.contains("latency"), "the log is the server's: {log}");
    for (what, secret) in [
        ("EAB key", EAB_SECRET.to_owned()),
        ("private key", middle_of(&key)),
        ("other private key", middle_of(&other_key)),
        ("issued private key", middle_of(issued_key.expose_secret())),
        ("token", daemon.token.clone()),
    ] {
        assert!(!answers.contains(&secret), "an answer holds the {what}");
        assert!(!log.contains(&secret), "the log holds the {what}");
    }
}

/// The first whole line of a PEM's base64.
fn middle_of(pem: &str) -> String {
    pem.lines().nth(1).expect("a PEM has lines").to_owned()
}

const EAB_SECRET: &str = "c2VjcmV0LWhtYWMta2V5LW9mLXRoZS1DQQ";
