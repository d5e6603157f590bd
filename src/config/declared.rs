//! `[[provider]]` and `[[auto_certificate]]`: resources that the settings declare, beside those that the API makes.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::config::store::{KeysSection, StoreSection};
use crate::config::{Config, ConfigError, secret};
use crate::domain::declared::{
    DeclaredAutoCertificate, DeclaredKey, DeclaredProvider, DeclaredResources, ProviderReference,
};
use crate::domain::provider::{ExternalAccountBinding, NewProvider};
use crate::domain::renewal::auto_certificate::check_name_count;
use crate::domain::value::id::ProviderId;
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::profile::Profile;
use crate::domain::value::resource::reject_nul;
use crate::domain::value::secret_text::unquoted;
use crate::domain::value::server_url::{PlainHttpPolicy, ServerUrl};

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
    /// The keys of the declared providers that are asked in its place, in this order, when it fails for long and CAA
    /// permits it; default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<DeclaredKey>,
    /// The profile that its CA shall issue by; default none: the CA chooses. A change counts from the next order on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
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
    /// The file that holds the HMAC key that the CA gave, in base64 (either alphabet).
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
    /// The profile that the CA shall issue by; default that of its provider. A change of this one orders a new certificate,
    /// one of the provider's counts from the next order on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl ProviderEntry {
    fn to_declared(&self, plain_http: PlainHttpPolicy) -> Result<DeclaredProvider, ConfigError> {
        let place = SettingLocation { kind: "provider", key: &self.key };
        let external_account = self.external_account.as_ref().map(|entry| entry.to_binding(&place)).transpose()?;
        let provider = NewProvider {
            name: place.parse("name", self.name.as_deref().unwrap_or(self.key.as_str()), str::parse)?,
            email: place.parse("email", &self.email, str::parse)?,
            server: place.parse("server", &self.server, |text| ServerUrl::parse(text, plain_http))?,
            external_account,
            profile: place.parse_profile(self.profile.as_deref())?,
        };
        let (fallbacks, staging) = (self.fallback.clone(), self.staging.clone());
        Ok(DeclaredProvider { key: self.key.clone(), provider, fallbacks, staging })
    }

    /// The same without those that stand by.
    fn without_fallbacks(self) -> Self {
        Self { fallback: Vec::new(), ..self }
    }

    /// Looks whether each fallback is another declared provider, named once.
    fn check_fallbacks(&self, providers: &HashSet<&DeclaredKey>) -> Result<(), ConfigError> {
        let refuse = |key: &DeclaredKey, words: &str| {
            declaration_error("provider", &self.key, format!("fallback names \"{key}\", {words}"))
        };
        let mut seen = HashSet::new();
        for key in &self.fallback {
            if *key == self.key {
                return refuse(key, "which is this provider itself; name others");
            }
            if !providers.contains(key) {
                return refuse(key, "which is the key of no [[provider]]");
            }
            if !seen.insert(key) {
                return refuse(key, "twice; name each once");
            }
        }
        Ok(())
    }
}

impl ExternalAccountEntry {
    fn to_binding(&self, place: &SettingLocation<'_>) -> Result<ExternalAccountBinding, ConfigError> {
        let secret = secret::read("external_account.key_secret_file of a [[provider]]", &self.key_secret_file)?;
        Ok(ExternalAccountBinding {
            key_id: place.parse("external_account.key_id", &self.key_id, ExternalAccountBinding::parse_key_id)?,
            key_secret: place.parse("external_account.key_secret_file", unquoted(secret.expose_secret()), |text| {
                // The file is named, since the words of the fault never show what is in it.
                MacKey::parse(text).map_err(|fault| format!("{} {fault}", self.key_secret_file.display()))
            })?,
        })
    }
}

