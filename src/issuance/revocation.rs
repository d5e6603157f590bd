//! Revocation of an issued certificate with the account that ordered it (RFC 8555 section 7.6). The wish is stored by
//! then; told twice, the CA says that it is revoked already, which is as good.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::domain::certificate::revocation::Revocation;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Failure;
use crate::issuance::{AttemptError, Issuance};
use crate::store::{LEASE_DURATION, RevocationClaim, StoreError};

impl Issuance {
    /// Carries out a revocation that was claimed, and writes down how that went; gives how it stands by then.
    ///
    /// # Errors
    /// Where the store fails. What the CA refuses, or does not hear, is no error: it is tried again.
    pub async fn revoke(&self, claim: &RevocationClaim) -> Result<Revocation, StoreError> {
        let serial = &claim.leaf.serial_number;
        let within_the_claim = timeout(LEASE_DURATION * 3 / 4, self.send_revocation(claim)).await;
        let failure = match within_the_claim {
            Ok(Ok(())) => {
                let revocation = self.store.record_revocation_done(claim, self.clock.now()).await?;
                tracing::info!(certificate = %claim.certificate, serial, reason = %revocation.reason, "certificate revoked");
                return Ok(revocation);
            }
            Ok(Err(AttemptError::Store(error))) => return Err(error),
            Ok(Err(AttemptError::Failed(failure))) => failure,
            Ok(Err(stop)) => Failure::retry(stop.to_string()),
            Err(_) => Failure::retry("the CA took too long over the revocation; it is tried again"),
        };
        let (now, jitter) = (self.clock.now(), self.randomness.fraction());
        let expiry = Some(claim.leaf.not_after);
        let trouble = FailureStreak::after(claim.revocation.failure_streak.as_ref(), failure, now, expiry, jitter);
        let revocation = self.store.record_revocation_failure_streak(claim, trouble).await?;
        tracing::warn!(certificate = %claim.certificate, serial, "the certificate is not revoked yet: {revocation}");
        Ok(revocation)
    }

    async fn send_revocation(&self, claim: &RevocationClaim) -> Result<(), AttemptError> {
        let provider = claim.provider.ok_or_else(|| Failure::operator(UNKNOWN_PROVIDER))?;
        let account = self.accounts.load_registered(provider).await?;
        let certificate = CertificateDer::from_pem_slice(claim.pem.as_bytes())
            .map_err(|error| Failure::operator(format!("the stored certificate cannot be read: {error}")))?;
        Ok(account.revoke(&certificate, claim.revocation.reason).await?)
    }
}

const UNKNOWN_PROVIDER: &str =
    "nobody knows by now which provider issued the certificate; revoke it with its private key by another ACME client";
