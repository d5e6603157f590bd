//! What root alone declared: the deliveries that the privileged helper obeys. A file counts only where nobody but root can
//! change it or put another in its place; what else the settings say is not looked at.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::config::declared::require_unique_keys;
use crate::config::delivery::DeliveryEntry;
use crate::config::fragment::{self, ConfigFragment};
use crate::config::{Config, ConfigError, DEFAULT_PATH, parse, read_text};

/// The deliveries in files of root's alone.
#[derive(Debug, Default)]
pub struct TrustedDeliveries {
    /// The deliveries.
    pub deliveries: Vec<DeliveryEntry>,
    /// The files that were not read.
    pub refused: Vec<UntrustedFile>,
}

/// A file that others than root could change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not obeyed: {} {fault}", .file.display(), .place.display())]
pub struct UntrustedFile {
    /// The file.
    pub file: PathBuf,
    /// What of it is at fault: the file itself or a folder above it.
    pub place: PathBuf,
    /// What is wrong with that, and what to do.
    pub fault: &'static str,
}

impl TrustedDeliveries {
    /// Reads the deliveries in `path`, without one in the usual settings file where that exists, and in the files of
    /// `conf.d` beside it. A file that others can change is not even opened.
    ///
    /// # Errors
    /// Where a file of root's cannot be read or is malformed.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let settings = path.unwrap_or(Path::new(DEFAULT_PATH));
        let mut trusted = Self::default();
        if path.is_some() || settings.exists() {
            trusted.add(settings, |text| parse::<Config>(text, settings).map(|config| config.deliveries))?;
        }
        for file in fragment::fragment_paths(settings)? {
            trusted.add(&file, |text| parse::<ConfigFragment>(text, &file).map(|fragment| fragment.deliveries))?;
        }
        require_unique_keys("delivery", trusted.deliveries.iter().map(|entry| &entry.key))?;
        Ok(trusted)
    }

    fn add(
        &mut self,
        file: &Path,
        read: impl FnOnce(&str) -> Result<Vec<DeliveryEntry>, ConfigError>,
    ) -> Result<(), ConfigError> {
        let missing = |_| Some((file.to_owned(), "is not there, or cannot be looked at"));
        match find_fault(file).unwrap_or_else(missing) {
            Some((place, fault)) => self.refused.push(UntrustedFile { file: file.to_owned(), place, fault }),
            None => self.deliveries.extend(read(&read_text(file)?)?),
        }
        Ok(())
    }
}

/// Goes to the file step by step, and looks at every folder and every link on the way: whoever can change one of them
/// decides where the path leads.
fn find_fault(file: &Path) -> io::Result<Option<(PathBuf, &'static str)>> {
    let (mut place, mut links) = (PathBuf::from("/"), 0);
    let mut ahead = path_steps(&std::path::absolute(file)?);
    while let Some(step) = ahead.pop() {
        match step {
            PathStep::Root => place = PathBuf::from("/"),
            PathStep::Parent => _ = place.pop(),
            PathStep::Child(name) => place.push(name),
        }
        let metadata = place.symlink_metadata()?;
        if let Some(fault) = check_permissions(&metadata, ahead.len()) {
            return Ok(Some((place, fault)));
        }
        if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::other("too many links"));
            }
            let target = path_steps(&std::fs::read_link(&place)?);
            place.pop();
            ahead.extend(target);
        }
    }
    Ok(None)
}

/// A part of a path.
enum PathStep {
    Root,
    Parent,
    Child(OsString),
}

/// The parts of a path, the first one last.
fn path_steps(path: &Path) -> Vec<PathStep> {
    let step = |component: Component<'_>| match component {
        Component::RootDir => Some(PathStep::Root),
        Component::ParentDir => Some(PathStep::Parent),
        Component::Normal(name) => Some(PathStep::Child(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(step).collect()
}

/// `depth` is the number of steps that follow: 0 for the file, 1 for its folder or the folder of a link to it, and so on.
fn check_permissions(metadata: &Metadata, depth: usize) -> Option<&'static str> {
    let writable = metadata.mode() & GROUP_OR_OTHERS_WRITE != 0;
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
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// As many as Linux follows.
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn a_link_that_others_can_change_is_found_in_the_middle_of_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        if folder.path().metadata().unwrap().uid() != ROOT {
            autocertd_support::skipped::report_skipped("only root can make files that are trusted");
            return;
        }
        for name in ["good", "open"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("good/settings"), "").unwrap();
        symlink("../good", at("open/hop")).unwrap();
        symlink("open/../good", at("straight")).unwrap();
        symlink("open/hop", at("middle")).unwrap();
        symlink("circle", at("circle")).unwrap();
        for sound in ["good/settings", "straight/settings", "middle/settings"] {
            assert_eq!(find_fault(&at(sound)).unwrap(), None, "{sound}");
        }
        chown(at("open"), Some(65_534), None).unwrap();
        // The link and what it leads to are root's, and yet another decides where the path leads.
        for path in ["middle/settings", "straight/settings"] {
            let (place, fault) = find_fault(&at(path)).unwrap().unwrap();
            assert_eq!((place, fault), (at("open"), "does not belong to root"), "{path}");
        }
        assert_eq!(find_fault(&at("good/settings")).unwrap(), None);
        assert!(find_fault(&at("circle")).is_err());
        assert!(find_fault(&at("none")).is_err());
    }
}
