//! Attempts, stage by stage. Every write asks for the lease.

use crate::store::database::Transaction;

use crate::domain::certificate::NewCertificate;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Failure;
use crate::domain::renewal::attempt::{
    Answered, Attempt, Finalizing, Issued, Ordered, Planned, Presented, Ready, SigningRequest, Stage, StageKind, Stored,
};
use crate::domain::value::id::{AttemptId, AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;
use crate::domain::value::resource::Actor;
use crate::domain::value::server_url::OrderUrl;
use crate::store::certificate::certificates::CertificateSource;
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::sealing::seal::SealedLocation;
use crate::store::{AutoCertificateLease, OrderCharge, Store, StoreError};

impl Store {
    /// Stores an attempt at its beginning, which also fulfils the wish for a renewal. Earlier attempts that left no
    /// record in the DNS are forgotten.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where another attempt is open or the database fails.
    pub async fn begin_attempt(&self, lease: &AutoCertificateLease, attempt: &Attempt) -> Result<(), StoreError> {
        let id = lease.id.to_string();
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.clear_renewal_request_in(&mut transaction, lease).await?;
        self.query(CLEAR_DEFERRAL).bind(id.clone()).execute(&mut *transaction).await?;
        self.query(FORGET_EARLIER).bind(id.clone()).execute(&mut *transaction).await?;
        self.query(INSERT)
            .bind(attempt.id.to_string())
            .bind(id)
            .bind(attempt.provider.to_string())
            .bind(documents::texts_to_json(attempt.names.iter().map(ToString::to_string)))
            .bind(attempt.key_algorithm.as_str())
            .bind(attempt.profile.as_ref().map(ToString::to_string))
            .bind(attempt.replaces.as_ref().map(ToString::to_string))
            .bind(attempt.reason.clone())
            .bind(attempt.started.micros())
            .bind(StageKind::Planned.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// The attempt that is not over, where there is one.
    ///
    /// # Errors
    /// Where the database fails or the key cannot be opened.
    pub async fn open_attempt(&self, id: AutoCertificateId) -> Result<Option<Attempt>, StoreError> {
        let row = self.query(GET_OPEN).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        row.map(|row| self.read_attempt(&RowReader::new(&row, TABLE))).transpose()
    }

    /// The provider of the attempt that ended last, where its row is still there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn last_tried_provider(&self, id: AutoCertificateId) -> Result<Option<ProviderId>, StoreError> {
        let row = self.query(ENDED_LAST).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).parsed("provider_id")).transpose()
    }

    /// Keeps that the order of an open attempt replaces nothing, because the CA did not take it so.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn clear_replaces(&self, lease: &AutoCertificateLease, attempt: AttemptId) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.query("UPDATE attempts SET replaces = NULL WHERE id = $1 AND auto_certificate_id = $2")
            .bind(attempt.to_string())
            .bind(lease.id.to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Counts a look at the order of an open attempt that could not be read, and says how many in a row there were; one
    /// that could be read ends the row.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn count_unreadable_order(
        &self,
        lease: &AutoCertificateLease,
        attempt: AttemptId,
        unreadable: bool,
    ) -> Result<u32, StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let row = self
            .query(if unreadable { COUNT_UNREADABLE } else { FORGET_UNREADABLE })
            .bind(attempt.to_string())
            .bind(lease.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let looks = row.map(|row| RowReader::new(&row, TABLE).count("unreadable_looks")).transpose()?;
        transaction.commit().await?;
        Ok(looks.unwrap_or_default())
    }

    /// Stores the next stage of an open attempt; [`Stage::Stored`] ends it, for which there is [`Self::store_issued`].
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], or where the database fails.
    pub async fn store_stage(
        &self,
        lease: &AutoCertificateLease,
        attempt: AttemptId,
        stage: &Stage,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.write_stage(&mut transaction, lease, attempt, stage).await?;
        Ok(transaction.commit().await?)
    }

    /// Ends an open attempt that failed beyond use and notes the trouble, in one; its records are to be removed and its key is forgotten.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], or where the database fails.
    pub async fn end_attempt(
        &self,
        lease: &AutoCertificateLease,
        attempt: AttemptId,
        trouble: &FailureStreak,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let ended = self
            .query(END)
            .bind(attempt.to_string())
            .bind(lease.id.to_string())
            .bind(self.now().micros())
            .bind(documents::failure_to_json(&trouble.last))
            .execute(&mut *transaction)
            .await?;
        if ended.rows_affected() == 0 {
            return Err(StoreError::AttemptOver(attempt));
        }
        self.write_failure_streak(&mut transaction, lease, trouble).await?;
        self.schedule_record_removal(&mut transaction, lease.id, self.now()).await?;
        Ok(transaction.commit().await?)
    }

    /// As [`Self::end_attempt`], for an open attempt that cannot be read.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], or where the database fails.
    pub async fn end_unreadable_attempt(
        &self,
        lease: &AutoCertificateLease,
        trouble: &FailureStreak,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        self.end_open_attempt(&mut transaction, lease.id, &trouble.last).await?;
        self.write_failure_streak(&mut transaction, lease, trouble).await?;
        self.schedule_record_removal(&mut transaction, lease.id, self.now()).await?;
        Ok(transaction.commit().await?)
    }

    /// Stores what was issued, counts it by `booking` and ends the attempt, all in one. Asked again for the same attempt
    /// it gives the same certificate.
    ///
    /// # Errors
    /// [`StoreError::LostLease`], [`StoreError::AttemptOver`], [`StoreError::CompromisedKey`], or where the database fails.
    pub async fn store_issued(
        &self,
        lease: &AutoCertificateLease,
        attempt: &Attempt,
        new: &NewCertificate,
        booking: Option<&OrderCharge>,
        now: Moment,
    ) -> Result<CertificateId, StoreError> {
        let mut transaction = self.begin().await?;
        self.ensure_held(&mut transaction, lease).await?;
        let row = self
            .query(GET_STORED)
            .bind(lease.id.to_string())
            .bind(attempt.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(StoreError::AttemptOver(attempt.id))?;
        let record = RowReader::new(&row, "auto_certificates");
        if let Some(stored) = record.optional_parsed("certificate_id")? {
            return Ok(stored);
        }
        let common_name = record.text("common_name")?;
        let source = CertificateSource {
            auto_certificate: Some(lease.id),
            provider: Some(attempt.provider),
            common_name: &common_name,
        };
        let created = now.max(self.next_creation_moment(&mut transaction, lease.id).await?);
        let id = self.insert_certificate(&mut transaction, new, source, &Actor::autocertd(), created).await?;
        self.write_stage(&mut transaction, lease, attempt.id, &Stage::Stored(Stored { certificate: id })).await?;
        if let Some(booking) = booking {
            self.charge_certificate(&mut transaction, booking, now).await?;
        }
        self.query(NOTE_ISSUED).bind(lease.id.to_string()).bind(now.micros()).execute(&mut *transaction).await?;
        self.schedule_record_removal(&mut transaction, lease.id, now).await?;
        self.wake_deliveries(&mut transaction, lease.id).await?;
        transaction.commit().await?;
        Ok(id)
    }
}

