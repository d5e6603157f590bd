//! What settings declare, brought into the store: all in one transaction, under the lock of auto-certificates, so that a
//! reader sees the settings before or after and nothing between.

use std::collections::HashMap;

use crate::store::database::Transaction;
use sqlx::any::AnyRow;

use crate::domain::declared::{
    ChangeConsequence, DeclaredAutoCertificate, DeclaredChange, DeclaredChanges, DeclaredKey, DeclaredProvider,
    DeclaredResources, ProviderReference, StoredProvider, StoredResource, StoredResources, compare,
};
use crate::domain::failure::disposition::Failure;
use crate::domain::provider::{ExternalAccountBinding, NewProvider};
use crate::domain::renewal::auto_certificate::NewAutoCertificate;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::name::RequestedName;
use crate::domain::value::resource::Actor;
use crate::domain::value::server_url::ServerUrl;
use crate::store::database::row::RowReader;
use crate::store::provider::accounts::deactivated;
use crate::store::provider::providers::eab_key_location;
use crate::store::{Store, StoreError, auto_certificate::auto_certificates, documents, provider::providers};

impl Store {
    /// The key under which the settings declare this provider, or once did.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn declared_key_of_provider(&self, id: ProviderId) -> Result<Option<DeclaredKey>, StoreError> {
        let found = self.query("SELECT id, declared_key FROM providers WHERE id = $1").bind(id.to_string());
        let row = found.fetch_optional(&self.0.pool).await?;
        row.map_or(Ok(None), |row| RowReader::new(&row, "providers").optional_parsed("declared_key"))
    }

    /// The keys under which the settings declare providers, or once did.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn declared_keys_of_providers(&self) -> Result<HashMap<ProviderId, DeclaredKey>, StoreError> {
        let rows = self.query(PROVIDER_KEYS).fetch_all(&self.0.pool).await?;
        let read = |row| {
            let record = RowReader::new(row, "providers");
            Ok((record.parsed("id")?, record.parsed("declared_key")?))
        };
        rows.iter().map(read).collect()
    }

    /// The keys under which the settings declare auto-certificates, or once did, and which these are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn declared_keys(&self) -> Result<Vec<(DeclaredKey, AutoCertificateId)>, StoreError> {
        let rows = self.query(AUTO_CERTIFICATES).fetch_all(&self.0.pool).await?;
        let read = |row: &AnyRow| {
            let record = RowReader::new(row, "auto_certificates");
            Ok((record.parsed("declared_key")?, record.parsed("id")?))
        };
        self.read_undamaged(&rows, read)
    }

    /// Makes what is stored agree with what is declared, and says what had to be done for it: nothing at the second
    /// time. What it is about keeps its id, its history and, at the same server, its account.
    ///
    /// # Errors
    /// [`StoreError::UnknownProvider`], or where the database fails; then nothing was changed.
    pub async fn reconcile<'a>(&self, declared: &'a DeclaredResources) -> Result<DeclaredChanges<'a>, StoreError> {
        // Rows change in the order in which they are declared, which differs from one instance to the next.
        self.retry_deadlocks(|| Box::pin(self.reconcile_once(declared))).await
    }

    async fn reconcile_once<'a>(&self, declared: &'a DeclaredResources) -> Result<DeclaredChanges<'a>, StoreError> {
        let mut transaction = self.begin().await?;
        self.lock_auto_certificates(&mut transaction).await?;
        self.check_providers(&mut transaction, declared).await?;
        let stored = self.load_declared(&mut transaction).await?;
        let changes = compare(declared, &stored);
        if !changes.is_empty() {
            self.apply_changes(&mut transaction, declared, &stored, &changes).await?;
            transaction.commit().await?;
        }
        Ok(changes)
    }
}

impl Store {
    /// A provider that is named by its id was made by the API, and may be gone.
    async fn check_providers(
        &self,
        transaction: &mut Transaction,
        declared: &DeclaredResources,
    ) -> Result<(), StoreError> {
        for wish in &declared.auto_certificates {
            if let ProviderReference::Id(provider) = wish.provider
                && !self.has_provider(transaction, provider).await?
            {
                return Err(StoreError::UnknownProvider { key: wish.key.clone(), provider });
            }
        }
        Ok(())
    }

