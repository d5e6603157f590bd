//! The presence of processes at a SQLite file: each keeps a file of its instance locked in a folder beside it. The
//! operating system drops the lock with the process, so that a dead owner of leases is known at once.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use uuid::Uuid;

use crate::runtime::files;
use crate::store::StoreError;

/// The presence of this process; it ends with the value.
#[derive(Debug)]
pub(in crate::store) struct InstanceLock {
    folder: PathBuf,
    own_path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl InstanceLock {
    /// Registers `instance` beside `database`.
    pub(in crate::store) fn register(database: &Path, instance: Uuid) -> Result<Self, StoreError> {
        let folder = instances_folder(database)?;
        let own = folder.join(instance.to_string());
        loop {
            let file = open_lock_file(&own)?;
            let still_there = match file.try_lock() {
                // Someone who looked before the lock was taken may have found the file dead and removed it.
                Ok(()) => is_same_file(&file, &own),
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(source)) => return Err(StoreError::File { path: own, source }),
            };
            if still_there {
                return Ok(Self { folder, own_path: own, _file: file });
            }
        }
    }

    /// The instances that left a file behind.
    pub(in crate::store) async fn other_instances(&self) -> Result<Vec<String>, StoreError> {
        let folder = self.folder.clone();
        let names = files::work(&self.folder, move || {
            let entries = std::fs::read_dir(folder)?;
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let names: io::Result<Vec<_>> = names.await.flatten();
        let names = names.map_err(|source| StoreError::File { path: self.folder.clone(), source })?;
        let ids = names.iter().filter_map(|name| Uuid::parse_str(name.to_str()?).ok());
        Ok(ids.map(|id| id.to_string()).filter(|id| !self.own_path.ends_with(id)).collect())
    }

    /// The proof that an instance is dead; nothing where it lives.
    pub(in crate::store) async fn find_dead(&self, instance: &str) -> Result<Option<DeadInstance>, StoreError> {
        let path = self.folder.join(instance);
        if path == self.own_path {
            return Ok(None);
        }
        let failed = |source| StoreError::File { path: self.folder.clone(), source };
        files::work(&self.folder, || DeadInstance::find(path)).await.map_err(failed)?
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // A file that stays behind is found dead and removed by the next process.
        let _removed = std::fs::remove_file(&self.own_path);
    }
}

/// An instance that is dead, and stays so while this value lives.
#[derive(Debug)]
pub(in crate::store) struct DeadInstance {
    path: PathBuf,
    file: Option<File>,
}

impl DeadInstance {
    fn find(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let file = match files::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Self { path, file: None })),
            Err(source) => return Err(StoreError::File { path, source }),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::File { path, source }),
        }
    }

    /// Removes what it left behind.
    pub(in crate::store) async fn remove_file(self) {
        let Self { path, file: Some(file) } = self else { return };
        let folder = path.parent().unwrap_or(&path).to_owned();
        // The lock is let go after that. A file that stays is found dead again.
        let removed = files::work(&folder, move || {
            let removed = std::fs::remove_file(path);
            drop(file);
            removed
        });
        let _removed = removed.await;
    }
}

/// Keeps other processes from opening the same store at the same time, as long as the file that it gives is open.
pub(in crate::store) async fn lock_opening(database: &Path) -> Result<File, StoreError> {
    let path = instances_folder(database)?.join(OPENING_LOCK);
    let file = open_lock_file(&path)?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    locked.map_err(io::Error::other).flatten().map_err(|source| StoreError::File { path, source })
}

/// The folder of instances, which is made where it is missing.
fn instances_folder(database: &Path) -> Result<PathBuf, StoreError> {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(".instances");
    let folder = database.with_file_name(name);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::File { path: folder, source }),
        _ => Ok(folder),
    }
}

fn open_lock_file(path: &Path) -> Result<File, StoreError> {
    let options = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A pipe in its place is an error, and not waited for.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    options.map_err(|source| StoreError::File { path: path.to_owned(), source })
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

const OPENING_LOCK: &str = "opening";
