//! Which auto-certificates a command is about.

use std::collections::HashSet;

use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::value::id::AutoCertificateId;
use crate::http::control::{DeliveryPage, MOST_IDS, load_page};
use crate::store::{DeliveryRow, Store};

/// Names that name nothing.
#[derive(Debug, thiserror::Error)]
#[error("no auto-certificate has the name, common name or id: {}", .0.join(", "))]
pub(super) struct UnknownNames(pub(super) Vec<String>);

/// Those that names stand for.
#[derive(Debug, Default)]
pub(super) struct ResolvedNames {
    pub(super) ids: Vec<AutoCertificateId>,
    /// The names that stand for none.
    pub(super) unknown: Vec<String>,
}

/// The auto-certificates of these names, as they stand; without names all of them.
pub(super) async fn load_auto_certificates(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificate>> {
    if names.is_empty() {
        return load_all(store).await;
    }
    load_by_ids(store, &require_ids(store, names).await?).await
}

/// The deliveries of the auto-certificates of these names, as they stand; without names all of them.
pub(super) async fn load_deliveries(
    store: &Store,
    instance: &str,
    names: &[String],
) -> anyhow::Result<Vec<DeliveryRow>> {
    let ids = require_ids(store, names).await?;
    let (mut rows, mut after) = (Vec::new(), None);
    for ids in ids.chunks(MOST_IDS) {
        rows.extend(load_page(store, instance, ids, None).await?.rows);
    }
    while names.is_empty() {
        let DeliveryPage { rows: page, next } = load_page(store, instance, &[], after.as_ref()).await?;
        rows.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    Ok(rows)
}

/// The auto-certificates of these ids that are there, as they stand.
pub(super) async fn load_by_ids(store: &Store, ids: &[AutoCertificateId]) -> anyhow::Result<Vec<AutoCertificate>> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MOST_IDS) {
        found.extend(store.auto_certificates_with_ids(ids).await?);
    }
    Ok(found)
}

/// The auto-certificates of these names, each once.
pub(super) async fn resolve_names(store: &Store, names: &[String]) -> anyhow::Result<ResolvedNames> {
    let (mut found, mut seen) = (ResolvedNames::default(), HashSet::new());
    for (name, matching) in names.iter().zip(store.matching_auto_certificates(names).await?) {
        if matching.is_empty() {
            found.unknown.push(name.clone());
        }
        found.ids.extend(matching.into_iter().filter(|id| seen.insert(*id)));
    }
    Ok(found)
}

async fn require_ids(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificateId>> {
    let ResolvedNames { ids, unknown } = resolve_names(store, names).await?;
    if unknown.is_empty() { Ok(ids) } else { Err(UnknownNames(unknown).into()) }
}

async fn load_all(store: &Store) -> anyhow::Result<Vec<AutoCertificate>> {
    let mut all: Vec<AutoCertificate> = Vec::new();
    loop {
        let page = store.auto_certificates_after(all.last(), PAGE_SIZE).await?;
        let is_last = page.len() < PAGE_SIZE as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

const PAGE_SIZE: u32 = 500;
