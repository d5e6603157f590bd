//! Patterns by which a delivery names the auto-certificates that it is for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::name::filter_form;

/// A name, or a pattern in which each `*` stands for any characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Whether this names an auto-certificate's name or key, compared as they are.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }

    /// Whether this names a common name, compared as DNS compares: without regard to case.
    pub fn matches_common_name(&self, common_name: &str) -> bool {
        matches(&filter_form(&self.0), &filter_form(common_name))
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Each part between stars is found as early as possible; the last one must be the end.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let (last, between) = parts.split_last().map_or(("", &[][..]), |(last, between)| (*last, between));
    for part in between {
        match left.split_once(part) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_a_name_for_itself() {
        for (pattern, text, expected) in [
            ("www", "www", true),
            ("www", "www2", false),
            ("*", "", true),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(Pattern::from(pattern).matches(text), expected, "{pattern} and {text}");
        }
    }

    #[test]
    fn case_matters_for_names_of_people_and_not_for_names_of_dns() {
        assert!(!Pattern::from("Web").matches("web"));
        assert!(Pattern::from("WWW.Example.com").matches_common_name("www.example.COM"));
    }
}
