//! What a CA says of itself in its directory: the profiles that it offers, and its names in CAA records.

use autocertd::acme::{AcmeError, NewOrder};
use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::fault_proxy::Action;
use autocertd_support::pebble::PebbleOptions;
use x509_parser::pem::parse_x509_pem;

use crate::fixture::{Fixture, complete, names};

async fn with_profiles() -> Fixture {
    let more_profiles = [("shortlived".to_owned(), 160 * 3_600), ("classic".to_owned(), 90 * 86_400)].into();
    Fixture::start(PebbleOptions { always_valid: true, more_profiles, ..PebbleOptions::default() }).await
}

/// Seconds of validity of the leaf.
fn lifetime(chain: &str) -> i64 {
    let (_, leaf) = parse_x509_pem(chain.as_bytes()).unwrap();
    let validity = leaf.parse_x509().unwrap().validity().clone();
    validity.not_after.timestamp() - validity.not_before.timestamp()
}

#[tokio::test]
async fn an_order_by_a_profile_gets_what_the_profile_stands_for() {
    let stage = with_profiles().await;
    let account = stage.account().await;
    assert_eq!(account.profiles().await.unwrap(), ["classic", "default", "shortlived"]);
    let names = names(&["example.com"]);
    for (profile, hours) in [("shortlived", 160), ("classic", 90 * 24)] {
        let profile = profile.parse().unwrap();
        let mut order =
            account.new_order(NewOrder { names: &names, profile: Some(&profile), replaces: None }).await.unwrap();
        let lifetime = lifetime(&complete(&mut order, &names).await.unwrap());
        assert!((lifetime - hours * 3_600).abs() <= 1, "{profile}: {lifetime} s");
    }
}

#[tokio::test]
async fn a_profile_that_is_not_offered_costs_no_order() {
    let stage = with_profiles().await;
    let account = stage.account().await;
    let (names, profile) = (names(&["example.com"]), "tlsserver".parse().unwrap());
    let error =
        account.new_order(NewOrder { names: &names, profile: Some(&profile), replaces: None }).await.err().unwrap();
    assert!(matches!(error, AcmeError::ProfileNotOffered { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Operator);
    let words = "the CA offers no profile `tlsserver`; it offers classic, default, shortlived";
    assert!(error.to_string().starts_with(words), "{error}");
    assert_eq!(stage.proxy.count("new-order"), 0);
}

#[tokio::test]
async fn the_names_in_caa_records_are_those_of_the_directory() {
    let stage = with_profiles().await;
    assert_eq!(stage.client.caa_identities(&stage.server()).await.unwrap(), ["pebble.letsencrypt.org"]);
    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "directory" => Action::Respond(
            200,
            http::HeaderMap::new(),
            r#"{"newNonce": "https://ca.example/n", "newAccount": "https://ca.example/a",
                "newOrder": "https://ca.example/o", "meta": {"caaIdentities": ["ca.example", "ca.test"]}}"#
                .into(),
        ),
        _ => Action::Pass,
    }));
    let fresh = stage.client_with(|_| {});
    assert_eq!(fresh.caa_identities(&stage.server()).await.unwrap(), ["ca.example", "ca.test"]);
    assert!(fresh.profiles(&stage.server()).await.unwrap().is_empty());
}
