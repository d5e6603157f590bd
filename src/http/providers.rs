//! `/providers`: the ACME CAs that issue, each with its account. The secret of an external account goes in and never
//! comes out.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::uuid;

use crate::domain::provider::{ExternalAccountBinding, NewProvider, Provider};
use crate::domain::report::state;
use crate::domain::value::id::ProviderId;
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::resource::Actor;
use crate::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use crate::domain::value::text::RemoteMessage;
use crate::http::Api;
use crate::http::body::{Body, Field, FieldValue, InputFaults};
use crate::http::collection::{Collection, CollectionIdentity, ListResponse, skip_damaged};
use crate::http::errors::{ApiError, ResourceLimit};
use crate::http::max_lengths;
use crate::http::metadata::Metadata;
use crate::http::patch::{Patch, PatchName};
use crate::http::path::PathId;
use crate::http::query::{ListQuery, Paging, ProviderFilter};
use crate::http::responses::{CreateErrors, DeleteErrors, ListErrors, PatchHeldErrors, ReadErrors};
use crate::store::DeletionOutcome;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, patch, delete))
}

/// A provider as it is read.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderRead {
    /// The id of the provider.
    #[schema(value_type = String, format = "uuid")]
    id: ProviderId,
    /// Always `provider`.
    #[serde(rename = "type")]
    #[schema(example = "provider")]
    kind: &'static str,
    /// The path of the provider.
    href: String,
    metadata: Metadata,
    properties: ProviderProperties,
}

/// A certificate provider: an ACME CA.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Provider)]
struct ProviderProperties {
    /// The name of the provider.
    name: String,
    /// The contact of its ACME account.
    email: String,
    /// The URL of its ACME directory.
    server: String,
    /// The external account, left out where none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    external_account_binding: Option<ExternalAccountKeyId>,
}

/// An external account as it is read: without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExternalAccountKeyId {
    /// The key identifier that the CA gave.
    key_id: String,
}

/// A provider to create. `metadata` may be sent and is ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProviderCreate {
    #[serde(default)]
    #[schema(value_type = NewProviderProperties, required = true)]
    properties: Field<NewProviderProperties>,
}

/// What a new provider is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProviderCreateProperties)]
struct NewProviderProperties {
    /// The name of the provider: 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 255, example = "Let's Encrypt")]
    name: Field<String>,
    /// The contact of its ACME account: one plain address.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 254, example = "admin@example.com")]
    email: Field<String>,
    /// The `https` URL of its ACME directory.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 2048, example = "https://acme-v02.api.letsencrypt.org/directory")]
    server: Field<String>,
    /// An account that the CA knows already, where it wants one.
    #[serde(default)]
    #[schema(value_type = Option<NewExternalAccount>)]
    external_account_binding: Field<NewExternalAccount>,
}

/// An account that the CA knows already. Give both members or neither.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProviderExternalAccountBinding)]
struct NewExternalAccount {
    /// The key identifier that the CA gave.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    key_id: Field<String>,
    /// The HMAC key that the CA gave: base64 in either alphabet, padded or not. It is never returned.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024, write_only)]
    key_secret: Field<String>,
}

/// Lists providers
#[utoipa::path(get, path = "/providers", operation_id = "providersGet", tag = "Provider", params(Paging, ProviderFilter),
    responses((status = 200, description = "One page of the providers", body = Collection<ProviderRead>,
            headers(("X-Total-Count" = i64, description = "How many elements there are in all, where that is known"))), ListErrors))]
async fn list(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    query: ListQuery<ProviderFilter>,
) -> Result<Response, ApiError> {
    let slot = api.list_slots.acquire(&actor).await?;
    let page = api.store.provider_page(query.page(), &query.filter.to_store_filter()).await?;
    let total = if query.is_unfiltered() { Some(api.store.provider_total().await?) } else { None };
    let store = api.store.clone();
    let read = move |ids: Vec<ProviderId>| {
        let store = store.clone();
        async move { Ok(skip_damaged(store.providers_by_id(&ids).await?).map(ProviderRead::from).collect()) }
    };
    let patience = api.request_timeout.duration();
    ListResponse { identity: COLLECTION, page, total, slot, read_timeout: patience }.respond(&query, read).await
}

/// Creates a provider
#[utoipa::path(post, path = "/providers", operation_id = "providersPost", tag = "Provider",
    request_body = ProviderCreate,
    responses((status = 201, description = "The provider is stored", body = ProviderRead), CreateErrors))]
async fn create(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ProviderCreate>,
) -> Result<(StatusCode, Json<ProviderRead>), ApiError> {
    let limit = ResourceLimit { max: api.limits.providers, of: "providers", setting: "limits.providers" };
    let created = api.store.create_provider_within(&body.validate(api.plain_http)?, &actor, limit.max).await?;
    let provider = created.ok_or(ApiError::LimitReached(limit))?;
    api.wake.notify();
    Ok((StatusCode::CREATED, Json(provider.into())))
}

