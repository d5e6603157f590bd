//! The journal of challenge records.

use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::renewal::dns_persist::PersistRecord;
use autocertd::domain::value::id::{AttemptId, ChallengeRecordId};
use autocertd::store::{
    ClaimedAutoCertificate, IntendedCanary, IntendedRecord, PersistRecordLocation, RemovalStart, RunOutcome, StoreError,
};
use time::Duration;

use crate::fixture::{Fixture, first_failure_streak, new_certificate, on_both};

on_both! {
    a_record_is_noted_before_and_after_it_is_made
    records_are_cleaned_up_once_nobody_needs_them
    records_outlive_their_attempt_and_hold_up_the_purge
    a_stale_epoch_intends_nothing
    records_are_noted_all_at_once_and_in_their_order
    a_record_that_another_open_attempt_needs_is_not_removed
    an_intent_and_a_removal_of_one_record_see_each_other
    a_canary_becomes_a_stray_after_a_while_and_its_failures_are_waited_out
    removals_of_an_adapter_are_put_off_together_and_tried_again_together
    what_a_clock_that_was_ahead_put_off_is_tried_again
    delegated_records_are_found_by_name_and_what_lies_between_too
}

async fn intend(
    house: &Fixture,
    claim: &ClaimedAutoCertificate,
    attempt: AttemptId,
    name: &str,
) -> Result<ChallengeRecordId, StoreError> {
    let record = IntendedRecord { attempt, adapter: "ionos", zone_id: "zone-1", name, content: "digest" };
    Ok(house.store.journal_records(&claim.lease, &[record]).await?[0])
}

