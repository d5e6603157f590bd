//! The OpenAPI 3.1 document, generated from the types and operations that serve. It is built when it is first asked
//! for: most daemons never are.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};
use utoipa::{IntoResponses, Modify, OpenApi};

use crate::http::errors::ErrorBody;
use crate::http::router;

/// Reads this document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openApiGet", tag = "Daemon", security(()),
    responses((status = 200, description = "The OpenAPI document of this API", content_type = "application/json",
        body = Object)))]
pub(crate) async fn read() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document = Document::openapi();
    document.merge(router::documented_routes().into_openapi());
    // A `Value` cannot fail to become text, and the document holds no map with keys that are no strings.
    serde_json::to_value(document).map_or_else(|_| Bytes::new(), |value| Bytes::from(value.to_string()))
});

#[derive(OpenApi)]
#[openapi(
    info(title = "autocertd", description = "A self-hosted Certificate Manager: the Certificate Manager Service API 2.0"),
    components(schemas(ErrorBody)),
    modifiers(&Tokens),
    security(("tokenAuth" = [])),
    tags(
        (name = "Certificate", description = "Certificates that were uploaded or issued"),
        (name = "AutoCertificate", description = "Certificates that are kept fresh by a provider"),
        (name = "Provider", description = "ACME CAs with their accounts"),
        (name = "Daemon", description = "The daemon itself"),
    )
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made by `autocertd token create`"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("tokenAuth", SecurityScheme::Http(bearer));
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $($status:literal)*;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    COMMON_STATUSES.into_iter().chain([$($status),*]).map(error_response).collect()
                }
            }
        )*
    };
}

errors! {
    /// How a list can be refused.
    ListErrors: 400;
    /// How a read can be refused.
    ReadErrors: 404;
    /// How a creation can be refused.
    CreateErrors: 400 403 413 415 422;
    /// How a change can be refused.
    PatchErrors: 400 403 404 413 415 422;
    /// How the change of what the settings may declare can be refused.
    PatchHeldErrors: 400 403 404 409 413 415 422;
    /// How a deletion can be refused, of which something may stand in the way.
    DeleteErrors: 403 404 409;
}

/// What any operation on a resource can answer.
const COMMON_STATUSES: [u16; 3] = [401, 500, 503];

fn error_response(status: u16) -> (String, RefOr<Response>) {
    let description = match status {
        400 => "The query or the JSON is broken",
        401 => "The token is missing, unknown or revoked",
        403 => "The token may only read",
        404 => "There is no such resource",
        409 => "The settings file declares the resource, others still use it, or its CA is still to revoke it",
        413 => "The body is over 1 MiB",
        415 => "The body is not declared as JSON, or has a content encoding",
        422 => "The body has faults, all of which are listed, or a limit is reached",
        503 => "The store cannot be reached, the request took too long, or too many lists are being read",
        _ => "The server failed; the message holds the request id",
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
    let response = ResponseBuilder::new().description(description).content("application/json", content);
    let response = match status {
        503 => response.header(
            "Retry-After",
            HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                .description(Some("After how many seconds to try again"))
                .build(),
        ),
        _ => response,
    };
    (status.to_string(), RefOr::T(response.build()))
}
