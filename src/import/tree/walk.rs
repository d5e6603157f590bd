//! The way through a tree, which may belong to somebody who wishes its reader ill: the only place of this room that touches
//! the disk. Files are opened to be read, links are followed to what is below the top or belongs to the tree's owner, and
//! nothing but text of a reasonable size is taken. What is passed over is noted with its reason.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::import::SourceTool;
use crate::import::tree::{EMPTY_FOLDER_REASON, FileContent, FileNumber, FileTree};

/// Reads the folder or the file; inside, what there is too much of.
pub(super) fn read(tool: SourceTool, path: &Path) -> io::Result<Result<FileTree, ExceededBound>> {
    let full = fs::canonicalize(path)?;
    let metadata = fs::metadata(&full)?;
    let mut walk = TreeWalk::from(tool, full.clone(), &metadata);
    if metadata.is_dir() {
        walk.tree.name = lossy_text(full.file_name());
        let entries = fs::read_dir(&full)?;
        walk.add_folder("", entries);
    } else {
        walk.tree.name = lossy_text(full.file_stem());
        walk.add_file(lossy_text(full.file_name()), &full);
        if let Some(reason) = walk.tree.unreadable.values().next() {
            return Err(io::Error::other(reason.clone()));
        }
    }
    Ok(walk.exceeded.map_or(Ok(walk.tree), Err))
}

struct TreeWalk {
    tool: SourceTool,
    tree: FileTree,
    /// The folder or file that is read, without links.
    top: PathBuf,
    /// Whose it is.
    owner: u32,
    /// The folders in which this one is, so that links in a circle come to an end.
    ancestors: Vec<Identity>,
    /// How many links to each folder were followed.
    link_counts: HashMap<Identity, u8>,
    file_numbers: HashMap<Identity, FileNumber>,
    /// Whatever was looked at.
    entries: usize,
    bytes: u64,
    exceeded: Option<ExceededBound>,
}

type Identity = (u64, u64);

#[derive(Clone, Copy)]
pub(super) enum ExceededBound {
    Entries,
    Bytes,
}

impl TreeWalk {
    fn from(tool: SourceTool, top: PathBuf, metadata: &Metadata) -> Self {
        Self {
            tool,
            tree: FileTree::default(),
            top,
            owner: metadata.uid(),
            ancestors: vec![file_identity(metadata)],
            link_counts: HashMap::new(),
            file_numbers: HashMap::new(),
            entries: 0,
            bytes: 0,
            exceeded: None,
        }
    }

