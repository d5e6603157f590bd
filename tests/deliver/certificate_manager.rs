//! Uploads to another Certificate Manager: an autocertd of its own, behind a proxy that breaks what a test wants broken.

mod fixture;

use autocertd_support::timed::Timed;
use std::fs;
use std::path::Path;
use std::process::Command;

use autocertd::deliver::Delivery;
use autocertd::deliver::certificate_manager::CertificateManagerDelivery;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::runtime::clock::Clock;
use autocertd_support::fault_proxy::Action;
use bytes::Bytes;
use http::HeaderMap;
use secrecy::ExposeSecret;
use serde_json::json;
use time::Duration;

use self::fixture::{Fixture, GRACE, PAGE, api_error, clock, current_path, entry, retry_at};
use crate::payloads::{START, payload, payload_with_common_name};

#[tokio::test]
async fn a_certificate_is_uploaded_once_and_its_predecessor_removed_after_the_grace_period() {
    let bench = Fixture::start().await;
    let first = payload("www");
    assert!(!bench.delivery.is_in_place(&first, None).await.unwrap());
    let mut receipt = bench.deliver(&first, None).await.receipt;
    assert!(bench.delivery.is_in_place(&first, receipt.as_ref()).await.unwrap());
    let there = bench.uploads().await;
    assert_eq!(there.len(), 1);
    assert_eq!(there[0]["properties"]["name"], "web 2026-11-22T12:00:00Z");
    assert_eq!(there[0]["properties"]["certificate"], first.leaf_pem);
    assert_eq!(there[0]["properties"]["certificateChain"], first.chain_pem);
    assert_eq!(there[0]["metadata"]["serialNumber"], first.leaf.serial_number);

    let again = bench.deliver(&first, receipt.as_ref()).await;
    assert_eq!((&again.receipt, again.check_again_at), (&receipt, None));
    assert_eq!(bench.count("POST"), 1);

    let second = payload("www");
    assert!(!bench.delivery.is_in_place(&second, receipt.as_ref()).await.unwrap());
    let superseded = bench.deliver(&second, receipt.as_ref()).await;
    assert_eq!(superseded.check_again_at, Some(START + GRACE));
    receipt = superseded.receipt;

    bench.clock.turn(GRACE - Duration::SECOND);
    let early = bench.deliver(&second, receipt.as_ref()).await;
    assert_eq!((early.receipt, early.check_again_at), (receipt.clone(), Some(START + GRACE)));
    assert_eq!(bench.uploads().await.len(), 2);

    bench.clock.turn(Duration::SECOND);
    let cleared = bench.deliver(&second, receipt.as_ref()).await;
    assert_eq!(cleared.check_again_at, None);
    let there = bench.uploads().await;
    assert_eq!(there.len(), 1);
    assert_eq!(there[0]["properties"]["certificate"], second.leaf_pem);
    assert!(bench.delivery.is_in_place(&second, cleared.receipt.as_ref()).await.unwrap());
    let kept = cleared.receipt.unwrap().to_string();
    assert!(!kept.contains("PRIVATE") && !kept.contains(&bench.daemon.api.token), "{kept}");
}

/// Killed right after the upload, before anything could be remembered. What has our name may as well be another delivery's
/// or installation's that is in use, so it is not removed.
#[tokio::test]
async fn an_upload_whose_end_was_not_seen_is_found_and_not_repeated() {
    for common_name in [None, Some("www.example.com")] {
        let bench = Fixture::start().await;
        bench.upload_others(PAGE + 1).await;
        let first = payload_with_common_name("www", common_name);
        bench.set_hook_for("POST", |_| Action::KillAfter(Box::new(|| {})));
        assert_eq!(bench.failure(&first, None).await.disposition, Disposition::RETRY);
        bench.clear_hook();

        let adopted = bench.deliver(&first, None).await;
        assert_eq!(bench.count("POST"), 1, "{common_name:?}");
        assert!(bench.delivery.is_in_place(&first, adopted.receipt.as_ref()).await.unwrap());

        let second = payload_with_common_name("www", common_name);
        let superseded = bench.deliver(&second, adopted.receipt.as_ref()).await;
        bench.clock.turn(GRACE);
        bench.deliver(&second, superseded.receipt.as_ref()).await;
        assert_eq!(bench.uploads().await.len(), 2 + PAGE + 1, "what was adopted is never removed");
    }
}

