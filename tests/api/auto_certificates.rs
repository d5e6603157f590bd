//! `/auto-certificates`.

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::renewal::attempt::StageKind;
use autocertd::runtime::clock::Clock;
use autocertd::store::RunOutcome;
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::fixture::{Fixture, auto_certificate, id_of};

#[tokio::test]
async fn an_auto_certificate_lives_from_post_to_delete() {
    let daemon = Fixture::start().await;
    let provider = daemon.provider().await;
    assert!(daemon.was_notified().await);
    let mut body = auto_certificate(&provider, "Www.Example.com");
    // A common name repeated among the others, U-labels and the order are all echoed as they were sent.
    body["properties"]["subjectAlternativeNames"] =
        json!(["b.example.com", "Www.Example.com", "bücher.example", "*.a.example"]);
    let created = daemon.post("/auto-certificates", &body).await;
    assert!(daemon.was_notified().await);
    let path = created.created();
    assert_json_snapshot!("auto_certificate_created", created.shown());
    assert_eq!(daemon.get(&path).await.json(), created.json());
    assert_json_snapshot!("auto_certificate_list", daemon.get("/auto-certificates").await.shown());
    daemon.issue(&path, 90).await;
    assert_json_snapshot!("auto_certificate_issued", daemon.get(&path).await.shown());
    let renamed = daemon.patch(&path, &json!({ "properties": { "name": "another", "commonName": "ignored" } })).await;
    assert!(daemon.was_notified().await);
    assert_json_snapshot!("auto_certificate_renamed", renamed.shown());
    assert_json_snapshot!("auto_certificate_deleted", daemon.delete(&path).await.shown());
    assert!(daemon.was_notified().await);
    assert_json_snapshot!("auto_certificate_gone", daemon.get(&path).await.shown());
    assert_eq!(daemon.delete(&path).await.status, 404);
    assert_eq!(daemon.get("/auto-certificates").await.json()["items"], json!([]));
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let daemon = Fixture::start().await;
    let provider = daemon.provider().await;
    let eleven: Vec<String> = (1..=11).map(|n| format!("n{n}.example.com")).collect();
    let unknown = "/providers/00000000-0000-4000-8000-000000000000";
    let with = |name: &str, value: Value| {
        let mut body = auto_certificate(&provider, "www.example.com");
        body["properties"][name] = value;
        body
    };
    let cases = [
        ("no_properties", json!({ "properties": {} })),
        (
            "ill_typed",
            json!({ "properties": {
                "provider": 7, "commonName": [], "keyAlgorithm": {}, "name": true, "subjectAlternativeNames": "a.example.com",
            }}),
        ),
        (
            "wrong",
            json!({ "properties": {
                "provider": "Let's Encrypt", "commonName": "192.0.2.1", "keyAlgorithm": "RSA-2048", "name": "",
                "subjectAlternativeNames": ["a.example.com.", "fine.example.com", 5, "w*.example.com", null],
            }}),
        ),
        ("eleven_names", with("subjectAlternativeNames", json!(eleven))),
        ("unknown_provider", auto_certificate(unknown, "www.example.com")),
    ];
    for (name, body) in cases {
        let answer = daemon.post("/auto-certificates", &body).await;
        assert_json_snapshot!(format!("auto_certificate_faults_{name}"), answer.shown());
    }
    let ten = with("subjectAlternativeNames", json!(eleven[1..]));
    assert_eq!(daemon.post("/auto-certificates", &ten).await.status, 201);
    assert_eq!(daemon.post("/auto-certificates", &with("subjectAlternativeNames", json!(null))).await.status, 201);
    let path = daemon.get("/auto-certificates").await.at("/items/0/href");
    assert_eq!(daemon.patch(&path, &json!({ "properties": { "name": 5 } })).await.status, 422);
}

#[tokio::test]
async fn the_limit_names_itself_and_its_setting() {
    let daemon = Fixture::with_limit(1).await;
    let path = daemon.auto_certificate("a.example.com").await;
    let provider = daemon.provider().await;
    let over = auto_certificate(&provider, "b.example.com");
    assert_json_snapshot!("auto_certificate_limit", daemon.post("/auto-certificates", &over).await.shown());
    assert_eq!(daemon.delete(&path).await.status, 202);
    assert_eq!(daemon.post("/auto-certificates", &over).await.status, 201);
}

