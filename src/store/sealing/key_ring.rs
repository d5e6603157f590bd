//! The master keys and their file: comment lines, and a line `<key id> <base64 of 32 bytes>` for each key, the active
//! one first. The file lies outside the database, is never readable by others, and is only replaced by a rotation.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::store::StoreUrl;
use crate::domain::value::secret_text::without_mark;
use crate::runtime::files;

/// The keys that seal what must stay secret. Clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<KeyRingInner>);

struct KeyRingInner {
    path: PathBuf,
    loaded: RwLock<LoadedKeys>,
}

/// The file's content.
struct LoadedKeys {
    /// Never empty; the first is active.
    keys: Vec<Arc<MasterKey>>,
    version: FileVersion,
}

/// Tells one version of the file from another: a rotation replaces the file as a whole.
#[derive(PartialEq, Eq)]
struct FileVersion {
    inode: u64,
    modified: (i64, i64),
}

/// One master key.
pub(in crate::store) struct MasterKey {
    pub(in crate::store) id: String,
    pub(in crate::store) cipher: RandomizedNonceKey,
    bytes: Zeroizing<[u8; KEY_LENGTH]>,
}

/// What is wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the master key file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none although there should be.
    #[error("the master key file {} is missing; bring back the one that the store was made with (for a new PostgreSQL database make one: autocertd keys create)", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already, and it is never overwritten.
    #[error("the master key file {} exists already and is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("the master key file {} is open to others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what a key file looks like. The line itself is never shown.
    #[error(
        "the master key file {} is malformed at line {line}; each key is a line `<key id> <base64 of 32 bytes>`",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, or one past the last where there is no key at all.
        line: usize,
    },
    /// The store was sealed under a key that the file does not have.
    #[error("the master key file {} has no key {id}, under which the store is sealed; bring that key back", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key's id.
        id: String,
    },
    /// The key has the right id and other bytes.
    #[error("key {id} in {} is not the one that the store was sealed with; bring that one back", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The key's id.
        id: String,
    },
    /// A sealed value is damaged, or was moved from another place.
    #[error("the sealed value {place} cannot be opened: it is damaged or belongs elsewhere; restore it from a backup")]
    Unreadable {
        /// Its table, column and row.
        place: String,
    },
    /// The cipher gave no result.
    #[error("the cipher failed; this is a defect of the machine or of autocertd")]
    Cipher,
    /// Someone else rotates.
    #[error("another rotation of {} is running; wait for its end", path.display())]
    RotationRunning {
        /// The file.
        path: PathBuf,
    },
}

/// Keeps other rotations out. It is unlocked on purpose: a program that is being started holds a copy of each open file
/// for a moment, and closing ours would not end the lock.
pub(in crate::store) struct RotationLock(File);

impl Drop for RotationLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock of a rotation ends with its file");
        }
    }
}

