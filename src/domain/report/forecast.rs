//! What comes next for an auto-certificate, when and why, for people: the plan in words, and how much slack it leaves. The
//! API's messages and the command `plan` say the same.

use time::Duration;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Disposition;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::plan::{RenewalReason, backstop, plan_attempt};
use crate::domain::value::human_duration::HumanDuration;
use crate::domain::value::moment::Moment;

/// What comes next for an auto-certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What it is.
    pub next_step: NextStep,
    /// When, now where it is on its way.
    pub at: Moment,
    /// Why the plan is as it is.
    pub reason: RenewalReason,
    /// Why, in words, with what holds it up.
    pub explanation: String,
    /// The time between that moment and the last safe one, from which only a twentieth of the lifetime is left; negative
    /// where it comes later. Absent where nothing serves that could lapse.
    pub slack: Option<Duration>,
    /// What would keep a planned renewal from succeeding, as its rehearsal found.
    pub predicted_failure: Option<String>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextStep {
    /// A person must act; it is looked at again all the same.
    NeedsPerson,
    /// A failed try is repeated.
    Retry,
    /// The order waits for its provider: for its limits, or until it is back.
    Wait,
    /// It is being worked on.
    Running,
    /// The first certificate is obtained.
    Issue,
    /// The certificate is renewed.
    Renew,
    /// It goes.
    Remove,
}

impl NextStep {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeedsPerson => "person",
            Self::Retry => "retry",
            Self::Wait => "wait",
            Self::Running => "running",
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Remove => "remove",
        }
    }
}

impl Forecast {
    /// What comes next for what stands like this.
    pub fn from_facts(standing: &AutoCertificateFacts, now: Moment) -> Self {
        let plan = plan_attempt(standing, now);
        let next_step = next_step(standing, plan.reason);
        let explanation = match next_step {
            NextStep::Running => standing.open_attempt.map(|stage| stage.describe().to_owned()).unwrap_or_default(),
            NextStep::NeedsPerson | NextStep::Retry => {
                standing.failure_streak.as_ref().map(ToString::to_string).unwrap_or_default()
            }
            NextStep::Wait => {
                let hold = standing.deferral.as_ref();
                hold.map(|hold| format!("{hold}; it is next tried at {}", hold.until)).unwrap_or_default()
            }
            NextStep::Issue | NextStep::Renew | NextStep::Remove => plan.to_string(),
        };
        let serving = standing.newest.filter(|newest| newest.not_after > now && !standing.deleted);
        let slack = serving.map(|newest| backstop(&newest) - plan.next_check);
        let rehearsal = standing.preflight.as_ref().filter(|_| next_step == NextStep::Renew && plan.next_check > now);
        let predicted_failure =
            rehearsal.zip(serving).and_then(|(rehearsal, newest)| rehearsal.predict_failure(&newest, plan.next_check));
        Self { next_step, at: plan.next_check, reason: plan.reason, explanation, slack, predicted_failure }
    }

    /// The whole in one sentence.
    pub fn describe(&self) -> String {
        let planned = match self.slack {
            Some(slack) if slack.is_negative() => {
                format!("{}; that is {} behind the last safe moment", self.explanation, HumanDuration(-slack))
            }
            Some(slack) if matches!(self.reason, RenewalReason::WindowAhead(_) | RenewalReason::RenewalAhead) => {
                format!("{}, {} before the last safe moment", self.explanation, HumanDuration(slack))
            }
            _ => self.explanation.clone(),
        };
        self.predicted_failure.iter().fold(planned, |planned, foreseen| format!("{planned}; {foreseen}"))
    }
}

