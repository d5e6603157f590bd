//! The ACME accounts of providers, sealed. Every write asks for the provider's lease.

use secrecy::SecretString;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::provider::{AccountNote, ExternalAccountBinding};
use crate::domain::value::id::ProviderId;
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::claims::MAX_PLANNED_AHEAD;
use crate::store::database::lease::{check_fence, free};
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::provider::providers::{TABLE, eab_key_location};
use crate::store::sealing::seal::SealedLocation;
use crate::store::{ProviderLease, Store, StoreError};

/// The account of a provider.
#[derive(Clone, Debug)]
pub struct ProviderAccount {
    /// The account at the CA, once it is registered.
    pub registered: Option<RegisteredAccount>,
    /// The credentials of a registration that was begun and may or may not have reached the CA.
    pub pending: Option<SecretString>,
    /// The credentials of a change to a new key that was begun and may or may not have reached the CA.
    pub key_change: Option<SecretString>,
    /// Whether the CA is still to be told the present contact.
    pub contact_changed: bool,
    /// What became of an account before this one.
    pub note: Option<AccountNote>,
    /// The external account to bind it to, where the CA wants one.
    pub external_account: Option<ExternalAccountBinding>,
}

/// An account that the CA knows.
#[derive(Clone, Debug)]
pub struct RegisteredAccount {
    /// Its URL.
    pub url: String,
    /// Its credentials.
    pub credentials: SecretString,
}

