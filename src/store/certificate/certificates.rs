//! Certificates, uploaded and issued.

use crate::store::database::Transaction;
use secrecy::SecretString;
use sqlx::any::AnyRow;
use time::Duration;

use crate::domain::certificate::chain::normalize_issued_pem;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::certificate::{Certificate, CertificateOrigin, NewCertificate};
use crate::domain::report::state::ResourceState;
use crate::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::normalize_common_name;
use crate::domain::value::resource::{Actor, ResourceName};
use crate::store::database::listing::{Conditions, ID_PLACEHOLDERS, ListedTable};
use crate::store::database::renaming::Renaming;
use crate::store::database::row::RowReader;
use crate::store::sealing::seal::SealedLocation;
use crate::store::{Listing, Page, PageRows, Store, StoreError};

/// Which certificates a list is about: those that meet every condition. One without values is met by all.
#[derive(Clone, Debug, Default)]
pub struct CertificateFilter {
    /// Those of one of these common names, in any case, in U-label or A-label form.
    pub common_names: Vec<String>,
    /// Those of one of these names.
    pub names: Vec<String>,
    /// Those that were issued for one of these auto-certificates.
    pub auto_certificates: Vec<AutoCertificateId>,
    /// Those that are in one of these states: a certificate is always available.
    pub states: Vec<ResourceState>,
}

impl Store {
    /// Stores a certificate that a person gave, however many there are.
    ///
    /// # Errors
    /// [`StoreError::CompromisedKey`], or where the database fails.
    pub async fn upload_certificate(&self, new: &NewCertificate, by: &Actor) -> Result<Certificate, StoreError> {
        let mut transaction = self.begin().await?;
        let uploaded = self.insert_upload(&mut transaction, new, by).await?;
        transaction.commit().await?;
        Ok(uploaded)
    }

    /// Stores a certificate that a person gave; nothing where `limit` of them are there already.
    ///
    /// # Errors
    /// [`StoreError::CompromisedKey`], or where the database fails.
    pub async fn upload_certificate_within(
        &self,
        new: &NewCertificate,
        by: &Actor,
        limit: u32,
    ) -> Result<Option<Certificate>, StoreError> {
        let mut transaction = self.begin().await?;
        let uploaded = self.insert_upload(&mut transaction, new, by).await?;
        if self.count_made_by_clients(&mut transaction, TABLE).await? > u64::from(limit) {
            return Ok(None);
        }
        transaction.commit().await?;
        Ok(Some(uploaded))
    }

    /// The certificate of this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate(&self, id: CertificateId) -> Result<Option<Certificate>, StoreError> {
        let row = self.query(GET).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// The private key of a certificate, PEM.
    ///
    /// # Errors
    /// Where the database fails or the key cannot be opened.
    pub async fn certificate_private_key(&self, id: CertificateId) -> Result<Option<SecretString>, StoreError> {
        let id = id.to_string();
        let row = self
            .query("SELECT id, private_key FROM certificates WHERE id = $1")
            .bind(id.clone())
            .fetch_optional(&self.0.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed = RowReader::new(&row, TABLE).bytes("private_key")?;
        Ok(Some(self.0.keys.open(private_key_location(&id), &sealed)?))
    }

    /// A page of certificates: of those with this common name, and of those issued for this auto-certificate, where
    /// they are given.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificates(
        &self,
        page: Page,
        common_name: Option<&str>,
        auto_certificate: Option<AutoCertificateId>,
    ) -> Result<Listing<Certificate>, StoreError> {
        let filter = CertificateFilter {
            common_names: common_name.map(ToOwned::to_owned).into_iter().collect(),
            auto_certificates: auto_certificate.into_iter().collect(),
            ..CertificateFilter::default()
        };
        let found = self.certificate_page(page, &filter).await?;
        let items = self.skip_damaged(self.certificates_by_id(&found.ids()).await?)?;
        Ok(Listing { items, has_more: found.has_more })
    }

