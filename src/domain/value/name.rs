//! DNS names as certificates carry them: parsed once, compared and ordered in their A-label form (RFC 5890).

use std::fmt;
use std::str::FromStr;

use crate::domain::value::text::{is_printable, quoted};

/// A DNS name or wildcard in A-label form: lower case, no trailing dot, ready for an ACME order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName {
    /// The name without `*.`.
    base: String,
    wildcard: bool,
}

/// What keeps a text from being a name that a certificate may carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDnsName {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// An IP address; DNS-01 cannot prove control of one.
    #[error("{0} is an IP address; only DNS names can be proven by DNS-01")]
    IpAddress(String),
    /// A name with a dot at its end.
    #[error("{0} ends with a dot; remove it")]
    TrailingDot(String),
    /// A `*` elsewhere than alone in the first label.
    #[error("{0} has a '*' that is not its whole first label; a wildcard looks like *.example.com")]
    MisplacedWildcard(String),
    /// A name of one label, which no public zone can hold.
    #[error("{0} has only one label; give a full name such as www.example.com")]
    SingleLabel(String),
    /// A label or the name is empty, too long, or has characters that host names do not have.
    #[error("{0} is not a valid DNS name: labels have 1 to 63 letters, digits and inner hyphens, a name at most 253")]
    Malformed(String),
}

impl DnsName {
    /// Whether this is `*.` and a name.
    pub const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The name without `*.`: what an ACME authorization is for (RFC 8555 section 7.1.4).
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where the DNS-01 TXT record goes, without a trailing dot.
    pub fn challenge_name(&self) -> String {
        challenge_name(&self.base)
    }

    /// Whether a certificate for this name serves `other` too (RFC 6125 section 6.4.3): the same name, or a wildcard
    /// and a name exactly one label below its base.
    pub fn covers(&self, other: &Self) -> bool {
        self == other
            || (self.wildcard
                && !other.wildcard
                && other.base.split_once('.').is_some_and(|(_, parent)| parent == self.base))
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        if text.is_empty() {
            return Err(InvalidDnsName::Empty);
        }
        if text.ends_with(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
            return Err(InvalidDnsName::TrailingDot(quoted(text)));
        }
        let (base, wildcard) = text.strip_prefix("*.").map_or((text, false), |base| (base, true));
        if base.contains('*') {
            return Err(InvalidDnsName::MisplacedWildcard(quoted(text)));
        }
        if base.parse::<std::net::IpAddr>().is_ok() || base.starts_with('[') {
            return Err(InvalidDnsName::IpAddress(quoted(text)));
        }
        let base = idna::domain_to_ascii_strict(base).map_err(|_| InvalidDnsName::Malformed(quoted(text)))?;
        if base.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(InvalidDnsName::IpAddress(quoted(text)));
        }
        if !base.contains('.') {
            return Err(InvalidDnsName::SingleLabel(quoted(text)));
        }
        let length = base.len() + if wildcard { WILDCARD.len() } else { 0 };
        if length > MAX_NAME || !base.split('.').all(is_host_label) {
            return Err(InvalidDnsName::Malformed(quoted(text)));
        }
        Ok(Self { base, wildcard })
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str(WILDCARD)?;
        }
        f.write_str(&self.base)
    }
}

/// A name together with the way in which it was asked for, which is how reads echo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedName {
    original: String,
    name: DnsName,
}

impl RequestedName {
    /// The text as it was sent: U-label or A-label, in its own case.
    pub fn sent(&self) -> &str {
        &self.original
    }

    /// The parsed name.
    pub const fn name(&self) -> &DnsName {
        &self.name
    }
}

impl FromStr for RequestedName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let name: DnsName = text.parse()?;
        // UTS 46 passes over invisible characters, or gives them a meaning that nobody sees.
        let sent = if text.chars().all(is_printable) { text.to_owned() } else { name.to_string() };
        Ok(Self { original: sent, name })
    }
}

/// Where the TXT record goes that proves control of `base` (RFC 8555 section 8.4), without a trailing dot.
pub fn challenge_name(base: &str) -> String {
    format!("_acme-challenge.{base}")
}

