//! The facts about an auto-certificate on which its plan and its state rest.

use crate::domain::certificate::NewestCertificate;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::Deferral;
use crate::domain::provider::rate_limit_ledger::RateLimitExemption;
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::preflight::Preflight;
use crate::domain::renewal::renewal_info::RenewalInfo;
use crate::domain::value::moment::Moment;

/// How an auto-certificate stands: the facts on which the plan and the state rest.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of one another")]
pub struct AutoCertificateFacts {
    /// The newest certificate that was issued for it and is not deleted.
    pub newest: Option<NewestCertificate>,
    /// When the last order succeeded, whether its certificate is still there or not.
    pub last_issued: Option<Moment>,
    /// What the CA says about the renewal of the newest certificate.
    pub renewal_info: Option<RenewalInfo>,
    /// What went wrong since the last success.
    pub failure_streak: Option<FailureStreak>,
    /// What keeps an order back for its provider's sake.
    pub deferral: Option<Deferral>,
    /// How far the open attempt is, where there is one.
    pub open_attempt: Option<StageKind>,
    /// Whether someone works on it right now.
    pub running: bool,
    /// Whether a person asked for a new certificate, due or not.
    pub renewal_requested: bool,
    /// Whether its names, key, provider or own profile were changed since its newest certificate was ordered.
    pub intent_changed: bool,
    /// When TXT records that no open attempt needs are to be removed; absent where there are none.
    pub clean_up_at: Option<Moment>,
    /// What the last rehearsal of its renewal found.
    pub preflight: Option<Preflight>,
    /// Whether it was deleted and only waits for its TXT records to be gone.
    pub deleted: bool,
}

impl AutoCertificateFacts {
    /// Until when there is a certificate that may be relied on; none where there is no such certificate.
    pub fn valid_until(&self) -> Option<Moment> {
        self.newest.filter(|newest| !newest.revoked).map(|newest| newest.not_after)
    }

    /// What the next order for an auto-certificate is spared; `same_ca` tells whether it goes to the CA that issued the
    /// newest certificate. In a mass revocation the window is over, so that those orders count; so does one of which it is
    /// not sure that the window is still there: the last question failed, or an order did, maybe for a limit.
    pub fn rate_limit_exemption(&self, same_ca: bool, now: Moment) -> RateLimitExemption {
        let Some(newest) = self.newest.filter(|_| same_ca && !self.intent_changed) else {
            return RateLimitExemption::None;
        };
        let sure = self.renewal_info.as_ref().filter(|info| info.failures == 0 && self.failure_streak.is_none());
        let suggestion = sure.and_then(|info| info.suggestion.as_ref());
        let in_window = suggestion.is_some_and(|suggestion| suggestion.window.contains(now));
        if in_window && now < newest.not_after {
            RateLimitExemption::InRenewalWindow
        } else {
            RateLimitExemption::SameNames
        }
    }
}

#[cfg(test)]
impl AutoCertificateFacts {
    /// Those of one whose certificate lives for `lifetime` and has `left` of it at `now`.
    pub(in crate::domain) fn in_service(lifetime: time::Duration, left: time::Duration, now: Moment) -> Self {
        Self { newest: Some(NewestCertificate::with_left(lifetime, left, now)), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::domain::failure::disposition::Failure;
    use crate::domain::renewal::renewal_info::{RenewalSuggestion, RenewalWindow};

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    #[test]
    fn a_window_exempts_only_while_it_is_sure() {
        let at = |hours| NOW + Duration::hours(hours);
        let id = uuid::Uuid::nil().into();
        let window = RenewalWindow::new(at(-1), at(1)).unwrap();
        let suggestion = RenewalSuggestion { window, moment: NOW, explanation_url: None };
        let info = RenewalInfo { suggestion: Some(suggestion), ask_at: at(6), failures: 0, problem: None };
        let sure = AutoCertificateFacts {
            newest: Some(NewestCertificate {
                id,
                not_before: at(-700),
                not_after: at(300),
                revoked: false,
                issuer: None,
            }),
            renewal_info: Some(info.clone()),
            ..AutoCertificateFacts::default()
        };
        assert_eq!(sure.rate_limit_exemption(true, NOW), RateLimitExemption::InRenewalWindow);
        assert_eq!(sure.rate_limit_exemption(true, at(1)), RateLimitExemption::SameNames);
        assert_eq!(sure.rate_limit_exemption(false, NOW), RateLimitExemption::None);
        let unanswered =
            AutoCertificateFacts { renewal_info: Some(RenewalInfo { failures: 1, ..info }), ..sure.clone() };
        assert_eq!(unanswered.rate_limit_exemption(true, NOW), RateLimitExemption::SameNames);
        let refused = FailureStreak::after(None, Failure::retry("HTTP 429"), NOW, None, 0.5);
        let refused = AutoCertificateFacts { failure_streak: Some(refused), ..sure };
        assert_eq!(refused.rate_limit_exemption(true, NOW), RateLimitExemption::SameNames);
    }
}
