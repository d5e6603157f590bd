//! `/control`, on the Unix socket alone: what commands on the same machine ask of a running daemon. The wire types
//! serve the commands also where no daemon runs and they ask the store themselves.

mod deliveries;
mod id_list;
mod overdue;

pub use deliveries::{
    DELIVERIES_PATH, DeliveriesAnswer, DeliveriesRequest, DeliveryPage, DeliveryProgress, DeliveryState, load_page,
    load_progress_page,
};
pub use id_list::{IdList, MOST_IDS};
pub use overdue::{OVERDUE_PATH, OverdueAnswer, OverdueEntry, find_overdue};

use std::collections::HashSet;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::Method;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::Deferral;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::report::state;
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::http::Api;
use crate::http::body::{Body, FieldValue};
use crate::http::control::id_list::QueryIds;
use crate::http::errors::ApiError;
use crate::store::{AutoCertificateProgress, MAX_DUE, NewestCertificateSummary, Store, StoreError};

/// The path of renewals.
pub const RENEWALS: &str = "/control/renewals";
/// The path of the question how renewals go.
pub const PROGRESS_PATH: &str = "/control/progress";
/// The path of the question whether all is issued.
pub const ISSUED_PATH: &str = "/control/issued";

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route(RENEWALS, get(progress_by_query).post(renew).layer(DefaultBodyLimit::max(MAX_NAMES_SIZE)))
        .route(PROGRESS_PATH, post(progress))
        .route(DELIVERIES_PATH, get(deliveries::progress_by_query).post(deliveries::progress))
        .route(ISSUED_PATH, get(issued))
        .route(OVERDUE_PATH, get(overdue::answer))
}

/// Whether a request only looks, which those who wait do many times a second.
pub(crate) fn is_poll(method: &Method, path: &str) -> bool {
    match path {
        PROGRESS_PATH | DELIVERIES_PATH | ISSUED_PATH | OVERDUE_PATH => true,
        RENEWALS => method == Method::GET,
        _ => false,
    }
}

/// Asks for renewals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalRequest {
    /// Names, common names or ids of auto-certificates, which are renewed whether due or not; where there are none,
    /// everything that is due.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Which renewals are on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalAnswer {
    /// What is renewed.
    pub targets: Vec<RenewalTarget>,
    /// Names that name nothing.
    pub unknown: Vec<String>,
    /// Whether more than these is due: whoever has followed them to their end asks again.
    #[serde(default)]
    pub more: bool,
}

/// One auto-certificate that is renewed, as it stood when that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalTarget {
    /// Its id.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: String,
    /// Its common name.
    pub common_name: String,
    /// How many runs had finished: a higher number later tells that one has ended since.
    pub runs: u64,
    /// Whether it was being worked on already.
    pub running: bool,
    /// The newest certificate by then: another one later tells that it was renewed.
    pub newest: Option<CertificateId>,
}

/// How one renewal goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalProgress {
    /// The auto-certificate's id.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: String,
    /// Its common name.
    pub common_name: String,
    /// The stage of the open attempt.
    pub stage: Option<String>,
    /// What happens in that stage, for people.
    pub doing: Option<String>,
    /// Whether it is being worked on right now.
    pub running: bool,
    /// Whether a renewal was asked for and not begun yet.
    pub requested: bool,
    /// How many runs have finished.
    pub runs: u64,
    /// What keeps the order back for its provider's sake.
    #[serde(default)]
    pub hold: Option<RenewalFailure>,
    /// What went wrong since the last success.
    pub trouble: Option<RenewalFailure>,
    /// The newest certificate.
    pub newest: Option<NewestIssued>,
    /// Whether the auto-certificate was deleted meanwhile.
    pub deleted: bool,
}

/// What keeps a renewal from succeeding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalFailure {
    /// What happened, for people.
    pub message: RemoteMessage,
    /// When it is tried again, RFC 3339.
    pub next_try: String,
}

/// The newest certificate of an auto-certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewestIssued {
    /// Its id.
    pub id: CertificateId,
    /// Its serial number.
    pub serial_number: String,
    /// The end of its validity, RFC 3339.
    pub not_after: String,
}

/// Whether every auto-certificate is in service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedAnswer {
    /// How many auto-certificates there are.
    pub total: u64,
    /// At most 1,000 of those that are not in service.
    pub missing: Vec<NotInServiceEntry>,
    /// How many are not in service.
    #[serde(default)]
    pub missing_total: u64,
}

/// An auto-certificate that is not in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotInServiceEntry {
    /// Its id.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: String,
    /// Its common name.
    pub common_name: String,
    /// How it stands, for people.
    pub message: RemoteMessage,
}

/// Asks for renewals; how they stood is read first, so that no end of a run goes unseen.
async fn renew(State(api): State<Api>, Body(request): Body<RenewalRequest>) -> Result<Json<RenewalAnswer>, ApiError> {
    let answer = ask(&api.store, &request.names, api.clock.now()).await?;
    api.wake.notify();
    Ok(Json(answer))
}

