//! The Unix socket: the same API for root and the daemon's own user, and `/control` beside it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::value::id::AutoCertificateId;
use autocertd::http::control::{
    DELIVERIES_PATH, DeliveriesAnswer, ISSUED_PATH, IdList, IssuedAnswer, MOST_IDS, OVERDUE_PATH, OverdueAnswer,
    PROGRESS_PATH, RENEWALS, RenewalAnswer, RenewalProgress, RenewalRequest,
};
use autocertd::http::{ConnectionLimits, LocalSocket, LocalSocketError, Peer, serve_unix};
use autocertd::runtime::clock::Clock;
use autocertd::store::RunOutcome;
use axum::body::Body;
use axum::extract::ConnectInfo;
use insta::assert_json_snapshot;
use reqwest::{Client, Method};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fixture::{Fixture, TestResponse, id_of, provider};

#[tokio::test]
async fn the_whole_api_is_there_without_a_token() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    let created = TestResponse::from_request(socket.request(Method::POST, "/providers").json(&provider())).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let uid = std::fs::metadata(daemon.folder.path()).unwrap().uid();
    assert_eq!(created.at("/metadata/createdBy"), format!("local:{uid}"));
    assert_eq!(created.at("/metadata/createdByUserId"), uuid::Uuid::nil().to_string());
    for path in ["/healthz", "/readyz", "/openapi.json", "/certificates"] {
        assert_eq!(TestResponse::from_request(socket.request(Method::GET, path)).await.status, 200, "{path}");
    }
    assert_eq!(TestResponse::from_request(socket.request(Method::GET, "/nowhere")).await.status, 404);
    assert_eq!(TestResponse::from_request(socket.request(Method::DELETE, RENEWALS)).await.status, 405);
}

#[tokio::test]
async fn another_user_is_turned_away() {
    let daemon = Fixture::start().await;
    let ask = async |uid: Option<u32>| {
        let mut request = axum::extract::Request::get("/providers").body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer { uid }));
        daemon.api.clone().local_router(1000).oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(Some(1000)).await, 200);
    assert_eq!(ask(Some(0)).await, 200);
    assert_eq!(ask(Some(1001)).await, 403);
    assert_eq!(ask(None).await, 403);
}

#[tokio::test]
async fn named_renewals_are_asked_for_and_followed() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    let path = daemon.auto_certificate("bücher.example").await;
    daemon.issue(&path, 90).await;
    let other = daemon.auto_certificate("b.example.com").await;
    daemon.issue(&other, 90).await;
    daemon.was_notified().await;
    let id: AutoCertificateId = id_of(&path);
    for name in [id.to_string(), "for bücher.example".to_owned(), "xn--bcher-kva.example".to_owned()] {
        let refused = socket.renew(&[&name, "nobody"]).await;
        assert_eq!((refused.targets.len(), refused.unknown), (0, vec!["nobody".to_owned()]));
        assert!(
            !socket.progress(&[id]).await[0].requested || name != id.to_string(),
            "an unknown name changes nothing"
        );
        let answer = socket.renew(&[&name, &name]).await;
        assert_eq!(answer.targets.iter().map(|target| target.id).collect::<Vec<_>>(), [id], "{name}");
        assert!(answer.unknown.is_empty());
        assert!(daemon.was_notified().await);
    }
    let progress = socket.progress(&[id]).await;
    assert!(progress[0].requested && !progress[0].running);
    assert!(!socket.progress(&[id_of(&other)]).await[0].requested);

    let runs = progress[0].runs;
    let claim = daemon.claim(&path).await;
    daemon.begin(&claim).await;
    let answer = TestResponse::from_request(socket.request(Method::GET, &format!("{RENEWALS}?id={id}"))).await;
    assert_json_snapshot!("control_progress_running", answer.shown());
    assert!(socket.renew(&[&id.to_string()]).await.targets[0].running);
    let trouble = FailureStreak::after(None, Failure::retry("the CA is busy"), daemon.clock.now(), None, 0.5);
    daemon.store().record_failure_streak(&claim.lease, &trouble).await.unwrap();
    daemon.store().release_auto_certificate(&claim.lease, trouble.next_try, RunOutcome::Finished).await.unwrap();
    let after = &socket.progress(&[id]).await[0];
    assert_eq!((after.runs, after.running), (runs + 1, false));
    let told = after.trouble.as_ref().unwrap();
    assert_eq!(
        (told.message.as_str(), told.next_try.as_str()),
        ("the CA is busy", trouble.next_try.to_string().as_str())
    );
}

