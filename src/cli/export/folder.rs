//! The certificates as plain files: a folder for each auto-certificate with its newest certificate and what is wished,
//! and one for each certificate that stands alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::domain::certificate::{Certificate, CertificateOrigin};
use crate::domain::provider::Provider;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::name::RequestedName;
use crate::runtime::atomic_file::{AtomicFile, create_private_folder, sync_parent_folder};
use crate::store::{Listing, Page, Store, StoreError};

/// Files by their paths, two parts each.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct ExportFolder {
    files: BTreeMap<String, String>,
}

/// What is wished, and what there is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest<'a> {
    name: &'a str,
    common_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_alternative_names: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

impl ExportFolder {
    /// Reads it out of the store.
    pub(super) async fn from_store(store: &Store) -> anyhow::Result<Self> {
        let providers: Vec<Provider> = all(async |page| store.providers(page).await).await?;
        let providers: HashMap<ProviderId, Provider> =
            providers.into_iter().map(|provider| (provider.id, provider)).collect();
        let wishes: Vec<AutoCertificate> = all(async |page| store.auto_certificates(page, None).await).await?;
        let certificates: Vec<Certificate> = all(async |page| store.certificates(page, None, None).await).await?;
        let living: HashSet<AutoCertificateId> = wishes.iter().map(|wish| wish.id).collect();
        let mut folder = Self::default();
        for wish in &wishes {
            let newest = wish.standing.newest.map(|newest| newest.id);
            let newest = certificates.iter().find(|certificate| Some(certificate.id) == newest);
            let name = folder.free_name(&wish.common_name.name().to_string(), &wish.id.to_string());
            let provider = providers.get(&wish.provider);
            let names = wish.subject_alternative_names.iter().map(RequestedName::sent).collect();
            let document = ExportRequest {
                name: wish.name.as_str(),
                common_name: wish.common_name.sent(),
                subject_alternative_names: Some(names),
                key_algorithm: Some(wish.key_algorithm.as_str()),
                server: provider.map(|provider| provider.server.as_str()),
                email: provider.map(|provider| provider.email.as_str()),
                account_url: provider.and_then(|provider| provider.account_url.as_deref()),
                not_after: newest.map(|newest| newest.leaf.not_after.to_string()),
            };
            folder.add(store, &name, &document, newest).await?;
        }
        for certificate in certificates.iter().filter(|certificate| stands_alone(certificate, &living)) {
            let name = folder.free_name(&certificate.common_name, &certificate.id.to_string());
            let document = ExportRequest {
                name: certificate.name.as_str(),
                common_name: &certificate.common_name,
                subject_alternative_names: None,
                key_algorithm: None,
                server: None,
                email: None,
                account_url: None,
                not_after: Some(certificate.leaf.not_after.to_string()),
            };
            folder.add(store, &name, &document, Some(certificate)).await?;
        }
        Ok(folder)
    }

    /// Reads what a process of another user handed over; root writes it, and so it takes no other names than are made
    /// here.
    pub(super) fn from_owner_process(content: &[u8]) -> anyhow::Result<Self> {
        let folder: Self = serde_json::from_slice(content).context("what was handed over cannot be read")?;
        anyhow::ensure!(
            folder.files.keys().all(|path| is_exported_path(path)),
            "what was handed over names files that no export has; nothing was written"
        );
        Ok(folder)
    }

    /// How many certificates are in it.
    pub(super) fn certificate_count(&self) -> usize {
        self.files.keys().filter(|path| path.ends_with("/privkey.pem")).count()
    }

