//! Deliveries: who gets a row, what is due, and what is written down.

use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::value::id::AutoCertificateId;
use autocertd::runtime::clock::Clock;
use autocertd::store::{
    AssignmentCandidate, AssignmentTarget, DeliveredCertificate, DeliveryClaim, DeliveryRow, LeaseState, Store,
    StoreError, Undeclared,
};
use serde_json::json;
use time::Duration;

use crate::fixture::{Fixture, first_failure_streak, name, on_both};

on_both! {
    rows_follow_what_is_declared
    two_of_one_name_get_folders_of_their_own
    the_folder_of_a_declared_one_is_its_own
    a_place_names_each_folder_once_for_all_its_targets
    rows_of_another_instance_are_left_alone
    a_certificate_makes_its_deliveries_due
    what_was_delivered_is_remembered
    a_stale_lease_writes_nothing
    a_person_who_asks_ends_the_pause
    a_purge_takes_the_rows_along
    the_roster_changes_with_every_coming_going_and_naming
    a_damaged_auto_certificate_keeps_its_deliveries
}

async fn rows_follow_what_is_declared(house: Fixture) {
    let (one, other) = two(&house).await;
    sync(&house.store, "here", &[("web", &|_| true), ("mail", &|entry| entry.common_name.sent() == "b.example.com")])
        .await;
    assert_eq!(targets(&house, one).await, ["web"]);
    assert_eq!(targets(&house, other).await, ["mail", "web"]);

    sync(&house.store, "here", &[("web", &|entry| entry.name.as_str() == "for b.example.com")]).await;
    assert!(targets(&house, one).await.is_empty());
    assert_eq!(targets(&house, other).await, ["web"]);
}

async fn two_of_one_name_get_folders_of_their_own(house: Fixture) {
    let provider = house.provider().await;
    let first = house.auto_certificate(provider.id, "*.example.com").await.id;
    house.turn(Duration::seconds(1));
    let second = house.auto_certificate(provider.id, "*.example.com").await.id;
    for _ in 0..2 {
        sync(&house.store, "here", &[("web", &|_| true)]).await;
        assert_eq!(rows(&house, first).await[0].label, "_.example.com");
        assert_eq!(rows(&house, second).await[0].label, format!("_.example.com-{second}"));
    }
}

