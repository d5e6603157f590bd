//! A tree of files, read once into memory. It remembers what was asked of it, so that a plan can tell what was left out.

mod walk;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::import::tree::walk::{ExceededBound, MOST_BYTES, MOST_ENTRIES};
use crate::import::{Fault, SourceTool};

/// Why a folder without anything in it went into no lineage.
pub(super) const EMPTY_FOLDER_REASON: &str = "it is an empty folder";

/// The files of a tool, by their paths below its folder.
#[derive(Default, Deserialize, Serialize)]
pub struct FileTree {
    /// The last part of the path that was read, without what makes it a file's name.
    name: String,
    files: BTreeMap<String, FileContent>,
    /// Files of which the tool's certificates need no content.
    unneeded: BTreeMap<String, FileNumber>,
    /// What is there and could not be read, with the reason.
    unreadable: BTreeMap<String, String>,
    /// The files that were asked for.
    #[serde(skip)]
    used: RefCell<HashSet<FileNumber>>,
}

/// One number for a file, by however many names and links it is found.
type FileNumber = u32;

#[derive(Deserialize, Serialize)]
struct FileContent {
    text: String,
    file: FileNumber,
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

impl FileTree {
    /// Reads the files below a folder that this tool's certificates need, or the one file that `path` is.
    ///
    /// # Errors
    /// Where `path` cannot be read or holds too much. Files and folders below it that cannot be read are kept in mind
    /// instead.
    pub fn read(tool: SourceTool, path: &Path) -> Result<Self, UnreadableTree> {
        let refused = |source| UnreadableTree::Refused { path: path.to_owned(), source };
        walk::read(tool, path).map_err(refused)?.map_err(|bound| match bound {
            ExceededBound::Entries => UnreadableTree::TooMany(path.to_owned()),
            ExceededBound::Bytes => UnreadableTree::TooLarge(path.to_owned()),
        })
    }

    /// What cannot be read, each with the reason; [`EMPTY_FOLDER_REASON`] folders too.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unreadable.iter().map(|(path, reason)| (path.as_str(), reason.as_str()))
    }

    /// The files that nobody asked for, with their texts as far as they were read.
    pub(super) fn unused(&self) -> Vec<(&str, Option<&str>)> {
        let used = self.used.borrow();
        let read = self.files.iter().map(|(path, content)| (path, content.file, Some(content.text.as_str())));
        let others = self.unneeded.iter().map(|(path, file)| (path, *file, None));
        read.chain(others)
            .filter(|(_, file, _)| !used.contains(file))
            .map(|(path, _, text)| (path.as_str(), text))
            .collect()
    }

    /// The name of the folder or file that was read.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A file that should be there.
    pub(super) fn required_text(&self, path: &str) -> Result<&str, Fault> {
        if let Some(text) = self.optional_text(path) {
            return Ok(text);
        }
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let reason = std::iter::once(path).chain(above).find_map(|path| self.unreadable.get(path));
        let reason = reason.filter(|reason| *reason != EMPTY_FOLDER_REASON);
        Err(match reason {
            Some(reason) => Fault::Unreadable { path: path.to_owned(), reason: reason.clone() },
            None => Fault::Missing(path.to_owned()),
        })
    }

    /// A file that may be there.
    pub(super) fn optional_text(&self, path: &str) -> Option<&str> {
        let content = self.files.get(path)?;
        self.used.borrow_mut().insert(content.file);
        Some(&content.text)
    }

    /// A file that may be there, looked at without being needed.
    pub(super) fn peek(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|content| content.text.as_str())
    }

    /// Every file that was read, with its path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.text.as_str()))
    }

    /// The paths of what is right in `folder`, whether it could be read or not.
    pub(super) fn paths_in(&self, folder: &str) -> Vec<&str> {
        let depth = folder.matches('/').count() + usize::from(!folder.is_empty());
        self.below(folder).into_iter().filter(|path| path.matches('/').count() == depth).collect()
    }

    /// The names of the folders right below `folder`, in their order; of the top where it is empty.
    pub(super) fn folders_in(&self, folder: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .below(folder)
            .into_iter()
            .filter_map(|path| {
                let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
                rest.split_once('/').map(|(name, _)| name)
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The paths below a folder, without a look at all others.
    fn below(&self, folder: &str) -> Vec<&str> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let (files, unneeded) = (keys_with_prefix(&self.files, &start), keys_with_prefix(&self.unneeded, &start));
        files.chain(unneeded).chain(keys_with_prefix(&self.unreadable, &start)).collect()
    }
}

fn keys_with_prefix<'t, V>(map: &'t BTreeMap<String, V>, start: &str) -> impl Iterator<Item = &'t str> {
    let range = map.range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
    range.map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(start))
}

impl Drop for FileTree {
    fn drop(&mut self) {
        self.files.values_mut().for_each(|content| content.text.zeroize());
    }
}
