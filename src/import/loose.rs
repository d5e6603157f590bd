//! PEM files of no tool: every private key of a folder, with the certificate that belongs to it wherever in the folder
//! that is, and the certificates that lead on from there.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::domain::leaf::{Leaf, LeafError};
use crate::import::account::TreeAccount;
use crate::import::lineage::{Fault, Finding};
use crate::import::{Overrides, Tree, pem};

/// What the files say, folder by folder. A lineage has the name of its folder, or of the certificate's file where the
/// folder has several.
pub(super) fn findings(tree: &Tree, overrides: &Overrides) -> Vec<(String, Result<Finding, Fault>)> {
    let mut folders: BTreeMap<&str, Folder> = BTreeMap::new();
    for (path, text) in tree.files() {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        folders.entry(folder).or_default().add(file, text);
    }
    let named = |path: &str| path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(tree.name()).to_owned();
    folders.into_iter().flat_map(|(path, folder)| folder.findings(&named(path), overrides)).collect()
}

/// The blocks of a folder.
#[derive(Default)]
struct Folder {
    certificates: Vec<Certificate>,
    keys: Vec<SecretString>,
}

struct Certificate {
    pem: String,
    leaf: Leaf,
    /// The name of its file, without the ending.
    stem: String,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// The object identifier of its key's algorithm.
    algorithm: String,
    is_ca: bool,
}

impl Folder {
    fn add(&mut self, file: &str, text: &str) {
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        self.keys.extend(pem::private_keys(text));
        self.certificates.extend(pem::certificates(text).into_iter().filter_map(|pem| Certificate::read(pem, stem)));
    }

    fn findings(mut self, name: &str, overrides: &Overrides) -> Vec<(String, Result<Finding, Fault>)> {
        // The newest first: next to it an older one is history.
        self.certificates.sort_by_key(|certificate| std::cmp::Reverse(certificate.leaf.not_before));
        let leaves = || self.certificates.iter().filter(|certificate| !certificate.is_ca);
        let key_of = |certificate: &Certificate| {
            self.keys.iter().find(|key| certificate.leaf.check_key(key.expose_secret()).is_ok()).cloned()
        };
        let paired = leaves().filter_map(|certificate| Some((certificate, Some(key_of(certificate)?))));
        let mut found: Vec<(&Certificate, Option<SecretString>)> = Vec::new();
        for (certificate, key) in paired.chain(leaves().map(|certificate| (certificate, None))) {
            if !found.iter().any(|(other, _)| other.belongs_with(certificate)) {
                found.push((certificate, key));
            }
        }
        let keyless = if self.keys.is_empty() {
            Fault::Missing("its private key".to_owned())
        } else {
            LeafError::OtherKey.into()
        };
        let only = found.len() == 1;
        let finding = |(certificate, key): (&Certificate, Option<SecretString>)| {
            let name = if only { name } else { &certificate.stem };
            let key = key.ok_or_else(|| keyless.clone());
            (name.to_owned(), key.and_then(|key| self.finding(certificate, key, overrides)))
        };
        found.into_iter().map(finding).collect()
    }

    fn finding(
        &self,
        certificate: &Certificate,
        private_key: SecretString,
        overrides: &Overrides,
    ) -> Result<Finding, Fault> {
        Ok(Finding {
            certificate: certificate.pem.clone(),
            chain: Some(self.behind(certificate)),
            private_key,
            first_name: None,
            server: overrides.server_or(None)?,
            email: None,
            account: TreeAccount::Unknown,
            other_challenge: None,
        })
    }

    /// The certificates that lead on from this one, without a root, which no server sends.
    fn behind(&self, certificate: &Certificate) -> String {
        let mut chain = String::new();
        let mut last = certificate;
        for _ in 0..self.certificates.len() {
            let issuer = |next: &&Certificate| next.subject == last.issuer && next.subject != next.issuer;
            let Some(next) = self.certificates.iter().find(issuer) else { break };
            chain.push_str(&next.pem);
            last = next;
        }
        chain
    }
}

impl Certificate {
    fn read(pem: String, stem: &str) -> Option<Self> {
        let leaf = Leaf::from_pem(&pem).ok()?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let (issuer, subject) = (certificate.issuer().as_raw().to_vec(), certificate.subject().as_raw().to_vec());
        let algorithm = certificate.public_key().algorithm.algorithm.to_id_string();
        let is_ca = certificate.is_ca();
        Some(Self { pem, leaf, stem: stem.to_owned(), issuer, subject, algorithm, is_ca })
    }

    /// The same certificate in another file, or an older one for the same names.
    fn belongs_with(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.leaf.subject_alternative_names == other.leaf.subject_alternative_names
    }
}
