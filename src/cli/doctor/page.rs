//! What was found, as a page for people: a heading for each of those that it is about, a line for each look, and below what
//! is not as it should be what to do. Of many names, those with the same findings share a line.

use std::collections::HashMap;
use std::fmt::Write;

use crate::cli::plan::page::{push_line, wrap};
use crate::doctor::OUT_OF_TIME;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject, CheckVerdict};
use crate::domain::value::text::printable;

/// What a page shows.
pub(super) struct DoctorPage<'a> {
    pub(super) findings: &'a [CheckResult],
    /// Of all findings, shown or not.
    pub(super) counts: VerdictCounts,
    /// Whether any name was looked at.
    pub(super) has_names: bool,
    pub(super) only_problems: bool,
    /// How many checks were cut off, and by what.
    pub(super) cut_off: Option<(usize, &'static str)>,
}

/// How many findings there are of each verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VerdictCounts {
    ok: usize,
    skipped: usize,
    warnings: usize,
    faults: usize,
}

/// Findings of several names that differ in the name alone.
struct ResultGroup<'a> {
    check: Check,
    verdict: CheckVerdict,
    detail: String,
    remedy: Option<String>,
    names: Vec<&'a str>,
}

impl VerdictCounts {
    pub(super) fn from_results(findings: &[CheckResult]) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            match finding.verdict {
                CheckVerdict::Ok => counts.ok += 1,
                CheckVerdict::Skipped => counts.skipped += 1,
                CheckVerdict::Warning => counts.warnings += 1,
                CheckVerdict::Fault => counts.faults += 1,
            }
        }
        counts
    }
}

/// The page, of 80 columns.
pub(super) fn render_page(shown: &DoctorPage<'_>, colour: bool) -> String {
    let mut page = String::new();
    let (others, names): (Vec<_>, Vec<_>) = group_by_subject(shown.findings)
        .into_iter()
        .partition(|(subject, _)| !matches!(subject, CheckSubject::Name(_)));
    for (subject, findings) in &others {
        write_section(&mut page, subject, findings, colour);
    }
    if names.len() > MAX_SINGLE_NAMES {
        write_grouped(&mut page, &names, colour);
    } else {
        for (subject, findings) in &names {
            write_section(&mut page, subject, findings, colour);
        }
    }
    if !page.is_empty() {
        page.push('\n');
    }
    if !shown.has_names {
        push_line(&mut page, "No name was looked at. Give one, such as: autocertd doctor www.example.com");
        page.push('\n');
    }
    if shown.only_problems && shown.findings.is_empty() {
        push_line(&mut page, "No problem was found.");
    }
    if let Some((checks, reason)) = shown.cut_off {
        let more = if reason == OUT_OF_TIME { "; --timeout 10m gives more time" } else { "" };
        push_line(&mut page, &format!("Checks that were cut off, {reason}: {checks}{more}"));
    }
    let plural = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let VerdictCounts { ok, skipped, warnings, faults } = shown.counts;
    let (warnings, faults) = (plural(warnings, "warning"), plural(faults, "fault"));
    push_line(&mut page, &format!("{ok} ok, {skipped} skipped, {warnings}, {faults}"));
    page
}

/// Each subject once, in the order in which they come first, with its findings; autocertd itself at the beginning.
fn group_by_subject(findings: &[CheckResult]) -> Vec<(&CheckSubject, Vec<&CheckResult>)> {
    let (mut subjects, mut places) = (Vec::new(), HashMap::new());
    for finding in findings {
        let at = *places.entry(&finding.about).or_insert(subjects.len());
        if at == subjects.len() {
            subjects.push((&finding.about, Vec::new()));
        }
        subjects[at].1.push(finding);
    }
    subjects
}

fn write_section(page: &mut String, subject: &CheckSubject, findings: &[&CheckResult], colour: bool) {
    write_heading(page, &printable(&subject.to_string()));
    for finding in findings {
        let text = format!("{}: {}", finding.check, finding.detail);
        write_lines(page, finding.verdict, (&text, finding.remedy.as_deref()), colour);
    }
}

fn write_heading(page: &mut String, text: &str) {
    if !page.is_empty() {
        page.push('\n');
    }
    push_line(page, text);
}

