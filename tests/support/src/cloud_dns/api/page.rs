//! What all resources share: lists with `offset` and `limit` but no total, dates with nanoseconds, and error bodies.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// The query of a list.
#[derive(Deserialize)]
pub(super) struct ListQuery {
    offset: Option<String>,
    limit: Option<String>,
    #[serde(rename = "filter.zoneName")]
    pub(super) zone_name: Option<String>,
    #[serde(rename = "filter.zoneId")]
    pub(super) zone_id: Option<String>,
    #[serde(rename = "filter.name")]
    pub(super) name: Option<String>,
    #[serde(rename = "filter.type")]
    pub(super) kind: Option<String>,
    #[serde(rename = "filter.state")]
    pub(super) state: Option<String>,
}

impl ListQuery {
    /// The page of `all` that was asked for.
    pub(super) fn page(&self, href: &str, all: Vec<Value>) -> Result<Json<Value>, ApiError> {
        let offset = number("offset", self.offset.as_deref(), 0, 0..=usize::MAX)?;
        let limit = number("limit", self.limit.as_deref(), DEFAULT_LIMIT, 1..=MAX_LIMIT)?;
        let end = offset.saturating_add(limit);
        let link = |offset: usize| format!("{href}?offset={offset}&limit={limit}");
        let mut links = json!({"self": link(offset)});
        if offset > 0 {
            links["prev"] = link(offset.saturating_sub(limit)).into();
        }
        if end < all.len() {
            links["next"] = link(end).into();
        }
        let items: Vec<Value> = all.into_iter().skip(offset).take(limit).collect();
        Ok(Json(json!({
            "id": LIST_ID, "type": "collection", "href": href,
            "items": items, "offset": offset, "limit": limit, "_links": links,
        })))
    }
}

/// Whether a filter lets a value pass: the value contains it, whatever the case.
pub(super) fn matches_filter(filter: Option<&str>, value: &str) -> bool {
    filter.is_none_or(|part| value.to_lowercase().contains(&part.to_lowercase()))
}

/// The metadata that all resources have.
pub(super) fn metadata(state: &str) -> Value {
    json!({
        "createdDate": DATE, "createdBy": "local", "createdByUserId": LIST_ID,
        "lastModifiedDate": DATE, "lastModifiedBy": "local", "lastModifiedByUserId": LIST_ID,
        "resourceURN": "urn:ionos:dns:local", "state": state,
    })
}

fn number(
    name: &str,
    text: Option<&str>,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| ApiError::bad_request(&format!("{name} is out of range")))
}

/// An answer that is no success.
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "paas-validation-1", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "paas-auth-1", "the token is missing or wrong")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "dns-not-found", "there is no such resource")
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "dns-conflict", message)
    }

    /// A fault on demand.
    pub(super) fn from_fault(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, "dns-demanded", "this fault was asked for")
    }

    fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "httpStatus": self.status.as_u16(),
            "messages": [{"errorCode": self.code, "message": self.message}],
        });
        (self.status, Json(body)).into_response()
    }
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Clients must bear nanoseconds.
const DATE: &str = "2026-01-02T03:04:05.123456789Z";
const LIST_ID: &str = "00000000-0000-4000-8000-000000000000";
