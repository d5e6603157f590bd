//! Providers, as the API knows them. Their accounts are in a file of their own.

use crate::store::database::Transaction;
use sqlx::any::AnyRow;

use crate::domain::provider::{NewProvider, Provider};
use crate::domain::report::state::ResourceState;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::resource::{Actor, Audit, ResourceName};
use crate::domain::value::server_url::ServerUrl;
use crate::store::database::listing::{Conditions, ID_PLACEHOLDERS, ListedTable};
use crate::store::database::renaming::Renaming;
use crate::store::database::row::RowReader;
use crate::store::sealing::seal::SealedLocation;
use crate::store::{Listing, Page, PageRows, Store, StoreError};

/// What became of the deletion of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// It is gone.
    Deleted,
    /// There was none.
    Missing,
    /// These auto-certificates still use it.
    InUse(ProviderUsers),
}

/// Which providers a list is about: those that meet every condition. One without values is met by all.
#[derive(Clone, Debug, Default)]
pub struct ProviderFilter {
    /// Those of one of these names.
    pub names: Vec<String>,
    /// Those that are in one of these states.
    pub states: Vec<ResourceState>,
}

/// Auto-certificates that use a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderUsers {
    /// The oldest of them.
    pub first: Vec<(AutoCertificateId, ResourceName)>,
    /// Whether there are others.
    pub has_more: bool,
}

impl Store {
    /// Stores a provider, whose account is to be registered at once; nothing where `limit` of them are there already.
    /// Declared ones do not count.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_provider_within(
        &self,
        new: &NewProvider,
        by: &Actor,
        limit: u32,
    ) -> Result<Option<Provider>, StoreError> {
        let mut transaction = self.begin().await?;
        let provider = self.insert_provider(&mut transaction, new, by).await?;
        if self.count_made_by_clients(&mut transaction, TABLE).await? > u64::from(limit) {
            return Ok(None);
        }
        transaction.commit().await?;
        Ok(Some(provider))
    }

    /// Stores a provider, however many there are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_provider(&self, new: &NewProvider, by: &Actor) -> Result<Provider, StoreError> {
        let mut transaction = self.begin().await?;
        let provider = self.insert_provider(&mut transaction, new, by).await?;
        transaction.commit().await?;
        Ok(provider)
    }

    /// The provider of this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn provider(&self, id: ProviderId) -> Result<Option<Provider>, StoreError> {
        let row = self.query(GET).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// A page of providers.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers(&self, page: Page) -> Result<Listing<Provider>, StoreError> {
        let found = self.provider_page(page, &ProviderFilter::default()).await?;
        let items = self.skip_damaged(self.providers_by_id(&found.ids()).await?)?;
        Ok(Listing { items, has_more: found.has_more })
    }

    /// Which providers a page has.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn provider_page(&self, page: Page, filter: &ProviderFilter) -> Result<PageRows<ProviderId>, StoreError> {
        self.page_rows(&LISTED, filter.conditions(), page).await
    }

    /// How many providers there are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn provider_total(&self) -> Result<u64, StoreError> {
        self.count_present(TABLE).await
    }

    /// Those of these providers that are still there, in the order of a page. A damaged row is an error of its own.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers_by_id(&self, ids: &[ProviderId]) -> Result<Vec<Result<Provider, StoreError>>, StoreError> {
        self.rows_by_id(&list_sql(), ids, read).await
    }

    /// The providers that a person may mean: by id, by name or by the key under which settings declare it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn matching_providers(&self, text: &str) -> Result<Vec<Provider>, StoreError> {
        let id = text.parse::<ProviderId>().map_or_else(|_| text.to_owned(), |id| id.to_string());
        let rows = self.query(MATCHING).bind(id).bind(text.to_owned()).fetch_all(&self.0.pool).await?;
        self.read_undamaged(&rows, read)
    }

    /// The auto-certificates that are not deleted and use this provider.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn users_of_provider(
        &self,
        id: ProviderId,
    ) -> Result<Vec<(AutoCertificateId, ResourceName)>, StoreError> {
        let users = self.query(USERS).bind(id.to_string()).fetch_all(&self.0.pool).await?;
        self.read_undamaged(&users, read_user)
    }

    /// The providers that name this one as a fallback.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn providers_with_fallback(&self, id: ProviderId) -> Result<Vec<(ProviderId, ResourceName)>, StoreError> {
        let rows = self.query(FALLBACKS).fetch_all(&self.0.pool).await?;
        let read = |row: &AnyRow| {
            let record = RowReader::new(row, TABLE);
            let falls_back = record.texts("fallbacks")?.contains(&id);
            Ok((falls_back, (record.parsed("id")?, record.name("name")?)))
        };
        Ok(self
            .read_undamaged(&rows, read)?
            .into_iter()
            .filter_map(|(falls_back, user)| falls_back.then_some(user))
            .collect())
    }

    /// Gives a provider another name.
    ///
    /// # Errors
    /// [`StoreError::Declared`], or where the database fails.
    pub async fn rename_provider(
        &self,
        id: ProviderId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<Provider>, StoreError> {
        self.rename(
            Renaming { rename: RENAME, declarable: Some(TABLE), get: GET.to_owned(), follow_up: None, read },
            id.to_string(),
            name,
            by,
        )
        .await
    }

    /// Deletes a provider with its account, unless an auto-certificate that is not deleted uses it.
    ///
    /// # Errors
    /// [`StoreError::Declared`], or where the database fails.
    pub async fn delete_provider(&self, id: ProviderId) -> Result<DeletionOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        // Keeps out the making of an auto-certificate that would use this provider.
        self.lock_auto_certificates(&mut transaction).await?;
        self.refuse_declared(&mut transaction, TABLE, id.to_string()).await?;
        let some = self.query(SOME_USERS).bind(id.to_string()).fetch_all(&mut *transaction).await?;
        if !some.is_empty() {
            let first = self.read_undamaged(&some[..some.len().min(MAX_NAMED_USERS)], read_user)?;
            return Ok(DeletionOutcome::InUse(ProviderUsers { first, has_more: some.len() > MAX_NAMED_USERS }));
        }
        let deleted = self.query(DELETE).bind(id.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(if deleted.rows_affected() == 1 { DeletionOutcome::Deleted } else { DeletionOutcome::Missing })
    }
}