impl KeyRing {
    /// Reads the key file.
    ///
    /// # Errors
    /// Where it is missing, open to others or malformed.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let loaded = RwLock::new(read_file(path)?);
        Ok(Self(Arc::new(KeyRingInner { path: path.to_owned(), loaded })))
    }

    /// Makes a key file with one fresh key. It never overwrites one.
    ///
    /// # Errors
    /// Where the file exists or cannot be written.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let draft = path.with_extension("new");
        let file_error = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), source },
        };
        // A link is made only where there is no file yet, and what it leads to is whole.
        remove_partial(&draft)?;
        write_new(&draft, &[Arc::new(MasterKey::generate()?)])?;
        let linked = std::fs::hard_link(&draft, path).and_then(|()| sync_folder(path)).map_err(file_error);
        remove_partial(&draft)?;
        linked?;
        Self::load(path)
    }

    /// Reads the key file of a store, or makes one where the store is a SQLite file that does not exist yet. A store
    /// that exists was sealed with a key that must come back, and the replicas of a PostgreSQL one must share theirs.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::generate`].
    pub fn load_or_generate(path: &Path, url: &StoreUrl) -> Result<Self, KeyError> {
        match (Self::load(path), url) {
            (Err(KeyError::Missing { .. }), StoreUrl::Sqlite(database)) if !database.exists() => Self::generate(path),
            (loaded, _) => loaded,
        }
    }

    /// The file.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The key that seals. A rotation by another process is noticed first: the key that was active here may not be in
    /// the file for much longer.
    pub(in crate::store) fn active(&self) -> Arc<MasterKey> {
        if self.is_outdated()
            && let Err(error) = self.reload()
        {
            tracing::warn!(%error, "the master key file has changed and cannot be read; the keys of before stay in use");
        }
        Arc::clone(&self.keys()[0])
    }

    /// Every key, the active one first.
    pub(in crate::store) fn keys(&self) -> Vec<Arc<MasterKey>> {
        self.0.loaded.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    fn is_outdated(&self) -> bool {
        let version = std::fs::metadata(self.path()).map(|metadata| FileVersion::from_metadata(&metadata));
        version.is_ok_and(|version| version != self.0.loaded.read().unwrap_or_else(PoisonError::into_inner).version)
    }

    /// The key of this id. One that is unknown may have been added to the file by a rotation meanwhile.
    pub(in crate::store) fn key(&self, id: &str) -> Result<Arc<MasterKey>, KeyError> {
        if let Some(key) = find_key(&self.keys(), id) {
            return Ok(key);
        }
        self.reload()?;
        find_key(&self.keys(), id)
            .ok_or_else(|| KeyError::UnknownKey { path: self.path().to_owned(), id: id.to_owned() })
    }

    /// Reads the file again.
    pub(in crate::store) fn reload(&self) -> Result<(), KeyError> {
        let loaded = read_file(self.path())?;
        *self.0.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Keeps other rotations out until the lock is dropped.
    pub(in crate::store) fn lock_for_rotation(&self) -> Result<RotationLock, KeyError> {
        let folder = parent_folder(self.path());
        let handle = File::open(folder).map_err(|source| KeyError::File { path: folder.to_owned(), source })?;
        match handle.try_lock() {
            Ok(()) => Ok(RotationLock(handle)),
            Err(TryLockError::WouldBlock) => Err(KeyError::RotationRunning { path: self.path().to_owned() }),
            Err(TryLockError::Error(source)) => Err(KeyError::File { path: folder.to_owned(), source }),
        }
    }

    /// Puts a fresh key in front of the others.
    pub(in crate::store) fn add_active(&self) -> Result<(), KeyError> {
        let mut keys = self.keys();
        keys.insert(0, Arc::new(MasterKey::generate()?));
        self.replace(&keys)
    }

    /// Replaces the file as a whole: whoever reads it sees the old one or the new one.
    pub(in crate::store) fn replace(&self, keys: &[Arc<MasterKey>]) -> Result<(), KeyError> {
        let file_error = |source| KeyError::File { path: self.path().to_owned(), source };
        let draft = self.path().with_extension("new");
        remove_partial(&draft)?;
        write_new(&draft, keys)?;
        copy_owner(self.path(), &draft).map_err(file_error)?;
        std::fs::rename(&draft, self.path()).and_then(|()| sync_folder(self.path())).map_err(file_error)?;
        self.reload()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.keys().iter().map(|key| key.id.clone()).collect();
        f.debug_struct("KeyRing").field("path", &self.0.path).field("keys", &ids).finish()
    }
}

impl FileVersion {
    fn from_metadata(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

impl MasterKey {
    fn new(id: String, bytes: Zeroizing<[u8; KEY_LENGTH]>) -> Result<Self, KeyError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| KeyError::Cipher)?;
        Ok(Self { id, cipher, bytes })
    }

    fn generate() -> Result<Self, KeyError> {
        let (mut id, mut bytes) = ([0; 8], Zeroizing::new([0; KEY_LENGTH]));
        aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyError::Cipher)?;
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Cipher)?;
        Self::new(format!("{:016x}", u64::from_be_bytes(id)), bytes)
    }

    /// A key for authenticating what has this purpose, derived so that it tells nothing of the master key.
    pub(in crate::store) fn derive_hmac_key(&self, purpose: &'static [u8]) -> Result<hmac::Key, KeyError> {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(self.bytes.as_slice());
        let purpose = [purpose];
        let key = derived.expand(&purpose, hmac::HMAC_SHA256).map_err(|_| KeyError::Cipher)?;
        Ok(hmac::Key::from(key))
    }

    /// Reads `<key id> <base64>`.
    fn parse(line: &str) -> Option<Self> {
        let (id, key) = line.split_once(' ')?;
        let fits =
            (1..=MAX_ID_LENGTH).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let decoded = Zeroizing::new(STANDARD.decode(key.trim()).ok()?);
        let bytes = Zeroizing::new(<[u8; KEY_LENGTH]>::try_from(decoded.as_slice()).ok()?);
        if fits { Self::new(id.to_owned(), bytes).ok() } else { None }
    }
}

