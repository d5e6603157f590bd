//! What should be in service and is not, for those who ask whether a pass was enough.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::report::forecast::{Forecast, NextStep};
use crate::domain::report::overdue::OverdueReason;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::http::Api;
use crate::http::errors::ApiError;
use crate::store::{Store, StoreError};

/// The path of the question what is overdue.
pub const OVERDUE_PATH: &str = "/control/overdue";

/// The auto-certificates that should be in service and are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverdueAnswer {
    /// How many were found before the search ended.
    pub total: u64,
    /// Whether the search ended early, because so many had been found.
    pub more: bool,
    /// At most 1,000 of them.
    pub listed: Vec<OverdueEntry>,
}

/// An auto-certificate that should be in service and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverdueEntry {
    /// Its id.
    pub id: AutoCertificateId,
    /// Its name.
    pub name: String,
    /// Its common name.
    pub common_name: String,
    /// What it lacks.
    pub lacks: String,
    /// What holds it up, for people.
    pub message: String,
    /// When it is tried again, RFC 3339; absent while it is being worked on.
    pub next_try: Option<String>,
}

impl OverdueEntry {
    fn from_auto_certificate(subject: &AutoCertificate, now: Moment) -> Option<Self> {
        let lacks = OverdueReason::from_facts(&subject.standing, now)?;
        let outlook = Forecast::from_facts(&subject.standing, now);
        let standing = &subject.standing;
        let message = match (outlook.next_step, &standing.failure_streak, &standing.deferral) {
            (NextStep::NeedsPerson | NextStep::Retry, Some(trouble), _) => trouble.last.to_string(),
            (NextStep::Wait, _, Some(hold)) => hold.to_string(),
            _ => outlook.explanation,
        };
        Some(Self {
            id: subject.id,
            name: subject.name.to_string(),
            common_name: subject.common_name.sent().to_owned(),
            lacks: lacks.as_str().to_owned(),
            message,
            next_try: (outlook.next_step != NextStep::Running).then(|| outlook.at.to_string()),
        })
    }
}

/// Looks through all auto-certificates, a page at a time, for those that are overdue.
///
/// # Errors
/// Where the store fails.
pub async fn find_overdue(store: &Store, now: Moment) -> Result<OverdueAnswer, StoreError> {
    let (mut answer, mut cursor) = (OverdueAnswer::default(), None);
    loop {
        let page = store.overdue_candidates(cursor, now, PAGE_SIZE).await?;
        cursor = page.last().map(|last| last.id);
        for entry in page.iter().filter_map(|subject| OverdueEntry::from_auto_certificate(subject, now)) {
            answer.total += 1;
            if answer.listed.len() < MAX_LISTED {
                answer.listed.push(entry);
            }
        }
        if page.len() < PAGE_SIZE as usize {
            return Ok(answer);
        }
        if answer.total >= MAX_COUNTED {
            return Ok(OverdueAnswer { more: true, ..answer });
        }
    }
}

pub(super) async fn answer(State(api): State<Api>) -> Result<Json<OverdueAnswer>, ApiError> {
    Ok(Json(find_overdue(&api.store, api.clock.now()).await?))
}

/// As many are told one by one.
const MAX_LISTED: usize = 1_000;
const PAGE_SIZE: u32 = 500;
/// Nobody needs to know more exactly how many, and each costs a look.
const MAX_COUNTED: u64 = 10_000;
