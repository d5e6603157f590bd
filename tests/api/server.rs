//! The end of the server.

use std::sync::Arc;

use autocertd::http::request_layers::with_request_layers;
use autocertd::http::{ConnectionLimits, serve};
use autocertd_support::timed::http_client;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, TestResponse};

#[tokio::test]
async fn running_requests_are_finished_and_no_new_ones_begun() {
    let daemon = Fixture::start().await;
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, may_go) = (entered.clone(), release.clone());
    let slow = get(async move || {
        inside.notify_one();
        may_go.notified().await;
        "done"
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let router = with_request_layers(Router::new().route("/slow", slow), daemon.api.clone());
    let (ended, mut end) = oneshot::channel();
    let serving = serve(listener, router, ConnectionLimits::default(), stopping.clone());
    tokio::spawn(async move {
        serving.await;
        let _ = ended.send(());
    });
    let running = tokio::spawn(TestResponse::from_request(http_client().get(format!("http://{address}/slow"))));
    entered.notified().await;
    stopping.cancel();
    // The listener closes at once, so that a second request finds nobody.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(end.try_recv().is_err(), "the server waits for the running request");
    release.notify_one();
    assert_eq!(running.await.unwrap().text, "done");
    end.await.unwrap();
}
