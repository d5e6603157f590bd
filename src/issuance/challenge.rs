//! DNS-01 (RFC 8555 section 8.4): the challenge records of an attempt, from the journal through the adapter to every
//! authoritative name server, and away again.

use std::collections::BTreeMap;

use time::Duration;

use crate::acme::{Authorization, ChallengeKind};
use crate::dns::DnsError;
use crate::dns::adapter::{RecordId, TxtRecord, Zone};
use crate::dns::routes::Place;
use crate::domain::attempt::Attempt;
use crate::domain::disposition::Failure;
use crate::domain::name::challenge_name;
use crate::domain::server_url::OrderUrl;
use crate::issuance::course::Course;
use crate::issuance::{Issuance, Stop, Tenure};
use crate::store::{ChallengeRecord, IntendedRecord};

/// A TXT record that the CA wants to see, and where it goes.
pub(super) struct Challenge {
    place: Place,
    content: String,
}

impl Challenge {
    /// The value, and where it is to be seen.
    fn value(&self) -> (&Zone, &str, &str) {
        (&self.place.zone, self.place.name(), &self.content)
    }

    fn record(&self) -> TxtRecord {
        TxtRecord { name: self.place.name().to_owned(), content: self.content.clone() }
    }
}

impl Course<'_> {
    /// What is still to be proven by records of this order, with the place of each. Standing records are seen to besides.
    pub(super) async fn pending_challenges(&mut self, url: &OrderUrl) -> Result<Vec<Challenge>, Stop> {
        let authorizations = self.order(url).await?.authorizations().await?;
        self.stand(&authorizations).await?;
        let mut challenges = Vec::new();
        let by_dns01 = |one: &&Authorization| one.awaits_answer() && self.kind_for(one) == ChallengeKind::Dns01;
        for authorization in authorizations.iter().filter(by_dns01) {
            let content = txt_value(authorization)?;
            let place = self.place_of(&challenge_name(&authorization.name)).await?;
            challenges.push(Challenge { place, content });
        }
        Ok(challenges)
    }

    /// Publishes the records and waits until all authoritative servers show them.
    pub(super) async fn publish(&self, challenges: &[Challenge]) -> Result<(), Stop> {
        let journal = self.issuance.store.challenge_records(self.subject.id).await?;
        let mut presented = Vec::new();
        for challenge in challenges {
            let known = journal.iter().find(|entry| is_for(entry, self.attempt, challenge));
            presented.push((challenge, self.present_one(challenge, known).await?));
        }
        let propagation = &self.issuance.propagation;
        for (challenge, record) in presented {
            let Place { adapter, zone, .. } = &challenge.place;
            self.tenure.during(propagation.await_published(&**adapter, &zone.id, &record)).await?;
        }
        for (name, (zone, values)) in by_name(challenges.iter().map(Challenge::value)) {
            tracing::info!(attempt = %self.attempt.id, name, values = values.len(), "waiting for every name server");
            self.tenure.during(propagation.await_visible(zone, name, &values)).await?;
        }
        Ok(())
    }

    /// Where the record of a challenge goes. A zone is often made in the same minute as its auto-certificate, so for the
    /// first half hour a missing one is tried again; after that a person must act.
    pub(super) async fn place_of(&self, name: &str) -> Result<Place, Stop> {
        let found = self.tenure.during(async { Ok::<_, Stop>(self.issuance.dns.place_of(name).await) }).await?;
        let age = self.issuance.clock.now() - self.subject.audit.created;
        match found {
            Err(error @ DnsError::NoZone { .. }) if age < PATIENCE_FOR_ZONES => {
                Err(Failure::retry(error.to_string()).into())
            }
            found => Ok(found?),
        }
    }

    /// The intent is stored before the call, the record's id after it.
    async fn present_one(&self, challenge: &Challenge, known: Option<&ChallengeRecord>) -> Result<RecordId, Stop> {
        let (Place { adapter, zone, .. }, record) = (&challenge.place, challenge.record());
        let entry = if let Some(entry) = known {
            entry.id
        } else {
            let intended = IntendedRecord {
                attempt: self.attempt.id,
                adapter: adapter.name().as_str(),
                zone_id: zone.id.as_str(),
                name: &record.name,
                content: &record.content,
            };
            self.issuance.store.intend_record(self.tenure.lease(), &intended).await?
        };
        self.tenure.hold().await?;
        let id = adapter.present(&zone.id, &record).await?;
        self.issuance.store.record_presented(entry, id.as_str()).await?;
        Ok(id)
    }
}

impl Issuance {
    /// Removes one record and then its entry in the journal. Where that fails it is tried again later.
    pub(super) async fn remove(&self, tenure: &Tenure, entry: &ChallengeRecord) -> Result<(), Stop> {
        tenure.hold().await?;
        let record = TxtRecord { name: entry.name.clone(), content: entry.content.clone() };
        let id = entry.record_id.clone().map(RecordId::from);
        let removed =
            async { self.dns.named(&entry.adapter)?.remove(&entry.zone_id.clone().into(), id.as_ref(), &record).await };
        match removed.await {
            Ok(()) => {
                self.store.record_removed(entry.id).await?;
                tracing::debug!(name = entry.name, "challenge record removed");
            }
            Err(error) => {
                let next_try = self.clock.now() + removal_pause(entry.removal_tries);
                tracing::warn!(name = entry.name, %next_try, "challenge record not removed: {error}");
                self.store.removal_failed(entry.id, next_try).await?;
            }
        }
        Ok(())
    }
}

fn txt_value(authorization: &Authorization) -> Result<String, Failure> {
    authorization.dns01.as_ref().map(|challenge| challenge.txt_value.clone()).ok_or_else(|| {
        Failure::operator(format!("the CA offers no dns-01 challenge for {}; use another provider", authorization.name))
    })
}

fn is_for(entry: &ChallengeRecord, attempt: &Attempt, challenge: &Challenge) -> bool {
    let Place { adapter, zone, .. } = &challenge.place;
    entry.attempt == Some(attempt.id)
        && entry.adapter == adapter.name().as_str()
        && entry.zone_id == zone.id.as_str()
        && entry.name == challenge.place.name()
        && entry.content == challenge.content
}

/// An apex and its wildcard need two values at one name; they are waited for together.
fn by_name<'a>(
    values: impl Iterator<Item = (&'a Zone, &'a str, &'a str)>,
) -> BTreeMap<&'a str, (&'a Zone, Vec<String>)> {
    let mut names: BTreeMap<&str, (&Zone, Vec<String>)> = BTreeMap::new();
    for (zone, name, value) in values {
        names.entry(name).or_insert_with(|| (zone, Vec::new())).1.push(value.to_owned());
    }
    names
}

/// 1 minute, doubled with each try, at most an hour.
fn removal_pause(tries: u32) -> Duration {
    Duration::minutes(1 << tries.min(5)).min(Duration::hours(1))
}

const PATIENCE_FOR_ZONES: Duration = Duration::minutes(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_at_one_name_are_waited_for_together() {
        let zone = Zone { id: "z".to_owned().into(), name: "example.com".to_owned(), nameservers: Vec::new() };
        let names = by_name([(&zone, "a", "1"), (&zone, "b", "2"), (&zone, "a", "3")].into_iter());
        assert_eq!(names["a"].1, ["1", "3"]);
        assert_eq!(names["b"].1, ["2"]);
    }

    #[test]
    fn removals_are_tried_again_with_growing_pauses() {
        assert_eq!([0, 1, 3, 9].map(removal_pause), [1, 2, 8, 32].map(Duration::minutes));
    }
}
