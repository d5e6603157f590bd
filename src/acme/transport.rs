//! One HTTP exchange with a CA. It keeps what instant-acme drops (status, `Retry-After`, bodies that are no JSON), makes
//! answers lenient before they are read, bounds time and size, follows no redirect, and logs method, URL and status, never
//! a body.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error as ProtocolError, HttpClient};

use crate::acme::directory::DirectoryCache;
use crate::acme::lenient;
use crate::acme::problem::{AcmeStep, Problem, ProblemKind};
use crate::acme::refusal::{Refusal, Unreachable, host_and_port};
use crate::domain::failure::retry_after::{RetryAfter, parse_http_date};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::clock::SharedClock;
use crate::runtime::network_fault::{self, NetworkFault};

/// The way to all CAs: one pool of connections, one cache of directories.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) http: reqwest::Client,
    pub(super) clock: SharedClock,
    pub(super) directories: Arc<DirectoryCache>,
}

/// The way to one CA for one piece of work, which remembers the latest answer with its `Retry-After` and `Location`.
#[derive(Clone)]
pub(super) struct CaConnection {
    transport: Transport,
    directory: Uri,
    retry_after: Arc<Mutex<RetryAfter>>,
    location: Arc<Mutex<Option<String>>>,
    body: Arc<Mutex<Bytes>>,
}

/// What came of a request that can be signed anew.
pub(super) enum PostOutcome {
    /// The CA did what was asked.
    Answer(Response<Bytes>),
    /// The CA did nothing, and gives this nonce instead (RFC 8555 section 6.5).
    BadNonce(Option<String>),
}

/// Why an exchange gave no usable answer. The step is set where the request itself tells it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("{refusal}")]
    Refused { step: Option<AcmeStep>, refusal: Box<Refusal> },
    #[error("{0}")]
    Unreachable(Box<Unreachable>),
    #[error("{cause}")]
    Unreadable { step: Option<AcmeStep>, cause: RemoteMessage },
}

impl CaConnection {
    pub(super) fn new(transport: Transport, directory: Uri) -> Self {
        Self { transport, directory, retry_after: Arc::default(), location: Arc::default(), body: Arc::default() }
    }

