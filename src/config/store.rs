//! Where the data lives and what seals it: the `[store]` and `[keys]` sections.

mod tls;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

pub use crate::config::store::tls::InvalidTls;
use crate::config::time_span::TimeSpan;
use crate::config::{ConfigError, secret};
use crate::domain::value::secret_text::{self, InvalidSecret};

/// The `[store]` section.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// The database: `sqlite:/path/to/file` or `postgres://user@host/database`. Without it, a SQLite file in the state
    /// directory. A password belongs into [`Self::url_file`].
    #[serde(deserialize_with = "unparsed", skip_serializing)]
    pub url: Option<SecretString>,
    /// A file that holds the URL, for one with a password in it.
    pub url_file: Option<PathBuf>,
    /// The most connections at once.
    pub max_connections: u32,
    /// How long one call of the database may take, from `1s` to `1h`; default `30s`.
    pub timeout: TimeSpan,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self { url: None, url_file: None, max_connections: DEFAULT_CONNECTIONS, timeout: TimeSpan::seconds(30) }
    }
}

impl StoreSection {
    /// Whether the URL in the settings themselves has a password in it.
    pub(super) fn has_password(&self) -> bool {
        let url = self.url.as_ref().and_then(|url| Url::parse(url.expose_secret()).ok());
        url.is_some_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name.contains("password")))
    }

    /// The settings of the store, with its file in `state_directory` where nothing else is said.
    ///
    /// # Errors
    /// Where the section contradicts itself, its file cannot be read or its URL is none of a database.
    pub fn settings(&self, state_directory: &Path) -> Result<StoreSettings, InvalidStoreSection> {
        let url = match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => return Err(InvalidStoreSection::TwoUrls),
            (Some(url), None) => StoreUrl::parse(secret_text::url(url.expose_secret())?)?,
            (None, Some(path)) => {
                let text = secret::read("store.url_file", path)?;
                let of_file = |fault: String| InvalidStoreSection::InFile { path: path.clone(), fault };
                let text = secret_text::url(text.expose_secret()).map_err(|fault| of_file(fault.to_string()))?;
                StoreUrl::parse(text).map_err(|_| of_file(format!("holds something else: {InvalidStoreUrl}")))?
            }
            (None, None) => StoreUrl::sqlite(state_directory.join(DEFAULT_FILE)),
        };
        if let StoreUrl::Postgres(url) = &url {
            tls::check(url.expose_secret())?;
        }
        if self.max_connections == 0 {
            return Err(InvalidStoreSection::NoConnections);
        }
        if self.timeout < SHORTEST_TIMEOUT || self.timeout > LONGEST_TIMEOUT {
            return Err(InvalidStoreSection::Timeout(self.timeout));
        }
        Ok(StoreSettings { url, max_connections: self.max_connections, timeout: self.timeout.duration() })
    }
}

/// The `[keys]` section.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysSection {
    /// The file with the keys that seal private keys and credentials; `master.key` in the state directory without it.
    pub file: Option<PathBuf>,
}

/// What is wrong with the `[store]` section.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStoreSection {
    /// Both ways to give the URL were used.
    #[error("store.url and store.url_file are both set; keep one of them")]
    TwoUrls,
    /// The file of the URL cannot be read.
    #[error(transparent)]
    UrlFile(#[from] ConfigError),
    /// The file holds something else.
    #[error("store.url_file: {} {fault}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// The URL in the settings has something in it that no URL has.
    #[error("store.url {0}")]
    UrlText(#[from] InvalidSecret),
    /// The URL is none of a database.
    #[error(transparent)]
    Url(#[from] InvalidStoreUrl),
    /// The TLS parameters of the URL cannot be used.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// No connection is allowed.
    #[error("store.max_connections is 0; allow at least 1")]
    NoConnections,
    /// The time limit is out of bounds.
    #[error("store.timeout is {0}; write a span between {SHORTEST_TIMEOUT} and {LONGEST_TIMEOUT}")]
    Timeout(TimeSpan),
}

/// Where and how to open the store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database.
    pub url: StoreUrl,
    /// The most connections at once, at least 1.
    pub max_connections: u32,
    /// How long one call may take.
    pub timeout: Duration,
}

impl StoreSettings {
    /// With what holds where the settings say nothing.
    pub const fn of(url: StoreUrl) -> Self {
        Self { url, max_connections: DEFAULT_CONNECTIONS, timeout: Duration::from_secs(30) }
    }
}

/// The database of the store. Neither Debug nor Display show a password.
#[derive(Clone)]
pub enum StoreUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database by its URL, which may hold a password.
    Postgres(SecretString),
}

/// A text that is no URL of a database. It says nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's URL is neither sqlite:/path/to/file nor postgres://user@host/database")]
pub struct InvalidStoreUrl;

