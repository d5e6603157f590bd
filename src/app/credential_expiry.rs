//! Credentials that end soon: said in time, at the start, with settings that are read anew, and then once a day.

use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, Integrations};
use crate::config::{Config, secret};
use crate::dns::routes::DnsRoutes;
use crate::domain::value::credential::Credential;
use crate::domain::value::moment::Moment;
use crate::runtime::clock::{SharedClock, SystemClock};
use crate::runtime::randomness::Randomness;

/// What there is to say by `now` of the credentials that these settings name, as far as they can be read.
pub fn credential_warnings(config: &Config, now: Moment) -> Vec<String> {
    match load_dns_routes(config) {
        Ok(dns) => credentials(&dns).iter().filter_map(|credential| credential.expiry_warning(now)).collect(),
        Err(error) => vec![format!("the credentials of DNS services cannot be looked at: {error:#}")],
    }
}

impl App {
    /// Takes note of the credentials of these settings, and says which of them end soon.
    pub(super) fn update_credentials(&self, outside: &Integrations) {
        self.credentials.replace(credentials(&outside.dns));
        log_expiry_warnings(&self.credentials.list(), self.clock.now());
    }

    /// Says once a day which credentials end soon, until the program stops.
    pub(super) fn warn_daily_of_expiring_credentials(&self) -> impl Future<Output = ()> + use<> {
        let (credentials, clock) = (self.credentials.clone(), Arc::clone(&self.clock));
        let stopping = self.lifecycle.stopping();
        async move {
            while stopping.run_until_cancelled(tokio::time::sleep(WARNING_INTERVAL)).await.is_some() {
                log_expiry_warnings(&credentials.list(), clock.now());
            }
        }
    }
}

fn load_dns_routes(config: &Config) -> anyhow::Result<DnsRoutes> {
    let token = secret::ionos_token(config.dns.ionos.token_file.as_deref())?;
    let clock: SharedClock = Arc::new(SystemClock);
    Ok(DnsRoutes::from_config(&config.dns, token.as_ref(), &clock, &Randomness::from_system()?)?)
}

fn credentials(dns: &DnsRoutes) -> Vec<Credential> {
    dns.adapters().filter_map(|adapter| adapter.credential()).collect()
}

fn log_expiry_warnings(credentials: &[Credential], now: Moment) {
    for caution in credentials.iter().filter_map(|credential| credential.expiry_warning(now)) {
        tracing::warn!("{caution}");
    }
}

const WARNING_INTERVAL: Duration = Duration::from_hours(24);
