//! What a request gets instead of its answer.

use std::convert::Infallible;

use autocertd::config::time_span::TimeSpan;
use autocertd::http::request_layers::with_request_layers;
use autocertd_support::timed::http_client;
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use insta::assert_json_snapshot;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method};
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, TestResponse, listen, provider};
use crate::log::log;

const LISTS: [&str; 3] = ["/providers", "/auto-certificates", "/certificates"];
const NO_ID: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn without_a_right_token_nothing_is_told() {
    let daemon = Fixture::start().await;
    let answer = TestResponse::from_request(daemon.unauthenticated_request(Method::GET, "/providers")).await;
    assert_json_snapshot!("unauthenticated", answer.shown());
    let wrong = format!("{}x", daemon.token);
    let id_alone = daemon.token.rsplit_once('_').unwrap().0;
    for authorization in [
        "Bearer",
        "Bearer ",
        &format!("Bearer {wrong}"),
        &format!("Bearer {id_alone}_"),
        "Basic b3BzOm9wcw==",
        &daemon.token,
    ] {
        for list in LISTS {
            for (method, path) in operations(list) {
                let request =
                    daemon.unauthenticated_request(method.clone(), &path).header("authorization", authorization);
                let answer = TestResponse::from_request(request).await;
                assert_eq!(
                    (answer.status, answer.at("/messages/0/errorCode")),
                    (401, "paas-auth-1".to_owned()),
                    "{method} {path}"
                );
            }
        }
    }
    let lower_case = daemon
        .unauthenticated_request(Method::GET, "/providers")
        .header("authorization", format!("bearer {}", daemon.token));
    assert_eq!(TestResponse::from_request(lower_case).await.status, 200);
}

#[tokio::test]
async fn a_revoked_token_is_a_wrong_one() {
    let daemon = Fixture::start().await;
    let token = daemon.store().tokens().await.unwrap().into_iter().find(|token| token.name.as_str() == "ops").unwrap();
    assert_eq!(daemon.get("/providers").await.status, 200);
    assert!(daemon.store().revoke_token(token.id).await.unwrap());
    assert_eq!(daemon.get("/providers").await.status, 401);
}

#[tokio::test]
async fn a_read_only_token_reads_and_no_more() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let ask = |method: Method, path: &str| {
        TestResponse::from_request(
            daemon.unauthenticated_request(method, path).bearer_auth(&daemon.reader).json(&provider()),
        )
    };
    assert_json_snapshot!("read_only", ask(Method::POST, "/providers").await.shown());
    for list in LISTS {
        for (method, path) in operations(list).into_iter().filter(|(method, _)| *method != Method::GET) {
            assert_eq!(ask(method, &path).await.status, 403);
        }
    }
    assert_eq!(ask(Method::GET, &path).await.status, 200);
    assert_eq!(ask(Method::HEAD, &path).await.status, 200);
    assert_eq!(daemon.get("/providers").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_in_our_form() {
    let daemon = Fixture::start().await;
    let rename = json!({ "properties": { "name": "x" } });
    for list in LISTS {
        for id in ["no-uuid", NO_ID, "%ff", "a%2Fb"] {
            let path = format!("{list}/{id}");
            for answer in [daemon.get(&path).await, daemon.patch(&path, &rename).await, daemon.delete(&path).await] {
                assert_eq!((answer.status, answer.json()["httpStatus"].as_u64()), (404, Some(404)), "{path}");
            }
        }
    }
    assert_json_snapshot!("no_resource", daemon.get("/providers/no-uuid").await.shown());
    assert_json_snapshot!("no_route", daemon.get("/provider").await.shown());
    for path in ["/", "/providers/", &format!("/providers/{NO_ID}/more"), "/control/renewals"] {
        assert_eq!(daemon.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_a_405() {
    let daemon = Fixture::start().await;
    assert_json_snapshot!(
        "no_method",
        TestResponse::from_request(daemon.request(Method::PUT, &format!("/providers/{NO_ID}"))).await.shown()
    );
    for (method, path) in [(Method::PUT, "/certificates"), (Method::DELETE, "/providers"), (Method::POST, "/healthz")] {
        assert_eq!(TestResponse::from_request(daemon.request(method, path)).await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let missing = format!("/providers/{NO_ID}");
    for (path, status) in [(path.as_str(), 200), ("/providers", 200), (&missing, 404), ("/nowhere", 404)] {
        let (head, get) =
            (TestResponse::from_request(daemon.request(Method::HEAD, path)).await, daemon.get(path).await);
        assert_eq!((head.status, head.text.as_str()), (status, ""), "{path}");
        for header in ["content-type", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{path}");
        }
    }
}

#[tokio::test]
async fn only_json_is_read() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let send = |method: Method, path: &str, content_type: &str, body: &str| {
        let request = daemon.request(method, path).header(CONTENT_TYPE, content_type).body(body.to_owned());
        TestResponse::from_request(request)
    };
    let right = provider().to_string();
    assert_json_snapshot!("not_json", send(Method::POST, "/providers", "text/plain", &right).await.shown());
    assert_json_snapshot!(
        "broken_json",
        send(Method::POST, "/providers", "application/json", "{\"a\": ").await.shown()
    );
    assert_json_snapshot!("no_object", send(Method::POST, "/providers", "application/json", "[]").await.shown());
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"] {
        assert_eq!(send(Method::POST, "/providers", content_type, &right).await.status, 201, "{content_type}");
    }
    let creatable = LISTS.map(|list| (Method::POST, list.to_owned()));
    for (method, path) in creatable.into_iter().chain([(Method::PATCH, path)]) {
        for content_type in ["", "application/x-www-form-urlencoded", "application/jsonx", "text/json"] {
            assert_eq!(send(method.clone(), &path, content_type, &right).await.status, 415, "{content_type}");
        }
        for broken in ["", "{", "\u{0}", "{\"properties\": {}} trailing", &"[".repeat(100_000)] {
            assert_eq!(send(method.clone(), &path, "application/json", broken).await.status, 400, "{broken:.20}");
        }
        for no_object in ["null", "7", "\"x\"", "[{}]"] {
            assert_eq!(send(method.clone(), &path, "application/json", no_object).await.status, 422, "{no_object}");
        }
    }
    let not_utf8 = daemon.request(Method::POST, "/providers").header(CONTENT_TYPE, "application/json").body(vec![0xff]);
    assert_eq!(TestResponse::from_request(not_utf8).await.status, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let daemon = Fixture::start().await;
    let mut body = provider();
    body["metadata"] = json!("x".repeat(1024 * 1024));
    assert_json_snapshot!("large_body", daemon.post("/providers", &body).await.shown());
    // Without a Content-Length the server only finds out while it reads.
    let chunks = (0..20).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024]))));
    let streamed = Body::wrap(StreamBody::new(futures_util::stream::iter(chunks)));
    let request = daemon.request(Method::POST, "/certificates").header(CONTENT_TYPE, "application/json").body(streamed);
    assert_eq!(TestResponse::from_request(request).await.status, 413);
    let spare = 1024 * 1024 - provider().to_string().len() - "\"metadata\":\"\",".len();
    body["metadata"] = json!("x".repeat(spare));
    assert_eq!(daemon.post("/providers", &body).await.status, 201);
}

