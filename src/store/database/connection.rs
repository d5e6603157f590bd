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

use crate::store::database::Shared;
use crate::store::database::fault::{FaultCause, StoreFault};

/// A connection that is lent; it goes back when it is dropped.
#[derive(Debug)]
pub(in crate::store) struct Connection {
    /// There until the drop.
    raw: Option<PoolConnection<Any>>,
    shared: Arc<Shared>,
    condition: Condition,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Between two calls.
    Sound,
    /// In the middle of one: whoever asked has gone away if it is dropped so.
    Calling,
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
    pub(super) const fn new(raw: PoolConnection<Any>, shared: Arc<Shared>) -> Self {
        Self { raw: Some(raw), shared, condition: Condition::Sound }
    }

    /// Begins a transaction by this statement. sqlx is not told: it counts transactions, and goes on counting one that
    /// SQLite has rolled back by itself because the disk is full.
    pub(super) async fn begin(mut self, statement: &'static str) -> Result<Transaction, Error> {
        self.execute(statement).await?;
        Ok(Transaction { connection: self, is_open: true })
    }

    fn start(&mut self) -> Result<(&mut AnyConnection, Running<'_>), Error> {
        let Self { raw, shared, condition } = self;
        let raw = raw.as_deref_mut().ok_or(Error::PoolClosed)?;
        *condition = Condition::Calling;
        Ok((raw, Running { shared, condition }))
    }
}

/// A call that is under way.
struct Running<'c> {
    shared: &'c Shared,
    condition: &'c mut Condition,
}

impl Running<'_> {
    fn ended(&mut self) {
        *self.condition = Condition::Sound;
        self.shared.outage.read();
    }

    fn failed(&mut self, error: Error) -> Error {
        let (error, fault) = self.shared.explain(error);
        *self.condition = match fault {
            Some(fault) if fault.cause.spoils_connection() => Condition::Broken,
            _ => Condition::Sound,
        };
        error
    }

    fn timed_out(&mut self) -> Error {
        *self.condition = Condition::Broken;
        let detail = format!("no answer within {} s", self.shared.limit.as_secs());
        let fault = StoreFault::new(FaultCause::NoAnswer, detail);
        self.shared.failed(&fault);
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
        let (raw, running) = match self.start() {
            Ok(started) => started,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let steps = raw.fetch_many(query);
        stream::try_unfold((steps, running), |(mut steps, mut running)| async move {
            match tokio::time::timeout(running.shared.limit, steps.try_next()).await {
                Ok(Ok(Some(step))) => Ok(Some((step, (steps, running)))),
                Ok(Ok(None)) => {
                    running.ended();
                    Ok(None)
                }
                Ok(Err(error)) => Err(running.failed(error)),
                Err(_) => Err(running.timed_out()),
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
            let (raw, mut running) = self.start()?;
            match tokio::time::timeout(running.shared.limit, raw.fetch_optional(query)).await {
                Ok(Ok(row)) => {
                    running.ended();
                    Ok(row)
                }
                Ok(Err(error)) => Err(running.failed(error)),
                Err(_) => Err(running.timed_out()),
            }
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (raw, mut running) = self.start()?;
            let prepared = raw.prepare_with(sql, parameters).await.map_err(|error| running.failed(error))?;
            running.ended();
            Ok(prepared)
        })
    }
}

impl Transaction {
    /// Makes lasting what was written. Where this fails nothing was, unless the connection broke.
    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        self.connection.execute("COMMIT").await?;
        self.is_open = false;
        self.connection.shared.outage.wrote();
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
        if self.is_open && self.connection.condition == Condition::Sound {
            self.connection.condition = Condition::InTransaction;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut raw) = self.raw.take() else { return };
        match self.condition {
            Condition::Sound => {
                let back = raw.return_to_pool();
                tokio::spawn(tokio::time::timeout(TO_GIVE_BACK, back));
            }
            Condition::Calling | Condition::Broken => raw.close_on_drop(),
            Condition::InTransaction => {
                tokio::spawn(async move {
                    match tokio::time::timeout(TO_GIVE_BACK, roll_back(&mut raw)).await {
                        Ok(Ok(())) => {
                            let back = raw.return_to_pool();
                            let _in_time = tokio::time::timeout(TO_GIVE_BACK, back).await;
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
const TO_GIVE_BACK: Duration = Duration::from_secs(5);