impl Store {
    /// The account of a provider; nothing where there is no such provider.
    ///
    /// # Errors
    /// Where the database fails or a secret cannot be opened.
    pub async fn account(&self, id: ProviderId) -> Result<Option<ProviderAccount>, StoreError> {
        let row = id.to_string();
        let Some(found) = self.query(GET).bind(row.clone()).fetch_optional(&self.0.pool).await? else {
            return Ok(None);
        };
        let record = RowReader::new(&found, TABLE);
        let open = |place: SealedLocation<'_>| {
            let sealed = record.optional_bytes(place.column)?;
            Ok::<_, StoreError>(sealed.map(|sealed| self.0.keys.open(place, &sealed)).transpose()?)
        };
        let registered = record.optional_text("account_url")?.zip(open(credentials_location(&row))?);
        let external = record.optional_text("eab_key_id")?.zip(open(eab_key_location(&row))?);
        Ok(Some(ProviderAccount {
            registered: registered.map(|(url, credentials)| RegisteredAccount { url, credentials }),
            contact_changed: record.flag("contact_changed")?,
            pending: open(pending_credentials_location(&row))?,
            key_change: open(rollover_credentials_location(&row))?,
            note: record.account_note("account_note")?,
            external_account: external.map(|(key_id, key_secret)| ExternalAccountBinding {
                key_id,
                key_secret: MacKey::from_stored(key_secret),
            }),
        }))
    }

    /// Claims at most `limit` of the providers whose account is to be registered by `now`, the longest due first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_due_providers(&self, now: Moment, limit: u32) -> Result<Vec<ProviderLease>, StoreError> {
        let claimed = self
            .query(CLAIM_DUE)
            .bind(self.0.instance.clone())
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?;
        self.read_undamaged(&claimed, |row| read_lease(&RowReader::new(row, TABLE)))
    }

    /// Claims this provider, due or not; nothing where someone else has it or there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_provider(&self, id: ProviderId) -> Result<Option<ProviderLease>, StoreError> {
        let claimed =
            self.query(CLAIM).bind(self.0.instance.clone()).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        claimed.map(|row| read_lease(&RowReader::new(&row, TABLE))).transpose()
    }

    /// Forgets credentials of a registration that the CA refused: it knows no such account.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn forget_pending_account(&self, lease: &ProviderLease) -> Result<(), StoreError> {
        let stored = self.fenced_query(STORE_PENDING, lease).bind(None::<Vec<u8>>).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Keeps credentials before anything else happens to them.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_pending_account(
        &self,
        lease: &ProviderLease,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        let sealed = self.0.keys.seal(pending_credentials_location(&lease.id.to_string()), credentials)?;
        let stored = self.fenced_query(STORE_PENDING, lease).bind(sealed).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Keeps a registered account, which also clears pending credentials and trouble. Where its contact was changed in
    /// the meantime, that is due next.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_account(
        &self,
        lease: &ProviderLease,
        url: &str,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        self.write_account(STORE_ACCOUNT, lease, url, credentials).await
    }

    /// Keeps an account that a person carried in, in place of any other and of what is noted about that.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn adopt_account(
        &self,
        lease: &ProviderLease,
        url: &str,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        self.write_account(ADOPT_ACCOUNT, lease, url, credentials).await
    }

    /// Keeps the credentials with a new key before the CA hears of it. What became of the change is due to be found out as
    /// soon as the lease is free.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_key_change(&self, lease: &ProviderLease, credentials: &SecretString) -> Result<(), StoreError> {
        let sealed = self.0.keys.seal(rollover_credentials_location(&lease.id.to_string()), credentials)?;
        let stored = self
            .fenced_query(STORE_KEY_CHANGE, lease)
            .bind(sealed)
            .bind(self.now().micros())
            .execute(&self.0.pool)
            .await?;
        check_fence(stored.rows_affected())
    }

    /// Forgets a new key that the CA does not know.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn forget_key_change(&self, lease: &ProviderLease) -> Result<(), StoreError> {
        let stored = self.fenced_query(FORGET_KEY_CHANGE, lease).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Has the same account go on with the new key, which the CA knows now.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn replace_key(&self, lease: &ProviderLease, credentials: &SecretString) -> Result<(), StoreError> {
        let sealed = self.0.keys.seal(self::credentials_location(&lease.id.to_string()), credentials)?;
        let stored =
            self.fenced_query(REPLACE_KEY, lease).bind(sealed).bind(self.now().micros()).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Notes what becomes of the account, or forgets what was noted.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn store_account_note(
        &self,
        lease: &ProviderLease,
        note: Option<&AccountNote>,
    ) -> Result<(), StoreError> {
        let note = note.map(documents::account_note::account_note_to_json);
        let stored = self.fenced_query(NOTE_ACCOUNT, lease).bind(note).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Forgets the account with all its keys, and keeps a note on it. Another one is to be registered from `next_look`
    /// on; without that moment, once a person asks for it.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn forget_account(
        &self,
        lease: &ProviderLease,
        note: &AccountNote,
        next_look: Option<Moment>,
    ) -> Result<(), StoreError> {
        let stored = self
            .fenced_query(FORGET_ACCOUNT, lease)
            .bind(documents::account_note::account_note_to_json(note))
            .bind(next_look.map(Moment::micros))
            .execute(&self.0.pool)
            .await?;
        check_fence(stored.rows_affected())
    }

    /// Notes that the CA knows the present contact.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_contact_updated(&self, lease: &ProviderLease) -> Result<(), StoreError> {
        let stored = self.fenced_query(CONTACT_UPDATED, lease).execute(&self.0.pool).await?;
        check_fence(stored.rows_affected())
    }

    /// Notes what keeps the account from being registered or its contact from being told, and when to try again.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn record_account_failure_streak(
        &self,
        lease: &ProviderLease,
        trouble: &FailureStreak,
    ) -> Result<(), StoreError> {
        let stored = self
            .fenced_query(RECORD_FAILURE_STREAK, lease)
            .bind(documents::failure_streak_to_json(trouble))
            .bind(trouble.next_try.min(self.now() + MAX_PLANNED_AHEAD).micros())
            .execute(&self.0.pool)
            .await?;
        check_fence(stored.rows_affected())
    }

    /// The earliest moment at which an account that nobody works on is to be registered.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_provider_check(&self) -> Result<Option<Moment>, StoreError> {
        let row = self.query(EARLIEST).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).moment("next_look")).transpose()
    }
}

impl Store {
    async fn write_account(
        &self,
        put: &'static str,
        lease: &ProviderLease,
        url: &str,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        let sealed = self.0.keys.seal(self::credentials_location(&lease.id.to_string()), credentials)?;
        let mut transaction = self.begin().await?;
        let stored = self
            .fenced_query(put, lease)
            .bind(sealed)
            .bind(url.to_owned())
            .bind(self.now().micros())
            .execute(&mut *transaction)
            .await?;
        check_fence(stored.rows_affected())?;
        self.query(CLEAR_FAILURE_STREAKS)
            .bind(lease.id.to_string())
            .bind(self.now().micros())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// A statement whose first three values are those of the fence.
    fn fenced_query(&self, text: &'static str, lease: &ProviderLease) -> Query<'static, Any, AnyArguments> {
        self.query(text).bind(lease.id.to_string()).bind(self.0.instance.clone()).bind(lease.epoch)
    }
}

fn read_lease(record: &RowReader<'_>) -> Result<ProviderLease, StoreError> {
    Ok(ProviderLease { id: record.parsed("id")?, epoch: record.number("lease_epoch")? })
}

/// Where the credentials of a registered account are sealed.
pub(in crate::store) const fn credentials_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "account_credentials", row }
}

