//! Registration: with and without an external account binding, and through crashes.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use autocertd::acme::{AccountCredentials, AcmeError, ProblemKind};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd_support::fault_proxy::Action;
use autocertd_support::pebble::PebbleOptions;
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

use crate::fixture::{Fixture, binding, names};

#[tokio::test]
async fn an_account_is_registered_in_two_steps() {
    let stage = Fixture::start_trusting().await;
    let prepared = stage.client.prepare_registration(&stage.registration(None)).await.unwrap();
    assert_eq!(stage.proxy.count("new-account"), 0, "nothing is sent before the key can be stored");
    let pending = prepared.credentials().clone();
    assert!(AccountCredentials::from_stored(pending.clone()).is_err(), "it is no account yet");

    let credentials = stage.client.send_registration(prepared).await.unwrap();
    assert_eq!(stage.proxy.count("new-account"), 1);
    assert!(credentials.account_url().starts_with(&format!("{}/my-account/", stage.proxy.url())));

    let stored =
        AccountCredentials::from_stored(SecretString::from(credentials.as_json().expose_secret().to_owned())).unwrap();
    assert_eq!(stored.account_url(), credentials.account_url());
    let account = stage.client.account(&stored).await.unwrap();
    account.new_order(&names(&["example.com"])).await.unwrap();

    let found = stage.client.recover_registration(&stage.server(), &pending).await.unwrap().unwrap();
    assert_eq!(found.account_url(), credentials.account_url());
    assert_eq!(found.as_json().expose_secret(), credentials.as_json().expose_secret());
}

#[tokio::test]
async fn a_binding_is_sent_and_one_that_is_wrong_is_refused() {
    let stage = Fixture::start(bound()).await;
    stage.register(Some(binding(KEY_ID, KEY))).await.unwrap();
    // With any padding, and in the other alphabet.
    stage.register(Some(binding(KEY_ID, &format!("{KEY}==")))).await.unwrap();
    stage.register(Some(binding(KEY_ID, &format!(" {}\n", KEY.replace('-', "+").replace('_', "/"))))).await.unwrap();

    let missing = stage.register(None).await.unwrap_err();
    assert_eq!(missing.kind(), Some(ProblemKind::ExternalAccountRequired));
    for wrong in [binding("unknown", KEY), binding(KEY_ID, OTHER_KEY)] {
        let failure = Failure::from(stage.register(Some(wrong)).await.unwrap_err());
        assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
        assert!(
            failure.message.contains("external account binding") && !failure.message.contains(OTHER_KEY),
            "{failure}"
        );
    }
    let sent = stage.proxy.count("new-account");
    let nonsense = stage.register(Some(binding(KEY_ID, "no base64"))).await.unwrap_err();
    assert!(matches!(nonsense, AcmeError::UnusableBinding(_)));
    assert_eq!(stage.proxy.count("new-account"), sent, "an unreadable key is not sent");
}

#[tokio::test]
async fn terms_that_nobody_accepted_are_told_with_their_url() {
    let mut stage = Fixture::start_trusting().await;
    stage.client = stage.client_with(|settings| settings.accept_terms_of_service = false);
    let error = stage.register(None).await.unwrap_err();
    assert!(matches!(error, AcmeError::TermsNotAccepted { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Operator);
    let words = error.to_string();
    assert!(words.contains("data:text/plain,Do%20what%20thou%20wilt"), "{words}");
    assert!(words.contains("accept_terms_of_service = true"), "{words}");
}

#[tokio::test]
async fn a_crash_before_sending_leaves_the_binding_unused() {
    let stage = Fixture::start(bound()).await;
    let prepared = stage.client.prepare_registration(&stage.registration(Some(binding(KEY_ID, KEY)))).await.unwrap();
    let pending = prepared.credentials().clone();
    drop(prepared);
    let restarted = stage.client_with(|_| {});
    assert!(restarted.recover_registration(&stage.server(), &pending).await.unwrap().is_none());
    stage.register(Some(binding(KEY_ID, KEY))).await.unwrap();
}

#[tokio::test]
async fn a_crash_after_sending_finds_the_same_account() {
    let stage = Fixture::start(bound()).await;
    let prepared = stage.client.prepare_registration(&stage.registration(Some(binding(KEY_ID, KEY)))).await.unwrap();
    let pending = prepared.credentials().clone();
    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "new-account" => Action::KillAfter(Box::new(|| {})),
        _ => Action::Pass,
    }));
    let lost = stage.client.send_registration(prepared).await.unwrap_err();
    assert!(matches!(lost, AcmeError::Unreachable(_)), "{lost:?}");

    stage.proxy.set_hook(Box::new(|_| Action::Pass));
    let restarted = stage.client_with(|_| {});
    let found = restarted.recover_registration(&stage.server(), &pending).await.unwrap().unwrap();
    let again = restarted.recover_registration(&stage.server(), &pending).await.unwrap().unwrap();
    assert_eq!(found.account_url(), again.account_url());
    let account = restarted.account(&found).await.unwrap();
    account.new_order(&names(&["example.com"])).await.unwrap();
}