impl AutoCertificateEntry {
    fn to_declared(&self, providers: &HashSet<&DeclaredKey>) -> Result<DeclaredAutoCertificate, ConfigError> {
        let place = SettingLocation { kind: "auto_certificate", key: &self.key };
        let others = &self.subject_alternative_names;
        check_name_count(others.len()).or_else(|error| place.error("subject_alternative_names", error))?;
        let others = others.iter().map(|name| place.parse("subject_alternative_names", name, str::parse));
        Ok(DeclaredAutoCertificate {
            key: self.key.clone(),
            name: place.parse("name", self.name.as_deref().unwrap_or(self.key.as_str()), str::parse)?,
            provider: self.resolve_provider(providers)?,
            common_name: place.parse("common_name", &self.common_name, str::parse)?,
            key_algorithm: place.parse("key_algorithm", &self.key_algorithm, str::parse)?,
            subject_alternative_names: others.collect::<Result<_, _>>()?,
            profile: place.parse_profile(self.profile.as_deref())?,
        })
    }

    /// The provider that it names: a declared one, where there is one of that key.
    pub(super) fn resolve_provider(&self, providers: &HashSet<&DeclaredKey>) -> Result<ProviderReference, ConfigError> {
        if let Some(key) = self.provider.parse().ok().filter(|key| providers.contains(key)) {
            return Ok(ProviderReference::Key(key));
        }
        let words = "is neither the key of a [[provider]] nor the id of one that the API made";
        let unknown =
            |_| declaration_error("auto_certificate", &self.key, format!("provider = {:?} {words}", self.provider));
        self.provider.parse::<ProviderId>().map(ProviderReference::Id).or_else(unknown)
    }

    fn usual_key_algorithm() -> String {
        "secp256r1".to_owned()
    }
}

impl Config {
    /// The key of the declared provider with which this one is rehearsed.
    pub fn staging_provider(&self, provider: &DeclaredKey) -> Option<&DeclaredKey> {
        self.providers.iter().find(|entry| entry.key == *provider)?.staging.as_ref()
    }

    /// The settings of a rehearsal: these auto-certificates and their providers alone, delivered nowhere, in a store of
    /// their own below the state directory. That store stays, for the account at the staging provider and for records that
    /// a crash leaves.
    #[must_use]
    pub fn for_dry_run(&self, auto_certificates: Vec<AutoCertificateEntry>) -> Self {
        let is_used =
            |provider: &&ProviderEntry| auto_certificates.iter().any(|entry| entry.provider == provider.key.as_str());
        Self {
            state_directory: Some(self.state_directory().join("rehearsal")),
            providers: self.providers.iter().filter(is_used).cloned().map(ProviderEntry::without_fallbacks).collect(),
            store: StoreSection::default(),
            keys: KeysSection::default(),
            deliveries: Vec::new(),
            auto_certificates,
            ..self.clone()
        }
    }

    /// What is declared, each value read by the rules of the API, each secret from its file.
    ///
    /// # Errors
    /// Where a value or a secret cannot be used.
    pub fn declared(&self) -> Result<DeclaredResources, ConfigError> {
        let plain_http = self.acme.plain_http();
        let keys: HashSet<&DeclaredKey> = self.providers.iter().map(|entry| &entry.key).collect();
        Ok(DeclaredResources {
            instance: self.instance(),
            prune: self.declared.prune,
            complete: self.is_complete(),
            providers: self.providers.iter().map(|entry| entry.to_declared(plain_http)).collect::<Result<_, _>>()?,
            auto_certificates: self
                .auto_certificates
                .iter()
                .map(|entry| entry.to_declared(&keys))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Looks whether what is declared fits together. What each value says is read where it is used.
    pub(super) fn check_declared(&self) -> Result<(), ConfigError> {
        let providers = require_unique_keys("provider", self.providers.iter().map(|entry| &entry.key))?;
        require_unique_keys("auto_certificate", self.auto_certificates.iter().map(|entry| &entry.key))?;
        require_unique_keys("delivery", self.deliveries.iter().map(|entry| &entry.key))?;
        for entry in &self.providers {
            if let Some(staging) = entry.staging.as_ref().filter(|staging| !providers.contains(staging)) {
                return declaration_error(
                    "provider",
                    &entry.key,
                    format!("staging = \"{staging}\" is the key of no [[provider]]"),
                );
            }
            entry.check_fallbacks(&providers)?;
        }
        for entry in &self.auto_certificates {
            entry.resolve_provider(&providers)?;
        }
        for entry in &self.deliveries {
            entry.check().or_else(|error| declaration_error("delivery", &entry.key, error.to_string()))?;
        }
        Ok(())
    }
}

/// Where a value stands, for what is said of it.
struct SettingLocation<'a> {
    kind: &'static str,
    key: &'a DeclaredKey,
}

impl SettingLocation<'_> {
    fn parse<T, E: Display>(
        &self,
        setting: &str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let text = reject_nul(text).or_else(|error| self.error(setting, error))?;
        read(text).or_else(|error| self.error(setting, error))
    }

    fn parse_profile(&self, text: Option<&str>) -> Result<Option<Profile>, ConfigError> {
        text.map(|text| self.parse("profile", text, str::parse)).transpose()
    }

    fn error<T>(&self, setting: &str, error: impl Display) -> Result<T, ConfigError> {
        declaration_error(self.kind, self.key, format!("{setting}: {error}"))
    }
}

pub(super) fn require_unique_keys<'a>(
    kind: &'static str,
    keys: impl Iterator<Item = &'a DeclaredKey>,
) -> Result<HashSet<&'a DeclaredKey>, ConfigError> {
    let mut seen = HashSet::new();
    for key in keys {
        if !seen.insert(key) {
            return declaration_error(kind, key, "there are two of this key; give each its own".to_owned());
        }
    }
    Ok(seen)
}

