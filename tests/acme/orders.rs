//! Orders: to the certificate, resumed by their URL in every state, and refused.

use autocertd::acme::{AcmeError, AuthorizationState, ChallengeKind, OrderState};
use autocertd::domain::failure::disposition::Disposition;
use autocertd::domain::value::server_url::OrderUrl;
use autocertd_support::fault_proxy::{Action, RequestInfo};
use autocertd_support::pebble::PebbleOptions;
use tokio_util::sync::CancellationToken;

use crate::challenge_dns::ChallengeDns;
use crate::fixture::{Fixture, answer_all, complete, csr, names};

#[tokio::test]
async fn a_name_and_its_wildcard_are_proven_by_two_records_of_one_name() {
    let dns = ChallengeDns::start().await;
    let stage = Fixture::start(PebbleOptions { dns_server: Some(dns.address), ..PebbleOptions::default() }).await;
    let names = names(&["example.com", "*.example.com"]);
    let mut order = stage.account().await.new_order(&names).await.unwrap();
    assert_eq!(order.state(), OrderState::Pending);
    let authorizations = order.load_authorizations().await.unwrap();
    assert_eq!(authorizations.len(), 2);
    assert_eq!(authorizations.iter().filter(|authorization| authorization.wildcard).count(), 1);
    for authorization in &authorizations {
        assert_eq!((authorization.name.as_str(), authorization.state), ("example.com", AuthorizationState::Pending));
        dns.add_txt("_acme-challenge.example.com", &authorization.dns01.as_ref().unwrap().txt_value).await;
    }
    let pem = complete(&mut order, &names).await.unwrap();
    assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----").count(), 2, "leaf and intermediate");
}

#[tokio::test]
async fn half_of_all_nonces_refused_is_no_obstacle() {
    let stage =
        Fixture::start(PebbleOptions { nonce_reject: 50, always_valid: true, ..PebbleOptions::default() }).await;
    let names = names(&["example.com", "example.org"]);
    let account = stage.account().await;
    let mut order = account.new_order(&names).await.unwrap();
    complete(&mut order, &names).await.unwrap();
    let finished = account.load_order(&order.url()).await.unwrap().await_certificate(&CancellationToken::new()).await;
    assert!(finished.is_ok());
}

#[tokio::test]
async fn an_order_is_resumed_by_its_url_in_every_state() {
    let stage = Fixture::start_trusting().await;
    let names = names(&["example.com"]);
    let credentials = stage.register(None).await.unwrap();
    let never = CancellationToken::new();
    let url = stage.client.account(&credentials).await.unwrap().new_order(&names).await.unwrap().url();
    let resumed = async || {
        let restarted = stage.client_with(|_| {});
        restarted.account(&credentials).await.unwrap().load_order(&url).await.unwrap()
    };

    let mut pending = resumed().await;
    assert_eq!(pending.state(), OrderState::Pending);
    answer_all(&mut pending).await.unwrap();

    let mut answered = resumed().await;
    answer_all(&mut answered).await.unwrap();
    answered.await_ready(&never).await.unwrap();

    let mut ready = resumed().await;
    assert_eq!(ready.state(), OrderState::Ready);
    ready.await_ready(&never).await.unwrap();
    assert_eq!(ready.load_authorizations().await.unwrap()[0].state, AuthorizationState::Valid);
    answer_all(&mut ready).await.unwrap();
    ready.finalize(&csr(&names)).await.unwrap();

    let mut finalized = resumed().await;
    finalized.await_ready(&never).await.unwrap();
    let pem = finalized.await_certificate(&never).await.unwrap();

    let mut finished = resumed().await;
    assert_eq!(finished.state(), OrderState::Valid);
    finished.await_ready(&never).await.unwrap();
    finished.finalize(&csr(&names)).await.unwrap();
    assert_eq!(finished.await_certificate(&never).await.unwrap(), pem);

    assert_eq!(stage.proxy.count("finalize"), 1, "a finished order is not finalized again");
    assert_eq!(stage.proxy.count("new-order"), 1);
    assert_eq!(stage.proxy.count("challenge"), 1);
}

