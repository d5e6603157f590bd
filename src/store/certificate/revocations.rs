//! Revocations: the wish is kept with the certificate before the CA hears of it, and worked off like everything that is
//! due. Whoever claims one has it for the length of a lease; the moment until then is the fence. Keys that are known to
//! others are kept here, too.

use crate::store::database::Transaction;

use crate::domain::certificate::fingerprint::KeyFingerprint;
use crate::domain::certificate::leaf::Leaf;
use crate::domain::certificate::revocation::{Revocation, RevocationReason};
use crate::domain::certificate::serial_number::SerialNumber;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::store::auto_certificate::claims::MAX_PLANNED_AHEAD;
use crate::store::certificate::certificates::TABLE;
use crate::store::database::lease::check_fence;
use crate::store::database::row::RowReader;
use crate::store::{LEASE_DURATION, Store, StoreError, auto_certificate::declared, documents};

/// What became of the wish for a revocation.
#[derive(Clone, Debug)]
pub enum RevocationRequestOutcome {
    /// It is stored, and claimed for whoever asked.
    Stored(Box<RevocationClaim>),
    /// The CA had carried one out before.
    AlreadyRevoked(Revocation),
    /// It was not issued here, so that no account of ours can revoke it.
    NotIssuedHere,
    /// There is no such certificate.
    Missing,
}

/// A revocation that was claimed to be carried out.
#[derive(Clone, Debug)]
pub struct RevocationClaim {
    /// The certificate.
    pub certificate: CertificateId,
    /// What it was issued for, which may be deleted by now.
    pub auto_certificate: AutoCertificateId,
    /// Who issued it; nothing where nobody knows any more.
    pub provider: Option<ProviderId>,
    /// What the certificate says.
    pub leaf: Leaf,
    /// The certificate, PEM.
    pub pem: String,
    /// How far it has come.
    pub revocation: Revocation,
    /// The end of the claim, by which it is told from any other.
    until: Moment,
}