    async fn load_declared(&self, transaction: &mut Transaction) -> Result<StoredResources, StoreError> {
        let providers = self.query(PROVIDERS).fetch_all(&mut **transaction).await?;
        let auto_certificates = self.query(AUTO_CERTIFICATES).fetch_all(&mut **transaction).await?;
        let in_use = self.query(IN_USE).fetch_all(&mut **transaction).await?;
        let mut stored = StoredResources {
            in_use: self
                .read_undamaged(&in_use, |row| RowReader::new(row, providers::TABLE).parsed("id"))?
                .into_iter()
                .collect(),
            ..StoredResources::default()
        };
        for row in &providers {
            match self.ok_unless_damaged(self.read_provider(row))? {
                Some(provider) => stored.providers.push(provider),
                None => stored.damaged_providers.extend(self.ok_unless_damaged(read_identity(row, providers::TABLE))?),
            }
        }
        for row in &auto_certificates {
            if let Some(auto_certificate) = self.ok_unless_damaged(read_auto_certificate(row))? {
                stored.auto_certificates.push(auto_certificate);
            } else {
                let key = RowReader::new(row, auto_certificates::TABLE).parsed("declared_key");
                stored.damaged_auto_certificates.extend(self.ok_unless_damaged(key)?);
            }
        }
        Ok(stored)
    }

    fn read_provider(&self, row: &AnyRow) -> Result<StoredResource<ProviderId, StoredProvider>, StoreError> {
        let record = RowReader::new(row, providers::TABLE);
        let id = record.text("id")?;
        let server = ServerUrl::from_stored(&record.text("server")?);
        let key_secret = record.optional_bytes("eab_key_secret")?;
        let key_secret = key_secret.map(|sealed| self.0.keys.open(eab_key_location(&id), &sealed)).transpose()?;
        let external_account = record.optional_text("eab_key_id")?.zip(key_secret);
        Ok(StoredResource {
            id: record.parsed("id")?,
            key: record.parsed("declared_key")?,
            declared_by: record.optional_text("declared_by")?,
            properties: StoredProvider {
                provider: NewProvider {
                    name: record.name("name")?,
                    email: record.parsed("email")?,
                    server: server.map_err(|error| record.corrupt("server", error))?,
                    external_account: external_account.map(|(key_id, key_secret)| ExternalAccountBinding {
                        key_id,
                        key_secret: MacKey::from_stored(key_secret),
                    }),
                    profile: record.optional_parsed("profile")?,
                },
                fallbacks: record.texts("fallbacks")?,
            },
        })
    }

