//! The body of every PATCH: a new name. Nothing else of a resource can be changed.

use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::value::resource::ResourceName;
use crate::http::body::{Body, Field, FieldValue, InputFaults};
use crate::http::errors::ApiError;
use crate::http::max_lengths;

/// A change of a resource. `metadata` may be sent and is ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Patch {
    #[serde(default)]
    #[schema(value_type = PatchProperties, required = true)]
    properties: Field<PatchProperties>,
}

/// What can be changed.
#[derive(Deserialize, ToSchema)]
#[schema(as = PatchName)]
struct PatchProperties {
    /// The new name: 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 255)]
    name: Field<String>,
}

/// The new name that a [`Patch`] carries.
pub(crate) struct PatchName(pub(crate) ResourceName);

impl<S: Send + Sync> FromRequest<S> for PatchName {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(patch) = Body::<Patch>::from_request(request, state).await?;
        let mut faults = InputFaults::default();
        faults
            .required("properties", patch.properties)
            .and_then(|properties| faults.parse("properties.name", properties.name, max_lengths::NAME))
            .map(Self)
            .ok_or_else(|| faults.into())
    }
}

impl FieldValue for Patch {}
impl FieldValue for PatchProperties {}
