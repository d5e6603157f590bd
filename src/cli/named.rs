//! Which auto-certificates a command is about.

use std::collections::HashSet;

use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::id::AutoCertificateId;
use crate::http::control::{DeliveryPage, MOST_IDS, rows_of};
use crate::store::{DeliveryRow, Store};

/// Names that name nothing.
#[derive(Debug, thiserror::Error)]
#[error("no auto-certificate has the name, common name or id: {}", .0.join(", "))]
pub(super) struct UnknownNames(pub(super) Vec<String>);

/// Those that names stand for.
#[derive(Debug, Default)]
pub(super) struct NamedAutoCertificates {
    pub(super) ids: Vec<AutoCertificateId>,
    /// The names that stand for none.
    pub(super) unknown: Vec<String>,
}

/// The auto-certificates of these names, as they stand; without names all of them.
pub(super) async fn subjects(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificate>> {
    if names.is_empty() {
        return all(store).await;
    }
    of_ids(store, &ids_of(store, names).await?).await
}

/// The deliveries of the auto-certificates of these names, as they stand; without names all of them.
pub(super) async fn deliveries(store: &Store, instance: &str, names: &[String]) -> anyhow::Result<Vec<DeliveryRow>> {
    let ids = ids_of(store, names).await?;
    let (mut rows, mut after) = (Vec::new(), None);
    for ids in ids.chunks(MOST_IDS) {
        rows.extend(rows_of(store, instance, ids, None).await?.rows);
    }
    while names.is_empty() {
        let DeliveryPage { rows: page, next } = rows_of(store, instance, &[], after.as_ref()).await?;
        rows.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    Ok(rows)
}

/// The auto-certificates of these ids that are there, as they stand.
pub(super) async fn of_ids(store: &Store, ids: &[AutoCertificateId]) -> anyhow::Result<Vec<AutoCertificate>> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MOST_IDS) {
        found.extend(store.auto_certificates_of(ids).await?);
    }
    Ok(found)
}

/// The auto-certificates of these names, each once.
pub(super) async fn named(store: &Store, names: &[String]) -> anyhow::Result<NamedAutoCertificates> {
    let (mut found, mut seen) = (NamedAutoCertificates::default(), HashSet::new());
    for (name, matching) in names.iter().zip(store.matching_auto_certificates(names).await?) {
        if matching.is_empty() {
            found.unknown.push(name.clone());
        }
        found.ids.extend(matching.into_iter().filter(|id| seen.insert(*id)));
    }
    Ok(found)
}

async fn ids_of(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificateId>> {
    let NamedAutoCertificates { ids, unknown } = named(store, names).await?;
    if unknown.is_empty() { Ok(ids) } else { Err(UnknownNames(unknown).into()) }
}

async fn all(store: &Store) -> anyhow::Result<Vec<AutoCertificate>> {
    let mut all: Vec<AutoCertificate> = Vec::new();
    loop {
        let page = store.auto_certificates_after(all.last(), AT_ONCE).await?;
        let is_last = page.len() < AT_ONCE as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

const AT_ONCE: u32 = 500;
