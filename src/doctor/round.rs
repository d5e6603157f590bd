//! What a round looks at: names, with the providers that are to issue for them.

use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::id::ProviderId;
use crate::domain::name::DnsName;
use crate::domain::profile::Profile;
use crate::domain::provider::Provider;
use crate::store::{Store, StoreError};

/// Names and providers, each once.
#[derive(Debug, Default)]
pub struct Round {
    pub(super) providers: Vec<Examined>,
    pub(super) names: Vec<Patient>,
}

/// A provider that is looked at.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) provider: Provider,
    /// What is to be ordered there.
    pub(super) profiles: Vec<Profile>,
}

/// A name that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) name: DnsName,
    /// Who is to issue for it; nobody yet where no auto-certificate has it.
    pub(super) issuers: Vec<Issuer>,
}

/// A provider, and whether it only stands by for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    pub(super) provider: ProviderId,
    pub(super) stands_by: bool,
}

impl Round {
    /// Whether there is no name to look at.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Looks at a name for which nobody is to issue yet.
    pub fn add_name(&mut self, name: DnsName) {
        self.patient(name);
    }

    /// Looks at the names of an auto-certificate, at its provider and at those that stand by.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn add(&mut self, store: &Store, subject: &AutoCertificate) -> Result<(), StoreError> {
        let mut issuers = Vec::new();
        if let Some(primary) = store.provider(subject.provider).await? {
            for id in &primary.fallbacks {
                let fallback = store.unless_damaged(store.provider(*id).await)?.flatten();
                if let Some(fallback) = fallback.filter(|fallback| !fallback.is_deactivated()) {
                    issuers.push(self.examined(fallback, None, true));
                }
            }
            issuers.insert(0, self.examined(primary, subject.profile.clone(), false));
        }
        for name in subject.names_to_order() {
            let patient = self.patient(name);
            for issuer in &issuers {
                if !patient.issuers.contains(issuer) {
                    patient.issuers.push(*issuer);
                }
            }
        }
        Ok(())
    }

    fn examined(&mut self, provider: Provider, own: Option<Profile>, stands_by: bool) -> Issuer {
        let (id, profile) = (provider.id, own.or_else(|| provider.profile.clone()));
        let at = self.providers.iter().position(|examined| examined.provider.id == id).unwrap_or(self.providers.len());
        if at == self.providers.len() {
            self.providers.push(Examined { provider, profiles: Vec::new() });
        }
        let profiles = &mut self.providers[at].profiles;
        profiles.extend(profile.filter(|profile| !profiles.contains(profile)));
        Issuer { provider: id, stands_by }
    }

    fn patient(&mut self, name: DnsName) -> &mut Patient {
        let at = self.names.iter().position(|patient| patient.name == name).unwrap_or(self.names.len());
        if at == self.names.len() {
            self.names.push(Patient { name, issuers: Vec::new() });
        }
        &mut self.names[at]
    }
}
