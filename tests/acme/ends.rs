//! Accounts that end: those that the CA no longer knows, and those that a person has deactivated.

use autocertd::domain::declared::{DeclaredKey, DeclaredProvider, DeclaredResources};
use autocertd::domain::failure::disposition::Disposition;
use autocertd::domain::provider::{AccountNote, NewProvider};
use autocertd::domain::report::state;
use autocertd::issuance::AttemptError;
use autocertd_support::fault_proxy::Action;
use http::StatusCode;
use time::Duration;

use crate::fixture::Fixture;
use crate::registrar_fixture::RegistrarFixture;

#[tokio::test]
async fn an_account_that_the_ca_no_longer_knows_is_replaced_loudly_and_not_over_and_over() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let lost = registry.credentials().await;
    registry.refuse("key-change", 400, "accountDoesNotExist");
    let stop = registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert!(stop.to_string().contains("(accountDoesNotExist)"), "{stop}");

    let provider = registry.provider().await;
    let new = provider.account_url.clone().unwrap();
    assert_ne!(new, lost.account_url());
    assert!(matches!(&provider.account_note, Some(AccountNote::Lost { account, .. }) if account == lost.account_url()));
    let report = state::provider_state(&provider);
    assert_eq!(report.state, state::ResourceState::Available);
    for words in [lost.account_url(), new.as_str(), "CAA", "RFC 8657"] {
        assert!(report.message.contains(words), "{}", report.message);
    }
    assert_eq!(registry.stage.proxy.count("new-account"), 2);
    assert!(registry.can_order(&registry.credentials().await).await);

    registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert_eq!(registry.stage.proxy.count("new-account"), 2, "a CA that forgets all accounts is not flooded");
    assert_eq!(registry.provider().await.account_url, Some(new.clone()));
    registry.clock.turn(Duration::hours(2));
    registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert_ne!(registry.provider().await.account_url, Some(new));

    registry.pass();
    registry.registrar.register_on_request(registry.provider).await.unwrap();
    assert_eq!(registry.provider().await.account_note, None, "a person has read it");
    assert_eq!(registry.stage.proxy.count("new-account"), 3, "and nothing was to be registered");
}

#[tokio::test]
async fn what_a_server_in_trouble_registered_is_found_by_its_key() {
    let registry = RegistrarFixture::new(Fixture::start_trusting().await).await;
    for (status, kept) in [(StatusCode::FORBIDDEN, false), (StatusCode::BAD_GATEWAY, true)] {
        registry.meet("new-account", move || Action::Alter(Box::new(move |answer| *answer.status_mut() = status)));
        registry.registrar.register_on_request(registry.provider).await.unwrap_err();
        assert_eq!(registry.account().await.pending.is_some(), kept, "{status}");
    }
    let pending = registry.account().await.pending.unwrap();
    registry.pass();
    let url = registry.registrar.register_on_request(registry.provider).await.unwrap();
    let found = registry.stage.client.recover_registration(&registry.stage.server(), &pending).await.unwrap();
    assert_eq!(found.unwrap().account_url(), url);
}

#[tokio::test]
async fn no_other_problem_costs_the_account() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let url = registry.provider().await.account_url;
    for (status, problem) in [(401, "unauthorized"), (403, "unauthorized"), (400, "malformed"), (404, "malformed")] {
        registry.refuse("key-change", status, problem);
        let AttemptError::Failed(failure) = registry.registrar.roll_over(registry.provider).await.unwrap_err() else {
            panic!("{problem} is no loss");
        };
        assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    }
    let provider = registry.provider().await;
    assert_eq!((provider.account_url, provider.account_note), (url, None));
    assert_eq!(registry.stage.proxy.count("new-account"), 1);
}

