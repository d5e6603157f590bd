//! Patterns by which a delivery names the auto-certificates that it is for.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::declared::DeclaredKey;
use crate::domain::value::name::DnsName;

/// A name, or a pattern in which each `*` stands for any characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct AutoCertificatePattern(String);

impl AutoCertificatePattern {
    /// Whether this is, or with `*` describes, the key of a declared auto-certificate. Keys are compared as they are.
    pub fn matches_key(&self, key: &DeclaredKey) -> bool {
        matches(&self.0, key.as_str())
    }

    /// Whether this is, or with `*` describes, a DNS name: in any case, in U-label or A-label form.
    pub fn matches_name(&self, name: &DnsName) -> bool {
        matches(&ascii_form(&self.0), &name.to_string())
    }

    /// Whether some DNS name could match.
    pub fn can_match_names(&self) -> bool {
        // A star at the end may stand for the rest of a name, dots included.
        let filled = |with| self.0.replace('*', with).parse::<DnsName>().is_ok();
        self.0.parse::<DnsName>().is_ok() || filled("x") || filled("x.x")
    }

    /// Whether some key could match.
    pub fn can_be_key(&self) -> bool {
        self.0.replace('*', "x").parse::<DeclaredKey>().is_ok()
    }
}

/// Which auto-certificates a delivery takes. Names that clients of the API give to auto-certificates count for nothing:
/// whoever has a token could choose one and have a declared delivery run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Empty takes all.
    patterns: Vec<AutoCertificatePattern>,
    /// Those of the patterns that match DNS names: all but the keys that the settings declare.
    of_names: Vec<AutoCertificatePattern>,
}

/// How the names of an auto-certificate stand to the patterns of a delivery that does not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartlyCovered {
    /// A name that a pattern matches.
    pub covered: DnsName,
    /// The first name that none matches.
    pub uncovered: DnsName,
}

impl Selection {
    /// The selection by these patterns; `declared` are the keys that the same settings declare.
    pub fn new(patterns: &[AutoCertificatePattern], declared: &HashSet<&DeclaredKey>) -> Self {
        let is_key =
            |pattern: &&AutoCertificatePattern| pattern.0.parse().is_ok_and(|key: DeclaredKey| declared.contains(&key));
        let of_names = patterns.iter().filter(|pattern| !is_key(pattern)).cloned().collect();
        Self { patterns: patterns.to_vec(), of_names }
    }

    /// Whether an auto-certificate is taken: by the key that the settings give it, or because each of its names is matched.
    pub fn takes(&self, key: Option<&DeclaredKey>, names: &[DnsName]) -> bool {
        let by_key = |key| self.patterns.iter().any(|pattern| pattern.matches_key(key));
        self.patterns.is_empty()
            || key.is_some_and(by_key)
            || (!names.is_empty() && names.iter().all(|name| self.matches_name(name)))
    }

    /// Why an auto-certificate is not taken although one of its names is matched.
    pub fn partly_covers(&self, key: Option<&DeclaredKey>, names: &[DnsName]) -> Option<PartlyCovered> {
        if self.takes(key, names) {
            return None;
        }
        let covered = names.iter().find(|name| self.matches_name(name))?.clone();
        let uncovered = names.iter().find(|name| !self.matches_name(name))?.clone();
        Some(PartlyCovered { covered, uncovered })
    }

    fn matches_name(&self, name: &DnsName) -> bool {
        self.of_names.iter().any(|pattern| pattern.matches_name(name))
    }
}

impl From<&str> for AutoCertificatePattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for AutoCertificatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pattern with each label that has no star in A-label form.
fn ascii_form(pattern: &str) -> String {
    let ascii = |label: &str| idna::domain_to_ascii(label).ok().filter(|_| !label.contains('*'));
    let label = |label: &str| ascii(label).unwrap_or_else(|| label.to_lowercase());
    pattern.split('.').map(label).collect::<Vec<_>>().join(".")
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
            assert_eq!(matches(pattern, text), expected, "{pattern} and {text}");
        }
    }

    fn names(texts: &[&str]) -> Vec<DnsName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_selection_takes_declared_keys_and_certificates_whose_every_name_is_matched() {
        let (www, dotted) = ("www".parse::<DeclaredKey>().unwrap(), "shop.example".parse::<DeclaredKey>().unwrap());
        for (patterns, key, all_names, expected) in [
            (&[][..], None, &["a.example"][..], true),
            (&["www"], Some(&www), &["a.example"], true),
            (&["w*"], Some(&www), &["a.example"], true),
            (&["WWW"], Some(&www), &["a.example"], false),
            (&["www"], None, &["www.example"], false),
            // What a key names is no domain besides.
            (&["shop.example"], None, &["shop.example"], false),
            (&["shop.example"], Some(&dotted), &["b.example"], true),
            (&["other.example"], None, &["other.example"], true),
            (&["*.example.com"], None, &["www.example.com", "*.example.com"], true),
            (&["*.example.com"], None, &["www.example.com", "example.com"], false),
            (&["*.example.com"], None, &["www.example.com", "evil.example"], false),
            (&["*.example.com"], None, &["evil.example", "www.example.com"], false),
            (&["*.example.com", "example.com"], None, &["www.example.com", "example.com"], true),
            (&["*.Example.COM"], None, &["WWW.example.com"], true),
            (&["*.b\u{fc}cher.example"], None, &["www.b\u{fc}cher.example"], true),
            (&["w*.b\u{fc}cher.example"], None, &["www.xn--bcher-kva.example"], true),
        ] {
            let patterns: Vec<AutoCertificatePattern> =
                patterns.iter().copied().map(AutoCertificatePattern::from).collect();
            let selection = Selection::new(&patterns, &HashSet::from([&www, &dotted]));
            assert_eq!(selection.takes(key, &names(all_names)), expected, "{patterns:?}, {key:?} and {all_names:?}");
        }
    }

    #[test]
    fn what_is_covered_in_part_is_told_with_the_name_that_is_not() {
        let selection = Selection::new(&[AutoCertificatePattern::from("*.example.com")], &HashSet::new());
        let told = selection.partly_covers(None, &names(&["www.example.com", "evil.example"])).unwrap();
        assert_eq!(
            (told.covered.to_string(), told.uncovered.to_string()),
            ("www.example.com".into(), "evil.example".into())
        );
        assert_eq!(selection.partly_covers(None, &names(&["evil.example"])), None);
        assert_eq!(selection.partly_covers(None, &names(&["www.example.com"])), None);
        for (pattern, as_name, as_key) in [
            ("www", false, true),
            ("a.example", true, true),
            ("*.a.example", true, true),
            ("shop-*", true, true),
            ("*", true, true),
            ("w_*", false, true),
            ("The shop", false, false),
            ("", false, false),
        ] {
            let pattern = AutoCertificatePattern::from(pattern);
            assert_eq!((pattern.can_match_names(), pattern.can_be_key()), (as_name, as_key), "{pattern}");
        }
    }
}
