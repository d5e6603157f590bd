//! What a clock that was ahead wrote is forgotten when it is right again (decision 12 of the renewal design). Moments that
//! a fact needs move back by as much as the clock was ahead; what only put something off goes. No certificate, key or
//! account is touched.

use time::Duration;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::provider::AccountNote;
use crate::domain::value::moment::Moment;
use crate::store::database::row::RowReader;
use crate::store::documents::account_note::account_note_to_json;
use crate::store::documents::breaker::breaker_to_json;
use crate::store::documents::revocation::revocation_to_json;
use crate::store::{Store, StoreError};

impl Store {
    /// Mends what was written by a clock that was ahead by so much and shows `now` again; says how many rows that were.
    /// What it planned is mended by [`Store::repair_next_checks`].
    ///
    /// # Errors
    /// Where the database fails. Then it is to be done again, which does no harm.
    pub async fn repair_after_clock_ahead(&self, now: Moment, ahead: Duration) -> Result<u64, StoreError> {
        let (mut mended, ahead) = (0, i64::try_from(ahead.whole_microseconds()).unwrap_or(i64::MAX));
        for statement in MOVE_BACK {
            mended +=
                self.query(*statement).bind(now.micros()).bind(ahead).execute(&self.0.pool).await?.rows_affected();
        }
        for statement in CLEAR_POSTPONEMENTS {
            mended += self.query(*statement).bind(now.micros()).execute(&self.0.pool).await?.rows_affected();
        }
        mended += self.query(END_REMOVALS).execute(&self.0.pool).await?.rows_affected();
        for (table, page, forget) in FAILURE_STREAKS {
            mended += self.clear_future_failure_streaks(table, page, forget, now).await?;
        }
        mended += self.repair_providers(now).await?;
        Ok(mended + self.repair_revocations(now).await?)
    }

    /// Gives the leases of this process their whole time anew, after the clock by which they run was set: nothing that is
    /// being worked on becomes free, and nothing stays leased for years.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_own_leases(&self) -> Result<(), StoreError> {
        // On PostgreSQL they run by the time of the database.
        if self.is_shared() {
            return Ok(());
        }
        for statement in RENEW_LEASES {
            self.query(*statement).bind(self.0.instance.clone()).execute(&self.0.pool).await?;
        }
        Ok(())
    }
}

impl Store {
    async fn clear_future_failure_streaks(
        &self,
        table: &'static str,
        page: &'static str,
        forget: &'static str,
        now: Moment,
    ) -> Result<u64, StoreError> {
        let (mut forgotten, mut after) = (0, String::new());
        loop {
            let rows = self.query(page).bind(after).bind(BATCH_SIZE).fetch_all(&self.0.pool).await?;
            for row in &rows {
                let record = RowReader::new(row, table);
                let trouble = skip_damaged_row(record.failure_streak("trouble"))?.flatten();
                if trouble.is_some_and(|trouble| is_in_future(&trouble, now)) {
                    let forget = self.query(forget).bind(record.text("id")?).bind(now.micros());
                    forgotten += forget.execute(&self.0.pool).await?.rows_affected();
                }
            }
            let Some(last) = rows.last() else { return Ok(forgotten) };
            after = RowReader::new(last, table).text("id")?;
        }
    }

    /// Breakers, and notes on accounts.
    async fn repair_providers(&self, now: Moment) -> Result<u64, StoreError> {
        let mut mended = 0;
        for row in self.query(PROVIDERS).fetch_all(&self.0.pool).await? {
            let record = RowReader::new(&row, "providers");
            let Some(breaker) = skip_damaged_row(record.breaker("breaker"))? else { continue };
            let mut kept = breaker.clone().filter(|breaker| breaker.since <= now);
            if let Some(kept) = &mut kept {
                kept.probe_at = kept.probe_at.map(|probe_at| probe_at.min(now));
            }
            if kept != breaker {
                let stored = self.query("UPDATE providers SET breaker = $2 WHERE id = $1").bind(record.text("id")?);
                let stored = stored.bind(kept.as_ref().map(breaker_to_json)).execute(&self.0.pool).await?;
                mended += stored.rows_affected();
            }
            let note = skip_damaged_row(record.account_note("account_note"))?.flatten();
            let at_last = note.clone().map(|note| match note {
                AccountNote::Lost { account, at } => AccountNote::Lost { account, at: at.min(now) },
                AccountNote::Deactivated { account, at } => AccountNote::Deactivated { account, at: at.min(now) },
            });
            if at_last != note {
                let stored =
                    self.query("UPDATE providers SET account_note = $2 WHERE id = $1").bind(record.text("id")?);
                let stored = stored.bind(at_last.as_ref().map(account_note_to_json)).execute(&self.0.pool).await?;
                mended += stored.rows_affected();
            }
        }
        Ok(mended)
    }

