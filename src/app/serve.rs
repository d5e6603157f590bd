//! The daemon from its start to its stop. Whatever hangs, a signal is heeded at once and the stop has an end.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{App, Integrations, NameServerSockets};
use crate::http::{self, ConnectionLimits, LocalSocket};
use crate::runtime::lifecycle;
use crate::runtime::watchdog::{self, ScanMonitor};
use crate::scheduler::Scheduler;

/// The parts that run until the program stops.
struct RunningParts {
    scheduler: Scheduler,
    api: JoinHandle<()>,
    local_api: JoinHandle<()>,
    name_server: OptionFuture<JoinHandle<std::io::Result<()>>>,
    scheduler_task: JoinHandle<anyhow::Result<()>>,
}

impl App {
    /// Serves the API, renews, and answers DNS at the sockets, until the program is told to stop. Each of the `hangups`
    /// makes it read its settings anew.
    ///
    /// # Errors
    /// Where an address cannot be bound, or a part fails for good.
    pub async fn serve(self, outside: Integrations, sockets: NameServerSockets, hangups: Signal) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        // A database that hangs holds up neither the start nor a reload against a signal.
        let ended = stopping.run_until_cancelled(async {
            let running = self.start(outside, sockets).await?;
            self.supervise(running, hangups).await
        });
        // Parts that ended because of the stop have not failed.
        let ended = ended.await.filter(|_| !stopping.is_cancelled()).unwrap_or(Ok(()));
        lifecycle::notify_stopping();
        self.stop().await;
        ended
    }

    async fn start(&self, outside: Integrations, sockets: NameServerSockets) -> anyhow::Result<RunningParts> {
        let listen = self.config.api.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} (api.listen)"))?;
        let address = listener.local_addr()?;
        let socket = LocalSocket::bind(&self.config.socket()).await?;
        self.create_first_token().await?;
        self.reconcile(&self.config).await?;
        self.store.retry_removals().await?;
        self.warn_without_dns(&outside).await?;
        let scheduler = self.scheduler(outside);
        scheduler.sync_deliveries().await?;
        let names = OptionFuture::from(self.start_name_server(sockets)?);
        let (tasks, pulse, api) = (self.lifecycle.tasks(), ScanMonitor::default(), self.api());
        let stopping = || self.lifecycle.stopping();
        let limits = ConnectionLimits::from_config(&self.config.api);
        let running = RunningParts {
            api: tasks.spawn(http::serve(listener, api.clone().router(), limits, stopping())),
            local_api: tasks.spawn(http::serve_unix(socket, api, ConnectionLimits::local(), stopping())),
            name_server: names,
            scheduler_task: tasks.spawn(run_scheduler(scheduler.clone(), pulse.clone())),
            scheduler,
        };
        tasks.spawn(watchdog::keep_watchdog_alive(pulse, stopping()));
        tasks.spawn(self.warn_daily_of_expiring_credentials());
        tracing::info!(%address, socket = %self.config.socket().display(), version = env!("CARGO_PKG_VERSION"), "serving");
        lifecycle::notify_ready();
        Ok(running)
    }

    async fn supervise(&self, running: RunningParts, mut hangups: Signal) -> anyhow::Result<()> {
        let RunningParts {
            scheduler,
            mut api,
            local_api: mut socket,
            name_server: mut names,
            scheduler_task: mut scheduling,
        } = running;
        let reloads = async {
            while hangups.recv().await.is_some() {
                self.reload(&scheduler).await;
            }
        };
        tokio::select! {
            ended = &mut api => anyhow::bail!("the API ended: {ended:?}"),
            ended = &mut socket => anyhow::bail!("the socket ended: {ended:?}"),
            Some(ended) = &mut names => anyhow::bail!("the name server ended: {ended:?}"),
            ended = &mut scheduling => anyhow::bail!("the scheduler ended: {ended:?}"),
            () = reloads => anyhow::bail!("SIGHUP is heard no more"),
        }
    }

    /// Ends all tasks: running requests finish, running attempts park themselves. The store closes after both.
    pub async fn stop(&self) {
        self.lifecycle.stop();
        if !self.lifecycle.drain(self.config.stop_grace()).await {
            tracing::warn!("some work did not park itself in time; it resumes after the next start");
        }
        if timeout(STORE_CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("the database did not close its connections in time; they are left to it");
        }
    }
}

async fn run_scheduler(scheduler: Scheduler, pulse: ScanMonitor) -> anyhow::Result<()> {
    Ok(scheduler.run(pulse).await?)
}

/// A database that hangs closes nothing.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
