//! The rules of the house: which room may import which, and how long a file may grow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

mod adapters;
mod blocking_files;
mod circles;
mod endings;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import.
const ROOMS: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("runtime", &["domain"]),
    ("config", &["domain", "runtime"]),
    ("acme", &["config", "domain", "runtime"]),
    ("dns", &["config", "domain", "runtime"]),
    ("store", &["config", "domain", "runtime"]),
    ("deliver", &["config", "domain", "runtime", "store"]),
    ("import", &["acme", "domain"]),
    ("issuance", &["acme", "dns", "domain", "runtime", "store"]),
    ("doctor", &["acme", "config", "dns", "domain", "runtime", "store"]),
    ("scheduler", &["config", "deliver", "doctor", "domain", "issuance", "runtime", "store"]),
    ("http", &["config", "domain", "runtime", "store"]),
    ("simulation", &["domain", "runtime"]),
    (
        "app",
        &["acme", "config", "deliver", "dns", "doctor", "domain", "http", "issuance", "runtime", "scheduler", "store"],
    ),
    (
        "cli",
        &[
            "app",
            "config",
            "deliver",
            "doctor",
            "domain",
            "http",
            "import",
            "runtime",
            "scheduler",
            "simulation",
            "store",
        ],
    ),
    ("lib", &[]),
];

/// What the pure room must not know.
const IMPURE: [&str; 6] = ["tokio", "sqlx", "axum", "reqwest", "hickory", "instant_acme"];

const LONGEST_FILE: usize = 600;

#[test]
fn imports_run_one_way() {
    let mut faults = Vec::new();
    let mut rooms_seen = BTreeSet::new();
    for (path, text) in sources() {
        let room = room_of(&path);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            assert_eq!(room, "main", "{} belongs to no room", path.display());
            continue;
        };
        rooms_seen.insert(room.clone());
        for imported in imported_rooms(&text) {
            if imported != room && !allowed.contains(&imported.as_str()) {
                faults.push(format!("{}: {room} must not import {imported}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(rooms_seen.len(), ROOMS.len(), "a rule without a room: {rooms_seen:?}");
}

#[test]
fn the_domain_is_pure() {
    for (path, text) in sources().into_iter().filter(|(path, _)| room_of(path) == "domain") {
        for crate_name in IMPURE {
            assert!(!text.contains(&format!("{crate_name}::")), "{} uses {crate_name}", path.display());
        }
    }
}

#[test]
fn nothing_that_is_asked_for_each_element_reads_the_clock() {
    for (path, text) in sources() {
        let found = ambient_in_closures(&text);
        assert!(found.is_empty(), "{}: bind the value before: {}", path.display(), found.join("; "));
    }
    let faulty = "queue.sort_by_key(|due| due.until().unwrap_or(self.now() + DAY));\nkept.retain(|one| one.at < \
                  clock.now());\nlist.max_by_key(|_| randomness.fraction());\nlet x = map(|one| one.at);";
    assert_eq!(ambient_in_closures(faulty).len(), 3, "the rule finds what breaks it");
}

#[test]
fn no_file_outgrows_its_reader() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines; give it a second room", path.display());
    }
}

#[test]
fn the_rule_finds_what_breaks_it() {
    let text =
        "use crate::store::Store;\n//! see crate::acme\nlet x = crate::http::Api;\nuse crate::{dns, domain::id};\n";
    assert_eq!(imported_rooms(text), ["dns", "domain", "http", "store"].map(str::to_owned).into());
}

fn sources() -> Vec<(PathBuf, String)> {
    files_below("src")
}

/// The source files below a folder of the project, by their paths in it, with their texts.
fn files_below(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 30, "only {} files found", found.len());
    found
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The rooms that a file names outside comments: `crate::room` and `crate::{room, ...}`.
fn imported_rooms(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{').and_then(|group| group.split_once('}')) {
            Some((group, _)) => rooms.extend(group.split(',').map(first_word).filter(|word| !word.is_empty())),
            None => _ = rooms.insert(first_word(rest)),
        }
    }
    rooms
}

/// Calls that compare or choose elements by something that differs from one element to the next: a comparison that reads
/// the clock is no total order, and makes a sort panic.
fn ambient_in_closures(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for call in CHOOSING {
        for (at, _) in text.match_indices(call) {
            // `.sort(` as well as `.sort_unstable_by_key(`.
            let Some(open) = text[at..].find('(').map(|open| at + open) else { continue };
            if !text[at + 1..open].chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let argument = in_brackets(&text[open..]);
            if AMBIENT.iter().any(|ambient| argument.contains(ambient)) {
                found.push(format!("{}{argument}", &text[at..open]));
            }
        }
    }
    found
}

/// The text from an opening bracket to the one that closes it.
fn in_brackets(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..=at];
        }
    }
    text
}

const CHOOSING: [&str; 15] = [
    ".sort",
    ".min_by",
    ".max_by",
    ".is_sorted_by",
    ".binary_search_by",
    ".partition",
    ".dedup_by",
    ".retain",
    ".filter",
    ".find",
    ".position",
    ".any(",
    ".all(",
    ".take_while",
    ".skip_while",
];
const AMBIENT: [&str; 6] = ["now()", "randomness", "fraction()", "Instant::", "SystemTime", "partial_cmp"];

fn first_word(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
}