fn declaration_error<T>(kind: &'static str, key: &DeclaredKey, fault: String) -> Result<T, ConfigError> {
    Err(ConfigError::InvalidDeclaration { kind, key: key.clone(), fault })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LETS_ENCRYPT: &str = "[[provider]]\nkey = 'le'\nemail = 'a@example.com'\nserver = 'https://ca.example/dir'\n";
    const WWW: &str = "[[auto_certificate]]\nkey = 'www'\nprovider = 'le'\ncommon_name = 'www.example.com'\n";

    fn declared(text: &str) -> Result<DeclaredResources, ConfigError> {
        Config::parse(text, Path::new("test.toml")).unwrap().declared()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let declared = declared(&format!("{LETS_ENCRYPT}staging = 'le'\n{WWW}")).unwrap();
        let (provider, wish) = (&declared.providers[0], &declared.auto_certificates[0]);
        assert_eq!((provider.provider.name.as_str(), wish.name.as_str()), ("le", "www"));
        assert_eq!(provider.staging.as_ref().map(DeclaredKey::as_str), Some("le"));
        assert!(provider.provider.external_account.is_none() && wish.subject_alternative_names.is_empty());
        assert_eq!(
            (wish.key_algorithm.as_str(), &wish.provider),
            ("secp256r1", &ProviderReference::Key(provider.key.clone()))
        );
        assert!(!declared.prune);
        assert!(provider.fallbacks.is_empty() && provider.provider.profile.is_none() && wish.profile.is_none());
    }

    #[test]
    fn fallbacks_are_other_declared_providers_each_once() {
        let second = LETS_ENCRYPT.replace("'le'", "'zerossl'");
        let with = |fallback: &str| {
            let text = format!("{LETS_ENCRYPT}fallback = [{fallback}]\n{second}{WWW}");
            let config = Config::parse(&text, Path::new("test.toml")).unwrap();
            config.check_declared().map(|()| config)
        };
        let config = with("'zerossl'").unwrap();
        let fallbacks = &config.declared().unwrap().providers[0].fallbacks;
        assert_eq!(fallbacks.iter().map(DeclaredKey::as_str).collect::<Vec<_>>(), ["zerossl"]);
        for (fallback, words) in [
            ("'le'", "[[provider]] le: fallback names \"le\", which is this provider itself; name others"),
            ("'other'", "[[provider]] le: fallback names \"other\", which is the key of no [[provider]]"),
            ("'zerossl', 'zerossl'", "[[provider]] le: fallback names \"zerossl\", twice; name each once"),
        ] {
            assert_eq!(with(fallback).unwrap_err().to_string(), words);
        }
        let rehearsed = config.for_dry_run(config.auto_certificates.clone());
        assert!(rehearsed.check_declared().is_ok() && rehearsed.providers.len() == 1);
    }

    #[test]
    fn a_profile_is_taken_from_the_auto_certificate_and_from_its_provider() {
        let declared =
            declared(&format!("{LETS_ENCRYPT}profile = 'tlsserver'\n{WWW}profile = 'shortlived'\n")).unwrap();
        assert_eq!(declared.providers[0].provider.profile.as_ref().map(Profile::as_str), Some("tlsserver"));
        assert_eq!(declared.auto_certificates[0].profile.as_ref().map(Profile::as_str), Some("shortlived"));
    }

    #[test]
    fn the_secret_of_an_external_account_comes_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eab-key");
        let bound = |key_id: &str| {
            let path = path.display();
            declared(&format!(
                "{LETS_ENCRYPT}external_account = {{ key_id = \"{key_id}\", key_secret_file = '{path}' }}\n"
            ))
        };
        let error = bound("kid").unwrap_err().to_string();
        assert!(error.contains("key_secret_file") && error.contains("eab-key"), "{error}");
        std::fs::write(&path, "c2VjcmV0\n").unwrap();
        let binding = bound("kid").unwrap().providers.remove(0).provider.external_account.unwrap();
        assert_eq!((binding.key_id.as_str(), binding.key_secret.expose_secret()), ("kid", "c2VjcmV0"));
        assert_eq!(bound(" ").unwrap_err().to_string(), "[[provider]] le: external_account.key_id: is empty");
        std::fs::write(&path, "no key").unwrap();
        let error = bound("kid").unwrap_err().to_string();
        let named = format!("[[provider]] le: external_account.key_secret_file: {} is", path.display());
        assert!(error.starts_with(&format!("{named} not base64")), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(bound("kid").unwrap_err().to_string(), format!("{named} empty"));
        std::fs::write(&path, "\u{feff}\"c2VjcmV0\"\r\n").unwrap();
        let binding = bound("kid").unwrap().providers.remove(0).provider.external_account.unwrap();
        assert_eq!(binding.key_secret.expose_secret(), "c2VjcmV0");
    }

    #[test]
    fn a_value_that_the_api_would_refuse_is_named_with_its_key() {
        let eleven: Vec<String> = (0..11).map(|number| format!("'n{number}.example.com'")).collect();
        let eleven = format!("{LETS_ENCRYPT}{WWW}subject_alternative_names = [{}]\n", eleven.join(", "));
        for (text, words) in [
            (LETS_ENCRYPT.replace("a@example.com", "Ada <a@example.com>"), "[[provider]] le: email: "),
            (
                LETS_ENCRYPT.replace("https", "http"),
                "[[provider]] le: server: \"http://ca.example/dir\" is not an https URL",
            ),
            (
                LETS_ENCRYPT.replace("'https://ca.example/dir'", "\"https://ca.example/\\u0000\""),
                "server: holds a NUL character",
            ),
            (format!("{LETS_ENCRYPT}name = ' '\n"), "[[provider]] le: name: "),
            (
                format!("{LETS_ENCRYPT}profile = 'short lived'\n"),
                "[[provider]] le: profile: \"short lived\" is no profile",
            ),
            (format!("{LETS_ENCRYPT}{WWW}profile = ''\n"), "[[auto_certificate]] www: profile: "),
            (format!("{LETS_ENCRYPT}{WWW}key_algorithm = 'RSA'\n"), "[[auto_certificate]] www: key_algorithm: "),
            (format!("{LETS_ENCRYPT}{}", WWW.replace("www.example.com", "192.0.2.1")), "www: common_name: "),
            (format!("{LETS_ENCRYPT}{WWW}subject_alternative_names = ['a.example.']\n"), "ends with a dot"),
            (eleven, "www: subject_alternative_names: has 11 names; at most 10 are taken"),
        ] {
            let error = declared(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        let plain = LETS_ENCRYPT.replace("https", "http");
        assert!(declared(&format!("{plain}[acme]\nallow_http = true\n")).is_ok());
    }
}
