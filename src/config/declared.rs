//! `[[provider]]` and `[[auto_certificate]]`: resources that the settings declare, beside those that the API makes.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError};
use crate::domain::declared::DeclaredKey;
use crate::domain::id::ProviderId;

/// `[declared]`: what holds for all declared resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeclaredSection {
    /// Whether what the settings declared once, and declare no longer, is deleted. Default `false`: it stays, and the API
    /// may change and delete it again.
    pub prune: bool,
}

/// A provider that the settings declare.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// Names it from one start to the next.
    pub key: DeclaredKey,
    /// Its name for people; default its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The contact of its account. A change is told to the CA.
    pub email: String,
    /// Its directory. A change makes a new account there.
    pub server: String,
    /// The external account, where the CA wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccountEntry>,
    /// The key of the declared provider with which `--renew-now --dry-run` rehearses in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<DeclaredKey>,
}

/// The external account of a provider (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccountEntry {
    /// The key identifier that the CA gave.
    pub key_id: String,
    /// The file that holds the HMAC key that the CA gave, in base64url.
    pub key_secret_file: PathBuf,
}

/// An auto-certificate that the settings declare.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AutoCertificateEntry {
    /// Names it from one start to the next.
    pub key: DeclaredKey,
    /// Its name for people; default its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key of a declared provider, or the id of one that the API made. A change orders a new certificate.
    pub provider: String,
    /// The main name. A change orders a new certificate, as with the further names and the kind of key.
    pub common_name: String,
    /// Further names; default none.
    #[serde(default)]
    pub subject_alternative_names: Vec<String>,
    /// The kind of key; default `secp256r1`.
    #[serde(default = "AutoCertificateEntry::usual_key_algorithm")]
    pub key_algorithm: String,
}

impl AutoCertificateEntry {
    fn usual_key_algorithm() -> String {
        "secp256r1".to_owned()
    }
}

impl Config {
    /// Looks whether what is declared fits together. What each value says is read where it is used.
    pub(super) fn check_declared(&self) -> Result<(), ConfigError> {
        let providers = unique("provider", self.providers.iter().map(|entry| &entry.key))?;
        unique("auto_certificate", self.auto_certificates.iter().map(|entry| &entry.key))?;
        unique("delivery", self.deliveries.iter().map(|entry| &entry.key))?;
        for entry in &self.providers {
            if let Some(staging) = entry.staging.as_ref().filter(|staging| !providers.contains(staging)) {
                return fault("provider", &entry.key, format!("staging = \"{staging}\" is the key of no [[provider]]"));
            }
        }
        for entry in &self.auto_certificates {
            let declared = entry.provider.parse().is_ok_and(|key: DeclaredKey| providers.contains(&key));
            if !declared && entry.provider.parse::<ProviderId>().is_err() {
                let words = "is neither the key of a [[provider]] nor the id of one that the API made";
                return fault("auto_certificate", &entry.key, format!("provider = {:?} {words}", entry.provider));
            }
        }
        for entry in &self.deliveries {
            entry.check().or_else(|error| fault("delivery", &entry.key, error.to_string()))?;
        }
        Ok(())
    }
}

pub(super) fn unique<'a>(
    kind: &'static str,
    keys: impl Iterator<Item = &'a DeclaredKey>,
) -> Result<HashSet<&'a DeclaredKey>, ConfigError> {
    let mut seen = HashSet::new();
    for key in keys {
        if !seen.insert(key) {
            return fault(kind, key, "there are two of this key; give each its own".to_owned());
        }
    }
    Ok(seen)
}

fn fault<T>(kind: &'static str, key: &DeclaredKey, fault: String) -> Result<T, ConfigError> {
    Err(ConfigError::Declared { kind, key: key.clone(), fault })
}
