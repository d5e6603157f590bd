//! Who is asked: the provider of the auto-certificate, or where that fails for long the first of its fallbacks that may
//! issue. Whether one may, its CA's directory and the CAA records of every name tell.

use time::Duration;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::provider::Provider;
use crate::domain::provider::caa::{CaaRequest, check_issuance};
use crate::domain::provider::failover::{FailoverReason, ProviderFacts, ProviderHistory, choose_provider};
use crate::domain::renewal::attempt::{Attempt, StageKind};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::value::id::ProviderId;
use crate::domain::value::moment::Moment;
use crate::domain::value::profile::Profile;
use crate::domain::value::server_url::ServerUrl;
use crate::issuance::{AttemptError, HeldLease, Issuance};
use crate::store::{RecoveryEvidence, StoreError};

/// Who is asked, and for which kind of certificate.
pub(super) struct ChosenProvider {
    pub(super) provider: ProviderId,
    pub(super) profile: Option<Profile>,
}

/// A fallback that takes the place of the usual provider.
struct Fallback {
    provider: Provider,
    profile: Option<Profile>,
    reason: FailoverReason,
}

/// Those that stand by for a provider.
pub struct FallbackCandidates {
    primary: Option<ProviderFacts>,
    fallbacks: Vec<ProviderFacts>,
}

impl FallbackCandidates {
    /// Whether there is one at all.
    pub const fn is_empty(&self) -> bool {
        self.fallbacks.is_empty()
    }

    /// Whether one of them is to be asked for what stands like this, so that it need not wait for the usual provider.
    pub fn should_take_over(&self, standing: &AutoCertificateFacts, now: Moment) -> bool {
        let history = ProviderHistory {
            newest: standing.newest,
            has_failed: standing.failure_streak.is_some(),
            last_tried: None,
        };
        self.primary.is_some_and(|primary| choose_provider(&primary, &self.fallbacks, &history, now).reason.is_some())
    }
}

