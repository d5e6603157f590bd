//! What is declared beside what is stored, and what is to be done about the difference. A pure function: what it says,
//! done, leaves nothing to say.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::domain::declared::{
    DeclaredAutoCertificate, DeclaredKey, DeclaredProvider, DeclaredResources, ProviderReference,
};
use crate::domain::provider::{ExternalAccountBinding, NewProvider};
use crate::domain::renewal::auto_certificate::NewAutoCertificate;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::name::{DnsName, RequestedName, names_to_order};

/// What is stored of all that settings declare, or declared once.
#[derive(Clone, Debug, Default)]
pub struct StoredResources {
    /// The providers with a key.
    pub providers: Vec<StoredResource<ProviderId, StoredProvider>>,
    /// The auto-certificates with a key.
    pub auto_certificates: Vec<StoredResource<AutoCertificateId, NewAutoCertificate>>,
    /// The providers that auto-certificates without a key use.
    pub in_use: HashSet<ProviderId>,
    /// The providers of these keys are there, but damaged: they are left as they are.
    pub damaged_providers: Vec<(DeclaredKey, ProviderId)>,
    /// The auto-certificates of these keys are there, but damaged.
    pub damaged_auto_certificates: Vec<DeclaredKey>,
}

impl StoredResources {
    /// Which provider has which key, whether it can be read or not.
    pub fn provider_ids(&self) -> impl Iterator<Item = (&DeclaredKey, ProviderId)> {
        let damaged = self.damaged_providers.iter().map(|(key, id)| (key, *id));
        self.providers.iter().map(|kept| (&kept.key, kept.id)).chain(damaged)
    }
}

/// A stored resource with a key.
#[derive(Clone, Debug)]
pub struct StoredResource<I, P> {
    /// Its identity.
    pub id: I,
    /// Its key.
    pub key: DeclaredKey,
    /// The instance whose settings declare it; none where none does any more.
    pub declared_by: Option<String>,
    /// What it is by now.
    pub properties: P,
}

/// What a stored provider with a key is by now.
#[derive(Clone, Debug)]
pub struct StoredProvider {
    /// What was asked for.
    pub provider: NewProvider,
    /// Who is asked in its place when it fails for long.
    pub fallbacks: Vec<ProviderId>,
}

/// What is to be done, in this order. [`Display`](fmt::Display) of each tells it to people.
#[derive(Clone, Debug)]
pub struct DeclaredChanges<'a> {
    /// About providers.
    pub providers: Vec<DeclaredChange<'a, ProviderId, DeclaredProvider>>,
    /// About auto-certificates.
    pub auto_certificates: Vec<DeclaredChange<'a, AutoCertificateId, DeclaredAutoCertificate>>,
}

/// What is to be done about one resource.
#[derive(Clone, Debug)]
pub enum DeclaredChange<'a, I, W> {
    /// It is made.
    Create(&'a W),
    /// It becomes what is declared, in place.
    Update {
        /// Which one.
        id: I,
        /// What it becomes.
        declared: &'a W,
        /// What differs; nothing where it only has to be noted whose it is.
        changed: Vec<DeclaredProperty>,
        /// What follows.
        consequence: ChangeConsequence,
        /// The other instance that declared it until now.
        previous_instance: Option<String>,
    },
    /// It is declared no longer, and stays.
    Undeclare {
        /// Which one.
        id: I,
        /// Its key.
        key: DeclaredKey,
        /// Whether it stays for the one reason that it is in use.
        in_use: bool,
    },
    /// It is declared no longer, and deleted.
    Delete {
        /// Which one.
        id: I,
        /// Its key.
        key: DeclaredKey,
    },
}

/// A property in which what is declared and what is stored may differ, by its name in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredProperty {
    /// The name for people.
    Name,
    /// The contact of the account.
    Email,
    /// The directory.
    Server,
    /// The external account.
    ExternalAccount,
    /// Who is asked in its place.
    Fallback,
    /// The kind of certificate, by the CA's name for it.
    Profile,
    /// Who issues.
    Provider,
    /// The main name.
    CommonName,
    /// The further names.
    SubjectAlternativeNames,
    /// The kind of key.
    KeyAlgorithm,
}

/// What follows of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeConsequence {
    /// Nothing.
    Nothing,
    /// The account, where there is one, gets another contact.
    NewContact,
    /// The next registration binds to another external account.
    NewBinding,
    /// There is another account, at another CA; orders of the old one are over.
    NewAccount,
    /// A certificate is ordered, while the one before serves on.
    NewCertificate,
}

