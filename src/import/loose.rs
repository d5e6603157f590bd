//! PEM files of no tool: every private key of a folder, with the certificate that belongs to it wherever in the folder
//! that is, and the certificates that lead on from there.

use std::collections::{BTreeMap, HashMap, HashSet};

use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::domain::fingerprint::KeyFingerprint;
use crate::domain::leaf::{Leaf, LeafError, is_encrypted_key, read_key};
use crate::import::account::TreeAccount;
use crate::import::lineage::{Fault, TreeFinding};
use crate::import::{Overrides, Tree, pem};

/// What the files say, folder by folder. A lineage has the name of its folder, or of the certificate's file where the
/// folder has several.
pub(super) fn findings(tree: &Tree, overrides: &Overrides) -> Vec<(String, Result<TreeFinding, Fault>)> {
    let mut folders: BTreeMap<&str, Folder> = BTreeMap::new();
    for (path, text) in tree.files() {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().add(path, text);
    }
    let named = |path: &str| path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(tree.name()).to_owned();
    folders.into_iter().flat_map(|(path, folder)| folder.findings(tree, &named(path), overrides)).collect()
}

/// Why a file went into no lineage.
pub(super) fn why_unused(text: &str) -> &'static str {
    let certificates = pem::certificates(text);
    let keys = pem::private_keys(text);
    if keys.iter().any(|key| is_encrypted_key(key.expose_secret())) {
        "a private key that is encrypted with a passphrase"
    } else if !keys.is_empty() {
        "a private key that belongs to none of the certificates in its folder"
    } else if certificates.is_empty() {
        "no certificate or private key in PEM is in it"
    } else if certificates.iter().all(|pem| Leaf::from_pem(pem).is_err()) {
        "its certificate cannot be read"
    } else {
        "its certificates are older than another for the same names, in another file too, or of CAs that no chain needs"
    }
}

/// The blocks of a folder.
#[derive(Default)]
struct Folder<'t> {
    certificates: Vec<Certificate<'t>>,
    keys: HashMap<KeyFingerprint, Key<'t>>,
    /// Why a key of the folder cannot be used.
    unusable_key: Option<LeafError>,
}

struct Certificate<'t> {
    pem: String,
    leaf: Leaf,
    /// Its file.
    path: &'t str,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// The object identifier of its key's algorithm.
    algorithm: String,
    is_ca: bool,
}

#[derive(Clone)]
struct Key<'t> {
    pem: SecretString,
    path: &'t str,
}

impl<'t> Folder<'t> {
    fn add(&mut self, path: &'t str, text: &str) {
        for pem in pem::private_keys(text) {
            match read_key(pem.expose_secret()) {
                Ok(key) => {
                    let fingerprint = KeyFingerprint::of_public_key(&key.subject_public_key_info());
                    self.keys.entry(fingerprint).or_insert(Key { pem, path });
                }
                Err(fault) => self.unusable_key = Some(fault),
            }
        }
        self.certificates.extend(pem::certificates(text).into_iter().filter_map(|pem| Certificate::read(pem, path)));
    }

    fn findings(mut self, tree: &Tree, name: &str, overrides: &Overrides) -> Vec<(String, Result<TreeFinding, Fault>)> {
        // The newest first: next to it an older one is history.
        self.certificates.sort_by_key(|certificate| std::cmp::Reverse(certificate.leaf.not_before));
        let leaves = || self.certificates.iter().filter(|certificate| !certificate.is_ca);
        let key_of = |certificate: &Certificate<'_>| self.keys.get(&certificate.leaf.key_fingerprint());
        let paired = leaves().filter_map(|certificate| Some((certificate, Some(key_of(certificate)?))));
        let mut found: Vec<(&Certificate<'_>, Option<&Key<'_>>)> = Vec::new();
        // The same certificate in another file, or an older one for the same names, is no lineage of its own.
        let mut known = HashSet::new();
        for (certificate, key) in paired.chain(leaves().map(|certificate| (certificate, None))) {
            if known.insert((&certificate.algorithm, &certificate.leaf.subject_alternative_names)) {
                found.push((certificate, key));
            }
        }
        let keyless = match &self.unusable_key {
            Some(fault) => fault.clone().into(),
            None if self.keys.is_empty() => Fault::Missing("its private key".to_owned()),
            None => LeafError::OtherKey.into(),
        };
        let only = found.len() == 1;
        let finding = |(certificate, key): (&Certificate<'_>, Option<&Key<'_>>)| {
            let name = if only { name } else { certificate.stem() };
            tree.get(certificate.path);
            let key = key.ok_or_else(|| keyless.clone());
            (name.to_owned(), key.and_then(|key| self.finding(tree, certificate, key, overrides)))
        };
        found.into_iter().map(finding).collect()
    }

    fn finding(
        &self,
        tree: &Tree,
        certificate: &Certificate<'_>,
        key: &Key<'_>,
        overrides: &Overrides,
    ) -> Result<TreeFinding, Fault> {
        tree.get(key.path);
        let behind = self.behind(certificate);
        for next in &behind {
            tree.get(next.path);
        }
        Ok(TreeFinding {
            certificate: certificate.pem.clone(),
            chain: Some(behind.iter().map(|next| next.pem.as_str()).collect()),
            private_key: key.pem.clone(),
            first_name: None,
            server: overrides.server_or(None)?,
            email: None,
            account: TreeAccount::Unknown,
            other_challenge: None,
        })
    }

    /// The certificates that lead on from this one, without a root, which no server sends.
    fn behind(&self, certificate: &Certificate<'_>) -> Vec<&Certificate<'t>> {
        let mut chain: Vec<&Certificate<'t>> = Vec::new();
        let mut issuer = &certificate.issuer;
        while chain.len() < LONGEST_CHAIN {
            let leads_on = |next: &&Certificate<'t>| next.subject == *issuer && next.subject != next.issuer;
            let Some(next) = self.certificates.iter().find(leads_on) else { break };
            // Two authorities may have signed each other.
            if chain.iter().any(|one| one.subject == next.subject) {
                break;
            }
            chain.push(next);
            issuer = &next.issuer;
        }
        chain
    }
}

impl<'t> Certificate<'t> {
    fn read(pem: String, path: &'t str) -> Option<Self> {
        let leaf = Leaf::from_pem(&pem).ok()?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let (issuer, subject) = (certificate.issuer().as_raw().to_vec(), certificate.subject().as_raw().to_vec());
        let algorithm = certificate.public_key().algorithm.algorithm.to_id_string();
        let is_ca = certificate.is_ca();
        Some(Self { pem, leaf, path, issuer, subject, algorithm, is_ca })
    }

    /// The name of its file, without the ending.
    fn stem(&self) -> &'t str {
        let file = self.path.rsplit_once('/').map_or(self.path, |(_, file)| file);
        file.rsplit_once('.').map_or(file, |(stem, _)| stem)
    }
}

/// In certificates; no CA of the web has more than four.
const LONGEST_CHAIN: usize = 10;
