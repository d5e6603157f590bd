//! What is kept: one concrete store over sqlx's `AnyPool`, which serves SQLite and PostgreSQL with one set of queries.
//! Private keys and credentials are sealed on their way in and opened on their way out. It decides nothing: plans and
//! back-offs come from `domain`, and what it is told it keeps.

mod auto_certificate;
mod certificate;
mod clock;
mod database;
mod delivery;
mod dns;
mod documents;
mod migrations;
mod provider;
mod sealing;
#[cfg(test)]
mod tests;
mod tokens;
mod transfer;

pub use crate::config::store::{StoreSettings, StoreUrl};
pub use auto_certificate::auto_certificates::{AutoCertificateFilter, CreationOutcome};
pub use auto_certificate::claims::{ClaimedAutoCertificate, MAX_DUE, RunOutcome};
pub use auto_certificate::not_in_service::NotInService;
pub use auto_certificate::progress::{AutoCertificateProgress, NewestCertificateSummary, RenewalRequestOutcome};
pub use auto_certificate::queue::DueAutoCertificate;
pub use auto_certificate::renewal_infos::NewestIssuedCertificate;
pub use certificate::certificates::CertificateFilter;
pub use certificate::revocations::{RevocationClaim, RevocationRequestOutcome};
pub use database::error::StoreError;
pub use database::lease::{AutoCertificateLease, LEASE_DURATION, LeaseState, ProviderLease};
pub use database::listing::{ListedRow, PageRows};
pub use database::{FaultCause, StoreFault};
pub use delivery::assignments::{AssignmentCandidate, AssignmentTarget, Undeclared};
pub use delivery::deliveries::{DeliveredCertificate, DeliveryClaim, DeliveryCursor, DeliveryLease, DeliveryRow};
pub use dns::journal::{IntendedCanary, IntendedRecord, JournalledRecord, RemovalStart};
pub use dns::persist_records::{PersistRecordLocation, StoredPersistRecord};
pub use provider::accounts::{ProviderAccount, RegisteredAccount};
pub use provider::breakers::{ProviderLoad, RecoveryEvidence};
pub use provider::providers::{DeletionOutcome, ProviderFilter, ProviderUsers};
pub use provider::rate_limit_ledger::{LedgerAccount, OrderCharge};
pub use sealing::key_ring::{KeyError, KeyRing};
pub use sealing::rotation::RotationProgress;
pub use transfer::backup::{Backup, BackupContents, BackupError, OmittedWork};
pub use transfer::takeover::{Takeover, TakeoverOutcome, TakeoverProvider};

use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use log::LevelFilter;
use secrecy::{ExposeSecret, SecretString};
use sqlx::Any;
use sqlx::ConnectOptions;
use sqlx::any::{AnyArguments, AnyConnectOptions};
use sqlx::query::Query;
use url::Url;

use crate::domain::value::moment::Moment;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::database::damaged::DamagedRows;
use crate::store::database::dialect::Dialect;
use crate::store::database::instance_lock::InstanceLock;
use crate::store::database::readiness::WriteProbe;
use crate::store::database::{Database, Transaction};

/// The store. Clones share one pool.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: Database,
    dialect: Dialect,
    keys: KeyRing,
    clock: SharedClock,
    randomness: Randomness,
    /// Owns the leases of this process.
    instance: String,
    /// At a SQLite file only.
    instance_lock: Option<InstanceLock>,
    write_probe: WriteProbe,
    damaged_rows: DamagedRows,
}

/// A part of a listing: so many items behind so many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many to pass over.
    pub offset: u32,
    /// How many to give at most.
    pub limit: u32,
}

/// A page of items in the stable order of their making.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// Whether others follow.
    pub has_more: bool,
}

impl Store {
    /// Opens the store, brings its tables up to date and checks that the key ring is the one it was sealed with. A
    /// SQLite file is made where there is none, for its owner alone.
    ///
    /// # Errors
    /// Where the database cannot be reached or brought up to date, or the keys are not its own.
    pub async fn open(
        settings: &StoreSettings,
        keys: KeyRing,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let instance = randomness.uuid();
        let (dialect, url, file, _opening, presence) = match &settings.url {
            StoreUrl::Postgres(url) => (Dialect::Postgres, url.clone(), None, None, None),
            StoreUrl::Sqlite(path) => {
                let path = prepare_file(path)?;
                let opening = database::instance_lock::lock_opening(&path).await?;
                let presence = InstanceLock::register(&path, instance)?;
                (Dialect::Sqlite, sqlite_url(&path)?, Some(path), Some(opening), Some(presence))
            }
        };
        // SQL is for those who look for a fault of autocertd itself: slow statements, too, are told at trace alone.
        let options = url
            .expose_secret()
            .parse::<AnyConnectOptions>()?
            .log_statements(LevelFilter::Trace)
            .log_slow_statements(LevelFilter::Trace, Duration::from_secs(1));
        let pool = Database::connect(options, dialect, settings.max_connections, settings.timeout, file).await?;
        pool.check_server().await?;
        migrations::run(&pool, dialect).await?;
        let instance = instance.to_string();
        let store = Self(Arc::new(Inner {
            pool,
            dialect,
            keys,
            clock,
            randomness,
            instance,
            instance_lock: presence,
            write_probe: WriteProbe::default(),
            damaged_rows: DamagedRows::default(),
        }));
        store.check_keys().await?;
        Ok(store)
    }

    /// Whether other machines may work with it, too. What they do is seen at a look only.
    pub fn is_shared(&self) -> bool {
        self.0.dialect == Dialect::Postgres
    }

    /// Closes the connections, after which every call fails. It ends within seconds, whatever the database does.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// A statement; see [`Dialect::sql`].
    fn query(&self, text: impl Into<Cow<'static, str>>) -> Query<'static, Any, AnyArguments> {
        sqlx::query(self.0.dialect.sql(text))
    }

    /// A transaction that writes.
    async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.0.pool.begin().await?)
    }

    /// Does a transaction again that the database ended in favour of another one.
    async fn retry_deadlocks<'w, T>(
        &self,
        work: impl Fn() -> BoxFuture<'w, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        for pause in DEADLOCK_RETRY_DELAYS {
            match work().await {
                Err(error) if error.is_deadlock() => {
                    let spread = 1.0 + self.0.randomness.fraction();
                    tokio::time::sleep(pause.mul_f64(spread)).await;
                }
                ended => return ended,
            }
        }
        work().await
    }

    fn now(&self) -> Moment {
        self.0.clock.now()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dialect", &self.0.dialect).field("instance", &self.0.instance).finish()
    }
}

impl Page {
    /// One more than asked for, which tells whether others follow.
    const fn fetch_limit(self) -> i64 {
        self.limit as i64 + 1
    }
}

/// Makes the file where there is none, so that only its owner can read it, and gives its full path.
fn prepare_file(path: &Path) -> Result<std::path::PathBuf, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let path = std::path::absolute(path).map_err(failed)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(path),
    }
}

/// The path as sqlx wants it, with every character that means something in a URL encoded.
fn sqlite_url(path: &Path) -> Result<SecretString, StoreError> {
    let url = Url::from_file_path(path).map_err(|()| StoreError::File {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute"),
    })?;
    Ok(SecretString::from(url.as_str().replacen("file:", "sqlite:", 1)))
}

const DEADLOCK_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250)];