#[tokio::test]
async fn a_second_answer_to_a_challenge_is_harmless() {
    let stage = Fixture::start_trusting().await;
    let mut order = stage.account().await.new_order(&names(&["example.com"])).await.unwrap();
    let authorizations = order.load_authorizations().await.unwrap();
    order.answer(&authorizations[0], ChallengeKind::Dns01).await.unwrap();
    order.answer(&authorizations[0], ChallengeKind::Dns01).await.unwrap();
    assert_eq!(stage.proxy.count("challenge"), 2, "the second answer was sent, and refused by the CA");
    order.await_ready(&CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn valid_authorizations_of_an_earlier_order_need_no_answer() {
    let stage =
        Fixture::start(PebbleOptions { authz_reuse: 100, always_valid: true, ..PebbleOptions::default() }).await;
    let names = names(&["example.com"]);
    let account = stage.account().await;
    complete(&mut account.new_order(&names).await.unwrap(), &names).await.unwrap();
    // On a task of its own, as issuance does it: handles and their waits can be sent.
    let second = async move { complete(&mut account.new_order(&names).await?, &names).await };
    tokio::spawn(second).await.unwrap().unwrap();
    assert_eq!(stage.proxy.count("challenge"), 1);
}

#[tokio::test]
async fn a_failed_validation_tells_the_name_and_the_cas_words() {
    let dns = ChallengeDns::start().await;
    let stage = Fixture::start(PebbleOptions { dns_server: Some(dns.address), ..PebbleOptions::default() }).await;
    let account = stage.account().await;
    let mut order = account.new_order(&names(&["*.example.com"])).await.unwrap();
    dns.add_txt("_acme-challenge.example.com", "wrong").await;
    answer_all(&mut order).await.unwrap();
    let error = order.await_ready(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&error, AcmeError::OrderFailed(problems) if problems.len() == 1), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Restart);
    let words = error.to_string();
    assert!(words.contains("*.example.com: ") && words.contains("(unauthorized)"), "{words}");

    let mut resumed = account.load_order(&order.url()).await.unwrap();
    assert_eq!(resumed.state(), OrderState::Invalid);
    assert_eq!(
        resumed.await_certificate(&CancellationToken::new()).await.unwrap_err().disposition(),
        Disposition::Restart
    );
}

#[tokio::test]
async fn an_order_that_the_ca_does_not_have_is_made_anew() {
    let stage = Fixture::start_trusting().await;
    let gone = OrderUrl::from(format!("{}/my-order/gone", stage.proxy.url()));
    let error = stage.account().await.load_order(&gone).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Restart, "{error}");
}

#[tokio::test]
async fn redundant_and_blocked_names_are_refused_in_the_cas_words() {
    let blocked_names = vec!["blocked.example".to_owned()];
    let stage = Fixture::start(PebbleOptions { blocked_names, ..PebbleOptions::default() }).await;
    let account = stage.account().await;
    let error = account.new_order(&names(&["*.example.com", "www.example.com"])).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains(r#"Domain name "www.example.com" is redundant with a wildcard"#), "{error}");
    account.new_order(&names(&["*.example.com", "example.com"])).await.unwrap();

    let error = account.new_order(&names(&["www.blocked.example"])).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains("rejectedIdentifier"), "{error}");
    let asked: Vec<_> =
        stage.proxy.requests().iter().map(RequestInfo::ordered_names).filter(|names| !names.is_empty()).collect();
    assert_eq!(
        asked,
        [vec!["*.example.com", "www.example.com"], vec!["*.example.com", "example.com"], vec!["www.blocked.example"]]
    );
}

#[tokio::test]
async fn a_wait_ends_when_it_is_cancelled() {
    let dns = ChallengeDns::start().await;
    let stage = Fixture::start(PebbleOptions { dns_server: Some(dns.address), ..PebbleOptions::default() }).await;
    let mut order = stage.account().await.new_order(&names(&["example.com"])).await.unwrap();
    let cancelled = CancellationToken::new();
    let (outcome, ()) = tokio::join!(order.await_ready(&cancelled), async { cancelled.cancel() });
    assert!(matches!(outcome, Err(AcmeError::Cancelled)));
}

#[tokio::test]
async fn a_name_without_a_dns_challenge_needs_a_person() {
    let stage = Fixture::start_trusting().await;
    let mut order = stage.account().await.new_order(&names(&["example.com"])).await.unwrap();
    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "authz" => Action::Respond(
            200,
            http::HeaderMap::new(),
            r#"{"status": "pending", "identifier": {"type": "dns", "value": "example.com"}, "challenges": [
                {"type": "http-01", "url": "https://ca.example/1", "token": "t", "status": "pending"},
                {"type": "odd-01", "url": "https://ca.example/2", "token": "t", "status": "pending"}]}"#
                .into(),
        ),
        _ => Action::Pass,
    }));
    let error = order.load_authorizations().await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains("http-01, odd-01"), "{error}");
}

#[tokio::test]
async fn a_chain_with_a_key_in_it_is_refused() {
    let stage = Fixture::start_trusting().await;
    let names = names(&["example.com"]);
    let account = stage.account().await;
    let mut order = account.new_order(&names).await.unwrap();
    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "certificate" => Action::Respond(
            200,
            http::HeaderMap::new(),
            "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".into(),
        ),
        _ => Action::Pass,
    }));
    let error = complete(&mut order, &names).await.unwrap_err();
    assert!(matches!(error, AcmeError::UnacceptableChain(_)), "{error}");
    stage.proxy.set_hook(Box::new(|_| Action::Pass));
    order.await_certificate(&CancellationToken::new()).await.unwrap();
}
