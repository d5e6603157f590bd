//! The folder of one certificate. What is live is swapped by renaming one link, so that whoever opens `.current` once
//! finds a certificate and its own key, also where only this folder is mounted:
//!
//! ```text
//! fullchain.pem -> .current/fullchain.pem     and so on, made once
//! .current      -> .versions/<certificate id> renamed over: the swap
//! .previous     -> .versions/<certificate id> what a roll-back brings back
//! .versions/<certificate id>/                 whole and on the disk before it has this name
//! ```
//!
//! A certificate that is published again in another form, such as for another group, gets a version `<id>.2`. Every step
//! may be the last one: the next publication goes on from there and removes what is left over.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;

use nix::unistd::geteuid;
use uuid::Uuid;

use crate::deliver::files::access::FileAccess;
use crate::deliver::files::contents::{FULL_CHAIN, NAMES, PRIVATE_KEY, PublishedFile};
use crate::deliver::files::error::FilesError;
use crate::deliver::files::folder::{Folder, FolderLock};
use crate::deliver::files::{PublishOutcome, RollBackOutcome};
use crate::domain::certificate::leaf::Leaf;
use crate::domain::value::moment::Moment;

type Result<T> = std::result::Result<T, FilesError>;

/// The folder of one certificate, open.
#[derive(Debug)]
pub(super) struct CertificateFolder {
    folder: Folder,
    versions: Folder,
}

impl CertificateFolder {
    /// Opens it; nothing where nothing was published yet.
    pub(super) fn open(directory: &Path, label: &str) -> Result<Option<Self>> {
        check_label(label)?;
        let Some(directory) = Folder::open(directory)? else { return Ok(None) };
        let Some(folder) = directory.open_child(label)? else { return Ok(None) };
        Ok(folder.open_child(VERSIONS)?.map(|versions| Self { folder, versions }))
    }

    /// Opens it, or makes it, and the directory around it too.
    pub(super) fn open_or_create(directory: &Path, label: &str, access: &FileAccess) -> Result<Self> {
        check_label(label)?;
        let directory = match Folder::open(directory)? {
            Some(directory) => directory,
            None => make_directory(directory, access)?,
        };
        let folder = open_or_create_child(&directory, label.as_ref(), access)?;
        let versions = open_or_create_child(&folder, VERSIONS.as_ref(), access)?;
        let opened = Self { folder, versions };
        let folder_is_own = opened.is_own(access)?;
        opened.versions.apply_access(access)?;
        if folder_is_own {
            opened.folder.apply_access(access)?;
        }
        Ok(opened)
    }

    /// Keeps other publications away as long as the lock that it gives is held.
    pub(super) fn lock(&self) -> Result<FolderLock> {
        self.versions.lock(LOCK)
    }

    /// Makes `contents` live, as a version of `origin`: a certificate's id, or [`PLACEHOLDER`]. Under the lock.
    pub(super) fn publish(
        &self,
        origin: &str,
        contents: &[PublishedFile],
        access: &FileAccess,
    ) -> Result<PublishOutcome> {
        self.check_foreign_files(|name| contents.iter().any(|content| content.name == name))?;
        let live = self.version_of_link(CURRENT)?;
        let is_live = live.as_ref().map_or(Ok(false), |live| self.has_same_contents(live, contents, access))?;
        let mut replaced = false;
        if !is_live {
            let version = self.add_version(origin, contents, access)?;
            if let Some(live) = live
                && live.origin() != origin
                && live.origin() != PLACEHOLDER
                && self.is_complete(&live)?
            {
                self.point_link(PREVIOUS, &live)?;
                replaced = true;
            }
            self.point_link(CURRENT, &version)?;
        }
        let links_changed = self.link_files(|name| contents.iter().any(|content| content.name == name))?;
        self.try_remove_leftovers();
        Ok(match (is_live, links_changed) {
            _ if replaced => PublishOutcome::Replaced,
            (true, false) => PublishOutcome::Unchanged,
            _ => PublishOutcome::Changed,
        })
    }