#[tokio::test]
async fn a_deactivated_account_is_used_no_more_and_nothing_takes_its_place_silently() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    let url = registry.registrar.deactivate(registry.provider).await.unwrap();
    assert_eq!(url, old.account_url());
    assert!(!registry.can_order(&old).await);
    let provider = registry.provider().await;
    assert_eq!(provider.account_url, None);
    let report = state::provider_state(&provider);
    assert!(report.state == state::ResourceState::Failed && report.message.contains(&url), "{report:?}");

    assert_eq!(registry.store.earliest_provider_check().await.unwrap(), None);
    let lease = registry.lease().await;
    let stop = registry.registrar.register(&lease).await.unwrap_err();
    assert!(stop.to_string().contains("account register"), "{stop}");
    let stop = registry.registrar.deactivate(registry.provider).await.unwrap_err();
    assert!(stop.to_string().contains("has no ACME account"), "{stop}");
    assert_eq!(registry.stage.proxy.count("new-account"), 1);

    let other = registry.registrar.register_on_request(registry.provider).await.unwrap();
    assert_ne!(other, url);
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn the_account_of_a_fallback_is_not_deactivated() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let fallback = registry.provider().await;
    let declare = |key: &str, fallbacks: Vec<DeclaredKey>| DeclaredProvider {
        key: key.parse().unwrap(),
        provider: NewProvider {
            name: key.parse().unwrap(),
            email: fallback.email.clone(),
            server: registry.stage.server(),
            external_account: None,
            profile: None,
        },
        fallbacks,
        staging: None,
    };
    let usual = declare("usual", vec!["second".parse().unwrap()]);
    let declared = DeclaredResources {
        instance: "here".to_owned(),
        prune: false,
        complete: true,
        providers: vec![usual, declare("second", Vec::new())],
        auto_certificates: Vec::new(),
    };
    registry.store.reconcile(&declared).await.unwrap();
    let second = registry.store.matching_providers("second").await.unwrap()[0].id;
    registry.registrar.register_on_request(second).await.unwrap();
    let stop = registry.registrar.deactivate(second).await.unwrap_err();
    assert!(stop.to_string().contains("fall back on the provider: usual ("), "{stop}");
    registry.registrar.deactivate(registry.provider).await.unwrap();
    assert_eq!(registry.stage.proxy.count("account"), 1);
}

#[tokio::test]
async fn a_deactivation_that_the_ca_refuses_is_no_deactivation() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    // instant-acme passes the last of these for done.
    for problem in ["unauthorized", "badNonce"] {
        registry.refuse("account", 400, problem);
        registry.registrar.deactivate(registry.provider).await.unwrap_err();
        assert_eq!(registry.provider().await.account_note, None, "{problem}");
    }
    registry.pass();
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn a_deactivation_whose_answer_is_lost_can_be_asked_for_again() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    registry.meet("account", || Action::KillAfter(Box::new(|| {})));
    registry.registrar.deactivate(registry.provider).await.unwrap_err();
    let provider = registry.provider().await;
    assert!(provider.account_url.is_some() && provider.account_note.is_some(), "it may be deactivated");
    let stop = registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert!(stop.to_string().contains("was deactivated"), "{stop}");

    registry.pass();
    registry.registrar.deactivate(registry.provider).await.unwrap();
    assert_eq!(registry.provider().await.account_url, None);
}

#[tokio::test]
async fn a_deactivation_without_an_answer_comes_to_its_end_before_another_account_is_registered() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    registry.meet("account", || Action::KillAfter(Box::new(|| {})));
    registry.registrar.deactivate(registry.provider).await.unwrap_err();
    registry.meet("account", || Action::Cut);
    registry.registrar.register_on_request(registry.provider).await.unwrap_err();
    assert!(registry.provider().await.is_deactivated(), "nothing is known, and nothing is forgotten");

    registry.pass();
    let url = registry.registrar.register_on_request(registry.provider).await.unwrap();
    assert_ne!(url, old.account_url());
    assert_eq!(registry.provider().await.account_note, None);
    assert!(registry.can_order(&registry.credentials().await).await);
}