async fn the_folder_of_a_declared_one_is_its_own(house: Fixture) {
    let provider = house.provider().await;
    let squatter = house.auto_certificate(provider.id, "www.example.com").await.id;
    sync_at(&house.store, "/certificates", &[("web", &|_| true)]).await;
    assert_eq!(rows(&house, squatter).await[0].label, "www.example.com");

    house.turn(Duration::seconds(1));
    let declared = house.auto_certificate(provider.id, "www.example.com").await.id;
    house.store.rename_auto_certificate(declared, &name("declared"), &crate::fixture::actor()).await.unwrap();
    house.execute_sql("UPDATE auto_certificates SET declared_key = 'www.example.com' WHERE name = 'declared'").await;
    for _ in 0..2 {
        sync_at(&house.store, "/certificates", &[("web", &|_| true)]).await;
        assert_eq!(rows(&house, declared).await[0].label, "www.example.com");
        assert_eq!(rows(&house, squatter).await[0].label, format!("www.example.com-{squatter}"));
    }
    // In a second delivery to the same folder, too, also where it came later.
    let of_the_api: (&str, Wants<'_>) = ("all", &|entry| entry.key.is_none());
    let of_settings: (&str, Wants<'_>) = ("web", &|entry| entry.key.is_some());
    sync_at(&house.store, "/elsewhere", &[of_the_api]).await;
    assert_eq!(rows(&house, squatter).await[0].label, "www.example.com");
    sync_at(&house.store, "/certificates", &[of_the_api, of_settings]).await;
    assert_eq!(rows(&house, declared).await[0].label, "www.example.com");
    assert_eq!(rows(&house, squatter).await[0].label, format!("www.example.com-{squatter}"));
}

async fn a_place_names_each_folder_once_for_all_its_targets(house: Fixture) {
    let provider = house.provider().await;
    let first = house.auto_certificate(provider.id, "a.example.com").await.id;
    house.turn(Duration::seconds(1));
    let second = house.auto_certificate(provider.id, "a.example.com").await.id;
    // It looks like what the second one gets when the usual name is taken.
    house.turn(Duration::seconds(1));
    let copycat = house.auto_certificate(provider.id, &format!("a.example.com-{second}")).await.id;
    let split: &[(&str, Wants<'_>)] =
        &[("one", &move |entry| entry.id != second), ("other", &move |entry| entry.id == second)];
    sync_at(&house.store, "/certificates", split).await;
    let label = async |id| rows(&house, id).await[0].label.clone();
    assert_eq!(label(first).await, "a.example.com");
    assert_eq!(label(copycat).await, format!("a.example.com-{second}"));
    assert_eq!(label(second).await, format!("a.example.com-{second}-2"));
}

async fn rows_of_another_instance_are_left_alone(house: Fixture) {
    let (one, _) = two(&house).await;
    sync(&house.store, "there", &[("web", &|_| true)]).await;
    sync(&house.store, "here", &[("web", &|_| true)]).await;
    sync(&house.store, "here", &[]).await;
    assert!(rows(&house, one).await.is_empty());
    assert_eq!(house.store.deliveries(&[one], "there").await.unwrap().len(), 1);

    house.execute_sql("UPDATE deliveries SET next_look = 0").await;
    sync(&house.store, "here", &[]).await;
    assert_eq!(house.store.deliveries(&[one], "there").await.unwrap().len(), 1, "the clock is not to be believed yet");
    house.clock.evidence().record_ca_time("ca.example", house.now(), house.clock.uptime());
    sync(&house.store, "here", &[]).await;
    assert!(house.store.deliveries(&[one], "there").await.unwrap().is_empty(), "nobody looked at it for a month");
}

async fn a_certificate_makes_its_deliveries_due(house: Fixture) {
    let (one, _) = two(&house).await;
    sync(&house.store, "here", &[("web", &|entry| entry.common_name.sent() == "a.example.com")]).await;
    let claim = claim(&house).await;
    assert_eq!((claim.row.auto_certificate, claim.row.names[0].to_string()), (one, "a.example.com".to_owned()));
    assert!(claim.row.running && claim.row.standing.newest.is_none());
    assert!(house.store.claim_due_deliveries(&key("web"), "here", house.now(), 9).await.unwrap().is_empty());

    // What is issued during the work is looked at right behind it.
    let issued = house.issue(one, Duration::days(90)).await;
    house.store.release_delivery(&claim.lease, house.now() + Duration::hours(5)).await.unwrap();
    assert_eq!(house.store.earliest_delivery_check(&key("web"), "here").await.unwrap(), Some(house.now()));
    let again = self::claim(&house).await;
    assert_eq!(again.row.standing.newest.map(|newest| newest.id), Some(issued));
    house.store.release_delivery(&again.lease, house.now() + Duration::hours(5)).await.unwrap();
    let later = Some(house.now() + Duration::hours(5));
    assert_eq!(house.store.earliest_delivery_check(&key("web"), "here").await.unwrap(), later);
}

async fn what_was_delivered_is_remembered(house: Fixture) {
    let (one, _) = two(&house).await;
    sync(&house.store, "here", &[("web", &|entry| entry.common_name.sent() == "a.example.com")]).await;
    house.issue(one, Duration::days(90)).await;
    let claim = claim(&house).await;
    house
        .store
        .record_delivery_failure_streak(&claim.lease, Some(&first_failure_streak(Failure::retry("disk full"))))
        .await
        .unwrap();
    assert_eq!(rows(&house, one).await[0].standing.failure_streak.as_ref().unwrap().last.message.as_str(), "disk full");
    let certificate = claim.row.standing.newest.unwrap();
    let delivered =
        DeliveredCertificate { certificate, settings: "v1".to_owned(), receipt: Some(json!({ "remote": "x" })) };
    house.store.record_delivered(&claim.lease, &delivered).await.unwrap();
    house.store.release_delivery(&claim.lease, house.now() + Duration::DAY).await.unwrap();
    let row = rows(&house, one).await.remove(0);
    assert_eq!(row.standing.delivered, Some(certificate));
    assert_eq!((row.settings.as_str(), row.receipt, row.runs), ("v1", delivered.receipt, 1));
    assert!(row.standing.failure_streak.is_none() && !row.running);
}

async fn a_stale_lease_writes_nothing(house: Fixture) {
    two(&house).await;
    sync(&house.store, "here", &[("web", &|entry| entry.common_name.sent() == "a.example.com")]).await;
    let claim = claim(&house).await;
    assert_eq!(house.store.renew_delivery_lease(&claim.lease).await.unwrap(), LeaseState::Held);
    house.execute_sql("UPDATE deliveries SET lease_epoch = lease_epoch + 1").await;
    assert_eq!(house.store.renew_delivery_lease(&claim.lease).await.unwrap(), LeaseState::Lost);
    let lost = |written: Result<(), StoreError>| assert!(matches!(written, Err(StoreError::LostLease)));
    lost(house.store.record_delivery_failure_streak(&claim.lease, None).await);
    lost(house.store.release_delivery(&claim.lease, house.now()).await);
}

async fn a_person_who_asks_ends_the_pause(house: Fixture) {
    let (one, _) = two(&house).await;
    sync(&house.store, "here", &[("web", &|entry| entry.common_name.sent() == "a.example.com")]).await;
    let claim = claim(&house).await;
    house
        .store
        .record_delivery_failure_streak(&claim.lease, Some(&first_failure_streak(Failure::retry("x"))))
        .await
        .unwrap();
    house.store.release_delivery(&claim.lease, house.now() + Duration::hours(9)).await.unwrap();
    house.store.request_deliveries(one).await.unwrap();
    let again = self::claim(&house).await;
    assert!(again.row.standing.failure_streak.is_none());
}

async fn a_purge_takes_the_rows_along(house: Fixture) {
    let (one, _) = two(&house).await;
    sync(&house.store, "here", &[("web", &|_| true)]).await;
    house.store.delete_auto_certificate(one).await.unwrap();
    assert!(rows(&house, one).await[0].standing.deleted);
    let claim = house.claim(one).await;
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
    assert!(rows(&house, one).await.is_empty());
}

async fn the_roster_changes_with_every_coming_going_and_naming(house: Fixture) {
    let before = house.store.auto_certificates_version().await.unwrap();
    let (one, _) = two(&house).await;
    let made = house.store.auto_certificates_version().await.unwrap();
    house.store.rename_auto_certificate(one, &name("another"), &crate::fixture::actor()).await.unwrap();
    let renamed = house.store.auto_certificates_version().await.unwrap();
    assert!(before < made && made < renamed, "{before} {made} {renamed}");
}

async fn a_damaged_auto_certificate_keeps_its_deliveries(fixture: Fixture) {
    let (damaged, sound) = two(&fixture).await;
    sync(&fixture.store, "here", &[("web", &|_| true)]).await;
    let before = rows(&fixture, damaged).await.remove(0);

    let damage = "UPDATE auto_certificates SET subject_alternative_names = '[' WHERE common_name = 'a.example.com'";
    fixture.execute_sql(damage).await;
    sync(&fixture.store, "here", &[("web", &|_| true), ("mail", &|_| true)]).await;
    assert_eq!(targets(&fixture, sound).await, ["mail", "web"], "the others go on");

    let repair = "UPDATE auto_certificates SET subject_alternative_names = '[]' WHERE common_name = 'a.example.com'";
    fixture.execute_sql(repair).await;
    assert_eq!(rows(&fixture, damaged).await.iter().map(|row| row.id).collect::<Vec<_>>(), [before.id]);
    sync(&fixture.store, "here", &[("web", &|_| true), ("mail", &|_| true)]).await;
    assert_eq!(targets(&fixture, damaged).await, ["mail", "web"]);
}

type Wants<'a> = &'a (dyn Fn(&AssignmentCandidate) -> bool + Send + Sync);

async fn sync(store: &Store, instance: &str, declared: &[(&str, Wants<'_>)]) {
    sync_with(store, instance, None, declared).await;
}

/// All targets name their folders in one place.
async fn sync_at(store: &Store, place: &str, declared: &[(&str, Wants<'_>)]) {
    sync_with(store, "here", Some(place), declared).await;
}

async fn sync_with(store: &Store, instance: &str, place: Option<&str>, declared: &[(&str, Wants<'_>)]) {
    let keys: Vec<_> = declared.iter().map(|(target, wants)| (key(target), *wants)).collect();
    let targets: Vec<_> =
        keys.iter().map(|(key, wants)| AssignmentTarget { key, instance, place, accepts: *wants }).collect();
    store.sync_deliveries(instance, &targets, Undeclared::Remove).await.unwrap();
}

async fn two(house: &Fixture) -> (AutoCertificateId, AutoCertificateId) {
    let provider = house.provider().await;
    let one = house.auto_certificate(provider.id, "a.example.com").await.id;
    (one, house.auto_certificate(provider.id, "b.example.com").await.id)
}

async fn claim(house: &Fixture) -> DeliveryClaim {
    let mut claims = house.store.claim_due_deliveries(&key("web"), "here", house.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

async fn rows(house: &Fixture, id: AutoCertificateId) -> Vec<DeliveryRow> {
    house.store.deliveries(&[id], "here").await.unwrap()
}

async fn targets(house: &Fixture, id: AutoCertificateId) -> Vec<String> {
    rows(house, id).await.into_iter().map(|row| row.target.to_string()).collect()
}

fn key(text: &str) -> autocertd::domain::declared::DeclaredKey {
    text.parse().unwrap()
}
