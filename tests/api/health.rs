//! `/healthz` and `/readyz`.

use insta::assert_json_snapshot;
use reqwest::Method;

use crate::daemon::{Answer, Daemon};

#[tokio::test]
async fn health_and_readiness_need_no_token_and_tell_the_store_apart() {
    let daemon = Daemon::start().await;
    let ask = |path: &str| Answer::to(daemon.bare(Method::GET, path));
    assert_json_snapshot!("healthy", ask("/healthz").await.shown());
    assert_json_snapshot!("ready", ask("/readyz").await.shown());
    daemon.store().close().await;
    assert_eq!(ask("/healthz").await.status, 200);
    assert_json_snapshot!("not_ready", ask("/readyz").await.shown());
}
