//! What a CA or a DNS refuses, and how the API shows it.

use autocertd_support::timed::Timed;
use std::sync::atomic::{AtomicBool, Ordering};

use autocertd_support::fault_proxy::Action;
use autocertd_support::pebble::PebbleOptions;
use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::json;

use crate::fixture::{Fixture, KEY_SECRET, auto_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_external_account_turns_the_provider_failed_in_the_cas_own_words() {
    let world = Fixture::with_binding().await;
    let daemon = world.daemon().await;
    let binding = json!({ "keyId": "somebody-else", "keySecret": KEY_SECRET });
    let properties = json!({ "name": "Pebble", "email": "ops@example.com", "server": world.directory(), "externalAccountBinding": binding });
    let provider = daemon.api.create("/providers", properties).await.unwrap();
    let path = provider["href"].as_str().unwrap();
    let failed = daemon.api.wait_until(path, |seen| seen["metadata"]["state"] == "FAILED").await.unwrap();
    let message = failed["metadata"]["message"].as_str().unwrap();
    assert!(message.contains("references a key that is not known to the ACME server"), "{message}");
    assert!(!message.contains(KEY_SECRET), "{message}");
    daemon.api.delete(path).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_that_nobody_accepted_are_refused_with_the_line_to_set() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let settings = std::fs::read_to_string(setup.write_settings().unwrap()).unwrap();
    let path = world.folder.path().join("no-terms.toml");
    std::fs::write(&path, settings.replace("accept_terms_of_service = true", "")).unwrap();
    let daemon = autocertd_support::daemon::Daemon::start_with(&setup, &path).await.unwrap();
    let provider = format!("/providers/{}", world.provider(&daemon).await);
    let failed = daemon.api.wait_until(&provider, |seen| seen["metadata"]["state"] == "FAILED").await.unwrap();
    let message = failed["metadata"]["message"].as_str().unwrap();
    assert!(message.contains("accept_terms_of_service"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_ca_leaves_the_provider_available_with_a_message() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    let properties =
        json!({ "name": "Nowhere", "email": "ops@example.com", "server": "https://127.0.0.1:9/directory" });
    let provider = daemon.api.create("/providers", properties).await.unwrap();
    let path = provider["href"].as_str().unwrap();
    let told =
        daemon.api.wait_until(path, |seen| seen["metadata"]["message"].as_str().unwrap().contains("next try")).await;
    assert_eq!(told.unwrap()["metadata"]["state"], "AVAILABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_zone_serves_costs_no_order_and_says_so() {
    let world = Fixture::start().await;
    world.dns.add_zone("served.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.elsewhere.example"]).await;
    let told = daemon
        .api
        .wait_until(&path, |seen| seen["metadata"]["message"].as_str().unwrap().contains("elsewhere.example"))
        .await
        .unwrap();
    assert_eq!(told["metadata"]["state"], "PROVISIONING", "the zone may be on its way: {told:#}");
    assert_eq!(world.acme.count("new-order"), 0);

    world.dns.add_zone("elsewhere.example");
    let output = world.setup().command(&["--renew-now", "www.elsewhere.example"]).unwrap().timed_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    daemon.api.wait_until_available(&path).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_the_ca_blocks_asks_for_a_person() {
    let options = PebbleOptions { blocked_names: vec!["blocked.example".to_owned()], ..PebbleOptions::default() };
    let world = Fixture::with(options).await;
    world.dns.add_zone("blocked.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.blocked.example"]).await;
    let failed = daemon.api.wait_until(&path, |seen| seen["metadata"]["state"] == "FAILED").await.unwrap();
    let message = failed["metadata"]["message"].as_str().unwrap();
    assert!(message.contains("blocked.example"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_while_an_order_runs_abandons_it_and_removes_its_records() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("gone.example");
    world.dns.delay_records_in_dns(std::time::Duration::from_mins(1));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.gone.example"]).await;
    daemon.api.wait_until(&path, |_| !world.dns.records(&zone).is_empty()).await.unwrap();

    daemon.api.delete(&path).await.unwrap();
    let (status, _) = daemon.api.send(reqwest::Method::GET, &path, None).await.unwrap();
    assert_eq!(status, 404);
    daemon.api.delete(&format!("/providers/{provider}")).await.unwrap();
    daemon.api.wait_until("/auto-certificates", |_| world.challenge_records().is_empty()).await.unwrap();
    assert_eq!(world.acme.count("finalize"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_stumbles_at_the_answer_finds_the_records_still_there_at_the_next_try() {
    let world = Fixture::start().await;
    world.dns.add_zone("stumble.example");
    world.acme.set_hook(Box::new({
        let stumbled = AtomicBool::new(false);
        move |request| {
            if request.kind == "challenge" && !stumbled.swap(true, Ordering::SeqCst) {
                return Action::Respond(503, HeaderMap::new(), Bytes::from_static(b"come back later"));
            }
            Action::Pass
        }
    }));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["stumble.example", "*.stumble.example"]).await;
    let told = daemon
        .api
        .wait_until(&path, |seen| seen["metadata"]["message"].as_str().unwrap().contains("503"))
        .await
        .unwrap();
    assert_eq!(told["metadata"]["state"], "PROVISIONING", "{told:#}");
    assert_eq!(world.challenge_records().len(), 2, "the CA may be looking at them");

    let output = world.setup().command(&["--renew-now", "stumble.example"]).unwrap().timed_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((world.acme.count("new-order"), world.acme.count("finalize")), (1, 1));
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
}
