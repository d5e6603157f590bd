//! What CAs say about the renewal of certificates, kept with each certificate.

use crate::domain::renewal::renewal_info::RenewalInfo;
use crate::domain::value::id::{AutoCertificateId, CertificateId};
use crate::domain::value::server_url::ServerUrl;
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{AutoCertificateLease, Store, StoreError};

/// The newest certificate that was issued for an auto-certificate, as its CA knows it.
#[derive(Clone, Debug)]
pub struct NewestIssuedCertificate {
    /// Its identity.
    pub id: CertificateId,
    /// The certificate, PEM.
    pub certificate: String,
    /// The directory of the CA that issued it; absent where its provider is deleted.
    pub server: Option<ServerUrl>,
}

impl Store {
    /// The newest certificate that was issued for it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn newest_issued(&self, id: AutoCertificateId) -> Result<Option<NewestIssuedCertificate>, StoreError> {
        let Some(row) = self.query(NEWEST).bind(id.to_string()).fetch_optional(&self.0.pool).await? else {
            return Ok(None);
        };
        let record = RowReader::new(&row, "certificates");
        // The settings may have changed since; the transport refuses plain HTTP where it is no longer allowed.
        let server = record.optional_text("server")?.map(|server| ServerUrl::from_stored(&server));
        Ok(Some(NewestIssuedCertificate {
            id: record.parsed("id")?,
            certificate: record.text("certificate")?,
            server: server.transpose().map_err(|error| record.corrupt("server", error))?,
        }))
    }

    /// Keeps what the CA says about the renewal of a certificate of the leased auto-certificate.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_renewal_info(
        &self,
        lease: &AutoCertificateLease,
        certificate: CertificateId,
        info: &RenewalInfo,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.query(
            "UPDATE certificates SET renewal_info = $3, ask_anew = 0 WHERE id = $1 AND auto_certificate_id = $2",
        )
        .bind(certificate.to_string())
        .bind(lease.id.to_string())
        .bind(documents::renewal_info::renewal_info_to_json(info))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

pub(in crate::store) const NEWEST: &str = "\
    SELECT c.id, c.certificate, COALESCE(c.server, p.server) AS server FROM certificates c \
    JOIN auto_certificates a ON a.id = c.auto_certificate_id \
    LEFT JOIN providers p ON p.id = COALESCE(c.provider_id, a.provider_id) \
    WHERE c.auto_certificate_id = $1 ORDER BY c.created_at DESC, c.id DESC LIMIT 1";
