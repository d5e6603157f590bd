//! The canary: a TXT record at the very place of the challenge's, made, seen on all servers, and removed. The journal names
//! it first, so that it goes even where the program does not come to that.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::dns::DnsError;
use crate::dns::adapter::{RecordId, TxtRecord};
use crate::dns::routes::RecordLocation;
use crate::doctor::challenge_path::{ChallengePath, describe_error};
use crate::doctor::provider::words;
use crate::doctor::{CanaryMode, DnsView, Doctor, DoctorOptions, Ending};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject, CheckVerdict};
use crate::domain::value::id::ChallengeRecordId;
use crate::runtime::randomness::Randomness;
use crate::store::{IntendedCanary, Store, StoreError};

impl Doctor {
    /// What the canary shows that is written for this name, or for others that share its place.
    pub(super) async fn canary_of_name(
        &self,
        view: &DnsView,
        about: &CheckSubject,
        way: &ChallengePath,
        (manner, tell): (&DoctorOptions<'_>, &(dyn Fn(&str) + Sync)),
    ) -> Option<CheckResult> {
        let place = match &way.location {
            _ if way.is_unneeded => return None,
            _ if manner.canary_mode == CanaryMode::Nowhere => {
                return Some(CheckResult::skipped(about, Check::Canary, "no canary record is wanted"));
            }
            Ok(place) => place,
            Err(missing) => return Some(CheckResult::skipped(about, Check::Canary, missing.as_str())),
        };
        let write = async {
            let turn = manner.ending.during(view.writing.acquire()).await;
            let (Some(_turn), false) = (turn, manner.ending.has_come()) else {
                return CheckResult::skipped(about, Check::Canary, manner.ending.reason());
            };
            tell(&format!("waiting until the canary record at {} is seen", place.name()));
            self.check_canary(view, about, place, manner.ending).await
        };
        let (adapter, zone) = (place.adapter.name().clone(), place.zone.id.to_string());
        if manner.canary_mode == CanaryMode::OneAtATime {
            let mut written = view.written.lock().await;
            if manner.ending.has_come() || !written.needs_canary(place) {
                return None;
            }
            let finding = Box::pin(write).await;
            written.record_result(place, &finding);
            return Some(finding);
        }
        let name = (manner.canary_mode == CanaryMode::EveryName).then(|| place.name().to_owned());
        Some(view.canaries.get((adapter, zone, name), Box::pin(write)).await.about(about))
    }

    async fn check_canary(
        &self,
        view: &DnsView,
        about: &CheckSubject,
        place: &RecordLocation,
        ending: &Ending,
    ) -> CheckResult {
        let skipped = |because: &str| CheckResult::skipped(about, Check::Canary, because);
        let Some(store) = &self.store else {
            return skipped("there is no database, whose journal would name the record");
        };
        let record = TxtRecord { name: place.name().to_owned(), content: canary_value(&self.randomness) };
        match ending.during(has_open_order(store, place)).await {
            Some(Ok(false)) => {}
            Some(Ok(true)) => return skipped("an open order has records there"),
            Some(Err(error)) => return journal_fault(about, &error),
            None => return skipped(ending.reason()),
        }
        let end = Instant::now() + CANARY_TIMEOUT;
        let intended = IntendedCanary {
            adapter: place.adapter.name().as_str(),
            zone_id: place.zone.id.as_str(),
            name: &record.name,
            content: &record.content,
        };
        let entry = match ending.during_removals(store.journal_canary(&intended)).await {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => return journal_fault(about, &error),
            None => return skipped(ending.reason()),
        };
        let mut id = None;
        let seen = publish_and_await(view, store, place, &record, (entry, &mut id), (ending, end)).await;
        let removal = async {
            let removed = place.adapter.remove(&place.zone.id, id.as_ref(), &record).await;
            let forgotten = match &removed {
                Ok(()) => store.delete_record_entry(entry).await,
                Err(_) => Ok(()),
            };
            (removed, forgotten)
        };
        let Some((removed, forgotten)) = ending.during_removals(removal).await else {
            let detail = format!("{}, and the record at {} may be there still", ending.reason(), record.name);
            return CheckResult::warning(about, Check::Canary, detail, REMOVED_LATER);
        };
        match (seen, removed, forgotten) {
            (Err(CanaryFailure::Store(error)), ..) | (_, _, Err(error)) => journal_fault(about, &error),
            (Err(CanaryFailure::Dns(error)), ..) => not_seen_result(about, &error),
            (_, Err(error), _) => {
                let detail = format!("it could not be removed from {}: {}", record.name, words(&error));
                CheckResult::warning(about, Check::Canary, detail, REMOVED_LATER)
            }
            (Err(CanaryFailure::Ended), Ok(()), _) => {
                let reason = ending.reason();
                skipped(&format!("{reason}; the record is removed, it was not seen at {} until then", record.name))
            }
            (Err(CanaryFailure::TooSlow), Ok(()), _) => {
                let minutes = CANARY_TIMEOUT.as_secs() / 60;
                skipped(&format!("not seen within {minutes}m, which may be a cache's memory"))
            }
            (Ok(()), Ok(()), Ok(())) => {
                CheckResult::ok(about, Check::Canary, format!("made at {}, seen, and removed", record.name))
            }
        }
    }
}

/// The canaries of a round.
#[derive(Debug, Default)]
pub(super) struct CanaryResults {
    /// Adapter and zone.
    zones: HashSet<(String, String)>,
    /// Whether one was not seen.
    has_failed: bool,
}

impl CanaryResults {
    /// Whether one is still to be written for the zone of this place.
    fn needs_canary(&self, place: &RecordLocation) -> bool {
        !self.has_failed && !self.zones.contains(&zone_key(place))
    }

