//! What another tool did until now, taken over: its provider with the account, the wish, and the certificate that is in
//! use, as one that was issued for the wish. Taken over again it changes nothing, unless the certificate is newer.

use crate::store::database::Transaction;

use crate::domain::certificate::NewCertificate;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::renewal::auto_certificate::NewAutoCertificate;
use crate::domain::value::email::Email;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::name::{DnsName, RequestedName};
use crate::domain::value::resource::{Actor, ResourceName};
use crate::domain::value::server_url::ServerUrl;
use crate::store::auto_certificate::auto_certificates::TABLE;
use crate::store::certificate::certificates::CertificateSource;
use crate::store::database::row::RowReader;
use crate::store::provider::providers;
use crate::store::{RegisteredAccount, Store, StoreError, provider::accounts};

/// What is to be taken over.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The auto-certificate's name, by which it is known again.
    pub name: ResourceName,
    /// The main name.
    pub common_name: RequestedName,
    /// Further names.
    pub subject_alternative_names: Vec<RequestedName>,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Who shall issue.
    pub server: ServerUrl,
    /// The contact; without one, a provider must be there already.
    pub email: Option<Email>,
    /// The account for a provider that is made for this.
    pub account: Option<RegisteredAccount>,
    /// The certificate in use; none where it is of no use any more.
    pub certificate: Option<NewCertificate>,
}

impl Takeover {
    fn to_new_auto_certificate(&self, provider: ProviderId) -> NewAutoCertificate {
        NewAutoCertificate {
            name: self.name.clone(),
            provider,
            common_name: self.common_name.clone(),
            key_algorithm: self.key_algorithm,
            subject_alternative_names: self.subject_alternative_names.clone(),
            profile: None,
        }
    }
}

/// What became of a takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeoverOutcome {
    /// It is there now.
    Created {
        /// The auto-certificate.
        auto_certificate: AutoCertificateId,
        /// Its provider.
        provider: TakeoverProvider,
    },
    /// It was there, and has a newer certificate now.
    Newer(AutoCertificateId),
    /// It was there, with this certificate or a newer one.
    AlreadyPresent(AutoCertificateId),
    /// An auto-certificate of the same name is there for other names.
    OtherNames(AutoCertificateId),
    /// Nobody says whom the CA shall write to, and the store knows no provider, or several, at this server.
    NoContact,
    /// As many auto-certificates as allowed are there already.
    LimitReached,
    /// The private key of its certificate was reported as compromised.
    CompromisedKey,
}

/// The provider of something that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeoverProvider {
    /// Its identity.
    pub id: ProviderId,
    /// Whether it was made for this.
    pub made: bool,
    /// Its account's URL, where it has one.
    pub account_url: Option<String>,
}