/// Compares. What other instances declare is left alone, unless these settings have its key: then they take it over.
pub fn compare<'a>(declared: &'a DeclaredResources, stored: &StoredResources) -> DeclaredChanges<'a> {
    let ids: HashMap<&DeclaredKey, ProviderId> = stored.provider_ids().collect();
    let provider_of = |wish: &DeclaredAutoCertificate| match &wish.provider {
        ProviderReference::Key(key) => ids.get(key).copied(),
        ProviderReference::Id(id) => Some(*id),
    };
    let differ = |wish: &DeclaredAutoCertificate, kept: &NewAutoCertificate| {
        differing_auto_certificate(wish, provider_of(wish), kept)
    };
    let damaged: HashSet<&DeclaredKey> = stored.damaged_auto_certificates.iter().collect();
    let auto_certificates =
        compute_changes(declared, &declared.auto_certificates, &stored.auto_certificates, &damaged, differ, |_| false);

    let mut in_use: HashSet<ProviderId> = stored.in_use.clone();
    in_use.extend(declared.auto_certificates.iter().filter_map(provider_of));
    in_use.extend(stored.auto_certificates.iter().filter(|kept| stays(kept, &auto_certificates)).filter_map(|kept| {
        let redeclared = declared.auto_certificates.iter().any(|wish| wish.key == kept.key);
        (!redeclared).then_some(kept.properties.provider)
    }));
    let differ = |wish: &DeclaredProvider, kept: &StoredProvider| {
        let fallbacks: Vec<Option<ProviderId>> = wish.fallbacks.iter().map(|key| ids.get(key).copied()).collect();
        differing_provider(&wish.provider, &fallbacks, kept)
    };
    let damaged: HashSet<&DeclaredKey> = stored.damaged_providers.iter().map(|(key, _)| key).collect();
    let providers =
        compute_changes(declared, &declared.providers, &stored.providers, &damaged, differ, |id| in_use.contains(&id));
    DeclaredChanges { providers, auto_certificates }
}

impl DeclaredChanges<'_> {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.providers.is_empty() && self.auto_certificates.is_empty()
    }

    /// Each of them in words.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let providers = self.providers.iter().map(ToString::to_string);
        providers.chain(self.auto_certificates.iter().map(ToString::to_string))
    }
}

fn compute_changes<'a, I: Copy, P, W: Declaration>(
    declared: &DeclaredResources,
    wishes: &'a [W],
    stored: &[StoredResource<I, P>],
    damaged: &HashSet<&DeclaredKey>,
    differ: impl Fn(&W, &P) -> (Vec<DeclaredProperty>, ChangeConsequence),
    in_use: impl Fn(I) -> bool,
) -> Vec<DeclaredChange<'a, I, W>> {
    let kept: HashMap<&DeclaredKey, &StoredResource<I, P>> = stored.iter().map(|kept| (&kept.key, kept)).collect();
    let named: HashSet<&DeclaredKey> = wishes.iter().map(Declaration::key).collect();
    let made_or_aligned = wishes.iter().filter(|wish| !damaged.contains(wish.key())).filter_map(|wish| {
        let Some(kept) = kept.get(wish.key()) else { return Some(DeclaredChange::Create(wish)) };
        let (changed, consequence) = differ(wish, &kept.properties);
        let taken_from = kept.declared_by.clone().filter(|instance| *instance != declared.instance);
        let is_noted = kept.declared_by.as_ref() == Some(&declared.instance);
        let aligned = changed.is_empty() && is_noted;
        (!aligned).then_some(DeclaredChange::Update {
            id: kept.id,
            declared: wish,
            changed,
            consequence,
            previous_instance: taken_from,
        })
    });
    let own = |kept: &&StoredResource<I, P>| declared.complete && kept.declared_by.as_ref() == Some(&declared.instance);
    let dropped = stored.iter().filter(own).filter(|kept| !named.contains(&kept.key)).map(|kept| {
        let (id, key, in_use) = (kept.id, kept.key.clone(), declared.prune && in_use(kept.id));
        if declared.prune && !in_use {
            DeclaredChange::Delete { id, key }
        } else {
            DeclaredChange::Undeclare { id, key, in_use }
        }
    });
    made_or_aligned.chain(dropped).collect()
}

