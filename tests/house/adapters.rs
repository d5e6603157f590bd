//! docs/dns-adapters.md says what the code says: its quotations, its sections, its settings and its examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use autocertd::config::Config;
use autocertd::dns::routes::DnsRoutes;
use autocertd::runtime::clock::SystemClock;
use autocertd::runtime::randomness::Randomness;

/// A code block, and the line before its fence.
struct Block<'a> {
    before: &'a str,
    language: &'a str,
    text: String,
}

#[test]
fn what_is_quoted_is_in_the_file() {
    let page = read("docs/dns-adapters.md");
    let mut quoted = BTreeSet::new();
    for block in blocks(&page).into_iter().filter(|block| block.language == "rust") {
        let path = block.before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let path = path.unwrap_or_else(|| panic!("no file is named before\n{}", block.text));
        assert!(read(path).contains(&block.text), "{path} does not hold\n{}", block.text);
        quoted.insert(path.to_owned());
    }
    assert!(quoted.contains("src/dns/adapters/exec.rs") && quoted.contains("src/dns/adapters.rs"), "{quoted:?}");
}

#[test]
fn every_kind_has_its_section_with_all_its_settings() {
    let page = read("docs/dns-adapters.md");
    let kinds = kinds();
    assert!(kinds.len() > 2, "{kinds:?}");
    for (kind, module) in kinds {
        let section = section(&page, &kind);
        assert!(section.contains(&format!("type = \"{kind}\"")), "{kind} has no example");
        for setting in settings(&read(&format!("src/dns/adapters/{module}.rs"))) {
            assert!(section.contains(&format!("| `{setting}` |")), "the table of {kind} lacks {setting}");
        }
    }
    for setting in ["zone", "nameservers", "listen", "questions_per_second"] {
        assert!(section(&page, "delegated").contains(&format!("| `{setting}` |")), "{setting} is missing");
    }
}

#[test]
fn every_example_can_be_used() {
    let page = read("docs/dns-adapters.md");
    let examples: Vec<_> = blocks(&page).into_iter().filter(|block| block.language == "toml").collect();
    assert!(examples.len() > 5, "only {} examples", examples.len());
    let randomness = Randomness::from_seed(1);
    for Block { text, .. } in examples {
        let config = Config::parse(&text, Path::new("docs/dns-adapters.md")).unwrap_or_else(|error| panic!("{error}"));
        let made = DnsRoutes::from_config(&config.dns, None, &(std::sync::Arc::new(SystemClock) as _), &randomness);
        // Files of secrets are not there.
        let error = made.err().map(|error| error.to_string()).filter(|error| !error.contains("_file cannot be used"));
        assert_eq!(error, None, "{text}");
    }
}

/// The names of `KINDS`, each with the module behind it.
fn kinds() -> Vec<(String, String)> {
    let text = read("src/dns/adapters.rs");
    let (_, list) = text.split_once("const KINDS").unwrap().1.split_once(" =").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let entries = list.split('(').skip(1).map(|entry| entry.trim_start_matches('"').split_once("\", ").unwrap());
    entries.map(|(kind, make)| (kind.to_owned(), make.split_once("::").unwrap().0.to_owned())).collect()
}

/// The fields of `struct Section` in a file; none where it has no such struct.
fn settings(file: &str) -> Vec<&str> {
    let Some((_, section)) = file.split_once("struct Section {\n") else { return Vec::new() };
    let (fields, _) = section.split_once("\n}").unwrap();
    let names = fields.lines().filter_map(|line| line.trim().trim_start_matches("pub ").split_once(": "));
    names.map(|(name, _)| name).filter(|name| !name.starts_with(['/', '#'])).collect()
}

/// What stands below a heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("there is no section {heading}"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut before) = (Vec::new(), "");
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { before, language, text });
        }
        before = line;
    }
    blocks
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
