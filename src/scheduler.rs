//! The scheduler: looks for what is due, claims it by lease, and has it worked on within bounds. It sleeps until the
//! earliest planned look and wakes at every change; a cron scan is the safety net behind that.

mod clock;
mod deliveries;
mod lane;
mod orphaned_records;
mod preflights;
mod queue;
mod revocations;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config::scheduler::SchedulerSection;
use crate::deliver::dispatcher::Dispatcher;
use crate::doctor::Doctor;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Failure;
use crate::domain::renewal::plan::{RenewalAction, plan_renewal};
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::issuance::{AttemptError, HeldLease, Issuance};
use crate::runtime::wake::Wake;
use crate::runtime::watchdog::ScanMonitor;
use crate::scheduler::lane::{Lane, LaneContext, panic_message};
use crate::scheduler::preflights::Preflights;
use crate::store::{
    AutoCertificateLease, ClaimedAutoCertificate, DueAutoCertificate, LEASE_DURATION, ProviderLease, RunOutcome,
    StoreError,
};

pub use crate::issuance::{Cleanup, CleanupOutcome, SweepMode};

/// What the settings come to, and a reload replaces. What is under way goes on with what it began with.
#[derive(Clone)]
pub struct ConfiguredWork {
    /// Obtains certificates.
    pub issuance: Arc<Issuance>,
    /// Delivers them.
    pub dispatcher: Arc<Dispatcher>,
    /// Rehearses renewals.
    pub doctor: Arc<Doctor>,
}

/// Finds due work and has it done.
#[derive(Clone)]
pub struct Scheduler {
    work: Arc<RwLock<ConfiguredWork>>,
    /// Held by a scan.
    scan_lock: Arc<Mutex<()>>,
    lanes: Lanes,
    preflights: Preflights,
    context: LaneContext,
    wake: Wake,
    /// How many auto-certificates are worked on at once at each provider.
    capacity: usize,
    tasks: TaskTracker,
    stopping: CancellationToken,
    scan_every: Duration,
}

impl Scheduler {
    /// A scheduler whose work is tracked by `tasks` and parks itself when `stopping` is cancelled.
    pub fn new(
        work: ConfiguredWork,
        wake: Wake,
        settings: &SchedulerSection,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let context = LaneContext { wake: wake.clone(), tasks: tasks.clone(), stopping: stopping.clone() };
        Self {
            work: Arc::new(RwLock::new(work)),
            scan_lock: Arc::default(),
            lanes: Lanes::new(&context),
            preflights: Preflights::new(settings.rehearse_ahead, Lane::new("preflights", &context)),
            context,
            wake,
            capacity: settings.concurrency.into(),
            tasks,
            stopping,
            scan_every: settings.scan_every.duration(),
        }
    }

    /// Goes on with other settings. What they deliver is looked at anew. A scan that is under way ends first: what falls due
    /// after this must not be worked on with what was before.
    pub async fn replace_work(&self, work: ConfiguredWork) {
        let _scanning = self.scan_lock.lock().await;
        *self.work.write().unwrap_or_else(PoisonError::into_inner) = work;
        self.wake.notify();
    }

