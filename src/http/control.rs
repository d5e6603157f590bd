//! `/control`, on the Unix socket alone: what commands on the same machine ask of a running daemon. The wire types
//! serve the commands also where no daemon runs and they ask the store themselves.

mod deliveries;

pub use deliveries::{DELIVERIES, DeliveryProgress, DeliveryState, deliveries_of, rows_of};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::back_off::Trouble;
use crate::domain::hold::Hold;
use crate::domain::id::{AutoCertificateId, CertificateId, ParseIdError};
use crate::domain::moment::Moment;
use crate::domain::state;
use crate::domain::text::RemoteMessage;
use crate::http::Api;
use crate::http::body::{Body, Wire};
use crate::http::errors::{ApiError, Fault};
use crate::http::query::Parameters;
use crate::store::{NewestSummary, Progress, Store, StoreError};

/// The path of renewals.
pub const RENEWALS: &str = "/control/renewals";
/// The path of the question whether all is issued.
pub const ISSUED: &str = "/control/issued";

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route(RENEWALS, get(progress).post(renew))
        .route(DELIVERIES, get(deliveries::progress))
        .route(ISSUED, get(issued))
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
    pub hold: Option<RenewalTrouble>,
    /// What went wrong since the last success.
    pub trouble: Option<RenewalTrouble>,
    /// The newest certificate.
    pub newest: Option<NewestIssued>,
    /// Whether the auto-certificate was deleted meanwhile.
    pub deleted: bool,
}

/// What keeps a renewal from succeeding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalTrouble {
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
pub struct IssuedAnswer {
    /// How many auto-certificates there are.
    pub total: u64,
    /// Those that are not in service.
    pub missing: Vec<Missing>,
}

/// An auto-certificate that is not in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
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
    api.wake.nudge();
    Ok(Json(answer))
}

/// Asks the store for renewals: of the named ones, due or not; without names of everything that is due. Where a name is
/// unknown nothing is asked for.
///
/// # Errors
/// Where the store fails.
pub async fn ask(store: &Store, names: &[String], now: Moment) -> Result<RenewalAnswer, StoreError> {
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        let matching = store.matching_auto_certificates(name).await?;
        if matching.is_empty() {
            unknown.push(name.clone());
        }
        ids.extend(matching);
    }
    if !unknown.is_empty() {
        return Ok(RenewalAnswer { targets: Vec::new(), unknown });
    }
    if names.is_empty() {
        ids = store.due(now).await?;
    }
    ids.sort_unstable();
    ids.dedup();
    let targets = store.progress(&ids).await?.into_iter().map(RenewalTarget::from).collect();
    if !names.is_empty() {
        for id in ids {
            store.request_renewal(id).await?;
            store.request_deliveries(id).await?;
        }
    }
    Ok(RenewalAnswer { targets, unknown })
}

async fn progress(State(api): State<Api>, Ids(ids): Ids) -> Result<Json<Vec<RenewalProgress>>, ApiError> {
    let found = api.store.progress(&ids).await?;
    Ok(Json(found.into_iter().map(RenewalProgress::from).collect()))
}

/// Tells which auto-certificates are not in service.
async fn issued(State(api): State<Api>) -> Result<Json<IssuedAnswer>, ApiError> {
    let now = api.clock.now();
    let unserved = api.store.unserved(&api.instance, now).await?;
    let missing = unserved.lacking.iter().map(|lacking| Missing::at(lacking, now)).collect();
    Ok(Json(IssuedAnswer { total: unserved.total, missing }))
}

/// Every `id` of a query.
struct Ids(Vec<AutoCertificateId>);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let ids: Result<_, _> = Parameters::of(parts).all("id").map(str::parse).collect();
        ids.map(Self).map_err(|error: ParseIdError| ApiError::Query(vec![Fault(format!("id: {error}"))]))
    }
}

impl Wire for RenewalRequest {
    const KIND: &'static str = r#"an object such as {"names": ["www.example.com"]}"#;
}

impl Missing {
    fn at(lacking: &AutoCertificate, now: Moment) -> Self {
        let issued = lacking.standing.newest.is_some_and(|newest| now < newest.not_after);
        let of_issuance = || state::of_auto_certificate(&lacking.standing, now).message;
        Self {
            id: lacking.id,
            message: if issued { UNDELIVERED.into() } else { of_issuance().into() },
            name: lacking.name.to_string(),
            common_name: lacking.common_name.sent().to_owned(),
        }
    }
}

impl From<Progress> for RenewalTarget {
    fn from(progress: Progress) -> Self {
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

impl From<Progress> for RenewalProgress {
    fn from(progress: Progress) -> Self {
        Self {
            id: progress.id,
            name: progress.name.to_string(),
            common_name: progress.common_name,
            stage: progress.stage.map(|stage| stage.to_string()),
            doing: progress.stage.map(|stage| stage.doing().to_owned()),
            running: progress.running,
            requested: progress.renewal_requested,
            runs: progress.runs,
            hold: progress.hold.map(RenewalTrouble::from),
            trouble: progress.trouble.map(RenewalTrouble::from),
            newest: progress.newest.map(NewestIssued::from),
            deleted: progress.deleted,
        }
    }
}

impl From<Trouble> for RenewalTrouble {
    fn from(trouble: Trouble) -> Self {
        Self { message: trouble.last.message, next_try: trouble.next_try.to_string() }
    }
}

impl From<Hold> for RenewalTrouble {
    fn from(hold: Hold) -> Self {
        Self { message: hold.to_string().into(), next_try: hold.until.to_string() }
    }
}

impl From<NewestSummary> for NewestIssued {
    fn from(newest: NewestSummary) -> Self {
        Self { id: newest.id, serial_number: newest.serial_number, not_after: newest.not_after.to_string() }
    }
}

const UNDELIVERED: &str = "issued, but not delivered; `autocertd deliveries` tells why";
