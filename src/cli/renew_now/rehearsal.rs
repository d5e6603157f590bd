//! `--renew-now --dry-run`: what would be done, and why; and a rehearsal with the staging provider, in a store of its own,
//! so that neither the real provider nor the real store is touched.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::app::{App, MissingStore, UnusableSettings};
use crate::cli::named::{UnknownNames, named, of_ids, subjects as all};
use crate::cli::renew_now::desk::RenewBackend;
use crate::cli::renew_now::{RenewOptions, renew};
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;
use crate::config::declared::AutoCertificateEntry;
use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::declared::DeclaredKey;
use crate::domain::id::{AutoCertificateId, ProviderId};
use crate::domain::moment::Moment;
use crate::domain::name::RequestedName;
use crate::domain::plan::{RenewalAction, plan};
use crate::domain::profile::Profile;
use crate::store::StoreUrl;

/// What would be done about one auto-certificate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedRenewal {
    name: String,
    common_name: String,
    /// Whether a certificate would be obtained.
    renewal: bool,
    /// Why, or when.
    reason: String,
    /// The key of the provider with which it is rehearsed.
    staging: Option<DeclaredKey>,
}

/// A plan, with what its rehearsal asks for.
struct Subject {
    planned: PlannedRenewal,
    wish: AutoCertificateEntry,
}

pub(super) fn run(config: &Config, wish: &RenewOptions) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let subjects = subjects(config, wish).await?;
        let plans: Vec<PlannedRenewal> = subjects.iter().map(|subject| subject.planned.clone()).collect();
        if !wish.json {
            plans.iter().for_each(PlannedRenewal::print);
        }
        let rehearsed: Vec<AutoCertificateEntry> = subjects.into_iter().filter_map(Subject::rehearsed).collect();
        if rehearsed.is_empty() {
            return end_without_rehearsal(&plans, wish.json);
        }
        let names = rehearsed.iter().map(|entry| entry.key.to_string()).collect();
        let stage = config.for_rehearsal(rehearsed);
        let desk = RenewBackend::open(&stage, None).await?;
        let ending = renew(&desk, &RenewOptions { names, ..wish.clone() }, plans).await;
        let closed = desk.close().await;
        let ending = ending?;
        closed.map(|()| ending)
    })
}

/// Those that are named, or else all of them: of the store, and those that are declared and not made yet.
async fn subjects(config: &Config, wish: &RenewOptions) -> anyhow::Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    let mut known = Vec::new();
    let mut unknown = wish.names.clone();
    if is_there(config)? {
        let app = App::open(config, MissingStore::MustExist).await?;
        let stored = if wish.names.is_empty() {
            all(&app.store, &[]).await?
        } else {
            let found = named(&app.store, &wish.names).await?;
            unknown = found.unknown;
            of_ids(&app.store, &found.ids).await?
        };
        known = app.store.declared_keys().await?;
        let keys: HashMap<AutoCertificateId, &DeclaredKey> = known.iter().map(|(key, id)| (*id, key)).collect();
        let entries: HashMap<&DeclaredKey, &AutoCertificateEntry> =
            config.auto_certificates.iter().map(|entry| (&entry.key, entry)).collect();
        let providers = app.store.declared_keys_of_providers().await?;
        for stored in stored {
            let entry = keys.get(&stored.id).and_then(|key| entries.get(key)).copied();
            subjects.push(match entry.filter(|entry| is_changed(entry, &stored)) {
                Some(entry) => {
                    of_declared(config, entry, "its names, its kind of key or its profile are changed in the settings")
                }
                None => of_stored(config, &providers, &stored, !wish.names.is_empty(), app.clock.now())?,
            });
        }
        app.store.close().await;
    }
    let known: HashSet<&DeclaredKey> = known.iter().map(|(key, _)| key).collect();
    for entry in config.auto_certificates.iter().filter(|entry| !known.contains(&entry.key)) {
        let called = |name: &String| {
            [Some(&entry.common_name), entry.name.as_ref()].contains(&Some(name)) || entry.key.as_str() == name
        };
        if wish.names.is_empty() || unknown.iter().any(called) {
            unknown.retain(|name| !called(name));
            subjects.push(of_declared(config, entry, "it is declared and not made yet"));
        }
    }
    if unknown.is_empty() { Ok(subjects) } else { Err(UnknownNames(unknown).into()) }
}

