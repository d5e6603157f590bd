//! Work on files, done away from the threads that serve everybody: a disk or a network mount may be slow, or never answer.
//! Bounded in time, in how much is read, and in how many threads may hang at once.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::sync::Semaphore;

/// Does something with the files of a folder, on a thread that may wait. Where this future is dropped, the work goes on.
///
/// # Errors
/// Where no thread is free or the work is not done within [`PATIENCE`]: the disk hangs then.
pub(crate) async fn work<T: Send + 'static>(folder: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let threads = {
        let mut of_folders = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = of_folders.entry(folder.to_owned());
        Arc::clone(threads.or_insert_with(|| Arc::new(Semaphore::new(THREADS_OF_FOLDER))))
    };
    within(&threads, PATIENCE, work).await
}

/// The content of a regular file.
///
/// # Errors
/// As of [`work`]; where it cannot be read, is no regular file, or has more than [`LONGEST_FILE`] bytes.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>> {
    let (folder, path) = (path.parent().unwrap_or(path), path.to_owned());
    work(folder, move || read_at_once(&path, LONGEST_FILE)).await?
}

async fn within<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = async {
        let thread = Arc::clone(threads).acquire_owned().await.map_err(Error::other)?;
        let work = move || {
            let done = work();
            drop(thread);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::other)
    };
    let hangs = |_| Error::new(ErrorKind::TimedOut, format!("the disk did not answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, done).await.map_err(hangs)?
}

/// Opens a regular file for reading. Waits for no other end of a pipe, and opens no device: that alone may start or stop
/// something.
///
/// # Errors
/// Where it cannot be opened, or is something else than a regular file.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let irregular = || Error::new(ErrorKind::InvalidInput, "it is no regular file");
    if !std::fs::metadata(path)?.is_file() {
        return Err(irregular());
    }
    // Another file may have taken the place meanwhile.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// The content of a regular file, read on this thread: at a start, in a reload, and in commands. What runs beside others
/// calls [`read`].
///
/// # Errors
/// As of [`open_regular`]; where it has more than `longest` bytes.
pub(crate) fn read_at_once(path: &Path, longest: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    // A giant is refused unread. Files of /proc and /sys tell no size, so that what is read is bounded all the same.
    if file.metadata()?.len() > longest {
        return Err(too_long(longest));
    }
    read_open(file, longest)
}

/// The text of a file of settings, certificates or keys; as [`read_at_once`].
///
/// # Errors
/// As of [`read_at_once`], with [`LONGEST_FILE`]; where it is no UTF-8.
pub(crate) fn read_text_at_once(path: &Path) -> Result<String> {
    let text = String::from_utf8(read_at_once(path, LONGEST_FILE)?);
    // The bytes may be secret, and go into no error.
    text.map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// What `file` holds from where it stands, up to its end.
///
/// # Errors
/// Where it cannot be read, or has more than `longest` bytes.
pub(crate) fn read_open(mut file: impl Read, longest: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    file.by_ref().take(longest.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > longest {
        return Err(too_long(longest));
    }
    Ok(content)
}

fn too_long(longest: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it has more than {longest} bytes"))
}

/// By folder, of which the settings name a few: a dead mount takes no other folder along, and of the 512 threads that tokio
/// has for all that waits, name resolution too, a few.
static THREADS: LazyLock<Mutex<HashMap<PathBuf, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

const THREADS_OF_FOLDER: usize = 4;

/// A healthy disk answers within milliseconds; one that spins up within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// In bytes: more than any token, list of resolvers or bundle of roots, and than the accounts of many thousand names.
pub(crate) const LONGEST_FILE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_ends_in_words_and_holds_up_only_its_own_threads() {
        let threads = Arc::new(Semaphore::new(1));
        let (release, hung) = mpsc::channel::<()>();
        let patience = Duration::from_millis(200);
        let error = within(&threads, patience, move || hung.recv()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        // The thread still hangs, and the next one waits no longer than its own time.
        let error = within(&threads, patience, || ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(release);
        within(&threads, Duration::from_mins(1), || ()).await.unwrap();
    }

    #[tokio::test]
    async fn pipes_devices_and_giants_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::File::create(at("giant")).unwrap().set_len(1 << 40).unwrap();
        std::fs::write(at("file"), "text").unwrap();
        assert_eq!(read(&at("file")).await.unwrap(), b"text");
        assert_eq!(read(&at("pipe")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(Path::new("/dev/zero")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&at("giant")).await.unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&at("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(folder.path()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        assert_eq!(read_text_at_once(&at("link")).unwrap_err().kind(), ErrorKind::InvalidInput);
        // It tells no size.
        assert!(!read_at_once(Path::new("/proc/self/status"), LONGEST_FILE).unwrap().is_empty());
        assert_eq!(read_open(std::io::repeat(1), 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_open(&b"123456789"[..], 9).unwrap(), b"123456789");
    }
}