#[tokio::test]
async fn nothing_is_known_while_the_ca_does_not_answer() {
    let stage = Fixture::start_trusting().await;
    let prepared = stage.client.prepare_registration(&stage.registration(None)).await.unwrap();
    stage.proxy.set_hook(Box::new(|_| Action::Cut));
    let error = stage.client.recover_registration(&stage.server(), prepared.credentials()).await.unwrap_err();
    assert!(matches!(error.disposition(), Disposition::ProviderDown { .. }));
}

#[tokio::test]
async fn a_bad_nonce_at_registration_is_left_to_the_caller() {
    let stage = Fixture::start(PebbleOptions { nonce_reject: 100, ..PebbleOptions::default() }).await;
    let prepared = stage.client.prepare_registration(&stage.registration(None)).await.unwrap();
    let error = stage.client.send_registration(prepared).await.unwrap_err();
    assert!(matches!(error, AcmeError::BadNonce), "{error:?}");
    assert_eq!(stage.proxy.count("new-account"), 1, "what was signed once is sent once");
}

#[tokio::test]
async fn no_secret_reaches_a_log_or_a_debug_form() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let stage = Fixture::start(bound()).await;
    let registration = stage.registration(Some(binding(KEY_ID, KEY)));
    let prepared = stage.client.prepare_registration(&registration).await.unwrap();
    let pending = prepared.credentials().clone();
    let stored: serde_json::Value = serde_json::from_str(pending.expose_secret()).unwrap();
    let account_key = stored["key_pkcs8"].as_str().unwrap();
    let shown = format!("{registration:?} {prepared:?} {pending:?}");
    let credentials = stage.client.send_registration(prepared).await.unwrap();
    let refused = stage.register(Some(binding(KEY_ID, OTHER_KEY))).await.unwrap_err();
    let shown = format!("{shown} {credentials:?} {refused:?} {refused} {}", log.text());

    assert!(shown.contains("/sign-me-up"), "the exchange is logged: {shown}");
    for secret in [KEY, OTHER_KEY, account_key] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_new_contact_is_told_under_the_same_account() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    account.update_contact(&"new@example.com".parse().unwrap()).await.unwrap();
    let told = stage.proxy.requests().into_iter().rfind(|request| request.kind == "account").unwrap();
    assert_eq!(told.payload.unwrap(), serde_json::json!({ "contact": ["mailto:new@example.com"] }));

    stage.proxy.set_hook(Box::new(|request| match request.kind {
        "account" => Action::Respond(400, HeaderMap::new(), INVALID_CONTACT.into()),
        _ => Action::Pass,
    }));
    let failure = Failure::from(account.update_contact(&"new@example.com".parse().unwrap()).await.unwrap_err());
    assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    assert!(failure.message.contains("refused to take the new contact"), "{failure}");
}

fn bound() -> PebbleOptions {
    PebbleOptions {
        eab_required: true,
        eab_keys: BTreeMap::from([(KEY_ID.to_owned(), KEY.to_owned())]),
        always_valid: true,
        ..PebbleOptions::default()
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const KEY_ID: &str = "kid-1";
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const OTHER_KEY: &str = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH";
const INVALID_CONTACT: &str = r#"{"type": "urn:ietf:params:acme:error:invalidContact", "detail": "no such domain"}"#;