#[tokio::test]
async fn without_names_everything_due_is_reported_and_nothing_forced() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    let fresh = daemon.auto_certificate("a.example.com").await;
    daemon.issue(&fresh, 90).await;
    let due = daemon.auto_certificate("b.example.com").await;
    daemon.was_notified().await;
    let answer = TestResponse::from_request(socket.request(Method::POST, RENEWALS).json(&json!({}))).await;
    assert_json_snapshot!("control_renewals", answer.shown());
    assert!(daemon.was_notified().await);
    let progress = socket.progress(&[id_of(&fresh), id_of(&due)]).await;
    assert_eq!(progress.iter().map(|one| one.requested).collect::<Vec<_>>(), [false, false]);
    let faulty =
        TestResponse::from_request(socket.request(Method::POST, RENEWALS).json(&json!({ "names": "all" }))).await;
    assert_json_snapshot!("control_faults", faulty.shown());
    assert_eq!(TestResponse::from_request(socket.request(Method::GET, &format!("{RENEWALS}?id=x"))).await.status, 400);
}

#[tokio::test]
async fn what_is_not_in_service_is_told_with_how_it_stands() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    assert_eq!(socket.issued().await, IssuedAnswer::default());
    let served = daemon.auto_certificate("bücher.example").await;
    let deleted = daemon.auto_certificate("deleted.example").await;
    daemon.delete(&deleted).await;
    let waiting = socket.issued().await;
    assert_eq!((waiting.total, waiting.missing.len()), (1, 1));
    let missing = &waiting.missing[0];
    assert_eq!((missing.id, missing.common_name.as_str()), (id_of(&served), "bücher.example"));
    assert_eq!(missing.name, "for bücher.example");

    daemon.issue(&served, 90).await;
    assert_eq!(socket.issued().await, IssuedAnswer { total: 1, ..IssuedAnswer::default() });
    daemon.clock.turn(time::Duration::days(90));
    let expired = socket.issued().await;
    assert!(expired.missing[0].message.contains("the newest certificate expired at"), "{expired:?}");
    daemon.issue(&served, 90).await;
    assert!(socket.issued().await.missing.is_empty());
    daemon.clock.turn(time::Duration::days(-92));
    assert_eq!(socket.issued().await.missing.len(), 1, "what is not valid yet serves nobody");
}

#[tokio::test]
async fn thousands_of_names_and_ids_travel_in_bodies() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    let path = daemon.auto_certificate("a.example.com").await;
    let id: AutoCertificateId = id_of(&path);
    let nobody = AutoCertificateId::from(uuid::Uuid::nil());
    let ids = |count| std::iter::repeat_n(nobody, count - 1).chain([id]).collect::<IdList>();
    let whole = TestResponse::from_request(socket.request(Method::POST, PROGRESS_PATH).json(&ids(MOST_IDS))).await;
    assert_eq!((whole.status, whole.json().as_array().unwrap().len()), (200, 1), "{}", whole.text);
    let beyond = TestResponse::from_request(socket.request(Method::POST, PROGRESS_PATH).json(&ids(MOST_IDS + 1))).await;
    assert_eq!(beyond.status, 422, "{}", beyond.text);
    let unreadable = json!({ "ids": ["x"] });
    assert_eq!(
        TestResponse::from_request(socket.request(Method::POST, PROGRESS_PATH).json(&unreadable)).await.status,
        422
    );

    // Over 1 MiB, as a command line can be.
    let names: Vec<String> = (0..60_000).map(|number| format!("w{number}.example.com")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).chain(["a.example.com"]).collect();
    assert_eq!(socket.renew(&many).await.unknown.len(), names.len());
    assert_eq!(socket.renew(&vec!["a.example.com"; 60_000]).await.targets.len(), 1);
    let deliveries = TestResponse::from_request(socket.request(Method::POST, DELIVERIES_PATH).json(&json!({}))).await;
    let deliveries: DeliveriesAnswer = serde_json::from_value(deliveries.json()).unwrap();
    assert_eq!((deliveries.deliveries.len(), deliveries.next), (0, None));
}