    async fn apply_changes(
        &self,
        transaction: &mut Transaction,
        declared: &DeclaredResources,
        stored: &StoredResources,
        changes: &DeclaredChanges<'_>,
    ) -> Result<(), StoreError> {
        let by = declared.instance.as_str();
        let mut ids: HashMap<&DeclaredKey, ProviderId> = stored.provider_ids().collect();
        for change in &changes.providers {
            match change {
                DeclaredChange::Create(wish) => {
                    let id = self.insert_provider(transaction, &wish.provider, &Actor::autocertd()).await?.id;
                    self.write_declaration(transaction, providers::DECLARE, id.to_string(), &wish.key, by).await?;
                    ids.insert(&wish.key, id);
                }
                DeclaredChange::Update { id, declared: to, changed, consequence, .. } => {
                    if !changed.is_empty() {
                        self.update_provider(transaction, *id, to, *consequence).await?;
                    }
                    self.write_declaration(transaction, providers::DECLARE, id.to_string(), &to.key, by).await?;
                }
                DeclaredChange::Undeclare { id, .. } => {
                    self.query(UNDECLARE_PROVIDER).bind(id.to_string()).execute(&mut **transaction).await?;
                }
                DeclaredChange::Delete { id, .. } => {
                    self.query(providers::DELETE).bind(id.to_string()).execute(&mut **transaction).await?;
                }
            }
        }
        for change in &changes.providers {
            if let DeclaredChange::Create(wish) | DeclaredChange::Update { declared: wish, .. } = change {
                self.write_fallbacks(transaction, wish, &ids).await?;
            }
        }
        for change in &changes.auto_certificates {
            match change {
                DeclaredChange::Create(wish) => {
                    let new = resolve_provider(wish, &ids)?;
                    let id = self.insert_auto_certificate(transaction, &new, &Actor::autocertd()).await?;
                    self.write_declaration(transaction, auto_certificates::DECLARE, id.to_string(), &wish.key, by)
                        .await?;
                }
                DeclaredChange::Update { id, declared: to, changed, consequence, .. } => {
                    if !changed.is_empty() {
                        self.update_auto_certificate(transaction, *id, &resolve_provider(to, &ids)?, *consequence)
                            .await?;
                    }
                    self.write_declaration(transaction, auto_certificates::DECLARE, id.to_string(), &to.key, by)
                        .await?;
                }
                DeclaredChange::Undeclare { id, .. } => {
                    self.query(UNDECLARE_AUTO_CERTIFICATE).bind(id.to_string()).execute(&mut **transaction).await?;
                }
                DeclaredChange::Delete { id, .. } => {
                    let now = self.now().micros();
                    let delete = self.query(auto_certificates::DELETE).bind(id.to_string()).bind(now);
                    delete.execute(&mut **transaction).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes by which key and by whose settings a row is declared.
    async fn write_declaration(
        &self,
        transaction: &mut Transaction,
        declare: &'static str,
        id: String,
        key: &DeclaredKey,
        by: &str,
    ) -> Result<(), StoreError> {
        let declare = self.query(declare).bind(id).bind(key.to_string()).bind(by.to_owned());
        declare.execute(&mut **transaction).await?;
        Ok(())
    }

    /// Once all providers are there: one may stand by for another that is made before it.
    async fn write_fallbacks(
        &self,
        transaction: &mut Transaction,
        wish: &DeclaredProvider,
        ids: &HashMap<&DeclaredKey, ProviderId>,
    ) -> Result<(), StoreError> {
        let id_of = |provider: &DeclaredKey| {
            let known = ids.get(provider).map(ToString::to_string);
            known.ok_or_else(|| StoreError::UndeclaredProvider { key: wish.key.clone(), provider: provider.clone() })
        };
        let fallbacks: Vec<String> = wish.fallbacks.iter().map(id_of).collect::<Result<_, _>>()?;
        self.query("UPDATE providers SET fallbacks = $2 WHERE id = $1")
            .bind(id_of(&wish.key)?)
            .bind(documents::texts_to_json(fallbacks.into_iter()))
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    async fn update_provider(
        &self,
        transaction: &mut Transaction,
        id: ProviderId,
        to: &DeclaredProvider,
        consequence: ChangeConsequence,
    ) -> Result<(), StoreError> {
        let (row, now) = (id.to_string(), self.now().micros());
        let external = to.provider.external_account.as_ref();
        let sealed = external
            .map(|binding| self.0.keys.seal(eab_key_location(&row), binding.key_secret.sealable()))
            .transpose()?;
        let by = Actor::autocertd();
        self.query(UPDATE_PROVIDER)
            .bind(row.clone())
            .bind(to.provider.name.to_string())
            .bind(to.provider.email.to_string())
            .bind(to.provider.server.to_string())
            .bind(external.map(|binding| binding.key_id.clone()))
            .bind(sealed)
            .bind(to.provider.profile.as_ref().map(ToString::to_string))
            .bind(now)
            .bind(by.name)
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        let follow = match consequence {
            ChangeConsequence::Nothing | ChangeConsequence::NewCertificate => return Ok(()),
            ChangeConsequence::NewContact => NEW_CONTACT,
            ChangeConsequence::NewBinding => NEW_BINDING,
            ChangeConsequence::NewAccount => NEW_ACCOUNT,
        };
        self.query(follow).bind(row.clone()).bind(now).execute(&mut **transaction).await?;
        if consequence == ChangeConsequence::NewAccount {
            // Their orders are the old account's.
            for user in self.query(WITH_OPEN_ATTEMPT).bind(row).fetch_all(&mut **transaction).await? {
                let user = RowReader::new(&user, auto_certificates::TABLE).parsed("id")?;
                self.cancel_open_attempt(transaction, user, RECHECK).await?;
            }
        }
        Ok(())
    }

    async fn update_auto_certificate(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
        to: &NewAutoCertificate,
        consequence: ChangeConsequence,
    ) -> Result<(), StoreError> {
        let by = Actor::autocertd();
        self.query(UPDATE_AUTO_CERTIFICATE)
            .bind(id.to_string())
            .bind(to.name.to_string())
            .bind(to.provider.to_string())
            .bind(to.common_name.sent().to_owned())
            .bind(to.common_name.name().to_string())
            .bind(to.key_algorithm.as_str())
            .bind(documents::texts_to_json(to.subject_alternative_names.iter().map(|name| name.sent().to_owned())))
            .bind(to.profile.as_ref().map(ToString::to_string))
            .bind(self.now().micros())
            .bind(by.name)
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        if consequence == ChangeConsequence::NewCertificate {
            self.cancel_open_attempt(transaction, id, CHANGE_INTENT).await?;
        }
        Ok(())
    }

    /// Fences off whoever works on an auto-certificate and ends the open attempt, whose records are to be removed.
    async fn cancel_open_attempt(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
        fence: &'static str,
    ) -> Result<(), StoreError> {
        let now = self.now();
        self.query(fence).bind(id.to_string()).bind(now.micros()).execute(&mut **transaction).await?;
        let failure = Failure::restart("the settings ask for something else by now");
        self.end_open_attempt(transaction, id, &failure).await?;
        self.schedule_record_removal(transaction, id, now).await
    }
}

/// What a damaged provider still tells.
fn read_identity(row: &AnyRow, table: &'static str) -> Result<(DeclaredKey, ProviderId), StoreError> {
    let record = RowReader::new(row, table);
    Ok((record.parsed("declared_key")?, record.parsed("id")?))
}

fn read_auto_certificate(row: &AnyRow) -> Result<StoredResource<AutoCertificateId, NewAutoCertificate>, StoreError> {
    let record = RowReader::new(row, auto_certificates::TABLE);
    Ok(StoredResource {
        id: record.parsed("id")?,
        key: record.parsed("declared_key")?,
        declared_by: record.optional_text("declared_by")?,
        properties: NewAutoCertificate {
            name: record.name("name")?,
            provider: record.parsed("provider_id")?,
            common_name: record.parsed("common_name")?,
            key_algorithm: record.parsed("key_algorithm")?,
            subject_alternative_names: record.texts::<RequestedName>("subject_alternative_names")?,
            profile: record.optional_parsed("profile")?,
        },
    })
}

/// The wish with the id of its provider.
fn resolve_provider(
    wish: &DeclaredAutoCertificate,
    ids: &HashMap<&DeclaredKey, ProviderId>,
) -> Result<NewAutoCertificate, StoreError> {
    let provider = match &wish.provider {
        ProviderReference::Id(id) => *id,
        ProviderReference::Key(key) => {
            let known = ids.get(key).copied();
            known.ok_or_else(|| StoreError::UndeclaredProvider { key: wish.key.clone(), provider: key.clone() })?
        }
    };
    Ok(NewAutoCertificate {
        name: wish.name.clone(),
        provider,
        common_name: wish.common_name.clone(),
        key_algorithm: wish.key_algorithm,
        subject_alternative_names: wish.subject_alternative_names.clone(),
        profile: wish.profile.clone(),
    })
}

pub(in crate::store) const PROVIDERS: &str = "\
    SELECT id, declared_key, declared_by, name, email, server, eab_key_id, eab_key_secret, profile, fallbacks \
    FROM providers WHERE declared_key IS NOT NULL ORDER BY declared_key";
pub(in crate::store) const PROVIDER_KEYS: &str =
    "SELECT id, declared_key FROM providers WHERE declared_key IS NOT NULL";
pub(in crate::store) const AUTO_CERTIFICATES: &str = "\
    SELECT id, declared_key, declared_by, name, provider_id, common_name, key_algorithm, subject_alternative_names, \
    profile FROM auto_certificates WHERE declared_key IS NOT NULL AND deleted_at IS NULL ORDER BY declared_key";
/// Of the providers with a key, those that auto-certificates without one use.
pub(in crate::store) const IN_USE: &str = "\
    SELECT p.id FROM providers p WHERE p.declared_key IS NOT NULL AND EXISTS (SELECT 1 FROM auto_certificates a \
    WHERE a.provider_id = p.id AND a.deleted_at IS NULL AND a.declared_key IS NULL)";
/// The auto-certificates of a provider with an open attempt.
pub(in crate::store) const WITH_OPEN_ATTEMPT: &str = "\
    SELECT a.id FROM auto_certificates a WHERE a.provider_id = $1 AND a.deleted_at IS NULL AND EXISTS \
    (SELECT 1 FROM attempts o WHERE o.auto_certificate_id = a.id AND o.ended_at IS NULL)";
const UNDECLARE_PROVIDER: &str = "UPDATE providers SET declared_by = NULL WHERE id = $1";
const UNDECLARE_AUTO_CERTIFICATE: &str = "UPDATE auto_certificates SET declared_by = NULL WHERE id = $1";
const UPDATE_PROVIDER: &str = "\
    UPDATE providers SET name = $2, email = $3, server = $4, eab_key_id = $5, eab_key_secret = $6, \
    profile = $7, modified_at = $8, modified_by = $9, modified_by_id = $10 WHERE id = $1";
/// That nobody goes on with what was read before.
macro_rules! fence {
    () => {
        "lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1"
    };
}
/// An account that may be there already, registered or about to be, has the old contact. Another declaration asks for
/// another account in place of a deactivated one; that one was lost is still to be told.
const NEW_CONTACT: &str = concat!(
    "UPDATE providers SET contact_changed = CASE WHEN account_url IS NULL AND pending_credentials IS NULL \
     THEN 0 ELSE 1 END, account_note = CASE WHEN account_url IS NULL AND ",
    deactivated!(),
    " THEN NULL ELSE account_note END, trouble = NULL, next_look = $2, ",
    fence!(),
    " WHERE id = $1"
);
const NEW_BINDING: &str = concat!(
    "UPDATE providers SET account_note = CASE WHEN ",
    deactivated!(),
    " THEN NULL ELSE account_note END, trouble = NULL, next_look = $2, ",
    fence!(),
    " WHERE id = $1 AND account_url IS NULL"
);
const NEW_ACCOUNT: &str = concat!(
    "UPDATE providers SET account_url = NULL, account_credentials = NULL, pending_credentials = NULL, \
     rollover_credentials = NULL, account_note = NULL, contact_changed = 0, trouble = NULL, breaker = NULL, \
     next_look = $2, ",
    fence!(),
    " WHERE id = $1"
);
const UPDATE_AUTO_CERTIFICATE: &str = "\
    UPDATE auto_certificates SET name = $2, provider_id = $3, common_name = $4, common_name_form = $5, \
    key_algorithm = $6, subject_alternative_names = $7, profile = $8, modified_at = $9, modified_by = $10, \
    modified_by_id = $11 WHERE id = $1";
/// What went wrong with the old wish says nothing of the new one.
const CHANGE_INTENT: &str = concat!(
    "UPDATE auto_certificates SET intent_changed = 1, trouble = NULL, held_until = NULL, held_by = NULL, \
     next_look = $2, wakes = wakes + 1, ",
    fence!(),
    " WHERE id = $1"
);
pub(in crate::store) const RECHECK: &str = concat!(
    "UPDATE auto_certificates SET held_until = NULL, held_by = NULL, next_look = $2, wakes = wakes + 1, ",
    fence!(),
    " WHERE id = $1"
);