impl Store {
    /// Writes a stage with its data over the one before it. What is over keeps no key.
    async fn write_stage(
        &self,
        transaction: &mut Transaction,
        lease: &AutoCertificateLease,
        attempt: AttemptId,
        stage: &Stage,
    ) -> Result<(), StoreError> {
        let data = StageData::from_stage(stage);
        let row = attempt.to_string();
        let key = data
            .request
            .map(|request| self.0.keys.seal(private_key_location(&row), &request.private_key))
            .transpose()?;
        let written = self
            .query(WRITE_STAGE)
            .bind(row)
            .bind(lease.id.to_string())
            .bind(stage.kind().as_str())
            .bind(data.order.map(ToString::to_string))
            .bind(key)
            .bind(data.request.map(|request| request.csr.clone()))
            .bind(data.chain.map(ToOwned::to_owned))
            .bind(data.certificate.map(|id| id.to_string()))
            .bind(data.certificate.map(|_| self.now().micros()))
            .execute(&mut **transaction)
            .await?;
        if written.rows_affected() == 0 { Err(StoreError::AttemptOver(attempt)) } else { Ok(()) }
    }

    /// The earliest moment of creation by which a certificate is the newest of its auto-certificate, even where the
    /// clock was set back.
    pub(in crate::store) async fn next_creation_moment(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
    ) -> Result<Moment, StoreError> {
        let newest = self.query(NEWEST).bind(id.to_string()).fetch_optional(&mut **transaction).await?;
        let created = newest.map(|row| RowReader::new(&row, "certificates").moment("created_at")).transpose()?;
        Ok(created.map_or(Moment::from_micros(0), |created| created + time::Duration::MICROSECOND))
    }