/// Whether the settings wish for other names or another kind of key or certificate than what is stored.
fn is_changed(entry: &AutoCertificateEntry, stored: &AutoCertificate) -> bool {
    let sent = |name: &RequestedName| name.sent().to_owned();
    let further: Vec<String> = stored.subject_alternative_names.iter().map(sent).collect();
    entry.common_name != stored.common_name.sent()
        || entry.subject_alternative_names != further
        || entry.key_algorithm != stored.key_algorithm.as_str()
        || entry.profile.as_deref() != stored.profile.as_ref().map(Profile::as_str)
}

/// Whether there is a store at all; a dry run makes none.
fn is_there(config: &Config) -> anyhow::Result<bool> {
    let settings = config.store.settings(&config.state_directory()).map_err(UnusableSettings::of)?;
    Ok(match settings.url {
        StoreUrl::Sqlite(path) => path.exists(),
        StoreUrl::Postgres(_) => true,
    })
}

fn of_stored(
    config: &Config,
    providers: &HashMap<ProviderId, DeclaredKey>,
    stored: &AutoCertificate,
    named: bool,
    now: Moment,
) -> anyhow::Result<Subject> {
    let plan = plan(&stored.standing, now);
    let renewal = named
        || matches!(plan.action, RenewalAction::Start | RenewalAction::Resume(_))
        || (plan.action == RenewalAction::AskRenewalInfo && plan.at <= now);
    let reason = match plan.action {
        RenewalAction::Idle if named => "it was named".to_owned(),
        _ => plan.to_string(),
    };
    let staging = providers.get(&stored.provider).and_then(|key| config.staging_of(key)).cloned();
    let further = stored.subject_alternative_names.iter().map(|name| name.sent().to_owned()).collect();
    let key = format!("of-{}", stored.id).parse()?;
    Ok(Subject {
        wish: AutoCertificateEntry {
            key,
            name: None,
            provider: staging.as_ref().map(ToString::to_string).unwrap_or_default(),
            common_name: stored.common_name.sent().to_owned(),
            subject_alternative_names: further,
            key_algorithm: stored.key_algorithm.as_str().to_owned(),
            profile: stored.profile.as_ref().map(ToString::to_string),
        },
        planned: PlannedRenewal {
            name: stored.name.to_string(),
            common_name: stored.common_name.sent().to_owned(),
            renewal,
            reason,
            staging,
        },
    })
}

fn of_declared(config: &Config, entry: &AutoCertificateEntry, reason: &str) -> Subject {
    let staging = entry.provider.parse().ok().and_then(|key| config.staging_of(&key)).cloned();
    Subject {
        planned: PlannedRenewal {
            name: entry.name.clone().unwrap_or_else(|| entry.key.to_string()),
            common_name: entry.common_name.clone(),
            renewal: true,
            reason: reason.to_owned(),
            staging: staging.clone(),
        },
        wish: AutoCertificateEntry {
            name: None,
            provider: staging.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..entry.clone()
        },
    }
}

impl Subject {
    fn rehearsed(self) -> Option<AutoCertificateEntry> {
        (self.planned.renewal && self.planned.staging.is_some()).then_some(self.wish)
    }
}

impl PlannedRenewal {
    fn print(&self) {
        let (name, reason) = (&self.common_name, &self.reason);
        match (self.renewal, &self.staging) {
            (false, _) => println!("{name}: nothing to do: {reason}"),
            (true, Some(staging)) => println!("{name}: would be renewed: {reason}; rehearsed with {staging}"),
            (true, None) => println!("{name}: would be renewed: {reason}; its provider declares no staging"),
        }
    }
}

fn end_without_rehearsal(plans: &[PlannedRenewal], json: bool) -> anyhow::Result<Ending> {
    if json {
        crate::cli::output::print_json(&serde_json::json!({ "plans": plans }))?;
    } else {
        println!("nothing was rehearsed, and nothing was changed");
    }
    Ok(Ending::Well)
}
