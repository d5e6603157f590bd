//! What keeps auto-certificates from a certificate, by cause and counted: a thousand that fail for one reason are one line.

use crate::domain::value::text::printable;

/// What keeps one auto-certificate from a certificate.
#[derive(Clone, Debug)]
pub(super) struct FailureCause {
    pub(super) name: String,
    pub(super) message: String,
    /// RFC 3339.
    pub(super) next_try: Option<String>,
}

/// Those with the same cause.
struct CauseGroup<'a> {
    pattern: String,
    causes: Vec<&'a FailureCause>,
}

/// A line for each cause, that of most auto-certificates first.
pub(super) fn summarize_causes(causes: &[FailureCause]) -> Vec<String> {
    let mut groups: Vec<CauseGroup<'_>> = Vec::new();
    for cause in causes {
        let shape = mask_variable_parts(&cause.message);
        match groups.iter().position(|group| group.pattern == shape) {
            Some(at) => groups[at].causes.push(cause),
            None if groups.len() < MAX_GROUPS => groups.push(CauseGroup { pattern: shape, causes: vec![cause] }),
            None => {}
        }
    }
    // The sort is stable: what was found first stays first among those of one size.
    groups.sort_by_key(|group| std::cmp::Reverse(group.causes.len()));
    let told: usize = groups.iter().map(|group| group.causes.len()).sum();
    let mut lines: Vec<String> = groups.iter().map(CauseGroup::describe).collect();
    if told < causes.len() {
        lines.push(format!("{} more, for other reasons; `autocertd plan` shows each", causes.len() - told));
    }
    lines
}

impl CauseGroup<'_> {
    fn describe(&self) -> String {
        let [first, others @ ..] = self.causes.as_slice() else { return String::new() };
        let mut tries: Vec<&str> = self.causes.iter().filter_map(|cause| cause.next_try.as_deref()).collect();
        tries.sort_unstable();
        let next = match (tries.first(), tries.last()) {
            (Some(first), Some(last)) if first != last => format!(" (next tries from {first} to {last})"),
            (Some(next), _) => format!(" (next try at {next})"),
            _ => String::new(),
        };
        let line = printable(&format!("{}: {}{next}", first.name, first.message));
        if others.is_empty() {
            return line;
        }
        let shown: Vec<String> = others.iter().take(MAX_NAMES_SHOWN).map(|cause| printable(&cause.name)).collect();
        let more = match others.len().saturating_sub(MAX_NAMES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} for one reason: {line}; also {}{more}", self.causes.len(), shown.join(", "))
    }
}

/// The words without what differs between auto-certificates: names, addresses, URLs and numbers.
fn mask_variable_parts(words: &str) -> String {
    let differs =
        |word: &&str| word.contains(['.', '/', '@']) && word.len() > 1 || word.contains(|c: char| c.is_ascii_digit());
    let trimmed = |word| str::trim_end_matches(word, ['.', ',', ';', ':', ')', '"']);
    let masked = words.split_whitespace().map(|word| if differs(&trimmed(word)) { "…" } else { word });
    masked.collect::<Vec<_>>().join(" ")
}

const MAX_GROUPS: usize = 20;
const MAX_NAMES_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(number: usize, words: &str) -> FailureCause {
        FailureCause {
            name: format!("www{number}.example"),
            message: words.replace('#', &number.to_string()),
            next_try: Some(format!("2027-01-15T08:00:{:02}Z", number % 60)),
        }
    }

    #[test]
    fn a_thousand_with_one_cause_are_one_line_and_the_largest_comes_first() {
        let mut causes = vec![cause(7, "the CA forbids it\x1b[31m")];
        causes.extend((10..1_010).map(|number| cause(number, "there is no zone for www#.example. make one")));
        insta::assert_snapshot!(summarize_causes(&causes).join("\n"), @r"
        1000 for one reason: www10.example: there is no zone for www10.example. make one (next tries from 2027-01-15T08:00:00Z to 2027-01-15T08:00:59Z); also www11.example, www12.example, www13.example and 996 more
        www7.example: the CA forbids it [31m (next try at 2027-01-15T08:00:07Z)
        ");
    }

    #[test]
    fn many_causes_are_bounded_and_none_is_kept_silent() {
        let words = |number: usize| "x".repeat(number + 1);
        let causes: Vec<FailureCause> = (0..100).map(|number| cause(number, &words(number))).collect();
        let lines = summarize_causes(&causes);
        assert_eq!(lines.len(), MAX_GROUPS + 1);
        assert!(lines.last().unwrap().starts_with("80 more, for other reasons"), "{lines:?}");
    }
}
