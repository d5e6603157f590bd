//! Whether the database can be used, by the outcome of the calls themselves: an outage is logged when it begins, now and
//! then while it lasts, and when it is over, whatever number of calls meet it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::database::fault::{FaultCause, StoreFault};

/// What the calls of this process met last.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Spares the lock where all is well.
    is_out: AtomicBool,
    state: Mutex<OutageState>,
}

#[derive(Debug, Default)]
struct OutageState {
    current: Option<OngoingOutage>,
    /// When and of what the log was told last.
    last_logged: Option<(FaultCause, Instant)>,
}

#[derive(Debug)]
struct OngoingOutage {
    fault: StoreFault,
    since: Instant,
    calls: u64,
    is_logged: bool,
}

impl Outage {
    /// Notes that a call failed.
    pub(super) fn record_fault(&self, fault: &StoreFault) {
        if fault.cause.is_transient() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let OutageState { current, last_logged: told } = &mut *state;
        let outage = current.get_or_insert_with(|| OngoingOutage {
            fault: fault.clone(),
            since: now,
            calls: 0,
            is_logged: false,
        });
        outage.calls += 1;
        outage.fault = fault.clone();
        let is_new = told.is_none_or(|(cause, at)| cause != fault.cause || now - at >= LOG_INTERVAL);
        if is_new {
            *told = Some((fault.cause, now));
            outage.is_logged = true;
            let (calls, seconds) = (outage.calls, (now - outage.since).as_secs());
            tracing::error!(detail = %fault, calls, seconds, "{}", fault.cause);
        }
        self.is_out.store(true, Ordering::Release);
    }

    /// Notes that something was read.
    pub(super) fn record_read(&self) {
        self.end_if(|fault| !fault.cause.affects_only_writes());
    }

    /// Notes that something was written.
    pub(super) fn record_write(&self) {
        self.end_if(|_| true);
    }

    /// What is wrong, as far as the calls of this process know.
    pub(super) fn current(&self) -> Option<StoreFault> {
        if !self.is_out.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.current.as_ref().map(|outage| outage.fault.clone())
    }

    fn end_if(&self, disproves: impl Fn(&StoreFault) -> bool) {
        if !self.is_out.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.current.as_ref().is_some_and(|outage| disproves(&outage.fault)) {
            return;
        }
        if let Some(outage) = state.current.take().filter(|outage| outage.is_logged) {
            let (calls, seconds) = (outage.calls, outage.since.elapsed().as_secs());
            tracing::info!(calls, seconds, "the database can be used again");
        }
        self.is_out.store(false, Ordering::Release);
    }
}

/// How often the log hears of one cause, at most.
const LOG_INTERVAL: Duration = Duration::from_mins(10);
