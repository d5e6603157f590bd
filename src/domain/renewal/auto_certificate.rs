//! An auto-certificate: the wish for a certificate that is kept fresh, and how it stands.

use time::Duration;

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::Deferral;
use crate::domain::provider::admission::{QueuedWork, WorkKind};
use crate::domain::provider::rate_limit_ledger::{OrderFacts, RateLimitExemption};
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::plan::{RenewalAction, plan_renewal};
use crate::domain::renewal::preflight::Preflight;
use crate::domain::renewal::renewal_info::RenewalInfo;
use crate::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::{DnsName, RequestedName, names_to_order};
use crate::domain::value::profile::Profile;
use crate::domain::value::resource::{Audit, ResourceName};

/// The most subject alternative names that one auto-certificate may have.
pub const MAX_SUBJECT_ALTERNATIVE_NAMES: usize = 10;

/// More subject alternative names than one auto-certificate may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} names; at most {MAX_SUBJECT_ALTERNATIVE_NAMES} are taken")]
pub struct TooManyNames(usize);

/// Looks whether one auto-certificate may have so many subject alternative names.
///
/// # Errors
/// Where they are more than [`MAX_SUBJECT_ALTERNATIVE_NAMES`].
pub const fn check_name_count(names: usize) -> Result<(), TooManyNames> {
    if names > MAX_SUBJECT_ALTERNATIVE_NAMES { Err(TooManyNames(names)) } else { Ok(()) }
}

/// An auto-certificate as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAutoCertificate {
    /// Its name for people.
    pub name: ResourceName,
    /// Who shall issue.
    pub provider: ProviderId,
    /// The main name.
    pub common_name: RequestedName,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Further names, in the order in which they were sent; at most [`MAX_SUBJECT_ALTERNATIVE_NAMES`].
    pub subject_alternative_names: Vec<RequestedName>,
    /// The profile to order, where it has one of its own; it wins over the provider's.
    pub profile: Option<Profile>,
}

/// A stored auto-certificate.
#[derive(Clone, Debug)]
pub struct AutoCertificate {
    /// Its identity.
    pub id: AutoCertificateId,
    /// Its name for people.
    pub name: ResourceName,
    /// Who issues.
    pub provider: ProviderId,
    /// The main name.
    pub common_name: RequestedName,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Further names, in the order in which they were sent.
    pub subject_alternative_names: Vec<RequestedName>,
    /// The profile to order, where it has one of its own; it wins over the provider's.
    pub profile: Option<Profile>,
    /// Who made and changed it.
    pub audit: Audit,
    /// How it stands.
    pub standing: AutoCertificateFacts,
}

impl AutoCertificate {
    /// Every name that a certificate must serve.
    pub fn names(&self) -> impl Iterator<Item = &DnsName> {
        std::iter::once(&self.common_name).chain(&self.subject_alternative_names).map(RequestedName::name)
    }

    /// What it wants of its provider by now.
    pub fn queued_work(&self, now: Moment) -> QueuedWork {
        let errand = match plan_renewal(&self.standing, now).action {
            RenewalAction::Start | RenewalAction::Resume(StageKind::Planned) => {
                let issuer = self.standing.newest.and_then(|newest| newest.issuer);
                let same_ca = issuer.is_none_or(|issuer| issuer == self.provider);
                let allowance = RateLimitExemption::from_facts(&self.standing, same_ca, now);
                WorkKind::Order(OrderFacts::new(&self.names_to_order(), allowance))
            }
            RenewalAction::Resume(_) => WorkKind::Resume,
            RenewalAction::Idle | RenewalAction::AskRenewalInfo | RenewalAction::CleanUp | RenewalAction::Purge => {
                WorkKind::Maintenance
            }
        };
        QueuedWork {
            work_kind: errand,
            requested: self.standing.renewal_requested,
            expiry: self.standing.valid_until(),
        }
    }

    /// What an order asks for.
    pub fn names_to_order(&self) -> Vec<DnsName> {
        names_to_order(self.names())
    }
}

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
}

/// The facts of the newest certificate that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestCertificate {
    /// Its identity.
    pub id: CertificateId,
    /// The start of its validity.
    pub not_before: Moment,
    /// The end of its validity.
    pub not_after: Moment,
    /// Whether it is revoked, or a person asked for that, whether the CA has heard of it or not.
    pub revoked: bool,
    /// Who issued it; nothing where that is not known.
    pub issuer: Option<ProviderId>,
}

impl NewestCertificate {
    /// How long it is valid in all.
    pub fn lifetime(&self) -> Duration {
        self.not_after - self.not_before
    }
}
