//! What the settings declare: it looks like the rest, and is changed in the settings alone.

use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::declared::{DeclaredAutoCertificate, DeclaredProvider, DeclaredResources, ProviderReference};
use autocertd::domain::provider::NewProvider;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use insta::assert_json_snapshot;
use serde_json::json;

use crate::fixture::{Fixture, auto_certificate};

fn usual() -> DeclaredResources {
    let (le, www) = ("le".parse().unwrap(), "www".parse().unwrap());
    let provider = NewProvider {
        name: "Let's Encrypt".parse().unwrap(),
        email: "ops@example.com".parse().unwrap(),
        server: ServerUrl::parse("https://acme.example/directory", PlainHttpPolicy::Refused).unwrap(),
        external_account: None,
        profile: None,
    };
    let wish = DeclaredAutoCertificate {
        key: www,
        name: "the shop".parse().unwrap(),
        provider: ProviderReference::Key("le".parse().unwrap()),
        common_name: "www.example.com".parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: Vec::new(),
        profile: None,
    };
    DeclaredResources {
        instance: "here".to_owned(),
        prune: false,
        complete: true,
        providers: vec![DeclaredProvider { key: le, provider, fallbacks: Vec::new(), staging: None }],
        auto_certificates: vec![wish],
    }
}

#[tokio::test]
async fn what_is_declared_is_shown_and_neither_patched_nor_deleted() {
    let daemon = Fixture::with_limit(1).await;
    daemon.store().reconcile(&usual()).await.unwrap();
    let provider = daemon.get("/providers").await.at("/items/0/href");
    let wish = daemon.get("/auto-certificates").await.at("/items/0/href");
    assert_json_snapshot!("declared_auto_certificate", daemon.get(&wish).await.shown());

    let name = json!({ "properties": { "name": "another" } });
    assert_json_snapshot!("declared_refused", daemon.patch(&wish, &name).await.shown());
    for path in [&wish, &provider] {
        let before = daemon.get(path).await;
        for refused in [daemon.patch(path, &name).await, daemon.delete(path).await] {
            assert_eq!(refused.status, 409, "{}", refused.text);
            assert_eq!(refused.at("/messages/0/errorCode"), "autocertd-declared-1");
        }
        assert_eq!(daemon.get(path).await.json(), before.json());
    }
    assert!(!daemon.was_notified().await);
    assert_eq!(daemon.patch(&wish, &json!({ "properties": {} })).await.status, 422, "faults of the body come first");

    // It does not fill the limit of one.
    assert_eq!(daemon.post("/auto-certificates", &auto_certificate(&provider, "a.example.com")).await.status, 201);
    assert_eq!(daemon.post("/auto-certificates", &auto_certificate(&provider, "b.example.com")).await.status, 422);
}

#[tokio::test]
async fn what_is_declared_no_longer_may_be_changed_again() {
    let daemon = Fixture::start().await;
    daemon.store().reconcile(&usual()).await.unwrap();
    daemon
        .store()
        .reconcile(&DeclaredResources { providers: Vec::new(), auto_certificates: Vec::new(), ..usual() })
        .await
        .unwrap();
    let (provider, wish) = (
        daemon.get("/providers").await.at("/items/0/href"),
        daemon.get("/auto-certificates").await.at("/items/0/href"),
    );
    let name = json!({ "properties": { "name": "another" } });
    for path in [wish, provider] {
        assert_eq!(daemon.patch(&path, &name).await.at("/properties/name"), "another");
        assert_eq!(daemon.delete(&path).await.status, 202);
        assert_eq!(daemon.get(&path).await.status, 404);
    }
}