    fn add_folder(&mut self, path: &str, entries: fs::ReadDir) {
        let before = self.entries;
        for entry in entries {
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                self.exceeded = Some(ExceededBound::Entries);
            }
            if self.exceeded.is_some() {
                return;
            }
            match entry {
                Ok(entry) => self.add_entry(path, &entry),
                Err(error) => self.record_unreadable(path.to_owned(), error.to_string()),
            }
        }
        if self.entries == before && !path.is_empty() {
            self.record_unreadable(path.to_owned(), EMPTY_FOLDER_REASON.to_owned());
        }
    }

    fn add_entry(&mut self, folder: &str, entry: &fs::DirEntry) {
        let in_folder = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let path = match entry.file_name().into_string() {
            Ok(name) => in_folder(name),
            Err(name) => {
                let shown = name.as_encoded_bytes().escape_ascii().to_string();
                return self.record_unreadable(in_folder(shown), "its name is not UTF-8".to_owned());
            }
        };
        self.count_bytes(path.len());
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => self.add_subfolder(path, entry, &metadata),
            Ok(metadata) if !metadata.is_file() => self.record_unreadable(path, irregular_file_error().to_string()),
            Ok(metadata) if !self.tool.needs(&path) => {
                let file = self.file_number(&metadata);
                self.tree.unneeded.insert(path, file);
            }
            Ok(_) => self.add_file(path, &entry.path()),
            Err(error) => self.record_unreadable(path, error.to_string()),
        }
    }

    /// A folder below; certbot links whole folders of accounts, so that one may have several names.
    fn add_subfolder(&mut self, path: String, entry: &fs::DirEntry, metadata: &Metadata) {
        let identity = file_identity(metadata);
        if self.ancestors.contains(&identity) {
            return self.record_unreadable(path, "it links back to a folder in which it is".to_owned());
        }
        if self.ancestors.len() > DEEPEST {
            return self.record_unreadable(path, format!("it is more than {DEEPEST} folders deep"));
        }
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            let links = self.link_counts.entry(identity).or_default();
            if *links == MOST_LINKS {
                return self
                    .record_unreadable(path, format!("{MOST_LINKS} other links to its folder were followed already"));
            }
            *links += 1;
        }
        match self.read_entries(&entry.path()) {
            Ok(entries) => {
                self.ancestors.push(identity);
                self.add_folder(&path, entries);
                self.ancestors.pop();
            }
            Err(error) => self.record_unreadable(path, error.to_string()),
        }
    }

    fn read_entries(&self, folder: &Path) -> io::Result<fs::ReadDir> {
        self.check_access(&open(folder)?)?;
        fs::read_dir(folder)
    }

    fn add_file(&mut self, path: String, place: &Path) {
        match self.read_text(place) {
            Ok(content) => _ = self.tree.files.insert(path, content),
            Err(error) => self.record_unreadable(path, error.to_string()),
        }
    }

    fn read_text(&mut self, path: &Path) -> io::Result<FileContent> {
        let file = open(path)?;
        let metadata = self.check_access(&file)?;
        if !metadata.is_file() {
            return Err(irregular_file_error());
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        self.count_bytes(bytes.len());
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::other(format!("it has more than {LARGEST_FILE} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::other("it is not text"))?.to_owned();
        Ok(FileContent { text, file: self.file_number(&metadata) })
    }

    /// Looks at what is open, since its name may lead elsewhere by now: it is below the top, or its owner's. Root must
    /// not fetch for somebody what that one cannot read.
    fn check_access(&self, file: &File) -> io::Result<Metadata> {
        let metadata = file.metadata()?;
        if metadata.uid() == self.owner {
            return Ok(metadata);
        }
        let place = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if place.starts_with(&self.top) { Ok(metadata) } else { Err(io::Error::other(ASTRAY)) }
    }

    fn file_number(&mut self, metadata: &Metadata) -> FileNumber {
        let next = FileNumber::try_from(self.file_numbers.len()).unwrap_or(FileNumber::MAX);
        *self.file_numbers.entry(file_identity(metadata)).or_insert(next)
    }

    fn count_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes > MOST_BYTES {
            self.exceeded = Some(ExceededBound::Bytes);
        }
    }

    fn record_unreadable(&mut self, path: String, reason: String) {
        self.tree.unreadable.insert(path, reason);
    }
}

/// Opening a pipe, or a device that took the place of a file, waits for nobody.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn irregular_file_error() -> io::Error {
    io::Error::other("it is no regular file")
}

