//! Puts the operations together behind their two doors: tokens over TCP, peer credentials over the Unix socket.

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::body::MAX_BODY;
use crate::http::errors::ApiError;
use crate::http::openapi::OpenApiDocument;
use crate::http::{
    Api, auth, auto_certificates, certificates, control, detached, health, openapi, providers, request_layers,
};

impl Api {
    /// The API for whoever holds a token.
    pub fn router(self) -> Router {
        let (public, mut operations) = public_routes().split_for_parts();
        let (resources, resource_operations) = resource_routes().split_for_parts();
        operations.merge(resource_operations);
        let guarded = resources.layer(middleware::from_fn_with_state(self.clone(), auth::authenticate_token));
        self.with_common_layers(public.merge(guarded), operations)
    }

    /// The API for root and the user `owner` on the same machine, with `/control` beside it.
    pub fn local_router(self, owner: u32) -> Router {
        let (documented, operations) = public_routes().merge(resource_routes()).split_for_parts();
        let all = documented.merge(control::routes());
        self.with_common_layers(
            all.layer(middleware::from_fn(move |peer, request, next| {
                auth::authenticate_peer(owner, peer, request, next)
            })),
            operations,
        )
    }

    /// What both doors have in common; `operations` are what the document describes.
    fn with_common_layers(self, routes: Router<Self>, operations: utoipa::openapi::OpenApi) -> Router {
        let routes = routes
            .layer(Extension(OpenApiDocument::from_operations(operations)))
            .fallback(async || ApiError::NoRoute)
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(detached::run_detached))
            .with_state(self.clone());
        collapse_leading_slashes(request_layers::with_request_layers(routes, self))
    }
}

/// Takes `//providers` for `/providers`, before a route is looked for and without a redirect: clients send it for a host
/// with a slash at its end.
fn collapse_leading_slashes(router: Router) -> Router {
    Router::new().fallback_service(router).layer(middleware::map_request(async |mut request: Request| {
        let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
        if let Some(rest) = target.strip_prefix("//") {
            let meant = format!("/{}", rest.trim_start_matches('/'));
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = meant.parse().ok();
            // What was part of a URI is still one without a slash.
            if let Ok(meant) = Uri::from_parts(parts) {
                *request.uri_mut() = meant;
            }
        }
        request
    }))
}

/// What needs a token.
fn resource_routes() -> OpenApiRouter<Api> {
    certificates::routes().merge(auto_certificates::routes()).merge(providers::routes())
}

/// What needs none.
fn public_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready)).routes(routes!(openapi::read))
}
