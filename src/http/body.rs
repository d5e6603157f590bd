//! Reads request bodies: JSON of up to 1 MiB into types whose every field may be missing or ill-typed, so that one
//! response can name all faults. What a field must be is decided where the resource is read, not here.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::domain::resource::without_nul;
use crate::http::errors::{ApiError, Fault};
use crate::http::listener::BodyTimedOut;

/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A body that is JSON of the right kind.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: Wire> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !has_json(&request) {
            return Err(ApiError::MediaType);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        match serde_json::from_slice(&bytes).map_err(ApiError::BrokenJson)? {
            Field::Given(body) => Ok(Self(body)),
            Field::Absent | Field::IllTyped => {
                Err(ApiError::Body(vec![Fault(format!("the body must be {}", T::KIND))]))
            }
        }
    }
}

/// A member of a request as it came. A JSON `null` counts as absent.
#[derive(Default)]
pub(crate) enum Field<T> {
    /// It was not sent.
    #[default]
    Absent,
    /// It was sent, but as something else.
    IllTyped,
    /// It was sent.
    Given(T),
}

impl<'de, T: Wire> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match value {
            Value::Null => Self::Absent,
            value if T::is(&value) => serde_json::from_value(value).map_or(Self::IllTyped, Self::Given),
            _ => Self::IllTyped,
        })
    }
}

/// What a [`Field`] may hold.
pub(crate) trait Wire: DeserializeOwned {
    /// How faults call the kind of JSON value that it is read from.
    const KIND: &'static str = "an object";

    /// Whether the value is of that kind. serde alone would read an object from a list too.
    fn is(value: &Value) -> bool {
        value.is_object()
    }
}

impl Wire for String {
    const KIND: &'static str = "a string";

    fn is(value: &Value) -> bool {
        value.is_string()
    }
}

impl<T: Wire> Wire for Vec<Field<T>> {
    const KIND: &'static str = "a list";

    fn is(value: &Value) -> bool {
        value.is_array()
    }
}

/// Collects the faults of a body. What is read from a faulty field is `None`.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault of the property at `path`.
    pub(crate) fn add(&mut self, path: &str, fault: impl Display) {
        self.0.push(Fault(format!("{path}: {fault}")));
    }

    /// What was sent at `path`.
    pub(crate) fn required<T: Wire>(&mut self, path: &str, field: Field<T>) -> Option<T> {
        let given = self.optional(path, field)?;
        if given.is_none() {
            self.add(path, "is missing");
        }
        given
    }

    /// What was sent at `path`; `Some(None)` where nothing was.
    #[expect(clippy::option_option, reason = "a fault and an absence are two things")]
    pub(crate) fn optional<T: Wire>(&mut self, path: &str, field: Field<T>) -> Option<Option<T>> {
        match field {
            Field::Given(given) => Some(Some(given)),
            Field::Absent => Some(None),
            Field::IllTyped => {
                self.add(path, format_args!("must be {}", T::KIND));
                None
            }
        }
    }

    /// The text at `path`, parsed.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, path: &str, field: Field<String>) -> Option<T> {
        self.read(path, field, str::parse)
    }

    /// The text at `path`, as `read` understands it.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        path: &str,
        field: Field<String>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.required(path, field)?;
        let text = without_nul(&text).map_err(|fault| self.add(path, fault)).ok()?;
        read(text).map_err(|fault| self.add(path, fault)).ok()
    }
}

impl From<Faults> for ApiError {
    fn from(Faults(faults): Faults) -> Self {
        Self::Body(faults)
    }
}

/// Whether the content type is JSON, with or without parameters (RFC 9110 section 8.3.1).
fn has_json(request: &Request) -> bool {
    let Some(content_type) = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::LargeBody;
    }
    let mut causes = std::iter::successors(Some(rejection as &(dyn Error + 'static)), |error| (*error).source());
    if causes.any(<dyn Error>::is::<BodyTimedOut>) { ApiError::SlowBody } else { ApiError::CutBody }
}