impl Store {
    /// Asks for the revocation of an issued certificate, whose auto-certificate needs a new one at once where this is its
    /// newest. Asked for again with another reason, that one counts until the CA has carried it out. For
    /// [`RevocationReason::KeyCompromise`] its key is never used again, from now on.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn request_revocation(
        &self,
        id: CertificateId,
        reason: RevocationReason,
    ) -> Result<RevocationRequestOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let locked = self.query(LOCK).bind(id.to_string()).execute(&mut *transaction).await?;
        if locked.rows_affected() == 0 {
            return Ok(RevocationRequestOutcome::Missing);
        }
        let Some(RevocationTarget { auto_certificate, leaf, revocation }) =
            self.load_revocation_target(&mut transaction, id).await?
        else {
            return Ok(RevocationRequestOutcome::NotIssuedHere);
        };
        if reason == RevocationReason::KeyCompromise {
            self.store_compromised_key(&mut transaction, leaf.key_fingerprint()).await?;
        }
        self.query(REPLACE)
            .bind(auto_certificate.to_string())
            .bind(id.to_string())
            .bind(self.now().micros())
            .execute(&mut *transaction)
            .await?;
        let request = match revocation {
            Some(done) if done.done_at.is_some() => RevocationRequestOutcome::AlreadyRevoked(done),
            earlier => {
                let requested = earlier.map_or_else(|| self.now(), |earlier| earlier.requested_at);
                let wish = Revocation::new(reason, requested);
                let until = self.now() + CLAIM_DURATION;
                self.query(REQUEST)
                    .bind(id.to_string())
                    .bind(documents::revocation::revocation_to_json(&wish))
                    .bind(until.micros())
                    .execute(&mut *transaction)
                    .await?;
                let claim = self.read_revocation_claim(&mut transaction, &id.to_string()).await?;
                RevocationRequestOutcome::Stored(Box::new(claim))
            }
        };
        transaction.commit().await?;
        Ok(request)
    }

    /// Claims at most `limit` of the revocations that are due at `now`, the longest due first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_due_revocations(&self, now: Moment, limit: u32) -> Result<Vec<RevocationClaim>, StoreError> {
        let mut transaction = self.begin().await?;
        let rows = self
            .query(CLAIM_DUE)
            .bind(now.micros())
            .bind((self.now() + CLAIM_DURATION).micros())
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = RowReader::new(row, TABLE).text("id")?;
            // The claim of a damaged row lapses, and it is looked at again then.
            claims.extend(self.ok_unless_damaged(self.read_revocation_claim(&mut transaction, &id).await)?);
        }
        transaction.commit().await?;
        Ok(claims)
    }

    /// Notes that the CA has carried a revocation out, which is so whoever has the claim by now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_revocation_done(&self, claim: &RevocationClaim, now: Moment) -> Result<Revocation, StoreError> {
        let revocation = claim.revocation.clone().with_done(now);
        self.query(DONE)
            .bind(claim.certificate.to_string())
            .bind(documents::revocation::revocation_to_json(&revocation))
            .execute(&self.0.pool)
            .await?;
        Ok(revocation)
    }

    /// Notes what keeps the CA from a revocation, and when to try again: before the certificate expires, whatever pause the
    /// trouble asks for, and not any more from then on.
    ///
    /// # Errors
    /// [`StoreError::LostLease`] where somebody else has the claim by now, or where the database fails.
    pub async fn record_revocation_failure_streak(
        &self,
        claim: &RevocationClaim,
        trouble: FailureStreak,
    ) -> Result<Revocation, StoreError> {
        let again = trouble.clone().within(claim.leaf.not_after);
        let next_look = again.as_ref().map(|again| again.next_try.min(self.now() + MAX_PLANNED_AHEAD));
        let revocation = claim.revocation.clone().with_failure_streak(again.unwrap_or(trouble));
        let stored = self
            .query(RECORD_FAILURE_STREAK)
            .bind(claim.certificate.to_string())
            .bind(claim.until.micros())
            .bind(documents::revocation::revocation_to_json(&revocation))
            .bind(next_look.map(Moment::micros))
            .execute(&self.0.pool)
            .await?;
        check_fence(stored.rows_affected())?;
        Ok(revocation)
    }

    /// Makes the revocations due that wait for a person; says how many.
    pub(in crate::store) async fn recheck_revocations(&self) -> Result<u64, StoreError> {
        let mut waiting = 0;
        // What is due by then, or claimed, is tried anyway.
        for row in self.query(WAITING).bind((self.now() + CLAIM_DURATION).micros()).fetch_all(&self.0.pool).await? {
            let record = RowReader::new(&row, TABLE);
            let revocation = self.ok_unless_damaged(record.revocation("revocation"))?;
            let trouble = revocation.flatten().and_then(|revocation| revocation.failure_streak);
            if trouble.is_some_and(|trouble| trouble.last.disposition == Disposition::Operator) {
                let look = self
                    .query(RECHECK)
                    .bind(record.text("id")?)
                    .bind(record.moment("revocation_look")?.micros())
                    .bind(self.now().micros());
                waiting += look.execute(&self.0.pool).await?.rows_affected();
            }
        }
        Ok(waiting)
    }

    /// The earliest moment at which a revocation is to be carried out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn earliest_revocation_check(&self) -> Result<Option<Moment>, StoreError> {
        let row = self.query(EARLIEST).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).moment("revocation_look")).transpose()
    }

    /// The certificate of this auto-certificate that the CA is still to revoke; of several the newest.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate_to_revoke(&self, of: AutoCertificateId) -> Result<Option<CertificateId>, StoreError> {
        let row = self.query(TO_REVOKE).bind(of.to_string()).fetch_optional(&self.0.pool).await?;
        row.map(|row| RowReader::new(&row, TABLE).parsed("id")).transpose()
    }

    /// The certificates with this serial number: more than one where several CAs use it, or one was uploaded as well.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificates_with_serial(&self, serial: &SerialNumber) -> Result<Vec<CertificateId>, StoreError> {
        // People ask rarely, and no index knows what is inside a certificate.
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let rows = self.query(PAGE).bind(after).bind(BATCH_SIZE).fetch_all(&self.0.pool).await?;
            for row in &rows {
                let record = RowReader::new(row, TABLE);
                let leaf = Leaf::from_pem(&record.text("certificate")?);
                if leaf.is_ok_and(|leaf| leaf.serial_number.parse().as_ref() == Ok(serial)) {
                    found.push(record.parsed("id")?);
                }
            }
            let Some(last) = rows.last() else { return Ok(found) };
            after = RowReader::new(last, TABLE).text("id")?;
        }
    }
}

impl Store {
    /// Goes on only with a key that is not known to be compromised.
    pub(in crate::store) async fn refuse_compromised(
        &self,
        transaction: &mut Transaction,
        leaf: &Leaf,
    ) -> Result<(), StoreError> {
        let known = self.query(COMPROMISED).bind(leaf.key_fingerprint().to_string());
        match known.fetch_optional(&mut **transaction).await? {
            Some(_) => Err(StoreError::CompromisedKey),
            None => Ok(()),
        }
    }

    /// Keeps a key from being used ever again. Attempts that would are ended, and begun anew with another one.
    async fn store_compromised_key(
        &self,
        transaction: &mut Transaction,
        key: KeyFingerprint,
    ) -> Result<(), StoreError> {
        let now = self.now();
        self.query(INSERT_COMPROMISED_KEY).bind(key.to_string()).bind(now.micros()).execute(&mut **transaction).await?;
        for row in self.query(REQUESTS).fetch_all(&mut **transaction).await? {
            let record = RowReader::new(&row, "attempts");
            if KeyFingerprint::from_csr(&record.bytes("csr")?) == Some(key) {
                let id = record.parsed("auto_certificate_id")?;
                let failure = Failure::restart("its key became known to others; another one is made");
                self.query(declared::RECHECK)
                    .bind(record.text("auto_certificate_id")?)
                    .bind(now.micros())
                    .execute(&mut **transaction)
                    .await?;
                self.end_open_attempt(transaction, id, &failure).await?;
                self.schedule_record_removal(transaction, id, now).await?;
            }
        }
        Ok(())
    }

