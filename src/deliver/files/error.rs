//! What can go wrong with published files, and what to do about it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Uid, User, geteuid};

use crate::config::ConfigError;
use crate::domain::certificate::leaf_error::LeafError;
use crate::domain::failure::disposition::{Disposition, Failure};

/// A fault of publishing. It never holds what was to be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// The system refused a step.
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// The owner or group cannot be given.
    #[error("cannot give {} to owner {uid} and group {gid}", path.display())]
    Owner { path: PathBuf, uid: u32, gid: u32, source: io::Error },
    /// A file or a link stands where a folder should be.
    #[error("{} is no folder but a file or a link; move it away, or give the delivery another directory", path.display())]
    NotAFolder { path: PathBuf },
    /// Something of another program stands in the way.
    #[error("{} was not made by autocertd; move it away, or give the delivery another directory", path.display())]
    ForeignFile { path: PathBuf },
    /// The label of a certificate is no name of a folder.
    #[error("{0:?} cannot be the name of a folder; rename the auto-certificate")]
    Label(String),
    /// Another process publishes there.
    #[error("another process is publishing in {}; it is tried again", path.display())]
    Busy { path: PathBuf },
    /// There is no such user or group.
    #[error("there is no {kind} {name} on this machine; correct files.{setting}, or give a number")]
    NoSuchAccount { kind: &'static str, setting: &'static str, name: String },
    /// Users or groups cannot be looked up.
    #[error("the {kind} {name} cannot be looked up; it is tried again, a number needs no look-up")]
    Lookup { kind: &'static str, name: String, source: Errno },
    /// The password of the PKCS#12 file cannot be read.
    #[error(transparent)]
    Password(#[from] ConfigError),
    /// The certificate, its chain or its key has a form that PKCS#12 cannot hold.
    #[error("the certificate, its chain or its key cannot be put into {name}; leave out files.pkcs12_password_file")]
    Pkcs12 { name: &'static str },
    /// The placeholder's pair cannot be made.
    #[error("the placeholder cannot be made; check the names of the auto-certificate")]
    PlaceholderPair(#[from] rcgen::Error),
    /// The placeholder's certificate cannot be read back.
    #[error("the placeholder cannot be read back; this is a defect of autocertd")]
    Unreadable(#[from] LeafError),
}

impl FilesError {
    /// What happened and what to do, for people, where certificates go to `directory`.
    pub(super) fn into_failure(self, directory: &Path) -> Failure {
        let mut message = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        let (disposition, advice) = self.disposition_and_advice(directory);
        message.push_str(&advice);
        message.push_str(". What was published before stays in place");
        Failure { disposition, message: message.into() }
    }

    fn disposition_and_advice(&self, directory: &Path) -> (Disposition, String) {
        let directory = directory.display();
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    let advice = format!(
                        "; let {} write in {directory}, and where systemd runs autocertd let the sandbox: \
                         `systemctl edit autocertd` with the lines `[Service]` and `ReadWritePaths={directory}`",
                        describe_own_user(),
                    );
                    (Disposition::Operator, advice)
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    (Disposition::RETRY, format!("; make room for {directory}, it is tried again"))
                }
                io::ErrorKind::NotFound => {
                    (Disposition::Operator, format!("; make the folder in which {directory} is to be"))
                }
                _ => (Disposition::RETRY, format!("; it is tried again, check the disk of {directory} if this lasts")),
            },
            Self::Owner { .. } => {
                let advice = format!(
                    "; run autocertd as root, or leave out files.owner and name a group that {} belongs to",
                    describe_own_user()
                );
                (Disposition::Operator, advice)
            }
            Self::Busy { .. } | Self::Lookup { .. } => (Disposition::RETRY, String::new()),
            Self::NotAFolder { .. }
            | Self::ForeignFile { .. }
            | Self::Label(_)
            | Self::NoSuchAccount { .. }
            | Self::Password(_)
            | Self::Pkcs12 { .. }
            | Self::PlaceholderPair(_)
            | Self::Unreadable(_) => (Disposition::Operator, String::new()),
        }
    }
}

/// The user as whom this process writes.
fn describe_own_user() -> String {
    let uid: Uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.map_or_else(|| format!("user {uid}"), |name| format!("user {name} ({uid})"))
}
