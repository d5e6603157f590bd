//! `--renew-now --dry-run`: what would be done, and why; and a rehearsal with the staging provider, in a store of its own,
//! so that neither the real provider nor the real store is touched.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::app::{App, IfStoreMissing, UnusableSettings};
use crate::cli::renew_now::backend::RenewBackend;
use crate::cli::renew_now::{RenewOptions, renew};
use crate::cli::selection::{UnknownNames, load_auto_certificates as all, load_by_ids, resolve_names};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::config::declared::AutoCertificateEntry;
use crate::domain::declared::DeclaredKey;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::plan::{RenewalAction, plan_renewal};
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::RequestedName;
use crate::domain::value::profile::Profile;
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
struct DryRunCandidate {
    planned: PlannedRenewal,
    entry: AutoCertificateEntry,
}

pub(super) fn run(config: &Config, wish: &RenewOptions) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let subjects = load_candidates(config, wish).await?;
        let plans: Vec<PlannedRenewal> = subjects.iter().map(|subject| subject.planned.clone()).collect();
        if !wish.json {
            plans.iter().for_each(PlannedRenewal::print);
        }
        let rehearsed: Vec<AutoCertificateEntry> =
            subjects.into_iter().filter_map(DryRunCandidate::into_staging_entry).collect();
        if rehearsed.is_empty() {
            return finish_without_staging(&plans, wish.json);
        }
        let names = rehearsed.iter().map(|entry| entry.key.to_string()).collect();
        let stage = config.for_dry_run(rehearsed);
        let desk = RenewBackend::open(&stage, None).await?;
        let ending = renew(&desk, &RenewOptions { names, ..wish.clone() }, plans).await;
        let closed = desk.close().await;
        let ending = ending?;
        closed.map(|()| ending)
    })
}

/// Those that are named, or else all of them: of the store, and those that are declared and not made yet.
async fn load_candidates(config: &Config, wish: &RenewOptions) -> anyhow::Result<Vec<DryRunCandidate>> {
    let mut subjects = Vec::new();
    let mut known = Vec::new();
    let mut unknown = wish.names.clone();
    if store_exists(config)? {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let stored = if wish.names.is_empty() {
            all(&app.store, &[]).await?
        } else {
            let found = resolve_names(&app.store, &wish.names).await?;
            unknown = found.unknown;
            load_by_ids(&app.store, &found.ids).await?
        };
        known = app.store.declared_keys().await?;
        let keys: HashMap<AutoCertificateId, &DeclaredKey> = known.iter().map(|(key, id)| (*id, key)).collect();
        let entries: HashMap<&DeclaredKey, &AutoCertificateEntry> =
            config.auto_certificates.iter().map(|entry| (&entry.key, entry)).collect();
        let providers = app.store.declared_keys_of_providers().await?;
        for stored in stored {
            let entry = keys.get(&stored.id).and_then(|key| entries.get(key)).copied();
            subjects.push(match entry.filter(|entry| differs_from_stored(entry, &stored)) {
                Some(entry) => plan_declared(
                    config,
                    entry,
                    "its names, its kind of key or its profile are changed in the settings",
                ),
                None => plan_stored(config, &providers, &stored, !wish.names.is_empty(), app.clock.now())?,
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
            subjects.push(plan_declared(config, entry, "it is declared and not made yet"));
        }
    }
    if unknown.is_empty() { Ok(subjects) } else { Err(UnknownNames(unknown).into()) }
}

/// Whether the settings wish for other names or another kind of key or certificate than what is stored.
fn differs_from_stored(entry: &AutoCertificateEntry, stored: &AutoCertificate) -> bool {
    let sent = |name: &RequestedName| name.sent().to_owned();
    let further: Vec<String> = stored.subject_alternative_names.iter().map(sent).collect();
    entry.common_name != stored.common_name.sent()
        || entry.subject_alternative_names != further
        || entry.key_algorithm != stored.key_algorithm.as_str()
        || entry.profile.as_deref() != stored.profile.as_ref().map(Profile::as_str)
}

/// Whether there is a store at all; a dry run makes none.
fn store_exists(config: &Config) -> anyhow::Result<bool> {
    let settings = config.store.settings(&config.state_directory()).map_err(UnusableSettings::from_error)?;
    Ok(match settings.url {
        StoreUrl::Sqlite(path) => path.exists(),
        StoreUrl::Postgres(_) => true,
    })
}

fn plan_stored(
    config: &Config,
    providers: &HashMap<ProviderId, DeclaredKey>,
    stored: &AutoCertificate,
    named: bool,
    now: Moment,
) -> anyhow::Result<DryRunCandidate> {
    let plan = plan_renewal(&stored.standing, now);
    let renewal = named
        || matches!(plan.action, RenewalAction::Start | RenewalAction::Resume(_))
        || (plan.action == RenewalAction::AskRenewalInfo && plan.at <= now);
    let reason = match plan.action {
        RenewalAction::Idle if named => "it was named".to_owned(),
        _ => plan.to_string(),
    };
    let staging = providers.get(&stored.provider).and_then(|key| config.staging_provider(key)).cloned();
    let further = stored.subject_alternative_names.iter().map(|name| name.sent().to_owned()).collect();
    let key = format!("of-{}", stored.id).parse()?;
    Ok(DryRunCandidate {
        entry: AutoCertificateEntry {
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

fn plan_declared(config: &Config, entry: &AutoCertificateEntry, reason: &str) -> DryRunCandidate {
    let staging = entry.provider.parse().ok().and_then(|key| config.staging_provider(&key)).cloned();
    DryRunCandidate {
        planned: PlannedRenewal {
            name: entry.name.clone().unwrap_or_else(|| entry.key.to_string()),
            common_name: entry.common_name.clone(),
            renewal: true,
            reason: reason.to_owned(),
            staging: staging.clone(),
        },
        entry: AutoCertificateEntry {
            name: None,
            provider: staging.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..entry.clone()
        },
    }
}

impl DryRunCandidate {
    fn into_staging_entry(self) -> Option<AutoCertificateEntry> {
        (self.planned.renewal && self.planned.staging.is_some()).then_some(self.entry)
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

fn finish_without_staging(plans: &[PlannedRenewal], json: bool) -> anyhow::Result<CommandOutcome> {
    if json {
        crate::cli::output::print_json(&serde_json::json!({ "plans": plans }))?;
    } else {
        println!("nothing was rehearsed, and nothing was changed");
    }
    Ok(CommandOutcome::Success)
}
