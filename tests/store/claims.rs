//! Work: what is due, claims, their fence and their end.

use std::collections::HashSet;

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::value::moment::Moment;
use autocertd::store::{LeaseState, RenewalRequestOutcome, RunOutcome, StoreError};
use time::Duration;

use crate::fixture::{Fixture, claim_due, on_both};

on_both! {
    what_is_due_is_claimed_once_and_by_urgency
    a_claim_is_given_back_with_its_next_look
    a_wake_during_the_work_is_not_lost
    trouble_is_kept_whole
    a_stale_epoch_writes_nothing
    many_who_claim_at_once_share_nothing
    a_claim_sees_a_lease_that_is_not_committed_yet
    nothing_is_purged_that_still_lives
    one_damaged_row_holds_up_no_other
    what_a_clock_ahead_put_off_is_looked_at_again
    the_last_issued_is_the_newest_even_after_the_clock_was_set_back
}

async fn what_is_due_is_claimed_once_and_by_urgency(house: Fixture) {
    let provider = house.provider().await;
    let relaxed = house.auto_certificate(provider.id, "relaxed.example.com").await.id;
    let urgent = house.auto_certificate(provider.id, "urgent.example.com").await.id;
    house.issue(relaxed, Duration::days(60)).await;
    house.issue(urgent, Duration::days(50)).await;
    let bare = house.auto_certificate(provider.id, "bare.example.com").await.id;
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [bare]);
    assert_eq!(earliest(&house).await, Some(house.now()));

    let later = house.now() + Duration::days(61);
    assert_eq!(house.store.due_auto_certificates(later).await.unwrap(), [bare, urgent, relaxed]);
    // At its provider, one without a certificate stands behind those that have less than a day left.
    let queue = house.store.queue_at(provider.id, later, 2).await.unwrap();
    assert_eq!(queue.iter().map(|due| due.auto_certificate.id).collect::<Vec<_>>(), [urgent, relaxed]);
    let earlier = house.now() + Duration::days(40);
    let queue = house.store.queue_at(provider.id, earlier, 9).await.unwrap();
    assert_eq!(queue.iter().map(|due| due.auto_certificate.id).collect::<Vec<_>>(), [bare, urgent, relaxed]);
    assert_eq!(house.store.providers_with_due_work(later).await.unwrap(), [provider.id]);
    let first = claim_due(&house.store, later, 2).await;
    assert_eq!(first.iter().map(|claim| claim.lease.id).collect::<Vec<_>>(), [urgent, relaxed]);
    assert!(first.iter().all(|claim| claim.auto_certificate.standing.running));
    assert_eq!(house.store.provider_load(provider.id).await.unwrap().running, 2);
    let second = claim_due(&house.store, later, 5).await;
    assert_eq!(second.iter().map(|claim| claim.lease.id).collect::<Vec<_>>(), [bare]);
    assert!(house.store.providers_with_due_work(later).await.unwrap().is_empty());
    assert!(house.store.claim(bare).await.unwrap().is_none());
    assert_eq!(earliest(&house).await, None);
}

/// The earliest look at what nobody works on, what is due now among it.
async fn earliest(house: &Fixture) -> Option<Moment> {
    house.store.earliest_check(house.now() - Duration::MICROSECOND).await.unwrap()
}

async fn a_claim_is_given_back_with_its_next_look(house: Fixture) {
    let claim = house.claimed().await;
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Held);
    let next = house.now() + Duration::hours(3);
    house.store.release_auto_certificate(&claim.lease, next, RunOutcome::Finished).await.unwrap();
    assert_eq!(earliest(&house).await, Some(next));
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert!(!house.reload(claim.lease.id).await.standing.running);
    let again = house.claim(claim.lease.id).await;
    assert!(again.lease.epoch > claim.lease.epoch);
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Lost);
}

