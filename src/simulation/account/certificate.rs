//! One certificate of the fleet: how it stands, and what is happening to it.

use time::{Duration, Time};

use crate::domain::certificate::NewestCertificate;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::DeferralCause;
use crate::domain::failure::disposition::Disposition;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::renewal_info::{RenewalInfo, RenewalSuggestion, RenewalWindow};
use crate::domain::value::id::CertificateId;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;
use crate::runtime::randomness::Randomness;
use crate::simulation::ca::{CaModel, IssuedCertificate, POLL_INTERVAL};
use crate::simulation::scenario::{START, Scenario};

/// One certificate of the fleet.
pub(super) struct SimulatedCertificate {
    /// What it is for.
    pub(super) names: Box<[DnsName]>,
    /// All that the decisions rest on.
    pub(super) facts: AutoCertificateFacts,
    /// What is happening to it.
    pub(super) step: CertificateStep,
    /// When something happens to it next, unless it is queued.
    pub(super) next: Moment,
    /// Whether the next poll brings something new.
    pub(super) has_unread_window: bool,
    /// Whether it waits for the limits of the CA.
    pub(super) is_deferred_by_limit: bool,
}

/// What is happening to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateStep {
    /// Nothing, until the next look.
    Waiting,
    /// It waits for its turn.
    Queued,
    /// Its order is on the way to the CA.
    Ordering,
    /// Its names are being proven and the certificate is made.
    Validating,
}

/// The certificates of one account. Their ages are those of a fleet that has always been renewed in time: anything between
/// fresh and due.
pub(super) fn create_fleet(
    scenario: &Scenario,
    account: u32,
    ca: &mut CaModel,
    randomness: &Randomness,
) -> Vec<SimulatedCertificate> {
    let certificates = share(scenario.certificates, scenario.accounts, account);
    let domains = share(scenario.domains, scenario.accounts, account);
    let member = |index| {
        let names = create_names(account, index % domains, index);
        let (age, draw) = (randomness.fraction(), randomness.fraction());
        let not_before = START - (ca.renewal_age(draw) * age);
        let issued = ca.add_existing(&names, not_before);
        let mut info = RenewalInfo::after(None, ca.renewal_info(index, issued.not_before), issued.not_before, draw);
        info.ask_at = START + POLL_INTERVAL * randomness.fraction();
        let standing = AutoCertificateFacts {
            newest: Some(to_newest_certificate(&issued, randomness.uuid().into())),
            last_issued: Some(issued.not_before),
            renewal_info: Some(info),
            ..AutoCertificateFacts::default()
        };
        SimulatedCertificate {
            names,
            facts: standing,
            step: CertificateStep::Waiting,
            next: START,
            has_unread_window: false,
            is_deferred_by_limit: false,
        }
    };
    (0..certificates).map(member).collect()
}

/// What of an issued certificate the decisions need.
pub(super) const fn to_newest_certificate(issued: &IssuedCertificate, id: CertificateId) -> NewestCertificate {
    NewestCertificate { id, not_before: issued.not_before, not_after: issued.not_after, revoked: false, issuer: None }
}

impl SimulatedCertificate {
    /// The end of the validity of the newest certificate, as its owner knows it.
    pub(super) fn expiry(&self) -> Moment {
        self.facts.newest.map_or(START, |newest| newest.not_after)
    }

    /// Ends what was put off because the provider was down; tells whether there was anything.
    pub(super) fn clear_provider_down(&mut self) -> bool {
        let is_down = |trouble: &FailureStreak| matches!(trouble.last.disposition, Disposition::ProviderDown { .. });
        let trouble = self.facts.failure_streak.take_if(|trouble| is_down(trouble));
        let hold = self.facts.deferral.take_if(|hold| hold.cause == DeferralCause::ProviderDown);
        trouble.is_some() || hold.is_some()
    }

    /// What the control knows in place of the CA's suggestion: a window that is over when it counts, so that it exempts
    /// from nothing.
    pub(super) fn set_midnight_suggestion(&mut self, now: Moment) {
        let Some(newest) = self.facts.newest else { return };
        let due = newest.not_before + newest.lifetime() * TWO_THIRDS;
        let moment = Moment::from(due.to_date_time().replace_time(Time::MIDNIGHT));
        let window = RenewalWindow::new(moment - Duration::SECOND, moment);
        let suggestion = window.map(|window| RenewalSuggestion { window, moment, explanation_url: None });
        let ask_at = now + Duration::DAY;
        self.facts.renewal_info = Some(RenewalInfo { suggestion, ask_at, failures: 0, problem: None });
    }
}

/// One or two names in the registered domain of this number.
fn create_names(account: u32, domain: u32, index: u32) -> Box<[DnsName]> {
    let host = format!("h{index}.d{account}-{domain}.example");
    let texts = if index.is_multiple_of(2) { vec![host] } else { vec![format!("www.{host}"), host] };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// How many of `all` fall to one of `parts`.
fn share(all: u32, parts: u32, number: u32) -> u32 {
    all / parts + u32::from(number < all % parts)
}

const TWO_THIRDS: f64 = 2.0 / 3.0;