    /// Whether exactly `contents` are live, with these rights.
    pub(super) fn is_live(&self, contents: &[PublishedFile], access: &FileAccess) -> Result<bool> {
        if !self.versions.has_access(access)? || self.is_own(access)? && !self.folder.has_access(access)? {
            return Ok(false);
        }
        for name in NAMES {
            let is_wanted = contents.iter().any(|content| content.name == name);
            if is_wanted != self.has_own_link(name) {
                return Ok(false);
            }
        }
        self.version_of_link(CURRENT)?.map_or(Ok(false), |live| self.has_same_contents(&live, contents, access))
    }

    /// Whether a certificate is live, or a placeholder with the same files and rights as `contents`.
    pub(super) fn needs_no_placeholder(&self, contents: &[PublishedFile], access: &FileAccess) -> Result<bool> {
        match self.version_of_link(CURRENT)? {
            Some(live) if live.origin() == PLACEHOLDER => self.has_same_files(&live, contents, access),
            Some(live) => self.is_complete(&live),
            None => Ok(false),
        }
    }

    /// Makes the previous certificate live again, unless it has expired at `now`. Under the lock.
    pub(super) fn roll_back(&self, now: Moment) -> Result<RollBackOutcome> {
        let Some(previous) = self.version_of_link(PREVIOUS)? else { return Ok(RollBackOutcome::NoPrevious) };
        if self.version_of_link(CURRENT)?.as_ref() == Some(&previous) || !self.is_complete(&previous)? {
            return Ok(RollBackOutcome::NoPrevious);
        }
        let Some(leaf) = self.read_leaf(&previous)? else { return Ok(RollBackOutcome::NoPrevious) };
        if leaf.not_after <= now {
            return Ok(RollBackOutcome::Expired(leaf.not_after));
        }
        let names = self.versions.open_child(&previous.0)?.map_or(Ok(Vec::new()), |version| version.list_names())?;
        let is_wanted = |name: &str| names.iter().any(|have| have == name);
        self.check_foreign_files(is_wanted)?;
        self.point_link(CURRENT, &previous)?;
        self.folder.remove(PREVIOUS)?;
        self.folder.sync()?;
        self.link_files(is_wanted)?;
        self.try_remove_leftovers();
        Ok(RollBackOutcome::Done)
    }

    /// Whether the folder was made here, so that its rights follow the settings; one that somebody else made stays as it
    /// is. What is inside was surely made here, by whoever ran this the last time.
    fn is_own(&self, access: &FileAccess) -> Result<bool> {
        let owners = [geteuid().as_raw(), access.uid, self.versions.owner()?];
        Ok(owners.contains(&self.folder.owner()?))
    }

    /// Looks whether something of somebody else stands where a link must be; nothing has been changed by then.
    fn check_foreign_files(&self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        for name in NAMES.into_iter().filter(|name| is_wanted(name)) {
            if self.folder.read_link(name)?.is_some_and(|target| target != *link_target(name)) {
                return Err(FilesError::ForeignFile { path: self.folder.path().join(name) });
            }
        }
        self.version_of_link(PREVIOUS).map(drop)
    }

    /// The version at which `.current` or `.previous` points, which need not be there.
    fn version_of_link(&self, link: &str) -> Result<Option<FolderVersion>> {
        let Some(target) = self.folder.read_link(link)? else { return Ok(None) };
        let name = Path::new(&target).strip_prefix(VERSIONS).ok().map(Path::as_os_str);
        let version = name.and_then(FolderVersion::parse);
        version.map(Some).ok_or_else(|| FilesError::ForeignFile { path: self.folder.path().join(link) })
    }