/// Whether an auto-certificate is there also after these changes.
fn stays<W>(
    kept: &StoredResource<AutoCertificateId, NewAutoCertificate>,
    changes: &[DeclaredChange<'_, AutoCertificateId, W>],
) -> bool {
    !changes.iter().any(|change| matches!(change, DeclaredChange::Delete { id, .. } if *id == kept.id))
}

/// `fallbacks` are those that the wish names, where they are stored already.
fn differing_provider(
    wish: &NewProvider,
    fallbacks: &[Option<ProviderId>],
    kept: &StoredProvider,
) -> (Vec<DeclaredProperty>, ChangeConsequence) {
    let same_fallbacks = fallbacks.iter().copied().eq(kept.fallbacks.iter().copied().map(Some));
    let kept = &kept.provider;
    let bound_alike = same_binding(wish.external_account.as_ref(), kept.external_account.as_ref());
    let changed = collect_changed([
        (DeclaredProperty::Name, wish.name != kept.name),
        (DeclaredProperty::Email, wish.email != kept.email),
        (DeclaredProperty::Server, wish.server != kept.server),
        (DeclaredProperty::ExternalAccount, !bound_alike),
        (DeclaredProperty::Fallback, !same_fallbacks),
        (DeclaredProperty::Profile, wish.profile != kept.profile),
    ]);
    let consequence = if changed.contains(&DeclaredProperty::Server) {
        ChangeConsequence::NewAccount
    } else if changed.contains(&DeclaredProperty::Email) {
        ChangeConsequence::NewContact
    } else if changed.contains(&DeclaredProperty::ExternalAccount) {
        ChangeConsequence::NewBinding
    } else {
        ChangeConsequence::Nothing
    };
    (changed, consequence)
}

/// `provider` is the one that the wish names, where it is stored already.
fn differing_auto_certificate(
    wish: &DeclaredAutoCertificate,
    provider: Option<ProviderId>,
    kept: &NewAutoCertificate,
) -> (Vec<DeclaredProperty>, ChangeConsequence) {
    let changed = collect_changed([
        (DeclaredProperty::Name, wish.name != kept.name),
        (DeclaredProperty::Provider, provider != Some(kept.provider)),
        (DeclaredProperty::CommonName, wish.common_name != kept.common_name),
        (DeclaredProperty::SubjectAlternativeNames, wish.subject_alternative_names != kept.subject_alternative_names),
        (DeclaredProperty::KeyAlgorithm, wish.key_algorithm != kept.key_algorithm),
        (DeclaredProperty::Profile, wish.profile != kept.profile),
    ]);
    // Another way to write the same names is stored, and costs no certificate.
    let same_names = wish.common_name.name() == kept.common_name.name()
        && names_to_compare(&wish.common_name, &wish.subject_alternative_names)
            == names_to_compare(&kept.common_name, &kept.subject_alternative_names);
    let costly = [DeclaredProperty::Provider, DeclaredProperty::KeyAlgorithm, DeclaredProperty::Profile];
    let same_intent = same_names && !changed.iter().any(|property| costly.contains(property));
    (changed, if same_intent { ChangeConsequence::Nothing } else { ChangeConsequence::NewCertificate })
}

fn names_to_compare(common_name: &RequestedName, others: &[RequestedName]) -> HashSet<DnsName> {
    names_to_order(std::iter::once(common_name).chain(others).map(RequestedName::name)).into_iter().collect()
}

fn same_binding(one: Option<&ExternalAccountBinding>, other: Option<&ExternalAccountBinding>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.key_id == other.key_id && one.key_secret.is_same(&other.key_secret),
        _ => false,
    }
}

fn collect_changed<const N: usize>(properties: [(DeclaredProperty, bool); N]) -> Vec<DeclaredProperty> {
    properties.into_iter().filter_map(|(property, differs)| differs.then_some(property)).collect()
}

/// What can be declared.
trait Declaration {
    /// What people call it.
    const KIND: &'static str;

    fn key(&self) -> &DeclaredKey;
}

impl Declaration for DeclaredProvider {
    const KIND: &'static str = "provider";

    fn key(&self) -> &DeclaredKey {
        &self.key
    }
}

impl Declaration for DeclaredAutoCertificate {
    const KIND: &'static str = "auto-certificate";

    fn key(&self) -> &DeclaredKey {
        &self.key
    }
}

impl<I, W: Declaration> fmt::Display for DeclaredChange<'_, I, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = W::KIND;
        match self {
            Self::Create(wish) => write!(f, "declared {kind} {}: made", wish.key()),
            Self::Update { declared: to, changed, consequence, previous_instance: taken_from, .. } => {
                write!(f, "declared {kind} {}: ", to.key())?;
                match (changed.as_slice(), taken_from) {
                    ([], None) => f.write_str("declared again")?,
                    ([], Some(_)) => {}
                    (changed, _) => {
                        let names: Vec<&str> = changed.iter().map(|property| property.as_str()).collect();
                        write!(f, "{} changed{}", names.join(", "), consequence.describe())?;
                    }
                }
                let parted = if changed.is_empty() { "" } else { "; " };
                taken_from.as_ref().map_or(Ok(()), |other| write!(f, "{parted}taken over from instance {other}"))
            }
            Self::Undeclare { key, in_use: false, .. } => {
                write!(f, "{kind} {key} is declared no longer: it stays, and the API may change and delete it")
            }
            Self::Undeclare { key, in_use: true, .. } => {
                write!(
                    f,
                    "{kind} {key} is declared no longer: auto-certificates use it, so it stays until the API deletes it"
                )
            }
            Self::Delete { key, .. } => write!(f, "{kind} {key} is declared no longer: deleted"),
        }
    }
}

impl DeclaredProperty {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
            Self::Server => "server",
            Self::ExternalAccount => "external_account",
            Self::Fallback => "fallback",
            Self::Profile => "profile",
            Self::Provider => "provider",
            Self::CommonName => "common_name",
            Self::SubjectAlternativeNames => "subject_alternative_names",
            Self::KeyAlgorithm => "key_algorithm",
        }
    }
}

impl ChangeConsequence {
    const fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::NewContact => "; its CA is told the new contact",
            Self::NewBinding => "; the next registration uses it",
            Self::NewAccount => "; a new account is registered there",
            Self::NewCertificate => "; a new certificate is ordered, and the old one serves until it is there",
        }
    }
}

#[cfg(test)]
mod tests;
