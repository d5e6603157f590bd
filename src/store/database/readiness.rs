//! Whether the database takes writes. Who asks is told what the last writes met; where that is too long ago, or was a
//! fault, one row is written.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::{Store, StoreError, StoreFault};

/// What the last probe found, and when.
#[derive(Debug, Default)]
pub(in crate::store) struct WriteProbe(Mutex<Option<(Instant, Option<StoreFault>)>>);

impl Store {
    /// Makes sure that the database takes writes. However many ask, one row is written every few seconds at most.
    ///
    /// # Errors
    /// Where it does not, and why.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let mut probe = self.0.write_probe.0.lock().await;
        if let Some((at, found)) = &*probe {
            let is_fresh = at.elapsed() < if found.is_some() { FAULT_TTL } else { SUCCESS_TTL };
            match (found, self.0.pool.outage()) {
                (Some(fault), Some(_)) if is_fresh => return Err(StoreError::Unavailable(fault.clone())),
                (None, None) if is_fresh => return self.check_readable().await,
                _ => {}
            }
        }
        let written = self.write_probe_row().await;
        *probe = match &written {
            Ok(()) => Some((Instant::now(), None)),
            Err(StoreError::Unavailable(fault)) => Some((Instant::now(), Some(fault.clone()))),
            Err(_) => None,
        };
        written
    }

    async fn check_readable(&self) -> Result<(), StoreError> {
        self.query("SELECT id FROM write_probes WHERE id = $1").bind(PROBE_ROW_ID).fetch_optional(&self.0.pool).await?;
        Ok(())
    }

    /// What keeps the database from being used, as far as the calls of this process know; nothing where it works.
    pub fn outage(&self) -> Option<StoreFault> {
        self.0.pool.outage()
    }

    /// After a fault as many bytes as an issuance may write: on a full disk a small row may still find room in the log of
    /// SQLite.
    async fn write_probe_row(&self) -> Result<(), StoreError> {
        let size = if self.0.pool.outage().is_some() { PROBE_SIZE_AFTER_FAULT } else { 0 };
        let mut value = vec![0; size];
        value.extend(self.now().micros().to_be_bytes());
        self.query("INSERT INTO write_probes (id, value) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET value = $2")
            .bind(PROBE_ROW_ID)
            .bind(value)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}

const SUCCESS_TTL: Duration = Duration::from_secs(10);
const FAULT_TTL: Duration = Duration::from_secs(1);
const PROBE_SIZE_AFTER_FAULT: usize = 64 * 1024;
const PROBE_ROW_ID: &str = "readiness";
