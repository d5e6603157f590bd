//! `/auto-certificates`: the wishes for certificates that are kept fresh. A 201 means stored; the scheduler, which a
//! wake reaches, does the rest.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::uuid;

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::renewal::auto_certificate::{
    AutoCertificate, MAX_SUBJECT_ALTERNATIVE_NAMES, NewAutoCertificate, check_name_count,
};
use crate::domain::report::state;
use crate::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::RequestedName;
use crate::domain::value::resource::Actor;
use crate::http::Api;
use crate::http::body::{Body, BoundedList, Field, FieldValue, InputFaults};
use crate::http::collection::{Collection, CollectionIdentity, ListResponse, skip_damaged};
use crate::http::errors::{ApiError, ResourceLimit};
use crate::http::max_lengths;
use crate::http::metadata::{Metadata, enumeration};
use crate::http::patch::{Patch, PatchName};
use crate::http::path::PathId;
use crate::http::query::{AutoCertificateFilter, ListQuery, Paging};
use crate::http::responses::{CreateErrors, DeleteErrors, ListErrors, PatchHeldErrors, ReadErrors};
use crate::store::CreationOutcome;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, patch, delete))
}

/// An auto-certificate as it is read.
#[derive(Serialize, ToSchema)]
pub(crate) struct AutoCertificateRead {
    /// The id of the auto-certificate.
    #[schema(value_type = String, format = "uuid")]
    id: AutoCertificateId,
    /// Always `autocertificate`.
    #[serde(rename = "type")]
    #[schema(example = "autocertificate")]
    kind: &'static str,
    /// The path of the auto-certificate.
    href: String,
    metadata: AutoCertificateMetadata,
    properties: AutoCertificateProperties,
}

/// The metadata of an auto-certificate.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AutoCertificateMetadata {
    #[serde(flatten)]
    common: Metadata,
    /// The id of the newest certificate; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = "uuid", required = false)]
    last_issued_certificate: Option<CertificateId>,
}

/// A certificate that is kept fresh by its provider.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AutoCertificate)]
struct AutoCertificateProperties {
    /// The id of the provider that issues.
    #[schema(value_type = String, format = "uuid")]
    provider: ProviderId,
    /// The main name, as it was sent.
    common_name: String,
    /// The kind of key.
    #[schema(schema_with = key_algorithm_schema)]
    key_algorithm: &'static str,
    /// The name of the auto-certificate.
    name: String,
    /// Further names, as they were sent.
    subject_alternative_names: Vec<String>,
}

/// An auto-certificate to create. `metadata` may be sent and is ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AutoCertificateCreate {
    #[serde(default)]
    #[schema(value_type = NewAutoCertificateProperties, required = true)]
    properties: Field<NewAutoCertificateProperties>,
}

/// What a new auto-certificate is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AutoCertificateCreateProperties)]
struct NewAutoCertificateProperties {
    /// The id of the provider that shall issue.
    #[serde(default)]
    #[schema(value_type = String, required = true, format = "uuid")]
    provider: Field<String>,
    /// The main name: a DNS name or a wildcard.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 253, example = "www.example.com")]
    common_name: Field<String>,
    /// The kind of key.
    #[serde(default)]
    #[schema(schema_with = key_algorithm_schema, required = true)]
    key_algorithm: Field<String>,
    /// The name of the auto-certificate: 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 255, example = "My certificate")]
    name: Field<String>,
    /// Further DNS names and wildcards, each of at most 253 characters.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 10)]
    subject_alternative_names: Field<BoundedList<String>>,
}

/// Lists auto-certificates
#[utoipa::path(get, path = "/auto-certificates", operation_id = "autoCertificatesGet", tag = "AutoCertificate",
    params(Paging, AutoCertificateFilter),
    responses(
        (status = 200, description = "One page of the auto-certificates", body = Collection<AutoCertificateRead>,
            headers(("X-Total-Count" = i64, description = "How many elements there are in all, where that is known"))),
        ListErrors))]