    fn record_result(&mut self, place: &RecordLocation, finding: &CheckResult) {
        self.zones.insert(zone_key(place));
        self.has_failed |= finding.verdict != CheckVerdict::Ok;
    }
}

fn zone_key(place: &RecordLocation) -> (String, String) {
    (place.adapter.name().to_string(), place.zone.id.to_string())
}

/// Why a canary was not seen.
enum CanaryFailure {
    Dns(DnsError),
    Store(StoreError),
    /// The round has ended.
    Ended,
    TooSlow,
}

impl From<DnsError> for CanaryFailure {
    fn from(error: DnsError) -> Self {
        Self::Dns(error)
    }
}

/// Makes the record and waits until it is seen. Its id is told as soon as it is known.
async fn publish_and_await(
    view: &DnsView,
    store: &Store,
    place: &RecordLocation,
    record: &TxtRecord,
    (entry, id): (ChallengeRecordId, &mut Option<RecordId>),
    (ending, end): (&Ending, Instant),
) -> Result<(), CanaryFailure> {
    let RecordLocation { adapter, zone, .. } = place;
    // A check is broken off, this is not: what it has made by then must be known.
    let presented = ending.during_removals(adapter.present(&zone.id, record)).await;
    let made = id.insert(presented.ok_or(CanaryFailure::Ended)??);
    store.store_record_id(entry, made.as_str()).await.map_err(CanaryFailure::Store)?;
    let waits = async {
        view.propagation.await_published(&**adapter, &zone.id, made).await?;
        view.propagation.await_visible(zone, &record.name, std::slice::from_ref(&record.content)).await
    };
    match ending.during(timeout_at(end, waits)).await {
        Some(Ok(seen)) => Ok(seen?),
        Some(Err(_)) => Err(CanaryFailure::TooSlow),
        None => Err(CanaryFailure::Ended),
    }
}

/// Whether an open order needs records at this place: services that keep few values there would drop one of them.
async fn has_open_order(store: &Store, place: &RecordLocation) -> Result<bool, StoreError> {
    let adapter = place.adapter.name().as_str();
    let journal = store.journal().await?;
    Ok(journal.iter().any(|record| record.is_needed && record.adapter == adapter && record.name == place.name()))
}

fn not_seen_result(about: &CheckSubject, error: &DnsError) -> CheckResult {
    let remedy = match error {
        DnsError::NotVisible { .. } => {
            "see that these servers get the zone's changes (NOTIFY, transfers), or are removed"
        }
        DnsError::Unpublished { .. } | DnsError::RecordFailed { .. } => {
            "look at the zone in the DNS service, and ask its support"
        }
        DnsError::Busy { .. } => "look again when the service is less busy",
        _ => return CheckResult::fault_from_message(about, Check::Canary, &describe_error(error)),
    };
    let fault = CheckResult::fault_from_message(about, Check::Canary, &describe_error(error));
    CheckResult { remedy: Some(remedy.into()), ..fault }
}

fn journal_fault(about: &CheckSubject, error: &StoreError) -> CheckResult {
    let detail = format!("the journal cannot be kept: {}", words(error));
    CheckResult::fault(about, Check::Canary, detail, "check the database and the disk")
}

/// As long as a challenge's value, 43 characters of base64url, for services that take no other.
fn canary_value(randomness: &Randomness) -> String {
    format!("{CANARY}{}", &randomness.uuid().simple().to_string()[..VALUE_LENGTH - CANARY.len()])
}

/// From the journal's entry on; below the time after which the journal has the daemon remove it.
const CANARY_TIMEOUT: Duration = Duration::from_mins(8);
const REMOVED_LATER: &str = "the daemon removes it later; `autocertd dns sweep` does it by hand";
const CANARY: &str = "autocertd-canary-";
const VALUE_LENGTH: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_looks_like_a_challenge_and_is_told_apart() {
        let made = canary_value(&Randomness::from_seed(1));
        assert!(made.len() == VALUE_LENGTH && made.starts_with(CANARY), "{made}");
        assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{made}");
        assert_ne!(made, canary_value(&Randomness::from_seed(2)));
    }
}
