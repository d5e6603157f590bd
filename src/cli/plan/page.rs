//! The plan as a page for people: what needs somebody comes first and in full, what goes its way in one line each.

use std::fmt::Write;

use crate::cli::plan::PlannedAutoCertificate;
use crate::domain::renewal::plan::RenewalReason;
use crate::domain::report::forecast::{Forecast, NextStep};
use crate::domain::value::human_duration::{HumanDuration, format_relative};
use crate::domain::value::moment::Moment;

/// The page, so many columns wide, with what else is to be said below it.
pub(super) fn render_page(
    planned: &[PlannedAutoCertificate],
    cautions: &[String],
    now: Moment,
    width: usize,
) -> String {
    let mut page = String::new();
    if planned.is_empty() {
        push_line(&mut page, "there are no auto-certificates");
    }
    for (next, foreseen, heading) in SECTIONS {
        let belongs = |outlook: &Forecast| outlook.next_step == next && outlook.predicted_failure.is_some() == foreseen;
        let section: Vec<&PlannedAutoCertificate> =
            planned.iter().filter(|planned| belongs(&planned.forecast)).collect();
        if section.is_empty() {
            continue;
        }
        if !page.is_empty() {
            page.push('\n');
        }
        push_line(&mut page, &format!("{} {heading}", section.len()));
        match next {
            _ if foreseen => write_full_section(&mut page, &section, now, width),
            NextStep::NeedsPerson | NextStep::Retry | NextStep::Wait => {
                write_full_section(&mut page, &section, now, width);
            }
            NextStep::Running | NextStep::Issue | NextStep::Renew | NextStep::Remove => {
                write_table_section(&mut page, &section, now, width);
            }
        }
    }
    for caution in cautions {
        page.push('\n');
        for line in wrap(caution, width) {
            push_line(&mut page, &line);
        }
    }
    page
}

/// A heading each, and below it what holds it up.
fn write_full_section(page: &mut String, section: &[&PlannedAutoCertificate], now: Moment, width: usize) {
    for PlannedAutoCertificate { auto_certificate: subject, forecast: outlook } in section {
        let slack = match outlook.slack {
            Some(slack) if slack.is_negative() => format!(", {} behind the last safe moment", HumanDuration(-slack)),
            Some(slack) => format!(", {} before the last safe moment", HumanDuration(slack)),
            None => ", no certificate in service".to_owned(),
        };
        push_line(page, &truncate(&format!("  {}: {}{slack}", subject.name, format_relative(now, outlook.at)), width));
        for line in wrap(outlook.predicted_failure.as_ref().unwrap_or(&outlook.explanation), width - INDENT) {
            push_line(page, &format!("{:INDENT$}{line}", ""));
        }
    }
}

fn write_table_section(page: &mut String, section: &[&PlannedAutoCertificate], now: Moment, width: usize) {
    let longest = section.iter().map(|planned| planned.auto_certificate.name.to_string().chars().count()).max();
    let name_width = longest.unwrap_or_default().clamp(NAME.len(), width / 2 - INDENT);
    push_line(page, &truncate(&format!("  {NAME:name_width$}  {:>WHEN$}  {:>SLACK$}  WHY", "WHEN", "SLACK"), width));
    for PlannedAutoCertificate { auto_certificate: subject, forecast: outlook } in section {
        let name = truncate(&subject.name.to_string(), name_width);
        let slack = outlook.slack.map_or_else(|| "-".to_owned(), |slack| HumanDuration(slack).to_string());
        let when = format_relative(now, outlook.at);
        let why = short_reason(outlook.next_step, outlook.reason, &outlook.explanation);
        push_line(page, &truncate(&format!("  {name:name_width$}  {when:>WHEN$}  {slack:>SLACK$}  {why}"), width));
    }
}

fn short_reason(next: NextStep, reason: RenewalReason, why: &str) -> String {
    if next == NextStep::Running {
        return why.to_owned();
    }
    match reason {
        RenewalReason::WindowAhead(_) => "in the CA's window".to_owned(),
        RenewalReason::RenewalAhead => "by its lifetime".to_owned(),
        RenewalReason::Window(_) => "the CA's window is open".to_owned(),
        RenewalReason::WindowOver(_) => "the CA wants it now".to_owned(),
        RenewalReason::NoCertificate => "its first certificate".to_owned(),
        other => other.to_string(),
    }
}

pub(in crate::cli) fn push_line(page: &mut String, line: &str) {
    // Writing to a text never fails.
    let _infallible = writeln!(page, "{}", line.trim_end());
}

/// The beginning of a line that is too long.
fn truncate(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A text in lines of at most so many columns; what has no blanks is longer.
pub(in crate::cli) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What comes next, whether its rehearsal has found a fault, and how that is headed.
const SECTIONS: [(NextStep, bool, &str); 8] = [
    (NextStep::NeedsPerson, false, "wait for a person"),
    (NextStep::Retry, false, "failed and are tried again"),
    (NextStep::Renew, true, "planned, but would fail as things are"),
    (NextStep::Wait, false, "wait for their provider"),
    (NextStep::Running, false, "being worked on"),
    (NextStep::Issue, false, "about to be issued"),
    (NextStep::Renew, false, "planned"),
    (NextStep::Remove, false, "being removed"),
];
const NAME: &str = "NAME";
/// In columns.
const WHEN: usize = 14;
const SLACK: usize = 11;
const INDENT: usize = 4;

#[cfg(test)]
mod tests;
