//! The shape of a list: one page of a collection with links to the pages beside it. It is answered piece by piece: what a
//! client has not read yet is not read from the store either. Where a piece cannot be read, the connection is broken off,
//! so that half a list never looks like a whole one.

use std::time::Duration;
use std::vec::IntoIter;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::time::Instant;
use tracing::Span;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::errors::ApiError;
use crate::http::list_slots::ListSlot;
use crate::http::query::ListQuery;
use crate::store::{PageRows, StoreError};

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

/// What a collection is called.
#[derive(Clone, Copy)]
pub(crate) struct CollectionIdentity {
    /// Its id: clients want one, and a collection has no row to take it from.
    pub(crate) id: Uuid,
    /// Its path.
    pub(crate) href: &'static str,
}

/// A page that is about to be answered.
pub(crate) struct ListResponse<I> {
    pub(crate) identity: CollectionIdentity,
    pub(crate) page: PageRows<I>,
    /// How many elements there are in all, where that is kept.
    pub(crate) total: Option<u64>,
    /// Held until the answer is given.
    pub(crate) slot: ListSlot,
    /// How long reading one piece may take.
    pub(crate) read_timeout: Duration,
}

impl<I: Copy + Send + 'static> ListResponse<I> {
    /// Answers with what `read` makes of the rows, piece by piece. An answer of one piece is given as a whole.
    pub(crate) async fn respond<F, T, R, Reading>(self, query: &ListQuery<F>, read: R) -> Result<Response, ApiError>
    where
        T: Serialize + 'static,
        R: Fn(Vec<I>) -> Reading + Send + 'static,
        Reading: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        let (head, tail) = self.envelope::<F, T>(query)?;
        let total = self.total(query);
        let mut pieces = ItemStream {
            groups: group_rows(&self.page).into_iter(),
            read,
            has_items: false,
            read_timeout: self.read_timeout,
            deadline: Instant::now() + RESPONSE_TIMEOUT,
        };
        let mut first = head.into_bytes();
        if let Some(items) = pieces.next().await? {
            first.extend(items);
        }
        if pieces.groups.len() == 0 {
            first.extend(tail.into_bytes());
            return Ok(json_response(Body::from(first), total));
        }
        let rest =
            RemainingResponse { first: Some(first), pieces, tail: Some(tail), span: Span::current(), _slot: self.slot };
        Ok(json_response(Body::from_stream(stream::try_unfold(rest, RemainingResponse::next)), total))
    }

    /// How many elements there are in all, where that is known: it is kept, or the page is the last one.
    fn total<F>(&self, query: &ListQuery<F>) -> Option<u64> {
        let is_last = !self.page.has_more && (query.paging.offset == 0 || !self.page.rows.is_empty());
        let seen = is_last.then(|| u64::from(query.paging.offset) + self.page.rows.len() as u64);
        seen.or(self.total)
    }

    /// What comes before the first item, and what after the last.
    fn envelope<F, T: Serialize>(&self, query: &ListQuery<F>) -> Result<(String, String), ApiError> {
        let (offset, limit) = (query.paging.offset, query.paging.limit);
        let link = |offset| query.link(self.identity.href, offset);
        let empty = Collection::<T> {
            id: self.identity.id,
            kind: "collection",
            href: self.identity.href,
            items: Vec::new(),
            offset,
            limit,
            links: Links {
                prev: (offset > 0).then(|| link(offset.saturating_sub(limit))),
                this: link(offset),
                next: self.page.has_more.then(|| link(offset.saturating_add(limit))),
            },
        };
        let text = serde_json::to_string(&empty).map_err(ApiError::SerializationFailed)?;
        // Nothing before the items has brackets.
        let middle = text.find("[]").map_or(text.len(), |place| place + 1);
        Ok((text[..middle].to_owned(), text[middle..].to_owned()))
    }
}

/// The items that are still to be read.
struct ItemStream<I, R> {
    groups: IntoIter<Vec<I>>,
    read: R,
    /// Whether an item was written, so that a comma comes before the next.
    has_items: bool,
    read_timeout: Duration,
    deadline: Instant,
}

