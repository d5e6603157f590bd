//! `/healthz` and `/readyz`.

use autocertd::domain::value::credential::Credential;
use autocertd::runtime::clock::Clock;
use insta::assert_json_snapshot;
use reqwest::Method;
use time::Duration;

use crate::fixture::{Fixture, TestResponse};

#[tokio::test]
async fn health_and_readiness_need_no_token_and_tell_the_store_apart() {
    let daemon = Fixture::start().await;
    let ask = |path: &str| TestResponse::from_request(daemon.unauthenticated_request(Method::GET, path));
    assert_json_snapshot!("healthy", ask("/healthz").await.shown());
    assert_json_snapshot!("ready", ask("/readyz").await.shown());
    let token =
        Credential { what: "the token of dns.ionos".to_owned(), expires: daemon.clock.now() + Duration::days(40) };
    daemon.api.credentials.replace(vec![token]);
    assert_json_snapshot!("ready_with_a_token", ask("/readyz").await.shown());
    daemon.clock.turn(Duration::days(28));
    assert_json_snapshot!("ready_with_a_token_that_ends_soon", ask("/readyz").await.shown());
    daemon.clock.turn(Duration::days(12));
    assert_json_snapshot!("ready_with_a_token_that_is_over", ask("/readyz").await.shown());
    daemon.api.credentials.replace(Vec::new());
    daemon.store().close().await;
    assert_eq!(ask("/healthz").await.status, 200);
    assert_json_snapshot!("not_ready", ask("/readyz").await.shown());
}
