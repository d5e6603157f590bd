//! CAs whose answers are not quite those of RFC 8555: a whole issuance succeeds all the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use autocertd::acme::{AcmeError, ProblemKind};
use autocertd_support::fault_proxy::{Action, RequestInfo, ResponseAlteration};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, answer_all, complete, csr, names};

#[tokio::test]
async fn a_certificate_is_obtained_from_a_ca_whose_every_answer_is_odd() {
    let mut stage = Fixture::start_trusting().await;
    let refused = AtomicUsize::new(0);
    stage.proxy.set_hook(Box::new(move |request: &RequestInfo| {
        // Each kind of request meets a refused nonce once, in a problem full of nulls, without another nonce.
        if request.kind == "new-order" && refused.fetch_add(1, Ordering::SeqCst) == 0 {
            let body = r#"{"type": "urn:ietf:params:acme:error:badNonce", "detail": null, "subproblems": null,
                "identifier": null, "status": "400"}"#;
            return Action::Respond(403, HeaderMap::new(), Bytes::from_static(body.as_bytes()));
        }
        Action::Alter(odd(request.kind))
    }));
    // A CA of such a kind is read anew.
    stage.client = stage.client_with(|_| {});
    let account = stage.account().await;
    assert!(account.url().starts_with(&stage.proxy.url()), "the account's URL is whole: {}", account.url());
    let wanted = names(&["example.com", "*.example.com"]);
    let mut order = account.new_order(&wanted).await.unwrap();
    assert!(order.url().as_str().starts_with(&stage.proxy.url()), "{}", order.url());
    let pem = complete(&mut order, &wanted).await.unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"), "{pem}");
    assert!(!pem.contains('\r') && !pem.contains('#'), "{pem}");
    assert_eq!(stage.client.profiles(&stage.server()).await.unwrap().len(), 0, "`meta` is null");
}

#[tokio::test]
async fn an_error_beside_a_challenge_that_goes_on_is_no_failure() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    let wanted = names(&["example.com"]);
    for status in ["pending", "processing"] {
        stage.proxy.set_hook(Box::new(move |request: &RequestInfo| match request.kind {
            "challenge" => Action::Alter(changed(move |document| {
                document["status"] = json!(status);
                document["error"] = json!({ "type": "urn:ietf:params:acme:error:dns", "detail": "looked too early" });
            })),
            // An order that goes on, or is done, has not failed either.
            "order" | "finalize" => Action::Alter(changed(|document| {
                document["error"] = json!({ "type": "urn:ietf:params:acme:error:serverInternal", "detail": "again" });
            })),
            _ => Action::Pass,
        }));
        let mut order = account.new_order(&wanted).await.unwrap();
        complete(&mut order, &wanted).await.unwrap();
    }
    stage.proxy.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "challenge" => Action::Alter(changed(|document| {
            document["status"] = json!("invalid");
            document["error"] = json!({ "type": "urn:ietf:params:acme:error:caa", "detail": "forbidden" });
        })),
        _ => Action::Pass,
    }));
    // Pebble validates the other name of an earlier order at once.
    let mut order = account.new_order(&names(&["other.example.com"])).await.unwrap();
    let error = answer_all(&mut order).await.unwrap_err();
    assert!(
        matches!(&error, AcmeError::OrderFailed(problems) if problems[0].problem.kind == ProblemKind::Caa),
        "{error}"
    );
}

#[tokio::test]
async fn answers_without_a_body_are_as_good_as_their_status() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    stage.proxy.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "new-order" | "challenge" | "finalize" | "account" => Action::Alter(Box::new(|answer| {
            assert!(answer.status().is_success());
            *answer.status_mut() = StatusCode::ACCEPTED;
            *answer.body_mut() = Bytes::from_static(b"<html>taken</html>");
        })),
        _ => Action::Pass,
    }));
    let wanted = names(&["example.com"]);
    let mut order = account.new_order(&wanted).await.unwrap();
    complete(&mut order, &wanted).await.unwrap();
    account.update_contact(&"other@example.com".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_chain_of_the_leaf_alone_is_one_certificate() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    stage.proxy.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "certificate" => Action::Alter(Box::new(|answer| {
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let end = text.find(END).unwrap() + END.len();
            *answer.body_mut() = text[..end].replace('\n', "\r\n").into();
        })),
        _ => Action::Pass,
    }));
    let wanted = names(&["example.com"]);
    let pem = complete(&mut account.new_order(&wanted).await.unwrap(), &wanted).await.unwrap();
    assert_eq!(pem.matches(END).count(), 1, "{pem}");
    assert!(pem.ends_with(&format!("{END}\n")), "{pem:?}");
}

