//! The scheduler: looks for what is due, claims it by lease, and has it worked on within bounds. It sleeps until the
//! earliest planned look and wakes at every change; a cron scan is the safety net behind that.

mod clock;
mod deliveries;
mod lane;
mod queue;
mod rehearsals;
mod revocations;
mod strays;

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
use crate::deliver::dispatch::Dispatcher;
use crate::doctor::Doctor;
use crate::domain::back_off::FailureStreak;
use crate::domain::disposition::Failure;
use crate::domain::id::{AutoCertificateId, ProviderId};
use crate::domain::moment::Moment;
use crate::domain::plan::{RenewalAction, plan};
use crate::issuance::{Issuance, AttemptError, HeldLease};
use crate::runtime::wake::Wake;
use crate::runtime::watchdog::ScanMonitor;
use crate::scheduler::lane::{Lane, LaneContext, words_of};
use crate::scheduler::rehearsals::Preflights;
use crate::store::{ClaimedAutoCertificate, DueAutoCertificate, LEASE, Lease, ProviderLease, RunOutcome, StoreError};

pub use crate::issuance::{CleanupOutcome, SweepMode, Cleanup};

/// What the settings come to, and a reload replaces. What is under way goes on with what it began with.
#[derive(Clone)]
pub struct ConfiguredWork {
    /// Obtains certificates.
    pub issuance: Arc<Issuance>,
    /// Delivers them.
    pub dispatch: Arc<Dispatcher>,
    /// Rehearses renewals.
    pub doctor: Arc<Doctor>,
}

/// Finds due work and has it done.
#[derive(Clone)]
pub struct Scheduler {
    work: Arc<RwLock<ConfiguredWork>>,
    /// Held by a scan.
    scanning: Arc<Mutex<()>>,
    lanes: Lanes,
    rehearsals: Preflights,
    context: LaneContext,
    wake: Wake,
    /// How many auto-certificates are worked on at once at each provider.
    room: usize,
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
            scanning: Arc::default(),
            lanes: Lanes::new(&context),
            rehearsals: Preflights::new(settings.rehearse_ahead, Lane::new("preflights", &context)),
            context,
            wake,
            room: settings.concurrency.into(),
            tasks,
            stopping,
            scan_every: settings.scan_every.duration(),
        }
    }

    /// Goes on with other settings. What they deliver is looked at anew. A scan that is under way ends first: what falls due
    /// after this must not be worked on with what was before.
    pub async fn replace(&self, work: ConfiguredWork) {
        let _scanning = self.scanning.lock().await;
        *self.work.write().unwrap_or_else(PoisonError::into_inner) = work;
        self.wake.nudge();
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
            let pause = self.pause_until(next_look);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.nudged() => {}
                () = self.stopping.cancelled() => {}
            }
        }
        cron.shutdown().await
    }

    /// Claims what is due and has it worked on; gives the earliest planned look of all the rest. Each lane looks for
    /// itself: one that fails, panics or hangs is logged and looks again later, and the others go on.
    pub async fn scan(&self) -> Option<Moment> {
        let _scanning = self.scanning.lock().await;
        let ConfiguredWork { issuance, dispatch, doctor } = self.current();
        self.lanes.dead_leases.look(free_dead_leases(Arc::clone(&issuance))).await;
        let (scheduler, lanes) = (self.clone(), &self.lanes);
        let heeded = {
            let scheduler = scheduler.clone();
            lanes.clock.look(async move { scheduler.heed_clock().await }).await
        };
        let looks = tokio::join!(
            lanes.removal.look(remove_expired(Arc::clone(&issuance), heeded.is_some())),
            lanes.registrations.look(scheduler.clone().scan_providers(Arc::clone(&issuance))),
            lanes.orders.look(scheduler.scan_queues(Arc::clone(&issuance))),
            lanes.deliveries.look(deliveries::scan(lanes.deliveries.clone(), dispatch)),
            lanes.revocations.look(revocations::scan(lanes.revocations.clone(), Arc::clone(&issuance))),
            lanes.strays.look(strays::scan(lanes.strays.clone(), Arc::clone(&issuance))),
            self.rehearsals.lane().look(self.rehearsals.clone().scan(issuance.store.clone(), doctor)),
        );
        let looks: [Option<Option<Moment>>; 7] = looks.into();
        looks.into_iter().flatten().flatten().min()
    }

    /// Has these worked on, due or not, as far as their providers have room and nobody else works on them.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn take_up(&self, ids: &[AutoCertificateId]) -> Result<(), StoreError> {
        let issuance = self.current().issuance;
        let mut queues: HashMap<ProviderId, Vec<DueAutoCertificate>> = HashMap::new();
        for due in issuance.store.queue_of(ids, issuance.clock.now()).await? {
            queues.entry(due.auto_certificate.provider).or_default().push(due);
        }
        for (provider, queue) in queues {
            self.serve(&issuance, provider, queue).await?;
        }
        Ok(())
    }

    /// Gives each delivery its rows, before anyone asks how it goes.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sync_deliveries(&self) -> Result<(), StoreError> {
        self.current().dispatch.sync().await
    }

    /// Claims the deliveries that are due and has them carried out, as far as there is room; gives the moment of the
    /// earliest look at all others.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn deliver_due(&self) -> Result<Option<Moment>, StoreError> {
        deliveries::scan(self.lanes.deliveries.clone(), self.current().dispatch).await
    }

    /// Whether no delivery is under way.
    pub fn delivers_nothing(&self) -> bool {
        self.lanes.deliveries.has_no_work()
    }

    /// Registers the accounts that are due, tells changed contacts, and waits until that is done or has failed, which is
    /// kept with the provider.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn settle_providers(&self) -> Result<(), StoreError> {
        for registration in self.register_providers(&self.current().issuance).await? {
            if let Err(error) = registration.await {
                tracing::error!(%error, "a registration broke off");
            }
        }
        Ok(())
    }

    fn current(&self) -> ConfiguredWork {
        self.work.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spawn(&self, issuance: &Arc<Issuance>, claim: ClaimedAutoCertificate) {
        let (issuance, stopping, wake) = (Arc::clone(issuance), self.stopping.clone(), self.wake.clone());
        let span = tracing::info_span!("work", auto_certificate = %claim.auto_certificate.id, name = %claim.auto_certificate.name);
        self.tasks.spawn(
            async move {
                work(&issuance, &claim, &stopping).await;
                wake.nudge();
            }
            .instrument(span),
        );
    }
}

