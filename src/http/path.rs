//! Reads the id in a path. What is no UUID names nothing: it is a 404 like any other id that is not there.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::http::errors::ApiError;

/// The id in the path.
pub(crate) struct PathId<I>(pub(crate) I);

impl<S: Send + Sync, I: FromStr> FromRequestParts<S> for PathId<I> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ApiError::NoResource)?;
        text.parse().map(Self).map_err(|_| ApiError::NoResource)
    }
}