    /// Scans and sleeps until the program stops; `pulse` tells the watchdog of systemd how long a scan takes.
    ///
    /// # Errors
    /// Where the cron scan cannot be set up.
    pub async fn run(self, pulse: ScanMonitor) -> Result<(), JobSchedulerError> {
        let mut cron = self.start_cron().await?;
        while !self.stopping.is_cancelled() {
            let beat = pulse.begin();
            let next_look = self.scan().await;
            drop(beat);
            let pause = self.pause_before(next_look);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                () = self.stopping.cancelled() => {}
            }
        }
        cron.shutdown().await
    }

    /// Claims what is due and has it worked on; gives the earliest planned look of all the rest. Each lane looks for
    /// itself: one that fails, panics or hangs is logged and looks again later, and the others go on.
    pub async fn scan(&self) -> Option<Moment> {
        let _scanning = self.scan_lock.lock().await;
        let ConfiguredWork { issuance, dispatcher: dispatch, doctor } = self.current_work();
        self.lanes.dead_leases.run_scan(free_dead_leases(Arc::clone(&issuance))).await;
        let (scheduler, lanes) = (self.clone(), &self.lanes);
        let heeded = {
            let scheduler = scheduler.clone();
            lanes.clock.run_scan(async move { scheduler.check_clock().await }).await
        };
        let looks = tokio::join!(
            lanes.removal.run_scan(remove_expired(Arc::clone(&issuance), heeded.is_some())),
            lanes.registrations.run_scan(scheduler.clone().scan_providers(Arc::clone(&issuance))),
            lanes.orders.run_scan(scheduler.scan_queues(Arc::clone(&issuance))),
            lanes.deliveries.run_scan(deliveries::scan(lanes.deliveries.clone(), dispatch)),
            lanes.revocations.run_scan(revocations::scan(lanes.revocations.clone(), Arc::clone(&issuance))),
            lanes
                .orphaned_records
                .run_scan(orphaned_records::scan(lanes.orphaned_records.clone(), Arc::clone(&issuance))),
            self.preflights.lane().run_scan(self.preflights.clone().scan(issuance.store.clone(), doctor)),
        );
        let looks: [Option<Option<Moment>>; 7] = looks.into();
        looks.into_iter().flatten().flatten().min()
    }

    /// Has these worked on, due or not, as far as their providers have room and nobody else works on them.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn start_now(&self, ids: &[AutoCertificateId]) -> Result<(), StoreError> {
        let issuance = self.current_work().issuance;
        let mut queues: HashMap<ProviderId, Vec<DueAutoCertificate>> = HashMap::new();
        for due in issuance.store.queue_for_ids(ids, issuance.clock.now()).await? {
            queues.entry(due.auto_certificate.provider).or_default().push(due);
        }
        for (provider, queue) in queues {
            self.admit_and_start(&issuance, provider, queue).await?;
        }
        Ok(())
    }

    /// Gives each delivery its rows, before anyone asks how it goes.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sync_deliveries(&self) -> Result<(), StoreError> {
        self.current_work().dispatcher.sync_assignments().await
    }

    /// Claims the deliveries that are due and has them carried out, as far as there is room; gives the moment of the
    /// earliest look at all others.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn deliver_due(&self) -> Result<Option<Moment>, StoreError> {
        deliveries::scan(self.lanes.deliveries.clone(), self.current_work().dispatcher).await
    }

    /// Whether no delivery is under way.
    pub fn has_no_deliveries(&self) -> bool {
        self.lanes.deliveries.has_no_work()
    }

    /// Registers the accounts that are due, tells changed contacts, and waits until that is done or has failed, which is
    /// kept with the provider.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn register_due_providers(&self) -> Result<(), StoreError> {
        for registration in self.spawn_registrations(&self.current_work().issuance).await? {
            if let Err(error) = registration.await {
                tracing::error!(%error, "a registration broke off");
            }
        }
        Ok(())
    }

    fn current_work(&self) -> ConfiguredWork {
        self.work.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spawn_work(&self, issuance: &Arc<Issuance>, claim: ClaimedAutoCertificate) {
        let (issuance, stopping, wake) = (Arc::clone(issuance), self.stopping.clone(), self.wake.clone());
        let span = tracing::info_span!("work", auto_certificate = %claim.auto_certificate.id, name = %claim.auto_certificate.name);
        self.tasks.spawn(
            async move {
                run_work(&issuance, &claim, &stopping).await;
                wake.notify();
            }
            .instrument(span),
        );
    }
}

impl Scheduler {
    /// Wakes the loop at a random second every so many minutes.
    async fn start_cron(&self) -> Result<JobScheduler, JobSchedulerError> {
        let second = (self.current_work().issuance.randomness.fraction() * 60.0).floor();
        let minutes = self.scan_every.as_secs() / 60;
        let cron = JobScheduler::new().await?;
        let wake = self.wake.clone();
        let scan = Job::new(format!("{second} */{minutes} * * * *"), move |_, _| wake.notify())?;
        cron.add(scan).await?;
        cron.start().await?;
        Ok(cron)
    }

    /// Begins with the accounts that are due; gives the earliest look at all others.
    async fn scan_providers(self, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        self.spawn_registrations(&issuance).await?;
        issuance.store.earliest_provider_check().await
    }

    fn pause_before(&self, next_look: Option<Moment>) -> Duration {
        let issuance = self.current_work().issuance;
        let longest = if issuance.store.is_shared() { MAX_PAUSE_IN_FLEET } else { self.scan_every };
        let left = next_look.map(|at| at - issuance.clock.now());
        left.map_or(longest, |left| left.try_into().unwrap_or(Duration::ZERO)).clamp(MIN_PAUSE, longest)
    }