async fn begin(house: &Fixture, claim: &ClaimedAutoCertificate) -> AttemptId {
    let attempt = house.attempt(claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    attempt.id
}

async fn a_record_is_noted_before_and_after_it_is_made(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let id = intend(&house, &claim, attempt, "_acme-challenge.www.example.com").await.unwrap();
    let noted = house.store.challenge_records(claim.lease.id).await.unwrap();
    assert_eq!((noted.len(), noted[0].id, noted[0].attempt), (1, id, Some(attempt)));
    assert_eq!((noted[0].adapter.as_str(), noted[0].zone_id.as_str()), ("ionos", "zone-1"));
    assert_eq!((noted[0].name.as_str(), noted[0].content.as_str()), ("_acme-challenge.www.example.com", "digest"));
    assert_eq!((&noted[0].record_id, noted[0].failed_removals), (&None, 0));

    // What is true of the DNS is noted even by one who lost the lease.
    house.store.release_auto_certificate(&claim.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    house.store.store_record_id(id, "record-7").await.unwrap();
    house.store.record_removal_failure(id, house.now()).await.unwrap();
    let noted = house.store.challenge_records(claim.lease.id).await.unwrap();
    assert_eq!((noted[0].record_id.as_deref(), noted[0].failed_removals), (Some("record-7"), 1));
    house.store.delete_record_entry(id).await.unwrap();
    assert!(house.store.challenge_records(claim.lease.id).await.unwrap().is_empty());
}

async fn records_are_cleaned_up_once_nobody_needs_them(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let (one, other) = (
        intend(&house, &claim, attempt, "_acme-challenge.a.example.com").await.unwrap(),
        intend(&house, &claim, attempt, "_acme-challenge.b.example.com").await.unwrap(),
    );
    let clean_up_at = async || house.reload(claim.lease.id).await.standing.clean_up_at;
    assert_eq!(clean_up_at().await, None, "the open attempt needs them");

    house.turn(Duration::minutes(1));
    house.store.end_attempt(&claim.lease, attempt, &first_failure_streak(Failure::restart("gone"))).await.unwrap();
    assert_eq!(clean_up_at().await, Some(house.now()));
    let later = house.now() + Duration::minutes(10);
    house.store.record_removal_failure(one, later).await.unwrap();
    assert_eq!(clean_up_at().await, Some(house.now()), "the other is still due");
    house.store.delete_record_entry(other).await.unwrap();
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

async fn records_outlive_their_attempt_and_hold_up_the_purge(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let record = intend(&house, &claim, attempt, "_acme-challenge.www.example.com").await.unwrap();
    house.store.delete_auto_certificate(claim.lease.id).await.unwrap();
    assert!(matches!(house.store.purge_auto_certificate(&claim.lease).await, Err(StoreError::RecordsRemaining)));

    house.store.release_auto_certificate(&claim.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    let claim = house.claim(claim.lease.id).await;
    assert_eq!(claim.auto_certificate.standing.clean_up_at, Some(house.now()), "of the open attempt too");
    house.store.delete_record_entry(record).await.unwrap();
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
}

async fn a_stale_epoch_intends_nothing(house: Fixture) {
    let stale = house.claimed().await;
    let attempt = begin(&house, &stale).await;
    house.store.release_auto_certificate(&stale.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    house.claim(stale.lease.id).await;
    let refused = intend(&house, &stale, attempt, "_acme-challenge.www.example.com").await;
    assert!(matches!(refused, Err(StoreError::LostLease)), "{refused:?}");
    assert!(house.store.challenge_records(stale.lease.id).await.unwrap().is_empty());
}

async fn records_are_noted_all_at_once_and_in_their_order(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let names: Vec<String> = (0..100).map(|number| format!("_acme-challenge.h{number}.example.com")).collect();
    let record = |name| IntendedRecord { attempt, adapter: "ionos", zone_id: "zone-1", name, content: "digest" };
    let records: Vec<_> = names.iter().map(|name| record(name)).collect();
    let ids = house.store.journal_records(&claim.lease, &records).await.unwrap();
    let noted = house.store.challenge_records(claim.lease.id).await.unwrap();
    for (id, name) in ids.iter().zip(&names) {
        assert_eq!(noted.iter().find(|entry| entry.id == *id).unwrap().name, *name);
    }
    assert!(noted.len() == 100 && noted.iter().all(|entry| entry.is_needed));

    // One that belongs to no attempt spoils them all.
    let stranger = IntendedRecord { attempt: AttemptId::from(uuid::Uuid::from_u128(7)), ..record("x") };
    assert!(house.store.journal_records(&claim.lease, &[record("y"), stranger]).await.is_err());
    assert_eq!(house.store.challenge_records(claim.lease.id).await.unwrap().len(), 100);
}

/// Two auto-certificates whose attempts need equal records, as where a CA hands out a pending authorization again.
async fn two_of_one_record(house: &Fixture) -> [(ClaimedAutoCertificate, AttemptId, ChallengeRecordId); 2] {
    let provider = house.provider().await;
    let mut both = Vec::new();
    for name in ["www.example.com", "mail.example.com"] {
        let claim = house.claim(house.auto_certificate(provider.id, name).await.id).await;
        let attempt = begin(house, &claim).await;
        let record = intend(house, &claim, attempt, "_acme-challenge.example.com").await.unwrap();
        both.push((claim, attempt, record));
    }
    both.try_into().unwrap_or_else(|_| unreachable!("there are two"))
}

async fn end(house: &Fixture, claim: &ClaimedAutoCertificate, attempt: AttemptId) {
    house.store.end_attempt(&claim.lease, attempt, &first_failure_streak(Failure::restart("gone"))).await.unwrap();
}

async fn a_record_that_another_open_attempt_needs_is_not_removed(house: Fixture) {
    let [(one, one_attempt, first), (other, other_attempt, second)] = two_of_one_record(&house).await;
    end(&house, &one, one_attempt).await;
    let needed: Vec<bool> = house.store.journal().await.unwrap().iter().map(|entry| entry.is_needed).collect();
    assert_eq!(needed.iter().filter(|needed| **needed).count(), 1);
    assert_eq!(house.store.begin_removal(first, REMOVAL_TIMEOUT).await.unwrap(), RemovalStart::NeededElsewhere);
    let left: Vec<_> = house.store.journal().await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(left, [second], "only the entry of the ended one is gone");

    // The last one takes the record along, even where its auto-certificate was deleted before the attempt ended.
    let third = intend(&house, &other, other_attempt, "_acme-challenge.other.example.com").await.unwrap();
    assert_eq!(
        house.store.begin_removal(third, REMOVAL_TIMEOUT).await.unwrap(),
        RemovalStart::Started,
        "another name is another record"
    );
    house.store.delete_auto_certificate(other.lease.id).await.unwrap();
    assert_eq!(house.store.begin_removal(second, REMOVAL_TIMEOUT).await.unwrap(), RemovalStart::Started);
}

async fn an_intent_and_a_removal_of_one_record_see_each_other(house: Fixture) {
    let [(one, one_attempt, first), (other, other_attempt, second)] = two_of_one_record(&house).await;
    let in_the_way = async || house.store.is_removal_running(other_attempt).await.unwrap();
    end(&house, &one, one_attempt).await;
    end(&house, &other, other_attempt).await;
    assert!(!in_the_way().await);
    assert_eq!(house.store.begin_removal(first, REMOVAL_TIMEOUT).await.unwrap(), RemovalStart::Started);
    assert!(in_the_way().await);

    house.store.record_removal_failure(first, house.now()).await.unwrap();
    assert!(!in_the_way().await, "it is over");
    house.store.begin_removal(first, REMOVAL_TIMEOUT).await.unwrap();
    house.execute_sql("UPDATE challenge_records SET removing_until = removing_until - 60000000").await;
    assert!(!in_the_way().await, "whoever began it is dead");
    house.store.begin_removal(first, REMOVAL_TIMEOUT).await.unwrap();
    house.store.delete_record_entry(first).await.unwrap();
    assert!(!in_the_way().await);
    assert_eq!(house.store.begin_removal(second, REMOVAL_TIMEOUT).await.unwrap(), RemovalStart::Started);
    assert!(!in_the_way().await, "one's own is not in one's way");
}

async fn a_canary_becomes_a_stray_after_a_while_and_its_failures_are_waited_out(house: Fixture) {
    assert_eq!(house.store.earliest_orphan_check().await.unwrap(), None);
    let canary =
        IntendedCanary { adapter: "ionos", zone_id: "zone-1", name: "_acme-challenge.a.example", content: "c" };
    let id = house.store.journal_canary(&canary).await.unwrap();
    let due = house.now() + Duration::minutes(10);
    assert_eq!(house.store.earliest_orphan_check().await.unwrap(), Some(due));
    assert!(house.store.orphaned_records(due - Duration::SECOND).await.unwrap().is_empty());
    let stray = house.store.orphaned_records(due).await.unwrap().pop().unwrap();
    assert_eq!((stray.id, stray.auto_certificate, stray.attempt, stray.is_needed), (id, None, None, false));

    let later = house.now() + Duration::minutes(1);
    house.store.record_removal_failure(id, later).await.unwrap();
    assert_eq!(house.store.earliest_orphan_check().await.unwrap(), Some(later));
    assert_eq!(house.store.begin_removal(id, REMOVAL_TIMEOUT).await.unwrap(), RemovalStart::Started);
    house.store.delete_record_entry(id).await.unwrap();
    assert_eq!(house.store.earliest_orphan_check().await.unwrap(), None);
}

async fn removals_of_an_adapter_are_put_off_together_and_tried_again_together(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    for name in ["_acme-challenge.a.example.com", "_acme-challenge.b.example.com"] {
        intend(&house, &claim, attempt, name).await.unwrap();
    }
    end(&house, &claim, attempt).await;
    let later = house.now() + Duration::DAY;
    assert_eq!(house.store.postpone_removals("office", house.now(), later).await.unwrap(), 0);
    assert_eq!(house.store.postpone_removals("ionos", house.now(), later).await.unwrap(), 2);
    assert_eq!(house.store.postpone_removals("ionos", house.now(), later).await.unwrap(), 0, "that was told already");
    assert_eq!(house.reload(claim.lease.id).await.standing.clean_up_at, Some(later));

    house.store.release_auto_certificate(&claim.lease, later, RunOutcome::Finished).await.unwrap();
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert_eq!(house.store.retry_removals().await.unwrap(), 2);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [claim.lease.id]);
    assert_eq!(house.reload(claim.lease.id).await.standing.clean_up_at, Some(house.now()));
}

async fn what_a_clock_that_was_ahead_put_off_is_tried_again(house: Fixture) {
    let canary =
        IntendedCanary { adapter: "ionos", zone_id: "zone-1", name: "_acme-challenge.a.example", content: "c" };
    let id = house.store.journal_canary(&canary).await.unwrap();
    house.store.record_removal_failure(id, house.now() + Duration::days(300)).await.unwrap();
    assert_eq!(house.store.repair_next_checks(house.now(), false).await.unwrap(), 1);
    assert_eq!(house.store.earliest_orphan_check().await.unwrap(), Some(house.now()));
}

async fn delegated_records_are_found_by_name_and_what_lies_between_too(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = begin(&house, &claim).await;
    let intend = async |adapter: &'static str, name: &'static str, content: &'static str| {
        let record = IntendedRecord { attempt, adapter, zone_id: "acme.example.net", name, content };
        house.store.journal_records(&claim.lease, &[record]).await.unwrap()[0]
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
    house.store.journal_canary(&canary).await.unwrap();

    let standing = PersistRecord::new("example.com", "ca.example", "https://ca.example/1", false);
    let place = PersistRecordLocation {
        adapter: "delegated",
        zone_id: "acme.example.net",
        name: "stands.low.acme.example.net",
    };
    house.store.journal_persist_record(&standing, Some(place)).await.unwrap();

    let texts = async |name: &str| house.store.delegated_texts(name).await.unwrap();
    assert_eq!(texts("stands.low.acme.example.net").await, std::slice::from_ref(&standing.content));
    assert_eq!(texts("_x.www.acme.example.net").await, ["one", "two"]);
    assert_eq!(texts("canary.acme.example.net").await, ["tweet"]);
    assert!(texts("_x.mail.acme.example.net").await.is_empty() && texts("www.acme.example.net").await.is_empty());
    for (name, is_there) in [
        ("www.acme.example.net", true),
        ("acme.example.net", true),
        ("low.acme.example.net", true),
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
    house.store.delete_record_entry(first).await.unwrap();
    assert_eq!(texts("_x.www.acme.example.net").await, ["two"]);
}

const REMOVAL_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);
