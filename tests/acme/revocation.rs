//! Revocation: by the account that ordered, for each reason, told twice, refused and unanswered.

use autocertd::acme::{AcmeAccount, ProblemKind};
use autocertd::domain::certificate::leaf::Leaf;
use autocertd::domain::certificate::revocation::RevocationReason;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd_support::fault_proxy::Action;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::fixture::{Fixture, complete, names};

#[tokio::test]
async fn the_ca_knows_each_reason_by_its_code() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    for (reason, code) in [
        (RevocationReason::Unspecified, 0),
        (RevocationReason::KeyCompromise, 1),
        (RevocationReason::AffiliationChanged, 3),
        (RevocationReason::Superseded, 4),
        (RevocationReason::CessationOfOperation, 5),
    ] {
        let chain = issued(&account).await;
        assert_eq!(status(&stage, &chain).await["Status"], "Valid");
        account.revoke(&leaf(&chain), reason).await.unwrap();
        let revoked = status(&stage, &chain).await;
        assert_eq!((&revoked["Status"], &revoked["Reason"]), (&"Revoked".into(), &code.into()), "{revoked:#}");
    }
}

#[tokio::test]
async fn told_twice_it_is_as_good() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    let chain = issued(&account).await;
    account.revoke(&leaf(&chain), RevocationReason::Superseded).await.unwrap();
    account.revoke(&leaf(&chain), RevocationReason::KeyCompromise).await.unwrap();
    assert_eq!(stage.proxy.count("revoke"), 2);
    assert_eq!(status(&stage, &chain).await["Reason"], 4, "the first reason stays");
}

#[tokio::test]
async fn another_account_needs_a_person() {
    let stage = Fixture::start_trusting().await;
    let chain = issued(&stage.account().await).await;
    let stranger = stage.account().await;
    let error = stranger.revoke(&leaf(&chain), RevocationReason::Superseded).await.unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    assert!(failure.message.contains("refused to revoke the certificate"), "{failure}");
    assert!(failure.message.contains("whoever holds its private key"), "{failure}");
    assert_eq!(status(&stage, &chain).await["Status"], "Valid");
}

/// Pebble refuses codes that no reason of ours has, so that its words come from the proxy.
#[tokio::test]
async fn a_reason_that_the_ca_does_not_take_needs_a_person() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    let chain = issued(&account).await;
    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "revoke" => Action::Respond(400, HeaderMap::new(), BAD_REASON.into()),
        _ => Action::Pass,
    }));
    let error = account.revoke(&leaf(&chain), RevocationReason::AffiliationChanged).await.unwrap_err();
    assert_eq!(error.kind(), Some(ProblemKind::BadRevocationReason));
    let failure = Failure::from(error);
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(failure.message.contains("give a reason that the CA takes"), "{failure}");
}

#[tokio::test]
async fn a_ca_that_does_not_answer_is_asked_again_later() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    let chain = issued(&account).await;
    stage.proxy.set_hook(Box::new(|request| if request.kind == "revoke" { Action::Cut } else { Action::Pass }));
    let error = account.revoke(&leaf(&chain), RevocationReason::Superseded).await.unwrap_err();
    assert!(matches!(error.disposition(), Disposition::ProviderDown { .. }), "{error}");
    stage.proxy.set_hook(Box::new(|_| Action::Pass));
    account.revoke(&leaf(&chain), RevocationReason::Superseded).await.unwrap();
    assert_eq!(status(&stage, &chain).await["Status"], "Revoked");
}

async fn issued(account: &AcmeAccount) -> String {
    let names = names(&["example.com"]);
    let mut order = account.new_order(&names).await.unwrap();
    complete(&mut order, &names).await.unwrap()
}

fn leaf(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

/// What Pebble's management interface says of the certificate.
async fn status(stage: &Fixture, chain: &str) -> Value {
    stage.pebble.certificate_status(&Leaf::from_pem(chain).unwrap().serial_number).await.unwrap()
}

const BAD_REASON: &str =
    r#"{"type": "urn:ietf:params:acme:error:badRevocationReason", "detail": "affiliationChanged is not taken here"}"#;
