//! Revocation by the account that ordered the certificate, RFC 8555 section 7.6.

use instant_acme::RevocationRequest;
use rustls_pki_types::CertificateDer;

use crate::acme::error::AcmeError;
use crate::acme::nonce::past_bad_nonces;
use crate::acme::order::AcmeAccount;
use crate::acme::problem::{AcmeStep, ProblemKind};
use crate::domain::certificate::revocation::RevocationReason;

impl AcmeAccount {
    /// Has a certificate revoked. One that is revoked already is as it should be.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached.
    pub async fn revoke(&self, certificate: &CertificateDer<'_>, reason: RevocationReason) -> Result<(), AcmeError> {
        let (account, _) = self.connect().await?;
        let request = RevocationRequest { certificate, reason: Some(to_instant_acme(reason)) };
        let revoked = past_bad_nonces!(
            account.revoke(&request).await.map_err(|error| AcmeError::from_instant_acme(AcmeStep::Revocation, error))
        );
        match revoked {
            Err(error) if error.kind() == Some(ProblemKind::AlreadyRevoked) => Ok(()),
            revoked => revoked,
        }
    }
}

const fn to_instant_acme(reason: RevocationReason) -> instant_acme::RevocationReason {
    match reason {
        RevocationReason::Unspecified => instant_acme::RevocationReason::Unspecified,
        RevocationReason::KeyCompromise => instant_acme::RevocationReason::KeyCompromise,
        RevocationReason::AffiliationChanged => instant_acme::RevocationReason::AffiliationChanged,
        RevocationReason::Superseded => instant_acme::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => instant_acme::RevocationReason::CessationOfOperation,
    }
}