impl Store {
    /// Takes one over, all in one transaction. A provider with the same server and contact is used again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn take_over(&self, wanted: &Takeover, by: &Actor, limit: u32) -> Result<TakeoverOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let taken = self.take_over_in(&mut transaction, wanted, by, limit).await?;
        transaction.commit().await?;
        Ok(taken)
    }

    /// What taking over each of them, one after the other, would come to. Nothing of it is kept.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn dry_run_takeovers(
        &self,
        wanted: &[&Takeover],
        by: &Actor,
        limit: u32,
    ) -> Result<Vec<TakeoverOutcome>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut taken = Vec::with_capacity(wanted.len());
        for one in wanted {
            taken.push(self.take_over_in(&mut transaction, one, by, limit).await?);
        }
        transaction.rollback().await?;
        Ok(taken)
    }

    async fn take_over_in(
        &self,
        transaction: &mut Transaction,
        wanted: &Takeover,
        by: &Actor,
        limit: u32,
    ) -> Result<TakeoverOutcome, StoreError> {
        // Keeps out whoever makes an auto-certificate or deletes a provider.
        self.lock_auto_certificates(transaction).await?;
        if let Some(certificate) = &wanted.certificate {
            match self.refuse_compromised(transaction, &certificate.leaf).await {
                Err(StoreError::CompromisedKey) => return Ok(TakeoverOutcome::CompromisedKey),
                allowed => allowed?,
            }
        }
        if let Some(present) = self.find_existing(transaction, wanted).await? {
            return self.update_existing(transaction, wanted, present, by).await;
        }
        if self.count_made_by_clients(transaction, TABLE).await? >= u64::from(limit) {
            return Ok(TakeoverOutcome::LimitReached);
        }
        let Some(provider) = self.find_or_create_provider(transaction, wanted, by).await? else {
            return Ok(TakeoverOutcome::NoContact);
        };
        // The plan looks at it at once, and goes on from the certificate that it has.
        let auto_certificate =
            self.insert_auto_certificate(transaction, &wanted.to_new_auto_certificate(provider.id), by).await?;
        if let Some(certificate) = &wanted.certificate {
            self.insert_newest_certificate(transaction, auto_certificate, wanted.common_name.sent(), certificate, by)
                .await?;
        }
        Ok(TakeoverOutcome::Created { auto_certificate, provider })
    }

    /// The auto-certificate of this name.
    async fn find_existing(
        &self,
        transaction: &mut Transaction,
        wanted: &Takeover,
    ) -> Result<Option<ExistingAutoCertificate>, StoreError> {
        let rows = self.query(BY_NAME).bind(wanted.name.to_string()).fetch_all(&mut **transaction).await?;
        let mut others = None;
        for row in &rows {
            let record = RowReader::new(row, TABLE);
            let common_name: RequestedName = record.parsed("common_name")?;
            let names = record.texts::<RequestedName>("subject_alternative_names")?;
            let same_names = sorted_names(&common_name, &names)
                == sorted_names(&wanted.common_name, &wanted.subject_alternative_names);
            let present = ExistingAutoCertificate { id: record.parsed("id")?, common_name, same_names };
            if present.same_names {
                return Ok(Some(present));
            }
            others = Some(present);
        }
        Ok(others)
    }

    /// Adds the certificate to an auto-certificate that is there, where it is newer than what that has.
    async fn update_existing(
        &self,
        transaction: &mut Transaction,
        wanted: &Takeover,
        present: ExistingAutoCertificate,
        by: &Actor,
    ) -> Result<TakeoverOutcome, StoreError> {
        if !present.same_names {
            return Ok(TakeoverOutcome::OtherNames(present.id));
        }
        let Some(certificate) = &wanted.certificate else { return Ok(TakeoverOutcome::AlreadyPresent(present.id)) };
        let newest = self.query(NEWEST).bind(present.id.to_string()).fetch_optional(&mut **transaction).await?;
        if let Some(newest) = newest {
            let record = RowReader::new(&newest, "certificates");
            let pem = record.text("certificate")?;
            let newest = Leaf::from_pem(&pem).map_err(|error| record.corrupt("certificate", error))?;
            if newest.not_before >= certificate.leaf.not_before {
                return Ok(TakeoverOutcome::AlreadyPresent(present.id));
            }
        }
        self.insert_newest_certificate(transaction, present.id, present.common_name.sent(), certificate, by).await?;
        Ok(TakeoverOutcome::Newer(present.id))
    }

    /// The provider with this server and contact, made where there is none.
    async fn find_or_create_provider(
        &self,
        transaction: &mut Transaction,
        wanted: &Takeover,
        by: &Actor,
    ) -> Result<Option<TakeoverProvider>, StoreError> {
        let server = wanted.server.to_string();
        let rows = self.query(PROVIDERS_BY_SERVER).bind(server.clone()).fetch_all(&mut **transaction).await?;
        let mut found = Vec::new();
        for row in &rows {
            let record = RowReader::new(row, providers::TABLE);
            let email: Email = record.parsed("email")?;
            if wanted.email.as_ref().is_none_or(|wanted| *wanted == email) {
                let account_url = record.optional_text("account_url")?;
                found.push(TakeoverProvider { id: record.parsed("id")?, made: false, account_url });
            }
        }
        let Some(email) = &wanted.email else {
            return Ok(if found.len() == 1 { found.pop() } else { None });
        };
        if !found.is_empty() {
            return Ok(Some(found.swap_remove(0)));
        }
        let id = ProviderId::from(self.0.randomness.uuid());
        let account = wanted.account.as_ref();
        let place = id.to_string();
        let sealed = account
            .map(|account| self.0.keys.seal(accounts::credentials_location(&place), &account.credentials))
            .transpose()?;
        let account_url = account.map(|account| account.url.clone());
        let now = self.now().micros();
        self.query(INSERT_PROVIDER)
            .bind(id.to_string())
            .bind(provider_name(&server, email))
            .bind(email.to_string())
            .bind(server)
            .bind(account_url.clone())
            .bind(sealed)
            // An account that is there needs no registration.
            .bind(account.is_none().then_some(now))
            .bind(now)
            .bind(by.name.clone())
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        Ok(Some(TakeoverProvider { id, made: true, account_url }))
    }

    /// Stores a certificate as the newest one of an auto-certificate.
    async fn insert_newest_certificate(
        &self,
        transaction: &mut Transaction,
        auto_certificate: AutoCertificateId,
        common_name: &str,
        certificate: &NewCertificate,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let created = now.max(self.next_creation_moment(transaction, auto_certificate).await?);
        let source = CertificateSource { auto_certificate: Some(auto_certificate), provider: None, common_name };
        self.insert_certificate(transaction, certificate, source, by, created).await?;
        self.query(RECORD_ISSUED)
            .bind(auto_certificate.to_string())
            .bind(certificate.leaf.not_before.min(now).micros())
            .bind(now.micros())
            .execute(&mut **transaction)
            .await?;
        self.wake_deliveries(transaction, auto_certificate).await
    }
}

/// An auto-certificate that is there already.
struct ExistingAutoCertificate {
    id: AutoCertificateId,
    common_name: RequestedName,
    same_names: bool,
}

fn sorted_names<'a>(common_name: &'a RequestedName, others: &'a [RequestedName]) -> Vec<&'a DnsName> {
    let mut names: Vec<&DnsName> = std::iter::once(common_name).chain(others).map(RequestedName::name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The server's host, and the contact, which tell providers apart.
fn provider_name(server: &str, email: &Email) -> String {
    let host = server.split("://").last().and_then(|rest| rest.split('/').next()).unwrap_or(server);
    let name = format!("{host} {email}");
    name.parse::<ResourceName>().map_or_else(|_| email.to_string(), |name| name.to_string())
}

const BY_NAME: &str = "\
    SELECT id, common_name, subject_alternative_names FROM auto_certificates \
    WHERE name = $1 AND deleted_at IS NULL ORDER BY created_at, id";
const NEWEST: &str = "\
    SELECT id, certificate FROM certificates WHERE auto_certificate_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1";
/// A takeover is rare, and providers are few.
const PROVIDERS_BY_SERVER: &str =
    "SELECT id, email, account_url FROM providers WHERE server = $1 ORDER BY created_at, id";
const INSERT_PROVIDER: &str = "\
    INSERT INTO providers (id, name, email, server, account_url, account_credentials, next_look, lease_epoch, \
    created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $8, $9, $10)";
const RECORD_ISSUED: &str = "\
    UPDATE auto_certificates SET last_issued = $2, trouble = NULL, next_look = $3, wakes = wakes + 1 WHERE id = $1";