impl Scheduler {
    /// Wakes the loop at a random second every so many minutes.
    async fn start_cron(&self) -> Result<JobScheduler, JobSchedulerError> {
        let second = (self.current().issuance.randomness.fraction() * 60.0).floor();
        let minutes = self.scan_every.as_secs() / 60;
        let cron = JobScheduler::new().await?;
        let wake = self.wake.clone();
        let scan = Job::new(format!("{second} */{minutes} * * * *"), move |_, _| wake.nudge())?;
        cron.add(scan).await?;
        cron.start().await?;
        Ok(cron)
    }

    /// Begins with the accounts that are due; gives the earliest look at all others.
    async fn scan_providers(self, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        self.register_providers(&issuance).await?;
        issuance.store.earliest_provider_look().await
    }

    fn pause_until(&self, next_look: Option<Moment>) -> Duration {
        let issuance = self.current().issuance;
        let longest = if issuance.store.is_shared() { LONGEST_PAUSE_IN_A_FLEET } else { self.scan_every };
        let left = next_look.map(|at| at - issuance.clock.now());
        left.map_or(longest, |left| left.try_into().unwrap_or(Duration::ZERO)).clamp(SHORTEST_PAUSE, longest)
    }

    async fn register_providers(&self, issuance: &Arc<Issuance>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let due = issuance.store.claim_due_providers(issuance.clock.now(), PROVIDERS_AT_ONCE).await?;
        let mut begun = Vec::with_capacity(due.len());
        for lease in due {
            let (issuance, stopping, wake) = (Arc::clone(issuance), self.stopping.clone(), self.wake.clone());
            let span = tracing::info_span!("registration", provider = %lease.id);
            let registration = self.tasks.spawn(
                async move {
                    tokio::select! {
                        registered = issuance.registrar.register(&lease) => {
                            match registered {
                                Err(AttemptError::Store(error)) if error.is_damaged_row() => {
                                    put_registration_off(&issuance, &lease, &error).await;
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
                    wake.nudge();
                }
                .instrument(span),
            );
            begun.push(registration);
        }
        Ok(begun)
    }
}

/// Works on one claimed auto-certificate until its plan is to wait.
async fn work(issuance: &Issuance, claim: &ClaimedAutoCertificate, stopping: &CancellationToken) {
    let tenure = HeldLease::new(issuance.store.clone(), claim, stopping);
    let followed = AssertUnwindSafe(follow_plan(issuance, &tenure)).catch_unwind();
    let result = tokio::select! {
        result = followed => result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
        never = tenure.keep() => match never {},
    };
    let released = match result {
        Ok(()) => Ok(()),
        Err(AttemptError::Lost) => {
            tracing::warn!("the lease was lost; somebody else goes on");
            Ok(())
        }
        Err(stop @ (AttemptError::Parked | AttemptError::Abandoned)) => {
            tracing::info!("{stop}");
            issuance.store.release(tenure.lease(), issuance.clock.now(), RunOutcome::Interrupted).await
        }
        Err(AttemptError::Held(hold)) => {
            tracing::info!(until = %hold.until, "{hold}");
            issuance.store.hold_back(tenure.lease(), &hold).await
        }
        Err(stop @ (AttemptError::Failed(_) | AttemptError::StuckOrder { .. } | AttemptError::UnknownAccount(_) | AttemptError::Store(_))) => {
            if matches!(&stop, AttemptError::Store(error) if error.is_outage()) {
                tracing::debug!("work was cut off: {stop}");
            } else {
                tracing::error!("work was cut off: {stop}");
            }
            note(issuance, &tenure, claim, &stop).await
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
async fn release_after_outage(issuance: &Issuance, lease: &Lease, stopping: &CancellationToken) {
    let (store, begun) = (&issuance.store, Instant::now());
    while begun.elapsed() < LEASE {
        if stopping.run_until_cancelled(tokio::time::sleep(PAUSE_IN_OUTAGE)).await.is_none() {
            return;
        }
        if store.check_writable().await.is_ok() {
            match store.release(lease, issuance.clock.now(), RunOutcome::Interrupted).await {
                Err(error) if error.is_outage() => {}
                Err(error) => return tracing::debug!(%error, "the lease had ended by itself"),
                Ok(()) => return,
            }
        }
    }
}

/// A panic ends the work on one auto-certificate, and is shown there.
fn panicked(panic: &(dyn std::any::Any + Send)) -> AttemptError {
    Failure::retry(format!("a defect of autocertd, please report it: the work panicked: {}", words_of(panic))).into()
}

/// An account whose provider is damaged is looked at again the next day, or when the settings are read anew.
async fn put_registration_off(issuance: &Issuance, lease: &ProviderLease, error: &StoreError) {
    let (store, now) = (&issuance.store, issuance.clock.now());
    let failure = Failure::operator(error.to_string());
    let trouble = FailureStreak::after(None, failure, now, None, issuance.randomness.fraction());
    let put_off = async {
        store.record_provider_trouble(lease, &trouble).await?;
        store.release_provider(lease).await
    };
    tracing::error!(%error, "an account cannot be registered");
    if let Err(error) = put_off.await {
        tracing::error!(%error, "the registration could not be put off; its lease ends by itself");
    }
}

/// A store that fails in the middle of the work is a trouble like others: shown, and tried again with growing pauses.
async fn note(issuance: &Issuance, tenure: &HeldLease, claim: &ClaimedAutoCertificate, stop: &AttemptError) -> Result<(), StoreError> {
    let (store, now) = (&issuance.store, issuance.clock.now());
    let standing = &claim.auto_certificate.standing;
    let expiry = standing.relied_on_until();
    let jitter = issuance.randomness.fraction();
    let trouble = FailureStreak::after(standing.trouble.as_ref(), Failure::retry(stop.to_string()), now, expiry, jitter);
    store.record_trouble(tenure.lease(), &trouble).await?;
    store.release(tenure.lease(), trouble.next_try, RunOutcome::Finished).await
}

async fn follow_plan(issuance: &Issuance, tenure: &HeldLease) -> Result<(), AttemptError> {
    let store = &issuance.store;
    let mut asked = false;
    loop {
        let subject = store.subject(tenure.lease()).await?;
        let now = issuance.clock.now();
        let plan = plan(&subject.standing, now);
        // What comes of a question waits for its turn like everything else.
        if asked && plan.action == RenewalAction::Start {
            return Ok(store.release(tenure.lease(), now, RunOutcome::Interrupted).await?);
        }
        tracing::debug!(action = ?plan.action, reason = %plan.reason, next_look = %plan.next_look, "planned");
        match plan.action {
            RenewalAction::Idle => return Ok(store.release(tenure.lease(), plan.next_look, RunOutcome::Finished).await?),
            RenewalAction::Start => issuance.start(tenure, &subject, plan.reason).await?,
            RenewalAction::Resume(_) => issuance.resume(tenure, &subject).await?,
            RenewalAction::AskRenewalInfo => {
                issuance.ask_renewal_info(tenure, &subject).await?;
                asked = true;
            }
            RenewalAction::CleanUp => issuance.clean_up(tenure, &subject).await?,
            RenewalAction::Purge => return Ok(store.purge(tenure.lease()).await?),
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
    strays: Lane,
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
            strays: lane("orphaned records"),
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

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// What another instance has issued is delivered here, too, without anybody who would wake us.
const LONGEST_PAUSE_IN_A_FLEET: Duration = Duration::from_secs(5);
const PAUSE_IN_OUTAGE: Duration = Duration::from_secs(1);
const PROVIDERS_AT_ONCE: u32 = 8;
