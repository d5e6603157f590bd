//! The desk between the daemon and the privileged helper: a folder in which the daemon puts requests, and one in which root
//! answers them. What a request may be is its name alone, so that root never opens what the daemon made; what root writes
//! lies in a folder that only root can change.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use uuid::Uuid;

use crate::domain::declared::DeclaredKey;

/// Where the desk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolPaths {
    /// The folder of requests, in which the daemon may write.
    pub requests: PathBuf,
    /// The folder of answers, in which only root may write.
    pub answers: PathBuf,
}

impl Default for SpoolPaths {
    fn default() -> Self {
        Self { requests: PathBuf::from(REQUESTS_FOLDER), answers: PathBuf::from(ANSWERS_FOLDER) }
    }
}

impl SpoolPaths {
    pub(super) fn answers_file(&self) -> PathBuf {
        self.answers.join(ANSWERS_FILE)
    }
}

/// A request, written as the name of an empty file: `<key of the delivery>@<number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRequest {
    /// The delivery whose unit is to be reloaded.
    pub key: DeclaredKey,
    /// Tells it from every other request.
    pub number: Uuid,
}

/// What became of a request, written as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadAnswer {
    /// The number of the request.
    pub number: Uuid,
    /// What became of it.
    pub outcome: ReloadOutcome,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The unit was reloaded.
    Done,
    /// It was not, and why.
    Failed(String),
}

/// Why root does not sit down at a desk.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A folder cannot be used.
    #[error("cannot use the folder {}; systemd-tmpfiles --create makes it", .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than root can write answers.
    #[error("{} is not root's alone; only root may own it and write there", .0.display())]
    WritableByOthers(PathBuf),
}

/// Root's side of the desk. It holds on to both folders, so that nobody can put others in their place.
#[derive(Debug)]
pub struct RequestSpool {
    paths: SpoolPaths,
    requests: OwnedFd,
    answers: OwnedFd,
}

/// What lay on the desk.
#[derive(Debug, Default)]
pub struct SpooledRequests {
    /// Requests of the right form.
    pub requests: Vec<ReloadRequest>,
    /// Names of what else lay there; it was removed where that was possible.
    pub unrecognized: Vec<String>,
}

impl RequestSpool {
    /// Sits down.
    ///
    /// # Errors
    /// Where a folder is not there or a link, or others than root can write answers.
    pub fn open(paths: &SpoolPaths) -> Result<Self, SpoolError> {
        let requests = open_folder(&paths.requests)?;
        let answers = open_folder(&paths.answers)?;
        let metadata = answers.try_clone().and_then(|folder| File::from(folder).metadata());
        let metadata = metadata.map_err(|source| SpoolError::Unusable { path: paths.answers.clone(), source })?;
        if metadata.uid() != ROOT || metadata.mode() & OTHERS_WRITE != 0 {
            return Err(SpoolError::WritableByOthers(paths.answers.clone()));
        }
        Ok(Self { paths: paths.clone(), requests, answers })
    }

    /// Takes what lies on the desk, at most [`MAX_REQUESTS`] pieces; what comes later wakes the helper again. Nothing is
    /// opened or followed, only names are read and removed.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn take_requests(&self) -> Result<SpooledRequests, SpoolError> {
        let unusable = |error: Errno| SpoolError::Unusable { path: self.paths.requests.clone(), source: error.into() };
        let mut folder = Dir::openat(&self.requests, ".", FOLDER_FLAGS, Mode::empty()).map_err(unusable)?;
        let mut taken = SpooledRequests::default();
        let names = folder.iter().flatten().map(|entry| entry.file_name().to_owned());
        for name in names.filter(|name| !matches!(name.to_bytes(), b"." | b"..")).take(MAX_REQUESTS) {
            let removed = unlinkat(&self.requests, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            let request = name.to_str().ok().and_then(|name| name.parse().ok());
            match (request, removed) {
                (Some(request), Ok(())) => taken.requests.push(request),
                // The daemon took it back.
                (_, Err(Errno::ENOENT)) => {}
                (_, removed) => {
                    if removed.is_err() {
                        // A folder; one that is not empty stays.
                        let _ = unlinkat(&self.requests, name.as_c_str(), UnlinkatFlags::RemoveDir);
                    }
                    taken.unrecognized.push(name.to_string_lossy().into_owned());
                }
            }
        }
        Ok(taken)
    }

