//! `/certificates`.

use autocertd::domain::certificate::revocation::RevocationReason;
use autocertd::runtime::clock::Clock;
use autocertd::store::RevocationRequestOutcome;
use insta::assert_json_snapshot;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::fixture::{Fixture, id_of, self_signed, upload};

#[tokio::test]
async fn an_upload_lives_from_post_to_delete() {
    let daemon = Fixture::start().await;
    let (body, _) = upload(daemon.clock.now(), "www.example.com");
    let created = daemon.post("/certificates", &body).await;
    let path = created.created();
    assert_json_snapshot!("certificate_created", created.shown());
    for pem in ["certificate", "certificateChain"] {
        assert_eq!(created.json()["properties"][pem], body["properties"][pem], "PEM is echoed as it was uploaded");
    }
    assert_eq!(daemon.get(&path).await.json(), created.json());
    assert_json_snapshot!("certificate_list", daemon.get("/certificates").await.shown());
    let renamed = daemon.patch(&path, &json!({ "properties": { "name": "another" } })).await;
    assert_json_snapshot!("certificate_renamed", renamed.shown());
    daemon.clock.turn(Duration::days(90));
    let expired = daemon.get(&path).await;
    assert_eq!(expired.json()["metadata"]["expired"], true);
    assert_eq!(expired.at("/metadata/state"), "AVAILABLE");
    assert_json_snapshot!("certificate_deleted", daemon.delete(&path).await.shown());
    assert_json_snapshot!("certificate_gone", daemon.get(&path).await.shown());
    assert_eq!(daemon.delete(&path).await.status, 404);
    assert_eq!(daemon.patch(&path, &json!({ "properties": { "name": "x" } })).await.status, 404);
}

