//! Asking when to renew, and what is replaced (RFC 9773): the certificate's own CA is asked, and the answer is kept with
//! the certificate.

use crate::domain::certificate::leaf::Leaf;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::renewal_info::{CertId, RenewalInfo, RenewalInfoAnswer};
use crate::domain::value::id::ProviderId;
use crate::domain::value::name::DnsName;
use crate::issuance::{AttemptError, HeldLease, Issuance};

impl Issuance {
    /// Asks the CA when it would like the newest certificate to be renewed, and keeps what comes of it.
    ///
    /// # Errors
    /// Where the work must stop. That the CA gives no answer is no error: it is kept, and the plan goes on without.
    pub async fn ask_renewal_info(&self, tenure: &HeldLease, subject: &AutoCertificate) -> Result<(), AttemptError> {
        let Some(newest) = self.store.newest_issued(subject.id).await? else { return Ok(()) };
        tenure.ensure_held().await?;
        let known = subject.standing.renewal_info.as_ref();
        let answer = match (CertId::from_pem(&newest.certificate), newest.server) {
            (Some(id), Some(server)) => {
                tenure
                    .run_while_held(async { Ok::<_, AttemptError>(self.acme.renewal_info(&server, &id).await) })
                    .await?
            }
            _ => RenewalInfoAnswer::NotOffered,
        };
        let info = RenewalInfo::after(known, answer, self.clock.now(), self.randomness.fraction());
        log_renewal_info(known, &info);
        Ok(self.store.store_renewal_info(tenure.lease(), newest.id, &info).await?)
    }

    /// The certificate that an order at `provider` replaces (RFC 9773 section 5): the newest one, where the same CA issued
    /// it for the same names. One that was carried in may be unknown to the CA all the same, which it then says.
    pub(super) async fn certificate_to_replace(
        &self,
        subject: &AutoCertificate,
        provider: ProviderId,
    ) -> Result<Option<CertId>, AttemptError> {
        // An older version did not write down who issued, and the provider may be what was changed.
        if subject.standing.intent_changed {
            return Ok(None);
        }
        let (newest, provider) = (self.store.newest_issued(subject.id).await?, self.store.provider(provider).await?);
        let (Some(newest), Some(provider)) = (newest, provider) else { return Ok(None) };
        let same =
            newest.server == Some(provider.server) && covers_names(&newest.certificate, &subject.names_to_order());
        Ok(CertId::from_pem(&newest.certificate).filter(|_| same))
    }
}

/// Whether a certificate (PEM) serves every name, expired or not.
fn covers_names(certificate: &str, names: &[DnsName]) -> bool {
    Leaf::from_pem(certificate).is_ok_and(|leaf| leaf.check_covers(names, leaf.not_before).is_ok())
}

fn log_renewal_info(known: Option<&RenewalInfo>, info: &RenewalInfo) {
    let before = known.and_then(|info| info.suggestion.as_ref());
    if let Some(problem) = &info.problem {
        tracing::warn!(ask_at = %info.ask_at, failures = info.failures, "the CA does not say when to renew: {problem}");
    }
    if let Some(suggestion) = info.suggestion.as_ref().filter(|suggestion| before != Some(suggestion)) {
        let (window, page) = (suggestion.window, suggestion.explanation_url.as_deref().unwrap_or_default());
        tracing::info!(
            start = %window.start(), end = %window.end(), moment = %suggestion.moment, explanation = page,
            "the CA suggests when to renew"
        );
    }
}