    /// Ends the open attempt, where there is one; the caller fenced off whoever works on it.
    pub(in crate::store) async fn end_open_attempt(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        self.query(END_OPEN)
            .bind(id.to_string())
            .bind(self.now().micros())
            .bind(documents::failure_to_json(failure))
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    /// Makes the records that no open attempt needs due for their removal.
    pub(in crate::store) async fn schedule_record_removal(
        &self,
        transaction: &mut Transaction,
        id: AutoCertificateId,
        now: Moment,
    ) -> Result<(), StoreError> {
        self.query(SCHEDULE_RECORD_REMOVAL).bind(id.to_string()).bind(now.micros()).execute(&mut **transaction).await?;
        Ok(())
    }

    fn read_attempt(&self, record: &RowReader<'_>) -> Result<Attempt, StoreError> {
        let id = record.parsed::<AttemptId>("id")?;
        Ok(Attempt {
            id,
            auto_certificate: record.parsed("auto_certificate_id")?,
            provider: record.parsed("provider_id")?,
            names: record.texts::<DnsName>("names")?,
            key_algorithm: record.parsed("key_algorithm")?,
            profile: record.optional_parsed("profile")?,
            replaces: record.optional_parsed("replaces")?,
            reason: record.text("reason")?,
            started: record.moment("started_at")?,
            stage: self.read_stage(record, id)?,
        })
    }

    fn read_stage(&self, record: &RowReader<'_>, id: AttemptId) -> Result<Stage, StoreError> {
        let kind = record.require_known("stage", StageKind::from_name(&record.text("stage")?))?;
        let order = || record.text("order_url").map(OrderUrl::from);
        let request = || {
            let sealed = record.bytes("private_key")?;
            let private_key = self.0.keys.open(private_key_location(&id.to_string()), &sealed)?;
            Ok::<_, StoreError>(SigningRequest { private_key, csr: record.bytes("csr")? })
        };
        Ok(match kind {
            StageKind::Planned => Stage::Planned(Planned),
            StageKind::Ordered => Stage::Ordered(Ordered { order: order()? }),
            StageKind::Presented => Stage::Presented(Presented { order: order()? }),
            StageKind::Answered => Stage::Answered(Answered { order: order()? }),
            StageKind::Ready => Stage::Ready(Ready { order: order()? }),
            StageKind::Finalizing => Stage::Finalizing(Finalizing { order: order()?, request: request()? }),
            StageKind::Issued => {
                Stage::Issued(Issued { order: order()?, request: request()?, chain: record.text("chain")? })
            }
            StageKind::Stored => Stage::Stored(Stored { certificate: record.parsed("certificate_id")? }),
        })
    }
}

/// The data of a stage, column by column.
#[derive(Clone, Copy, Default)]
struct StageData<'a> {
    order: Option<&'a OrderUrl>,
    request: Option<&'a SigningRequest>,
    chain: Option<&'a str>,
    certificate: Option<CertificateId>,
}

impl<'a> StageData<'a> {
    fn from_stage(stage: &'a Stage) -> Self {
        match stage {
            Stage::Planned(Planned) => Self::default(),
            Stage::Ordered(Ordered { order })
            | Stage::Presented(Presented { order })
            | Stage::Answered(Answered { order })
            | Stage::Ready(Ready { order }) => Self { order: Some(order), ..Self::default() },
            Stage::Finalizing(Finalizing { order, request }) => {
                Self { order: Some(order), request: Some(request), ..Self::default() }
            }
            Stage::Issued(Issued { order, request, chain }) => {
                Self { order: Some(order), request: Some(request), chain: Some(chain), certificate: None }
            }
            Stage::Stored(Stored { certificate }) => Self { certificate: Some(*certificate), ..Self::default() },
        }
    }
}