async fn list(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    query: ListQuery<AutoCertificateFilter>,
) -> Result<Response, ApiError> {
    let slot = api.list_slots.acquire(&actor).await?;
    let (store, now, filter) = (api.store.clone(), api.clock.now(), query.filter.to_store_filter());
    let page = api.store.auto_certificate_page(query.page(), &filter, now).await?;
    let total = if query.is_unfiltered() { Some(api.store.auto_certificate_total().await?) } else { None };
    let read = move |ids: Vec<AutoCertificateId>| {
        let (store, states) = (store.clone(), filter.states.clone());
        async move {
            let found = store.auto_certificates_by_id(&ids).await?;
            // By then one may have come into another state.
            let fits = |found: &AutoCertificate| {
                states.is_empty() || states.contains(&state::auto_certificate_state(&found.standing, now).state)
            };
            Ok(skip_damaged(found).filter(fits).map(|found| AutoCertificateRead::from_stored(found, now)).collect())
        }
    };
    let patience = api.request_timeout.duration();
    ListResponse { identity: COLLECTION, page, total, slot, read_timeout: patience }.respond(&query, read).await
}

/// Creates an auto-certificate; the certificate itself follows
#[utoipa::path(post, path = "/auto-certificates", operation_id = "autoCertificatesPost", tag = "AutoCertificate",
    request_body = AutoCertificateCreate,
    responses((status = 201, description = "The auto-certificate is stored", body = AutoCertificateRead), CreateErrors))]
async fn create(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<AutoCertificateCreate>,
) -> Result<(StatusCode, Json<AutoCertificateRead>), ApiError> {
    let limit = api.limits.auto_certificates;
    match api.store.create_auto_certificate(&body.validate()?, &actor, limit).await? {
        CreationOutcome::Created(created) => {
            api.wake.notify();
            Ok((StatusCode::CREATED, Json(AutoCertificateRead::from_stored(*created, api.clock.now()))))
        }
        CreationOutcome::UnknownProvider => {
            let mut faults = InputFaults::default();
            faults.add(PROVIDER, "there is no such provider");
            Err(faults.into())
        }
        CreationOutcome::LimitReached => Err(ApiError::LimitReached(ResourceLimit {
            max: limit,
            of: "auto-certificates",
            setting: "limits.auto_certificates",
        })),
    }
}

/// Reads an auto-certificate
#[utoipa::path(get, path = "/auto-certificates/{autoCertificateId}", operation_id = "autoCertificatesFindById",
    tag = "AutoCertificate",
    params(("autoCertificateId" = String, Path, format = "uuid", description = "The id of the auto-certificate")),
    responses((status = 200, description = "The auto-certificate", body = AutoCertificateRead), ReadErrors))]
async fn read(
    State(api): State<Api>,
    PathId(id): PathId<AutoCertificateId>,
) -> Result<Json<AutoCertificateRead>, ApiError> {
    let found = api.store.auto_certificate(id).await?.ok_or(ApiError::NoResource)?;
    Ok(Json(AutoCertificateRead::from_stored(found, api.clock.now())))
}

/// Renames an auto-certificate
#[utoipa::path(patch, path = "/auto-certificates/{autoCertificateId}", operation_id = "autoCertificatesPatch",
    tag = "AutoCertificate",
    params(("autoCertificateId" = String, Path, format = "uuid", description = "The id of the auto-certificate")),
    request_body = Patch,
    responses(
        (status = 200, description = "The auto-certificate with its new name", body = AutoCertificateRead),
        PatchHeldErrors))]
async fn patch(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    PathId(id): PathId<AutoCertificateId>,
    PatchName(name): PatchName,
) -> Result<Json<AutoCertificateRead>, ApiError> {
    let renamed = api.store.rename_auto_certificate(id, &name, &actor).await?.ok_or(ApiError::NoResource)?;
    api.wake.notify();
    Ok(Json(AutoCertificateRead::from_stored(renamed, api.clock.now())))
}