    /// Adds a version. One that a publication left there before it was cut off is taken as it is.
    fn add_version(&self, origin: &str, contents: &[PublishedFile], access: &FileAccess) -> Result<FolderVersion> {
        let mut number = 1;
        let version = loop {
            let version = FolderVersion::from_origin(origin, number);
            if self.versions.open_child(&version.0)?.is_none() {
                break version;
            }
            if self.has_same_contents(&version, contents, access)? {
                self.versions.sync()?;
                return Ok(version);
            }
            number += 1;
        };
        let written = self.write_version(&version, contents, access);
        if written.is_err() {
            // On a full disk what is half written would stand in the way of others.
            let _removed = self.remove_version(DRAFT);
        }
        written.map(|()| version)
    }

    fn write_version(&self, version: &FolderVersion, contents: &[PublishedFile], access: &FileAccess) -> Result<()> {
        self.remove_version(DRAFT)?;
        let draft = self.versions.create_child(DRAFT)?;
        for content in contents {
            draft.write(content.name, &content.bytes, access, content.mode)?;
        }
        draft.apply_access(access)?;
        draft.sync()?;
        self.versions.rename(DRAFT, &version.0)?;
        self.versions.sync()
    }

    /// The swap: `.current` or `.previous` points at `version` from one instant to the next.
    fn point_link(&self, link: &str, version: &FolderVersion) -> Result<()> {
        let draft = draft_name(link);
        self.folder.remove(&draft)?;
        self.folder.create_link(&draft, &format!("{VERSIONS}/{}", version.0))?;
        self.folder.rename(&draft, link)?;
        self.folder.sync()
    }

    /// Sees to it that there is a link for each wanted name, and none of ours for another; tells whether one was missing
    /// or too many.
    fn link_files(&self, is_wanted: impl Fn(&str) -> bool) -> Result<bool> {
        let mut changed = false;
        for name in NAMES {
            match (is_wanted(name), self.has_own_link(name)) {
                (true, false) => self.folder.create_link(name, &link_target(name))?,
                (false, true) => self.folder.remove(name)?,
                (true, true) | (false, false) => continue,
            }
            changed = true;
        }
        if changed {
            self.folder.sync()?;
        }
        Ok(changed)
    }

    fn has_own_link(&self, name: &str) -> bool {
        self.folder.read_link(name).is_ok_and(|target| target.is_some_and(|target| target == *link_target(name)))
    }

