//! What an auto-certificate that should be in service lacks: the question behind the exit code of `--renew-now`.

use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::plan::renewal_moment;
use crate::domain::report::forecast::Forecast;
use crate::domain::value::moment::Moment;

/// Why an auto-certificate is not in service as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverdueReason {
    /// It has no certificate.
    NoCertificate,
    /// Its newest certificate has expired.
    Expired,
    /// Its newest certificate is revoked, or is to be.
    Revoked,
    /// Its renewal was needed, and the last try failed.
    RenewalFailed,
    /// Its next try comes after the last safe moment.
    Late,
}

impl OverdueReason {
    /// What a standing lacks at `now`; nothing where it is in service, or deleted. A renewal that failed before it was
    /// needed is no lack.
    pub fn from_facts(standing: &AutoCertificateFacts, now: Moment) -> Option<Self> {
        if standing.deleted {
            return None;
        }
        let Some(newest) = standing.newest else { return Some(Self::NoCertificate) };
        if newest.not_after <= now {
            return Some(Self::Expired);
        }
        if newest.revoked {
            return Some(Self::Revoked);
        }
        let is_needed =
            standing.intent_changed || renewal_moment(&newest, standing.renewal_info.as_ref(), now).0 <= now;
        if is_needed && standing.failure_streak.is_some() {
            return Some(Self::RenewalFailed);
        }
        Forecast::from_facts(standing, now).slack.filter(|slack| slack.is_negative()).map(|_| Self::Late)
    }

    /// In words, after the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no certificate",
            Self::Expired => "its certificate has expired",
            Self::Revoked => "its certificate is revoked",
            Self::RenewalFailed => "its renewal failed",
            Self::Late => "its next try comes after the last safe moment",
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::domain::failure::back_off::FailureStreak;
    use crate::domain::failure::deferral::{Deferral, DeferralCause};
    use crate::domain::failure::disposition::Failure;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn serving(left: Duration) -> AutoCertificateFacts {
        AutoCertificateFacts::in_service(Duration::days(90), left, NOW)
    }

    fn failed(standing: AutoCertificateFacts) -> AutoCertificateFacts {
        AutoCertificateFacts {
            failure_streak: Some(FailureStreak::after(None, Failure::retry("x"), NOW, None, 0.5)),
            ..standing
        }
    }

    #[test]
    fn what_serves_nobody_is_overdue_whatever_is_done_about_it() {
        assert_eq!(
            OverdueReason::from_facts(&AutoCertificateFacts::default(), NOW),
            Some(OverdueReason::NoCertificate)
        );
        assert_eq!(
            OverdueReason::from_facts(&failed(AutoCertificateFacts::default()), NOW),
            Some(OverdueReason::NoCertificate)
        );
        assert_eq!(OverdueReason::from_facts(&serving(Duration::ZERO), NOW), Some(OverdueReason::Expired));
        let running = AutoCertificateFacts { running: true, ..AutoCertificateFacts::default() };
        assert_eq!(OverdueReason::from_facts(&running, NOW), Some(OverdueReason::NoCertificate));
        let mut revoked = serving(Duration::days(80));
        revoked.newest.as_mut().unwrap().revoked = true;
        assert_eq!(OverdueReason::from_facts(&revoked, NOW), Some(OverdueReason::Revoked));
        assert_eq!(
            OverdueReason::from_facts(&AutoCertificateFacts { deleted: true, ..AutoCertificateFacts::default() }, NOW),
            None
        );
    }

    #[test]
    fn a_failure_counts_once_the_renewal_is_needed() {
        assert_eq!(
            OverdueReason::from_facts(&failed(serving(Duration::days(80))), NOW),
            None,
            "asked for long before it was due"
        );
        assert_eq!(OverdueReason::from_facts(&serving(Duration::days(20)), NOW), None, "due, and not tried yet");
        assert_eq!(
            OverdueReason::from_facts(&failed(serving(Duration::days(20))), NOW),
            Some(OverdueReason::RenewalFailed)
        );
        let changed = AutoCertificateFacts { intent_changed: true, ..failed(serving(Duration::days(80))) };
        assert_eq!(OverdueReason::from_facts(&changed, NOW), Some(OverdueReason::RenewalFailed));
    }

    #[test]
    fn what_waits_beyond_the_last_safe_moment_is_late() {
        let held = |left, until| AutoCertificateFacts {
            deferral: Some(Deferral { until: NOW + until, cause: DeferralCause::ProviderDown }),
            ..serving(left)
        };
        assert_eq!(OverdueReason::from_facts(&held(Duration::days(20), Duration::days(1)), NOW), None);
        assert_eq!(
            OverdueReason::from_facts(&held(Duration::days(5), Duration::days(1)), NOW),
            Some(OverdueReason::Late)
        );
    }
}
