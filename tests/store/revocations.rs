//! Revocations: wished, claimed, done or tried again; and keys that are never used again.

use autocertd::domain::certificate::revocation::{Revocation, RevocationReason};
use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::renewal::attempt::{Ready, SigningRequest, Stage, StageKind};
use autocertd::domain::renewal::plan::{RenewalAction, RenewalReason, plan_renewal};
use autocertd::domain::value::id::{AutoCertificateId, CertificateId};
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::server_url::{OrderUrl, PlainHttpPolicy, ServerUrl};
use autocertd::store::{RevocationClaim, RevocationRequestOutcome, RunOutcome, StoreError, Takeover, TakeoverOutcome};
use rcgen::{CertificateParams, KeyPair};
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::{Fixture, actor, name, new_certificate, on_both};

on_both! {
    a_wish_is_stored_and_its_auto_certificate_is_due
    what_was_claimed_is_free_after_its_time_and_done_once
    what_fails_is_tried_again_until_it_expires
    what_waits_for_a_person_is_tried_again_when_one_asks
    a_claim_that_lapsed_writes_no_failure_but_a_success
    what_is_still_to_be_revoked_is_not_deleted
    only_the_newest_is_replaced
    what_was_not_issued_here_is_not_revoked
    asked_again_the_last_reason_counts_until_it_is_done
    whoever_issued_it_is_told
    a_compromised_key_comes_in_by_no_way
    an_open_attempt_with_a_compromised_key_begins_anew
    a_certificate_is_found_by_its_serial_number
    a_clock_that_was_ahead_puts_no_revocation_off
}

const LIFETIME: Duration = Duration::days(90);

async fn issued(house: &Fixture) -> (AutoCertificateId, CertificateId) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    (id, house.issue(id, LIFETIME).await)
}

