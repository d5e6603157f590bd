//! From the settings to targets: each `[[delivery]]` becomes a place, or an error that names it.

use std::error::Error;

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::declared::AutoCertificateEntry;
use crate::config::delivery::{DeliveryEntry, KubernetesEntry};
use crate::deliver::Delivery;
use crate::deliver::certificate_manager::CertificateManagerDelivery;
use crate::deliver::dispatcher::DeliveryTarget;
use crate::deliver::files::FilesDelivery;
use crate::deliver::hook::Hook;
use crate::deliver::kubernetes::KubernetesDelivery;
use crate::deliver::local::LocalDelivery;
use crate::deliver::reload::{Reload, ReloadContext};
use crate::deliver::verify::TlsVerification;
use crate::domain::declared::DeclaredKey;
use crate::domain::value::pattern::Selection;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// A delivery that cannot be used; the source says why.
#[derive(Debug, thiserror::Error)]
#[error("[[delivery]] {key}")]
pub struct UnusableDelivery {
    key: DeclaredKey,
    source: Box<dyn Error + Send + Sync>,
}

/// The targets that the settings declare, for this instance, beside these auto-certificates. Nothing is asked over the
/// network.
///
/// # Errors
/// The first one that cannot be used, and why.
pub fn build_targets(
    entries: &[DeliveryEntry],
    declared: &[AutoCertificateEntry],
    instance: &str,
    clock: &SharedClock,
    randomness: &Randomness,
) -> Result<Vec<DeliveryTarget>, UnusableDelivery> {
    let keys = declared.iter().map(|entry| &entry.key).collect();
    let around = ReloadContext::installed(randomness.clone());
    let target = |entry: &DeliveryEntry| {
        let delivery =
            delivery(entry, clock, &around).map_err(|source| UnusableDelivery { key: entry.key.clone(), source })?;
        Ok(DeliveryTarget {
            key: entry.key.clone(),
            instance: if entry.is_once_per_fleet() { String::new() } else { instance.to_owned() },
            selection: Selection::new(&entry.matching, &keys),
            place: place_of(entry),
            window: entry.activate.clone(),
            settings: settings_digest(entry),
            delivery,
        })
    };
    entries.iter().map(target).collect()
}

fn delivery(
    entry: &DeliveryEntry,
    clock: &SharedClock,
    around: &ReloadContext,
) -> Result<Box<dyn Delivery>, Box<dyn Error + Send + Sync>> {
    if let Some(manager) = &entry.certificate_manager {
        return Ok(Box::new(CertificateManagerDelivery::new(manager, clock.clone())?));
    }
    if let Some(kubernetes) = &entry.kubernetes {
        return Ok(Box::new(KubernetesDelivery::new(kubernetes, clock.clone())?));
    }
    Ok(Box::new(LocalDelivery {
        key: entry.key.clone(),
        files: entry.files.as_ref().map(FilesDelivery::new),
        hook: entry.hook.as_ref().map(Hook::new).transpose()?,
        reload: entry.reload.as_ref().map(|reload| Reload::new(reload, &entry.key, around)).transpose()?,
        verify: entry.verify.as_ref().map(TlsVerification::new).transpose()?,
        rollback: entry.rollback,
        placeholder: entry.files.as_ref().is_some_and(|files| files.placeholder),
        clock: clock.clone(),
    }))
}

/// Where labels become names of folders or Secrets.
fn place_of(entry: &DeliveryEntry) -> Option<String> {
    let folder = entry.files.as_ref().map(|files| files.directory.components().as_path().display().to_string());
    let secrets = || {
        let KubernetesEntry { secret, namespace, server, .. } = entry.kubernetes.as_ref()?;
        Some(serde_json::json!([secret, namespace, server]).to_string())
    };
    folder.or_else(secrets)
}

/// What tells one version of a delivery's settings from another: their SHA-256, since a URL or an argument may be secret,
/// and this is stored. Which auto-certificates it is for, and when, changes nothing about what is there.
fn settings_digest(entry: &DeliveryEntry) -> String {
    let place = DeliveryEntry { matching: Vec::new(), activate: None, ..entry.clone() };
    let digest = digest(&SHA256, serde_json::json!(place).to_string().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