impl Store {
    /// Stores a provider; its account is to be registered at once.
    pub(in crate::store) async fn insert_provider(
        &self,
        transaction: &mut Transaction,
        new: &NewProvider,
        by: &Actor,
    ) -> Result<Provider, StoreError> {
        let id = ProviderId::from(self.0.randomness.uuid());
        let audit = Audit::new(by.clone(), self.now());
        let external = new.external_account.as_ref();
        let key_secret = external
            .map(|binding| self.0.keys.seal(eab_key_location(&id.to_string()), binding.key_secret.sealable()))
            .transpose()?;
        self.query(INSERT)
            .bind(id.to_string())
            .bind(new.name.to_string())
            .bind(new.email.to_string())
            .bind(new.server.to_string())
            .bind(external.map(|binding| binding.key_id.clone()))
            .bind(key_secret)
            .bind(new.profile.as_ref().map(ToString::to_string))
            .bind(audit.created.micros())
            .bind(by.name.clone())
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        Ok(Provider {
            id,
            name: new.name.clone(),
            email: new.email.clone(),
            server: new.server.clone(),
            external_account_key_id: external.map(|binding| binding.key_id.clone()),
            profile: new.profile.clone(),
            fallbacks: Vec::new(),
            down_since: None,
            audit,
            account_url: None,
            failure_streak: None,
            account_note: None,
        })
    }

    pub(in crate::store) async fn has_provider(
        &self,
        transaction: &mut Transaction,
        id: ProviderId,
    ) -> Result<bool, StoreError> {
        let found = self.query("SELECT id FROM providers WHERE id = $1").bind(id.to_string());
        Ok(found.fetch_optional(&mut **transaction).await?.is_some())
    }
}