#[tokio::test]
async fn what_a_person_uploaded_is_used_and_never_removed() {
    let bench = Fixture::start().await;
    let first = payload("www");
    let by_hand = bench.upload("by hand", &first).await;
    let adopted = bench.deliver(&first, None).await;
    assert_eq!(bench.count("POST"), 0);
    assert_eq!(adopted.receipt.as_ref().unwrap()["present"]["id"], by_hand["id"]);

    let second = bench.deliver(&payload("www"), adopted.receipt.as_ref()).await;
    bench.clock.turn(GRACE);
    assert_eq!(second.check_again_at, None);
    assert_eq!(bench.uploads().await.len(), 2);
}

/// Two deliveries to one Certificate Manager, each with a receipt of its own.
#[tokio::test]
async fn what_another_delivery_uploaded_is_used_and_never_removed() {
    let bench = Fixture::start().await;
    let (first, second) = (payload("www"), payload("www"));
    let others = bench.deliver(&first, None).await;
    let adopted = bench.deliver(&first, None).await;
    assert_eq!(bench.count("POST"), 1);
    let superseded = bench.deliver(&second, adopted.receipt.as_ref()).await;
    bench.clock.turn(GRACE);
    bench.deliver(&second, superseded.receipt.as_ref()).await;
    assert!(bench.delivery.is_in_place(&first, others.receipt.as_ref()).await.unwrap());
}

#[tokio::test]
async fn what_was_removed_there_is_uploaded_again() {
    let bench = Fixture::start().await;
    let parcel = payload("www");
    let delivered = bench.deliver(&parcel, None).await;
    bench.daemon.api.delete(&current_path(&delivered)).await.unwrap();
    assert!(!bench.delivery.is_in_place(&parcel, delivered.receipt.as_ref()).await.unwrap());
    let again = bench.deliver(&parcel, delivered.receipt.as_ref()).await;
    assert!(bench.delivery.is_in_place(&parcel, again.receipt.as_ref()).await.unwrap());
    bench.clock.turn(GRACE);
    let cleared = bench.deliver(&parcel, again.receipt.as_ref()).await;
    assert_eq!(cleared.receipt.unwrap()["superseded"], json!([]), "a 404 counts as removed");
}

#[tokio::test]
async fn what_is_still_in_use_there_is_kept_and_tried_again_a_day_later() {
    for status in [409, 422] {
        let bench = Fixture::start().await;
        let (first, second) = (payload("www"), payload("www"));
        let receipt = bench.deliver(&first, None).await.receipt;
        let receipt = bench.deliver(&second, receipt.as_ref()).await.receipt;
        bench.set_hook_for("DELETE", move |_| api_error(status, None));
        bench.clock.turn(GRACE);
        let refused = bench.deliver(&second, receipt.as_ref()).await;
        assert_eq!(refused.check_again_at, Some(bench.clock.now() + Duration::DAY));
        assert_eq!(refused.receipt.as_ref().unwrap()["superseded"][0]["reported"], true);
        assert_eq!(bench.uploads().await.len(), 2);

        bench.clear_hook();
        bench.clock.turn(Duration::DAY);
        assert_eq!(bench.deliver(&second, refused.receipt.as_ref()).await.check_again_at, None);
        assert_eq!(bench.uploads().await.len(), 1);
    }
}

