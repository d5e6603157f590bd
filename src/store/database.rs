//! The database behind the store: a pool of connections whose every call has a time limit, and what is known of its
//! faults. Statements go to it as they go to a pool of sqlx.

mod connection;
pub(super) mod damaged;
pub(super) mod dialect;
pub(super) mod error;
mod fault;
pub(super) mod identity;
pub(super) mod instance_lock;
pub(super) mod lease;
pub(super) mod listing;
mod outage;
pub(super) mod readiness;
pub(super) mod renaming;
pub(super) mod row;

pub(super) use connection::{Connection, Transaction};
pub(super) use fault::describe;
pub use fault::{FaultCause, StoreFault};

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Either, Error, Execute, Executor, Row as _, SqlStr};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::database::dialect::Dialect;
use crate::store::database::outage::Outage;

/// The database. Everything that speaks to it goes through here.
#[derive(Debug)]
pub(super) struct Database {
    pool: AnyPool,
    dialect: Dialect,
    options: AnyConnectOptions,
    state: Arc<DatabaseState>,
    /// What an attempt to connect found when the pool gave nothing.
    diagnosis: Mutex<Option<(Instant, Option<StoreFault>)>>,
}

/// What connections know of their database.
#[derive(Debug)]
struct DatabaseState {
    /// How long one call may take.
    limit: Duration,
    outage: Outage,
    /// Of SQLite.
    file: Option<PathBuf>,
}

impl Database {
    /// Connects. Nothing is kept of `options` that would show in a log.
    pub(super) async fn connect(
        options: AnyConnectOptions,
        dialect: Dialect,
        max_connections: u32,
        limit: Duration,
        file: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let greeting = dialect.session_setup(limit);
        // A file that was closed may not open again while the disk is full, so that it stays open.
        let lifetime = (dialect == Dialect::Postgres).then_some(CONNECTION_LIFETIME);
        let pool = AnyPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(CONNECT_TIMEOUT.min(limit))
            .max_lifetime(lifetime)
            .idle_timeout(lifetime)
            .after_connect(move |connection, _| {
                let greeting = sqlx::AssertSqlSafe(greeting.clone());
                Box::pin(async move { connection.execute(greeting).await.map(|_| ()) })
            })
            .connect_lazy_with(options.clone());
        let shared = Arc::new(DatabaseState { limit, outage: Outage::default(), file });
        let database = Self { pool, dialect, options, state: shared, diagnosis: Mutex::default() };
        drop(database.acquire().await?);
        Ok(database)
    }

    /// A transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        self.acquire().await?.begin(self.dialect.begin()).await
    }

    /// A transaction that sees everything as of one moment.
    pub(super) async fn begin_reading(&self) -> Result<Transaction, Error> {
        self.acquire().await?.begin(self.dialect.begin_read()).await
    }

    /// A connection apart from the others and without their time limits, which is told `greeting`.
    pub(super) fn separate_pool(&self, greeting: &'static str) -> AnyPool {
        AnyPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIMEOUT.min(self.state.limit))
            .after_connect(move |connection, _| Box::pin(async move { connection.execute(greeting).await.map(|_| ()) }))
            .connect_lazy_with(self.options.clone())
    }

    /// Refuses a PostgreSQL that is too old, and a pooler that gives each transaction another session: the settings of a
    /// session, its prepared statements and the lock of the migrations would be lost.
    pub(super) async fn check_server(&self) -> Result<(), Error> {
        if self.dialect == Dialect::Sqlite {
            return Ok(());
        }
        let (one, other) = (self.separate_pool(""), self.separate_pool(""));
        let checked = tokio::time::timeout(self.state.limit, check_sessions(&one, &other)).await;
        let closing = async { tokio::join!(one.close(), other.close()) };
        let _closed = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        let found = match checked {
            Ok(checked) => checked,
            Err(_) => Err(StoreFault::new(FaultCause::NoAnswer, "no answer in time").into_sqlx()),
        };
        found.map_err(|error| self.state.record_error(error).0)
    }

    /// What is wrong with it, as far as the calls of this process know.
    pub(super) fn outage(&self) -> Option<StoreFault> {
        self.state.outage.current()
    }

    /// Closes the connections, after which every call fails; those that do not close in time are left to the system.
    pub(super) async fn close(&self) {
        if tokio::time::timeout(CLOSE_TIMEOUT, self.pool.close()).await.is_err() {
            tracing::warn!("the database did not close its connections in time; they end with the process");
        }
    }

    pub(super) async fn acquire(&self) -> Result<Connection, Error> {
        match self.pool.acquire().await {
            Ok(raw) => Ok(Connection::new(raw, Arc::clone(&self.state))),
            Err(Error::PoolTimedOut) => Err(self.diagnose_acquire_failure().await),
            Err(error) => Err(self.state.record_error(error).0),
        }
    }

    /// Why the pool gave no connection: the server's own answer, or that all are in use. sqlx waits for a server that
    /// refuses connections, and then tells of a time-out alone. Of many callers one asks.
    async fn diagnose_acquire_failure(&self) -> Error {
        let mut diagnosis = self.diagnosis.lock().await;
        let found = match &*diagnosis {
            Some((at, found)) if at.elapsed() < DIAGNOSIS_TTL => found.clone(),
            _ => {
                let greeting = self.dialect.session_setup(self.state.limit);
                let found = match tokio::time::timeout(DIAGNOSE_TIMEOUT, test_connection(&self.options, greeting)).await
                {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(self.state.find_fault(&error).unwrap_or_else(|| unknown_fault(&error))),
                    Err(_) => Some(StoreFault::new(FaultCause::NoAnswer, "no connection in time")),
                };
                *diagnosis = Some((Instant::now(), found.clone()));
                found
            }
        };
        let exhausted = || StoreFault::new(FaultCause::PoolExhausted, "no free connection in time");
        let fault = found.unwrap_or_else(exhausted);
        self.state.record_fault(&fault);
        fault.into_sqlx()
    }
}