#[tokio::test]
async fn a_self_signed_ca_without_any_name_is_its_own_chain() {
    let daemon = Fixture::start().await;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.serial_number = Some(vec![1].into());
    params.not_before = (daemon.clock.now() - Duration::DAY).to_date_time();
    params.not_after = (daemon.clock.now() + Duration::DAY).to_date_time();
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let body = json!({ "properties": {
        "name": "CA", "certificate": pem, "certificateChain": pem, "privateKey": key.serialize_pem(),
    }});
    let created = daemon.post("/certificates", &body).await;
    assert_json_snapshot!("certificate_of_nameless_ca", created.shown());
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let daemon = Fixture::start().await;
    let (right, key) = upload(daemon.clock.now(), "www.example.com");
    let (_, other_key) = self_signed(daemon.clock.now(), 1, None, &[]);
    let certificate = right["properties"]["certificate"].as_str().unwrap();
    let with = |name: &str, value: Value| {
        let mut body = right.clone();
        body["properties"][name] = value;
        body
    };
    let cases = [
        ("no_properties", json!({ "properties": {} })),
        ("ill_typed", json!({ "properties": { "name": 1, "certificate": 2, "certificateChain": 3, "privateKey": 4 } })),
        (
            "wrong",
            json!({ "properties": {
                "name": "a\nb", "certificate": "no PEM", "certificateChain": "", "privateKey": "no key",
            }}),
        ),
        ("other_key", with("privateKey", json!(other_key))),
        ("unreadable_key", with("privateKey", json!("not a key"))),
        ("key_among_certificates", with("certificate", json!(format!("{certificate}{key}")))),
        ("key_in_chain", with("certificateChain", json!(format!("{certificate}{key}")))),
        ("too_long", with("certificateChain", json!(format!("{certificate}{}", "#".repeat(64 * 1024))))),
        ("control_character", {
            let (spoilt, key) = self_signed(daemon.clock.now(), 1, Some("a\u{1}b.example"), &[]);
            json!({ "properties": {
                "name": "spoilt", "certificate": spoilt, "certificateChain": spoilt, "privateKey": key,
            }})
        }),
    ];
    for (name, body) in cases {
        let answer = daemon.post("/certificates", &body).await;
        assert_json_snapshot!(format!("certificate_faults_{name}"), answer.shown());
        assert!(!answer.text.contains("PRIVATE KEY-----"), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_issued_certificate_points_to_its_origin_and_its_successor() {
    let daemon = Fixture::start().await;
    let wish = daemon.auto_certificate("Bücher.example").await;
    let first = daemon.issue(&wish, 90).await;
    assert_json_snapshot!("certificate_issued", daemon.get(&first).await.shown());
    let second = daemon.issue(&wish, 90).await;
    let id = |path: &str| id_of::<Uuid>(path).to_string();
    for path in [&first, &second] {
        assert_eq!(daemon.get(path).await.at("/metadata/lastIssuedCertificate"), id(&second));
        assert_eq!(daemon.get(path).await.at("/metadata/autoCertificate"), id(&wish));
    }
    assert_eq!(daemon.get(&wish).await.at("/metadata/lastIssuedCertificate"), id(&second));
    assert_eq!(daemon.delete(&second).await.status, 202);
    assert!(daemon.was_notified().await);
    assert_eq!(daemon.get(&wish).await.at("/metadata/lastIssuedCertificate"), id(&first));
    assert_eq!(daemon.get(&first).await.at("/metadata/lastIssuedCertificate"), id(&first));
    assert_eq!(daemon.delete(&first).await.status, 202);
    let left = daemon.get(&wish).await;
    assert!(left.json()["metadata"].get("lastIssuedCertificate").is_none(), "{}", left.text);
    assert_eq!(left.at("/metadata/state"), "PROVISIONING");
}

#[tokio::test]
async fn what_the_ca_is_still_to_revoke_is_not_deleted() {
    let daemon = Fixture::start().await;
    let issued = daemon.issue(&daemon.auto_certificate("www.example.com").await, 90).await;
    let wished = daemon.store().request_revocation(id_of(&issued), RevocationReason::Superseded).await.unwrap();
    assert_json_snapshot!("certificate_to_be_revoked", daemon.delete(&issued).await.shown());
    assert_eq!(daemon.get(&issued).await.status, 200);
    let RevocationRequestOutcome::Stored(claim) = wished else { panic!("{wished:?}") };
    daemon.store().record_revocation_done(&claim, daemon.clock.now()).await.unwrap();
    assert_eq!(daemon.delete(&issued).await.status, 202);
}

#[tokio::test]
async fn what_was_issued_outlives_its_auto_certificate() {
    let daemon = Fixture::start().await;
    let wish = daemon.auto_certificate("www.example.com").await;
    let issued = daemon.issue(&wish, 90).await;
    assert_eq!(daemon.delete(&wish).await.status, 202);
    let kept = daemon.get(&issued).await;
    assert_eq!((kept.status, kept.at("/metadata/commonName")), (200, "www.example.com".to_owned()));
}

#[tokio::test]
async fn certificates_are_found_by_name_and_by_auto_certificate() {
    let daemon = Fixture::start().await;
    let wish = daemon.auto_certificate("bücher.example").await;
    let issued = daemon.issue(&wish, 90).await;
    let uploaded = daemon.upload("WWW.Example.com").await;
    let found = async |query: &str| {
        let json = daemon.get(&format!("/certificates?{query}")).await.json();
        let items = json["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["href"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let id = id_of::<Uuid>(&wish);
    assert_eq!(found("").await, [issued.clone(), uploaded.clone()]);
    assert_eq!(found("filter.commonName=www.example.com").await, [uploaded]);
    assert_eq!(found("filter.commonName=b%C3%BCcher.example").await, std::slice::from_ref(&issued));
    assert_eq!(found("filter.commonName=XN--BCHER-KVA.example").await, std::slice::from_ref(&issued));
    assert_eq!(found(&format!("filter.autoCertificate={id}")).await, std::slice::from_ref(&issued));
    assert_eq!(found(&format!("filter.autoCertificate={id}&filter.commonName=b%C3%BCcher.example")).await, [issued]);
    assert!(found(&format!("filter.autoCertificate={id}&filter.commonName=www.example.com")).await.is_empty());
    assert!(found("filter.autoCertificate=00000000-0000-4000-8000-000000000000").await.is_empty());
    assert!(found("filter.commonName=example.com").await.is_empty());
}