impl<I: Copy + Send + 'static, R> ItemStream<I, R> {
    /// The next items as JSON, or nothing at the end.
    async fn next<T, Reading>(&mut self) -> Result<Option<Vec<u8>>, ApiError>
    where
        T: Serialize + 'static,
        R: Fn(Vec<I>) -> Reading,
        Reading: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        let Some(ids) = self.groups.next() else { return Ok(None) };
        if Instant::now() > self.deadline {
            return Err(ApiError::TimedOut);
        }
        let begun = self.has_items;
        // A client that stops reading in the middle must not stop what has a connection to the database.
        let reading = (self.read)(ids);
        let piece =
            tokio::spawn(
                async move { reading.await.map_err(ApiError::from).and_then(|items| write_items(&items, begun)) },
            );
        let piece = tokio::time::timeout(self.read_timeout, piece).await.map_err(|_| ApiError::TimedOut)?;
        let text = piece.map_err(ApiError::Panicked)??;
        self.has_items |= !text.is_empty();
        Ok(Some(text))
    }
}

/// Items, a comma between them, and one before where others went ahead.
fn write_items<T: Serialize>(items: &[T], mut begun: bool) -> Result<Vec<u8>, ApiError> {
    let mut text = Vec::new();
    for item in items {
        if begun {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, item).map_err(ApiError::SerializationFailed)?;
        begun = true;
    }
    Ok(text)
}

/// The answer from its second piece on.
struct RemainingResponse<I, R> {
    first: Option<Vec<u8>>,
    pieces: ItemStream<I, R>,
    tail: Option<String>,
    span: Span,
    _slot: ListSlot,
}

impl<I: Copy + Send + 'static, R> RemainingResponse<I, R> {
    async fn next<T, Reading>(mut self) -> Result<Option<(Bytes, Self)>, ApiError>
    where
        T: Serialize + 'static,
        R: Fn(Vec<I>) -> Reading,
        Reading: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        if let Some(first) = self.first.take() {
            return Ok(Some((Bytes::from(first), self)));
        }
        match self.pieces.next().await {
            Ok(Some(piece)) => Ok(Some((Bytes::from(piece), self))),
            Ok(None) => Ok(self.tail.take().map(|tail| (Bytes::from(tail), self))),
            Err(error) => {
                self.span
                    .in_scope(|| tracing::error!(error = &error as &dyn std::error::Error, "a list was broken off"));
                Err(error)
            }
        }
    }
}

/// The rows that can be read. One that is damaged must not hide all others.
pub(crate) fn skip_damaged<T>(rows: Vec<Result<T, StoreError>>) -> impl Iterator<Item = T> {
    rows.into_iter().filter_map(|row| {
        row.inspect_err(|error| {
            tracing::error!(error = error as &dyn std::error::Error, "a row was left out of a list");
        })
        .ok()
    })
}

/// Rows that are read together: few, and together not much longer than the longest row.
fn group_rows<I: Copy>(page: &PageRows<I>) -> Vec<Vec<I>> {
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in &page.rows {
        if !group.is_empty() && (group.len() == MAX_GROUP_ROWS || bytes + row.bytes > MAX_GROUP_BYTES) {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        group.push(row.id);
        bytes += row.bytes;
    }
    groups.extend((!group.is_empty()).then_some(group));
    groups
}

fn json_response(body: Body, total: Option<u64>) -> Response {
    let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(total) = total {
        response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(total));
    }
    response
}

const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

const MAX_GROUP_ROWS: usize = 50;
const MAX_GROUP_BYTES: u64 = 64 * 1024;
/// A client that reads a byte now and then holds a slot no longer than this.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ListedRow;

    fn sizes(bytes: &[u64]) -> Vec<usize> {
        let rows = bytes.iter().zip(0u8..).map(|(&bytes, id)| ListedRow { id, bytes }).collect();
        group_rows(&PageRows { rows, has_more: false }).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_group_is_bounded_in_rows_and_bytes_and_none_is_empty() {
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[0; 120]), [50, 50, 20]);
        assert_eq!(sizes(&[MAX_GROUP_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(sizes(&[10 * MAX_GROUP_BYTES, 1, 1, MAX_GROUP_BYTES]), [1, 2, 1]);
    }
}
