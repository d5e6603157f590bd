//! The only place where the parts are put together.

mod credential_expiry;
mod name_server;
mod reload;
mod serve;
mod store_marker;

pub use credential_expiry::credential_warnings;
pub use store_marker::WrongStore;

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use crate::acme::AcmeClient;
pub use crate::app::name_server::NameServerSockets;
use crate::app::store_marker::StoreMarker;
use crate::config::dns::PropagationSection;
use crate::config::{Config, secret};
use crate::deliver::dispatcher::{DeliveryTarget, Dispatcher};
use crate::deliver::targets::build_targets;
use crate::dns::caa::CaaLookup;
use crate::dns::propagation::Propagation;
pub use crate::dns::routes::ChallengeRegistration;
use crate::dns::routes::DnsRoutes;
use crate::doctor::Doctor;
use crate::domain::renewal::dns_persist::DnsPersist;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::name::DnsName;
use crate::domain::value::token::TokenScope;
use crate::http::Api;
use crate::http::list_slots::ListSlots;
use crate::issuance::{AccountRegistrar, Issuance};
use crate::runtime::clock::{SharedClock, SystemClock};
use crate::runtime::credentials::KnownCredentials;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::randomness::Randomness;
use crate::runtime::wake::Wake;
use crate::scheduler::{ConfiguredWork, Scheduler};
use crate::store::{BackupContents, KeyRing, Page, Store, StoreError, StoreUrl, Undeclared};

/// What the settings of ACME, DNS and deliveries come to. It is made before anything is touched, so that settings that
/// cannot be used change nothing.
pub struct Integrations {
    acme: AcmeClient,
    dns: DnsRoutes,
    persist: DnsPersist,
    propagation: Propagation,
    caa: CaaLookup,
    deliveries: Vec<DeliveryTarget>,
    undeclared: Undeclared,
    propagation_section: PropagationSection,
}

