//! Orders that are kept back, and what ends that.

use autocertd::domain::failure::deferral::{Deferral, DeferralCause};
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::provider::rate_limit_ledger::LimitKind;
use autocertd::domain::renewal::facts::AutoCertificateFacts;
use autocertd::domain::renewal::plan::{RenewalAction, RenewalReason, plan_renewal};
use autocertd::store::{ClaimedAutoCertificate, StoreError};
use time::Duration;

use crate::fixture::{Fixture, first_failure_streak, new_certificate, on_both};

on_both! {
    what_is_held_back_waits_until_then
    a_person_and_other_limits_end_a_hold
    what_was_tried_is_held_back_no_longer
    a_wake_during_the_work_comes_before_the_hold
    a_hold_by_a_clock_that_was_ahead_is_mended
}

async fn what_is_held_back_waits_until_then(house: Fixture) {
    let claim = house.claimed().await;
    let hold = deferral(&house, Duration::minutes(36));
    house.store.defer(&claim.lease, &hold).await.unwrap();
    assert!(matches!(house.store.defer(&claim.lease, &hold).await, Err(StoreError::LostLease)));
    let standing = facts(&house, &claim).await;
    assert_eq!((standing.deferral.as_ref(), standing.running), (Some(&hold), false));
    let planned = plan_renewal(&standing, house.now());
    assert_eq!(
        (planned.action, planned.reason, planned.next_check),
        (RenewalAction::Idle, RenewalReason::RateLimited, hold.until)
    );
    assert_eq!(house.store.earliest_check(house.now()).await.unwrap(), Some(hold.until));
    let progress = &house.store.progress(&[claim.lease.id]).await.unwrap()[0];
    assert_eq!((progress.runs, progress.deferral.as_ref()), (1, Some(&hold)), "those who follow see an end");

    let claim = house.claim(claim.lease.id).await;
    let until = house.now() + Duration::days(5);
    house.store.defer(&claim.lease, &Deferral { until, ..hold }).await.unwrap();
    let capped = self::facts(&house, &claim).await.deferral.unwrap();
    assert_eq!(capped.until, house.now() + Duration::DAY, "after a day it is looked at anew");
}

async fn a_person_and_other_limits_end_a_hold(house: Fixture) {
    let claim = house.claimed().await;
    let id = claim.lease.id;
    house.store.defer(&claim.lease, &deferral(&house, Duration::HOUR)).await.unwrap();
    house.store.request_renewal(id).await.unwrap();
    let asked = facts(&house, &claim).await;
    assert_eq!((asked.deferral.as_ref(), asked.renewal_requested), (None, true));

    let down = Deferral { cause: DeferralCause::ProviderDown, ..deferral(&house, Duration::HOUR) };
    for (hold, ended) in [(deferral(&house, Duration::HOUR), 1), (down, 0)] {
        let claim = house.claim(id).await;
        house.store.defer(&claim.lease, &hold).await.unwrap();
        assert_eq!(house.store.end_limit_deferrals().await.unwrap(), ended);
        assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap().len() as u64, ended);
    }
}

async fn what_was_tried_is_held_back_no_longer(house: Fixture) {
    let claim = house.claimed().await;
    let id = claim.lease.id;
    house.store.defer(&claim.lease, &deferral(&house, Duration::HOUR)).await.unwrap();
    let claim = house.claim(id).await;
    house.store.record_failure_streak(&claim.lease, &first_failure_streak(Failure::retry("a fault"))).await.unwrap();
    assert_eq!(facts(&house, &claim).await.deferral, None);

    house.store.defer(&claim.lease, &deferral(&house, Duration::HOUR)).await.unwrap();
    let claim = house.claim(id).await;
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    house.store.store_issued(&claim.lease, &attempt, &new, None, house.now()).await.unwrap();
    assert_eq!(facts(&house, &claim).await.deferral, None);
}

async fn a_wake_during_the_work_comes_before_the_hold(house: Fixture) {
    let claim = house.claimed().await;
    house.store.request_renewal(claim.lease.id).await.unwrap();
    house.store.defer(&claim.lease, &deferral(&house, Duration::HOUR)).await.unwrap();
    assert_eq!(facts(&house, &claim).await.deferral, None);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [claim.lease.id]);
}

async fn a_hold_by_a_clock_that_was_ahead_is_mended(house: Fixture) {
    let claim = house.claimed().await;
    house.turn(Duration::days(400));
    house.store.defer(&claim.lease, &deferral(&house, Duration::HOUR)).await.unwrap();
    house.turn(-Duration::days(400));
    assert_eq!(house.store.repair_next_checks(house.now(), false).await.unwrap(), 1);
    assert_eq!(facts(&house, &claim).await.deferral, None);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [claim.lease.id]);
}

fn deferral(house: &Fixture, span: Duration) -> Deferral {
    Deferral {
        until: house.now() + span,
        cause: DeferralCause::RateLimit {
            kind: LimitKind::Orders,
            description: "orders of the account (300 in 3 h)".to_owned(),
        },
    }
}

async fn facts(house: &Fixture, claim: &ClaimedAutoCertificate) -> AutoCertificateFacts {
    house.reload(claim.lease.id).await.standing
}
