//! Names of Secrets: what the settings say, with the certificate's label in it.

use aws_lc_rs::digest::{SHA256, digest};

/// A name with `{name}` in it, or without, where it is for one certificate.
pub(super) struct NamePattern(String);

impl NamePattern {
    /// Reads a pattern; nothing where no label would make a name of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        is_subdomain(&text.replace(NAME_VARIABLE, "x")).then(|| Self(text.to_owned()))
    }

    /// The name for a label. A label that fits is taken as it is; one that does not is made to fit and ends with a digest
    /// of itself, so that no two labels come to one name.
    pub(super) fn name_for(&self, label: &str) -> String {
        let name = self.0.replace(NAME_VARIABLE, label);
        if is_subdomain(&name) {
            return name;
        }
        let places = self.0.matches(NAME_VARIABLE).count().max(1);
        let fixed = self.0.replace(NAME_VARIABLE, "").len();
        self.0.replace(NAME_VARIABLE, &fit_with_digest(label, MAX_NAME_LENGTH.saturating_sub(fixed) / places))
    }
}

/// RFC 1123 as Kubernetes reads it: labels joined by dots, of any length each.
fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH && name.split('.').all(is_label_text)
}

/// The name of a namespace.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL_LENGTH && is_label_text(name)
}

fn is_label_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn fit_with_digest(label: &str, room: usize) -> String {
    let words: Vec<String> = label.split('.').map(fit_part).filter(|word| !word.is_empty()).collect();
    let digest = digest(&SHA256, label.as_bytes())
        .as_ref()
        .iter()
        .take(DIGEST_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat();
    let readable: String = words.join(".").chars().take(room.saturating_sub(digest.len() + 1)).collect();
    match readable.trim_end_matches(['.', '-']) {
        "" => digest,
        readable => format!("{readable}-{digest}"),
    }
}

/// The part of a label between two dots, as far as it can be kept.
fn fit_part(part: &str) -> String {
    if part == "*" || part == "_" {
        return "wildcard".to_owned();
    }
    let kept: String =
        part.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    kept.trim_matches('-').to_owned()
}

const NAME_VARIABLE: &str = "{name}";
const MAX_NAME_LENGTH: usize = 253;
const MAX_LABEL_LENGTH: usize = 63;
/// Enough that two labels never share them by chance.
const DIGEST_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> NamePattern {
        NamePattern::parse("{name}-tls").unwrap()
    }

    #[test]
    fn a_label_that_fits_is_taken_as_it_is() {
        assert_eq!(pattern().name_for("www.example.com"), "www.example.com-tls");
        assert_eq!(NamePattern::parse("web").unwrap().name_for("_.x"), "web");
    }

    #[test]
    fn other_labels_stay_readable_and_apart() {
        let name = pattern().name_for("_.example.com");
        assert!(name.starts_with("wildcard.example.com-") && name.ends_with("-tls"), "{name}");
        let alike = ["Web", "web", "_web", "web_", "wEb", "*.web", "_.web", "wildcard.web"];
        let names: std::collections::HashSet<String> =
            alike.iter().map(|label| pattern().name_for(label)).inspect(|name| assert!(is_subdomain(name))).collect();
        assert_eq!(names.len(), alike.len(), "{names:?}");
    }

    #[test]
    fn what_can_make_no_name_is_no_pattern() {
        for text in ["", "{name}_tls", "-{name}", "{Name}", "a..b", "UPPER", &"x".repeat(254)] {
            assert!(NamePattern::parse(text).is_none(), "{text} was taken");
        }
    }

    proptest! {
        #[test]
        fn every_label_makes_a_name(label in "\\PC{1,300}") {
            prop_assert!(is_subdomain(&pattern().name_for(&label)));
            let twice = NamePattern::parse("{name}.{name}").unwrap();
            prop_assert!(is_subdomain(&twice.name_for(&label)));
        }
    }
}
