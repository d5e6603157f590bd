//! The settings: read and checked once at the start, one file per section. Secrets stay out of them; they name files, or
//! come from systemd credentials and the environment.

pub mod acme;
pub mod api;
pub mod declared;
pub mod delivery;
pub mod dns;
pub mod experimental;
pub mod exposure;
mod fragment;
pub mod log;
pub mod scheduler;
pub mod secret;
pub mod store;
pub mod time_span;
pub mod trusted;
mod warnings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::acme::AcmeSection;
use crate::config::api::{ApiSection, LimitsSection};
use crate::config::declared::{AutoCertificateEntry, DeclaredSection, ProviderEntry};
use crate::config::delivery::DeliveryEntry;
use crate::config::dns::DnsSection;
use crate::config::experimental::ExperimentalSection;
use crate::config::fragment::SkippedFragments;
use crate::config::log::LogSection;
use crate::config::scheduler::SchedulerSection;
use crate::config::store::{KeysSection, StoreSection};
use crate::config::time_span::TimeSpan;
use crate::domain::declared::DeclaredKey;
use crate::domain::value::secret_text::InvalidSecret;
use crate::runtime::files;

/// All settings, each section with its defaults.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file that was read, and is read again.
    #[serde(skip)]
    origin: Option<PathBuf>,
    /// What could not be read of it, or was passed over.
    #[serde(skip)]
    skipped_fragments: SkippedFragments,
    /// Where the database, the master key file and the first token are kept; default `$STATE_DIRECTORY` (systemd sets
    /// it), else `/var/lib/autocertd`.
    state_directory: Option<PathBuf>,
    /// What this instance is called among those that share a database; see [`Config::instance`].
    instance: Option<String>,
    /// The REST API.
    pub api: ApiSection,
    /// Limits of the API.
    pub limits: LimitsSection,
    /// The database.
    pub store: StoreSection,
    /// The master keys.
    pub keys: KeysSection,
    /// What holds for all ACME providers.
    pub acme: AcmeSection,
    /// DNS-01.
    pub dns: DnsSection,
    /// What may still change.
    pub experimental: ExperimentalSection,
    /// The renewal daemon's pace.
    pub scheduler: SchedulerSection,
    /// The log.
    pub log: LogSection,
    /// What holds for all declared resources.
    pub declared: DeclaredSection,
    /// Declared providers.
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderEntry>,
    /// Declared auto-certificates.
    #[serde(rename = "auto_certificate")]
    pub auto_certificates: Vec<AutoCertificateEntry>,
    /// Where certificates go.
    #[serde(rename = "delivery")]
    pub deliveries: Vec<DeliveryEntry>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}; check the path and its permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or holds something that no setting knows.
    #[error("{}: at {key}: {detail}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key path.
        key: String,
        /// The parser's words with line and caret.
        detail: String,
    },
    /// A value is out of its range.
    #[error("{key} = {value}: {rule}")]
    OutOfRange {
        /// The key path.
        key: &'static str,
        /// The value that was found.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// Something that the settings declare cannot be used.
    #[error("[[{kind}]] {key}: {fault}")]
    InvalidDeclaration {
        /// Provider, `auto_certificate` or delivery.
        kind: &'static str,
        /// Its key.
        key: DeclaredKey,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// A key is there twice.
    #[error("[[{kind}]] {key}: there are two of this key, {}; give each its own", two_files(.first, .second))]
    Duplicate {
        /// Provider, `auto_certificate` or delivery.
        kind: &'static str,
        /// The key.
        key: DeclaredKey,
        /// The file of the first one.
        first: PathBuf,
        /// The file of the second one, which may be the same.
        second: PathBuf,
    },
    /// Something else stands where a settings file is expected.
    #[error("{} is {kind}, but its name ends in .toml; move it out of conf.d, or rename it", .path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A link leads nowhere, and settings in force must not change because of that.
    #[error("{} is a link to a file that does not exist; restore the file, or remove the link", .path.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// The limits of a CA cannot be used.
    #[error("[[acme.limits]] {server}: {fault}")]
    InvalidLimits {
        /// The directory of the CA.
        server: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// The instances that share a database cannot be told apart.
    #[error("this host has no name to tell it from the others that share the database; set `instance`")]
    NoInstance,
    /// A file holds something else than the secret that it should.
    #[error("{key}: {} {fault}", .path.display())]
    UnusableSecret {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        fault: InvalidSecret,
    },
    /// An environment variable holds something else than the secret that it should.
    #[error("${name} {fault}")]
    UnusableVariable {
        /// The variable.
        name: &'static str,
        /// What is wrong, and what to do.
        fault: InvalidSecret,
    },
    /// A secret cannot be read.
    #[error("{key}: cannot read {}", .path.display())]
    UnreadableSecret {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Config {
    /// Reads the settings from `path`; without one from `/etc/autocertd/autocertd.toml` where that exists, else all
    /// defaults.
    ///
    /// # Errors
    /// Where the file cannot be read, is malformed, or a value is out of its range.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let origin = path.map_or_else(|| existing_path(Path::new(DEFAULT_PATH)), |path| Ok(Some(path)))?;
        let mut config = origin.map_or_else(|| Ok(Self::default()), Self::read_file)?;
        config.check()?;
        config.origin = origin.map(Path::to_owned);
        config.instance = Some(config.determine_instance()?);
        Ok(config)
    }

    /// Reads the settings anew, from where they were read. A link in `conf.d` that leads nowhere refuses them all: what is in
    /// force already is better than a part of it.
    ///
    /// # Errors
    /// As [`Config::load`]; besides, where a link leads nowhere.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        let fresh = Self::load(self.origin.as_deref())?;
        match fresh.skipped_fragments.dangling_links.first() {
            Some(path) => Err(ConfigError::DanglingLink { path: path.clone() }),
            None => Ok(fresh),
        }
    }

    /// Whether each file of `conf.d` could be read. Where a link led nowhere, what is not declared may only be missing.
    pub const fn is_complete(&self) -> bool {
        self.skipped_fragments.dangling_links.is_empty()
    }

    /// The sections in which `fresh` differs although they hold from start to stop.
    pub fn sections_needing_restart(&self, fresh: &Self) -> Vec<&'static str> {
        let before = self.fixed_sections();
        before
            .into_iter()
            .zip(fresh.fixed_sections())
            .filter(|(one, other)| one != other)
            .map(|(one, _)| one.0)
            .collect()
    }

    /// These settings, but with the sections of `running` that hold from start to stop.
    #[must_use]
    pub fn with_fixed_sections_of(self, running: &Self) -> Self {
        Self {
            origin: self.origin,
            skipped_fragments: self.skipped_fragments,
            acme: self.acme,
            dns: DnsSection { delegated: running.dns.delegated.clone(), ..self.dns },
            experimental: self.experimental,
            declared: self.declared,
            providers: self.providers,
            auto_certificates: self.auto_certificates,
            deliveries: self.deliveries,
            ..running.clone()
        }
    }

    fn fixed_sections(&self) -> [(&'static str, Value); 9] {
        [
            ("state_directory", json!(self.state_directory)),
            ("instance", json!(self.instance)),
            ("api", json!(self.api)),
            ("limits", json!(self.limits)),
            ("store", json!(self.store)),
            ("keys", json!(self.keys)),
            ("dns.delegated", json!(self.dns.delegated)),
            ("scheduler", json!(self.scheduler)),
            ("log", json!(self.log)),
        ]
    }

    /// Reads settings from TOML text; `origin` is named in errors.
    ///
    /// # Errors
    /// Where the text is malformed.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        parse(text, origin)
    }

    /// Where the database, the master key file and the first token are kept.
    pub fn state_directory(&self) -> PathBuf {
        let from_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        self.state_directory.clone().or_else(from_systemd).unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIRECTORY))
    }

    /// Where the Unix socket of the daemon is: `api.socket`, else in `/run/autocertd` where systemd made that for the
    /// usual state directory, else in the state directory. The daemon and its commands come to the same answer.
    pub fn socket(&self) -> PathBuf {
        let state = self.state_directory();
        let made_by_systemd =
            state == Path::new(DEFAULT_STATE_DIRECTORY) && Path::new(SYSTEMD_RUNTIME_DIRECTORY).is_dir();
        let folder = if made_by_systemd { PathBuf::from(SYSTEMD_RUNTIME_DIRECTORY) } else { state };
        self.api.socket.clone().unwrap_or_else(|| folder.join("autocertd.sock"))
    }

    /// How long a stop waits for what is running: `scheduler.stop_grace`, and no less than requests have.
    pub fn stop_grace(&self) -> Duration {
        self.scheduler.stop_grace.duration().max(MIN_STOP_GRACE)
    }

    /// The end of a stop in which something hangs.
    pub fn stop_timeout(&self) -> Duration {
        self.stop_grace() + EXIT_ALLOWANCE
    }

    /// Where the master keys are.
    pub fn key_file(&self) -> PathBuf {
        self.keys
            .file
            .clone()
            .or_else(|| secret::systemd_credential_path("master-key"))
            .unwrap_or_else(|| self.state_directory().join("master.key"))
    }

    /// What this instance is called: `instance`, else the host's name where several may share a PostgreSQL database. A
    /// SQLite file has one user, whatever the host is called.
    pub fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(|| DEFAULT_INSTANCE.to_owned())
    }

    fn determine_instance(&self) -> Result<String, ConfigError> {
        let shared = self.store.settings(&self.state_directory()).is_ok_and(|settings| settings.url.is_shared());
        match &self.instance {
            Some(name) => Ok(name.trim().to_owned()),
            None if !shared => Ok(DEFAULT_INSTANCE.to_owned()),
            // By the system call: a sandbox may hide /proc/sys.
            None => nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .filter(|name| !name.is_empty())
                .ok_or(ConfigError::NoInstance),
        }
    }

    fn read_file(path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::parse(&read_text(path)?, path)?;
        config.read_fragments(path)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let out_of_range = |key, value: String, rule| Err(ConfigError::OutOfRange { key, value, rule });
        if self.scheduler.concurrency == 0 {
            return out_of_range("scheduler.concurrency", "0".to_owned(), "at least 1");
        }
        if let Some(number @ ..8) = self.api.max_connections {
            return out_of_range("api.max_connections", number.to_string(), "at least 8");
        }
        if self.api.request_timeout < TimeSpan::seconds(1) {
            return out_of_range("api.request_timeout", self.api.request_timeout.to_string(), "at least 1s");
        }
        let scan = self.scheduler.scan_every;
        let whole_minutes = scan.duration().as_millis().is_multiple_of(60_000);
        if !(TimeSpan::seconds(60)..=TimeSpan::seconds(59 * 60)).contains(&scan) || !whole_minutes {
            return out_of_range("scheduler.scan_every", scan.to_string(), "whole minutes between 1m and 59m");
        }
        self.dns.propagation.check()?;
        self.acme.check_limits()?;
        self.dns.delegated.check()?;
        self.check_declared()
    }
}