/// Where the key of the external account is sealed.
pub(in crate::store) const fn eab_key_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "eab_key_secret", row }
}

fn read_user(row: &AnyRow) -> Result<(AutoCertificateId, ResourceName), StoreError> {
    let record = RowReader::new(row, "auto_certificates");
    Ok((record.parsed("id")?, record.name("name")?))
}

fn read(row: &AnyRow) -> Result<Provider, StoreError> {
    let record = RowReader::new(row, TABLE);
    let server = ServerUrl::from_stored(&record.text("server")?);
    Ok(Provider {
        id: record.parsed("id")?,
        name: record.name("name")?,
        email: record.parsed("email")?,
        server: server.map_err(|error| record.corrupt("server", error))?,
        external_account_key_id: record.optional_text("eab_key_id")?,
        profile: record.optional_parsed("profile")?,
        fallbacks: record.texts("fallbacks")?,
        down_since: record.breaker("breaker")?.and_then(|breaker| breaker.down_since()),
        audit: record.audit()?,
        account_url: record.optional_text("account_url")?,
        failure_streak: record.failure_streak("trouble")?,
        account_note: record.account_note("account_note")?,
    })
}

macro_rules! columns {
    () => {
        "id, name, email, server, eab_key_id, profile, fallbacks, breaker, account_url, trouble, account_note, \
         created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id"
    };
}

/// Those of [`IDS`].
pub(in crate::store) fn list_sql() -> String {
    format!("SELECT {} FROM providers WHERE id IN {ID_PLACEHOLDERS} ORDER BY created_at, id", columns!())
}

pub(in crate::store) const TABLE: &str = "providers";
const INSERT: &str = "\
    INSERT INTO providers (id, name, email, server, eab_key_id, eab_key_secret, profile, next_look, lease_epoch, \
    created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $8, $9, $10, $8, $9, $10)";
const GET: &str = concat!("SELECT ", columns!(), " FROM providers WHERE id = $1");
impl ProviderFilter {
    pub(in crate::store) fn conditions(&self) -> Conditions {
        let conditions = Conditions::default().and_any("name", self.names.iter().cloned());
        let (available, failed) =
            (self.states.contains(&ResourceState::Available), self.states.contains(&ResourceState::Failed));
        match (available, failed) {
            (true, false) => conditions.and("s.failed = 0"),
            (false, true) => conditions.and("s.failed = 1"),
            (false, false) if !self.states.is_empty() => conditions.and("1 = 0"),
            _ => conditions,
        }
    }
}

pub(in crate::store) const LISTED: ListedTable = ListedTable {
    table: TABLE,
    present: "",
    bytes: "octet_length(r.server) + octet_length(r.fallbacks) + COALESCE(octet_length(r.trouble), 0)",
};
/// Asked for by a person only, and providers are few.
const MATCHING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM providers WHERE id = $1 OR name = $2 OR declared_key = $2 ORDER BY created_at, id"
);
/// Asked for by a person only, and providers are few.
const FALLBACKS: &str = "SELECT id, name, fallbacks FROM providers ORDER BY created_at, id";
const RENAME: &str = "\
    UPDATE providers SET name = $2, modified_at = $3, modified_by = $4, modified_by_id = $5 \
    WHERE id = $1 AND declared_by IS NULL";
pub(in crate::store) const DELETE: &str = "DELETE FROM providers WHERE id = $1";
pub(in crate::store) const DECLARE: &str = "UPDATE providers SET declared_key = $2, declared_by = $3 WHERE id = $1";
pub(in crate::store) const USERS: &str =
    "SELECT id, name FROM auto_certificates WHERE provider_id = $1 AND deleted_at IS NULL ORDER BY created_at, id";
/// One more than are named.
pub(in crate::store) const SOME_USERS: &str = "SELECT id, name FROM auto_certificates WHERE provider_id = $1 AND deleted_at IS NULL ORDER BY created_at, id LIMIT 21";
const MAX_NAMED_USERS: usize = 20;
