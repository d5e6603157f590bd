//! `conf.d`: further files beside the settings file, in the order of their names, for what is declared.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::declared::{AutoCertificateEntry, ProviderEntry};
use crate::config::delivery::DeliveryEntry;
use crate::config::{Config, ConfigError, is_there, parse};

/// What a file in `conf.d` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fragment {
    #[serde(rename = "provider")]
    providers: Vec<ProviderEntry>,
    #[serde(rename = "auto_certificate")]
    auto_certificates: Vec<AutoCertificateEntry>,
    #[serde(rename = "delivery")]
    pub(super) deliveries: Vec<DeliveryEntry>,
}

impl Config {
    /// Adds what the files in the folder `conf.d` beside the settings file declare.
    pub(super) fn read_fragments(&mut self, settings: &Path) -> Result<(), ConfigError> {
        for path in files_beside(settings)? {
            let fragment: Fragment = parse(&super::read_text(&path)?, &path)?;
            self.providers.extend(fragment.providers);
            self.auto_certificates.extend(fragment.auto_certificates);
            self.deliveries.extend(fragment.deliveries);
        }
        Ok(())
    }
}

/// The files of the folder `conf.d` beside the settings whose names end in `.toml`, in order; none where there is no
/// folder.
pub(super) fn files_beside(settings: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = settings.with_file_name(FOLDER);
    if is_there(&folder)?.is_none() {
        return Ok(Vec::new());
    }
    let unreadable = |source| ConfigError::Unreadable { path: folder.clone(), source };
    let entries = std::fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

const FOLDER: &str = "conf.d";