    /// Which certificates a page has.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate_page(
        &self,
        page: Page,
        filter: &CertificateFilter,
    ) -> Result<PageRows<CertificateId>, StoreError> {
        self.page_rows(&LISTED, filter.conditions(), page).await
    }

    /// Those of these certificates that are still there, in the order of a page. A damaged row is an error of its own.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificates_by_id(
        &self,
        ids: &[CertificateId],
    ) -> Result<Vec<Result<Certificate, StoreError>>, StoreError> {
        self.rows_by_id(&list_sql(), ids, read).await
    }

    /// Gives a certificate another name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn rename_certificate(
        &self,
        id: CertificateId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<Certificate>, StoreError> {
        self.rename(
            Renaming { rename: RENAME, declarable: None, get: GET.to_owned(), follow_up: None, read },
            id.to_string(),
            name,
            by,
        )
        .await
    }

    /// Deletes a certificate with its private key. The auto-certificate of an issued one is looked at at once: it has
    /// an older one now, or none. `false` where there is none.
    ///
    /// # Errors
    /// [`StoreError::RevocationPending`], or where the database fails.
    pub async fn delete_certificate(&self, id: CertificateId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let row = self.query(DELETE).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else {
            let left = self.query(CERTIFICATE_EXISTS).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
            return if left.is_some() { Err(StoreError::RevocationPending) } else { Ok(false) };
        };
        if let Some(auto_certificate) = RowReader::new(&row, TABLE).optional_text("auto_certificate_id")? {
            self.query(WAKE).bind(auto_certificate).bind(self.now().micros()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes the issued certificates that expired 30 days before `now`, and says how many: never the newest one of an
    /// auto-certificate that is not deleted, whatever the clock says. What counts against no limit any more goes with them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_expired(&self, now: Moment) -> Result<u64, StoreError> {
        self.forget_recovered(now).await?;
        // A trigger locks the auto-certificate after its certificate; whoever stores a new certificate does the reverse.
        let removed = self.retry_deadlocks(|| {
            let remove = self.query(REMOVE_EXPIRED).bind((now - RETENTION_AFTER_EXPIRY).micros());
            Box::pin(async move { Ok(remove.execute(&self.0.pool).await?) })
        });
        Ok(removed.await?.rows_affected())
    }
}

/// Where a new certificate comes from.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct CertificateSource<'a> {
    /// What it was issued for.
    pub(in crate::store) auto_certificate: Option<AutoCertificateId>,
    /// Who issued it; nothing where that is not known.
    pub(in crate::store) provider: Option<ProviderId>,
    /// The common name by which it is found.
    pub(in crate::store) common_name: &'a str,
}

impl Store {
    async fn insert_upload(
        &self,
        transaction: &mut Transaction,
        new: &NewCertificate,
        by: &Actor,
    ) -> Result<Certificate, StoreError> {
        let source = CertificateSource { auto_certificate: None, provider: None, common_name: &new.leaf.common_name };
        let id = self.insert_certificate(transaction, new, source, by, self.now()).await?;
        read(&self.query(GET).bind(id.to_string()).fetch_one(&mut **transaction).await?)
    }

    /// Stores a certificate as part of a transaction; [`StoreError::CompromisedKey`] where its key is not to be used.
    pub(in crate::store) async fn insert_certificate(
        &self,
        transaction: &mut Transaction,
        new: &NewCertificate,
        source: CertificateSource<'_>,
        by: &Actor,
        now: Moment,
    ) -> Result<CertificateId, StoreError> {
        self.refuse_compromised(transaction, &new.leaf).await?;
        let id = CertificateId::from(self.0.randomness.uuid());
        let sealed = self.0.keys.seal(private_key_location(&id.to_string()), &new.private_key)?;
        self.query(INSERT)
            .bind(id.to_string())
            .bind(new.name.to_string())
            .bind(source.auto_certificate.map(|id| id.to_string()))
            .bind(source.provider.map(|id| id.to_string()))
            .bind(source.common_name.to_owned())
            .bind(normalize_common_name(source.common_name))
            .bind(new.certificate.clone())
            .bind(new.chain.clone())
            .bind(sealed)
            .bind(new.leaf.not_before.micros())
            .bind(new.leaf.not_after.micros())
            .bind(now.micros())
            .bind(by.name.clone())
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        Ok(id)
    }
}