fn file_identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn lossy_text(name: Option<&std::ffi::OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// acme.sh itself, which lies in its own tree, has 300 KiB.
const LARGEST_FILE: u64 = 512 * 1024;
/// certbot never removes anything: 1,000 certificates that were renewed for eight years have some 200,000 files.
pub(super) const MOST_ENTRIES: usize = 500_000;
/// In bytes, of texts and of paths.
pub(super) const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// `accounts/<host>/<two parts of a path>/<id>/` of certbot needs five.
const DEEPEST: usize = 6;
/// So many links to one folder are followed, which bounds what links upon links can make of a small tree.
const MOST_LINKS: u8 = 4;
const ASTRAY: &str = "it leads out of the tree, to what is not the owner's of the tree; copy it into the tree";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::time::{Duration, Instant};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::import::{Fault, UnreadableTree};

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
        let tree = FileTree::read(SourceTool::Pem, &inside).unwrap();
        assert_eq!(tree.name(), "inside");
        assert_eq!(tree.files().collect::<Vec<_>>(), [("a/b/link.pem", "elsewhere")]);
        let reasons: Vec<_> = tree.unreadable().map(|(path, _)| path).collect();
        assert_eq!(reasons, ["a/binary", "a/circle", "a/dangling", "a/endless", "large"]);
        assert_eq!((tree.folders_in(""), tree.folders_in("a")), (vec!["a"], vec!["b"]));
        assert!(matches!(tree.required_text("large"), Err(Fault::Unreadable { .. })));
        assert!(matches!(tree.required_text("a/none"), Err(Fault::Missing(_))));
        assert!(matches!(
            FileTree::read(SourceTool::Pem, &folder.path().join("none")),
            Err(UnreadableTree::Refused { .. })
        ));
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
            let tree = FileTree::read(SourceTool::Pem, &inside).unwrap();
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
        assert!(matches!(FileTree::read(SourceTool::Pem, folder.path()), Err(UnreadableTree::TooLarge(_))));

        let folder = tempfile::tempdir().unwrap();
        for number in 0..3 {
            symlink("nowhere", folder.path().join(number.to_string())).unwrap();
        }
        let mut walk = TreeWalk::from(SourceTool::Pem, folder.path().to_owned(), &fs::metadata(folder.path()).unwrap());
        walk.entries = MOST_ENTRIES - 2;
        walk.add_folder("", fs::read_dir(folder.path()).unwrap());
        assert!(matches!(walk.exceeded, Some(ExceededBound::Entries)));
    }

    /// Whatever is in a tree is read or named, and no pipe, device, sparse giant or knot of links holds the reader up.
    #[test]
    fn a_hostile_tree_is_read_at_once_and_all_of_it_is_accounted_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        mkfifo(&at("pipe.pem"), Mode::S_IRWXU).unwrap();
        symlink("/dev/tty", at("terminal.pem")).unwrap();
        File::create(at("sparse.pem")).unwrap().set_len(1 << 40).unwrap();
        fs::write(at("line\nend\u{1b}[2J.pem"), "text").unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"odd\xff.pem")), "text").unwrap();
        fs::create_dir_all(at("1/2/3/4/5/6/7/8")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        // Each of six folders links to all of them, itself included.
        for one in 0..6 {
            fs::create_dir_all(at(&format!("knot/{one}"))).unwrap();
            fs::write(at(&format!("knot/{one}/own.pem")), "text").unwrap();
            (0..6)
                .for_each(|other| symlink(at(&format!("knot/{other}")), at(&format!("knot/{one}/to{other}"))).unwrap());
        }
        let begun = Instant::now();
        let tree = FileTree::read(SourceTool::Pem, folder.path()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        let reason = |wanted: &str| tree.unreadable().find(|(path, _)| *path == wanted).map(|(_, reason)| reason);
        assert_eq!(reason("pipe.pem"), Some("it is no regular file"));
        assert_eq!(reason("terminal.pem"), Some("it is no regular file"));
        assert_eq!(reason("sparse.pem"), Some("it has more than 524288 bytes"));
        assert_eq!(reason("odd\\xff.pem"), Some("its name is not UTF-8"));
        assert_eq!(reason("1/2/3/4/5/6/7"), Some("it is more than 6 folders deep"));
        assert_eq!(reason("empty"), Some(EMPTY_FOLDER_REASON));
        assert_eq!(reason("knot/1/to1"), Some("it links back to a folder in which it is"));
        assert!(
            (0..6).all(|one| tree.optional_text(&format!("knot/{one}/own.pem")).is_some()),
            "{:?}",
            tree.paths_in("knot")
        );
        assert!(tree.files().count() <= 1 + 6 * usize::from(MOST_LINKS + 1));
        assert!(tree.optional_text("line\nend\u{1b}[2J.pem").is_some());
    }

    #[test]
    fn what_may_not_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("closed")).unwrap();
        for name in ["closed/one.pem", "two.pem"] {
            fs::write(folder.path().join(name), "text").unwrap();
        }
        for (name, mode) in [("two.pem", 0), ("closed", 0)] {
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let tree = FileTree::read(SourceTool::Pem, folder.path()).unwrap();
        let named = tree.unreadable().map(|(path, _)| path).collect::<Vec<_>>();
        // Nothing is closed to root.
        let expected = if nix::unistd::geteuid().is_root() { vec![] } else { vec!["closed", "two.pem"] };
        assert_eq!(named, expected);
        assert_eq!(tree.files().count() + named.len(), 2);
        fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_tree_survives_its_way_through_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one.pem"), "text\n").unwrap();
        let tree = FileTree::read(SourceTool::Pem, &folder.path().join("one.pem")).unwrap();
        let again: FileTree = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
        assert_eq!((again.name(), again.required_text("one.pem").unwrap()), ("one", "text\n"));
    }
}
