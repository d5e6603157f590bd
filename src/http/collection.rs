//! The shape of a list: one page of a collection with links to the pages beside it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::query::ListQuery;
use crate::store::Listing;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Collection<T> {
    /// The identity of the collection as a whole; always the same.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// Always `collection`.
    #[serde(rename = "type")]
    #[schema(example = "collection")]
    kind: &'static str,
    /// The path of the collection.
    href: &'static str,
    /// The elements of this page, oldest first.
    items: Vec<T>,
    /// The place of the first of them in the whole list.
    #[schema(value_type = i32)]
    offset: u32,
    /// How many elements this page could hold.
    #[schema(value_type = i32)]
    limit: u32,
    /// Where this page and those beside it are.
    #[serde(rename = "_links")]
    links: Links,
}

/// Links to a page and those beside it.
#[derive(Serialize, ToSchema)]
struct Links {
    /// The page before, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    prev: Option<String>,
    /// This page.
    #[serde(rename = "self")]
    this: String,
    /// The page after, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

impl<T> Collection<T> {
    /// The page that `query` asked for.
    pub(crate) fn page<S, F>(
        identity: Identity,
        query: &ListQuery<F>,
        listing: Listing<S>,
        read: impl FnMut(S) -> T,
    ) -> Self {
        let (offset, limit) = (query.paging.offset, query.paging.limit);
        let link = |offset| query.link(identity.href, offset);
        let links = Links {
            prev: (offset > 0).then(|| link(offset.saturating_sub(limit))),
            this: link(offset),
            next: listing.more.then(|| link(offset.saturating_add(limit))),
        };
        Self {
            id: identity.id,
            kind: "collection",
            href: identity.href,
            items: listing.items.into_iter().map(read).collect(),
            offset,
            limit,
            links,
        }
    }
}

impl<T: Serialize> IntoResponse for Collection<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// What a collection is called.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    /// Its id: clients want one, and a collection has no row to take it from.
    pub(crate) id: Uuid,
    /// Its path.
    pub(crate) href: &'static str,
}
