//! The own name server, over the journal of the store.

use tokio::task::JoinHandle;

use crate::app::App;
use crate::config::Config;
use crate::dns::delegated::{DnsSocketError, DnsSockets, NameContents, NameServer, ZoneContents};
use crate::store::{Store, StoreError};

/// The sockets of the own name server, where the settings have one.
#[derive(Debug)]
pub struct NameServerSockets(Option<DnsSockets>);

impl NameServerSockets {
    /// The sockets that systemd passes, or those that the settings name. To be called before any thread is started.
    ///
    /// # Errors
    /// Where they cannot be had.
    pub fn open(config: &Config) -> Result<Self, DnsSocketError> {
        DnsSockets::from_systemd_or_bind(&config.dns.delegated).map(Self)
    }
}

impl App {
    /// Starts the own name server, where there is one; it ends with the lifecycle.
    pub(super) fn start_name_server(
        &self,
        sockets: NameServerSockets,
    ) -> anyhow::Result<Option<JoinHandle<std::io::Result<()>>>> {
        let Some(sockets) = sockets.0 else { return Ok(None) };
        let section = &self.config.dns.delegated;
        let addresses = sockets.addresses();
        let server = NameServer::new(section, sockets, JournalZoneContents(self.store.clone()))?;
        let zone = section.zone.as_ref().map(ToString::to_string);
        tracing::info!(zone, ?addresses, "answering DNS");
        Ok(Some(self.lifecycle.tasks().spawn(server.run(self.lifecycle.stopping()))))
    }

    /// Starts the own name server for a pass without a daemon, where its addresses can be had.
    pub fn start_name_server_if_possible(&self) {
        let sockets = DnsSockets::bind_all(&self.config.dns.delegated).map(NameServerSockets);
        if let Err(error) = sockets.map_err(Into::into).and_then(|sockets| self.start_name_server(sockets)) {
            tracing::warn!("only other replicas answer for the delegated zone during this pass: {error:#}");
        }
    }
}

/// The journal names each record before it is presented, which is all that presenting is here.
struct JournalZoneContents(Store);

impl ZoneContents for JournalZoneContents {
    type Error = StoreError;

    async fn at(&self, name: &str) -> Result<NameContents, StoreError> {
        let values = self.0.delegated_texts(name).await?;
        if !values.is_empty() {
            return Ok(NameContents::Values(values));
        }
        Ok(if self.0.has_delegated_below(name).await? {
            NameContents::EmptyNonTerminal
        } else {
            NameContents::NoSuchName
        })
    }
}
