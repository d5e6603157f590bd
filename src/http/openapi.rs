//! The OpenAPI 3.1 document, generated from the types and operations that serve. It is built when it is first asked
//! for: most daemons never are.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::http::errors::ErrorBody;

/// Reads this document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openApiGet", tag = "Daemon", security(()),
    responses((status = 200, description = "The OpenAPI document of this API", content_type = "application/json",
        body = Object)))]
pub(crate) async fn read(Extension(document): Extension<OpenApiDocument>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document.to_json())
}

/// The document as text. Clones share it.
#[derive(Clone)]
pub(crate) struct OpenApiDocument(Arc<LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>>);

impl OpenApiDocument {
    /// The document of these operations.
    pub(crate) fn from_operations(operations: Description) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(|| {
            let mut document = Document::openapi();
            document.merge(operations);
            // A `Value` cannot fail to become text, and the document holds no map with keys that are no strings.
            serde_json::to_value(document).map_or_else(|_| Bytes::new(), |value| Bytes::from(value.to_string()))
        }))))
    }

    fn to_json(&self) -> Bytes {
        Bytes::clone(&self.0)
    }
}

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
    fn modify(&self, document: &mut Description) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made by `autocertd token create`"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("tokenAuth", SecurityScheme::Http(bearer));
    }
}