    async fn spawn_registrations(&self, issuance: &Arc<Issuance>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let due = issuance.store.claim_due_providers(issuance.clock.now(), MAX_REGISTRATIONS).await?;
        let mut begun = Vec::with_capacity(due.len());
        for lease in due {
            let (issuance, stopping, wake) = (Arc::clone(issuance), self.stopping.clone(), self.wake.clone());
            let span = tracing::info_span!("registration", provider = %lease.id);
            let registration = self.tasks.spawn(
                async move {
                    tokio::select! {
                        registered = issuance.accounts.register(&lease) => {
                            match registered {
                                Err(AttemptError::Store(error)) if error.is_damaged_row() => {
                                    postpone_registration(&issuance, &lease, &error).await;
                                }
                                Err(AttemptError::Store(error)) => {
                                    tracing::error!(%error, "the registration could not be written down");
                                }
                                _ => {}
                            }
                        }
                        // What was sent is found again by the stored key.
                        () = stopping.cancelled() => {}
                    }
                    wake.notify();
                }
                .instrument(span),
            );
            begun.push(registration);
        }
        Ok(begun)
    }
}

/// Works on one claimed auto-certificate until its plan is to wait.
async fn run_work(issuance: &Issuance, claim: &ClaimedAutoCertificate, stopping: &CancellationToken) {
    let tenure = HeldLease::new(issuance.store.clone(), claim, stopping);
    let followed = AssertUnwindSafe(follow_plan(issuance, &tenure)).catch_unwind();
    let result = tokio::select! {
        result = followed => result.unwrap_or_else(|panic| Err(panic_error(panic.as_ref()))),
        never = tenure.keep_renewed() => match never {},
    };
    let released = match result {
        Ok(()) => Ok(()),
        Err(AttemptError::LeaseLost) => {
            tracing::warn!("the lease was lost; somebody else goes on");
            Ok(())
        }
        Err(stop @ (AttemptError::Interrupted | AttemptError::Deleted)) => {
            tracing::info!("{stop}");
            issuance.store.release_auto_certificate(tenure.lease(), issuance.clock.now(), RunOutcome::Interrupted).await
        }
        Err(AttemptError::Deferred(hold)) => {
            tracing::info!(until = %hold.until, "{hold}");
            issuance.store.defer(tenure.lease(), &hold).await
        }
        Err(
            stop @ (AttemptError::Failed(_)
            | AttemptError::StuckOrder { .. }
            | AttemptError::UnknownAccount(_)
            | AttemptError::Store(_)),
        ) => {
            if matches!(&stop, AttemptError::Store(error) if error.is_outage()) {
                tracing::debug!("work was cut off: {stop}");
            } else {
                tracing::error!("work was cut off: {stop}");
            }
            record_store_failure(issuance, &tenure, claim, &stop).await
        }
    };
    match released {
        Ok(()) => {}
        Err(error) if error.is_outage() => release_after_outage(issuance, tenure.lease(), stopping).await,
        Err(error) => tracing::error!(%error, "the lease could not be given back; it ends by itself"),
    }
}

/// A lease that could not be given back keeps everybody off until it ends. Once the database works again it goes back at
/// once, so that the next scan goes on.
async fn release_after_outage(issuance: &Issuance, lease: &AutoCertificateLease, stopping: &CancellationToken) {
    let (store, begun) = (&issuance.store, Instant::now());
    while begun.elapsed() < LEASE_DURATION {
        if stopping.run_until_cancelled(tokio::time::sleep(PAUSE_IN_OUTAGE)).await.is_none() {
            return;
        }
        if store.check_writable().await.is_ok() {
            match store.release_auto_certificate(lease, issuance.clock.now(), RunOutcome::Interrupted).await {
                Err(error) if error.is_outage() => {}
                Err(error) => return tracing::debug!(%error, "the lease had ended by itself"),
                Ok(()) => return,
            }
        }
    }
}

/// A panic ends the work on one auto-certificate, and is shown there.
fn panic_error(panic: &(dyn std::any::Any + Send)) -> AttemptError {
    Failure::retry(format!("a defect of autocertd, please report it: the work panicked: {}", panic_message(panic)))
        .into()
}

/// An account whose provider is damaged is looked at again the next day, or when the settings are read anew.
async fn postpone_registration(issuance: &Issuance, lease: &ProviderLease, error: &StoreError) {
    let (store, now) = (&issuance.store, issuance.clock.now());
    let failure = Failure::operator(error.to_string());
    let trouble = FailureStreak::after(None, failure, now, None, issuance.randomness.fraction());
    let put_off = async {
        store.record_account_failure_streak(lease, &trouble).await?;
        store.release_provider(lease).await
    };
    tracing::error!(%error, "an account cannot be registered");
    if let Err(error) = put_off.await {
        tracing::error!(%error, "the registration could not be put off; its lease ends by itself");
    }
}