/// The gravest first.
fn write_grouped(page: &mut String, names: &[(&CheckSubject, Vec<&CheckResult>)], colour: bool) {
    write_heading(page, &format!("{} names", names.len()));
    let mut groups = group_results(names);
    groups.sort_by_key(|group| std::cmp::Reverse(group.verdict));
    for of_verdict in groups.chunk_by(|one, other| one.verdict == other.verdict) {
        let verdict = of_verdict[0].verdict;
        let is_problem = matches!(verdict, CheckVerdict::Warning | CheckVerdict::Fault);
        if is_problem {
            of_verdict.iter().take(MAX_PROBLEMS).for_each(|group| write_group(page, group, names.len(), colour));
            if let more @ 1.. = of_verdict.len().saturating_sub(MAX_PROBLEMS) {
                write_lines(page, verdict, (&format!("and {more} others, see --json"), None), colour);
            }
            continue;
        }
        let mut checks: Vec<Check> = Vec::new();
        for group in of_verdict {
            if !checks.contains(&group.check) {
                checks.push(group.check);
            }
        }
        for check in checks {
            let alike: Vec<_> = of_verdict.iter().filter(|group| group.check == check).collect();
            if alike.len() <= MAX_ALIKE {
                for group in alike {
                    write_group(page, group, names.len(), colour);
                }
            } else {
                let count: usize = alike.iter().map(|group| group.names.len()).sum();
                let text = format!("{check}: another answer for each of {count} names, see --json");
                write_lines(page, verdict, (&text, None), colour);
            }
        }
    }
}

fn write_group(page: &mut String, group: &ResultGroup<'_>, all: usize, colour: bool) {
    let ResultGroup { check, verdict, detail, remedy, names } = group;
    let text = match (names.len(), verdict) {
        (count, _) if count == all => format!("{check}: {detail} (every NAME)"),
        (count, CheckVerdict::Ok) => format!("{check}: {detail} ({count} names)"),
        (count, _) => format!("{check}: {detail} ({count} names: {})", list_names(names)),
    };
    write_lines(page, *verdict, (&text, remedy.as_deref()), colour);
}

fn group_results<'a>(names: &[(&'a CheckSubject, Vec<&CheckResult>)]) -> Vec<ResultGroup<'a>> {
    let (mut groups, mut places): (Vec<ResultGroup<'a>>, HashMap<_, usize>) = (Vec::new(), HashMap::new());
    for (subject, findings) in names {
        let CheckSubject::Name(name) = subject else { continue };
        for finding in findings {
            let (detail, remedy) = (replace_name(&finding.detail, name), finding.remedy.as_ref());
            let remedy = remedy.map(|remedy| replace_name(remedy, name));
            let key = (finding.check.as_str(), finding.verdict.as_str(), detail.clone(), remedy.clone());
            let at = *places.entry(key).or_insert(groups.len());
            if at == groups.len() {
                let (check, verdict) = (finding.check, finding.verdict);
                groups.push(ResultGroup { check, verdict, detail, remedy, names: Vec::new() });
            }
            groups[at].names.push(name);
        }
    }
    groups
}

fn replace_name(text: &str, name: &str) -> String {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    text.replace(name, "NAME").replace(bare, "NAME")
}