    async fn repair_revocations(&self, now: Moment) -> Result<u64, StoreError> {
        let (mut mended, mut after) = (0, String::new());
        loop {
            let rows = self.query(REVOCATIONS).bind(after).bind(BATCH_SIZE).fetch_all(&self.0.pool).await?;
            for row in &rows {
                let record = RowReader::new(row, "certificates");
                let Some(Some(revocation)) = skip_damaged_row(record.revocation("revocation"))? else { continue };
                let mut kept = revocation.clone();
                kept.failure_streak = kept.failure_streak.filter(|trouble| !is_in_future(trouble, now));
                (kept.requested_at, kept.done_at) =
                    (kept.requested_at.min(now), kept.done_at.map(|done| done.min(now)));
                if kept != revocation {
                    let stored = self.query("UPDATE certificates SET revocation = $2 WHERE id = $1");
                    let stored = stored.bind(record.text("id")?).bind(revocation_to_json(&kept));
                    mended += stored.execute(&self.0.pool).await?.rows_affected();
                }
            }
            let Some(last) = rows.last() else { return Ok(mended) };
            after = RowReader::new(last, "certificates").text("id")?;
        }
    }
}

/// One damaged row must not hold up the others.
fn skip_damaged_row<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error @ StoreError::CorruptRow { .. }) => {
            tracing::error!(%error, "a row that a wrong clock may have written cannot be read");
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn is_in_future(trouble: &FailureStreak, now: Moment) -> bool {
    trouble.at > now
}

const BATCH_SIZE: i64 = 500;
/// Facts. All that was written while the clock was ahead moves by the same span, so that what is newer stays newer.
const MOVE_BACK: &[&str] = &[
    "UPDATE auto_certificates SET last_issued = last_issued - $2 \
     WHERE id IN (SELECT id FROM auto_certificates WHERE last_issued > $1@in_order)",
    "UPDATE certificates SET created_at = created_at - $2 \
     WHERE id IN (SELECT id FROM certificates WHERE auto_certificate_id IS NOT NULL AND created_at > $1@in_order)",
    "UPDATE deliveries SET certificate_created_at = certificate_created_at - $2 \
     WHERE id IN (SELECT id FROM deliveries WHERE certificate_created_at > $1@in_order)",
    "UPDATE deliveries SET delivered_at = delivered_at - $2 \
     WHERE id IN (SELECT id FROM deliveries WHERE delivered_at > $1@in_order)",
    "UPDATE ledger SET settled_at = settled_at - $2, written_at = $1 \
     WHERE id IN (SELECT id FROM ledger WHERE written_at > $1@in_order)",
];
/// What only puts something off.
const CLEAR_POSTPONEMENTS: &[&str] = &[
    "UPDATE auto_certificates SET held_until = NULL, held_by = NULL, next_look = $1, wakes = wakes + 1 \
     WHERE id IN (SELECT id FROM auto_certificates WHERE held_kind IS NOT NULL AND held_until > $1@in_order)",
    "UPDATE auto_certificates SET rehearse_at = $1 \
     WHERE id IN (SELECT id FROM auto_certificates WHERE rehearse_at > $1@in_order)",
    // Canaries of checks that may still run stay.
    "UPDATE challenge_records SET next_try = $1 WHERE id IN (SELECT id FROM challenge_records \
     WHERE next_try > $1 AND (auto_certificate_id IS NOT NULL OR removal_tries > 0 OR next_try > $1 + 600000000)@in_order)",
    "UPDATE certificates SET ask_anew = 1 \
     WHERE id IN (SELECT id FROM certificates WHERE renewal_info IS NOT NULL AND not_after > $1@in_order)",
];
/// No removal takes ten minutes.
const END_REMOVALS: &str = "UPDATE challenge_records SET removing_until = NULL \
    WHERE id IN (SELECT id FROM challenge_records WHERE removing_until > @now + 600000000@in_order)";
const FAILURE_STREAKS: [(&str, &str, &str); 3] = [
    (
        "auto_certificates",
        "SELECT id, trouble FROM auto_certificates WHERE trouble IS NOT NULL AND id > $1 ORDER BY id LIMIT $2",
        "UPDATE auto_certificates SET trouble = NULL, next_look = $2, wakes = wakes + 1 WHERE id = $1",
    ),
    (
        "providers",
        "SELECT id, trouble FROM providers WHERE trouble IS NOT NULL AND id > $1 ORDER BY id LIMIT $2",
        "UPDATE providers SET trouble = NULL, next_look = $2 WHERE id = $1",
    ),
    (
        // What is in trouble is carried out whole: a look would find the files of a try whose hook failed.
        "deliveries",
        "SELECT id, trouble FROM deliveries WHERE trouble IS NOT NULL AND id > $1 ORDER BY id LIMIT $2",
        "UPDATE deliveries SET trouble = NULL, settings = '', next_look = $2, wakes = wakes + 1 WHERE id = $1",
    ),
];
const PROVIDERS: &str =
    "SELECT id, breaker, account_note FROM providers WHERE breaker IS NOT NULL OR account_note IS NOT NULL";
const REVOCATIONS: &str =
    "SELECT id, revocation FROM certificates WHERE revocation IS NOT NULL AND id > $1 ORDER BY id LIMIT $2";
const RENEW_LEASES: &[&str] = &[
    "UPDATE auto_certificates SET lease_until = @now + @lease \
     WHERE id IN (SELECT id FROM auto_certificates WHERE lease_owner = $1@in_order)",
    "UPDATE providers SET lease_until = @now + @lease \
     WHERE id IN (SELECT id FROM providers WHERE lease_owner = $1@in_order)",
    "UPDATE deliveries SET lease_until = @now + @lease \
     WHERE id IN (SELECT id FROM deliveries WHERE lease_owner = $1@in_order)",
];
