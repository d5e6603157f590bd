//! What counts against the limits of CAs, bucket by bucket. The rows of an order's buckets are locked while they are read
//! and written, always in the same order, so that no two replicas take the last token.

use crate::store::database::Transaction;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::any::AnyRow;

use crate::domain::provider::rate_limit_ledger::{
    BucketScope, CaLimits, LimitExceeded, OrderFacts, RateLimitBucket, RateLimitLedger,
};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;
use crate::domain::value::server_url::ServerUrl;
use crate::store::database::row::RowReader;
use crate::store::{AutoCertificateLease, Store, StoreError};

/// Whose buckets they are, and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAccount {
    /// The URL of the account; absent until it is registered, when it has used up nothing yet.
    pub account: Option<String>,
    /// The directory of the CA that the account is with.
    pub server: ServerUrl,
    /// The limits of the CA.
    pub limits: CaLimits,
}

/// An order, and the books that it counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderCharge {
    /// The books.
    pub account: LedgerAccount,
    /// The order.
    pub order: OrderFacts,
}

impl Store {
    /// What counts by `now` in these books.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn ledger(&self, books: &LedgerAccount, now: Moment) -> Result<RateLimitLedger, StoreError> {
        let mut settled = Vec::new();
        if books.limits != CaLimits::NONE {
            for scope in books.scope_ids() {
                let rows = self.query(BY_SCOPE).bind(scope).bind(now.micros()).fetch_all(&self.0.pool).await?;
                settled.extend(self.read_undamaged(&rows, read)?);
            }
        }
        Ok(RateLimitLedger::new(books.limits, settled))
    }

    /// Counts an order that is about to be sent, unless the CA would refuse it for the limit that this gives.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn charge_order(
        &self,
        lease: &AutoCertificateLease,
        booking: &OrderCharge,
    ) -> Result<Result<(), LimitExceeded>, StoreError> {
        let OrderCharge { account: books, order } = booking;
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let mut ledger = self.lock_buckets(&mut transaction, books, order.order_buckets()).await?;
        let now = self.now();
        if let Err(full) = ledger.check_order(order, now) {
            return Ok(Err(full));
        }
        let taken = ledger.charge_order(order, now);
        self.write_buckets(&mut transaction, books, taken).await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }

    /// Counts validations that failed, once for each name.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn charge_failed_validations(
        &self,
        lease: &AutoCertificateLease,
        books: &LedgerAccount,
        names: &[DnsName],
    ) -> Result<(), StoreError> {
        let mut names: Vec<&DnsName> = names.iter().collect();
        names.sort_by_key(|name| name.base());
        names.dedup_by_key(|name| name.base());
        let buckets = names.iter().map(|name| RateLimitBucket::FailedValidations(name.base().to_owned()));
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let mut ledger = self.lock_buckets(&mut transaction, books, buckets).await?;
        let now = self.now();
        let taken: Vec<_> = names.into_iter().filter_map(|name| ledger.charge_failed_validation(name, now)).collect();
        self.write_buckets(&mut transaction, books, taken).await?;
        Ok(transaction.commit().await?)
    }
}

impl Store {
    /// Counts a certificate that was issued for an order.
    pub(in crate::store) async fn charge_certificate(
        &self,
        transaction: &mut Transaction,
        booking: &OrderCharge,
        now: Moment,
    ) -> Result<(), StoreError> {
        let OrderCharge { account: books, order } = booking;
        let mut ledger = self.lock_buckets(transaction, books, order.certificate_buckets()).await?;
        self.write_buckets(transaction, books, ledger.issued(order, now)).await
    }

    /// Forgets the buckets that are as they were before anything was taken.
    pub(in crate::store) async fn forget_recovered(&self, now: Moment) -> Result<(), StoreError> {
        self.query(FORGET_RECOVERED).bind(now.micros()).execute(&self.0.pool).await?;
        Ok(())
    }

    /// Reads these buckets, as far as they are limited, and keeps others from them until the transaction ends. Each has a
    /// row from now on.
    async fn lock_buckets(
        &self,
        transaction: &mut Transaction,
        books: &LedgerAccount,
        buckets: impl Iterator<Item = RateLimitBucket>,
    ) -> Result<RateLimitLedger, StoreError> {
        let mut settled = Vec::new();
        for bucket in buckets.filter(|bucket| books.limits.of(bucket).is_some()) {
            let Some(scope) = books.scope_id(bucket.scope()) else { continue };
            let row = self
                .query(LOCK)
                .bind(row_id(scope, &bucket))
                .bind(scope.to_owned())
                .bind(bucket.kind().as_str())
                .bind(bucket.subject().to_owned())
                .fetch_one(&mut **transaction)
                .await?;
            settled.push((bucket, RowReader::new(&row, TABLE).moment("settled_at")?));
        }
        Ok(RateLimitLedger::new(books.limits, settled))
    }

    async fn write_buckets(
        &self,
        transaction: &mut Transaction,
        books: &LedgerAccount,
        taken: impl IntoIterator<Item = (RateLimitBucket, Moment)>,
    ) -> Result<(), StoreError> {
        for (bucket, settled) in taken {
            let Some(scope) = books.scope_id(bucket.scope()) else { continue };
            self.query("UPDATE ledger SET settled_at = $2, written_at = $3 WHERE id = $1")
                .bind(row_id(scope, &bucket))
                .bind(settled.micros())
                .bind(self.now().micros())
                .execute(&mut **transaction)
                .await?;
        }
        Ok(())
    }
}

impl LedgerAccount {
    fn scope_id(&self, scope: BucketScope) -> Option<&str> {
        match scope {
            BucketScope::Account => self.account.as_deref(),
            BucketScope::Server => Some(self.server.as_str()),
        }
    }

    fn scope_ids(&self) -> impl Iterator<Item = String> {
        [BucketScope::Account, BucketScope::Server]
            .into_iter()
            .filter_map(|scope| self.scope_id(scope).map(ToOwned::to_owned))
    }
}

fn read(row: &AnyRow) -> Result<(RateLimitBucket, Moment), StoreError> {
    let record = RowReader::new(row, TABLE);
    let bucket = RateLimitBucket::from_parts(&record.text("bucket")?, record.text("subject")?);
    Ok((record.require_known("bucket", bucket)?, record.moment("settled_at")?))
}

/// A digest: the names of a large set are longer than what an index of PostgreSQL takes.
fn row_id(scope: &str, bucket: &RateLimitBucket) -> String {
    let whole = [scope, bucket.kind().as_str(), bucket.subject()].join("\n");
    URL_SAFE_NO_PAD.encode(digest(&SHA256, whole.as_bytes()))
}

const TABLE: &str = "ledger";
pub(in crate::store) const BY_SCOPE: &str =
    "SELECT id, bucket, subject, settled_at FROM ledger WHERE scope = $1 AND settled_at > $2";
/// Writing a row as it is waits for whoever writes it, and gives what that one wrote.
const LOCK: &str = "\
    INSERT INTO ledger (id, scope, bucket, subject, settled_at) VALUES ($1, $2, $3, $4, 0) \
    ON CONFLICT (id) DO UPDATE SET settled_at = ledger.settled_at RETURNING id, settled_at";
pub(in crate::store) const FORGET_RECOVERED: &str = "\
    DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE settled_at <= $1@in_order)";