    /// Whether the version has the same files as `contents`, each with its rights.
    fn has_same_files(&self, version: &FolderVersion, contents: &[PublishedFile], access: &FileAccess) -> Result<bool> {
        let Some(folder) = self.versions.open_child(&version.0)? else { return Ok(false) };
        let names: BTreeSet<OsString> = folder.list_names()?.into_iter().collect();
        if !folder.has_access(access)? || names != contents.iter().map(|content| content.name.into()).collect() {
            return Ok(false);
        }
        for content in contents {
            let found = folder.plain_file(content.name)?;
            if found.is_none_or(|(_, metadata)| !access.matches(&metadata, content.mode)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the version is exactly `contents`.
    fn has_same_contents(
        &self,
        version: &FolderVersion,
        contents: &[PublishedFile],
        access: &FileAccess,
    ) -> Result<bool> {
        if !self.has_same_files(version, contents, access)? {
            return Ok(false);
        }
        let Some(folder) = self.versions.open_child(&version.0)? else { return Ok(false) };
        for content in contents {
            if folder.read(content.name, content.bytes.len())?.is_none_or(|bytes| bytes != content.bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the version is there with what a server needs.
    fn is_complete(&self, version: &FolderVersion) -> Result<bool> {
        let Some(folder) = self.versions.open_child(&version.0)? else { return Ok(false) };
        Ok(folder.plain_file(FULL_CHAIN)?.is_some() && folder.plain_file(PRIVATE_KEY)?.is_some())
    }

    /// The certificate of a version, where it can be read.
    fn read_leaf(&self, version: &FolderVersion) -> Result<Option<Leaf>> {
        let Some(folder) = self.versions.open_child(&version.0)? else { return Ok(None) };
        let Some((file, _)) = folder.plain_file(FULL_CHAIN)? else { return Ok(None) };
        let mut text = String::new();
        let read = file.take(MAX_CHAIN_SIZE).read_to_string(&mut text);
        Ok(read.ok().and_then(|_| Leaf::from_pem(&text).ok()))
    }

    /// Removes what is no longer needed. Where that fails, what is live is live all the same.
    fn try_remove_leftovers(&self) {
        if let Err(error) = self.remove_leftovers() {
            let path = self.folder.path().display();
            tracing::warn!(%path, %error, "old versions of a published certificate stay for now");
        }
    }

    fn remove_leftovers(&self) -> Result<()> {
        let kept = [self.version_of_link(CURRENT)?, self.version_of_link(PREVIOUS)?];
        for name in self.versions.list_names()? {
            match FolderVersion::parse(&name) {
                Some(version) if !kept.contains(&Some(version.clone())) => self.remove_version(&version.0)?,
                _ => {}
            }
        }
        self.remove_version(DRAFT)?;
        [CURRENT, PREVIOUS].iter().try_for_each(|link| self.folder.remove(&draft_name(link)))
    }

    /// Removes the files that autocertd may have put there, and the folder, which is kept where there is more in it.
    fn remove_version(&self, name: &str) -> Result<()> {
        let Some(folder) = self.versions.open_child(name)? else { return Ok(()) };
        NAMES.iter().try_for_each(|name| folder.remove(name))?;
        self.versions.remove_folder(name)
    }
}

/// The name of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FolderVersion(String);

impl FolderVersion {
    /// The how-many-th form of a certificate or placeholder.
    fn from_origin(origin: &str, number: u32) -> Self {
        if number == 1 { Self(origin.to_owned()) } else { Self(format!("{origin}.{number}")) }
    }

    fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let (origin, number) = name.split_once('.').unwrap_or((name, "1"));
        let fits = (origin == PLACEHOLDER || Uuid::parse_str(origin).is_ok()) && number.parse::<u32>().is_ok();
        fits.then(|| Self(name.to_owned()))
    }

    /// The certificate's id, or [`PLACEHOLDER`].
    fn origin(&self) -> &str {
        self.0.split_once('.').map_or(self.0.as_str(), |(origin, _)| origin)
    }
}

/// A label comes from names that people give; it must not lead out of the directory.
fn check_label(label: &str) -> Result<()> {
    let mut parts = Path::new(label).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(part)), None) if part == label && !label.contains('\0') => Ok(()),
        _ => Err(FilesError::Label(label.to_owned())),
    }
}

/// Makes the directory that the settings name, but not the one around it: a path with a slip in it is an error.
fn make_directory(path: &Path, access: &FileAccess) -> Result<Folder> {
    let missing =
        || FilesError::Io { doing: "make the folder", path: path.to_owned(), source: nix::Error::ENOENT.into() };
    let (around, name) = path.parent().zip(path.file_name()).ok_or_else(missing)?;
    let around = Folder::open(around)?.ok_or_else(missing)?;
    open_or_create_child(&around, name, access)
}

fn open_or_create_child(around: &Folder, name: &OsStr, access: &FileAccess) -> Result<Folder> {
    if let Some(folder) = around.open_child(name)? {
        return Ok(folder);
    }
    let folder = around.create_child(name)?;
    folder.apply_access(access)?;
    around.sync()?;
    Ok(folder)
}

fn link_target(name: &str) -> String {
    format!("{CURRENT}/{name}")
}

fn draft_name(link: &str) -> String {
    format!("{link}.new")
}

/// The origin of a version that is no certificate.
pub(super) const PLACEHOLDER: &str = "placeholder";
const VERSIONS: &str = ".versions";
const CURRENT: &str = ".current";
const PREVIOUS: &str = ".previous";
const DRAFT: &str = ".draft";
const LOCK: &str = ".lock";
/// In bytes; a chain has a handful of certificates of a few thousand each.
const MAX_CHAIN_SIZE: u64 = 1024 * 1024;
