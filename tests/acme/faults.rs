//! CAs in trouble: what they say, when to come back, and what that means.

use std::sync::Arc;

use autocertd::acme::{AcmeError, AwaitedState};
use autocertd::config::time_span::TimeSpan;
use autocertd::domain::failure::disposition::Disposition;
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::ManualClock;
use autocertd::runtime::network_fault::NetworkFault;
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions, RequestInfo};
use autocertd_support::loopback::own_address;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use time::Duration;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, answer_all, client, client_at, names, server, settings};

#[tokio::test]
async fn retry_after_in_seconds_as_a_date_and_without_is_kept() {
    let stage = Fixture::start_trusting().await;
    let credentials = stage.register(None).await.unwrap();
    let now = Moment::from_micros(1_700_000_000_000_000);
    let clock = Arc::new(ManualClock::starting_at(now));
    let client = client_at(&settings(vec![stage.proxy.root_pem_path()]), clock);
    let account = client.account(&credentials).await.unwrap();
    let later = Some(now + Duration::seconds(120));
    for (value, not_before) in [(Some("120"), later), (Some("Tue, 14 Nov 2023 22:15:20 GMT"), later), (None, None)] {
        let (retry, down) = (Disposition::Retry { not_before }, Disposition::ProviderDown { not_before });
        for (status, words, expected) in [
            (429, OF_A_DOMAIN, retry),
            (429, OF_THE_ACCOUNT, down),
            (429, "too many requests", down),
            (503, OF_A_DOMAIN, down),
        ] {
            stage.proxy.set_hook(on("new-order", move || limited(status, words, value)));
            let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
            assert_eq!(error.disposition(), expected, "{error}");
            let told = if value.is_some() { "; not before 2023-11-14T22:15:20Z" } else { "" };
            assert!(error.to_string().ends_with(&format!("HTTP {status}, {words} (rateLimited){told}")), "{error}");
        }
        // A gateway's own limit, and one that is met before the CA knows what for.
        stage.proxy.set_hook(on("new-order", move || answer(429, "<html>slow down</html>", value)));
        let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
        assert_eq!(error.disposition(), down, "{error}");
        stage.proxy.set_hook(on("new-nonce", move || limited(429, OF_A_DOMAIN, value)));
        let error =
            client.account(&credentials).await.unwrap().new_order(&names(&["example.com"])).await.err().unwrap();
        assert_eq!(error.disposition(), down, "{error}");
        assert!(error.to_string().contains("give a nonce"), "{error}");
    }
}

#[tokio::test]
async fn a_paused_name_waits_for_a_person_and_gives_the_page_to_visit() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    stage.proxy.set_hook(on("new-order", || limited(429, PAUSED, None)));
    let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(
        error.to_string().contains("https://portal.example/unpause") && error.to_string().contains("lift"),
        "{error}"
    );
    stage.proxy.set_hook(on("new-order", || limited(429, PAUSED, Some("60"))));
    let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
    assert!(matches!(error.disposition(), Disposition::Retry { not_before: Some(_) }), "{error}");
}

#[tokio::test]
async fn a_page_instead_of_a_problem_keeps_its_status_and_words() {
    let stage = Fixture::start_trusting().await;
    let account = stage.account().await;
    stage.proxy.set_hook(on("new-order", page));
    let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
    assert!(matches!(error.disposition(), Disposition::ProviderDown { not_before: Some(_) }));
    assert!(error.to_string().contains("HTTP 503") && error.to_string().contains("back soon"), "{error}");
    stage.proxy.set_hook(on("new-nonce", page));
    let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
    assert!(error.to_string().contains("could not give a nonce"), "{error}");
}

#[tokio::test]
async fn a_long_pause_is_handed_to_the_caller_and_not_slept_through() {
    let mut stage = Fixture::start_trusting().await;
    stage.client = stage.client_with(|settings| settings.poll_timeout = TimeSpan::seconds(5));
    let mut order = stage.account().await.new_order(&names(&["example.com"])).await.unwrap();
    let url = order.url();
    stage.proxy.set_hook(on("order", move || {
        let body = format!(r#"{{"status": "pending", "authorizations": [], "finalize": "{url}"}}"#);
        Action::Respond(200, headers([(RETRY_AFTER, "3600")]), body.into())
    }));
    let error = order.await_ready(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, AcmeError::PollTimedOut { waiting: AwaitedState::Ready, .. }), "{error:?}");
    assert!(matches!(error.disposition(), Disposition::Retry { not_before: Some(_) }));
    assert!(stage.proxy.count("order") <= 2, "one look, and perhaps one for what single names lack");
}

#[tokio::test]
async fn an_order_that_is_never_done_is_given_up_for_now() {
    let mut stage = Fixture::start_trusting().await;
    stage.client = stage.client_with(|settings| settings.poll_timeout = TimeSpan::millis(100));
    let mut order = stage.account().await.new_order(&names(&["example.com"])).await.unwrap();
    let error = order.await_ready(&CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::RETRY, "{error}");
}

