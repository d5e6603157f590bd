//! `/certificates`: what was uploaded and what was issued. A private key goes in and never comes out; the chain is
//! not validated.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::uuid;

use crate::domain::certificate::leaf::{Leaf, read_key};
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::certificate::{Certificate, CertificateOrigin, NewCertificate};
use crate::domain::report::state;
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::domain::value::moment::Moment;
use crate::domain::value::resource::Actor;
use crate::domain::value::text::{is_printable, printable};
use crate::http::Api;
use crate::http::body::{Body, Field, FieldValue, InputFaults};
use crate::http::collection::{Collection, CollectionIdentity, ListResponse, skip_damaged};
use crate::http::errors::{ApiError, Fault, ResourceLimit};
use crate::http::max_lengths;
use crate::http::metadata::{Metadata, as_text};
use crate::http::patch::{Patch, PatchName};
use crate::http::path::PathId;
use crate::http::query::{CertificateFilter, ListQuery, Paging};
use crate::http::responses::{CreateErrors, DeleteErrors, ListErrors, PatchErrors, ReadErrors};
use crate::store::StoreError;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, patch, delete))
}

/// A certificate as it is read.
#[derive(Serialize, ToSchema)]
pub(crate) struct CertificateRead {
    /// The id of the certificate.
    #[schema(value_type = String, format = "uuid")]
    id: CertificateId,
    /// Always `certificate`.
    #[serde(rename = "type")]
    #[schema(example = "certificate")]
    kind: &'static str,
    /// The path of the certificate.
    href: String,
    metadata: CertificateMetadata,
    properties: CertificateProperties,
}

/// The metadata of a certificate.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CertificateMetadata {
    #[serde(flatten)]
    common: Metadata,
    /// The id of the auto-certificate for which it was issued; absent where it was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = "uuid", required = false)]
    auto_certificate: Option<AutoCertificateId>,
    /// The id of the newest certificate of the same auto-certificate; absent where it was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = "uuid", required = false)]
    last_issued_certificate: Option<CertificateId>,
    /// Whether its validity is over.
    expired: bool,
    /// The start of its validity.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    not_before: Moment,
    /// The end of its validity.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    not_after: Moment,
    /// Its serial number: upper-case hex byte pairs joined by colons.
    #[schema(example = "0A:BC:01")]
    serial_number: String,
    /// The common name: the auto-certificate's for an issued one, else the subject's.
    common_name: String,
    /// The DNS names and IP addresses that it is for.
    subject_alternative_names: Vec<String>,
}

/// A certificate with its chain.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Certificate)]
struct CertificateProperties {
    /// The name of the certificate.
    name: String,
    /// The certificate, PEM: an upload as it was given, an issued one with a newline at its end.
    certificate: String,
    /// Its chain, PEM, likewise.
    certificate_chain: String,
}

/// A certificate to upload. `metadata` may be sent and is ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CertificateCreate {
    #[serde(default)]
    #[schema(value_type = NewCertificateProperties, required = true)]
    properties: Field<NewCertificateProperties>,
}

/// What a new certificate is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CertificateCreateProperties)]
struct NewCertificateProperties {
    /// The name of the certificate: 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 255, example = "My certificate")]
    name: Field<String>,
    /// The certificate, PEM, of at most 32,768 characters; its common name has at most 255 characters.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 32768)]
    certificate: Field<String>,
    /// Its chain, PEM, of at most 65,536 characters and 16 certificates. Whether it leads anywhere is not looked at.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 65536)]
    certificate_chain: Field<String>,
    /// Its private key, PEM and not encrypted. It is never returned.
    #[serde(default)]
    #[schema(value_type = String, required = true, max_length = 16384, write_only)]
    private_key: Field<String>,
}

/// Lists certificates
#[utoipa::path(get, path = "/certificates", operation_id = "certificatesGet", tag = "Certificate",
    params(Paging, CertificateFilter),
    responses((status = 200, description = "One page of the certificates", body = Collection<CertificateRead>,
            headers(("X-Total-Count" = i64, description = "How many elements there are in all, where that is known"))), ListErrors))]
async fn list(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    query: ListQuery<CertificateFilter>,
) -> Result<Response, ApiError> {
    let slot = api.list_slots.acquire(&actor).await?;
    let page = api.store.certificate_page(query.page(), &query.filter.to_store_filter()).await?;
    let (store, now) = (api.store.clone(), api.clock.now());
    let read = move |ids: Vec<CertificateId>| {
        let store = store.clone();
        async move {
            let found = store.certificates_by_id(&ids).await?;
            Ok(skip_damaged(found).map(|found| CertificateRead::from_stored(found, now)).collect())
        }
    };
    let patience = api.request_timeout.duration();
    ListResponse { identity: COLLECTION, page, total: None, slot, read_timeout: patience }.respond(&query, read).await
}

