//! The open connections of one listener, and who makes room when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::value::client_network::ClientNetwork;
use crate::http::listener::ConnectionLimits;
use crate::http::listener::activity::{ConnectionActivity, EvictionRank};

/// The open connections of one listener.
pub(super) struct Connections {
    pub(super) limits: ConnectionLimits,
    pub(super) stopping: CancellationToken,
    slots: Arc<Semaphore>,
    request_slots: Arc<Semaphore>,
    open: Mutex<HashMap<u64, OpenConnection>>,
    next_number: AtomicU64,
    tasks: TaskTracker,
    last_warning: Mutex<Option<Instant>>,
}

struct OpenConnection {
    network: Option<ClientNetwork>,
    activity: Arc<ConnectionActivity>,
}

/// The right of one connection to be open.
pub(super) struct ConnectionSlot {
    pub(super) activity: Arc<ConnectionActivity>,
    pub(super) connections: Arc<Connections>,
    number: u64,
    _slot: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            limits,
            stopping,
            slots: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            request_slots: Arc::new(Semaphore::new(limits.max_requests.min(Semaphore::MAX_PERMITS))),
            open: Mutex::default(),
            next_number: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            last_warning: Mutex::default(),
        })
    }

    /// Makes room for a newcomer of `network`; `None` where all others are needed more.
    pub(super) async fn admit(self: &Arc<Self>, network: Option<ClientNetwork>) -> Option<ConnectionSlot> {
        if self.count_unauthenticated(network) >= self.limits.max_per_network {
            self.evict_idle_in_network(network);
        }
        let slot = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => self.take_over_slot().await?,
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(ConnectionActivity::new(Instant::now()));
        self.lock_open().insert(number, OpenConnection { network, activity: Arc::clone(&activity) });
        Some(ConnectionSlot { activity, connections: Arc::clone(self), number, _slot: slot })
    }

    /// The slot of a connection that makes room. Where all of them were just accepted, their tasks run first.
    async fn take_over_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.warn("as many connections are open as may be; the least needed ones are closed for new ones");
        let mut slot = pin!(Arc::clone(&self.slots).acquire_owned());
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let mut is_evicted = false;
        while Instant::now() < deadline {
            is_evicted = is_evicted || self.evict_least_needed();
            // An evicted one closes as soon as its task runs.
            if let Ok(slot) = timeout(TASK_YIELD, slot.as_mut()).await {
                return slot.ok();
            }
        }
        None
    }

    /// A turn for one request. Where there is none, whoever keeps a response waiting the longest makes room; `None` where
    /// that does not help in time.
    pub(super) async fn acquire_request_slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.request_slots).try_acquire_owned() {
            return Some(turn);
        }
        let turn = Arc::clone(&self.request_slots).acquire_owned();
        let make_room = async {
            let mut looks = interval(STALL_CHECK_INTERVAL);
            loop {
                looks.tick().await;
                self.evict_most_stalled();
            }
        };
        let turn = async {
            tokio::select! {
                turn = turn => turn.ok(),
                () = make_room => None,
            }
        };
        timeout(self.limits.queue_timeout, turn).await.ok().flatten()
    }

    /// Makes room after `accept` failed.
    pub(super) fn make_room_after_error(&self, error: &io::Error) {
        self.warn(&format!("no connection can be accepted: {error}"));
        self.evict_least_needed();
    }

    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(connection);
    }

    /// Waits until every connection has ended, and closes those that have not at the end of the grace; says whether all
    /// ended by themselves.
    pub(super) async fn drain(&self) -> bool {
        self.tasks.close();
        let ended = timeout(self.limits.stop_grace, self.tasks.wait()).await.is_ok();
        if !ended {
            for open in self.lock_open().values() {
                open.activity.evicted.cancel();
            }
            let _ = timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
        }
        ended
    }

    fn count_unauthenticated(&self, network: Option<ClientNetwork>) -> usize {
        let open = self.lock_open();
        open.values().filter(|open| open.network == network && !open.activity.is_authenticated()).count()
    }

    /// Closes the oldest idle one of the network that has not authenticated. One that asks for something may be about to.
    fn evict_idle_in_network(&self, network: Option<ClientNetwork>) {
        let now = Instant::now();
        let open = self.lock_open();
        let idle = open.iter().filter(|(_, open)| {
            open.network == network
                && !open.is_evicted()
                && open.activity.eviction_rank(now) == EvictionRank::IdleUnauthenticated
        });
        if let Some((_, open)) = idle.min_by_key(|(number, _)| **number) {
            open.activity.evicted.cancel();
        }
    }

    /// Closes the least needed one: of the network with the most that have not authenticated, the oldest. Says whether
    /// there was any. As long as there are newcomers or closing ones, nobody with more worth makes room.
    fn evict_least_needed(&self) -> bool {
        let now = Instant::now();
        let open = self.lock_open();
        let mut strangers: HashMap<Option<ClientNetwork>, usize> = HashMap::new();
        let worth = |open: &OpenConnection| {
            if open.is_evicted() { EvictionRank::New } else { open.activity.eviction_rank(now) }
        };
        let ranked: Vec<_> = open.iter().map(|(number, open)| (worth(open), *number, open)).collect();
        for (worth, _, open) in &ranked {
            *strangers.entry(open.network).or_default() += usize::from(*worth <= EvictionRank::BusyUnauthenticated);
        }
        let crowd = |open: &OpenConnection| Reverse(strangers.get(&open.network).copied().unwrap_or(0));
        let victim = ranked.iter().min_by_key(|(worth, number, open)| (*worth, crowd(open), *number));
        match victim {
            Some((worth, _, open)) if ![EvictionRank::New, EvictionRank::Needed].contains(worth) => {
                open.activity.evicted.cancel();
                true
            }
            _ => false,
        }
    }

    /// Closes the connection on which a response has waited longest for its reader.
    fn evict_most_stalled(&self) {
        let now = Instant::now();
        let open = self.lock_open();
        let waiting =
            open.values().filter(|open| !open.is_evicted()).map(|open| (open.activity.longest_wait(now), open));
        if let Some((_, open)) = waiting.filter(|(wait, _)| *wait >= STALL_CHECK_INTERVAL).max_by_key(|(wait, _)| *wait)
        {
            tracing::debug!("a connection whose client does not read is closed for requests that wait");
            open.activity.evicted.cancel();
        }
    }

    /// At most once a minute, however many come.
    fn warn(&self, message: &str) {
        let mut warned = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            *warned = Some(Instant::now());
            tracing::warn!(most = self.limits.max_connections, "{message}");
        }
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnection {
    fn is_evicted(&self) -> bool {
        self.activity.evicted.is_cancelled()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // Streams of an HTTP/2 connection do not outlive it.
        self.activity.evicted.cancel();
        self.connections.lock_open().remove(&self.number);
    }
}

/// For what takes no time on a machine that is not overloaded.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const TASK_YIELD: Duration = Duration::from_millis(5);
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(250);
const WARNING_INTERVAL: Duration = Duration::from_mins(1);