    /// The moment of `Retry-After` in the latest answer.
    pub(super) fn retry_after(&self) -> Option<Moment> {
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).moment()
    }

    /// The URL of what the latest answer made.
    pub(super) fn location(&self) -> Option<String> {
        self.location.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The body of the latest answer that was no refusal, for what instant-acme does not read.
    pub(super) fn body(&self) -> Bytes {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory, from the cache where it is fresh.
    pub(super) async fn load_directory(&self) -> Result<Bytes, TransportError> {
        match self.transport.directories.get_fresh(&self.directory, self.transport.clock.now()) {
            Some(cached) => Ok(cached),
            None => Ok(self.fetch_directory().await?.into_body()),
        }
    }

    /// The directory, asked for anew.
    pub(super) async fn fetch_directory(&self) -> Result<Response<Bytes>, TransportError> {
        let answer = self.send(Method::GET, &self.directory, HeaderMap::new(), Bytes::new()).await?;
        let mut answer = self.check_answer(&Method::GET, &self.directory, answer)?;
        *answer.body_mut() = lenient::normalize_directory_body(answer.body(), &self.directory.to_string()).into();
        self.transport
            .directories
            .check_and_store(&self.directory, self.transport.clock.now(), answer.body().clone())
            .map_err(|cause| TransportError::Unreadable { step: Some(AcmeStep::Directory), cause: cause.into() })?;
        Ok(answer)
    }

    /// A nonce for the next request, RFC 8555 section 7.2.
    pub(super) async fn fetch_nonce(&self, new_nonce: &Uri) -> Result<String, TransportError> {
        let answer = self.send(Method::HEAD, new_nonce, HeaderMap::new(), Bytes::new()).await?;
        let nonce = replay_nonce(&self.check_answer(&Method::HEAD, new_nonce, answer)?);
        nonce.ok_or_else(|| TransportError::Unreadable { step: Some(AcmeStep::Nonce), cause: "it gives none".into() })
    }

    /// Sends a request that is signed already.
    pub(super) async fn post(&self, url: &Uri, jws: Bytes) -> Result<Response<Bytes>, TransportError> {
        let answer = self.send_signed(url, jws).await?;
        self.check_answer(&Method::POST, url, answer)
    }

    /// Sends a request that is signed already, and can be signed anew where only its nonce is refused.
    pub(super) async fn post_or_nonce(&self, url: &Uri, jws: Bytes) -> Result<PostOutcome, TransportError> {
        let answer = self.send_signed(url, jws).await?;
        if is_bad_nonce(&answer) {
            return Ok(PostOutcome::BadNonce(replay_nonce(&answer)));
        }
        self.check_answer(&Method::POST, url, answer).map(PostOutcome::Answer)
    }

    async fn send_signed(&self, url: &Uri, jws: Bytes) -> Result<Response<Bytes>, TransportError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
        self.send(Method::POST, url, headers, jws).await
    }

    /// Asks for something that everybody may see.
    pub(super) async fn get(&self, url: &Uri) -> Result<Response<Bytes>, TransportError> {
        let answer = self.send(Method::GET, url, HeaderMap::new(), Bytes::new()).await?;
        self.check_answer(&Method::GET, url, answer)
    }

    async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, TransportError> {
        let address = url.to_string();
        if address.len() > LONGEST_URL || !address.is_ascii() {
            let cause = format!("a URL in it is longer than {LONGEST_URL} bytes, or not ASCII").into();
            return Err(TransportError::Unreadable { step: self.step_for(&method, url), cause });
        }
        let request = self.transport.http.request(method.clone(), address).headers(headers).body(body);
        match receive_bounded(request).await {
            Ok(Some(answer)) => {
                self.record_ca_time(url, answer.headers());
                tracing::debug!(%method, %url, status = answer.status().as_u16(), "ACME exchange");
                Ok(answer)
            }
            Ok(None) => {
                let cause = format!("it is longer than {LONGEST_BODY} bytes").into();
                Err(TransportError::Unreadable { step: self.step_for(&method, url), cause })
            }
            Err(error) => {
                self.transport.directories.invalidate(&self.directory);
                let unreachable = to_unreachable(url, &error);
                tracing::debug!(%method, %url, fault = %unreachable.fault, cause = %unreachable.cause, "ACME exchange failed");
                Err(TransportError::Unreachable(Box::new(unreachable)))
            }
        }
    }

    /// What the CA's clock shows tells whether ours is right. An answer that a cache kept, or that anybody may have sent,
    /// tells nothing.
    fn record_ca_time(&self, url: &Uri, headers: &HeaderMap) {
        let told = headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?));
        if let Some(told) = told.filter(|_| url.scheme_str() == Some("https") && !headers.contains_key(AGE)) {
            let clock = &self.transport.clock;
            let running = clock.uptime();
            clock.evidence().record_ca_time(host_and_port(&self.directory.to_string()), told, running);
        }
    }

    /// Tells success from refusal, and takes `Retry-After` out: instant-acme's own reading of it can overflow.
    fn check_answer(
        &self,
        method: &Method,
        url: &Uri,
        mut answer: Response<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let asked = answer.headers_mut().remove(RETRY_AFTER);
        let retry_after = RetryAfter::parse(asked.as_ref().map(HeaderValue::as_bytes), self.transport.clock.now());
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&retry_after);
        let location = resolve_location(&mut answer, url);
        *self.location.lock().unwrap_or_else(PoisonError::into_inner) = location;
        if answer.status().is_success() {
            // The exact code tells nothing that matters here, and instant-acme takes no other for a nonce.
            *answer.status_mut() = StatusCode::OK;
            *answer.body_mut() = lenient::normalize_body(answer.body(), &url.to_string()).into();
            *self.body.lock().unwrap_or_else(PoisonError::into_inner) = answer.body().clone();
            return Ok(answer);
        }
        let problem = Problem::parse(answer.body());
        if problem.is_none() {
            // What answers is not the ACME server, or no longer at this URL.
            self.transport.directories.invalidate(&self.directory);
        }
        let excerpt =
            if problem.is_some() { RemoteMessage::default() } else { RemoteMessage::from_bytes(answer.body()) };
        let refusal = Refusal { url: url.to_string(), status: answer.status().as_u16(), problem, retry_after, excerpt };
        Err(TransportError::Refused { step: self.step_for(method, url), refusal: Box::new(refusal) })
    }

    /// Only POSTs depend on what is being done; instant-acme asks for nonces by HEAD and for nothing but directories by GET.
    fn step_for(&self, method: &Method, url: &Uri) -> Option<AcmeStep> {
        match *method {
            Method::HEAD => Some(AcmeStep::Nonce),
            Method::GET if *url == self.directory => Some(AcmeStep::Directory),
            Method::GET => Some(AcmeStep::RenewalInfo),
            _ => None,
        }
    }

    async fn execute(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, TransportError> {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::GET && parts.uri == self.directory {
            return self.load_directory().await.map(Response::new);
        }
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        // The client's own name is sent instead.
        parts.headers.remove(USER_AGENT);
        let answer = self.send(parts.method.clone(), &parts.uri, parts.headers, body).await?;
        if is_bad_nonce(&answer) {
            // instant-acme tries again with the nonce of this very answer, RFC 8555 section 6.5.
            return Ok(normalize_bad_nonce(answer));
        }
        self.check_answer(&parts.method, &parts.uri, answer)
    }
}

