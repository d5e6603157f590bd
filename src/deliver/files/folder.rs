//! A folder held open: everything in it is reached through the handle and no link is followed, so that nobody who may
//! write around it can lead a publication elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use zeroize::Zeroizing;

use crate::deliver::files::access::FileAccess;
use crate::deliver::files::error::FilesError;

type Result<T> = std::result::Result<T, FilesError>;

/// A folder held open.
#[derive(Debug)]
pub(super) struct Folder {
    handle: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder that the settings name; links on the way are the administrator's own. Nothing where there is
    /// none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let options = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Self::from_opened(nix::fcntl::open(path, options, Mode::empty()), path.to_owned())
    }

    /// Opens a folder in this one. Nothing where there is none.
    pub(super) fn open_child(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>> {
        let name = name.as_ref();
        let options = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Self::from_opened(openat(&self.handle, name, options, Mode::empty()), self.path.join(name))
    }

    fn from_opened(opened: nix::Result<std::os::fd::OwnedFd>, path: PathBuf) -> Result<Option<Self>> {
        match opened {
            Ok(handle) => Ok(Some(Self { handle: handle.into(), path })),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => Err(FilesError::NotAFolder { path }),
            Err(error) => Err(FilesError::Io { doing: "open", path, source: error.into() }),
        }
    }

    /// Makes a folder in this one, for nobody but this process's user yet. One that somebody else makes at the same moment
    /// will do.
    pub(super) fn create_child(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        match mkdirat(&self.handle, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(self.io_error("make the folder", name, error)),
        }
        self.open_child(name)?.ok_or_else(|| self.io_error("open", name, Errno::ENOENT))
    }

    /// Gives the folder to whom it is for.
    pub(super) fn apply_access(&self, access: &FileAccess) -> Result<()> {
        access.apply(&self.handle, access.folder_mode(), &self.path)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is with whom it is for.
    pub(super) fn has_access(&self, access: &FileAccess) -> Result<bool> {
        Ok(access.matches(&self.metadata()?, access.folder_mode()))
    }

    /// The number of its owner.
    pub(super) fn owner(&self) -> Result<u32> {
        Ok(self.metadata()?.uid())
    }

    fn metadata(&self) -> Result<Metadata> {
        let failed = |source| FilesError::Io { doing: "look at", path: self.path.clone(), source };
        self.handle.metadata().map_err(failed)
    }

    /// The names in it.
    pub(super) fn list_names(&self) -> Result<Vec<OsString>> {
        let options = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut entries =
            Dir::openat(&self.handle, ".", options, Mode::empty()).map_err(|error| self.io_error("list", "", error))?;
        let names = entries.iter().map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()));
        let names: nix::Result<Vec<OsString>> = names.collect();
        let names = names.map_err(|error| self.io_error("list", "", error))?;
        Ok(names.into_iter().filter(|name| name != "." && name != "..").collect())
    }

    /// Writes a file that is not there yet, down to the disk.
    pub(super) fn write(&self, name: &str, bytes: &[u8], access: &FileAccess, mode: u32) -> Result<()> {
        let options = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let narrow = Mode::from_bits_truncate(mode & 0o600);
        let created =
            openat(&self.handle, name, options, narrow).map_err(|error| self.io_error("make", name, error))?;
        let mut file = File::from(created);
        let failed = |source| FilesError::Io { doing: "write", path: self.path.join(name), source };
        file.write_all(bytes).map_err(failed)?;
        access.apply(&file, mode, &self.path.join(name))?;
        file.sync_all().map_err(failed)
    }

    /// A file's content, where it is a plain file of exactly `length` bytes.
    pub(super) fn read(&self, name: &str, length: usize) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some((mut file, metadata)) = self.plain_file(name)? else { return Ok(None) };
        if metadata.len() != length as u64 {
            return Ok(None);
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        match file.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(FilesError::Io { doing: "read", path: self.path.join(name), source }),
        }
    }

    /// The file of this name, where it is a plain one.
    pub(super) fn plain_file(&self, name: &str) -> Result<Option<(File, Metadata)>> {
        // Not to wait for the other end of a pipe that somebody put there.
        let options = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.handle, name, options, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(error) => return Err(self.io_error("open", name, error)),
        };
        let failed = |source| FilesError::Io { doing: "look at", path: self.path.join(name), source };
        let metadata = file.metadata().map_err(failed)?;
        Ok(metadata.is_file().then_some((file, metadata)))
    }

    /// Keeps other processes from doing the same, as long as the lock that it gives is held.
    pub(super) fn lock(&self, name: &str) -> Result<FolderLock> {
        let options = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.handle, name, options, Mode::S_IRUSR | Mode::S_IWUSR)
            .map(File::from)
            .map_err(|error| self.io_error("make", name, error))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock(file)),
            Err(TryLockError::WouldBlock) => Err(FilesError::Busy { path: self.path.clone() }),
            Err(TryLockError::Error(source)) => {
                Err(FilesError::Io { doing: "lock", path: self.path.join(name), source })
            }
        }
    }

    /// Where the link of this name leads. Nothing where there is none.
    pub(super) fn read_link(&self, name: &str) -> Result<Option<OsString>> {
        match readlinkat(&self.handle, name) {
            Ok(target) => Ok(Some(target)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EINVAL) => Err(FilesError::ForeignFile { path: self.path.join(name) }),
            Err(error) => Err(self.io_error("read", name, error)),
        }
    }

    /// Makes a link where there is nothing yet.
    pub(super) fn create_link(&self, name: &str, target: &str) -> Result<()> {
        symlinkat(target, &self.handle, name).map_err(|error| self.io_error("make the link", name, error))
    }

    /// Gives something in it another name; what had that name is gone in the same instant.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(&self.handle, from, &self.handle, to).map_err(|error| self.io_error("make", to, error))
    }

    /// Removes a file or a link, where it is there.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        self.unlink(name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty folder, where it is there.
    pub(super) fn remove_folder(&self, name: &str) -> Result<()> {
        self.unlink(name, UnlinkatFlags::RemoveDir)
    }

    fn unlink(&self, name: &str, flag: UnlinkatFlags) -> Result<()> {
        match unlinkat(&self.handle, name, flag) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.io_error("remove", name, error)),
        }
    }

    /// Brings its names down to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        let failed = |source| FilesError::Io { doing: "sync", path: self.path.clone(), source };
        self.handle.sync_all().map_err(failed)
    }

    fn io_error(&self, doing: &'static str, name: impl AsRef<Path>, error: Errno) -> FilesError {
        FilesError::Io { doing, path: self.path.join(name), source: error.into() }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    /// Closing the file is not enough: a process that is just being started holds it too, until its program begins.
    fn drop(&mut self) {
        let _unlocked = self.0.unlock();
    }
}
