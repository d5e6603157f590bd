//! What can go wrong with the store, and what to do about it.

use std::error::Error;
use std::path::PathBuf;

use crate::domain::declared::DeclaredKey;
use crate::domain::value::id::{AttemptId, ProviderId};
use crate::store::database::{FaultCause, StoreFault, describe};
use crate::store::sealing::key_ring::KeyError;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used right now.
    #[error("{}", .0.cause)]
    Unavailable(#[source] StoreFault),
    /// The database refused a statement.
    #[error("the database refused a statement; if its tables were not changed by hand this is a defect of autocertd")]
    Database(#[source] RefusedStatement),
    /// The tables could not be brought up to date.
    #[error(
        "the database's tables do not fit this version of autocertd ({0}); run the version that wrote them or a newer one"
    )]
    Migration(String),
    /// A newer version of this program has changed the tables.
    #[error(
        "the database's tables are of a newer version of autocertd (migration {found}, known here up to {known}); run that version"
    )]
    NewerTables {
        /// What stands in the database.
        found: i64,
        /// The newest that this program has.
        known: i64,
    },
    /// A migration broke off in the middle, which no database here allows.
    #[error("migration {0} of the database broke off half-way; restore the database from a backup")]
    HalfMigrated(i64),
    /// The migrations did not end in time.
    #[error(
        "the migration of the database did not end in time; check its load and what holds its tables, then start again"
    )]
    MigrationTimedOut,
    /// A row holds what autocertd never writes.
    #[error(
        "table {table}, column {column}, row {row}: the value is damaged; restore it from a backup or remove the row"
    )]
    CorruptRow {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: String,
        /// What is wrong with the value.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The key ring does not fit.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file beside a SQLite database cannot be used.
    #[error("{} cannot be used; check its owner, its mode and the disk", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The lease went to someone else: stop, and leave everything to the new holder.
    #[error("the lease was lost; whoever holds it now goes on with the work")]
    LostLease,
    /// The attempt is over, or was never begun.
    #[error("attempt {0} is over or unknown; look at the auto-certificate again")]
    AttemptOver(AttemptId),
    /// The settings declare it: it is changed there.
    #[error("the settings file declares this under the key {0}; change it there")]
    Declared(DeclaredKey),
    /// A declared auto-certificate names a provider that there is not.
    #[error("[[auto_certificate]] {key}: there is no provider {provider}; GET /providers lists them")]
    UnknownProvider {
        /// The key of the auto-certificate.
        key: DeclaredKey,
        /// The provider that it names.
        provider: ProviderId,
    },
    /// Something declared names a provider that is not declared.
    #[error("{key}: {provider} is the key of no [[provider]]")]
    UndeclaredProvider {
        /// The key of the auto-certificate, or of the provider whose fallback it is to be.
        key: DeclaredKey,
        /// The key of the provider that it names.
        provider: DeclaredKey,
    },
    /// The private key was reported as known to others.
    #[error("the private key was reported as compromised and is never used again; make a new one")]
    CompromisedKey,
    /// The CA was not told yet that the certificate is to be revoked.
    #[error(
        "the CA has not revoked the certificate yet, and cannot be told to without it; delete it once it is revoked or \
         has expired"
    )]
    RevocationPending,
    /// Challenge records are left, so that the last trace must stay.
    #[error("challenge records are left; remove them from the DNS first")]
    RecordsRemaining,
}

/// What the database said against a statement.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RefusedStatement(String);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match StoreFault::from_sqlx(&error) {
            Some(fault) => Self::Unavailable(fault),
            None => Self::Database(RefusedStatement(describe(&error))),
        }
    }
}

impl StoreError {
    /// Whether the database itself cannot be used, which is logged once for all who meet it.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(fault) if !fault.cause.is_transient())
    }

    /// Whether the same transaction may succeed if it is tried again at once.
    pub(in crate::store) const fn is_deadlock(&self) -> bool {
        matches!(self, Self::Unavailable(StoreFault { cause: FaultCause::Deadlock, .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_refused_statements() {
        let exhausted = StoreError::from(sqlx::Error::PoolTimedOut);
        assert!(matches!(&exhausted, StoreError::Unavailable(fault) if fault.cause == FaultCause::PoolExhausted));
        assert!(exhausted.is_outage() && !exhausted.is_deadlock());
        assert!(matches!(StoreError::from(sqlx::Error::RowNotFound), StoreError::Database(_)));
    }

    #[test]
    fn a_cause_stands_once_in_the_printed_chain() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let chain = format!("{:#}", anyhow::Error::new(StoreError::from(sqlx::Error::Io(refused))));
        assert_eq!(chain.matches("connection refused").count(), 1, "{chain}");
        assert!(chain.starts_with("the database server cannot be reached"), "{chain}");
    }
}
