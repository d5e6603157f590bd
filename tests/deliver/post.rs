//! Empty requests to services that are reloaded so.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use autocertd::config::delivery::ReloadEntry;
use autocertd::deliver::reload::{Reload, ReloadContext, ReloadReached};
use autocertd::domain::failure::disposition::Failure;
use autocertd::runtime::randomness::Randomness;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, post};
use tokio::net::TcpListener;

type Seen = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn a_post_with_nothing_in_it_is_sent() {
    let (address, seen) = service().await;
    reload(&format!("url = 'http://{address}/reload?token=s3cret'")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["/reload 0"]);
}

#[tokio::test]
async fn other_answers_are_failures_and_no_redirect_is_followed() {
    let (address, seen) = service().await;
    let failure = reload(&format!("url = 'http://user:s3cret@{address}/fail?token=s3cret'")).await.unwrap_err();
    assert_eq!(failure.message, format!("POST http://{address}/fail was answered with status 503: not now"));
    let failure = reload(&format!("url = 'http://{address}/moved'")).await.unwrap_err();
    assert!(failure.message.contains("status 308; name the final address"), "{failure}");
    assert!(seen.lock().unwrap().is_empty(), "a redirect was followed");
    let failure = reload(&format!("url = 'http://{address}/hang'\ntimeout = '300ms'")).await.unwrap_err();
    assert_eq!(failure.message, format!("POST http://{address}/hang got no answer within 300ms"));
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let address = autocertd_support::loopback::own_address();
    let failure = reload(&format!("url = 'http://{address}/?token=s3cret'")).await.unwrap_err();
    assert!(failure.message.contains("refused") && failure.message.contains("is the service running"), "{failure}");
    assert!(!failure.message.contains("s3cret"), "{failure}");
}

#[test]
fn an_address_that_cannot_be_asked_is_not_shown() {
    for url in ["unix://user:s3cret@host/?token=s3cret", "http://user:s3cret@host:x", "s3cret"] {
        let entry: ReloadEntry = toml::from_str(&format!("url = '{url}'")).unwrap();
        let around = ReloadContext::installed(Randomness::from_seed(1));
        let error = Reload::new(&entry, &"app".parse().unwrap(), &around).unwrap_err();
        assert!(!error.to_string().contains("s3cret") && error.to_string().contains("reload.url"), "{error}");
    }
}

async fn service() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let note = |State(seen): State<Seen>, headers: HeaderMap, body: Bytes| async move {
        assert!(headers.contains_key("content-length"));
        seen.lock().unwrap().push(format!("/reload {}", body.len()));
        StatusCode::NO_CONTENT
    };
    let fail = || async { (StatusCode::SERVICE_UNAVAILABLE, "not now\x07").into_response() };
    let hang = |_: Request| std::future::pending::<()>();
    let router = Router::new()
        .route("/reload", post(note))
        .route("/fail", post(fail))
        .route("/moved", any(|| async { Redirect::permanent("/reload") }))
        .route("/hang", post(hang))
        .with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (address, seen)
}

async fn reload(entry: &str) -> Result<ReloadReached, Failure> {
    let entry: ReloadEntry = toml::from_str(entry).unwrap();
    let around = ReloadContext::installed(Randomness::from_seed(1));
    Reload::new(&entry, &"app".parse().unwrap(), &around).unwrap().run().await
}
