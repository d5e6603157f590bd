//! The state of a resource as the API shows it, computed from how it stands. Nothing of it is stored.

use crate::domain::certificate::revocation::Revocation;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Disposition;
use crate::domain::provider::{AccountNote, Provider};
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::plan::RenewalReason;
use crate::domain::report::forecast::Forecast;
use crate::domain::value::moment::Moment;

/// The states of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// On its way; also while attempts fail in ways that are tried again.
    Provisioning,
    /// As it should be.
    Available,
    /// A person must act, or the newest certificate has expired.
    Failed,
}

impl ResourceState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Provisioning, Self::Available, Self::Failed];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
        }
    }
}

/// A state with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReport {
    /// The state.
    pub state: ResourceState,
    /// What is going on and what comes next; never holds a secret.
    pub message: String,
}

/// The state of an auto-certificate.
///
/// It is available only while its newest certificate is valid. Clients take `FAILED` as final, so a passing fault never
/// shows it.
pub fn auto_certificate_state(standing: &AutoCertificateFacts, now: Moment) -> StateReport {
    let serving = standing.newest.filter(|newest| now < newest.not_after);
    let state = match (serving, standing.newest) {
        (Some(_), _) => ResourceState::Available,
        (None, _) if standing.running => ResourceState::Provisioning,
        (None, Some(_)) => ResourceState::Failed,
        (None, None) if needs_person(standing.failure_streak.as_ref()) => ResourceState::Failed,
        (None, None) => ResourceState::Provisioning,
    };
    StateReport { state, message: describe(standing, now) }
}

/// The state of a provider: available once stored; failed where the CA refuses the account, or a person had it
/// deactivated.
pub fn provider_state(provider: &Provider) -> StateReport {
    let mut report = account_state(provider);
    match &provider.account_note {
        Some(AccountNote::Deactivated { account, at }) => StateReport {
            state: ResourceState::Failed,
            message: format!(
                "the ACME account {account} was deactivated at {at}, as was asked for; `autocertd account register` \
                 registers another one"
            ),
        },
        Some(AccountNote::Lost { account, at }) => {
            let new = provider.account_url.as_deref().unwrap_or("the new one");
            report.message = format!(
                "{}; it takes the place of {account}, which the CA no longer knew at {at}: CAA records that pin that one \
                 (accounturi, RFC 8657) must name {new}",
                report.message
            );
            report
        }
        None => report,
    }
}

fn account_state(provider: &Provider) -> StateReport {
    match (&provider.account_url, &provider.failure_streak) {
        (Some(_), None) => {
            StateReport { state: ResourceState::Available, message: "the ACME account is registered".to_owned() }
        }
        (Some(_), Some(trouble)) => StateReport {
            state: ResourceState::Available,
            message: format!("the ACME account is registered; its new contact is not told yet: {trouble}"),
        },
        (None, None) => StateReport {
            state: ResourceState::Available,
            message: "the ACME account is about to be registered".to_owned(),
        },
        (None, Some(trouble)) => StateReport {
            state: if needs_person(Some(trouble)) { ResourceState::Failed } else { ResourceState::Available },
            message: format!("the ACME account is not registered yet: {trouble}"),
        },
    }
}

/// The state of a certificate: what is stored is available, expired or revoked or not.
pub fn certificate_state(not_after: Moment, revocation: Option<&Revocation>, now: Moment) -> StateReport {
    let tense = if now < not_after { "valid until" } else { "expired at" };
    let revoked = revocation.map(|revocation| format!("; {revocation}")).unwrap_or_default();
    StateReport { state: ResourceState::Available, message: format!("{tense} {not_after}{revoked}") }
}

fn needs_person(trouble: Option<&FailureStreak>) -> bool {
    trouble.is_some_and(|trouble| trouble.last.disposition == Disposition::Operator)
}

