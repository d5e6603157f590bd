//! The settings: read and checked once at the start, one file per section. Secrets stay out of them; they name files, or
//! come from systemd credentials and the environment.

pub mod acme;
pub mod api;
pub mod dns;
pub mod log;
pub mod scheduler;
pub mod secret;
pub mod span;
pub mod store;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::acme::AcmeSection;
use crate::config::api::{ApiSection, LimitsSection};
use crate::config::dns::DnsSection;
use crate::config::log::LogSection;
use crate::config::scheduler::SchedulerSection;
use crate::config::span::Span;
use crate::config::store::{KeysSection, StoreSection};

/// All settings, each section with its defaults.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database, the master key file and the first token are kept; default `$STATE_DIRECTORY` (systemd sets
    /// it), else `/var/lib/autocertd`.
    state_directory: Option<PathBuf>,
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
    /// The renewal daemon's pace.
    pub scheduler: SchedulerSection,
    /// The log.
    pub log: LogSection,
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
        let usual = Path::new(USUAL_PATH);
        let config = match path {
            Some(path) => Self::read(path)?,
            None if usual.exists() => Self::read(usual)?,
            None => Self::default(),
        };
        config.check()?;
        Ok(config)
    }

    /// Reads settings from TOML text; `origin` is named in errors.
    ///
    /// # Errors
    /// Where the text is malformed.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let malformed = |key: String, detail: String| ConfigError::Malformed { path: origin.to_owned(), key, detail };
        let table =
            toml::Deserializer::parse(text).map_err(|error| malformed("the file".to_owned(), error.to_string()))?;
        serde_path_to_error::deserialize(table)
            .map_err(|error| malformed(error.path().to_string(), error.inner().to_string()))
    }

    /// Where the database, the master key file and the first token are kept.
    pub fn state_directory(&self) -> PathBuf {
        let from_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        self.state_directory.clone().or_else(from_systemd).unwrap_or_else(|| PathBuf::from(USUAL_STATE_DIRECTORY))
    }

    /// Where the Unix socket of the daemon is: `api.socket`, else in `/run/autocertd` where systemd made that for the
    /// usual state directory, else in the state directory. The daemon and its commands come to the same answer.
    pub fn socket(&self) -> PathBuf {
        let state = self.state_directory();
        let made_by_systemd = state == Path::new(USUAL_STATE_DIRECTORY) && Path::new(USUAL_RUNTIME_DIRECTORY).is_dir();
        let folder = if made_by_systemd { PathBuf::from(USUAL_RUNTIME_DIRECTORY) } else { state };
        self.api.socket.clone().unwrap_or_else(|| folder.join("autocertd.sock"))
    }

    /// Where the master keys are.
    pub fn key_file(&self) -> PathBuf {
        self.keys
            .file
            .clone()
            .or_else(|| secret::credential("master-key"))
            .unwrap_or_else(|| self.state_directory().join("master.key"))
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let out_of_range = |key, value: String, rule| Err(ConfigError::OutOfRange { key, value, rule });
        if self.scheduler.concurrency == 0 {
            return out_of_range("scheduler.concurrency", "0".to_owned(), "at least 1");
        }
        if self.api.request_timeout < Span::seconds(1) {
            return out_of_range("api.request_timeout", self.api.request_timeout.to_string(), "at least 1s");
        }
        let scan = self.scheduler.scan_every;
        let whole_minutes = scan.duration().as_millis().is_multiple_of(60_000);
        if !(Span::seconds(60)..=Span::seconds(59 * 60)).contains(&scan) || !whole_minutes {
            return out_of_range("scheduler.scan_every", scan.to_string(), "whole minutes between 1m and 59m");
        }
        Ok(())
    }
}

const USUAL_PATH: &str = "/etc/autocertd/autocertd.toml";
const USUAL_STATE_DIRECTORY: &str = "/var/lib/autocertd";
/// `RuntimeDirectory=autocertd` of the unit.
const USUAL_RUNTIME_DIRECTORY: &str = "/run/autocertd";

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
    fn a_value_out_of_range_is_named_with_its_rule() {
        let error = parse("[scheduler]\nconcurrency = 0\n").unwrap_err().to_string();
        assert_eq!(error, "scheduler.concurrency = 0: at least 1");
        let error = parse("[scheduler]\nscan_every = \"2h\"\n").unwrap_err().to_string();
        assert!(error.contains("between 1m and 59m"), "{error}");
        assert!(parse("[scheduler]\nscan_every = \"90s\"\n").is_err());
    }
}