/// A store that fails in the middle of the work is a trouble like others: shown, and tried again with growing pauses.
async fn record_store_failure(
    issuance: &Issuance,
    tenure: &HeldLease,
    claim: &ClaimedAutoCertificate,
    stop: &AttemptError,
) -> Result<(), StoreError> {
    let (store, now) = (&issuance.store, issuance.clock.now());
    let standing = &claim.auto_certificate.standing;
    let expiry = standing.valid_until();
    let jitter = issuance.randomness.fraction();
    let trouble =
        FailureStreak::after(standing.failure_streak.as_ref(), Failure::retry(stop.to_string()), now, expiry, jitter);
    store.record_failure_streak(tenure.lease(), &trouble).await?;
    store.release_auto_certificate(tenure.lease(), trouble.next_try, RunOutcome::Finished).await
}

async fn follow_plan(issuance: &Issuance, tenure: &HeldLease) -> Result<(), AttemptError> {
    let store = &issuance.store;
    let mut asked = false;
    loop {
        let subject = store.claimed_auto_certificate(tenure.lease()).await?;
        let now = issuance.clock.now();
        let plan = plan_renewal(&subject.standing, now);
        // What comes of a question waits for its turn like everything else.
        if asked && plan.action == RenewalAction::Start {
            return Ok(store.release_auto_certificate(tenure.lease(), now, RunOutcome::Interrupted).await?);
        }
        tracing::debug!(action = ?plan.action, reason = %plan.reason, next_look = %plan.next_check, "planned");
        match plan.action {
            RenewalAction::Idle => {
                return Ok(store
                    .release_auto_certificate(tenure.lease(), plan.next_check, RunOutcome::Finished)
                    .await?);
            }
            RenewalAction::Start => issuance.start(tenure, &subject, plan.reason).await?,
            RenewalAction::Resume(_) => issuance.resume_attempt(tenure, &subject).await?,
            RenewalAction::AskRenewalInfo => {
                issuance.ask_renewal_info(tenure, &subject).await?;
                asked = true;
            }
            RenewalAction::CleanUp => issuance.clean_up(tenure, &subject).await?,
            RenewalAction::Purge => return Ok(store.purge_auto_certificate(tenure.lease()).await?),
        }
    }
}

/// The lanes that need no more than their name.
#[derive(Clone)]
struct Lanes {
    dead_leases: Lane,
    clock: Lane,
    removal: Lane,
    registrations: Lane,
    orders: Lane,
    /// One for the queue at each provider.
    queues: Arc<std::sync::Mutex<HashMap<ProviderId, Lane>>>,
    deliveries: Lane,
    revocations: Lane,
    orphaned_records: Lane,
}

impl Lanes {
    fn new(context: &LaneContext) -> Self {
        let lane = |name: &str| Lane::new(name, context);
        Self {
            dead_leases: lane("leases of dead processes"),
            clock: lane("clock"),
            removal: lane("removal of expired certificates"),
            registrations: lane("registrations"),
            orders: lane("orders"),
            queues: Arc::default(),
            deliveries: lane("deliveries"),
            revocations: lane("revocations"),
            orphaned_records: lane("orphaned records"),
        }
    }
}

async fn free_dead_leases(issuance: Arc<Issuance>) -> Result<u64, StoreError> {
    issuance.store.free_dead_leases().await
}

/// Issued certificates go 30 days after they expired, by a clock that was looked at and can be believed.
async fn remove_expired(issuance: Arc<Issuance>, clock_is_known: bool) -> Result<Option<Moment>, StoreError> {
    let Some(until) = issuance.clock.deletable_until().filter(|_| clock_is_known) else { return Ok(None) };
    let removed = issuance.store.remove_expired(until).await?;
    if removed > 0 {
        tracing::info!(removed, "long expired certificates removed");
    }
    Ok(None)
}

const MIN_PAUSE: Duration = Duration::from_millis(20);
/// What another instance has issued is delivered here, too, without anybody who would wake us.
const MAX_PAUSE_IN_FLEET: Duration = Duration::from_secs(5);
const PAUSE_IN_OUTAGE: Duration = Duration::from_secs(1);
const MAX_REGISTRATIONS: u32 = 8;