async fn a_wake_during_the_work_is_not_lost(house: Fixture) {
    let claim = house.claimed().await;
    let id = claim.lease.id;
    // No attempt is open: the wish waits for the end of this work.
    assert_eq!(house.store.request_renewal(id).await.unwrap(), RenewalRequestOutcome::Requested);
    house
        .store
        .release_auto_certificate(&claim.lease, house.now() + Duration::days(30), RunOutcome::Finished)
        .await
        .unwrap();
    assert_eq!(earliest(&house).await, Some(house.now()));

    let issued = house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    house.store.delete_certificate(issued).await.unwrap();
    house
        .store
        .release_auto_certificate(&claim.lease, house.now() + Duration::days(30), RunOutcome::Finished)
        .await
        .unwrap();
    assert_eq!(earliest(&house).await, Some(house.now()));

    let claim = house.claim(id).await;
    house.store.delete_auto_certificate(id).await.unwrap();
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Deleted);
    house
        .store
        .release_auto_certificate(&claim.lease, house.now() + Duration::days(30), RunOutcome::Interrupted)
        .await
        .unwrap();
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [id]);
}

async fn trouble_is_kept_whole(house: Fixture) {
    let claim = house.claimed().await;
    let not_before = Some(house.now() + Duration::hours(5));
    let dispositions = [
        Disposition::RETRY,
        Disposition::Retry { not_before },
        Disposition::Operator,
        Disposition::Restart,
        Disposition::ProviderDown { not_before },
    ];
    let mut trouble = None;
    for disposition in dispositions {
        let failure = Failure { disposition, message: "the \"CA\" said no".into() };
        trouble = Some(FailureStreak::after(trouble.as_ref(), failure, house.now(), None, 0.5));
        house.store.record_failure_streak(&claim.lease, trouble.as_ref().unwrap()).await.unwrap();
        assert_eq!(house.reload(claim.lease.id).await.standing.failure_streak, trouble);
        assert_eq!(house.store.progress(&[claim.lease.id]).await.unwrap()[0].failure_streak, trouble);
    }
}

async fn a_stale_epoch_writes_nothing(house: Fixture) {
    let stale = house.claimed().await.lease;
    house.store.release_auto_certificate(&stale, house.now(), RunOutcome::Finished).await.unwrap();
    let current = house.claim(stale.id).await.lease;
    let trouble = FailureStreak::after(None, Failure::retry("late"), house.now(), None, 0.5);
    let store = &house.store;
    for refused in [
        store.record_failure_streak(&stale, &trouble).await,
        store.clear_renewal_request(&stale).await,
        store.release_auto_certificate(&stale, house.now(), RunOutcome::Finished).await,
        store.purge_auto_certificate(&stale).await,
    ] {
        assert!(matches!(refused, Err(StoreError::LostLease)), "{refused:?}");
    }
    assert_eq!(store.renew_lease(&stale).await.unwrap(), LeaseState::Lost);
    assert_eq!(store.progress(&[stale.id]).await.unwrap()[0].runs, 1);
    assert_eq!(store.renew_lease(&current).await.unwrap(), LeaseState::Held);

    // Another process has the same epoch in its hands, but is not the owner.
    let other = house.open_again().await.unwrap();
    assert_eq!(other.renew_lease(&current).await.unwrap(), LeaseState::Lost);
    assert!(matches!(other.record_failure_streak(&current, &trouble).await, Err(StoreError::LostLease)));
}

async fn many_who_claim_at_once_share_nothing(house: Fixture) {
    let provider = house.provider().await;
    for number in 0..40 {
        house.auto_certificate(provider.id, &format!("n{number}.example.com")).await;
    }
    let other = house.open_again().await.unwrap();
    let mut claiming = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { house.store.clone() } else { other.clone() };
        let now = house.now();
        claiming.spawn(async move { claim_due(&store, now, 4).await });
    }
    let claims = claiming.join_all().await;
    assert!(claims.iter().all(|claims| claims.len() <= 4), "more was claimed than asked for");
    let ids: Vec<_> = claims.iter().flatten().map(|claim| claim.lease.id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a row was claimed twice");
    // Those who looked at the same rows as another may come back with less; the next look finds the rest.
    let rest = claim_due(&house.store, house.now(), 100).await;
    assert_eq!(ids.len() + rest.len(), 40);
}