#[tokio::test]
async fn an_absent_store_is_a_503_that_says_when_to_come_back() {
    let daemon = Fixture::start().await;
    daemon.store().close().await;
    assert_json_snapshot!("store_absent", daemon.get("/providers").await.shown());
    for list in LISTS {
        for (method, path) in operations(list) {
            let answer = TestResponse::from_request(daemon.request(method, &path).json(&provider())).await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}");
        }
    }
}

/// The words of the store are for the log.
#[tokio::test]
async fn a_damaged_row_is_a_500_that_reveals_nothing() {
    let daemon = Fixture::start().await;
    let path = daemon.provider().await;
    let options = SqliteConnectOptions::new().filename(daemon.folder.path().join("test.db"));
    let mut database = options.connect().await.unwrap();
    sqlx::query("UPDATE providers SET email = 'damaged'").execute(&mut database).await.unwrap();
    let answer = daemon.get(&path).await;
    assert_json_snapshot!("damaged_row", answer.shown());
    let id = answer.header("x-request-id");
    let log = log().text();
    let line = log.lines().find(|line| line.contains(id) && line.contains("ERROR")).expect("the log tells the cause");
    assert!(line.contains("providers") && line.contains("email"), "{line}");
}

#[tokio::test]
async fn a_panic_costs_one_request_and_reveals_nothing() {
    let daemon = Fixture::start().await;
    let routes = Router::new().route("/panic", get(async || -> () { panic!("the secret of the house") }));
    let stopping = CancellationToken::new();
    let base = listen(with_request_layers(routes, daemon.api.clone()), stopping.clone()).await;
    let ask =
        |id: &str| TestResponse::from_request(http_client().get(format!("{base}/panic")).header("x-request-id", id));
    let answer = ask("proxy-7.a_B").await;
    assert_json_snapshot!("panic", answer.shown());
    assert_eq!(answer.header("x-request-id"), "proxy-7.a_B");
    let unsound = ask("a b; <script>").await;
    let id = unsound.header("x-request-id").to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok() && unsound.messages()[0].contains(&id), "{}", unsound.text);
    assert_eq!(ask(&"x".repeat(65)).await.header("x-request-id").len(), 36);
    stopping.cancel();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let daemon = Fixture::start().await;
    let mut api = daemon.api.clone();
    api.request_timeout = TimeSpan::millis(5);
    let routes = Router::new().route("/forever", get(async || std::future::pending::<()>().await));
    let stopping = CancellationToken::new();
    let base = listen(with_request_layers(routes, api), stopping.clone()).await;
    let answer = TestResponse::from_request(http_client().get(format!("{base}/forever")));
    assert_json_snapshot!("timed_out", answer.await.shown());
    stopping.cancel();
}

/// Each operation of a list and its elements.
fn operations(list: &str) -> [(Method, String); 5] {
    let one = format!("{list}/{NO_ID}");
    [
        (Method::GET, list.to_owned()),
        (Method::POST, list.to_owned()),
        (Method::GET, one.clone()),
        (Method::PATCH, one.clone()),
        (Method::DELETE, one),
    ]
}
