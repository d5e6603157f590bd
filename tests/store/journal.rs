//! The journal of challenge records.

use autocertd::domain::disposition::Failure;
use autocertd::domain::id::{AttemptId, ChallengeRecordId};
use autocertd::store::{Claim, IntendedCanary, IntendedRecord, RunOutcome, StoreError};
use time::Duration;

use crate::house::{House, new_certificate, on_both, trouble_of};

on_both! {
    a_record_is_noted_before_and_after_it_is_made
    records_are_cleaned_up_once_nobody_needs_them
    records_outlive_their_attempt_and_hold_up_the_purge
    a_stale_epoch_intends_nothing
    delegated_records_are_found_by_name_and_what_lies_between_too
}

async fn intend(house: &House, claim: &Claim, attempt: AttemptId, name: &str) -> Result<ChallengeRecordId, StoreError> {
    let record = IntendedRecord { attempt, adapter: "ionos", zone_id: "zone-1", name, content: "digest" };
    house.store.intend_record(&claim.lease, &record).await
}

async fn begin(house: &House, claim: &Claim) -> AttemptId {
    let attempt = house.attempt(claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    attempt.id
}

async fn a_record_is_noted_before_and_after_it_is_made(house: House) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let id = intend(&house, &claim, attempt, "_acme-challenge.www.example.com").await.unwrap();
    let noted = house.store.challenge_records(claim.lease.id).await.unwrap();
    assert_eq!((noted.len(), noted[0].id, noted[0].attempt), (1, id, Some(attempt)));
    assert_eq!((noted[0].adapter.as_str(), noted[0].zone_id.as_str()), ("ionos", "zone-1"));
    assert_eq!((noted[0].name.as_str(), noted[0].content.as_str()), ("_acme-challenge.www.example.com", "digest"));
    assert_eq!((&noted[0].record_id, noted[0].removal_tries), (&None, 0));

    // What is true of the DNS is noted even by one who lost the lease.
    house.store.release(&claim.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    house.store.record_presented(id, "record-7").await.unwrap();
    house.store.removal_failed(id, house.now()).await.unwrap();
    let noted = house.store.challenge_records(claim.lease.id).await.unwrap();
    assert_eq!((noted[0].record_id.as_deref(), noted[0].removal_tries), (Some("record-7"), 1));
    house.store.record_removed(id).await.unwrap();
    assert!(house.store.challenge_records(claim.lease.id).await.unwrap().is_empty());
}

async fn records_are_cleaned_up_once_nobody_needs_them(house: House) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let (one, other) = (
        intend(&house, &claim, attempt, "_acme-challenge.a.example.com").await.unwrap(),
        intend(&house, &claim, attempt, "_acme-challenge.b.example.com").await.unwrap(),
    );
    let clean_up_at = async || house.reload(claim.lease.id).await.standing.clean_up_at;
    assert_eq!(clean_up_at().await, None, "the open attempt needs them");

    house.turn(Duration::minutes(1));
    house.store.end_attempt(&claim.lease, attempt, &trouble_of(Failure::restart("gone"))).await.unwrap();
    assert_eq!(clean_up_at().await, Some(house.now()));
    let later = house.now() + Duration::minutes(10);
    house.store.removal_failed(one, later).await.unwrap();
    assert_eq!(clean_up_at().await, Some(house.now()), "the other is still due");
    house.store.record_removed(other).await.unwrap();
    assert_eq!(clean_up_at().await, Some(later));

    // The next attempt succeeds and makes what is left over due at once.
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    intend(&house, &claim, attempt.id, "_acme-challenge.c.example.com").await.unwrap();
    assert_eq!(clean_up_at().await, Some(later));
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    house.store.store_issued(&claim.lease, &attempt, &new, None, house.now()).await.unwrap();
    assert_eq!(clean_up_at().await, Some(house.now()));
    assert_eq!(house.store.challenge_records(claim.lease.id).await.unwrap().len(), 2);
}

async fn records_outlive_their_attempt_and_hold_up_the_purge(house: House) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let record = intend(&house, &claim, attempt, "_acme-challenge.www.example.com").await.unwrap();
    house.store.delete_auto_certificate(claim.lease.id).await.unwrap();
    assert!(matches!(house.store.purge(&claim.lease).await, Err(StoreError::RecordsLeft)));

    house.store.release(&claim.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    let claim = house.claim(claim.lease.id).await;
    assert_eq!(claim.auto_certificate.standing.clean_up_at, Some(house.now()), "of the open attempt too");
    house.store.record_removed(record).await.unwrap();
    house.store.purge(&claim.lease).await.unwrap();
}

async fn a_stale_epoch_intends_nothing(house: House) {
    let stale = house.claimed().await;
    let attempt = begin(&house, &stale).await;
    house.store.release(&stale.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    house.claim(stale.lease.id).await;
    let refused = intend(&house, &stale, attempt, "_acme-challenge.www.example.com").await;
    assert!(matches!(refused, Err(StoreError::LostLease)), "{refused:?}");
    assert!(house.store.challenge_records(stale.lease.id).await.unwrap().is_empty());
}

async fn delegated_records_are_found_by_name_and_what_lies_between_too(house: House) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let intend = async |adapter: &'static str, name: &'static str, content: &'static str| {
        let record = IntendedRecord { attempt, adapter, zone_id: "acme.example.net", name, content };
        house.store.intend_record(&claim.lease, &record).await.unwrap()
    };
    let first = intend("delegated", "_x.www.acme.example.net", "one").await;
    house.turn(Duration::seconds(1));
    intend("delegated", "_x.www.acme.example.net", "two").await;
    intend("delegated", "_x.www.acme.example.net", "two").await;
    intend("ionos", "_x.www.acme.example.net", "elsewhere").await;
    intend("ionos", "_x.mail.acme.example.net", "elsewhere").await;
    let canary = IntendedCanary {
        adapter: "delegated",
        zone_id: "acme.example.net",
        name: "canary.acme.example.net",
        content: "tweet",
    };
    house.store.intend_canary(&canary).await.unwrap();

    let texts = async |name: &str| house.store.delegated_texts(name).await.unwrap();
    assert_eq!(texts("_x.www.acme.example.net").await, ["one", "two"]);
    assert_eq!(texts("canary.acme.example.net").await, ["tweet"]);
    assert!(texts("_x.mail.acme.example.net").await.is_empty() && texts("www.acme.example.net").await.is_empty());
    for (name, is_there) in [
        ("www.acme.example.net", true),
        ("acme.example.net", true),
        ("_x.www.acme.example.net", false),
        ("ww.acme.example.net", false),
        ("mail.acme.example.net", false),
        // What means something in a pattern means nothing in a name.
        ("_ww.acme.example.net", false),
        ("%.acme.example.net", false),
        ("%", false),
        ("!", false),
        ("\\", false),
    ] {
        assert_eq!(house.store.has_delegated_below(name).await.unwrap(), is_there, "{name}");
    }
    house.store.record_removed(first).await.unwrap();
    assert_eq!(texts("_x.www.acme.example.net").await, ["two"]);
}
