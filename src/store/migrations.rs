//! The migrations, built into the program. What was applied once never changes; a later version adds files.

use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use sqlx::migrate::{Migration, MigrationSource, MigrationType, Migrator};
use sqlx::{AnyPool, SqlSafeStr};

use crate::store::StoreError;
use crate::store::dialect::Dialect;

/// Brings the tables up to date.
pub(super) async fn run(pool: &AnyPool, dialect: Dialect) -> Result<(), StoreError> {
    let migrator = Migrator::new(Embedded(dialect)).await.map_err(StoreError::Migration)?;
    migrator.run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        other => StoreError::Migration(other),
    })
}

#[derive(Debug)]
struct Embedded(Dialect);

impl MigrationSource<'static> for Embedded {
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

/// The version of the tables that this program makes.
pub(super) const NEWEST: i64 = FILES[FILES.len() - 1].0;
const FILES: [(i64, &str, &str); 4] = [
    (1, "first tables", include_str!("migrations/0001_first_tables.sql")),
    (2, "declared and delivered", include_str!("migrations/0002_declared_and_delivered.sql")),
    (3, "renewal", include_str!("migrations/0003_renewal.sql")),
    (4, "dns", include_str!("migrations/0004_dns.sql")),
];
