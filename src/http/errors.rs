//! What a request gets instead of its answer: every refusal and fault, in the one form of the contract. A 500 tells
//! nothing but the request id, which the outermost layer fills in; everything else goes to the log, once, here.

use std::error::Error;
use std::fmt;

use axum::Json;
use axum::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::declared::DeclaredKey;
use crate::domain::value::text::RemoteMessage;
use crate::store::{ProviderUsers, StoreError};

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The token is missing, unknown or revoked.
    Unauthenticated,
    /// A token that may only look tried to change something.
    ReadOnly,
    /// Another user of this machine knocked at the Unix socket.
    ForeignUser,
    /// No resource has this id.
    NoResource,
    /// No operation has this path.
    NoRoute,
    /// The path is right, the method is not.
    MethodNotAllowed,
    /// The query has these faults.
    InvalidQuery(Vec<Fault>),
    /// The body could not be read to its end.
    TruncatedBody,
    /// The body did not arrive in time.
    BodyTimedOut,
    /// The body is no JSON.
    BrokenJson(serde_json::Error),
    /// The body is over [`MAX_BODY`](crate::http::body::MAX_BODY).
    BodyTooLarge,
    /// The content type is not JSON.
    UnsupportedMediaType,
    /// The body has these content codings.
    UnsupportedEncoding(RemoteMessage),
    /// The body has these faults.
    Body(Vec<Fault>),
    /// There are as many as the settings allow.
    LimitReached(ResourceLimit),
    /// These auto-certificates still use the provider.
    ProviderInUse(ProviderUsers),
    /// The CA is still to revoke the certificate.
    RevocationPending,
    /// The settings file declares the resource under this key.
    Declared(DeclaredKey),
    /// The request took longer than the settings allow.
    TimedOut,
    /// As many lists as allowed are being read by slow clients.
    TooManyLists,
    /// An answer could not be written as JSON.
    SerializationFailed(serde_json::Error),
    /// Reading a part of a list, or a request that writes, panicked.
    Panicked(tokio::task::JoinError),
    /// Too many requests are running.
    Busy,
    /// The store failed.
    Store(StoreError),
}

/// How many of something the settings allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceLimit {
    pub(crate) max: u32,
    /// What is counted.
    pub(crate) of: &'static str,
    pub(crate) setting: &'static str,
}

/// One fault of a body or a query.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

/// The body of every error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Error)]
pub struct ErrorBody {
    /// The HTTP status of the response.
    pub http_status: u16,
    /// Every fault that was found.
    pub messages: Vec<ErrorMessage>,
}

/// One message of an error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMessage {
    /// A stable code for programs.
    #[schema(example = "paas-validation-1")]
    pub error_code: String,
    /// Words for people.
    pub message: String,
}

impl ErrorBody {
    /// The body of a 500, which reveals nothing but where to look.
    pub(crate) fn internal(request_id: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            INTERNAL_CODE,
            [format!("internal error; request id {request_id}")],
        )
    }

    fn new(status: StatusCode, code: &str, messages: impl IntoIterator<Item = String>) -> Self {
        // Some repeat what was sent.
        let messages = messages.into_iter().map(|message| ErrorMessage {
            error_code: code.to_owned(),
            message: RemoteMessage::from_statements(&message).to_string(),
        });
        Self { http_status: status.as_u16(), messages: messages.collect() }
    }
}

