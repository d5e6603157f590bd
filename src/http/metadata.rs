//! The metadata that every resource has: who made and changed it, and its state with words for people.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use crate::domain::report::state::{ResourceState, StateReport};
use crate::domain::value::moment::Moment;
use crate::domain::value::resource::Audit;
use crate::domain::value::text::RemoteMessage;

/// The metadata of a resource.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// When it was made.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_date: Moment,
    /// The name of the token that made it.
    created_by: String,
    /// The id of the token that made it.
    #[schema(value_type = String, format = "uuid")]
    created_by_user_id: Uuid,
    /// When a person changed it last.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    last_modified_date: Moment,
    /// The name of the token that changed it last.
    last_modified_by: String,
    /// The id of the token that changed it last.
    #[schema(value_type = String, format = "uuid")]
    last_modified_by_user_id: Uuid,
    /// Its name among all resources.
    #[serde(rename = "resourceURN")]
    #[schema(example = "urn:autocertd:provider:74edc770-5cc6-4976-ac99-013ddb4af403")]
    resource_urn: String,
    /// Its state, computed when it is read.
    #[schema(schema_with = state_schema)]
    state: &'static str,
    /// What is going on and what comes next, for people.
    message: String,
}

impl Metadata {
    /// The metadata of the resource `id` of type `kind`.
    pub(crate) fn new(kind: &str, id: Uuid, audit: Audit, report: StateReport) -> Self {
        Self {
            created_date: audit.created,
            created_by: audit.created_by.name,
            created_by_user_id: audit.created_by.id,
            last_modified_date: audit.modified,
            last_modified_by: audit.modified_by.name,
            last_modified_by_user_id: audit.modified_by.id,
            resource_urn: format!("urn:autocertd:{kind}:{id}"),
            state: report.state.as_str(),
            message: RemoteMessage::from(report.message).to_string(),
        }
    }
}

/// RFC 3339 in UTC with a `Z`: a numeric offset breaks the Go clients.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in references")]
pub(crate) fn as_text<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

/// A string that is one of `values`.
pub(crate) fn enumeration(values: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)).build()
}

fn state_schema() -> Object {
    enumeration(
        [ResourceState::Provisioning, ResourceState::Available, ResourceState::Failed].map(ResourceState::as_str),
    )
}
