//! DNS-01 (RFC 8555 section 8.4): the challenge records of an attempt, from the journal through the adapters to every
//! authoritative name server, and away again. All names of an order are worked on at once.

mod publish;
mod removal;
mod sweep;

use futures_util::{StreamExt, stream};
use time::Duration;

pub use self::removal::{Cleanup, CleanupOutcome};
pub use self::sweep::SweepMode;
use crate::acme::{Authorization, ChallengeKind};
use crate::dns::DnsError;
use crate::dns::adapter::TxtRecord;
use crate::dns::routes::RecordLocation;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::name::challenge_name;
use crate::domain::value::server_url::OrderUrl;
use crate::issuance::AttemptError;
use crate::issuance::attempt_runner::AttemptRunner;

/// A TXT record that the CA wants to see, and where it goes.
pub(super) struct ChallengeRecord {
    place: RecordLocation,
    content: String,
}

impl ChallengeRecord {
    fn to_txt_record(&self) -> TxtRecord {
        TxtRecord { name: self.place.name().to_owned(), content: self.content.clone() }
    }
}

impl AttemptRunner<'_> {
    /// What is still to be proven by records of this order, with the place of each. Standing records are seen to besides.
    pub(super) async fn load_pending_challenges(
        &mut self,
        url: &OrderUrl,
    ) -> Result<Vec<ChallengeRecord>, AttemptError> {
        let authorizations = self.load_order(url).await?.load_authorizations().await?;
        self.ensure_persist_records(&authorizations).await?;
        let by_dns01 =
            |one: &&Authorization| one.awaits_answer() && self.challenge_kind_for(one) == ChallengeKind::Dns01;
        let pending = authorizations.iter().filter(by_dns01);
        let (names, contents): (Vec<String>, Vec<String>) = pending
            .map(|authorization| Ok((challenge_name(&authorization.name), txt_value(authorization)?)))
            .collect::<Result<Vec<_>, Failure>>()?
            .into_iter()
            .unzip();
        let places = self.locate_records(&names).await?;
        Ok(places.into_iter().zip(contents).map(|(place, content)| ChallengeRecord { place, content }).collect())
    }

    /// Where the records of challenges go, in the order of their names.
    pub(super) async fn locate_records(&self, names: &[String]) -> Result<Vec<RecordLocation>, AttemptError> {
        let places: Vec<_> = names.iter().map(|name| self.locate_record(name)).collect();
        gathered(self.lease.run_while_held(async { Ok::<_, AttemptError>(run_bounded(places).await) }).await?)
    }

    /// Where the record of a challenge goes. A zone is often made in the same minute as its auto-certificate, so for the
    /// first half hour a missing one is tried again; after that a person must act.
    pub(super) async fn locate_record(&self, name: &str) -> Result<RecordLocation, AttemptError> {
        let age = self.issuance.clock.now() - self.auto_certificate.audit.created;
        match self.issuance.dns.locate(name).await {
            Err(error @ DnsError::NoZone { .. }) if age < ZONE_GRACE_PERIOD => {
                Err(Failure::retry(error.to_string()).into())
            }
            found => Ok(found?),
        }
    }
}

fn txt_value(authorization: &Authorization) -> Result<String, Failure> {
    authorization.dns01.as_ref().map(|challenge| challenge.txt_value.clone()).ok_or_else(|| {
        Failure::operator(format!("the CA offers no dns-01 challenge for {}; use another provider", authorization.name))
    })
}

/// Works on all of these, a number at a time; the results come in their order.
pub(super) async fn run_bounded<F: Future>(work: Vec<F>) -> Vec<F::Output> {
    stream::iter(work).buffered(MAX_CONCURRENCY).collect().await
}

/// All results, or what is to be said of those that failed: what needs a person before what passes by itself, then what
/// is to wait the longest. The others are counted, and told to the log.
pub(super) fn gathered<T>(results: Vec<Result<T, AttemptError>>) -> Result<Vec<T>, AttemptError> {
    let (mut all, mut failures) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(result) => all.push(result),
            Err(AttemptError::Failed(failure)) => failures.push(failure),
            Err(stop) => return Err(stop),
        }
    }
    let weight = |failure: &Failure| (failure.disposition == Disposition::Operator, failure.disposition.not_before());
    let Some(gravest) = failures.iter().map(weight).max() else { return Ok(all) };
    let at = failures.iter().position(|failure| weight(failure) == gravest).unwrap_or_default();
    let mut told = failures.swap_remove(at);
    for other in &failures {
        tracing::warn!("failed as well: {other}");
    }
    let more = failures.len();
    if more > 0 {
        let names = if more == 1 { "name" } else { "names" };
        told.message = format!("{told}; {more} more {names} of the order failed as well").into();
    }
    Err(told.into())
}

const ZONE_GRACE_PERIOD: Duration = Duration::minutes(30);
/// Each look at a name may take a socket for every name server.
const MAX_CONCURRENCY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::moment::Moment;

    fn message(results: Vec<Result<(), AttemptError>>) -> String {
        gathered(results).unwrap_err().to_string()
    }

    #[test]
    fn the_first_failure_is_told_and_the_others_are_counted() {
        let failed = |message: &str| Err(Failure::retry(message).into());
        assert_eq!(message(vec![Ok(()), failed("a"), Ok(())]), "a");
        assert_eq!(message(vec![failed("a"), Ok(()), failed("b")]), "a; 1 more name of the order failed as well");
        let more = vec![failed("a"), failed("b"), failed("c")];
        assert_eq!(message(more), "a; 2 more names of the order failed as well");
        assert_eq!(gathered(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }

    #[test]
    fn what_needs_a_person_or_waits_longest_is_told_first() {
        let passing = || Err(Failure::retry("passing").into());
        let later = |second: i64| {
            let not_before = Some(Moment::from_micros(second * 1_000_000));
            Err(Failure { disposition: Disposition::Retry { not_before }, message: format!("at {second}").into() }
                .into())
        };
        assert!(message(vec![passing(), later(5), later(9), later(9)]).starts_with("at 9; 3 more"));
        assert!(message(vec![later(5), Err(Failure::operator("person").into())]).starts_with("person; 1 more"));
    }

    #[test]
    fn whoever_must_stop_tells_of_nothing_else() {
        let results = vec![Err::<(), _>(Failure::retry("a").into()), Err(AttemptError::LeaseLost)];
        assert!(matches!(gathered(results), Err(AttemptError::LeaseLost)));
    }
}
