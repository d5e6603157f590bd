//! A draft: what is written beside its place under a name that nobody can guess, and put there once it is whole. One
//! that never gets there goes again.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::runtime::randomness::Randomness;

/// A file or folder of its owner's alone that is removed with this value, unless it was put in its place.
pub(crate) struct AtomicFile<'a> {
    path: PathBuf,
    target: &'a Path,
    is_folder: bool,
}

impl<'a> AtomicFile<'a> {
    /// A new file that is to become `place`.
    pub(crate) fn new_file(place: &'a Path) -> io::Result<(Self, File)> {
        let path = temporary_path(place)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self { path, target: place, is_folder: false }, file))
    }

    /// A new folder that is to become `place`.
    pub(crate) fn new_folder(place: &'a Path) -> io::Result<Self> {
        let path = temporary_path(place)?;
        create_private_folder(&path)?;
        Ok(Self { path, target: place, is_folder: true })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place where nothing is there.
    pub(crate) fn persist_noclobber(self) -> io::Result<()> {
        if self.is_folder {
            // The name is taken first: a rename replaces an empty folder, and nothing else.
            create_private_folder(self.target)?;
            fs::rename(&self.path, self.target).inspect_err(|_| _ = fs::remove_dir(self.target))?;
        } else {
            // A link takes no name that is taken; the draft's own name goes with this value.
            fs::hard_link(&self.path, self.target)?;
        }
        sync_parent_folder(self.target)
    }

    /// Puts it in its place, whatever is there.
    pub(crate) fn persist(self) -> io::Result<()> {
        fs::rename(&self.path, self.target)?;
        sync_parent_folder(self.target)
    }
}

/// What was put in its place is no longer there, except the second name of a file.
impl Drop for AtomicFile<'_> {
    fn drop(&mut self) {
        let removed = if self.is_folder { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("autocertd: {} is left behind, remove it: {error}", self.path.display());
        }
    }
}

/// A folder of its owner's alone.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Brings the names in the folder of `path` down to the disk.
pub(crate) fn sync_parent_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// In the same folder, so that a rename or a link can put it in place.
fn temporary_path(place: &Path) -> io::Result<PathBuf> {
    if place.file_name().is_none_or(OsStr::is_empty) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file"));
    }
    Ok(place.with_file_name(format!(".autocertd-{}", Randomness::from_system()?.uuid())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_not_put_in_its_place_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        drop(AtomicFile::new_file(&place).unwrap());
        let draft = AtomicFile::new_folder(&place).unwrap();
        fs::write(draft.path().join("privkey.pem"), "a key").unwrap();
        drop(draft);
        assert!(names_in(folder.path()).is_empty());
    }

    #[test]
    fn nothing_is_replaced_unasked_and_no_draft_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, full] = ["file", "link", "full"].map(|name| folder.path().join(name));
        fs::write(&file, "another's").unwrap();
        symlink("nowhere", &link).unwrap();
        fs::create_dir(&full).unwrap();
        for place in [&file, &link, &full] {
            assert!(AtomicFile::new_file(place).unwrap().0.persist_noclobber().is_err(), "{}", place.display());
            assert!(AtomicFile::new_folder(place).unwrap().persist_noclobber().is_err(), "{}", place.display());
        }
        assert_eq!(names_in(folder.path()), ["file", "full", "link"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "another's");

        let [new, made] = ["new", "made"].map(|name| folder.path().join(name));
        AtomicFile::new_file(&new).unwrap().0.persist_noclobber().unwrap();
        AtomicFile::new_folder(&made).unwrap().persist_noclobber().unwrap();
        AtomicFile::new_file(&file).unwrap().0.persist().unwrap();
        assert_eq!(names_in(folder.path()), ["file", "full", "link", "made", "new"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }
}
