//! Providers and their accounts.

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::provider::AccountNote;
use autocertd::store::{CreationOutcome, DeletionOutcome, LeaseState, Page, ProviderUsers, StoreError};
use secrecy::{ExposeSecret, SecretString};
use time::Duration;

use crate::fixture::{ALL, EAB_SECRET, Fixture, actor, name, new_auto_certificate, new_provider, on_both};

on_both! {
    a_provider_reads_back_as_it_was_given
    a_provider_in_use_stays_and_names_its_users
    of_a_deletion_and_a_new_user_only_one_succeeds
    an_account_is_kept_step_by_step
    a_new_key_waits_beside_the_old_one
    an_account_that_ends_leaves_a_note
    an_adopted_account_takes_the_place_of_all_before_it
    a_provider_is_found_by_id_and_name
    without_the_lease_no_account_is_written
    accounts_are_due_until_they_are_registered
}

async fn a_provider_reads_back_as_it_was_given(house: Fixture) {
    let created = house.provider().await;
    house.turn(Duration::seconds(1));
    let second = house.store.create_provider(&new_provider("second"), &actor()).await.unwrap();

    let read = house.store.provider(created.id).await.unwrap().unwrap();
    assert_eq!((read.name.as_str(), read.email.as_str()), ("a CA", "ops@example.com"));
    assert_eq!(read.server.as_str(), "https://ca.example/directory");
    assert_eq!(read.external_account_key_id.as_deref(), Some("kid-1"));
    assert_eq!(read.audit, created.audit);

    let listed = house.store.providers(Page { offset: 0, limit: 1 }).await.unwrap();
    assert_eq!((listed.items[0].id, listed.items.len(), listed.has_more), (created.id, 1, true));
    let rest = house.store.providers(Page { offset: 1, limit: 1 }).await.unwrap();
    assert_eq!((rest.items[0].id, rest.has_more), (second.id, false));

    let renamed = house.store.rename_provider(created.id, &name("other"), &actor()).await.unwrap().unwrap();
    assert_eq!((renamed.name.as_str(), renamed.audit.modified), ("other", house.now()));
    assert_eq!(renamed.audit.created, created.audit.created);

    assert_eq!(house.store.delete_provider(created.id).await.unwrap(), DeletionOutcome::Deleted);
    assert_eq!(house.store.delete_provider(created.id).await.unwrap(), DeletionOutcome::Missing);
    assert!(house.store.provider(created.id).await.unwrap().is_none());
    assert!(house.store.rename_provider(created.id, &name("x"), &actor()).await.unwrap().is_none());
}

async fn a_provider_in_use_stays_and_names_its_users(house: Fixture) {
    let provider = house.provider().await;
    let user = house.auto_certificate(provider.id, "www.example.com").await;
    let claim = house.claim(user.id).await;
    assert_eq!(
        house.store.delete_provider(provider.id).await.unwrap(),
        DeletionOutcome::InUse(ProviderUsers { first: vec![(user.id, user.name.clone())], has_more: false })
    );
    assert!(house.store.provider(provider.id).await.unwrap().is_some());

    assert!(house.store.delete_auto_certificate(user.id).await.unwrap());
    assert_eq!(house.store.delete_provider(provider.id).await.unwrap(), DeletionOutcome::Deleted);
    // What still cleans up goes on without its provider.
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Deleted);
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
}