fn describe(standing: &AutoCertificateFacts, now: Moment) -> String {
    let serving = standing.newest.is_some_and(|newest| now < newest.not_after);
    let mut parts = Vec::new();
    if let Some(newest) = standing.newest {
        let tense = if serving { "valid until" } else { "the newest certificate expired at" };
        parts.push(format!("{tense} {}", newest.not_after));
    }
    let outlook = Forecast::from_facts(standing, now);
    // Until then the newest certificate is not what is asked for, or not to be relied on.
    let shortcomings = [
        (standing.intent_changed, RenewalReason::IntentChanged),
        (standing.newest.is_some_and(|newest| newest.revoked), RenewalReason::Revoked),
    ];
    let told = |(there, reason): &(bool, RenewalReason)| *there && *reason != outlook.reason;
    parts.extend(shortcomings.iter().filter(|shortcoming| told(shortcoming)).map(|(_, reason)| reason.to_string()));
    parts.push(outlook.describe());
    if let Some(page) = window_explanation_url(standing).filter(|_| serving) {
        parts.push(format!("the CA explains its window at {page}"));
    }
    parts.join("; ")
}

/// Where the CA says why it suggests its window.
fn window_explanation_url(standing: &AutoCertificateFacts) -> Option<&str> {
    standing.renewal_info.as_ref()?.suggestion.as_ref()?.explanation_url.as_deref()
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::domain::certificate::NewestCertificate;
    use crate::domain::certificate::revocation::RevocationReason;
    use crate::domain::failure::deferral::{Deferral, DeferralCause};
    use crate::domain::failure::disposition::Failure;
    use crate::domain::provider::rate_limit_ledger::LimitKind;
    use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn newest(left: Duration) -> NewestCertificate {
        NewestCertificate::with_left(Duration::days(90), left, NOW)
    }

    fn trouble(failure: Failure) -> FailureStreak {
        FailureStreak::after(None, failure, NOW, None, 0.5)
    }

    fn state(standing: &AutoCertificateFacts) -> ResourceState {
        auto_certificate_state(standing, NOW).state
    }

    #[test]
    fn a_passing_fault_never_shows_as_failed_before_the_first_certificate() {
        assert_eq!(state(&AutoCertificateFacts::default()), ResourceState::Provisioning);
        assert_eq!(
            state(&AutoCertificateFacts {
                failure_streak: Some(trouble(Failure::retry("x"))),
                ..AutoCertificateFacts::default()
            }),
            ResourceState::Provisioning
        );
        assert_eq!(
            state(&AutoCertificateFacts {
                failure_streak: Some(trouble(Failure::restart("x"))),
                ..AutoCertificateFacts::default()
            }),
            ResourceState::Provisioning
        );
        assert_eq!(
            state(&AutoCertificateFacts {
                failure_streak: Some(trouble(Failure::operator("x"))),
                ..AutoCertificateFacts::default()
            }),
            ResourceState::Failed
        );
    }

    #[test]
    fn a_valid_certificate_is_available_whatever_happens_to_its_renewal() {
        let standing = AutoCertificateFacts {
            newest: Some(newest(Duration::days(20))),
            failure_streak: Some(trouble(Failure::operator("CAA forbids"))),
            ..AutoCertificateFacts::default()
        };
        let report = auto_certificate_state(&standing, NOW);
        assert_eq!(report.state, ResourceState::Available);
        assert!(report.message.contains("CAA forbids") && report.message.contains("next try"), "{}", report.message);
    }

    #[test]
    fn a_changed_intent_is_told_beside_what_is_served() {
        let serving = newest(Duration::days(20));
        let changed =
            AutoCertificateFacts { newest: Some(serving), intent_changed: true, ..AutoCertificateFacts::default() };
        let report = auto_certificate_state(&changed, NOW);
        let expected = format!("valid until {}; {}", serving.not_after, RenewalReason::IntentChanged);
        assert_eq!((report.state, report.message), (ResourceState::Available, expected.clone()));
        let refused =
            AutoCertificateFacts { failure_streak: Some(trouble(Failure::operator("CAA forbids"))), ..changed };
        let message = auto_certificate_state(&refused, NOW).message;
        assert!(message.starts_with(&expected) && message.contains("CAA forbids"), "{message}");
    }

    #[test]
    fn a_revoked_one_is_told_beside_what_is_served() {
        let serving = NewestCertificate { revoked: true, ..newest(Duration::days(20)) };
        let revoked = AutoCertificateFacts { newest: Some(serving), ..AutoCertificateFacts::default() };
        let expected = format!("valid until {}; {}", serving.not_after, RenewalReason::Revoked);
        assert_eq!(
            auto_certificate_state(&revoked, NOW),
            StateReport { state: ResourceState::Available, message: expected.clone() }
        );
        let both = auto_certificate_state(&AutoCertificateFacts { intent_changed: true, ..revoked }, NOW).message;
        assert!(
            both.contains("the newest certificate is revoked; names") && both.ends_with("were changed in the settings"),
            "{both}"
        );

        let revocation = Revocation::new(RevocationReason::KeyCompromise, NOW).with_done(NOW);
        let report = certificate_state(NOW + Duration::days(1), Some(&revocation), NOW);
        assert!(report.message.ends_with(&format!("; revoked at {NOW} (keyCompromise)")), "{}", report.message);
    }

    #[test]
    fn the_window_of_the_ca_is_told_with_its_moment_and_its_explanation() {
        let at = |days| NOW + Duration::days(days);
        let suggestion = RenewalSuggestion {
            window: RenewalWindow::new(at(3), at(5)).unwrap(),
            moment: at(4),
            explanation_url: Some("https://ca.example/why".to_owned()),
        };
        // The next question comes before the renewal, and is not what people want to know of.
        for ask_at in [NOW, NOW + Duration::hours(6)] {
            let info = RenewalInfo { suggestion: Some(suggestion.clone()), ask_at, failures: 0, problem: None };
            let standing = AutoCertificateFacts {
                newest: Some(newest(Duration::days(20))),
                renewal_info: Some(info),
                ..AutoCertificateFacts::default()
            };
            let expected = format!(
                "valid until {}; in the window that the CA suggests ({} to {}) the renewal is planned at {}, 11 d 12 h before the last safe moment; \
                 the CA explains its window at https://ca.example/why",
                at(20),
                at(3),
                at(5),
                at(4)
            );
            assert_eq!(auto_certificate_state(&standing, NOW).message, expected);
        }
    }

    #[test]
    fn a_hold_tells_the_limit_and_the_moment_until_it_is_over() {
        let limit = "orders of the account (300 in 3 h)".to_owned();
        let kept_back = Deferral {
            until: NOW + Duration::minutes(5),
            cause: DeferralCause::RateLimit { kind: LimitKind::Orders, description: limit.clone() },
        };
        let held = AutoCertificateFacts { deferral: Some(kept_back), ..AutoCertificateFacts::default() };
        let report = auto_certificate_state(&held, NOW);
        let expected = format!(
            "the order waits for a limit of the CA: {limit}; it is next tried at {}",
            NOW + Duration::minutes(5)
        );
        assert_eq!((report.state, report.message), (ResourceState::Provisioning, expected));
        assert!(!auto_certificate_state(&held, NOW + Duration::minutes(6)).message.contains("limit"));
    }

    #[test]
    fn an_expired_one_has_failed_until_someone_works_on_it() {
        let expired =
            AutoCertificateFacts { newest: Some(newest(Duration::seconds(-1))), ..AutoCertificateFacts::default() };
        assert_eq!(state(&AutoCertificateFacts { running: true, ..expired.clone() }), ResourceState::Provisioning);
        assert_eq!(state(&expired), ResourceState::Failed);
    }
}
