//! What a round looks at: names, with the providers that are to issue for them.

use std::collections::HashMap;

use crate::domain::declared::{
    DeclaredAutoCertificate, DeclaredKey, DeclaredProvider, DeclaredResources, ProviderReference,
};
use crate::domain::provider::{NewProvider, Provider};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::value::id::ProviderId;
use crate::domain::value::name::{DnsName, names_to_order, normalize_common_name};
use crate::domain::value::profile::Profile;
use crate::domain::value::server_url::ServerUrl;
use crate::store::{Store, StoreError};

/// Names and providers, each once.
#[derive(Debug, Default)]
pub struct CheckList {
    pub(super) providers: Vec<CheckedProvider>,
    pub(super) names: Vec<CheckedName>,
    /// Where each name stands in the list.
    places: HashMap<DnsName, usize>,
    /// Stored providers that were read, each with those that stand by for it; nothing where it is gone or damaged.
    read: HashMap<ProviderId, Option<(Provider, Vec<Provider>)>>,
}

/// A provider that is looked at.
#[derive(Debug)]
pub(super) struct CheckedProvider {
    pub(super) provider: ExaminedProvider,
    /// What is to be ordered there.
    pub(super) profiles: Vec<Profile>,
}

/// A provider of the store, or one that the settings declare and that is not stored yet.
#[derive(Debug)]
pub(super) enum ExaminedProvider {
    Stored(Box<Provider>),
    Declared(DeclaredKey, Box<NewProvider>),
}

/// A name that is looked at.
#[derive(Clone, Debug)]
pub(super) struct CheckedName {
    pub(super) name: DnsName,
    /// Who is to issue for it; nobody yet where no auto-certificate has it.
    pub(super) issuers: Vec<CheckedIssuer>,
}

/// A provider by its place in the list, and whether it only stands by for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckedIssuer {
    pub(super) provider: usize,
    pub(super) is_fallback: bool,
}

impl ExaminedProvider {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stored(provider) => provider.name.to_string(),
            Self::Declared(_, provider) => provider.name.to_string(),
        }
    }

    pub(super) const fn server(&self) -> &ServerUrl {
        match self {
            Self::Stored(provider) => &provider.server,
            Self::Declared(_, provider) => &provider.server,
        }
    }

    pub(super) fn account_url(&self) -> Option<&String> {
        match self {
            Self::Stored(provider) => provider.account_url.as_ref(),
            Self::Declared(..) => None,
        }
    }

    fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Stored(provider) => provider.profile.as_ref(),
            Self::Declared(_, provider) => provider.profile.as_ref(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stored(one), Self::Stored(other)) => one.id == other.id,
            (Self::Declared(one, _), Self::Declared(other, _)) => one == other,
            _ => false,
        }
    }
}

impl CheckList {
    /// Whether there is no name to look at.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many names there are.
    pub fn names_count(&self) -> usize {
        self.names.len()
    }

    /// That nothing of this is looked at, for this reason.
    pub fn skipped(&self, because: &str) -> Vec<CheckResult> {
        let providers = self.providers.iter().map(|examined| {
            CheckResult::skipped(&CheckSubject::Provider(examined.provider.name()), Check::Directory, because)
        });
        let names = self
            .names
            .iter()
            .map(|patient| CheckResult::skipped(&CheckSubject::Name(patient.name.to_string()), Check::Zone, because));
        providers.chain(names).collect()
    }

    /// Looks at a name for which nobody is to issue yet.
    pub fn add_name(&mut self, name: DnsName) {
        self.name_entry(name);
    }