#[tokio::test]
async fn a_final_authorization_ends_its_order_in_words() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    for status in ["deactivated", "revoked", "expired"] {
        let mut order = account.new_order(&names(&["example.com", "*.example.com"])).await.unwrap();
        stage.proxy.set_hook(Box::new(move |request: &RequestInfo| match request.kind {
            "authz" => Action::Alter(changed(move |document| document["status"] = json!(status))),
            // A CA that leaves such an order pending.
            "order" => Action::Alter(changed(|document| document["status"] = json!("pending"))),
            _ => Action::Pass,
        }));
        let error = order.await_ready(&CancellationToken::new()).await.unwrap_err();
        assert!(matches!(&error, AcmeError::AuthorizationLost { .. }), "{error:?}");
        assert_eq!(error.disposition().as_str(), "restart");
        assert!(error.to_string().contains(status) && error.to_string().contains("example.com"), "{error}");
        stage.proxy.set_hook(Box::new(|_| Action::Pass));
    }
    // One that is ready has proven its names, whatever is said of them.
    let wanted = names(&["example.com"]);
    let mut order = account.new_order(&wanted).await.unwrap();
    answer_all(&mut order).await.unwrap();
    order.await_ready(&CancellationToken::new()).await.unwrap();
    order.finalize(&csr(&wanted)).await.unwrap();
}

/// Makes an answer odd in every way that it can be, and still be understood.
fn odd(kind: &'static str) -> ResponseAlteration {
    Box::new(move |answer: &mut Response<Bytes>| {
        if !answer.status().is_success() {
            return;
        }
        *answer.status_mut() = StatusCode::from_u16(if kind == "new-nonce" { 204 } else { 203 }).unwrap();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=latin1"));
        // Relative to the request.
        let location = answer.headers().get(LOCATION).map(|url| path_of(url.to_str().unwrap()));
        if let Some(location) = location {
            answer.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).unwrap());
        }
        if kind == "certificate" {
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            *answer.body_mut() = format!("# M\u{fc}ller's CA\r\n{}# end", text.replace('\n', "\r\n")).into();
            return;
        }
        let Ok(mut document) = serde_json::from_slice::<Value>(answer.body()) else { return };
        make_odd(kind, &mut document);
        let mut body = b"\xef\xbb\xbf".to_vec();
        body.extend(document.to_string().into_bytes());
        // Latin-1 in a member that nobody reads.
        let end = body.pop().unwrap();
        body.extend(b", \"x-note\": \"M\xfcller\"");
        body.push(end);
        *answer.body_mut() = body.into();
    })
}

fn make_odd(kind: &str, document: &mut Value) {
    let relative = |value: &mut Value| *value = json!(path_of(value.as_str().unwrap()));
    match kind {
        "directory" => {
            document["meta"] = Value::Null;
            document["renewalInfo"] = json!(7);
            document["newAuthz"] = Value::Null;
            relative(&mut document["newOrder"]);
            relative(&mut document["newNonce"]);
        }
        "new-order" | "order" | "finalize" => {
            for name in ["error", "notBefore", "notAfter", "replaces", "profile"] {
                document[name] = Value::Null;
            }
            document["expires"] = json!(1_700_000_000);
            document["status"] = json!(document["status"].as_str().unwrap().to_uppercase());
            relative(&mut document["finalize"]);
            if document["certificate"].is_string() {
                relative(&mut document["certificate"]);
            } else {
                document["certificate"] = json!("");
            }
            document["authorizations"].as_array_mut().unwrap().iter_mut().for_each(relative);
            document["authorizations"].as_array_mut().unwrap().push(Value::Null);
        }
        "authz" => {
            document["expires"] = Value::Null;
            if document["wildcard"] != json!(true) {
                document["wildcard"] = Value::Null;
            }
            let challenges = document["challenges"].as_array_mut().unwrap();
            for challenge in challenges.iter_mut() {
                challenge["error"] = Value::Null;
                challenge["validated"] = Value::Null;
                relative(&mut challenge["url"]);
            }
            challenges.insert(0, json!({ "type": "quantum-01", "status": "superposed", "url": null, "token": 7 }));
            challenges.insert(0, json!(null));
        }
        "challenge" => document["error"] = json!({ "type": null, "detail": ["a", "b"], "subproblems": null }),
        _ => {}
    }
}

fn changed(change: impl Fn(&mut Value) + Send + 'static) -> ResponseAlteration {
    Box::new(move |answer: &mut Response<Bytes>| {
        let mut document: Value = serde_json::from_slice(answer.body()).unwrap();
        change(&mut document);
        *answer.body_mut() = document.to_string().into();
    })
}

fn path_of(url: &str) -> String {
    url.splitn(4, '/').nth(3).map_or_else(|| url.to_owned(), |path| format!("/{path}"))
}

const END: &str = "-----END CERTIFICATE-----";