/// Connects as the pool does, which tells of no error of the greeting.
async fn test_connection(options: &AnyConnectOptions, greeting: String) -> Result<(), Error> {
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute(sqlx::AssertSqlSafe(greeting)).await?;
    connection.close().await
}

async fn check_sessions(one: &AnyPool, other: &AnyPool) -> Result<(), Error> {
    let version: String = sqlx::query("SHOW server_version_num").fetch_one(one).await?.try_get(0)?;
    if version.parse::<u32>().is_ok_and(|version| version < MIN_SERVER_VERSION) {
        return Err(StoreFault::new(FaultCause::ServerTooOld, format!("server_version_num is {version}")).into_sqlx());
    }
    // Two clients that are connected at the same time have two sessions, and keep them.
    for _ in 0..3 {
        let (first, second, again) = (session_id(one).await?, session_id(other).await?, session_id(one).await?);
        if first == second || first != again {
            let detail = "two connections had the same session, or one had two";
            return Err(StoreFault::new(FaultCause::TransactionPooling, detail).into_sqlx());
        }
    }
    Ok(())
}

/// Which session of which server a connection has.
async fn session_id(connection: &AnyPool) -> Result<String, Error> {
    let session = "SELECT CAST(pg_backend_pid() AS TEXT) || ' ' || CAST(pg_postmaster_start_time() AS TEXT)";
    sqlx::query(session).fetch_one(connection).await?.try_get(0)
}

fn unknown_fault(error: &Error) -> StoreFault {
    StoreFault::new(FaultCause::Other, describe(error))
}

impl DatabaseState {
    /// Notes the fault behind an error, and gives the error with all that can be found out about it.
    fn record_error(&self, error: Error) -> (Error, Option<StoreFault>) {
        match self.find_fault(&error) {
            Some(fault) => {
                self.record_fault(&fault);
                (fault.clone().into_sqlx(), Some(fault))
            }
            None => (error, None),
        }
    }

    fn find_fault(&self, error: &Error) -> Option<StoreFault> {
        let fault = StoreFault::from_sqlx(error)?;
        match (&self.file, fault.cause) {
            // SQLite does not say why it could not.
            (Some(file), FaultCause::CannotOpen) => Some(match OpenOptions::new().read(true).write(true).open(file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    StoreFault::new(FaultCause::CannotOpen, error.to_string())
                }
                Err(error) => match fault::cause_from_io(&error) {
                    FaultCause::Unreachable => fault,
                    cause => StoreFault::new(cause, error.to_string()),
                },
                Ok(_) => fault,
            }),
            _ => Some(fault),
        }
    }

    fn record_fault(&self, fault: &StoreFault) {
        self.outage.record_fault(fault);
    }
}

/// Each statement on a connection of its own. Rows are collected first: who wants them one by one takes a transaction.
impl<'p> Executor<'p> for &'p Database {
    type Database = Any;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<AnyQueryResult, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        Box::pin(async move {
            let mut connection = self.acquire().await?;
            let done = connection.execute(query).await?;
            self.state.outage.record_write();
            Ok(done)
        })
    }

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let collected = async move {
            let mut connection = self.acquire().await?;
            let steps: Vec<_> = connection.fetch_many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(steps.into_iter().map(Ok)))
        };
        stream::once(collected).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        Box::pin(async move { self.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }
}

/// How long a call waits for a free connection, or for a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(3);
const DIAGNOSIS_TTL: Duration = Duration::from_secs(2);
/// As `server_version_num` has it.
const MIN_SERVER_VERSION: u32 = 130_000;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of PostgreSQL end after a while, so that a fleet spreads over servers anew.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(30);
