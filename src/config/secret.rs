//! Where secrets come from: a file that a setting names, a systemd credential, or an environment variable; in this
//! order. They are never part of the settings themselves. Which files those are, is known here, too.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::config::{Config, ConfigError};

/// The path of the systemd credential `name`, where systemd passed it (systemd.exec(5), `LoadCredential=`). Commands that
/// a person runs have that of the running service, as far as their user may read it.
pub fn credential(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map_or_else(|| PathBuf::from(OF_SERVICE), PathBuf::from);
    let path = folder.join(name);
    path.exists().then_some(path)
}

/// The token for IONOS Cloud DNS: `dns.ionos.token_file`, the credential `ionos-token`, or `$IONOS_TOKEN`.
///
/// # Errors
/// Where the file is named but cannot be read.
pub fn ionos_token(token_file: Option<&Path>) -> Result<Option<SecretString>, ConfigError> {
    match token_file.map(Path::to_owned).or_else(|| credential("ionos-token")) {
        Some(path) => read("dns.ionos.token_file", &path).map(Some),
        None => Ok(std::env::var("IONOS_TOKEN").ok().filter(|token| !token.is_empty()).map(SecretString::from)),
    }
}

/// Every file that these settings name for a secret, whether it is there or not.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let cloud_dns = config.dns.ionos.token_file.clone().or_else(|| credential("ionos-token"));
    // Each kind of adapter names its secrets so.
    let of_adapters = config.dns.adapters.values().flat_map(|adapter| &adapter.settings);
    let of_adapters = of_adapters.filter(|(key, _)| key.ends_with("_file")).filter_map(|(_, value)| value.as_str());
    let bindings = config.providers.iter().filter_map(|provider| provider.external_account.as_ref());
    let uploads = config.deliveries.iter().filter_map(|delivery| delivery.certificate_manager.as_ref());
    let bundles = config.deliveries.iter().filter_map(|delivery| delivery.files.as_ref()?.pkcs12_password_file.clone());
    std::iter::once(config.key_file())
        .chain(config.store.url_file.clone())
        .chain(cloud_dns)
        .chain(of_adapters.map(PathBuf::from))
        .chain(bindings.map(|binding| binding.key_secret_file.clone()))
        .chain(uploads.map(|upload| upload.token_file.clone()))
        .chain(bundles)
        .collect()
}

/// Reads a secret from a file, without the line break at its end.
///
/// # Errors
/// Where the file cannot be read; `key` is the setting that names it.
pub fn read(key: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::UnreadableSecret {
        key,
        path: path.to_owned(),
        source,
    })?;
    Ok(from_text(&text))
}

/// The secret in the text of a file.
pub fn from_text(text: &str) -> SecretString {
    SecretString::from(text.trim_end_matches(['\r', '\n']))
}

/// Where systemd keeps the credentials of the service while it runs.
const OF_SERVICE: &str = "/run/credentials/autocertd.service";

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(ionos_token(Some(&path)).unwrap().unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ionos_token(Some(Path::new("/nowhere/token"))).unwrap_err().to_string();
        assert!(error.contains("dns.ionos.token_file") && error.contains("/nowhere/token"), "{error}");
    }
}
