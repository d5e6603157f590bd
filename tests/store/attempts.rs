//! Attempts, stage by stage.

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::renewal::attempt::{Attempt, Planned, SigningRequest, Stage, StageKind, Stored};
use autocertd::domain::renewal::renewal_info::CertId;
use autocertd::domain::value::server_url::OrderUrl;
use autocertd::store::{AutoCertificateLease, RunOutcome, StoreError};
use secrecy::{ExposeSecret, SecretString};
use time::Duration;

use crate::fixture::{Fixture, first_failure_streak, new_certificate, on_both};

on_both! {
    every_stage_reads_back_with_its_data
    what_an_order_replaces_is_forgotten_where_it_is_not_taken_so
    what_was_issued_is_stored_in_one_step_and_once
    a_failed_attempt_leaves_no_key_and_room_for_the_next
    an_attempt_that_is_over_takes_no_stage
    who_was_asked_last_and_who_issued_is_kept
    a_stale_epoch_stores_no_stage
}

async fn open(house: &Fixture, lease: &AutoCertificateLease) -> Attempt {
    house.store.open_attempt(lease.id).await.unwrap().expect("an attempt is open")
}

fn order() -> OrderUrl {
    OrderUrl::from("https://ca.example/order/1".to_owned())
}

fn replaced() -> CertId {
    "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".parse().unwrap()
}

fn request() -> SigningRequest {
    SigningRequest { private_key: SecretString::from("a private key"), csr: vec![0, 1, 255] }
}

async fn every_stage_reads_back_with_its_data(house: Fixture) {
    let claim = house.claimed().await;
    let begun = Attempt { replaces: Some(replaced()), ..house.attempt(&claim) };
    house.store.begin_attempt(&claim.lease, &begun).await.unwrap();
    let mut walked = Vec::new();
    loop {
        let attempt = open(&house, &claim.lease).await;
        assert_eq!((attempt.id, &attempt.names, attempt.started), (begun.id, &begun.names, begun.started));
        assert_eq!((attempt.provider, &attempt.reason), (begun.provider, &begun.reason));
        assert_eq!(attempt.replaces, begun.replaces);
        walked.push(attempt.stage.kind());
        assert_eq!(house.reload(claim.lease.id).await.standing.open_attempt, Some(attempt.stage.kind()));
        let next = match attempt.stage {
            Stage::Planned(stage) => stage.ordered(order()),
            Stage::Ordered(stage) => stage.presented(),
            Stage::Presented(stage) => stage.answered(),
            Stage::Answered(stage) => stage.ready(),
            Stage::Ready(stage) => stage.finalizing(request()),
            Stage::Finalizing(stage) => {
                assert_eq!(stage.request.csr, request().csr);
                stage.issued("the chain".to_owned())
            }
            Stage::Issued(stage) => {
                assert_eq!(stage.request.private_key.expose_secret(), request().private_key.expose_secret());
                assert_eq!((stage.order, stage.chain.as_str()), (order(), "the chain"));
                break;
            }
            Stage::Stored(_) => unreachable!("it was not stored"),
        };
        house.store.store_stage(&claim.lease, begun.id, &next).await.unwrap();
    }
    assert_eq!(walked, StageKind::ALL[..7]);
}

async fn what_an_order_replaces_is_forgotten_where_it_is_not_taken_so(house: Fixture) {
    let claim = house.claimed().await;
    let begun = Attempt { replaces: Some(replaced()), ..house.attempt(&claim) };
    house.store.begin_attempt(&claim.lease, &begun).await.unwrap();
    house.store.clear_replaces(&claim.lease, begun.id).await.unwrap();
    assert_eq!(open(&house, &claim.lease).await.replaces, None);
    let stale = AutoCertificateLease { epoch: claim.lease.epoch - 1, ..claim.lease };
    assert!(matches!(house.store.clear_replaces(&stale, begun.id).await, Err(StoreError::LostLease)));
}

async fn what_was_issued_is_stored_in_one_step_and_once(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = house.attempt(&claim);
    let (store, lease) = (&house.store, &claim.lease);
    store.begin_attempt(lease, &attempt).await.unwrap();
    store.store_stage(lease, attempt.id, &Planned.ordered(order())).await.unwrap();
    let trouble = FailureStreak::after(None, Failure::retry("earlier"), house.now(), None, 0.5);
    store.record_failure_streak(lease, &trouble).await.unwrap();

    house.turn(Duration::minutes(2));
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    let id = store.store_issued(lease, &attempt, &new, None, house.now()).await.unwrap();
    let again = store.store_issued(lease, &attempt, &new, None, house.now()).await.unwrap();
    assert_eq!(again, id, "asked again it is the same certificate");

    let standing = house.reload(lease.id).await.standing;
    assert_eq!((standing.last_issued, standing.failure_streak, standing.open_attempt), (Some(house.now()), None, None));
    assert_eq!(standing.newest.map(|newest| newest.id), Some(id));
    assert!(store.open_attempt(lease.id).await.unwrap().is_none());
    let key = store.certificate_private_key(id).await.unwrap().unwrap();
    assert_eq!(key.expose_secret(), new.private_key.expose_secret());
}

