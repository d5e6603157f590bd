//! The rotation of the master key.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use autocertd::store::{KeyError, RotationProgress, StoreError};
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::{EAB_SECRET, Fixture, actor, new_certificate, new_provider, on_both};

on_both! {
    a_rotation_seals_everything_anew
    an_interrupted_rotation_is_finished_first
    a_running_daemon_learns_the_new_key_by_itself
    keys_that_nothing_needs_any_more_go
    two_rotations_beside_a_running_daemon_lose_nothing
    what_cannot_be_opened_stops_a_rotation
    two_rotations_do_not_run_at_once
    the_key_file_keeps_its_owner_and_mode
}

/// The ids of the keys in the file, the active one first.
fn keys(house: &Fixture) -> Vec<String> {
    let text = std::fs::read_to_string(house.key_file()).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The ids of the keys under which the providers' secrets are sealed.
async fn used(house: &Fixture) -> HashSet<String> {
    let rows = sqlx::query("SELECT eab_key_secret FROM providers").fetch_all(&house.raw).await.unwrap();
    let sealed = rows.iter().map(|row| sqlx::Row::get::<Vec<u8>, _>(row, 0));
    sealed.map(|sealed| String::from_utf8(sealed[2..2 + usize::from(sealed[1])].to_vec()).unwrap()).collect()
}

async fn a_rotation_seals_everything_anew(house: Fixture) {
    let provider = house.provider().await;
    let upload = new_certificate("mine", None, house.now(), Duration::days(90));
    let certificate = house.store.upload_certificate(&upload, &actor()).await.unwrap().id;
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    house.store.store_key_change(&lease, &"a new account key".into()).await.unwrap();
    let before = keys(&house);
    let mut steps = Vec::new();
    let resealed = house.store.rotate_master_key(|step| steps.push(step)).await.unwrap();
    assert_eq!(
        resealed,
        RotationProgress { done: 4, total: 4 },
        "two of the provider's, the certificate's and the check value"
    );
    assert_eq!(steps.last(), Some(&resealed));
    let after = keys(&house);
    assert_eq!((after.len(), &after[1]), (2, &before[0]), "the key before it stays");
    assert_eq!(used(&house).await, HashSet::from([after[0].clone()]));

    let again = house.open_again().await.unwrap();
    let account = again.account(provider.id).await.unwrap().unwrap();
    assert_eq!(account.external_account.unwrap().key_secret.expose_secret(), EAB_SECRET);
    assert_eq!(account.key_change.unwrap().expose_secret(), "a new account key");
    let key = again.certificate_private_key(certificate).await.unwrap().unwrap();
    assert_eq!(key.expose_secret(), upload.private_key.expose_secret());
}

async fn an_interrupted_rotation_is_finished_first(house: Fixture) {
    for number in 0..120 {
        house.store.create_provider(&new_provider(&format!("number {number}")), &actor()).await.unwrap();
    }
    let store = house.open_again().await.unwrap();
    let interrupted = tokio::spawn(async move { store.rotate_master_key(|_| panic!("the power fails")).await });
    assert!(interrupted.await.unwrap_err().is_panic());
    let half = keys(&house);
    assert_eq!(half.len(), 2);
    assert_eq!(used(&house).await.len(), 2, "a part is sealed anew");

    // Both keys are in the file: all goes on meanwhile.
    let store = house.open_again().await.unwrap();
    let listed = store.providers(crate::fixture::ALL).await.unwrap();
    for provider in &listed.items {
        assert!(store.account(provider.id).await.unwrap().unwrap().external_account.is_some());
    }
    let resumed = store.rotate_master_key(|_| ()).await.unwrap();
    assert!(resumed.total < 121 && resumed.done == resumed.total, "{resumed:?}");
    assert_eq!(keys(&house), half, "no further key");
    assert_eq!(used(&house).await, HashSet::from([half[0].clone()]));
}

async fn a_running_daemon_learns_the_new_key_by_itself(house: Fixture) {
    let provider = house.provider().await;
    let daemon = house.open_again().await.unwrap();
    house.store.rotate_master_key(|_| ()).await.unwrap();
    // It still seals under the key that it knows, which stays readable.
    let late = daemon.create_provider(&new_provider("late"), &actor()).await.unwrap();
    assert!(house.store.account(late.id).await.unwrap().unwrap().external_account.is_some());
    // It meets a value under the key that it does not know, and reads the file again.
    let account = daemon.account(provider.id).await.unwrap().unwrap();
    assert_eq!(account.external_account.unwrap().key_secret.expose_secret(), EAB_SECRET);
    daemon.create_provider(&new_provider("later"), &actor()).await.unwrap();
    let rotated = house.store.rotate_master_key(|_| ()).await.unwrap();
    assert_eq!((rotated.done, used(&house).await.len()), (4, 1));
}

async fn keys_that_nothing_needs_any_more_go(house: Fixture) {
    house.provider().await;
    let mut seen = keys(&house);
    for _ in 0..3 {
        house.store.rotate_master_key(|_| ()).await.unwrap();
        let now = keys(&house);
        assert_eq!((now.len(), &now[1]), (2, &seen[0]));
        seen = now;
    }
    house.open_again().await.unwrap();
}

async fn what_cannot_be_opened_stops_a_rotation(house: Fixture) {
    let provider = house.provider().await;
    house.execute_sql("UPDATE providers SET pending_credentials = eab_key_secret").await;
    let error = house.store.rotate_master_key(|_| ()).await.unwrap_err();
    let expected = format!("providers/pending_credentials/{}", provider.id);
    assert!(matches!(&error, StoreError::Key(KeyError::Unreadable { place }) if *place == expected), "{error:?}");
    let half = keys(&house);
    house.execute_sql("UPDATE providers SET pending_credentials = NULL").await;
    house.store.rotate_master_key(|_| ()).await.unwrap();
    assert_eq!(keys(&house), half);
}

async fn two_rotations_do_not_run_at_once(house: Fixture) {
    let held = std::fs::File::open(house.folder.path()).unwrap();
    held.lock().unwrap();
    let error = house.store.rotate_master_key(|_| ()).await.unwrap_err();
    assert!(matches!(error, StoreError::Key(KeyError::RotationRunning { .. })), "{error:?}");
    drop(held);
    house.store.rotate_master_key(|_| ()).await.unwrap();
}

async fn the_key_file_keeps_its_owner_and_mode(house: Fixture) {
    // Only root can give a file away; others keep their own.
    let _given = std::os::unix::fs::chown(house.key_file(), Some(65534), Some(65534));
    let owner = || {
        let metadata = house.key_file().metadata().unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
    };
    let before = owner();
    house.store.rotate_master_key(|_| ()).await.unwrap();
    assert_eq!((owner(), before.2), (before, 0o600));
}

async fn two_rotations_beside_a_running_daemon_lose_nothing(house: Fixture) {
    let daemon = house.open_again().await.unwrap();
    for round in ["first", "second", "third"] {
        house.store.rotate_master_key(|_| ()).await.unwrap();
        let upload = new_certificate(round, None, house.now(), Duration::days(90));
        let id = daemon.upload_certificate(&upload, &actor()).await.unwrap().id;
        house.store.rotate_master_key(|_| ()).await.unwrap();
        let key = house.open_again().await.unwrap().certificate_private_key(id).await.unwrap().unwrap();
        assert_eq!(key.expose_secret(), upload.private_key.expose_secret(), "the {round} round");
    }
}
