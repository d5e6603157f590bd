//! `reload`: a service is told that there is something new: through systemd, by a signal, or by a request.

mod helper;
mod post;
mod signal;
pub mod spool;
pub mod unit;

use std::path::PathBuf;

use crate::config::delivery::{InvalidDelivery, ReloadEntry};
use crate::config::time_span::TimeSpan;
use crate::deliver::reload::helper::HelperClient;
use crate::deliver::reload::post::ReloadPost;
use crate::deliver::reload::signal::{SignalJob, SignalTarget};
use crate::deliver::reload::spool::SpoolPaths;
use crate::deliver::reload::unit::{UnitJob, UnitName};
use crate::domain::declared::DeclaredKey;
use crate::domain::failure::disposition::Failure;
use crate::runtime::randomness::Randomness;

/// How a service is told.
#[derive(Debug)]
pub struct Reload {
    method: ReloadMethod,
    timeout: TimeSpan,
}

#[derive(Debug)]
enum ReloadMethod {
    Unit(UnitJob),
    Helper(HelperClient),
    Signal(SignalJob),
    Post(ReloadPost),
}

/// Who was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadReached {
    /// The service.
    Service,
    /// Nobody: it does not run, and need not.
    NotRunning,
}

/// What a reload finds around it.
#[derive(Clone, Debug)]
pub struct ReloadContext {
    /// The program that speaks to systemd; a bare name is looked for on the `PATH`.
    pub systemctl: PathBuf,
    /// Where the privileged helper is asked.
    pub spool: SpoolPaths,
    /// Makes requests to the helper unmistakable.
    pub randomness: Randomness,
}

impl ReloadContext {
    /// Those of an installed autocertd.
    pub fn installed(randomness: Randomness) -> Self {
        Self { systemctl: PathBuf::from(unit::SYSTEMCTL), spool: SpoolPaths::default(), randomness }
    }
}

/// Why a reload cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReload {
    /// It says nothing or too much.
    #[error(transparent)]
    Unclear(InvalidDelivery),
    /// A text that is no name of a unit.
    #[error(
        "reload.unit: {0:?} is not the name of a unit; write it out, such as nginx.service, an instance such as \
         haproxy@edge.service"
    )]
    Unit(String),
    /// A signal that no service is reloaded by.
    #[error("reload.signal: {0:?} is none of HUP, USR1, USR2, TERM, INT, QUIT and WINCH")]
    Signal(String),
    /// An address that cannot be asked. It is not shown: a user, a password or a query in it may be secret.
    #[error("reload.url is not an http or https URL; write it out, such as http://127.0.0.1:8080/reload")]
    Url,
    /// No client for it can be made.
    #[error("reload.url: no HTTP client can be made")]
    Client(#[source] reqwest::Error),
}

impl Reload {
    /// The reload that the settings name for the delivery `key`.
    ///
    /// # Errors
    /// Where they name none, or one that cannot be.
    pub fn new(entry: &ReloadEntry, key: &DeclaredKey, around: &ReloadContext) -> Result<Self, InvalidReload> {
        let signal = || signal::parse_signal(entry.signal.as_deref().unwrap_or(DEFAULT_SIGNAL));
        let way = match (&entry.unit, &entry.pid_file, &entry.process, &entry.url) {
            (Some(unit), None, None, None) if entry.helper => {
                // The helper reads it again; what cannot be is better told here.
                unit.parse::<UnitName>()?;
                ReloadMethod::Helper(HelperClient::new(key.clone(), around.spool.clone(), around.randomness.clone()))
            }
            (Some(unit), None, None, None) => {
                ReloadMethod::Unit(UnitJob::new(unit.parse()?, entry, around.systemctl.clone()))
            }
            (None, Some(file), None, None) => ReloadMethod::Signal(SignalJob {
                target: SignalTarget::PidFile(file.clone()),
                signal: signal()?,
                if_running: entry.if_running,
            }),
            (None, None, Some(name), None) => ReloadMethod::Signal(SignalJob {
                target: SignalTarget::Name(name.clone()),
                signal: signal()?,
                if_running: entry.if_running,
            }),
            (None, None, None, Some(url)) => ReloadMethod::Post(ReloadPost::new(url, entry.timeout)?),
            _ => return Err(InvalidReload::Unclear(InvalidDelivery::ReloadWithoutTarget)),
        };
        Ok(Self { method: way, timeout: entry.timeout })
    }

    /// Tells the service. That it has been told is all that is known then: many take it up a little later.
    ///
    /// # Errors
    /// Who could not be told, why, and what to do.
    pub async fn run(&self) -> Result<ReloadReached, Failure> {
        match &self.method {
            ReloadMethod::Unit(job) => job.run(self.timeout).await.map(|()| ReloadReached::Service),
            ReloadMethod::Helper(requester) => requester.run(self.timeout).await.map(|()| ReloadReached::Service),
            ReloadMethod::Signal(errand) => errand.run(self.timeout).await,
            ReloadMethod::Post(post) => post.run().await.map(|()| ReloadReached::Service),
        }
    }
}

const DEFAULT_SIGNAL: &str = "HUP";