impl StoreUrl {
    /// What is unwise about it, in words.
    pub fn connection_warning(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url) => tls::insecure_connection_warning(url.expose_secret()),
        }
    }

    /// The file with the private key by which PostgreSQL knows this client, where the URL names one.
    pub fn client_key(&self) -> Option<PathBuf> {
        let Self::Postgres(url) = self else { return None };
        let url = Url::parse(url.expose_secret()).ok()?;
        url.query_pairs().find(|(name, _)| name == "sslkey").map(|(_, path)| PathBuf::from(path.into_owned()))
    }

    /// Whether several hosts may share the database.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Reads `sqlite:<path>`, `sqlite://<path>`, `postgres://...` or `postgresql://...`.
    ///
    /// # Errors
    /// Where the text is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidStoreUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let names_a_file = !path.is_empty() && !path.contains('?') && path != ":memory:";
            return if names_a_file { Ok(Self::sqlite(path)) } else { Err(InvalidStoreUrl) };
        }
        let url = Url::parse(text).map_err(|_| InvalidStoreUrl)?;
        match (url.scheme(), url.cannot_be_a_base()) {
            ("postgres" | "postgresql", false) => Ok(Self::Postgres(SecretString::from(text.to_owned()))),
            _ => Err(InvalidStoreUrl),
        }
    }

    /// A SQLite file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite(path.into())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => match Url::parse(url.expose_secret()) {
                // Parameters may carry a password too, so only the place is shown.
                Ok(url) => write!(f, "postgres://{}{}", url.host_str().unwrap_or_default(), url.path()),
                Err(_) => f.write_str("postgres:"),
            },
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Taken as it is and parsed later: an error at this place would quote the settings' line, password and all.
fn unparsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(SecretString::from(text)))
}

/// SQLite writes one at a time anyway.
const DEFAULT_CONNECTIONS: u32 = 4;
const SHORTEST_TIMEOUT: TimeSpan = TimeSpan::seconds(1);
const LONGEST_TIMEOUT: TimeSpan = TimeSpan::seconds(3_600);
const DEFAULT_FILE: &str = "autocertd.db";

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> StoreSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn without_settings_it_is_a_file_in_the_state_directory() {
        let settings = section("").settings(Path::new("/var/lib/autocertd")).unwrap();
        assert_eq!(settings.url.to_string(), "sqlite:/var/lib/autocertd/autocertd.db");
        assert_eq!(settings.max_connections, 4);
    }

    #[test]
    fn a_password_shows_nowhere() {
        let section = section("url = 'postgres://me:hunter2@db.example/certs?password=hunter2'");
        let settings = section.settings(Path::new("/s")).unwrap();
        assert_eq!(settings.url.to_string(), "postgres://db.example/certs");
        let wrong = self::section("url = 'mysql://me:hunter2@db.example/certs'");
        let error = wrong.settings(Path::new("/s")).unwrap_err();
        let shown = format!("{section:?} {settings:?} {wrong:?} {error:?} {error}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_url_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://me:hunter2@db.example/certs\n").unwrap();
        let from_file = StoreSection { url_file: Some(file), ..StoreSection::default() };
        assert!(matches!(from_file.settings(folder.path()).unwrap().url, StoreUrl::Postgres(_)));
        let file = from_file.url_file.clone().unwrap();
        for (text, words) in [
            ("postgres://me:hunter2@db.example/certs\nsecond", "has several lines"),
            ("DATABASE_URL=postgres://me:hunter2@db.example/certs", "holds something else"),
            ("", "is empty"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = from_file.settings(folder.path()).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains(words) && told.contains(file.to_str().unwrap()), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        std::fs::write(&file, "\u{feff}\"postgres://me:hunter2@db.example/certs\"\r\n").unwrap();
        assert!(matches!(from_file.settings(folder.path()).unwrap().url, StoreUrl::Postgres(_)));
        let both = StoreSection { url: Some("sqlite:/x".to_owned().into()), ..from_file };
        assert!(matches!(both.settings(folder.path()), Err(InvalidStoreSection::TwoUrls)));
        let missing = StoreSection { url_file: Some("/nonexistent".into()), ..StoreSection::default() };
        assert!(matches!(missing.settings(folder.path()), Err(InvalidStoreSection::UrlFile(_))));
    }

    #[test]
    fn what_names_no_database_is_refused() {
        for text in ["", "sqlite:", "sqlite::memory:", "sqlite:/x?mode=ro", "mysql://h/d", "postgres:x", "/var/x.db"] {
            assert!(StoreUrl::parse(text).is_err(), "{text} was taken");
        }
        assert!(toml::from_str::<StoreSection>("colour = 'red'").is_err());
    }
}
