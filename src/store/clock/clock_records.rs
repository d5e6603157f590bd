//! What is kept of the clock of each instance: readings over its running time, and the latest moment that it may have
//! written anything at.

use time::Duration;

use crate::domain::clock_evidence::{ClockReading, ClockRecord};
use crate::domain::value::moment::Moment;
use crate::store::database::row::RowReader;
use crate::store::{Store, StoreError};

impl Store {
    /// What was kept of the clock of this instance.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clock_record(&self, instance: &str) -> Result<Option<ClockRecord>, StoreError> {
        let row = self.query(GET).bind(instance.to_owned()).fetch_optional(&self.0.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let record = RowReader::new(&row, TABLE);
        // It is no more than evidence: what cannot be read counts as none.
        let readings: Vec<(i64, i64)> = serde_json::from_str(&record.text("readings")?).unwrap_or_default();
        let readings = readings.into_iter().map(|(running, shown)| ClockReading {
            uptime: Duration::microseconds(running),
            shown: Moment::from_micros(shown),
        });
        Ok(Some(ClockRecord { readings: readings.collect(), latest_moment: record.moment("latest")? }))
    }

    /// Keeps what is known of the clock of this instance, and forgets instances that were not heard of for a month.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn store_clock_record(&self, instance: &str, record: &ClockRecord) -> Result<(), StoreError> {
        let micros = |span: Duration| i64::try_from(span.whole_microseconds()).unwrap_or(i64::MAX);
        let readings: Vec<(i64, i64)> =
            record.readings.iter().map(|reading| (micros(reading.uptime), reading.shown.micros())).collect();
        self.query(UPSERT)
            .bind(instance.to_owned())
            .bind(record.latest_moment.micros())
            .bind(serde_json::json!(readings).to_string())
            .execute(&self.0.pool)
            .await?;
        self.query(FORGET).execute(&self.0.pool).await?;
        Ok(())
    }

    /// By how much the clock of another instance was ahead of `now`, one that has not been heard of for an hour and will
    /// not mend by itself what it wrote; it counts as told.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn acknowledge_clock_ahead(&self, instance: &str, now: Moment) -> Result<Option<Duration>, StoreError> {
        let found = self
            .query(AHEAD)
            .bind(instance.to_owned())
            .bind((now + MAX_CLOCK_SKEW).micros())
            .fetch_all(&self.0.pool)
            .await?;
        let mut ahead = None;
        for row in &found {
            let record = RowReader::new(row, TABLE);
            ahead = ahead.max(Some(record.moment("latest")? - now));
            self.query("UPDATE clock_records SET latest = $2 WHERE instance = $1")
                .bind(record.text("id")?)
                .bind(now.micros())
                .execute(&self.0.pool)
                .await?;
        }
        Ok(ahead)
    }

    /// Whether a CA has issued something that is not valid yet by `now`: then the clock is behind.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn has_issued_after(&self, now: Moment) -> Result<bool, StoreError> {
        let row = self.query(ISSUED_AFTER).bind(now.micros()).fetch_optional(&self.0.pool).await?;
        Ok(row.is_some())
    }
}

const TABLE: &str = "clock_records";
/// Clocks of a fleet differ by less.
const MAX_CLOCK_SKEW: Duration = Duration::HOUR;
const GET: &str = "SELECT instance AS id, latest, readings FROM clock_records WHERE instance = $1";
const UPSERT: &str = "\
    INSERT INTO clock_records (instance, latest, readings, written_at) VALUES ($1, $2, $3, @now) \
    ON CONFLICT (instance) DO UPDATE SET latest = excluded.latest, readings = excluded.readings, \
    written_at = excluded.written_at";
/// 30 days, in microseconds.
const FORGET: &str = "\
    DELETE FROM clock_records WHERE instance IN \
    (SELECT instance AS id FROM clock_records WHERE written_at < @now - 2592000000000@in_order)";
/// An hour, in microseconds. On SQLite the time of the database is the clock itself.
const AHEAD: &str = "\
    SELECT instance AS id, latest FROM clock_records WHERE instance <> $1 AND latest > $2 \
    AND (written_at < @now - 3600000000 OR written_at > @now + 3600000000)";
const ISSUED_AFTER: &str =
    "SELECT id FROM certificates WHERE auto_certificate_id IS NOT NULL AND not_before > $1 LIMIT 1";
