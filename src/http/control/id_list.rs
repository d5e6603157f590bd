//! Ids that a request lists, in a body: thousands of them fit into no URI.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::domain::value::id::{AutoCertificateId, ParseIdError};
use crate::http::body::FieldValue;
use crate::http::errors::{ApiError, Fault};
use crate::http::query::QueryParameters;

/// A body that lists auto-certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdList {
    /// Their ids, at most [`MOST_IDS`].
    #[serde(default)]
    ids: Vec<String>,
}

/// As many ids are taken in one request: each costs a look-up, and its part of the answer.
pub const MOST_IDS: usize = 1_000;

impl IdList {
    pub(super) fn ids(&self) -> Result<Vec<AutoCertificateId>, ApiError> {
        if self.ids.len() > MOST_IDS {
            let fault = format!("ids: are {}; at most {MOST_IDS} are taken at once", self.ids.len());
            return Err(ApiError::Body(vec![Fault(fault)]));
        }
        let read: Result<_, ParseIdError> = self.ids.iter().map(|id| id.parse()).collect();
        read.map_err(|error| ApiError::Body(vec![Fault(format!("ids: {error}"))]))
    }
}

impl FromIterator<AutoCertificateId> for IdList {
    fn from_iter<I: IntoIterator<Item = AutoCertificateId>>(ids: I) -> Self {
        Self { ids: ids.into_iter().map(|id| id.to_string()).collect() }
    }
}

impl FieldValue for IdList {
    const KIND: &'static str = r#"an object such as {"ids": ["..."]}, with ids of auto-certificates"#;
}

/// Every `id` of a query.
pub(super) struct QueryIds(pub(super) Vec<AutoCertificateId>);

impl<S: Send + Sync> FromRequestParts<S> for QueryIds {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let ids: Result<_, _> = QueryParameters::from_parts(parts).all("id").map(str::parse).collect();
        ids.map(Self).map_err(|error: ParseIdError| ApiError::InvalidQuery(vec![Fault(format!("id: {error}"))]))
    }
}