/// Asks the store for renewals: of the named ones, due or not; without names everything that is due or being worked on is
/// named in the answer, and nothing is asked for. Where a name is unknown nothing is asked for either.
///
/// # Errors
/// Where the store fails.
pub async fn ask(store: &Store, names: &[String], now: Moment) -> Result<RenewalAnswer, StoreError> {
    if names.is_empty() {
        let due = store.due_auto_certificates(now).await?;
        let more = i64::try_from(due.len()).is_ok_and(|due| due >= MAX_DUE);
        let ids = deduplicate(store.auto_certificates_at_work().await?.into_iter().chain(due));
        return Ok(RenewalAnswer { targets: load_targets(store, &ids).await?, unknown: Vec::new(), more });
    }
    let matching = store.matching_auto_certificates(names).await?;
    let unknown: Vec<String> =
        names.iter().zip(&matching).filter(|(_, ids)| ids.is_empty()).map(|(name, _)| name.clone()).collect();
    if !unknown.is_empty() {
        return Ok(RenewalAnswer { unknown, ..RenewalAnswer::default() });
    }
    let ids = deduplicate(matching.into_iter().flatten());
    let targets = load_targets(store, &ids).await?;
    for ids in ids.chunks(MOST_IDS) {
        store.request_renewals(ids).await?;
    }
    Ok(RenewalAnswer { targets, ..RenewalAnswer::default() })
}

fn deduplicate(ids: impl Iterator<Item = AutoCertificateId>) -> Vec<AutoCertificateId> {
    let mut seen = HashSet::new();
    ids.filter(|id| seen.insert(*id)).collect()
}

/// How these stand before anything is asked for.
async fn load_targets(store: &Store, ids: &[AutoCertificateId]) -> Result<Vec<RenewalTarget>, StoreError> {
    let mut targets = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MOST_IDS) {
        targets.extend(store.progress(ids).await?.into_iter().map(RenewalTarget::from));
    }
    Ok(targets)
}

async fn progress(State(api): State<Api>, Body(request): Body<IdList>) -> Result<Json<Vec<RenewalProgress>>, ApiError> {
    load_progress(&api, &request.ids()?).await
}

/// As commands of the former release ask.
async fn progress_by_query(
    State(api): State<Api>,
    QueryIds(ids): QueryIds,
) -> Result<Json<Vec<RenewalProgress>>, ApiError> {
    load_progress(&api, &ids).await
}

async fn load_progress(api: &Api, ids: &[AutoCertificateId]) -> Result<Json<Vec<RenewalProgress>>, ApiError> {
    let found = api.store.progress(ids).await?;
    Ok(Json(found.into_iter().map(RenewalProgress::from).collect()))
}

/// Tells which auto-certificates are not in service.
async fn issued(State(api): State<Api>) -> Result<Json<IssuedAnswer>, ApiError> {
    let now = api.clock.now();
    let unserved = api.store.not_in_service(&api.instance, now, MAX_MISSING).await?;
    let missing =
        unserved.affected.iter().map(|lacking| NotInServiceEntry::from_auto_certificate(lacking, now)).collect();
    Ok(Json(IssuedAnswer { total: unserved.total, missing, missing_total: unserved.affected_total }))
}

impl FieldValue for RenewalRequest {
    const KIND: &'static str = r#"an object such as {"names": ["www.example.com"]}"#;
}

impl NotInServiceEntry {
    fn from_auto_certificate(lacking: &AutoCertificate, now: Moment) -> Self {
        let issued = lacking.standing.newest.is_some_and(|newest| now < newest.not_after);
        let of_issuance = || state::auto_certificate_state(&lacking.standing, now).message;
        Self {
            id: lacking.id,
            message: if issued { UNDELIVERED_MESSAGE.into() } else { of_issuance().into() },
            name: lacking.name.to_string(),
            common_name: lacking.common_name.sent().to_owned(),
        }
    }
}

impl From<AutoCertificateProgress> for RenewalTarget {
    fn from(progress: AutoCertificateProgress) -> Self {
        Self {
            id: progress.id,
            name: progress.name.to_string(),
            common_name: progress.common_name,
            runs: progress.runs,
            running: progress.running,
            newest: progress.newest.map(|newest| newest.id),
        }
    }
}

impl From<AutoCertificateProgress> for RenewalProgress {
    fn from(progress: AutoCertificateProgress) -> Self {
        Self {
            id: progress.id,
            name: progress.name.to_string(),
            common_name: progress.common_name,
            stage: progress.stage.map(|stage| stage.to_string()),
            doing: progress.stage.map(|stage| stage.describe().to_owned()),
            running: progress.running,
            requested: progress.renewal_requested,
            runs: progress.runs,
            hold: progress.deferral.map(RenewalFailure::from),
            trouble: progress.failure_streak.map(RenewalFailure::from),
            newest: progress.newest.map(NewestIssued::from),
            deleted: progress.deleted,
        }
    }
}

impl From<FailureStreak> for RenewalFailure {
    fn from(trouble: FailureStreak) -> Self {
        Self { message: trouble.last.message, next_try: trouble.next_try.to_string() }
    }
}

impl From<Deferral> for RenewalFailure {
    fn from(hold: Deferral) -> Self {
        Self { message: hold.to_string().into(), next_try: hold.until.to_string() }
    }
}

impl From<NewestCertificateSummary> for NewestIssued {
    fn from(newest: NewestCertificateSummary) -> Self {
        Self { id: newest.id, serial_number: newest.serial_number, not_after: newest.not_after.to_string() }
    }
}

/// In bytes: more than a command line has room for, however much of it JSON must escape.
const MAX_NAMES_SIZE: usize = 16 * 1024 * 1024;
const MAX_MISSING: u32 = 1_000;
const UNDELIVERED_MESSAGE: &str = "issued, but not delivered; `autocertd deliveries` tells why";