fn find_key(keys: &[Arc<MasterKey>], id: &str) -> Option<Arc<MasterKey>> {
    keys.iter().find(|key| key.id == id).cloned()
}

/// Only the owner may look. A file of root's may also be read by its group: so systemd hands out credentials and
/// Kubernetes its secrets. The same rule as PostgreSQL's for its TLS key.
const fn forbidden_mode(owner: u32) -> u32 {
    if owner == ROOT { 0o037 } else { 0o077 }
}

fn read_file(path: &Path) -> Result<LoadedKeys, KeyError> {
    let file_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => KeyError::File { path: path.to_owned(), source },
    };
    let file = files::open_regular(path).map_err(file_error)?;
    let metadata = file.metadata().map_err(file_error)?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden_mode(metadata.uid()) != 0 {
        return Err(KeyError::OpenToOthers { path: path.to_owned(), mode });
    }
    let version = FileVersion::from_metadata(&metadata);
    let bytes = Zeroizing::new(files::read_open(file, LONGEST_FILE).map_err(file_error)?);
    let malformed = |line| KeyError::Malformed { path: path.to_owned(), line };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(1))?;
    let mut keys: Vec<Arc<MasterKey>> = Vec::new();
    for (index, line) in without_mark(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match MasterKey::parse(line).filter(|key| find_key(&keys, &key.id).is_none()) {
            Some(key) => keys.push(Arc::new(key)),
            None => return Err(malformed(index + 1)),
        }
    }
    if keys.is_empty() {
        return Err(malformed(text.lines().count() + 1));
    }
    Ok(LoadedKeys { keys, version })
}

/// Writes a file that did not exist, down to the disk.
fn write_new(path: &Path, keys: &[Arc<MasterKey>]) -> Result<(), KeyError> {
    let file_error = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::File { path: path.to_owned(), source },
    };
    let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + keys.len() * MAX_LINE_LENGTH));
    text.push_str(HEADER);
    for key in keys {
        text.push_str(&key.id);
        text.push(' ');
        STANDARD.encode_string(key.bytes.as_slice(), &mut text);
        text.push('\n');
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file_error)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(|source| KeyError::File { path: path.to_owned(), source })
}

/// Removes what an interrupted write may have left.
fn remove_partial(draft: &Path) -> Result<(), KeyError> {
    match std::fs::remove_file(draft) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KeyError::File { path: draft.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Gives a file the owner of another: root may rotate the keys of a daemon that runs as someone else.
fn copy_owner(of: &Path, to: &Path) -> io::Result<()> {
    let (of, own) = (std::fs::metadata(of)?, std::fs::metadata(to)?);
    if (of.uid(), of.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    chown(to, Some(of.uid()), Some(of.gid()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(parent_folder(path))?.sync_all()
}

fn parent_folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const ROOT: u32 = 0;
const KEY_LENGTH: usize = 32;
const MAX_ID_LENGTH: usize = 32;
/// Thousands of keys.
const LONGEST_FILE: u64 = 1024 * 1024;
/// A key id, a blank, 44 characters of base64 and the line's end; room that is never outgrown leaves no copies behind.
const MAX_LINE_LENGTH: usize = MAX_ID_LENGTH + 46;
const HEADER: &str = "\
# The master keys of autocertd, the active one first. Without them the private keys in its store are lost:
# keep a copy apart from the copies of the database.
";