async fn a_failed_attempt_leaves_no_key_and_room_for_the_next(house: Fixture) {
    let claim = house.claimed().await;
    let (store, lease) = (&house.store, &claim.lease);
    let first = house.attempt(&claim);
    store.begin_attempt(lease, &first).await.unwrap();
    store.store_stage(lease, first.id, &Planned.ordered(order())).await.unwrap();
    let ready = autocertd::domain::renewal::attempt::Ready { order: order() };
    store.store_stage(lease, first.id, &ready.finalizing(request())).await.unwrap();
    let second = house.attempt(&claim);
    assert!(store.begin_attempt(lease, &second).await.is_err(), "only one attempt is open");
    assert_eq!(open(&house, lease).await.id, first.id);

    store.end_attempt(lease, first.id, &first_failure_streak(Failure::restart("the order expired"))).await.unwrap();
    assert!(store.open_attempt(lease.id).await.unwrap().is_none());
    let kept =
        sqlx::query("SELECT id FROM attempts WHERE private_key IS NOT NULL").fetch_all(&house.raw).await.unwrap();
    assert!(kept.is_empty(), "the key of a failed attempt is kept");

    store.begin_attempt(lease, &second).await.unwrap();
    assert_eq!(open(&house, lease).await.id, second.id);
    let all = sqlx::query("SELECT id FROM attempts").fetch_all(&house.raw).await.unwrap();
    assert_eq!(all.len(), 1, "attempts pile up");
}

async fn an_attempt_that_is_over_takes_no_stage(house: Fixture) {
    let claim = house.claimed().await;
    let (store, lease) = (&house.store, &claim.lease);
    let attempt = house.attempt(&claim);
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    let stage = Planned.ordered(order());
    let over = |result: Result<(), StoreError>| matches!(result, Err(StoreError::AttemptOver(id)) if id == attempt.id);
    assert!(over(store.store_stage(lease, attempt.id, &stage).await), "never begun");
    assert!(over(store.store_issued(lease, &attempt, &new, None, house.now()).await.map(|_| ())));

    store.begin_attempt(lease, &attempt).await.unwrap();
    store.end_attempt(lease, attempt.id, &first_failure_streak(Failure::restart("gone"))).await.unwrap();
    assert!(over(store.store_stage(lease, attempt.id, &stage).await));
    assert!(over(store.end_attempt(lease, attempt.id, &first_failure_streak(Failure::restart("twice"))).await));
    assert!(over(store.store_issued(lease, &attempt, &new, None, house.now()).await.map(|_| ())));
    assert!(store.certificates(crate::fixture::ALL, None, None).await.unwrap().items.is_empty(), "half a step stayed");
}

async fn who_was_asked_last_and_who_issued_is_kept(house: Fixture) {
    let claim = house.claimed().await;
    let (store, lease) = (&house.store, &claim.lease);
    let (primary, fallback) = (claim.auto_certificate.provider, house.provider().await.id);
    let (first, mut second) = (house.attempt(&claim), house.attempt(&claim));
    second.provider = fallback;
    store.begin_attempt(lease, &first).await.unwrap();
    assert_eq!(store.last_tried_provider(lease.id).await.unwrap(), None, "it is still tried");
    store.end_attempt(lease, first.id, &first_failure_streak(Failure::restart("over"))).await.unwrap();
    assert_eq!(store.last_tried_provider(lease.id).await.unwrap(), Some(primary));

    house.turn(Duration::minutes(1));
    store.begin_attempt(lease, &second).await.unwrap();
    assert_eq!(open(&house, lease).await.provider, fallback);
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    store.store_issued(lease, &second, &new, None, house.now()).await.unwrap();
    let auto_certificate = house.reload(lease.id).await;
    assert_eq!(auto_certificate.standing.newest.unwrap().issuer, Some(fallback));
    assert_eq!(auto_certificate.provider, primary, "the wish has not changed");
    assert_eq!(store.last_tried_provider(lease.id).await.unwrap(), Some(fallback));
}

async fn a_stale_epoch_stores_no_stage(house: Fixture) {
    let claim = house.claimed().await;
    let (store, stale) = (&house.store, claim.lease);
    let attempt = house.attempt(&claim);
    store.begin_attempt(&stale, &attempt).await.unwrap();
    store.release_auto_certificate(&stale, house.now(), RunOutcome::Interrupted).await.unwrap();
    let current = house.claim(stale.id).await;
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    let stored = Stage::Stored(Stored { certificate: uuid::Uuid::nil().into() });
    for refused in [
        store.begin_attempt(&stale, &house.attempt(&current)).await,
        store.store_stage(&stale, attempt.id, &Planned.ordered(order())).await,
        store.store_stage(&stale, attempt.id, &stored).await,
        store.end_attempt(&stale, attempt.id, &first_failure_streak(Failure::retry("late"))).await,
        store.store_issued(&stale, &attempt, &new, None, house.now()).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(StoreError::LostLease)), "{refused:?}");
    }
    assert_eq!(open(&house, &current.lease).await.stage.kind(), StageKind::Planned);
    assert!(house.reload(stale.id).await.standing.newest.is_none());
}