/// Settings that cannot be used; the source says which and why.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used")]
pub struct UnusableSettings(#[source] Box<dyn std::error::Error + Send + Sync>);

impl UnusableSettings {
    /// Settings that cannot be used for the reason that `error` tells.
    pub fn from_error(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl Integrations {
    /// Reads certificates and tokens that the settings name, and what they declare; nothing is asked over the network.
    ///
    /// # Errors
    /// Where a file cannot be read, or what it holds cannot be used.
    pub fn from_config(config: &Config) -> Result<Self, UnusableSettings> {
        let clock: SharedClock = Arc::new(SystemClock);
        let acme = AcmeClient::new(&config.acme, Arc::clone(&clock)).map_err(UnusableSettings::from_error)?;
        let token =
            secret::ionos_token(config.dns.ionos.token_file.as_deref()).map_err(UnusableSettings::from_error)?;
        let randomness = Randomness::from_system().map_err(UnusableSettings::from_error)?;
        let dns = DnsRoutes::from_config(&config.dns, token.as_ref(), &clock, &randomness)
            .map_err(UnusableSettings::from_error)?;
        if dns.lacks_ionos_token() {
            tracing::warn!(
                "a [[dns.zone]] leads to IONOS Cloud DNS, which has no token: set dns.ionos.token_file or $IONOS_TOKEN; until \
                 then DNS-01 fails for its names"
            );
        }
        let store = config.store.settings(&config.state_directory()).map_err(UnusableSettings::from_error)?;
        if let Some(caution) = store.url.connection_warning() {
            tracing::warn!("{caution}");
        }
        config.declared().map_err(UnusableSettings::from_error)?;
        let propagation = Propagation::new(&config.dns.propagation);
        let caa = CaaLookup::new(&config.dns.propagation);
        let deliveries =
            build_targets(&config.deliveries, &config.auto_certificates, &config.instance(), &clock, &randomness)
                .map_err(UnusableSettings::from_error)?;
        let persist = config.experimental.dns_persist_01;
        let section = config.dns.propagation.clone();
        let undeclared = if config.is_complete() { Undeclared::Remove } else { Undeclared::Keep };
        Ok(Self { acme, dns, persist, propagation, caa, deliveries, undeclared, propagation_section: section })
    }

    /// Makes the account that a DNS service wants for the challenges of `name`.
    ///
    /// # Errors
    /// Where the adapter knows no such accounts, or none can be made or kept.
    pub async fn register(&self, adapter: &AdapterName, name: &DnsName) -> anyhow::Result<ChallengeRegistration> {
        self.dns.register(adapter, name).await?.with_context(|| format!("{adapter} knows no accounts of names"))
    }

    /// Whether a route leads to IONOS Cloud DNS, and its token is missing.
    pub fn lacks_ionos_token(&self) -> bool {
        self.dns.lacks_ionos_token()
    }

    /// Whether no name has a DNS adapter.
    pub fn has_no_dns(&self) -> bool {
        self.dns.serves_nothing()
    }

    /// Looks at what a certificate takes, as these settings have it; without a store as far as that goes.
    pub fn doctor(&self, store: Option<Store>, randomness: Randomness) -> Doctor {
        Doctor {
            store,
            acme: self.acme.clone(),
            dns: self.dns.clone(),
            dns_persist: self.persist,
            propagation_section: self.propagation_section.clone(),
            clock: Arc::new(SystemClock),
            randomness,
        }
    }
}

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfStoreMissing {
    /// A mistyped path must not pass for an empty store.
    Fail,
    /// This may be the first start.
    Create,
    /// An empty one takes the place of one that was lost: it is filled from a backup.
    CreateForRestore,
}

/// There is no store where the settings look for it.
#[derive(Debug, thiserror::Error)]
#[error("there is no database {}; check state_directory, or run `autocertd serve` once to make it", .0.display())]
struct StoreNotFound(PathBuf);

/// The program was told to stop before it had begun.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before the store was open; nothing was begun")]
pub struct Interrupted;

/// The program's parts, as commands use them.
pub struct App {
    /// Where everything is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: SharedClock,
    /// The program's life.
    pub lifecycle: Lifecycle,
    config: Config,
    randomness: Randomness,
    wake: Wake,
    credentials: KnownCredentials,
}

impl App {
    /// Opens the store; where it may be made, with the state directory, the database and the master key.
    ///
    /// # Errors
    /// Where one of them cannot be made or opened; a wrong or missing key is never replaced.
    pub async fn open(config: &Config, place: IfStoreMissing) -> anyhow::Result<Self> {
        Self::open_with_lifecycle(config, place, Lifecycle::default()).await
    }

    /// The same, for a life that has begun: a program that is to stop at signals heeds them while it opens the store, too.
    ///
    /// # Errors
    /// As [`App::open`]; [`Interrupted`] where it is told to stop meanwhile.
    pub async fn open_with_lifecycle(
        config: &Config,
        place: IfStoreMissing,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<Self> {
        let stopping = lifecycle.stopping();
        let opening = Self::open_store(config, place, lifecycle);
        stopping.run_until_cancelled(opening).await.ok_or(Interrupted)?
    }

    async fn open_store(config: &Config, place: IfStoreMissing, lifecycle: Lifecycle) -> anyhow::Result<Self> {
        let settings = config.store.settings(&config.state_directory()).map_err(UnusableSettings::from_error)?;
        match (&settings.url, place) {
            (StoreUrl::Sqlite(path), IfStoreMissing::Fail) if !path.exists() => {
                return Err(UnusableSettings::from_error(StoreNotFound(path.clone())).into());
            }
            (_, IfStoreMissing::Fail) => {}
            (_, IfStoreMissing::Create | IfStoreMissing::CreateForRestore) => {
                create_state_directory(&config.state_directory())?;
            }
        }
        let marker = StoreMarker::from_config(config);
        if place == IfStoreMissing::Create {
            marker.check_before_opening(&settings.url, config)?;
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let randomness = Randomness::from_system().context("the operating system gives no randomness")?;
        let ring = KeyRing::load_or_generate(&config.key_file(), &settings.url)?;
        let store = Store::open(&settings, ring, Arc::clone(&clock), randomness.clone()).await?;
        if place == IfStoreMissing::CreateForRestore && store.contents().await? == BackupContents::default() {
            marker.write(store.identity().await?);
        } else {
            marker.check(&store).await?;
        }
        Ok(Self {
            store,
            clock,
            lifecycle,
            config: config.clone(),
            randomness,
            wake: Wake::default(),
            credentials: KnownCredentials::default(),
        })
    }

    /// Returns once some work has ended or something has changed; only where no scheduler runs that waits for the same.
    pub async fn wait_for_change(&self) {
        self.wake.notified().await;
    }

    /// The renewal daemon over this store.
    pub fn scheduler(&self, outside: Integrations) -> Scheduler {
        self.update_credentials(&outside);
        let (tasks, stopping) = (self.lifecycle.tasks().clone(), self.lifecycle.stopping());
        Scheduler::new(self.configured_work(outside), self.wake.clone(), &self.config.scheduler, tasks, stopping)
    }

    /// Cares for the accounts of providers.
    pub fn registrar(&self, outside: Integrations) -> AccountRegistrar {
        AccountRegistrar::new(self.store.clone(), outside.acme, Arc::clone(&self.clock), self.randomness.clone())
    }

    fn configured_work(&self, outside: Integrations) -> ConfiguredWork {
        let doctor = outside.doctor(Some(self.store.clone()), self.randomness.clone());
        let Integrations { acme, dns, persist, propagation, caa, deliveries, undeclared, .. } = outside;
        let (store, clock, randomness) = (self.store.clone(), Arc::clone(&self.clock), self.randomness.clone());
        let dispatch = Dispatcher::new(store, clock, randomness, self.config.instance(), deliveries, undeclared);
        let issuance = Issuance {
            store: self.store.clone(),
            accounts: AccountRegistrar::new(
                self.store.clone(),
                acme.clone(),
                Arc::clone(&self.clock),
                self.randomness.clone(),
            ),
            acme,
            dns,
            dns_persist: persist,
            propagation,
            caa,
            clock: Arc::clone(&self.clock),
            randomness: self.randomness.clone(),
        };
        ConfiguredWork { issuance: Arc::new(issuance), dispatcher: Arc::new(dispatch), doctor: Arc::new(doctor) }
    }

    /// Makes what is stored agree with what `config` declares, and says how many changes that took: at the start, and
    /// again with settings that were read anew.
    ///
    /// # Errors
    /// [`UnusableSettings`] where something declared cannot be used, or where the store fails. Then nothing was changed.
    pub async fn reconcile(&self, config: &Config) -> anyhow::Result<usize> {
        let declared = config.declared().map_err(UnusableSettings::from_error)?;
        let changes = self.store.reconcile(&declared).await.map_err(|error| match error {
            error @ (StoreError::UnknownProvider { .. } | StoreError::UndeclaredProvider { .. }) => {
                UnusableSettings::from_error(error).into()
            }
            error => anyhow::Error::new(error),
        })?;
        let words: Vec<String> = changes.words().collect();
        for change in &words {
            tracing::info!("{change}");
        }
        if !words.is_empty() {
            self.wake.notify();
        }
        Ok(words.len())
    }

    fn api(&self) -> Api {
        Api {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            randomness: self.randomness.clone(),
            wake: self.wake.clone(),
            instance: self.config.instance(),
            limits: self.config.limits.clone(),
            list_slots: ListSlots::default(),
            request_timeout: self.config.api.request_timeout,
            plain_http: self.config.acme.plain_http(),
            credentials: self.credentials.clone(),
        }
    }

    /// Says where certificates are wanted, and no DNS adapter is set up for any name.
    async fn warn_without_dns(&self, outside: &Integrations) -> anyhow::Result<()> {
        if outside.dns.serves_nothing() && !self.store.auto_certificates_after(None, 1).await?.is_empty() {
            tracing::warn!(
                "no DNS adapter is set up: add a [[dns.zone]] that leads to one, or, for IONOS Cloud DNS, set \
                 dns.ionos.token_file or $IONOS_TOKEN; until then DNS-01 fails"
            );
        }
        Ok(())
    }

    /// The first start makes a token, so that somebody can speak to the API at all. Where there are providers it is not
    /// the first start, even if all tokens were revoked.
    async fn create_first_token(&self) -> anyhow::Result<()> {
        let providers = self.store.providers(Page { offset: 0, limit: 1 }).await?;
        if !self.store.tokens().await?.is_empty() || !providers.items.is_empty() {
            return Ok(());
        }
        let path = self.config.state_directory().join(FIRST_TOKEN);
        let (token, text) = self.store.create_token(&FIRST_TOKEN.parse()?, TokenScope::Full).await?;
        if let Err(error) = write_private_file(&path, &text) {
            self.store.revoke_token(token.id).await?;
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        tracing::info!(path = %path.display(), "first API token written; keep it and delete the file");
        Ok(())
    }
}

/// Makes the state directory where it is missing, for its owner alone.
///
/// # Errors
/// Where it cannot be made.
pub fn create_state_directory(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the state directory {} (state_directory)", path.display()))
}

/// Replaces what an interrupted first start may have left.
fn write_private_file(path: &Path, text: &SecretString) -> std::io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.expose_secret().as_bytes())?;
    file.sync_all()
}

const FIRST_TOKEN: &str = "first-token";
