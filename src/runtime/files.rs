//! Work on files, done away from the threads that serve everybody: a disk or a network mount may be slow, or never answer.
//! Bounded in time, in how much is read, and in how many threads may hang at once.

use std::collections::HashMap;
use std::fs::OpenOptions;
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
    work(folder, move || read_bounded(&path)).await?
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

/// Nobody waits for the other end of a pipe that lies there.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST_FILE {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than {LONGEST_FILE} bytes")));
    }
    Ok(content)
}

/// By folder, of which the settings name a few: a dead mount takes no other folder along, and of the 512 threads that tokio
/// has for all that waits, name resolution too, a few.
static THREADS: LazyLock<Mutex<HashMap<PathBuf, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

const THREADS_OF_FOLDER: usize = 4;

/// A healthy disk answers within milliseconds; one that spins up within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// In bytes: more than any token, list of resolvers or bundle of roots, and than the accounts of many thousand names.
const LONGEST_FILE: u64 = 16 << 20;

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
    }
}