const fn pending_credentials_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "pending_credentials", row }
}

const fn rollover_credentials_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "rollover_credentials", row }
}

const GET: &str = "\
    SELECT id, account_url, account_credentials, pending_credentials, rollover_credentials, account_note, \
    contact_changed, eab_key_id, eab_key_secret FROM providers WHERE id = $1";
/// The lease is asked for twice: between the look and the write another session may have claimed the row.
pub(in crate::store) const CLAIM_DUE: &str = concat!(
    "WITH due AS MATERIALIZED (SELECT id FROM providers WHERE next_look <= $2 AND ",
    free!(),
    " ORDER BY next_look LIMIT $3) ",
    "UPDATE providers SET lease_owner = $1, lease_epoch = lease_epoch + 1, lease_until = @now + @lease ",
    "WHERE id IN (SELECT id FROM providers WHERE id IN (SELECT id FROM due)@in_order) AND ",
    free!(),
    " RETURNING id, lease_epoch"
);
const CLAIM: &str = concat!(
    "UPDATE providers SET lease_owner = $1, lease_epoch = lease_epoch + 1, lease_until = @now + @lease ",
    "WHERE id = $2 AND ",
    free!(),
    " RETURNING id, lease_epoch"
);
const STORE_PENDING: &str =
    "UPDATE providers SET pending_credentials = $4 WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
/// What a new account brings with it; where its contact was changed meanwhile, that is due next.
macro_rules! store_account {
    () => {
        "UPDATE providers SET account_credentials = $4, account_url = $5, pending_credentials = NULL, \
         rollover_credentials = NULL, trouble = NULL, \
         next_look = CASE WHEN contact_changed = 1 THEN CAST($6 AS BIGINT) END"
    };
}
/// That the lease still holds.
macro_rules! fence {
    () => {
        " WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3"
    };
}
/// That a person had the account deactivated.
macro_rules! deactivated {
    () => {
        "COALESCE(account_fate, '') = 'deactivated'"
    };
}
pub(in crate::store) use deactivated;
const STORE_ACCOUNT: &str = concat!(store_account!(), fence!());
const ADOPT_ACCOUNT: &str = concat!(store_account!(), ", account_note = NULL", fence!());
const STORE_KEY_CHANGE: &str = concat!(
    "UPDATE providers SET rollover_credentials = $4, next_look = COALESCE(next_look, CAST($5 AS BIGINT))",
    fence!()
);
/// What kept the CA from being asked about the new key is over; what keeps a registration or a contact back is not.
const FORGET_KEY_CHANGE: &str = concat!(
    "UPDATE providers SET rollover_credentials = NULL, \
     trouble = CASE WHEN account_url IS NULL OR contact_changed = 1 THEN trouble END, \
     next_look = CASE WHEN account_url IS NULL AND ",
    deactivated!(),
    " THEN NULL WHEN account_url IS NULL OR contact_changed = 1 THEN next_look END",
    fence!()
);
const REPLACE_KEY: &str = concat!(
    "UPDATE providers SET account_credentials = $4, rollover_credentials = NULL, trouble = NULL, \
     next_look = CASE WHEN contact_changed = 1 THEN CAST($5 AS BIGINT) END",
    fence!()
);
const NOTE_ACCOUNT: &str = concat!("UPDATE providers SET account_note = $4", fence!());
const FORGET_ACCOUNT: &str = concat!(
    "UPDATE providers SET account_url = NULL, account_credentials = NULL, pending_credentials = NULL, \
     rollover_credentials = NULL, contact_changed = 0, trouble = NULL, account_note = $4, next_look = $5",
    fence!()
);
const CONTACT_UPDATED: &str = "\
    UPDATE providers SET contact_changed = 0, trouble = NULL, next_look = NULL \
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
/// Without the account nothing could be ordered; whatever was wrong until now is worth a new look.
const CLEAR_FAILURE_STREAKS: &str = "\
    UPDATE auto_certificates SET trouble = NULL, next_look = $2, wakes = wakes + 1 \
    WHERE id IN (SELECT id FROM auto_certificates \
    WHERE provider_id = $1 AND trouble IS NOT NULL AND deleted_at IS NULL@in_order)";
const RECORD_FAILURE_STREAK: &str =
    "UPDATE providers SET trouble = $4, next_look = $5 WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
pub(in crate::store) const EARLIEST: &str = concat!(
    "SELECT id, next_look FROM providers WHERE next_look IS NOT NULL AND ",
    free!(),
    " ORDER BY next_look LIMIT 1"
);
