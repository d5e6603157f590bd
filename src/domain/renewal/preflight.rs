//! The rehearsal of a renewal: the checks of its names some days ahead, so that what would keep it from succeeding is
//! told while there is time.

use crate::domain::certificate::NewestCertificate;
use crate::domain::renewal::check_result::CheckResult;
use crate::domain::value::id::CertificateId;
use crate::domain::value::moment::Moment;

/// What the last rehearsal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The certificate whose renewal was rehearsed.
    pub certificate: CertificateId,
    /// When.
    pub at: Moment,
    /// What is not as it should be: warnings and faults.
    pub results: Vec<CheckResult>,
}

impl Preflight {
    /// What would keep the renewal from succeeding.
    pub fn faults(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter().filter(|finding| finding.is_fault())
    }

    /// What would keep the renewal of this certificate from succeeding, in a sentence.
    pub fn predict_failure(&self, newest: &NewestCertificate, planned: Moment) -> Option<String> {
        let mut faults = self.faults().filter(|_| self.certificate == newest.id);
        let first = faults.next()?;
        let more = match faults.count() {
            0 => String::new(),
            more => format!(" (and {more} more; `autocertd doctor` tells)"),
        };
        Some(format!("the renewal planned for {planned} would fail: {first}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::domain::renewal::check_result::{Check, CheckSubject};

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn rehearsed(findings: Vec<CheckResult>) -> Preflight {
        Preflight { certificate: uuid::Uuid::nil().into(), at: NOW, results: findings }
    }

    fn fault() -> CheckResult {
        CheckResult::fault(&CheckSubject::Name("a.example".to_owned()), Check::Zone, "there is none", "make one")
    }

    #[test]
    fn what_is_foreseen_is_said_of_its_own_certificate() {
        let newest = NewestCertificate::with_left(Duration::days(90), Duration::days(36), NOW);
        let one = rehearsed(vec![fault()]);
        assert_eq!(
            one.predict_failure(&newest, NOW).unwrap(),
            "the renewal planned for 2027-01-15T08:00:00Z would fail: a.example: there is none; make one"
        );
        let two = rehearsed(vec![fault(), fault()]);
        assert!(
            two.predict_failure(&newest, NOW).unwrap().ends_with("make one (and 1 more; `autocertd doctor` tells)")
        );
        let other = NewestCertificate { id: uuid::Uuid::from_u128(1).into(), ..newest };
        assert_eq!(one.predict_failure(&other, NOW), None);
        assert_eq!(rehearsed(Vec::new()).predict_failure(&newest, NOW), None);
    }
}