#[tokio::test]
async fn every_way_not_to_be_reached_is_told_apart() {
    let mut stage = Fixture::start_trusting().await;
    stage.client = stage.client_with(|settings| settings.timeout = TimeSpan::millis(1_500));
    let account = stage.account().await;
    let faults: [(fn() -> Action, NetworkFault); 3] = [
        (|| Action::Cut, NetworkFault::Broken),
        (|| Action::Truncate, NetworkFault::Broken),
        (|| Action::Stall(std::time::Duration::from_mins(10)), NetworkFault::TimedOut),
    ];
    for (action, expected) in faults {
        let before = stage.proxy.count("new-order");
        stage.proxy.set_hook(on("new-order", action));
        let error = account.new_order(&names(&["example.com"])).await.err().unwrap();
        assert_eq!(fault(&error), Some(expected), "{error:?}");
        assert!(matches!(error.disposition(), Disposition::ProviderDown { not_before: None }));
        assert_eq!(stage.proxy.count("new-order"), before + 1, "an order is never sent twice by itself");
    }

    let nobody = own_address();
    let mut registration = stage.registration(None);
    registration.server = server(&format!("https://{nobody}/dir"));
    let error = stage.client.prepare_registration(&registration).await.unwrap_err();
    assert_eq!(fault(&error), Some(NetworkFault::Connect), "{error:?}");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");

    let distrusting = client(&settings(Vec::new()));
    let error = distrusting.prepare_registration(&stage.registration(None)).await.unwrap_err();
    assert_eq!(fault(&error), Some(NetworkFault::UnknownIssuer), "{error:?}");
    assert!(error.to_string().contains("extra_roots"), "{error}");
}

#[tokio::test]
async fn plain_http_is_spoken_only_where_it_is_allowed() {
    let stage = Fixture::start_trusting().await;
    let upstream_root_pem = Some(stage.pebble.root_pem().to_owned());
    let upstream = format!("https://{}", stage.pebble.address());
    let plain = FaultProxy::start(FaultProxyOptions { upstream, upstream_root_pem, tls: false }).await.unwrap();
    let mut registration = stage.registration(None);
    registration.server = server(&plain.directory_url());
    let error = stage.client.prepare_registration(&registration).await.unwrap_err();
    assert_eq!((fault(&error), error.disposition()), (Some(NetworkFault::Forbidden), Disposition::Operator));
    assert_eq!(plain.requests().len(), 0);

    let allowing = stage.client_with(|settings| settings.allow_http = true);
    allowing.prepare_registration(&registration).await.unwrap();
    assert_eq!(plain.count("directory"), 1);
    assert_eq!(plain.count("new-nonce"), 1, "Pebble builds the scheme of its URLs from what the proxy says");
}

#[tokio::test]
async fn a_directory_is_fetched_once_and_a_broken_one_not_kept() {
    let stage = Fixture::start_trusting().await;
    stage.proxy.set_hook(on("directory", page));
    let error = stage.register(None).await.unwrap_err();
    assert!(error.to_string().contains("could not show its directory: HTTP 503"), "{error}");
    stage.proxy.set_hook(on("directory", || Action::Respond(200, HeaderMap::new(), "<html>welcome</html>".into())));
    let error = stage.register(None).await.unwrap_err();
    assert!(matches!(error, AcmeError::Unreadable { .. }), "{error:?}");
    assert!(matches!(error.disposition(), Disposition::ProviderDown { .. }));

    stage.proxy.set_hook(Box::new(|_| Action::Pass));
    let credentials = stage.register(None).await.unwrap();
    for _ in 0..3 {
        let account = stage.client.account(&credentials).await.unwrap();
        answer_all(&mut account.new_order(&names(&["example.com"])).await.unwrap()).await.unwrap();
    }
    assert_eq!(stage.proxy.count("directory"), 3, "two broken ones and one good one");

    stage.proxy.set_hook(on("new-order", page));
    let account = stage.client.account(&credentials).await.unwrap();
    assert!(account.new_order(&names(&["example.com"])).await.is_err());
    stage.proxy.set_hook(Box::new(|_| Action::Pass));
    stage.client.account(&credentials).await.unwrap();
    assert_eq!(stage.proxy.count("directory"), 4, "after an answer that is none of ACME it is read anew");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stage = Fixture::start_trusting().await;
    stage.proxy.set_hook(on("directory", || {
        Action::Respond(302, headers([(http::header::LOCATION, "https://elsewhere.example/")]), "".into())
    }));
    let error = stage.register(None).await.unwrap_err();
    assert!(error.to_string().contains("HTTP 302"), "{error}");
    assert_eq!(stage.proxy.requests().len(), 1);
}

pub(crate) fn on(
    kind: &'static str,
    action: impl Fn() -> Action + Send + Sync + 'static,
) -> Box<dyn Fn(&RequestInfo) -> Action + Send + Sync> {
    Box::new(move |request| if request.kind == kind { action() } else { Action::Pass })
}

pub(crate) fn limited(status: u16, words: &str, retry_after: Option<&'static str>) -> Action {
    let body = format!(r#"{{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "{words}"}}"#);
    answer(status, &body, retry_after)
}

fn answer(status: u16, body: &str, retry_after: Option<&'static str>) -> Action {
    let mut headers = headers([(CONTENT_TYPE, "application/problem+json")]);
    if let Some(value) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
    }
    Action::Respond(status, headers, body.to_owned().into())
}

pub(crate) fn page() -> Action {
    Action::Respond(
        503,
        headers([(CONTENT_TYPE, "text/html"), (RETRY_AFTER, "60")]),
        "<html>\n<p>back soon</p></html>".into(),
    )
}

pub(crate) fn headers<const N: usize>(pairs: [(HeaderName, &'static str); N]) -> HeaderMap {
    pairs.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

fn fault(error: &AcmeError) -> Option<NetworkFault> {
    match error {
        AcmeError::Unreachable(unreachable) => Some(unreachable.fault),
        _ => None,
    }
}

const OF_A_DOMAIN: &str = "too many certificates (50) already issued for 'example.com' in the last 168h0m0s";
const OF_THE_ACCOUNT: &str = "too many new orders (300) from this account in the last 3h0m0s";
const PAUSED: &str = "Your account is temporarily prevented from requesting certificates for example.com. \
    Please visit: https://portal.example/unpause";
