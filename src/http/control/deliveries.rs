//! How deliveries go, for those who wait for them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::domain::id::AutoCertificateId;
use crate::domain::moment::Moment;
use crate::domain::text::RemoteMessage;
use crate::http::Api;
use crate::http::control::Ids;
use crate::http::errors::ApiError;
use crate::store::{DeliveryRow, Store, StoreError};

/// The path of deliveries.
pub const DELIVERIES: &str = "/control/deliveries";

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

/// How the deliveries of these auto-certificates go, or where none are named, of all: those of this instance and those of
/// the fleet.
///
/// # Errors
/// Where the store fails.
pub async fn deliveries_of(
    store: &Store,
    instance: &str,
    ids: &[AutoCertificateId],
    now: Moment,
) -> Result<Vec<DeliveryProgress>, StoreError> {
    let rows = rows_of(store, instance, ids).await?;
    let progress = |row: DeliveryRow| DeliveryProgress {
        id: row.auto_certificate,
        name: row.name.to_string(),
        delivery: row.target.to_string(),
        state: DeliveryState::of(&row, now),
    };
    Ok(rows.into_iter().map(progress).collect())
}

/// The same, as they stand.
///
/// # Errors
/// Where the store fails.
pub async fn rows_of(store: &Store, instance: &str, ids: &[AutoCertificateId]) -> Result<Vec<DeliveryRow>, StoreError> {
    if ids.is_empty() {
        return store.all_deliveries(instance).await;
    }
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(store.deliveries(*id, instance).await?);
    }
    Ok(rows)
}

pub(super) async fn progress(State(api): State<Api>, Ids(ids): Ids) -> Result<Json<Vec<DeliveryProgress>>, ApiError> {
    Ok(Json(deliveries_of(&api.store, &api.instance, &ids, api.clock.now()).await?))
}

impl DeliveryState {
    fn of(row: &DeliveryRow, now: Moment) -> Self {
        let standing = &row.standing;
        if row.running {
            return Self::Running;
        }
        if let Some(trouble) = standing.hindrance() {
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
        if row.instance.is_empty() && row.next_look + PATIENCE < now {
            return Self::Failed { message: UNSERVED.into(), next_try: row.next_look.to_string() };
        }
        Self::Planned { at: row.next_look.to_string(), later: row.next_look > now }
    }
}

/// How long one who serves a delivery may take to look at it.
const PATIENCE: time::Duration = time::Duration::minutes(5);
const UNSERVED: &str =
    "no instance that declares this delivery is there to carry it out; start one, or declare it no longer";