#[tokio::test]
async fn trouble_with_a_removal_fails_no_delivery() {
    let bench = Fixture::start().await;
    let mut receipt = None;
    let last = payload("www");
    for parcel in [&payload("www"), &payload("www"), &last] {
        receipt = bench.deliver(parcel, receipt.as_ref()).await.receipt;
    }
    bench.clock.turn(GRACE);
    for (retry_after, after) in [(Some("7200"), Duration::hours(2)), (None, Duration::HOUR)] {
        let before = bench.count("DELETE");
        bench.set_hook_for("DELETE", move |_| api_error(503, retry_after));
        let delivered = bench.deliver(&last, receipt.as_ref()).await;
        assert_eq!(delivered.check_again_at, Some(bench.clock.now() + after));
        assert_eq!(bench.count("DELETE"), before + 1, "one refusal is enough");
        receipt = delivered.receipt;
    }
    bench.clear_hook();
    assert_eq!(bench.deliver(&last, receipt.as_ref()).await.check_again_at, None);
    assert_eq!(bench.uploads().await.len(), 1);
}

#[tokio::test]
async fn an_upload_counts_once_it_is_available() {
    let bench = Fixture::start().await;
    let parcel = payload("www");
    let delivered = bench.deliver(&parcel, None).await;
    let path = current_path(&delivered);
    let mut shown = bench.daemon.api.get(&path).await.unwrap();
    shown["metadata"]["message"] = "no such key store".into();
    let looks = bench.count("GET");
    for state in ["PROVISIONING", "FAILED"] {
        shown["metadata"]["state"] = state.into();
        let body = Bytes::from(shown.to_string());
        bench.set_hook_for("GET", move |_| Action::Respond(200, HeaderMap::new(), body.clone()));
        assert!(!bench.delivery.is_in_place(&parcel, delivered.receipt.as_ref()).await.unwrap(), "{state}");
    }
    let failure = bench.failure(&parcel, delivered.receipt.as_ref()).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("failed there (no such key store); delete it there"), "{failure}");

    shown["metadata"]["state"] = "PROVISIONING".into();
    let (body, first) = (Bytes::from(shown.to_string()), bench.proxy.requests().len());
    bench.set_hook_for("GET", move |request| {
        if request.index == first { Action::Respond(200, HeaderMap::new(), body.clone()) } else { Action::Pass }
    });
    assert_eq!(bench.deliver(&parcel, delivered.receipt.as_ref()).await, delivered);
    assert_eq!(bench.count("GET"), looks + 5);
}

#[tokio::test]
async fn an_upload_that_stays_unavailable_is_looked_at_again_later() {
    let bench = Fixture::with_timeout("1s").await;
    let parcel = payload("www");
    let delivered = bench.deliver(&parcel, None).await;
    let mut shown = bench.daemon.api.get(&current_path(&delivered)).await.unwrap();
    shown["metadata"]["state"] = "PROVISIONING".into();
    let body = Bytes::from(shown.to_string());
    bench.set_hook_for("GET", move |_| Action::Respond(200, HeaderMap::new(), body.clone()));
    let failure = bench.failure(&parcel, delivered.receipt.as_ref()).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("is not available there yet"), "{failure}");
}

