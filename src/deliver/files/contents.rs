//! What is published of a certificate: which files, and what is in them.

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::config::delivery::FilesEntry;
use crate::config::secret;
use crate::deliver::files::access::FileAccess;
use crate::deliver::files::error::FilesError;
use crate::deliver::files::pkcs12;
use crate::deliver::payload::{DeliveryPayload, with_final_newline};

/// One file.
pub(super) struct PublishedFile {
    pub(super) name: &'static str,
    pub(super) mode: u32,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// The files of a certificate, as the settings ask for them.
pub(super) fn build_contents(
    entry: &FilesEntry,
    access: &FileAccess,
    parcel: &DeliveryPayload,
) -> Result<Vec<PublishedFile>, FilesError> {
    let full_chain = parcel.full_chain_pem();
    let leaf = with_final_newline(&parcel.leaf_pem);
    let chain = with_final_newline(&parcel.chain_pem);
    let key = concatenate(&[], parcel.private_key.expose_secret().trim_end());
    let public = |name, text: String| PublishedFile { name, mode: access.public_mode, bytes: text.into_bytes().into() };
    let private = |name, bytes| PublishedFile { name, mode: access.key_mode, bytes };
    let mut contents = vec![public(CERT, leaf), public(CHAIN, chain)];
    if entry.combined {
        contents
            .push(private(COMBINED, concatenate(full_chain.as_bytes(), parcel.private_key.expose_secret().trim_end())));
    }
    contents.extend([public(FULL_CHAIN, full_chain), private(PRIVATE_KEY, key)]);
    if let Some(path) = &entry.pkcs12_password_file {
        let password = secret::password("files.pkcs12_password_file", path)?;
        let bundle = pkcs12::encode(parcel, &password).ok_or(FilesError::Pkcs12 { name: BUNDLE })?;
        contents.push(private(BUNDLE, bundle));
    }
    Ok(contents)
}

/// Without a copy of the key left behind by a text that grows.
fn concatenate(certificates: &[u8], key: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(certificates.len() + key.len() + 1));
    bytes.extend_from_slice(certificates);
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(b'\n');
    bytes
}

pub(super) const FULL_CHAIN: &str = "fullchain.pem";
const CERT: &str = "cert.pem";
const CHAIN: &str = "chain.pem";
pub(super) const PRIVATE_KEY: &str = "privkey.pem";
const COMBINED: &str = "combined.pem";
const BUNDLE: &str = "bundle.p12";
/// Every name that can be published.
pub(super) const NAMES: [&str; 6] = [FULL_CHAIN, CERT, CHAIN, PRIVATE_KEY, COMBINED, BUNDLE];
