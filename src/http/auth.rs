//! Who asks: the holder of a bearer token, or a user of this machine behind the Unix socket. Either way the actor goes
//! along with the request, and a token that may only read gets no further than that.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use crate::domain::value::resource::Actor;
use crate::domain::value::token::TokenScope;
use crate::http::Api;
use crate::http::errors::ApiError;
use crate::http::listener::ConnectionActivity;

/// Lets in whoever holds a token, for as much as the token allows.
pub(crate) async fn authenticate_token(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let text = bearer_token(request.headers()).ok_or(ApiError::Unauthenticated)?;
    let token = api.store.authenticate(text).await?.ok_or(ApiError::Unauthenticated)?;
    mark_connection(&request);
    let only_looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if token.scope == TokenScope::ReadOnly && !only_looks {
        return Err(ApiError::ReadOnly);
    }
    tracing::Span::current().record("actor", token.name.as_str());
    request.extensions_mut().insert(token.actor());
    Ok(next.run(request).await)
}

/// Lets in root and the user `owner`.
pub(crate) async fn authenticate_peer(
    owner: u32,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let uid = peer.uid.filter(|uid| *uid == ROOT || *uid == owner).ok_or(ApiError::ForeignUser)?;
    mark_connection(&request);
    let actor = Actor { name: format!("local:{uid}"), id: Uuid::nil() };
    tracing::Span::current().record("actor", &actor.name);
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// The process at the other end of the Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user, where the kernel tells.
    pub uid: Option<u32>,
}

/// The connection of an authenticated request does not make room for strangers.
fn mark_connection(request: &Request) {
    if let Some(activity) = request.extensions().get::<Arc<ConnectionActivity>>() {
        activity.mark_authenticated();
    }
}

/// The token of `Authorization: Bearer <token>` (RFC 6750 section 2.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

const ROOT: u32 = 0;