/// Reads a provider
#[utoipa::path(get, path = "/providers/{providerId}", operation_id = "providersFindById", tag = "Provider",
    params(("providerId" = String, Path, format = "uuid", description = "The id of the provider")),
    responses((status = 200, description = "The provider", body = ProviderRead), ReadErrors))]
async fn read(State(api): State<Api>, PathId(id): PathId<ProviderId>) -> Result<Json<ProviderRead>, ApiError> {
    let provider = api.store.provider(id).await?.ok_or(ApiError::NoResource)?;
    Ok(Json(provider.into()))
}

/// Renames a provider
#[utoipa::path(patch, path = "/providers/{providerId}", operation_id = "providersPatch", tag = "Provider",
    params(("providerId" = String, Path, format = "uuid", description = "The id of the provider")),
    request_body = Patch,
    responses((status = 200, description = "The provider with its new name", body = ProviderRead), PatchHeldErrors))]
async fn patch(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    PathId(id): PathId<ProviderId>,
    PatchName(name): PatchName,
) -> Result<Json<ProviderRead>, ApiError> {
    let provider = api.store.rename_provider(id, &name, &actor).await?.ok_or(ApiError::NoResource)?;
    api.wake.notify();
    Ok(Json(provider.into()))
}

/// Deletes a provider that no auto-certificate uses
#[utoipa::path(delete, path = "/providers/{providerId}", operation_id = "providersDelete", tag = "Provider",
    params(("providerId" = String, Path, format = "uuid", description = "The id of the provider")),
    responses((status = 202, description = "The provider is deleted"), DeleteErrors))]
async fn delete(State(api): State<Api>, PathId(id): PathId<ProviderId>) -> Result<StatusCode, ApiError> {
    match api.store.delete_provider(id).await? {
        DeletionOutcome::Deleted => {
            api.wake.notify();
            Ok(StatusCode::ACCEPTED)
        }
        DeletionOutcome::Missing => Err(ApiError::NoResource),
        DeletionOutcome::InUse(users) => Err(ApiError::ProviderInUse(users)),
    }
}

impl From<Provider> for ProviderRead {
    fn from(provider: Provider) -> Self {
        let report = state::provider_state(&provider);
        Self {
            id: provider.id,
            kind: KIND,
            href: format!("{}/{}", COLLECTION.href, provider.id),
            metadata: Metadata::new(KIND, provider.id.uuid(), provider.audit, report),
            properties: ProviderProperties {
                name: provider.name.to_string(),
                email: provider.email.to_string(),
                server: provider.server.to_string(),
                external_account_binding: provider
                    .external_account_key_id
                    .map(|key_id| ExternalAccountKeyId { key_id: RemoteMessage::from_paragraph(&key_id).to_string() }),
            },
        }
    }
}

impl ProviderCreate {
    fn validate(self, plain_http: PlainHttpPolicy) -> Result<NewProvider, ApiError> {
        let mut faults = InputFaults::default();
        let Some(sent) = faults.required("properties", self.properties) else { return Err(faults.into()) };
        let name = faults.parse("properties.name", sent.name, max_lengths::NAME);
        let email = faults.parse("properties.email", sent.email, max_lengths::EMAIL);
        let server = faults
            .read("properties.server", sent.server, max_lengths::SERVER, |text| ServerUrl::parse(text, plain_http));
        let external_account = validate_external_account(&mut faults, sent.external_account_binding);
        match (name, email, server, external_account) {
            (Some(name), Some(email), Some(server), Some(external_account)) => {
                Ok(NewProvider { name, email, server, external_account, profile: None })
            }
            _ => Err(faults.into()),
        }
    }
}

#[expect(clippy::option_option, reason = "a fault and an absence are two things")]
fn validate_external_account(
    faults: &mut InputFaults,
    sent: Field<NewExternalAccount>,
) -> Option<Option<ExternalAccountBinding>> {
    let Some(sent) = faults.optional(EXTERNAL_ACCOUNT, sent)? else { return Some(None) };
    if matches!((&sent.key_id, &sent.key_secret), (Field::Absent, Field::Absent)) {
        return Some(None);
    }
    let key_id = faults.read(
        &format!("{EXTERNAL_ACCOUNT}.keyId"),
        sent.key_id,
        max_lengths::EXTERNAL_ACCOUNT,
        ExternalAccountBinding::parse_key_id,
    );
    let key_secret = faults.read(
        &format!("{EXTERNAL_ACCOUNT}.keySecret"),
        sent.key_secret,
        max_lengths::EXTERNAL_ACCOUNT,
        MacKey::parse,
    );
    key_id.zip(key_secret).map(|(key_id, key_secret)| Some(ExternalAccountBinding { key_id, key_secret }))
}

impl FieldValue for ProviderCreate {}
impl FieldValue for NewProviderProperties {}
impl FieldValue for NewExternalAccount {}

const KIND: &str = "provider";
const EXTERNAL_ACCOUNT: &str = "properties.externalAccountBinding";
const COLLECTION: CollectionIdentity =
    CollectionIdentity { id: uuid!("5f0c5b0e-3c54-4c0e-9d0a-7f1f0f6a2b11"), href: "/providers" };