#[tokio::test]
async fn what_should_be_in_service_and_is_not_is_told_with_its_cause() {
    let daemon = Fixture::start().await;
    let socket = SocketFixture::start(&daemon).await;
    let overdue = async || {
        let answer = TestResponse::from_request(socket.request(Method::GET, OVERDUE_PATH)).await;
        serde_json::from_value::<OverdueAnswer>(answer.json()).unwrap()
    };
    assert_eq!(overdue().await, OverdueAnswer::default());
    let path = daemon.auto_certificate("a.example.com").await;
    let served = daemon.auto_certificate("b.example.com").await;
    daemon.issue(&served, 90).await;
    let claim = daemon.claim(&path).await;
    let trouble = FailureStreak::after(None, Failure::retry("the CA is busy"), daemon.clock.now(), None, 0.5);
    daemon.store().record_failure_streak(&claim.lease, &trouble).await.unwrap();
    daemon.store().release_auto_certificate(&claim.lease, trouble.next_try, RunOutcome::Finished).await.unwrap();
    let answer = overdue().await;
    assert_eq!((answer.total, answer.more, answer.listed.len()), (1, false, 1));
    let entry = &answer.listed[0];
    assert_eq!((entry.common_name.as_str(), entry.lacks.as_str()), ("a.example.com", "no certificate"));
    assert!(entry.message.contains("the CA is busy"), "{entry:?}");
    assert_eq!(entry.next_try, Some(trouble.next_try.to_string()));
    daemon.issue(&path, 90).await;
    assert_eq!(overdue().await.total, 0);
}

#[tokio::test]
async fn a_socket_belongs_to_one_daemon_and_is_gone_after_it() {
    let daemon = Fixture::start().await;
    let path = daemon.folder.path().join("api.sock");
    let first = SocketFixture::start(&daemon).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(LocalSocket::bind(&path).await, Err(LocalSocketError::InUse(_))));
    assert_eq!(TestResponse::from_request(first.request(Method::GET, "/healthz")).await.status, 200);
    first.stop().await;
    assert!(!path.exists());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead daemon leaves its socket behind");
    SocketFixture::start(&daemon).await.stop().await;

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(LocalSocket::bind(&path).await, Err(LocalSocketError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = LocalSocket::bind(Path::new("/nonexistent/api.sock")).await;
    assert!(matches!(nowhere, Err(LocalSocketError::Refused { .. })));
}

/// A daemon's Unix socket, and a client for it.
struct SocketFixture {
    client: Client,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

impl SocketFixture {
    async fn start(daemon: &Fixture) -> Self {
        let path = daemon.folder.path().join("api.sock");
        let socket = LocalSocket::bind(&path).await.unwrap();
        let stopping = CancellationToken::new();
        let serving = tokio::spawn(serve_unix(socket, daemon.api.clone(), ConnectionLimits::local(), stopping.clone()));
        Self { client: autocertd_support::timed::http().unix_socket(path).build().unwrap(), stopping, serving }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://localhost{path}"))
    }

    async fn renew(&self, names: &[&str]) -> RenewalAnswer {
        let names = names.iter().map(ToString::to_string).collect();
        let answer =
            TestResponse::from_request(self.request(Method::POST, RENEWALS).json(&RenewalRequest { names })).await;
        serde_json::from_value(answer.json()).unwrap()
    }

    async fn issued(&self) -> IssuedAnswer {
        let answer = TestResponse::from_request(self.request(Method::GET, ISSUED_PATH)).await;
        serde_json::from_value(answer.json()).unwrap()
    }

    async fn progress(&self, ids: &[AutoCertificateId]) -> Vec<RenewalProgress> {
        let ids: IdList = ids.iter().copied().collect();
        let answer = TestResponse::from_request(self.request(Method::POST, PROGRESS_PATH).json(&ids)).await;
        serde_json::from_value(answer.json()).unwrap()
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.serving.await.unwrap();
    }
}
