//! No circle of files: whoever reads a file reads on in what it builds on, and comes to an end. A module and its parts
//! count as one here, because a module names its parts and they name it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use super::files_below;

/// The path of a module without the crate: `store::lease` is `["store", "lease"]`.
type ModulePath = Vec<String>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = files_below("src").into_iter().filter(|(path, _)| !path.ends_with("tests.rs"));
    let circles = House::new(sources.map(|(path, text)| (module_of(&path), text))).circles();
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let file = |module: &str, text: &str| (words(module), text.to_owned());
    let house = House::new([
        file("a", "mod part;\npub use part::Part;\n"),
        file("a::part", "use crate::a::Other;\nuse crate::b::{self, inner::{Deep, Flat}};\n// crate::c::C\n"),
        file("b", "use crate::c::C;\n"),
        file("b::inner", "fn f() -> crate::a::Part {}\n"),
        file("c", "use std::fmt;\n#[cfg(test)]\nmod tests {\nuse crate::b::B;\n}\n"),
    ]);
    assert_eq!(house.circles(), ["a::part -> b::inner -> a::part"]);
}

/// The files by their modules, each with the paths that it uses and those that it publishes under another path.
struct House {
    files: BTreeMap<ModulePath, File>,
}

#[derive(Default)]
struct File {
    used: Vec<ModulePath>,
    re_exported: BTreeMap<String, ModulePath>,
}

impl House {
    fn new(sources: impl IntoIterator<Item = (ModulePath, String)>) -> Self {
        let sources: BTreeMap<ModulePath, String> = sources.into_iter().collect();
        let read = |(module, text): (&ModulePath, &String)| {
            let mut file = File::default();
            let code = without_tests_and_comments(text);
            for (is_public, path) in use_items(&code) {
                let Some(path) = absolute(&path, module, |part| sources.contains_key(part)) else { continue };
                if let (true, Some(name)) = (is_public, path.last()) {
                    file.re_exported.insert(name.clone(), path.clone());
                }
                file.used.push(path);
            }
            file.used.extend(code.split("crate::").skip(1).map(|rest| words(leading_path(rest))));
            (module.clone(), file)
        };
        Self { files: sources.iter().map(read).collect() }
    }

    /// The file that defines what a path names: re-exports are followed to it.
    fn defining_file(&self, path: &[String]) -> Option<&ModulePath> {
        let mut path = path.to_vec();
        // A re-export of a re-export: nobody has more of them than this.
        for _ in 0..5 {
            let depth = (1..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
            let next = path.get(depth).and_then(|name| self.files[&path[..depth]].re_exported.get(name));
            match next.filter(|next| next[..] != path[..]) {
                Some(next) => path = next.iter().chain(&path[depth + 1..]).cloned().collect(),
                None => return self.files.get_key_value(&path[..depth]).map(|(module, _)| module),
            }
        }
        None
    }

    fn imports<'a>(&'a self) -> BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>> {
        let of_file = |(module, file): (&'a ModulePath, &'a File)| {
            let others = file.used.iter().filter_map(|path| self.defining_file(path));
            (module, others.filter(|other| !other.starts_with(module) && !module.starts_with(other)).collect())
        };
        self.files.iter().map(of_file).collect()
    }

    /// The shortest circle through each file that is the first of it by name.
    fn circles(&self) -> Vec<String> {
        let imports = self.imports();
        let mut found = Vec::new();
        for start in imports.keys() {
            let circle = shortest_circle(start, &imports);
            if circle.first() == circle.iter().min() && !circle.is_empty() {
                let names = circle.iter().chain([start]).map(|module| module.join("::"));
                found.push(names.collect::<Vec<_>>().join(" -> "));
            }
        }
        found
    }
}

fn shortest_circle<'a>(
    start: &'a ModulePath,
    imports: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
) -> Vec<&'a ModulePath> {
    let mut came_from = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(module) = waiting.pop_front() {
        for next in imports.get(module).into_iter().flatten() {
            if *next == start {
                let back = std::iter::successors(Some(module), |at| came_from.get(at).copied());
                let mut circle: Vec<_> = back.collect();
                circle.reverse();
                return circle;
            }
            if !came_from.contains_key(next) {
                came_from.insert(*next, module);
                waiting.push_back(next);
            }
        }
    }
    Vec::new()
}

fn module_of(path: &Path) -> ModulePath {
    path.with_extension("").components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect()
}

fn words(path: &str) -> ModulePath {
    path.split("::").map(|word| word.trim().to_owned()).collect()
}

/// The path at the beginning of a text.
fn leading_path(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    text[..end].trim_end_matches(':')
}

fn without_tests_and_comments(text: &str) -> String {
    let code = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Each path of each `use`, and whether it is published.
fn use_items(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for item in code.split(';') {
        let Some((before, tree)) = item.rsplit_once("use ") else { continue };
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with("pub") {
            let paths = expanded("", tree.trim());
            found.extend(paths.into_iter().map(|path| (line.starts_with("pub"), path)));
        }
    }
    found
}

/// The paths of a use tree: `a::{b, c::{d, e}}` are three.
fn expanded(prefix: &str, tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        return vec![format!("{prefix}{path}").trim_end_matches("::self").to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let prefix = format!("{prefix}{before}");
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(expanded(&prefix, inner[begin..at].trim()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !inner[begin..].trim().is_empty() {
        found.extend(expanded(&prefix, inner[begin..].trim()));
    }
    found
}

/// The path from the crate on; none for another crate's.
fn absolute(path: &str, module: &ModulePath, is_file: impl Fn(&ModulePath) -> bool) -> Option<ModulePath> {
    let mut words = words(path);
    let mut base = module.clone();
    match words[0].as_str() {
        "crate" => return Some(words.split_off(1)),
        "self" => return Some(base.into_iter().chain(words.split_off(1)).collect()),
        "super" => {
            let ups = words.iter().take_while(|word| *word == "super").count();
            base.truncate(module.len().saturating_sub(ups));
            return Some(base.into_iter().chain(words.split_off(ups)).collect());
        }
        _ => {}
    }
    base.push(words[0].clone());
    is_file(&base).then(|| module.iter().cloned().chain(words).collect())
}
