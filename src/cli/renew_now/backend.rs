//! Where a renewal is asked for: at the daemon's socket, or, without a daemon, at a scheduler of this process's own.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::app::{App, IfStoreMissing, Integrations};
use crate::config::Config;
use crate::domain::value::id::AutoCertificateId;
use crate::http::control::{
    self, DELIVERIES_PATH, DeliveriesAnswer, DeliveriesRequest, IdList, MOST_IDS, OVERDUE_PATH, OverdueAnswer,
    PROGRESS_PATH, RENEWALS, RenewalAnswer, RenewalProgress, RenewalRequest, RenewalTarget,
};
use crate::runtime::lifecycle::Lifecycle;
use crate::scheduler::Scheduler;
use crate::store::{AutoCertificateProgress, DeliveryCursor};

/// The daemon, spoken to over its Unix socket.
pub(super) struct DaemonClient(reqwest::Client);

/// Where a renewal is asked for.
pub(super) enum RenewBackend {
    /// At the daemon.
    Daemon(DaemonClient),
    /// Here.
    Local(Box<LocalScheduler>),
}

/// This process's own scheduler.
pub(super) struct LocalScheduler {
    app: App,
    scheduler: Scheduler,
    instance: String,
}

/// The daemon, where one answers.
pub(super) async fn connect_daemon(config: &Config) -> anyhow::Result<Option<DaemonClient>> {
    let socket = config.socket();
    match UnixStream::connect(&socket).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => {
            let hint = "run this as root or as the user of the daemon";
            return Err(error).with_context(|| format!("cannot reach the daemon at {}; {hint}", socket.display()));
        }
    }
    let client =
        reqwest::Client::builder().unix_socket(Path::new(&socket)).timeout(REQUEST_TIMEOUT).no_proxy().build()?;
    Ok(Some(DaemonClient(client)))
}

impl RenewBackend {
    /// The desk of the daemon, or one of this process.
    pub(super) async fn open(config: &Config, daemon: Option<DaemonClient>) -> anyhow::Result<Self> {
        if let Some(daemon) = daemon {
            return Ok(Self::Daemon(daemon));
        }
        let outside = Integrations::from_config(config)?;
        // What the settings declare needs nothing that somebody made before.
        let declares = !config.auto_certificates.is_empty();
        let lifecycle = Lifecycle::default();
        lifecycle.stop_on_signals(config.stop_timeout())?;
        let app = App::open_with_lifecycle(
            config,
            if declares { IfStoreMissing::Create } else { IfStoreMissing::Fail },
            lifecycle,
        )
        .await?;
        app.reconcile(config).await?;
        app.start_name_server_if_possible();
        let scheduler = app.scheduler(outside);
        Ok(Self::Local(Box::new(LocalScheduler { app, scheduler, instance: config.instance() })))
    }

    /// Asks for the named ones, due or not; without names for everything that is due. Where a name is unknown nothing
    /// is asked for.
    pub(super) async fn request(&self, names: &[String]) -> anyhow::Result<RenewalAnswer> {
        match self {
            Self::Daemon(daemon) => daemon.request(names).await,
            Self::Local(local) => local.request(names).await,
        }
    }

    /// How far each one is, at most [`Self::page`] of them; those that are gone are left out.
    pub(super) async fn progress(&self, targets: &[RenewalTarget]) -> anyhow::Result<Vec<RenewalProgress>> {
        match self {
            Self::Daemon(daemon) => daemon.progress(targets).await,
            Self::Local(local) => local.progress(targets).await,
        }
    }

    /// How many are looked at in one go. What is worked on here is looked at in small portions, each of which fills the
    /// room that there is.
    pub(super) const fn page_size(&self) -> usize {
        match self {
            Self::Daemon(_) => MOST_IDS,
            Self::Local(_) => LOCAL_PAGE_SIZE,
        }
    }

    /// Rests until the next look, which `pause` is meant for; where the work is done here, until some of it has ended.
    pub(super) async fn wait_for_next_poll(&self, pause: Duration) {
        match self {
            Self::Daemon(_) => tokio::time::sleep(pause).await,
            Self::Local(local) => {
                let least = (pause / 8).clamp(MIN_LOCAL_WAIT, MAX_LOCAL_WAIT);
                tokio::time::sleep(least).await;
                let _ = tokio::time::timeout(pause.saturating_sub(least), local.app.wait_for_change()).await;
            }
        }
    }

    /// What should be in service and is not.
    pub(super) async fn overdue(&self) -> anyhow::Result<OverdueAnswer> {
        match self {
            Self::Daemon(daemon) => daemon.overdue().await,
            Self::Local(local) => Ok(control::find_overdue(&local.app.store, local.app.clock.now()).await?),
        }
    }

    /// Whether nobody else carries out what is to be delivered.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// How far the deliveries of these are, at most [`MOST_IDS`]; where there are none, a page of all, those after `after`.
    /// Without a daemon they are carried out here, as are all others that are due.
    pub(super) async fn deliveries(
        &self,
        ids: &[AutoCertificateId],
        after: Option<&DeliveryCursor>,
    ) -> anyhow::Result<DeliveriesAnswer> {
        match self {
            Self::Daemon(daemon) => daemon.deliveries(ids, after).await,
            Self::Local(local) => local.deliveries(ids, after).await,
        }
    }

    /// Whether a delivery is under way here.
    pub(super) fn is_delivering(&self) -> bool {
        matches!(self, Self::Local(local) if !local.scheduler.has_no_deliveries())
    }

