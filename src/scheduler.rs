//! The scheduler: looks for what is due, claims it by lease, and has it worked on within bounds. It sleeps until the
//! earliest planned look and wakes at every change; a cron scan is the safety net behind that.

mod clock;
mod deliveries;
mod queue;
mod rehearsals;
mod revocations;
mod strays;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config::scheduler::SchedulerSection;
use crate::deliver::dispatch::Dispatch;
use crate::doctor::Doctor;
use crate::domain::back_off::Trouble;
use crate::domain::disposition::Failure;
use crate::domain::id::{AutoCertificateId, ProviderId};
use crate::domain::moment::Moment;
use crate::domain::plan::{Action, plan};
use crate::issuance::{Issuance, Stop, Tenure};
use crate::runtime::wake::Wake;
use crate::runtime::watchdog::Pulse;
use crate::scheduler::deliveries::Deliveries;
use crate::scheduler::rehearsals::Rehearsals;
use crate::scheduler::revocations::Revocations;
use crate::scheduler::strays::Strays;
use crate::store::{Claim, Due, LEASE, Lease, RunOutcome, StoreError};

pub use crate::issuance::{Fate, Sweep, Swept};

/// What the settings come to, and a reload replaces. What is under way goes on with what it began with.
#[derive(Clone)]
pub struct Work {
    /// Obtains certificates.
    pub issuance: Arc<Issuance>,
    /// Delivers them.
    pub dispatch: Arc<Dispatch>,
    /// Rehearses renewals.
    pub doctor: Arc<Doctor>,
}

