//! Who may read what is published: owner, group and modes.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use nix::unistd::{Group, User, getegid, geteuid};

use crate::config::delivery::FilesEntry;
use crate::deliver::files::error::FilesError;

/// Owner, group and modes, with names looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileAccess {
    pub(super) uid: u32,
    gid: u32,
    /// The mode of files without a private key.
    pub(super) public_mode: u32,
    /// The mode of files with a private key.
    pub(super) key_mode: u32,
}

impl FileAccess {
    /// As the settings ask for it.
    pub(super) fn from_entry(entry: &FilesEntry) -> Result<Self, FilesError> {
        let uid = match &entry.owner {
            None => geteuid().as_raw(),
            Some(owner) => {
                resolve_id(owner, "user", "owner", || Ok(User::from_name(owner)?.map(|it| it.uid.as_raw())))?
            }
        };
        let gid = match &entry.group {
            None => getegid().as_raw(),
            Some(group) => {
                resolve_id(group, "group", "group", || Ok(Group::from_name(group)?.map(|it| it.gid.as_raw())))?
            }
        };
        let usual_key_mode = if entry.group.is_some() { 0o640 } else { 0o600 };
        let key_mode = entry.key_mode.map_or(usual_key_mode, |mode| mode.0);
        Ok(Self { uid, gid, public_mode: entry.mode.0, key_mode })
    }

    /// The mode of folders: all for their owner, and a way in for those who may read a file.
    pub(super) const fn folder_mode(&self) -> u32 {
        let readable = (self.public_mode | self.key_mode) & 0o044;
        0o700 | readable | readable >> 2
    }

    /// Gives a file or folder to its owner, then sets its mode: it is never open to more than asked, not even meanwhile.
    pub(super) fn apply(&self, file: &File, mode: u32, path: &Path) -> Result<(), FilesError> {
        let failed = |doing| move |source| FilesError::Io { doing, path: path.to_owned(), source };
        let metadata = file.metadata().map_err(failed("look at"))?;
        if (metadata.uid(), metadata.gid()) != (self.uid, self.gid) {
            fchown(file, Some(self.uid), Some(self.gid)).map_err(|source| FilesError::Owner {
                path: path.to_owned(),
                uid: self.uid,
                gid: self.gid,
                source,
            })?;
        }
        if metadata.mode() & PERMISSION_BITS != mode {
            file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
        }
        Ok(())
    }

    /// Whether a file or folder has its owner, its group and this mode.
    pub(super) fn matches(&self, metadata: &Metadata, mode: u32) -> bool {
        (metadata.uid(), metadata.gid(), metadata.mode() & PERMISSION_BITS) == (self.uid, self.gid, mode)
    }
}

fn resolve_id(
    name: &str,
    kind: &'static str,
    setting: &'static str,
    look_up: impl FnOnce() -> nix::Result<Option<u32>>,
) -> Result<u32, FilesError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = look_up().map_err(|source| FilesError::Lookup { kind, name: name.to_owned(), source })?;
    found.ok_or_else(|| FilesError::NoSuchAccount { kind, setting, name: name.to_owned() })
}

/// Without the bits for set-user-id, set-group-id and sticky, which a folder may have inherited.
const PERMISSION_BITS: u32 = 0o777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lets_in_whom_a_file_lets_read() {
        for (public_mode, key_mode, folder) in
            [(0o644, 0o600, 0o755), (0o640, 0o640, 0o750), (0o600, 0o600, 0o700), (0o600, 0o640, 0o750)]
        {
            let access = FileAccess { uid: 0, gid: 0, public_mode, key_mode };
            assert_eq!(access.folder_mode(), folder, "{public_mode:o} and {key_mode:o}");
        }
    }
}
