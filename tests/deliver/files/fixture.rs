//! A directory for one test, and looks at what is in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use autocertd::config::delivery::FilesEntry;
use autocertd::deliver::{DeliveryPayload, FilesDelivery};
use autocertd::domain::certificate::leaf::Leaf;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::files::payloads::{LABEL, entry};

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) entry: FilesEntry,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut FilesEntry)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut entry = entry(&folder.path().join("certs"));
        change(&mut entry);
        Self { folder, entry }
    }

    pub(crate) fn files(&self) -> FilesDelivery {
        FilesDelivery::new(&self.entry)
    }

    /// The folder of the certificate.
    pub(crate) fn certificate_folder(&self) -> PathBuf {
        self.entry.directory.join(LABEL)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.certificate_folder().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn link(&self, name: &str) -> Option<String> {
        std::fs::read_link(self.path(name)).ok().map(|target| target.into_os_string().into_string().unwrap())
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().unwrap_or_else(|error| panic!("{name}: {error}")).mode() & 0o7777
    }

    /// The version of a parcel, as `.current` and `.previous` point at it.
    pub(crate) fn version(parcel: &DeliveryPayload) -> String {
        format!(".versions/{}", parcel.certificate)
    }

    /// Checks that this very parcel is served.
    pub(crate) fn assert_serves(&self, parcel: &DeliveryPayload) {
        assert_eq!(self.text("fullchain.pem"), parcel.full_chain_pem());
        assert_eq!(self.text("privkey.pem").trim_end(), parcel.private_key.expose_secret().trim_end());
        Leaf::from_pem(&self.text("cert.pem")).unwrap().check_key(&self.text("privkey.pem")).unwrap();
    }

    /// Checks that there is nothing else than what belongs there, and gives the versions.
    pub(crate) fn assert_tidy(&self) -> Vec<String> {
        let names = names(&self.certificate_folder());
        let strangers = names.iter().filter(|name| !OWN_NAMES.contains(&name.as_str()));
        assert_eq!(strangers.collect::<Vec<_>>(), [""; 0]);
        let mut versions = self::names(&self.path(".versions"));
        versions.retain(|name| name != ".lock");
        assert!(versions.iter().all(|version| !version.starts_with('.')), "{versions:?}");
        versions
    }

    /// All that is in the directory: each path with what is there.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.entry.directory.clone()];
        while let Some(folder) = folders.pop() {
            for name in names(&folder) {
                let path = folder.join(name);
                let metadata = path.symlink_metadata().unwrap();
                let content = if metadata.is_dir() {
                    folders.push(path.clone());
                    String::new()
                } else if metadata.is_symlink() {
                    std::fs::read_link(&path).unwrap().display().to_string()
                } else {
                    String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
                };
                let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
                found.insert(path, format!("{mode:o} {uid}:{gid} {content}"));
            }
        }
        found
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const OWN_NAMES: [&str; 9] = [
    ".current",
    ".previous",
    ".versions",
    "bundle.p12",
    "cert.pem",
    "chain.pem",
    "combined.pem",
    "fullchain.pem",
    "privkey.pem",
];