    /// What a wish is about; nothing where it was not issued here.
    async fn load_revocation_target(
        &self,
        transaction: &mut Transaction,
        id: CertificateId,
    ) -> Result<Option<RevocationTarget>, StoreError> {
        let row = self.query(GET).bind(id.to_string()).fetch_one(&mut **transaction).await?;
        let record = RowReader::new(&row, TABLE);
        let Some(auto_certificate) = record.optional_parsed("auto_certificate_id")? else { return Ok(None) };
        let leaf =
            Leaf::from_pem(&record.text("certificate")?).map_err(|error| record.corrupt("certificate", error))?;
        Ok(Some(RevocationTarget { auto_certificate, leaf, revocation: record.revocation("revocation")? }))
    }

    async fn read_revocation_claim(
        &self,
        transaction: &mut Transaction,
        id: &str,
    ) -> Result<RevocationClaim, StoreError> {
        let row = self.query(GET).bind(id.to_owned()).fetch_one(&mut **transaction).await?;
        let record = RowReader::new(&row, TABLE);
        let pem = record.text("certificate")?;
        Ok(RevocationClaim {
            certificate: record.parsed("id")?,
            auto_certificate: record.parsed("auto_certificate_id")?,
            provider: record.optional_parsed("provider_id")?,
            leaf: Leaf::from_pem(&pem).map_err(|error| record.corrupt("certificate", error))?,
            pem,
            revocation: record.require_known("revocation", record.revocation("revocation")?)?,
            until: record.moment("revocation_look")?,
        })
    }
}

/// The certificate that a wish is about.
struct RevocationTarget {
    auto_certificate: AutoCertificateId,
    leaf: Leaf,
    revocation: Option<Revocation>,
}

/// How long a claim lasts.
const CLAIM_DURATION: time::Duration = time::Duration::seconds(LEASE_DURATION.as_secs().cast_signed());
const LOCK: &str = "UPDATE certificates SET revocation = revocation WHERE id = $1";
/// What was issued by an older version does not say by whom: then its auto-certificate does.
const GET: &str = "\
    SELECT c.id, c.auto_certificate_id, c.certificate, c.revocation, c.revocation_look, COALESCE(c.provider_id, \
    (SELECT a.provider_id FROM auto_certificates a WHERE a.id = c.auto_certificate_id)) AS provider_id \
    FROM certificates c WHERE c.id = $1";
const REQUEST: &str = "UPDATE certificates SET revocation = $2, revocation_look = $3 WHERE id = $1";
/// What kept its auto-certificate from a new one before is no reason to wait now: a person asked.
const REPLACE: &str = "\
    UPDATE auto_certificates SET trouble = NULL, held_until = NULL, held_by = NULL, next_look = $3, wakes = wakes + 1 \
    WHERE id = $1 AND deleted_at IS NULL AND $2 = (SELECT c.id FROM certificates c \
    WHERE c.auto_certificate_id = $1 ORDER BY c.created_at DESC, c.id DESC LIMIT 1)";
/// It is asked twice whether it is due: between the look and the write another session may have claimed the row.
pub(in crate::store) const CLAIM_DUE: &str = "\
    WITH due AS MATERIALIZED (SELECT id FROM certificates WHERE revocation_look <= $1 \
    ORDER BY revocation_look LIMIT $3) \
    UPDATE certificates SET revocation_look = $2 WHERE id IN (SELECT id FROM certificates WHERE id IN (SELECT id FROM due)@in_order) \
    AND revocation_look <= $1 \
    RETURNING id";
const DONE: &str = "\
    UPDATE certificates SET revocation = $2, revocation_look = NULL WHERE id = $1 AND revocation_look IS NOT NULL";
const RECORD_FAILURE_STREAK: &str =
    "UPDATE certificates SET revocation = $3, revocation_look = $4 WHERE id = $1 AND revocation_look = $2";
pub(in crate::store) const WAITING: &str =
    "SELECT id, revocation, revocation_look FROM certificates WHERE revocation_look > $1";
const RECHECK: &str = "UPDATE certificates SET revocation_look = $3 WHERE id = $1 AND revocation_look = $2";
pub(in crate::store) const EARLIEST: &str = "\
    SELECT id, revocation_look FROM certificates WHERE revocation_look IS NOT NULL ORDER BY revocation_look LIMIT 1";
pub(in crate::store) const TO_REVOKE: &str = "\
    SELECT id FROM certificates WHERE auto_certificate_id = $1 AND revocation_look IS NOT NULL \
    ORDER BY created_at DESC, id DESC LIMIT 1";
pub(in crate::store) const PAGE: &str = "SELECT id, certificate FROM certificates WHERE id > $1 ORDER BY id LIMIT $2";
const BATCH_SIZE: i64 = 500;
const INSERT_COMPROMISED_KEY: &str =
    "INSERT INTO compromised_keys (id, noted_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const COMPROMISED: &str = "SELECT id FROM compromised_keys WHERE id = $1";
/// Few attempts are open at a time, and fewer of them have a key.
pub(in crate::store) const REQUESTS: &str =
    "SELECT id, auto_certificate_id, csr FROM attempts WHERE ended_at IS NULL AND csr IS NOT NULL";