/// Deletes an auto-certificate; certificates issued for it stay until they expire
#[utoipa::path(delete, path = "/auto-certificates/{autoCertificateId}", operation_id = "autoCertificatesDelete",
    tag = "AutoCertificate",
    params(("autoCertificateId" = String, Path, format = "uuid", description = "The id of the auto-certificate")),
    responses((status = 202, description = "The auto-certificate is deleted"), DeleteErrors))]
async fn delete(State(api): State<Api>, PathId(id): PathId<AutoCertificateId>) -> Result<StatusCode, ApiError> {
    if api.store.delete_auto_certificate(id).await? {
        api.wake.notify();
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(ApiError::NoResource)
    }
}

impl AutoCertificateRead {
    fn from_stored(stored: AutoCertificate, now: Moment) -> Self {
        let report = state::auto_certificate_state(&stored.standing, now);
        Self {
            id: stored.id,
            kind: KIND,
            href: format!("{}/{}", COLLECTION.href, stored.id),
            metadata: AutoCertificateMetadata {
                common: Metadata::new(KIND, stored.id.uuid(), stored.audit, report),
                last_issued_certificate: stored.standing.newest.map(|newest| newest.id),
            },
            properties: AutoCertificateProperties {
                provider: stored.provider,
                common_name: stored.common_name.sent().to_owned(),
                key_algorithm: stored.key_algorithm.as_str(),
                name: stored.name.to_string(),
                subject_alternative_names: stored
                    .subject_alternative_names
                    .iter()
                    .map(|name| name.sent().to_owned())
                    .collect(),
            },
        }
    }
}

impl AutoCertificateCreate {
    fn validate(self) -> Result<NewAutoCertificate, ApiError> {
        let mut faults = InputFaults::default();
        let Some(sent) = faults.required("properties", self.properties) else { return Err(faults.into()) };
        let provider = faults.parse(PROVIDER, sent.provider, max_lengths::WORD);
        let common_name = faults.parse("properties.commonName", sent.common_name, max_lengths::DNS_NAME);
        let key_algorithm = faults.parse("properties.keyAlgorithm", sent.key_algorithm, max_lengths::WORD);
        let name = faults.parse("properties.name", sent.name, max_lengths::NAME);
        let names = validate_names(&mut faults, sent.subject_alternative_names);
        match (provider, common_name, key_algorithm, name, names) {
            (Some(provider), Some(common_name), Some(key_algorithm), Some(name), Some(subject_alternative_names)) => {
                Ok(NewAutoCertificate {
                    name,
                    provider,
                    common_name,
                    key_algorithm,
                    subject_alternative_names,
                    profile: None,
                })
            }
            _ => Err(faults.into()),
        }
    }
}

/// Names past the limit are not looked at: the fault that counts them stands for all of them.
fn validate_names(faults: &mut InputFaults, sent: Field<BoundedList<String>>) -> Option<Vec<RequestedName>> {
    let sent = faults.optional(NAMES, sent)?.unwrap_or_default();
    let count = sent.count;
    if let Err(fault) = check_name_count(count) {
        faults.add(NAMES, fault);
    }
    let names: Vec<RequestedName> = sent
        .first
        .into_iter()
        .take(MAX_SUBJECT_ALTERNATIVE_NAMES)
        .enumerate()
        .filter_map(|(index, name)| faults.parse(&format!("{NAMES}[{index}]"), name, max_lengths::DNS_NAME))
        .collect();
    (names.len() == count).then_some(names)
}

fn key_algorithm_schema() -> Object {
    enumeration(KeyAlgorithm::ALL.map(KeyAlgorithm::as_str))
}

impl FieldValue for AutoCertificateCreate {}
impl FieldValue for NewAutoCertificateProperties {}

const KIND: &str = "autocertificate";
const PROVIDER: &str = "properties.provider";
const NAMES: &str = "properties.subjectAlternativeNames";
const COLLECTION: CollectionIdentity =
    CollectionIdentity { id: uuid!("0c9a4a4e-6d4c-4f5e-8a57-2d0b8f3f1c22"), href: "/auto-certificates" };
