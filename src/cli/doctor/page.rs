//! What was found, as a page for people: a heading for each of those that it is about, a line for each look, and below what
//! is not as it should be what to do.

use std::fmt::Write;

use crate::cli::plan::page::{put, wrapped};
use crate::domain::finding::{Finding, Subject, Verdict};
use crate::domain::text::printable;

/// The page, of 80 columns.
pub(super) fn page(findings: &[Finding], looked_at_names: bool, colour: bool) -> String {
    let mut page = String::new();
    for subject in subjects(findings) {
        if !page.is_empty() {
            page.push('\n');
        }
        put(&mut page, &printable(&subject.to_string()));
        for finding in findings.iter().filter(|finding| finding.about == *subject) {
            in_lines(&mut page, finding, colour);
        }
    }
    if !looked_at_names {
        page.push('\n');
        put(&mut page, "No name was looked at. Give one, such as: autocertd doctor www.example.com");
    }
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let plural = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let (warnings, faults) = (plural(count(Verdict::Warning), "warning"), plural(count(Verdict::Fault), "fault"));
    page.push('\n');
    put(&mut page, &format!("{} ok, {warnings}, {faults}", count(Verdict::Ok)));
    page
}

/// Each once, in the order in which they come first; autocertd itself at the beginning.
fn subjects(findings: &[Finding]) -> Vec<&Subject> {
    let mut subjects = Vec::new();
    for Finding { about, .. } in findings {
        if !subjects.contains(&about) {
            subjects.push(about);
        }
    }
    subjects
}

fn in_lines(page: &mut String, finding: &Finding, colour: bool) {
    let text = printable(&format!("{}: {}", finding.check, finding.detail));
    let mut lines = wrapped(&text, WIDTH - INDENT).into_iter();
    // Writing to a text never fails.
    let _infallible = write!(page, "  {}  ", painted(finding.verdict, colour));
    put(page, &lines.next().unwrap_or_default());
    for line in lines {
        put(page, &format!("{:INDENT$}{line}", ""));
    }
    for line in finding.remedy.iter().flat_map(|remedy| wrapped(&format!("-> {}", printable(remedy)), WIDTH - INDENT)) {
        put(page, &format!("{:INDENT$}{line}", ""));
    }
}

fn painted(verdict: Verdict, colour: bool) -> String {
    let word = format!("{:VERDICT$}", verdict.as_str());
    let code = match verdict {
        Verdict::Ok => "32",
        Verdict::Warning => "33",
        Verdict::Fault => "1;31",
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

const WIDTH: usize = 80;
const VERDICT: usize = "warning".len();
const INDENT: usize = VERDICT + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finding::Check;

    fn findings() -> Vec<Finding> {
        let (set_up, name) = (Subject::SetUp, Subject::Name("www.example.com".to_owned()));
        let remedy = "create or enable its zone, or give a token that may see it (3 zones were seen)";
        vec![
            Finding::ok(&set_up, Check::Settings, "they can be used"),
            Finding::ok(&name, Check::Aliases, "_acme-challenge.www.example.com is no alias"),
            Finding::fault(&name, Check::Zone, "ionos: no enabled zone holds _acme-challenge.www.example.com", remedy),
            Finding::not_checked(&name, Check::Canary, "there is no zone"),
            Finding::warning(&set_up, Check::DiskSpace, "150 MiB are free at /\x1b[31mvar", "make room"),
        ]
    }

    #[test]
    fn it_reads_well_in_80_columns() {
        insta::assert_snapshot!(page(&findings(), true, false), @r"
        Set-up
          ok       settings: they can be used
          warning  disk space: 150 MiB are free at / [31mvar
                   -> make room

        www.example.com
          ok       aliases: _acme-challenge.www.example.com is no alias
          fault    zone: ionos: no enabled zone holds _acme-challenge.www.example.com
                   -> create or enable its zone, or give a token that may see it (3
                   zones were seen)
          warning  canary record: not checked: there is no zone

        2 ok, 2 warnings, 1 fault
        ");
    }

    #[test]
    fn colour_is_for_the_verdict_alone() {
        let page = page(&findings()[2..3], false, true);
        assert!(page.contains("  \x1b[1;31mfault  \x1b[0m  zone: "), "{page:?}");
        assert!(page.contains("autocertd doctor www.example.com\n\n0 ok, 0 warnings, 1 fault\n"), "{page}");
    }
}
