use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::acme::directory::DirectoryCache;
use crate::domain::value::moment::Moment;

const ORDER_URL: &str = "https://ca.example/acme/order/1";

fn read(document: &Value) -> Value {
    serde_json::from_slice(&normalize_body(document.to_string().as_bytes(), ORDER_URL)).unwrap()
}

fn order_of(document: &Value) -> instant_acme::OrderState {
    let text = normalize_body(document.to_string().as_bytes(), ORDER_URL);
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn authorization_of(document: &Value) -> instant_acme::AuthorizationState {
    let text = normalize_body(document.to_string().as_bytes(), ORDER_URL);
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn challenge_of(document: &Value) -> instant_acme::Challenge {
    let text = normalize_body(document.to_string().as_bytes(), ORDER_URL);
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn whole_order() -> Value {
    json!({
        "status": "pending", "expires": "2026-12-07T00:00:00Z",
        "identifiers": [{ "type": "dns", "value": "example.com" }],
        "notBefore": "2026-12-01T00:00:00Z", "notAfter": "2026-12-02T00:00:00Z",
        "error": { "type": "urn:ietf:params:acme:error:dns", "detail": "d", "subproblems": [] },
        "authorizations": ["https://ca.example/authz/1"], "finalize": "https://ca.example/finalize/1",
        "certificate": "https://ca.example/cert/1", "replaces": "aki.serial", "profile": "classic",
    })
}

fn whole_authorization() -> Value {
    json!({
        "identifier": { "type": "dns", "value": "example.com" }, "status": "pending",
        "expires": "2026-12-07T00:00:00Z", "wildcard": false, "challenges": [dns01(), http01()],
    })
}

fn dns01() -> Value {
    json!({ "type": "dns-01", "url": "https://ca.example/chall/1", "status": "pending", "token": "t",
        "validated": "2026-12-01T00:00:00Z", "error": { "type": "urn:ietf:params:acme:error:dns", "detail": "d" } })
}

fn http01() -> Value {
    json!({ "type": "http-01", "url": "https://ca.example/chall/2", "status": "pending", "token": "t" })
}

/// Every odd value that a member was seen or feared to have.
fn odd() -> [Value; 9] {
    [json!(null), json!(""), json!(0), json!("7"), json!(true), json!([]), json!([null]), json!({}), json!({"a": null})]
}

/// The document with each member but the necessary ones absent, then with each odd value.
fn variations(document: &Value, necessary: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    for name in document.as_object().unwrap().keys().filter(|name| !necessary.contains(&name.as_str())) {
        let mut other = document.clone();
        other.as_object_mut().unwrap().remove(name);
        all.push(other);
        for value in odd() {
            let mut other = document.clone();
            other[name] = value;
            all.push(other);
        }
    }
    all
}

#[test]
fn every_member_of_an_order_may_be_odd() {
    for document in variations(&whole_order(), &["status"]) {
        let order = order_of(&document);
        assert_eq!(order.status, instant_acme::OrderStatus::Pending, "{document}");
        assert!(order.error.is_none(), "only an invalid order has failed: {document}");
    }
    for error in odd() {
        let mut document = whole_order();
        (document["status"], document["error"]) = (json!("invalid"), error);
        assert_eq!(order_of(&document).status, instant_acme::OrderStatus::Invalid, "{document}");
    }
}

#[test]
fn every_member_of_an_authorization_may_be_odd() {
    for document in variations(&whole_authorization(), &["identifier", "challenges"]) {
        let authorization = authorization_of(&document);
        assert_eq!(authorization.status, instant_acme::AuthorizationStatus::Pending, "{document}");
        assert_eq!(authorization.challenges.len(), 2, "{document}");
    }
    for challenge in variations(&http01(), &["url"]) {
        let mut document = whole_authorization();
        document["challenges"][1] = challenge;
        assert_eq!(authorization_of(&document).challenges[0].token, "t", "{document}");
    }
    for challenge in variations(&dns01(), &["type", "url", "token"]) {
        let mut document = whole_authorization();
        document["challenges"][0] = challenge;
        let read = authorization_of(&document);
        assert_eq!(read.challenges[0].r#type, instant_acme::ChallengeType::Dns01, "{document}");
    }
    for odd in odd() {
        let mut document = whole_authorization();
        (document["status"], document["identifier"]) = (json!("deactivated"), odd.clone());
        assert_eq!(authorization_of(&document).status, instant_acme::AuthorizationStatus::Deactivated);
        let mut document = whole_authorization();
        document["challenges"] = json!([odd, dns01(), { "type": "x-99", "status": "odd" }]);
        assert_eq!(authorization_of(&document).challenges.len(), 1, "{document}");
    }
}

#[test]
fn every_member_of_a_problem_may_be_odd() {
    let whole = json!({ "type": "urn:ietf:params:acme:error:badNonce", "title": "t", "detail": "d", "status": 400,
        "instance": "https://ca.example/1", "identifier": null,
        "subproblems": [{ "type": "urn:ietf:params:acme:error:caa", "detail": "d",
            "identifier": { "type": "dns", "value": "example.com" } }] });
    for problem in variations(&whole, &["type"]) {
        let document = json!({ "status": "invalid", "authorizations": [], "error": problem });
        let error = order_of(&document).error.unwrap();
        assert_eq!(error.r#type.as_deref(), whole["type"].as_str(), "{document}");
        let read = crate::acme::Problem::parse(document["error"].to_string().as_bytes()).unwrap();
        assert_eq!(read.kind, crate::acme::ProblemKind::BadNonce, "{document}");
    }
    for sub in variations(&whole["subproblems"][0], &[]) {
        let mut document = json!({ "status": "invalid", "authorizations": [], "error": whole });
        document["error"]["subproblems"][0] = sub;
        assert_eq!(order_of(&document).error.unwrap().subproblems.len(), 1, "{document}");
    }
}

#[test]
fn every_member_of_a_directory_may_be_odd() {
    let whole = json!({
        "newNonce": "https://ca.example/n", "newAccount": "https://ca.example/a", "newOrder": "/o",
        "newAuthz": "https://ca.example/z", "revokeCert": "revoke", "keyChange": "https://ca.example/k",
        "renewalInfo": "https://ca.example/r", "index": 1,
        "meta": { "termsOfService": "https://ca.example/tos", "website": "https://ca.example", "externalAccountRequired": true,
            "caaIdentities": ["ca.example"], "profiles": { "classic": "words", "odd": null, "other": 7 } },
    });
    let read = |document: &Value| -> Value {
        let body = normalize_directory_body(document.to_string().as_bytes(), "https://ca.example/acme/directory");
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["newOrder"], "https://ca.example/o", "{document}");
        // As instant-acme reads it, and as it is read here.
        let credentials = json!({ "id": "i", "key_pkcs8": "", "urls": read });
        let strict = serde_json::from_value::<instant_acme::AccountCredentials>(credentials);
        assert!(strict.is_ok(), "{document}");
        let (directories, url) = (DirectoryCache::default(), http::Uri::from_static("https://ca.example/directory"));
        directories.check_and_store(&url, Moment::from_micros(0), body.into()).unwrap();
        read
    };
    assert_eq!(read(&whole)["revokeCert"], "https://ca.example/acme/revoke");
    for document in variations(&whole, &["newNonce", "newAccount", "newOrder"]) {
        read(&document);
    }
    for meta in variations(&whole["meta"], &[]) {
        let mut document = whole.clone();
        document["meta"] = meta;
        let read = read(&document);
        assert!(read["meta"]["profiles"].as_object().is_none_or(|profiles| profiles.values().all(Value::is_string)));
    }
}

#[test]
fn only_the_status_of_a_challenge_decides() {
    for (status, failed) in
        [("pending", false), ("processing", false), ("valid", false), ("invalid", true), ("odd", false)]
    {
        let mut document = dns01();
        document["status"] = json!(status);
        assert_eq!(challenge_of(&document).error.is_some(), failed, "{status}");
    }
    for document in variations(&dns01(), &["url"]) {
        assert!(challenge_of(&document).error.is_none(), "{document}");
    }
}

#[test]
fn a_status_that_is_unknown_is_told_by_what_stands_beside_it() {
    let order = |status: Value, certificate: Value| {
        read(&json!({ "status": status, "authorizations": [], "certificate": certificate }))["status"].clone()
    };
    assert_eq!(order(json!("VALID"), json!(null)), "valid");
    assert_eq!(order(json!("issued"), json!("/cert/1")), "valid");
    assert_eq!(order(json!(null), json!("/cert/1")), "valid");
    assert_eq!(order(json!("expired"), json!(null)), "invalid");
    assert_eq!(order(json!("issued"), json!(null)), json!(null));
    let authorization = |status: &str| {
        let mut document = whole_authorization();
        (document["status"], document["challenges"][1]["status"]) = (json!("odd"), json!(status));
        read(&document)["status"].clone()
    };
    assert_eq!(authorization("valid"), "valid");
    assert_eq!(authorization("invalid"), "invalid");
    assert_eq!(authorization("processing"), "pending");
}

#[test]
fn urls_are_resolved_against_the_request_and_absolute_ones_stay() {
    let base = Url::parse(ORDER_URL).unwrap();
    for (given, expected) in [
        ("https://CA.example/a%20b?x", Some("https://CA.example/a%20b?x")),
        ("/acme/cert/1", Some("https://ca.example/acme/cert/1")),
        ("2", Some("https://ca.example/acme/order/2")),
        ("//other.example/x", Some("https://other.example/x")),
        (" /x ", Some("https://ca.example/x")),
        ("", None),
        ("not a url", None),
        ("/a\nb", None),
        ("https://", None),
    ] {
        assert_eq!(resolve_url(given, Some(&base)).as_deref(), expected, "{given:?}");
    }
    let order = read(&json!({ "status": "valid", "authorizations": ["/z/1", 7, null, "z/2"], "finalize": "f",
        "certificate": "/c" }));
    assert_eq!(order["authorizations"], json!(["https://ca.example/z/1", "https://ca.example/acme/order/z/2"]));
    assert_eq!(
        (&order["finalize"], &order["certificate"]),
        (&json!("https://ca.example/acme/order/f"), &json!("https://ca.example/c"))
    );
}

#[test]
fn a_wildcard_in_the_identifier_is_the_wildcard_of_its_name() {
    let mut document = whole_authorization();
    document["identifier"]["value"] = json!("*.example.com");
    let read = authorization_of(&document);
    assert_eq!(read.identifier().to_string(), "*.example.com");
    assert!(read.wildcard);
}

#[test]
fn a_text_that_is_no_document_stays_but_for_its_damage() {
    assert_eq!(normalize_body(b"\xef\xbb\xbf-----BEGIN", ORDER_URL), b"-----BEGIN");
    assert_eq!(normalize_body(b"Aussteller: M\xfcller\n", ORDER_URL), "Aussteller: M\u{fffd}ller\n".as_bytes());
    assert_eq!(normalize_body(b"", ORDER_URL), b"");
    let damaged =
        b"\xef\xbb\xbf{\"status\": \"invalid\", \"authorizations\": [], \"error\": {\"detail\": \"M\xfcller\"}}";
    let read: instant_acme::OrderState = serde_json::from_slice(&normalize_body(damaged, ORDER_URL)).unwrap();
    assert_eq!(read.error.unwrap().detail.as_deref(), Some("M\u{fffd}ller"));
    let deep = "[".repeat(100_000);
    assert_eq!(normalize_body(deep.as_bytes(), ORDER_URL), deep.as_bytes());
}

proptest! {
    #[test]
    fn no_answer_brings_it_down(body in proptest::collection::vec(any::<u8>(), 0..200), url in any::<String>()) {
        let _ = (normalize_body(&body, &url), normalize_directory_body(&body, &url));
    }
}
