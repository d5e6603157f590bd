//! How deliveries go, for those who wait for them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::http::Api;
use crate::http::body::{Body, FieldValue};
use crate::http::control::id_list::{IdList, QueryIds};
use crate::http::errors::ApiError;
use crate::store::{DeliveryCursor, DeliveryRow, Store, StoreError};

/// The path of deliveries.
pub const DELIVERIES_PATH: &str = "/control/deliveries";

/// How one delivery goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryProgress {
    /// The auto-certificate's id.
    pub id: AutoCertificateId,
    /// The auto-certificate's name.
    pub name: String,
    /// Where it goes: the key of a `[[delivery]]`.
    pub delivery: String,
    /// How it stands.
    #[serde(flatten)]
    pub state: DeliveryState,
}

/// How a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DeliveryState {
    /// There is no valid certificate.
    NothingToDeliver,
    /// The newest certificate is where it should be.
    Delivered,
    /// It is being worked on.
    Running,
    /// It waits for its moment: its turn, or its deploy window.
    Planned {
        /// When, RFC 3339.
        at: String,
        /// Whether that moment is still to come.
        later: bool,
    },
    /// It failed, for now.
    Failed {
        /// What happened, for people.
        message: RemoteMessage,
        /// When it is tried again, RFC 3339.
        next_try: String,
    },
}

/// Asks how deliveries go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveriesRequest {
    /// Of which auto-certificates, at most [`MOST_IDS`](super::MOST_IDS); of all where there are none, a page at a time.
    #[serde(flatten)]
    pub of: IdList,
    /// Where the page before ended.
    #[serde(default)]
    pub after: Option<DeliveryCursor>,
}

/// How deliveries go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveriesAnswer {
    /// Each of them.
    pub deliveries: Vec<DeliveryProgress>,
    /// Where this page ends; nothing where no other follows.
    pub next: Option<DeliveryCursor>,
}

/// A page of deliveries, as they stand.
pub struct DeliveryPage {
    /// Each of them.
    pub rows: Vec<DeliveryRow>,
    /// Where this page ends; nothing where no other follows.
    pub next: Option<DeliveryCursor>,
}

/// The deliveries of these auto-certificates, at most [`MOST_IDS`](super::MOST_IDS); where none are named a page of all, those after `after`.
/// They are those of this instance and those of the fleet.
///
/// # Errors
/// Where the store fails.
pub async fn load_page(
    store: &Store,
    instance: &str,
    ids: &[AutoCertificateId],
    after: Option<&DeliveryCursor>,
) -> Result<DeliveryPage, StoreError> {
    if !ids.is_empty() {
        return Ok(DeliveryPage { rows: store.deliveries(ids, instance).await?, next: None });
    }
    let (rows, next) = store.deliveries_after(after, instance, PAGE_SIZE).await?;
    Ok(DeliveryPage { rows, next })
}

/// The same, as progress.
///
/// # Errors
/// Where the store fails.
pub async fn load_progress_page(
    store: &Store,
    instance: &str,
    ids: &[AutoCertificateId],
    after: Option<&DeliveryCursor>,
    now: Moment,
) -> Result<DeliveriesAnswer, StoreError> {
    let page = load_page(store, instance, ids, after).await?;
    let progress = |row: &DeliveryRow| DeliveryProgress::from_row(row, now);
    Ok(DeliveriesAnswer { deliveries: page.rows.iter().map(progress).collect(), next: page.next })
}

pub(super) async fn progress(
    State(api): State<Api>,
    Body(request): Body<DeliveriesRequest>,
) -> Result<Json<DeliveriesAnswer>, ApiError> {
    let (ids, after) = (request.of.ids()?, request.after.as_ref());
    Ok(Json(load_progress_page(&api.store, &api.instance, &ids, after, api.clock.now()).await?))
}

/// As commands of the former release ask; they know no pages.
pub(super) async fn progress_by_query(
    State(api): State<Api>,
    QueryIds(ids): QueryIds,
) -> Result<Json<Vec<DeliveryProgress>>, ApiError> {
    let (now, mut all) = (api.clock.now(), Vec::new());
    let mut after = None;
    loop {
        let page = load_progress_page(&api.store, &api.instance, &ids, after.as_ref(), now).await?;
        all.extend(page.deliveries);
        after = page.next;
        if after.is_none() {
            return Ok(Json(all));
        }
    }
}

impl FieldValue for DeliveriesRequest {
    const KIND: &'static str = IdList::KIND;
}

impl DeliveryProgress {
    /// How a delivery stands at `now`.
    pub fn from_row(row: &DeliveryRow, now: Moment) -> Self {
        Self {
            id: row.auto_certificate,
            name: row.name.to_string(),
            delivery: row.target.to_string(),
            state: DeliveryState::from_row(row, now),
        }
    }
}

impl DeliveryState {
    fn from_row(row: &DeliveryRow, now: Moment) -> Self {
        let standing = &row.standing;
        if row.running {
            return Self::Running;
        }
        if let Some(trouble) = standing.current_failure_streak() {
            let (message, next_try) = (trouble.last.message.clone(), trouble.next_try.to_string());
            return Self::Failed { message, next_try };
        }
        let Some(newest) = standing.newest.filter(|newest| now < newest.not_after) else {
            return Self::NothingToDeliver;
        };
        if standing.delivered.is_some_and(|delivered| delivered.created >= newest.created) {
            return Self::Delivered;
        }
        // One of the fleet that is declared nowhere any more, or only on hosts that are down.
        if row.instance.is_empty() && row.next_check + OVERDUE_AFTER < now {
            return Self::Failed { message: NO_INSTANCE_MESSAGE.into(), next_try: row.next_check.to_string() };
        }
        Self::Planned { at: row.next_check.to_string(), later: row.next_check > now }
    }
}

/// As many deliveries are answered at once.
const PAGE_SIZE: u32 = 1_000;
/// How long one who serves a delivery may take to look at it.
const OVERDUE_AFTER: time::Duration = time::Duration::minutes(5);
const NO_INSTANCE_MESSAGE: &str =
    "no instance that declares this delivery is there to carry it out; start one, or declare it no longer";