impl ApiError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidQuery(_) | Self::TruncatedBody | Self::BrokenJson(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ReadOnly | Self::ForeignUser => StatusCode::FORBIDDEN,
            Self::NoResource | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::ProviderInUse(_) | Self::RevocationPending | Self::Declared(_) => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(_) | Self::LimitReached(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TimedOut | Self::Busy | Self::TooManyLists | Self::Store(StoreError::Unavailable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Store(_) | Self::SerializationFailed(_) | Self::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The codes that begin with `paas-` are those of the IONOS API; the others are ours.
    const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "paas-auth-1",
            Self::ReadOnly | Self::ForeignUser => "paas-feature-1",
            Self::InvalidQuery(_) | Self::TruncatedBody | Self::BrokenJson(_) => "paas-validation-1",
            Self::NoResource => "autocertd-not-found-1",
            Self::NoRoute => "autocertd-not-found-2",
            Self::MethodNotAllowed => "autocertd-method-1",
            Self::ProviderInUse(_) => "autocertd-in-use-1",
            Self::RevocationPending => "autocertd-revocation-1",
            Self::Declared(_) => "autocertd-declared-1",
            Self::BodyTooLarge => "autocertd-body-size-1",
            Self::UnsupportedMediaType => "autocertd-media-type-1",
            Self::UnsupportedEncoding(_) => ENCODING_CODE,
            Self::Body(_) => "autocertd-property-1",
            Self::LimitReached(_) => "autocertd-limit-1",
            Self::TimedOut => "autocertd-timeout-1",
            Self::BodyTimedOut => "autocertd-timeout-2",
            Self::TooManyLists | Self::Busy => "autocertd-busy-1",
            Self::Store(StoreError::Unavailable(_)) => "autocertd-unavailable-1",
            Self::Store(_) | Self::SerializationFailed(_) | Self::Panicked(_) => INTERNAL_CODE,
        }
    }

    fn messages(self) -> Vec<String> {
        let message = match self {
            Self::InvalidQuery(faults) | Self::Body(faults) => return fault_messages(faults),
            Self::Unauthenticated => "the bearer token is missing, unknown or revoked".to_owned(),
            Self::ReadOnly => "this token may only read".to_owned(),
            Self::ForeignUser => "only root and the user of the daemon may use this socket".to_owned(),
            Self::NoResource => "there is no such resource".to_owned(),
            Self::NoRoute => "there is no such path; GET /openapi.json lists all of them".to_owned(),
            Self::MethodNotAllowed => {
                "this path does not have this method; the Allow header lists those it has".to_owned()
            }
            Self::TruncatedBody => "the body ended too early".to_owned(),
            Self::BrokenJson(error) => format!("the body is not valid JSON: {error}"),
            Self::BodyTooLarge => "the body is over 1 MiB".to_owned(),
            Self::UnsupportedMediaType => "the body must be JSON: send Content-Type: application/json".to_owned(),
            Self::UnsupportedEncoding(encoding) => {
                format!("the body has the content encoding {encoding}; send it without one")
            }
            Self::LimitReached(ResourceLimit { max: most, of, setting }) => {
                format!("the limit of {most} {of} is reached; delete one, or raise the setting {setting}")
            }
            Self::ProviderInUse(users) => {
                let named = users.first.iter().map(|(id, name)| format!("{name} ({id})"));
                let named: Vec<String> = named.chain(users.has_more.then(|| "and others".to_owned())).collect();
                format!(
                    "auto-certificates still use this provider and would never be renewed again; delete them first: {}",
                    named.join(", ")
                )
            }
            Self::RevocationPending => {
                "the CA has not revoked this certificate yet, and cannot be told to without it; delete \
                                     it once its message says that it is revoked, or once it has expired"
                    .to_owned()
            }
            Self::Declared(key) => format!("the settings file declares this under the key {key}; change it there"),
            Self::TimedOut => "the request took too long; try again".to_owned(),
            Self::TooManyLists => {
                "too many lists are being read at the same time; read those to their end, or try again".to_owned()
            }
            Self::SerializationFailed(_) | Self::Panicked(_) => "the answer could not be made".to_owned(),
            Self::Store(StoreError::Unavailable(fault)) => {
                format!("the store cannot be used at the moment: {}", fault.cause)
            }
            Self::BodyTimedOut => "the body did not arrive in time; send it again without pauses".to_owned(),
            Self::Busy => "too many requests are running; read their responses, or try again later".to_owned(),
            Self::Store(_) => "the store cannot be reached at the moment; try again".to_owned(),
        };
        vec![message]
    }
}

/// The faults, of many the first.
fn fault_messages(faults: Vec<Fault>) -> Vec<String> {
    let left = faults.len().saturating_sub(MAX_FAULTS);
    let first = faults.into_iter().take(MAX_FAULTS).map(|Fault(text)| text);
    first.chain((left > 0).then(|| format!("{left} more faults are not listed"))).collect()
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Declared(key) => Self::Declared(key),
            StoreError::RevocationPending => Self::RevocationPending,
            error => Self::Store(error),
        }
    }
}

/// For the log, where an answer is broken off.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::SerializationFailed(error) => error.fmt(f),
            Self::Panicked(error) => error.fmt(f),
            _ => f.write_str(self.code()),
        }
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let failed: Option<&dyn Error> = match &self {
            // The store logs an outage once for all requests.
            Self::Store(error) if error.is_outage() => {
                tracing::debug!(%error, "a request failed");
                None
            }
            Self::Store(error) => Some(error),
            Self::SerializationFailed(error) => Some(error),
            Self::Panicked(error) => Some(error),
            _ => None,
        };
        if let Some(error) = failed {
            tracing::error!(error, "a request failed");
        }
        let (status, code) = (self.status(), self.code());
        let mut response = if status == StatusCode::INTERNAL_SERVER_ERROR {
            status.into_response()
        } else {
            (status, Json(ErrorBody::new(status, code, self.messages()))).into_response()
        };
        match status {
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE if code == ENCODING_CODE => {
                response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        response
    }
}

/// Whole seconds; clients honour nothing else.
pub(crate) const RETRY_AFTER_SECONDS: &str = "5";
const ENCODING_CODE: &str = "autocertd-media-type-2";
const MAX_FAULTS: usize = 32;
const INTERNAL_CODE: &str = "autocertd-internal-1";
