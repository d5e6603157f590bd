//! Orders that are kept back, and what ends that.

use autocertd::domain::auto_certificate::AutoCertificateFacts;
use autocertd::domain::disposition::Failure;
use autocertd::domain::hold::{Deferral, DeferralCause};
use autocertd::domain::ledger::LimitKind;
use autocertd::domain::plan::{RenewalAction, RenewalReason, plan};
use autocertd::store::{ClaimedAutoCertificate, StoreError};
use time::Duration;

use crate::house::{House, new_certificate, on_both, trouble_of};

on_both! {
    what_is_held_back_waits_until_then
    a_person_and_other_limits_end_a_hold
    what_was_tried_is_held_back_no_longer
    a_wake_during_the_work_comes_before_the_hold
    a_hold_by_a_clock_that_was_ahead_is_mended
}

async fn what_is_held_back_waits_until_then(house: House) {
    let claim = house.claimed().await;
    let hold = hold(&house, Duration::minutes(36));
    house.store.hold_back(&claim.lease, &hold).await.unwrap();
    assert!(matches!(house.store.hold_back(&claim.lease, &hold).await, Err(StoreError::LostLease)));
    let standing = standing(&house, &claim).await;
    assert_eq!((standing.hold.as_ref(), standing.running), (Some(&hold), false));
    let planned = plan(&standing, house.now());
    assert_eq!((planned.action, planned.reason, planned.next_look), (RenewalAction::Idle, RenewalReason::Limit, hold.until));
    assert_eq!(house.store.earliest_look(house.now()).await.unwrap(), Some(hold.until));
    let progress = &house.store.progress(&[claim.lease.id]).await.unwrap()[0];
    assert_eq!((progress.runs, progress.hold.as_ref()), (1, Some(&hold)), "those who follow see an end");

    let claim = house.claim(claim.lease.id).await;
    let until = house.now() + Duration::days(5);
    house.store.hold_back(&claim.lease, &Deferral { until, ..hold }).await.unwrap();
    let capped = self::standing(&house, &claim).await.hold.unwrap();
    assert_eq!(capped.until, house.now() + Duration::DAY, "after a day it is looked at anew");
}

async fn a_person_and_other_limits_end_a_hold(house: House) {
    let claim = house.claimed().await;
    let id = claim.lease.id;
    house.store.hold_back(&claim.lease, &hold(&house, Duration::HOUR)).await.unwrap();
    house.store.request_renewal(id).await.unwrap();
    let asked = standing(&house, &claim).await;
    assert_eq!((asked.hold.as_ref(), asked.renewal_requested), (None, true));

    let down = Deferral { cause: DeferralCause::ProviderDown, ..hold(&house, Duration::HOUR) };
    for (hold, ended) in [(hold(&house, Duration::HOUR), 1), (down, 0)] {
        let claim = house.claim(id).await;
        house.store.hold_back(&claim.lease, &hold).await.unwrap();
        assert_eq!(house.store.end_limit_holds().await.unwrap(), ended);
        assert_eq!(house.store.due(house.now()).await.unwrap().len() as u64, ended);
    }
}

async fn what_was_tried_is_held_back_no_longer(house: House) {
    let claim = house.claimed().await;
    let id = claim.lease.id;
    house.store.hold_back(&claim.lease, &hold(&house, Duration::HOUR)).await.unwrap();
    let claim = house.claim(id).await;
    house.store.record_trouble(&claim.lease, &trouble_of(Failure::retry("a fault"))).await.unwrap();
    assert_eq!(standing(&house, &claim).await.hold, None);

    house.store.hold_back(&claim.lease, &hold(&house, Duration::HOUR)).await.unwrap();
    let claim = house.claim(id).await;
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    house.store.store_issued(&claim.lease, &attempt, &new, None, house.now()).await.unwrap();
    assert_eq!(standing(&house, &claim).await.hold, None);
}

async fn a_wake_during_the_work_comes_before_the_hold(house: House) {
    let claim = house.claimed().await;
    house.store.request_renewal(claim.lease.id).await.unwrap();
    house.store.hold_back(&claim.lease, &hold(&house, Duration::HOUR)).await.unwrap();
    assert_eq!(standing(&house, &claim).await.hold, None);
    assert_eq!(house.store.due(house.now()).await.unwrap(), [claim.lease.id]);
}

async fn a_hold_by_a_clock_that_was_ahead_is_mended(house: House) {
    let claim = house.claimed().await;
    house.turn(Duration::days(400));
    house.store.hold_back(&claim.lease, &hold(&house, Duration::HOUR)).await.unwrap();
    house.turn(-Duration::days(400));
    assert_eq!(house.store.mend_looks(house.now(), false).await.unwrap(), 1);
    assert_eq!(standing(&house, &claim).await.hold, None);
    assert_eq!(house.store.due(house.now()).await.unwrap(), [claim.lease.id]);
}

fn hold(house: &House, span: Duration) -> Deferral {
    Deferral {
        until: house.now() + span,
        cause: DeferralCause::Limit {
            kind: LimitKind::Orders,
            description: "orders of the account (300 in 3 h)".to_owned(),
        },
    }
}

async fn standing(house: &House, claim: &ClaimedAutoCertificate) -> AutoCertificateFacts {
    house.reload(claim.lease.id).await.standing
}
