//! A tree of files, read once into memory: the only place of this room that touches the disk. Files are opened to be
//! read, links are followed to what is below the top or belongs to the tree's owner, and nothing but text of a reasonable
//! size is taken.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
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
    /// There is more than any tool keeps.
    #[error("{} holds more than {MOST_ENTRIES} files and folders; give the tool's own folder", .0.display())]
    TooMany(PathBuf),
    /// The files are larger than any tool's.
    #[error("{} holds more than {MOST_BYTES} bytes; give the tool's own folder", .0.display())]
    TooLarge(PathBuf),
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
        let metadata = fs::metadata(&full).map_err(refused)?;
        let mut walk = Walk::from(full.clone(), &metadata);
        if metadata.is_dir() {
            walk.tree.name = text_of(full.file_name());
            let entries = fs::read_dir(&full).map_err(refused)?;
            walk.add_folder("", entries, DEEPEST);
        } else {
            walk.tree.name = text_of(full.file_stem());
            walk.add_file(text_of(full.file_name()), &full);
            if let Some(reason) = walk.tree.unreadable.values().next() {
                return Err(refused(io::Error::other(reason.clone())));
            }
        }
        match walk.exceeded {
            None => Ok(walk.tree),
            Some(Bound::Entries) => Err(UnreadableTree::TooMany(path.to_owned())),
            Some(Bound::Bytes) => Err(UnreadableTree::TooLarge(path.to_owned())),
        }
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

/// The way through a tree, which may be another's who wishes its reader ill.
struct Walk {
    tree: Tree,
    /// The folder or file that is read, without links.
    top: PathBuf,
    /// Whose it is.
    owner: u32,
    /// A folder is read once, so that links in a circle come to an end.
    seen: HashSet<(u64, u64)>,
    /// Whatever was looked at.
    entries: usize,
    bytes: u64,
    exceeded: Option<Bound>,
}

#[derive(Clone, Copy)]
enum Bound {
    Entries,
    Bytes,
}

impl Walk {
    fn from(top: PathBuf, metadata: &Metadata) -> Self {
        let (owner, seen) = (metadata.uid(), HashSet::from([identity(metadata)]));
        Self { tree: Tree::default(), top, owner, seen, entries: 0, bytes: 0, exceeded: None }
    }

    fn add_folder(&mut self, path: &str, entries: fs::ReadDir, depth: usize) {
        for entry in entries {
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                self.exceeded = Some(Bound::Entries);
            }
            if self.exceeded.is_some() {
                return;
            }
            match entry {
                Ok(entry) => self.add_entry(path, &entry, depth),
                Err(error) => self.skip(path.to_owned(), &error),
            }
        }
    }

    fn add_entry(&mut self, folder: &str, entry: &fs::DirEntry, depth: usize) {
        // No tool of ours makes names that are no UTF-8.
        let Ok(name) = entry.file_name().into_string() else { return };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => {
                if depth > 0 && self.seen.insert(identity(&metadata)) {
                    match self.entries_of(&entry.path()) {
                        Ok(entries) => self.add_folder(&path, entries, depth - 1),
                        Err(error) => self.skip(path, &error),
                    }
                }
            }
            Ok(metadata) if metadata.is_file() => self.add_file(path, &entry.path()),
            Ok(_) => self.skip(path, &irregular()),
            Err(error) => self.skip(path, &error),
        }
    }

    fn entries_of(&self, folder: &Path) -> io::Result<fs::ReadDir> {
        self.judge(&open(folder)?)?;
        fs::read_dir(folder)
    }

    fn add_file(&mut self, path: String, place: &Path) {
        match self.read_text(place) {
            Ok(Some(text)) => _ = self.tree.files.insert(path, text),
            Ok(None) => {}
            Err(error) => self.skip(path, &error),
        }
    }

    /// The text of a file; nothing where it is no text.
    fn read_text(&mut self, path: &Path) -> io::Result<Option<String>> {
        let file = open(path)?;
        if !self.judge(&file)?.is_file() {
            return Err(irregular());
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        let length = bytes.len() as u64;
        self.bytes += length;
        if self.bytes > MOST_BYTES {
            self.exceeded = Some(Bound::Bytes);
        }
        if length > LARGEST_FILE {
            return Err(io::Error::other(format!("it has more than {LARGEST_FILE} bytes")));
        }
        Ok(std::str::from_utf8(&bytes).ok().map(str::to_owned))
    }

    /// Looks at what is open, since its name may lead elsewhere by now: it is below the top, or its owner's. Root must
    /// not fetch for somebody what that one cannot read.
    fn judge(&self, file: &File) -> io::Result<Metadata> {
        let metadata = file.metadata()?;
        if metadata.uid() == self.owner {
            return Ok(metadata);
        }
        let place = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if place.starts_with(&self.top) { Ok(metadata) } else { Err(io::Error::other(ASTRAY)) }
    }

    fn skip(&mut self, path: String, error: &io::Error) {
        self.tree.unreadable.insert(path, error.to_string());
    }
}

/// Opening a pipe, or a device that took the place of a file, waits for nobody.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn irregular() -> io::Error {
    io::Error::other("it is no regular file")
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn text_of(name: Option<&std::ffi::OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// acme.sh itself, which lies in its own tree, has 300 KiB.
const LARGEST_FILE: u64 = 512 * 1024;
const MOST_ENTRIES: usize = 20_000;
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// `accounts/<host>/<two parts of a path>/<id>/` of certbot needs five.
const DEEPEST: usize = 6;
const ASTRAY: &str = "it leads out of the tree, to what is not the owner's of the tree; copy it into the tree";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

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

    /// Root reads a tree of somebody's: links must not make it fetch what that one cannot read.
    #[test]
    fn a_link_out_of_the_tree_leads_only_to_what_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, inside) = (folder.path().join("outside"), folder.path().join("inside"));
        for path in [&outside, &inside] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("key.pem"), "a key").unwrap();
        }
        symlink("../outside/key.pem", inside.join("file.pem")).unwrap();
        symlink("../outside", inside.join("folder")).unwrap();
        symlink("key.pem", inside.join("sibling.pem")).unwrap();
        let read = || {
            let tree = Tree::read(&inside).unwrap();
            let files: Vec<String> = tree.files().map(|(path, _)| path.to_owned()).collect();
            let reasons: Vec<String> = tree.unreadable().map(|(path, reason)| format!("{path}: {reason}")).collect();
            (files, reasons)
        };
        assert_eq!(read().0, ["file.pem", "folder/key.pem", "key.pem", "sibling.pem"]);
        // Only root can give a tree away.
        if chown(&inside, Some(65_534), None).is_ok() {
            let (files, reasons) = read();
            assert_eq!(files, ["key.pem", "sibling.pem"]);
            assert_eq!(reasons, [format!("file.pem: {ASTRAY}"), format!("folder: {ASTRAY}")]);
        }
    }

    #[test]
    fn what_is_read_and_what_is_looked_at_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![b'a'; usize::try_from(LARGEST_FILE).unwrap()];
        for number in 0..=MOST_BYTES / LARGEST_FILE {
            fs::write(folder.path().join(number.to_string()), &large).unwrap();
        }
        assert!(matches!(Tree::read(folder.path()), Err(UnreadableTree::TooLarge(_))));

        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MOST_ENTRIES {
            symlink("nowhere", folder.path().join(number.to_string())).unwrap();
        }
        assert!(matches!(Tree::read(folder.path()), Err(UnreadableTree::TooMany(_))));
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
