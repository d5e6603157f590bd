//! The error responses that the operations document.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};

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
