//! A lane: one of the jobs that the scheduler runs side by side. Each looks for its own due work, in a task of its own.
//! One that fails or panics is logged and tried again after a pause; one that hangs holds up no other.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::runtime::wake::Wake;
use crate::store::StoreError;

/// What all lanes share.
#[derive(Clone)]
pub(super) struct LaneContext {
    /// Makes the scheduler scan.
    pub(super) wake: Wake,
    /// Tracks every task.
    pub(super) tasks: TaskTracker,
    /// Cancelled when the program stops.
    pub(super) stopping: CancellationToken,
}

/// One of the jobs that the scheduler runs side by side.
#[derive(Clone)]
pub(super) struct Lane(Arc<LaneState>);

struct LaneState {
    name: String,
    context: LaneContext,
    scans: TaskTracker,
    work: TaskTracker,
    scan_failures: FailureBackOff,
    work_failures: FailureBackOff,
    /// By the running time of the process.
    rests_until: Mutex<Option<time::Duration>>,
}

/// Why a look or a run of work failed.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a defect of autocertd, it panicked: {0}")]
    Panicked(String),
}

impl LaneError {
    fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outage())
    }
}

impl Lane {
    pub(super) fn new(name: impl Into<String>, context: &LaneContext) -> Self {
        let (looks, work) = (TaskTracker::new(), TaskTracker::new());
        Self(Arc::new(LaneState {
            name: name.into(),
            context: context.clone(),
            scans: looks,
            work,
            scan_failures: FailureBackOff::default(),
            work_failures: FailureBackOff::default(),
            rests_until: Mutex::default(),
        }))
    }

    /// Whether neither a look nor work is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.0.scans.is_empty() && self.has_no_work()
    }

    /// Cancelled when the program stops.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.0.context.stopping
    }

    /// Whether no work is under way.
    pub(super) fn has_no_work(&self) -> bool {
        self.0.work.is_empty()
    }

    /// Looks for due work, and gives what was found. Nothing where the look fails or takes too long, where the one before
    /// is still under way, and during the pause after a failure: the loop is woken once there is more to tell.
    pub(super) async fn run_scan<T: Send + 'static>(
        &self,
        look: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Option<T> {
        if !self.0.scans.is_empty() || self.0.scan_failures.is_pausing() {
            return None;
        }
        let lane = self.clone();
        let looking = async move {
            let begun = Instant::now();
            let looked = catch_panic(look).await;
            if begun.elapsed() >= SCAN_TIMEOUT {
                lane.0.context.wake.notify();
            }
            lane.record_outcome(looked, &lane.0.scan_failures)
        };
        let task = self.0.context.tasks.spawn(self.0.scans.track_future(looking.in_current_span()));
        let Ok(looked) = timeout(SCAN_TIMEOUT, task).await else {
            tracing::warn!(lane = self.0.name, "a look takes long; the other lanes go on without it");
            return None;
        };
        looked.ok().flatten()
    }

    /// Works off what is due, unless that is under way or failed just now.
    pub(super) fn run_exclusively(
        &self,
        span: Span,
        work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        if !self.has_no_work() || self.0.work_failures.is_pausing() {
            return;
        }
        let lane = self.clone();
        let working = async move {
            let worked = catch_panic(work).await;
            lane.record_outcome(worked, &lane.0.work_failures);
            lane.0.context.wake.notify();
        };
        self.0.context.tasks.spawn(self.0.work.track_future(working.instrument(span)));
    }

    /// Notes that what is due cannot be done before the process has run for so long, through no failure.
    pub(super) fn rest_until(&self, running: time::Duration) {
        *self.0.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Until when nothing can be done, as noted last.
    pub(super) fn rests_until(&self) -> Option<time::Duration> {
        *self.0.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one piece of work beside others.
    pub(super) fn spawn(&self, span: Span, work: impl Future<Output = ()> + Send + 'static) {
        let lane = self.clone();
        let working = async move {
            if let Err(error) = catch_panic(work.map(Ok::<_, StoreError>)).await {
                tracing::error!(lane = lane.0.name, %error, "work was cut off; it is taken up again when its lease ends");
            }
            lane.0.context.wake.notify();
        };
        self.0.context.tasks.spawn(self.0.work.track_future(working.instrument(span)));
    }

    /// Logs a failure and has the loop woken after a pause; gives what succeeded.
    fn record_outcome<T>(&self, ended: Result<T, LaneError>, failures: &FailureBackOff) -> Option<T> {
        match ended {
            Ok(found) => {
                failures.clear();
                Some(found)
            }
            Err(error) => {
                let pause = if error.is_outage() { MIN_PAUSE } else { failures.next_pause() };
                failures.pause_for(pause);
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let seconds = pause.as_secs();
                // An outage is logged by the store, once for all.
                if error.is_outage() {
                    tracing::debug!(lane = self.0.name, %error, "failed; it is tried again in {seconds} s");
                } else {
                    tracing::error!(lane = self.0.name, %error, source, "failed; it is tried again in {seconds} s");
                }
                let LaneContext { wake, tasks, stopping } = self.0.context.clone();
                tasks.spawn(async move {
                    stopping.run_until_cancelled(sleep(pause)).await;
                    wake.notify();
                });
                None
            }
        }
    }
}

/// Failures in a row, and the pause after the last of them.
#[derive(Default)]
struct FailureBackOff(Mutex<Option<(u32, Instant)>>);

impl FailureBackOff {
    fn is_pausing(&self) -> bool {
        self.lock().is_some_and(|(_, until)| Instant::now() < until)
    }

    fn clear(&self) {
        *self.lock() = None;
    }

    /// The pause after one more failure of its own.
    fn next_pause(&self) -> Duration {
        let before = self.lock().map_or(0, |(count, _)| count);
        (MIN_PAUSE * 2_u32.saturating_pow(before)).min(MAX_PAUSE)
    }

    /// Counts one more, and waits for so long.
    fn pause_for(&self, pause: Duration) {
        let mut failures = self.lock();
        let before = failures.map_or(0, |(count, _)| count);
        *failures = Some((before.saturating_add(1), Instant::now() + pause));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u32, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a future to its end; a panic in it is an error like others.
async fn catch_panic<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, LaneError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(ended) => Ok(ended?),
        Err(panic) => Err(LaneError::Panicked(panic_message(panic.as_ref()))),
    }
}

/// What a panic says.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(ToString::to_string);
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "it says nothing".to_owned()).chars().take(MAX_MESSAGE_LENGTH).collect()
}

