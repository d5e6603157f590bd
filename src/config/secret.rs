//! Where secrets come from: a file that a setting names, a systemd credential, or an environment variable; in this
//! order. They are never part of the settings themselves. Which files those are, is known here, too.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError};
use crate::domain::value::secret_text::{self, InvalidSecret};
use crate::runtime::files;

/// The path of the systemd credential `name`, where systemd passed it (systemd.exec(5), `LoadCredential=`). Commands that
/// a person runs have that of the running service, as far as their user may read it.
pub fn systemd_credential_path(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map_or_else(|| PathBuf::from(SERVICE_CREDENTIALS_DIRECTORY), PathBuf::from);
    let path = folder.join(name);
    path.exists().then_some(path)
}

/// The token for IONOS Cloud DNS: `dns.ionos.token_file`, the credential `ionos-token`, or `$IONOS_TOKEN`.
///
/// # Errors
/// Where the file is named but cannot be read, or holds no token; likewise the variable. An empty variable is none.
pub fn ionos_token(token_file: Option<&Path>) -> Result<Option<SecretString>, ConfigError> {
    let Some(path) = token_file.map(Path::to_owned).or_else(|| systemd_credential_path("ionos-token")) else {
        return std::env::var_os(IONOS_TOKEN_VARIABLE).filter(|token| !token.is_empty()).map(from_variable).transpose();
    };
    token("dns.ionos.token_file", &path).map(Some)
}

fn from_variable(value: OsString) -> Result<SecretString, ConfigError> {
    let unusable = |fault| ConfigError::UnusableVariable { name: IONOS_TOKEN_VARIABLE, fault };
    let value = value.into_string().map(SecretString::from).map_err(|_| unusable(InvalidSecret::NotUtf8))?;
    secret_text::token(value.expose_secret()).map(SecretString::from).map_err(unusable)
}

/// Every file that these settings name for a secret, whether it is there or not.
pub fn secret_files(config: &Config) -> Vec<PathBuf> {
    let cloud_dns = config.dns.ionos.token_file.clone().or_else(|| systemd_credential_path("ionos-token"));
    // Each kind of adapter names its secrets so.
    let of_adapters = config.dns.adapters.values().flat_map(|adapter| &adapter.settings);
    let of_adapters = of_adapters.filter(|(key, _)| key.ends_with("_file")).filter_map(|(_, value)| value.as_str());
    let bindings = config.providers.iter().filter_map(|provider| provider.external_account.as_ref());
    let uploads = config.deliveries.iter().filter_map(|delivery| delivery.certificate_manager.as_ref());
    let bundles = config.deliveries.iter().filter_map(|delivery| delivery.files.as_ref()?.pkcs12_password_file.clone());
    let client_key =
        config.store.settings(&config.state_directory()).ok().and_then(|settings| settings.url.client_key());
    std::iter::once(config.key_file())
        .chain(client_key)
        .chain(config.store.url_file.clone())
        .chain(cloud_dns)
        .chain(of_adapters.map(PathBuf::from))
        .chain(bindings.map(|binding| binding.key_secret_file.clone()))
        .chain(uploads.map(|upload| upload.token_file.clone()))
        .chain(bundles)
        .collect()
}

/// Reads a token from a file; see [`secret_text::token`] for what is left out.
///
/// # Errors
/// Where the file cannot be read or holds no token; `key` is the setting that names it.
pub fn token(key: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    read_with(key, path, secret_text::token)
}

/// Reads a password from a file, without the line break at its end.
///
/// # Errors
/// Where the file cannot be read or holds no password; `key` is the setting that names it.
pub fn password(key: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    read_with(key, path, secret_text::password)
}

/// Reads a secret that has a form of its own from a file, without a byte order mark.
///
/// # Errors
/// Where the file cannot be read, is no text, or is far too long; `key` is the setting that names it.
pub fn read(key: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    read_with(key, path, |text| Ok(secret_text::without_mark(text)))
}

fn read_with(
    key: &'static str,
    path: &Path,
    read: impl FnOnce(&str) -> Result<&str, InvalidSecret>,
) -> Result<SecretString, ConfigError> {
    let unusable = |fault| ConfigError::UnusableSecret { key, path: path.to_owned(), fault };
    let bytes = Zeroizing::new(files::read_at_once(path, MAX_FILE_SIZE).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => unusable(InvalidSecret::TooLong),
        _ => ConfigError::UnreadableSecret { key, path: path.to_owned(), source },
    })?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(InvalidSecret::NotUtf8))?;
    read(text).map(SecretString::from).map_err(unusable)
}

/// More than a file with all TSIG keys of a server has.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
const IONOS_TOKEN_VARIABLE: &str = "IONOS_TOKEN";
/// Where systemd keeps the credentials of the service while it runs.
const SERVICE_CREDENTIALS_DIRECTORY: &str = "/run/credentials/autocertd.service";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(ionos_token(Some(&path)).unwrap().unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let written = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            ionos_token(Some(&path)).map(|token| token.unwrap().expose_secret().to_owned())
        };
        for bytes in [&b"Bearer s3cret\r\n"[..], b"\xef\xbb\xbfs3cret\n", b"\"s3cret\"\n", b"  s3cret"] {
            assert_eq!(written(bytes).unwrap(), "s3cret");
        }
        let long = vec![b's'; 1_048_577];
        for (bytes, words) in [
            (&b"s3cret one\n"[..], "has blanks"),
            (b"s3cret\nsecond\n", "has several lines"),
            (b"\xff\xfes\x003\x00", "is no text in UTF-8"),
            (b"s3cret\x00", "has control or invisible characters"),
            (b"\n\n", "is empty"),
            (b"TOKEN=s3cret", "has characters that no token has"),
            (&long, "is longer than any secret"),
        ] {
            let error = written(bytes).unwrap_err();
            let (told, debug) = (error.to_string(), format!("{error:?}"));
            assert!(told.contains(words) && told.contains(path.to_str().unwrap()), "{words}: {told}");
            assert!(!told.contains("s3cret") && !debug.contains("s3cret"), "{told} {debug}");
        }
        // What has no end is not read at all.
        let ConfigError::UnreadableSecret { path: endless, source, .. } =
            password("x", Path::new("/dev/zero")).unwrap_err()
        else {
            panic!("/dev/zero was read");
        };
        assert_eq!((endless.as_path(), source.to_string().as_str()), (Path::new("/dev/zero"), "it is no regular file"));
        std::fs::write(&path, "two words\n").unwrap();
        assert_eq!(password("x", &path).unwrap().expose_secret(), "two words");
    }

    #[test]
    fn a_variable_is_read_as_a_file_is() {
        let read = |value: &str| from_variable(value.into()).map(|token| token.expose_secret().to_owned());
        assert_eq!(read("Bearer s3cret ").unwrap(), "s3cret");
        assert_eq!(
            read("s3cret x").unwrap_err().to_string(),
            "$IONOS_TOKEN has blanks before, in or after the secret; write the secret alone"
        );
        assert!(read(" ").unwrap_err().to_string().starts_with("$IONOS_TOKEN is empty"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ionos_token(Some(Path::new("/nowhere/token"))).unwrap_err().to_string();
        assert!(error.contains("dns.ionos.token_file") && error.contains("/nowhere/token"), "{error}");
    }
}
