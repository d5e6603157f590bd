//! The migrations, built into the program. What was applied once never changes; a later version adds files.

use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use tokio::time::Instant;

use crate::store::database::Database;
use crate::store::database::dialect::Dialect;
use crate::store::{FaultCause, StoreError};

/// Brings the tables up to date, on a connection of its own: a long migration is not broken off after the time that a
/// statement may take.
pub(super) async fn run(database: &Database, dialect: Dialect) -> Result<(), StoreError> {
    let migrator = Migrator::new(EmbeddedMigrations(dialect)).await.map_err(|error| to_migration_error(&error))?;
    let begun = Instant::now();
    loop {
        let apart = database.separate_pool(dialect.migration_session_setup());
        let migrated = match tokio::time::timeout(MIGRATION_TIMEOUT, migrator.run(&apart)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(to_store_error(error)),
            Err(_) => Err(StoreError::MigrationTimedOut),
        };
        let _closed = tokio::time::timeout(CLOSE_TIMEOUT, apart.close()).await;
        match migrated {
            Err(StoreError::Unavailable(fault))
                if fault.cause == FaultCause::Locked && begun.elapsed() < MIGRATION_TIMEOUT =>
            {
                tracing::warn!("another process holds the tables (a migration, or a long transaction); waiting for it");
            }
            ended => return ended,
        }
    }
}

fn to_store_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => to_migration_error(&other),
    }
}

/// A source of its own would repeat its source.
fn to_migration_error(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::NewerTables { found: *version, known: NEWEST_VERSION },
        MigrateError::Dirty(version) => StoreError::HalfMigrated(*version),
        other => StoreError::Migration(other.to_string()),
    }
}

#[derive(Debug)]
struct EmbeddedMigrations(Dialect);

impl MigrationSource<'static> for EmbeddedMigrations {
    fn resolve(self) -> Pin<Box<dyn Future<Output = Result<Vec<Migration>, Box<dyn Error + Send + Sync>>> + Send>> {
        let migrations = FILES
            .iter()
            .map(|(version, description, text)| {
                let sql = self.0.sql(*text).into_sql_str();
                Migration::new(*version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
            })
            .collect();
        Box::pin(std::future::ready(Ok(migrations)))
    }
}

/// How long all migrations together may take, and how long another process is waited for.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The version of the tables that this program makes.
pub(super) const NEWEST_VERSION: i64 = FILES[FILES.len() - 1].0;
const FILES: [(i64, &str, &str); 9] = [
    (1, "first tables", include_str!("migrations/0001_first_tables.sql")),
    (2, "declared and delivered", include_str!("migrations/0002_declared_and_delivered.sql")),
    (3, "renewal", include_str!("migrations/0003_renewal.sql")),
    (4, "dns", include_str!("migrations/0004_dns.sql")),
    (5, "lists", include_str!("migrations/0005_lists.sql")),
    (6, "clock", include_str!("migrations/0006_clock.sql")),
    (7, "columns of what is asked for", include_str!("migrations/0007_columns.sql")),
    (8, "identity", include_str!("migrations/0008_identity.sql")),
    (9, "unreadable orders", include_str!("migrations/0009_unreadable_orders.sql")),
];
