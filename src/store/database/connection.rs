//! A connection that is lent by the pool, and a transaction on it. Each call has a time limit, because a peer that has
//! vanished without a word never ends one; a connection whose state is unknown is closed and never lent again.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, Either, Error, Execute, Executor, SqlStr};

use crate::store::database::DatabaseState;
use crate::store::database::fault::{FaultCause, StoreFault};

/// A connection that is lent; it goes back when it is dropped.
#[derive(Debug)]
pub(in crate::store) struct Connection {
    /// There until the drop.
    raw: Option<PoolConnection<Any>>,
    state: Arc<DatabaseState>,
    condition: ConnectionCondition,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionCondition {
    /// Between two calls.
    Sound,
    /// In the middle of one: whoever asked has gone away if it is dropped so.
    InCall,
    /// It is never lent again.
    Broken,
    /// A transaction is still to be rolled back, which may fail.
    InTransaction,
}

/// A transaction; it is rolled back where it is dropped without [`Transaction::commit`].
#[derive(Debug)]
pub(in crate::store) struct Transaction {
    connection: Connection,
    is_open: bool,
}

impl Connection {
    pub(super) const fn new(raw: PoolConnection<Any>, state: Arc<DatabaseState>) -> Self {
        Self { raw: Some(raw), state, condition: ConnectionCondition::Sound }
    }

    /// Begins a transaction by this statement. sqlx is not told: it counts transactions, and goes on counting one that
    /// SQLite has rolled back by itself because the disk is full.
    pub(super) async fn begin(mut self, statement: &'static str) -> Result<Transaction, Error> {
        self.execute(statement).await?;
        Ok(Transaction { connection: self, is_open: true })
    }

    fn start_call(&mut self) -> Result<(&mut AnyConnection, RunningCall<'_>), Error> {
        let Self { raw, state: shared, condition } = self;
        let raw = raw.as_deref_mut().ok_or(Error::PoolClosed)?;
        *condition = ConnectionCondition::InCall;
        Ok((raw, RunningCall { state: shared, condition }))
    }
}

/// A call that is under way.
struct RunningCall<'c> {
    state: &'c DatabaseState,
    condition: &'c mut ConnectionCondition,
}

impl RunningCall<'_> {
    fn finish(&mut self) {
        *self.condition = ConnectionCondition::Sound;
        self.state.outage.record_read();
    }

    fn fail(&mut self, error: Error) -> Error {
        let (error, fault) = self.state.record_error(error);
        *self.condition = match fault {
            Some(fault) if fault.cause.breaks_connection() => ConnectionCondition::Broken,
            _ => ConnectionCondition::Sound,
        };
        error
    }

    fn time_out(&mut self) -> Error {
        *self.condition = ConnectionCondition::Broken;
        let detail = format!("no answer within {} s", self.state.limit.as_secs());
        let fault = StoreFault::new(FaultCause::NoAnswer, detail);
        self.state.record_fault(&fault);
        fault.into_sqlx()
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let (raw, running) = match self.start_call() {
            Ok(started) => started,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let steps = raw.fetch_many(query);
        stream::try_unfold((steps, running), |(mut steps, mut running)| async move {
            match tokio::time::timeout(running.state.limit, steps.try_next()).await {
                Ok(Ok(Some(step))) => Ok(Some((step, (steps, running)))),
                Ok(Ok(None)) => {
                    running.finish();
                    Ok(None)
                }
                Ok(Err(error)) => Err(running.fail(error)),
                Err(_) => Err(running.time_out()),
            }
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        Box::pin(async move {
            let (raw, mut running) = self.start_call()?;
            match tokio::time::timeout(running.state.limit, raw.fetch_optional(query)).await {
                Ok(Ok(row)) => {
                    running.finish();
                    Ok(row)
                }
                Ok(Err(error)) => Err(running.fail(error)),
                Err(_) => Err(running.time_out()),
            }
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (raw, mut running) = self.start_call()?;
            let prepared = raw.prepare_with(sql, parameters).await.map_err(|error| running.fail(error))?;
            running.finish();
            Ok(prepared)
        })
    }
}

impl Transaction {
    /// Makes lasting what was written. Where this fails nothing was, unless the connection broke.
    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        self.connection.execute("COMMIT").await?;
        self.is_open = false;
        self.connection.state.outage.record_write();
        Ok(())
    }

    /// Undoes what was written.
    pub(in crate::store) async fn rollback(mut self) -> Result<(), Error> {
        self.connection.execute("ROLLBACK").await?;
        self.is_open = false;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.is_open && self.connection.condition == ConnectionCondition::Sound {
            self.connection.condition = ConnectionCondition::InTransaction;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut raw) = self.raw.take() else { return };
        match self.condition {
            ConnectionCondition::Sound => {
                let back = raw.return_to_pool();
                tokio::spawn(tokio::time::timeout(RETURN_TIMEOUT, back));
            }
            ConnectionCondition::InCall | ConnectionCondition::Broken => raw.close_on_drop(),
            ConnectionCondition::InTransaction => {
                tokio::spawn(async move {
                    match tokio::time::timeout(RETURN_TIMEOUT, roll_back(&mut raw)).await {
                        Ok(Ok(())) => {
                            let back = raw.return_to_pool();
                            let _in_time = tokio::time::timeout(RETURN_TIMEOUT, back).await;
                        }
                        Ok(Err(_)) | Err(_) => raw.close_on_drop(),
                    }
                });
            }
        }
    }
}

/// Where the disk is full SQLite has rolled back by itself. The connection is sound then, and should stay open: a full
/// disk may not let us open the file again.
async fn roll_back(raw: &mut AnyConnection) -> Result<(), Error> {
    match raw.execute("ROLLBACK").await {
        Err(Error::Database(error)) if error.message().contains("no transaction is active") => Ok(()),
        ended => ended.map(|_| ()),
    }
}

/// How long a connection may take to go back. What takes longer is dropped.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
