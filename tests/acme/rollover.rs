//! The change of an account's key, through whatever breaks on the way.

use autocertd::acme::AccountCredentials;
use autocertd::issuance::AttemptError;
use autocertd_support::fault_proxy::Action;
use autocertd_support::pebble::PebbleOptions;
use http::HeaderMap;
use secrecy::ExposeSecret;

use crate::fixture::Fixture;
use crate::registrar_fixture::RegistrarFixture;

#[tokio::test]
async fn orders_go_on_with_the_new_key_and_not_with_the_old() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    assert!(registry.can_order(&old).await);
    let url = registry.registrar.roll_over(registry.provider).await.unwrap();
    let new = registry.credentials().await;
    assert_eq!((url.as_str(), new.account_url()), (old.account_url(), old.account_url()));
    assert_ne!(new.as_json().expose_secret(), old.as_json().expose_secret());
    assert!(registry.can_order(&new).await);
    assert!(!registry.can_order(&old).await);
    assert!(registry.account().await.key_change.is_none());

    registry.registrar.roll_over(registry.provider).await.unwrap();
    assert!(registry.can_order(&registry.credentials().await).await, "and once more");
    assert!(!registry.can_order(&new).await);
    assert_eq!(registry.stage.proxy.count("key-change"), 2);
}

#[tokio::test]
async fn a_new_key_that_never_left_is_dropped() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    registry.meet("key-change", || Action::Cut);
    let stop = registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert!(stop.to_string().contains("could not be reached"), "{stop}");
    assert!(registry.account().await.key_change.is_none());
    assert_same(&registry, &old).await;

    registry.pass();
    registry.registrar.roll_over(registry.provider).await.unwrap();
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn a_new_key_whose_answer_is_lost_is_kept() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    registry.meet("key-change", || Action::KillAfter(Box::new(|| {})));
    registry.registrar.roll_over(registry.provider).await.unwrap();
    assert_ne!(registry.credentials().await.as_json().expose_secret(), old.as_json().expose_secret());
    assert!(registry.can_order(&registry.credentials().await).await);
    assert!(registry.account().await.key_change.is_none());
}

#[tokio::test]
async fn after_a_crash_the_ca_says_which_key_the_account_has() {
    for sent in [false, true] {
        let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
        let old = registry.credentials().await;
        let lease = registry.lease().await;
        let (client, server) = (&registry.stage.client, registry.stage.server());
        let prepared = client.prepare_key_change(&server, old.account_url(), old.key().unwrap()).await.unwrap();
        let new = prepared.credentials().clone();
        registry.store.store_key_change(&lease, &new).await.unwrap();
        if sent {
            client.send_key_change(&prepared).await.unwrap();
        }
        // Here it ends; whoever comes next registers what is to be registered.
        registry.registrar.register(&lease).await.unwrap();
        let account = registry.account().await;
        assert!(account.key_change.is_none());
        let kept = account.registered.unwrap().credentials;
        let expected = if sent { &new } else { old.as_json() };
        assert_eq!(kept.expose_secret(), expected.expose_secret(), "sent: {sent}");
        assert!(registry.can_order(&AccountCredentials::from_stored(kept).unwrap()).await);
    }
}

#[tokio::test]
async fn while_the_ca_is_silent_both_keys_are_kept() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    registry.stage.proxy.set_hook(Box::new(|request| match request.kind {
        "key-change" => Action::KillAfter(Box::new(|| {})),
        "new-account" => Action::Cut,
        _ => Action::Pass,
    }));
    registry.registrar.roll_over(registry.provider).await.unwrap_err();
    let between = registry.account().await;
    assert!(between.key_change.is_some());
    assert!(registry.store.earliest_provider_check().await.unwrap().is_some(), "the daemon finds out");
    assert_eq!(between.registered.unwrap().credentials.expose_secret(), old.as_json().expose_secret());
    let lease = registry.lease().await;
    registry.registrar.register(&lease).await.unwrap_err();
    assert!(registry.provider().await.failure_streak.is_some(), "it is shown, and tried again");

    registry.pass();
    let lease = registry.lease().await;
    registry.registrar.register(&lease).await.unwrap();
    assert!(registry.account().await.key_change.is_none());
    assert_eq!(registry.provider().await.failure_streak, None);
    assert!(registry.can_order(&registry.credentials().await).await);
}

#[tokio::test]
async fn a_ca_that_changes_no_keys_is_told_by_name() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    let base = registry.stage.proxy.url();
    let directory = format!(
        r#"{{"newNonce": "{base}/nonce-plz", "newAccount": "{base}/sign-me-up", "newOrder": "{base}/order-plz"}}"#
    );
    registry.meet("directory", move || Action::Respond(200, HeaderMap::new(), directory.clone().into()));
    // A directory is fetched anew once it is older.
    registry.clock.turn(time::Duration::minutes(10));
    let stop = registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert!(stop.to_string().contains("does not change account keys"), "{stop}");
    assert!(registry.account().await.key_change.is_none());
    assert_same(&registry, &old).await;
}

#[tokio::test]
async fn a_refused_key_is_dropped_at_once() {
    let registry = RegistrarFixture::registered(Fixture::start_trusting().await).await;
    let old = registry.credentials().await;
    registry.refuse("key-change", 403, "unauthorized");
    let stop = registry.registrar.roll_over(registry.provider).await.unwrap_err();
    assert!(matches!(&stop, AttemptError::Failed(_)), "{stop:?}");
    assert!(stop.to_string().contains("refused to take the new account key"), "{stop}");
    assert!(registry.account().await.key_change.is_none());
    assert_eq!(registry.stage.proxy.count("new-account"), 1, "there is nothing to ask");
    assert_same(&registry, &old).await;
}

#[tokio::test]
async fn refused_nonces_are_replaced() {
    let stage =
        Fixture::start(PebbleOptions { nonce_reject: 50, always_valid: true, ..PebbleOptions::default() }).await;
    let registry = RegistrarFixture::registered(stage).await;
    let old = registry.credentials().await;
    for _ in 0..3 {
        registry.registrar.roll_over(registry.provider).await.unwrap();
    }
    assert_ne!(registry.credentials().await.as_json().expose_secret(), old.as_json().expose_secret());
    let lease = registry.lease().await;
    registry.registrar.register(&lease).await.unwrap();
}

async fn assert_same(registry: &RegistrarFixture, old: &AccountCredentials) {
    let present = registry.credentials().await;
    assert_eq!(present.as_json().expose_secret(), old.as_json().expose_secret());
    assert!(registry.can_order(&present).await);
}