#[tokio::test]
async fn faults_are_told_apart() {
    let bench = Fixture::start().await;
    let parcel = payload("www");
    for (status, retry_after, disposition, words) in [
        (429, Some("20"), retry_at(START + Duration::seconds(20)), "status 429 (demanded-1: on demand)"),
        (503, Some("Sun, 22 Nov 2026 12:01:00 GMT"), retry_at(START + Duration::MINUTE), "it is tried again later"),
        (502, None, Disposition::RETRY, "status 502"),
        (403, None, Disposition::Operator, "the right to manage certificates"),
        (422, None, Disposition::Operator, "POST /certificates was rejected with status 422 (demanded-1: on demand)"),
        (301, None, Disposition::Operator, "status 301"),
    ] {
        bench.set_hook_for("POST", move |_| api_error(status, retry_after));
        let failure = bench.failure(&parcel, None).await;
        assert_eq!(failure.disposition, disposition, "{failure}");
        assert!(failure.message.starts_with("certificate_manager: ") && failure.message.contains(words), "{failure}");
        assert!(!failure.message.contains(&bench.daemon.api.token), "{failure}");
        assert!(!failure.message.contains(parcel.private_key.expose_secret()), "{failure}");
    }
    bench.set_hook_for("GET", |_| Action::Cut);
    let failure = bench.failure(&parcel, None).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("GET /certificates got no answer"), "{failure}");
    bench.set_hook_for("GET", |_| Action::Respond(200, HeaderMap::new(), Bytes::from_static(b"<html>")));
    let failure = bench.failure(&parcel, None).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("cannot be read"), "{failure}");
    let endless = Bytes::from(vec![b' '; 33 << 20]);
    bench.set_hook_for("GET", move |_| Action::Respond(200, HeaderMap::new(), endless.clone()));
    let failure = bench.failure(&parcel, None).await;
    assert!(failure.message.contains("is longer than 32 MiB"), "{failure}");
    let endless = Bytes::from(vec![b'x'; 1 << 20]);
    bench.set_hook_for("GET", move |_| Action::Respond(418, HeaderMap::new(), endless.clone()));
    let failure = bench.failure(&parcel, None).await;
    assert!(failure.message.contains("status 418; correct"), "{failure}");
    assert!(bench.uploads().await.is_empty());
}

/// The proxy of the environment would be given token and key, so a copy of this program runs with one that nobody answers.
#[test]
fn what_is_not_encrypted_goes_through_no_proxy() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "certificate_manager::a_service_on_this_machine_is_asked_directly"]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &address);
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").timed_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was asked");
}

#[tokio::test]
#[ignore = "the test above runs it with a proxy in its environment"]
async fn a_service_on_this_machine_is_asked_directly() {
    let router = axum::Router::new().fallback(|| async { axum::http::StatusCode::IM_A_TEAPOT });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "a-token").unwrap();
    let delivery = CertificateManagerDelivery::new(&entry(&endpoint, &token_file, "5s"), clock()).unwrap();
    let failure = delivery.deliver(&payload("www"), None).await.unwrap_err();
    assert!(failure.message.contains("status 418"), "{failure}");
}

#[tokio::test]
async fn the_token_is_read_anew_each_time() {
    let bench = Fixture::start().await;
    let parcel = payload("www");
    fs::write(bench.token_file(), "wrong-secret").unwrap();
    let failure = bench.failure(&parcel, None).await;
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(
        failure.message.contains("status 401 (paas-auth-1") && failure.message.contains("write a token"),
        "{failure}"
    );
    assert!(!failure.message.contains("wrong-secret"), "{failure}");
    for content in ["", "hunter2\nlines", "NAME=hunter2", "hunter2 words"] {
        fs::write(bench.token_file(), content).unwrap();
        let failure = bench.failure(&parcel, None).await;
        assert_eq!(failure.disposition, Disposition::RETRY, "{failure}");
        let file = bench.token_file().display().to_string();
        assert!(failure.message.contains(&file) && failure.message.contains("it is read again"), "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
    fs::remove_file(bench.token_file()).unwrap();
    let failure = bench.failure(&parcel, None).await;
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("certificate_manager.token_file"), "{failure}");

    // As it is copied from a terminal or from a header.
    fs::write(bench.token_file(), format!("\u{feff}Bearer \"{}\"\r\n", bench.daemon.api.token)).unwrap();
    bench.deliver(&parcel, None).await;
}

#[test]
fn an_address_that_would_show_the_token_is_refused() {
    for endpoint in ["http://certificate-manager.example.com", "certificate-manager.example.com", "ftp://127.0.0.1"] {
        let error = CertificateManagerDelivery::new(&entry(endpoint, Path::new("token"), "30s"), clock()).unwrap_err();
        let failure = Failure::from_error(&error, Disposition::Operator).message;
        assert!(
            failure.contains("certificate_manager.endpoint cannot be used: ") && failure.contains(endpoint),
            "{failure}"
        );
    }
    CertificateManagerDelivery::new(
        &entry("https://certificate-manager.example.com", Path::new("token"), "30s"),
        clock(),
    )
    .unwrap();
}