/// Another session holds its claim uncommitted. PostgreSQL lets the second claim look at the same rows and then wait:
/// only the lease predicate, asked for again, keeps it from taking them too. SQLite lets it wait before it looks.
async fn a_claim_sees_a_lease_that_is_not_committed_yet(house: Fixture) {
    let provider = house.provider().await;
    for number in 0..6 {
        house.auto_certificate(provider.id, &format!("n{number}.example.com")).await;
    }
    let begin = if house.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut held = house.raw.begin_with(begin).await.unwrap();
    let taken = sqlx::query(
        "UPDATE auto_certificates SET lease_owner = 'someone', lease_until = 9000000000000000000 \
         WHERE id IN (SELECT id FROM auto_certificates ORDER BY id LIMIT 4) RETURNING id",
    )
    .fetch_all(&mut *held)
    .await
    .unwrap();
    assert_eq!(taken.len(), 4);

    let (store, now) = (house.store.clone(), house.now());
    let claiming = tokio::spawn(async move { claim_due(&store, now, 6).await });
    if house.is_sqlite() {
        assert!(!claiming.is_finished());
    } else {
        wait_for_a_blocked_session(&house).await;
    }
    held.commit().await.unwrap();

    let taken: HashSet<String> = taken.iter().map(|row| sqlx::Row::get(row, "id")).collect();
    let claimed = claiming.await.unwrap();
    assert!(claimed.iter().all(|claim| !taken.contains(&claim.lease.id.to_string())), "a common row");
    let rest = claim_due(&house.store, house.now(), 6).await;
    assert_eq!(claimed.len() + rest.len(), 2);
}

async fn wait_for_a_blocked_session(house: &Fixture) {
    loop {
        let blocked = sqlx::query(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
        .fetch_one(&house.raw)
        .await
        .unwrap();
        if sqlx::Row::get::<i64, _>(&blocked, 0) > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn nothing_is_purged_that_still_lives(house: Fixture) {
    let claim = house.claimed().await;
    assert!(matches!(house.store.purge_auto_certificate(&claim.lease).await, Err(StoreError::RecordsRemaining)));
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    house.store.delete_auto_certificate(claim.lease.id).await.unwrap();
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
    assert!(house.store.open_attempt(claim.lease.id).await.unwrap().is_none(), "the attempt goes with it");
    assert!(matches!(house.store.purge_auto_certificate(&claim.lease).await, Err(StoreError::LostLease)));
}

async fn one_damaged_row_holds_up_no_other(house: Fixture) {
    let provider = house.provider().await;
    house.auto_certificate(provider.id, "bad.example.com").await;
    let good = house.auto_certificate(provider.id, "good.example.com").await.id;
    let damaged = "UPDATE auto_certificates SET trouble = '{}' WHERE common_name = 'bad.example.com'";
    assert_eq!(house.execute_sql(damaged).await, 1);
    let claims = claim_due(&house.store, house.now(), 10).await;
    assert_eq!(claims.iter().map(|claim| claim.lease.id).collect::<Vec<_>>(), [good]);
}

async fn what_a_clock_ahead_put_off_is_looked_at_again(house: Fixture) {
    house.turn(Duration::days(365));
    let claim = house.claimed().await;
    let far = house.now() + Duration::days(60);
    house.store.release_auto_certificate(&claim.lease, far, RunOutcome::Finished).await.unwrap();
    assert_eq!(earliest(&house).await, Some(house.now() + Duration::days(1)), "a look a day");
    assert_eq!(house.store.repair_next_checks(house.now(), false).await.unwrap(), 0);

    house.turn(Duration::days(-365));
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert_eq!(house.store.repair_next_checks(house.now(), false).await.unwrap(), 1);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [claim.lease.id]);
}

async fn the_last_issued_is_the_newest_even_after_the_clock_was_set_back(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "a.example.com").await.id;
    house.issue(id, Duration::days(90)).await;
    house.turn(Duration::hours(-2));
    let second = house.issue(id, Duration::days(90)).await;
    assert_eq!(house.reload(id).await.standing.newest.unwrap().id, second);
}
