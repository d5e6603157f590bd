//! When the rehearsal of a renewal is due. Pure.

use time::Duration;

use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::plan::renewal_moment;
use crate::domain::value::id::CertificateId;
use crate::domain::value::moment::Moment;

/// What is to be done about the rehearsal of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightDecision {
    /// It is due.
    RunNow(CertificateId),
    /// It is looked at again then.
    CheckAgainAt(Moment),
}

/// Whether a rehearsal is due, `ahead` of the planned renewal: once for each certificate, and again while it finds a fault.
/// This is asked when the moment of the last answer has come. What is in trouble already, or on its way, needs none.
pub fn decide_preflight(standing: &AutoCertificateFacts, ahead: Duration, now: Moment) -> PreflightDecision {
    let Some(newest) = standing.newest.filter(|newest| !newest.revoked && newest.not_after > now) else {
        return PreflightDecision::CheckAgainAt(now + RECHECK_INTERVAL);
    };
    let is_busy = standing.running || standing.open_attempt.is_some() || standing.renewal_requested;
    let is_troubled = standing.failure_streak.is_some() || standing.deferral.is_some() || standing.intent_changed;
    if is_busy || is_troubled {
        return PreflightDecision::CheckAgainAt(now + RECHECK_INTERVAL);
    }
    let (renewal, _) = renewal_moment(&newest, standing.renewal_info.as_ref(), now);
    let due = (renewal - ahead).max(newest.not_before + (renewal - newest.not_before) / 2);
    let last = standing.preflight.as_ref().filter(|last| last.certificate == newest.id);
    if renewal <= now || last.is_some_and(|last| last.faults().next().is_none()) {
        return PreflightDecision::CheckAgainAt(now + PREFLIGHT_INTERVAL);
    }
    // The CA may want it renewed earlier than it says by now.
    if due > now {
        PreflightDecision::CheckAgainAt(due.min(now + PREFLIGHT_INTERVAL))
    } else {
        PreflightDecision::RunNow(newest.id)
    }
}

/// So long after one that found a fault another one follows.
pub const PREFLIGHT_INTERVAL: Duration = Duration::days(1);
/// What is in trouble is looked at again as often.
const RECHECK_INTERVAL: Duration = Duration::hours(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::back_off::FailureStreak;
    use crate::domain::failure::disposition::Failure;
    use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
    use crate::domain::renewal::preflight::Preflight;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);
    const AHEAD: Duration = Duration::days(7);

    /// A certificate that lives for so long and has so much left.
    fn serving(lifetime: Duration, left: Duration) -> AutoCertificateFacts {
        AutoCertificateFacts::in_service(lifetime, left, NOW)
    }

    fn rehearsed(findings: Vec<CheckResult>) -> Preflight {
        Preflight { certificate: uuid::Uuid::nil().into(), at: NOW, results: findings }
    }

    fn fault() -> CheckResult {
        CheckResult::fault(&CheckSubject::Name("a.example".to_owned()), Check::Zone, "there is none", "make one")
    }

    #[test]
    fn it_is_due_some_days_ahead_of_the_renewal_once() {
        let id = uuid::Uuid::nil().into();
        let ninety = |left: i64| serving(Duration::days(90), Duration::days(left));
        // The renewal is 30 days before the end.
        assert_eq!(decide_preflight(&ninety(60), AHEAD, NOW), PreflightDecision::CheckAgainAt(NOW + Duration::DAY));
        assert_eq!(decide_preflight(&ninety(36), AHEAD, NOW), PreflightDecision::RunNow(id));
        let done = AutoCertificateFacts { preflight: Some(rehearsed(Vec::new())), ..ninety(36) };
        assert_eq!(decide_preflight(&done, AHEAD, NOW), PreflightDecision::CheckAgainAt(NOW + Duration::DAY));
        let failed = AutoCertificateFacts { preflight: Some(rehearsed(vec![fault()])), ..ninety(36) };
        assert_eq!(decide_preflight(&failed, AHEAD, NOW), PreflightDecision::RunNow(id));
        let PreflightDecision::CheckAgainAt(at) = decide_preflight(&ninety(37), AHEAD, NOW - Duration::hours(20))
        else {
            panic!("not yet")
        };
        assert!(at > NOW - Duration::hours(20) && at <= NOW + Duration::hours(4));
    }

    #[test]
    fn a_short_life_is_rehearsed_in_the_middle_of_the_way() {
        let six = |left: Duration| decide_preflight(&serving(Duration::days(6), left), AHEAD, NOW);
        assert!(matches!(six(Duration::days(5)), PreflightDecision::CheckAgainAt(_)));
        assert!(matches!(six(Duration::days(4)), PreflightDecision::RunNow(_)));
        assert!(matches!(six(Duration::days(2)), PreflightDecision::CheckAgainAt(_)), "it is due itself");
    }

    #[test]
    fn what_is_in_trouble_needs_none() {
        let soon = serving(Duration::days(90), Duration::days(36));
        let trouble = Some(FailureStreak::after(None, Failure::retry("x"), NOW, None, 0.5));
        for standing in [
            AutoCertificateFacts { failure_streak: trouble, ..soon.clone() },
            AutoCertificateFacts { running: true, ..soon.clone() },
            AutoCertificateFacts { renewal_requested: true, ..soon },
            AutoCertificateFacts::default(),
        ] {
            assert_eq!(decide_preflight(&standing, AHEAD, NOW), PreflightDecision::CheckAgainAt(NOW + Duration::HOUR));
        }
    }
}
