//! What can go wrong with the store, and what to do about it.

use std::error::Error;
use std::path::PathBuf;

use crate::domain::declared::DeclaredKey;
use crate::domain::id::{AttemptId, ProviderId};
use crate::store::key_ring::KeyError;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used right now: unreachable, busy, out of connections or out of disk space.
    #[error("the database cannot be used right now; check that it is reachable and that its disk has room")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused a statement.
    #[error("the database refused a statement; if its tables were not changed by hand this is a defect of autocertd")]
    Database(#[source] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error(
        "the database's tables do not fit this version of autocertd; run the version that wrote them or a newer one"
    )]
    Migration(#[source] sqlx::migrate::MigrateError),
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
    RevocationLeft,
    /// Challenge records are left, so that the last trace must stay.
    #[error("challenge records are left; remove them from the DNS first")]
    RecordsLeft,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_passing(&error) { Self::Unavailable(error) } else { Self::Database(error) }
    }
}

/// Whether the database is to blame, not the statement: the same call may succeed later.
fn is_passing(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => true,
        E::Database(error) => error.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLSTATEs of PostgreSQL have five characters, result codes of SQLite are shorter numbers.
fn is_passing_code(code: &str) -> bool {
    if code.len() == 5 {
        return PASSING_SQL_STATES.iter().any(|class| code.starts_with(class));
    }
    // The lowest byte is the primary result code.
    code.parse::<u32>().is_ok_and(|code| PASSING_SQLITE_CODES.contains(&(code & 0xff)))
}

/// Connection exceptions, refused log-ins, missing databases, serialization failures and deadlocks, insufficient
/// resources, lock time-outs, shut-downs, a read-only replica, and system errors.
const PASSING_SQL_STATES: [&str; 9] = ["08", "28", "3D", "40", "53", "55P03", "57P", "25006", "58"];
/// BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN.
const PASSING_SQLITE_CODES: [u32; 6] = [5, 6, 8, 10, 13, 14];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_faults_are_told_from_refused_statements() {
        for code in ["5", "261", "13", "14", "08006", "53300", "57P01", "40P01"] {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["1", "19", "2067", "23505", "42601", "57014"] {
            assert!(!is_passing_code(code), "{code}");
        }
        assert!(matches!(StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(sqlx::Error::RowNotFound), StoreError::Database(_)));
    }
}
