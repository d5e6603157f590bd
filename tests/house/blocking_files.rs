//! Files are read and written on threads that may wait (`runtime::files`, `spawn_blocking`): a slow disk or a dead mount must
//! not hold up the few threads that serve everybody. Whatever else touches files stands here, counted, with the reason.

use std::collections::BTreeMap;

use crate::{room_of, sources};

/// The rooms whose code runs on these threads.
const ROOMS: [&str; 10] =
    ["acme", "app", "deliver", "dns", "doctor", "http", "issuance", "runtime", "scheduler", "store"];

/// What shows that a line touches files.
const MARKS: [&str; 11] = [
    "fs::",
    "File::open(",
    "OpenOptions::",
    "DirBuilder::",
    ".exists()",
    "canonicalize(",
    "AtomicFile::",
    "secret::read(",
    "secret::token(",
    "secret::password(",
    "read_dir(",
];

/// Each file that touches files by itself, in how many lines, and why it may.
const KNOWN: [(&str, usize, &str); 18] = [
    ("app.rs", 4, "at the first start, before anything is served"),
    ("app/store_marker.rs", 3, "at the start"),
    ("deliver/files/contents.rs", 1, "within spawn_blocking of deliver::files"),
    ("deliver/reload/spool.rs", 1, "root's helper, a program of its own without async code"),
    ("deliver/reload/helper.rs", 2, "one within files::work, and one in a drop, in a folder in memory"),
    ("dns/adapters/acme_dns/accounts.rs", 2, "within spawn_blocking; within files::work"),
    ("dns/adapters/ionos.rs", 1, "the token, when the adapter is made at the start"),
    ("dns/adapters/rfc2136/key.rs", 1, "the key, when the adapter is made at the start"),
    ("doctor/storage.rs", 2, "the doctor command, which serves nobody"),
    ("http/server.rs", 4, "when the socket is bound, at the start"),
    ("runtime/clock.rs", 1, "builds for tests only"),
    ("runtime/atomic_file.rs", 7, "called within files::work, spawn_blocking and commands"),
    ("runtime/files.rs", 2, "the place for it"),
    ("runtime/processes.rs", 2, "/proc, within spawn_blocking of program and signal"),
    ("store.rs", 1, "when the store is opened"),
    ("store/database.rs", 1, "after SQLite failed to open the same file, to say why"),
    (
        "store/sealing/key_ring.rs",
        9,
        "at the start and in a rotation, but for one stat of the master key file before a secret is sealed: a key that was \
         rotated away meanwhile would make what is sealed unreadable, so that no age of a cached answer is safe",
    ),
    ("store/database/instance_lock.rs", 6, "within files::work; at the start and the end of the process"),
];

#[test]
fn files_are_touched_on_threads_that_may_wait() {
    let in_rooms = |path: &std::path::Path| ROOMS.contains(&room_of(path).as_str());
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| in_rooms(path)) {
        let path = path.to_str().unwrap().to_owned();
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/") || path == "issuance/dispositions.rs";
        let count = touches(&text);
        if count > 0 && !is_test {
            found.insert(path, count);
        }
    }
    let known: BTreeMap<String, usize> = KNOWN.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect();
    assert_eq!(
        found, known,
        "a line that touches files came or went: use runtime::files, or count it in KNOWN with the reason"
    );
}

#[test]
fn the_rule_finds_what_touches_files() {
    let text = "use std::fs;\n// fs::read\nlet text = std::fs::read_to_string(path);\nlet text = tokio::fs::read(path).await;\n\
                if path.exists() {}\n#[cfg(test)]\nmod tests {\n    fs::write(path, text);\n";
    assert_eq!(touches(text), 2);
}

/// The lines that touch files, outside of imports, comments and tests.
fn touches(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//") && !line.starts_with("use "));
    lines.filter(|line| MARKS.iter().any(|mark| line.replace("tokio::fs::", "").contains(mark))).count()
}