/// Finds due work and has it done.
#[derive(Clone)]
pub struct Scheduler {
    work: Arc<RwLock<Work>>,
    /// Held by a scan.
    scanning: Arc<Mutex<()>>,
    deliveries: Deliveries,
    revocations: Revocations,
    strays: Strays,
    rehearsals: Rehearsals,
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
        work: Work,
        wake: Wake,
        settings: &SchedulerSection,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            work: Arc::new(RwLock::new(work)),
            scanning: Arc::default(),
            deliveries: Deliveries::new(wake.clone(), tasks.clone(), stopping.clone()),
            revocations: Revocations::new(wake.clone(), tasks.clone(), stopping.clone()),
            strays: Strays::new(wake.clone(), tasks.clone(), stopping.clone()),
            rehearsals: Rehearsals::new(settings.rehearse_ahead, wake.clone(), tasks.clone(), stopping.clone()),
            wake,
            room: settings.concurrency.into(),
            tasks,
            stopping,
            scan_every: settings.scan_every.duration(),
        }
    }

    /// Goes on with other settings. What they deliver is looked at anew. A scan that is under way ends first: what falls due
    /// after this must not be worked on with what was before.
    pub async fn replace(&self, work: Work) {
        let _scanning = self.scanning.lock().await;
        *self.work.write().unwrap_or_else(PoisonError::into_inner) = work;
        self.wake.nudge();
    }

    /// Scans and sleeps until the program stops; `pulse` tells the watchdog of systemd how long a scan takes.
    ///
    /// # Errors
    /// Where the cron scan cannot be set up.
    pub async fn run(self, pulse: Pulse) -> Result<(), JobSchedulerError> {
        let mut cron = self.start_cron().await?;
        while !self.stopping.is_cancelled() {
            let beat = pulse.begin();
            let scanned = self.scan().await;
            drop(beat);
            let pause = match scanned {
                Ok(next_look) => self.pause_until(next_look),
                Err(error) => {
                    // An outage is logged by the store, once for all.
                    if error.is_outage() {
                        tracing::debug!(%error, "the scan failed; it is tried again");
                    } else {
                        tracing::error!(%error, "the scan failed; it is tried again");
                    }
                    PAUSE_AFTER_ERROR
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.nudged() => {}
                () = self.stopping.cancelled() => {}
            }
        }
        cron.shutdown().await
    }

    /// Claims what is due and has it worked on; returns the earliest planned look of all the rest.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn scan(&self) -> Result<Option<Moment>, StoreError> {
        let _scanning = self.scanning.lock().await;
        let Work { issuance, dispatch, doctor } = self.current();
        let store = &issuance.store;
        store.free_dead_leases().await?;
        self.heed_clock().await?;
        let now = issuance.clock.now();
        remove_expired(&issuance).await?;
        self.register_providers(&issuance).await?;
        let due = self.serve_queues(&issuance).await?;
        let delivery = self.deliveries.scan(&dispatch).await?;
        let revocation = self.revocations.scan(&issuance).await?;
        let stray = self.strays.scan(&issuance).await?;
        let rehearsal = self.rehearsals.scan(store, &doctor, now).await?;
        let looks = [due, delivery, revocation, stray, rehearsal, store.earliest_provider_look().await?];
        Ok(looks.into_iter().flatten().min())
    }

    /// Has these worked on, due or not, as far as their providers have room and nobody else works on them.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn take_up(&self, ids: &[AutoCertificateId]) -> Result<(), StoreError> {
        let issuance = self.current().issuance;
        let mut queues: HashMap<ProviderId, Vec<Due>> = HashMap::new();
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
        self.deliveries.scan(&self.current().dispatch).await
    }

    /// Whether no delivery is under way.
    pub fn delivers_nothing(&self) -> bool {
        self.deliveries.are_idle()
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

    fn current(&self) -> Work {
        self.work.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spawn(&self, issuance: &Arc<Issuance>, claim: Claim) {
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
                            if let Err(Stop::Store(error)) = registered {
                                tracing::error!(%error, "the registration could not be written down");
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
async fn work(issuance: &Issuance, claim: &Claim, stopping: &CancellationToken) {
    let tenure = Tenure::new(issuance.store.clone(), claim, stopping);
    let result = tokio::select! {
        result = follow_plan(issuance, &tenure) => result,
        never = tenure.keep() => match never {},
    };
    let released = match result {
        Ok(()) => Ok(()),
        Err(Stop::Lost) => {
            tracing::warn!("the lease was lost; somebody else goes on");
            Ok(())
        }
        Err(stop @ (Stop::Parked | Stop::Abandoned)) => {
            tracing::info!("{stop}");
            issuance.store.release(tenure.lease(), issuance.clock.now(), RunOutcome::Interrupted).await
        }
        Err(Stop::Held(hold)) => {
            tracing::info!(until = %hold.until, "{hold}");
            issuance.store.hold_back(tenure.lease(), &hold).await
        }
        Err(stop @ (Stop::Failed(_) | Stop::StuckOrder { .. } | Stop::UnknownAccount(_) | Stop::Store(_))) => {
            if matches!(&stop, Stop::Store(error) if error.is_outage()) {
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

/// A store that fails in the middle of the work is a trouble like others: shown, and tried again with growing pauses.
async fn note(issuance: &Issuance, tenure: &Tenure, claim: &Claim, stop: &Stop) -> Result<(), StoreError> {
    let (store, now) = (&issuance.store, issuance.clock.now());
    let standing = &claim.auto_certificate.standing;
    let expiry = standing.relied_on_until();
    let jitter = issuance.randomness.fraction();
    let trouble = Trouble::after(standing.trouble.as_ref(), Failure::retry(stop.to_string()), now, expiry, jitter);
    store.record_trouble(tenure.lease(), &trouble).await?;
    store.release(tenure.lease(), trouble.next_try, RunOutcome::Finished).await
}

async fn follow_plan(issuance: &Issuance, tenure: &Tenure) -> Result<(), Stop> {
    let store = &issuance.store;
    let mut asked = false;
    loop {
        let subject = store.subject(tenure.lease()).await?;
        let now = issuance.clock.now();
        let plan = plan(&subject.standing, now);
        // What comes of a question waits for its turn like everything else.
        if asked && plan.action == Action::Start {
            return Ok(store.release(tenure.lease(), now, RunOutcome::Interrupted).await?);
        }
        tracing::debug!(action = ?plan.action, reason = %plan.reason, next_look = %plan.next_look, "planned");
        match plan.action {
            Action::Idle => return Ok(store.release(tenure.lease(), plan.next_look, RunOutcome::Finished).await?),
            Action::Start => issuance.start(tenure, &subject, plan.reason).await?,
            Action::Resume(_) => issuance.resume(tenure, &subject).await?,
            Action::AskRenewalInfo => {
                issuance.ask_renewal_info(tenure, &subject).await?;
                asked = true;
            }
            Action::CleanUp => issuance.clean_up(tenure, &subject).await?,
            Action::Purge => return Ok(store.purge(tenure.lease()).await?),
        }
    }
}

/// Issued certificates go 30 days after they expired, by a clock that can be believed.
async fn remove_expired(issuance: &Issuance) -> Result<(), StoreError> {
    let Some(until) = issuance.clock.deletable_until() else { return Ok(()) };
    let removed = issuance.store.remove_expired(until).await?;
    if removed > 0 {
        tracing::info!(removed, "long expired certificates removed");
    }
    Ok(())
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// What another instance has issued is delivered here, too, without anybody who would wake us.
const LONGEST_PAUSE_IN_A_FLEET: Duration = Duration::from_secs(5);
const PAUSE_IN_OUTAGE: Duration = Duration::from_secs(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);
const PROVIDERS_AT_ONCE: u32 = 8;