impl HttpClient for CaConnection {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, ProtocolError>> + Send>> {
        let exchange = self.clone();
        Box::pin(async move {
            match exchange.execute(request).await {
                Ok(answer) => Ok(to_bytes_response(answer)),
                Err(error) => Err(ProtocolError::Other(Box::new(error))),
            }
        })
    }
}

pub(super) fn to_bytes_response(answer: Response<Bytes>) -> BytesResponse {
    let (parts, body) = answer.into_parts();
    BytesResponse { parts, body: Box::new(body) }
}

/// The whole answer; `None` where it is too long.
async fn receive_bounded(request: reqwest::RequestBuilder) -> Result<Option<Response<Bytes>>, reqwest::Error> {
    let mut answer = request.send().await?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_BODY {
            return Ok(None);
        }
    }
    let mut whole = Response::new(body.freeze());
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = answer.headers().clone();
    Ok(Some(whole))
}

fn replay_nonce(answer: &Response<Bytes>) -> Option<String> {
    answer.headers().get(REPLAY_NONCE)?.to_str().ok().filter(|nonce| !nonce.is_empty()).map(ToOwned::to_owned)
}

fn is_bad_nonce(answer: &Response<Bytes>) -> bool {
    answer.status().is_client_error()
        && Problem::parse(answer.body()).is_some_and(|problem| problem.kind == ProblemKind::BadNonce)
}

/// The refusal of a nonce in the one form that instant-acme knows, whatever else the CA said.
fn normalize_bad_nonce(mut answer: Response<Bytes>) -> Response<Bytes> {
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    *answer.body_mut() = Bytes::from_static(br#"{"type":"urn:ietf:params:acme:error:badNonce"}"#);
    if replay_nonce(&answer).is_none() {
        answer.headers_mut().remove(REPLAY_NONCE);
    }
    answer
}

/// The URL of what an answer made, resolved against the request (RFC 9110 section 10.2.2) in the answer itself, too.
fn resolve_location(answer: &mut Response<Bytes>, url: &Uri) -> Option<String> {
    let given = answer.headers_mut().remove(LOCATION)?;
    let base = url::Url::parse(&url.to_string()).ok();
    // It is stored, as the URL of an account or an order.
    let location = lenient::resolve_url(given.to_str().ok()?, base.as_ref()).filter(|url| url.len() <= LONGEST_URL)?;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).ok()?);
    Some(location)
}

fn to_unreachable(url: &Uri, error: &reqwest::Error) -> Unreachable {
    Unreachable {
        host: host_and_port(&url.to_string()).to_owned(),
        fault: NetworkFault::from_reqwest(error),
        cause: RemoteMessage::new(&network_fault::root_cause(error)),
    }
}

const REPLAY_NONCE: &str = "replay-nonce";

/// A chain of a dozen certificates is far shorter.
const LONGEST_BODY: usize = 1024 * 1024;

/// In bytes: far more than any CA's URLs have.
const LONGEST_URL: usize = 4_096;
