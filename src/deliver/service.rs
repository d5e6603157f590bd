//! One call to a service that knows autocertd by a token: its time limit, the reading of its answer, and what a refusal
//! means. It knows no certificates.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Method, Response, StatusCode};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::ConfigError;
use crate::config::time_span::TimeSpan;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::value::endpoint::Endpoint;
use crate::domain::value::moment::Moment;
use crate::domain::value::secret_text::InvalidSecret;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::bearer::bearer_header;
use crate::runtime::clock::SharedClock;
use crate::runtime::files;
use crate::runtime::network_fault::NetworkFault;

/// A service as one token sees it.
pub(super) struct DeliveryService {
    /// What it is called in messages: the key of its settings.
    pub(super) name: &'static str,
    pub(super) http: reqwest::Client,
    pub(super) endpoint: Endpoint,
    /// Read anew for each call, because whoever runs this may exchange it at any time.
    pub(super) token: TokenFile,
    /// What to do about a 401 and a 403.
    pub(super) advice: AuthorizationAdvice,
    /// Reads the words of an answer that is no success.
    pub(super) read_message: fn(&[u8]) -> RemoteMessage,
    pub(super) clock: SharedClock,
}

/// The file that holds a token.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    /// The setting that names it.
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
}

/// What people can do where the service does not let autocertd in.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationAdvice {
    /// The token is wrong or expired.
    pub(super) unauthenticated: String,
    /// The token is missing a right.
    pub(super) forbidden: String,
}

/// What is asked.
pub(super) struct ServiceCall<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, String)],
    /// A document with its content type.
    pub(super) body: Option<(&'static str, &'a Value)>,
}