    /// Looks at the names of an auto-certificate, at its provider and at those that stand by.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn add(&mut self, store: &Store, subject: &AutoCertificate) -> Result<(), StoreError> {
        let issuers = self.stored_issuers(store, subject.provider, subject.profile.clone()).await?;
        self.add_names(subject.names_to_order(), &issuers);
        Ok(())
    }

    /// Looks at what the settings declare, the auto-certificates that `wanted` names alone or all: also before it is
    /// stored. A provider that is stored with the same server is looked at as it is stored.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn add_declared(
        &mut self,
        store: Option<&Store>,
        declared: &DeclaredResources,
        wanted: Option<&[String]>,
    ) -> Result<(), StoreError> {
        let stored: HashMap<DeclaredKey, ProviderId> = match store {
            Some(store) => store.declared_keys_of_providers().await?.into_iter().map(|(id, key)| (key, id)).collect(),
            None => HashMap::new(),
        };
        for provider in declared.providers.iter().filter(|_| wanted.is_none()) {
            self.declared_issuer(store, &stored, provider, (None, false)).await?;
        }
        for subject in &declared.auto_certificates {
            if wanted.is_some_and(|wanted| !wanted.iter().any(|name| is_named(subject, name))) {
                continue;
            }
            let mut issuers = Vec::new();
            match (&subject.provider, store) {
                (ProviderReference::Key(key), _) => {
                    let by_key = |key: &DeclaredKey| declared.providers.iter().find(|provider| provider.key == *key);
                    if let Some(provider) = by_key(key) {
                        let own = (subject.profile.clone(), false);
                        issuers.extend(self.declared_issuer(store, &stored, provider, own).await?);
                        for fallback in provider.fallbacks.iter().filter_map(by_key) {
                            issuers.extend(self.declared_issuer(store, &stored, fallback, (None, true)).await?);
                        }
                    }
                }
                (ProviderReference::Id(id), Some(store)) => {
                    issuers = self.stored_issuers(store, *id, subject.profile.clone()).await?;
                }
                (ProviderReference::Id(_), None) => {}
            }
            let names = std::iter::once(&subject.common_name).chain(&subject.subject_alternative_names);
            self.add_names(names_to_order(names.map(crate::domain::value::name::RequestedName::name)), &issuers);
        }
        Ok(())
    }

    async fn declared_issuer(
        &mut self,
        store: Option<&Store>,
        stored: &HashMap<DeclaredKey, ProviderId>,
        declared: &DeclaredProvider,
        (own, stands_by): (Option<Profile>, bool),
    ) -> Result<Option<CheckedIssuer>, StoreError> {
        if let (Some(store), Some(id)) = (store, stored.get(&declared.key))
            && let Some((provider, _)) = self.read(store, *id).await?
            && provider.server == declared.provider.server
        {
            let is_needed = !(stands_by && provider.is_deactivated());
            let examined = ExaminedProvider::Stored(Box::new(provider));
            return Ok(is_needed.then(|| self.add_provider(examined, own, stands_by)));
        }
        let examined = ExaminedProvider::Declared(declared.key.clone(), Box::new(declared.provider.clone()));
        Ok(Some(self.add_provider(examined, own, stands_by)))
    }

    async fn stored_issuers(
        &mut self,
        store: &Store,
        id: ProviderId,
        own: Option<Profile>,
    ) -> Result<Vec<CheckedIssuer>, StoreError> {
        let Some((primary, fallbacks)) = self.read(store, id).await? else { return Ok(Vec::new()) };
        let mut issuers = vec![self.add_provider(ExaminedProvider::Stored(Box::new(primary)), own, false)];
        for fallback in fallbacks {
            issuers.push(self.add_provider(ExaminedProvider::Stored(Box::new(fallback)), None, true));
        }
        Ok(issuers)
    }

    /// A stored provider, read once, with those that stand by for it.
    async fn read(&mut self, store: &Store, id: ProviderId) -> Result<Option<(Provider, Vec<Provider>)>, StoreError> {
        if let Some(known) = self.read.get(&id) {
            return Ok(known.clone());
        }
        let mut found = None;
        if let Some(primary) = store.provider(id).await? {
            let mut fallbacks = Vec::new();
            for id in &primary.fallbacks {
                let fallback = store.ok_unless_damaged(store.provider(*id).await)?.flatten();
                fallbacks.extend(fallback.filter(|fallback| !fallback.is_deactivated()));
            }
            found = Some((primary, fallbacks));
        }
        self.read.insert(id, found.clone());
        Ok(found)
    }

    fn add_provider(&mut self, provider: ExaminedProvider, own: Option<Profile>, stands_by: bool) -> CheckedIssuer {
        let profile = own.or_else(|| provider.profile().cloned());
        let known = self.providers.iter().position(|examined| examined.provider.is_same(&provider));
        let at = known.unwrap_or(self.providers.len());
        if known.is_none() {
            self.providers.push(CheckedProvider { provider, profiles: Vec::new() });
        }
        let profiles = &mut self.providers[at].profiles;
        profiles.extend(profile.filter(|profile| !profiles.contains(profile)));
        CheckedIssuer { provider: at, is_fallback: stands_by }
    }

    fn add_names(&mut self, names: Vec<DnsName>, issuers: &[CheckedIssuer]) {
        for name in names {
            let patient = self.name_entry(name);
            for issuer in issuers {
                if !patient.issuers.contains(issuer) {
                    patient.issuers.push(*issuer);
                }
            }
        }
    }

    fn name_entry(&mut self, name: DnsName) -> &mut CheckedName {
        let at = *self.places.entry(name.clone()).or_insert(self.names.len());
        if at == self.names.len() {
            self.names.push(CheckedName { name, issuers: Vec::new() });
        }
        &mut self.names[at]
    }
}

/// Whether a person means this auto-certificate: by its key, its name or its common name.
fn is_named(subject: &DeclaredAutoCertificate, name: &str) -> bool {
    subject.key.as_str() == name
        || subject.name.as_str() == name
        || normalize_common_name(name) == subject.common_name.name().to_string()
}

/// Whether the settings declare an auto-certificate that a person means by this.
pub fn declares(declared: &DeclaredResources, name: &str) -> bool {
    declared.auto_certificates.iter().any(|subject| is_named(subject, name))
}