    /// Writes it as a new folder, of its owner's alone, down to the disk; it takes no name that is taken.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let draft = AtomicFile::new_folder(directory)?;
        for (path, text) in &self.files {
            let path = draft.path().join(path);
            if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
                create_private_folder(folder)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            sync_parent_folder(&path)?;
        }
        File::open(draft.path())?.sync_all()?;
        draft.persist_noclobber()
    }

    async fn add(
        &mut self,
        store: &Store,
        name: &str,
        document: &ExportRequest<'_>,
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<()> {
        let mut add = |file: &str, text: String| self.files.insert(format!("{name}/{file}"), text);
        add(WISH, serde_json::to_string_pretty(document)? + "\n");
        let Some(certificate) = certificate else { return Ok(()) };
        let key =
            store.certificate_private_key(certificate.id).await?.context("a certificate was deleted meanwhile")?;
        add("cert.pem", certificate.certificate.clone());
        add("chain.pem", certificate.chain.clone());
        let end = if certificate.certificate.ends_with('\n') { "" } else { "\n" };
        add("fullchain.pem", format!("{}{end}{}", certificate.certificate, certificate.chain));
        add("privkey.pem", key.expose_secret().to_owned());
        Ok(())
    }

    /// The name of a folder for `text` that is not taken: letters, digits, dots and hyphens alone.
    fn free_name(&self, text: &str, id: &str) -> String {
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c.to_ascii_lowercase() } else { '_' };
        let name: String = text.chars().map(plain).take(MAX_NAME_LENGTH).collect();
        let name = if name.trim_matches('.').is_empty() { "certificate".to_owned() } else { name };
        let is_taken = self.files.contains_key(&format!("{name}/{WISH}"));
        if is_taken || name.starts_with('.') { format!("{}-{id}", name.trim_start_matches('.')) } else { name }
    }
}

impl Drop for ExportFolder {
    fn drop(&mut self) {
        self.files.values_mut().for_each(Zeroize::zeroize);
    }
}

/// Whether it is a folder's name as [`Folder::free_name`] makes it, and in it a file that [`Folder::add`] adds.
fn is_exported_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    path.split_once('/').is_some_and(|(folder, file)| {
        (1..=MAX_FILE_NAME_LENGTH).contains(&folder.len())
            && !folder.starts_with('.')
            && folder.bytes().all(plain)
            && FILE_NAMES.contains(&file)
    })
}

/// Whether no auto-certificate has it: it was uploaded, or what it was issued for is deleted and it was the newest.
fn stands_alone(certificate: &Certificate, living: &HashSet<AutoCertificateId>) -> bool {
    match certificate.origin {
        CertificateOrigin::Uploaded => true,
        CertificateOrigin::Issued { auto_certificate, newest } => {
            !living.contains(&auto_certificate) && newest == certificate.id
        }
    }
}

/// Every page of a listing.
async fn all<T>(page: impl AsyncFn(Page) -> Result<Listing<T>, StoreError>) -> Result<Vec<T>, StoreError> {
    let mut items = Vec::new();
    loop {
        let offset = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let listing = page(Page { offset, limit: PAGE_SIZE }).await?;
        items.extend(listing.items);
        if !listing.has_more {
            return Ok(items);
        }
    }
}

const PAGE_SIZE: u32 = 500;
/// With the id behind it a name stays within the 255 bytes of a file's.
const MAX_NAME_LENGTH: usize = 200;
const MAX_FILE_NAME_LENGTH: usize = 255;
const WISH: &str = "certificate.json";
const FILE_NAMES: [&str; 5] = [WISH, "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_names_that_an_export_makes_are_taken_over() {
        let handed_over = |path: &str| {
            let content = json!({"files": {"www.example.com/cert.pem": "", path: ""}});
            ExportFolder::from_owner_process(&serde_json::to_vec(&content).unwrap())
        };
        for sound in ["www.example.com/privkey.pem", "_.example.net-0b1c/certificate.json"] {
            assert!(handed_over(sound).is_ok(), "{sound}");
        }
        let long = format!("{}/cert.pem", "a".repeat(256));
        for foreign in [
            "/etc/cron.d/x",
            "/cert.pem",
            "../cert.pem",
            "./cert.pem",
            ".ssh/cert.pem",
            "a/../cert.pem",
            "a/b/cert.pem",
            "a/",
            "a/authorized_keys",
            "cert.pem",
            "a\nb/cert.pem",
            "",
            &long,
        ] {
            assert!(handed_over(foreign).is_err(), "{foreign:?}");
        }
    }
}