    /// Ends what this process has begun, once the accounts are as they should be, the CAs know what is to be revoked, and
    /// what checks have left in the DNS is gone: nobody else may come to see to them.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Self::Local(local) = self else { return Ok(()) };
        let settled = local.scheduler.register_due_providers().await;
        let revoked = local.scheduler.run_due_revocations().await;
        let swept = local.scheduler.remove_orphaned_records().await;
        local.app.stop().await;
        Ok(settled.and(revoked).and(swept)?)
    }
}

impl DaemonClient {
    async fn request(&self, names: &[String]) -> anyhow::Result<RenewalAnswer> {
        let request = RenewalRequest { names: names.to_vec() };
        let answer = self.0.post(daemon_url(RENEWALS)).json(&request).send().await;
        read_answer(answer).await
    }

    async fn progress(&self, targets: &[RenewalTarget]) -> anyhow::Result<Vec<RenewalProgress>> {
        let ids: IdList = targets.iter().map(|target| target.id).collect();
        self.send_checked(self.0.post(daemon_url(PROGRESS_PATH)).json(&ids)).await
    }

    async fn deliveries(
        &self,
        ids: &[AutoCertificateId],
        after: Option<&DeliveryCursor>,
    ) -> anyhow::Result<DeliveriesAnswer> {
        let request = DeliveriesRequest { of: ids.iter().copied().collect(), after: after.cloned() };
        self.send_checked(self.0.post(daemon_url(DELIVERIES_PATH)).json(&request)).await
    }

    async fn overdue(&self) -> anyhow::Result<OverdueAnswer> {
        self.send_checked(self.0.get(daemon_url(OVERDUE_PATH))).await
    }

    /// Asks what only daemons of this version answer.
    async fn send_checked<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let answer = request.send().await;
        if let Ok(answer) = &answer
            && matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
        {
            bail!(
                "the daemon is of another version than this command ({}) and cannot be asked how far it is; restart the \
                 daemon (`systemctl restart autocertd`). It goes on with what it was asked for",
                env!("CARGO_PKG_VERSION")
            );
        }
        read_answer(answer).await
    }
}

fn daemon_url(path: &str) -> String {
    format!("http://localhost{path}")
}

async fn read_answer<T: DeserializeOwned>(answer: reqwest::Result<reqwest::Response>) -> anyhow::Result<T> {
    let answer = answer.map_err(|error| {
        let words = if error.is_timeout() {
            "the daemon did not answer in time; it goes on with its work, and its log may tell why it is slow"
        } else {
            "the daemon went away; `systemctl status autocertd` may tell why"
        };
        anyhow::Error::new(error).context(words)
    })?;
    let status = answer.status();
    if !status.is_success() {
        bail!("the daemon answers {status}: {}", answer.text().await.unwrap_or_default());
    }
    answer.json().await.context("the daemon's answer cannot be read; is it of the same version?")
}

impl LocalScheduler {
    /// What a killed process held is free from now on.
    async fn request(&self, names: &[String]) -> anyhow::Result<RenewalAnswer> {
        self.app.store.free_dead_leases().await?;
        self.scheduler.check_clock().await?;
        Ok(control::ask(&self.app.store, names, self.app.clock.now()).await?)
    }

    /// What nobody has worked on yet is taken up on the way, as far as the bounds allow: somebody else may have held it
    /// until now.
    async fn progress(&self, targets: &[RenewalTarget]) -> anyhow::Result<Vec<RenewalProgress>> {
        if self.app.lifecycle.stopping().is_cancelled() {
            bail!("interrupted; what was begun goes on with the next run");
        }
        self.fail_on_outage().await?;
        let runs: HashMap<AutoCertificateId, u64> = targets.iter().map(|target| (target.id, target.runs)).collect();
        let ids: Vec<AutoCertificateId> = targets.iter().map(|target| target.id).collect();
        let progress = self.app.store.progress(&ids).await?;
        let untouched = |of: &AutoCertificateProgress| runs.get(&of.id) == Some(&of.runs);
        let waiting = |of: &&AutoCertificateProgress| {
            !of.running && of.deferral.is_none() && (untouched(of) || of.renewal_requested)
        };
        let waiting: Vec<AutoCertificateId> = progress.iter().filter(waiting).map(|of| of.id).collect();
        if !waiting.is_empty() {
            self.scheduler.start_now(&waiting).await?;
        }
        Ok(progress.into_iter().map(Into::into).collect())
    }

    /// A pass that can write nothing down would only wait. What it has begun goes on with the next one.
    async fn fail_on_outage(&self) -> anyhow::Result<()> {
        match self.app.store.outage() {
            Some(_) => Ok(self.app.store.check_writable().await?),
            None => Ok(()),
        }
    }

    async fn deliveries(
        &self,
        ids: &[AutoCertificateId],
        after: Option<&DeliveryCursor>,
    ) -> anyhow::Result<DeliveriesAnswer> {
        if self.app.lifecycle.stopping().is_cancelled() {
            bail!("interrupted; what was not delivered is delivered with the next run");
        }
        self.fail_on_outage().await?;
        self.scheduler.deliver_due().await?;
        Ok(control::load_progress_page(&self.app.store, &self.instance, ids, after, self.app.clock.now()).await?)
    }
}

/// Of one request; to look through all auto-certificates of a large store takes longest.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
const LOCAL_PAGE_SIZE: usize = 100;
/// What ends in between is seen after that.
const MIN_LOCAL_WAIT: Duration = Duration::from_millis(20);
const MAX_LOCAL_WAIT: Duration = Duration::from_millis(100);