fn next_step(standing: &AutoCertificateFacts, reason: RenewalReason) -> NextStep {
    let operator = |trouble: &FailureStreak| trouble.last.disposition == Disposition::Operator;
    match reason {
        RenewalReason::Deleted => NextStep::Remove,
        // A question to the CA, or a look, is no news.
        _ if standing.running && standing.open_attempt.is_some() => NextStep::Running,
        RenewalReason::ProviderDown | RenewalReason::RateLimited => NextStep::Wait,
        _ if standing.failure_streak.as_ref().is_some_and(operator) => NextStep::NeedsPerson,
        _ if standing.failure_streak.is_some() => NextStep::Retry,
        _ if standing.newest.is_none() => NextStep::Issue,
        _ => NextStep::Renew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::deferral::{Deferral, DeferralCause};
    use crate::domain::failure::disposition::Failure;
    use crate::domain::provider::rate_limit_ledger::LimitKind;
    use crate::domain::renewal::attempt::StageKind;
    use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
    use crate::domain::renewal::preflight::Preflight;
    use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn serving(left: Duration) -> AutoCertificateFacts {
        let info = RenewalInfo { suggestion: None, ask_at: NOW + Duration::HOUR, failures: 0, problem: None };
        AutoCertificateFacts {
            renewal_info: Some(info),
            ..AutoCertificateFacts::in_service(Duration::days(90), left, NOW)
        }
    }

    fn sentence(standing: &AutoCertificateFacts) -> String {
        Forecast::from_facts(standing, NOW).describe()
    }

    #[test]
    fn what_is_planned_says_when_and_why_and_how_much_slack_it_leaves() {
        let by_lifetime = sentence(&serving(Duration::days(50)));
        let expected =
            "by its lifetime the renewal is planned at 2027-02-04T08:00:00Z, 25 d 12 h before the last safe moment";
        assert_eq!(by_lifetime, expected);
        let window = RenewalWindow::new(NOW + Duration::days(2), NOW + Duration::days(3)).unwrap();
        let suggestion = RenewalSuggestion { window, moment: NOW + Duration::days(2), explanation_url: None };
        let mut suggested = serving(Duration::days(50));
        suggested.renewal_info = Some(RenewalInfo {
            suggestion: Some(suggestion),
            ask_at: NOW + Duration::HOUR,
            failures: 0,
            problem: None,
        });
        assert_eq!(
            sentence(&suggested),
            "in the window that the CA suggests (2027-01-17T08:00:00Z to 2027-01-18T08:00:00Z) the renewal is planned at \
             2027-01-17T08:00:00Z, 43 d 12 h before the last safe moment"
        );
    }

    #[test]
    fn what_holds_it_up_comes_first() {
        let trouble = |failure| Some(FailureStreak::after(None, failure, NOW, None, 0.5));
        let operator = AutoCertificateFacts {
            failure_streak: trouble(Failure::operator("CAA forbids it")),
            ..serving(Duration::days(9))
        };
        assert_eq!(Forecast::from_facts(&operator, NOW).next_step, NextStep::NeedsPerson);
        let retried =
            AutoCertificateFacts { failure_streak: trouble(Failure::retry("HTTP 503")), ..serving(Duration::days(9)) };
        assert_eq!(Forecast::from_facts(&retried, NOW).next_step, NextStep::Retry);
        assert_eq!(sentence(&retried), "HTTP 503 (failure 1, next try at 2027-01-15T08:01:00Z)");
        let cause = DeferralCause::RateLimit {
            kind: LimitKind::Orders,
            description: "orders of the account (300 in 3 h)".to_owned(),
        };
        let held = AutoCertificateFacts {
            deferral: Some(Deferral { until: NOW + Duration::HOUR, cause }),
            ..serving(Duration::days(9))
        };
        assert_eq!(Forecast::from_facts(&held, NOW).next_step, NextStep::Wait);
        assert_eq!(
            sentence(&held),
            "the order waits for a limit of the CA: orders of the account (300 in 3 h); it is next tried at \
             2027-01-15T09:00:00Z"
        );
        let running = AutoCertificateFacts { running: true, open_attempt: Some(StageKind::Ready), ..held };
        assert_eq!(sentence(&running), StageKind::Ready.describe());
    }

    #[test]
    fn what_a_rehearsal_found_is_foreseen_until_the_renewal_has_begun() {
        let about = CheckSubject::Name("a.example".to_owned());
        let finding = CheckResult::fault(&about, Check::Zone, "there is no zone", "make one");
        let rehearsal = Preflight { certificate: uuid::Uuid::nil().into(), at: NOW, results: vec![finding] };
        let warned = AutoCertificateFacts { preflight: Some(rehearsal), ..serving(Duration::days(33)) };
        let expected =
            "; the renewal planned for 2027-01-18T08:00:00Z would fail: a.example: there is no zone; make one";
        assert!(sentence(&warned).ends_with(expected), "{}", sentence(&warned));
        let running = AutoCertificateFacts { running: true, open_attempt: Some(StageKind::Ready), ..warned.clone() };
        assert_eq!(Forecast::from_facts(&running, NOW).predicted_failure, None);
        let trouble = Some(FailureStreak::after(None, Failure::retry("HTTP 503"), NOW, None, 0.5));
        assert_eq!(
            Forecast::from_facts(&AutoCertificateFacts { failure_streak: trouble, ..warned }, NOW).predicted_failure,
            None
        );
    }

    #[test]
    fn a_late_try_says_so() {
        let late = AutoCertificateFacts {
            failure_streak: Some(FailureStreak::after(None, Failure::operator("paused"), NOW, None, 0.5)),
            ..serving(Duration::days(5))
        };
        let outlook = Forecast::from_facts(&late, NOW);
        assert_eq!(outlook.slack, Some(-Duration::hours(12)));
        assert!(outlook.describe().ends_with("; that is 12 h behind the last safe moment"), "{}", outlook.describe());
        assert_eq!(Forecast::from_facts(&AutoCertificateFacts::default(), NOW).slack, None);
    }
}
