//! Leases that outlive their owner.

use autocertd::store::LeaseState;

use crate::fixture::{Fixture, on_both};

on_both! {
    a_lease_that_ran_out_goes_to_the_next
    the_living_keep_their_leases
}

async fn a_lease_that_ran_out_goes_to_the_next(house: Fixture) {
    let claim = house.claimed().await;
    let provider = house.store.claim_provider(claim.auto_certificate.provider).await.unwrap().unwrap();
    let other = house.open_again().await.unwrap();
    assert!(other.claim(claim.lease.id).await.unwrap().is_none());
    assert!(other.claim_provider(provider.id).await.unwrap().is_none());

    house.execute_sql("UPDATE auto_certificates SET lease_until = 1").await;
    house.execute_sql("UPDATE providers SET lease_until = 1").await;
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Held, "nobody took it meanwhile");
    house.execute_sql("UPDATE auto_certificates SET lease_until = 1").await;
    assert!(!house.reload(claim.lease.id).await.standing.running);
    assert_eq!(other.due_auto_certificates(house.now()).await.unwrap(), [claim.lease.id]);
    assert!(other.claim(claim.lease.id).await.unwrap().is_some());
    assert!(other.claim_provider(provider.id).await.unwrap().is_some());
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Lost);
    assert_eq!(house.store.renew_provider_lease(&provider).await.unwrap(), LeaseState::Lost);
}

async fn the_living_keep_their_leases(house: Fixture) {
    let claim = house.claimed().await;
    let other = house.open_again().await.unwrap();
    assert_eq!(other.free_dead_leases().await.unwrap(), 0);
    assert_eq!(house.store.free_dead_leases().await.unwrap(), 0);
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Held);
}

#[tokio::test]
async fn the_leases_of_the_dead_are_freed_at_once_on_sqlite() {
    let house = Fixture::on_sqlite().await;
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    let doomed = house.open_again().await.unwrap();
    doomed.claim(id).await.unwrap().unwrap();
    doomed.claim_provider(provider.id).await.unwrap().unwrap();
    assert!(house.store.claim(id).await.unwrap().is_none());
    assert_eq!(house.store.free_dead_leases().await.unwrap(), 0, "it lives");

    drop(doomed);
    assert_eq!(house.store.free_dead_leases().await.unwrap(), 2);
    assert!(house.store.claim(id).await.unwrap().is_some());
    assert!(house.store.claim_provider(provider.id).await.unwrap().is_some());
}

/// A process that was killed leaves its file behind, and the operating system has dropped the lock.
#[tokio::test]
async fn the_file_of_one_who_was_killed_is_removed() {
    let house = Fixture::on_sqlite().await;
    let claim = house.claimed().await;
    let instances = house.folder.path().join("store.db.instances");
    let killed = instances.join("7f3c1f52-77cb-4ee2-a3a0-2b1f0c1d9b11");
    std::fs::write(&killed, "").unwrap();
    house.execute_sql("UPDATE auto_certificates SET lease_owner = '7f3c1f52-77cb-4ee2-a3a0-2b1f0c1d9b11'").await;
    assert_eq!(house.store.free_dead_leases().await.unwrap(), 1);
    assert!(!killed.exists());
    assert!(house.store.claim(claim.lease.id).await.unwrap().is_some());
    let own = std::fs::read_dir(&instances).unwrap().count();
    assert_eq!(own, 2, "the own file and the lock for opening");
}