/// The names that an order asks for: each once, without those that a wildcard among them covers, which a CA would
/// refuse as redundant. Never empty where `requested` is not.
pub fn names_to_order<'a>(requested: impl IntoIterator<Item = &'a DnsName>) -> Vec<DnsName> {
    let mut names: Vec<DnsName> = Vec::new();
    for name in requested {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let wildcards: Vec<DnsName> = names.iter().filter(|name| name.is_wildcard()).cloned().collect();
    names.retain(|name| name.is_wildcard() || !wildcards.iter().any(|wildcard| wildcard.covers(name)));
    names
}

/// The form in which common names are compared by filters: the A-label form of a DNS name, else lower case.
pub fn normalize_common_name(text: &str) -> String {
    text.parse::<DnsName>().map_or_else(|_| text.to_lowercase(), |name| name.to_string())
}

/// RFC 5890 section 2.3.1, after the conversion to A-labels.
fn is_host_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

const WILDCARD: &str = "*.";
/// RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;
/// RFC 1035 section 2.3.4, in text form without the root.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn case_and_idn_fold_into_one_form() {
        assert_eq!(name("WWW.Example.COM"), name("www.example.com"));
        assert_eq!(name("bücher.example").to_string(), "xn--bcher-kva.example");
        assert_eq!(name("*.BÜCHER.example").to_string(), "*.xn--bcher-kva.example");
        assert_eq!(normalize_common_name("Bücher.Example"), normalize_common_name("xn--bcher-kva.example"));
        assert_eq!(normalize_common_name("My CA"), "my ca");
        let requested = |text: &str| text.parse::<RequestedName>().unwrap().sent().to_owned();
        assert_eq!(requested("BÜCHER.example"), "BÜCHER.example");
        assert_eq!(requested("ex\u{ad}am\u{200b}ple.com"), "example.com");
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abcdefg.".repeat(32));
        for (text, reason) in [
            ("", "empty"),
            ("192.0.2.1", "IP address"),
            ("::1", "IP address"),
            ("*.192.0.2.1", "IP address"),
            ("example.com.", "ends with a dot"),
            ("w*.example.com", "wildcard"),
            ("www.*.example.com", "wildcard"),
            ("*.*.example.com", "wildcard"),
            ("*", "wildcard"),
            ("localhost", "only one label"),
            ("a..example", "not a valid DNS name"),
            (".example.com", "not a valid DNS name"),
            ("-a.example", "not a valid DNS name"),
            ("a_b.example", "not a valid DNS name"),
            ("a b.example", "not a valid DNS name"),
            (long_label.as_str(), "not a valid DNS name"),
            (long_name.as_str(), "not a valid DNS name"),
        ] {
            let error = text.parse::<DnsName>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_order_leaves_out_what_a_wildcard_covers() {
        let requested = ["www.example.com", "*.example.com", "example.com", "EXAMPLE.com", "a.b.example.com"].map(name);
        let ordered: Vec<String> = names_to_order(&requested).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["*.example.com", "example.com", "a.b.example.com"]);
    }

    #[test]
    fn a_challenge_sits_below_the_base() {
        assert_eq!(name("*.example.com").challenge_name(), "_acme-challenge.example.com");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_is_stable(text in "\\PC{0,80}") {
            if let Ok(parsed) = text.parse::<DnsName>() {
                prop_assert_eq!(parsed.to_string().parse::<DnsName>(), Ok(parsed));
            }
        }

        #[test]
        fn ordered_names_cover_all_requested_ones(labels in prop::collection::vec("(\\*\\.)?([ab]\\.){0,2}example\\.com", 1..10)) {
            let requested: Vec<DnsName> = labels.iter().map(|text| name(text)).collect();
            let ordered = names_to_order(&requested);
            prop_assert!(requested.iter().all(|wanted| ordered.iter().any(|have| have.covers(wanted))));
            for (index, one) in ordered.iter().enumerate() {
                prop_assert!(ordered.iter().enumerate().all(|(other, name)| other == index || !name.covers(one)));
            }
        }
    }
}
