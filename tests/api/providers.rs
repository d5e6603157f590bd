//! `/providers`.

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::value::id::ProviderId;
use autocertd::runtime::clock::Clock;
use insta::assert_json_snapshot;
use secrecy::SecretString;
use serde_json::json;

use crate::fixture::{Fixture, TestResponse, auto_certificate, id_of, provider};

#[tokio::test]
async fn a_provider_lives_from_post_to_delete() {
    let daemon = Fixture::start().await;
    let created = daemon.post("/providers", &provider()).await;
    assert!(daemon.was_notified().await);
    let path = created.created();
    assert_json_snapshot!("provider_created", created.shown());
    assert_json_snapshot!("provider_read", daemon.get(&path).await.shown());
    assert_json_snapshot!("provider_list", daemon.get("/providers").await.shown());
    assert!(!daemon.was_notified().await);
    let renamed = daemon.patch(&path, &json!({ "metadata": {}, "properties": { "name": "LE" } })).await;
    assert!(daemon.was_notified().await);
    assert_json_snapshot!("provider_renamed", renamed.shown());
    assert_eq!(daemon.get(&path).await.json(), renamed.json());
    let deleted = daemon.delete(&path).await;
    assert!(daemon.was_notified().await);
    assert_json_snapshot!("provider_deleted", deleted.shown());
    assert_json_snapshot!("provider_gone", daemon.get(&path).await.shown());
    assert_eq!(daemon.delete(&path).await.status, 404);
    assert_eq!(daemon.patch(&path, &json!({ "properties": { "name": "LE" } })).await.status, 404);
}

#[tokio::test]
async fn an_external_account_shows_its_key_id_alone() {
    let daemon = Fixture::start().await;
    let mut body = provider();
    body["properties"]["externalAccountBinding"] = json!({ "keyId": "kid-1", "keySecret": "c2VjcmV0LWhtYWMta2V5" });
    let created = daemon.post("/providers", &body).await;
    assert_json_snapshot!("provider_with_external_account", created.shown());
    for neither in [json!({}), json!(null)] {
        body["properties"]["externalAccountBinding"] = neither;
        let created = daemon.post("/providers", &body).await;
        assert!(created.json()["properties"].get("externalAccountBinding").is_none(), "{}", created.text);
    }
}

/// The values of the official Terraform provider's tests among them.
#[tokio::test]
async fn the_key_of_an_external_account_is_taken_as_other_clients_take_it() {
    let daemon = Fixture::start().await;
    let mut body = provider();
    for secret in ["secret", "ab+/cg==", "provider-secret-nKj", "_-_-", " c2VjcmV0LWtleQ=\n"] {
        body["properties"]["externalAccountBinding"] = json!({ "keyId": "kid-1", "keySecret": secret });
        let created = daemon.post("/providers", &body).await;
        assert_eq!(created.status, 201, "{secret:?}: {}", created.text);
        assert_eq!(created.json()["properties"]["externalAccountBinding"], json!({ "keyId": "kid-1" }));
    }
    for secret in ["", " ", "==", "not a key", "${EAB_KEY}", "abcde", "sch\u{f6}n"] {
        body["properties"]["externalAccountBinding"] = json!({ "keyId": "kid-1", "keySecret": secret });
        let refused = daemon.post("/providers", &body).await;
        assert_eq!(refused.status, 422, "{secret:?}: {}", refused.text);
        assert!(refused.text.contains("properties.externalAccountBinding.keySecret: is "), "{}", refused.text);
        assert!(secret.trim().len() < 3 || !refused.text.contains(secret), "{}", refused.text);
    }
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let daemon = Fixture::start().await;
    let cases = [
        ("nothing", json!({})),
        ("no_properties", json!({ "properties": {} })),
        (
            "ill_typed",
            json!({ "properties": { "name": 1, "email": ["a"], "server": {}, "externalAccountBinding": [] } }),
        ),
        (
            "wrong",
            json!({ "properties": {
                "name": " ", "email": "Ops <ops@example.com>", "server": "http://acme.example/directory",
                "externalAccountBinding": { "keyId": "" },
            }}),
        ),
        (
            "nul",
            json!({ "properties": {
                "name": "a\0", "email": "\0ops@example.com", "server": "https://acme.example/\0",
                "externalAccountBinding": { "keyId": "\0", "keySecret": "\0" },
            }}),
        ),
        ("list_for_object", json!({ "properties": ["Let's Encrypt"] })),
    ];
    for (name, body) in cases {
        assert_json_snapshot!(format!("provider_faults_{name}"), daemon.post("/providers", &body).await.shown());
    }
    assert!(!daemon.was_notified().await);
    let path = daemon.provider().await;
    assert_json_snapshot!("provider_patch_faults", daemon.patch(&path, &json!({ "properties": {} })).await.shown());
    assert_eq!(daemon.patch(&path, &json!({ "properties": { "name": "" } })).await.status, 422);
}

#[tokio::test]
async fn a_provider_in_use_stays_until_its_last_auto_certificate_is_deleted() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let user = daemon.post("/auto-certificates", &auto_certificate(&path, "www.example.com")).await.created();
    assert_json_snapshot!("provider_in_use", daemon.delete(&path).await.shown());
    assert_eq!(daemon.delete(&user).await.status, 202);
    assert_eq!(daemon.delete(&path).await.status, 202);
}

#[tokio::test]
async fn the_account_decides_the_state() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let state = async || {
        let answer: TestResponse = daemon.get(&path).await;
        (answer.at("/metadata/state"), answer.at("/metadata/message"))
    };
    assert_eq!(state().await.0, "AVAILABLE");
    let lease = daemon.store().claim_provider(id_of::<ProviderId>(&path)).await.unwrap().unwrap();
    let now = daemon.clock.now();
    for (failure, expected) in [
        (Failure::retry("the CA is busy"), "AVAILABLE"),
        (Failure::operator("the CA refused the external account"), "FAILED"),
    ] {
        let trouble = FailureStreak::after(None, failure.clone(), now, None, 0.5);
        daemon.store().record_account_failure_streak(&lease, &trouble).await.unwrap();
        let (state, message) = state().await;
        assert_eq!(state, expected);
        assert!(message.contains(failure.message.as_str()), "{message}");
    }
    let credentials = SecretString::from("{}");
    daemon.store().store_account(&lease, "https://ca.example/acct/1", &credentials).await.unwrap();
    assert_eq!(state().await, ("AVAILABLE".to_owned(), "the ACME account is registered".to_owned()));
}
