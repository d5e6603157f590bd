//! `/healthz` and `/readyz`, for supervisors and load balancers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::value::credential::Credential;
use crate::domain::value::moment::Moment;
use crate::http::Api;
use crate::http::errors::RETRY_AFTER_SECONDS;
use crate::store::StoreError;

/// Whether the daemon runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `alive`.
    #[schema(example = "alive")]
    status: &'static str,
}

/// Whether the daemon can do its work.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether requests can be served.
    ready: bool,
    /// What was looked at.
    checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Deserialize, Serialize, ToSchema)]
struct Check {
    /// What.
    #[schema(example = "store")]
    name: String,
    /// Whether it is as it should be.
    ok: bool,
    /// What was found.
    detail: String,
}

/// Says that the daemon runs
#[utoipa::path(get, path = "/healthz", operation_id = "healthGet", tag = "Daemon", security(()),
    responses((status = 200, description = "The daemon runs", body = Health)))]
pub(crate) async fn alive() -> Json<Health> {
    Json(Health { status: "alive" })
}

/// Says whether requests can be served
#[utoipa::path(get, path = "/readyz", operation_id = "readinessGet", tag = "Daemon", security(()),
    responses(
        (status = 200, description = "Requests can be served", body = Readiness),
        (status = 503, description = "Requests cannot be served right now", body = Readiness,
            headers(("Retry-After" = i32, description = "After how many seconds to try again")))))]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let readiness = match api.store.check_writable().await {
        Ok(()) => return Json(Readiness::new(&api, true, "reads and writes".to_owned())).into_response(),
        Err(StoreError::Unavailable(fault)) => {
            tracing::debug!(%fault, "not ready");
            Readiness::new(&api, false, fault.cause.to_string())
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready: the store cannot be written");
            Readiness::new(&api, false, "cannot be written; the log says why".to_owned())
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_SECONDS)], Json(readiness)).into_response()
}

impl Readiness {
    /// What is not as it should be, each in words.
    pub fn describe_faults(&self) -> impl Iterator<Item = String> {
        self.checks.iter().filter(|check| !check.ok).map(|check| format!("{}: {}", check.name, check.detail))
    }

    /// The store decides; what else was looked at is only told.
    fn new(api: &Api, ok: bool, detail: String) -> Self {
        let store = Check { name: "store".to_owned(), ok, detail };
        let credentials = Check::from_credentials(&api.credentials.list(), api.clock.now());
        Self { ready: ok, checks: std::iter::once(store).chain(credentials).collect() }
    }
}

impl Check {
    /// Nothing where no end is known.
    fn from_credentials(known: &[Credential], now: Moment) -> Option<Self> {
        let words = |credential: &Credential| credential.expiry_warning(now).unwrap_or_else(|| credential.to_string());
        let detail = known.iter().map(words).collect::<Vec<_>>().join("; ");
        let ok = !known.iter().any(|credential| credential.is_expired(now));
        (!known.is_empty()).then_some(Self { name: "credentials".to_owned(), ok, detail })
    }
}