async fn request_revocation(house: &Fixture, id: CertificateId, reason: RevocationReason) -> RevocationClaim {
    match house.store.request_revocation(id, reason).await.unwrap() {
        RevocationRequestOutcome::Stored(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

async fn claim_due(house: &Fixture) -> Vec<RevocationClaim> {
    house.store.claim_due_revocations(house.now(), 10).await.unwrap()
}

async fn kept(house: &Fixture, id: CertificateId) -> Option<Revocation> {
    house.store.certificate(id).await.unwrap().unwrap().revocation
}

fn failure_streak(now: Moment) -> FailureStreak {
    FailureStreak::after(None, Failure::retry("no answer"), now, None, 0.5)
}

async fn a_wish_is_stored_and_its_auto_certificate_is_due(house: Fixture) {
    let (auto_certificate, id) = issued(&house).await;
    let held = house.claim(auto_certificate).await;
    house.store.record_failure_streak(&held.lease, &failure_streak(house.now())).await.unwrap();
    house
        .store
        .release_auto_certificate(&held.lease, house.now() + Duration::days(1), RunOutcome::Finished)
        .await
        .unwrap();
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert_eq!(kept(&house, id).await, None);

    let claim = request_revocation(&house, id, RevocationReason::Superseded).await;
    let wished = Revocation::new(RevocationReason::Superseded, house.now());
    assert_eq!((claim.certificate, claim.auto_certificate, &claim.revocation), (id, auto_certificate, &wished));
    assert_eq!(kept(&house, id).await, Some(wished));
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [auto_certificate]);
    let standing = house.reload(auto_certificate).await.standing;
    assert_eq!((standing.newest.unwrap().revoked, standing.valid_until()), (true, None));
    let planned = plan_renewal(&standing, house.now());
    assert_eq!(
        (planned.action, planned.reason),
        (RenewalAction::Start, RenewalReason::Revoked),
        "an earlier pause does not count"
    );

    house.turn(Duration::minutes(1));
    house.issue(auto_certificate, LIFETIME).await;
    assert!(!house.reload(auto_certificate).await.standing.newest.unwrap().revoked);
}

async fn what_was_claimed_is_free_after_its_time_and_done_once(house: Fixture) {
    let (_, id) = issued(&house).await;
    request_revocation(&house, id, RevocationReason::CessationOfOperation).await;
    assert!(claim_due(&house).await.is_empty(), "whoever asked has it");
    house.turn(Duration::minutes(1));
    assert_eq!(house.store.earliest_revocation_check().await.unwrap(), Some(house.now()));
    let claim = claim_due(&house).await.pop().expect("whoever asked is gone");
    assert!(claim_due(&house).await.is_empty());

    let revoked = house.store.record_revocation_done(&claim, house.now()).await.unwrap();
    assert_eq!(revoked.done_at, Some(house.now()));
    assert_eq!(kept(&house, id).await, Some(revoked.clone()));
    assert_eq!(house.store.earliest_revocation_check().await.unwrap(), None);
    house.turn(Duration::days(1));
    assert!(claim_due(&house).await.is_empty());
    let again = house.store.request_revocation(id, RevocationReason::Superseded).await.unwrap();
    assert!(matches!(again, RevocationRequestOutcome::AlreadyRevoked(done) if done == revoked));
}

async fn what_fails_is_tried_again_until_it_expires(house: Fixture) {
    let (_, id) = issued(&house).await;
    let claim = request_revocation(&house, id, RevocationReason::Superseded).await;
    let first = failure_streak(house.now());
    let failed = house.store.record_revocation_failure_streak(&claim, first.clone()).await.unwrap();
    assert_eq!((failed.done_at, failed.failure_streak.as_ref()), (None, Some(&first)));
    assert_eq!(kept(&house, id).await, Some(failed));
    assert_eq!(house.store.earliest_revocation_check().await.unwrap(), Some(first.next_try));

    house.turn(first.next_try - house.now());
    let claim = claim_due(&house).await.pop().unwrap();
    assert_eq!(claim.revocation.failure_streak, Some(first));
    let far =
        Failure { disposition: Disposition::Retry { not_before: Some(house.now() + LIFETIME) }, ..Failure::retry("") };
    let last = FailureStreak::after(None, far, house.now(), None, 0.5);
    house.store.record_revocation_failure_streak(&claim, last).await.unwrap();
    let next = kept(&house, id).await.unwrap().failure_streak.unwrap().next_try;
    assert!(house.now() < next && next < claim.leaf.not_after, "the CA's pause is longer than the certificate lives");

    house.turn(claim.leaf.not_after - house.now() - Duration::minutes(1));
    let claim = claim_due(&house).await.pop().unwrap();
    house.store.record_revocation_failure_streak(&claim, failure_streak(house.now())).await.unwrap();
    assert_eq!(house.store.earliest_revocation_check().await.unwrap(), None, "an expired one needs no revocation");
    assert!(kept(&house, id).await.unwrap().failure_streak.is_some());
}

async fn what_waits_for_a_person_is_tried_again_when_one_asks(house: Fixture) {
    let (_, id) = issued(&house).await;
    for (failure, waits) in [(Failure::retry("busy"), false), (Failure::operator("no account"), true)] {
        let far = Duration::days(1);
        let trouble = FailureStreak {
            next_try: house.now() + far,
            ..FailureStreak::after(None, failure, house.now(), None, 0.5)
        };
        let claim = request_revocation(&house, id, RevocationReason::Superseded).await;
        assert_eq!(house.store.recheck_operator_failures().await.unwrap(), 0, "somebody is at it");
        house.store.record_revocation_failure_streak(&claim, trouble).await.unwrap();
        assert_eq!(house.store.recheck_operator_failures().await.unwrap(), u64::from(waits));
        assert_eq!(claim_due(&house).await.len(), usize::from(waits));
    }
}

async fn a_claim_that_lapsed_writes_no_failure_but_a_success(house: Fixture) {
    let (_, id) = issued(&house).await;
    let stale = request_revocation(&house, id, RevocationReason::Superseded).await;
    house.turn(Duration::minutes(1));
    let current = claim_due(&house).await.pop().unwrap();
    let late = house.store.record_revocation_failure_streak(&stale, failure_streak(house.now())).await;
    assert!(matches!(late, Err(StoreError::LostLease)), "{late:?}");
    assert_eq!(kept(&house, id).await.unwrap().failure_streak, None);
    house.store.record_revocation_done(&stale, house.now()).await.unwrap();
    let late = house.store.record_revocation_failure_streak(&current, failure_streak(house.now())).await;
    assert!(matches!(late, Err(StoreError::LostLease)), "{late:?}");
    assert_eq!(kept(&house, id).await.unwrap().done_at, Some(house.now()));
}

async fn what_is_still_to_be_revoked_is_not_deleted(house: Fixture) {
    let (auto_certificate, id) = issued(&house).await;
    let claim = request_revocation(&house, id, RevocationReason::Superseded).await;
    for _ in 0..2 {
        let refused = house.store.delete_certificate(id).await;
        assert!(matches!(refused, Err(StoreError::RevocationPending)), "{refused:?}");
        house.store.record_revocation_failure_streak(&claim, failure_streak(house.now())).await.ok();
    }
    house.store.record_revocation_done(&claim, house.now()).await.unwrap();
    assert_eq!(house.store.certificate_to_revoke(auto_certificate).await.unwrap(), None);
    assert!(house.store.delete_certificate(id).await.unwrap());
    assert!(!house.store.delete_certificate(id).await.unwrap());
}

async fn only_the_newest_is_replaced(house: Fixture) {
    let (auto_certificate, older) = issued(&house).await;
    house.turn(Duration::days(60));
    let newer = house.issue(auto_certificate, LIFETIME).await;
    request_revocation(&house, older, RevocationReason::Superseded).await;
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert!(!house.reload(auto_certificate).await.standing.newest.unwrap().revoked);

    assert_eq!(house.store.certificate_to_revoke(auto_certificate).await.unwrap(), Some(older));
    house.store.delete_certificate(newer).await.unwrap();
    let standing = house.reload(auto_certificate).await.standing;
    assert_eq!(plan_renewal(&standing, house.now()).reason, RenewalReason::Revoked, "a revoked one is no way back");
}

async fn what_was_not_issued_here_is_not_revoked(house: Fixture) {
    let new = new_certificate("mine", None, house.now(), LIFETIME);
    let uploaded = house.store.upload_certificate(&new, &actor()).await.unwrap().id;
    let ask = |id| house.store.request_revocation(id, RevocationReason::KeyCompromise);
    assert!(matches!(ask(uploaded).await.unwrap(), RevocationRequestOutcome::NotIssuedHere));
    assert!(matches!(ask(uuid::Uuid::nil().into()).await.unwrap(), RevocationRequestOutcome::Missing));
    assert_eq!(kept(&house, uploaded).await, None);
}

async fn asked_again_the_last_reason_counts_until_it_is_done(house: Fixture) {
    let (_, id) = issued(&house).await;
    let first = request_revocation(&house, id, RevocationReason::Superseded).await;
    let begun = house.now();
    house.store.record_revocation_failure_streak(&first, failure_streak(house.now())).await.unwrap();
    house.turn(Duration::seconds(5));
    let second = request_revocation(&house, id, RevocationReason::AffiliationChanged).await;
    assert_eq!(second.revocation, Revocation::new(RevocationReason::AffiliationChanged, begun));
    house.store.record_revocation_done(&second, house.now()).await.unwrap();

    let key = house.store.certificate(id).await.unwrap().unwrap();
    let late = house.store.request_revocation(id, RevocationReason::KeyCompromise).await.unwrap();
    assert!(
        matches!(late, RevocationRequestOutcome::AlreadyRevoked(done) if done.reason == RevocationReason::AffiliationChanged)
    );
    let private_key = house.store.certificate_private_key(id).await.unwrap().unwrap();
    let copy = autocertd::domain::certificate::NewCertificate {
        name: name("a copy"),
        certificate: key.certificate,
        chain: key.chain,
        private_key,
        leaf: key.leaf,
    };
    let refused = house.store.upload_certificate(&copy, &actor()).await;
    assert!(matches!(refused, Err(StoreError::CompromisedKey)), "what became known later counts all the same");
}

async fn whoever_issued_it_is_told(house: Fixture) {
    let (auto_certificate, id) = issued(&house).await;
    let provider = house.reload(auto_certificate).await.provider;
    assert_eq!(request_revocation(&house, id, RevocationReason::Superseded).await.provider, Some(provider));
    house.execute_sql("UPDATE certificates SET provider_id = '00000000-0000-0000-0000-000000000000'").await;
    let told = request_revocation(&house, id, RevocationReason::Superseded).await.provider;
    assert_eq!(told, Some(uuid::Uuid::nil().into()));
    house.execute_sql("UPDATE certificates SET provider_id = NULL").await;
    house.store.delete_auto_certificate(auto_certificate).await.unwrap();
    let claim = house.claim(auto_certificate).await;
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
    assert_eq!(request_revocation(&house, id, RevocationReason::Superseded).await.provider, None);
}

async fn a_compromised_key_comes_in_by_no_way(house: Fixture) {
    let (auto_certificate, id) = issued(&house).await;
    let stored = house.store.certificate(id).await.unwrap().unwrap();
    let copy = autocertd::domain::certificate::NewCertificate {
        name: name("a copy"),
        certificate: stored.certificate,
        chain: stored.chain,
        private_key: house.store.certificate_private_key(id).await.unwrap().unwrap(),
        leaf: stored.leaf,
    };
    let take = Takeover {
        name: name("elsewhere"),
        common_name: "elsewhere.example.com".parse().unwrap(),
        subject_alternative_names: Vec::new(),
        key_algorithm: "secp256r1".parse().unwrap(),
        server: ServerUrl::parse("https://ca.example/directory", PlainHttpPolicy::Refused).unwrap(),
        email: Some("ops@example.com".parse().unwrap()),
        account: None,
        certificate: Some(copy.clone()),
    };
    request_revocation(&house, id, RevocationReason::Superseded).await;
    let uploaded = house.store.upload_certificate(&copy, &actor()).await.unwrap().id;
    assert!(matches!(
        &house.store.dry_run_takeovers(&[&take], &actor(), 50).await.unwrap()[..],
        [TakeoverOutcome::Created { .. }]
    ));
    house.store.delete_certificate(uploaded).await.unwrap();

    request_revocation(&house, id, RevocationReason::KeyCompromise).await;
    let refused = house.store.upload_certificate(&copy, &actor()).await.unwrap_err();
    assert!(matches!(refused, StoreError::CompromisedKey));
    assert_eq!(house.store.take_over(&take, &actor(), 50).await.unwrap(), TakeoverOutcome::CompromisedKey);
    let claim = house.claim(auto_certificate).await;
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    let refused = house.store.store_issued(&claim.lease, &attempt, &copy, None, house.now()).await.unwrap_err();
    assert!(matches!(refused, StoreError::CompromisedKey));
    let another = new_certificate("another", None, house.now(), LIFETIME);
    house.store.store_issued(&claim.lease, &attempt, &another, None, house.now()).await.unwrap();
}

async fn an_open_attempt_with_a_compromised_key_begins_anew(house: Fixture) {
    let (_, id) = issued(&house).await;
    let key = house.store.certificate_private_key(id).await.unwrap().unwrap();
    let provider = house.provider().await.id;
    let mut leases = Vec::new();
    for pem in [key.expose_secret().to_owned(), KeyPair::generate().unwrap().serialize_pem()] {
        let of = house.auto_certificate(provider, "other.example.com").await.id;
        let claim = house.claim(of).await;
        let attempt = house.attempt(&claim);
        house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
        house.store.store_stage(&claim.lease, attempt.id, &finalizing(&pem)).await.unwrap();
        leases.push((claim.lease, attempt));
    }
    request_revocation(&house, id, RevocationReason::KeyCompromise).await;
    let [(lease, attempt), (other, _)] = &leases[..] else { panic!() };
    assert!(house.store.open_attempt(lease.id).await.unwrap().is_none());
    let late = house.store.store_stage(lease, attempt.id, &finalizing(key.expose_secret())).await;
    assert!(matches!(late, Err(StoreError::LostLease)), "whoever worked on it is fenced off: {late:?}");
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().contains(&lease.id));
    let untouched = house.store.open_attempt(other.id).await.unwrap().unwrap();
    assert_eq!(untouched.stage.kind(), StageKind::Finalizing);
}

fn finalizing(pem: &str) -> Stage {
    let key = KeyPair::from_pem(pem).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let order = OrderUrl::from("https://ca.example/order/1".to_owned());
    Ready { order }.finalizing(SigningRequest { private_key: pem.to_owned().into(), csr })
}

async fn a_certificate_is_found_by_its_serial_number(house: Fixture) {
    let (_, id) = issued(&house).await;
    let other = new_certificate("other", None, house.now(), LIFETIME);
    house.store.upload_certificate(&other, &actor()).await.unwrap();
    let serial = house.store.certificate(id).await.unwrap().unwrap().leaf.serial_number;
    for text in [serial.clone(), serial.replace(':', "").to_lowercase()] {
        assert_eq!(house.store.certificates_with_serial(&text.parse().unwrap()).await.unwrap(), [id], "{text}");
    }
    assert!(house.store.certificates_with_serial(&"01".parse().unwrap()).await.unwrap().is_empty());
}

async fn a_clock_that_was_ahead_puts_no_revocation_off(house: Fixture) {
    let (_, id) = issued(&house).await;
    house.turn(Duration::days(10));
    request_revocation(&house, id, RevocationReason::Superseded).await;
    house.turn(Duration::days(-10));
    assert!(claim_due(&house).await.is_empty());
    assert!(house.store.repair_next_checks(house.now(), false).await.unwrap() >= 1);
    assert_eq!(claim_due(&house).await.len(), 1);
}