/// Uploads a certificate
#[utoipa::path(post, path = "/certificates", operation_id = "certificatesPost", tag = "Certificate",
    request_body = CertificateCreate,
    responses((status = 201, description = "The certificate is stored", body = CertificateRead), CreateErrors))]
async fn create(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<CertificateCreate>,
) -> Result<(StatusCode, Json<CertificateRead>), ApiError> {
    let limit =
        ResourceLimit { max: api.limits.certificates, of: "uploaded certificates", setting: "limits.certificates" };
    let uploaded = api.store.upload_certificate_within(&body.validate()?, &actor, limit.max).await;
    let uploaded = uploaded.map_err(|error| match error {
        error @ StoreError::CompromisedKey => ApiError::Body(vec![Fault(format!("{PRIVATE_KEY}: {error}"))]),
        error => error.into(),
    })?;
    let uploaded = uploaded.ok_or(ApiError::LimitReached(limit))?;
    Ok((StatusCode::CREATED, Json(CertificateRead::from_stored(uploaded, api.clock.now()))))
}

/// Reads a certificate
#[utoipa::path(get, path = "/certificates/{certificateId}", operation_id = "certificatesFindById", tag = "Certificate",
    params(("certificateId" = String, Path, format = "uuid", description = "The id of the certificate")),
    responses((status = 200, description = "The certificate", body = CertificateRead), ReadErrors))]
async fn read(State(api): State<Api>, PathId(id): PathId<CertificateId>) -> Result<Json<CertificateRead>, ApiError> {
    let found = api.store.certificate(id).await?.ok_or(ApiError::NoResource)?;
    Ok(Json(CertificateRead::from_stored(found, api.clock.now())))
}

/// Renames a certificate
#[utoipa::path(patch, path = "/certificates/{certificateId}", operation_id = "certificatesPatch", tag = "Certificate",
    params(("certificateId" = String, Path, format = "uuid", description = "The id of the certificate")),
    request_body = Patch,
    responses((status = 200, description = "The certificate with its new name", body = CertificateRead), PatchErrors))]
async fn patch(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    PathId(id): PathId<CertificateId>,
    PatchName(name): PatchName,
) -> Result<Json<CertificateRead>, ApiError> {
    let renamed = api.store.rename_certificate(id, &name, &actor).await?.ok_or(ApiError::NoResource)?;
    api.wake.notify();
    Ok(Json(CertificateRead::from_stored(renamed, api.clock.now())))
}

/// Deletes a certificate; where it was the last one of its auto-certificate a new one is ordered
#[utoipa::path(delete, path = "/certificates/{certificateId}", operation_id = "certificatesDelete", tag = "Certificate",
    params(("certificateId" = String, Path, format = "uuid", description = "The id of the certificate")),
    responses((status = 202, description = "The certificate is deleted"), DeleteErrors))]
async fn delete(State(api): State<Api>, PathId(id): PathId<CertificateId>) -> Result<StatusCode, ApiError> {
    if api.store.delete_certificate(id).await? {
        api.wake.notify();
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(ApiError::NoResource)
    }
}

impl CertificateRead {
    fn from_stored(stored: Certificate, now: Moment) -> Self {
        let (auto_certificate, last_issued_certificate) = match stored.origin {
            CertificateOrigin::Uploaded => (None, None),
            CertificateOrigin::Issued { auto_certificate, newest } => (Some(auto_certificate), Some(newest)),
        };
        let (certificate, certificate_chain) = match stored.origin {
            CertificateOrigin::Uploaded => (stored.certificate, stored.chain),
            CertificateOrigin::Issued { .. } => {
                (with_final_newline(&stored.certificate), with_final_newline(&stored.chain))
            }
        };
        let report = state::certificate_state(stored.leaf.not_after, stored.revocation.as_ref(), now);
        Self {
            id: stored.id,
            kind: KIND,
            href: format!("{}/{}", COLLECTION.href, stored.id),
            metadata: CertificateMetadata {
                common: Metadata::new(KIND, stored.id.uuid(), stored.audit, report),
                auto_certificate,
                last_issued_certificate,
                expired: stored.leaf.not_after <= now,
                not_before: stored.leaf.not_before,
                not_after: stored.leaf.not_after,
                serial_number: stored.leaf.serial_number,
                common_name: printable(&stored.common_name),
                subject_alternative_names: stored
                    .leaf
                    .subject_alternative_names
                    .iter()
                    .map(|name| printable(name))
                    .collect(),
            },
            properties: CertificateProperties { name: stored.name.to_string(), certificate, certificate_chain },
        }
    }
}