/// The path, where there is something; an error is not taken for nothing, and neither is a link that leads nowhere.
fn existing_path(path: &Path) -> Result<Option<&Path>, ConfigError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() && !path.exists() => {
            Err(ConfigError::DanglingLink { path: path.to_owned() })
        }
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    // An empty file by the name that everybody knows.
    if fragment::is_null(path) {
        return Ok(String::new());
    }
    files::read_text_at_once(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

fn two_files(first: &Path, second: &Path) -> String {
    if first == second {
        format!("both in {}", first.display())
    } else {
        format!("one in {} and one in {}", first.display(), second.display())
    }
}

/// Reads TOML, and names the place of what is wrong.
fn parse<T: DeserializeOwned>(text: &str, origin: &Path) -> Result<T, ConfigError> {
    let malformed = |key: String, detail: String| ConfigError::Malformed { path: origin.to_owned(), key, detail };
    let table = toml::Deserializer::parse(text).map_err(|error| malformed("the file".to_owned(), error.to_string()))?;
    serde_path_to_error::deserialize(table)
        .map_err(|error| malformed(error.path().to_string(), error.inner().to_string()))
}

const DEFAULT_PATH: &str = "/etc/autocertd/autocertd.toml";
const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/autocertd";
/// `RuntimeDirectory=autocertd` of the unit.
const SYSTEMD_RUNTIME_DIRECTORY: &str = "/run/autocertd";
/// How long running requests may go on after the stop has begun.
pub const MIN_STOP_GRACE: Duration = Duration::from_secs(10);
/// For the database to close, and threads to end.
const EXIT_ALLOWANCE: Duration = Duration::from_secs(5);
const DEFAULT_INSTANCE: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let config = Config::parse(text, Path::new("test.toml"))?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn the_example_file_is_valid_and_says_the_defaults() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/autocertd.toml");
        let commented = std::fs::read_to_string(&example).unwrap();
        parse(&commented).unwrap();
        let every_setting: String = commented
            .lines()
            .map(|line| {
                line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty()).unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        parse(&every_setting).unwrap_or_else(|error| panic!("{error}\n{every_setting}"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("[acme]\naccept_terms = true\n").unwrap_err().to_string();
        assert!(error.contains("acme") && error.contains("accept_terms") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn fragments_are_read_in_order_and_hold_only_what_is_declared() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("autocertd.toml");
        let fragments = folder.path().join("conf.d");
        std::fs::create_dir(&fragments).unwrap();
        std::fs::write(&settings, "").unwrap();
        let delivery = |key: &str| format!("[[delivery]]\nkey = '{key}'\nhook.command = ['/bin/true']\n");
        std::fs::write(fragments.join("20-b.toml"), delivery("b")).unwrap();
        std::fs::write(fragments.join("10-a.toml"), delivery("a")).unwrap();
        std::fs::write(fragments.join("README"), "no settings").unwrap();
        let keys = |config: &Config| config.deliveries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys(&Config::load(Some(&settings)).unwrap()), ["a", "b"]);

        std::fs::write(fragments.join("30-c.toml"), delivery("a")).unwrap();
        let error = Config::load(Some(&settings)).unwrap_err().to_string();
        let (first, second) = (fragments.join("10-a.toml"), fragments.join("30-c.toml"));
        let words = format!("one in {} and one in {}; give each its own", first.display(), second.display());
        assert_eq!(error, format!("[[delivery]] a: there are two of this key, {words}"));
        std::fs::write(fragments.join("30-c.toml"), "[api]\n").unwrap();
        let error = Config::load(Some(&settings)).unwrap_err().to_string();
        assert!(error.contains("30-c.toml") && error.contains("api"), "{error}");
    }

    #[test]
    fn what_is_declared_must_fit_together() {
        let provider = "[[provider]]\nkey = 'le'\nemail = 'a@example.com'\nserver = 'https://ca.example/directory'\n";
        let wish = |provider: &str| {
            format!("[[auto_certificate]]\nkey = 'w'\nprovider = '{provider}'\ncommon_name = 'a.example'\n")
        };
        assert!(parse(&format!("{provider}{}", wish("le"))).is_ok());
        assert!(parse(&wish("3f2504e0-4f89-41d3-9a0c-0305e82c3301")).is_ok());
        let error = parse(&format!("{provider}{}", wish("lee"))).unwrap_err().to_string();
        assert!(error.contains("[[auto_certificate]] w") && error.contains("\"lee\""), "{error}");
        let error = parse(&format!("{provider}staging = 'other'\n")).unwrap_err().to_string();
        assert!(error.contains("[[provider]] le") && error.contains("staging"), "{error}");
        assert!(
            parse("[[delivery]]\nkey = 'x'\n")
                .unwrap_err()
                .to_string()
                .starts_with("[[delivery]] x: it delivers nothing")
        );
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_rule() {
        let error = parse("[scheduler]\nconcurrency = 0\n").unwrap_err().to_string();
        assert_eq!(error, "scheduler.concurrency = 0: at least 1");
        let error = parse("[scheduler]\nscan_every = \"2h\"\n").unwrap_err().to_string();
        assert!(error.contains("between 1m and 59m"), "{error}");
        assert!(parse("[scheduler]\nscan_every = \"90s\"\n").is_err());
        let error = parse("[dns.propagation]\nwait = \"2h\"\n").unwrap_err().to_string();
        assert_eq!(error, "dns.propagation.wait = 2h: at most 1h");
    }
}
