//! What can go wrong with the store, and what to do about it.

use std::error::Error;
use std::path::PathBuf;

use crate::domain::id::AttemptId;
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
    /// Challenge records are left, so that the last trace must stay.
    #[error("challenge records are left; remove them from the DNS first")]
    RecordsLeft,
}