fn list_names(names: &[&str]) -> String {
    let first = names[..names.len().min(MAX_NAMES_LISTED)].join(", ");
    match names.len().saturating_sub(MAX_NAMES_LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn write_lines(page: &mut String, verdict: CheckVerdict, (text, remedy): (&str, Option<&str>), colour: bool) {
    let mut lines = wrap(&printable(text), WIDTH - INDENT).into_iter();
    // Writing to a text never fails.
    let _infallible = write!(page, "  {}  ", colour_verdict(verdict, colour));
    push_line(page, &lines.next().unwrap_or_default());
    for line in lines {
        push_line(page, &format!("{:INDENT$}{line}", ""));
    }
    for line in remedy.iter().flat_map(|remedy| wrap(&format!("-> {}", printable(remedy)), WIDTH - INDENT)) {
        push_line(page, &format!("{:INDENT$}{line}", ""));
    }
}

fn colour_verdict(verdict: CheckVerdict, colour: bool) -> String {
    let word = format!("{:VERDICT$}", verdict.as_str());
    let code = match verdict {
        CheckVerdict::Ok => "32",
        CheckVerdict::Skipped => "36",
        CheckVerdict::Warning => "33",
        CheckVerdict::Fault => "1;31",
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

const WIDTH: usize = 80;
const VERDICT: usize = "warning".len();
const INDENT: usize = VERDICT + 4;
/// More names than that are grouped by what was found.
const MAX_SINGLE_NAMES: usize = 10;
const MAX_NAMES_LISTED: usize = 5;
/// Findings of one verdict that differ in more than the name.
const MAX_PROBLEMS: usize = 50;
const MAX_ALIKE: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::renewal::check_result::Check;

    fn findings() -> Vec<CheckResult> {
        let (set_up, name) = (CheckSubject::SetUp, CheckSubject::Name("www.example.com".to_owned()));
        let remedy = "create or enable its zone, or give a token that may see it (3 zones were seen)";
        vec![
            CheckResult::ok(&set_up, Check::Settings, "they can be used"),
            CheckResult::ok(&name, Check::Aliases, "_acme-challenge.www.example.com is no alias"),
            CheckResult::fault(
                &name,
                Check::Zone,
                "ionos: no enabled zone holds _acme-challenge.www.example.com",
                remedy,
            ),
            CheckResult::skipped(&name, Check::Canary, "there is no zone"),
            CheckResult::warning(&set_up, Check::DiskSpace, "150 MiB are free at /\x1b[31mvar", "make room"),
        ]
    }

    fn shown(findings: &[CheckResult], has_names: bool) -> DoctorPage<'_> {
        DoctorPage {
            findings,
            counts: VerdictCounts::from_results(findings),
            has_names,
            only_problems: false,
            cut_off: None,
        }
    }

    #[test]
    fn many_names_share_lines() {
        let names = (0..40).flat_map(|number| {
            let name = format!("www{number}.example.com");
            let about = CheckSubject::Name(name.clone());
            let zone = match number {
                0..7 => {
                    CheckResult::fault(&about, Check::Zone, format!("no zone holds _acme-challenge.{name}"), "make one")
                }
                _ => CheckResult::ok(&about, Check::Zone, format!("example.com at ionos, for _acme-challenge.{name}")),
            };
            [CheckResult::ok(&about, Check::Aliases, format!("_acme-challenge.{name} is no alias")), zone]
        });
        let findings: Vec<CheckResult> = names.collect();
        let page = render_page(&DoctorPage { cut_off: Some((3, OUT_OF_TIME)), ..shown(&findings, true) }, false);
        insta::assert_snapshot!(page, @r"
        40 names
          fault    zone: no zone holds _acme-challenge.NAME (7 names: www0.example.com,
                   www1.example.com, www2.example.com, www3.example.com,
                   www4.example.com and 2 more)
                   -> make one
          ok       aliases: _acme-challenge.NAME is no alias (every NAME)
          ok       zone: example.com at ionos, for _acme-challenge.NAME (33 names)

        Checks that were cut off, out of time: 3; --timeout 10m gives more time
        73 ok, 0 skipped, 0 warnings, 7 faults
        ");
    }

    #[test]
    fn a_thousand_that_all_differ_fill_no_more_than_some_screens() {
        let names = (0..1_000).flat_map(|number| {
            let about = CheckSubject::Name(format!("www.shop{number}.example"));
            [
                CheckResult::ok(&about, Check::Zone, format!("shop{number}.example at ionos")),
                CheckResult::fault(
                    &about,
                    Check::Canary,
                    format!("record {number} failed"),
                    "ask the service's support",
                ),
            ]
        });
        let findings: Vec<CheckResult> = names.collect();
        let page = render_page(&shown(&findings, true), false);
        assert!(page.lines().count() < 250, "{page}");
        assert!(page.contains("  ok       zone: another answer for each of 1000 names, see --json\n"), "{page}");
        assert!(page.contains("  fault    and 950 others, see --json\n"), "{page}");
    }

    #[test]
    fn it_reads_well_in_80_columns() {
        insta::assert_snapshot!(render_page(&shown(&findings(), true), false), @r"
        Set-up
          ok       settings: they can be used
          warning  disk space: 150 MiB are free at / [31mvar
                   -> make room

        www.example.com
          ok       aliases: _acme-challenge.www.example.com is no alias
          fault    zone: ionos: no enabled zone holds _acme-challenge.www.example.com
                   -> create or enable its zone, or give a token that may see it (3
                   zones were seen)
          skipped  canary record: there is no zone

        2 ok, 1 skipped, 1 warning, 1 fault
        ");
    }

    #[test]
    fn colour_is_for_the_verdict_alone() {
        let findings = findings();
        let page = render_page(&shown(&findings[2..3], false), true);
        assert!(page.contains("  \x1b[1;31mfault  \x1b[0m  zone: "), "{page:?}");
        assert!(page.contains("autocertd doctor www.example.com\n\n0 ok, 0 skipped, 0 warnings, 1 fault\n"), "{page}");
    }
}