/// A look only asks the store; what takes longer is waited for no longer, but goes on.
const SCAN_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(30);
const MAX_MESSAGE_LENGTH: usize = 500;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::domain::value::id::AttemptId;

    fn context() -> LaneContext {
        LaneContext { wake: Wake::default(), tasks: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    fn failure() -> StoreError {
        StoreError::AttemptOver(AttemptId::from(uuid::Uuid::nil()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_pauses_its_lane_alone_and_wakes_the_loop_for_the_next_try() {
        let context = context();
        let (failing, other) = (Lane::new("failing", &context), Lane::new("other", &context));
        assert_eq!(failing.run_scan(async { Err::<(), _>(failure()) }).await, None);
        assert_eq!(failing.run_scan(async { Ok(1) }).await, None, "it pauses");
        assert_eq!(other.run_scan(async { Ok(1) }).await, Some(1));
        context.wake.notified().await;
        assert_eq!(failing.run_scan(async { Ok(1) }).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure_of_its_lane() {
        let context = context();
        let lane = Lane::new("panics", &context);
        assert_eq!(lane.run_scan(async { panic!("{} of a look", "panic") }).await, None::<()>);
        sleep(MIN_PAUSE).await;
        assert_eq!(lane.run_scan(async { Ok(()) }).await, Some(()));

        lane.run_exclusively(Span::none(), async { panic!("of the work") });
        lane.spawn(Span::none(), async { panic!("of one piece") });
        context.tasks.close();
        context.tasks.wait().await;
        assert!(lane.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_left_alone_and_the_next_one_waits_for_its_end() {
        let context = context();
        let lane = Lane::new("hangs", &context);
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let begun = Instant::now();
        assert_eq!(lane.run_scan(async { Ok(released.await.is_ok()) }).await, None);
        assert_eq!(begun.elapsed(), SCAN_TIMEOUT);
        assert_eq!(lane.run_scan(async { Ok(true) }).await, None, "one at a time");
        assert_eq!(begun.elapsed(), SCAN_TIMEOUT, "and without waiting");
        release.send(()).unwrap();
        context.wake.notified().await;
        tokio::task::yield_now().await;
        assert_eq!(lane.run_scan(async { Ok(true) }).await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_done_one_run_at_a_time_and_failures_in_a_row_pause_longer() {
        let context = context();
        let lane = Lane::new("works", &context);
        lane.run_exclusively(Span::none(), pending());
        lane.run_exclusively(Span::none(), async { panic!("it has not ended") });
        tokio::task::yield_now().await;
        assert!(!lane.has_no_work());

        let failures = FailureBackOff::default();
        let next = |failures: &FailureBackOff| {
            let pause = failures.next_pause();
            failures.pause_for(pause);
            pause.as_secs()
        };
        let pauses: Vec<u64> = (0..5).map(|_| next(&failures)).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        failures.clear();
        assert_eq!(failures.next_pause(), MIN_PAUSE);
    }
}