/// Why a call came to nothing. No text in it holds the token or a private key.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    #[error("{service}: there is no token; it is looked for again")]
    NoToken { service: &'static str, source: ConfigError },
    #[error("{service}: the token file {} {fault}; it is read again", .path.display())]
    BadToken { service: &'static str, path: PathBuf, fault: InvalidSecret },
    #[error("{service}: {call} was refused with status {status}{}; {advice}", .said.in_parentheses())]
    Unauthorized { service: &'static str, call: String, status: u16, said: RemoteMessage, advice: String },
    #[error("{service}: {call} got no answer; it is tried again, {}", remedy(.source))]
    Unreachable { service: &'static str, call: String, source: reqwest::Error },
    #[error("{service}: {call} was answered with status {status}{}{asked}; it is tried again later", .said.in_parentheses())]
    Busy {
        service: &'static str,
        call: String,
        status: u16,
        said: RemoteMessage,
        asked: RetryAfter,
        not_before: Option<Moment>,
    },
    #[error("{service}: {call} was rejected with status {status}{}; correct what it complains of", .said.in_parentheses())]
    Rejected { service: &'static str, call: String, status: u16, said: RemoteMessage },
    #[error(
        "{service}: the answer to {call} is longer than {} MiB; it is tried again, check the address if this lasts",
        LONGEST_ANSWER >> 20
    )]
    TooLong { service: &'static str, call: String },
    #[error("{service}: the answer to {call} cannot be read; it is tried again, check the address if this lasts")]
    Unreadable { service: &'static str, call: String, source: serde_json::Error },
}

impl DeliveryService {
    /// What all clients have in common. A token goes nowhere but to its endpoint, and what is not encrypted through no
    /// proxy, which would read it.
    pub(super) fn client_builder(endpoint: &Endpoint, timeout: TimeSpan) -> ClientBuilder {
        let client = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout.duration())
            .redirect(Policy::none());
        if endpoint.is_https() { client } else { client.no_proxy() }
    }

    /// One call, and what its answer of success says.
    pub(super) async fn call_json<T: DeserializeOwned>(&self, call: ServiceCall<'_>) -> Result<T, ServiceError> {
        let named = call.to_string();
        let body = self.send(call).await?;
        serde_json::from_slice(&body).map_err(|source| ServiceError::Unreadable {
            service: self.name,
            call: named,
            source,
        })
    }

    /// One call, and the body of its answer of success.
    pub(super) async fn send(&self, call: ServiceCall<'_>) -> Result<Vec<u8>, ServiceError> {
        let (service, named) = (self.name, call.to_string());
        let mut request = self
            .http
            .request(call.method, self.endpoint.join(call.path))
            .query(call.query)
            .header(AUTHORIZATION, self.authorization().await?);
        if let Some((content_type, document)) = call.body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(content_type)).body(document.to_string());
        }
        let answer = async {
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let longest = if status.is_success() { LONGEST_ANSWER } else { MAX_REFUSAL_SIZE };
            Ok((status, headers, read_bounded(response, longest).await?))
        };
        let (status, headers, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                let source = reqwest::Error::without_url(error);
                tracing::debug!(service, call = named, error = %source, "no answer");
                return Err(ServiceError::Unreachable { service, call: named, source });
            }
        };
        let bytes = body.as_ref().map(Vec::len);
        tracing::debug!(service, call = named, status = status.as_u16(), bytes, "answered");
        if status.is_success() {
            body.ok_or(ServiceError::TooLong { service, call: named })
        } else {
            // The words of a refusal are short, and its status tells what to do.
            Err(self.error_for_status(named, status, &headers, &body.unwrap_or_default()))
        }
    }

    async fn authorization(&self) -> Result<HeaderValue, ServiceError> {
        let service = self.name;
        let unreadable = |source| ServiceError::NoToken {
            service,
            source: ConfigError::UnreadableSecret { key: self.token.key, path: self.token.path.clone(), source },
        };
        let unusable = |fault| ServiceError::BadToken { service, path: self.token.path.clone(), fault };
        let content = Zeroizing::new(files::read(&self.token.path).await.map_err(unreadable)?);
        let text = std::str::from_utf8(&content).map_err(|_| unusable(InvalidSecret::NotUtf8))?;
        bearer_header(&SecretString::from(text)).map_err(unusable)
    }

    fn error_for_status(&self, call: String, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ServiceError {
        let (service, said) = (self.name, (self.read_message)(body));
        let unauthorized = |call, said, advice: &String| ServiceError::Unauthorized {
            service,
            call,
            status: status.as_u16(),
            said,
            advice: advice.clone(),
        };
        match status {
            StatusCode::UNAUTHORIZED => unauthorized(call, said, &self.advice.unauthenticated),
            StatusCode::FORBIDDEN => unauthorized(call, said, &self.advice.forbidden),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => self.busy_error(call, status, said, headers),
            status if status.is_server_error() => self.busy_error(call, status, said, headers),
            status => ServiceError::Rejected { service, call, status: status.as_u16(), said },
        }
    }

    fn busy_error(&self, call: String, status: StatusCode, said: RemoteMessage, headers: &HeaderMap) -> ServiceError {
        let now = self.clock.now();
        let asked = RetryAfter::parse(headers.get(RETRY_AFTER).map(HeaderValue::as_bytes), now);
        let not_before = asked.within(MAX_REQUESTED_PAUSE, now);
        ServiceError::Busy { service: self.name, call, status: status.as_u16(), said, asked, not_before }
    }
}

fn remedy(error: &reqwest::Error) -> String {
    let remedy = NetworkFault::from_reqwest(error).remedy("the roots that this delivery trusts");
    remedy.unwrap_or_else(|| "check the address and the network if this lasts".to_owned())
}

impl ServiceError {
    /// What the fault means for the next step. A token that is missing may be on its way, from a vault for one.
    pub(super) const fn disposition(&self) -> Disposition {
        match self {
            Self::Busy { not_before, .. } => Disposition::Retry { not_before: *not_before },
            Self::NoToken { .. }
            | Self::BadToken { .. }
            | Self::Unreachable { .. }
            | Self::TooLong { .. }
            | Self::Unreadable { .. } => Disposition::RETRY,
            Self::Unauthorized { .. } | Self::Rejected { .. } => Disposition::Operator,
        }
    }

    /// The status with which the service rejected what was asked.
    pub(super) const fn rejected_status(&self) -> Option<u16> {
        match self {
            Self::Rejected { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::from_error(&error, error.disposition())
    }
}

/// Method and path, as messages name a call.
impl fmt::Display for ServiceCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /{}", self.method, self.path.join("/"))
    }
}

impl fmt::Debug for DeliveryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The body of an answer; nothing where it is longer than `longest` bytes, the rest of which is not waited for.
async fn read_bounded(mut response: Response, longest: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > longest {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Bytes of an answer of success: a page of a hundred certificates, each with its chain, has about one MiB.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;
/// A service that asks for a longer pause is tried again after this.
const MAX_REQUESTED_PAUSE: time::Duration = time::Duration::DAY;
/// Bytes of any other answer.
const MAX_REFUSAL_SIZE: usize = 64 * 1024;