fn read(row: &AnyRow) -> Result<Certificate, StoreError> {
    let record = RowReader::new(row, TABLE);
    let certificate = record.text("certificate")?;
    let leaf = Leaf::from_pem(&certificate).map_err(|error| record.corrupt("certificate", error))?;
    let issued = record.optional_parsed("auto_certificate_id")?.zip(record.optional_parsed("newest_id")?);
    let chain = record.text("chain")?;
    // What was uploaded is echoed as it was sent.
    let (certificate, chain) =
        if issued.is_some() { normalize_issued_pem(&certificate, &chain) } else { (certificate, chain) };
    Ok(Certificate {
        id: record.parsed("id")?,
        name: record.name("name")?,
        origin: issued.map_or(CertificateOrigin::Uploaded, |(auto_certificate, newest)| CertificateOrigin::Issued {
            auto_certificate,
            newest,
        }),
        common_name: record.text("common_name")?,
        certificate,
        chain,
        leaf,
        revocation: record.revocation("revocation")?,
        audit: record.audit()?,
    })
}

const fn private_key_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "private_key", row }
}

macro_rules! columns {
    () => {
        "c.id, c.name, c.auto_certificate_id, c.common_name, c.certificate, c.chain, c.revocation, \
         c.created_at, c.created_by, c.created_by_id, c.modified_at, c.modified_by, c.modified_by_id, \
         (SELECT n.id FROM certificates n WHERE n.auto_certificate_id = c.auto_certificate_id \
          ORDER BY n.created_at DESC, n.id DESC LIMIT 1) AS newest_id"
    };
}

/// Those of [`IDS`].
pub(in crate::store) fn list_sql() -> String {
    format!("SELECT {} FROM certificates c WHERE c.id IN {ID_PLACEHOLDERS} ORDER BY c.created_at, c.id", columns!())
}

impl CertificateFilter {
    pub(in crate::store) fn conditions(&self) -> Conditions {
        let conditions = Conditions::default()
            .and_any("auto_certificate_id", self.auto_certificates.iter().map(ToString::to_string))
            .and_any("name", self.names.iter().cloned())
            .and_any("common_name_form", self.common_names.iter().map(|text| normalize_common_name(text)));
        let none = !self.states.is_empty() && !self.states.contains(&ResourceState::Available);
        if none { conditions.and("1 = 0") } else { conditions }
    }
}

pub(in crate::store) const LISTED: ListedTable =
    ListedTable { table: TABLE, present: "", bytes: "octet_length(r.certificate) + octet_length(r.chain)" };
pub(in crate::store) const TABLE: &str = "certificates";
const RETENTION_AFTER_EXPIRY: Duration = Duration::days(30);
pub(in crate::store) const GET: &str = concat!("SELECT ", columns!(), " FROM certificates c WHERE c.id = $1");
const INSERT: &str = "\
    INSERT INTO certificates (id, name, auto_certificate_id, provider_id, server, common_name, common_name_form, \
    certificate, chain, private_key, not_before, not_after, created_at, created_by, created_by_id, modified_at, modified_by, \
    modified_by_id) \
    VALUES ($1, $2, $3, $4, (SELECT p.server FROM providers p WHERE p.id = $4), $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $12, $13, $14)";
const RENAME: &str = "\
    UPDATE certificates SET name = $2, modified_at = $3, modified_by = $4, modified_by_id = $5 WHERE id = $1";
/// What the CA is still to revoke it can be told only with the certificate.
const DELETE: &str =
    "DELETE FROM certificates WHERE id = $1 AND revocation_look IS NULL RETURNING id, auto_certificate_id";
const CERTIFICATE_EXISTS: &str = "SELECT id FROM certificates WHERE id = $1";
const WAKE: &str = "\
    UPDATE auto_certificates SET next_look = $2, wakes = wakes + 1 WHERE id = $1 AND deleted_at IS NULL";
pub(in crate::store) const REMOVE_EXPIRED: &str = "\
    DELETE FROM certificates WHERE id IN (SELECT c.id FROM certificates c \
    WHERE c.auto_certificate_id IS NOT NULL AND c.not_after <= $1 AND NOT EXISTS \
    (SELECT 1 FROM auto_certificates a WHERE a.id = c.auto_certificate_id AND a.deleted_at IS NULL \
    AND c.id = (SELECT n.id FROM certificates n WHERE n.auto_certificate_id = a.id \
    ORDER BY n.created_at DESC, n.id DESC LIMIT 1))@in_order)";