#[tokio::test]
async fn a_name_is_found_in_its_u_label_and_its_a_label_form() {
    let daemon = Fixture::start().await;
    let path = daemon.auto_certificate("*.bücher.example").await;
    daemon.auto_certificate("www.example.com").await;
    for filter in ["*.bücher.example", "*.xn--bcher-kva.example", "*.BÜCHER.Example"] {
        let answer = daemon.get(&format!("/auto-certificates?filter.commonName={}", encoded(filter))).await;
        let json = answer.json();
        assert_eq!(json["items"].as_array().unwrap().len(), 1, "{filter}: {json}");
        assert_eq!(json["items"][0]["href"], path);
        assert_eq!(json["items"][0]["properties"]["commonName"], "*.bücher.example");
    }
    for filter in ["bücher.example", "example", "*"] {
        let answer = daemon.get(&format!("/auto-certificates?filter.commonName={}", encoded(filter))).await;
        assert_eq!(answer.json()["items"], json!([]), "{filter} is not the whole name");
    }
}

/// States in which a PATCH and a DELETE must work, and what the API says in each.
#[tokio::test]
async fn patch_and_delete_work_in_every_state() {
    for situation in [
        "new",
        "running",
        "passing trouble",
        "a person must act",
        "issued",
        "renewal fails",
        "expired",
        "expired, running",
    ] {
        let daemon = Fixture::start().await;
        let path = daemon.auto_certificate("www.example.com").await;
        bring_into(&daemon, &path, situation).await;
        let found = daemon.get(&path).await;
        let state = found.at("/metadata/state");
        assert_eq!(state, expected_state(situation), "{situation}: {}", found.text);
        let last_issued = found.json()["metadata"].get("lastIssuedCertificate").is_some();
        assert!(state != "AVAILABLE" || last_issued, "clients read the certificate as soon as they see AVAILABLE");
        let renamed = daemon.patch(&path, &json!({ "properties": { "name": "renamed" } })).await;
        assert_eq!((renamed.status, renamed.at("/properties/name")), (200, "renamed".to_owned()), "{situation}");
        assert_eq!(renamed.at("/metadata/state"), state, "{situation}");
        let deleted = daemon.delete(&path).await;
        assert_eq!((deleted.status, deleted.text.as_str()), (202, ""), "{situation}");
        assert_eq!(daemon.get(&path).await.status, 404, "{situation}");
    }
}

async fn bring_into(daemon: &Fixture, path: &str, situation: &str) {
    if ["issued", "renewal fails", "expired", "expired, running"].contains(&situation) {
        daemon.issue(path, 10).await;
    }
    if situation.starts_with("expired") {
        daemon.clock.turn(Duration::days(11));
    }
    let failure = match situation {
        "passing trouble" => Failure::retry("the name servers disagree"),
        "a person must act" | "renewal fails" => Failure::operator("CAA forbids this CA"),
        "running" | "expired, running" => {
            let claim = daemon.claim(path).await;
            daemon.begin(&claim).await;
            return assert_eq!(claim.auto_certificate.standing.open_attempt, None::<StageKind>);
        }
        _ => return,
    };
    let claim = daemon.claim(path).await;
    let trouble = FailureStreak::after(None, failure.clone(), daemon.clock.now(), None, 0.5);
    daemon.store().record_failure_streak(&claim.lease, &trouble).await.unwrap();
    daemon.store().release_auto_certificate(&claim.lease, trouble.next_try, RunOutcome::Finished).await.unwrap();
    let message = daemon.get(path).await.at("/metadata/message");
    assert!(message.contains(failure.message.as_str()) && message.contains("next try at"), "{message}");
}

fn expected_state(situation: &str) -> &'static str {
    match situation {
        "issued" | "renewal fails" => "AVAILABLE",
        "a person must act" | "expired" => "FAILED",
        _ => "PROVISIONING",
    }
}

#[tokio::test]
async fn only_people_move_the_date_of_the_last_change() {
    let daemon = Fixture::start().await;
    let path = daemon.auto_certificate("www.example.com").await;
    let created = daemon.get(&path).await.at("/metadata/createdDate");
    daemon.clock.turn(Duration::HOUR);
    let certificate = daemon.issue(&path, 90).await;
    let issued = daemon.get(&path).await;
    assert_eq!(issued.at("/metadata/lastModifiedDate"), created);
    assert_eq!(issued.at("/metadata/lastIssuedCertificate"), id_of::<Uuid>(&certificate).to_string());
    let renamed = daemon.patch(&path, &json!({ "properties": { "name": "x" } })).await;
    assert_ne!(renamed.at("/metadata/lastModifiedDate"), created);
    assert_eq!(renamed.at("/metadata/createdDate"), created);
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
