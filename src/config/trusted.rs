//! What root alone declared: the deliveries that the privileged helper obeys. A file counts only where nobody but root can
//! change it or put another in its place; what else the settings say is not looked at.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::declared::unique;
use crate::config::delivery::DeliveryEntry;
use crate::config::fragment::{self, Fragment};
use crate::config::{Config, ConfigError, USUAL_PATH, parse, read_text};

/// The deliveries in files of root's alone.
#[derive(Debug, Default)]
pub struct Trusted {
    /// The deliveries.
    pub deliveries: Vec<DeliveryEntry>,
    /// The files that were not read.
    pub refused: Vec<Untrusted>,
}

/// A file that others than root could change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not obeyed: {} {fault}", .file.display(), .place.display())]
pub struct Untrusted {
    /// The file.
    pub file: PathBuf,
    /// What of it is at fault: the file itself or a folder above it.
    pub place: PathBuf,
    /// What is wrong with that, and what to do.
    pub fault: &'static str,
}

impl Trusted {
    /// Reads the deliveries in `path`, without one in the usual settings file where that exists, and in the files of
    /// `conf.d` beside it. A file that others can change is not even opened.
    ///
    /// # Errors
    /// Where a file of root's cannot be read or is malformed.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let settings = path.unwrap_or(Path::new(USUAL_PATH));
        let mut trusted = Self::default();
        if path.is_some() || settings.exists() {
            trusted.add(settings, |text| parse::<Config>(text, settings).map(|config| config.deliveries))?;
        }
        for file in fragment::files_beside(settings)? {
            trusted.add(&file, |text| parse::<Fragment>(text, &file).map(|fragment| fragment.deliveries))?;
        }
        unique("delivery", trusted.deliveries.iter().map(|entry| &entry.key))?;
        Ok(trusted)
    }

    fn add(
        &mut self,
        file: &Path,
        read: impl FnOnce(&str) -> Result<Vec<DeliveryEntry>, ConfigError>,
    ) -> Result<(), ConfigError> {
        let missing = |_| Some((file.to_owned(), "is not there, or cannot be looked at"));
        match find_fault(file).unwrap_or_else(missing) {
            Some((place, fault)) => self.refused.push(Untrusted { file: file.to_owned(), place, fault }),
            None => self.deliveries.extend(read(&read_text(file)?)?),
        }
        Ok(())
    }
}

/// Looks at the file and at all folders above it, along the path as given and along the one that it leads to.
fn find_fault(file: &Path) -> std::io::Result<Option<(PathBuf, &'static str)>> {
    for path in [std::path::absolute(file)?, file.canonicalize()?] {
        for (depth, place) in path.ancestors().enumerate() {
            if let Some(fault) = fault_of(&place.symlink_metadata()?, depth) {
                return Ok(Some((place.to_owned(), fault)));
            }
        }
    }
    Ok(None)
}

/// `depth` is 0 for the file, 1 for its folder, and so on.
fn fault_of(metadata: &Metadata, depth: usize) -> Option<&'static str> {
    let writable = metadata.mode() & OTHERS_WRITE != 0;
    // In a sticky folder nobody moves or removes what root owns; yet anybody may add to it.
    let bounded = depth > 1 && metadata.mode() & STICKY != 0;
    if metadata.uid() != ROOT {
        Some("does not belong to root")
    } else if writable && !bounded && !metadata.is_symlink() {
        Some("can be written by others than root; chmod go-w makes it root's alone")
    } else {
        None
    }
}

const ROOT: u32 = 0;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