async fn of_a_deletion_and_a_new_user_only_one_succeeds(house: Fixture) {
    for round in 0..10 {
        let provider = house.provider().await;
        let new = new_auto_certificate(provider.id, &format!("r{round}.example.com"));
        let maker = actor();
        let (created, deleted) = tokio::join!(
            house.store.create_auto_certificate(&new, &maker, 1_000),
            house.store.delete_provider(provider.id)
        );
        match (created.unwrap(), deleted.unwrap()) {
            (CreationOutcome::Created(_), DeletionOutcome::InUse(users)) => assert_eq!(users.first.len(), 1),
            (CreationOutcome::UnknownProvider, DeletionOutcome::Deleted) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn an_account_is_kept_step_by_step(house: Fixture) {
    let provider = house.provider().await;
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    let account = house.store.account(provider.id).await.unwrap().unwrap();
    assert!(account.registered.is_none() && account.pending.is_none());
    let external = account.external_account.unwrap();
    assert_eq!((external.key_id.as_str(), external.key_secret.expose_secret()), ("kid-1", EAB_SECRET));

    let trouble = FailureStreak::after(None, Failure::operator("EAB refused"), house.now(), None, 0.5);
    house.store.record_account_failure_streak(&lease, &trouble).await.unwrap();
    assert_eq!(house.store.provider(provider.id).await.unwrap().unwrap().failure_streak, Some(trouble));

    let credentials = SecretString::from("the account's key");
    house.store.store_pending_account(&lease, &credentials).await.unwrap();
    let pending = house.store.account(provider.id).await.unwrap().unwrap().pending.unwrap();
    assert_eq!(pending.expose_secret(), credentials.expose_secret());

    house.store.store_account(&lease, "https://ca.example/acct/1", &credentials).await.unwrap();
    let account = house.store.account(provider.id).await.unwrap().unwrap();
    let registered = account.registered.unwrap();
    assert_eq!(registered.url, "https://ca.example/acct/1");
    assert_eq!(registered.credentials.expose_secret(), credentials.expose_secret());
    assert!(account.pending.is_none());
    let provider = house.store.provider(provider.id).await.unwrap().unwrap();
    assert_eq!((provider.account_url.as_deref(), provider.failure_streak), (Some("https://ca.example/acct/1"), None));
}

async fn a_new_key_waits_beside_the_old_one(house: Fixture) {
    let provider = house.provider().await;
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    let (old, new) = (SecretString::from("the old key"), SecretString::from("the new key"));
    let keys = async || {
        let account = house.store.account(provider.id).await.unwrap().unwrap();
        let text = |secret: SecretString| secret.expose_secret().to_owned();
        (account.registered.map(|registered| text(registered.credentials)), account.key_change.map(text))
    };
    house.store.store_account(&lease, "https://ca.example/acct/1", &old).await.unwrap();
    house.store.store_key_change(&lease, &new).await.unwrap();
    assert_eq!(keys().await, (Some("the old key".to_owned()), Some("the new key".to_owned())));
    let trouble = FailureStreak::after(None, Failure::retry("the CA is silent"), house.now(), None, 0.5);
    house.store.record_account_failure_streak(&lease, &trouble).await.unwrap();
    house.store.forget_key_change(&lease).await.unwrap();
    assert_eq!(keys().await, (Some("the old key".to_owned()), None));
    assert_eq!(house.store.provider(provider.id).await.unwrap().unwrap().failure_streak, None);

    house.store.store_key_change(&lease, &new).await.unwrap();
    house.store.record_account_failure_streak(&lease, &trouble).await.unwrap();
    house.store.replace_key(&lease, &new).await.unwrap();
    assert_eq!(keys().await, (Some("the new key".to_owned()), None));
    let provider = house.store.provider(provider.id).await.unwrap().unwrap();
    assert_eq!((provider.account_url.as_deref(), provider.failure_streak), (Some("https://ca.example/acct/1"), None));
    house.store.release_provider(&lease).await.unwrap();
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);
}

async fn an_account_that_ends_leaves_a_note(house: Fixture) {
    let provider = house.provider().await;
    let account = || "https://ca.example/acct/1".to_owned();
    let notes = [
        (AccountNote::Lost { account: account(), at: house.now() }, Some(house.now())),
        (AccountNote::Deactivated { account: account(), at: house.now() }, None),
    ];
    for (note, next_look) in notes {
        let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
        house.store.store_account(&lease, &account(), &SecretString::from("a key")).await.unwrap();
        house.store.store_key_change(&lease, &SecretString::from("another")).await.unwrap();
        house.store.forget_account(&lease, &note, next_look).await.unwrap();
        house.store.release_provider(&lease).await.unwrap();
        let forgotten = house.store.account(provider.id).await.unwrap().unwrap();
        assert!(forgotten.registered.is_none() && forgotten.key_change.is_none());
        assert_eq!(forgotten.note, Some(note.clone()));
        assert_eq!(house.store.provider(provider.id).await.unwrap().unwrap().account_note, Some(note));
        assert_eq!(house.store.earliest_provider_check().await.unwrap(), next_look);
    }
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    house.store.store_account_note(&lease, None).await.unwrap();
    assert_eq!(house.store.account(provider.id).await.unwrap().unwrap().note, None);
}

async fn an_adopted_account_takes_the_place_of_all_before_it(house: Fixture) {
    let provider = house.provider().await;
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    let note = AccountNote::Deactivated { account: "https://ca.example/acct/1".to_owned(), at: house.now() };
    house.store.forget_account(&lease, &note, None).await.unwrap();
    let secret = SecretString::from("a key");
    house.store.store_pending_account(&lease, &secret).await.unwrap();
    house.store.store_key_change(&lease, &secret).await.unwrap();
    house.store.adopt_account(&lease, "https://ca.example/acct/2", &secret).await.unwrap();
    let account = house.store.account(provider.id).await.unwrap().unwrap();
    assert_eq!(account.registered.unwrap().url, "https://ca.example/acct/2");
    assert!(account.pending.is_none() && account.key_change.is_none() && account.note.is_none());
}

async fn a_provider_is_found_by_id_and_name(house: Fixture) {
    let (one, other) = (house.provider().await, house.provider().await);
    let found = async |text: &str| {
        let found = house.store.matching_providers(text).await.unwrap();
        found.into_iter().map(|provider| provider.id).collect::<Vec<_>>()
    };
    assert_eq!(found(&one.id.to_string()).await, [one.id]);
    assert_eq!(found(&one.id.to_string().to_uppercase()).await, [one.id]);
    let mut both = found("a CA").await;
    both.sort_unstable();
    let mut expected = [one.id, other.id];
    expected.sort_unstable();
    assert_eq!(both, expected);
    assert!(found("another CA").await.is_empty());
    let user = house.auto_certificate(one.id, "www.example.com").await;
    assert_eq!(house.store.users_of_provider(one.id).await.unwrap(), [(user.id, user.name)]);
    assert!(house.store.users_of_provider(other.id).await.unwrap().is_empty());
}

async fn without_the_lease_no_account_is_written(house: Fixture) {
    let provider = house.provider().await;
    let stale = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    house.store.release_provider(&stale).await.unwrap();
    let current = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    assert!(current.epoch > stale.epoch);

    let secret = SecretString::from("late");
    let trouble = FailureStreak::after(None, Failure::retry("late"), house.now(), None, 0.5);
    assert!(matches!(house.store.store_pending_account(&stale, &secret).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.store_account(&stale, "url", &secret).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.adopt_account(&stale, "url", &secret).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.store_key_change(&stale, &secret).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.forget_key_change(&stale).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.replace_key(&stale, &secret).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.store_account_note(&stale, None).await, Err(StoreError::LostLease)));
    let note = AccountNote::Lost { account: "url".to_owned(), at: house.now() };
    assert!(matches!(house.store.forget_account(&stale, &note, None).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.record_account_failure_streak(&stale, &trouble).await, Err(StoreError::LostLease)));
    assert!(matches!(house.store.release_provider(&stale).await, Err(StoreError::LostLease)));
    assert_eq!(house.store.renew_provider_lease(&stale).await.unwrap(), LeaseState::Lost);
    assert_eq!(house.store.renew_provider_lease(&current).await.unwrap(), LeaseState::Held);

    house.store.delete_provider(provider.id).await.unwrap();
    assert_eq!(house.store.renew_provider_lease(&current).await.unwrap(), LeaseState::Lost);
    assert!(house.store.account(provider.id).await.unwrap().is_none());
}

async fn accounts_are_due_until_they_are_registered(house: Fixture) {
    let provider = house.provider().await;
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(house.now()));
    let claimed = house.store.claim_due_providers(house.now(), 10).await.unwrap();
    assert_eq!(claimed.iter().map(|lease| lease.id).collect::<Vec<_>>(), [provider.id]);
    assert!(house.store.claim_due_providers(house.now(), 10).await.unwrap().is_empty());
    assert!(house.store.claim_provider(provider.id).await.unwrap().is_none());
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);

    let trouble = FailureStreak::after(None, Failure::retry("down"), house.now(), None, 0.5);
    house.store.record_account_failure_streak(&claimed[0], &trouble).await.unwrap();
    house.store.release_provider(&claimed[0]).await.unwrap();
    assert!(house.store.claim_due_providers(house.now(), 10).await.unwrap().is_empty());
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(trouble.next_try));

    let claimed = house.store.claim_due_providers(trouble.next_try, 10).await.unwrap();
    house.store.store_account(&claimed[0], "https://ca.example/acct/1", &SecretString::from("k")).await.unwrap();
    house.store.release_provider(&claimed[0]).await.unwrap();
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);
    assert_eq!(house.store.providers(ALL).await.unwrap().items.len(), 1);
}
