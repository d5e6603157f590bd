//! From a wish to a stored certificate, in all the ways in which names, keys and CAs come.

use autocertd_support::pebble::PebbleOptions;
use serde_json::json;

use crate::fixture::{Fixture, KEY_ID, KEY_SECRET, auto_certificate, id_of, newest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tutorial_with_external_account_binding_a_wildcard_and_its_apex() {
    let world = Fixture::with_binding().await;
    world.dns.add_zone("shop.example");
    let daemon = world.daemon().await;
    let binding = json!({ "keyId": KEY_ID, "keySecret": KEY_SECRET });
    let provider = daemon
        .api
        .create("/providers", json!({ "name": "Pebble", "email": "ops@example.com", "server": world.directory(), "externalAccountBinding": binding }))
        .await
        .unwrap();
    assert_eq!(provider["properties"]["externalAccountBinding"], json!({ "keyId": KEY_ID }));

    let names = ["www.shop.example", "*.shop.example", "shop.example"];
    let path = auto_certificate(&daemon, &id_of(&provider), "secp256r1", &names).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let certificate = newest(&daemon, &auto).await;
    let mut covered: Vec<&str> = certificate["metadata"]["subjectAlternativeNames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    covered.sort_unstable();
    assert_eq!(covered, ["*.shop.example", "shop.example"], "the wildcard covers www, so the order left it out");
    assert_eq!(certificate["metadata"]["commonName"], "www.shop.example");
    assert_eq!(certificate["metadata"]["autoCertificate"], auto["id"]);
    assert_eq!(auto["properties"]["subjectAlternativeNames"], json!(["*.shop.example", "shop.example"]));
    assert_eq!(world.acme.count("new-order"), 1);
    assert_eq!(world.acme.count("new-account"), 1);

    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
    let provider = daemon.api.get(provider["href"].as_str().unwrap()).await.unwrap();
    assert_eq!(provider["metadata"]["state"], "AVAILABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_algorithm() {
    let world = Fixture::start().await;
    world.dns.add_zone("keys.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let mut wanted = Vec::new();
    for algorithm in ["rsa2048", "rsa3072", "rsa4096", "secp256r1", "secp384r1"] {
        let name = format!("{algorithm}.keys.example");
        wanted.push((algorithm, auto_certificate(&daemon, &provider, algorithm, &[&name]).await));
    }
    for (algorithm, path) in wanted {
        let auto = daemon.api.wait_until_available(&path).await.unwrap();
        let certificate = newest(&daemon, &auto).await;
        let pem = certificate["properties"]["certificate"].as_str().unwrap();
        assert_eq!(key_kind(pem), algorithm);
    }
    assert_eq!(world.acme.count("finalize"), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_refuses_every_second_nonce() {
    let world = Fixture::with(PebbleOptions { nonce_reject: 50, ..PebbleOptions::default() }).await;
    world.dns.add_zone("nonce.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.nonce.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    newest(&daemon, &auto).await;
    let signed = world.acme.requests().iter().filter(|request| request.method == "POST").count();
    assert!(signed > LEAST_SIGNED_REQUESTS, "with {signed} signed requests no nonce was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorizations_that_are_valid_already_need_no_record() {
    let world = Fixture::with(PebbleOptions { authz_reuse: 100, ..PebbleOptions::default() }).await;
    world.dns.add_zone("reuse.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    for name in ["first", "second"] {
        let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.reuse.example"]).await;
        daemon.api.wait_until_available(&path).await.unwrap_or_else(|error| panic!("the {name} one: {error}"));
    }
    assert_eq!(world.acme.count("finalize"), 2);
    assert_eq!(world.acme.count("challenge"), 1, "the second order found its authorization valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_three() {
    let world = Fixture::with(PebbleOptions { chain_length: 3, ..PebbleOptions::default() }).await;
    world.dns.add_zone("chain.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.chain.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let certificate = newest(&daemon, &auto).await;
    let count =
        |property: &str| certificate["properties"][property].as_str().unwrap().matches("BEGIN CERTIFICATE").count();
    assert_eq!((count("certificate"), count("certificateChain")), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_international_name_is_ordered_as_its_a_label_and_echoed_as_it_was_sent() {
    let world = Fixture::start().await;
    world.dns.add_zone("xn--bcher-kva.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["Bücher.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    assert_eq!(auto["properties"]["commonName"], "Bücher.example");
    let certificate = newest(&daemon, &auto).await;
    assert_eq!(certificate["metadata"]["subjectAlternativeNames"], json!(["xn--bcher-kva.example"]));
}

/// The key algorithm of a certificate, under the API's name for it.
fn key_kind(pem: &str) -> String {
    use x509_parser::pem::parse_x509_pem;
    use x509_parser::public_key::PublicKey;

    let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
    let certificate = block.parse_x509().unwrap();
    match certificate.public_key().parsed().unwrap() {
        PublicKey::RSA(key) => format!("rsa{}", key.key_size()),
        PublicKey::EC(point) if point.key_size() == 256 => "secp256r1".to_owned(),
        PublicKey::EC(point) if point.key_size() == 384 => "secp384r1".to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Account, order, authorization, challenge, a look at the order, finalize, certificate.
const LEAST_SIGNED_REQUESTS: usize = 7;
