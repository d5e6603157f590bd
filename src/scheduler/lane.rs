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
pub(super) struct Lane(Arc<State>);

struct State {
    name: String,
    context: LaneContext,
    looks: TaskTracker,
    work: TaskTracker,
    look_failures: Failures,
    work_failures: Failures,
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
        Self(Arc::new(State {
            name: name.into(),
            context: context.clone(),
            looks,
            work,
            look_failures: Failures::default(),
            work_failures: Failures::default(),
            rests_until: Mutex::default(),
        }))
    }

    /// Whether neither a look nor work is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.0.looks.is_empty() && self.has_no_work()
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
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Option<T> {
        if !self.0.looks.is_empty() || self.0.look_failures.are_waited_out() {
            return None;
        }
        let lane = self.clone();
        let looking = async move {
            let begun = Instant::now();
            let looked = caught(look).await;
            if begun.elapsed() >= LONGEST_LOOK {
                lane.0.context.wake.nudge();
            }
            lane.note(looked, &lane.0.look_failures)
        };
        let task = self.0.context.tasks.spawn(self.0.looks.track_future(looking.in_current_span()));
        let Ok(looked) = timeout(LONGEST_LOOK, task).await else {
            tracing::warn!(lane = self.0.name, "a look takes long; the other lanes go on without it");
            return None;
        };
        looked.ok().flatten()
    }

    /// Works off what is due, unless that is under way or failed just now.
    pub(super) fn work_off(&self, span: Span, work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        if !self.has_no_work() || self.0.work_failures.are_waited_out() {
            return;
        }
        let lane = self.clone();
        let working = async move {
            let worked = caught(work).await;
            lane.note(worked, &lane.0.work_failures);
            lane.0.context.wake.nudge();
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
    pub(super) fn begin(&self, span: Span, work: impl Future<Output = ()> + Send + 'static) {
        let lane = self.clone();
        let working = async move {
            if let Err(error) = caught(work.map(Ok::<_, StoreError>)).await {
                tracing::error!(lane = lane.0.name, %error, "work was cut off; it is taken up again when its lease ends");
            }
            lane.0.context.wake.nudge();
        };
        self.0.context.tasks.spawn(self.0.work.track_future(working.instrument(span)));
    }

    /// Logs a failure and has the loop woken after a pause; gives what succeeded.
    fn note<T>(&self, ended: Result<T, LaneError>, failures: &Failures) -> Option<T> {
        match ended {
            Ok(found) => {
                failures.forget();
                Some(found)
            }
            Err(error) => {
                let pause = if error.is_outage() { SHORTEST_PAUSE } else { failures.growing_pause() };
                failures.wait(pause);
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
                    wake.nudge();
                });
                None
            }
        }
    }
}

/// Failures in a row, and the pause after the last of them.
#[derive(Default)]
struct Failures(Mutex<Option<(u32, Instant)>>);

impl Failures {
    fn are_waited_out(&self) -> bool {
        self.lock().is_some_and(|(_, until)| Instant::now() < until)
    }

    fn forget(&self) {
        *self.lock() = None;
    }

    /// The pause after one more failure of its own.
    fn growing_pause(&self) -> Duration {
        let before = self.lock().map_or(0, |(count, _)| count);
        (SHORTEST_PAUSE * 2_u32.saturating_pow(before)).min(LONGEST_PAUSE)
    }

    /// Counts one more, and waits for so long.
    fn wait(&self, pause: Duration) {
        let mut failures = self.lock();
        let before = failures.map_or(0, |(count, _)| count);
        *failures = Some((before.saturating_add(1), Instant::now() + pause));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u32, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a future to its end; a panic in it is an error like others.
async fn caught<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, LaneError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(ended) => Ok(ended?),
        Err(panic) => Err(LaneError::Panicked(words_of(panic.as_ref()))),
    }
}

/// What a panic says.
pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(ToString::to_string);
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "it says nothing".to_owned()).chars().take(LONGEST_WORDS).collect()
}

/// A look only asks the store; what takes longer is waited for no longer, but goes on.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_WORDS: usize = 500;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::domain::id::AttemptId;

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
        assert_eq!(failing.look(async { Err::<(), _>(failure()) }).await, None);
        assert_eq!(failing.look(async { Ok(1) }).await, None, "it pauses");
        assert_eq!(other.look(async { Ok(1) }).await, Some(1));
        context.wake.nudged().await;
        assert_eq!(failing.look(async { Ok(1) }).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure_of_its_lane() {
        let context = context();
        let lane = Lane::new("panics", &context);
        assert_eq!(lane.look(async { panic!("{} of a look", "panic") }).await, None::<()>);
        sleep(SHORTEST_PAUSE).await;
        assert_eq!(lane.look(async { Ok(()) }).await, Some(()));

        lane.work_off(Span::none(), async { panic!("of the work") });
        lane.begin(Span::none(), async { panic!("of one piece") });
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
        assert_eq!(lane.look(async { Ok(released.await.is_ok()) }).await, None);
        assert_eq!(begun.elapsed(), LONGEST_LOOK);
        assert_eq!(lane.look(async { Ok(true) }).await, None, "one at a time");
        assert_eq!(begun.elapsed(), LONGEST_LOOK, "and without waiting");
        release.send(()).unwrap();
        context.wake.nudged().await;
        tokio::task::yield_now().await;
        assert_eq!(lane.look(async { Ok(true) }).await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_done_one_run_at_a_time_and_failures_in_a_row_pause_longer() {
        let context = context();
        let lane = Lane::new("works", &context);
        lane.work_off(Span::none(), pending());
        lane.work_off(Span::none(), async { panic!("it has not ended") });
        tokio::task::yield_now().await;
        assert!(!lane.has_no_work());

        let failures = Failures::default();
        let next = |failures: &Failures| {
            let pause = failures.growing_pause();
            failures.wait(pause);
            pause.as_secs()
        };
        let pauses: Vec<u64> = (0..5).map(|_| next(&failures)).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        failures.forget();
        assert_eq!(failures.growing_pause(), SHORTEST_PAUSE);
    }
}
