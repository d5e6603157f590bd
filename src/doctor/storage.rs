//! Where autocertd keeps what it has: the state directory and the database file, whose they are, and the room on the disk.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, access};

use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::value::text::RemoteMessage;
use crate::store::StoreUrl;

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct InstancePaths {
    /// The state directory.
    pub state_directory: PathBuf,
    /// The database.
    pub database: StoreUrl,
}

/// What there is to say of the place. It is looked at, and nothing is made.
pub fn check_storage(place: &InstancePaths) -> Vec<CheckResult> {
    let folder = &place.state_directory;
    let state = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail = format!("{} is not there yet", folder.display());
            let remedy = "check state_directory; `autocertd serve` makes it";
            let because = "the state directory is not there yet";
            return vec![
                CheckResult::warning(&CheckSubject::SetUp, Check::StateDirectory, detail, remedy),
                CheckResult::skipped(&CheckSubject::SetUp, Check::DiskSpace, because),
            ];
        }
        Err(error) => {
            let detail = format!("{} cannot be looked at: {error}", folder.display());
            return vec![fault(Check::StateDirectory, detail, "check state_directory and its permissions")];
        }
    };
    let mut findings = vec![check_directory(folder, &state)];
    if let StoreUrl::Sqlite(path) = &place.database {
        findings.extend(check_database_file(path, &state));
    }
    findings.push(check_disk_space(folder));
    findings
}

fn check_directory(folder: &Path, state: &Metadata) -> CheckResult {
    let shown = folder.display();
    if !state.is_dir() {
        return fault(Check::StateDirectory, format!("{shown} is no directory"), "correct state_directory");
    }
    let flags = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    if let Err(error) = access(folder, flags) {
        let detail = format!("{shown} cannot be written by user {}: {}", Uid::current(), error.desc());
        let remedy = format!("`chown -R` it to that user and `chmod 700` it, or run this as user {}", state.uid());
        return fault(Check::StateDirectory, detail, remedy);
    }
    CheckResult::ok(&CheckSubject::SetUp, Check::StateDirectory, format!("{shown} can be written"))
}

/// A file that is not there yet is made by the daemon.
fn check_database_file(path: &Path, state: &Metadata) -> Option<CheckResult> {
    let (found, shown) = (std::fs::metadata(path).ok()?, path.display());
    if access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        let detail = format!("{shown} of user {} cannot be written by user {}", found.uid(), Uid::current());
        return Some(fault(Check::Database, detail, format!("`chown {} {shown}`", state.uid())));
    }
    if found.uid() != state.uid() {
        let detail = format!("{shown} belongs to user {}, the state directory to user {}", found.uid(), state.uid());
        return Some(fault(Check::Database, detail, format!("`chown {} {shown}`", state.uid())));
    }
    None
}

fn check_disk_space(folder: &Path) -> CheckResult {
    let Ok(disk) = statvfs(folder) else {
        return CheckResult::skipped(&CheckSubject::SetUp, Check::DiskSpace, "the system does not tell");
    };
    let free = disk.blocks_available().saturating_mul(disk.fragment_size()) / MEBIBYTE;
    let detail = format!("{free} MiB are free at {}", folder.display());
    let remedy = "make room: a full disk keeps certificates from being stored";
    match free {
        0..MIN_FREE => fault(Check::DiskSpace, detail, remedy),
        MIN_FREE..LOW_FREE => CheckResult::warning(&CheckSubject::SetUp, Check::DiskSpace, detail, remedy),
        _ => CheckResult::ok(&CheckSubject::SetUp, Check::DiskSpace, detail),
    }
}

fn fault(check: Check, detail: String, remedy: impl Into<RemoteMessage>) -> CheckResult {
    CheckResult::fault(&CheckSubject::SetUp, check, detail, remedy)
}

const MEBIBYTE: u64 = 1024 * 1024;
/// In mebibytes.
const MIN_FREE: u64 = 16;
const LOW_FREE: u64 = 200;
