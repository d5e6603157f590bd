//! What of a tree went into no lineage, with why: a plan passes over nothing in silence. Files of one kind are one entry, so
//! that the list of a large tree can be read.

use std::collections::BTreeMap;

use crate::domain::value::text::{RemoteMessage, escaped_line};
use crate::import::tree::EMPTY_FOLDER_REASON;
use crate::import::{FileTree, SourceTool};

/// Files or folders that went into no lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// A file, or the folder in which several are, below the folder that is imported.
    pub path: RemoteMessage,
    /// How many there are.
    pub count: usize,
    /// Why they were left out.
    pub reason: RemoteMessage,
}

/// Why files below a path of a tool's tree are of no use.
pub(super) type KnownLeftover = (&'static str, &'static str);

/// What the lineages of this tree left out: first what cannot be read, then what is not needed. To be asked after they were
/// made.
pub fn find_leftovers(tool: SourceTool, tree: &FileTree) -> Vec<Leftover> {
    let known = tool.known_leftovers();
    let mut groups: BTreeMap<(bool, String, &str), (usize, &str)> = BTreeMap::new();
    let mut add = |is_readable: bool, folder: String, reason, path| {
        groups.entry((is_readable, folder, reason)).or_insert((0, path)).0 += 1;
    };
    for (path, reason) in tree.unreadable() {
        match known.iter().find(|(start, _)| reason == EMPTY_FOLDER_REASON && path.starts_with(start)) {
            Some((start, reason)) => add(true, (*start).to_owned(), *reason, path),
            None => add(reason == EMPTY_FOLDER_REASON, parent_folder(path), reason, path),
        }
    }
    for (path, text) in tree.unused() {
        match known.iter().find(|(start, _)| path.starts_with(start)) {
            Some((start, reason)) => add(true, (*start).to_owned(), *reason, path),
            None => add(true, parent_folder(path), tool.why_unused(text), path),
        }
    }
    let leftover = |((_, folder, reason), (count, path)): ((bool, String, &str), (usize, &str))| {
        let path = if count == 1 { path } else { &folder };
        Leftover { path: RemoteMessage::new(&escaped_line(path)), count, reason: RemoteMessage::new(reason) }
    };
    groups.into_iter().map(leftover).collect()
}

/// With the final slash; `./` at the top.
fn parent_folder(path: &str) -> String {
    path.rsplit_once('/').map_or_else(|| "./".to_owned(), |(folder, _)| format!("{folder}/"))
}
