//! An API over a store of its own on a loopback port, with a clock that only the test turns.

use std::sync::Arc;

use autocertd::config::api::LimitsSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::domain::certificate::NewCertificate;
use autocertd::domain::certificate::leaf::Leaf;
use autocertd::domain::renewal::attempt::{Attempt, Issued, Planned, SigningRequest, Stage};
use autocertd::domain::value::id::{AutoCertificateId, CertificateId};
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::server_url::{OrderUrl, PlainHttpPolicy};
use autocertd::domain::value::token::TokenScope;
use autocertd::http::list_slots::ListSlots;
use autocertd::http::{Api, ConnectionLimits, serve};
use autocertd::runtime::clock::{Clock, ManualClock};
use autocertd::runtime::credentials::KnownCredentials;
use autocertd::runtime::randomness::Randomness;
use autocertd::runtime::wake::Wake;
use autocertd::store::{ClaimedAutoCertificate, KeyRing, RunOutcome, Store, StoreSettings, StoreUrl};
use axum::Router;
use rcgen::{CertificateParams, DnType, KeyPair};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::log::log;

/// 2026-11-22T12:00:00Z
const START: Moment = Moment::from_micros(1_795_348_800_000_000);

pub(crate) struct Fixture {
    pub(crate) api: Api,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) base: String,
    pub(crate) client: Client,
    /// The text of a token that may do everything.
    pub(crate) token: String,
    /// The text of a token that may only look.
    pub(crate) reader: String,
    pub(crate) folder: TempDir,
    _stopping: DropGuard,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with_limit(50).await
    }

    pub(crate) async fn with_limit(auto_certificates: u32) -> Self {
        Self::with_limits(LimitsSection { auto_certificates, ..LimitsSection::default() }).await
    }

    pub(crate) async fn with_limits(limits: LimitsSection) -> Self {
        log();
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(START));
        let randomness = Randomness::from_seed(1);
        let url = StoreUrl::sqlite(folder.path().join("test.db"));
        let keys = KeyRing::load_or_generate(&folder.path().join("master.key"), &url).unwrap();
        let settings = StoreSettings { max_connections: 2, ..StoreSettings::of(url) };
        let store = Store::open(&settings, keys, clock.clone(), randomness.clone()).await.unwrap();
        let (_, token) = store.create_token(&"ops".parse().unwrap(), TokenScope::Full).await.unwrap();
        let (_, reader) = store.create_token(&"viewer".parse().unwrap(), TokenScope::ReadOnly).await.unwrap();
        let api = Api {
            store,
            clock: clock.clone(),
            randomness,
            instance: "local".to_owned(),
            wake: Wake::default(),
            limits,
            list_slots: ListSlots::default(),
            request_timeout: TimeSpan::seconds(30),
            plain_http: PlainHttpPolicy::Refused,
            credentials: KnownCredentials::default(),
        };
        let stopping = CancellationToken::new();
        let base = listen(api.clone().router(), stopping.clone()).await;
        Self {
            api,
            clock,
            base,
            client: autocertd_support::timed::http_client(),
            token: token.expose_secret().to_owned(),
            reader: reader.expose_secret().to_owned(),
            folder,
            _stopping: stopping.drop_guard(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.api.store
    }

    /// A request without a token.
    pub(crate) fn unauthenticated_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A request with the token that may do everything.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.unauthenticated_request(method, path).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        TestResponse::from_request(self.request(Method::GET, path)).await
    }

    /// Each POST happens a second after what was before it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> TestResponse {
        self.clock.turn(Duration::SECOND);
        TestResponse::from_request(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> TestResponse {
        self.clock.turn(Duration::SECOND);
        TestResponse::from_request(self.request(Method::PATCH, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> TestResponse {
        TestResponse::from_request(self.request(Method::DELETE, path)).await
    }

    /// The path of a new provider.
    pub(crate) async fn provider(&self) -> String {
        self.post("/providers", &provider()).await.created()
    }

    /// The path of a new auto-certificate of a new provider.
    pub(crate) async fn auto_certificate(&self, common_name: &str) -> String {
        let provider = self.provider().await;
        self.post("/auto-certificates", &auto_certificate(&provider, common_name)).await.created()
    }

    /// The path of a new upload.
    pub(crate) async fn upload(&self, common_name: &str) -> String {
        let (body, _) = upload(self.clock.now(), common_name);
        self.post("/certificates", &body).await.created()
    }

    /// The daemon's own right to work on the auto-certificate at `path`.
    pub(crate) async fn claim(&self, path: &str) -> ClaimedAutoCertificate {
        self.store().claim(id_of::<AutoCertificateId>(path)).await.unwrap().expect("it is free")
    }

    /// A planned attempt, begun under `claim`.
    pub(crate) async fn begin(&self, claim: &ClaimedAutoCertificate) -> Attempt {
        let attempt = Attempt {
            id: self.api.randomness.uuid().into(),
            auto_certificate: claim.auto_certificate.id,
            provider: claim.auto_certificate.provider,
            names: claim.auto_certificate.names_to_order(),
            key_algorithm: claim.auto_certificate.key_algorithm,
            profile: None,
            replaces: None,
            reason: "the test wants it".to_owned(),
            started: self.clock.now(),
            stage: Stage::Planned(Planned),
        };
        self.store().begin_attempt(&claim.lease, &attempt).await.unwrap();
        attempt
    }

    /// The path of a certificate that the auto-certificate at `path` was issued just now, valid for `days`.
    pub(crate) async fn issue(&self, path: &str, days: i64) -> String {
        let claim = self.claim(path).await;
        let mut attempt = self.begin(&claim).await;
        let now = self.clock.now();
        let wish = &claim.auto_certificate;
        let names: Vec<String> = attempt.names.iter().map(ToString::to_string).collect();
        let (pem, key) = self_signed(now, days, None, &names);
        let request = SigningRequest { private_key: SecretString::from(key.clone()), csr: vec![0] };
        let order = OrderUrl::from("https://ca.example/order/1".to_owned());
        attempt.stage = Stage::Issued(Issued { order, request, chain: pem.clone() });
        self.store().store_stage(&claim.lease, attempt.id, &attempt.stage).await.unwrap();
        let new = NewCertificate {
            name: wish.name.with_issue_time(now),
            certificate: pem.clone(),
            chain: pem.clone(),
            private_key: SecretString::from(key),
            leaf: Leaf::from_pem(&pem).unwrap(),
        };
        let id: CertificateId = self.store().store_issued(&claim.lease, &attempt, &new, None, now).await.unwrap();
        let next_look = now + Duration::days(days / 2);
        self.store().release_auto_certificate(&claim.lease, next_look, RunOutcome::Finished).await.unwrap();
        self.clock.turn(Duration::SECOND);
        format!("/certificates/{id}")
    }

    /// Runs a statement beside the store.
    pub(crate) async fn change(&self, statement: &str) {
        execute(&mut self.connect().await, statement).await;
    }

    /// Keeps everybody else from writing.
    pub(crate) async fn lock_database(&self) -> DatabaseLock {
        let mut connection = self.connect().await;
        execute(&mut connection, "BEGIN IMMEDIATE").await;
        DatabaseLock(connection)
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("test.db"));
        options.busy_timeout(std::time::Duration::from_secs(30)).connect().await.unwrap()
    }

    /// Reads again until what is read is as it should be.
    pub(crate) async fn wait_for(&self, path: &str, is_right: impl Fn(&TestResponse) -> bool) {
        let begun = std::time::Instant::now();
        loop {
            let answer = self.get(path).await;
            if is_right(&answer) {
                return;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{path} does not become right");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Whether the scheduler was nudged since the last time someone asked.
    pub(crate) async fn was_notified(&self) -> bool {
        let kept = std::future::ready(());
        tokio::select! {
            biased;
            () = self.api.wake.notified() => true,
            () = kept => false,
        }
    }
}

/// Serves `router` until `stopping`, and says where.
pub(crate) async fn listen(router: Router, stopping: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, router, ConnectionLimits::default(), stopping));
    base
}

async fn execute(connection: &mut SqliteConnection, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

/// The write lock of the database; without [`release`](Self::release) it ends with the connection.
pub(crate) struct DatabaseLock(SqliteConnection);

impl DatabaseLock {
    pub(crate) async fn release(mut self) {
        execute(&mut self.0, "COMMIT").await;
    }
}

/// What came back.
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl TestResponse {
    pub(crate) async fn from_request(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The path of what was created.
    pub(crate) fn created(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.text);
        self.json()["href"].as_str().unwrap().to_owned()
    }

    /// The text behind a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> String {
        let json = self.json();
        json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {json}")).to_owned()
    }

    /// The messages of an error.
    pub(crate) fn messages(&self) -> Vec<String> {
        let json = self.json();
        let messages = json["messages"].as_array().unwrap();
        messages.iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The whole answer for a snapshot: equal ids stay equal, keys and certificates are only named.
    pub(crate) fn shown(&self) -> Value {
        assert!(!self.header("x-request-id").is_empty(), "every answer has a request id");
        let headers = self.headers.iter().filter(|(name, _)| !VOLATILE_HEADERS.contains(&name.as_str()));
        let headers: Map<_, _> =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
        let body = if self.text.is_empty() { Value::Null } else { self.json() };
        let mut seen = Vec::new();
        json!({ "status": self.status, "headers": headers, "body": normalize(body, &mut seen) })
    }
}

/// The id in a resource's path.
pub(crate) fn id_of<I: From<Uuid>>(path: &str) -> I {
    I::from(path.rsplit('/').next().and_then(|id| Uuid::parse_str(id).ok()).expect("a path ends with an id"))
}

pub(crate) fn provider() -> Value {
    json!({ "properties": {
        "name": "Let's Encrypt",
        "email": "ops@example.com",
        "server": "https://acme.example/directory",
    }})
}

/// An auto-certificate of the provider at a path.
pub(crate) fn auto_certificate(provider: &str, common_name: &str) -> Value {
    json!({ "metadata": {}, "properties": {
        "provider": id_of::<Uuid>(provider),
        "commonName": common_name,
        "keyAlgorithm": "secp256r1",
        "name": format!("for {common_name}"),
    }})
}

/// An upload, and its private key.
pub(crate) fn upload(now: Moment, common_name: &str) -> (Value, String) {
    let (certificate, key) = self_signed(now, 90, Some(common_name), &[common_name.to_owned()]);
    let body = json!({ "properties": {
        "name": format!("upload of {common_name}"),
        "certificate": certificate,
        "certificateChain": certificate,
        "privateKey": key,
    }});
    (body, key)
}

/// A certificate that begins a day before `now` and is valid for `days` from then on, with its key.
pub(crate) fn self_signed(now: Moment, days: i64, common_name: Option<&str>, names: &[String]) -> (String, String) {
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.serial_number = Some(vec![0x0a, 0xbc, 0x01].into());
    params.not_before = (now - Duration::DAY).whole_seconds().to_date_time();
    params.not_after = (now + Duration::days(days)).whole_seconds().to_date_time();
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn normalize(value: Value, seen: &mut Vec<Uuid>) -> Value {
    match value {
        Value::String(text) if text.starts_with("-----BEGIN") => "<PEM>".into(),
        Value::String(text) => number_ids(&text, seen).into(),
        Value::Array(items) => items.into_iter().map(|item| normalize(item, seen)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, normalize(member, seen))).collect::<Map<_, _>>().into()
        }
        plain => plain,
    }
}

/// `text` with every UUID replaced by the number of its first appearance.
fn number_ids(text: &str, seen: &mut Vec<Uuid>) -> String {
    let mut rest = text;
    let mut shown = String::new();
    while let Some(first) = rest.chars().next() {
        if let Some(id) = rest.get(..36).and_then(|id| Uuid::parse_str(id).ok()).filter(|id| !id.is_nil()) {
            let number = seen.iter().position(|other| *other == id).unwrap_or_else(|| {
                seen.push(id);
                seen.len() - 1
            });
            shown.extend(["<id ", &(number + 1).to_string(), ">"]);
            rest = &rest[36..];
        } else {
            shown.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    shown
}

const VOLATILE_HEADERS: [&str; 3] = ["date", "content-length", "x-request-id"];
