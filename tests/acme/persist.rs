//! dns-persist-01 against Pebble: a standing record proves a name and its wildcard, for its own account only.

use autocertd::acme::{AcmeError, Authorization, ChallengeKind, Order};
use autocertd::domain::renewal::dns_persist::PersistRecord;
use autocertd::domain::value::name::DnsName;
use autocertd_support::pebble::PebbleOptions;
use tokio_util::sync::CancellationToken;

use crate::challenge_dns::ChallengeDns;
use crate::fixture::{Fixture, csr, names};

/// The record that this authorization wants, with the policy that a wildcard needs.
fn wanted(authorization: &Authorization, account: &str) -> PersistRecord {
    let issuer = &authorization.dns_persist01.as_ref().unwrap().issuers[0];
    PersistRecord::new(&authorization.name, issuer, account, true)
}

async fn finish(order: &mut Order, names: &[DnsName]) -> Result<String, AcmeError> {
    let never = CancellationToken::new();
    for authorization in order.load_authorizations().await? {
        order.answer(&authorization, ChallengeKind::DnsPersist01).await?;
    }
    order.await_ready(&never).await?;
    order.finalize(&csr(names)).await?;
    order.await_certificate(&never).await
}

#[tokio::test]
async fn one_standing_record_proves_a_name_and_its_wildcard_again_and_again() {
    let dns = ChallengeDns::start().await;
    let stage = Fixture::start(PebbleOptions { dns_server: Some(dns.address), ..PebbleOptions::default() }).await;
    let names = names(&["example.com", "*.example.com"]);
    let account = stage.account().await;
    let mut first = account.new_order(&names).await.unwrap();
    let authorizations = first.load_authorizations().await.unwrap();
    let record = wanted(&authorizations[0], account.url());
    assert_eq!(record, wanted(&authorizations[1], account.url()));
    assert!(record.content.starts_with("pebble.letsencrypt.org; accounturi=https://"), "{record:?}");
    dns.add_txt(&record.name, &record.content).await;
    finish(&mut first, &names).await.unwrap();
    finish(&mut account.new_order(&names).await.unwrap(), &names).await.unwrap();
}

#[tokio::test]
async fn a_record_for_another_account_proves_nothing() {
    let dns = ChallengeDns::start().await;
    let stage = Fixture::start(PebbleOptions { dns_server: Some(dns.address), ..PebbleOptions::default() }).await;
    let names = names(&["example.org"]);
    let mut order = stage.account().await.new_order(&names).await.unwrap();
    let authorizations = order.load_authorizations().await.unwrap();
    let record = wanted(&authorizations[0], "https://ca.example/another");
    dns.add_txt(&record.name, &record.content).await;
    let refused = finish(&mut order, &names).await.unwrap_err();
    assert!(matches!(refused, AcmeError::OrderFailed(_)), "{refused}");
    assert!(refused.to_string().contains("accounturi mismatch"), "{refused}");
}