const fn private_key_location(row: &str) -> SealedLocation<'_> {
    SealedLocation { table: TABLE, column: "private_key", row }
}

const TABLE: &str = "attempts";
const CLEAR_DEFERRAL: &str = "UPDATE auto_certificates SET held_until = NULL, held_by = NULL WHERE id = $1";
const FORGET_EARLIER: &str = "\
    DELETE FROM attempts WHERE id IN (SELECT t.id FROM attempts t \
    WHERE t.auto_certificate_id = $1 AND t.ended_at IS NOT NULL AND NOT EXISTS \
    (SELECT 1 FROM challenge_records r WHERE r.attempt_id = t.id)@in_order)";
const INSERT: &str = "\
    INSERT INTO attempts (id, auto_certificate_id, provider_id, names, key_algorithm, profile, replaces, reason, \
    started_at, stage) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
pub(in crate::store) const GET_OPEN: &str = "\
    SELECT id, auto_certificate_id, provider_id, names, key_algorithm, profile, replaces, reason, started_at, stage, \
    order_url, private_key, csr, chain, certificate_id FROM attempts WHERE auto_certificate_id = $1 AND ended_at IS NULL";
const ENDED_LAST: &str = "\
    SELECT id, provider_id FROM attempts WHERE auto_certificate_id = $1 AND ended_at IS NOT NULL \
    ORDER BY ended_at DESC, id DESC LIMIT 1";
const GET_STORED: &str = "\
    SELECT a.id, a.common_name, t.certificate_id FROM auto_certificates a \
    JOIN attempts t ON t.auto_certificate_id = a.id WHERE a.id = $1 AND t.id = $2";
const NOTE_ISSUED: &str = "\
    UPDATE auto_certificates SET last_issued = $2, trouble = NULL, intent_changed = 0, held_until = NULL, held_by = NULL \
    WHERE id = $1";
const WRITE_STAGE: &str = "\
    UPDATE attempts SET stage = $3, order_url = $4, private_key = $5, csr = $6, chain = $7, certificate_id = $8, \
    ended_at = $9, unreadable_looks = NULL WHERE id = $1 AND auto_certificate_id = $2 AND ended_at IS NULL";
const COUNT_UNREADABLE: &str = "\
    UPDATE attempts SET unreadable_looks = COALESCE(unreadable_looks, 0) + 1 \
    WHERE id = $1 AND auto_certificate_id = $2 AND ended_at IS NULL RETURNING id, unreadable_looks";
const FORGET_UNREADABLE: &str = "\
    UPDATE attempts SET unreadable_looks = 0 \
    WHERE id = $1 AND auto_certificate_id = $2 AND ended_at IS NULL RETURNING id, unreadable_looks";
const END: &str = "\
    UPDATE attempts SET ended_at = $3, failure = $4, private_key = NULL, csr = NULL, chain = NULL \
    WHERE id = $1 AND auto_certificate_id = $2 AND ended_at IS NULL";
const END_OPEN: &str = "\
    UPDATE attempts SET ended_at = $2, failure = $3, private_key = NULL, csr = NULL, chain = NULL \
    WHERE id IN (SELECT id FROM attempts WHERE auto_certificate_id = $1 AND ended_at IS NULL@in_order)";
const NEWEST: &str = "\
    SELECT created_at FROM certificates WHERE auto_certificate_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1";
const SCHEDULE_RECORD_REMOVAL: &str = "\
    UPDATE challenge_records SET next_try = $2 WHERE id IN \
    (SELECT id FROM challenge_records WHERE auto_certificate_id = $1 AND attempt_id IN \
    (SELECT id FROM attempts WHERE auto_certificate_id = $1 AND ended_at IS NOT NULL)@in_order)";
