//! A tree of files, read once into memory: the only place of this room that touches the disk. Files are opened to be
//! read, links to files are followed wherever they lead, and nothing but text of a reasonable size is taken.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::import::Fault;

/// The files of a tool, by their paths below its folder.
#[derive(Default, Deserialize, Serialize)]
pub struct Tree {
    /// The last part of the path that was read, without what makes it a file's name.
    name: String,
    files: BTreeMap<String, String>,
    /// What is there and could not be read, with the reason.
    unreadable: BTreeMap<String, String>,
}

/// A tree that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableTree {
    /// The system says no.
    #[error("{} cannot be read", path.display())]
    Refused {
        /// Where the tree should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are more files than any tool keeps.
    #[error("{} holds more than {MOST_FILES} files; give the tool's own folder", .0.display())]
    TooMany(PathBuf),
}

impl Tree {
    /// Reads the files below a folder, or the one file that `path` is.
    ///
    /// # Errors
    /// Where `path` cannot be read or holds too much. Files and folders below it that cannot be read are kept in mind
    /// instead.
    pub fn read(path: &Path) -> Result<Self, UnreadableTree> {
        let refused = |source| UnreadableTree::Refused { path: path.to_owned(), source };
        let full = fs::canonicalize(path).map_err(refused)?;
        let mut tree = Self::default();
        if full.is_dir() {
            tree.name = text_of(full.file_name());
            let metadata = fs::metadata(&full).map_err(refused)?;
            let entries = fs::read_dir(&full).map_err(refused)?;
            let mut seen = HashSet::from([identity(&metadata)]);
            tree.add_folder("", entries, DEEPEST, &mut seen);
        } else {
            tree.name = text_of(full.file_stem());
            tree.add_file(text_of(full.file_name()), &full);
            if let Some(reason) = tree.unreadable.values().next() {
                return Err(refused(io::Error::other(reason.clone())));
            }
        }
        if tree.files.len() > MOST_FILES { Err(UnreadableTree::TooMany(path.to_owned())) } else { Ok(tree) }
    }

    /// What cannot be read, each with the reason.
    pub fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unreadable.iter().map(|(path, reason)| (path.as_str(), reason.as_str()))
    }

    /// The name of the folder or file that was read.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A file that should be there.
    pub(super) fn text(&self, path: &str) -> Result<&str, Fault> {
        if let Some(text) = self.get(path) {
            return Ok(text);
        }
        let above =
            |unreadable: &&String| path.strip_prefix(unreadable.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let reason = self.unreadable.get(path).or_else(|| self.unreadable.get(self.unreadable.keys().find(above)?));
        Err(match reason {
            Some(reason) => Fault::Unreadable { path: path.to_owned(), reason: reason.clone() },
            None => Fault::Missing(path.to_owned()),
        })
    }

    /// A file that may be there.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file with its path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The names of the folders right below `folder`, in their order; of the top where it is empty.
    pub(super) fn folders_in(&self, folder: &str) -> Vec<&str> {
        let paths = self.files.keys().chain(self.unreadable.keys());
        let mut names: Vec<&str> = paths.filter_map(|path| folder_below(path, folder)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn add_folder(&mut self, path: &str, entries: fs::ReadDir, depth: usize, seen: &mut HashSet<(u64, u64)>) {
        for entry in entries {
            match entry {
                Ok(entry) => self.add_entry(path, &entry, depth, seen),
                Err(error) => _ = self.unreadable.insert(path.to_owned(), error.to_string()),
            }
        }
    }

    fn add_entry(&mut self, folder: &str, entry: &fs::DirEntry, depth: usize, seen: &mut HashSet<(u64, u64)>) {
        // No tool of ours makes names that are no UTF-8.
        let (Ok(name), true) = (entry.file_name().into_string(), self.files.len() <= MOST_FILES) else { return };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => {
                // A folder is read once, so that links in a circle come to an end.
                if depth > 0 && seen.insert(identity(&metadata)) {
                    match fs::read_dir(entry.path()) {
                        Ok(entries) => self.add_folder(&path, entries, depth - 1, seen),
                        Err(error) => _ = self.unreadable.insert(path, error.to_string()),
                    }
                }
            }
            Ok(metadata) if metadata.is_file() => self.add_file(path, &entry.path()),
            // Opening a pipe or a device may wait for ever.
            Ok(_) => _ = self.unreadable.insert(path, "it is no regular file".to_owned()),
            Err(error) => _ = self.unreadable.insert(path, error.to_string()),
        }
    }

    fn add_file(&mut self, path: String, place: &Path) {
        match read_text(place) {
            Ok(Some(text)) => _ = self.files.insert(path, text),
            Ok(None) => {}
            Err(error) => _ = self.unreadable.insert(path, error.to_string()),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.files.values_mut().for_each(Zeroize::zeroize);
    }
}

/// The folder right below `folder` in which `path` is.
fn folder_below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    rest.split_once('/').map(|(name, _)| name)
}

/// The text of a file; nothing where it is no text.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other(format!("it has more than {LARGEST_FILE} bytes")));
    }
    Ok(std::str::from_utf8(&bytes).ok().map(str::to_owned))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn text_of(name: Option<&std::ffi::OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// acme.sh itself, which lies in its own tree, has 300 KiB.
const LARGEST_FILE: u64 = 512 * 1024;
const MOST_FILES: usize = 20_000;
/// `accounts/<host>/<two parts of a path>/<id>/` of certbot needs five.
const DEEPEST: usize = 6;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_circles_end_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, inside) = (folder.path().join("outside"), folder.path().join("inside"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::write(&outside, "elsewhere").unwrap();
        symlink("../../../outside", inside.join("a/b/link.pem")).unwrap();
        symlink(&inside, inside.join("a/circle")).unwrap();
        symlink("nowhere", inside.join("a/dangling")).unwrap();
        symlink("/dev/zero", inside.join("a/endless")).unwrap();
        fs::write(inside.join("a/binary"), [0xff, 0xfe]).unwrap();
        fs::write(inside.join("large"), vec![b'a'; 600 * 1024]).unwrap();
        let tree = Tree::read(&inside).unwrap();
        assert_eq!(tree.name(), "inside");
        assert_eq!(tree.files().collect::<Vec<_>>(), [("a/b/link.pem", "elsewhere")]);
        let reasons: Vec<_> = tree.unreadable().map(|(path, _)| path).collect();
        assert_eq!(reasons, ["a/dangling", "a/endless", "large"]);
        assert_eq!((tree.folders_in(""), tree.folders_in("a")), (vec!["a"], vec!["b"]));
        assert!(matches!(tree.text("large"), Err(Fault::Unreadable { .. })));
        assert!(matches!(tree.text("a/none"), Err(Fault::Missing(_))));
        assert!(matches!(Tree::read(&folder.path().join("none")), Err(UnreadableTree::Refused { .. })));
    }

    #[test]
    fn a_tree_survives_its_way_through_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one.pem"), "text\n").unwrap();
        let tree = Tree::read(&folder.path().join("one.pem")).unwrap();
        let again: Tree = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
        assert_eq!((again.name(), again.text("one.pem").unwrap()), ("one", "text\n"));
    }
}