impl CertificateCreate {
    fn validate(self) -> Result<NewCertificate, ApiError> {
        let mut faults = InputFaults::default();
        let Some(sent) = faults.required("properties", self.properties) else { return Err(faults.into()) };
        let name = faults.parse("properties.name", sent.name, max_lengths::NAME);
        let certificate =
            faults.read("properties.certificate", sent.certificate, max_lengths::CERTIFICATE, parse_certificate);
        let chain = faults.read("properties.certificateChain", sent.certificate_chain, max_lengths::CHAIN, parse_chain);
        let private_key =
            faults.read(PRIVATE_KEY, sent.private_key, max_lengths::PRIVATE_KEY, accept_any).map(SecretString::from);
        let leaf = certificate.as_ref().map(|(_, leaf)| leaf);
        let key_fault = private_key.as_ref().and_then(|key| check_key(key.expose_secret(), leaf).err());
        if let Some(fault) = &key_fault {
            faults.add(PRIVATE_KEY, fault);
        }
        match (name, certificate, chain, private_key, key_fault) {
            (Some(name), Some((certificate, leaf)), Some(chain), Some(private_key), None) => {
                Ok(NewCertificate { name, certificate, chain, private_key, leaf })
            }
            _ => Err(faults.into()),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where a parser does")]
fn accept_any(text: &str) -> Result<String, Infallible> {
    Ok(text.to_owned())
}

/// A certificate together with what it says.
fn parse_certificate(pem: &str) -> Result<(String, Leaf), String> {
    let pem = reject_private_key(pem)?;
    let leaf = Leaf::from_pem(&pem).map_err(|fault| fault.to_string())?;
    let spoilt = |name: &String| !name.chars().all(is_printable);
    if spoilt(&leaf.common_name) || leaf.subject_alternative_names.iter().any(spoilt) {
        return Err("a name in the certificate has a control or invisible character".to_owned());
    }
    if leaf.common_name.chars().count() > max_lengths::COMMON_NAME {
        return Err(format!("the certificate's common name has more than {} characters", max_lengths::COMMON_NAME));
    }
    Ok((pem, leaf))
}

/// A chain is taken as it is, so long as it is one.
fn parse_chain(pem: &str) -> Result<String, String> {
    let pem = reject_private_key(pem)?;
    let certificates = pem.matches(CERTIFICATE_HEADER).count();
    if certificates > max_lengths::CHAIN_CERTIFICATES {
        return Err(format!(
            "has {certificates} certificates, more than the {} allowed",
            max_lengths::CHAIN_CERTIFICATES
        ));
    }
    match Leaf::from_pem(&pem) {
        Err(fault @ LeafError::NoCertificate) => Err(fault.to_string()),
        _ => Ok(pem),
    }
}

/// PEM as it ends a line, so that other PEM can follow.
fn with_final_newline(pem: &str) -> String {
    let pem = pem.trim_end();
    if pem.is_empty() { String::new() } else { format!("{pem}\n") }
}

/// Reads echo certificates and chains, so a private key that was pasted into one would be given away.
fn reject_private_key(pem: &str) -> Result<String, String> {
    if pem.contains("PRIVATE KEY-----") {
        return Err("holds a private key, which reads would give away; remove it".to_owned());
    }
    Ok(pem.to_owned())
}

/// A key that cannot be read is a fault also where the certificate cannot be read either.
fn check_key(private_key: &str, leaf: Option<&Leaf>) -> Result<(), LeafError> {
    match leaf {
        Some(leaf) => leaf.check_key(private_key),
        None => read_key(private_key).map(|_| ()),
    }
}

impl FieldValue for CertificateCreate {}
impl FieldValue for NewCertificateProperties {}

const KIND: &str = "certificate";
/// How a certificate begins in PEM (RFC 7468 section 5).
const CERTIFICATE_HEADER: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEY: &str = "properties.privateKey";
const COLLECTION: CollectionIdentity =
    CollectionIdentity { id: uuid!("a3d5d0f6-5a0f-4a29-b6ef-94a4c1b87d33"), href: "/certificates" };
