//! Which auto-certificates a command is about.

use anyhow::Context;

use crate::domain::id::AutoCertificateId;
use crate::store::{Page, Store};

/// Names that name nothing.
#[derive(Debug, thiserror::Error)]
#[error("no auto-certificate has the name, common name or id: {}", .0.join(", "))]
pub(super) struct UnknownNames(pub(super) Vec<String>);

/// Those that names stand for.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) ids: Vec<AutoCertificateId>,
    /// The names that stand for none.
    pub(super) unknown: Vec<String>,
}

/// The auto-certificates of these names; without names all of them.
pub(super) async fn chosen(store: &Store, names: &[String]) -> anyhow::Result<Vec<AutoCertificateId>> {
    if names.is_empty() {
        return all(store).await;
    }
    let Named { ids, unknown } = named(store, names).await?;
    if unknown.is_empty() { Ok(ids) } else { Err(UnknownNames(unknown).into()) }
}

/// The auto-certificates of these names, each once.
pub(super) async fn named(store: &Store, names: &[String]) -> anyhow::Result<Named> {
    let mut found = Named::default();
    for name in names {
        let matching = store.matching_auto_certificates(name).await?;
        if matching.is_empty() {
            found.unknown.push(name.clone());
        }
        found.ids.extend(matching);
    }
    found.ids.sort_unstable();
    found.ids.dedup();
    Ok(found)
}

async fn all(store: &Store) -> anyhow::Result<Vec<AutoCertificateId>> {
    let (mut ids, mut offset) = (Vec::new(), 0);
    loop {
        let page = store.auto_certificates(Page { offset, limit: AT_ONCE }, None).await?;
        ids.extend(page.items.iter().map(|auto_certificate| auto_certificate.id));
        if !page.more {
            return Ok(ids);
        }
        offset = offset.checked_add(AT_ONCE).context("too many auto-certificates")?;
    }
}

const AT_ONCE: u32 = 500;
