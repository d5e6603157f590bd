//! PEM files of no tool: every private key of a folder, with the certificate that belongs to it wherever in the folder
//! that is, and the certificates that lead on from there.

use std::collections::{BTreeMap, HashMap, HashSet};

use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::domain::certificate::fingerprint::KeyFingerprint;
use crate::domain::certificate::leaf::{Leaf, is_encrypted_key, read_key};
use crate::domain::certificate::leaf_error::LeafError;
use crate::import::account::TreeAccount;
use crate::import::fault::Fault;
use crate::import::lineage::FoundCertificate;
use crate::import::{FileTree, ImportOverrides, pem};

/// What the files say, folder by folder. A lineage has the name of its folder, or of the certificate's file where the
/// folder has several.
pub(super) fn find_certificates(
    tree: &FileTree,
    overrides: &ImportOverrides,
) -> Vec<(String, Result<FoundCertificate, Fault>)> {
    let mut folders: BTreeMap<&str, PemFolder> = BTreeMap::new();
    for (path, text) in tree.files() {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().add(path, text);
    }
    let named = |path: &str| path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(tree.name()).to_owned();
    folders.into_iter().flat_map(|(path, folder)| folder.find_certificates(tree, &named(path), overrides)).collect()
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
struct PemFolder<'t> {
    certificates: Vec<PemCertificate<'t>>,
    keys: HashMap<KeyFingerprint, PemKey<'t>>,
    /// Why a key of the folder cannot be used.
    unusable_key: Option<LeafError>,
}

struct PemCertificate<'t> {
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
struct PemKey<'t> {
    pem: SecretString,
    path: &'t str,
}

impl<'t> PemFolder<'t> {
    fn add(&mut self, path: &'t str, text: &str) {
        for pem in pem::private_keys(text) {
            match read_key(pem.expose_secret()) {
                Ok(key) => {
                    let fingerprint = KeyFingerprint::from_public_key(&key.subject_public_key_info());
                    self.keys.entry(fingerprint).or_insert(PemKey { pem, path });
                }
                Err(fault) => self.unusable_key = Some(fault),
            }
        }
        self.certificates
            .extend(pem::certificates(text).into_iter().filter_map(|pem| PemCertificate::parse(pem, path)));
    }

    fn find_certificates(
        mut self,
        tree: &FileTree,
        name: &str,
        overrides: &ImportOverrides,
    ) -> Vec<(String, Result<FoundCertificate, Fault>)> {
        // The newest first: next to it an older one is history.
        self.certificates.sort_by_key(|certificate| std::cmp::Reverse(certificate.leaf.not_before));
        let leaves = || self.certificates.iter().filter(|certificate| !certificate.is_ca);
        let key_of = |certificate: &PemCertificate<'_>| self.keys.get(&certificate.leaf.key_fingerprint());
        let paired = leaves().filter_map(|certificate| Some((certificate, Some(key_of(certificate)?))));
        let mut found: Vec<(&PemCertificate<'_>, Option<&PemKey<'_>>)> = Vec::new();
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
            None => LeafError::KeyMismatch.into(),
        };
        let only = found.len() == 1;
        let finding = |(certificate, key): (&PemCertificate<'_>, Option<&PemKey<'_>>)| {
            let name = if only { name } else { certificate.stem() };
            tree.optional_text(certificate.path);
            let key = key.ok_or_else(|| keyless.clone());
            (name.to_owned(), key.and_then(|key| self.to_found(tree, certificate, key, overrides)))
        };
        found.into_iter().map(finding).collect()
    }

    fn to_found(
        &self,
        tree: &FileTree,
        certificate: &PemCertificate<'_>,
        key: &PemKey<'_>,
        overrides: &ImportOverrides,
    ) -> Result<FoundCertificate, Fault> {
        tree.optional_text(key.path);
        let behind = self.build_chain(certificate);
        for next in &behind {
            tree.optional_text(next.path);
        }
        Ok(FoundCertificate {
            certificate: certificate.pem.clone(),
            chain: Some(behind.iter().map(|next| next.pem.as_str()).collect()),
            private_key: key.pem.clone(),
            first_name: None,
            server: overrides.resolve_server(None)?,
            email: None,
            account: TreeAccount::Unknown,
            other_challenge: None,
        })
    }

    /// The certificates that lead on from this one, without a root, which no server sends.
    fn build_chain(&self, certificate: &PemCertificate<'_>) -> Vec<&PemCertificate<'t>> {
        let mut chain: Vec<&PemCertificate<'t>> = Vec::new();
        let mut issuer = &certificate.issuer;
        while chain.len() < MAX_CHAIN_LENGTH {
            let leads_on = |next: &&PemCertificate<'t>| next.subject == *issuer && next.subject != next.issuer;
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

impl<'t> PemCertificate<'t> {
    fn parse(pem: String, path: &'t str) -> Option<Self> {
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
const MAX_CHAIN_LENGTH: usize = 10;