    /// Adds answers to the latest ones, which the daemon reads.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn answer(&self, answers: &[ReloadAnswer]) -> Result<(), SpoolError> {
        self.write_answers(answers).map_err(|source| SpoolError::Unusable { path: self.paths.answers.clone(), source })
    }

    fn write_answers(&self, answers: &[ReloadAnswer]) -> std::io::Result<()> {
        let mut lines: Vec<String> = self.read_answers().lines().map(str::to_owned).collect();
        lines.extend(answers.iter().map(ToString::to_string));
        lines.drain(..lines.len().saturating_sub(MAX_ANSWERS));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.answers, UNFINISHED_FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        // Whatever the umask is: the daemon is another user. Nothing in it is secret.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all((lines.join("\n") + "\n").as_bytes())?;
        Ok(renameat(&self.answers, UNFINISHED_FILE, &self.answers, ANSWERS_FILE)?)
    }

    fn read_answers(&self) -> String {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut text = String::new();
        if let Ok(file) = openat(&self.answers, ANSWERS_FILE, flags, Mode::empty()) {
            // What cannot be read is what nobody waits for any more.
            let _ = File::from(file).take(LONGEST_ANSWERS).read_to_string(&mut text);
        }
        text
    }
}

fn open_folder(path: &Path) -> Result<OwnedFd, SpoolError> {
    open(path, FOLDER_FLAGS, Mode::empty())
        .map_err(|error| SpoolError::Unusable { path: path.to_owned(), source: error.into() })
}

impl FromStr for ReloadRequest {
    type Err = InvalidLine;

    fn from_str(text: &str) -> Result<Self, InvalidLine> {
        let (key, number) = text.split_once('@').ok_or(InvalidLine)?;
        Ok(Self { key: key.parse().map_err(|_| InvalidLine)?, number: parse_number(number)? })
    }
}

impl fmt::Display for ReloadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.number.simple())
    }
}

impl FromStr for ReloadAnswer {
    type Err = InvalidLine;

    fn from_str(line: &str) -> Result<Self, InvalidLine> {
        let (number, outcome) = line.split_once(' ').ok_or(InvalidLine)?;
        let outcome = match outcome.split_once(' ') {
            None if outcome == "done" => ReloadOutcome::Done,
            Some(("failed", why)) => ReloadOutcome::Failed(why.to_owned()),
            _ => return Err(InvalidLine),
        };
        Ok(Self { number: parse_number(number)?, outcome })
    }
}

impl fmt::Display for ReloadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            ReloadOutcome::Done => write!(f, "{} done", self.number.simple()),
            ReloadOutcome::Failed(why) => write!(f, "{} failed {}", self.number.simple(), why.replace('\n', " ")),
        }
    }
}

/// A text that is no request or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no request and no answer looks like this")]
pub struct InvalidLine;

/// Only the one form that is written, lest one request has many names.
fn parse_number(text: &str) -> Result<Uuid, InvalidLine> {
    Uuid::parse_str(text).ok().filter(|number| number.simple().to_string() == text).ok_or(InvalidLine)
}

/// The folder of requests; `autocertd-reload.path` watches it.
pub const REQUESTS_FOLDER: &str = "/run/autocertd-reload";

/// The folder of answers, root's alone.
pub const ANSWERS_FOLDER: &str = "/run/autocertd-reload-answers";

/// How many requests are taken at once.
pub const MAX_REQUESTS: usize = 256;

/// As many answers are kept, the latest.
const MAX_ANSWERS: usize = 2 * MAX_REQUESTS;

const ANSWERS_FILE: &str = "answers";
/// In bytes; more than all answers that are kept have.
const LONGEST_ANSWERS: u64 = 16 << 20;
const UNFINISHED_FILE: &str = ".answers";

const ROOT: u32 = 0;
const OTHERS_WRITE: u32 = 0o022;
const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_as_they_are_written() {
        let request = ReloadRequest { key: "nginx".parse().unwrap(), number: Uuid::from_u128(7) };
        assert_eq!(request.to_string(), "nginx@00000000000000000000000000000007");
        assert_eq!(request.to_string().parse(), Ok(request));
        for outcome in [ReloadOutcome::Done, ReloadOutcome::Failed("the unit x.service is masked".to_owned())] {
            let answer = ReloadAnswer { number: Uuid::from_u128(8), outcome };
            assert_eq!(answer.to_string().parse(), Ok(answer));
        }
    }

    #[test]
    fn what_is_no_request_is_not_taken_for_one() {
        let number = "00000000000000000000000000000007";
        for text in [
            "nginx".to_owned(),
            "nginx@".to_owned(),
            format!("@{number}"),
            format!("../x@{number}"),
            format!("nginx@{number}0"),
            format!("nginx@{}", Uuid::from_u128(7)),
            "nginx@0000000000000000000000000000000A".to_owned(),
        ] {
            assert!(text.parse::<ReloadRequest>().is_err(), "{text} was taken");
        }
    }
}