impl Issuance {
    /// Those that stand by for this provider.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn fallback_candidates(&self, provider: ProviderId) -> Result<FallbackCandidates, StoreError> {
        let Some(primary) = self.store.provider(provider).await? else {
            return Ok(FallbackCandidates { primary: None, fallbacks: Vec::new() });
        };
        let fallbacks = self.load_fallbacks(&primary).await?.iter().map(provider_facts).collect();
        Ok(FallbackCandidates { primary: Some(provider_facts(&primary)), fallbacks })
    }

    /// Asks a provider that is down, and at which nobody orders meanwhile, whether it is back.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn probe_provider(&self, provider: ProviderId, server: &ServerUrl) -> Result<(), StoreError> {
        let Err(error) = self.acme.probe(server).await else {
            if self.store.record_recovery(provider, RecoveryEvidence::Nonce).await? {
                tracing::info!(%provider, "the provider answers again");
            }
            return Ok(());
        };
        let not_before = error.disposition().not_before();
        let failure =
            Failure { disposition: Disposition::ProviderDown { not_before }, message: error.to_string().into() };
        self.store.record_provider_failure(provider, None, &failure, self.randomness.fraction()).await?;
        Ok(())
    }

    /// The provider for a new attempt.
    pub(super) async fn choose_provider(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
    ) -> Result<ChosenProvider, AttemptError> {
        let (primary, fallbacks) = self.load_providers(subject).await?;
        let last_tried = match fallbacks.as_slice() {
            [] => None,
            _ => self.store.last_tried_provider(subject.id).await?,
        };
        match self.choose_fallback(tenure, subject, &primary, fallbacks, last_tried).await? {
            Some(Fallback { provider, profile, reason: why }) => {
                tracing::warn!(provider = %provider.id, server = %provider.server, "a fallback is asked: {why}");
                Ok(ChosenProvider { provider: provider.id, profile })
            }
            None => Ok(primary_choice(subject, primary)),
        }
    }

    /// Ends an open attempt whose provider is not to be asked any more, and says who is asked instead. What a CA has
    /// perhaps begun to issue is carried to its end, and so is what a fallback has taken while it stands by. One that has
    /// not taken the order, for its limits or any failure, had its turn.
    pub(super) async fn change_provider(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        attempt: &Attempt,
    ) -> Result<Option<ChosenProvider>, AttemptError> {
        if attempt.stage.kind() >= StageKind::Finalizing {
            return Ok(None);
        }
        let (primary, fallbacks) = self.load_providers(subject).await?;
        let stands_by = |fallback: &Provider| fallback.id == attempt.provider && fallback.down_since.is_none();
        if attempt.stage.kind() > StageKind::Planned && fallbacks.iter().any(stands_by) {
            return Ok(None);
        }
        let fallback = self.choose_fallback(tenure, subject, &primary, fallbacks, Some(attempt.provider)).await?;
        let (server, why, chosen) = match fallback {
            Some(Fallback { provider, .. }) if provider.id == attempt.provider => return Ok(None),
            Some(Fallback { provider, profile, reason: why }) => {
                (provider.server, why.to_string(), ChosenProvider { provider: provider.id, profile })
            }
            None if attempt.provider == primary.id => return Ok(None),
            None => {
                let why = "the usual provider is asked again".to_owned();
                (primary.server.clone(), why, primary_choice(subject, primary))
            }
        };
        let words = format!("changed over to {server}: {why}");
        tracing::warn!(attempt = %attempt.id, provider = %chosen.provider, "{words}");
        let (now, before) = (self.clock.now(), subject.standing.failure_streak.as_ref());
        let failures = before.map_or(1, |trouble| trouble.failures);
        let trouble = FailureStreak { failures, last: Failure::restart(words), at: now, next_try: now };
        tenure.ensure_held().await?;
        self.store.end_attempt(tenure.lease(), attempt.id, &trouble).await?;
        Ok(Some(chosen))
    }

    /// Whether others stand by for the provider of an auto-certificate.
    pub(super) async fn has_fallback(&self, subject: &AutoCertificate) -> Result<bool, AttemptError> {
        let provider = self.store.provider(subject.provider).await?;
        Ok(provider.is_some_and(|provider| !provider.fallbacks.is_empty()))
    }

    /// The provider of an auto-certificate, and those that stand by for it.
    async fn load_providers(&self, subject: &AutoCertificate) -> Result<(Provider, Vec<Provider>), AttemptError> {
        let primary = self.store.provider(subject.provider).await?.ok_or(AttemptError::Deleted)?;
        let fallbacks = self.load_fallbacks(&primary).await?;
        Ok((primary, fallbacks))
    }

    /// The fallbacks of a provider that are there, and whose account nobody had deactivated.
    async fn load_fallbacks(&self, primary: &Provider) -> Result<Vec<Provider>, StoreError> {
        let mut fallbacks = Vec::with_capacity(primary.fallbacks.len());
        for id in &primary.fallbacks {
            let fallback = self.store.ok_unless_damaged(self.store.provider(*id).await)?.flatten();
            fallbacks.extend(fallback.filter(|fallback| !fallback.is_deactivated()));
        }
        Ok(fallbacks)
    }

    /// The fallback that is to be asked in place of the primary provider, where one is and may issue.
    async fn choose_fallback(
        &self,
        tenure: &HeldLease,
        subject: &AutoCertificate,
        primary: &Provider,
        mut fallbacks: Vec<Provider>,
        last_tried: Option<ProviderId>,
    ) -> Result<Option<Fallback>, AttemptError> {
        let standing = &subject.standing;
        let history =
            ProviderHistory { newest: standing.newest, has_failed: standing.failure_streak.is_some(), last_tried };
        let mut passed_over = false;
        loop {
            let facts: Vec<ProviderFacts> = fallbacks.iter().map(provider_facts).collect();
            let choice = choose_provider(&provider_facts(primary), &facts, &history, self.clock.now());
            let at = facts.iter().position(|fallback| fallback.id == choice.provider);
            let Some((at, why)) = at.zip(choice.reason) else {
                // It came here past the breaker, as one that another provider would be asked for.
                let holds = passed_over && primary.down_since.is_some() && !standing.renewal_requested;
                let until = self.clock.now() + RECHECK_INTERVAL;
                return if holds {
                    Err(AttemptError::Deferred(Deferral { until, cause: DeferralCause::ProviderDown }))
                } else {
                    Ok(None)
                };
            };
            let provider = fallbacks.remove(at);
            let examined = tenure
                .run_while_held(async { Ok::<_, AttemptError>(self.check_fallback(&provider, subject).await) })
                .await?;
            match examined {
                Ok(profile) => return Ok(Some(Fallback { provider, profile, reason: why })),
                Err(failure) => {
                    passed_over = true;
                    tracing::warn!(provider = %provider.id, server = %provider.server, "a fallback is passed over: {failure}");
                }
            }
        }
    }

    /// Whether a fallback may issue for every name; the profile to order there.
    async fn check_fallback(&self, fallback: &Provider, subject: &AutoCertificate) -> Result<Option<Profile>, Failure> {
        let identities = self.accounts.acme().caa_identities(&fallback.server).await?;
        for name in &subject.names_to_order() {
            let account = fallback.account_url.as_deref();
            let request = CaaRequest { name, identities: &identities, account, method: VALIDATION_METHOD };
            check_issuance(&self.caa.find_relevant(name).await?, &request)
                .map_err(|forbidden| Failure::operator(forbidden.to_string()))?;
        }
        let offered = self.accounts.acme().profiles(&fallback.server).await?;
        // The auto-certificate names a profile of its own provider, which another CA need not know.
        let own = subject.profile.as_ref().filter(|own| offered.iter().any(|name| name == own.as_str()));
        Ok(own.or(fallback.profile.as_ref()).cloned())
    }
}

fn primary_choice(subject: &AutoCertificate, primary: Provider) -> ChosenProvider {
    ChosenProvider { provider: primary.id, profile: subject.profile.clone().or(primary.profile) }
}

const fn provider_facts(provider: &Provider) -> ProviderFacts {
    ProviderFacts { id: provider.id, down_since: provider.down_since }
}

const RECHECK_INTERVAL: Duration = Duration::minutes(30);
/// How control of names is proven, as CAA records name it (RFC 8657 section 4).
const VALIDATION_METHOD: &str = "dns-01";
